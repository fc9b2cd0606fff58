"""MCP over streamable HTTP, through the SDK's own client and a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult
from tests.doors.http_kit import config_in, sample, serving

from querycache.doors.mcp_server.answers import META_KEY

pytestmark = pytest.mark.asyncio

Era = Literal["auto", "legacy"]
TOKEN = "a-token-of-the-test"  # noqa: S105 -- not a secret
BY_NAME = {"query": "gross_price", "mode": "keyword"}


def content(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result
    assert result.structured_content is not None
    return result.structured_content


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_tools_over_http_share_the_cache_of_the_routes(tmp_path: Path, mode: Era):
    root = sample(tmp_path / "shop")
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)
        assert total == 3.0
        assert message is not None

    async with serving(config_in(tmp_path), [str(root)]) as peer:
        first = await peer.post("/search", {"query": "value added tax"})
        async with Client(f"{peer.url}/mcp", mode=mode) as client:
            result = await client.call_tool("search_code", {"query": "value added tax"})
            (root / "billing/invoice.py").write_text("def gross_price(net):\n    return net\n")
            lost = content(await client.call_tool("search_code", BY_NAME | {"query": "tax"}))
            after = content(await client.call_tool("search_code", BY_NAME))
            indexed = await client.call_tool(
                "index_project", {"force": True}, progress_callback=note
            )
            listed = {tool.name for tool in (await client.list_tools()).tools}
    assert first.headers["x-cache"] == "miss; tier=none"
    assert result.meta
    assert result.meta[META_KEY]["tier"] == "l1"
    assert content(result)["results"][0]["path"] == "billing/invoice.py"
    assert "billing/invoice.py" not in {hit["path"] for hit in lost["results"]}
    assert after["results"][0]["symbol"] == "gross_price"
    assert content(indexed)["project"] == "shop"
    assert told == sorted(told)
    assert told[-1] == 3.0
    assert "search_code" in listed


async def test_a_token_is_wanted_for_mcp_too(tmp_path: Path):
    async with serving(config_in(tmp_path, QUERYCACHE_TOKEN=TOKEN)) as peer:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(f"{peer.url}/mcp", http_client=http)) as client,
        ):
            health = content(await client.call_tool("cache_health", {}))
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        refused = await peer.post("/mcp", body)
    assert health["status"] == "healthy"
    assert (refused.status, refused.error) == (401, "Unauthorized")


async def test_a_name_that_is_served_is_served_by_the_sdk_too(tmp_path: Path):
    async with serving(config_in(tmp_path), names=["box.local"]) as peer:
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        accept = "application/json, text/event-stream"
        for name in ("box.local", "localhost", "[::1]"):
            for host in (name, f"{name}:{peer.port}"):
                answer = await peer.post("/mcp", call, Accept=accept, Host=host)
                assert (host, answer.status) == (host, 200)
                assert b'"search_code"' in answer.body
