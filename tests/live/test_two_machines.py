"""Two machines, each with its own home and checkout, and one shared tier: they share answers where
their indexes hold the same content, and else keep out of each other's way.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from tests.redis_kit import redis_server
from tests.unit.usecases.app_kit import app_at, make_project

from querycache.assembly import App
from querycache.ports.origins import Embedder, Role
from querycache.usecases.search_code import Searched

pytestmark = [pytest.mark.asyncio, pytest.mark.live]

QUESTION = "greet a person"
EDITED = "app/greeting.py"
EDIT = "def greet(name):\n    return f'good bye {name}'\n"


class Counted:
    """A model that counts the texts it embeds."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.texts: list[str] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the model has
        return getattr(self._embedder, name)

    async def embed(self, texts: Sequence[str], role: Role) -> object:
        self.texts += texts
        return await self._embedder.embed(texts, role)


class Machine:
    """A home and a checkout. `process` starts another process there."""

    def __init__(self, stack: AsyncExitStack, folder: Path, settings: Mapping[str, str]) -> None:
        self._stack = stack
        self._home = folder / "home"
        self._settings = settings
        self.checkout = make_project(folder / "sample")

    async def process(self) -> App:
        app = await self._stack.enter_async_context(app_at(self._home, **self._settings))
        app.__dict__["embedder"] = Counted(app.embedder)  # where its cached property keeps it
        return app

    def write(self, text: str, path: str = EDITED) -> None:
        (self.checkout / path).write_text(text)


def embedded(app: App) -> list[str]:
    return cast("Counted", app.embedder).texts


def texts(answer: Searched) -> str:
    return "".join(hit.text for hit in answer.results if hit.path == EDITED)


def paths(answer: Searched) -> set[str]:
    return {hit.path for hit in answer.results}


@pytest_asyncio.fixture(params=["redis", "sqlite"])
async def machines(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncGenerator[tuple[Machine, Machine]]:
    """One shared tier: a Redis, or (the machines are then two homes of one) a folder."""
    async with AsyncExitStack() as stack:
        settings = {"CACHE_L2_DEADLINE_MS": "5000", "CACHE_L2_BACKEND": request.param}
        if request.param == "redis":
            server = await stack.enter_async_context(redis_server())
            settings["REDIS_URL"] = server.url
        else:
            (tmp_path / "shared").mkdir(0o700)
            for name in ("one", "two"):
                (tmp_path / name / "home").mkdir(0o700, parents=True)
                (tmp_path / name / "home" / "l2").symlink_to(tmp_path / "shared")
        one, two = (Machine(stack, tmp_path / name, settings) for name in ("one", "two"))
        yield one, two


Pair = tuple[Machine, Machine]


async def test_the_same_content_is_paid_for_once(machines: Pair) -> None:
    one, two = [await machine.process() for machine in machines]
    first = await one.index(str(machines[0].checkout))
    cold = await one.search(QUESTION, "sample")
    assert (first.embedded, cold.cache.tier) == (first.chunks, "none")
    second = await two.index(str(machines[1].checkout))
    warm = await two.search(QUESTION, "sample")
    assert (second.embedded, second.chunks) == (0, first.chunks)
    assert (warm.cache.tier, warm.cache.hit) == ("l2", True)
    assert warm.results == cold.results
    assert embedded(two) == []
    assert embedded(one)


async def test_each_sees_its_own_files_whoever_edits_and_asks_first(machines: Pair) -> None:
    one, two = [await machine.process() for machine in machines]
    for app, machine in zip((one, two), machines, strict=True):
        await app.index(str(machine.checkout))
    for round_, (ahead, behind) in enumerate([(0, 1), (1, 0), (0, 1), (1, 0)]):
        edit = f"{EDIT}\n# of round {round_}\n"
        old = await (one, two)[behind].search(QUESTION, "sample")
        machines[ahead].write(edit)
        order = (ahead, behind) if round_ < 2 else (behind, ahead)
        for _ in range(2):
            for which in order:
                for app in ((one, two)[which], await machines[which].process()):
                    answer = await app.search(QUESTION, "sample")
                    assert (f"round {round_}" in texts(answer)) == (which == ahead)
                    if which == behind:
                        assert answer.results == old.results
        machines[behind].write(edit)  # pulls
        new = await (one, two)[ahead].search(QUESTION, "sample")
        pulled = await machines[behind].process()
        assert (await pulled.index(str(machines[behind].checkout))).embedded == 0
        shared = await pulled.search(QUESTION, "sample")
        assert shared.results == new.results
        assert shared.cache.tier == "l2"
        assert embedded(pulled) == []


async def test_an_index_that_lags_behind_its_files_spoils_nothing(machines: Pair) -> None:
    one, two = [await machine.process() for machine in machines]
    for app, machine in zip((one, two), machines, strict=True):
        await app.index(str(machine.checkout))
    whole = await one.search(QUESTION, "sample")
    busy = [two.indexes.try_lock("sample", purpose) for purpose in ("index", "watch")]
    machines[1].write(EDIT)
    lagging = await two.search(QUESTION, "sample")
    assert lagging.left_out == (EDITED,)
    assert not texts(lagging)
    new = await machines[0].process()
    assert (await new.search(QUESTION, "sample")).results == whole.results
    machines[0].write(EDIT)
    after = await one.search(QUESTION, "sample")
    assert "good bye" in texts(after)
    assert not texts(await two.search(QUESTION, "sample"))  # no answer for what it doesn't hold
    for lock in busy:
        assert lock is not None
        lock.release()
    caught_up = await two.search(QUESTION, "sample")
    assert caught_up.results == after.results
    assert caught_up.left_out == ()


async def test_the_same_files_under_another_name_are_other_content(machines: Pair) -> None:
    one, two = [await machine.process() for machine in machines]
    await one.index(str(machines[0].checkout))
    before = await one.search(QUESTION, "sample")
    (machines[1].checkout / EDITED).rename(machines[1].checkout / "app/moved.py")
    await two.index(str(machines[1].checkout))
    moved = await two.search(QUESTION, "sample")
    assert moved.cache.tier == "none"
    assert "app/moved.py" in paths(moved)
    assert EDITED not in paths(moved)
    assert EDITED in paths(await one.search(QUESTION, "sample"))
    assert (await one.search(QUESTION, "sample")).results == before.results
