"""The seal: AES-256-GCM under keys that belong to one project and one writer.

Design note. From the top down, each step an HKDF-SHA256 with a label of its own:

- A key-encryption key of the keyring, named in each envelope, does nothing but derive.
- A project has a random salt of 32 bytes for each such key. It lies in L2 beside the entries,
  wrapped, where the first writer's stays: so all who share the key read each other's entries, a
  new key never needs another's salts, and what a salt sealed is gone for good once the salt is
  dropped.
- A writer has a subkey of the project's key by a random salt, for 2^30 entries or a day, and never
  past a fork. Nonces are random, so a writer's subkey stays four times below the 2^32 that
  SP 800-38D allows, whatever all writers write together, and needs no state that could be restored
  twice. The first 4 bytes of a writer's salt say which salt of the project it derives from.

Salts are learnt by `prepare`, asked for again twice a minute (as the key store is read again), and
at once (once a second at most) where an entry names one that is not known: one that was dropped or
evicted is replaced everywhere in that time, and until then costs misses. Readers keep the subkeys
they derived; how many they derive in a second is bounded, since whoever can write to L2 can forge
salts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from querycache.clock import Clock
from querycache.codec.envelope import Encryptor, Head, head_of
from querycache.codec.key_store import Key
from querycache.codec.keyring import Keyring
from querycache.errors import ConfigError, TierError, UnreadableError
from querycache.keys import SHARED
from querycache.ports.tiers import Secrets
from querycache.values import Kind

SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12

_KEY_BYTES: Final = 32
_MARK: Final = 4  # bytes of a writer's salt that name the project's
_PROJECT_SALT: Final = 32
_SUBKEYS: Final = 4096
_NEW_A_SECOND: Final = 1000
_WRITES: Final = 1 << 30
_WRITER_S: Final = 86_400.0
_LIFE_S: Final = 30.0  # of what is known of a salt
_PAUSE_S: Final = 1.0
_ASKED: Final = 10_000

Named = tuple[bytes, str]
"""A key's id and the segment of a project: what a salt belongs to."""


class _Project:
    """A project's key under one key-encryption key."""

    __slots__ = ("key", "key_id", "mark", "since", "writer")

    def __init__(self, named: Named, key: Key, salt: bytes, since: float) -> None:
        self.key_id, segment = named
        label = _label(b"project", self.key_id, segment.encode("utf-8", "surrogatepass"))
        self.key = derived(key.reveal(), salt, label)
        self.mark = _mark(salt)
        self.since = since
        self.writer: _Writer | None = None


class _Writer:
    """A subkey to write under until it is worn out."""

    __slots__ = ("cipher", "left", "process", "salt", "until")

    def __init__(self, project: _Project, now: float) -> None:
        self.salt = project.mark + os.urandom(SALT_BYTES - _MARK)
        self.cipher = _subcipher(project, self.salt)
        self.left = _WRITES
        self.until = now + _WRITER_S
        self.process = os.getpid()

    def worn(self, now: float) -> bool:
        return self.left <= 0 or now >= self.until or self.process != os.getpid()


