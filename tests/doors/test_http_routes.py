"""Every route over a real server: what it does, and what it answers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route as Routed
from tests.doors.http_kit import Answer, Peer, config_in, sample, serving

from querycache import errors
from querycache.assembly.app import App
from querycache.doors.dashboard.page import FILES
from querycache.doors.http_api import wire
from querycache.doors.http_api.app import create_app
from querycache.doors.http_api.openapi import document
from querycache.doors.http_api.route import STATUS_OF, status_of
from querycache.doors.http_api.routes import ROUTES
from querycache.ports.tiers import Write
from querycache.usecases.show_status import KindCounts, Snapshot, TierStats
from querycache.usecases.show_status.counts import l1_stats

pytestmark = pytest.mark.asyncio

DOCUMENT = document(ROUTES, "1.0")
DOCS_FILES = {"/docs/docs.css", "/docs/docs.js"}
PAGE_FILES = DOCS_FILES | FILES.keys()


def checked(answer: Answer, method: str, path: str) -> Any:  # noqa: ANN401 -- JSON
    """The answer's JSON, after it was held against the document."""
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    response = responses.get(str(answer.status), responses["default"])
    schema = {
        **response["content"]["application/json"]["schema"],
        "components": DOCUMENT["components"],
    }
    assert answer.headers["content-type"] == "application/json"
    strict = json.loads(answer.body, parse_constant=pytest.fail)
    Draft202012Validator(schema).validate(strict)  # pyright: ignore[reportUnknownMemberType]  # untyped there
    assert {name.lower() for name in response.get("headers", {})} - {"x-index"} <= set(
        answer.headers
    )
    return strict


async def test_a_search_says_where_its_answer_came_from(tmp_path: Path):
    root = str(sample(tmp_path / "shop"))
    config = config_in(tmp_path)
    async with serving(config, [root]) as peer:
        answers = [await peer.post("/search", {"query": "value added tax"}) for _ in range(2)]
    async with serving(config, [root]) as peer:
        answers.append(await peer.post("/search", {"query": "value added tax"}))
    marks = [answer.headers["x-cache"] for answer in answers]
    assert marks == ["miss; tier=none", "hit; tier=l1", "hit; tier=l2"]
    found = [checked(answer, "POST", "/search") for answer in answers]
    assert {one["results"][0]["path"] for one in found} == {"billing/invoice.py"}
    assert [one["cache"]["tier"] for one in found] == ["none", "l1", "l2"]
    assert all(answer.headers["age"].isdecimal() for answer in answers)


async def test_an_edit_is_found_by_the_next_search(tmp_path: Path):
    root = sample(tmp_path / "shop")
    async with serving(config_in(tmp_path), [str(root)]) as peer:
        await peer.post("/search", {"query": "total_with_tax", "mode": "keyword"})
        (root / "billing/invoice.py").write_text("def gross_price(net):\n    return net\n")
        before = await peer.post("/search", {"query": "total_with_tax", "mode": "keyword"})
        after = await peer.post("/search", {"query": "gross_price", "mode": "keyword"})
    assert "total_with_tax" not in before.body.decode().partition('"results"')[2]
    assert after.json["results"][0]["symbol"] == "gross_price"


async def test_the_life_of_a_project(tmp_path: Path):
    root = str(sample(tmp_path / "shop"))
    async with serving(config_in(tmp_path)) as peer:
        indexed = checked(await peer.post("/projects", {"path": root}), "POST", "/projects")
        again = checked(
            await peer.post("/projects", {"path": root, "project": "shop", "force": True}),
            "POST",
            "/projects",
        )
        listed = checked(await peer.get("/projects"), "GET", "/projects")
        warmed = checked(
            await peer.post("/warm", {"queries": ["ledger", "tax"], "budget_mb": 5}),
            "POST",
            "/warm",
        )
        forgotten = await peer.ask("DELETE", "/projects/shop")
        gone = await peer.ask("DELETE", "/projects/shop")
        nothing = await peer.post("/search", {"query": "tax"})
    assert (indexed["project"], indexed["files"], indexed["files_changed"]) == ("shop", 3, 3)
    assert (again["files_changed"], again["embedded"]) == (3, 0)
    assert [(one["name"], one["stale_files"]) for one in listed["projects"]] == [("shop", 0)]
    assert (warmed["loaded"], warmed["failed"], warmed["reasons"]) == (2, 0, {})
    assert checked(forgotten, "DELETE", "/projects/{name}") == {"project": "shop", "existed": True}
    assert (gone.status, gone.error) == (404, "ProjectNotFoundError")
    assert (nothing.status, nothing.error) == (404, "ProjectNotFoundError")
    assert checked(nothing, "POST", "/search")["error"]["remedy"]


