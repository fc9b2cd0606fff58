"""The one App of this process, made when first asked for."""

from __future__ import annotations

import os
import threading

from querycache.assembly import App
from querycache.config import Config, load_config

_lock = threading.Lock()
_current: App | None = None


def get_cache_config() -> Config:
    """The settings of this process: `.redis.host`, `.redis.port`, `.redis.password` and so on.

    Raises `ConfigError`, which names every value that is wrong and what is allowed.
    """
    return load_config().config


def current() -> App:
    """The App; the same one for every event loop and thread. Raises `ConfigError`."""
    global _current  # noqa: PLW0603 -- the only singleton
    with _lock:
        if _current is None:
            _current = App(get_cache_config())
        return _current


def let_go(app: App) -> None:
    """Forgets `app`, which was closed: the next caller gets a new one."""
    global _current  # noqa: PLW0603 -- the only singleton
    with _lock:
        if _current is app:
            _current = None


def _after_fork() -> None:
    """A child begins anew: its parent's sockets, tasks and place in the registry are not its."""
    global _current, _lock  # noqa: PLW0603 -- the only singleton
    _lock = threading.Lock()
    _current = None


os.register_at_fork(after_in_child=_after_fork)
