"""The tiers: where entries rest, and how processes tell each other what is no longer true."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from querycache.ports.tally import Tally
from querycache.values import Stamp


class _Held(msgspec.Struct, gc=False, eq=False):
    key: str
    value: object


class Entry(_Held, gc=False, eq=False, kw_only=True):
    """What L1 holds for a name. Mutable only where the tier and the core say so; shared by all
    readers.

    Attributes:
        key: The entry's name.
        value: The value itself where readers can share it, else its encoded body (see `packed`).
        packed: Whether `value` is a `ports.codec.Body` that is decoded for each reader.
        expires: Monotonic seconds after which it must not be served at all.
        fresh_until: Monotonic seconds after which it is stale; at most `expires`.
        settled_until: Monotonic seconds before which a hit needs no decision: not stale, not due
            for an early refresh. At most `fresh_until`, but for a stale entry under a throttle.
        born: Monotonic seconds of the start of the load that made it.
        load_s: How long that load took, in seconds.
        tags: The counters that it depends on, as they stood at its birth.
        world: The core's world number under which its tags were last found unmoved.
        tally: The counts of its kind.
        weight: Bytes that it counts for, overhead included.
        hits: Bumped by the reader; eviction reads and resets it.
        queue: Belongs to the eviction policy.
    """

    packed: bool = False
    expires: float
    fresh_until: float
    settled_until: float = 0.0
    born: float
    load_s: float = 0.0
    tags: tuple[tuple[str, Stamp], ...] = ()
    world: int = 0
    tally: Tally
    weight: int
    hits: int = 0
    queue: int = 0


class L1Info(msgspec.Struct, frozen=True):
    """How full L1 is. Bytes include the overhead of each entry.

    `max_size` and `max_bytes` are as configured; `share` of the bytes is in force, and nothing
    comes in unless it `admits`.
    """

    size: int
    max_size: int
    bytes: int
    max_bytes: int
    evictions: int
    rejected: int
    policy: str
    share: float = 1.0
    admits: bool = True


class L1(Protocol):
    """Entries in this process, bounded in entries and bytes at every moment. Synchronous; safe
    under threads. Where memory runs out in the middle of a change it drops all, and stays whole.

    `entries` is the live map from name to entry, for the hit path: look-ups need no lock. A reader
    that serves an entry must then do `entry.hits += 1`, and call `touch(entry)` where `touch` is
    not None (a policy that orders by recency). Expiry is the reader's to check. `clear`, `remove`,
    `shed` and `limit` are the only ways out besides eviction and `sweep`.
    """

    entries: Mapping[str, Entry]
    touch: Callable[[Entry], None] | None

    def put(self, entry: Entry) -> bool:
        """Adds or replaces; evicts what must go first. A replaced entry hands its hits on.

        False if the entry alone is larger than the bound; an older one of its name goes even so.
        """
        ...

    def remove(self, key: str) -> Entry | None: ...

    def clear(self) -> int:
        """Drops all; returns how many."""
        ...

    def sweep(self, now: float, limit: int = 0) -> int:
        """Drops what expired by `now` (monotonic); returns how many. With a positive `limit` it
        drops at most that many, does bounded work, and goes on there at the next call.
        """
        ...

    def shed(self, share: float) -> int:
        """Evicts the least valuable `share` (0 to 1) of the bytes held; returns how many entries
        went.
        """
        ...

    def limit(self, share: float, *, room: float = 1.0, admit: bool = True) -> int:
        """Puts `share` (0 to 1) of both configured bounds in force, of the bytes no more than
        `room` (0 to 1), and evicts what is beyond them, in bounded steps; returns how many entries
        went. With `admit` off, or a share of 0, nothing comes in: `put` is False, and an older one
        of its name goes.
        """
        ...

    def info(self) -> L1Info: ...


class Read(msgspec.Struct, frozen=True, gc=False):
    """What L2 has for a name. `guard` is the version of the world at the read: a later `write`
    of that name under it is refused when the name was invalidated or overwritten in between.
    """

    data: bytes | None
    guard: int


class Write(msgspec.Struct, frozen=True):
    """An entry to store.

    Attributes:
        key: Its name.
        data: The whole envelope.
        expires_at: Wall seconds of its hard expiry.
        tags: Names of the counters that it depends on.
        guard: From the `Read.guard` of its own name, taken before its load began; None for an
            unconditional write.
        tell: Whether other processes must hear of it: False for what is addressed by content and
            so never differs.
    """

    key: str
    data: bytes
    expires_at: float
    tags: tuple[str, ...] = ()
    guard: int | None = None
    tell: bool = True


class Listing(msgspec.Struct, frozen=True, gc=False):
    """An entry as seen from outside: its name, its size in bytes in L2 and its hard expiry (wall
    seconds).
    """

    key: str
    size: int
    expires_at: float


class Pool(msgspec.Struct, frozen=True):
    """The connections of this process to the servers."""

    created: int = 0
    available: int = 0
    in_use: int = 0
    most: int = 0


class L2Info(msgspec.Struct, frozen=True):
    """How L2 is. `ping_ms` is None where it can't be reached; then `error` says why.

    `memory_bytes` and `memory_peak_bytes` are a server's own, `pool` the connections to it, and
    `lag_ms` how long an invalidation took to reach this process when that was last measured; None
    where there is no such thing.
    """

    backend: str
    connected: bool
    ping_ms: float | None = None
    entries: int | None = None
    bytes: int | None = None
    max_bytes: int | None = None
    where: str = ""
    error: str = ""
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    pool: Pool | None = None
    lag_ms: float | None = None


class Secrets(Protocol):
    """What all who share a tier must agree on, kept there beside the entries: small, wrapped by a
    key that the tier does not know, and no entry. Every method raises `errors.TierError`.
    """

    async def secret(self, name: str, proposed: bytes | None = None) -> bytes | None:
        """What is kept under `name`. Where nothing is, `proposed` is kept from now on: the first
        writer's stays, and all get that.
        """
        ...

    async def drop_secret(self, name: str) -> bool:
        """Forgets what is kept under `name`; whether anything was."""
        ...


class L2(Secrets, Protocol):
    """Entries shared between processes. Every method raises `errors.TierError`, and only that,
    when the tier fails.

    - An acknowledged write is readable by every process at once, and survives the death of the
      writer.
    - `read` never returns an entry past its `expires_at`, and never bytes that were written for
      another name.
    - `bump` and `remove` are durable, and told to all processes, before they return.
    - A guarded `write` is compare-and-set: check and store are one transaction.
    """

    name: str

    async def read(self, keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
        """What it has for each. Without `fenced` the guards mean nothing: for what is addressed by
        content, whose writes need none.
        """
        ...

    def witnessed(self, key: str) -> int | None:
        """The guard of `key` that this process saw last, without asking anyone: an upper bound of
        what it can know of the name. None where it saw none.
        """
        ...

    async def write(self, writes: Sequence[Write]) -> list[bool]:
        """Stores each; False where its guard found the world moved."""
        ...

    async def remove(self, keys: Sequence[str]) -> int:
        """Deletes and tells, also of names that it does not hold; returns how many it held."""
        ...

    async def stamps(self, tags: Sequence[str]) -> dict[str, Stamp]:
        """The present reading of each counter; one that does not exist comes into being."""
        ...

    async def bump(self, tags: Sequence[str]) -> dict[str, Stamp]:
        """Moves each counter: every entry that depends on it is unreachable from now on. O(1) in
        entries.
        """
        ...

    async def lease(self, key: str, seconds: float) -> str | None:
        """A token for the right to load `key`, or None while another holder's lease runs."""
        ...

    async def renew(self, key: str, token: str, seconds: float) -> bool: ...

    async def release(self, key: str, token: str) -> None:
        """Gives the lease up, if the token still holds it."""
        ...

    async def sweep(self, limit: int = 1000) -> int:
        """Deletes up to `limit` expired entries, and others by last use where a size cap asks for
        it; returns how many.
        """
        ...

    async def purge(self, prefix: str) -> int:
        """Deletes what its names begin with `prefix`, in batches; returns how many. Tells nobody:
        whoever calls it has bumped a counter that made them unreachable.
        """
        ...

    def scan(self, prefix: str = "") -> AsyncIterator[Listing]:
        """Every live entry whose name begins with `prefix`; not a snapshot."""
        ...

    async def post(self, name: str, data: bytes, seconds: float) -> None:
        """Tells other machines something for a while; `data` replaces what stood under `name`,
        empty takes it down. No entry. Where processes of one machine alone share the tier, or
        too many have posted, nothing is told.
        """
        ...

    async def posts(self) -> dict[str, bytes]:
        """What is posted now, by name."""
        ...

    async def info(self) -> L2Info: ...

    async def close(self) -> None: ...


