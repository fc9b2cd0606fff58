"""Who is told of alerts: the log, a webhook, a command."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar

import httpx2
import msgspec

from querycache.observe.event_log import LOGGER
from querycache.ports.alerts import Alert, Receiver

_PATIENCE_S = 10.0
_WAITING = 100


_TELLING: ContextVar[bool] = ContextVar("a webhook is told", default=False)
logging.getLogger("httpx2").addFilter(lambda _: not _TELLING.get())  # it tells every address


class Log:
    """Tells the log: a warning where an alert is raised, a line of information when it is over."""

    async def tell(self, alert: Alert) -> None:
        """One line."""
        if alert.state == "over":
            LOGGER.info("alert over: %s", alert.name)
        else:
            evidence, remedy = ascii(alert.evidence), ascii(alert.remedy)
            LOGGER.warning("alert: %s: %s; remedy: %s", alert.name, evidence, remedy)


class Webhook:
    """POSTs the alert as JSON. A redirect is not followed."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def tell(self, alert: Alert) -> None:
        """Raises `OSError` for no answer within 10 s, and for one that is not 2xx."""
        headers = {"Content-Type": "application/json"}
        body = msgspec.json.encode(alert)
        telling = _TELLING.set(True)
        try:
            async with (
                asyncio.timeout(_PATIENCE_S),
                httpx2.AsyncClient(timeout=_PATIENCE_S) as client,
                client.stream("POST", self._url, content=body, headers=headers) as answer,
            ):
                status, told = answer.status_code, answer.is_success  # its body is not read
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            what = type(error).__name__  # its words may hold the address
            raise OSError(f"the webhook does not answer: {what}") from None
        finally:
            _TELLING.reset(telling)
        if not told:
            raise OSError(f"the webhook answered {status}")


class Command:
    """Runs a command, without a shell, with the alert as JSON on its standard input."""

    def __init__(self, command: str) -> None:
        """Raises `ValueError` where its quotes do not match."""
        self._words = shlex.split(command)

    async def tell(self, alert: Alert) -> None:
        """Raises `OSError` where it can't be started, fails, or takes more than 10 s."""
        process = await asyncio.create_subprocess_exec(
            *self._words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await process.communicate(msgspec.json.encode(alert) + b"\n")
        except TimeoutError:
            raise OSError(f"the alert command took more than {_PATIENCE_S:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise OSError(f"the alert command ended with {process.returncode}")


class Deliveries:
    """Tells every receiver of every alert, in order, behind the caller; a receiver that fails is
    told of in the log. At most 100 alerts wait: of more, the oldest are dropped.
    """

    def __init__(self, receivers: Sequence[Receiver]) -> None:
        self._receivers = receivers
        self._waiting: deque[Alert] = deque(maxlen=_WAITING)
        self._task: asyncio.Task[None] | None = None
        self.failed = 0

    def offer(self, alert: Alert) -> None:
        """Takes an alert; wants a running event loop."""
        self._waiting.append(alert)
        if self._task is None or self._task.done() or self._task.get_loop().is_closed():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._deliver(), name="querycache alerts")

    async def settle(self) -> None:
        """Returns when all that was offered in this loop is delivered."""
        if self._task is not None and self._task.get_loop() is asyncio.get_running_loop():
            await self._task

    async def close(self) -> None:
        """Ends the delivery under way; what waits is dropped."""
        task, self._task = self._task, None
        self._waiting.clear()
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _deliver(self) -> None:
        while self._waiting:
            alert = self._waiting.popleft()
            for receiver in self._receivers:
                try:
                    await receiver.tell(alert)
                except OSError as error:
                    self.failed += 1
                    LOGGER.warning("alert %s was not told: %s", alert.name, ascii(str(error)))
