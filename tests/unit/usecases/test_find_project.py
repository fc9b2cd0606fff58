"""Which project is meant, and what a new one is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from querycache.errors import ProjectNotFoundError, UsageError
from querycache.origins.indexes import SqliteIndexes
from querycache.usecases.find_project import FindProject


@pytest.fixture
def indexes(tmp_path: Path) -> SqliteIndexes:
    return SqliteIndexes(str(tmp_path / "indexes"))


def index(indexes: SqliteIndexes, name: str, root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    indexes.open(name, root=str(root), versions="v", dimensions=8).close()
    return root


def test_by_name_by_folder_or_the_only_one(indexes: SqliteIndexes, tmp_path: Path) -> None:
    find = FindProject(indexes)
    with pytest.raises(ProjectNotFoundError, match="no project is indexed"):
        find.existing()
    one = index(indexes, "one", tmp_path / "one")
    assert find.existing() == "one"
    index(indexes, "two", tmp_path / "two")
    index(indexes, "inner", one / "inner")
    assert find.existing("two") == "two"
    assert find.existing(folder=str(one)) == "one"
    assert find.existing(folder=str(one / "inner" / "deep")) == "inner"
    with pytest.raises(ProjectNotFoundError) as caught:
        find.existing(folder=str(tmp_path))
    assert "inner, one, two" in caught.value.remedy
    with pytest.raises(ProjectNotFoundError, match="three"):
        find.existing("three")


def test_states_and_who_holds_a_path(indexes: SqliteIndexes, tmp_path: Path) -> None:
    find = FindProject(indexes)
    one = index(indexes, "one", tmp_path / "one")
    index(indexes, "inner", one / "inner")
    assert [state.name for state in find.states()] == ["inner", "one"]
    assert find.holding([str(one / "a.py")]) == ["one"]
    assert find.holding([str(one / "inner" / "a.py")]) == ["inner", "one"]
    assert find.holding([str(tmp_path / "onemore" / "a.py")]) == []


def test_a_root_keeps_the_name_it_has(indexes: SqliteIndexes, tmp_path: Path) -> None:
    find = FindProject(indexes)
    root = index(indexes, "chosen", tmp_path / "folder")
    assert find.name_for(str(root)) == "chosen"
    link = tmp_path / "link"
    link.symlink_to(root)
    assert find.name_for(str(link)) == "chosen"


def test_a_root_that_is_gone_gives_its_name_up(indexes: SqliteIndexes, tmp_path: Path) -> None:
    find = FindProject(indexes)
    index(indexes, "shop", tmp_path / "old" / "shop").rmdir()
    (tmp_path / "new" / "shop").mkdir(parents=True)
    assert find.name_for(str(tmp_path / "new" / "shop")) == "shop"


@pytest.mark.parametrize("name", ["a/b", "..", ".", "_", "a\nb", "\x00", "x" * 101, "\udcff"])
def test_hostile_names_are_refused(indexes: SqliteIndexes, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        FindProject(indexes).name_for(str(tmp_path), name)


def test_a_root_that_no_answer_could_name_is_refused(
    indexes: SqliteIndexes, tmp_path: Path
) -> None:
    root = tmp_path / os.fsdecode(b"not-utf8-\xff")
    root.mkdir()
    with pytest.raises(UsageError, match="not UTF-8"):
        FindProject(indexes).name_for(str(root))


@pytest.mark.parametrize("text", ["project = 7", "not toml [", "", 'other = "x"'])
def test_a_settings_file_that_says_nothing_is_passed_over(
    indexes: SqliteIndexes, tmp_path: Path, text: str
) -> None:
    root = tmp_path / "folder"
    root.mkdir()
    (root / ".querycache.toml").write_text(text)
    assert FindProject(indexes).name_for(str(root)) == "folder"


def test_a_settings_file_with_a_hostile_name_is_an_error(
    indexes: SqliteIndexes, tmp_path: Path
) -> None:
    (tmp_path / ".querycache.toml").write_text('project = "../../etc"')
    with pytest.raises(UsageError, match="can't name"):
        FindProject(indexes).name_for(str(tmp_path))
