"""Packets that are dropped, as a network does it: half-open connections, loss, partitions.

The server lives in a network namespace, and nft drops what comes in there. Wants root, ip and nft.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.live.apart import far_server
from tests.live.fault_judge import now
from tests.live.fault_kit import sizes, under_load
from tests.redis_kit import until

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]

BUSY_S = 0.75
BACK_OFF_S = 2.0


@pytest.mark.parametrize("count", sizes(1, 30))
async def test_packets_of_connections_are_dropped(count: int, tmp_path: Path):
    """Half-open: no end of the connection is heard of; L1 is not served beyond two seconds."""
    async with far_server(tmp_path) as server:
        urls = [server.url] * 2
        async with under_load("F06", 66, tmp_path, *urls, what="packets dropped (nft)") as stage:
            for _ in range(count):
                await asyncio.sleep(0.2)
                async with stage.outage():
                    server.apart.drop(f"tcp dport {server.port}")
                    dropped = now()

                    async def noticed() -> bool:
                        return all(app.core.generations.deaf for app in stage.apps)

                    await until(noticed, "both are deaf", 5)
                    stage.found.most("noticed_after_s", now() - dropped)
                    if now() - dropped > BACK_OFF_S + BUSY_S:
                        stage.found.wrong(f"I4 noticed after {now() - dropped:.2f} s")
                    await asyncio.sleep(stage.random.uniform(0.2, 1.0))
                    server.apart.heal()
                await stage.healed(BACK_OFF_S + BUSY_S)


@pytest.mark.parametrize("count", sizes(60, 1000))
async def test_a_quarter_of_the_packets_is_lost(count: int, tmp_path: Path):
    async with far_server(tmp_path) as server:
        urls = [server.url] * 2
        what = "25 % of packets lost (nft)"
        async with under_load("F07", 77, tmp_path, *urls, what=what) as stage:
            done = stage.found.operations + count
            stage.limit_s += 1.0  # several waits of one deadline each, and TCP's own
            with stage.judge.trouble():
                server.apart.drop(f"tcp dport {server.port} numgen random mod 4 == 0")

                async def enough() -> bool:
                    return stage.found.operations >= done

                await until(enough, "operations", 120)
                await asyncio.sleep(1.0)
                server.apart.heal()
            await stage.healed(4.0 + BUSY_S)
