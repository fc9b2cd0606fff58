"""Replaying traces, and the optimum."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querycache.errors import UsageError
from querycache.ports.tiers import L1
from querycache.tiers.memory import MemoryTier
from querycache.usecases import replay_trace
from querycache.usecases.replay_trace import Replayed, belady, load_trace, replay

TRACES = st.lists(st.integers(0, 5), max_size=14)


def tier(policy: str) -> Callable[[int], L1]:
    return lambda capacity: MemoryTier(max_entries=capacity, max_bytes=capacity, policy=policy)


def fewest_misses(trace: list[int], capacity: int) -> int:
    """By trying every victim at every miss."""

    @cache
    def least(at: int, held: frozenset[int]) -> int:
        if at == len(trace):
            return 0
        key = trace[at]
        if key in held:
            return least(at + 1, held)
        if len(held) < capacity:
            return 1 + least(at + 1, held | {key})
        return 1 + min(least(at + 1, (held - {victim}) | {key}) for victim in held)

    return least(0, frozenset[int]())


@given(TRACES, st.integers(1, 4))
def test_belady_is_the_optimum(trace: list[int], capacity: int):
    found = belady(trace, capacity)
    assert found.accesses == len(trace)
    assert found.accesses - found.hits == fewest_misses(trace, capacity)


@given(TRACES, st.integers(1, 4), st.sampled_from(["ADAPTIVE", "S3FIFO", "LRU", "LFU", "FIFO"]))
def test_no_policy_beats_the_optimum(trace: list[int], capacity: int, policy: str):
    found = replay(trace, tier(policy), capacity)
    assert found.accesses == len(trace)
    assert found.hits <= belady(trace, capacity).hits


def test_a_replay_counts_as_lru_would():
    assert replay("abcabdacbdd", tier("LRU"), 3) == Replayed(accesses=11, hits=4)
    assert replay("abcabc", tier("LRU"), 2).hits == 0


def test_the_ratio_of_nothing_is_nothing():
    assert replay([], tier("LRU"), 1).ratio == 0.0
    assert belady([], 1).ratio == 0.0
    assert belady([1, 1], 0) == replay([1, 1], tier("LRU"), 0) == Replayed(2, 0)
    assert Replayed(4, 1).ratio == 0.25


def saved(keys: object) -> bytes:
    file = BytesIO()
    np.save(file, np.asarray(keys))
    return file.getvalue()


def test_a_trace_of_numbers_is_read(tmp_path: Path):
    path = tmp_path / "trace.npy"
    path.write_bytes(saved([3, 1, 3]))
    assert load_trace(path) == [3, 1, 3]


def test_a_packed_trace_is_unpacked_by_who_can(tmp_path: Path):
    path = tmp_path / "trace.npy.zst"
    path.write_bytes(b"packed")
    limits: list[int] = []

    def unpack(data: bytes, limit: int) -> bytes:
        assert data == b"packed"
        limits.append(limit)
        return saved([7, 8])

    assert load_trace(path, unpack) == [7, 8]
    assert limits == [replay_trace.MAX_TRACE_BYTES]


def test_a_text_has_one_key_a_line(tmp_path: Path):
    path = tmp_path / "trace.txt"
    path.write_text("one key\n\nzwei\none key\n", encoding="utf-8")
    assert load_trace(path) == ["one key", "zwei", "one key"]


def archive() -> bytes:
    file = BytesIO()
    np.savez(file, keys=np.asarray([1, 2]))
    return file.getvalue()


def broken(data: bytes, limit: int) -> bytes:
    raise ValueError(f"{len(data)} of {limit}")


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("t.npy", b"no array", "no .npy file"),
        ("t.npy", b"", "no .npy file"),
        ("t.npy", saved([[1], [2]]), "not a row"),
        ("t.npy", saved([0.5]), "not a row"),
        ("t.npy", archive(), "archive"),
        ("t.npy", saved([None, "x"]), "no .npy file"),  # holds objects: would be unpickled
        ("t.txt", b"\xff\xfe", "UTF-8"),
        ("t.npy.zst", b"x", "does not unpack"),
    ],
)
def test_what_is_no_trace_says_why(tmp_path: Path, name: str, data: bytes, why: str):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UsageError, match=why):
        load_trace(path, broken)


def test_a_missing_trace_says_so(tmp_path: Path):
    with pytest.raises(UsageError, match="can't be read"):
        load_trace(tmp_path / "none.txt")


def test_without_an_unpacker_a_packed_trace_is_refused(tmp_path: Path):
    path = tmp_path / "trace.zst"
    path.write_bytes(b"x")
    with pytest.raises(UsageError, match="zstd"):
        load_trace(path)


def test_a_trace_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replay_trace, "MAX_TRACE_BYTES", 10)
    path = tmp_path / "trace.txt"
    path.write_text("a\n" * 6)
    with pytest.raises(UsageError, match="larger"):
        load_trace(path)