class AesSeal:
    """The `Seal` of querycache. Safe under threads."""

    def __init__(
        self,
        ring: Keyring,
        secrets: Secrets,
        clock: Clock,
        kinds: Collection[str] = frozenset(Kind),
    ) -> None:
        """Seals entries of these `kinds`; the salts are kept in `secrets`. Raises `ConfigError`
        where there is no key.
        """
        self._ring = ring
        self._secrets = secrets
        self._clock = clock
        self._kinds = frozenset(kinds)
        self._active = self._before = _id_of(ring.current)
        self._projects: dict[Named, _Project] = {}
        self._asked: dict[Named, float] = {}
        self._reloaded = float("-inf")
        self._second = float("-inf")
        self._new = 0
        self._cipher = lru_cache(_SUBKEYS)(self._derive)

    def covers(self, key: str) -> bool:
        """Whether the entry `key` is sealed."""
        _, _, rest = key.partition(":")
        kind, _, _ = rest.partition(":")
        return (kind if kind in _KINDS else Kind.OTHER) in self._kinds

    # --- sealing -------------------------------------------------------------------------------

    def begin(self, key: str) -> tuple[Head, Encryptor]:
        """See `envelope.Sealing`."""
        segment = _segment(key)
        known = self._projects.get
        project = known((self._active, segment)) or known((self._before, segment))
        if project is None:
            raise TierError(f"the shared tier gave no salt for the project {segment}")
        writer, now = project.writer, self._clock.monotonic()
        if writer is None or writer.worn(now):
            writer = project.writer = _Writer(project, now)
        writer.left -= 1
        nonce = os.urandom(NONCE_BYTES)
        encrypt: Encryptor = partial(writer.cipher.encrypt, nonce)
        return Head(project.key_id, writer.salt, nonce), encrypt

    def end(self, key: str, head: Head, sealed: bytes, aad: bytes) -> bytes:
        """See `envelope.Sealing`."""
        project = self._projects.get((head.key_id, _segment(key)))
        if project is None or head.salt[:_MARK] != project.mark:
            raise UnreadableError("unknown_key")
        try:
            return self._cipher(project, head.salt).decrypt(head.nonce, sealed, aad)
        except InvalidTag:
            raise UnreadableError("bad_seal") from None

    def _derive(self, project: _Project, salt: bytes) -> AESGCM:
        now = self._clock.monotonic()
        if now - self._second >= 1.0:
            self._second, self._new = now, 0
        self._new += 1
        if self._new > _NEW_A_SECOND:
            raise UnreadableError("unknown_key")
        return _subcipher(project, salt)

    # --- salts ---------------------------------------------------------------------------------

    def prepare(
        self, keys: Sequence[str], stored: Sequence[bytes | None] | None = None
    ) -> Awaitable[None] | None:
        """See `ports.codec.Codec`."""
        wanted = self._to_seal(keys) if stored is None else set(self._to_open(keys, stored))
        return self._learn(wanted, create=stored is None) if wanted else None

    async def drop(self, segment: str) -> int:
        """Drops the salts of a project, so that nothing that was sealed for it opens again; how
        many there were. Raises `TierError`.
        """
        gone = 0
        for key in self._ring.all():
            named = _id_of(key), segment
            gone += await self._secrets.drop_secret(_name(named))
            self._projects.pop(named, None)
        self._cipher.cache_clear()
        return gone

    def _to_seal(self, keys: Sequence[str]) -> set[Named]:
        now = self._clock.monotonic()
        old = now - _LIFE_S
        if self._reloaded <= old:
            self._reload(now)
        wanted: set[Named] = set()
        for key in keys:
            named = self._active, _segment(key)
            project = self._projects.get(named)
            if (project is None or project.since <= old) and self.covers(key):
                wanted.add(named)
        return wanted

    def _to_open(self, keys: Sequence[str], stored: Sequence[bytes | None]) -> Iterator[Named]:
        now = self._clock.monotonic()
        for key, data in zip(keys, stored, strict=True):
            head = None if data is None else head_of(data)
            if head is None:
                continue
            named = head.key_id, _segment(key)
            project = self._projects.get(named)
            if project is not None and head.salt[:_MARK] == project.mark:
                wanted = project.since <= now - _LIFE_S
            else:
                wanted = self._readable(head.key_id, now) and self._may_ask(named, now)
            if wanted and self.covers(key):
                yield named

    def _readable(self, key_id: bytes, now: float) -> bool:
        """Whether there is a key of that id; the key store is read anew to find it."""
        known = self._ring.get(key_id.hex()) is not None
        if not known and now - self._reloaded >= _PAUSE_S:
            self._reload(now)
            known = self._ring.get(key_id.hex()) is not None
        return known

    def _reload(self, now: float) -> None:
        self._reloaded = now
        with suppress(ConfigError):  # what is known serves on
            self._ring.reload()
        active = _id_of(self._ring.current)
        if active != self._active:
            self._active, self._before = active, self._active

    def _may_ask(self, named: Named, now: float) -> bool:
        return now - self._asked.get(named, float("-inf")) >= _PAUSE_S

    def _answered(self, named: Named, *, create: bool) -> None:
        """Readers that come before the answer wait for it too; those soon after it do without."""
        if create:
            return
        if len(self._asked) >= _ASKED:
            self._asked.clear()
        self._asked[named] = self._clock.monotonic()

    async def _learn(self, wanted: Collection[Named], *, create: bool) -> None:
        for named in wanted:
            key = self._ring.get(named[0].hex())
            if key is None:  # it was revoked
                self._projects.pop(named, None)
                continue
            try:
                salt = await self._salt(named, key, create=create)
            except TierError:
                self._answered(named, create=create)
                known = self._projects.get(named)
                if known is None:
                    raise
                known.since = self._clock.monotonic() - _LIFE_S + _PAUSE_S
                continue
            self._answered(named, create=create)
            self._know(named, key, salt)

    async def _salt(self, named: Named, key: Key, *, create: bool) -> bytes | None:
        """The salt that all use; with `create` a new one where there is none that opens."""
        name, wrapper = _name(named), _wrapper(key)
        aad = name.encode("utf-8", "surrogatepass")
        proposed = None
        if create:
            nonce = os.urandom(NONCE_BYTES)
            proposed = nonce + wrapper.encrypt(nonce, os.urandom(_PROJECT_SALT), aad)
        wrapped = await self._secrets.secret(name, proposed)
        salt = _unwrapped(wrapper, wrapped, aad)
        if salt is None and wrapped is not None and proposed is not None:
            await self._secrets.drop_secret(name)
            salt = _unwrapped(wrapper, await self._secrets.secret(name, proposed), aad)
        return salt

    def _know(self, named: Named, key: Key, salt: bytes | None) -> None:
        if salt is None:
            self._projects.pop(named, None)
            return
        now, known = self._clock.monotonic(), self._projects.get(named)
        if known is not None and known.mark == _mark(salt):
            known.since = now
        else:
            self._projects[named] = _Project(named, key, salt, now)


