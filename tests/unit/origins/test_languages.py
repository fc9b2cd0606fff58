"""A file's name tells its language."""

from __future__ import annotations

import importlib.metadata

import pytest

from querycache.origins.languages import GRAMMARS, language_of


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a/b/c.py", "python"),
        ("types.pyi", "python"),
        ("App.JSX", "javascript"),
        ("x.d.ts", "typescript"),
        ("x.tsx", "tsx"),
        ("main.go", "go"),
        ("lib.rs", "rust"),
        ("A.java", "java"),
        ("a.h", "c"),
        ("a.hpp", "cpp"),
        ("A.cs", "csharp"),
        ("Gemfile", "ruby"),
        ("index.php", "php"),
        ("run.sh", "bash"),
        ("index.html", "html"),
        ("a.css", "css"),
        ("package.json", "json"),
        (".github/workflows/ci.yml", "yaml"),
        ("pyproject.toml", "toml"),
        ("README.md", "markdown"),
        ("a.kt", "kotlin"),
        ("a.sql", "sql"),
        ("a.lua", "lua"),
        ("Dockerfile", "dockerfile"),
        ("deploy/Dockerfile.dev", "dockerfile"),
        ("Makefile", "makefile"),
        ("notes.txt", "text"),
        ("LICENSE", "text"),
        ("folder.py/LICENSE", "text"),
        (".py", "python"),
        ("", "text"),
    ],
)
def test_language_of(path: str, language: str):
    assert language_of(path) == language


@pytest.mark.parametrize("language", GRAMMARS)
def test_every_grammar_is_an_installed_distribution(language: str):
    assert importlib.metadata.version(GRAMMARS[language].distribution)
