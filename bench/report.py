"""All benchmarks, one after the other, as one table: id, what, goal, our figure, met or not.

    python bench/report.py [--only F1,F8] [--quick] [--markdown] [--traces DIR]

Progress goes to standard error. What can't run (a peer is missing, a script fails, no traces) is
"not measured", never met.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec
from kit import Row, say, verdict

from querycache.config.tiers import L1

HERE = Path(__file__).resolve().parent
TRACES = (HERE.parent / "traces", HERE.parent.parent / "traces")
PEERS = ("cashews", "aiocache", "diskcache", "mcp", "numpy", "msgspec", "redis")
BUSY = 0.5  # load for each core

Reader = Callable[[str, "Asked"], list[Row]]


class Asked(NamedTuple):
    """The command line. `shared` is a folder that the benchmarks of this report share."""

    only: frozenset[str]
    quick: bool
    traces: Path | None
    shared: Path


class Script(NamedTuple):
    """A benchmark: the figures that it gives, and how they are read where it prints no rows."""

    ids: tuple[str, ...]
    file: str
    arguments: Callable[[Asked], list[str] | str] = lambda _: []
    read: Reader | None = None


class FailedError(Exception):
    """A benchmark gave no figures; says why."""


# --- benchmarks that print tables of their own -------------------------------------------------

DEFAULT = L1().eviction_policy
ADAPTIVE = "ADAPTIVE"
UNDER_LRU, MOONSHOT_MEAN, MOONSHOT_UNDER_LRU = 3.5, 50.0, 1.0
ACCURACY, MOST_OVERHEAD = 0.15, 250.0
MOST_OF_BARE_SERVER = 1.3


def cells(line: str) -> list[str]:
    return [cell.strip(" *") for cell in line.strip().strip("|").split("|")]


def replay_arguments(asked: Asked) -> list[str] | str:
    if asked.traces is None:
        return "the traces are no part of the repository: name their folder with --traces"
    policies = dict.fromkeys([DEFAULT, "S3FIFO", ADAPTIVE])
    return ["--all", str(asked.traces), *(f"--policy={policy}" for policy in policies)]


def read_replay(out: str, asked: Asked) -> list[Row]:
    del asked
    lines = [cells(line) for line in out.splitlines() if line.startswith("|")]
    names = lines[0][2:]
    traces = [line for line in lines[2:] if len(line) == len(lines[0]) and line[1]]
    ratios = {name: [float(line[place]) for line in traces] for place, name in enumerate(names, 2)}
    means = {name: sum(values) / len(values) for name, values in ratios.items()}

    def worst(name: str) -> float:
        return min(our - lru for our, lru in zip(ratios[name], ratios["LRU"], strict=True))

    def figure(name: str) -> str:
        return f"mean {means[name]:.2f}, at worst {worst(name):+.1f} points beside LRU"

    told = ", ".join(f"{name} {mean:.2f}" for name, mean in means.items())
    return [
        Row(
            "F6",
            f"hit ratio in per cent of the default policy, {DEFAULT}, on {len(traces)} rows",
            f"mean ≥ S3-FIFO's, never more than {UNDER_LRU} points under LRU",
            figure(DEFAULT),
            means[DEFAULT] >= means["S3FIFO"] and worst(DEFAULT) >= -UNDER_LRU,
            f"means: {told}",
        ),
        Row(
            "F6",
            "moonshot: the adaptive policy",
            f"mean ≥ {MOONSHOT_MEAN:.0f}, at worst {MOONSHOT_UNDER_LRU:.0f} point under LRU",
            figure(ADAPTIVE),
            means[ADAPTIVE] >= MOONSHOT_MEAN and worst(ADAPTIVE) >= -MOONSHOT_UNDER_LRU,
        ),
    ]


def read_memory(out: str, asked: Asked) -> list[Row]:
    del asked
    table = re.findall(
        r"^\| (\d+) \| (\d+) \| \d+ \| \d+ \| ([\d.]+) \| (-?\d+) \|", out, re.MULTILINE
    )
    if not table:
        raise FailedError("its output was not understood")
    off = [abs(float(counted) - 1) for _, _, counted, _ in table]
    overhead = [float(bytes_) for *_, bytes_ in table]
    return [
        Row(
            "F7",
            "L1's own count of its memory, beside the process's growth",
            f"within {ACCURACY:.0%}",
            f"{max(off):.0%} off at most",
            max(off) <= ACCURACY,
            "counted by grown: "
            + "; ".join(f"{share} ({count} of {size} bytes)" for count, size, share, _ in table),
        ),
        Row(
            "F7",
            "overhead of an entry in L1",
            f"≤ {MOST_OVERHEAD:.0f} bytes",
            f"{max(overhead):.0f} bytes at most",
            max(overhead) <= MOST_OVERHEAD,
            "; ".join(f"{bytes_} (values of {size} bytes)" for _, size, _, bytes_ in table),
        ),
    ]


def read_handshake(out: str, asked: Asked) -> list[Row]:
    del asked
    found = re.search(r"^querycache mcp\s+([\d.]+)s\s+[\d.]+s\s+([\d.]+)", out, re.MULTILINE)
    if found is None:
        raise FailedError("its output was not understood")
    times = float(found[2])
    return [
        Row(
            "F14",
            "MCP handshake over stdio by `querycache mcp`; control = a bare server of the SDK",
            f"≤ {MOST_OF_BARE_SERVER} x",
            f"{times:.2f} x",
            times <= MOST_OF_BARE_SERVER,
            f"{1e3 * float(found[1]):.0f} ms",
        )
    ]


SCRIPTS = (
    Script(("F1",), "l1_hit.py"),
    Script(("F2", "F3", "F4"), "l2_redis.py"),
    Script(("F5",), "l2_sqlite.py"),
    Script(("F5",), "l2_hit.py"),
    Script(("F6",), "replay.py", replay_arguments, read_replay),
    Script(("F7",), "l1_memory.py", read=read_memory),
    Script(("F8",), "single_flight.py"),
    Script(("F9",), "coherence.py"),
    Script(("F10",), "search_path.py"),
    Script(("F11", "F12"), "indexing.py"),
    Script(("F13",), "working_day.py"),
    Script(("F14",), "start_up.py"),
    Script(("F14",), "mcp_start.py", read=read_handshake),
)


UNMEASURED = {
    "F1": ("L1 hit by `await service.get(key)`", "≤ 2.5 x the floor"),
    "F2": ("L2 hit on Redis by unix socket, 1 KB", "≤ 0.8 x redis-py's bare GET"),
    "F3": ("50 concurrent L2 hits on Redis, each", "≤ 0.2 x redis-py's bare GETs"),
    "F4": ("batch of 100 embeddings from Redis", "≤ 1.2 x redis-py's bare MGET"),
    "F5": ("hit of the embedded L2", "≤ 0.8 x diskcache's get"),
    "F6": ("hit ratio of the default policy on recorded traces", "mean ≥ S3-FIFO's"),
    "F7": ("L1's own count of its memory", "within 15%"),
    "F8": ("loads of 1,000 concurrent misses", "1"),
    "F9": ("an invalidation reaches another process", "p99 ≤ 20 x a hop over a socket"),
    "F10": ("search in the engine, from L1 and L2", "≤ 1/50, ≤ 1/3 of the uncached question"),
    "F11": ("texts sent to the model on a re-index", "only those that changed"),
    "F12": ("indexing 2,000 files", "≤ 2 x parsing plus embedding alone"),
    "F13": ("a working day replayed", "texts embedded -90 %, hits ≥ 80 %, stale answers 0"),
    "F14": ("start", "no heavy import; handshake ≤ 1.3 x a bare server's"),
}
"""What is said of a figure that could not be measured."""


# --- running them ------------------------------------------------------------------------------


def figures(script: Script, asked: Asked) -> list[Row]:
    """The rows of a script, or one for each of its ids that says why there are none."""
    try:
        rows = read(script, asked)
    except FailedError as error:
        say(f"{script.file}: not measured: {error}")
        rows = [Row(each, *UNMEASURED[each], "", None, str(error)) for each in script.ids]
    return [row for row in rows if row.id in asked.only]


def read(script: Script, asked: Asked) -> list[Row]:
    path = HERE / script.file
    if not path.exists():
        raise FailedError(f"there is no {script.file}")
    if script.read is not None:
        arguments = script.arguments(asked)
        if isinstance(arguments, str):
            raise FailedError(arguments)
        try:
            return script.read(output([str(path), *arguments]), asked)
        except (KeyError, ValueError, IndexError) as error:
            raise FailedError(f"its output was not understood: {error}") from error
    arguments = ["--json", "--shared", str(asked.shared), *(["--quick"] if asked.quick else [])]
    try:
        return msgspec.json.decode(output([str(path), *arguments]), type=list[Row])
    except msgspec.MsgspecError as error:
        raise FailedError(f"its output was not understood: {error}") from error


def output(arguments: Sequence[str]) -> str:
    """What a script prints; its standard error goes to ours."""
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(  # noqa: S603 -- the scripts beside this one
            [sys.executable, *arguments], stdout=out, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        last = ""
        assert process.stderr is not None
        for line in process.stderr:
            last = line.strip() or last
            sys.stderr.write(line)
        if process.wait():
            raise FailedError(f"{Path(arguments[0]).name} failed: {last}")
        out.seek(0)
        return out.read()


# --- the table ---------------------------------------------------------------------------------


def machine(began: float, load: float) -> str:
    """Where the figures come from, in a line or two."""
    name = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        found = re.search(r"^model name\s*: (.+)$", described.read_text(), re.MULTILINE)
        name = found[1] if found else name
    versions = [f"SQLite {apsw.sqlitelibversion()}", *_installed(PEERS)]
    cores = os.cpu_count() or 1
    busy = f" The machine was busy (load {load:.1f}): run it again." if load > BUSY * cores else ""
    return (
        f"{name}, {cores} cores, {platform.system()}, CPython {platform.python_version()};"
        f" {', '.join(versions)}. Took {(time.monotonic() - began) / 60:.0f} minutes.{busy}"
    )


def _installed(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue


def table(rows: Sequence[Row], *, padded: bool) -> str:
    """Markdown; padded, it reads well on a terminal too."""
    head = ("id", "what", "goal", "ours", "")
    lines = [
        tuple(
            _typeset(text)
            for text in (
                row.id,
                row.what,
                row.goal,
                row.figure or row.note,
                verdict(row.met),
            )
        )
        for row in rows
    ]
    widths = [max(map(len, column)) if padded else 0 for column in zip(head, *lines, strict=True)]

    def written(line: Sequence[str]) -> str:
        return "| " + " | ".join(map(str.ljust, line, widths)) + " |"

    rule = "|" + "|".join("-" * (width + 2 if padded else 3) for width in widths) + "|"
    return "\n".join([written(head), rule, *map(written, lines)])


def _typeset(text: str) -> str:
    """A cell: multiples with their sign, and no bar that would end it."""
    return re.sub(r"(?<=\d) x(?=[ ,;]|$)", " \N{MULTIPLICATION SIGN}", text).replace("|", "\\|")


def tally(rows: Sequence[Row]) -> str:
    counts = [sum(row.met is met for row in rows) for met in (True, False, None)]
    return "{} met, {} missed, {} not measured.".format(*counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="ids, with commas between them")
    parser.add_argument("--quick", action="store_true", help="smaller, to see that all works")
    parser.add_argument("--markdown", action="store_true", help="the table alone, to be pasted")
    parser.add_argument("--json", action="store_true", help="the rows as JSON")
    parser.add_argument("--traces", type=Path, help="the folder of the recorded traces")
    given = parser.parse_args()
    known = [each for script in SCRIPTS for each in script.ids]
    only = frozenset(given.only.upper().split(",") if given.only else known)
    if only - set(known):
        parser.error(f"no figure {', '.join(sorted(only - set(known)))}")
    traces = given.traces or next((path for path in TRACES if path.is_dir()), None)
    began, load = time.monotonic(), os.getloadavg()[0]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="querycache-report-") as folder:
        asked = Asked(only, given.quick, traces, Path(folder))
        chosen = [script for script in SCRIPTS if only.intersection(script.ids)]
        for place, script in enumerate(chosen, 1):
            say(f"[{place}/{len(chosen)}] {', '.join(script.ids)}: {script.file}")
            rows += figures(script, asked)
    rows.sort(key=lambda row: int(row.id[1:]))
    if given.json:
        print(msgspec.json.encode(rows).decode())
        return
    print(table(rows, padded=not given.markdown))
    print(f"\n{tally(rows)} {machine(began, load)}")
    if not given.markdown:
        notes = [f"{row.id} {row.what}: {row.note}" for row in rows if row.note and row.figure]
        print("\n" + "\n".join(notes))


if __name__ == "__main__":
    main()
