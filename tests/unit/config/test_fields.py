"""The table of variables against the interface that users rely on."""

from __future__ import annotations

import re
from typing import get_type_hints

import msgspec
import pytest

from querycache.config.fields import FIELDS, GROUPS, Field
from querycache.config.readers import Secret
from querycache.config.settings import KindSettings

NAMES = """
CACHE_ENABLED CACHE_LEVEL CACHE_WRITE_STRATEGY CACHE_DEFAULT_TTL CACHE_KEY_PREFIX
CACHE_MAX_KEY_LENGTH CACHE_BATCH_SIZE CACHE_L2_DEADLINE_MS CACHE_LOADER_TIMEOUT_S
CACHE_L2_BACKEND REDIS_HOST REDIS_PORT REDIS_PASSWORD REDIS_DB REDIS_MAX_CONNECTIONS
CACHE_CONNECTION_POOL_SIZE REDIS_SSL_ENABLED REDIS_SSL_CERT_PATH REDIS_SSL_KEY_PATH
REDIS_SSL_CA_CERT_PATH REDIS_CONNECTION_TIMEOUT REDIS_SOCKET_TIMEOUT REDIS_RETRY_ON_TIMEOUT
REDIS_MAX_RETRIES REDIS_URL REDIS_MAXMEMORY REDIS_MAXMEMORY_POLICY MEMORY_CACHE_MAX_SIZE
MEMORY_CACHE_MAX_MEMORY_MB MEMORY_CACHE_TTL MEMORY_CACHE_CLEANUP_INTERVAL
MEMORY_CACHE_EVICTION_POLICY CACHE_EXPIRED_CLEANUP_ENABLED CACHE_COMPRESSION_ENABLED
CACHE_COMPRESSION_THRESHOLD CACHE_COMPRESSION_ALGORITHM CACHE_COHERENCY_CHECK_ENABLED
CACHE_COHERENCY_CHECK_INTERVAL CACHE_MEMORY_PRESSURE_ENABLED CACHE_MEMORY_WARNING_THRESHOLD
CACHE_MEMORY_CRITICAL_THRESHOLD QUERYCACHE_EMBEDDER QUERYCACHE_EMBEDDER_URL
QUERYCACHE_EMBEDDER_MODEL QUERYCACHE_EMBEDDER_API_KEY QUERYCACHE_EMBEDDER_DIMENSIONS
QUERYCACHE_EMBEDDER_BATCH QUERYCACHE_EMBEDDER_TIMEOUT_S CACHE_ENCRYPTION_ENABLED
CACHE_ENCRYPTION_KEY ENCRYPTION_KEY_STORE_PATH ENCRYPTION_KEY_ROTATION_INTERVAL
CACHE_PROJECT_ISOLATION CACHE_ENCRYPTION_KEY_FILE CACHE_ENCRYPTION_KEY_COMMAND
CACHE_SESSION_TIMEOUT CACHE_ACCESS_LOGGING FAILED_ACCESS_THRESHOLD FAILED_ACCESS_WINDOW
CACHE_HEALTH_CHECK_INTERVAL CACHE_LATENCY_THRESHOLD CACHE_HIT_RATE_THRESHOLD
CACHE_METRICS_ENABLED CACHE_LOG_LEVEL CACHE_LOG_OPERATIONS QUERYCACHE_HOME QUERYCACHE_TOKEN
CACHE_SQLITE_MAX_MB QUERYCACHE_MAX_FILE_BYTES QUERYCACHE_SWEEP_INTERVAL_S
"""
OF_KINDS = ("TTL", "ENABLED", "MAX_SIZE", "COMPRESSION", "ENCRYPTION")


def test_the_names_are_the_interface():
    kinds = {
        f"{k}_CACHE_{n}" for k in ("EMBEDDING", "SEARCH", "PROJECT", "FILE") for n in OF_KINDS
    }
    assert FIELDS.keys() == {*NAMES.split(), *kinds}


def test_every_setting_is_declared_once():
    structs = {**GROUPS, "kinds": KindSettings}
    declared = [(name, a) for name, struct in structs.items() for a in get_type_hints(struct)]
    told = {(field.group.partition(".")[0], field.attribute) for field in FIELDS.values()}
    assert {*declared} - told == {("redis", "named")}


READABLE = [f for f in FIELDS.values() if f.group and not f.secret and f.default not in {None, ""}]


@pytest.mark.parametrize("field", READABLE, ids=[field.variable for field in READABLE])
def test_a_reader_gives_the_type_of_its_field(field: Field):
    struct = GROUPS.get(field.group, KindSettings)
    hint = get_type_hints(struct)[field.attribute]
    value = field.reader.read(str(field.default))
    assert msgspec.convert(value, hint, strict=True) == field.default


def test_what_sounds_secret_is_secret():
    sounds = {v for v in FIELDS if re.search(r"PASSWORD|TOKEN$|API_KEY|ENCRYPTION_KEY$", v)}
    secret = {v for v, field in FIELDS.items() if isinstance(field.default, Secret)}
    assert secret == sounds | {"REDIS_URL", "CACHE_ENCRYPTION_KEY_COMMAND"}
