"""Any supported value as MessagePack, with its exact types.

What MessagePack can say itself (None, bool, int of 64 bits, float, str, bytes, list, and dict with
such keys) goes through msgspec as it is; a look at the types alone decides that. Anything else is
rebuilt as a tree in which each such value is an extension whose payload is MessagePack again, so
that the plain parts below it are still read at C speed.

A type is supported exactly or not at all: a subclass would come back as its base, so it is
refused. Structs are written as their qualified name and field names, and read back only as a class
that this process has already defined with those very names: nothing is ever imported, and no class
is called but a Struct. Both directions are bounded in depth, writing also in size.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from functools import cache
from typing import Any, TypeAlias, cast
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from querycache.codec import arrays
from querycache.errors import UnsupportedValueError

MAX_DEPTH = 100

Trail: TypeAlias = tuple[str, ...]
"""The steps from the value to a part of it, as they would be written in Python."""


class _Code:
    """The extension types. Part of the format: a number is never used again."""

    INT = 1
    STR = 2
    TUPLE = 3
    SET = 4
    FROZENSET = 5
    DICT = 6
    DATE = 7
    DATETIME = 8
    TIMEDELTA = 9
    ARRAY = 10
    STRUCT = 11


_ALWAYS: frozenset[type] = frozenset({type(None), bool, float, bytes})
_NATIVE = _ALWAYS | {int, str}
_encode = msgspec.msgpack.Encoder().encode


def dumps(value: object, limit: int) -> tuple[bytes, bool]:
    """The bytes of a value, and whether nobody can change it (arrays come back read-only).

    Args:
        value: None, bool, int, float, str, bytes, tuple, list, dict, set, frozenset, datetime,
            date, timedelta, ndarray or msgspec.Struct, nested in any way.
        limit: A value of more parts than this is refused.

    Raises:
        UnsupportedValueError: Another type, too deep, or too many parts; says where.
    """
    if type(value) in _NATIVE or _is_plain(value, limit):
        try:
            return _encode(value), type(value) in _NATIVE
        except (OverflowError, UnicodeEncodeError):
            pass  # an int past 64 bits, or a lone surrogate
    for as_is in (_NATIVE, _ALWAYS):  # looks at each int and str only where it must
        packer = _Packer(as_is, limit)
        try:
            return _encode(packer.pack(value, ())), packer.shareable
        except (OverflowError, UnicodeEncodeError):
            continue
    raise UnsupportedValueError("the name of a class or of a zone is no text")


def _is_plain(value: object, limit: int) -> bool:
    """Whether a list or dict holds only what MessagePack says itself, within the bounds."""
    layer = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for item in layer:
            if type(item) is dict:
                known = cast("dict[object, object]", item)
                if not _NATIVE.issuperset(map(type, known)):
                    return False
                parts = known.values()
            elif type(item) is list:
                parts = cast("list[object]", item)
            else:
                return False
            limit -= len(parts)
            if not _NATIVE.issuperset(map(type, parts)):
                below.extend(part for part in parts if type(part) not in _NATIVE)
        if limit < 0 or not below:
            return limit >= 0
        layer = below
    return False


class _Packer:
    """Rebuilds a value as a tree that MessagePack can say. `as_is`: the types left untouched."""

    def __init__(self, as_is: frozenset[type], limit: int) -> None:
        self.as_is = as_is
        self.left = limit
        self.shareable = True

    def pack(self, value: object, trail: Trail) -> object:
        kind = type(value)
        if kind in self.as_is:
            return value
        pack_kind = _PACKERS.get(kind)
        if pack_kind is not None:
            return pack_kind(self, value, trail)
        if isinstance(value, msgspec.Struct):
            return self.of_struct(value, trail)
        name = f"{kind.__module__}.{kind.__qualname__}"
        raise UnsupportedValueError(
            f"a {name} can't be cached (at {_path(trail)}): it would not come back the same",
            remedy="Convert it to a plain type, an ndarray or a msgspec.Struct first.",
        )

    def spend(self, parts: int) -> None:
        self.left -= parts
        if self.left < 0:
            raise UnsupportedValueError("the value has too many parts to be cached")

    def enter(self, parts: int, trail: Trail) -> None:
        if len(trail) >= MAX_DEPTH:
            raise UnsupportedValueError(
                f"a value nested more than {MAX_DEPTH} deep can't be cached"
            )
        self.spend(parts)

    def parts(self, values: list[Any] | tuple[Any, ...], trail: Trail) -> list[object]:
        self.enter(len(values), trail)
        as_is = self.as_is
        return [
            part if type(part) in as_is else self.pack(part, (*trail, f"[{index}]"))
            for index, part in enumerate(values)
        ]

    def members(self, values: set[Any] | frozenset[Any], trail: Trail) -> list[object]:
        self.enter(len(values), trail)
        inside = (*trail, "{…}")
        return [self.pack(part, inside) for part in values]

    def of_str(self, value: str, _: Trail) -> object:
        try:
            value.encode()
        except UnicodeEncodeError:
            return msgspec.msgpack.Ext(_Code.STR, value.encode("utf-8", "surrogatepass"))
        return value

    def of_int(self, value: int, _: Trail) -> object:
        if -(1 << 63) <= value < 1 << 64:
            return value
        size = value.bit_length() // 8 + 1
        self.spend(size)
        return msgspec.msgpack.Ext(_Code.INT, value.to_bytes(size, "little", signed=True))

    def of_list(self, value: list[Any], trail: Trail) -> object:
        self.shareable = False
        return self.parts(value, trail)

    def of_tuple(self, value: tuple[Any, ...], trail: Trail) -> object:
        return _ext(_Code.TUPLE, self.parts(value, trail))

    def of_set(self, value: set[Any], trail: Trail) -> object:
        self.shareable = False
        return _ext(_Code.SET, self.members(value, trail))

    def of_frozenset(self, value: frozenset[Any], trail: Trail) -> object:
        return _ext(_Code.FROZENSET, self.members(value, trail))

    def of_dict(self, value: dict[Any, Any], trail: Trail) -> object:
        self.shareable = False
        self.enter(len(value), trail)
        values = [self.pack(part, (*trail, f"[{key!r:.40}]")) for key, part in value.items()]
        keys = list(value)
        if not self.as_is.issuperset(map(type, keys)):
            keys = [self.pack(key, (*trail, f".keys[{key!r:.40}]")) for key in keys]
            if not _NATIVE.issuperset(map(type, keys)):
                return _ext(_Code.DICT, [keys, values])
        return dict(zip(keys, values, strict=True))

    def of_date(self, value: date, _: Trail) -> object:
        return _ext(_Code.DATE, [value.year, value.month, value.day])

    def of_datetime(self, value: datetime, trail: Trail) -> object:
        day = [value.year, value.month, value.day]
        time = [value.hour, value.minute, value.second, value.microsecond, value.fold]
        return _ext(_Code.DATETIME, [*day, *time, self.zone(value, trail)])

    def zone(self, value: datetime, trail: Trail) -> object:
        """None, the name of a zone, or an offset: days, seconds, microseconds and its name."""
        zone = value.tzinfo
        if zone is None:
            return None
        if type(zone) is ZoneInfo and zone.key:
            return zone.key
        if type(zone) is timezone:
            offset = zone.utcoffset(None)
            name = zone.tzname(None)
            named = name != timezone(offset).tzname(None)
            parts = [offset.days, offset.seconds, offset.microseconds]
            return [*parts, self.pack(name, trail)] if named else parts
        return self.pack(zone, (*trail, ".tzinfo"))

    def of_timedelta(self, value: timedelta, _: Trail) -> object:
        return _ext(_Code.TIMEDELTA, [value.days, value.seconds, value.microseconds])

    def of_array(self, value: arrays.Array, trail: Trail) -> object:
        self.spend(value.nbytes)
        try:
            return msgspec.msgpack.Ext(_Code.ARRAY, arrays.dump(value))
        except UnsupportedValueError as error:
            raise UnsupportedValueError(f"{error} (at {_path(trail)})") from None

    def of_struct(self, value: msgspec.Struct, trail: Trail) -> object:
        kind = type(value)
        name = _signature(kind)
        if _structs.get(name) is not kind and _find(name, again=True) is not kind:
            raise UnsupportedValueError(
                f"{name} can't be cached (at {_path(trail)}): a newer class has the same name"
            )
        config = value.__struct_config__
        self.shareable = self.shareable and config.frozen and not config.gc
        fields = value.__struct_fields__
        self.enter(len(fields), trail)
        parts = [self.pack(getattr(value, field), (*trail, f".{field}")) for field in fields]
        return _ext(_Code.STRUCT, [name, *parts])


_PACKERS: dict[type, Callable[[_Packer, Any, Trail], object]] = {
    int: _Packer.of_int,
    str: _Packer.of_str,
    list: _Packer.of_list,
    tuple: _Packer.of_tuple,
    set: _Packer.of_set,
    frozenset: _Packer.of_frozenset,
    dict: _Packer.of_dict,
    date: _Packer.of_date,
    datetime: _Packer.of_datetime,
    timedelta: _Packer.of_timedelta,
    np.ndarray: _Packer.of_array,
}


def _ext(code: int, parts: list[Any]) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, _encode(parts))


def _path(trail: Trail) -> str:
    return "value" + "".join(trail)


# --- reading ----------------------------------------------------------------------------------


def _unpack(code: int, data: memoryview) -> object:
    return _UNPACKERS[code](data)


loads = msgspec.msgpack.Decoder(ext_hook=_unpack).decode
"""What `dumps` was given. Raises any `Exception` on nonsense; never runs what the bytes say."""

_load_list = msgspec.msgpack.Decoder(list[Any], ext_hook=_unpack).decode
_load_numbers = msgspec.msgpack.Decoder(list[int]).decode


def _load_dict(data: memoryview) -> dict[Any, Any]:
    keys, values = _load_list(data)
    return dict(zip(keys, values, strict=True))


def _load_datetime(data: memoryview) -> datetime:
    *parts, fold, zone = _load_list(data)
    if isinstance(zone, list):
        days, seconds, microseconds, *name = cast("list[Any]", zone)
        zone = timezone(timedelta(days, seconds, microseconds), *name)
    elif zone is not None:
        zone = ZoneInfo(zone)
    return datetime(*parts, tzinfo=zone, fold=fold)


def _load_struct(data: memoryview) -> msgspec.Struct:
    name, *values = _load_list(data)
    kind = _structs.get(name) or _find(name)
    if kind is None:
        raise LookupError("no such Struct in this process")
    return kind(**dict(zip(kind.__struct_fields__, values, strict=True)))


_UNPACKERS: dict[int, Callable[[memoryview], object]] = {
    _Code.INT: lambda data: int.from_bytes(data, "little", signed=True),
    _Code.STR: lambda data: str(data, "utf-8", "surrogatepass"),
    _Code.TUPLE: msgspec.msgpack.Decoder(tuple, ext_hook=_unpack).decode,
    _Code.SET: msgspec.msgpack.Decoder(set, ext_hook=_unpack).decode,
    _Code.FROZENSET: msgspec.msgpack.Decoder(frozenset, ext_hook=_unpack).decode,
    _Code.DICT: _load_dict,
    _Code.DATE: lambda data: date(*_load_numbers(data)),
    _Code.DATETIME: _load_datetime,
    _Code.TIMEDELTA: lambda data: timedelta(*_load_numbers(data)),
    _Code.ARRAY: lambda data: arrays.load(bytes(data)),  # a copy: aligned, and keeps only itself
    _Code.STRUCT: _load_struct,
}


# --- the classes of Structs -------------------------------------------------------------------

_structs: dict[str, type[msgspec.Struct]] = {}


@cache
def _signature(kind: type[msgspec.Struct]) -> str:
    fields = ",".join(kind.__struct_fields__)
    return f"{kind.__module__}:{kind.__qualname__}({fields})"


def _find(name: str, *, again: bool = False) -> type[msgspec.Struct] | None:
    """The Struct class of that signature; of several the one defined last."""
    if again or name not in _structs:
        left: list[type[msgspec.Struct]] = [msgspec.Struct]
        while left:
            for kind in left.pop(0).__subclasses__():
                _structs[_signature(kind)] = kind
                left.append(kind)
    return _structs.get(name)
