"""The Redis that we ship: its configuration, its containers' scripts, its certificates."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import ssl
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.redis_kit import (
    MAKE_CERTS,
    PROGRAM,
    Certificates,
    RedisServer,
    redis_server,
    running,
    until,
)

from querycache.config import FIELDS

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "redis"
HOW_TO = ROOT / "docs" / "how-to" / "run-redis.md"
CONF = DEPLOY / "redis.conf"
COMPOSE = ROOT / "docker-compose.cache.yml"
WORD = "open sesame"

IN_FORCE = {
    "bind": "127.0.0.1 -::1",
    "protected-mode": "yes",
    "port": "6379",
    "tcp-keepalive": "300",
    "timeout": "0",
    "maxmemory": "2147483648",
    "maxmemory-policy": "allkeys-lru",
    "maxmemory-samples": "10",
    "lazyfree-lazy-eviction": "yes",
    "lazyfree-lazy-expire": "yes",
    "lazyfree-lazy-server-del": "yes",
    "lazyfree-lazy-user-del": "yes",
    "lazyfree-lazy-user-flush": "yes",
    "save": "900 1 300 10 60 10000",
    "stop-writes-on-bgsave-error": "no",
    "appendonly": "no",
    "client-output-buffer-limit": (
        "normal 268435456 67108864 60 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
    ),
    "daemonize": "no",
    "logfile": "",
    "loglevel": "notice",
}
"""What CONFIG GET says of each directive of redis.conf."""


class Configured(RedisServer):
    """A server on our redis.conf, with options on top."""

    conf = CONF

    def _arguments(self) -> Sequence[str]:
        own = ("--port", str(self.port), "--unixsocket", str(self.socket))
        return (str(self.conf), *own, "--dir", str(self.folder), *self.options)


class Started(RedisServer):
    """A server as a container starts it, but on loopback and in a folder of its own."""

    where: Sequence[str] = ("--bind", "127.0.0.1")

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        super().__init__(folder, *options)
        programs = folder / "bin"
        programs.mkdir()
        (programs / "redis-server").symlink_to(shutil.which(PROGRAM) or PROGRAM)
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "TMPDIR": str(folder),
            **environment,
            "REDIS_PORT": str(self.port),
        }

    @property
    def password(self) -> str:
        return (self.environment or {}).get("REDIS_PASSWORD", "")

    def _command(self) -> Sequence[str | Path]:
        own = ("--unixsocket", str(self.socket), "--dir", str(self.folder))
        return ("sh", DEPLOY / "start.sh", *own, *self.where, *self.options)

    def healthy(self, **environment: str) -> bool:
        """What the health check of the container finds."""
        return not subprocess.run(
            ["sh", DEPLOY / "healthy.sh"],
            env={**(self.environment or {}), **environment},
            capture_output=True,
            check=False,
        ).returncode


async def settings(server: RedisServer, *names: str) -> dict[str, str]:
    flat: list[bytes] = []
    for name in names:
        flat += await server.ask("CONFIG", "GET", name)
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def resolved(text: str, **environment: str) -> str:
    """With `${NAME:-default}` replaced as compose does it."""
    return re.sub(
        r"\$\{(\w+):-([^}]*)\}", lambda found: environment.get(found[1]) or found[2], text
    )


def environment_of(service: str, **environment: str) -> dict[str, str]:
    """What the container of a service gets where these variables are set."""
    variables: dict[str, str] = compose()["services"][service]["environment"]
    return {name: resolved(text, **environment) for name, text in variables.items()}


# redis.conf


@pytest.mark.asyncio
async def test_every_directive_of_redis_conf_is_in_force(tmp_path: Path):
    lines = [line.split()[0] for line in CONF.read_text().splitlines() if line[:1].isalpha()]
    assert set(lines) == IN_FORCE.keys()
    server = Configured(tmp_path)
    async with running([server]):
        found = await settings(server, *IN_FORCE)
        assert found == IN_FORCE | {"port": str(server.port)}


@pytest.mark.asyncio
async def test_a_line_that_redis_does_not_know_stops_it(tmp_path: Path):
    server = Configured(tmp_path)
    server.conf = tmp_path / "guide.conf"
    server.conf.write_text(CONF.read_text() + "tcp-nodelay yes\n")
    with pytest.raises(AssertionError, match="tcp-nodelay"):
        async with running([server]):
            pass


# The scripts of the containers


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"REDIS_MAXMEMORY": "4gb", "REDIS_MAXMEMORY_POLICY": "allkeys-lfu"},
        {"REDIS_PASSWORD": 'a "quoted" \\ $word #1'},
    ],
    ids=["defaults", "memory", "password"],
)
async def test_the_environment_of_compose_is_as_good_as_the_command_line(
    tmp_path: Path, given: dict[str, str]
):
    environment = environment_of("redis-cache", **given)
    names = ("maxmemory", "maxmemory-policy", "requirepass", "tcp-keepalive", "save")
    options = [
        *("--maxmemory", given.get("REDIS_MAXMEMORY", "2gb")),
        *("--maxmemory-policy", given.get("REDIS_MAXMEMORY_POLICY", "allkeys-lru")),
        *(["--requirepass", environment["REDIS_PASSWORD"]] if "REDIS_PASSWORD" in given else []),
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    by_environment = Started(tmp_path / "a", **environment)
    by_hand = Configured(tmp_path / "b", *options)
    async with running([by_environment, by_hand]):
        found = await settings(by_environment, *names)
        assert found == await settings(by_hand, *names)
        assert found["maxmemory"] == str(2**32 if "REDIS_MAXMEMORY" in given else 2**31)
        assert found["requirepass"] == given.get("REDIS_PASSWORD", "")


@pytest.mark.asyncio
async def test_in_a_container_it_listens_on_all_addresses(tmp_path: Path):
    server = Started(tmp_path)
    server.where = ("--port", "0")  # but not here, where it would be open to the network
    async with running([server]):
        found = await settings(server, "bind", "protected-mode")
        assert found == {"bind": "* -::*", "protected-mode": "no"}


@pytest.mark.asyncio
@pytest.mark.parametrize("password", ["", WORD])
async def test_the_health_check_knows_a_server_that_answers(tmp_path: Path, password: str):
    server = Started(tmp_path, REDIS_PASSWORD=password)
    async with running([server]):
        assert server.healthy()
        assert server.healthy(REDIS_PASSWORD=WORD[::-1]) is not bool(password)
        server.stop()
        assert not server.healthy()


def files_with(word: str, folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*.conf") if word in each.read_text()]


@pytest.mark.asyncio
async def test_a_password_does_not_lie_open(tmp_path: Path):
    server = Started(tmp_path, REDIS_PASSWORD=WORD)
    async with running([server]):
        (file,) = files_with(WORD, tmp_path)
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert server.process is not None
        assert WORD not in str(server.process.args)


@pytest.mark.asyncio
async def test_three_nodes_become_a_cluster_once(tmp_path: Path):
    command: list[str] = compose()["services"]["redis-node-1"]["command"]
    options = command[command.index("/etc/redis/start.sh") + 1 :]
    nodes: list[Started] = []
    for name in "abc":
        (tmp_path / name).mkdir()
        nodes.append(Started(tmp_path / name, *options, REDIS_PASSWORD=WORD))
    addresses = [f"127.0.0.1:{node.port}" for node in nodes]
    join = ["sh", str(DEPLOY / "make-cluster.sh"), *addresses]
    async with running(nodes):

        async def join_them() -> str:
            process = await asyncio.create_subprocess_exec(
                *join, env=nodes[0].environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            said = (await process.communicate())[0].decode()
            assert process.returncode == 0, said
            return said

        assert "All 16384 slots covered" in await join_them()
        for node in nodes:

            async def whole(node: RedisServer = node) -> bool:
                return b"cluster_state:ok" in await node.ask("CLUSTER", "INFO")

            await until(whole, "the cluster is whole")
        assert "already" in await join_them()


# The page

RECIPE = re.search(r"ACL SETUSER .*?(?=```)", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.asyncio
async def test_the_user_of_the_page_can_do_what_is_needed_and_no_more():
    assert RECIPE is not None
    allowed = [word[1:] for word in RECIPE[0].split() if word[0] == "+"]
    assert len(allowed) > 20
    async with redis_server() as server:
        assert await server.ask(*RECIPE[0].split()) == b"OK"

        async def may(command: str) -> bool:
            said = await server.ask("ACL", "DRYRUN", "querycache", *command.split())
            return said == b"OK"

        for command in (
            "GET codebase_rag:file:_:a",
            "MGET codebase_rag:file:_:a codebase_rag:meta:ver:x",
            "SET codebase_rag:file:_:a value PX 1000",
            "EVAL return 1 codebase_rag:file:_:a",
            "CLIENT TRACKING ON BCAST PREFIX codebase_rag:",
            "PUBLISH codebase_rag:meta:told message",
            "SUBSCRIBE codebase_rag:meta:told",
            "HELLO 3",
            "TIME",
            "SET codebase_rag:meta:process:{all}:00 post PX 20000 GET",
        ):
            assert await may(command), command
        for command in (
            "GET another:name",
            "MGET codebase_rag:file:_:a another:name",
            "SUBSCRIBE another",
            "FLUSHALL",
            "KEYS codebase_rag:*",
            "CONFIG GET maxmemory",
            "CLIENT LIST",
            "SCRIPT FLUSH",
            "SHUTDOWN",
        ):
            assert not await may(command), command


def test_the_page_speaks_of_what_is_there():
    text = HOW_TO.read_text(encoding="utf-8")
    named = {
        name
        for line in re.findall(r"compose -f .*", text)
        for name in re.findall(r" (redis-[a-z-]+)", line)
    }
    services, profiles = compose()["services"], set(re.findall(r"--profile (\S+)", text))
    assert named
    assert named <= services.keys()
    assert profiles == {name for each in services.values() for name in each.get("profiles", [])}
    for path in re.findall(r"\bdeploy/redis/[\w-]+\.(?:conf|sh)\b", text):
        assert (ROOT / path).is_file()
    for name in re.findall(r"\b(?:REDIS|CACHE)_[A-Z_]+\b", text):
        assert name in FIELDS
    for name in re.findall(r"\bDOCKER_[A-Z_]+\b", text):
        assert name in COMPOSE.read_text(encoding="utf-8")


# Certificates


def make_certs(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MAKE_CERTS, *arguments], capture_output=True, text=True, check=False, timeout=20
    )


def openssl(*arguments: str | Path) -> str:
    return subprocess.run(
        ["openssl", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout


def test_certificates_are_for_the_names_given_and_keys_for_their_owner(tmp_path: Path):
    folder = tmp_path / "certs"
    done = make_certs("--days", "30", folder, "cache.example.org", "192.0.2.7", "2001:db8::1")
    assert done.returncode == 0, done.stderr
    authority = ("-x509_strict", "-CAfile", folder / "ca.crt")
    openssl("verify", *authority, "-purpose", "sslserver", folder / "redis.crt")
    openssl("verify", *authority, "-purpose", "sslclient", folder / "client.crt")
    for name in ("localhost", "cache.example.org"):
        openssl("verify", *authority, "-verify_hostname", name, folder / "redis.crt")
    for address in ("127.0.0.1", "::1", "192.0.2.7", "2001:db8::1"):
        openssl("verify", *authority, "-verify_ip", address, folder / "redis.crt")
    openssl("x509", "-in", folder / "redis.crt", "-noout", "-checkend", str(29 * 86_400))
    for name in ("ca", "redis", "client"):
        assert stat.S_IMODE((folder / f"{name}.key").stat().st_mode) == 0o600
        assert stat.S_IMODE((folder / f"{name}.crt").stat().st_mode) == 0o644


def test_certificates_are_replaced_only_on_demand(tmp_path: Path):
    assert make_certs(tmp_path).returncode == 0
    before = (tmp_path / "redis.crt").read_bytes()
    refused = make_certs(tmp_path)
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert (tmp_path / "redis.crt").read_bytes() == before
    assert make_certs("--force", tmp_path).returncode == 0
    assert (tmp_path / "redis.crt").read_bytes() != before
    openssl("verify", "-CAfile", tmp_path / "ca.crt", tmp_path / "redis.crt")


def test_make_certs_says_how_to_use_it(tmp_path: Path):
    assert make_certs("--help").stdout.startswith("usage: make-certs.sh")
    assert make_certs("--nonsense").returncode == 2
    assert "number" in make_certs("--days", "soon", tmp_path / "a").stderr
    assert "host name" in make_certs(tmp_path / "a", "a,DNS:evil").stderr
    assert not (tmp_path / "a").exists()


def redis_cli(server: RedisServer, *options: str | Path) -> str:
    """What redis-cli hears over TLS."""
    where = ("-h", "localhost", "-p", str(server.port), "--tls")
    done = subprocess.run(
        ["redis-cli", *where, *options, "ping"], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.asyncio
async def test_the_tls_service_speaks_to_those_who_know_its_authority(tmp_path: Path):
    files = Certificates.make(tmp_path / "certs")
    other = Certificates.make(tmp_path / "other")
    environment = environment_of("redis-cache-tls") | {"REDIS_TLS_FOLDER": str(files.ca.parent)}
    server = Started(tmp_path, **environment)
    async with running([server]):
        assert server.healthy()
        assert redis_cli(server, "--cacert", files.ca) == "PONG\n"
        assert "certificate verify failed" in redis_cli(server, "--cacert", other.ca)
        shown = openssl("s_client", "-connect", f"localhost:{server.port}", "-tls1_2")
        assert re.search(r"Protocol *: TLSv1\.2", shown)
        own = ("--cacert", files.ca, "--cert", other.client_cert, "--key", other.client_key)
        assert "PONG" not in redis_cli(server, *own)


@pytest.mark.asyncio
async def test_the_tls_service_may_ask_for_a_certificate(tmp_path: Path):
    files = Certificates.make(tmp_path / "certs")
    server = Started(
        tmp_path,
        REDIS_TLS_FOLDER=str(files.ca.parent),
        REDIS_TLS_CLIENTS="yes",
        REDIS_PASSWORD=WORD,
    )
    async with running([server]):
        assert server.healthy()
        assert "PONG" not in redis_cli(server, "--cacert", files.ca)
        own = ("--cacert", files.ca, "--cert", files.client_cert, "--key", files.client_key)
        assert redis_cli(server, *own, "--no-auth-warning", "-a", WORD) == "PONG\n"


@pytest.mark.asyncio
async def test_without_certificates_the_tls_service_says_how_to_make_them(tmp_path: Path):
    server = Started(tmp_path, REDIS_TLS_FOLDER=str(tmp_path))
    with pytest.raises(AssertionError, match=r"redis\.crt.*make-certs\.sh"):
        async with running([server]):
            pass


async def said_to(context: ssl.SSLContext, host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    writer.write(b"PING\r\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.asyncio
async def test_a_self_signed_pair_works_by_its_name_and_by_nothing_else(tmp_path: Path):
    """`openssl req -x509` alone gives one that names no host but in its subject."""
    folder = tmp_path / "certs"
    folder.mkdir()
    openssl(
        *("req", "-x509", "-nodes", "-days", "365", "-newkey", "rsa:2048"),
        *("-keyout", folder / "redis.key", "-out", folder / "redis.crt"),
        *("-subj", "/C=US/ST=State/L=City/O=Organization/CN=localhost"),
    )
    server = Started(tmp_path, REDIS_TLS_FOLDER=str(folder))
    async with running([server]):
        assert server.healthy()
        assert redis_cli(server, "--cacert", folder / "redis.crt") == "PONG\n"
        context = ssl.create_default_context(cafile=folder / "redis.crt")
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python's own default since 3.13
        context.load_cert_chain(folder / "redis.crt", folder / "redis.key")
        assert await said_to(context, "localhost", server.port) == b"+PONG\r\n"
        with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
            await said_to(context, "127.0.0.1", server.port)


# docker-compose.cache.yml


def test_the_service_and_its_container_are_called_redis_cache():
    service = compose()["services"]["redis-cache"]
    assert service["container_name"] == "redis-cache"
    assert "profiles" not in service
    assert "depends_on" not in service


@pytest.mark.parametrize("name", compose()["services"])
def test_a_service_is_pinned_bounded_and_on_loopback(name: str):
    service = compose()["services"][name]
    assert re.fullmatch(r"redis:\d+\.\d+\.\d+", service["image"])
    assert re.fullmatch(r"\d+g", resolved(service["mem_limit"]))
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["restart"] == "no" or service["healthcheck"]["test"][-1].endswith("healthy.sh")
    for volume in service["volumes"]:
        source, target = volume.split(":")[:2]
        if source.startswith("./"):
            assert (ROOT / source).exists()
            assert volume.endswith(":ro")
        else:
            assert target == "/data"
            assert compose()["volumes"][source] is None  # of this project; `down -v` removes it


def test_ports_are_those_that_the_documentation_names():
    services = compose()["services"]
    assert services["redis-cache"]["ports"] == ["127.0.0.1:6379:6379"]
    assert services["redis-cache-tls"]["ports"] == ["127.0.0.1:6380:6380"]
    assert services["redis-cache-tls"]["profiles"] == ["tls"]
    assert services["redis-cache-tls"]["environment"]["REDIS_PORT"] == "6380"


def test_variables_are_settings_with_the_same_defaults():
    found = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE.read_text()))
    ours = {name for name in found if not name.startswith("DOCKER_")}
    assert ours == {"REDIS_MAXMEMORY", "REDIS_MAXMEMORY_POLICY", "REDIS_PASSWORD"}
    for name in ours - {"REDIS_PASSWORD"}:
        assert FIELDS[name].default == found[name]


COMPOSE_PROGRAM = next(
    (
        words
        for words in (["docker", "compose"], ["docker-compose"])
        if shutil.which(words[0])
        and not subprocess.run([*words, "version"], capture_output=True, check=False).returncode
    ),
    None,
)


@pytest.mark.skipif(COMPOSE_PROGRAM is None, reason="docker compose is not installed")
def test_compose_accepts_its_file():
    assert COMPOSE_PROGRAM is not None
    profiles = ("--profile", "tls", "--profile", "cluster")
    done = subprocess.run(
        [*COMPOSE_PROGRAM, "-f", COMPOSE, *profiles, "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
