"""The queue of writes that L2 does not have yet."""

from __future__ import annotations

from querycache.cache.waiting import Queue, Waiting
from querycache.ports.tiers import Write


def write(key: str, size: int = 10) -> Write:
    return Write(key, b"x" * size, 100.0)


def anything(item: Waiting) -> bool:
    return bool(item.key)


def test_the_newest_of_a_key_takes_the_place_of_the_older() -> None:
    queue = Queue(10, 10_000)
    first = queue.put(write("a"), (), 0.0)
    queue.put(write("b"), (), 0.0)
    again = queue.put(write("a", 20), (), 1.0)
    assert first is not None
    assert again is not None
    assert queue.newest == again.number > first.number
    assert not queue.holds(first)
    assert not queue.drop_if(first)
    assert queue.first(10, 10_000, anything)[0] is again
    assert queue.bytes == sum(item.weight for item in queue.items.values())


def test_what_has_no_room_leaves_its_older_one() -> None:
    queue = Queue(2, 3000)
    queue.put(write("a"), (), 0.0)
    queue.put(write("b"), (), 0.0)
    assert queue.put(write("c"), (), 0.0) is None
    assert list(queue.items) == ["a", "b"]
    assert queue.put(write("a", 5000), (), 0.0) is None
    assert list(queue.items) == ["a", "b"]
    assert queue.drop("b") is not None
    assert queue.drop("b") is None
    assert queue.drop("a") is not None
    assert (len(queue), queue.bytes) == (0, 0)


def test_a_batch_is_bounded_and_is_never_empty_while_something_waits() -> None:
    queue = Queue(10, 100_000)
    for place in range(5):
        queue.put(write(str(place), 1000), (), 0.0)
    assert [item.key for item in queue.first(3, 100_000, anything)] == ["0", "1", "2"]
    assert [item.key for item in queue.first(3, 10, anything)] == ["0"]
    assert [item.key for item in queue.first(9, 9999, lambda item: item.key > "2")] == ["3", "4"]


def test_what_failed_lets_others_go_first() -> None:
    queue = Queue(10, 100_000)
    for key in "abc":
        queue.put(write(key), (), 0.0)
    queue.to_the_end(queue.first(2, 10_000, anything))
    assert list(queue.items) == ["c", "a", "b"]


def test_a_child_begins_empty() -> None:
    queue = Queue(10, 10_000)
    queue.put(write("a"), (), 0.0)
    queue.begin_anew()
    assert (len(queue), queue.bytes) == (0, 0)
