"""F13: a working day replayed, beside the same day without the cache.

    python bench/working_day.py [--quick] [--json] [--seed N]

A project (this repository's sources and tests) is indexed the evening before, and the cache is
empty in the morning. The day has 2,000 questions: draws from 200 by Zipf's law, exponent 1; 100
edits of functions fall between them, anywhere; the process starts anew three times. The clock
moves on 14 s with each step, so that entries age as they would in eight hours. The project counts
as watched, as it is under `serve` or in an editor: an edited file is indexed before the next step.

Three live the day in step, each with an index of its own: with the cache; with the cache and,
after each edit, a warm-up of the 50 questions that were asked most; and the control, with the
cache switched off, where each question is embedded and ranked. All settings are the defaults. An
answer is stale if it differs from the control's, or shows a line that is not in its file as it is
then.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import kit

from querycache.assembly import App
from querycache.clock import SystemClock
from querycache.config import load_config
from querycache.origins.embedder_local import LocalEmbedder
from querycache.ports.origins import Hit, Role

if TYPE_CHECKING:
    from querycache.ports.origins import Vectors

QUESTIONS, EDITS, DISTINCT, PROCESSES = 2_000, 100, 200, 4
QUICK = 10  # times smaller
WARMED = 50
STEP_S = 14.0
LEAST_SPARED, LEAST_HITS = 0.9, 0.8
CHARACTERS_A_TOKEN = 4
SEED = 13
PROJECT = "day"
SOURCES = Path(__file__).resolve().parent.parent
FORMS = ("where is {}", "{}", "how does {} work", "who calls {}", "tests of {}")


class Counting(LocalEmbedder):
    """The default model, which counts what reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.texts = self.calls = self.characters = 0

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        self.texts += len(texts)
        self.calls += 1
        self.characters += sum(map(len, texts))
        return await super().embed(texts, role)


class DayClock(SystemClock):
    """The machine's clock, ahead by what the day has skipped."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def wall(self) -> float:
        return time.time() + self.ahead


class Step(NamedTuple):
    """A question, or (where there is none) an edit of the function on that line of a file."""

    question: str = ""
    file: Path = Path()
    line: int = 0


class Arm:
    """One of the days: its App, its model, and what it has spent."""

    def __init__(
        self, home: Path, clock: DayClock, *, warms: bool = False, **variables: str
    ) -> None:
        self.home = home
        self.model = Counting()
        self.seconds: list[float] = []
        self.hits = self.reads = self.read_hits = 0
        self.warming_s = 0.0
        self.chunks = 0
        self._clock = clock
        self._warms = warms
        self._variables = variables

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[App]:
        self.home.mkdir(exist_ok=True)
        environ = {"QUERYCACHE_HOME": str(self.home), "HOME": str(self.home), **self._variables}
        app = App(load_config(environ, cwd=self.home).config, door="bench", clock=self._clock)
        app.embedder = self.model
        watch = app.indexes.try_lock(PROJECT, "watch")
        assert watch is not None
        try:
            yield app
        finally:
            watch.release()
            for kind in app.status.snapshot().kinds.values():
                self.read_hits += kind.l1_hits + kind.l2_hits
                self.reads += kind.l1_hits + kind.l2_hits + kind.misses
            await app.close()

    async def begin(self, root: Path) -> None:
        """Indexes the project, and empties the cache and the counts."""
        async with self.running() as app:
            self.chunks = (await app.index(str(root), PROJECT)).chunks
            await app.clear()
        self.model.texts = self.model.calls = self.model.characters = 0
        self.reads = self.read_hits = 0

    async def ask(self, app: App, question: str) -> Sequence[Hit]:
        began = time.perf_counter()
        found = await app.search(question, PROJECT)
        self.seconds.append(time.perf_counter() - began)
        self.hits += found.cache.hit
        assert not found.left_out, found.left_out
        return found.results

    async def edited(self, app: App, root: Path, path: str) -> None:
        await app.bring_up(PROJECT, str(root), [path])
        if self._warms:
            began = time.perf_counter()
            await app.warm(PROJECT, app.query_log.popular(PROJECT, WARMED))
            self.warming_s += time.perf_counter() - began


class Arms(NamedTuple):
    """Those that live the day."""

    cached: Arm
    warmed: Arm
    control: Arm


# --- the day -----------------------------------------------------------------------------------


def functions_of(root: Path) -> list[tuple[Path, int, str]]:
    """File, line and name of each function, in a fixed order."""
    return [
        (path, number, match[1])
        for path in sorted(root.rglob("*.py"))
        for number, line in enumerate(path.read_text("utf-8").splitlines())
        if (match := re.match(r"\s*(?:async )?def (\w+)\(.*\).*:$", line))
    ]


def day_of(root: Path, seed: int, questions: int, edits: int) -> list[Step]:
    """The same steps for the same sources and seed."""
    draw = random.Random(seed)  # noqa: S311 -- no secret
    functions = functions_of(root)
    names = sorted({name.strip("_").replace("_", " ") for _, _, name in functions})
    chosen = draw.sample(names, min(DISTINCT, len(names)))
    asked = [draw.choice(FORMS).format(name) for name in chosen]
    weights = list(accumulate(1 / rank for rank in range(1, len(asked) + 1)))
    steps = [Step(one) for one in draw.choices(asked, cum_weights=weights, k=questions)]
    for _ in range(edits):
        path, line, _ = draw.choice(functions)
        steps.insert(draw.randrange(len(steps)), Step(file=path, line=line))
    return steps


def edit(path: Path, line: int, number: int) -> None:
    """Adds a statement to the first function at or after a line."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    for place in range(line, len(lines)):
        match = re.match(r"(\s*)(?:async )?def \w+\(.*\).*:$", lines[place].rstrip())
        if match:
            lines.insert(place + 1, f"{match[1]}    step_{number} = {number}\n")
            break
    path.write_text("".join(lines), "utf-8")


