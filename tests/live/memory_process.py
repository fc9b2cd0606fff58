"""A process that fills its cache, and says how it went: `memory_process.py MB [--pauses]`."""

from __future__ import annotations

import asyncio
import json
import sys

from querycache.assembly import App
from querycache.assembly.memory import resident
from querycache.config import load_config
from querycache.events import Pressure

_EACH = 10_000
_BATCH = 100


async def fill(app: App, megabytes: int, *, pauses: bool) -> dict[str, object]:
    """Sets so many megabytes in distinct entries; what memory did meanwhile."""
    peak = failed = 0
    text = "x" * _EACH
    batches = megabytes * 1_000_000 // _EACH // _BATCH
    async with app.running():
        for batch in range(batches):
            names = range(batch * _BATCH, (batch + 1) * _BATCH)
            done = await app.remember.set_batch({f"k{name}": f"{name}{text}" for name in names})
            failed += len(names) - done
            peak = max(peak, resident())
            if pauses:
                await asyncio.sleep(0)
        await app.memory.turn()
        levels = app.ring.by_label(Pressure)  # the last events are all evictions
        info = app.l1.info()
        found = await app.remember.get(f"k{batches * _BATCH - 1}")
        return {
            **app.told(),
            "peak_rss": peak,
            "failed": failed,
            "levels": levels,
            "size": info.size,
            "bytes": info.bytes,
            "found": found is not None,
            "alive": await app.remember.set("last", 1) or not info.admits,
        }


async def main() -> None:
    app = App(load_config().config, door="test")
    try:
        told = await fill(app, int(sys.argv[1]), pauses="--pauses" in sys.argv)
    finally:
        await app.close()
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