class Changes(msgspec.Struct, frozen=True):
    """What happened since the last `drain`.

    Attributes:
        keys: Names whose entries in L1 are no longer true.
        tags: Counters that moved, with their new stamps; None where only L2 knows it.
        seen: The epoch up to which this is complete; -1 while a change is under way or the channel
            is lost, so that the next read drains again.
        lost: The channel skipped something: everything in L1 and every known counter is in doubt.
        bypass: L1 must not be served from until a later drain says otherwise.
        deaf: Nobody tells this process anything until a later drain says otherwise: what it puts
            into L1 meanwhile must be short-lived. Begins and ends with `lost`.
    """

    keys: Sequence[str] = ()
    tags: Mapping[str, Stamp | None] = {}
    seen: int = 0
    lost: bool = False
    bypass: bool = False
    deaf: bool = False


class Backplane(Protocol):
    """Tells this process what other processes invalidated or overwrote. Our own changes may be
    among them, or not.

    `epoch[0]` is a number that differs from the last `seen` as soon as anything may have changed:
    the hit path compares it, at the price of one index. The channel is complete: a gap shows as
    `lost`, never as silence.

    `hears_until[0]` is the monotonic time, in seconds, from which on news may wait unread: an
    event loop that stood still has not looked at its sockets yet. From then on L1 is not served
    from.
    """

    epoch: Sequence[int]  # another object after a drain that found the channel lost
    hears_until: Sequence[float]

    def drain(self) -> Changes:
        """What changed since the last drain. Synchronous, and cheap where nothing did. Safe under
        threads.
        """
        ...

    def close(self) -> None: ...
