"""F11 and F12: what indexing costs: texts sent to the model on a re-index, time, memory.

    python bench/indexing.py [--quick] [--json]

F11: a git repository is indexed, then again after nothing, one edit and a switch of branches; the
model counts the texts that reach it, the parser says which are new. F12: 2,000 files are indexed
by a process of its own, in turn with one that only parses and embeds them and one that indexes
half of them; their resident memory, parser included, is watched from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import kit
import msgspec
import psutil

from querycache.assembly import App
from querycache.origins.embedder_local import LocalEmbedder
from querycache.ports.origins import Role
from querycache.usecases.chunk_text import embedded_text

if TYPE_CHECKING:
    from querycache.ports.origins import Vectors

FILES, QUICK_FILES = 2_040, 300  # a few of them are generated, and so no part of a project
GIT_FILES, QUICK_GIT_FILES = 400, 100
MOST_OF_CONTROL, MOST_MB, MOST_OF_LINEAR, MOST_OF_REOPENING = 2.0, 1024.0, 1.15, 1 / 20
AT_ONCE = 64  # files
WATCH_S = 0.1


class Spent(msgspec.Struct, frozen=True):
    """What a process did. Seconds; `search_s` is its first question, `cpu_s` all that it and its
    children computed.
    """

    files: int
    chunks: int
    seconds: float
    search_s: float = 0.0
    cpu_s: float = 0.0


# --- F11 ---------------------------------------------------------------------------------------


class Counting(LocalEmbedder):
    """The default model, which counts the texts that reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        self.sent += len(texts)
        return await super().embed(texts, role)


