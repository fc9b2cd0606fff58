"""Metrics: what is declared of each, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from querycache.ports.latency import Latency


class Metric(msgspec.Struct, frozen=True):
    """A declaration. The name follows Prometheus: base units (seconds, bytes), counters end in
    `_total`. `labels` maps each label to the closed set of its values.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Mapping[str, tuple[str, ...]] = {}


class Measured(msgspec.Struct, frozen=True):
    """The samples of a metric: the values of its labels, in their order, with a number (for a
    histogram: how long it took).
    """

    metric: Metric
    samples: list[tuple[tuple[str, ...], float | Latency]]
