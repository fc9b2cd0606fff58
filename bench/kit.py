"""What the benchmarks share: turns, ratios, rows of the table, the command line, a scratch home.

Contestants take turns, and each ratio is the median over the rounds of one round's ratio: what the
machine does meanwhile hits both sides of it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

from querycache.assembly import App
from querycache.config import load_config

_KEPT = ("PATH", "HOME", "USER", "LANG", "LC_", "TMPDIR", "PYTHON", "VIRTUAL_ENV")  # variables
_LAST_PORT = 65_535
ROUNDS = 9
QUICK_ROUNDS = 7

Contestant = Callable[[], Awaitable[object]]
Rounds = Mapping[str, Sequence[float]]
"""Seconds of each round, by contestant."""


class Row(msgspec.Struct, frozen=True):
    """A line of the table. `met` is None where it could not be measured; `note` says why, or how
    the figure came about.
    """

    id: str
    what: str
    goal: str
    figure: str
    met: bool | None
    note: str = ""


class Options(NamedTuple):
    """How a benchmark is asked to run. `shared` is a folder that benchmarks of one report share,
    for what is slow to make; None: make it, and throw it away.
    """

    quick: bool
    shared: Path | None

    @property
    def rounds(self) -> int:
        return QUICK_ROUNDS if self.quick else ROUNDS


def run(doc: str | None, measure: Callable[[Options], Awaitable[Sequence[Row]]]) -> None:
    """The command line of a benchmark: measures, and prints its rows."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("--quick", action="store_true", help="smaller, to see that it works")
    parser.add_argument("--shared", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    rows = asyncio.run(_quietly(measure, Options(given.quick, given.shared)))
    if given.json:
        print(msgspec.json.encode(rows).decode())
        return
    for row in rows:
        print(f"{row.id:4} {verdict(row.met):12} {row.what}: {row.figure}  [goal {row.goal}]")
        if row.note:
            print(f"     {row.note}")


async def _quietly(
    measure: Callable[[Options], Awaitable[Sequence[Row]]], options: Options
) -> Sequence[Row]:
    """Measures where no setting of the caller's reaches: settings are variables, and a .env file
    in the working directory.
    """
    for name in list(os.environ):
        if not name.startswith(_KEPT):
            del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="querycache-bench-") as folder:
        before = Path.cwd()
        os.chdir(folder)
        os.environ["QUERYCACHE_HOME"] = f"{folder}/home"
        try:
            return await measure(options)
        finally:
            os.chdir(before)


def verdict(met: bool | None) -> str:  # noqa: FBT001 -- the thing itself
    return {True: "met", False: "missed", None: "not measured"}[met]


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


# --- time --------------------------------------------------------------------------------------


async def in_turn(contestants: Mapping[str, Contestant], rounds: int) -> Rounds:
    """Each runs once a round, the first one of a round changing; a round before warms up."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(rounds + 1):
        place = number % len(names)
        gc.collect()
        for name in names[place:] + names[:place]:
            began = time.perf_counter()
            await contestants[name]()
            spent = time.perf_counter() - began
            if number:
                taken[name].append(spent)
    return taken


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times as long ours takes: the median of the rounds."""
    return median(our / their for our, their in zip(ours, theirs, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """Of the sorted values the one at `share`."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


# --- where -------------------------------------------------------------------------------------


@contextmanager
def scratch(shared: Path | None = None, name: str = "") -> Generator[Path]:
    """A folder that goes at the end, or one in `shared` that stays for the next benchmark."""
    if shared is not None:
        folder = shared / name
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="querycache-bench-") as made:
        yield Path(made)


@asynccontextmanager
async def app_at(home: Path, **variables: str) -> AsyncGenerator[App]:
    """An App whose home is `home`, with further settings by variable."""
    environ = {"QUERYCACHE_HOME": str(home), "HOME": str(home), **variables}
    app = App(load_config(environ, cwd=home).config, door="bench")
    try:
        yield app
    finally:
        await app.close()


@contextmanager
def redis_at(folder: Path, *options: str) -> Generator[tuple[str, int]]:
    """A redis-server of our own, in memory: the path of its socket, and its port."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise FileNotFoundError(
            "no redis-server on the PATH (Debian: apt-get install redis-server)"
        )
    port = _free_port()
    path = folder / "redis.sock"
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(path)]
    command += ["--save", "", "--appendonly", "no", "--dir", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:  # noqa: S603 -- found above
        try:
            deadline = time.monotonic() + 10
            while not _answers(path):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise TimeoutError(f"{program} did not start on port {port}")
                time.sleep(0.01)
            yield str(path), port
        finally:
            server.kill()


def _free_port() -> int:
    """A port whose cluster bus, 10,000 above it, is one too."""
    while True:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = int(found.getsockname()[1])
        if port < _LAST_PORT - 10_000:
            return port


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        return line.connect_ex(str(path)) == 0


# --- what is indexed ---------------------------------------------------------------------------


def sources(most: int, *, largest: int = 200_000) -> list[Path]:
    """Python files of this machine, of the standard library and of what is installed, in an order
    that mixes small and large, old and new; at most `most`.
    """
    found: list[Path] = []
    for name in ("stdlib", "purelib"):
        folder = Path(sysconfig.get_path(name))
        for path in folder.rglob("*.py"):
            inner = path.relative_to(folder).parts
            if "test" in inner or (name == "stdlib" and "site-packages" in inner):
                continue
            if path.is_symlink() or not 200 <= path.stat().st_size <= largest:  # noqa: PLR2004
                continue
            found.append(path)
    found.sort(key=lambda path: hash_of(path.name + str(path.stat().st_size)))
    return found[:most]


def hash_of(text: str) -> int:
    """The same in every process."""
    number = 0xCBF29CE484222325
    for byte in text.encode():
        number = ((number ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return number


def copy_project(files: Sequence[Path], root: Path) -> int:
    """Copies them under `root`, in folders of some forty; returns the bytes."""
    size = 0
    for place, path in enumerate(files):
        folder = root / f"part{place // 40:03}"
        folder.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes()
        (folder / f"{path.stem}_{place}.py").write_bytes(data)
        size += len(data)
    return size
