"""One load for N processes: a lease in L2. It saves work; correctness never depends on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from querycache.clock import Clock
from querycache.errors import TierError
from querycache.ports.tiers import L2

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1


class Leases:
    """Takes, renews and gives back leases; waits for those that others hold."""

    def __init__(self, l2: L2, clock: Clock) -> None:
        self._l2 = l2
        self._clock = clock

    @asynccontextmanager
    async def held(self, key: str, seconds: float, patience: float) -> AsyncGenerator[bool]:
        """Waits up to `patience` seconds for the lease on `key`, and holds it for the block.

        Yields whether it is held. A dead holder's lease runs out after `seconds`; with L2 down, or
        patience at its end, the block runs without a lease.
        """
        token = await self._wait(key, seconds, patience)
        if token is None:
            yield False
            return
        renewal = asyncio.create_task(self._renew(key, token, seconds))  # noqa: TID251 -- ends here
        try:
            yield True
        finally:
            renewal.cancel()
            with suppress(TierError):  # it runs out by itself
                await self._l2.release(key, token)

    async def _wait(self, key: str, seconds: float, patience: float) -> str | None:
        deadline = self._clock.monotonic() + patience
        pause = _FIRST_PAUSE_S
        try:
            while (token := await self._l2.lease(key, seconds)) is None:
                if self._clock.monotonic() >= deadline:
                    return None
                await self._clock.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE_S)
        except TierError:
            return None
        return token

    async def _renew(self, key: str, token: str, seconds: float) -> None:
        held = True
        while held:
            await self._clock.sleep(seconds / 4)
            try:
                held = await self._l2.renew(key, token, seconds)
            except TierError:
                continue
