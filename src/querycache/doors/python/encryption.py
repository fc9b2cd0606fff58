"""Encryption for callers: the keys of this installation, and bytes sealed with them."""

from __future__ import annotations

from querycache.assembly.sealing import Key, open_keyring, open_messages
from querycache.doors.python.current import get_cache_config


class KeyManager:
    """The keys that the settings name: CACHE_ENCRYPTION_KEY, CACHE_ENCRYPTION_KEY_FILE or
    CACHE_ENCRYPTION_KEY_COMMAND, and those of the key store (ENCRYPTION_KEY_STORE_PATH), which
    only its owner can read.

    Example:
        >>> keys = KeyManager()
        >>> key = keys.generate_key()
        >>> key.key_id == keys.current_key.key_id
        True
    """

    def __init__(self) -> None:
        """Raises `ConfigError` for a key that can't be used."""
        self._ring = open_keyring(get_cache_config())
        self._messages = open_messages(self._ring)

    @property
    def current_key(self) -> Key:
        """The key that encrypts; one is generated where there is none. Raises `ConfigError`."""
        return self.generate_key() if self._ring.empty else self._ring.current

    def list_keys(self) -> tuple[Key, ...]:
        """All keys that decrypt, the current one first: `key_id`, `fingerprint`, `state`."""
        return self._ring.all()

    def generate_key(self) -> Key:
        """A new key, kept in the key store (mode 0600) and current from now on. What older keys
        encrypted stays readable. Where a variable says a key, new processes go on with that one.

        Raises `ConfigError` where it can't be kept.
        """
        return self._ring.generate()

    def encrypt(self, message: bytes) -> bytes:
        """The message under the current key. Raises `ConfigError`."""
        _ = self.current_key
        return self._messages.encrypt(message)

    def decrypt(self, sealed: bytes) -> bytes:
        """What was encrypted under any of the keys, also one that another process has generated
        since. Raises `EncryptionOperationError`.
        """
        return self._messages.decrypt(sealed)


class AESEncryption:
    """AES-256-GCM under the keys of a `KeyManager`.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     encryption = AESEncryption(KeyManager())
        ...     sealed = await encryption.encrypt("secret")
        ...     return await encryption.decrypt(sealed)
        >>> asyncio.run(main())
        b'secret'
    """

    def __init__(self, key_manager: KeyManager) -> None:
        self._keys = key_manager

    async def encrypt(self, data: str | bytes) -> bytes:
        """Encrypts bytes, or a text's UTF-8. Raises `ConfigError` where no key can be had."""
        return self._keys.encrypt(data.encode() if isinstance(data, str) else bytes(data))

    async def decrypt(self, data: bytes) -> bytes:
        """What `encrypt` was given, as bytes. Raises `EncryptionOperationError` for what was
        altered, cut, or encrypted by a key that is not at hand.
        """
        return self._keys.decrypt(bytes(data))
