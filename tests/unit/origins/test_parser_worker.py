"""The parser's process answers in order and ends with its input."""

from __future__ import annotations

import io
import subprocess
import sys

import msgspec

from querycache.origins.parser_wire import LENGTH, Reply, Request, frame
from querycache.origins.parser_worker import cut, serve


def replies(stream: bytes) -> list[bytes]:
    bodies: list[bytes] = []
    while stream:
        (size,) = LENGTH.unpack_from(stream)
        bodies.append(stream[LENGTH.size : LENGTH.size + size])
        stream = stream[LENGTH.size + size :]
    return bodies


def request(language: str, data: bytes) -> bytes:
    return frame(msgspec.msgpack.encode(Request(language, data)))


def test_replies_come_in_the_order_of_the_requests():
    source = io.BytesIO(request("python", b"a = 1\n") + request("text", b"b\n"))
    sink = io.BytesIO()
    serve(source, sink, cpu_limit_s=60)
    ready, *bodies = replies(sink.getvalue())
    assert ready == b""
    decoded = [msgspec.msgpack.decode(body, type=Reply) for body in bodies]
    assert decoded == [cut("python", b"a = 1\n"), cut("text", b"b\n")]


def test_the_process_ends_with_its_input():
    command = [sys.executable, "-m", "querycache.origins.parser_worker", "5"]
    done = subprocess.run(
        command, input=request("go", b"package p\n"), capture_output=True, timeout=20, check=True
    )
    assert len(replies(done.stdout)) == 2
    assert done.stderr == b""
