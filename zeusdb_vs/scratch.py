"""Working memory of kernels: one set of buffers per running call, kept and handed out again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.kernels import layout

_HOP_ROOM = 2048
"""Neighbours one hop may collect; also the blocks of a scan."""
_POOL_ROOM = 1024
_RESULTS_ROOM = 256


class Scratch:
    """Buffers of one running kernel and the array of their addresses (`kernels/layout.py`).

    Attributes
    ----------
    block : int64 array of addresses and sizes, what kernels take
    query : float32 (dim,), where a caller may place one query
    query_address : its address
    out_slots, out_distances : int64 and float32 (results,), where one query's results may be written
    """

    __slots__ = (
        "_buffers",
        "_partner",
        "_sizes",
        "block",
        "out_distances",
        "out_distances_address",
        "out_slots",
        "out_slots_address",
        "pool_room",
        "query",
        "query_address",
        "results_room",
        "visited_room",
    )

    def __init__(self, n: int, dim: int, form_bytes: int, pool: int, results: int) -> None:
        self._sizes = (n, dim, form_bytes, pool, results)
        self._partner: Scratch | None = None
        self.visited_room = -(-max(n, 1024) * 5 // 4 // 8) * 8
        self.pool_room = max(pool, _POOL_ROOM)
        self.results_room = max(results, _RESULTS_ROOM)
        # Pruning takes a whole pool into the hop buffers.
        hop_room = max(_HOP_ROOM, self.pool_room)
        self._buffers: list[NDArray[Any]] = []
        self.block: NDArray[np.int64] = np.zeros(layout.SCRATCH_SIZE, np.int64)
        block = self.block
        block[layout.VISITED] = self._reserve(np.zeros(self.visited_room, np.uint16))
        block[layout.VISITED_CAPACITY] = self.visited_room
        # Insertions move the last keys before they are dropped.
        block[layout.POOL] = self._reserve(np.empty(self.pool_room + layout.POOL_MARGIN, np.int64))
        block[layout.POOL_CAPACITY] = self.pool_room
        block[layout.MATCHES] = self._reserve(np.empty(self.pool_room + layout.POOL_MARGIN, np.int64))
        block[layout.HOP_SLOTS] = self._reserve(np.empty(hop_room, np.int32))
        block[layout.HOP_DISTANCES] = self._reserve(np.empty(hop_room, np.float32))
        # A scan gathers twice as many keys as it keeps, and some, before it drops the further half.
        block[layout.HOP_KEYS] = self._reserve(np.empty(2 * hop_room + 16, np.int64))
        block[layout.HOP_CAPACITY] = hop_room
        block[layout.QUERY_FORM] = self._reserve_aligned(form_bytes)
        # Behind the exact query there is room for a decoded row, padded to whole blocks of codes.
        block[layout.QUERY_EXACT] = self._reserve_aligned(4 * (-(-dim // 16) * 16 + -(-dim // 128) * 128))
        block[layout.RESULTS] = self._reserve(np.empty(self.results_room + layout.POOL_MARGIN, np.int64))
        block[layout.PRUNE_FORM] = self._reserve_aligned(form_bytes)
        block[layout.CHOSEN] = self._reserve(np.empty(self.pool_room, np.int32))
        self.query = np.empty(dim, np.float32)
        self.query_address = int(self.query.ctypes.data)
        self.out_slots = np.empty(self.results_room, np.int64)
        self.out_slots_address = int(self.out_slots.ctypes.data)
        self.out_distances = np.empty(self.results_room, np.float32)
        self.out_distances_address = int(self.out_distances.ctypes.data)

    @property
    def memory_bytes(self) -> int:
        """Bytes of all buffers."""
        arrays = (*self._buffers, self.query, self.out_slots, self.out_distances)
        own = sum(array.nbytes for array in arrays)
        return own + (0 if self._partner is None else self._partner.memory_bytes)

    def partner_block(self, items: int) -> NDArray[np.int64]:
        """Return the block of the second lane, for kernels that take `items` items two at a time."""
        if items == 1:
            return self.block
        if self._partner is None:
            self._partner = Scratch(*self._sizes)
        return self._partner.block

    def _reserve(self, array: NDArray[Any]) -> int:
        self._buffers.append(array)
        return int(array.ctypes.data)

    def _reserve_aligned(self, size: int) -> int:
        return -(-self._reserve(np.empty(size + 64, np.uint8)) // 64) * 64


class ScratchPool:
    """Scratches of one index: `take` one, run kernels with it, `give` it back.

    A list's `pop` and `append` are atomic, so threads need no lock; there are as many scratches as calls ran at once.
    """

    __slots__ = ("_dim", "_form_bytes", "_free")

    def __init__(self, dim: int, form_bytes: int) -> None:
        self._dim = dim
        self._form_bytes = form_bytes
        self._free: list[Scratch] = []

    def take(self, n: int, pool: int, results: int) -> Scratch:
        """Return a scratch for `n` slots, a pool of `pool` keys and `results` results."""
        try:
            scratch = self._free.pop()
        except IndexError:
            return Scratch(n, self._dim, self._form_bytes, pool, results)
        if scratch.visited_room < n or scratch.pool_room < pool or scratch.results_room < results:
            return Scratch(n, self._dim, self._form_bytes, pool, results)
        return scratch

    def memory_bytes(self) -> int:
        """Bytes of the scratches that no call is using now."""
        return sum(scratch.memory_bytes for scratch in tuple(self._free))

    def give(self, scratch: Scratch) -> None:
        """Take a scratch back."""
        self._free.append(scratch)
