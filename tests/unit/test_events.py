"""The events."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from querycache import events
from querycache.events import Event, Hit, Missed, MissReason

TYPES = Event.__subclasses__()


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.__name__)
def test_an_event_is_frozen_documented_and_known_by_its_name(type_: type[Event]):
    config = type_.__struct_config__
    assert config.frozen
    assert not config.gc
    assert config.tag == type_.__name__
    assert type_.__doc__
    assert getattr(events, type_.__name__) is type_


def test_an_event_tells_its_type_in_json():
    assert msgspec.json.decode(msgspec.json.encode(Hit("k", age_s=2.0, stale=True))) == {
        "type": "Hit",
        "key": "k",
        "age_s": 2.0,
        "stale": True,
    }


@pytest.mark.parametrize("reason", get_args(MissReason))
def test_every_reason_of_a_miss_is_readable(reason: MissReason):
    told = msgspec.json.encode(Missed("k", reason=reason))
    assert msgspec.json.decode(told, type=Missed).reason == reason


def test_no_other_reason_is():
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"type":"Missed","key":"k","reason":"mood"}', type=Missed)
