"""What is wrong with a redis.conf, held against what a redis-server says of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.redis_kit import PROGRAM

from querycache.usecases.diagnose.directives import SHAPES
from querycache.usecases.diagnose.redis_conf import judge

SANE = "maxmemory 1gb\nmaxmemory-policy allkeys-lru\n"
GOOD = (
    "save 900 1 300 10",
    'save ""',
    "timeout 0",
    "maxmemory 2GB",
    "appendonly YES",
    "client-output-buffer-limit normal 256mb 64mb 60",
    "client-output-buffer-limit normal 0 0 0 pubsub 32mb 8mb 60",
    "notify-keyspace-events Ex",
    "loglevel notice",
    "rename-command FLUSHALL x",
    "shutdown-on-sigterm nosave now",
    "tls-port 0",
    "maxmemory-clients 5%",
    "list-max-listpack-size -2",
)
BAD = (
    "tcp-nodelay yes",
    "maxmemory banana",
    "maxmemory 2gb # inline",
    "maxmemory-policy lru",
    "timeout never",
    "timeout -1",
    "save 900",
    "appendonly maybe",
    "port 99999",
    "databases 0",
    "client-output-buffer-limit normal 1 2",
    "notify-keyspace-events Q",
    "loglevel loud",
    "rename-command FLUSHALL",
    'requirepass "open',
    "maxmemory-clients some",
    "unixsocketperm rwx",
)


def stops(text: str) -> list[int]:
    """The lines that would keep a server from starting."""
    return [one.line for one in judge(text) if one.stops]


@pytest.mark.parametrize("line", GOOD)
def test_a_line_that_is_fine(line: str):
    assert stops(SANE + line) == []


@pytest.mark.parametrize("line", BAD)
def test_a_line_that_stops_the_server(line: str):
    assert stops(SANE + line + "\n# a comment\n\n") == [3]


def test_the_server_says_the_same(tmp_path: Path):
    """It reads up to the first wrong line, which is the last one of each of these files."""
    for line in (*GOOD, *BAD):
        path = tmp_path / "redis.conf"
        path.write_text(f"{line}\ntcp-nodelay yes\n")
        said = subprocess.run([PROGRAM, path], capture_output=True, text=True, check=False).stderr
        found = re.search(r"at line (\d+)", said)
        assert found is not None, said
        assert int(found[1]) == stops(path.read_text())[0], line


def test_what_is_dangerous_in_a_cache():
    def said(text: str) -> list[str]:
        return [one.why for one in judge(text)]

    assert said(SANE) == []
    assert "without maxmemory" in said("maxmemory-policy allkeys-lru")[0]
    assert "without maxmemory" in said(f"{SANE}maxmemory 0")[0]
    assert "noeviction" in said("maxmemory 1gb")[0]
    assert "no password" in said(f"{SANE}bind 0.0.0.0")[0]
    assert "no password" in said(f"{SANE}bind 127.0.0.1 10.0.0.7")[0]
    assert "no password" in said(f"{SANE}protected-mode no")[0]
    assert said(f"{SANE}bind 0.0.0.0\nrequirepass s3cret") == []
    assert said(f"{SANE}bind 127.0.0.1 -::1") == []


def test_no_secret_is_shown():
    shown = judge("requirepass s3cret x\nmasterauth s3cret x\ntls-key-file-pass\nUser s3cret")
    assert "s3cret" not in str(shown)
    assert [one.text for one in shown if one.stops] == ["requirepass ***", "masterauth ***"]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("requirepas s3cret", "requirepas ***"),
        ("requirepass=s3cret", "requirepass ***"),
        ("'requirepass' s3cret x", "requirepass ***"),
        ('requirepas "s3cret', "requirepas ***"),
        ("tcp-nodelay yes", "tcp-nodelay yes"),
    ],
)
def test_nor_one_of_a_misspelt_directive(line: str, shown: str):
    (one,) = (one for one in judge(line) if one.stops)
    assert one.text == shown


def test_our_own_is_fine():
    own = Path(__file__).parents[4] / "deploy" / "redis" / "redis.conf"
    assert judge(own.read_text()) == []


def test_every_directive_has_a_shape():
    assert len(SHAPES) > 200
    assert SHAPES["tcp-keepalive"] == "0..int"
    assert "noeviction" in SHAPES["maxmemory-policy"].split("|")
    assert "tcp-nodelay" not in SHAPES
