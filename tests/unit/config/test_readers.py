"""The readers of single settings, and secrets."""

from __future__ import annotations

import base64
import copy
import math

import pytest

from querycache.config.readers import (
    HOST,
    KEY,
    REDIS_URL,
    SECONDS,
    SECONDS_OR_NONE,
    SHARE,
    SWITCH,
    TOKEN,
    WEB_ADDRESS,
    Reader,
    Secret,
    choice,
    integer,
    number,
)


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        *[(SWITCH, text, True) for text in ("true", "TRUE", "1", "yes", "On")],
        *[(SWITCH, text, False) for text in ("false", "0", "No", "off")],
        (integer(0, 10), "+10", 10),
        (integer(-5, 10), "-5", -5),
        (number(0, 10), "1e1", 10.0),
        (number(0, 10), ".5", 0.5),
        (SECONDS_OR_NONE, "0", 0.0),
        (SHARE, "1", 1.0),
        (choice("lz4", "none"), "LZ4", "lz4"),
        (choice("true", "strict", "false"), "On", "true"),
        (choice("true", "strict", "false"), "STRICT", "strict"),
        (HOST, "::1", "::1"),
        (WEB_ADDRESS, "http://localhost:11434/v1", "http://localhost:11434/v1"),
    ],
)
def test_allowed(reader: Reader, text: str, value: object):
    read = reader.read(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (SWITCH, "maybe"),
        (integer(0, 10), "11"),
        (integer(0, 10), "-1"),
        (integer(0, 10), "1.0"),
        (integer(0, 10), "1_0"),
        (integer(0, 10), "٣"),
        (integer(0, 10), "9" * 5000),
        (number(0, 10), "inf"),
        (number(0, 10), "nan"),
        (number(0, math.inf), "1e999"),
        (number(0, 10), "10.0001"),
        (SECONDS, "0"),
        (SECONDS, "-1"),
        (SHARE, "0"),
        (choice("lz4", "none"), "zip"),
        (HOST, "a b"),
        (TOKEN, "two words"),
        (TOKEN, "ünicode"),
        (KEY, base64.b64encode(bytes(31)).decode()),
        (KEY, base64.b64encode(bytes(33)).decode()),
        (KEY, "not base64 at all, though of some length...."),
        (WEB_ADDRESS, "file:///etc/passwd"),
        (WEB_ADDRESS, "http://user:password@host"),
        (WEB_ADDRESS, "http://host:99999"),
        (REDIS_URL, "redis://"),
        (REDIS_URL, "redis://host:port"),
        (REDIS_URL, "redis://host/db"),
        (REDIS_URL, "unix://"),
    ],
)
def test_refused(reader: Reader, text: str):
    with pytest.raises((ValueError, KeyError)):
        reader.read(text)


def test_a_secret_shows_nothing():
    secret = Secret("s3cret")
    assert secret.reveal() == "s3cret"
    assert "s3cret" not in f"{secret} {secret!r} {secret!s:>20} {[secret]}"
    assert f"{'***' if secret else 'None'}" == str(secret) == "***"
    assert str(Secret()) == "None"
    assert not Secret()


def test_secrets_compare_by_their_text_and_are_not_copied_to_disk():
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    with pytest.raises(TypeError):
        copy.copy(Secret("a")).__reduce__()
