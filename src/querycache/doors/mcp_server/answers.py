"""What the tools answer with: the typed, structured output that clients are shown as a schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)

META_KEY = "querycache/cache"


class Hit(BaseModel):
    path: str
    start_line: int
    end_line: int
    symbol: str
    language: str
    score: float
    text: str


class Found(BaseModel):
    project: str
    results: list[Hit]
    took_ms: float
    note: str = ""


class Indexed(BaseModel):
    project: str
    files: int
    files_changed: int
    files_removed: int
    chunks: int
    embedded: int
    embedding_cache_hits: int
    generation: int
    took_ms: float


class Project(BaseModel):
    name: str
    root: str
    files: int
    chunks: int
    generation: int
    indexed_at: float
    stale_files: int


class Projects(BaseModel):
    projects: list[Project]


class Forgotten(BaseModel):
    project: str
    existed: bool


class Health(BaseModel):
    status: str
    redis_connected: bool
    redis_ping_time: float | None
    l2_backend: str
    l2_connected: bool
    l2_ping_time: float | None
    last_error: str | None
    problems: list[str]


class Tier(BaseModel):
    enabled: bool
    hit_count: int
    miss_count: int
    error_count: int
    hit_rate: float


Latencies = dict[str, dict[str, float | None]]
"""For l1, l2 and load: count, and p50_ms, p95_ms, p99_ms."""


class Kind(BaseModel):
    hit_rate: float
    l1_hits: int
    l2_hits: int
    miss_count: int
    loads: int
    saved_s: float
    latency: Latencies
    reasons: dict[str, int]


class Stats(BaseModel):
    hit_rate: float
    miss_rate: float
    total_operations: int
    error_count: int
    operations_per_second: float
    saved_s: float
    l1: Tier
    l2: Tier
    l1_size: int
    l1_bytes: int
    mismatches: int
    pending: int
    latency: Latencies
    reasons: dict[str, int]
    savings: dict[str, float | None]
    kinds: dict[str, Kind]
    processes: int


class Entry(BaseModel):
    verdict: str
    age_s: float
    usable_s: float
    bytes: int


class Explained(BaseModel):
    key: str
    kind: str
    l1: Entry | None
    l2: Entry | None
    trouble: str
    events: list[str]


class Warmed(BaseModel):
    loaded: int
    skipped: int
    failed: int
    bytes: int
    took_ms: float
    left: int
    stopped: str
    indexed: int
    reasons: dict[str, int]


class Invalidated(BaseModel):
    files: int
    entries: int
    generation: int
    told: bool


def read(model: type[Model], source: object) -> Model:
    """A model filled from the attributes, or the keys, of the same names."""
    return model.model_validate(source, from_attributes=not isinstance(source, Mapping))


def answer(
    content: BaseModel,
    *,
    tier: str = "none",
    age_s: float = 0.0,
    generation: int | None = None,
    stale: bool = False,
) -> CallToolResult:
    """A tool's answer: structured, as JSON text for clients that read only text, and in `_meta`
    where it came from. `generation` is that of a project's index, or None where there is none.
    """
    meta: dict[str, Any] = {
        META_KEY: {"tier": tier, "age_s": age_s, "generation": generation, "stale": stale}
    }
    return CallToolResult(
        content=[TextContent(type="text", text=content.model_dump_json())],
        structured_content=content.model_dump(mode="json"),
        _meta=meta,
    )
