"""A server that speaks RESP as a test tells it to, for what a real Redis does rarely or never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import cast

import hiredis

Answers = Mapping[bytes, bytes | Callable[["Client", list[bytes]], bytes]]
"""What is answered, by the command in capitals; b"" is silence."""

HELLO = b"%1\r\n+version\r\n+7.0.15\r\n"
OK = b"+OK\r\n"
MODERN: Answers = {b"HELLO": HELLO, b"CLIENT": OK, b"PING": b"+PONG\r\n", b"AUTH": OK}


class Client:
    """A connection, as the server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.said: list[list[bytes]] = []
        self.flights: list[bytes] = []  # as they were read

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def reset(self) -> None:
        self.writer.transport.abort()


class ScriptedRedis:
    def __init__(self, answers: Answers) -> None:
        self.answers = dict(answers)
        self.port = 0
        self.clients: list[Client] = []

    @property
    def said(self) -> list[list[bytes]]:
        """All commands, of all connections."""
        return [words for client in self.clients for words in client.said]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(reader, writer)
        self.clients.append(client)
        parser = hiredis.Reader()
        with suppress(OSError):
            while data := await reader.read(1 << 20):
                client.flights.append(data)
                parser.feed(data)
                while words := cast("list[bytes]", parser.gets()):
                    client.said.append(words)
                    self.answer(client, words)
        writer.close()

    def answer(self, client: Client, words: list[bytes]) -> None:
        found = self.answers.get(words[0].upper(), b"-ERR unknown command\r\n")
        client.write(found if isinstance(found, bytes) else found(client, words))


@asynccontextmanager
async def scripted_redis(answers: Answers = MODERN) -> AsyncGenerator[ScriptedRedis]:
    server = ScriptedRedis(answers)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for client in server.clients:
            client.reset()
        await listening.wait_closed()
        await asyncio.sleep(0)  # the ends are told
