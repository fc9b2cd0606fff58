"""A server that is asked within limits of time, and left alone for a while after it failed."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from querycache.clock import Clock
from querycache.origins.index_shared import VectorsUnavailableError

T = TypeVar("T")
C = TypeVar("C")

SEARCH_S = 1.0
"""Patience of a search, which can do without."""

REST_S, LONGEST_REST_S = 5.0, 60.0
"""Nothing is asked for so long after a failure; twice as long after each further one."""

_CONNECT_S = 60.0
"""What loading the client may take; only indexing waits for it."""

_logger = logging.getLogger(__name__)


class Server(Generic[C]):
    """`client` is loaded behind: a search does without until it is there.

    Attributes:
        trouble: Why the server can't be used now; "" while nothing is known against it.
    """

    def __init__(self, name: str, connect: Callable[[], C], clock: Clock) -> None:
        self.trouble = ""
        self.client: Future[C] = _behind(connect)
        self._name = name
        self._clock = clock
        self._resting_until = -math.inf
        self._rest = REST_S

    def ask(self, seconds: float, call: Callable[[C], T]) -> T:
        """What `call` gives. Raises `VectorsUnavailableError`."""
        if self._clock.monotonic() < self._resting_until:
            raise VectorsUnavailableError(self.trouble)
        if seconds <= SEARCH_S and not self.client.done():
            raise VectorsUnavailableError("the client is still loading")
        try:
            client = self.client.result(_CONNECT_S)
            answer = _behind(lambda: call(client)).result(seconds)
        except TimeoutError:
            raise self.failed(f"no answer within {seconds:g} s") from None
        except Exception as error:  # whatever comes over a wire
            raise self.failed(_told(error)) from error
        if self.trouble:
            _logger.warning("%s answers again", self._name)
            self.trouble, self._rest = "", REST_S
        return answer

    def failed(self, why: str) -> VectorsUnavailableError:
        """Notes a failure; the error to raise."""
        if not self.trouble:
            _logger.warning("searching without %s: %s", self._name, ascii(why))
        self.trouble = why
        self._resting_until = self._clock.monotonic() + self._rest
        self._rest = min(2 * self._rest, LONGEST_REST_S)
        return VectorsUnavailableError(why)


def _behind(call: Callable[[], T]) -> Future[T]:
    """Runs it in a thread that holds up neither the caller nor the end of the process."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 -- the caller's to judge
            answer.set_exception(error)

    threading.Thread(target=run, name="querycache qdrant", daemon=True).start()
    return answer


def _told(error: BaseException) -> str:
    """One line, without the page that a proxy may have sent."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
