"""Reading the configuration."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querycache.config import FIELDS, Config, Loaded, Secret, load_config
from querycache.config.loading import shown
from querycache.errors import ConfigError

SECRET = "dont-show-me"  # noqa: S105 -- an example
KEY = base64.b64encode(bytes(range(32))).decode()


def load(cwd: Path, environ: dict[str, str] | None = None, dotenv: str | None = None) -> Loaded:
    if dotenv is not None:
        (cwd / ".env").write_text(dotenv, encoding="utf-8")
    return load_config({"HOME": "/home/someone", **(environ or {})}, cwd)


def wrong(cwd: Path, environ: dict[str, str], dotenv: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(cwd, environ, dotenv)
    assert caught.value.remedy
    return str(caught.value)


def test_defaults_are_those_of_the_guide(tmp_path: Path):
    config, sources, warnings = load(tmp_path)
    assert not sources
    assert not warnings
    assert (config.core.enabled, config.core.level) == (True, "BOTH")
    assert (config.core.write_strategy, config.core.default_ttl_s) == ("WRITE_THROUGH", 3600)
    assert (config.core.key_prefix, config.core.max_key_length) == ("codebase_rag", 250)
    assert (config.redis.host, config.redis.port, config.redis.db) == ("localhost", 6379, 0)
    assert (config.redis.max_connections, config.redis.pool_size) == (20, 10)
    assert not config.redis.password
    assert (config.l1.max_size, config.l1.max_memory_mb) == (1000, 256)
    assert (config.l1.eviction_policy, config.l1.cleanup_interval_s) == ("ADAPTIVE", 300)
    assert (config.compression.threshold_bytes, config.compression.algorithm) == (1024, "lz4")
    pressure = config.memory_pressure
    assert (pressure.warning_threshold, pressure.critical_threshold) == (0.8, 0.9)
    lives = {kind: settings.ttl_s for kind, settings in config.kinds.items()}
    assert lives == {
        "embedding": 7200,
        "search": 1800,
        "project": 3600,
        "file": 1800,
        "other": 3600,
    }
    assert (config.safety.encryption_enabled, config.safety.project_isolation) == (False, "true")
    assert (config.embedder.provider, config.embedder.batch) == ("local", 64)
    assert (config.watch.hit_rate_threshold, config.watch.latency_threshold_ms) == (0.6, 50)


@pytest.mark.parametrize(
    ("variable", "text", "group", "attribute", "value"),
    [
        ("CACHE_ENABLED", "Off", "core", "enabled", False),
        ("CACHE_LEVEL", "l1_memory", "core", "level", "L1_MEMORY"),
        ("CACHE_DEFAULT_TTL", "0.5", "core", "default_ttl_s", 0.5),
        ("REDIS_PORT", "6390", "redis", "port", 6390),
        ("REDIS_PASSWORD", SECRET, "redis", "password", Secret(SECRET)),
        ("REDIS_MAX_CONNECTIONS", "15", "redis", "max_connections", 15),
        ("MEMORY_CACHE_MAX_SIZE", "2000", "l1", "max_size", 2000),
        ("MEMORY_CACHE_EVICTION_POLICY", "LRU", "l1", "eviction_policy", "LRU"),
        ("CACHE_COMPRESSION_ALGORITHM", "zstd", "compression", "algorithm", "zstd"),
        ("CACHE_PROJECT_ISOLATION", "yes", "safety", "project_isolation", "true"),
        ("CACHE_ENCRYPTION_KEY", KEY, "safety", "encryption_key", Secret(KEY)),
        ("QUERYCACHE_TOKEN", SECRET, "safety", "token", Secret(SECRET)),
        ("CACHE_L2_BACKEND", "sqlite", "l2", "backend", "sqlite"),
    ],
)
def test_a_variable_reaches_its_field(
    tmp_path: Path, variable: str, text: str, group: str, attribute: str, value: object
):
    config, sources, _ = load(tmp_path, {variable: f" {text} "})
    assert getattr(getattr(config, group), attribute) == value
    assert sources == {variable: "environment"}


def test_each_kind_has_variables_of_its_own(tmp_path: Path):
    config = load(tmp_path, {"FILE_CACHE_TTL": "9", "SEARCH_CACHE_ENABLED": "no"}).config
    assert (config.kinds["file"].ttl_s, config.kinds["search"].ttl_s) == (9, 1800)
    assert (config.kinds["file"].enabled, config.kinds["search"].enabled) == (True, False)


def test_the_environment_wins_over_dotenv(tmp_path: Path):
    dotenv = "CACHE_BATCH_SIZE=7\nexport REDIS_DB='3' # comment\nDATABASE_URL=postgres://x\n"
    config, sources, _ = load(tmp_path, {"CACHE_BATCH_SIZE": "8"}, dotenv)
    assert (config.core.batch_size, config.redis.db) == (8, 3)
    assert sources == {"CACHE_BATCH_SIZE": "environment", "REDIS_DB": ".env"}


def test_an_empty_value_is_the_default_even_over_dotenv(tmp_path: Path):
    config, sources, _ = load(tmp_path, {"REDIS_DB": " "}, "REDIS_DB=3\n")
    assert config.redis.db == 0
    assert not sources


def test_all_that_is_wrong_is_told_at_once_without_any_secret(tmp_path: Path):
    message = wrong(
        tmp_path,
        {
            "REDIS_PORT": "http://user:dont-show-me@host",
            "CACHE_ENCRYPTION_KEY": SECRET,
            "REDIS_URL": f"http://:{SECRET}@host",
            "CACHE_MEMORY_WARNING_THRESHOLD": "0.95",
            "MEMORY_CACHE_MAX_SIZE": "12 apples",
        },
    )
    for name in ("REDIS_PORT", "CACHE_ENCRYPTION_KEY", "REDIS_URL", "MEMORY_CACHE_MAX_SIZE"):
        assert f"{name}" in message
    assert "CACHE_MEMORY_CRITICAL_THRESHOLD=0.9" in message
    assert "1 to 65535" in message
    assert "'12 apples'" in message
    assert SECRET not in message


def test_a_long_wrong_value_is_cut(tmp_path: Path):
    assert len(wrong(tmp_path, {"REDIS_PORT": "9" * 10_000})) < 300


def test_no_secret_is_seen_in_any_form(tmp_path: Path):
    secrets = {field.variable: SECRET for field in FIELDS.values() if field.secret}
    assert len(secrets) == 9
    secrets |= {"CACHE_ENCRYPTION_KEY": KEY, "REDIS_URL": f"rediss://:{SECRET}@host/2"}
    secrets["CACHE_ALERT_WEBHOOK"] = f"https://example.org/{SECRET}"
    loaded = load(tmp_path, secrets)
    seen = f"{loaded!r} {loaded.config!s} {loaded.describe()!r}"
    assert SECRET not in seen
    assert KEY not in seen
    assert loaded.config.redis.password.reveal() == SECRET


def test_a_redis_address_wins_over_the_parts(tmp_path: Path):
    environ = {
        "REDIS_URL": "rediss://:p%40ss@redis.example:7000/4",
        "REDIS_HOST": "elsewhere",
        "REDIS_DB": "9",
    }
    config, sources, _ = load(tmp_path, environ)
    redis = config.redis
    assert (redis.host, redis.port, redis.db) == ("redis.example", 7000, 4)
    assert redis.ssl_enabled
    assert redis.password.reveal() == "p@ss"
    assert sources["REDIS_HOST"] == "REDIS_URL"
    assert redis.named


@pytest.mark.parametrize(
    ("environ", "backend"),
    [
        ({}, "sqlite"),
        ({"REDIS_HOST": "h"}, "redis"),
        ({"REDIS_URL": "unix:///run/redis.sock"}, "redis"),
        ({"REDIS_HOST": "h", "CACHE_L2_BACKEND": "sqlite"}, "sqlite"),
        ({"REDIS_HOST": "h", "CACHE_LEVEL": "L1_MEMORY"}, "none"),
        ({"CACHE_L2_BACKEND": "redis", "CACHE_ENABLED": "false"}, "none"),
        ({"REDIS_PASSWORD": "x"}, "sqlite"),
    ],
)
def test_which_backend(tmp_path: Path, environ: dict[str, str], backend: str):
    assert load(tmp_path, environ).config.l2_backend == backend


def test_folders_follow_the_base_directory_specification(tmp_path: Path):
    config = load(tmp_path).config
    assert config.home == Path("/home/someone/.cache/querycache")
    assert config.safety.key_store_path == Path("/home/someone/.local/share/querycache/keys")
    config = load(tmp_path, {"XDG_CACHE_HOME": "/c", "XDG_DATA_HOME": "relative"}).config
    assert config.home == Path("/c/querycache")
    assert config.data_home == Path("/home/someone/.local/share/querycache")


@pytest.mark.parametrize(("text", "below_home"), [("~/a", True), ("a", False)])
def test_paths_are_absolute(tmp_path: Path, text: str, *, below_home: bool):
    home = load(tmp_path, {"QUERYCACHE_HOME": text}).config.home
    assert home == (Path("/home/someone") if below_home else tmp_path) / "a"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CACHE_ENABELD", "CACHE_ENABLED"),
        ("REDIS_PASWORD", "REDIS_PASSWORD"),
        ("EMBEDDING_CACHE_TLL", "EMBEDDING_CACHE_TTL"),
        ("MEMORY_CACHE_MAXSIZE", "MEMORY_CACHE_MAX_SIZE"),
        ("QUERYCACHE_HOMES", "QUERYCACHE_HOME"),
    ],
)
def test_a_near_miss_warns_with_the_nearest_name(tmp_path: Path, name: str, hint: str):
    warnings = load(tmp_path, {name: SECRET}).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith(name)
    assert warnings[0].endswith(hint)
    assert SECRET not in warnings[0]


def test_names_of_others_do_not_warn(tmp_path: Path):
    assert not load(tmp_path, {"PATH": "/bin", "CACHED": "1", "XREDIS_HOST": "x"}).warnings


def test_dotenv_can_run_no_command(tmp_path: Path):
    message = wrong(tmp_path, {}, "CACHE_ENCRYPTION_KEY_COMMAND=touch /tmp/x\n")
    assert "CACHE_ENCRYPTION_KEY_COMMAND" in message
    assert "touch" not in message


@pytest.mark.parametrize("what", ["QUERYCACHE_EMBEDDER", "QUERYCACHE_QDRANT"])
def test_a_key_of_the_environment_goes_to_no_address_of_dotenv(tmp_path: Path, what: str):
    key, url = f"{what}_API_KEY", f"{what}_URL"
    assert url in wrong(tmp_path, {key: SECRET}, f"{url}=http://example.org\n")
    config = load(tmp_path, {}, f"{url}=http://example.org\n{key}={SECRET}\n").config
    assert config.embedder.api_key or config.vector_store.api_key


def test_describe_tells_every_variable(tmp_path: Path):
    loaded = load(tmp_path, {"REDIS_PASSWORD": SECRET}, "CACHE_ENABLED=off\n")
    rows = {row.variable: row for row in loaded.describe()}
    assert rows.keys() == FIELDS.keys()
    assert rows["CACHE_ENABLED"][1:4] == ("false", ".env", "true")
    assert rows["REDIS_PASSWORD"][1:3] == ("***", "environment")
    assert rows["QUERYCACHE_HOME"].value == "/home/someone/.cache/querycache"
    assert all(row.allowed and row.help for row in rows.values())


def test_nothing_of_a_config_can_be_changed(tmp_path: Path):
    config = load(tmp_path).config
    with pytest.raises(AttributeError):
        config.redis.port = 1  # pyright: ignore[reportAttributeAccessIssue]  # frozen: the point
    with pytest.raises(TypeError):
        config.kinds["file"] = config.kinds["search"]  # pyright: ignore[reportIndexIssue]  # the same


def test_what_describe_shows_can_be_set(tmp_path: Path):
    """Every default is a value that its own reader allows."""
    for row in load(tmp_path).describe():
        if row.default:
            again = load(tmp_path, {row.variable: row.default}).describe()
            assert {r.variable: r.value for r in again}[row.variable] == row.default


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.text(max_size=40)))
def test_any_text_is_read_or_refused(environ: dict[str, str]):
    try:
        loaded = load_config({"HOME": "/home/someone", **environ}, Path("/nonexistent"))
    except ConfigError as error:
        assert any(name in str(error) for name in environ)  # noqa: PT017 -- either way is right
    else:
        assert isinstance(loaded.config, Config)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "true"), (0.25, "0.25"), (7200.0, "7200"), (Path("/a"), "/a")],
)
def test_shown(value: object, text: str):
    assert shown(value) == text
