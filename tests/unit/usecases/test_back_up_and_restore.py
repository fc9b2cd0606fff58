"""Back-ups between stores: what is valid is kept with its life and its tags, what is not stays
out, and a file that is not whole changes nothing.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
from tests.redis_kit import redis_server
from tests.unit.usecases.app_kit import app_at, make_project

from querycache.assembly import App
from querycache.assembly.upkeep import named_by_time
from querycache.cache import dumping
from querycache.cache.catalogue.embeddings import EmbeddingKey, embeddings
from querycache.cache.dumping import ListedSource
from querycache.codec.backup_file import DiskBackups
from querycache.errors import BackupError, NotAvailableError, TierError, UsageError
from querycache.keys import Scope
from querycache.ports.backup import About, Contents, Dumped, Saved, Source
from querycache.ports.codec import Body, Form, Record
from querycache.ports.tiers import Read, Write
from querycache.usecases.back_up import STORE
from querycache.values import Kind, Stamp

pytestmark = pytest.mark.asyncio

VALUES: dict[str, object] = {
    "plain": "text",
    "exact": (1, {2: b"3"}, frozenset({4}), None),
    "file:/a/b.py": ["parsed"],
    "project:shop:context": {"files": 3},
    "search:q": list(range(2000)),
}


async def fill(app: App) -> None:
    for key, value in VALUES.items():
        await app.remember.set(key, value, ttl=500, tags=["t"])


async def values(app: App) -> dict[str, object]:
    app.l1.clear()
    return await app.remember.get_batch(list(VALUES))


@pytest.mark.parametrize("way", ["sqlite-redis", "redis-sqlite", "sqlite-sqlite", "redis-redis"])
async def test_all_is_there_in_another_store(tmp_path: Path, way: str) -> None:
    file = str(tmp_path / "a.qcb")
    async with AsyncExitStack() as stack:
        apps: list[App] = []
        for number, kind in enumerate(way.split("-")):
            url = ""
            if kind == "redis":
                url = (await stack.enter_async_context(redis_server())).url
            settings = {"REDIS_URL": url} if url else {}
            home = tmp_path / f"home{number}"
            apps.append(await stack.enter_async_context(app_at(home, **settings)))
        source, target = apps
        await fill(source)
        vectors = embeddings(source.core, source.namer, source.policies[Kind.EMBEDDING], Scope())
        key = EmbeddingKey("m", "query", "words")
        await vectors.put(key, np.arange(8, dtype=np.float32))
        made = await source.back_up(file)
        assert (made.entries, made.skipped, made.failed) == (len(VALUES) + 1, 0, 0)
        assert made.kinds == {"embedding": 1, "search": 1, "project": 1, "file": 1, "other": 2}
        checked = await target.restore.verify(file)
        assert (checked.entries, checked.bytes, checked.failed) == (made.entries, made.bytes, 0)
        done = await target.restore(file)
        assert (done.entries, done.skipped, done.failed) == (made.entries, 0, 0)
        assert await values(target) == VALUES
        there = embeddings(target.core, target.namer, target.policies[Kind.EMBEDDING], Scope())
        vector = await there.get(key)
        assert vector is not None
        assert vector.tolist() == list(range(8))
        found = (await target.explain_key("plain")).entry.l2
        assert found is not None
        assert 490 < found.usable_s <= 500  # the end of its life, not a new life
        await target.invalidate.tag("t")
        assert await values(target) == {}


async def test_what_is_no_longer_valid_stays_out(tmp_path: Path) -> None:
    file = str(tmp_path / "a.qcb")
    async with app_at(tmp_path / "one") as one, app_at(tmp_path / "two") as two:
        await fill(one)
        await one.remember.set("cut", 1, tags=["moved"])
        await one.invalidate.tag("moved")
        made = await one.back_up(file)
        assert made.reasons == {"invalidated": 1}
        assert made.entries == len(VALUES)
        await two.restore(file)
        assert await two.remember.get("cut") is None


class Interfering:
    """A source during whose turn something happens."""

    def __init__(self, source: Source, happens: object) -> None:
        self._source = source
        self._happens = happens
        self.peeked = 0

    async def dump(self, prefix: str) -> AsyncIterator[Sequence[Dumped]]:
        async for batch in self._source.dump(prefix):
            yield batch
            if callable(self._happens):
                await self._happens()  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]  # a coroutine function

    async def peek(self, keys: Sequence[str]) -> list[Read]:
        self.peeked += len(keys)
        return await self._source.peek(keys)


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
@pytest.mark.parametrize("what", ["tag", "overwritten", "deleted"])
async def test_what_changes_during_its_turn_stays_out(
    tmp_path: Path, backend: str, what: str
) -> None:
    file = str(tmp_path / "a.qcb")
    async with AsyncExitStack() as stack:
        settings: dict[str, str] = {}
        if backend == "redis":
            settings["REDIS_URL"] = (await stack.enter_async_context(redis_server())).url
        app = await stack.enter_async_context(app_at(tmp_path / "one", **settings))
        other = await stack.enter_async_context(app_at(tmp_path / "one", **settings))
        for number in range(20):
            await app.remember.set(f"k{number}", number, tags=[f"t{number}"])
        happened = False

        async def happens() -> None:
            nonlocal happened
            if not happened:
                happened = True
                if what == "tag":
                    await other.invalidate.tag("t3")
                elif what == "overwritten":
                    await other.remember.set("k3", "new")
                else:
                    await other.remember.delete("k3")

        make = app.back_up
        make._source = Interfering(make._source, happens)  # pyright: ignore[reportPrivateUsage]  # in the middle
        made = await make(file)
        assert happened
        assert made.reasons == {"changed": 1}
        assert made.kinds["other"] == made.entries == 19
        target = await stack.enter_async_context(app_at(tmp_path / "two"))
        assert (await target.restore(file)).entries == 19
        assert await target.remember.get("k3") is None
        assert await target.remember.get("k4") == 4


async def test_merge_keeps_overwrite_does_not_and_replace_drops(tmp_path: Path) -> None:
    file = str(tmp_path / "a.qcb")
    async with (
        app_at(tmp_path / "one") as one,
        app_at(tmp_path / "two") as two,
        app_at(tmp_path / "two") as beside,
    ):
        await fill(one)
        await one.back_up(file)
        await two.remember.set("plain", "own")
        await two.remember.set("extra", "stays")
        assert await beside.remember.get("plain") == "own"  # in its L1
        done = await two.restore(file)
        assert done.reasons == {"kept": 1}
        assert await beside.remember.get("plain") == "own"
        dry = await two.restore(file, mode="overwrite", dry_run=True)
        assert dry.entries == len(VALUES)
        assert await beside.remember.get("plain") == "own"
        assert (await two.restore(file, mode="overwrite")).skipped == 0
        assert await beside.remember.get("plain") == "text"  # it was told
        assert await two.remember.get("extra") == "stays"
        assert (await two.restore(file, mode="replace")).entries == len(VALUES)
        for app in (two, beside):
            assert await values(app) == VALUES
            assert await app.remember.get("extra") is None


async def test_a_merge_into_the_same_store_brings_nothing_back_that_was_invalidated(
    tmp_path: Path,
) -> None:
    file = str(tmp_path / "a.qcb")
    async with app_at(tmp_path / "one") as app:
        await fill(app)
        await app.remember.set("derived", 1, tags=["project:shop"])
        await app.back_up(file)
        await app.clean_up([Kind.OTHER, Kind.SEARCH])
        await app.invalidate.tag("project:shop")
        done = await app.restore(file)
        assert done.reasons == {"invalidated": 2, "kept": 1}  # a clean-up is no invalidation
        assert await app.remember.get("derived") is None
        assert await app.remember.get("plain") == "text"
        await app.restore(file, mode="overwrite")
        assert await app.remember.get("derived") == 1


async def test_a_store_that_forgot_who_it_is_is_known_by_its_counters(tmp_path: Path) -> None:
    file = str(tmp_path / "a.qcb")
    async with app_at(tmp_path / "one") as app:
        await fill(app)
        await app.remember.set("derived", 1, tags=["project:shop"])
        await app.back_up(file)
        await app.core.l2.bump([STORE])  # as where a server evicted it
        await app.invalidate.tag("project:shop")
        done = await app.restore(file)
        assert done.reasons == {"invalidated": 2, "kept": len(VALUES) - 1}
        assert await app.remember.get("derived") is None


async def test_one_project_alone(tmp_path: Path) -> None:
    project, file = make_project(tmp_path / "sample"), str(tmp_path / "a.qcb")
    async with app_at(tmp_path / "one") as one, app_at(tmp_path / "two") as two:
        await one.index(str(project))
        await one.search("greet", "sample")
        await one.remember.set("mine", 1)
        made = await one.back_up(file, "sample")
        assert made.kinds["search"] == made.entries == 1
        await one.back_up(file, force=True)
        await two.remember.set("own", 1)
        done = await two.restore(file, "sample", mode="replace")
        assert (done.entries, done.skipped) == (1, 0)
        assert await two.remember.get("own") == 1
        assert await two.remember.get("mine") is None


async def test_expired_entries_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "a.qcb"
    async with app_at(tmp_path / "one") as app:
        await fill(app)
        await app.back_up(str(file))
        await app.clear()
        reader = DiskBackups().open(str(file))
        about, rows = reader.manifest.about, [row for block in reader.rows() for row in block]
        reader.close()
        writer = DiskBackups().create(str(file), about, force=True)
        ends = (app.clock.wall() - 1, float("nan"), float("inf"), 1e300, app.clock.wall() + 60)
        writer.write([Saved(r.name, r.data, e) for r, e in zip(rows, ends, strict=True)])
        writer.finish(Contents({}))
        done = await app.restore(str(file), mode="overwrite")
        # The envelope knows its end too, so a later one in the file changes nothing.
        assert done.entries + done.failed + done.skipped == 5
        assert done.reasons["expired"] == 1
        assert 3 <= done.entries <= 4


async def test_hostile_entries_are_counted_and_change_nothing(tmp_path: Path) -> None:
    file = str(tmp_path / "a.qcb")
    async with app_at(tmp_path / "one") as app:
        await app.remember.set("good", "text")
        name = app.namer.raw("good")
        (read,) = await app.core.l2.read([name])
        assert read.data is not None
        ends = app.clock.wall() + 60
        names = (
            "codebase_rag:meta:tag:t",
            "codebase_rag:meta:lease:x",
            "another:other:_:good",
            "good",
            "codebase_rag:weird:_:good",
            "codebase_rag:other:_:a:b",
            "codebase_rag:other:_",
            "codebase_rag:other:_:else",
            "",
            "codebase_rag::::",
            "../../etc/passwd",
        )
        about = About(app.clock.wall(), "codebase_rag", "sqlite", "test", Stamp(0, 0))
        writer = DiskBackups().create(file, about)
        rows = [Saved(one.encode(), read.data, ends) for one in names]
        rows += [Saved(b"\xff\xfe", read.data, ends), Saved(name.encode(), b"junk", ends)]
        rows += [Saved(name.encode(), read.data, ends)] * 3
        writer.write(rows)
        writer.finish(Contents({"other": 1}))
        await app.clear()
        done = await app.restore(file)
        assert done.entries == 1
        assert done.reasons["bad_name"] == 11
        assert done.reasons["wrong_key"] == 1
        assert done.failed == 13
        assert done.skipped == 2
        held = [listing.key async for listing in app.core.l2.scan()]
        assert held == [name]


async def test_a_file_that_is_damaged_or_useless_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.qcb"
    async with app_at(tmp_path / "one") as one, app_at(tmp_path / "two") as two:
        await fill(one)
        await one.back_up(str(file))
        await two.remember.set("own", 1)
        whole = file.read_bytes()
        file.write_bytes(whole[:-10])
        for mode in ("merge", "overwrite", "replace"):
            with pytest.raises(BackupError):
                await two.restore(str(file), mode=mode)
        writer = DiskBackups().create(
            str(file), About(0.0, "codebase_rag", "x", "x", Stamp(0, 0)), force=True
        )
        writer.write([Saved(two.namer.raw("own").encode(), b"sealed by another", 1e12)])
        writer.finish(Contents({}))
        with pytest.raises(BackupError, match="no entry of it can be restored"):
            await two.restore(str(file), mode="replace")
        assert await values(two) == {}
        assert await two.remember.get("own") == 1


async def test_a_failure_that_passes_costs_a_backup_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "a.qcb")
    monkeypatch.setattr(dumping, "_PAUSE_S", 0.0)
    async with app_at(tmp_path / "one") as app:
        await fill(app)
        await app.remember.set("cut", 1, tags=["moved"])
        await app.invalidate.tag("moved")
        failures = iter((TierError("too slow"),))

        async def fails() -> None:
            if (error := next(failures, None)) is not None:
                raise error

        make = app.back_up
        make._source = Interfering(make._source, fails)  # pyright: ignore[reportPrivateUsage]  # in the middle
        made = await make(file)
        assert (made.entries, made.reasons) == (len(VALUES), {"invalidated": 1})
        assert (await app.restore.verify(file)).entries == len(VALUES)


async def test_no_request_of_a_backup_brings_more_than_arrives_in_time(tmp_path: Path) -> None:
    async with redis_server() as server, app_at(tmp_path / "one", REDIS_URL=server.url) as app:
        for number in range(24):
            await app.remember.set(f"k{number}", os.urandom(100_000))
        asked: list[int] = []

        class Weighing(ListedSource):
            async def peek(self, keys: Sequence[str]) -> list[Read]:
                reads = await super().peek(keys)
                asked.append(sum(len(read.data or b"") for read in reads))
                return reads

        make = app.back_up
        make._source = Weighing(app.core.l2, app.clock)  # pyright: ignore[reportPrivateUsage]  # looks on
        made = await make(str(tmp_path / "a.qcb"))
        assert made.entries == 24
        assert sum(asked) > made.bytes  # each was read, and the guards once more
        assert max(asked) < 700_000


async def test_what_a_failed_attempt_has_stored_counts_as_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "a.qcb")
    monkeypatch.setattr(dumping, "_PAUSE_S", 0.0)
    async with app_at(tmp_path / "one") as one, app_at(tmp_path / "two") as two:
        await fill(one)
        await one.back_up(file)
        await two.remember.set("plain", "own")
        real, failures = two.core.l2.write, iter((TierError("no answer in time"),))

        async def write(writes: Sequence[Write]) -> list[bool]:
            done = await real(writes)
            if (error := next(failures, None)) is not None:
                raise error
            return done

        monkeypatch.setattr(two.core.l2, "write", write)
        done = await two.restore(file)
        assert (done.entries, done.reasons) == (len(VALUES) - 1, {"kept": 1})
        assert (await two.restore(file)).reasons == {"kept": len(VALUES)}


async def test_nothing_is_bound_to_a_counter_that_the_store_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumping, "_PAUSE_S", 0.0)
    async with redis_server() as server, app_at(tmp_path / "one", REDIS_URL=server.url) as app:
        await app.remember.set("a", 1)
        await server.kill()
        tags = (("tag of nobody", Stamp(1, 0)),)
        record = Record("codebase_rag:other:_:x", Body(b"", Form.MSGPACK, True), 0, 1, 1, 0, tags)
        rebinder = app.restore._rebinder  # pyright: ignore[reportPrivateUsage]  # its own failure
        for _ in range(2):
            with pytest.raises(TierError):
                await rebinder.stand([record])


async def test_a_backup_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    async with app_at(tmp_path / "one") as app:
        await fill(app)

        async def fails() -> None:
            raise TierError("gone")

        make = app.back_up
        make._source = Interfering(make._source, fails)  # pyright: ignore[reportPrivateUsage]  # in the middle
        monkeypatch.setattr(dumping, "_PAUSE_S", 0.0)
        with pytest.raises(TierError):
            await make(str(folder / "a.qcb"))
        assert list(folder.iterdir()) == []
    async with app_at(tmp_path / "none", CACHE_L2_BACKEND="none") as app:
        with pytest.raises(NotAvailableError):
            await app.back_up(str(folder / "a.qcb"))


async def test_the_flat_form_is_read_and_successes_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "flat.json"
    file.write_text(json.dumps({"a": 1, "b": {"c": [1, 2]}, "file:/x": None}))
    told: list[str] = []
    async with app_at(tmp_path / "one") as app:
        await app.remember.set("a", "own")
        done = await app.restore(str(file), failed=lambda key, _: told.append(key))
        assert (done.entries, done.skipped, done.failed, done.flat) == (2, 1, 0, True)
        app.l1.clear()
        assert await app.remember.get("b") == {"c": [1, 2]}
        assert await app.remember.get("a") == "own"
        assert (await app.restore(str(file), mode="overwrite")).entries == 3
        assert await app.remember.get("a") == 1
        for text, words in (("{}", {"mode": "replace"}), (file.read_text(), {"project": "p"})):
            file.write_text(text)
            with pytest.raises((BackupError, UsageError)):
                await app.restore(str(file), **words)  # pyright: ignore[reportArgumentType]  # one of each
            assert await app.remember.get("a") == 1
        file.write_text(json.dumps({"big": "x" * 20_000_000, "small": 1}))
        done = await app.restore(str(file), failed=lambda key, _: told.append(key))
        assert (done.entries, done.failed) == (1, 1)
        assert told == ["big"]


async def test_a_backup_at_home_is_named_by_its_time(tmp_path: Path) -> None:
    async with app_at(tmp_path / "one") as app:
        await fill(app)
        made = await app.back_up_at_home()
        assert Path(made.path).parent == app.home / "backups"
        assert (await app.restore.verify(made.path)).entries == len(VALUES)
        for number in range(20):
            named_by_time(app.home / "backups", number * 100.0).write_text("")
        with pytest.raises(BackupError, match="back-ups already"):
            await app.back_up_at_home()


async def test_what_is_sealed_stays_sealed_and_opens_with_its_key_alone(tmp_path: Path) -> None:
    file = str(tmp_path / "a.qcb")
    sealed = {
        "CACHE_ENCRYPTION_ENABLED": "true",
        "CACHE_ENCRYPTION_KEY": base64.b64encode(bytes(range(32))).decode(),
    }
    other = sealed | {"CACHE_ENCRYPTION_KEY": base64.b64encode(bytes(range(1, 33))).decode()}
    async with (
        app_at(tmp_path / "one", **sealed) as one,
        app_at(tmp_path / "two", **sealed) as two,
        app_at(tmp_path / "three", **other) as three,
        app_at(tmp_path / "four", CACHE_ENCRYPTION_ENABLED="false") as four,
    ):
        await fill(one)
        await two.remember.set("own", 1)  # it has a salt of its own
        await three.remember.set("own", 1)
        made = await one.back_up(file)
        assert (made.entries, made.failed) == (len(VALUES), 0)
        (read,) = await one.core.l2.read([one.namer.raw("plain")])
        assert read.data is not None
        reader = DiskBackups().open(file)
        rows = {row.name: row.data for block in reader.rows() for row in block}
        reader.close()
        assert rows[one.namer.raw("plain").encode()] == read.data
        assert not any(b"text" in data for data in rows.values())
        assert (await two.restore(file)).entries == len(VALUES)
        assert await values(two) == VALUES
        for app in (three, four):
            checked = await app.restore.verify(file)
            assert (checked.entries, checked.failed) == (0, len(VALUES))
            with pytest.raises(BackupError, match="no entry"):
                await app.restore(file, mode="replace")
        assert await three.remember.get("own") == 1
