"""Reads the settings, tells what is wrong with them, and shows them."""

from __future__ import annotations

import difflib
import os
import pwd
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from querycache.config.checks import contradictions, idle, not_built
from querycache.config.dotenv import read_dotenv
from querycache.config.fields import FIELDS, GROUPS, Field
from querycache.config.readers import Secret
from querycache.config.redis_url import RedisUrl, WrongUrlError, read_redis_url
from querycache.config.settings import KINDS, Config, KindSettings
from querycache.errors import ConfigError

_OURS = re.compile(
    r"(CACHE|REDIS|MEMORY_CACHE|QUERYCACHE|ENCRYPTION_KEY|FAILED_ACCESS|"
    + "|".join(f"{kind.upper()}_CACHE" for kind in KINDS)
    + ")_"
)
_SHOWN = 80  # characters of a wrong value


class Row(NamedTuple):
    """A setting as `config show` tells it. `value` is masked; `source` is `default`, `.env`,
    `environment`, or `REDIS_URL` for what that address says.
    """

    variable: str
    value: str
    source: str
    default: str
    allowed: str
    help: str
    group: str


class Loaded(NamedTuple):
    """The configuration, where each variable came from, and what looks like a slip."""

    config: Config
    sources: Mapping[str, str]
    warnings: tuple[str, ...]

    def describe(self) -> tuple[Row, ...]:
        """Every variable with its value, in the order of the declarations."""
        return tuple(
            Row(
                field.variable,
                shown(field.value(self.config)),
                self.sources.get(field.variable, "default"),
                shown(field.default),
                field.reader.allowed,
                field.help,
                field.group,
            )
            for field in FIELDS.values()
        )


def load_config(
    environ: Mapping[str, str] | None = None, cwd: Path | None = None, dotenv: str = ".env"
) -> Loaded:
    """Reads `environ` (the process's environment) and `.env` in `cwd` (the working directory), or
    what is called `dotenv` there.

    Raises `ConfigError` with all that is wrong. What is right and beyond this build is told by
    `check`.
    """
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    texts = {**read_dotenv(cwd / dotenv), **environ}
    sources = {name: "environment" if name in environ else ".env" for name in texts}
    given = {name: texts[name].strip() for name in FIELDS if texts.get(name, "").strip()}
    problems = list(_untrusted(given, sources))
    at, values = None, dict[str, object]()
    with suppress(WrongUrlError):  # told below, when all are read
        if "REDIS_URL" in given:
            at = read_redis_url(given["REDIS_URL"])
            for name, text in _parts(at).items():
                given[name], sources[name] = text, "REDIS_URL"
    for name, text in given.items():
        try:
            values[name] = FIELDS[name].reader.read(text)
        except (ValueError, KeyError) as error:
            problems.append(_wrong(FIELDS[name], text, error))
    config = _build(values, environ, cwd, at)
    problems += contradictions(config, broken=given.keys() - values.keys())
    if problems:
        raise _all_of(problems, "set what is allowed, or unset the variable for its default")
    used = {name: sources[name] for name in given}
    return Loaded(config, MappingProxyType(used), (*_unknown(sources), *idle(config)))


def check(config: Config) -> None:
    """Raises `ConfigError` with all that `config` asks for and this build can't do."""
    if refused := not_built(config):
        raise _all_of([p.message for p in refused], "; ".join(p.remedy for p in refused))


def shown(value: object) -> str:
    """A value as anyone may see it."""
    if isinstance(value, Secret):
        return "***" if value else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    return "" if value is None else str(value)


