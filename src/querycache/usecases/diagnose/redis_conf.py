"""What is wrong with a redis.conf: lines that would stop the server, and what is dangerous in a
cache. Pure; `include` is not followed.
"""

from __future__ import annotations

import re
import shlex

import msgspec

from querycache.usecases.diagnose.directives import SHAPES, bounds

_SIZE = re.compile(r"(?i)[0-9]+(b|kb?|mb?|gb?|)")
_SIZE_OR_SHARE = re.compile(r"(?i)[0-9]+(b|kb?|mb?|gb?|%|)")
_OCTAL = re.compile(r"[0-7]{1,4}")
_CLASSES = {"normal", "replica", "slave", "pubsub"}
_SECRET = re.compile(r"(?i)(requirepass|masterauth|primaryauth|user|\S+-pass)\b")
_NAME = re.compile(r"[\w-]*")
_SEVERAL = {"shutdown-on-sigint", "shutdown-on-sigterm"}
_LOCAL = re.compile(r"-?(127\.[0-9.]+|::1|localhost)")
_WORDS = (
    "requirepass",
    "masterauth",
    "masteruser",
    "dir",
    "dbfilename",
    "pidfile",
    "logfile",
    "unixsocket",
    "aclfile",
    "include",
    "tls-cert-file",
    "tls-key-file",
    "tls-ca-cert-file",
)
_ALIASES = {"slaveof": "replicaof"}


class Wrong(msgspec.Struct, frozen=True):
    """What is wrong with one line; `line` is 0 for what stands in no line. `stops`: the server
    does not start with it.
    """

    line: int
    text: str
    why: str
    stops: bool


def judge(text: str) -> list[Wrong]:
    """All that is wrong with the text of a redis.conf."""
    found: list[Wrong] = []
    said: dict[str, tuple[int, list[str]]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            name, *values = shlex.split(stripped)
        except ValueError:
            found.append(Wrong(number, _named(stripped), "its quotes do not match", stops=True))
            continue
        name = name.lower()
        if why := _wrong(name, values):
            shown = _shown(stripped) if name in SHAPES else _named(stripped)
            found.append(Wrong(number, shown, why, stops=True))
        else:
            said[_ALIASES.get(name, name)] = (number, values)
    return found + _dangers(said)


def _wrong(name: str, values: list[str]) -> str:
    """Why the server would not take it; "" where it would."""
    shape = SHAPES.get(name)
    if shape is None:
        return "Redis knows no such directive"
    if shape == "later":
        return ""
    if shape == "other":
        return _OTHERS[name](values) if name in _OTHERS else ""
    if len(values) != 1 and not (name in _SEVERAL and values):
        return f"it takes one value, not {len(values)}"
    return _misfit(shape, values)


def _misfit(shape: str, values: list[str]) -> str:
    value = values[0]
    if shape == "flag":
        return "" if value.lower() in {"yes", "no"} else "it must be yes or no"
    if shape == "size":
        fits = _SIZE.fullmatch(value)
        return "" if fits else "it must be bytes, or a number with kb, mb or gb"
    if ".." in shape:
        low, high = bounds(shape)
        fits = re.fullmatch(r"-?[0-9]+", value) and low <= int(value) <= high
        return "" if fits else f"it must be a whole number from {low} to {high}"
    words = shape.split("|")
    fits = all(word.lower() in words for word in values)
    return "" if fits else f"it must be one of {', '.join(words)}"


def _save(values: list[str]) -> str:
    if values == [""]:
        return ""
    fits = values and len(values) % 2 == 0 and all(re.fullmatch("[0-9]+", one) for one in values)
    return "" if fits else 'it takes pairs of seconds and changes, or ""'


def _buffer(values: list[str]) -> str:
    fits = bool(values) and len(values) % 4 == 0
    for at in range(0, len(values), 4):
        class_, *limits = values[at : at + 4]
        fits = fits and class_.lower() in _CLASSES and all(map(_SIZE.fullmatch, limits[:2]))
        fits = fits and bool(re.fullmatch("[0-9]+", limits[-1]))
    return "" if fits else "it takes a class, a hard limit, a soft limit and its seconds"


def _events(values: list[str]) -> str:
    fits = len(values) == 1 and re.fullmatch(r"[KEg$lshzxetdmnA]*", values[0])
    return "" if fits else "it takes one word of the letters KEg$lshzxetdmnA"


def _pair(values: list[str]) -> str:
    return "" if len(values) == 2 else f"it takes two values, not {len(values)}"  # noqa: PLR2004 -- a pair


def _one(values: list[str]) -> str:
    return "" if len(values) == 1 else f"it takes one value, not {len(values)}"


def _permissions(values: list[str]) -> str:
    fits = len(values) == 1 and _OCTAL.fullmatch(values[0])
    return "" if fits else "it must be an octal number"


def _share(values: list[str]) -> str:
    fits = len(values) == 1 and _SIZE_OR_SHARE.fullmatch(values[0])
    return "" if fits else "it must be bytes, or a number with kb, mb, gb or %"


_OTHERS = {
    "save": _save,
    "client-output-buffer-limit": _buffer,
    "notify-keyspace-events": _events,
    "rename-command": _pair,
    "replicaof": _pair,
    "slaveof": _pair,
    "unixsocketperm": _permissions,
    "maxmemory-clients": _share,
    **dict.fromkeys(_WORDS, _one),
}
"""Of directives whose values are of other shapes, why they do not fit."""


def _dangers(said: dict[str, tuple[int, list[str]]]) -> list[Wrong]:
    """What Redis takes, and a cache had better not."""
    found: list[Wrong] = []

    def warn(name: str, why: str) -> None:
        line, values = said.get(name, (0, []))
        text = _shown(" ".join([name, *values])) if line else ""
        found.append(Wrong(line, text, why, stops=False))

    def value(name: str, default: str) -> str:
        return " ".join(said[name][1]).lower() if name in said else default

    if not int(re.sub("[^0-9]", "", value("maxmemory", "0")) or 0):
        warn("maxmemory", "without maxmemory Redis grows until the machine has no memory left")
    if value("maxmemory-policy", "noeviction") == "noeviction":
        warn("maxmemory-policy", "with noeviction a full server refuses every write")
    guarded = any(name in said for name in ("requirepass", "user", "aclfile"))
    binds = said["bind"][1] if "bind" in said else []
    if not guarded and any(not _LOCAL.fullmatch(address) for address in binds):
        warn("bind", "other machines may connect, and no password is asked for")
    elif not guarded and value("protected-mode", "yes") == "no" and not binds:
        warn("protected-mode", "other machines may connect, and no password is asked for")
    return found


def _shown(line: str) -> str:
    """A line without its secret."""
    secret = _SECRET.match(line.lstrip("\"'"))
    return f"{secret[0]} ***" if secret else line


def _named(line: str) -> str:
    """What a line begins with, if its value is plain: it may be a password's, misspelt."""
    name = _NAME.match(line)
    begins = name[0] if name else ""
    plain = line.removeprefix(begins).strip().lower() in {"", "yes", "no"}
    return line if plain else f"{begins} ***".lstrip()
