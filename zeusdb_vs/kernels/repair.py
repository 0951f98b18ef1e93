"""Repairing the graph around removed slots.

The rule of FreshDiskANN (Singh et al. 2021, arXiv:2105.09613, algorithm 4): a slot that links to a removed one takes
the removed one's neighbours as candidates in its place, and is pruned again.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.build import _write_row, prune_pool
from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.distances import code_distance, expand_row
from zeusdb_vs.kernels.intrinsics import (
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    prefetch,
    store_i32,
    store_u8,
    store_u16,
)
from zeusdb_vs.kernels.layout import (
    CHOSEN,
    CHUNK_SHIFT,
    ENTRY_POINT,
    EPOCH,
    LEVELS,
    POOL,
    POOL_CAPACITY,
    QUERY_FORM,
    TOP_LEVEL,
    VISITED,
    WALK_ALL,
    WALK_SIZE,
    N,
)
from zeusdb_vs.kernels.pool import insert_key, make_key, slot_of_key
from zeusdb_vs.kernels.rows import row_address
from zeusdb_vs.kernels.search import descend, links_address, links_width, next_epoch, start_walk, walk

_NO_END = np.int64(1) << 62
"""A budget no walk uses up."""


@inline_kernel
def _pool_live(ix, scratch, form, row, width, owner, live, size):
    """Add the live neighbours of a row, each once and never the owner, to the pool; returns its size."""
    n = ix[N]
    visited = scratch[VISITED]
    epoch = scratch[EPOCH]
    pool = scratch[POOL]
    capacity = scratch[POOL_CAPACITY]
    for j in range(width):
        slot = load_i32(row + j * 4)
        if slot < 0:
            break
        if slot >= n or slot == owner or load_u8(live + slot) == 0 or load_u16(visited + slot * 2) == epoch:
            continue
        store_u16(visited + slot * 2, epoch)
        if insert_key(pool, size, capacity, make_key(code_distance(ix, form, slot), slot)) >= 0:
            size = min(size + 1, capacity)
    return size


@kernel
def repair_row(ix, scratch, slot, level, live, keep):
    """Replace links of `slot` to removed slots on one level; returns 1 where there were any, else 0.

    Parameters
    ----------
    live : address of uint8 per slot, 0 for removed ones
    keep : neighbours the row keeps at most
    """
    row = links_address(ix, slot, level)
    width = links_width(ix, level)
    n = ix[N]
    damaged = False
    for j in range(width):
        other = load_i32(row + j * 4)
        if other < 0:
            break
        if other < n and load_u8(live + other) == 0:
            damaged = True
    if not damaged:
        return 0
    form = scratch[QUERY_FORM]
    expand_row(ix, slot, form)
    next_epoch(scratch)
    size = _pool_live(ix, scratch, form, row, width, slot, live, np.int64(0))
    for j in range(width):
        other = load_i32(row + j * 4)
        if other < 0:
            break
        if other < n and load_u8(live + other) == 0:
            behind = links_address(ix, other, level)
            if behind != 0:
                size = _pool_live(ix, scratch, form, behind, width, slot, live, size)
    count = prune_pool(ix, scratch, size, keep, keep)
    _write_row(row, width, scratch[CHOSEN], count)
    return 1


@kernel
def repair_around(ix, scratch, slots, start, stop, live, keep_0, keep_upper):
    """Repair the rows within two hops of each removed slot of `slots[start:stop]` that link to a removed slot.

    Links from further away stay: a walk passes through them, and the next full repair takes them.
    """
    n = ix[N]
    shift = ix[CHUNK_SHIFT]
    repaired = np.int64(0)
    for i in range(start, stop):
        slot = load_i32(slots + i * 4)
        for level in range(load_u8(row_address(ix[LEVELS], slot, shift, 1)) + 1):
            row = links_address(ix, slot, level)
            width = links_width(ix, level)
            keep = keep_0 if level == 0 else keep_upper
            for j in range(width):
                near = load_i32(row + j * 4)
                if near < 0:
                    break
                if near >= n:
                    continue
                behind = links_address(ix, near, level)
                if behind == 0:
                    continue
                for k in range(width):
                    far = load_i32(behind + k * 4)
                    if far < 0:
                        break
                    if far < n and load_u8(live + far) != 0 and links_address(ix, far, level) != 0:
                        repaired += repair_row(ix, scratch, far, level, live, keep)
                if load_u8(live + near) != 0:
                    repaired += repair_row(ix, scratch, near, level, live, keep)
    return repaired


@kernel
def repair_all(ix, scratch, start, stop, live, keep_0, keep_upper):
    """Repair every live row of slots `start .. stop`; rows of removed slots are read and never written."""
    shift = ix[CHUNK_SHIFT]
    repaired = np.int64(0)
    for slot in range(start, stop):
        if load_u8(live + slot) == 0:
            continue
        for level in range(load_u8(row_address(ix[LEVELS], slot, shift, 1)) + 1):
            keep = keep_0 if level == 0 else keep_upper
            repaired += repair_row(ix, scratch, np.int64(slot), np.int64(level), live, keep)
    return repaired


@kernel
def mark_reachable(ix, start, first, marks, queue):
    """Mark what a walk on level 0 can reach from a slot over slots from `first` on, breadth first.

    Parameters
    ----------
    marks : address of uint8, one for each slot from `first` on; marked slots are not entered again
    queue : address of int32, as many, working memory

    Returns
    -------
    how many slots were marked
    """
    n = ix[N]
    width = links_width(ix, 0)
    store_u8(marks + start - first, 1)
    store_i32(queue, start)
    head = np.int64(0)
    tail = np.int64(1)
    while head < tail:
        row = links_address(ix, load_i32(queue + head * 4), np.int64(0))
        head += 1
        if head < tail:
            ahead = links_address(ix, load_i32(queue + head * 4), np.int64(0))
            prefetch(ahead)
            prefetch(ahead + 64)
        for j in range(width):
            slot = load_i32(row + j * 4)
            if slot < 0:
                break
            if first <= slot < n and load_u8(marks + slot - first) == 0:
                store_u8(marks + slot - first, 1)
                store_i32(queue + tail * 4, slot)
                tail += 1
    return tail


@kernel
def _link_from(ix, slot, source):
    """Give `source` a link to `slot` on level 0, in the place of its last neighbour where the row is full."""
    width = links_width(ix, 0)
    row = links_address(ix, source, np.int64(0))
    used = np.int64(0)
    while used < width and load_i32(row + used * 4) >= 0:
        used += 1
    store_i32(row + min(used, width - 1) * 4, slot)


@kernel
def _link_from_nearest(ix, scratch, slot, first, marks, live, ef):
    """Give `slot` a link from the nearest live slot that is below `first` or marked.

    Parameters
    ----------
    first : slots below it count as marked
    marks : address of uint8, one for each slot from `first` on
    """
    form = scratch[QUERY_FORM]
    pool = scratch[POOL]
    expand_row(ix, slot, form)
    entry = descend(ix, scratch, form, ix[ENTRY_POINT], ix[TOP_LEVEL], np.int64(0))
    start_walk(ix, scratch, form, entry)
    walk(ix, scratch, scratch, np.int64(1), np.int64(0), ef, ef, np.int64(0), np.int64(0), WALK_ALL, _NO_END)
    nearest = ix[ENTRY_POINT]
    for i in range(scratch[WALK_SIZE]):
        candidate = slot_of_key(load_i64(pool + i * 8))
        # The descent may have led into the very island that is to be linked.
        if (candidate < first or load_u8(marks + candidate - first) != 0) and load_u8(live + candidate) != 0:
            nearest = candidate
            break
    _link_from(ix, slot, nearest)


@kernel
def connect_unreached(ix, scratch, marks, queue, live, ef):
    """Link every live slot that no walk from the entry point reaches from the nearest slot that one does.

    Clusters far from all else keep their links among themselves, and a slot may lose its last link to pruning.

    Parameters
    ----------
    marks : address of uint8 (N,), as `mark_reachable` left them from the entry point
    live : address of uint8 per slot
    ef : pool of the walks that look for the nearest

    Returns
    -------
    how many links were set
    """
    added = np.int64(0)
    for slot in range(ix[N]):
        if load_u8(marks + slot) != 0 or load_u8(live + slot) == 0:
            continue
        _link_from_nearest(ix, scratch, np.int64(slot), np.int64(0), marks, live, ef)
        mark_reachable(ix, np.int64(slot), np.int64(0), marks, queue)
        added += 1
    return added


@kernel
def connect_batch(ix, scratch, first, marks, queue, live, ef):
    """Link the slots from `first` on, a batch just linked, that no slot before them leads to.

    A batch about something new finds its nearest neighbours in itself, and the slots it links to elsewhere have
    nearer ones than it: all of it would be an island.

    Parameters
    ----------
    marks : address of uint8, one for each slot from `first` on, all 0
    queue : address of int32, as many
    """
    width = links_width(ix, 0)
    for slot in range(first, ix[N]):
        row = links_address(ix, slot, np.int64(0))
        for j in range(width):
            other = load_i32(row + j * 4)
            if other < 0:
                break
            if other >= first:
                continue
            behind = links_address(ix, other, np.int64(0))
            held = False
            for k in range(width):
                held |= load_i32(behind + k * 4) == slot
            if held:
                mark_reachable(ix, np.int64(slot), first, marks, queue)
                break
    for slot in range(first, ix[N]):
        if load_u8(marks + slot - first) == 0:
            _link_from_nearest(ix, scratch, np.int64(slot), first, marks, live, ef)
            mark_reachable(ix, np.int64(slot), first, marks, queue)
