"""The tree of errors."""

from __future__ import annotations

import pytest

from querycache import errors
from querycache.errors import QueryCacheError, UnreadableError

TREE = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)
def test_everything_raised_on_purpose_has_one_root(error: type[Exception]):
    assert issubclass(error, QueryCacheError)
    assert error.__doc__
    assert error.__name__.endswith("Error")


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ConfigError, ValueError),
        (errors.UsageError, ValueError),
        (errors.UnsupportedValueError, TypeError),
        (errors.LoadTimeoutError, TimeoutError),
        (errors.IndexBusyError, TimeoutError),
        (errors.ProjectNotFoundError, LookupError),
        (errors.TierError, ConnectionError),
        (errors.AccessDeniedError, PermissionError),
    ],
)
def test_callers_can_catch_the_builtin(error: type[QueryCacheError], builtin: type[Exception]):
    with pytest.raises(builtin, match="what happened"):
        raise error("what happened")


def test_the_remedy_stands_beside_the_message():
    error = errors.ConfigError("REDIS_PORT=0", remedy="set 1 to 65535")
    assert (str(error), error.remedy) == ("REDIS_PORT=0", "set 1 to 65535")
    assert QueryCacheError("x").remedy == ""


def test_unreadable_bytes_say_why():
    error = UnreadableError("bad_magic")
    assert error.reason == "bad_magic"
    assert "bad_magic" in str(error)
