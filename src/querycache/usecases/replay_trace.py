"""Replay a trace: what hit ratio would an L1 of some size and policy have had?

A trace is the sequence of names that were asked for. The replay runs through the real tier; its
yardstick is the optimum, which knows the future (Belady, "A study of replacement algorithms for a
virtual-storage computer", IBM Systems Journal 5, 1966).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from heapq import heappop, heappush
from io import BytesIO
from math import inf
from pathlib import Path

import msgspec

from querycache.errors import UsageError
from querycache.ports.tally import Tally
from querycache.ports.tiers import L1, Entry

MAX_TRACE_BYTES = 1 << 30
"""The largest trace that is read, unpacked, in bytes."""

Unpack = Callable[[bytes, int], bytes]
"""Undoes zstd: (packed bytes, most bytes that may come out) -> bytes."""


class Replayed(msgspec.Struct, frozen=True):
    """What a replay found. `ratio` is hits / accesses, 0 for an empty trace."""

    accesses: int
    hits: int

    @property
    def ratio(self) -> float:
        return self.hits / self.accesses if self.accesses else 0.0


def replay(keys: Iterable[Hashable], make_l1: Callable[[int], L1], capacity: int) -> Replayed:
    """Asks an empty L1 of `capacity` entries for each key in turn; what it does not have is put.

    Every entry weighs one byte, so an L1 whose byte bound is at least its capacity is bounded by
    entries alone.
    """
    l1 = make_l1(capacity)
    find, touch, tally = l1.entries.get, l1.touch, Tally()
    names: dict[Hashable, str] = {}
    accesses = hits = 0
    for key in keys:
        accesses += 1
        name = names.get(key)
        if name is None:
            name = names[key] = str(key)
        entry = find(name)
        if entry is None:
            made = Entry(name, None, expires=inf, fresh_until=inf, born=0.0, tally=tally, weight=1)
            l1.put(made)
        else:
            hits += 1
            entry.hits += 1
            if touch is not None:
                touch(entry)
    return Replayed(accesses, hits)


def belady(keys: Sequence[Hashable], capacity: int) -> Replayed:
    """The optimum for a cache that must take in what it missed: evict what is needed last."""
    if capacity < 1:
        return Replayed(len(keys), 0)
    after = [0] * len(keys)  # the position of the next access to the same key
    seen: dict[Hashable, int] = {}
    never = len(keys)
    for at in range(len(keys) - 1, -1, -1):
        after[at] = seen.get(keys[at], never)
        seen[keys[at]] = at
    held: dict[Hashable, int] = {}  # key -> its next access
    heap: list[tuple[int, int]] = []  # (-next access, an access of that key); may be out of date
    hits = 0
    for at, key in enumerate(keys):
        if key in held:
            hits += 1
        elif len(held) >= capacity:
            while held.get(keys[heap[0][1]]) != -heap[0][0]:
                heappop(heap)
            del held[keys[heappop(heap)[1]]]
        held[key] = after[at]
        heappush(heap, (-after[at], at))
    return Replayed(len(keys), hits)


def load_trace(path: Path, unpack: Unpack | None = None) -> list[int] | list[str]:
    """Reads a trace: `.npy` or `.npy.zst` (a row of integers), else text with one key a line.

    Raises `UsageError` for what is missing, larger than `MAX_TRACE_BYTES`, or no trace.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TRACE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"trace {path} can't be read: {error.strerror}", remedy="Name a file that exists."
        ) from error
    if len(data) > MAX_TRACE_BYTES:
        raise _refused(path, f"it is larger than {MAX_TRACE_BYTES} bytes")
    name = path.name
    if name.endswith(".zst"):
        if unpack is None:
            raise _refused(path, "nothing here unpacks zstd")
        try:
            data = unpack(data, MAX_TRACE_BYTES)
        except Exception as error:
            raise _refused(path, f"it does not unpack: {error}") from error
        name = name.removesuffix(".zst")
    return _numbers(path, data) if name.endswith(".npy") else _lines(path, data)


def _numbers(path: Path, data: bytes) -> list[int]:
    import numpy as np  # noqa: PLC0415 -- heavy, and only such traces need it

    try:
        array = np.load(BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _refused(path, f"it is no .npy file: {error}") from error
    if isinstance(array, np.lib.npyio.NpzFile):
        raise _refused(path, "it is no .npy file but an archive")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise _refused(path, f"it holds {array.dtype} of shape {array.shape}, not a row of ints")
    return array.tolist()


def _lines(path: Path, data: bytes) -> list[str]:
    try:
        keys = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise _refused(path, "it is neither .npy nor UTF-8 text") from error
    return [key for key in keys if key]


def _refused(path: Path, why: str) -> UsageError:
    return UsageError(
        f"trace {path} can't be replayed: {why}",
        remedy="Give a .npy or .npy.zst of integers, or a text file with one key a line.",
    )
