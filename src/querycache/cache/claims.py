"""Claims: who may put a key into L1.

Whoever is about to put something there claims the key first; a change of the key that is heard of
meanwhile, or another claim, voids it, and a void claim puts nothing. Two overlapping writers of
one key void each other: L1 stays empty, and L2 decides.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import ParamSpec

P = ParamSpec("P")


class Claims:
    """Which keys are on their way into L1. Safe under threads."""

    def __init__(self) -> None:
        self._slots: dict[str, _Slot] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._slots)

    def keys(self) -> list[str]:
        return list(self._slots)

    def claim(self, key: str) -> object:
        """A claim on `key`; one that is under way is voided, and so is this one."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                slot = self._slots[key] = _Slot()
                return slot
            slot.holds = False
            slot.holders += 1
            return _VOID

    def try_claim(self, key: str) -> object | None:
        """A claim for a back-fill of what L2 holds: gives way where another is under way."""
        with self._lock:
            if key in self._slots:
                return None
            slot = self._slots[key] = _Slot()
            return slot

    def redeem(self, key: str, token: object | None) -> bool:
        """Ends a claim; whether it still held."""
        with self._lock:
            return self._end(key, token)

    def land(
        self,
        key: str,
        token: object | None,
        put: Callable[P, object],
        *what: P.args,
        **how: P.kwargs,
    ) -> bool:
        """Ends a claim; whether it still held, and then `put(...)` was called. A `void` comes
        before both or after both, so that who voids and then removes leaves nothing.
        """
        with self._lock:
            held = self._end(key, token)
            if held:
                put(*what, **how)
            return held

    def holds(self, key: str, token: object) -> bool:
        slot = self._slots.get(key)
        return slot is not None and slot is token and slot.holds

    def void(self, key: str) -> None:
        with self._lock:
            slot = self._slots.get(key)
            if slot is not None:
                slot.holds = False

    def void_all(self) -> None:
        with self._lock:
            for slot in self._slots.values():
                slot.holds = False

    def _end(self, key: str, token: object | None) -> bool:
        if token is None:
            return False
        slot = self._slots[key]
        slot.holders -= 1
        if not slot.holders:
            del self._slots[key]
        return slot is token and slot.holds


class _Slot:
    """A key on its way, and the claim of who came first: it `holds` until something voids it."""

    __slots__ = ("holders", "holds")

    def __init__(self) -> None:
        self.holders = 1
        self.holds = True


_VOID = object()
