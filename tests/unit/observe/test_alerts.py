from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from querycache.observe import alerts
from querycache.observe.alerts import Command, Deliveries, Log, Webhook
from querycache.ports.alerts import Alert, Receiver

pytestmark = pytest.mark.asyncio

RAISED = Alert("redis.unreachable", "raised", "error", "no\nanswer", "start it", 1.0, 2.0)
OVER = Alert("redis.unreachable", "over", "error", "no answer", "start it", 1.0, 3.0)


class Heard:
    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    async def tell(self, alert: Alert) -> None:
        await asyncio.sleep(0)
        self.alerts.append(alert)


class Broken:
    async def tell(self, alert: Alert) -> None:
        raise OSError(f"nobody hears {alert.name}")


@asynccontextmanager
async def http_server(status: int) -> AsyncGenerator[tuple[str, list[bytes]]]:
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        got.append(await reader.readexactly(length))
        location = "Location: /elsewhere\r\n" if status == 302 else ""
        writer.write(f"HTTP/1.1 {status} x\r\n{location}Content-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/secret-path", got
    finally:
        server.close()
        await server.wait_closed()


async def test_the_log_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="querycache"):
        await Log().tell(RAISED)
        await Log().tell(OVER)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "\n" not in caplog.records[0].message
    assert "start it" in caplog.records[0].message


async def test_a_webhook_gets_the_alert_as_json() -> None:
    async with http_server(204) as (url, got):
        await Webhook(url).tell(RAISED)
    assert msgspec.json.decode(got[0], type=Alert) == RAISED


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_a_webhook_that_refuses_is_an_error_and_a_redirect_is_not_followed(
    status: int,
) -> None:
    async with http_server(status) as (url, got):
        with pytest.raises(OSError, match=str(status)):
            await Webhook(url).tell(RAISED)
    assert len(got) == 1


async def test_a_webhook_that_is_away_is_an_error_that_does_not_tell_its_address() -> None:
    async with http_server(204) as (url, _):
        pass
    with pytest.raises(OSError, match="does not answer") as caught:
        await Webhook(url).tell(RAISED)
    assert "secret-path" not in str(caught.value)


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "drips"])
async def test_a_webhook_that_never_ends_its_answer_holds_nobody_up(
    drips: bool,  # noqa: FBT001 -- pytest names it
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alerts, "_PATIENCE_S", 0.3)
    ended = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 x\r\nContent-Length: 1000000\r\n")
        writer.write(b"" if drips else b"\r\n")
        left = asyncio.ensure_future(reader.read())
        while not left.done():
            writer.write(b"x: y\r\n")
            await asyncio.wait([left], timeout=0.05)
        writer.close()
        ended.set()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    refused = pytest.raises(OSError, match="does not answer") if drips else nullcontext()
    async with server, asyncio.timeout(5):
        with refused:
            await Webhook(f"http://127.0.0.1:{port}/").tell(RAISED)
        await ended.wait()


async def test_no_log_tells_the_address_of_a_webhook(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with http_server(204) as (url, _):
            await Webhook(url).tell(RAISED)
    assert "secret-path" not in caplog.text


async def test_an_address_that_can_not_be_asked_is_an_error() -> None:
    with pytest.raises(OSError, match="does not answer"):
        await Webhook("http://\ud800/secret").tell(RAISED)


async def test_a_command_gets_the_alert_on_its_input(tmp_path: Path) -> None:
    script = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    out = tmp_path / "out file"
    await Command(f"{sys.executable} -c \"{script}\" '{out}'").tell(RAISED)
    assert msgspec.json.decode(out.read_bytes(), type=Alert) == RAISED


@pytest.mark.parametrize(
    "command", ["/nonexistent/command", "/bin/sh -c 'exit 3'"], ids=["absent", "failing"]
)
async def test_a_command_that_fails_is_an_error(command: str) -> None:
    with pytest.raises(OSError, match=r"3|No such"):
        await Command(command).tell(RAISED)


async def test_what_a_command_is_told_is_not_read_by_a_shell(tmp_path: Path) -> None:
    await Command(f"/bin/echo x; touch {tmp_path}/made").tell(RAISED)
    assert not await asyncio.to_thread(os.listdir, tmp_path)


async def test_each_receiver_is_told_in_order_whatever_another_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard = Heard()
    receivers: list[Receiver] = [Broken(), heard]
    deliveries = Deliveries(receivers)
    with caplog.at_level(logging.WARNING, logger="querycache"):
        deliveries.offer(RAISED)
        deliveries.offer(OVER)
        await deliveries.settle()
    assert heard.alerts == [RAISED, OVER]
    assert deliveries.failed == 2
    assert "nobody hears" in caplog.text


async def test_what_waits_is_bounded_and_dropped_at_the_end() -> None:
    heard = Heard()
    deliveries = Deliveries([heard])
    for _ in range(1000):
        deliveries.offer(RAISED)
    await deliveries.settle()
    assert len(heard.alerts) == 100
    deliveries.offer(OVER)
    await deliveries.close()
    assert OVER not in heard.alerts


async def test_a_loop_that_was_closed_over_a_delivery_holds_no_other_up() -> None:
    class Hanging:
        async def tell(self, alert: Alert) -> NoReturn:
            await asyncio.Event().wait()
            raise AssertionError(alert)

    heard = Heard()
    receivers: list[Receiver] = [Hanging()]
    deliveries = Deliveries(receivers)

    def unheard(_loop: asyncio.AbstractEventLoop, _context: dict[str, object]) -> None:
        """Nobody."""

    async def offer() -> None:
        deliveries.offer(RAISED)
        await asyncio.sleep(0)

    def gone() -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(unheard)  # it tells of the task that it leaves
        loop.run_until_complete(offer())
        loop.close()

    await asyncio.to_thread(gone)
    receivers[:] = [heard]
    deliveries.offer(OVER)
    await deliveries.settle()
    assert heard.alerts == [OVER]
