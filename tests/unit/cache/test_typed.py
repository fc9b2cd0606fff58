"""Typed caches and the catalogue: what each kind is addressed by, and what falls with what."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from tests.races.core_kit import Process, processes

from querycache.cache.catalogue.embeddings import EmbeddingKey, embeddings
from querycache.cache.catalogue.file_parses import ParseKey, file_parses
from querycache.cache.catalogue.project_context import Overview, project_context
from querycache.cache.catalogue.search_results import Hits, SearchKey, search_results
from querycache.cache.policy import Policy
from querycache.cache.typed import TypedCache, derived_tag, file_tag, project_tag
from querycache.keys import Namer, Scope
from querycache.ports.origins import Chunk, Hit, ParsedFile

pytestmark = pytest.mark.asyncio

NAMER = Namer()
POLICY = Policy(ttl=100.0)


def numbers(process: Process, scope: Scope, version: str = "1") -> TypedCache[int, str]:
    return TypedCache(
        process.core,
        NAMER,
        POLICY,
        parts=lambda number: (str(number),),
        scope=scope,
        version=version,
    )


async def test_a_value_is_loaded_once_and_found_again() -> None:
    async with processes(2) as (one, two):
        cache, other = numbers(one, Scope("p")), numbers(two, Scope("p"))
        calls: list[int] = []

        async def load() -> str:
            calls.append(1)
            return "forty-two"

        assert await cache.get_or_load(42, load) == "forty-two"
        assert await other.get_or_load(42, load) == "forty-two"
        assert await other.get(42) == "forty-two"
        assert await other.get(43) is None
        assert len(calls) == 1
        assert await cache.remove(42)
        assert not (await other.find(42)).found
        assert await cache.put(1, "one")
        assert await other.get(1) == "one"


async def test_scopes_and_versions_never_meet() -> None:
    async with processes(1) as (one,):
        scopes = [Scope("a"), Scope("b"), Scope(), Scope("a", "alice"), Scope("a", "bob")]
        caches = [numbers(one, scope) for scope in scopes] + [numbers(one, Scope("a"), "2")]
        for place, cache in enumerate(caches):
            await cache.put(1, f"value {place}")
        assert [await cache.get(1) for cache in caches] == [f"value {n}" for n in range(6)]
        assert len({cache.name(1) for cache in caches}) == 6


async def test_a_projects_invalidation_cuts_it_and_leaves_what_is_shared() -> None:
    async with processes(2) as (one, two):
        mine, theirs, shared = (numbers(one, Scope(name)) for name in ("mine", "theirs", ""))
        for cache in (mine, theirs, shared):
            await cache.put(1, "v")
        await two.core.invalidate([project_tag("mine")])
        assert [await cache.get(1) for cache in (mine, theirs, shared)] == [None, "v", "v"]


async def test_many_at_once() -> None:
    async with processes(2) as (one, two):
        cache, other = numbers(one, Scope("p")), numbers(two, Scope("p"))
        await cache.put(1, "one")

        async def load(missing: list[int]) -> dict[int, str]:
            return {number: f"loaded {number}" for number in missing if number != 3}

        answers = await other.answer_many([1, 2, 3], load)
        assert {key: answer.value for key, answer in answers.items()} == {1: "one", 2: "loaded 2"}
        assert {key: answer.tier for key, answer in answers.items()} == {1: "l2", 2: "none"}


async def test_embeddings_are_shared_vectors() -> None:
    async with processes(2) as (one, two):
        cache, other = (embeddings(p.core, NAMER, POLICY, Scope()) for p in (one, two))
        key = EmbeddingKey("model-1", "document", "some text")
        vector = np.arange(8, dtype=np.float32)
        await cache.put(key, vector)
        vector[0] = 99.0  # the cache keeps what it was given
        for found in (await cache.get(key), await other.get(key)):
            assert found is not None
            assert found.tolist() == list(range(8))
            assert found.dtype == np.float32
            assert not found.flags.writeable
        for other_key in (
            key._replace(identity="model-2"),
            key._replace(role="query"),
            key._replace(text="some  text"),
        ):
            assert await cache.get(other_key) is None
        assert cache.name(key).startswith("codebase_rag:embedding:_:")


async def test_parses_are_shared_and_fall_with_their_file() -> None:
    parsed = ParsedFile("python", (Chunk(0, 5, 1, 1, "f", "x = 1"),))
    async with processes(2) as (one, two):
        cache, other = (file_parses(p.core, NAMER, POLICY, Scope()) for p in (one, two))
        key = ParseKey("v1", "python", "ab" * 16)

        async def load() -> ParsedFile:
            return parsed

        await cache.answer(key, load, tags=(file_tag("/a.py"),))
        assert await other.get(key) == parsed
        await two.core.invalidate([file_tag("/a.py")])
        assert await cache.get(key) is None
        assert cache.name(key).startswith("codebase_rag:file:_:")


async def test_search_results_and_context_belong_to_a_project_and_a_digest() -> None:
    hit = Hit("a.py", 1, 2, "f", "python", 0.5, "text")
    overview = Overview(1, 10, (("python", 1),), ())
    key = SearchKey("digest", "query", "hybrid", 10, "", "")
    async with processes(2) as (one, two):
        results, theirs = (
            search_results(p.core, NAMER, POLICY, Scope("mine")) for p in (one, two)
        )
        context = project_context(one.core, NAMER, POLICY, Scope("mine"))
        await results.put(key, Hits((hit,)))
        await context.put("digest", overview)
        assert await theirs.get(key) == Hits((hit,))
        assert await context.get("digest") == overview
        for field, value in key._asdict().items():
            changed = key._replace(**{field: 11 if field == "limit" else value + "x"})
            assert await results.get(changed) is None
        await two.core.invalidate([derived_tag("mine")])
        assert await results.get(key) is None
        assert await context.get("digest") is None
        assert results.name(key).startswith("codebase_rag:search:mine:")
        assert context.name("d").startswith("codebase_rag:project:mine:")


async def test_results_are_frozen_for_all_who_share_them() -> None:
    hit = Hit("a.py", 1, 2, "f", "python", 0.5, "text")
    with pytest.raises(AttributeError):
        hit.path = "b.py"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert msgspec.structs.replace(hit, path="b.py").path == "b.py"
