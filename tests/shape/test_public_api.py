"""What `import querycache` gives, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest
from tests.shape.tree import MODULES, SOURCES

import querycache

HEAVY = (
    *("apsw", "cryptography", "httpx2", "lz4", "mcp", "numpy", "onnxruntime", "psutil", "redis"),
    *("rich", "safetensors", "starlette", "tokenizers", "tree_sitter", "typer", "uvicorn"),
    *("watchfiles", "wordllama", "zstandard"),
)
GROUND = [
    "querycache." + ".".join(module.relative_to(SOURCES).with_suffix("").parts)
    for module in MODULES
    if module.parent.name in {"config", "ports"} or module.parent == SOURCES
    if module.stem in {"clock", "errors", "events", "keys", "values"} or module.parent != SOURCES
    if module.stem != "__init__"
]


PUBLIC: Sequence[str] = vars(querycache).get("__all__", ())


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there_and_explained(name: str):
    value = getattr(querycache, name)
    assert not name.startswith("_")
    assert value.__doc__


def test_public_names_stand_once():
    assert PUBLIC
    assert len(PUBLIC) == len(set(PUBLIC))


@pytest.mark.parametrize("modules", [["querycache"], GROUND], ids=["querycache", "the ground"])
def test_an_import_loads_nothing_heavy(modules: list[str]):
    code = f"import sys, json, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    loaded: list[str] = json.loads(done.stdout)
    assert set(modules) <= set(loaded)
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


def test_entries_travel_to_redis_without_redis_py():
    code = (
        "import asyncio, sys; from pathlib import Path;"
        "from querycache.assembly.redis import shared_tier;"
        "from querycache.clock import SystemClock; from querycache.config import load_config;"
        "settings = load_config({'HOME': '/', 'REDIS_URL': 'redis://127.0.0.1:1'}, Path('/'));"
        "tier = shared_tier(settings.config, SystemClock());"
        "print(asyncio.run(tier.info()).connected, 'redis' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.split() == [b"False", b"False"]
