"""Repairing the graph around removed slots.

The rule of FreshDiskANN (Singh et al. 2021, arXiv:2105.09613, algorithm 4): a slot that links to a removed one takes
the removed one's neighbours as candidates in its place, and is pruned again.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.build import _write_row, prune_pool
from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.distances import code_distance, expand_row, row_address
from zeusdb_vs.kernels.intrinsics import load_i32, load_u8, load_u16, store_u16
from zeusdb_vs.kernels.layout import (
    CHOSEN,
    CHUNK_SHIFT,
    EPOCH,
    LEVELS,
    POOL,
    POOL_CAPACITY,
    QUERY_FORM,
    VISITED,
    N,
)
from zeusdb_vs.kernels.pool import insert_key, make_key
from zeusdb_vs.kernels.search import links_address, links_width, next_epoch


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
