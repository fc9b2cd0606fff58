"""Settings of what is watched, and of what is said about it: health, alerts, metrics, logs."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from querycache.config.readers import (
    COMMAND,
    INTERVAL,
    SECRET_ADDRESS,
    SHARE,
    SWITCH,
    Secret,
    Setting,
    choice,
    number,
)


class Watch(msgspec.Struct, frozen=True):
    """What is watched, and what is said about it."""

    health_check_interval_s: Annotated[
        float, Setting("CACHE_HEALTH_CHECK_INTERVAL", INTERVAL, "How often health is checked.")
    ] = 60
    latency_threshold_ms: Annotated[
        float,
        Setting(
            "CACHE_LATENCY_THRESHOLD",
            number(0, 60_000, "ms", above=True),
            "A slower operation of the cache is a finding.",
        ),
    ] = 50
    hit_rate_threshold: Annotated[
        float,
        Setting("CACHE_HIT_RATE_THRESHOLD", number(0, 1), "A lower hit rate is a finding."),
    ] = 0.6
    error_rate_threshold: Annotated[
        float,
        Setting("CACHE_ERROR_RATE_THRESHOLD", SHARE, "A higher share of failures is a finding."),
    ] = 0.05
    lag_threshold_ms: Annotated[
        float,
        Setting(
            "CACHE_INVALIDATION_LAG_THRESHOLD",
            number(0, 3_600_000, "ms", above=True),
            "An invalidation that arrives later is a finding.",
        ),
    ] = 1000
    alert_webhook: Annotated[
        Secret,
        Setting(
            "CACHE_ALERT_WEBHOOK",
            SECRET_ADDRESS,
            "URL that gets a POST with JSON when an alert is raised and when it is over; never"
            " taken from `.env`.",
        ),
    ] = Secret()
    alert_command: Annotated[
        Secret,
        Setting(
            "CACHE_ALERT_COMMAND",
            COMMAND,
            "Command that is run then, with the alert as JSON on its standard input; never taken"
            " from `.env`.",
        ),
    ] = Secret()
    metrics_enabled: Annotated[
        bool, Setting("CACHE_METRICS_ENABLED", SWITCH, "Whether metrics are offered.")
    ] = True
    tracing: Annotated[
        bool,
        Setting(
            "CACHE_OPENTELEMETRY_ENABLED",
            SWITCH,
            "Whether traces and metrics go to OpenTelemetry, as its OTEL_ variables say; needs"
            " the extra `otel`.",
        ),
    ] = False
    leak_detection_enabled: Annotated[
        bool,
        Setting(
            "CACHE_LEAK_DETECTION_ENABLED",
            SWITCH,
            "Whether `serve` and `mcp` watch the growth of their own memory.",
        ),
    ] = True
    query_log: Annotated[
        bool,
        Setting(
            "CACHE_QUERY_LOG_ENABLED",
            SWITCH,
            "Whether questions are kept under QUERYCACHE_HOME, to warm the cache with.",
        ),
    ] = True
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        Setting(
            "CACHE_LOG_LEVEL",
            choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
            "The least severe line that is logged.",
        ),
    ] = "INFO"
    log_format: Annotated[
        Literal["text", "json"],
        Setting(
            "CACHE_LOG_FORMAT",
            choice("text", "json"),
            "json: each line of the log is one JSON object.",
        ),
    ] = "text"
    log_operations: Annotated[
        bool, Setting("CACHE_LOG_OPERATIONS", SWITCH, "Whether each operation is logged.")
    ] = False
