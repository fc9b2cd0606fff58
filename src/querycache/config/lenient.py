"""Reads what can be read of settings of which some are wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from querycache.config.fields import FIELDS
from querycache.config.loading import Loaded, check, load_config
from querycache.errors import ConfigError

_WORD = re.compile(r"[A-Z][A-Z0-9_]+")


class Lenient(NamedTuple):
    """The settings with all that is wrong at its default; what was wrong, and what to do."""

    loaded: Loaded
    problem: str
    remedy: str


def load_leniently(environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Lenient:
    """As `load_config`, and never raises for a variable that can be left out."""
    given = dict(os.environ if environ is None else environ)  # noqa: TID251 -- configuration
    problem, remedy = "", ""
    for _ in FIELDS:
        try:
            loaded = load_config(given, cwd)
            check(loaded.config)
        except ConfigError as error:
            problem, remedy = problem or str(error), remedy or error.remedy
            named = set(_WORD.findall(str(error))) & FIELDS.keys()
            dropped = [name for name in named if given.get(name) != ""]
            if not dropped:
                raise
            given.update(dict.fromkeys(dropped, ""))  # an empty value is none, in .env too
        else:
            return Lenient(loaded, problem, remedy)
    raise ConfigError(problem, remedy=remedy)
