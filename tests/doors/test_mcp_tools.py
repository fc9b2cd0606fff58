"""The tools, through the SDK's own client, in both eras of the protocol."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import Client
from mcp_types import CallToolResult, TextContent
from tests.doors.http_kit import config_in, sample

from querycache.assembly.app import App
from querycache.doors.mcp_server.answers import META_KEY
from querycache.doors.mcp_server.first_run import FirstRun
from querycache.doors.mcp_server.server import mcp_server
from querycache.doors.mcp_server.tools import Tools
from querycache.doors.mcp_server.tools_doctor import DoctorTools
from querycache.doors.mcp_server.tools_upkeep import UpkeepTools
from querycache.errors import EmbedderError

pytestmark = pytest.mark.asyncio

Era = Literal["auto", "legacy"]

TOOLS = {
    "search_code": ("reads", {"query", "project", "limit", "mode", "language", "path"}),
    "index_project": ("changes", {"path", "project", "force"}),
    "list_projects": ("reads", set[str]()),
    "forget_project": ("destroys", {"project"}),
    "cache_health": ("reads", set[str]()),
    "cache_stats": ("reads", set[str]()),
    "cache_explain": ("reads", {"key"}),
    "cache_doctor": ("reads", set[str]()),
    "cache_warm": ("changes", {"project", "queries", "budget_s", "budget_mb"}),
    "cache_invalidate": ("destroys", {"file", "project", "tag", "key", "pattern", "all"}),
    "cache_clean": ("destroys", {"kinds", "confirm"}),
    "cache_backup": ("changes", set[str]()),
}
MOST_LISTED = 14_000


@asynccontextmanager
async def connected(
    folder: Path, *, mode: Era = "auto", roots: tuple[str, ...] = ()
) -> AsyncGenerator[tuple[Client, App]]:
    """A client of a server over an App that keeps no background work."""
    app = App(config_in(folder), door="mcp")

    async def get() -> App:
        return app

    try:
        async with Client(mcp_server(get, roots), mode=mode) as client:
            yield client, app
    finally:
        await app.close()


def structured(result: CallToolResult) -> dict[str, Any]:
    """What a tool answered: the same as data and as text."""
    assert not result.is_error, text_of(result)
    assert result.structured_content is not None
    assert json.loads(text_of(result)) == result.structured_content
    assert result.meta is not None
    assert set(result.meta[META_KEY]) == {"tier", "age_s", "generation", "stale"}
    return result.structured_content


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


async def test_the_list_of_tools_is_what_agents_are_told(tmp_path: Path):
    async with connected(tmp_path) as (client, _):
        listed = (await client.list_tools()).tools
    hints = {
        tool.name: (tool.annotations.read_only_hint, tool.annotations.destructive_hint)
        for tool in listed
        if tool.annotations
    }
    kinds = {(True, False): "reads", (False, False): "changes", (False, True): "destroys"}
    assert {
        tool.name: (kinds[hints[tool.name]], set(tool.input_schema["properties"]))  # type: ignore[index]
        for tool in listed
    } == TOOLS
    for tool in listed:
        assert tool.title
        assert tool.description
        assert tool.output_schema
        assert tool.annotations
        assert tool.annotations.open_world_hint is False
        assert tool.annotations.idempotent_hint is True
    said = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed]
    assert len(json.dumps(said)) <= MOST_LISTED
    written = {*vars(Tools), *vars(DoctorTools), *vars(UpkeepTools)}
    assert set(TOOLS) == {name for name in written if not name.startswith("_")}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_day_with_the_tools(tmp_path: Path, mode: Era):
    root = str(sample(tmp_path / "shop"))
    told: list[tuple[float, float | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total))
        assert message is not None

    async with connected(tmp_path, mode=mode) as (client, _):

        async def call(tool: str, **arguments: object) -> CallToolResult:
            return await client.call_tool(tool, arguments)

        indexed = await client.call_tool("index_project", {"path": root}, progress_callback=note)
        assert structured(indexed)["files"] == 3
        found = [await call("search_code", query="value added tax", limit=2) for _ in range(2)]
        listed = structured(await call("list_projects"))["projects"]
        health = structured(await call("cache_health"))
        stats = structured(await call("cache_stats"))
        explained = structured(await call("cache_explain", key="report:42"))
        diagnosis = structured(await call("cache_doctor"))
        assert (diagnosis["well"], diagnosis["findings"]) == (True, [])
        assert diagnosis["checks"][0] == "connection"
        warmed = structured(await call("cache_warm", queries=["ledger"], budget_mb=9))
        cut = [
            structured(await call("cache_invalidate", **what))
            for what in (
                {"project": "shop"},
                {"file": f"{root}/README.md"},
                {"tag": "t"},
                {"key": "k"},
                {"pattern": "search:*"},
                {"all": True},
            )
        ]
        gone = structured(await call("forget_project", project="shop"))
        again = structured(await call("forget_project", project="shop"))
    assert told[0] == (0.0, 3.0)
    assert told[-1] == (3.0, 3.0)
    assert structured(found[0])["results"][0]["symbol"] == "total_with_tax"
    metas = [result.meta[META_KEY] for result in found if result.meta]
    assert [meta["tier"] for meta in metas] == ["none", "l1"]
    assert metas[0]["generation"] == listed[0]["generation"]
    assert not metas[1]["stale"]
    assert (listed[0]["name"], listed[0]["stale_files"], health["status"]) == (
        "shop",
        0,
        "healthy",
    )
    assert (stats["kinds"]["search"]["l1_hits"], stats["l1"]["hit_count"] >= 1) == (1, True)
    assert (explained["key"], explained["l1"]) == ("codebase_rag:other:_:report%3A42", None)
    assert (warmed["loaded"], warmed["skipped"], warmed["reasons"]) == (1, 1, {})
    assert all(one["told"] for one in cut)
    assert (gone["existed"], again["existed"]) == (True, False)


async def test_upkeep_is_done_once_it_is_confirmed(tmp_path: Path):
    async with connected(tmp_path) as (client, app):
        for key in ("search:a", "c"):
            await app.remember.set(key, key)
        made = structured(await client.call_tool("cache_backup", {}))
        refused = await client.call_tool("cache_clean", {"kinds": ["search"]})
        assert await app.remember.get("search:a") == "search:a"
        confirmed = {"kinds": ["search"], "confirm": True}
        cleaned = structured(await client.call_tool("cache_clean", confirmed))
        left = await app.remember.get_batch(["search:a", "c"])
        checked = await app.restore.verify(made["path"])
        folder = app.home / "backups"
    assert refused.is_error
    assert (cleaned["deleted"], left) == ({"search": 1}, {"c": "c"})
    assert (made["entries"], checked.entries) == (2, 2)
    assert [str(path) for path in folder.iterdir()] == [made["path"]]


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("search_code", {"query": "tax"}, "ProjectNotFoundError: no project is indexed"),
        ("search_code", {"query": "tax", "project": "no"}, "no project 'no' is indexed"),
        ("search_code", {}, "query"),
        ("search_code", {"query": "tax", "limit": 0}, "limit"),
        ("search_code", {"query": "tax", "mode": "magic"}, "mode"),
        ("index_project", {}, "give a path"),
        ("index_project", {"path": "/does/not/exist"}, "is not a folder"),
        ("cache_invalidate", {}, "exactly one of"),
        ("cache_invalidate", {"key": "k", "all": True}, "exactly one of"),
        ("cache_explain", {"key": ""}, "key"),
        ("cache_clean", {"kinds": ["search"]}, "ask the user"),
        ("cache_clean", {"kinds": [], "confirm": True}, "kinds"),
        ("cache_clean", {"kinds": ["all"], "confirm": True}, "kinds"),
        ("cache_warm", {}, "no project is indexed"),
    ],
)
async def test_the_model_is_told_what_it_did_wrong(
    tmp_path: Path, tool: str, arguments: dict[str, object], says: str
):
    async with connected(tmp_path) as (client, _):
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert says in text_of(result)


async def test_the_model_is_told_nothing_of_a_crash(tmp_path: Path):
    async with connected(tmp_path) as (client, app):
        app.__dict__["list_projects"] = "secret internals"
        result = await client.call_tool("list_projects", {})
    assert (result.is_error, text_of(result)) == (True, "Error executing tool list_projects")


async def test_an_app_that_could_not_be_built_is_told():
    async def get() -> App:
        raise EmbedderError("the model is gone", remedy="fetch it")

    async with Client(mcp_server(get)) as client:
        result = await client.call_tool("search_code", {"query": "tax"})
    assert "EmbedderError: the model is gone; fetch it" in text_of(result)


async def test_a_failing_cache_never_fails_a_search(tmp_path: Path):
    root = str(sample(tmp_path / "shop"))
    async with connected(tmp_path, roots=(root,)) as (client, app):
        await client.call_tool("index_project", {})
        await app.core.l2.close()
        for forgotten in (False, True):
            if forgotten:
                app.core.l1.clear()
            result = await client.call_tool("search_code", {"query": "value added tax"})
            assert structured(result)["results"][0]["symbol"] == "total_with_tax"
        health = structured(await client.call_tool("cache_health", {}))
    assert (health["status"], health["l2_connected"]) == ("degraded", False)


async def test_the_only_root_is_what_is_meant(tmp_path: Path):
    shop, farm = sample(tmp_path / "shop"), sample(tmp_path / "farm")
    (farm / "cow.py").write_text("def milk_the_cow():\n    return 1\n")
    async with connected(tmp_path, roots=(str(farm),)) as (client, app):
        await app.index(str(shop))
        await app.index(str(farm))
        unnamed = structured(await client.call_tool("search_code", {"query": "milk the cow"}))
        named = structured(
            await client.call_tool("search_code", {"query": "milk the cow", "project": "shop"})
        )
    assert (unnamed["project"], named["project"]) == ("farm", "shop")
    assert unnamed["results"][0]["path"] == "cow.py"


async def test_a_search_waits_for_the_first_indexing_only_so_long(tmp_path: Path):
    root = str(sample(tmp_path / "shop"))
    app = App(config_in(tmp_path))
    told: list[str] = []

    async def report(_done: float, _total: float | None, line: str) -> None:
        told.append(line)

    async with app.running():
        impatient = FirstRun([root], patience_s=0.0)
        note = await impatient.wait(app, "", report)
        assert note == "'shop' is still being indexed: 0 files are searched"
        assert await impatient.wait(app, "another", report) == ""
        await app.index(root)
        assert await impatient.wait(app, "", report) == ""
    await app.close()
    assert told == []
