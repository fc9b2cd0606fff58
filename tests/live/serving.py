"""`querycache serve` as a process, with clients that ask it in a loop over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.redis_kit import free_port

COMMAND = [sys.executable, "-m", "querycache"]


def ask(url: str, body: dict[str, object] | None = None) -> dict[str, Any]:
    """A POST of `body`, or a GET; also of what is answered with an error. Raises `OSError`."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


def wait(holds: Callable[[], bool], what: str, patience_s: float = 40.0) -> float:
    """Returns when it holds: after how many seconds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + patience_s, f"not within {patience_s} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


class Served:
    """A running `querycache serve`.

    Attributes:
        said: What it wrote to standard error, once it has ended.
    """

    def __init__(self, home: Path, project: Path, **variables: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.said = ""
        self.process = subprocess.Popen(
            [*COMMAND, "serve", str(project), "--port", str(port)],
            env={**os.environ, "QUERYCACHE_HOME": str(home), **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self, question: str, project: str) -> None:
        """Returns when it finds something."""

        def finds() -> bool:
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            try:
                return bool(self.search(question, project).get("results"))
            except OSError:
                return False

        wait(finds, "it is indexed")

    def search(self, question: str, project: str) -> dict[str, Any]:
        return ask(f"{self.url}/search", {"query": question, "project": project})

    def health(self) -> dict[str, Any]:
        return ask(f"{self.url}/health/cache")

    def end(self, patience_s: float = 20.0) -> float:
        """SIGTERM; how many seconds it took to end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        _, self.said = self.process.communicate(timeout=patience_s)
        return time.monotonic() - began


@contextmanager
def served(home: Path, project: Path, **variables: str) -> Generator[Served]:
    """One that has ended, cleanly, at the end of the block."""
    server = Served(home, project, **variables)
    try:
        yield server
        if server.process.poll() is None:
            server.end()
        assert server.process.returncode in (0, -signal.SIGTERM), server.said
        assert "Traceback" not in server.said
        assert "was destroyed" not in server.said
    finally:
        server.process.kill()
        server.process.wait()
        if server.process.stderr is not None:
            server.process.stderr.close()


class Client:
    """Searches in a loop, in a thread.

    Attributes:
        durations: Of each search, in seconds.
        failed: What was no answer.
    """

    def __init__(self, server: Served, questions: list[str], project: str) -> None:
        self.durations: list[float] = []
        self.failed: list[object] = []
        self._server = server
        self._questions = questions
        self._project = project
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            began = time.monotonic()
            try:
                question = self._questions[number % len(self._questions)]
                answer = self._server.search(question, self._project)
                if not answer.get("results"):
                    self.failed.append(answer)
            except (OSError, ValueError) as error:
                self.failed.append(error)
            self.durations.append(time.monotonic() - began)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
