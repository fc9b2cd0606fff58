"""Messages sealed by the keyring, for callers who keep bytes elsewhere.

Layout: magic "QE", version (1), zero (1), key id (4), salt (16), nonce (12); then what AES-256-GCM
makes of the message, which authenticates all that stands before it.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from querycache.codec.key_store import ID_BYTES, Key
from querycache.codec.keyring import Keyring
from querycache.codec.seal import NONCE_BYTES, SALT_BYTES, derived
from querycache.errors import EncryptionOperationError

_BEGIN: Final = b"QE\x01\x00"
_ID_AT: Final = len(_BEGIN)
_SALT_AT: Final = _ID_AT + ID_BYTES
_NONCE_AT: Final = _SALT_AT + SALT_BYTES
_BODY_AT: Final = _NONCE_AT + NONCE_BYTES
_TAG_BYTES: Final = 16


class Messages:
    """Seals and opens bytes. Each message has a subkey of its own, so their number is
    unbounded.
    """

    def __init__(self, ring: Keyring) -> None:
        self._ring = ring

    def encrypt(self, message: bytes) -> bytes:
        """The message under the current key. Raises `ConfigError` where there is none."""
        key = self._ring.current
        salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
        head = _BEGIN + bytes.fromhex(key.key_id) + salt + nonce
        return head + _cipher(key, salt).encrypt(nonce, message, head)

    def decrypt(self, sealed: bytes) -> bytes:
        """What was sealed, under whichever key of the ring. Raises `EncryptionOperationError`."""
        if not sealed.startswith(_BEGIN):
            raise EncryptionOperationError(
                "these bytes were not made by encrypt()", remedy="pass what encrypt() returned"
            )
        if len(sealed) < _BODY_AT + _TAG_BYTES:
            raise EncryptionOperationError(
                f"the encrypted bytes were cut: there are {len(sealed)}",
                remedy="pass all that encrypt() returned",
            )
        key_id = sealed[_ID_AT:_SALT_AT].hex()
        key = self._ring.find(key_id)
        if key is None:
            raise EncryptionOperationError(
                f"sealed by key {key_id}, which is not at hand",
                remedy="set CACHE_ENCRYPTION_KEY to that key, or bring back the key store that"
                " held it (`querycache key list` shows what there is)",
            )
        head, body = sealed[:_BODY_AT], sealed[_BODY_AT:]
        cipher = _cipher(key, sealed[_SALT_AT:_NONCE_AT])
        try:
            return cipher.decrypt(sealed[_NONCE_AT:_BODY_AT], body, head)
        except InvalidTag:
            raise EncryptionOperationError(
                f"the encrypted bytes were altered or cut (key {key_id})",
                remedy="restore them from a copy",
            ) from None


def _cipher(key: Key, salt: bytes) -> AESGCM:
    return AESGCM(derived(key.reveal(), salt, b"querycache/1/message"))
