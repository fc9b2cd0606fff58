"""What L1 costs in memory, against what it counts; and what its values cost the garbage collector.

    python bench/l1_memory.py [--policy NAME]

Each case runs in a process of its own: the growth of its resident memory while L1 fills, beside
L1's own count. Overhead is what an entry takes beside the characters of its name and its encoded
value.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import subprocess
import sys
import time

import msgspec
import psutil

from querycache.cache.filling import entry_for
from querycache.cache.policy import Policy
from querycache.ports.codec import Body, Form
from querycache.ports.tally import Tally
from querycache.ports.tiers import Entry
from querycache.tiers.eviction import POLICIES
from querycache.tiers.memory import ENTRY_OVERHEAD, MemoryTier, weigh

CASES = ((50_000, 100), (50_000, 1_000), (20_000, 6_144), (5_000, 40_000))  # entries, bytes
CHURN = 2  # times as many are put as fit


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def fill(l1: MemoryTier, count: int, size: int) -> None:
    policy, tally, names = Policy(), Tally(), random.Random(1)  # noqa: S311 -- the same names in every run
    for _ in range(count):
        key = f"codebase_rag:search:project:{names.getrandbits(128):032x}"
        now = time.monotonic()
        made = entry_for(
            key,
            Body(os.urandom(size), Form.MSGPACK, shareable=False),
            policy=policy,
            now=now,
            age=0.01,
            fresh_left=3600.0,
            usable_left=3600.0,
            load_s=names.random(),
            tags=(),
            world=0,
            tally=tally,
            weight=weigh(key, size),
        )
        l1.put(made)


def measure(count: int, size: int, policy: str) -> None:
    """Prints bytes an entry: counted, grown, names and values alone."""
    fill(MemoryTier(max_entries=100, max_bytes=1 << 40, policy=policy), 1_000, size)  # warm-up
    l1 = MemoryTier(max_entries=count, max_bytes=1 << 40, policy=policy)
    before = resident()
    fill(l1, count * CHURN, size)
    grown = resident() - before
    plain = size + statistics.mean(map(len, l1.entries))
    print(l1.info().bytes / count, grown / count, plain)


def collections(count: int) -> None:
    """The longest of 5 full collections with `count` search answers of 5 KB held."""
    answer = {
        "results": [
            {"path": f"src/{i}.py", "line": i, "score": i / 7, "text": "x" * 400, "tags": [i]}
            for i in range(10)
        ]
    }
    packed = msgspec.msgpack.encode(answer)
    forms = {
        "nothing": lambda: None,
        "bodies in L1": lambda: Body(bytes(bytearray(packed)), Form.MSGPACK, shareable=False),
        "dicts in L1": lambda: msgspec.msgpack.decode(packed),
    }
    print(f"\n| {count} answers of {len(packed)} bytes held as | full collection, ms |\n|---|--:|")
    for name, make in forms.items():
        l1, tally = MemoryTier(max_entries=count, max_bytes=1 << 40), Tally()
        for i in range(count):
            made = make()
            if made is None:
                break
            key = f"codebase_rag:search:project:{i:032x}"
            l1.put(Entry(key, made, expires=i, fresh_until=i, born=i, tally=tally, weight=1))
        gc.collect()
        pauses: list[float] = []
        for _ in range(5):
            start = time.perf_counter()
            gc.collect()
            pauses.append(1000 * (time.perf_counter() - start))
        print(f"| {name} | {statistics.median(pauses):.1f} |")
        del l1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", choices=POLICIES, default="ADAPTIVE")
    parser.add_argument("--case", nargs=2, type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        measure(*asked.case, asked.policy)
        return
    print(f"{asked.policy}; an entry counts as name + value + {ENTRY_OVERHEAD} bytes")
    print("| entries | value | counted | grown | counted / grown | overhead |")
    print("|--:|--:|--:|--:|--:|--:|")
    for count, size in CASES:
        command = [sys.executable, __file__, "--policy", asked.policy, "--case"]
        out = subprocess.run(  # noqa: S603 -- this very file
            [*command, str(count), str(size)], check=True, capture_output=True, text=True
        ).stdout
        counted, grown, plain = map(float, out.split())
        cells = (
            f"{counted:.0f}",
            f"{grown:.0f}",
            f"{counted / grown:.2f}",
            f"{grown - plain:.0f}",
        )
        print(f"| {count} | {size} |", " | ".join(cells), "|", flush=True)
    collections(10_000)


if __name__ == "__main__":
    main()
