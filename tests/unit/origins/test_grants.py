from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from querycache.errors import NotAvailableError
from querycache.origins.grants import GrantFile
from querycache.ports.access import Granted


def test_what_is_granted_is_kept_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "grants.json"
    assert GrantFile(path).read() == {}
    GrantFile(path).update(lambda _: {"shop": {"ada": ("read",)}})
    assert GrantFile(path).read() == {"shop": {"ada": ("read",)}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_changes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "grants.json"

    def add(number: int) -> None:
        def change(granted: Granted) -> Granted:
            return {**granted, f"p{number}": {"ada": ("read", "write")}}

        GrantFile(path).update(change)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert GrantFile(path).read().keys() == {f"p{number}" for number in range(40)}


@pytest.mark.parametrize("text", ["", "{", '{"shop": 1}', '{"shop": {"ada": ["own"]}}', "[]"])
def test_a_damaged_file_grants_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "grants.json"
    path.write_text(text)
    with pytest.raises(NotAvailableError, match="can't be read"):
        GrantFile(path).read()
    with pytest.raises(NotAvailableError):
        GrantFile(path).update(lambda granted: granted)
    assert path.read_text() == text


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"shop": {"eve": ["read"]}}')
    (tmp_path / "grants.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotAvailableError):
        GrantFile(tmp_path / "grants.json").read()
