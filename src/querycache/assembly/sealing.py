"""Encryption from the settings: the keys, the seal of what the shared tier holds, and what is
wrong with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from querycache.clock import Clock, SystemClock
from querycache.codec.key_store import Key
from querycache.codec.keyring import GENERATE, Keyring, Source
from querycache.config import Config
from querycache.errors import ConfigError
from querycache.ports.findings import Finding
from querycache.ports.tiers import L2

if TYPE_CHECKING:
    from querycache.codec.messages import Messages
    from querycache.codec.seal import AesSeal

_BATCH = 100

__all__ = [
    "GENERATE",
    "Key",
    "Keyring",
    "entries_under",
    "key_findings",
    "open_keyring",
    "open_messages",
    "seal",
]


def open_keyring(config: Config, clock: Clock | None = None) -> Keyring:
    """The keys that the settings name. Raises `ConfigError` where one can't be used; that there is
    none shows when one is asked for.
    """
    safety = config.safety
    source = Source(
        variable=safety.encryption_key.reveal(),
        file=safety.encryption_key_file,
        command=safety.encryption_key_command.reveal(),
        store=safety.key_store_path,
        replace_s=safety.key_rotation_interval_s,
    )
    return Keyring(source, clock or SystemClock())


def open_messages(ring: Keyring) -> Messages:
    """What callers seal bytes of their own with."""
    from querycache.codec.messages import Messages

    return Messages(ring)


def seal(config: Config, ring: Keyring, l2: L2, clock: Clock) -> AesSeal:
    """The seal of what the shared tier holds. Raises `ConfigError` where there is no key."""
    from querycache.codec.seal import AesSeal

    return AesSeal(ring, l2, clock, config.sealed_kinds)


async def entries_under(key_id: str, l2: L2, prefix: str) -> int:
    """How many entries of the shared tier a key sealed. Raises `TierError`."""
    from querycache.codec.envelope import head_of

    wanted, found, names = bytes.fromhex(key_id), 0, list[str]()

    async def counted() -> int:
        reads = await l2.read(names, fenced=False)
        heads = [head_of(read.data) for read in reads if read.data is not None]
        return sum(head is not None and head.key_id == wanted for head in heads)

    async for listing in l2.scan(f"{prefix}:"):
        names.append(listing.key)
        if len(names) == _BATCH:
            found += await counted()
            names.clear()
    return found + (await counted() if names else 0)


def key_findings(config: Config) -> list[Finding]:
    """What is wrong with the keys; empty where nothing is, or nothing is encrypted. Never raises,
    and tells no key.
    """
    if not config.sealed_kinds:
        return []
    try:
        _ = open_keyring(config).current
    except ConfigError as error:
        return [Finding("crypto.key_missing", "error", str(error), error.remedy)]
    return []
