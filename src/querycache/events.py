"""What the cache tells its observer: one frozen struct for each kind of occurrence. An L1 hit is
counted, not told.
"""

from __future__ import annotations

from typing import Literal

import msgspec

MissReason = Literal[
    "absent", "expired", "evicted", "invalidated", "unreadable", "l2_down", "disabled"
]
"""Why a read was no hit. absent: never stored, or not lately. evicted: given up for room before
its time, by L1 or by L2.
"""

RefusalReason = Literal[
    "too_big", "unsupported", "invalidated_meanwhile", "l2_down", "memory_short"
]

Difference = Literal["newer", "older", "altered", "unreadable"]


class Event(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Something that happened to the entry `key` (or to the whole cache, where `key` is empty)."""

    key: str


class Hit(Event, frozen=True, gc=False, tag=True):
    """L2 had it."""

    age_s: float
    stale: bool


class Missed(Event, frozen=True, gc=False, tag=True):
    """Neither tier had a usable entry."""

    reason: MissReason


class Loaded(Event, frozen=True, gc=False, tag=True):
    """The origin answered."""

    took_s: float


class LoadFailed(Event, frozen=True, gc=False, tag=True):
    """The origin failed; `served_stale` says whether an old value was served instead."""

    error: str
    served_stale: bool


class Stored(Event, frozen=True, gc=False, tag=True):
    """An entry was written. `weight` in bytes as L1 counts them, `ttl_s` its hard life."""

    weight: int
    ttl_s: float


class NotStored(Event, frozen=True, gc=False, tag=True):
    """A value was not kept."""

    reason: RefusalReason


class Evicted(Event, frozen=True, gc=False, tag=True):
    """L1 gave an entry up for room."""

    weight: int


class Invalidated(Event, frozen=True, gc=False, tag=True):
    """A key or a tag was invalidated, here (`source` is ours) or in another process."""

    tag: str
    source: str


class ChannelLost(Event, frozen=True, gc=False, tag=True):
    """The invalidation channel can't be trusted; L1 was cleared."""

    reason: str


class TierFailed(Event, frozen=True, gc=False, tag=True):
    """An operation of L2 failed and was turned into a miss or a skipped write."""

    tier: str
    operation: str
    error: str


class Unreadable(Event, frozen=True, gc=False, tag=True):
    """Stored bytes did not open; `reason` as in `errors.UnreadableError`."""

    reason: str


class Healed(Event, frozen=True, gc=False, tag=True):
    """L1 served what L2 held otherwise, and gave way. `found` says what L2 held: something newer
    or older, something else of the same birth, or what does not open.
    """

    found: Difference


class Pressure(Event, frozen=True, gc=False, tag=True):
    """The memory that this process may have got short, or is no longer. `used` of `limit` bytes,
    and the entries that L1 gave up (`shed`) at once.
    """

    level: Literal["normal", "warning", "critical"]
    used: int
    limit: int
    shed: int


class FileChanged(Event, frozen=True, gc=False, tag=True):
    """The file `key` (an absolute path) has other content, or is gone, and nothing that was
    derived from it can be had any more.

    `lag_s`: seconds that this took, from the file's change time (of what is gone, from the
    watcher's report); 0 where it may have changed before the watch began. `entries`: those
    dropped with it and with the other files of its batch. `project`: one that holds it, or "".
    """

    lag_s: float
    entries: int
    project: str