def git(root: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    subprocess.run(["git", *settings, *arguments], cwd=root, check=True, capture_output=True)  # noqa: S603, S607 -- git


def edit(path: Path, name: str) -> None:
    """Adds a statement to the first function of a file, or a function to one without."""
    lines = path.read_text("utf-8", "replace").splitlines(keepends=True)
    for place, line in enumerate(lines):
        if line.lstrip().startswith("def ") and line.rstrip().endswith("):"):
            indent = " " * (len(line) - len(line.lstrip()) + 4)
            lines.insert(place + 1, f"{indent}{name} = {name!r}\n")
            break
    else:
        lines.append(f"\n\ndef {name}():\n    return {name!r}\n")
    path.write_text("".join(lines), "utf-8")


async def texts_of(app: App, root: Path, paths: Iterable[Path]) -> set[str]:
    """What would be embedded of these files, as the parser cuts them."""
    found: set[str] = set()
    for path in paths:
        relative = path.relative_to(root).as_posix()
        parsed = await app.parser.parse(relative, path.read_bytes())
        found |= {embedded_text(relative, chunk, parsed.language) for chunk in parsed.chunks}
    return found


async def sent_texts(options: kit.Options) -> list[kit.Row]:
    count = QUICK_GIT_FILES if options.quick else GIT_FILES
    root, home = Path.cwd() / "repository", Path.cwd() / "home11"
    kit.copy_project(kit.sources(count), root)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-qm", "main")
    git(root, "checkout", "-qb", "other")
    async with kit.app_at(home) as app:
        listed = app.files_of(str(root)).list()  # without the few that are generated
        files = [root / stat.path for stat in listed.files]
        changed = files[:: len(files) // (len(files) // 20)]
        counting = Counting()
        app.embedder = counting
        before = await texts_of(app, root, files)
        for path in changed:
            edit(path, "branched")
        branched = await texts_of(app, root, changed) - before
        git(root, "commit", "-qam", "other")
        git(root, "checkout", "-q", "main")

        async def again() -> int:
            earlier = counting.sent
            await app.index(str(root))
            return counting.sent - earlier

        first = await again()
        assert first == len(before), f"{first} texts sent, of {len(before)}"
        unchanged = await again()
        one = files[len(files) // 2]
        edit(one, "edited")
        wanted = len(await texts_of(app, root, [one]) - before)
        edited = await again()
        git(root, "checkout", "-q", "--", ".")
        back = await again()
        git(root, "checkout", "-q", "other")
        other = await again()
        git(root, "checkout", "-q", "main")
        returned = await again()
    share = f"{len(changed)} of {len(files)} files changed"
    return [
        kit.Row(
            "F11",
            "texts sent to the model on a re-index: unchanged project",
            "0",
            f"{unchanged}",
            unchanged == 0,
            f"{first} at first; {back} when the edit was taken back, {returned} back on main",
        ),
        kit.Row(
            "F11",
            "one file edited",
            f"{wanted}: only its changed chunks",
            f"{edited}",
            edited == wanted,
        ),
        kit.Row(
            "F11",
            f"other branch, {share}",
            f"{len(branched)}: only their changed chunks",
            f"{other}",
            other == len(branched),
        ),
    ]


# --- F12 ---------------------------------------------------------------------------------------


async def index(root: Path, home: Path) -> Spent:
    async with kit.app_at(home) as app:
        await app.model()
        began = time.perf_counter()
        done = await app.index(str(root))
        return Spent(done.files, done.chunks, time.perf_counter() - began)


async def reopen(root: Path, home: Path) -> Spent:
    """Indexes what is indexed already; then asks a question."""
    async with kit.app_at(home) as app:
        await app.model()
        began = time.perf_counter()
        done = await app.index(str(root))
        took = time.perf_counter() - began
        assert done.files_changed == 0
        began = time.perf_counter()
        await app.search("where are settings read", done.project)
        return Spent(done.files, done.chunks, took, time.perf_counter() - began)


async def control(root: Path, home: Path) -> Spent:
    """Parses and embeds, nothing else: texts in batches of the cache's own size, each once."""
    async with kit.app_at(home) as app:
        await app.model()
        files = app.files_of(str(root)).list().files
        data = {file.path: (root / file.path).read_bytes() for file in files}
        paths = list(data)
        began = time.perf_counter()
        texts: dict[str, None] = {}
        chunks = 0
        for start in range(0, len(paths), AT_ONCE):
            part = paths[start : start + AT_ONCE]
            cut = await asyncio.gather(*(app.parser.parse(path, data[path]) for path in part))
            for path, parsed in zip(part, cut, strict=True):
                chunks += len(parsed.chunks)
                for chunk in parsed.chunks:
                    texts[embedded_text(path, chunk, parsed.language)] = None
        unique = list(texts)
        for start in range(0, len(unique), app.config.core.batch_size):
            await app.embedder.embed(
                unique[start : start + app.config.core.batch_size], "document"
            )
        return Spent(len(paths), chunks, time.perf_counter() - began)


WORK: dict[str, Callable[[Path, Path], Awaitable[Spent]]] = {
    "index": index,
    "reopen": reopen,
    "control": control,
}


async def work(what: str, root: Path, home: Path) -> None:
    spent = await WORK[what](root, home)
    cpu_s = sum(os.times()[:4])
    print(msgspec.json.encode(msgspec.structs.replace(spent, cpu_s=cpu_s)).decode())


def resident(process: psutil.Process) -> int:
    """Bytes; 0 once it has ended."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def worked(what: str, root: Path, home: Path) -> tuple[Spent, float]:
    """What a process of its own did, and the most MB that it and its children held at a time."""
    command = [sys.executable, str(Path(__file__).resolve()), "--work", what, str(root), str(home)]
    most = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 -- this file
        assert process.stdout is not None
        watched = psutil.Process(process.pid)
        tree = [watched]
        for look in itertools.count():
            if process.poll() is not None:
                break
            if look % 10 == 0:
                with contextlib.suppress(psutil.Error):
                    tree = [watched, *watched.children(recursive=True)]
            most = max(most, sum(map(resident, tree)))
            time.sleep(WATCH_S)
        out = process.stdout.read()
    assert process.returncode == 0, f"{what} failed"
    return msgspec.json.decode(out, type=Spent), most / 1e6


class Measured(msgspec.Struct):
    """Every round's figures, in order."""

    control: list[float] = []
    index: list[float] = []
    half: list[float] = []
    reopen: list[float] = []
    search: list[float] = []
    mb: list[float] = []
    cpu: list[float] = []


def rounds_of(root: Path, half: Path, count: int) -> tuple[Measured, Spent]:
    found = Measured()
    project = Spent(0, 0, 0)
    for number in range(count):
        home = Path.cwd() / f"home12-{number}"
        baseline, _ = worked("control", root, home)
        project, mb = worked("index", root, home)
        again, _ = worked("reopen", root, home)
        smaller, _ = worked("index", half, home / "half")
        assert baseline.chunks == project.chunks == again.chunks
        found.control.append(baseline.seconds)
        found.index.append(project.seconds)
        found.half.append(smaller.seconds * project.chunks / smaller.chunks)
        found.reopen.append(again.seconds)
        found.search.append(again.search_s)
        found.mb.append(mb)
        found.cpu.append(project.cpu_s / baseline.cpu_s)
        shutil.rmtree(home)
        kit.say(
            f"F12: round {number + 1} of {count}: index {project.seconds:.1f} s,"
            f" control {baseline.seconds:.1f} s, reopen {again.seconds:.2f} s, {mb:.0f} MB"
        )
    return found, project


async def times(options: kit.Options) -> list[kit.Row]:
    root, half = Path.cwd() / "project", Path.cwd() / "half"
    files = kit.sources(QUICK_FILES if options.quick else FILES)
    size = kit.copy_project(files, root)
    kit.copy_project(files[::2], half)
    count = 3 if options.quick else kit.QUICK_ROUNDS
    found, project = await asyncio.to_thread(rounds_of, root, half, count)
    whole, linear = kit.ratio(found.index, found.control), kit.ratio(found.index, found.half)
    reopening = kit.ratio(found.reopen, found.index)
    first = kit.ratio(found.search, found.index)
    about = f"{project.files} files, {project.chunks} chunks, {size / 1e6:.1f} MB"
    seconds = f"{median(found.index):.1f} s, the control {median(found.control):.1f} s"
    return [
        kit.Row(
            "F12",
            f"indexing {about}; control = parsing plus embedding alone",
            f"≤ {MOST_OF_CONTROL:.0f} x",
            f"{whole:.2f} x",
            whole <= MOST_OF_CONTROL,
            f"{seconds}; of CPU time {median(found.cpu):.2f} x; {count} rounds",
        ),
        kit.Row(
            "F12",
            "peak resident memory, parser's process included",
            "≤ 1 GB",
            f"{max(found.mb):.0f} MB",
            max(found.mb) <= MOST_MB,
        ),
        kit.Row(
            "F12",
            "linear: time a chunk, beside the half of the files",
            f"≤ {MOST_OF_LINEAR} x",
            f"{linear:.2f} x",
            linear <= MOST_OF_LINEAR,
        ),
        kit.Row(
            "F12",
            "reopening in a new process, beside indexing: nothing changed · first question",
            "≤ 1/20",
            f"1/{1 / reopening:.0f} · 1/{1 / first:.0f}",
            max(reopening, first) <= MOST_OF_REOPENING,
            f"{1e3 * median(found.reopen):.0f} ms, {1e3 * median(found.search):.0f} ms",
        ),
    ]


async def measure(options: kit.Options) -> Sequence[kit.Row]:
    return [*await sent_texts(options), *await times(options)]


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        asyncio.run(work(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
        return
    kit.run(__doc__, measure)


if __name__ == "__main__":
    main()
