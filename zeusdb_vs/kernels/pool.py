"""The sorted pool: the nearest slots found so far, as int64 keys in ascending order.

A key is `sortable(distance) << 32 | slot << 1 | expanded`: comparing keys compares distances, ties fall to the lower
slot, and a key fits a register. Invariant: `pool[0 .. size)` is sorted, nearest first, and holds no slot twice.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel
from zeusdb_vs.kernels.intrinsics import bits_of_f32, f32_of_bits, load_i64, move_bytes, store_i64
from zeusdb_vs.kernels.layout import POOL_MARGIN

_SMALL_CAPACITY = 48


@inline_kernel
def make_key(distance, slot):
    """Key of a slot at a float32 distance (not NaN); negative floats sort by flipping their magnitude bits."""
    bits = bits_of_f32(distance)
    return ((bits ^ ((bits >> 31) & np.int64(0x7FFFFFFF))) << 32) | (np.int64(slot) << 1)


@inline_kernel
def slot_of_key(key):
    """Slot of a key."""
    return (key & np.int64(0xFFFFFFFF)) >> 1


@inline_kernel
def distance_of_key(key):
    """float32 distance of a key."""
    bits = key >> 32
    return f32_of_bits(bits ^ ((bits >> 31) & np.int64(0x7FFFFFFF)))


@inline_kernel
def insert_key(pool, size, capacity, key):
    """Insert `key` into the sorted pool at address `pool`.

    Returns the position it took, or -1 where the pool is full of nearer ones; the last falls out of a full pool. The
    caller's size becomes min(size + 1, capacity) where the result is not -1.
    """
    if size == capacity:
        if key >= load_i64(pool + (size - 1) * 8):
            return np.int64(-1)
        size -= 1
    # Binary search without branches: what it compares is as good as random, and a wrong guess costs more than a step.
    low = np.int64(0)
    length = np.int64(size)
    while length > 0:
        half = (length + 1) >> 1
        low += np.int64(load_i64(pool + (low + half - 1) * 8) < key) * half
        length -= half
    place = pool + low * 8
    move_bytes(place + 8, place, (size - low) * 8)
    store_i64(place, key)
    return low


@inline_kernel
def _shift_in(pool, size, capacity, key):
    """Do what `insert_key` does, from the end of the pool on: faster in small ones."""
    if size == capacity:
        if key >= load_i64(pool + (size - 1) * 8):
            return np.int64(-1)
        size -= 1
    place = pool + size * 8
    while place > pool:
        other = load_i64(place - 8)
        if other < key:
            break
        store_i64(place, other)
        place -= 8
    store_i64(place, key)
    return (place - pool) >> 3


@inline_kernel
def _merge_in(pool, size, keys, count):
    """Merge 1 to POOL_MARGIN keys, and sort these, into the sorted pool; returns the position of the first of them.

    What falls out of a full pool is left behind its end.
    """
    for i in range(1, count):
        key = load_i64(keys + i * 8)
        place = keys + i * 8
        while place > keys and load_i64(place - 8) > key:
            store_i64(place, load_i64(place - 8))
            place -= 8
        store_i64(place, key)
    source = pool + (size - 1) * 8
    for i in range(count - 1, -1, -1):
        key = load_i64(keys + i * 8)
        target = source + (i + 1) * 8
        while source >= pool:
            other = load_i64(source)
            if other < key:
                break
            store_i64(target, other)
            source -= 8
            target -= 8
        store_i64(target, key)
    return (source + 8 - pool) >> 3


@inline_kernel
def insert_keys(pool, size, capacity, keys, count):
    """Insert the `count` keys at address `keys`, each less than the last of a full pool; changes their order.

    Returns the first position that one of them took, or `capacity` where there are none. The caller's size becomes
    min(size + count, capacity).
    """
    first = np.int64(capacity)
    if capacity > _SMALL_CAPACITY and 0 < count <= POOL_MARGIN:
        return _merge_in(pool, size, keys, count)
    for i in range(count):
        key = load_i64(keys + i * 8)
        if capacity > _SMALL_CAPACITY:
            place = insert_key(pool, size, capacity, key)
        else:
            place = _shift_in(pool, size, capacity, key)
        if place >= 0:
            first = min(first, place)
            size = min(size + 1, capacity)
    return first
