"""The guide's encryption classes."""

from __future__ import annotations

import asyncio
import base64
import doctest
import secrets
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from querycache import AESEncryption, ConfigError, EncryptionOperationError, KeyManager
from querycache.doors.python import encryption


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_the_snippet_of_the_guide(folder: Path) -> None:
    async def test() -> bytes:
        sealer = AESEncryption(KeyManager())
        return await sealer.decrypt(await sealer.encrypt("test encryption data"))

    assert asyncio.run(test()).decode() == "test encryption data"
    assert list((folder / "here").iterdir()) == []
    kept = folder / "data" / "querycache" / "keys" / "keys.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@pytest.mark.asyncio
async def test_a_new_key_is_kept_and_current_and_old_data_stays_readable() -> None:
    manager = KeyManager()
    old = await AESEncryption(manager).encrypt(b"old")
    ids = [manager.generate_key().key_id for _ in range(3)]
    assert len(set(ids)) == 3
    assert manager.current_key.key_id == ids[-1]
    fresh = await AESEncryption(manager).encrypt("é")
    for keys in (manager, KeyManager()):
        assert await AESEncryption(keys).decrypt(old) == b"old"
        assert (await AESEncryption(keys).decrypt(fresh)).decode() == "é"
        assert keys.current_key.key_id == ids[-1]
        assert next(key.key_id for key in keys.list_keys()) == ids[-1]


@pytest.mark.asyncio
async def test_the_key_of_the_guide_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_ENCRYPTION_KEY", base64.b64encode(secrets.token_bytes(32)).decode())
    manager = KeyManager()
    sealed = await AESEncryption(manager).encrypt("text")
    assert sealed[4:8].hex() == manager.current_key.key_id
    assert await AESEncryption(KeyManager()).decrypt(sealed) == b"text"
    monkeypatch.setenv("CACHE_ENCRYPTION_KEY", base64.b64encode(secrets.token_bytes(32)).decode())
    with pytest.raises(EncryptionOperationError, match="not at hand"):
        await AESEncryption(KeyManager()).decrypt(sealed)
    monkeypatch.setenv("CACHE_ENCRYPTION_KEY", base64.b64encode(secrets.token_bytes(31)).decode())
    with pytest.raises(ConfigError):
        KeyManager()


@pytest.mark.asyncio
async def test_what_was_altered_or_cut_says_so() -> None:
    sealer = AESEncryption(KeyManager())
    sealed = await sealer.encrypt(b"planted")
    for wrong in (b"", b"QE", sealed[:20], sealed[:-1], sealed + b"x", b"x" + sealed[1:]):
        with pytest.raises(EncryptionOperationError) as caught:
            await sealer.decrypt(wrong)
        assert caught.value.remedy


@pytest.mark.parametrize("kind", [KeyManager, AESEncryption])
def test_the_examples_run(kind: type) -> None:
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for example in finder.find(kind, globs=dict(vars(encryption))):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_neither_the_import_nor_a_cache_without_encryption_loads_cryptography() -> None:
    code = (
        "import sys, asyncio, querycache\n"
        "async def main():\n"
        "    service = await querycache.get_cache_service()\n"
        "    await service.set('k', 1)\n"
        "    await service.shutdown()\n"
        "asyncio.run(main())\n"
        "print('cryptography' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
