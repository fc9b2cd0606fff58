"""What we ship for Prometheus and Grafana asks for metrics that exist, with the thresholds of the
settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from querycache.config import load_config
from querycache.usecases.show_status.metrics import METRICS

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/querycache.json").read_text())
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]
}
EXPRESSIONS = {
    **{name: rule["expr"] for name, rule in ALERTS.items()},
    **{
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in BOARD["panels"]
        for target in panel.get("targets", ())
    },
}
OF_PROMETHEUS = {"instance", "job", "le"}
BY_NAME = {metric.name: metric for metric in METRICS}
PARTS = {
    f"{metric.name}_{part}": metric
    for metric in METRICS
    if metric.type == "histogram"
    for part in ("bucket", "count", "sum")
}


def selectors(expression: str) -> Iterator[tuple[str, dict[str, tuple[str, str]]]]:
    """Each metric that is asked for, with its matchers: label to operator and value."""
    for name, _, inside in re.findall(r"(querycache_\w+)(\{([^}]*)\})?", expression):
        matchers = re.findall(r'(\w+)(=~|!=|!~|=)"([^"]*)"', inside)
        yield name, {label: (operator, value) for label, operator, value in matchers}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_asks_for_what_there_is(name: str) -> None:
    expression = EXPRESSIONS[name]
    asked = list(selectors(expression))
    assert asked
    known = set(OF_PROMETHEUS)
    for metric_name, matchers in asked:
        metric = BY_NAME.get(metric_name) or PARTS[metric_name]
        assert metric.type != "histogram" or metric_name in PARTS
        known |= set(metric.labels)
        for label, (operator, value) in matchers.items():
            assert label in {*metric.labels, *OF_PROMETHEUS}
            assert label in OF_PROMETHEUS or operator != "=" or value in metric.labels[label]
        if metric.type == "counter" and name in ALERTS:
            assert re.search(rf"(rate|increase)\({metric_name}", expression)
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in grouped.split(",")} <= known


def test_thresholds_are_those_of_the_settings(tmp_path: Path) -> None:
    config = load_config({"HOME": str(tmp_path)}, tmp_path).config
    watch, memory = config.watch, config.memory_pressure
    wanted = {
        "QuerycacheRedisDown": ("==", 0.0),
        "QuerycachePingSlow": (">", watch.latency_threshold_ms / 1000),
        "QuerycacheReadsSlow": (">", watch.latency_threshold_ms / 1000),
        "QuerycacheHitRateLow": ("<", watch.hit_rate_threshold),
        "QuerycacheMemoryHigh": (">", memory.warning_threshold),
        "QuerycacheMemoryCritical": (">", memory.critical_threshold),
        "QuerycacheErrorRateHigh": (">", watch.error_rate_threshold),
        "QuerycacheInvalidationLagHigh": (">", watch.lag_threshold_ms / 1000),
        "QuerycacheTiersDiffer": (">", 0.0),
    }
    found: dict[str, tuple[str, float]] = {}
    for name, rule in ALERTS.items():
        operator, number = re.findall(r"(==|>|<) ([\d.]+)(?: and|$)", rule["expr"])[0]
        found[name] = operator, float(number)
    assert found == wanted
    assert ">= 100" in ALERTS["QuerycacheHitRateLow"]["expr"]


def test_the_boards_colours_change_at_the_thresholds(tmp_path: Path) -> None:
    config = load_config({"HOME": str(tmp_path)}, tmp_path).config
    steps = {
        panel["title"]: [step["value"] for step in defaults["thresholds"]["steps"][1:]]
        for panel in BOARD["panels"]
        if "thresholds" in (defaults := panel.get("fieldConfig", {}).get("defaults", {}))
    }
    memory = config.memory_pressure
    assert steps["Hit rate"] == [config.watch.hit_rate_threshold]
    assert steps["Ping"] == [config.watch.latency_threshold_ms / 1000]
    assert steps["Memory used"] == [memory.warning_threshold, memory.critical_threshold]
    assert steps["Invalidation lag"] == [config.watch.lag_threshold_ms / 1000]


def test_every_alert_says_what_to_do() -> None:
    for rule in ALERTS.values():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["remedy"].startswith("querycache ")


def test_the_board_shows_what_is_promised() -> None:
    titles = " ".join(panel["title"].lower() for panel in BOARD["panels"])
    for word in ("hit rate", "latency", "tier", "kind", "memory", "evictions", "lag", "saved"):
        assert word in titles
    kinds = {panel["type"] for panel in BOARD["panels"]}
    assert "alertlist" in kinds
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_scrape_file_names_our_route_and_port() -> None:
    scrape: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/scrape.yml").read_text())
    (job,) = scrape["scrape_configs"]
    assert (job["metrics_path"], job["static_configs"][0]["targets"]) == (
        "/metrics",
        ["127.0.0.1:8000"],
    )
    assert scrape["rule_files"] == ["rules.yml"]
