"""Hit ratios on recorded traces: our policies beside LRU and Belady's optimum.

    python bench/replay.py TRACE [--capacity N ...] [--policy NAME ...]
    python bench/replay.py --all DIR [--policy NAME ...]

TRACE: a .npy, .npy.zst or text file (one key a line); without capacities 1, 5 and 20 % of its
distinct keys. --all replays every (trace, capacity) of the table in DIR/README.md and ends with
the means and each policy's worst row against LRU.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from querycache.assembly.replaying import POLICY_NAMES, make_l1, unpack_frame
from querycache.usecases.replay_trace import belady, load_trace, replay

OPTIMUM = "optimum"
ROW = re.compile(r"\| ([\w-]+) \| (\d+) \| [\d.]+ \|")


def per_cent(policy: str, keys: Sequence[int] | Sequence[str], capacity: int) -> float:
    if policy == OPTIMUM:
        return 100 * belady(keys, capacity).ratio
    return 100 * replay(keys, partial(make_l1, policy), capacity).ratio


def rows_of(directory: Path) -> Iterator[tuple[str, int]]:
    for line in (directory / "README.md").read_text().splitlines():
        if match := ROW.match(line):
            yield match[1], int(match[2])


def table(rows: Sequence[tuple[Path, int]], policies: Sequence[str]) -> None:
    print("| trace | C |", " | ".join(policies), "|")
    print("|---|--:|" + "--:|" * len(policies))
    found: dict[str, list[float]] = {policy: [] for policy in policies}
    loaded: tuple[Path | None, list[int] | list[str]] = (None, [])
    for path, capacity in rows:
        if loaded[0] != path:
            loaded = (path, load_trace(path, unpack_frame))
        for policy in policies:
            found[policy].append(per_cent(policy, loaded[1], capacity))
        cells = " | ".join(f"{found[policy][-1]:.1f}" for policy in policies)
        print(f"| {path.name.split('.')[0]} | {capacity} | {cells} |", flush=True)
    if len(rows) > 1:
        means = (f"{sum(found[p]) / len(rows):.2f}" for p in policies)
        print("| **mean** | |", " | ".join(means), "|")
        worst = (f"{min(map(float.__sub__, found[p], found['LRU'])):+.1f}" for p in policies)
        print("| worst against LRU | |", " | ".join(worst), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", nargs="?", type=Path)
    parser.add_argument("--all", type=Path, metavar="DIR")
    parser.add_argument("--capacity", type=int, action="append")
    parser.add_argument("--policy", action="append", choices=[*POLICY_NAMES, OPTIMUM])
    asked = parser.parse_args()
    policies = list(dict.fromkeys(["LRU", *(asked.policy or [*POLICY_NAMES, OPTIMUM])]))
    if asked.all:
        rows = [(asked.all / f"{name}.npy.zst", size) for name, size in rows_of(asked.all)]
    elif asked.trace:
        distinct = len(set(load_trace(asked.trace, unpack_frame)))
        sizes = asked.capacity or [max(1, distinct * share // 100) for share in (1, 5, 20)]
        rows = [(asked.trace, size) for size in sizes]
    else:
        parser.error("name a trace, or --all DIR")
    table(rows, policies)


if __name__ == "__main__":
    main()
