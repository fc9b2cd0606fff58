"""The local embedder: its files, its identity, and that it lets the event loop breathe."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
import sys
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests.behaviour.embedder_suite import EmbedderSuite, Make, some_texts

from querycache.errors import EmbedderError
from querycache.origins.embedder_local import LocalEmbedder

WEIGHTS = Path("weights", "l2_supercat_256.safetensors")
TOKENIZER = Path("tokenizers", "l2_supercat_tokenizer_config.json")


def installed() -> Path:
    spec = find_spec("wordllama")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for file in (WEIGHTS, TOKENIZER):
        (tmp_path / file).parent.mkdir()
        shutil.copyfile(installed() / file, tmp_path / file)
    return tmp_path


class TestLocalEmbedder(EmbedderSuite):
    batch_of = 300

    @pytest.fixture
    def make(self) -> Make:
        return LocalEmbedder


@pytest.mark.asyncio
async def test_the_identity_names_weights_dimensions_and_preprocessing() -> None:
    embedder = LocalEmbedder()
    await embedder.start()
    files = (installed() / WEIGHTS).read_bytes() + (installed() / TOKENIZER).read_bytes()
    digest = sha256(files).hexdigest()[:16]
    assert embedder.identity == f"local:l2_supercat_256:{digest}:256:words-1"
    assert embedder.dimensions == 256


@pytest.mark.asyncio
async def test_another_tokenizer_is_another_identity(copied: Path) -> None:
    usual, other = LocalEmbedder(folder=copied), LocalEmbedder(folder=copied)
    await usual.start()
    with (copied / TOKENIZER).open("a") as file:
        file.write("\n")
    await other.start()
    assert usual.identity != other.identity


@pytest.mark.asyncio
async def test_the_parts_of_a_name_are_found() -> None:
    embedder = LocalEmbedder()
    rows = await embedder.embed(
        ["def getHTTPResponse(self): ...", "http response", "banana bread"], "document"
    )
    assert rows[0] @ rows[1] > 0.5 > rows[0] @ rows[2]


@pytest.mark.asyncio
@pytest.mark.parametrize("lost", [WEIGHTS, TOKENIZER])
async def test_a_missing_file_is_told_with_a_remedy(copied: Path, lost: Path) -> None:
    (copied / lost).unlink()
    with pytest.raises(EmbedderError, match=lost.name) as caught:
        await LocalEmbedder(folder=copied).start()
    assert "wordllama" in caught.value.remedy


@pytest.mark.asyncio
@pytest.mark.parametrize("broken", [WEIGHTS, TOKENIZER])
async def test_a_cut_file_is_told_with_a_remedy(copied: Path, broken: Path) -> None:
    data = (copied / broken).read_bytes()
    (copied / broken).write_bytes(data[: len(data) // 2])
    embedder = LocalEmbedder(folder=copied)
    with pytest.raises(EmbedderError, match="damaged") as caught:
        await embedder.start()
    assert "wordllama" in caught.value.remedy
    (copied / broken).write_bytes(data)
    await embedder.start()  # a failed start leaves nothing behind
    assert embedder.dimensions == 256


@pytest.mark.asyncio
async def test_a_missing_package_is_told_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_hooks", [])
    sys.path_importer_cache.clear()
    with pytest.raises(EmbedderError, match="not installed") as caught:
        await LocalEmbedder().start()
    assert "pip install" in caught.value.remedy


@pytest.mark.asyncio
async def test_a_big_batch_leaves_the_loop_free() -> None:
    embedder = LocalEmbedder()
    await embedder.start()
    texts = some_texts(4, 2_000)
    work = asyncio.ensure_future(embedder.embed(texts, "document"))
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 20
    assert (await work).shape == (2_000, 256)


@pytest.mark.asyncio
async def test_a_text_longer_than_a_block_is_its_mean() -> None:
    embedder = LocalEmbedder()
    rows = await embedder.embed(["cache read", "cache read " * 9_000], "document")
    assert rows[0] @ rows[1] > 0.999


def test_another_process_gives_the_same_bits_and_imports_no_wordllama() -> None:
    program = (
        "import asyncio, sys, logging\n"
        "from querycache.origins.embedder_local import LocalEmbedder\n"
        "rows = asyncio.run(LocalEmbedder().embed(['open the file', 'user_name'], 'query'))\n"
        "assert 'wordllama' not in sys.modules and not logging.getLogger().handlers\n"
        "print(rows.tobytes().hex())"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=25
    )
    here = asyncio.run(LocalEmbedder().embed(["open the file", "user_name"], "query"))
    assert np.array_equal(
        np.frombuffer(bytes.fromhex(out.stdout), np.float32).reshape(2, -1), here
    )
    assert not logging.getLogger("wordllama").handlers
