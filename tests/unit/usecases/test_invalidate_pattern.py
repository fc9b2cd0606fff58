"""Patterns name kinds, projects and keys, and never more than they say."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from tests.unit.usecases.app_kit import app_at

from querycache.assembly import App
from querycache.cache.typed import TypedCache
from querycache.errors import TierError, UsageError
from querycache.keys import Namer, Scope, decode
from querycache.usecases.invalidate.pattern import read_pattern
from querycache.values import Kind

NAMER = Namer()
ALL = tuple(Kind)


@pytest.mark.parametrize(
    ("pattern", "kinds", "project"),
    [
        ("*", ALL, None),
        ("codebase_rag:*", ALL, None),
        ("codebase_rag:*:*:*", ALL, None),
        ("search:*", (Kind.SEARCH,), None),
        ("codebase_rag:search:*", (Kind.SEARCH,), None),
        ("codebase_rag:[se]*:*", (Kind.EMBEDDING, Kind.SEARCH), None),
        ("codebase_rag:*:acme:*", ALL, "acme"),
        ("codebase_rag:*:a*:*", ALL, "a*"),
        ("codebase_rag:*:a%2A:*", ALL, "a*"),
        ("codebase_rag:*:**:*", ALL, "**"),
        ("codebase_rag:*:?:*", ALL, "?"),
        ("codebase_rag:*:%FF:*", ALL, "%FF"),
    ],
)
def test_what_counters_can_cut(pattern: str, kinds: tuple[Kind, ...], project: str | None):
    meant = read_pattern(pattern, NAMER)
    assert (meant.whole, meant.kinds, meant.project) == (True, kinds, project)


@pytest.mark.parametrize(
    ("pattern", "head"),
    [
        ("codebase_rag:search:acme:*", "codebase_rag:search:acme:"),
        ("codebase_rag:search:_:*", "codebase_rag:search:_:"),
        ("codebase_rag:other:_:perf_*", "codebase_rag:other:_:perf_"),
        ("codebase_rag:other:_:_*", "codebase_rag:other:_:"),
        ("report:4?", "codebase_rag:other:_:report"),
        ("file:/src/*.py", "codebase_rag:file:_:file"),
    ],
)
def test_what_is_looked_for(pattern: str, head: str):
    meant = read_pattern(pattern, NAMER)
    assert (meant.whole, list(meant.heads("codebase_rag"))) == (False, [head])


@pytest.mark.parametrize(
    "pattern",
    ["", "x" * 1001, "codebase_rag:meta:*", "codebase_rag:search", "codebase_rag:search:acme"],
)
def test_what_names_no_entry_is_refused(pattern: str):
    with pytest.raises(UsageError):
        read_pattern(pattern, NAMER)


@pytest.mark.parametrize(
    ("pattern", "key", "fits"),
    [
        ("report:*", "report:42", True),
        ("report:*", "reports:42", False),
        ("report:4?", "report:421", False),
        ("f*", "file:/a", True),
        ("f*", "foo", True),
        ("file:/src/*.py", "file:/src/a/b.py", True),
        ("codebase_rag:other:_:report:*", "report:42", True),
        ("codebase_rag:other:_:report%3A*", "report:42", True),
        ("codebase_rag:other:_:*", "file:/a", False),
        ("codebase_rag:*:acme:rep*", "report:42", False),
        ("_*", "_", True),
        ("report:42", "report:42", True),
        ("a[!b]", "ac", True),
    ],
)
def test_which_names_match(pattern: str, key: str, fits: bool):  # noqa: FBT001 -- a parameter
    meant, name = read_pattern(pattern, NAMER), NAMER.raw(key)
    found = name.startswith(tuple(meant.heads("codebase_rag"))) and meant.matcher("codebase_rag")(
        name
    )
    assert found is fits


def of(app: App, project: str) -> TypedCache[str, str]:
    policy = app.policies[Kind.OTHER]
    return TypedCache(app.core, app.namer, policy, parts=lambda k: (k,), scope=Scope(project))


def is_segment(text: str) -> bool:
    """Whether it is also the segment of another project."""
    return text != decode(text) and Scope(decode(text)).segment == text


def hostile_names(count: int) -> list[str]:
    rng = random.Random(44)  # noqa: S311 -- repeatable names
    parts = ["a", "b", "*", "?", "[", "]", ":", "%2A", "%", "_", "..", "\\", "ü", "\ufeff", " "]
    names = {"acme", "ac*", "a*", "a", "a:b", "_", "**", "?", "[a-z]*", "acme:*", "A"}
    while len(names) < count:
        names.add("".join(rng.choice(parts) for _ in range(rng.randint(1, 6))))
    return sorted(names - {"*"})


@pytest.mark.asyncio
async def test_no_project_is_ever_taken_for_another(tmp_path: Path) -> None:
    names = hostile_names(60)
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        for number, name in enumerate(names):
            for other in names:
                await of(one, other).put("k", other)
            spelled = (Scope(name).segment, name)[number % 2]
            if ":" in spelled or is_segment(spelled):  # it must be encoded
                spelled = Scope(name).segment
            pattern = f"codebase_rag:{('*', 'other')[number % 3 == 0]}:{spelled}:*"
            cut = await two.invalidate.pattern(pattern)
            left = {other for other in names if await of(one, other).get("k") == other}
            assert left == set(names) - {name}, pattern
            assert cut.told


@pytest.mark.asyncio
async def test_raw_names_in_patterns_cut_nothing_of_others(tmp_path: Path) -> None:
    names = hostile_names(60)
    async with app_at(tmp_path / "home") as app:
        for other in names:
            await of(app, other).put("k", other)
        for name in names:
            first = name.partition(":")[0]
            first = decode(first) if is_segment(first) else first
            try:
                await app.invalidate.pattern(f"codebase_rag:*:{name}:*")
            except UsageError:
                continue
            gone = [other for other in names if await of(app, other).get("k") != other]
            assert set(gone) <= {name, first}, name
            for other in gone:
                await of(app, other).put("k", other)


@pytest.mark.asyncio
async def test_keys_go_in_batches_from_both_tiers_of_every_process(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        keys = [f"report:{number}" for number in range(1200)]
        await one.remember.set_batch(dict.fromkeys([*keys, "kept"], 1))
        assert len(await two.remember.get_batch(keys)) == 1200
        cut = await two.invalidate.pattern("report:*")
        assert (cut.entries, cut.generation, cut.told) == (1200, 0, True)
        assert await one.remember.get_batch([*keys, "kept"]) == {"kept": 1}
        assert (await two.invalidate.pattern("report:*")).entries == 0
        whole = await two.invalidate.pattern("other:*")
        assert whole.generation > 0
        assert await one.remember.get("kept") is None


@pytest.mark.asyncio
@pytest.mark.parametrize("pattern", ["report:4*", "codebase_rag:other:_:*", "codebase_rag:*"])
async def test_what_is_being_loaded_goes_too(pattern: str, tmp_path: Path) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    async def load() -> str:
        started.set()
        await gate.wait()
        return "old"

    async with app_at(tmp_path / "home") as app:
        loading = asyncio.ensure_future(app.remember.get_or_compute("report:42", load))
        await started.wait()
        assert (await app.invalidate.pattern(pattern)).told
        late = asyncio.ensure_future(app.remember.get_or_compute("report:42", lambda: "new"))
        await asyncio.sleep(0)  # it has begun
        gate.set()
        assert (await loading, await late) == ("old", "new")
        assert await app.remember.get("report:42") == "new"


@pytest.mark.asyncio
async def test_a_kind_takes_its_entries_alone(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        await app.remember.set_batch({"search:q": 1, "file:/a": 2, "k": 3})
        assert (await app.invalidate.kind(Kind.SEARCH)).entries == 1
        assert await app.remember.get_batch(["search:q", "file:/a", "k"]) == {"file:/a": 2, "k": 3}


@pytest.mark.asyncio
async def test_what_the_shared_tier_can_not_say_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scan(_prefix: str) -> None:
        raise TierError("gone")

    async with app_at(tmp_path / "home") as app:
        await app.remember.set("report:1", 1)
        monkeypatch.setattr(app.core.l2, "scan", scan)
        cut = await app.invalidate.pattern("report:*")
        assert (cut.entries, cut.told) == (1, False)