def derived(key: bytes, salt: bytes | None, label: bytes) -> bytes:
    """A key for one use, named by its label."""
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=label).derive(key)


def _label(use: bytes, *parts: bytes) -> bytes:
    coded = [b"%d:%b" % (len(part), part) for part in (use, *parts)]
    return b"querycache/1/" + b"".join(coded)


def _subcipher(project: _Project, salt: bytes) -> AESGCM:
    return AESGCM(derived(project.key, salt, _label(b"writer", project.key_id)))


def _wrapper(key: Key) -> AESGCM:
    return AESGCM(derived(key.reveal(), None, _label(b"wrap", _id_of(key))))


def _unwrapped(wrapper: AESGCM, wrapped: bytes | None, aad: bytes) -> bytes | None:
    """The salt; None where there is none that opens."""
    try:
        salt = wrapped and wrapper.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], aad)
    except (InvalidTag, ValueError):
        return None
    return salt if salt and len(salt) == _PROJECT_SALT else None


def _name(named: Named) -> str:
    return f"salt:{named[0].hex()}:{named[1]}"


def _mark(salt: bytes) -> bytes:
    return hashlib.sha256(b"querycache salt\0" + salt).digest()[:_MARK]


def _id_of(key: Key) -> bytes:
    return bytes.fromhex(key.key_id)


def _segment(key: str) -> str:
    """The project in an entry's name; what names none is shared."""
    parts = key.split(":", 3)
    return parts[2] if len(parts) > _PROJECT_AT else SHARED


_KINDS: Final = frozenset(Kind)
_PROJECT_AT: Final = 2
