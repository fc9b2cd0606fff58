"""The seal: what opens and what does not, NIST's vectors, golden envelopes, and the life of salts
and subkeys.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from tests.behaviour.codec_suite import KEY, CodecSuite, record
from tests.unit.codec.seal_kit import (
    OTHER_KEY,
    Process,
    Ready,
    fixed_randomness,
    ring_of,
)

from querycache.codec import seal as module
from querycache.codec.envelope import head_of
from querycache.codec.pipeline import Pipeline
from querycache.errors import ConfigError, TierError, UnreadableError
from querycache.ports.codec import Codec, Record
from querycache.testing.clock import FakeClock
from querycache.testing.memory import SharedMemory
from querycache.values import Kind, Stamp

TEAM = "codebase_rag:search:team:1"


class TestSealed(CodecSuite):
    flips = frozenset({"bad_magic", "bad_version", "bad_header", "unknown_key", "bad_seal"})
    altered = "bad_seal"
    moved = frozenset({"bad_seal"})

    @pytest.fixture
    def codec(self) -> Codec:
        return Ready()


@pytest.fixture
def shared() -> SharedMemory:
    return SharedMemory(FakeClock())


def entry(key: str = KEY, value: object = "a planted value") -> Record:
    return record(Pipeline().encode(value), key)


async def reason(process: Process, key: str, data: bytes) -> str:
    with pytest.raises(UnreadableError) as caught:
        await process.opened(key, data)
    return caught.value.reason


# --- vectors -----------------------------------------------------------------------------------

_KEY = "feffe9928665731c6d6a8f9467308308" * 2
_PLAIN = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
_CIPHER = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
)
_NONCE = "cafebabefacedbaddecaf888"
_AAD = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
NIST = [  # test cases 13 to 16 of the GCM specification: key, nonce, plain, aad, cipher and tag
    ("00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    (
        "00" * 32,
        "00" * 12,
        "00" * 16,
        "",
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
    ),
    (_KEY, _NONCE, _PLAIN, "", _CIPHER + "b094dac5d93471bdec1a502270e3cc6c"),
    (_KEY, _NONCE, _PLAIN[:120], _AAD, _CIPHER[:120] + "76fc6ece0f4e1768cddf8853bb2d551b"),
]


@pytest.mark.parametrize("vector", NIST)
def test_nist_vectors_come_out_of_the_path_that_entries_take(
    shared: SharedMemory, monkeypatch: pytest.MonkeyPatch, vector: tuple[str, ...]
) -> None:
    key, nonce, plain, aad, expected = map(bytes.fromhex, vector)
    process = Process(shared)
    asyncio.run(process.sealed(entry()))

    def subkey(*_: object) -> bytes:
        return key

    def urandom(size: int) -> bytes:
        return nonce[:size]

    monkeypatch.setattr(module, "derived", subkey)
    monkeypatch.setattr(os, "urandom", urandom)
    shared.clock.now += 90_000  # past the life of the writer's subkey
    head, encrypt = process.seal.begin(KEY)
    assert head.nonce == nonce
    assert encrypt(plain, aad) == expected
    assert process.seal.end(KEY, head, expected, aad) == plain


GOLDEN = """
51430120 3dd29dfa 2544d0ab4e9e3870a3187c0b898817f1 0a7fddc22e37eaf05b744459 41d954fcd6080000
402a4eb92463f3a5e3e4fb38dddd83ee2e782d90f2208a01021108127c87323522a619a193a6d474018bce1d
a4702bb56294e21083e7153213df02e449b6a30c117eac71dc179867815f3288652fcae9c3ac3a13e2f73ea2
6f4aa41c03c307d40a9609698ad45da2ca874450fe62
"""


def test_version_1_is_sealed_and_opened_as_it_ever_was(
    shared: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = Pipeline().encode(("planted", None, 7))
    made = Record(TEAM, body, 1.7e9, 1.7e9 + 60, 1.7e9 + 600.125, 0.25, (("t", Stamp(5, 6)),))
    with monkeypatch.context() as patch:
        fixed_randomness(patch)
        sealed = asyncio.run(Process(shared).sealed(made))
    assert sealed.hex() == GOLDEN.replace(" ", "").replace("\n", "")
    assert asyncio.run(Process(shared).opened(TEAM, sealed)) == made


# --- what opens --------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_processes_that_share_a_key_read_each_other(shared: SharedMemory) -> None:
    ours, theirs = Process(shared), Process(shared)
    for key in (KEY, TEAM):
        assert await theirs.opened(key, await ours.sealed(entry(key))) == entry(key)
        assert await ours.opened(key, await theirs.sealed(entry(key))) == entry(key)
    assert len(shared.secrets) == 2


@pytest.mark.asyncio
async def test_what_is_sealed_holds_no_plain_word(shared: SharedMemory) -> None:
    sealed = await Process(shared).sealed(entry())
    assert b"planted" not in sealed
    assert KEY.encode() not in sealed
    assert not any(b"planted" in kept for kept in shared.secrets.values())


@pytest.mark.asyncio
async def test_an_entry_moved_or_swapped_does_not_open(shared: SharedMemory) -> None:
    process = Process(shared)
    names = [KEY, KEY + "2", TEAM, TEAM.replace("team", "other"), TEAM.replace("search", "file")]
    sealed = [await process.sealed(entry(name)) for name in names]
    for name, data in zip(names, [*sealed[1:], sealed[0]], strict=True):
        assert await reason(process, name, data) in {"bad_seal", "unknown_key"}


@pytest.mark.asyncio
async def test_two_halves_of_two_entries_do_not_open(shared: SharedMemory) -> None:
    process = Process(shared)
    one, two = [await process.sealed(entry(value=value)) for value in ("one", "two")]
    assert len(one) == len(two)
    for cut in range(44, len(one)):
        assert await reason(process, KEY, one[:cut] + two[cut:]) == "bad_seal"


@pytest.mark.asyncio
async def test_another_key_opens_nothing_and_says_so(shared: SharedMemory) -> None:
    sealed = await Process(shared).sealed(entry())
    stranger = Process(shared, ring_of(OTHER_KEY))
    assert await reason(stranger, KEY, sealed) == "unknown_key"
    assert await stranger.opened(KEY, await stranger.sealed(entry())) == entry()


@pytest.mark.asyncio
async def test_on_and_off_refuse_each_other(shared: SharedMemory) -> None:
    process, plain = Process(shared), Pipeline()
    assert await reason(process, KEY, plain.seal(entry())) == "unsealed"
    with pytest.raises(UnreadableError, match="sealed"):
        plain.open(KEY, await process.sealed(entry()))


@pytest.mark.asyncio
async def test_kinds_are_sealed_one_by_one(shared: SharedMemory) -> None:
    process = Process(shared, kinds={Kind.SEARCH})
    assert head_of(await process.sealed(entry(TEAM))) is not None
    plain = await process.sealed(entry())
    assert head_of(plain) is None
    assert await process.opened(KEY, plain) == entry()
    assert await reason(process, KEY, await Process(shared).sealed(entry())) == "sealed"
    others = Process(shared, kinds={Kind.OTHER})
    assert head_of(await others.sealed(entry("p:no_kind_of_ours:x:1"))) is not None


# --- salts -------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_dropped_salt_makes_its_project_unreadable_and_no_other(
    shared: SharedMemory,
) -> None:
    process = Process(shared)
    lost, kept = await process.sealed(entry(TEAM)), await process.sealed(entry())
    assert await process.seal.drop("team") == 1
    for reader in (process, Process(shared)):
        assert await reason(reader, TEAM, lost) == "unknown_key"
        assert await reader.opened(KEY, kept) == entry()
    again = await process.sealed(entry(TEAM))
    assert await process.opened(TEAM, again) == entry(TEAM)
    assert await reason(process, TEAM, lost) == "unknown_key"


@pytest.mark.asyncio
async def test_who_had_a_dropped_salt_learns_the_new_one(shared: SharedMemory) -> None:
    ours, theirs = Process(shared), Process(shared)
    await ours.sealed(entry(TEAM))
    await theirs.sealed(entry(TEAM))
    await theirs.seal.drop("team")
    fresh = await theirs.sealed(entry(TEAM))
    assert await ours.opened(TEAM, fresh) == entry(TEAM)  # its mark told that it is another
    shared.secrets.clear()  # as an eviction does
    await shared.clock.advance(31)
    sealed = await ours.sealed(entry(TEAM))
    assert await theirs.opened(TEAM, sealed) == entry(TEAM)


@pytest.mark.asyncio
async def test_without_the_shared_tier_nothing_new_is_sealed_or_opened(
    shared: SharedMemory,
) -> None:
    old = await Process(shared).sealed(entry())
    process = Process(shared)
    shared.down = True
    with pytest.raises(TierError):
        await process.sealed(entry())
    with pytest.raises(TierError):
        process.codec.seal(entry())
    with pytest.raises(TierError):
        await process.opened(KEY, old)
    shared.down = False
    await shared.clock.advance(1)
    assert await process.opened(KEY, old) == entry()


@pytest.mark.asyncio
async def test_a_salt_that_is_known_outlives_an_outage(shared: SharedMemory) -> None:
    process = Process(shared)
    await process.sealed(entry())
    await shared.clock.advance(100)
    shared.down = True
    assert await process.opened(KEY, await process.sealed(entry())) == entry()


@pytest.mark.asyncio
@pytest.mark.parametrize("damage", [b"", b"x", bytes(60), None])
async def test_a_damaged_salt_is_replaced(shared: SharedMemory, damage: bytes | None) -> None:
    old = await Process(shared).sealed(entry())
    ((name, wrapped),) = shared.secrets.items()
    shared.secrets[name] = damage if damage is not None else wrapped[:-1] + b"x"
    process = Process(shared)
    assert await reason(process, KEY, old) == "unknown_key"
    assert await process.opened(KEY, await process.sealed(entry())) == entry()


@pytest.mark.asyncio
async def test_a_salt_moved_to_another_project_does_not_open(shared: SharedMemory) -> None:
    old = await Process(shared).sealed(entry(TEAM))
    ((name, wrapped),) = shared.secrets.items()
    shared.secrets[name.replace("team", "spy")] = wrapped
    spy = TEAM.replace("team", "spy")
    assert await reason(Process(shared), spy, old) == "unknown_key"


@pytest.mark.asyncio
async def test_a_salt_that_is_not_there_is_asked_for_once_a_second(shared: SharedMemory) -> None:
    process = Process(shared)
    sealed = await process.sealed(entry(TEAM))
    shared.secrets.clear()
    reader = Process(shared)
    assert await reason(reader, TEAM, sealed) == "unknown_key"
    assert reader.codec.prepare([TEAM], [sealed]) is None
    await shared.clock.advance(1)
    pending = reader.codec.prepare([TEAM], [sealed])
    assert pending is not None
    await pending


# --- writers -----------------------------------------------------------------------------------


def salt_of(data: bytes) -> bytes:
    head = head_of(data)
    assert head is not None
    return head.salt


@pytest.mark.asyncio
async def test_a_writer_is_replaced_when_worn_or_old(
    shared: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert getattr(module, "_WRITES") == 1 << 30  # noqa: B009 -- private to its module
    monkeypatch.setattr(module, "_WRITES", 3)
    process = Process(shared)
    salts = [salt_of(await process.sealed(entry())) for _ in range(4)]
    assert [salts.count(salt) for salt in salts] == [3, 3, 3, 1]
    await shared.clock.advance(86_400)
    salts.append(salt_of(await process.sealed(entry())))
    assert len(set(salts)) == 3
    assert len({salt[:4] for salt in salts}) == 1


@pytest.mark.asyncio
async def test_a_child_never_writes_with_its_parents_subkey(shared: SharedMemory) -> None:
    process = Process(shared)
    mine = salt_of(await process.sealed(entry()))
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, salt_of(process.codec.seal(entry())))
        os._exit(0)
    os.waitpid(child, 0)  # noqa: ASYNC222 -- it only writes 16 bytes
    theirs = os.read(reading, 16)
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 16
    assert theirs != mine
    assert salt_of(await process.sealed(entry())) == mine


@pytest.mark.asyncio
async def test_nonces_never_repeat(shared: SharedMemory) -> None:
    process = Process(shared)
    sealed = [await process.sealed(entry()) for _ in range(500)]
    assert len({data[24:36] for data in sealed}) == 500


@pytest.mark.asyncio
async def test_forged_salts_buy_little_work(shared: SharedMemory) -> None:
    process = Process(shared)
    sealed = await process.sealed(entry())
    forged = [sealed[:12] + number.to_bytes(12) + sealed[24:] for number in range(1200)]
    reasons = [await reason(process, KEY, data) for data in forged]
    assert reasons.count("bad_seal") == 1000
    assert set(reasons[1000:]) == {"unknown_key"}
    await shared.clock.advance(1)
    assert await process.opened(KEY, sealed) == entry()


# --- keys --------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_new_key_reaches_a_running_process(shared: SharedMemory, tmp_path: Path) -> None:
    rings = [ring_of(None, tmp_path) for _ in range(2)]
    first = rings[0].generate()
    rings[1].reload()
    ours, theirs = (Process(shared, ring) for ring in rings)
    old = await ours.sealed(entry())
    second = rings[0].store.generate()  # by a command
    await shared.clock.advance(31)
    fresh = await ours.sealed(entry())
    names = [head.key_id.hex() for data in (old, fresh) if (head := head_of(data)) is not None]
    assert names == [first.key_id, second.key_id]
    for data in (old, fresh):
        assert await theirs.opened(KEY, data) == entry()


def test_without_a_key_there_is_no_seal(shared: SharedMemory, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no key") as caught:
        Process(shared, ring_of(None, tmp_path))
    assert "querycache key generate" in caught.value.remedy


def test_no_key_is_shown(shared: SharedMemory) -> None:
    process, secret = Process(shared), ring_of().current.reveal()
    asyncio.run(process.sealed(entry()))
    tell: Callable[[object], str] = repr
    shown = " ".join(map(tell, (ring_of(), ring_of().current, process.seal, process.codec)))
    assert secret.hex() not in shown
    assert base64.b64encode(secret).decode() not in shown
    assert repr(secret) not in shown
    assert all(one != two for one, two in pairwise(sorted([b"", secret])))


@pytest.mark.asyncio
async def test_all_who_read_while_a_salt_is_fetched_get_their_entries(
    shared: SharedMemory,
) -> None:
    writer, reader = Process(shared), Process(shared)
    data = await writer.sealed(entry(TEAM))
    gate, fetch = asyncio.Event(), reader.l2.secret

    async def slow(name: str, proposed: bytes | None = None) -> bytes | None:
        await gate.wait()
        return await fetch(name, proposed)

    setattr(reader.l2, "secret", slow)  # noqa: B010 -- a method
    async with asyncio.TaskGroup() as group:
        reads = [group.create_task(reader.opened(TEAM, data)) for _ in range(3)]
        await shared.clock.settle()
        gate.set()
    assert [read.result().key for read in reads] == [TEAM] * 3


@pytest.mark.asyncio
async def test_a_process_that_runs_keeps_its_keys_where_the_store_is_gone(
    shared: SharedMemory, tmp_path: Path
) -> None:
    ring = ring_of(None, tmp_path / "keys")
    ring.generate()
    process = Process(shared, ring)
    data = await process.sealed(entry(TEAM))
    ring.store.path.unlink()
    await shared.clock.advance(40.0)
    await process.sealed(entry(TEAM))
    assert (await process.opened(TEAM, data)).key == TEAM


@pytest.mark.asyncio
async def test_a_process_that_runs_opens_nothing_more_under_a_revoked_key(
    shared: SharedMemory, tmp_path: Path
) -> None:
    ring = ring_of(None, tmp_path / "keys")
    old = ring.generate()
    process = Process(shared, ring)
    data = await process.sealed(entry(TEAM))
    ring.generate()
    assert ring.store.revoke(old.key_id)
    for _ in range(2):  # one sees the key go, the next asks for the old entry
        await shared.clock.advance(40.0)
        await process.sealed(entry(TEAM))
    with pytest.raises(UnreadableError, match="unknown_key"):
        await process.opened(TEAM, data)