def is_true(root: Path, hit: Hit) -> bool:
    """Whether a hit shows what is in its file now."""
    path = root / hit.path
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    shown = "\n".join(lines[hit.start_line - 1 : hit.end_line])
    return bool(shown) and hit.text.strip() in shown


async def lived(
    root: Path, steps: Sequence[Step], arms: Sequence[Arm], clock: DayClock
) -> tuple[int, int]:
    """The day, by all arms in step, the control last; how many answers of the others were stale,
    and how many chunks the edited files had.
    """
    stale = whole = 0
    session = -(-len(steps) // PROCESSES)
    for start in range(0, len(steps), session):
        async with AsyncExitStack() as stack:
            apps = [await stack.enter_async_context(arm.running()) for arm in arms]
            turns = list(zip(arms, apps, strict=True))
            for number, step in enumerate(steps[start : start + session], start):
                clock.ahead += STEP_S
                if step.question:
                    places = [(number + place) % len(arms) for place in range(len(arms))]
                    answers = {
                        at: await turns[at][0].ask(turns[at][1], step.question) for at in places
                    }
                    control = answers.pop(len(arms) - 1)
                    true = all(is_true(root, hit) for hit in control)
                    stale += sum(answer != control or not true for answer in answers.values())
                    continue
                edit(step.file, step.line, number)
                path = step.file.relative_to(root).as_posix()
                whole += len((await apps[0].parser.parse(path, step.file.read_bytes())).chunks)
                for arm, app in turns:
                    await arm.edited(app, root, path)
        kit.say(f"F13: {min(start + session, len(steps))} of {len(steps)} steps, {stale} stale")
    return stale, whole


async def measure(options: kit.Options, seed: int) -> Sequence[kit.Row]:
    part = QUICK if options.quick else 1
    root, clock = Path.cwd() / "project", DayClock()
    for folder in ("src", "tests"):
        skipped = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(SOURCES / folder, root / folder, ignore=skipped)
    steps = day_of(root, seed, QUESTIONS // part, EDITS // part)
    arms = Arms(
        Arm(Path.cwd() / "cached", clock),
        Arm(Path.cwd() / "warmed", clock, warms=True),
        Arm(Path.cwd() / "control", clock, CACHE_ENABLED="false"),
    )
    for arm in arms:
        await arm.begin(root)
    stale, whole = await lived(root, steps, arms, clock)
    return rows(arms, stale, whole, len(steps))


def rows(arms: Arms, stale: int, whole: int, steps: int) -> list[kit.Row]:
    cached, warmed, control = arms
    ours, theirs = cached.model, control.model
    asked = len(cached.seconds)
    spared = 1 - ours.texts / theirs.texts
    forgetful = 1 - ours.texts / (asked + whole)
    tokens = (theirs.characters - ours.characters) / CHARACTERS_A_TOKEN
    rate, warm_rate = cached.read_hits / cached.reads, warmed.hits / asked
    times = [
        f"{who} {sum(arm.seconds):.1f} s, median {1e3 * median(arm.seconds):.2f} ms"
        for who, arm in zip(("cached", "warmed", "without the cache"), arms, strict=True)
    ]
    return [
        kit.Row(
            "F13",
            f"a day of {asked:,} questions and {steps - asked} edits ({cached.chunks:,} chunks):"
            " texts embedded, beside the same day without the cache",
            f"-{LEAST_SPARED:.0%}",
            f"-{spared:.1%}",
            spared >= LEAST_SPARED,
            f"{ours.texts:,} texts in {ours.calls:,} calls, without the cache {theirs.texts:,} in"
            f" {theirs.calls:,}: about {tokens:,.0f} tokens saved ({CHARACTERS_A_TOKEN} characters"
            " each). The control's index knows the vectors of unchanged chunks; beside one that"
            f" embeds an edited file whole, -{forgetful:.1%}",
        ),
        kit.Row(
            "F13",
            "hit rate of that day, all reads of the cache",
            f"≥ {LEAST_HITS:.0%}",
            f"{rate:.1%}",
            rate >= LEAST_HITS,
            f"answers that came whole from the cache: {cached.hits / asked:.1%}; an edit makes"
            " every ranking unreachable, since it may have changed any of them",
        ),
        kit.Row(
            "F13",
            f"answers that came whole from the cache, with a warm-up of {WARMED} questions after"
            " each edit",
            f"≥ {LEAST_HITS:.0%}",
            f"{warm_rate:.1%}",
            warm_rate >= LEAST_HITS,
            f"warming took {warmed.warming_s:.0f} s of the day; {warmed.model.texts:,} texts"
            " embedded",
        ),
        kit.Row(
            "F13",
            "stale answers of both",
            "0",
            f"{stale} of {2 * asked:,}",
            stale == 0,
            f"time in searches: {'; '.join(times)} (the model is local: some 40 us a text)",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--seed", type=int, default=SEED)
    given, rest = parser.parse_known_args()
    sys.argv[1:] = rest

    async def with_seed(options: kit.Options) -> Sequence[kit.Row]:
        return await measure(options, given.seed)

    kit.run(__doc__, with_seed)


if __name__ == "__main__":
    main()