def _untrusted(given: Mapping[str, str], sources: Mapping[str, str]) -> Iterator[str]:
    """A `.env` comes with a folder that others may have filled: it runs no command, calls no
    address, and no key of the environment goes to an address of its choice.
    """
    for name in ("CACHE_ENCRYPTION_KEY_COMMAND", "CACHE_ALERT_COMMAND", "CACHE_ALERT_WEBHOOK"):
        if name in given and sources[name] == ".env":
            yield f"{name}: is not taken from .env, only from the environment"
    for what in ("QUERYCACHE_EMBEDDER", "QUERYCACHE_QDRANT"):
        key, url = f"{what}_API_KEY", f"{what}_URL"
        if key in given and url in given and sources[url] == ".env" != sources[key]:
            yield (
                f"{url}: is not taken from .env while {key} is in the environment; set both in one"
            )
    if sources.get("REDIS_PASSWORD") == "environment" and "REDIS_PASSWORD" in given:
        for name in ("REDIS_URL", "REDIS_HOST"):
            if name in given and sources[name] == ".env":
                yield (
                    f"{name}: is not taken from .env while REDIS_PASSWORD is in the environment;"
                    " set both in one"
                )


def _parts(at: RedisUrl) -> dict[str, str]:
    """What an address says of the single variables. Those of a socket say where its server is."""
    host, port = at.nodes[0] if at.nodes else ("localhost", None)
    said = {
        "REDIS_HOST": host,
        "REDIS_PORT": str(port or ""),
        "REDIS_SSL_ENABLED": "true" if at.tls else "",
        "REDIS_PASSWORD": at.password.reveal(),
        "REDIS_DB": "" if at.database is None else str(at.database),
    }
    return {name: text for name, text in said.items() if text}


def _build(
    values: Mapping[str, object], environ: Mapping[str, str], cwd: Path, at: RedisUrl | None
) -> Config:
    data_home = _folder(environ, "XDG_DATA_HOME", ".local/share")
    of: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    of["safety"]["key_store_path"] = data_home / "keys"
    of[""]["home"] = _folder(environ, "XDG_CACHE_HOME", ".cache")
    of["redis"]["at"] = at
    of["redis"]["named"] = not values.keys().isdisjoint(("REDIS_HOST", "REDIS_URL"))
    for name, value in values.items():
        field = FIELDS[name]
        of[field.group][field.attribute] = (
            _absolute(value, environ, cwd) if isinstance(value, Path) else value
        )
    kinds = {
        kind: msgspec.structs.replace(defaults, **of[f"kinds.{kind}"])
        for kind, (_, defaults) in KINDS.items()
    }
    groups: dict[str, Any] = {name: struct(**of[name]) for name, struct in GROUPS.items()}
    kinds["other"] = KindSettings(ttl_s=groups["core"].default_ttl_s)
    return Config(kinds=MappingProxyType(kinds), data_home=data_home, **groups, **of[""])


def _user_folder(environ: Mapping[str, str]) -> Path:
    if (home := Path(environ.get("HOME", ""))).is_absolute():
        return home
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError as error:
        raise ConfigError("this user has no home directory", remedy="set HOME") from error


def _folder(environ: Mapping[str, str], variable: str, below: str) -> Path:
    """By the XDG base directory specification: a relative path in `variable` is ignored."""
    base = Path(environ.get(variable, ""))
    return (base if base.is_absolute() else _user_folder(environ) / below) / "querycache"


def _absolute(path: Path, environ: Mapping[str, str], cwd: Path) -> Path:
    if path.parts[:1] == ("~",):
        return _user_folder(environ).joinpath(*path.parts[1:])
    return cwd / path


def _wrong(field: Field, text: str, error: Exception) -> str:
    if isinstance(error, WrongUrlError):
        return f"{field.variable}: {error}"
    if field.secret:
        return f"{field.variable}: its value (not shown) is wrong; allowed: {field.reader.allowed}"
    safe = re.sub(r"//[^/@]*@", "//***@", text)
    cut = safe if len(safe) <= _SHOWN else f"{safe[:_SHOWN]}..."
    return f"{field.variable}={cut!r}: allowed: {field.reader.allowed}"


def _unknown(names: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(names):
        if name not in FIELDS and _OURS.match(name):
            nearest = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.7)
            hint = f"; the nearest is {nearest[0]}" if nearest else ""
            yield f"{name} ({names[name]}) is not a setting of querycache{hint}"


def _all_of(problems: Sequence[str], remedy: str) -> ConfigError:
    return ConfigError("configuration: " + "; ".join(problems), remedy=remedy)
