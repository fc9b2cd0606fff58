"""Addresses of Redis: what each form says, and what is refused without showing a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from querycache.config import load_config
from querycache.config.redis_url import RedisUrl, WrongUrlError, read_redis_url
from querycache.config.secret import Secret
from querycache.errors import ConfigError

SECRET = "sssh-never-show"  # noqa: S105 -- no real one


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("redis://h", RedisUrl("single", tls=False, nodes=(("h", 6379),))),
        ("REDIS://h:7000/", RedisUrl("single", tls=False, nodes=(("h", 7000),))),
        ("redis://h/0", RedisUrl("single", tls=False, nodes=(("h", 6379),), database=0)),
        (
            "rediss://ann:p%40s%2Fs@[::1]:7000/4",
            RedisUrl(
                "single",
                tls=True,
                nodes=(("::1", 7000),),
                user="ann",
                password=Secret("p@s/s"),
                database=4,
            ),
        ),
        (
            "redis://:a:b@h?db=3",
            RedisUrl(
                "single", tls=False, nodes=(("h", 6379),), password=Secret("a:b"), database=3
            ),
        ),
        ("redis://ann@h", RedisUrl("single", tls=False, nodes=(("h", 6379),), user="ann")),
        ("unix:///run/a%20b.sock", RedisUrl("unix", tls=False, path="/run/a b.sock")),
        (
            "unix://u:p@/run/r.sock?db=2",
            RedisUrl(
                "unix",
                tls=False,
                path="/run/r.sock",
                user="u",
                password=Secret("p"),
                database=2,
            ),
        ),
        (
            "redis+sentinel://u:p@h1:1,[fe80::1]:2,h3/main/5?sentinel_user=s&sentinel_password=%25",
            RedisUrl(
                "sentinel",
                tls=False,
                nodes=(("h1", 1), ("fe80::1", 2), ("h3", 26379)),
                service="main",
                user="u",
                password=Secret("p"),
                database=5,
                sentinel_user="s",
                sentinel_password=Secret("%"),
            ),
        ),
        (
            "rediss+sentinel://h/main",
            RedisUrl("sentinel", tls=True, nodes=(("h", 26379),), service="main"),
        ),
        (
            "rediss+cluster://h1,h2:7001/0?ssl_cert_reqs=required",
            RedisUrl("cluster", tls=True, nodes=(("h1", 6379), ("h2", 7001)), database=0),
        ),
    ],
)
def test_what_an_address_says(text: str, said: RedisUrl):
    assert read_redis_url(text) == said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://h", "begins with none of redis://"),
        ("redis:h", "begins with none of"),
        ("redis://", "host or port"),
        ("redis://h:port", "host or port"),
        ("redis://h:0", "host or port"),
        ("redis://h:70000", "host or port"),
        ("redis://h1,h2", "several hosts"),
        ("redis://h/db", "database is a number"),
        ("redis://h/65536", "database is a number"),
        ("redis://h/1?db=2", "two databases"),
        ("redis+cluster://h/1", "no database but 0"),
        ("redis+sentinel://h", "no service"),
        ("redis+sentinel://h//0", "no service"),
        ("unix://", "no socket"),
        ("unix://run/r.sock", "absolute"),
        ("rediss://h?ssl_cert_reqs=none", "ssl_cert_reqs can't be switched off"),
        ("rediss://h?ssl_check_hostname=false", "ssl_check_hostname can't be switched off"),
        ("redis://h?timeout=3", "'timeout' is not known; known are db"),
        ("redis://h?db", "name=value"),
        ("redis://h?db=1&db=1", "twice"),
        ("redis://h?sentinel_user=x", "'sentinel_user' is not known"),
        ("redis://u:%ff@h", "not UTF-8"),
        ("redis://u:%00@h", "NUL"),
        (f"redis://u:1/{SECRET}@h", "percent-encode"),
        (f"redis://u:1?{SECRET}=1@h", "percent-encode"),
        (f"redis://h#{SECRET}", "percent-encode"),
        (f"redis://h?{SECRET}=1", "(not shown)"),
    ],
)
def test_what_is_refused_and_why(tmp_path: Path, text: str, why: str):
    with pytest.raises(WrongUrlError) as wrong:
        read_redis_url(text)
    assert why in str(wrong.value)
    with pytest.raises(ConfigError) as told:
        load_config({"HOME": "/h", "REDIS_URL": text}, tmp_path)
    assert f"REDIS_URL: {wrong.value}" in str(told.value)
    assert SECRET not in str(told.value)


def test_the_settings_say_what_the_address_says(tmp_path: Path):
    url = "rediss+sentinel://ann:pw@h1:1,h2:2/main/5"
    environ = {"HOME": "/h", "REDIS_URL": url, "REDIS_PASSWORD": "other", "REDIS_PORT": "9"}
    loaded = load_config(environ, tmp_path)
    redis = loaded.config.redis
    assert redis.at == read_redis_url(url)
    assert (redis.host, redis.port, redis.db, redis.ssl_enabled) == ("h1", 1, 5, True)
    assert redis.password == Secret("pw")
    assert loaded.sources["REDIS_PORT"] == "REDIS_URL"
    assert "pw" not in repr(loaded)


def test_what_the_address_leaves_open_the_parts_say(tmp_path: Path):
    environ = {
        "HOME": "/h",
        "REDIS_URL": "redis+cluster://ann@h1",
        "REDIS_PASSWORD": "pw",
        "REDIS_SSL_ENABLED": "true",
    }
    redis = load_config(environ, tmp_path).config.redis
    assert (redis.password, redis.ssl_enabled, redis.db) == (Secret("pw"), True, 0)


@pytest.mark.parametrize("line", ["REDIS_URL=redis://evil", "REDIS_HOST=evil"])
def test_a_password_of_the_environment_goes_to_no_address_of_a_dotenv(tmp_path: Path, line: str):
    (tmp_path / ".env").write_text(line)
    with pytest.raises(ConfigError, match=r"is not taken from \.env"):
        load_config({"HOME": "/h", "REDIS_PASSWORD": "pw"}, tmp_path)
    (tmp_path / ".env").write_text(f"{line}\nREDIS_PASSWORD=pw")
    assert load_config({"HOME": "/h"}, tmp_path).config.redis.named
