"""Warming: what it loads, what it skips, what stops it, and that it goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.usecases.app_kit import app_at, make_project

from querycache.assembly import App
from querycache.errors import EmbedderError, ProjectNotFoundError, UsageError
from querycache.origins.embedder_local import LocalEmbedder
from querycache.ports.origins import Question, Role
from querycache.ports.tiers import L1Info
from querycache.testing import FakeClock
from querycache.usecases.warm_up import Tell, Tier, Wanted, Warmed, WarmUp, questions

if TYPE_CHECKING:
    from querycache.ports.origins import Vectors

pytestmark = pytest.mark.asyncio


class Memory:
    """As much of L1 as warming looks at."""

    def __init__(self) -> None:
        self.bytes = 1000

    def info(self) -> L1Info:
        return L1Info(0, 0, self.bytes, 0, 0, 0, "")


class Stage:
    """Entries that load when they are let, over a memory and a clock that the test moves."""

    def __init__(self) -> None:
        self.memory: Any = Memory()
        self.clock = FakeClock()
        self.begun: list[str] = []
        self.running = self.most = 0
        self.gate = asyncio.Event()
        self.told: list[tuple[int, int, str]] = []

    def wanted(self, names: str, tier: Tier = "none") -> list[Wanted]:
        async def load(name: str) -> Tier:
            self.begun.append(name)
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self.gate.wait()
            finally:
                self.running -= 1
            return tier

        return [Wanted(name, lambda name=name: load(name)) for name in names]

    def run(
        self,
        wanted: Sequence[Wanted],
        catch_up: Callable[[Tell], Awaitable[None]] | None = None,
        **options: Any,  # noqa: ANN401 -- those of the use case
    ) -> asyncio.Future[Warmed]:
        async def nothing(_: Tell) -> None:
            return

        def tell(done: int, total: int, what: str) -> None:
            self.told.append((done, total, what))

        warm_up = WarmUp(self.memory, self.clock)
        return asyncio.ensure_future(
            warm_up(wanted, catch_up or nothing, progress=tell, **options)
        )

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():  # noqa: ASYNC110 -- what it waits for has no event
                await asyncio.sleep(0)


async def test_entries_load_in_order_a_few_at_a_time() -> None:
    stage = Stage()
    run = stage.run(stage.wanted("abcdefgh"))
    await stage.until(lambda: len(stage.begun) == 4)
    assert not stage.told
    stage.gate.set()
    done = await run
    assert (done.loaded, done.skipped, done.failed, done.left, done.stopped) == (8, 0, 0, 0, "")
    assert (stage.begun, stage.most) == (list("abcdefgh"), 4)
    assert [now[:2] for now in stage.told] == [(place, 8) for place in range(1, 9)]


@pytest.mark.parametrize("budget", ["time", "bytes"])
@pytest.mark.parametrize("indexing", [False, True])
async def test_a_spent_budget_stops_what_is_under_way(budget: str, *, indexing: bool) -> None:
    stage = Stage()
    ended: list[str] = []

    async def forever(tell: Tell) -> None:
        tell(3, 9, "a.py")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("catch up")

    run = stage.run(
        stage.wanted("abcdef"),
        forever if indexing else None,
        budget_s=30.0,
        budget_bytes=500.0,
    )
    await stage.until(lambda: bool(stage.told) if indexing else len(stage.begun) == 4)
    if budget == "time":
        stage.clock.now += 30.0
    else:
        stage.memory.bytes += 500
    done = await run
    assert (done.stopped, done.left, done.loaded, done.failed) == (budget, 6, 0, 0)
    assert stage.running == 0
    assert ended == (["catch up"] if indexing else [])
    assert done.indexed == (3 if indexing else 0)


async def test_a_budget_that_was_never_there_begins_nothing() -> None:
    for budget_s, budget_bytes in ((0.0, 1e9), (30.0, 0.0)):
        stage = Stage()
        wanted = stage.wanted("ab")
        done = await stage.run(wanted, budget_s=budget_s, budget_bytes=budget_bytes)
        assert (done.left, stage.begun, bool(done.stopped)) == (2, [], True)


async def test_who_leaves_ends_all_of_it() -> None:
    stage = Stage()
    run = stage.run(stage.wanted("abcdef"))
    await stage.until(lambda: stage.running == 4)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (stage.running, len(stage.begun)) == (0, 4)


async def test_what_counts_as_warm_depends_on_where_it_is_wanted() -> None:
    for lasting, counts in ((False, (1, 0)), (True, (0, 1))):
        stage = Stage()
        stage.gate.set()
        done = await stage.run(stage.wanted("a", "l2"), lasting=lasting)
        assert (done.loaded, done.skipped) == counts
        done = await stage.run(stage.wanted("a", "l1"), lasting=lasting)
        assert (done.loaded, done.skipped) == (0, 1)


async def test_failures_are_counted_with_their_reasons() -> None:
    async def fail() -> Tier:
        raise EmbedderError("no model")

    async def crash() -> Tier:
        raise ZeroDivisionError

    async def refuse(_: Tell) -> None:
        raise OSError("no such folder")

    stage = Stage()
    stage.gate.set()
    bad = [Wanted("x", fail), Wanted("y", fail)]
    done = await stage.run([*bad, *stage.wanted("a")], refuse)
    assert (done.loaded, done.failed, done.left) == (1, 3, 0)
    assert done.reasons == {"OSError: no such folder": 1, "EmbedderError: no model": 2}
    with pytest.raises(ExceptionGroup):
        await stage.run([Wanted("z", crash)])


async def test_questions_are_lines_of_text_or_of_json() -> None:
    lines = ["  where is tax ", "", '{"query": " tax ", "limit": 3, "mode": "keyword"}']
    assert questions(lines) == [
        Question("where is tax", None),
        Question("tax", None, "keyword", 3),
    ]
    for bad in ('{"query": "a", "limit": 0}', '{"limit": 3}', '{"query": "a", "k": 1}', "{"):
        with pytest.raises(UsageError, match="line 2"):
            questions(["fine", bad])


# --- in an App ---------------------------------------------------------------------------------


class Counting(LocalEmbedder):
    """Notes the texts that reach the model."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[tuple[Role, str]] = []

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        self.texts.extend((role, text) for text in texts)
        return await super().embed(texts, role)

    @property
    def asked(self) -> list[str]:
        return [text for role, text in self.texts if role == "query"]


