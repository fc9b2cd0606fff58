"""A client and the old primary are cut off from the replica and the Sentinels, which go on without
them.

What the old primary acknowledged meanwhile is lost: Redis promises no more. After the heal the
client's memory is that of the new primary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.live.apart import Apart, FarServer, apart
from tests.live.fault_judge import now
from tests.live.fault_kit import sizes
from tests.redis_kit import RedisServer, Sentinel, until

from querycache.assembly import App
from querycache.config import load_config

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone, pytest.mark.timeout(300)]

KEYS = [f"k:{number}" for number in range(20)]
SPLIT_S = 4.0
HEALED_S = 4.0  # two seconds, and as much for a busy machine


class FarSentinel(Sentinel):
    """One that runs in a namespace."""

    def __init__(self, folder: Path, where: Apart) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.apart = where

    def _command(self) -> Sequence[str | Path]:
        return ("ip", "netns", "exec", self.apart.name, *super()._command())

    def know(self, primary: str, replica: str, others: Sequence[FarSentinel]) -> None:
        """What it monitors, and whom it votes with."""
        say = "sentinel {} cache ".format
        self.configure(
            [
                f"bind {self.apart.there} 127.0.0.1",
                f"sentinel myid {self.port:040x}",
                say("monitor") + f"{primary} 2",
                say("down-after-milliseconds") + "1000",
                say("failover-timeout") + "3000",
                say("known-replica") + replica,
                *(
                    say("known-sentinel") + f"{self.apart.there} {each.port} {each.port:040x}"
                    for each in others
                    if each is not self
                ),
            ]
        )


def app_at(url: str, home: Path) -> App:
    home.mkdir()
    environ = {"QUERYCACHE_HOME": str(home), "HOME": str(home), "REDIS_URL": url}
    return App(load_config(environ, cwd=home).config)


class Far(FarServer):
    """A server without a password."""

    def __init__(self, folder: Path, where: Apart, *options: str) -> None:
        folder.mkdir()
        super().__init__(folder, where, *options)


@pytest.mark.parametrize("count", sizes(1, 20))
async def test_after_a_split_memory_is_that_of_the_new_primary(
    count: int, tmp_path_factory: pytest.TempPathFactory
):
    for _ in range(count):
        await split(tmp_path_factory.mktemp("split"))


async def split(folder: Path) -> None:
    with apart() as where:
        (folder / "p").mkdir()
        primary = RedisServer(folder / "p", "--bind", f"{where.here} 127.0.0.1")
        primary.options += ("--protected-mode", "no")
        await primary.start()
        replica = Far(
            folder / "r",
            where,
            "--protected-mode",
            "no",
            "--replicaof",
            where.here,
            str(primary.port),
        )
        sentinels = [FarSentinel(folder / f"s{number}", where) for number in range(3)]
        for sentinel in sentinels:
            at = (f"{where.here} {primary.port}", f"{where.there} {replica.port}")
            sentinel.know(*at, sentinels)
        started = [replica, *sentinels]
        try:
            for server in started:
                await server.start()
            await tried(folder, replica, sentinels, where)
        finally:
            for server in (primary, *started):
                server.stop()


async def tried(
    folder: Path,
    replica: FarServer,
    sentinels: Sequence[FarSentinel],
    where: Apart,
) -> None:
    async def linked() -> bool:
        return (await replica.info("replication")).get("master_link_status") == "up"

    await until(linked, "the replica follows", 10)
    hosts = ",".join(f"{where.there}:{sentinel.port}" for sentinel in sentinels)
    ours = app_at(f"redis+sentinel://{hosts}/cache/0", folder / "ours")
    theirs = app_at(f"unix://{replica.socket}", folder / "theirs")
    try:
        assert await ours.remember.set_batch(dict.fromkeys(KEYS, "before")) == len(KEYS)
        where.drop(f"ip saddr {where.here}")
        cut = now()
        acknowledged = 0
        while now() - cut < SPLIT_S:
            for key in KEYS:
                acknowledged += await ours.remember.set(key, "lost")
                await ours.remember.get(key)
            await asyncio.sleep(0.05)

        async def promoted() -> bool:
            return (await replica.info("replication"))["role"] == "master"

        await until(promoted, "the replica takes over", 15)
        await theirs.remember.set_batch(dict.fromkeys(KEYS, "after"))
        where.heal()
        healed = now()

        async def agree() -> bool:
            return set((await ours.remember.get_batch(KEYS)).values()) == {"after"}

        await until(agree, "all is as the new primary has it", 10)
        assert acknowledged, "the old primary took nothing, so nothing was split"
        assert now() - healed < HEALED_S
        assert [await ours.remember.get(key) for key in KEYS] == ["after"] * len(KEYS)
    finally:
        await ours.close()
        await theirs.close()
