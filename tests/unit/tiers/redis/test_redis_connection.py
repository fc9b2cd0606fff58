"""A connection: the order of its replies, its deadlines, what ends it, and how it says hello."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import hiredis
import pytest
from tests.redis_kit import RedisServer, redis_server, tls_server, until
from tests.scripted_redis import HELLO, MODERN, OK, Answers, Client, ScriptedRedis, scripted_redis

from querycache.errors import TierError
from querycache.tiers.redis.connection import Connection, Limits
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.greeting import connect, pack
from querycache.tiers.redis.link import DeadlineError, Greeting, Reply, UnreachableError

pytestmark = [pytest.mark.asyncio, pytest.mark.live]

SECRET = "Tr0ub4dor&3"  # noqa: S105 -- of nobody
GET = pack("GET", "k")


class Owner:
    """Notes what a connection reports."""

    def __init__(self) -> None:
        self.notes: list[object] = []
        self.late_calls = 0
        self.errors: list[UnreachableError] = []

    def heard(self, push: list[object]) -> None:
        self.notes.append(push)

    def late(self, count: int) -> None:
        self.late_calls += count

    def lost(self, connection: Connection, error: UnreachableError) -> None:
        del connection
        self.errors.append(error)


@asynccontextmanager
async def connected(
    endpoint: Endpoint,
    greeting: Greeting | None = None,
    *,
    owner: Owner | None = None,
    limits: Limits | None = None,
) -> AsyncGenerator[Connection]:
    connection = await connect(
        endpoint, greeting or Greeting(), owner or Owner(), limits or Limits()
    )
    try:
        yield connection
    finally:
        connection.close()
        await connection.ended


def at(server: RedisServer | ScriptedRedis) -> Endpoint:
    return Endpoint("127.0.0.1", server.port)


def answering(command: bytes, how: Callable[[Client, list[bytes]], bytes] | bytes) -> Answers:
    return {**MODERN, command: how}


async def failure(waiting: asyncio.Future[list[Reply]]) -> TierError:
    with pytest.raises(TierError) as caught:
        await waiting
    return caught.value


async def ended(connection: Connection) -> UnreachableError:
    async with asyncio.timeout(5):
        await connection.ended
    assert connection.error is not None
    return connection.error


# calls


async def test_replies_come_in_the_order_of_the_calls():
    async with redis_server() as server, connected(Endpoint(path=str(server.socket))) as to:
        calls = [to.call(pack("ECHO", number)) for number in range(500)]
        assert [await call for call in calls] == [[b"%d" % number] for number in range(500)]
        assert to.waiting == 0


async def test_several_commands_of_one_call_and_replies_of_every_shape():
    async with redis_server() as server, connected(at(server)) as to:
        data = pack("SET", "k", b"\xff\r\n") + GET + pack("GET", "none") + pack("OOPS")
        *replies, error = await to.call(data, 4)
        assert replies == [b"OK", b"\xff\r\n", None]
        assert isinstance(error, hiredis.ReplyError)
        assert str(error).startswith("ERR unknown command")
        assert await to.call(pack("EVAL", "return {1, {2, 'x'}, redis.error_reply('E y')}", 0))
        assert await to.call(pack("HGETALL", "none")) == [{}]


async def test_calls_of_one_turn_leave_in_one_write():
    async with scripted_redis(answering(b"GET", b"+v\r\n")) as server, connected(at(server)) as to:
        client = server.clients[0]
        before = len(client.flights)
        await asyncio.gather(*(to.call(GET) for _ in range(100)))
        # the first finds the connection idle and does not wait for the others
        assert 1 <= len(client.flights) - before <= 2


async def test_who_is_cancelled_leaves_and_the_late_reply_goes_to_nobody_else():
    async with redis_server() as server, connected(at(server)) as to:
        calls = [to.call(pack("ECHO", number)) for number in range(300)]
        for call in calls[::3]:
            call.cancel()
        kept = [call for call in calls if not call.cancelled()]
        expected = [[b"%d" % number] for number in range(300) if number % 3]
        assert [await call for call in kept] == expected
        assert await to.call(pack("ECHO", "after")) == [b"after"]


async def test_a_cancelled_call_of_several_replies_takes_them_all_with_it():
    async with redis_server() as server, connected(at(server)) as to:
        call = to.call(pack("ECHO", 1) * 3, 3)
        after = to.call(pack("ECHO", 2))
        call.cancel()
        assert await after == [b"2"]


async def test_pushes_come_in_their_place_in_the_stream():
    push = b">2\r\n+invalidate\r\n*1\r\n+name\r\n"
    owner = Owner()
    script = answering(b"GET", push + b"*1\r\n+v\r\n" + push)
    async with scripted_redis(script) as server, connected(at(server), owner=owner) as to:
        call = to.call(GET)
        call.add_done_callback(lambda done: owner.notes.append(done.result()))
        await call
        assert owner.notes == [
            [b"invalidate", [b"name"]],
            [b"invalidate", [b"name"]],  # heard as it was read; who waits wakes up later
            [[b"v"]],
        ]


# time


async def test_an_overdue_call_fails_and_its_late_reply_is_dropped():
    owner = Owner()
    limits = Limits(deadline_s=0.2)
    script = {**MODERN, b"GET": b"", b"ECHO": b"+echo\r\n"}
    async with (
        scripted_redis(script) as server,
        connected(at(server), owner=owner, limits=limits) as to,
    ):
        error = await failure(to.call(GET))
        assert isinstance(error, DeadlineError)
        assert str(error) == f"Redis at 127.0.0.1:{server.port} did not answer within 200 ms"
        assert owner.late_calls == 1
        with pytest.raises(UnreachableError, match="has not answered for"):
            to.call(GET)  # it would only wait behind the other
        server.clients[0].write(b"+late\r\n")
        await until_heard(to)
        assert await to.call(pack("ECHO", "x")) == [b"echo"]
        assert to.error is None


async def until_heard(to: Connection) -> None:
    before = to.heard_at

    async def heard() -> bool:
        return to.heard_at > before

    await until(heard, "a byte")


async def test_a_server_that_goes_on_answering_others_is_not_refused():
    """A slow command, with the replies of those ahead of it still coming."""
    limits = Limits(deadline_s=0.1, patience_s=1.0)
    script = {**MODERN, b"GET": b""}
    async with scripted_redis(script) as server, connected(at(server), limits=limits) as to:
        first, second = to.call(GET), to.call(GET)
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, server.clients[0].write, b"+first\r\n")
        assert await first == [b"first"]
        assert isinstance(await failure(second), DeadlineError)
        third = to.call(GET)
        server.clients[0].write(b"+second\r\n+third\r\n")
        assert await third == [b"third"]


async def test_the_watchdog_ends_a_connection_whose_oldest_call_is_overdue_twice_over():
    owner = Owner()
    limits = Limits(deadline_s=0.1)
    script = answering(b"GET", b"")
    async with (
        scripted_redis(script) as server,
        connected(at(server), owner=owner, limits=limits) as to,
    ):
        calls = [to.call(GET) for _ in range(3)]
        started = asyncio.get_running_loop().time()
        error = await ended(to)
        assert asyncio.get_running_loop().time() - started >= 0.19
        assert "has not answered for" in str(error)
        assert error.code == "slow"
        assert owner.errors == [error]
        assert all([isinstance(await failure(call), DeadlineError) for call in calls])
        with pytest.raises(UnreachableError, match="has not answered for"):
            to.call(GET)


async def test_an_idle_connection_is_pinged_and_one_that_does_not_answer_is_dead():
    limits = Limits(deadline_s=0.1)
    async with scripted_redis() as server, connected(at(server), limits=limits) as to:

        async def pinged() -> bool:
            return [b"PING"] in server.said

        await until(pinged, "a ping")
        await until_heard(to)
        server.answers[b"PING"] = b""
        assert "has not answered" in str(await ended(to))


async def test_a_reply_that_was_there_in_time_is_not_overdue_because_the_loop_stood_still():
    limits = Limits(deadline_s=0.05)
    async with redis_server() as server, connected(at(server), limits=limits) as to:
        calls = [to.call(pack("ECHO", number)) for number in range(3)]
        await asyncio.sleep(0)  # they are on their way
        subprocess.run(["sleep", "0.2"], check=True)  # noqa: ASYNC221 -- the loop stands still
        assert [await call for call in calls] == [[b"0"], [b"1"], [b"2"]]
        assert to.error is None


# what ends it


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"+v\r\n+w\r\n", "sent a reply that nobody asked for"),
        (b"HTTP/1.1 400 Bad Request\r\n", "sent something that is no reply"),
        (b"$90000\r\n" + b"x" * 70_000, "sent a reply that is too large"),
    ],
)
async def test_what_no_server_should_send_ends_it(answer: bytes, message: str):
    owner = Owner()
    limits = Limits(reply_bytes=65_536)
    async with (
        scripted_redis(answering(b"GET", answer)) as server,
        connected(at(server), owner=owner, limits=limits) as to,
    ):
        call = to.call(GET)
        error = await ended(to)
        assert str(error) == f"Redis at 127.0.0.1:{server.port} {message}"
        assert error.remedy
        assert len(owner.errors) == 1
        if "asked" in message:
            assert await call == [b"v"]
        else:
            assert str(await failure(call)) == str(error)


async def test_a_reset_in_the_middle_of_a_reply_gives_nobody_a_part_of_it():
    def half(client: Client, words: list[bytes]) -> bytes:
        del words
        client.write(b"+first\r\n$100\r\nabc")
        asyncio.get_running_loop().call_later(0.01, client.reset)
        return b""

    async with (
        scripted_redis(answering(b"GET", half)) as server,
        connected(at(server)) as to,
    ):
        first, second = to.call(GET + GET, 2), to.call(GET)
        for call in (first, second):
            error = await failure(call)
            assert isinstance(error, UnreachableError)
            assert error.code == "closed"


async def test_a_server_that_takes_nothing_is_refused_more_than_the_limit():
    limits = Limits(unsent_bytes=2_000_000, deadline_s=5.0)
    halt = asyncio.Event()

    class Stuck(ScriptedRedis):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.clients.append(Client(reader, writer))
            await reader.read(100_000)
            writer.write(HELLO + OK)
            await halt.wait()

    server = Stuck({})
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1000)
    server.port = listening.sockets[0].getsockname()[1]
    async with connected(at(server), limits=limits) as to:
        calls: list[asyncio.Future[list[Reply]]] = []
        error: UnreachableError | None = None
        while len(calls) < 1000 and error is None:
            try:
                calls.append(to.call(pack("SET", "k", b"x" * 500_000)))
                await asyncio.sleep(0)
            except UnreachableError as refused:
                error = refused
        assert error is not None
        assert "does not keep up" in str(error)
        assert error.code == "busy"
        assert to.error is None
        for call in calls:
            call.cancel()
    halt.set()
    listening.close()
    for client in server.clients:
        client.reset()
    await listening.wait_closed()
    await asyncio.sleep(0)


async def test_what_is_large_arrives_whole():
    value = os.urandom(3_000_001)
    async with redis_server() as server, connected(at(server), limits=Limits(10.0)) as to:
        calls = [to.call(pack("SET", f"k{number}", value)) for number in range(3)]
        small = to.call(pack("ECHO", "small"))
        assert [await call for call in calls] == [[b"OK"]] * 3
        assert await small == [b"small"]
        assert await to.call(pack("MGET", "k0", "k1", "k2")) == [[value] * 3]


async def test_a_child_process_never_uses_its_parents_connection():
    async with redis_server() as server, connected(at(server)) as to:
        child = os.fork()
        if not child:
            try:
                to.call(pack("SET", "k", "child"))
            except UnreachableError as error:
                os._exit(0 if error.code == "fork" else 2)
            os._exit(1)
        _, status = os.waitpid(child, 0)  # noqa: ASYNC222 -- it ends at once
        assert os.waitstatus_to_exitcode(status) == 0
        assert await to.call(GET) == [None]


# the greeting


async def test_the_greeting_is_done_before_anything_else():
    greeting = Greeting(
        password=SECRET,
        user="me",
        database=2,
        name="qc",
        scripts=(b"return 1", b"return 2"),
        prefixes=(b"a:", b"b:"),
    )
    script = {**MODERN, b"SELECT": OK, b"SCRIPT": b"+sha\r\n"}
    async with scripted_redis(script) as server, connected(at(server), greeting) as to:
        assert to.hearing == "tracked"
        assert to.server == {b"version": b"7.0.15"}
        assert server.said == [
            [b"AUTH", b"me", SECRET.encode()],
            [b"HELLO", b"3"],
            [b"SELECT", b"2"],
            [b"CLIENT", b"SETNAME", b"qc"],
            [b"SCRIPT", b"LOAD", b"return 1"],
            [b"SCRIPT", b"LOAD", b"return 2"],
            b"CLIENT TRACKING ON BCAST PREFIX a: PREFIX b:".split(),
        ]


async def test_a_tracked_connection_hears_of_its_prefixes_also_of_itself():
    greeting = Greeting(prefixes=(b"a:",))
    owner = Owner()
    async with (
        redis_server() as server,
        connected(at(server), greeting, owner=owner) as to,
        connected(Endpoint(path=str(server.socket)), greeting) as other,
    ):
        await to.call(pack("SET", "a:own", 1))
        await other.call(pack("SET", "b:other", 1))
        await other.call(pack("SET", "a:other", 1))
        heard: set[bytes] = set()

        async def told() -> bool:
            await to.call(pack("PING"))
            for _, names in cast("list[tuple[bytes, list[bytes]]]", owner.notes):
                heard.update(names)
            return len(heard) > 1

        await until(told, "two invalidations")
        assert heard == {b"a:own", b"a:other"}


async def test_where_tracking_is_refused_it_subscribes():
    greeting = Greeting(user="u", password=SECRET, prefixes=(b"a:",), channel=b"told")
    owner = Owner()
    async with redis_server() as server, connected(at(server)) as admin:
        acl = ("ACL", "SETUSER", "u", "on", f">{SECRET}", "~*", "&*", "+@all", "-client|tracking")
        assert await admin.call(pack(*acl)) == [b"OK"]
        async with connected(at(server), greeting, owner=owner) as to:
            assert to.hearing == "subscribed"
            assert to.refused["TRACKING"].startswith("NOPERM")
            assert await admin.call(pack("PUBLISH", "told", "news")) == [1]
            assert await to.call(GET) == [None]
            assert owner.notes == [[b"message", b"told", b"news"]]
        await admin.call(pack("ACL", "SETUSER", "u", "-subscribe"))
        async with connected(at(server), greeting) as to:
            assert to.hearing == "deaf"
            assert await to.call(GET) == [None]


async def test_a_server_without_resp3_is_deaf_and_works():
    greeting = Greeting(password=SECRET, database=1, prefixes=(b"a:",), channel=b"told")
    script = {
        b"AUTH": OK,
        b"SELECT": OK,
        b"CLIENT": b"-ERR no\r\n",
        b"GET": b"$-1\r\n",
    }
    async with scripted_redis(script) as server, connected(at(server), greeting) as to:
        assert to.hearing == "deaf"
        assert await to.call(GET) == [None]
        assert [b"SUBSCRIBE", b"told"] not in server.said


def shown(error: BaseException) -> str:
    """All that a log could say of it."""
    return "".join(traceback.format_exception(error)) + repr(vars(error))


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({b"AUTH": b"-WRONGPASS invalid username-password pair\r\n"}, "WRONGPASS"),
        (
            {b"AUTH": f"-ERR unknown command, with args beginning with: `{SECRET}`\r\n".encode()},
            "wrong user or password (refused)",
        ),
        (
            {b"AUTH": b"-ERR AUTH <password> called without any password configured\r\n"},
            "the server has none",
        ),
        ({b"AUTH": OK, b"HELLO": b"-NOAUTH HELLO must be called\r\n"}, "asks for a password"),
    ],
)
async def test_refused_credentials_are_named_and_never_shown(answers: Answers, said: str):
    async with scripted_redis(answers) as server:
        greeting = Greeting(user="me", password=SECRET)
        with pytest.raises(UnreachableError) as caught:
            await connect(at(server), greeting, Owner(), Limits())
        where = f"Error connecting to Redis at 127.0.0.1:{server.port}: "
        assert str(caught.value).startswith(where)
        assert said in str(caught.value)
        assert (caught.value.code, bool(caught.value.remedy)) == ("auth", True)
        assert SECRET not in shown(caught.value) + repr(greeting)


async def test_a_real_server_with_a_wrong_password():
    async with redis_server("--requirepass", "right") as server:
        for greeting in (Greeting(password=SECRET), Greeting()):
            prefixes = tuple(b"%d:" % number for number in range(20))
            asked = Greeting(password=greeting.password, prefixes=prefixes)
            with pytest.raises(UnreachableError) as caught:
                await connect(at(server), asked, Owner(), Limits())
            assert caught.value.code == "auth"
            assert SECRET not in shown(caught.value)
        right = Greeting(password="right")  # noqa: S106 -- of nobody
        async with connected(at(server), right) as to:
            assert await to.call(GET) == [None]


async def test_other_refusals_say_what_to_do():
    async with redis_server() as server:
        with pytest.raises(UnreachableError, match="refuses the database") as caught:
            await connect(at(server), Greeting(database=99), Owner(), Limits())
        assert caught.value.remedy == "correct the database's number"
    loading = {**MODERN, b"CLIENT": b"-LOADING Redis is loading the dataset in memory\r\n"}
    async with scripted_redis(loading) as scripted:
        with pytest.raises(UnreachableError, match="still loading its data"):
            await connect(at(scripted), Greeting(), Owner(), Limits())
    full = {b"HELLO": b"-ERR max number of clients reached\r\n"}
    async with scripted_redis(full) as scripted:
        with pytest.raises(UnreachableError, match="maxclients") as caught:
            await connect(at(scripted), Greeting(name=""), Owner(), Limits())
        assert caught.value.code == "limit"


async def test_where_nobody_listens(tmp_path: Path):
    async with scripted_redis() as server:
        gone = at(server)
    cases = [
        (gone, f"Error connecting to Redis at {gone.where}: refused", "refused"),
        (
            Endpoint(path=str(tmp_path / "no.sock")),
            f"Error connecting to Redis at {tmp_path / 'no.sock'}: no such socket",
            "refused",
        ),
        (
            Endpoint("no.such.host.invalid"),
            "Error connecting to Redis at no.such.host.invalid:6379: host not found",
            "name",
        ),
    ]
    for endpoint, message, code in cases:
        with pytest.raises(UnreachableError) as caught:
            await connect(endpoint, Greeting(), Owner(), Limits(patience_s=10))
        assert (str(caught.value), caught.value.code) == (message, code)
        assert caught.value.remedy


async def test_a_server_that_says_nothing_is_given_up():
    async with scripted_redis({b"HELLO": b"", b"CLIENT": b""}) as server:
        with pytest.raises(DeadlineError, match="no answer within 50 ms"):
            await connect(at(server), Greeting(), Owner(), Limits(patience_s=0.05))


async def test_tls_and_what_it_fails_of():
    patient = Limits(patience_s=10, deadline_s=5)
    async with tls_server() as server:
        files = server.certificates
        trusting = ssl.create_default_context(cafile=files.ca)
        good = ssl.create_default_context(cafile=files.ca)
        good.load_cert_chain(files.client_cert, files.client_key)
        async with connected(Endpoint("127.0.0.1", server.port, tls=good), limits=patient) as to:
            assert await to.call(GET) == [None]
        stranger = ssl.create_default_context()
        cases = [
            (Endpoint("127.0.0.1", server.port), "closed", "it closed the connection"),
            (Endpoint("127.0.0.1", server.port, tls=stranger), "tls", "certificate verify failed"),
            (
                Endpoint("127.0.0.1", server.port, tls=trusting),
                "tls",
                "client's certificate|after the",
            ),
            (
                Endpoint("127.0.0.1", server.port, tls=good, server_hostname="other"),
                "tls",
                "Hostname mismatch",
            ),
            (Endpoint(path=str(server.socket), tls=good, server_hostname="x"), "", "no answer"),
        ]
        for endpoint, code, message in cases:
            limits = patient if code else Limits(patience_s=0.3)
            with pytest.raises(TierError, match=message) as caught:
                await connect(endpoint, Greeting(), Owner(), limits)
            assert getattr(caught.value, "code", "") == code
            assert caught.value.remedy


async def test_an_endpoint_shows_where_it_is():
    assert Endpoint("::1", 6380).where == "[::1]:6380"
    assert Endpoint(path="/run/redis.sock").where == "/run/redis.sock"
