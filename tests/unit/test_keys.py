"""Names of entries: hostile texts stay apart and never leave their segment."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querycache.keys import SHARED, Namer, Scope, decode, digest, encode
from querycache.values import Kind

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
SEGMENT = re.compile(r"[A-Za-z0-9_.~%-]*")
_SEEDS = (
    *("", "a", "a:b", "A", "_", "__", "%", "%5F", "%3A", "*", "?", "[a]", "..", "../", ".", "a/b"),
    *(
        "a*",
        "a\n",
        "a\r",
        "a\0",
        " a",
        "a ",
        "\xe9",
        "e\u0301",
        "\uff41",
        "\u202ea",
        "\ud800",
        "\ufffd",
    ),
    *(
        "meta",
        "search",
        "file",
        "codebase_rag",
        "~",
        "\\",
        "{a}",
        "'",
        '"',
        "\U0001f600",
        "-",
        "+",
    ),
)
HOSTILE = list(dict.fromkeys([*_SEEDS, *(a + b for a, b in itertools.product(_SEEDS, _SEEDS))]))[
    :220
]


@given(ANY_TEXT)
def test_decode_undoes_encode(text: str):
    assert decode(encode(text)) == text
    assert SEGMENT.fullmatch(encode(text))


@given(ANY_TEXT, ANY_TEXT)
def test_encode_is_injective(one: str, other: str):
    assert (encode(one) == encode(other)) == (one == other)


def test_no_project_is_taken_for_what_is_shared():
    assert encode(SHARED) != SHARED
    assert Scope("_").segment != Scope("").segment == SHARED


@given(st.lists(st.one_of(ANY_TEXT, st.binary(max_size=20)), max_size=4))
def test_a_digest_knows_where_its_parts_end(parts: list[str | bytes]):
    whole = digest(*parts)
    assert re.fullmatch(r"[0-9a-f]{32}", whole)
    assert digest(*parts, "") != whole
    if len(parts) > 1 and isinstance(parts[0], str) and isinstance(parts[1], str):
        assert digest(parts[0] + parts[1], *parts[2:]) != whole


def test_digests_are_the_same_everywhere():
    assert digest("a", "bc") == digest(b"a", b"bc") == "a4d2502de3aca3ac159bba2d99ea81a8"
    assert digest("ab", "c") != digest("a", "bc")


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_a_name_has_four_segments_and_no_pattern(project: str, principal: str, key: str):
    namer = Namer()
    scope = Scope(project, principal)
    for name in (namer.raw(key, scope), namer.typed(Kind.SEARCH, scope, key)):
        assert name.count(":") == 3
        assert not set(name) & set("*?[]\n\r\0 \\")
        assert name.isascii()
        assert namer.kind_of(name) in Kind
        assert namer.pattern_of(name) == name.rpartition(":")[0]


def test_hostile_projects_never_meet():
    assert len(HOSTILE) == 220
    namer = Namer()
    names: set[str] = set()
    for project, kind in itertools.product(HOSTILE, Kind):
        names.add(namer.typed(kind, Scope(project), "same"))
    for project, key in itertools.product(HOSTILE, ("same", "file:/a/b.py", "search:x")):
        names.add(namer.raw(key, Scope(project)))
    assert len(names) == len(HOSTILE) * (len(Kind) + 3)


def test_hostile_keys_never_meet():
    namer = Namer()
    assert len({namer.raw(key) for key in HOSTILE}) == len(HOSTILE)
    assert len({namer.raw(key, Scope("p", "me")) for key in HOSTILE}) == len(HOSTILE)


def test_principals_never_meet():
    namer = Namer()
    scopes = [Scope("p", principal) for principal in HOSTILE]
    assert len({namer.raw("k", scope) for scope in scopes}) == len(HOSTILE)
    assert len({namer.typed(Kind.FILE, scope, "k") for scope in scopes}) == len(HOSTILE)


@pytest.mark.parametrize(
    ("key", "kind", "name"),
    [
        ("health_check", Kind.OTHER, "codebase_rag:other:_:health_check"),
        ("file:/a/b.py", Kind.FILE, "codebase_rag:file:_:file%3A%2Fa%2Fb.py"),
        ("search:*", Kind.SEARCH, "codebase_rag:search:_:search%3A%2A"),
        ("files:x", Kind.OTHER, "codebase_rag:other:_:files%3Ax"),
        ("file", Kind.OTHER, "codebase_rag:other:_:file"),
        ("other:x", Kind.OTHER, "codebase_rag:other:_:other%3Ax"),
    ],
)
def test_a_callers_own_key(key: str, kind: Kind, name: str):
    namer = Namer()
    assert namer.raw(key) == name
    assert namer.kind_of(name) is kind


def test_a_long_key_is_digested():
    namer = Namer(max_length=100)
    name = namer.raw("k" * 10_000_000)
    assert len(name) < 100
    assert name != namer.raw("k" * 10_000_001)
    fits = "k" * (100 - len("codebase_rag:other:_:"))
    assert namer.raw(fits).endswith(fits)
    assert not namer.raw(fits + "k").endswith("kk")


def test_what_is_no_entry_stands_apart():
    namer = Namer("other_prefix")
    assert namer.meta("epoch", "a:b") == "other_prefix:meta:epoch:a%3Ab"
    assert namer.kind_of(namer.meta("file")) is Kind.OTHER
    assert "meta" not in set(Kind)
