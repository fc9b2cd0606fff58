"""The table of all variables, made from their declarations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, get_type_hints

import msgspec

from querycache.config.readers import Reader, Secret, Setting
from querycache.config.settings import KINDS, Config, KindSettings


class Field(NamedTuple):
    """One variable and where its value goes: `group` is an attribute of `Config`, `kinds.<kind>`,
    or "" for what stands on `Config` itself.
    """

    variable: str
    group: str
    attribute: str
    default: object
    reader: Reader
    help: str

    @property
    def secret(self) -> bool:
        """Whether its value must never be shown."""
        return isinstance(self.default, Secret)

    def value(self, config: Config) -> object:
        """What `config` has for it."""
        owner: Any = config
        group, _, kind = self.group.partition(".")
        if group:
            owner = getattr(config, group)
        return getattr(owner[kind] if kind else owner, self.attribute)


def _groups() -> dict[str, type[msgspec.Struct]]:
    hints = get_type_hints(Config).items()
    return {n: h for n, h in hints if isinstance(h, type) and issubclass(h, msgspec.Struct)}


def _fields() -> dict[str, Field]:
    found: dict[str, Field] = {}

    def collect(group: str, struct: type[msgspec.Struct], defaults: object) -> None:
        kind = group.partition(".")[2]
        what = KINDS[kind][0] if kind else ""
        for name, hint in get_type_hints(struct, include_extras=True).items():
            for said in getattr(hint, "__metadata__", ()):
                if isinstance(said, Setting):
                    variable = said.variable.format(kind=kind.upper())
                    default = getattr(defaults, name, None)
                    if isinstance(default, Path):  # depends on the environment: `help` says it
                        default = None
                    help_ = said.help.format(what=what)
                    found[variable] = Field(variable, group, name, default, said.reader, help_)

    for group, struct in GROUPS.items():
        collect(group, struct, struct())
    for kind, (_, defaults) in KINDS.items():
        collect(f"kinds.{kind}", KindSettings, defaults)
    collect("", Config, None)
    return found


GROUPS: Mapping[str, type[msgspec.Struct]] = MappingProxyType(_groups())
"""The structs in `Config`, by attribute."""

FIELDS: Mapping[str, Field] = MappingProxyType(_fields())
"""Every variable, in the order of the declarations."""
