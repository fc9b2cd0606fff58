"""What every `Codec` must do: inherit `CodecSuite`, give it `codec`."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple, cast
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from querycache.errors import UnreadableError, UnsupportedValueError
from querycache.ports.codec import ANY, Body, Codec, Form, Record, Shape
from querycache.values import Stamp

REASONS = frozenset(
    {"bad_magic", "bad_version", "bad_header", "truncated", "bad_checksum", "wrong_key"}
    | {"too_big", "bad_body", "sealed", "unsealed", "unknown_key", "bad_seal"}
)
DTYPES = [
    *("b1", "i1", "<i2", ">i2", "i4", "i8", "u1", "u2", "u4", ">u8"),
    *("f2", "<f4", ">f4", "f8", "c8", "c16"),
]
KEY = "codebase_rag:other:_:k"
VECTOR = Shape(form=Form.VECTOR)
HALF = Shape(form=Form.VECTOR, half=True)


class Point(msgspec.Struct, frozen=True, gc=False):
    x: float
    label: str


class Path(msgspec.Struct, frozen=True, gc=False):
    points: tuple[Point, ...]
    made: datetime | None = None


class Basket(msgspec.Struct):
    things: object
    count: int = 0


class Colour(IntEnum):
    RED = 1


class Pair(NamedTuple):
    left: int
    right: int


class Name(str):
    __slots__ = ()


class Table(dict[str, int]):
    pass


PATH = Path((Point(1.5, "a"), Point(float("inf"), "é")), datetime(2024, 2, 29, tzinfo=UTC))
PATHS = Shape(form=Form.STRUCT, type=Path)


def short(value: object) -> str:
    """The same in every process: it ends before the address of an object or the order of a set."""
    return f"{value!r:.12}"


EXAMPLES: tuple[object, ...] = (
    None,
    False,
    0,
    -1,
    2**63,
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    10**400,
    -(256**9),
    0.0,
    -0.0,
    float("nan"),
    float("-inf"),
    5e-324,
    "",
    "\x00",
    "\ud800",
    "a\udfff🙂",
    b"",
    b"\xff" * 300,
    (),
    [],
    {},
    set[int](),
    frozenset[int](),
    (1, [2, (3,)], {"a": (4,)}),
    {1: "int", "1": "str", b"1": "bytes", 2.5: "float", None: "none", (1, 2): "tuple"},
    {True: 1, 0: 2},
    {"\udcff": ["\udcff", 2**70]},
    {frozenset({1, (2, "x")}): {1, 2.5, "three", b"four", None}},
    {date(2024, 2, 29): datetime(2024, 2, 29, 12, 30, 1, 999_999)},  # noqa: DTZ001 -- naive
    datetime(1, 1, 1, tzinfo=UTC),
    datetime.max,  # noqa: DTZ901 -- naive
    datetime(2023, 10, 29, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2023, 1, 1, tzinfo=timezone(timedelta(hours=-3, microseconds=7))),
    datetime(2023, 1, 1, tzinfo=timezone(timedelta(hours=5), "é\ud800")),
    timedelta.min,
    timedelta(days=3, microseconds=-1),
    [PATH, {"p": PATH}, (Point(0.0, ""),)],
    Basket([Basket({1, 2}), PATH], count=2**80),
    [np.arange(5), {"a": np.array([[True], [False]])}],
)

REFUSED: tuple[tuple[object, str, str], ...] = (
    (object(), "object", "value"),
    ({"a": [1, Colour.RED]}, "Colour", "value['a'][1]"),
    ([np.float64(1)], "float64", "value[0]"),
    ((Pair(1, 2),), "Pair", "value[0]"),
    ([Name("n")], "Name", "value[0]"),
    ({"t": Table(a=1)}, "Table", "value['t']"),
    ({Name("n"): 1}, "Name", "value.keys['n']"),
    ({2, Colour.RED}, "Colour", "value{…}"),
    (Basket([bytearray(b"x")]), "bytearray", "value.things[0]"),
    (Basket(1, count=cast("int", 1j)), "complex", "value.count"),
    ([np.array([None])], "object", "value[0]"),
    ([np.array(["text"])], "<U4", "value[0]"),
    ([np.ma.zeros(2)], "MaskedArray", "value[0]"),
    (datetime(2024, 1, 1, tzinfo=ZoneInfo.no_cache("UTC")).time(), "time", "value"),
)


_inherited = settings(  # a codec keeps nothing between examples
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture]
)


def exact(value: object) -> object:
    """A form of a value whose equality says: equal, and of the same types, all the way down."""
    kind = type(value)
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
        return kind, array.dtype.str, array.shape, array.tobytes()
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value).items()
        return kind, [(exact(key), exact(part)) for key, part in pairs]
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(exact(part)) for part in cast("set[object]", value))
    if isinstance(value, list | tuple):
        return kind, [exact(part) for part in cast("list[object]", value)]
    if isinstance(value, msgspec.Struct):
        return kind, [exact(getattr(value, field)) for field in value.__struct_fields__]
    return kind, repr(value)


_texts = st.text(st.characters(exclude_categories=()), max_size=20)
_zones = (
    st.none()
    | st.timezones()
    | st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | _texts
    | st.binary(max_size=20)
    | st.dates()
    | st.datetimes(timezones=_zones)
    | st.timedeltas()
)
_points = st.builds(Point, st.floats(), st.text(max_size=5))
_hashables = st.recursive(
    _scalars | _points,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
_arrays = st.tuples(
    st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3), st.binary(max_size=8)
).map(lambda drawn: np.resize(np.frombuffer(drawn[2] * 16 or b"\x01" * 16, drawn[0]), drawn[1]))
VALUES: st.SearchStrategy[object] = st.recursive(
    _scalars | _points | _arrays,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(_hashables, inner, max_size=4)
        | st.sets(_hashables, max_size=4)
        | st.builds(Basket, inner, st.integers())
    ),
    max_leaves=12,
)


def record(
    body: Body, key: str = KEY, *, tags: tuple[tuple[str, Stamp], ...] = (), born: float = 1e9
) -> Record:
    return Record(key, body, born, born + 60, born + 600.125, 0.25, tags)


def nested(depth: int, *, kind: type[list[object] | tuple[object]] = list) -> object:
    value: object = 1
    for _ in range(depth):
        value = kind([value])
    return value


class CodecSuite(ABC):
    """Subclasses override the fixture `codec`, and what a wrong byte and a wrong name are told
    as.
    """

    flips: ClassVar[frozenset[str]] = frozenset(
        {"bad_magic", "bad_version", "bad_header", "bad_checksum", "sealed"}
    )
    altered: ClassVar[str] = "bad_checksum"
    moved: ClassVar[frozenset[str]] = frozenset({"wrong_key"})

    @pytest.fixture
    @abstractmethod
    def codec(self) -> Codec: ...

    def through(self, codec: Codec, value: object, shape: Shape = ANY) -> object:
        body = codec.encode(value, shape)
        opened = codec.open(KEY, codec.seal(record(body), shape), shape)
        assert opened.body == body
        return codec.decode(opened.body, shape)

    def array_through(self, codec: Codec, value: object, shape: Shape) -> NDArray[Any]:
        back = self.through(codec, value, shape)
        assert type(back) is np.ndarray
        assert not back.flags.writeable
        return back

    def reason(self, codec: Codec, data: bytes, shape: Shape = ANY, key: str = KEY) -> str:
        with pytest.raises(UnreadableError) as caught:
            codec.decode(codec.open(key, data, shape).body, shape)
        assert caught.value.reason in REASONS
        return caught.value.reason

    # --- what goes in comes out ---------------------------------------------------------------

    @pytest.mark.parametrize("value", EXAMPLES, ids=short)
    def test_an_example_comes_back_the_same(self, codec: Codec, value: object) -> None:
        assert exact(self.through(codec, value)) == exact(value)

    @_inherited
    @given(value=VALUES)
    def test_any_value_comes_back_the_same(self, codec: Codec, value: object) -> None:
        assert exact(self.through(codec, value)) == exact(value)

    def test_equal_keys_of_other_types_stay_apart(self, codec: Codec) -> None:
        back = cast("dict[object, object]", self.through(codec, {1: "a", "1": "b"}))
        assert back == {1: "a", "1": "b"}
        assert (
            type(next(iter(cast("dict[object, object]", self.through(codec, {True: 1}))))) is bool
        )

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(), (0,), (7,), (0, 5), (2, 3), (2, 1, 3)], ids=str)
    def test_an_array_comes_back_the_same(
        self, codec: Codec, dtype: str, shape: tuple[int, ...]
    ) -> None:
        array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
        for back in (
            self.through(codec, array),
            self.through(codec, array, VECTOR),
            cast("list[object]", self.through(codec, [array]))[0],
        ):
            assert exact(back) == exact(array)
            assert isinstance(back, np.ndarray)
            assert not back.flags.writeable
            assert back.flags.aligned
            with pytest.raises(ValueError, match="WRITEABLE"):
                back.flags.writeable = True

    def test_an_array_comes_back_in_c_order_whatever_its_strides(self, codec: Codec) -> None:
        whole = np.arange(24, dtype=np.float32).reshape(4, 6)
        for part in (whole.T, whole[::2, ::3], whole[::-1], np.asfortranarray(whole)):
            back = self.array_through(codec, part, VECTOR)
            assert back.flags.c_contiguous
            assert np.array_equal(back, part)

    def test_a_declared_struct_comes_back_the_same(self, codec: Codec) -> None:
        assert exact(self.through(codec, PATH, PATHS)) == exact(PATH)

    def test_half_precision_keeps_the_direction_of_a_vector(self, codec: Codec) -> None:
        draw = np.random.default_rng(7)
        for dimensions in (256, 768, 1536):
            for _ in range(20):
                vector = draw.normal(size=dimensions).astype(np.float32)
                vector /= np.linalg.norm(vector)
                back = self.array_through(codec, vector, HALF)
                assert back.dtype == np.float32
                a, b = vector.astype(float), back.astype(float)
                assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= 0.9999999
                assert np.all(np.abs(a - b) <= np.maximum(np.abs(a) * 2**-11, 2**-25))

    def test_half_precision_takes_only_what_it_can_hold(self, codec: Codec) -> None:
        for numbers, dtype in (([65_520.0], "f4"), ([1.0], "f8"), ([1], "i4")):
            with pytest.raises(UnsupportedValueError, match="float16"):
                codec.encode(np.array(numbers, dtype), HALF)
        odd = np.array([np.inf, -np.inf, np.nan, 65_504, 1e-12, -0.0], np.float32)
        back = self.array_through(codec, odd, HALF)
        assert np.array_equal(back[:4], odd[:4], equal_nan=True)

    # --- what is refused ----------------------------------------------------------------------

    @pytest.mark.parametrize(("value", "kind", "where"), REFUSED, ids=short)
    def test_what_would_lose_its_type_is_refused_and_named(
        self, codec: Codec, value: object, kind: str, where: str
    ) -> None:
        with pytest.raises(UnsupportedValueError) as caught:
            codec.encode(value)
        assert kind in str(caught.value)
        assert f"(at {where})" in str(caught.value)

    def test_another_type_than_declared_is_refused(self, codec: Codec) -> None:
        for value, shape in (
            ([1.0], VECTOR),
            (np.ma.zeros(3), VECTOR),
            (np.zeros(3, dtype=object), VECTOR),
            (Point(1.0, ""), PATHS),
            (None, Shape(form=Form.STRUCT)),
            (Path((Point(1.0, "\ud800"),)), PATHS),
            (Path(cast("tuple[Point]", object())), PATHS),
            (Path(cast("tuple[Point]", 2**64)), PATHS),
        ):
            with pytest.raises(UnsupportedValueError):
                codec.encode(value, shape)

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_depth_is_bounded(self, codec: Codec, kind: type[list[object]]) -> None:
        deep = nested(100, kind=kind)
        assert exact(self.through(codec, deep)) == exact(deep)
        for depth in (101, 102, 100_000):
            with pytest.raises(UnsupportedValueError, match="deep"):
                codec.encode(nested(depth, kind=kind))

    def test_a_value_that_holds_itself_is_refused(self, codec: Codec) -> None:
        ring: list[object] = []
        ring.append(ring)
        with pytest.raises(UnsupportedValueError, match="deep"):
            codec.encode(ring)

    def test_a_value_that_would_unfold_without_end_is_refused(self, codec: Codec) -> None:
        value: list[object] = [1]
        for _ in range(90):
            value = [value, value]
        with pytest.raises(UnsupportedValueError, match="parts"):
            codec.encode(value, Shape(max_bytes=10_000))
        with pytest.raises(UnsupportedValueError, match="parts"):
            codec.encode((value,), Shape(max_bytes=10_000))

    # --- sharing ------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("value", "shareable"),
        [
            (1, True),
            ("text", True),
            ("\ud800", True),
            ((1, (b"x", None)), True),
            (frozenset({(1, 2)}), True),
            (datetime(2024, 1, 1, tzinfo=UTC), True),
            (PATH, True),
            ((PATH, np.zeros(2)), True),
            ([], False),
            ({}, False),
            ({1}, False),
            ((1, [2]), False),
            (Basket(1), False),
            ((Basket(1),), False),
        ],
        ids=repr,
    )
    def test_only_what_nobody_can_change_is_shareable(
        self, codec: Codec, value: object, *, shareable: bool
    ) -> None:
        body = codec.encode(value)
        assert body.shareable is shareable
        assert codec.open(KEY, codec.seal(record(body))).body.shareable is shareable
        if shareable:
            assert exact(codec.share(value, body)) == exact(value)

    def test_declared_forms_are_shareable_by_their_type(self, codec: Codec) -> None:
        basket = Shape(form=Form.STRUCT, type=Basket)
        for value, shape, shareable in (
            (PATH, PATHS, True),
            (Basket(1), basket, False),
            (np.zeros(2), VECTOR, True),
        ):
            body = codec.encode(value, shape)
            assert body.shareable is shareable
            assert codec.open(KEY, codec.seal(record(body), shape), shape).body == body

    @pytest.mark.parametrize("shape", [ANY, VECTOR, HALF], ids=["any", "vector", "half"])
    def test_a_change_of_the_array_that_was_passed_reaches_nobody(
        self, codec: Codec, shape: Shape
    ) -> None:
        mine = np.ones(8, np.float32)
        body = codec.encode(mine, shape)
        shared = codec.share(mine, body)
        mine[:] = 2
        assert isinstance(shared, np.ndarray)
        assert shared.tolist() == [1.0] * 8
        assert not shared.flags.writeable
        assert cast("NDArray[Any]", codec.decode(body, shape)).tolist() == [1.0] * 8

    def test_what_can_be_changed_is_fresh_for_each_reader(self, codec: Codec) -> None:
        body = codec.encode({"a": [1]})
        first = cast("dict[str, list[int]]", codec.decode(body))
        first["a"].append(2)
        assert codec.decode(body) == {"a": [1]}

    # --- envelopes ----------------------------------------------------------------------------

    @_inherited
    @given(
        key=st.text(st.characters(exclude_categories=()), max_size=300),
        times=st.tuples(*[st.floats(0, 1e12)] * 4),
        tags=st.lists(
            st.tuples(_texts, st.builds(Stamp, *[st.integers(0, 2**64 - 1)] * 2)), max_size=5
        ),
        data=st.binary(max_size=3000),
    )
    def test_a_record_comes_back_the_same(
        self,
        codec: Codec,
        key: str,
        times: tuple[float, float, float, float],
        tags: list[tuple[str, Stamp]],
        data: bytes,
    ) -> None:
        sent = Record(key, codec.encode(data), *times, tags=tuple(tags))
        opened = codec.open(key, codec.seal(sent))
        assert opened == sent
        assert codec.decode(opened.body) == data

    def test_an_entry_moved_to_another_key_does_not_open(self, codec: Codec) -> None:
        sealed = codec.seal(record(codec.encode("mine")))
        for key in ("", KEY + "x", KEY[:-1], KEY.upper(), "\ud800", "x" * 100_000):
            assert self.reason(codec, sealed, key=key) in self.moved

    def test_what_its_layout_cannot_hold_is_refused(self, codec: Codec) -> None:
        body = codec.encode(1)
        for bad in (
            record(body, "k" * 16_385),
            record(body, tags=(("t" * 16_385, Stamp(1, 1)),)),
            record(body, tags=(("t", Stamp(1, 1)),) * 1025),
            record(body, tags=(("t", Stamp(-1, 1)),)),
            record(body, tags=(("t", Stamp(1, 2**64)),)),
        ):
            with pytest.raises(UnsupportedValueError):
                codec.seal(bad)
        large = record(body, "k" * 16_384, tags=(("t" * 16_384, Stamp(1, 1)),) * 1024)
        assert codec.open(large.key, codec.seal(large)) == large

    def test_a_form_that_the_reader_did_not_declare_does_not_open(self, codec: Codec) -> None:
        sealed = codec.seal(record(codec.encode(np.zeros(4), VECTOR)), VECTOR)
        assert self.reason(codec, sealed, ANY) == "bad_header"
        assert self.reason(codec, codec.seal(record(codec.encode(1))), PATHS) == "bad_header"

    def test_a_body_past_the_limit_of_its_kind_does_not_open(self, codec: Codec) -> None:
        body = codec.encode(b"x" * 5000)
        sealed = codec.seal(record(body))
        assert codec.open(KEY, sealed, Shape(max_bytes=len(body.data))).body == body
        assert self.reason(codec, sealed, Shape(max_bytes=len(body.data) - 1)) == "too_big"
        assert self.reason(codec, b"QC" + bytes(60_000_000), Shape(max_bytes=10)) == "too_big"

    @pytest.mark.parametrize("which", range(3))
    def test_every_flipped_bit_and_every_cut_is_noticed(self, codec: Codec, which: int) -> None:
        value, shape = ((PATH, PATHS), (np.ones(9), VECTOR), ({"text": "word " * 400}, ANY))[which]
        tags = (("t", Stamp(5, 6)),) * which
        sealed = codec.seal(record(codec.encode(value, shape), tags=tags), shape)
        reasons: set[str] = set()
        for bit in range(len(sealed) * 8):
            flipped = bytearray(sealed)
            flipped[bit // 8] ^= 1 << bit % 8
            reasons.add(self.reason(codec, bytes(flipped), shape))
        assert reasons == self.flips
        for end in range(len(sealed)):
            assert self.reason(codec, sealed[:end], shape) in {"truncated", self.altered}
        for more in (b"\x00", b"x" * 100, sealed):
            assert self.reason(codec, sealed + more, shape) == self.altered

    def test_random_bytes_never_open(self, codec: Codec) -> None:
        draw = random.Random(17)  # noqa: S311 -- noise, not secrets
        sealed = codec.seal(record(codec.encode(["some", {"value": 1}] * 20)))
        for trial in range(2000):
            noise = draw.randbytes(draw.randrange(200))
            start = draw.randrange(len(sealed)) if trial % 2 else 0
            self.reason(codec, sealed[:start] + noise)

    def test_threads_do_not_mix_their_bytes(self, codec: Codec) -> None:
        def round_trips(number: int) -> bool:
            value = {"text": f"thread {number} " * 2000}
            return all(self.through(codec, value) == value for _ in range(20))

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(round_trips, range(16)))
