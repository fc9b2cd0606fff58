"""Settings that don't go together, and those that this build can't honour."""

from __future__ import annotations

from pathlib import Path

import pytest

from querycache.config import check, load_config, not_built
from querycache.errors import ConfigError


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CACHE_MEMORY_CRITICAL_THRESHOLD": "0.8"}, "CACHE_MEMORY_WARNING_THRESHOLD=0.8"),
        ({"REDIS_MAX_CONNECTIONS": "5"}, "CACHE_CONNECTION_POOL_SIZE=10"),
        ({"REDIS_SSL_CERT_PATH": "a.crt"}, "REDIS_SSL_KEY_PATH"),
        ({"REDIS_SSL_ENABLED": "1", "REDIS_SSL_CA_CERT_PATH": "no.crt"}, "no.crt"),
        ({"REDIS_URL": "rediss://h", "REDIS_SSL_CA_CERT_PATH": "no.crt"}, "no.crt"),
        ({"REDIS_URL": "redis+cluster://h", "REDIS_DB": "1"}, "REDIS_DB=1"),
        ({"REDIS_URL": "unix:///run/s", "REDIS_SSL_ENABLED": "1"}, "a socket"),
        ({"REDIS_URL": "redis://ann@h"}, "without a password"),
        ({"QUERYCACHE_VECTOR_STORE": "qdrant"}, "QUERYCACHE_QDRANT_URL"),
    ],
)
def test_a_contradiction_names_both(tmp_path: Path, environ: dict[str, str], words: str):
    with pytest.raises(ConfigError, match=words):
        load_config({"HOME": "/h", **environ}, tmp_path)


def test_certificates_that_exist_are_fine(tmp_path: Path):
    (tmp_path / "ca.crt").write_text("certificate")
    environ = {"HOME": "/h", "REDIS_SSL_ENABLED": "1", "REDIS_SSL_CA_CERT_PATH": "ca.crt"}
    config = load_config(environ, tmp_path).config
    assert config.redis.ssl_ca_cert_path == tmp_path / "ca.crt"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CACHE_PROJECT_ISOLATION": "strict"}, "CACHE_PROJECT_ISOLATION=strict"),
        ({"SEARCH_CACHE_MAX_SIZE": "10"}, "SEARCH_CACHE_MAX_SIZE=10"),
    ],
)
def test_what_is_not_built_is_read_and_refused(
    tmp_path: Path, environ: dict[str, str], words: str
):
    config = load_config({"HOME": "/h", **environ}, tmp_path).config
    assert len(not_built(config)) == 1
    with pytest.raises(ConfigError, match=words) as caught:
        check(config)
    assert caught.value.remedy == not_built(config)[0].remedy


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"CACHE_L2_BACKEND": "redis"},
        {"REDIS_HOST": "localhost"},
        {"REDIS_URL": "redis+cluster://localhost"},
        {"CACHE_WRITE_STRATEGY": "WRITE_BACK"},
        {"CACHE_WRITE_STRATEGY": "WRITE_AROUND"},
        {"REDIS_HOST": "localhost", "CACHE_L2_BACKEND": "sqlite"},
        {"REDIS_HOST": "localhost", "CACHE_LEVEL": "L1_MEMORY"},
        {"FILE_CACHE_ENCRYPTION": "true"},
        {"CACHE_ENCRYPTION_ENABLED": "true"},
    ],
)
def test_what_is_built_passes(tmp_path: Path, environ: dict[str, str]):
    check(load_config({"HOME": "/h", **environ}, tmp_path).config)


def test_settings_without_effect_warn(tmp_path: Path):
    environ = {"HOME": "/h", "EMBEDDING_CACHE_COMPRESSION": "true"}
    assert "changes nothing" in load_config(environ, tmp_path).warnings[0]
