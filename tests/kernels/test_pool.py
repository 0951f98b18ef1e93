"""The sorted pool against a sorted list."""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from kernel_harness import compiled

from zeusdb_vs.kernels import layout, pool

_FLOATS = st.floats(width=32, allow_nan=False)
_SLOTS = st.integers(0, 2**31 - 1)


@compiled
def _insert(address: Any, size: Any, capacity: Any, key: Any) -> Any:
    return pool.insert_key(address, size, capacity, key)


@compiled
def _insert_all(address: Any, size: Any, capacity: Any, keys: Any, count: Any) -> Any:
    return pool.insert_keys(address, size, capacity, keys, count)


@compiled
def _key(distance: Any, slot: Any) -> Any:
    return pool.make_key(distance, slot)


@compiled
def _distance(key: Any) -> Any:
    return pool.distance_of_key(key)


@compiled
def _slot(key: Any) -> Any:
    return pool.slot_of_key(key)


@given(_FLOATS, _SLOTS)
def test_key_gives_back_what_it_was_made_of(distance: float, slot: int) -> None:
    key = np.int64(_key(np.float32(distance), slot))
    assert key & 1 == 0
    for marked in (key, key | 1):  # the mark of an expanded slot is not in the way
        assert int(_slot(marked)) == slot
        assert np.float32(_distance(marked)).tobytes() == np.float32(distance).tobytes()


@given(_FLOATS, _SLOTS, _FLOATS, _SLOTS)
def test_keys_sort_by_distance_then_slot(a: float, slot_a: int, b: float, slot_b: int) -> None:
    # 0.0 and -0.0 are apart by one step, in that order of signs: no distance is nearer for it.
    order_a, order_b = (a, not np.signbit(np.float32(a)), slot_a), (b, not np.signbit(np.float32(b)), slot_b)
    key_a, key_b = int(_key(np.float32(a), slot_a)), int(_key(np.float32(b), slot_b))
    assert (key_a < key_b) == (order_a < order_b)
    assert (key_a == key_b) == (order_a == order_b)


def test_infinite_distances_sort_last_and_first() -> None:
    keys = [int(_key(np.float32(d), 5)) for d in (-np.inf, -3e38, -0.0, 0.0, 3e38, np.inf)]
    assert keys == sorted(keys)


@given(
    st.integers(1, 20),
    st.lists(st.one_of(st.integers(-8, 8), st.integers(-(2**63) + 1, 2**63 - 1)), max_size=60),
)
def test_insertion_equals_a_sorted_list_cut_at_the_capacity(capacity: int, keys: list[int]) -> None:
    buffer = np.full(capacity + 2, 77, np.int64)  # one place of slack, one that must stay untouched
    right: list[int] = []
    size = 0
    for key in keys:
        place = int(_insert(buffer.ctypes.data, size, capacity, np.int64(key)))
        if len(right) == capacity and key >= right[-1]:
            assert place == -1
        else:
            assert place == bisect.bisect_left(right, key)
            right.insert(place, key)
            del right[capacity:]
            size = min(size + 1, capacity)
        assert buffer[:size].tolist() == right
    assert buffer[capacity + 1] == 77


@given(
    st.one_of(st.integers(1, 20), st.integers(40, 90)),  # small pools and others go by different ways
    st.lists(st.sets(st.integers(-500, 500), max_size=layout.POOL_MARGIN + 8).map(list), max_size=8),
)
def test_insertion_of_many_equals_a_sorted_list_cut_at_the_capacity(
    capacity: int, hops: list[list[int]]
) -> None:
    buffer = np.full(capacity + layout.POOL_MARGIN + 1, 7777, np.int64)
    right: list[int] = []
    size = 0
    for hop in hops:
        news = [key for key in hop if key not in right and (len(right) < capacity or key < right[-1])]
        keys = np.array([*news, 6666], np.int64)
        first = int(_insert_all(buffer.ctypes.data, size, capacity, keys.ctypes.data, len(news)))
        right = sorted(right + news)[:capacity]
        size = min(size + len(news), capacity)
        assert buffer[:size].tolist() == right
        assert first == (right.index(min(news)) if news else capacity)
        assert sorted(keys[:-1].tolist()) == sorted(news)
        assert keys[-1] == 6666
    assert buffer[-1] == 7777
