"""Claims: who may put a key into L1.

Whoever is about to put something there claims the key first; a change of the key that is heard of
meanwhile, or another claim, voids it, and a void claim puts nothing. Two overlapping writers of
one key void each other: L1 stays empty, and L2 decides.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock


class Claims:
    """Which keys are on their way into L1. Safe under threads."""

    def __init__(self) -> None:
        self._slots: dict[str, _Slot] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._slots)

    def claim(self, key: str) -> object:
        """A claim on `key`; one that is under way is voided, and so is this one."""
        token = object()
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                self._slots[key] = _Slot(token)
            else:
                slot.token = None
                slot.holders += 1
        return token

    def try_claim(self, key: str) -> object | None:
        """A claim for a back-fill of what L2 holds: gives way where another is under way."""
        with self._lock:
            if key in self._slots:
                return None
            token = object()
            self._slots[key] = _Slot(token)
            return token

    def redeem(self, key: str, token: object | None) -> bool:
        """Ends a claim; whether it still held."""
        with self._lock:
            return self._end(key, token)

    def land(self, key: str, token: object | None, put: Callable[[], object]) -> bool:
        """Ends a claim; whether it still held, and then `put` was called. A `void` comes before
        both or after both, so that who voids and then removes leaves nothing.
        """
        with self._lock:
            held = self._end(key, token)
            if held:
                put()
            return held

    def holds(self, key: str, token: object) -> bool:
        slot = self._slots.get(key)
        return slot is not None and slot.token is token

    def void(self, key: str) -> None:
        with self._lock:
            slot = self._slots.get(key)
            if slot is not None:
                slot.token = None

    def void_all(self) -> None:
        with self._lock:
            for slot in self._slots.values():
                slot.token = None

    def _end(self, key: str, token: object | None) -> bool:
        if token is None:
            return False
        slot = self._slots[key]
        slot.holders -= 1
        if not slot.holders:
            del self._slots[key]
        return slot.token is token


class _Slot:
    __slots__ = ("holders", "token")

    def __init__(self, token: object) -> None:
        self.token: object | None = token
        self.holders = 1