@pytest.mark.parametrize(
    "what",
    [
        {"file": "billing/invoice.py"},
        {"project": "shop"},
        {"tag": "project:shop"},
        {"pattern": "codebase_rag:*:shop:*"},
        {"all": True},
    ],
    ids=str,
)
async def test_what_is_invalidated_is_asked_for_again(tmp_path: Path, what: dict[str, object]):
    root = str(sample(tmp_path / "shop"))
    async with serving(config_in(tmp_path), [root]) as peer:
        for mark in ("miss", "hit"):
            answer = await peer.post("/search", {"query": "value added tax"})
            assert answer.headers["x-cache"].startswith(mark)
        cut = checked(await peer.post("/invalidate", what), "POST", "/invalidate")
        answer = await peer.post("/search", {"query": "value added tax"})
    assert cut["told"]
    assert answer.json["cache"]["miss_reason"] in {"invalidated", "absent"}


async def test_a_key_is_listed_explained_and_invalidated(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:

        async def report() -> str:
            return "x" * 100

        await peer.app.remember.get_or_compute("report:42", report)
        patterns = checked(await peer.get("/keys?kind=other"), "GET", "/keys")
        found = checked(await peer.get("/keys/explain?key=report:42"), "GET", "/keys/explain")
        cut = await peer.post("/invalidate", {"key": "report:42"})
        gone = checked(await peer.get("/keys/explain?key=report:42"), "GET", "/keys/explain")
    assert [(row["pattern"], row["count"]) for row in patterns["patterns"]] == [
        ("codebase_rag:other:_:*", 1)
    ]
    assert found["l1"]["verdict"] == found["l2"]["verdict"] == "fresh"
    assert {event["event"] for event in found["events"]} >= {"Missed", "Loaded", "Stored"}
    assert cut.json["entries"] >= 1
    assert (gone["l1"], gone["l2"]) == (None, None)


async def test_the_doctor_finds_nothing_where_nothing_is_wrong(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        found = checked(await peer.get("/doctor"), "GET", "/doctor")
    assert found["findings"] == []
    assert {"name", "findings", "seen", "took_ms"} == set(found["checks"][0])
    assert [check["name"] for check in found["checks"]][:3] == ["connection", "tls", "latency"]


async def test_a_kind_is_cleaned_and_the_others_stay(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        for key in ("search:a", "file:/b", "c"):
            await peer.app.remember.set(key, key)
        done = checked(await peer.post("/clean", {"kinds": ["search", "file"]}), "POST", "/clean")
        left = await peer.app.remember.get_batch(["search:a", "file:/b", "c"])
        read = await peer.get("/clean")
    assert done == {"deleted": {"search": 1, "file": 1}, "told": True}
    assert left == {"c": "c"}
    assert read.status == 405


async def test_status_has_the_fields_of_the_guide(tmp_path: Path):
    root = str(sample(tmp_path / "shop"))
    async with serving(config_in(tmp_path), [root]) as peer:
        for _ in range(3):
            await peer.post("/search", {"query": "tax"})
        await peer.app.keep_house()
        stats = checked(await peer.get("/stats/cache"), "GET", "/stats/cache")
        metrics = checked(await peer.get("/metrics/cache"), "GET", "/metrics/cache")
        health = checked(await peer.get("/health/cache"), "GET", "/health/cache")
        ready = checked(await peer.get("/health/ready"), "GET", "/health/ready")
        alive = checked(await peer.get("/health/live"), "GET", "/health/live")
    assert stats["kinds"]["search"]["l1_hits"] == 2
    assert stats["tiers"]["l1"]["hits"] == stats["l1_hits"] == 2
    assert stats["tiers"]["l2"]["backend"] == "sqlite"
    assert stats["hit_rate"] + stats["miss_rate"] == pytest.approx(1.0)
    assert [process["this"] for process in stats["processes"]] == [True]
    assert metrics["hit_rate"] == pytest.approx(stats["hit_rate"])
    assert metrics["redis_connected"] is False
    assert metrics["l1_memory_usage"] == pytest.approx(stats["tiers"]["l1"]["memory_usage_mb"])
    assert (health["status"], health["redis_ping_time"]) == ("healthy", None)
    assert (ready, alive) == ({"ready": True, "projects": 1}, {"status": "ok"})


async def test_the_tiers_are_compared_on_demand(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        for key in ("edited", "kept"):
            await peer.app.remember.set(key, [key])
        name = peer.app.remember.name("edited")
        await peer.app.core.l2.write([Write(name, b"by hand", 4e9, tell=False)])
        found = checked(await peer.post("/coherency", {}), "POST", "/coherency")
        again = checked(await peer.post("/coherency", {"limit": 1}), "POST", "/coherency")
        stats = checked(await peer.get("/stats/cache"), "GET", "/stats/cache")
        health = checked(await peer.get("/health/cache"), "GET", "/health/cache")
        wrong = await peer.post("/coherency", {"limit": -1})
        read = await peer.get("/coherency")
    assert (found["coherent"], found["stale_entries"]) == (False, 1)
    assert (found["mismatched_keys"], found["checked_keys"]) == ([name], 2)
    assert (again["coherent"], again["checked_keys"]) == (True, 1)
    told = stats["tiers"]["l2"]["coherency"]
    assert (told["checks"], told["compared"], told["mismatches"]) == (2, 3, 1)
    assert health["coherency"] == told
    assert (wrong.status, read.status) == (400, 405)


async def test_an_unused_cache_has_no_rates_that_are_no_numbers(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        metrics = checked(await peer.get("/metrics/cache"), "GET", "/metrics/cache")
    assert all(value is None or math.isfinite(value) for value in metrics.values())
    assert (metrics["hit_rate"], metrics["total_operations"]) == (0.0, 0)


async def test_metrics_can_be_switched_off(tmp_path: Path):
    async with serving(config_in(tmp_path, CACHE_METRICS_ENABLED="false")) as peer:
        answer = await peer.get("/metrics/cache")
    assert (answer.status, answer.error) == (501, "NotAvailableError")


WRONG = [
    ("POST", "/search", b"", "the request can't be read"),
    ("POST", "/search", b"{", "the request can't be read"),
    ("POST", "/search", b'{"query": "\xff"}', "the request can't be read"),
    ("POST", "/search", b'{"query": "x", "limits": 3}', "limits"),
    ("POST", "/search", b'{"query": "x", "limit": 0}', "limit"),
    ("POST", "/search", b'{"query": "x", "limit": "3"}', "limit"),
    ("POST", "/search", b'{"query": "x", "mode": "magic"}', "mode"),
    ("POST", "/search", b'{"query": ' + b"[" * 100_000, "can't be read"),
    ("POST", "/search", b'{"query": "' + b"x" * 10_001 + b'"}', "query"),
    ("POST", "/projects", b'{"path": "/does/not/exist"}', "not a folder"),
    ("POST", "/invalidate", b"{}", "0 things"),
    ("POST", "/invalidate", b'{"all": true, "key": "k"}', "2 things"),
    ("POST", "/warm", b'{"budget_s": -1}', "budget_s"),
    ("POST", "/clean", b"{}", "kinds"),
    ("POST", "/clean", b'{"kinds": []}', "kinds"),
    ("POST", "/clean", b'{"kinds": ["all"]}', "kinds"),
    ("GET", "/keys?kind=nonsense", b"", "nonsense"),
    ("GET", "/keys?kinds=other", b"", "kinds"),
    ("GET", "/keys?kind=other&kind=file", b"", "twice"),
    ("GET", "/keys/explain", b"", "key"),
]


async def test_wrong_questions_are_told_what_is_wrong(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        for method, path, body, says in WRONG:
            headers = {"Content-Type": "application/json"} if method == "POST" else {}
            answer = await peer.ask(method, path, headers, body)
            error = checked(answer, method, path.partition("?")[0])["error"]
            assert (answer.status, error["name"]) == (400, "UsageError"), (path, body[:80])
            assert says in error["message"], (says, error)


async def test_what_is_not_there_is_told_in_the_same_shape(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        missing = await peer.get("/nothing/here")
        slash = await peer.get("/projects/")
        wrong = await peer.ask("DELETE", "/search")
        options = await peer.ask("OPTIONS", "/search")
    assert [(answer.status, answer.error) for answer in (missing, slash, wrong, options)] == [
        (404, "NotFound"),
        (404, "NotFound"),
        (405, "MethodNotAllowed"),
        (405, "MethodNotAllowed"),
    ]
    assert wrong.headers["allow"] == "POST"


async def test_what_fails_unexpectedly_tells_no_internals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with serving(config_in(tmp_path)) as peer:
        broken = peer.app.__dict__
        broken["list_projects"] = "secret internals"  # calling it is a TypeError
        answer = await peer.get("/projects")
        still = await peer.get("/health/live")
    assert (answer.status, answer.error) == (500, "InternalError")
    assert b"secret" not in answer.body
    assert b"TypeError" not in answer.body
    assert "TypeError" in caplog.text
    assert still.status == 200


async def test_a_broken_shared_tier_is_degraded_and_searches_go_on(tmp_path: Path):
    root = str(sample(tmp_path / "shop"))
    async with serving(config_in(tmp_path), [root]) as peer:
        await _break(peer)
        answer = await peer.post("/search", {"query": "value added tax"})
        health = await peer.get("/health/cache")
    assert answer.json["results"][0]["path"] == "billing/invoice.py"
    assert (health.status, health.json["status"]) == (200, "degraded")


async def _break(peer: Peer) -> None:
    await peer.post("/search", {"query": "anything"})
    await peer.app.core.l2.close()


async def test_every_error_has_its_status():
    tree = [
        error
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.QueryCacheError)
    ]
    assert set(tree) == set(STATUS_OF)

    class LaterError(errors.UsageError):
        pass

    assert status_of(LaterError("later")) == STATUS_OF[errors.UsageError]


async def test_the_document_lists_every_route(tmp_path: Path):
    routes = create_app(App(config_in(tmp_path))).routes
    served = {
        (method.lower(), route.path)
        for route in routes
        if isinstance(route, Routed)
        for method in (route.methods or set()) - {"HEAD"}
        if route.path not in PAGE_FILES
    }
    assert len(routes) == len(served) + len(PAGE_FILES)
    listed = {(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert listed == served


async def test_the_document_refers_to_nothing_that_it_lacks():
    text = json.dumps(DOCUMENT)
    named = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= set(DOCUMENT["components"]["schemas"])
    identifiers = [
        operation["operationId"]
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
    ]
    assert len(set(identifiers)) == len(identifiers)


async def test_the_document_and_its_page_are_served(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        served = await peer.get("/openapi.json")
        pages = {path: await peer.get(path) for path in ("/docs", *DOCS_FILES)}
    assert set(served.json["paths"]) == set(DOCUMENT["paths"])
    assert {
        path: page.headers["content-type"].partition(";")[0] for path, page in pages.items()
    } == {
        "/docs": "text/html",
        "/docs/docs.css": "text/css",
        "/docs/docs.js": "text/javascript",
    }
    page = pages["/docs"].body.decode()
    assert "<script>" not in page
    assert "style=" not in page
    assert "http" not in page.replace("HTTP", "")
    assert b"innerHTML" not in pages["/docs/docs.js"].body


async def test_blocks_are_made_from_what_is_counted():
    snapshot = Snapshot(
        kinds={"search": KindCounts(l1_hits=3, misses=1)}, l1_bytes=2 * 1024 * 1024
    )
    block = l1_stats(TierStats(enabled=True, hit_count=3, miss_count=1, error_count=0), snapshot)
    assert (block.hit_rate, block.memory_usage_mb) == (0.75, 2.0)
    assert wire.counted(snapshot)["hit_count"] == 3
