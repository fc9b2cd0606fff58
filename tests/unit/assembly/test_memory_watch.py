"""The watch over a process's memory, wired: what it tells, and to whom."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.unit.usecases.app_kit import app_at

from querycache.assembly import App
from querycache.config import load_config
from querycache.errors import UnsupportedValueError
from querycache.events import NotStored, Pressure
from querycache.ports.memory import Reading
from querycache.testing import FakeClock

MB = 1 << 20
pytestmark = pytest.mark.asyncio


class Machine:
    """A machine whose figures are what the test says."""

    def __init__(self) -> None:
        self.share = 0.5
        self.rss = 100 * MB

    def read(self) -> Reading:
        return Reading(int(self.share * 10_000 * MB), 10_000 * MB, "cgroup", self.rss, 0.0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr("querycache.assembly.memory.ProcessMemory", lambda: made)
    monkeypatch.setattr("querycache.assembly.memory.resident", lambda: made.rss)
    return made


async def test_what_is_told_is_plain_and_stays_while_little_changes(
    tmp_path: Path, machine: Machine
):
    async with app_at(tmp_path / "home") as app:
        assert "memory" not in app.told()
        await app.watch_over()
        told = {name: app.told()[name] for name in ("memory", "leaks")}
        assert told == {
            "memory": {
                "level": "normal",
                "used_bytes": 5_000 * MB,
                "limit_bytes": 10_000 * MB,
                "source": "cgroup",
                "rss_bytes": 100 * MB,
                "l1_share": 1.0,
                "sheds": 0,
                "psi_some_avg10": 0.0,
            },
            "leaks": [],
        }
        assert msgspec.json.decode(msgspec.json.encode(told)) == told
        machine.share, machine.rss = 0.505, 104 * MB
        await app.memory.turn()
        assert app.told()["memory"] is told["memory"]
        machine.rss = 110 * MB
        await app.memory.turn()
        assert app.told()["memory"] != told["memory"]


async def test_critical_pressure_is_a_problem_and_nothing_comes_in(
    tmp_path: Path, machine: Machine
):
    async with app_at(tmp_path / "home", CACHE_LEVEL="L1_MEMORY") as app:
        for number in range(100):
            assert await app.remember.set(f"k{number}", "x" * 1000)
        machine.share = 0.85
        await app.memory.turn()
        assert app.ring.by_label(Pressure) == {"warning": 1}
        assert (await app.status.health()).problems == ()
        machine.share = 0.95
        await app.memory.turn()
        health = await app.status.health()
        assert health.status == "degraded"
        assert health.problems == (
            "memory is short: 9500 of 10000 MB (cgroup) are used; L1 takes nothing in",
        )
        assert not await app.remember.set("more", 1)
        assert app.ring.by_label(NotStored) == {"memory_short": 1}
        machine.share = 0.5
        for _ in range(60):
            await app.memory.turn()
        assert await app.remember.set("more", 1)
        assert (await app.status.health()).status == "healthy"
        assert app.ring.by_label(Pressure) == {"warning": 1, "critical": 1, "normal": 1}


async def test_it_can_be_switched_off(tmp_path: Path, machine: Machine):
    machine.share = 0.99
    async with app_at(tmp_path / "home", CACHE_MEMORY_PRESSURE_ENABLED="false") as app:
        await app.memory.turn()
        assert await app.remember.set("k", 1)
        memory = app.told()["memory"]
        assert isinstance(memory, dict)
        assert (memory["level"], memory["l1_share"]) == ("off", 1.0)
        assert app.ring.by_label(Pressure) == {}
        assert (await app.status.health()).problems == ()


async def leak(app: App, clock: FakeClock, machine: Machine, *, rate: int) -> None:
    """45 min, a turn each 5 s, `rate` MB/min."""
    for _ in range(540):
        await app.memory.turn()
        clock.now += 5
        machine.rss += rate * MB // 12


@pytest.mark.parametrize(
    ("door", "enabled", "told"),
    [("serve", "true", 1), ("mcp", "true", 1), ("python", "true", 0), ("serve", "false", 0)],
)
async def test_servers_watch_for_leaks(
    tmp_path: Path, machine: Machine, door: str, enabled: str, told: int
):
    clock = FakeClock()
    environ = {"HOME": str(tmp_path), "CACHE_LEAK_DETECTION_ENABLED": enabled}
    app = App(load_config(environ, cwd=tmp_path).config, door=door, clock=clock)
    try:
        assert await app.remember.set("file:a", "x" * 2_000_000)
        await leak(app, clock, machine, rate=6)
        leaks = msgspec.convert(app.told()["leaks"], list[dict[str, str]])
        assert len(leaks) == told
        for found in leaks:
            assert found["name"] == "memory.leak"
            assert found["severity"] == "error"
            assert "L1 holds file 1.9 MB" in found["evidence"]
    finally:
        await app.close()


async def test_a_value_for_which_there_is_no_memory_harms_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def starve(_value: object, _limit: int) -> tuple[bytes, bool]:
        raise MemoryError

    async with app_at(tmp_path / "home") as app:
        assert await app.remember.set("kept", [1, 2])
        with monkeypatch.context() as patch:
            patch.setattr("querycache.codec.exact.dumps", starve)
            with pytest.raises(UnsupportedValueError, match="too little memory"):
                await app.remember.set("large", [3])
            assert await app.remember.get_or_compute("computed", lambda: [4]) == [4]
        assert app.ring.by_label(NotStored) == {"unsupported": 1}
        assert await app.remember.get("kept") == [1, 2]
        assert await app.remember.get("large") is None
        assert await app.remember.set("large", [3])
        assert await app.remember.get("large") == [3]
