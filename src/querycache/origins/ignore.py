"""What of a project is not worth indexing: by ignore files, by name, and by its first bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pathspec import GitIgnoreSpec

from querycache.origins.beneath import opened, read_up_to

HEAD = 8_192  # bytes of a file that tell what it is


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


VENDORED = _words("""
    .bzr .cache .eggs .git .gradle .hg .hypothesis .idea .import_linter_cache .ipynb_checkpoints
    .mypy_cache .next .nox .nuxt .parcel-cache .pnpm-store .pytest_cache .ruff_cache .svn
    .terraform .tox .venv .vs .yarn __pycache__ __pypackages__ bower_components jspm_packages
    node_modules site-packages third-party third_party thirdparty vendor venv carthage pods
    """)
"""Folders (lower case) that hold other people's code or a tool's state, committed or not."""

BUILT = frozenset({"_build", "build", "coverage", "dist", "htmlcov", "obj", "out", "target"})
"""Folders that are usually made by a build: passed over where no git says what is ignored."""

_GENERATED_NAMES = _words("""
    bun.lock bun.lockb cargo.lock composer.lock deno.lock flake.lock gemfile.lock go.sum
    gradle.lockfile mix.lock npm-shrinkwrap.json package-lock.json packages.lock.json pdm.lock
    pipfile.lock pnpm-lock.yaml podfile.lock poetry.lock pubspec.lock uv.lock yarn.lock
    """)
_GENERATED_ENDS = (
    *(".min.js", ".min.css", ".min.mjs", ".bundle.js", ".map"),
    *("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", ".pb.go", ".pb.cc", ".pb.h", ".pb.swift"),
    *(".g.dart", ".freezed.dart", ".g.cs", ".designer.cs", ".generated.cs", ".snap"),
)
_BINARY_ENDS = tuple(
    f".{end}"
    for end in _words("""
    7z a aac apk avi bin bmp bz2 class db dll dmg doc docx dylib eot exe flac gguf gif gz h5 ico
    jar jpeg jpg lib lz4 mkv mov mp3 mp4 npy npz o odt ogg onnx otf parquet pdf pickle pkl png ppt
    pptx psd pyc pyo rar safetensors so sqlite sqlite3 tar tgz tif tiff ttf war wasm wav webm webp
    whl woff woff2 xls xlsx xz zip zst
    """)
)
_MARK = re.compile(
    rb"""^[ \t]*(?:\#|//|/?\*|--|;|<!--|%|"{3}|\(\*).{0,200}
    (?:@generated\b|\bDO[ ]NOT[ ](?:EDIT|MODIFY)\b|\bAUTO-?GENERATED\b)""",
    re.MULTILINE | re.VERBOSE,
)
_MARKED = 2_048  # bytes at the top of a file where a generator leaves its mark
_CONTROLS = bytes(set(range(32)) - set(b"\b\t\n\f\r\x1b")) + b"\x7f"
_MINIFIED = (".js", ".mjs", ".cjs", ".css")

_MAX_FILE = 262_144  # bytes of an ignore file
_STARS = 3  # in one name of a pattern: what bounds the time of a match
_DOUBLE_STARS = 2


def fault_by_name(path: str) -> str:
    """Says "vendored", "generated", "binary", or "" for what may be worth reading."""
    *folders, name = path.lower().split("/")
    if not VENDORED.isdisjoint(folders):
        return "vendored"
    if name in _GENERATED_NAMES or name.endswith(_GENERATED_ENDS):
        return "generated"
    return "binary" if name.endswith(_BINARY_ENDS) else ""


def fault_by_head(path: str, head: bytes) -> str:
    """Says "binary", "generated" or "", by the first `HEAD` bytes of a file."""
    if b"\0" in head or 10 * (len(head) - len(head.translate(None, _CONTROLS))) > len(head):
        return "binary"
    end = path.lower()
    if len(head) == HEAD and b"\n" not in head and end.endswith(_MINIFIED):
        return "generated"
    # A list item of a Markdown file looks like a comment.
    if not end.endswith((".md", ".markdown", ".rst", ".txt")) and _MARK.search(head[:_MARKED]):
        return "generated"
    return ""


class IgnoreRules:
    """Ignore files in gitignore syntax; the deepest that speaks of a path decides."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._specs: dict[str, GitIgnoreSpec] = {}  # folder ("" or "a/b/") -> what its file says

    def load(self, folder: str, name: str) -> None:
        """Reads the ignore file `name` of a folder, if there is one."""
        with opened(self._root, folder + name) as descriptor:
            text = b"" if descriptor is None else read_up_to(descriptor, _MAX_FILE)
        lines = [line for line in text.decode("utf-8", "replace").splitlines() if _is_tame(line)]
        if spec := _compiled(lines):
            self._specs[folder] = spec

    def ignores(self, path: str) -> bool:
        """Whether a file, or a folder written with a slash at its end, is ignored."""
        if not self._specs:
            return False
        at = len(path) - 1
        while at >= 0:
            at = path.rfind("/", 0, at)
            spec = self._specs.get(path[: at + 1])
            if spec is not None:
                said = spec.check_file(path[at + 1 :]).include
                if said is not None:
                    return said
        return False


def _compiled(lines: Iterable[str]) -> GitIgnoreSpec | None:
    usable: list[str] = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:  # git passes over a pattern that means nothing, too
            continue
        usable.append(line)
    return GitIgnoreSpec.from_lines(usable) if usable else None


def _is_tame(line: str) -> bool:
    """Whether a pattern matches in reasonable time: each further star multiplies it."""
    if not line.strip() or line.startswith("#"):
        return False
    return line.count("**") <= _DOUBLE_STARS and all(
        name.count("*") <= _STARS for name in line.split("/")
    )
