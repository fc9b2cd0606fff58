"""What can be read of settings of which some are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from querycache.config.lenient import load_leniently
from querycache.errors import ConfigError


def environ(tmp_path: Path, **variables: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), **variables}


def test_what_is_wrong_is_at_its_default_and_the_rest_is_not(tmp_path: Path):
    given = environ(tmp_path, CACHE_LEVEL="L3", REDIS_PORT="port", REDIS_HOST="cache.example")
    found = load_leniently(given, tmp_path)
    assert "CACHE_LEVEL='L3'" in found.problem
    assert "REDIS_PORT='port'" in found.problem
    assert found.remedy
    config = found.loaded.config
    assert (config.core.level, config.redis.port) == ("BOTH", 6379)
    assert config.redis.host == "cache.example"
    assert given["CACHE_LEVEL"] == "L3"


def test_what_is_wrong_in_the_file_is_left_out_too(tmp_path: Path):
    (tmp_path / ".env").write_text("CACHE_LEVEL=L3\nCACHE_DEFAULT_TTL=60\n")
    found = load_leniently(environ(tmp_path), tmp_path)
    assert "CACHE_LEVEL" in found.problem
    assert found.loaded.config.core.default_ttl_s == 60


def test_settings_that_contradict_each_other(tmp_path: Path):
    thresholds = {"CACHE_MEMORY_WARNING_THRESHOLD": "0.95", "QUERYCACHE_VECTOR_STORE": "qdrant"}
    found = load_leniently(environ(tmp_path, **thresholds), tmp_path)
    assert "CACHE_MEMORY_WARNING_THRESHOLD" in found.problem
    assert found.loaded.config.vector_store.kind == "sqlite"


def test_a_key_never_goes_to_an_address_that_a_file_chose(tmp_path: Path):
    (tmp_path / ".env").write_text("REDIS_URL=redis://elsewhere.example\n")
    given = environ(tmp_path) | {"REDIS_PASSWORD": "s3cret"}
    found = load_leniently(given, tmp_path)
    redis = found.loaded.config.redis
    assert "REDIS_URL" in found.problem
    assert (redis.host, redis.password.reveal()) == ("localhost", "")


def test_settings_that_are_fine_have_no_problem(tmp_path: Path):
    found = load_leniently(environ(tmp_path), tmp_path)
    assert (found.problem, found.remedy) == ("", "")


def test_what_no_default_heals_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def nobody(_uid: int) -> object:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(ConfigError, match="home"):
        load_leniently({}, tmp_path)
