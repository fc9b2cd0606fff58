"""Values as bytes, in one of three forms: any value with its exact types, one declared Struct
type, or one array. Never pickle.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import msgspec
import numpy as np
from msgspec import inspect

from querycache.codec import arrays, exact
from querycache.errors import UnreadableError, UnsupportedValueError
from querycache.ports.codec import Body, Form, Shape

_encode = msgspec.msgpack.Encoder().encode


def encode(value: object, shape: Shape) -> Body:
    """A value in the form of its shape.

    With `shape.half`, float32 arrays are stored as float16: each number comes back within 2**-11
    of itself (relative, from 2**-14 up) or 2**-25 (absolute, below).

    Raises:
        UnsupportedValueError: The value would not come back equal and of the same type, or there
            is no memory for its bytes.
    """
    try:
        return _encoded(value, shape)
    except MemoryError as error:
        raise UnsupportedValueError("too little memory is left to encode the value") from error


def decode(body: Body, shape: Shape) -> object:
    """What `encode` was given: a fresh object, or one that nobody can change.

    Raises:
        UnreadableError: bad_body.
    """
    try:
        if body.form is Form.VECTOR:
            return arrays.load(body.data)
        if body.form is Form.STRUCT:
            return _decoder(shape.type).decode(body.data)
        return exact.loads(body.data)
    except Exception as error:  # a Struct's `__post_init__` may raise anything
        raise UnreadableError("bad_body") from error


def _encoded(value: object, shape: Shape) -> Body:
    if shape.form is Form.VECTOR:
        if type(value) is not np.ndarray:
            raise UnsupportedValueError(f"an ndarray was declared, not a {type(value).__name__}")
        return Body(arrays.dump(value, half=shape.half), Form.VECTOR, True)
    if shape.form is Form.STRUCT:
        return Body(_encode_struct(value, shape), Form.STRUCT, is_immutable(shape.type))
    try:
        data, shareable = exact.dumps(value, shape.max_bytes)
    except RecursionError as error:
        raise UnsupportedValueError("too little stack is left to walk the value") from error
    return Body(data, Form.MSGPACK, shareable)


def _encode_struct(value: object, shape: Shape) -> bytes:
    if not isinstance(value, msgspec.Struct) or shape.type is not type(value):
        raise UnsupportedValueError(f"a {shape.type} was declared, not a {type(value).__name__}")
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        name = type(value).__name__
        raise UnsupportedValueError(f"a field of {name} can't be cached: {error}") from error


@cache
def _decoder(kind: object) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(cast("type[Any]", kind))


_SCALARS = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.FloatType,
    inspect.StrType,
    inspect.BytesType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.TimeDeltaType,
    inspect.UUIDType,
    inspect.DecimalType,
    inspect.EnumType,
    inspect.LiteralType,
)


@cache
def is_immutable(kind: object) -> bool:
    """Whether nothing in a Struct type, as its fields are declared, can be changed: it and the
    Structs in it are frozen and untracked by the collector (gc=False), the rest is scalars, tuples
    and frozensets.
    """
    seen: set[type] = set()

    def judge(node: inspect.Type) -> bool:
        if isinstance(node, inspect.StructType):
            if node.cls in seen:
                return True
            seen.add(node.cls)
            config = node.cls.__struct_config__
            fields = (field.type for field in node.fields)
            return config.frozen and not config.gc and all(map(judge, fields))
        if isinstance(node, inspect.VarTupleType | inspect.FrozenSetType):
            return judge(node.item_type)
        if isinstance(node, inspect.TupleType):
            return all(map(judge, node.item_types))
        if isinstance(node, inspect.UnionType):
            return all(map(judge, node.types))
        return isinstance(node, _SCALARS)

    return judge(inspect.type_info(kind))