class Told:
    """Takes progress."""

    def __init__(self) -> None:
        self.all: list[tuple[int, int, str]] = []

    def __call__(self, done: int, total: int, what: str) -> None:
        self.all.append((done, total, what))


async def cut_off(app: App, asked: Sequence[str], end: Callable[[int, str], bool]) -> None:
    """Warms until `end(done, what)`, and leaves there as Ctrl-C does."""

    def tell(done: int, _total: int, what: str) -> None:
        if end(done, what):
            run.cancel()

    run = asyncio.ensure_future(app.warm("sample", asked, lasting=True, progress=tell))
    with pytest.raises(asyncio.CancelledError):
        await run


def counting(app: App) -> Counting:
    app.embedder = model = Counting()
    return model


async def test_what_was_asked_is_warm_in_every_process_after(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    home = tmp_path / "home"
    async with app_at(home) as app:
        await app.index(str(project))
        for query in ("greet", "greet", "server"):
            await app.search(query, "sample")
        await app.search(" milk ", "sample", mode="keyword", limit=3, language="Text")
        await app.invalidate.project("sample")
    async with app_at(home) as command:
        done = await command.warm("sample", lasting=True)
        assert (done.loaded, done.skipped, done.failed) == (4, 0, 0)
        again = await command.warm("sample", lasting=True)
        assert (again.loaded, again.skipped, again.bytes) == (0, 4, 0)
    async with app_at(home) as command:
        again = await command.warm("sample", lasting=True)
        assert (again.loaded, again.skipped) == (0, 4)
    async with app_at(home) as server:
        told = Told()
        warmed = await server.warm("sample", progress=told)
        assert (warmed.loaded, warmed.skipped, warmed.bytes > 0) == (4, 0, True)
        assert [now[:2] for now in told.all] == [(place, 4) for place in range(1, 5)]
        found = await server.search("milk", "sample", mode="keyword", limit=3, language="text")
        assert found.cache.tier == "l1"
        assert (await server.search("greet", "sample")).cache.tier == "l1"
        await server.list_projects()
        assert server.status.snapshot().kinds["project"].misses == 0


async def test_changed_chunks_are_embedded_before_what_is_asked(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        (project / "app" / "tax.py").write_text("def added_tax(sum):\n    return sum * 0.19\n")
    async with app_at(tmp_path / "home") as app:
        model = counting(app)
        told = Told()
        done = await app.warm("sample", ["tax"], progress=told)
        assert [role for role, _ in model.texts] == ["document", "query"]
        assert (done.loaded, done.indexed) == (2, 1)
        assert (1, 3, "app/tax.py") in told.all
        assert told.all[-1][:2] == (3, 3)
        found = await app.search("tax", "sample")
        assert (found.cache.tier, found.results[0].path) == ("l1", "app/tax.py")


async def test_a_warm_question_keeps_its_embedding_warm(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        model = counting(app)
        await app.index(str(project))
        await app.search("greet", "sample")
        await app.invalidate.tag("kind:embedding")
        await app.warm("sample")
        assert model.asked == ["greet"] * 2
        (project / "notes.txt").write_text("buy bread\n")
        await app.bring_up("sample", str(project), None)
        found = await app.search("greet", "sample")
        assert (found.cache.tier, model.asked) == ("none", ["greet"] * 2)


async def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    files = {f"part{n}/file{m}.txt": f"text {n} {m}\n" for n in range(10) for m in range(20)}
    project = make_project(tmp_path / "sample")
    home = tmp_path / "home"
    asked = [f"question {number}" for number in range(20)]
    async with app_at(home) as app:
        await app.index(str(project))
    make_project(project, files)
    texts: list[tuple[Role, str]] = []
    ends: list[Callable[[int, str], bool]] = [
        lambda done, what: what.startswith("part") and done >= 64,
        lambda _, what: what == "question 7",
    ]
    for end in ends:
        async with app_at(home) as app:
            model = counting(app)
            await cut_off(app, asked, end)
            texts += model.texts
    async with app_at(home) as app:
        model = counting(app)
        done = await app.warm("sample", asked, lasting=True)
        texts += model.texts
        assert (done.skipped >= 8, done.loaded + done.skipped, done.indexed) == (True, 21, 0)
        again = await app.warm("sample", asked, lasting=True)
        assert (again.loaded, again.skipped, model.texts) == (0, 21, model.texts)
    lost = 64  # a batch of files that was embedded and not yet stored
    assert len(set(texts)) == len(files) + len(asked)
    assert len(texts) <= len(set(texts)) + lost


async def test_without_a_query_log_nothing_is_kept_or_used(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    home = tmp_path / "home"
    async with app_at(home, CACHE_QUERY_LOG_ENABLED="false") as app:
        await app.index(str(project))
        await app.search("greet", "sample")
        assert not (home / "queries").exists()
    async with app_at(home) as app:
        await app.search("greet", "sample")
        assert app.query_log.popular("sample") == [Question("greet", None)]
    async with app_at(home, CACHE_QUERY_LOG_ENABLED="false") as app:
        assert app.query_log.popular("sample") == []
        done = await app.warm("sample")
        assert done.loaded + done.skipped == 1


async def test_what_can_not_be_warmed_is_told(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        with pytest.raises(ProjectNotFoundError):
            await app.warm("sample")
        await app.index(str(project))
        with pytest.raises(ProjectNotFoundError, match="no project 'other'"):
            await app.warm("other")
        done = await app.warm("sample", ["greet", " ", "greet"])
        assert (done.loaded, done.failed) == (2, 1)
        assert done.reasons == {"UsageError: the query is empty": 1}


async def test_a_model_that_is_gone_costs_the_new_questions_alone(tmp_path: Path) -> None:
    class Gone(LocalEmbedder):
        async def start(self) -> None:
            raise EmbedderError("the model is gone")

    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        await app.search("greet", "sample")
    async with app_at(tmp_path / "home") as app:
        app.embedder = Gone()
        done = await app.warm("sample", ["greet", "new"])
        assert (done.loaded, done.failed) == (2, 2)
        assert done.reasons == {"EmbedderError: the model is gone": 2}
