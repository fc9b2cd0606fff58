"""What every test has: no settings from outside, stores in a temporary folder, seeded examples."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from querycache.config import FIELDS

settings.register_profile("suite", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("soak", deadline=None, print_blob=True, max_examples=5000)
settings.load_profile("suite")


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """What runs in the background may have been told to ignore SIGINT, and so would every process
    that a test starts and interrupts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def only_our_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder below which everything is kept that a test, or a process that it starts, keeps by
    default.
    """
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for variable in FIELDS:
            patch.delenv(variable, raising=False)
        patch.setenv("QUERYCACHE_HOME", str(folder / "cache" / "querycache"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        yield folder
