"""The guard of the HTTP door, from outside: every route against every way that a page, a stranger
or a hostile client may ask. Raw sockets, so that nothing is corrected on the way.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.doors.http_kit import Answer, Peer, config_in, sample, serving

from querycache.doors.http_api import connection, guard

pytestmark = pytest.mark.asyncio

READS = (
    "/health/cache",
    "/health/live",
    "/health/ready",
    "/stats/cache",
    "/metrics",
    "/metrics/cache",
    "/keys",
    "/keys/explain?key=k",
    "/projects",
    "/openapi.json",
    "/docs",
    "/docs/docs.css",
    "/docs/docs.js",
    "/nothing",
)
CHANGES = (
    ("POST", "/search"),
    ("POST", "/projects"),
    ("POST", "/warm"),
    ("POST", "/invalidate"),
    ("POST", "/mcp"),
    ("DELETE", "/projects/shop"),
)
REQUESTS = (*(("GET", path) for path in READS), *CHANGES)
JSON = {"Content-Type": "application/json"}
TOKEN = "a-token-of-the-test"  # noqa: S105 -- not a secret

FOREIGN_HOSTS = (
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "localhost.:{port}",
    "127.0.0.1:1",
    "localhost:99999",
    "user@localhost:{port}",
    "localhost:{port}, evil.example",
    "127.1",
    "0.0.0.0:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "local host",
    "",
)
FOREIGN_ORIGINS = (
    "null",
    "http://evil.example",
    "http://127.0.0.1.evil.example:{port}",
    "http://127.0.0.1:1",
    "http://localhost",
    "file://",
    "chrome-extension://abcdef",
    "http://localhost:{port}/path",
    "http://user@localhost:{port}",
)


async def refused(peer: Peer, headers: Mapping[str, str], status: int) -> list[str]:
    """The requests that were not refused with this status."""
    filled = {name: value.format(port=peer.port) for name, value in headers.items()}
    wrong: list[str] = []
    for method, path in REQUESTS:
        body = b"{}" if method == "POST" else b""
        kind = JSON if method == "POST" else {}
        answer = await peer.ask(method, path, {**kind, **filled}, body)
        if answer.status != status or not _is_sealed(answer):
            wrong.append(f"{method} {path} {filled}: {answer.status}")
    return wrong


def _is_sealed(answer: Answer) -> bool:
    """Whether an answer tells browsers to keep it, and shares nothing with other origins."""
    return (
        answer.headers["cache-control"] == "no-store"
        and answer.headers["x-content-type-options"] == "nosniff"
        and "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        and not any(name.startswith("access-control-") for name in answer.headers)
    )


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
async def test_a_foreign_host_is_misdirected(tmp_path: Path, host: str):
    async with serving(config_in(tmp_path)) as peer:
        assert await refused(peer, {"Host": host}, 421) == []


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
async def test_a_foreign_origin_is_forbidden(tmp_path: Path, origin: str):
    async with serving(config_in(tmp_path)) as peer:
        assert await refused(peer, {"Origin": origin}, 403) == []


async def test_what_a_browser_calls_another_site_is_forbidden(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        for site in ("cross-site", "same-site", "nonsense"):
            assert await refused(peer, {"Sec-Fetch-Site": site}, 403) == []


async def test_two_hosts_are_one_too_many(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        two = f"Host: 127.0.0.1:{peer.port}\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        answer = await peer.say(f"GET /health/live HTTP/1.1\r\n{two}".encode())
        whole = "GET http://evil.example/health/live HTTP/1.1\r\nHost: evil.example\r\n"
        target = await peer.say(f"{whole}Connection: close\r\n\r\n".encode())
        old = await peer.say(b"GET /health/live HTTP/1.0\r\n\r\n")
    assert [answer.status, target.status, old.status] == [421, 421, 421]


async def test_our_own_names_and_pages_are_served(tmp_path: Path):
    async with serving(config_in(tmp_path), names=["box.local"]) as peer:
        for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]", "box.local"):
            for host in (name, f"{name}:{peer.port}"):
                answer = await peer.get("/health/live", Host=host)
                assert (host, answer.status, _is_sealed(answer)) == (host, 200, True)
            page = {"Origin": f"http://{name}:{peer.port}", "Sec-Fetch-Site": "same-origin"}
            answer = await peer.post("/invalidate", {"key": "k"}, **page)
            assert (name, answer.status) == (name, 200)


FORMS = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "")
EVASIONS = ("application/jsonp", "text/plain; application/json", "application/json, text/plain")


@pytest.mark.parametrize("kind", [*FORMS, *EVASIONS])
async def test_what_a_form_can_send_changes_nothing(tmp_path: Path, kind: str):
    async with serving(config_in(tmp_path)) as peer:
        for method, path in CHANGES:
            answer = await peer.ask(method, path, {"Content-Type": kind}, b'{"all": true}')
            assert (path, answer.status, _is_sealed(answer)) == (path, 415, True)


async def test_a_post_without_a_body_is_no_simple_request_either(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        for method, path in CHANGES[:-1]:
            answer = await peer.ask(method, path)
            assert (path, answer.status) == (path, 415)


async def test_a_get_has_no_effect(tmp_path: Path):
    root = str(sample(tmp_path / "shop"))
    async with serving(config_in(tmp_path), [root]) as peer:
        await peer.post("/search", {"query": "tax"})
        for method in ("GET", "HEAD", "PUT", "PATCH", "OPTIONS", "TRACE"):
            for _, path in CHANGES:
                if (method, path) in {("GET", "/projects"), ("HEAD", "/projects")}:
                    continue
                answer = await peer.ask(method, f"{path}?all=true&query=x&path=/tmp")
                assert (method, path, answer.status) == (method, path, 405)
        hit = await peer.post("/search", {"query": "tax"})
    assert hit.headers["x-cache"] == "hit; tier=l1"


async def test_a_preflight_gets_no_permission(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        for _, path in REQUESTS:
            ours = f"http://127.0.0.1:{peer.port}"
            for origin, status in (("http://evil.example", 403), (ours, 405)):
                asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
                answer = await peer.ask("OPTIONS", path, asked)
                assert (path, _is_sealed(answer)) == (path, True)
                assert answer.status in {status, 404}


TOKENS = (
    "",
    "Bearer",
    "Bearer wrong",
    f"Bearer {TOKEN}x",
    f"Basic {TOKEN}",
    TOKEN,
    "Bearer \xff\xfe",
    "Bearer " + "x" * 8000,
)


@pytest.mark.parametrize("given", TOKENS, ids=lambda given: given[:20])
async def test_with_a_token_everything_but_health_wants_it(tmp_path: Path, given: str):
    async with serving(config_in(tmp_path, QUERYCACHE_TOKEN=TOKEN)) as peer:
        wrong = await refused(peer, {"Authorization": given}, 401)
        missing = await peer.get("/projects", Authorization=given)
    assert [line.split("?")[0].split(" {")[0] for line in wrong] == [
        "GET /health/cache",
        "GET /health/live",
        "GET /health/ready",
    ]
    assert missing.headers["www-authenticate"].startswith("Bearer")
    assert TOKEN.encode() not in missing.body


async def test_the_token_opens_every_route(tmp_path: Path):
    async with serving(config_in(tmp_path, QUERYCACHE_TOKEN=TOKEN)) as peer:
        for scheme in ("Bearer", "bearer"):
            answer = await peer.get("/projects", Authorization=f"{scheme} {TOKEN}")
            assert answer.status == 200
        foreign = await peer.get("/projects", Authorization=f"Bearer {TOKEN}", Host="evil.example")
        head = f"GET /projects HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\nConnection: close\r\n"
        both = f"Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer no\r\n\r\n"
        twice = await peer.say((head + both).encode())
    assert (foreign.status, twice.status) == (421, 401)


def _scope(client: tuple[str, int] | None, path: str = "/projects") -> dict[str, object]:
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost:8000")],
        "server": ("192.0.2.1", 8000),
        "client": client,
    }


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", None),
        ("127.8.8.8", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("192.0.2.7", 403),
        ("2001:db8::1", 403),
        ("::ffff:192.0.2.7", 403),
        ("testclient", 403),
    ],
)
async def test_without_a_token_only_this_machine_is_served(address: str, status: int | None):
    async def nobody(*_: object) -> None:
        pytest.fail("served")

    open_, closed = guard.Guard(nobody, token=""), guard.Guard(nobody, token=TOKEN)
    refusal = open_.refusal(_scope((address, 1)))
    assert (refusal.status if refusal else None) == status
    far = status is not None
    for path, wanted in (("/health/live", False), ("/health/cache", far), ("/projects", True)):
        refusal = closed.refusal(_scope((address, 1), path))
        assert (refusal is not None) is wanted
    assert open_.refusal(_scope(None)) is None


async def test_a_body_is_bounded_whatever_it_claims(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        for _, path in CHANGES[:-1]:
            claims = {**JSON, "Content-Length": str(guard.MOST_BODY_BYTES + 1)}
            answer = await peer.ask("POST", path, claims)
            assert (path, answer.status, _is_sealed(answer)) == (path, 413, True)
            chunked = {**JSON, "Transfer-Encoding": "chunked"}
            chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
            body = chunk * (guard.MOST_BODY_BYTES // 0x10000 + 1)
            answer = await peer.ask("POST", path, chunked, body)
            assert (path, answer.status) == (path, 413)
        largest = b'{"key": "k"' + b" " * (guard.MOST_BODY_BYTES - 12) + b"}"
        answer = await peer.ask("POST", "/invalidate", JSON, largest)
    assert (len(largest), answer.status) == (guard.MOST_BODY_BYTES, 200)


async def test_a_head_is_bounded(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        whole = await peer.get("/health/live", X_Large="x" * 17_000)
        address = await peer.get("/health/live?" + "x" * 17_000)
        head = f"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\nX-Endless: ".encode()
        endless = await peer.say(head + b"x" * 1_000_000)
        fits = await peer.get("/health/live", X_Large="x" * 15_000)
    assert [whole.status, address.status, fits.status] == [431, 431, 200]
    assert endless.status in {431, 0}  # 0: the connection was cut while it was still talking


async def test_slow_requests_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "BODY_WITHIN_S", 0.2)
    monkeypatch.setattr(connection, "HEAD_WITHIN_S", 0.2)
    async with serving(config_in(tmp_path)) as peer:
        head = f"POST /search HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\n"
        kind = "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        body = await peer.say((head + kind).encode())
        unfinished = await peer.say(head.encode())
        silent = await peer.say(b"")
        second = await peer.say(
            f"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\n\r\nGET /hea".encode()
        )
    assert [body.status, unfinished.status, silent.status] == [408, 408, 408]
    assert second.status == 200


async def test_many_connections_are_turned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 8)
    async with serving(config_in(tmp_path)) as peer:
        idle = [await asyncio.open_connection("127.0.0.1", peer.port) for _ in range(10)]
        busy = await peer.get("/health/live")
        for _, writer in idle:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in idle))
        async with asyncio.timeout(10):
            while (await peer.get("/health/live")).status != 200:
                pass
    assert busy.status == 503


async def test_noise_harms_nobody(tmp_path: Path):
    seed = 20_260_101
    chance = random.Random(seed)  # noqa: S311 -- a test's data
    async with serving(config_in(tmp_path)) as peer:
        valid = f"POST /search HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\nContent-Length: 2\r\n"
        start = f"{valid}Content-Type: application/json\r\n\r\n{{}}".encode()
        for _ in range(300):
            noise = bytearray(start)
            for _ in range(chance.randrange(1, 8)):
                noise[chance.randrange(len(noise))] = chance.randrange(256)
            reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
            writer.write(noise[: chance.randrange(1, len(noise) + 1)])
            writer.write_eof()
            first = await asyncio.wait_for(reader.read(12), 5) if chance.random() < 0.2 else b""
            writer.close()
            assert not first.startswith(b"HTTP/1.1 5"), (seed, bytes(noise))
        answer = await peer.get("/health/live")
    assert answer.status == 200
