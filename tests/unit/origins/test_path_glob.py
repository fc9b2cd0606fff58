"""Globs over relative paths."""

from __future__ import annotations

import pytest

from querycache.origins.path_glob import compile_glob

CASES = [
    ("*.py", "a.py deep/in/a.py", "a.pyc py a.py.txt"),
    ("src/*.py", "src/a.py", "src/deep/a.py other/src/a.py a.py"),
    ("src/**/*.py", "src/a.py src/deep/er/a.py", "a.py lib/a.py"),
    ("src/**", "src/a.py src/deep/a.py", "srca.py lib/src.py"),
    ("src", "src/a.py deep/src/a.py src", "srcs/a.py asrc"),
    ("src/", "src/a.py deep/src/a.py", "srcs/a.py"),
    ("/src/", "src/a.py", "srcs/a.py"),
    ("./src/part", "src/part/a.py src/part", "src/party/a.py"),
    ("**/test_*.py", "test_a.py deep/test_b.py", "a_test_.py test_a.pyc"),
    ("a?c.go", "abc.go x/abc.go", "ac.go a/c.go abbc.go"),
    ("[a-c].py", "a.py x/c.py", "d.py ab.py"),
    ("[!a-c].py", "d.py x/z.py", "a.py"),
    ("[]].py", "].py", "a.py"),
    ("a[1.py", "a[1.py", "a1.py"),
    ("a.b+c(d)", "a.b+c(d)", "axb+c(d) abbc(d)"),
    (r"\*.py", "*.py", "a.py"),
    ("[z-a].py", "", "z.py a.py m.py"),
    ("[^a].py", "^.py a.py", "b.py"),
    ("é*.py", "été.py", "ete.py"),
    ("a/**/b", "a/b a/x/b a/x/y/b/c", "ab a/bx"),
    ("*", "a b/c .x", ""),
]


@pytest.mark.parametrize(("glob", "yes", "no"), CASES)
def test_what_it_matches(glob: str, yes: str, no: str) -> None:
    matches = compile_glob(glob).fullmatch
    assert [path for path in yes.split() if not matches(path)] == []
    assert [path for path in no.split() if matches(path)] == []


def test_names_may_hold_new_lines() -> None:
    assert compile_glob("*.py").fullmatch("odd\nfolder/od\nd.py")


@pytest.mark.parametrize(
    "glob", ["[", "[!", "[]", "[a", "\\", "**", "***", "[[a]", "[a-]", "[]-a]"]
)
def test_no_glob_is_an_error(glob: str) -> None:
    compile_glob(glob).fullmatch("a/b.py")
