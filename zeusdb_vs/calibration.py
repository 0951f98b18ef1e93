"""Which codes an index walks on: chosen by measuring, on its own vectors, what each kind would lose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.kernels import layout
from zeusdb_vs.scratch import Scratch

FITTED_ROWS = 4096
"""Rows that the ranges of codes are fitted to."""
_JUDGED_ROWS = 32_768
"""Rows among which neighbours are sought: the more there are, the more lie close together, and the harder it is."""
_QUERIES = 64
_NEIGHBORS = 10
_ENOUGH = 0.997
_ENOUGH_8_BIT = 0.985
"""Share of the true neighbours that must survive; below it a walk compares the originals."""
_MARGIN = 1.25
"""The rerank is made this much deeper than the depth that was judged, for an index that grows."""

CHOICES = ((4, 20, _ENOUGH), (4, 40, _ENOUGH), (8, 20, _ENOUGH), (8, 40, _ENOUGH_8_BIT))
"""Bits, depth of the rerank, share to reach; the cheapest first."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The codes chosen, and why.

    Attributes
    ----------
    bits : 4 or 8; 32 where walks compare originals
    rerank : how many of the nearest by code are reranked for 10 neighbours
    kept : for each choice that was tried, (bits, depth), the share of true neighbours among the nearest by code
    """

    bits: int
    rerank: int
    kept: dict[tuple[int, int], float]


def choose_codes(
    live: NDArray[np.integer],
    take: Callable[[NDArray[np.int32]], NDArray[np.float32]],
    describe: Callable[[], NDArray[np.int64]],
    encode: Callable[[int], None],
    form_bytes: int,
    *,
    uniform: bool,
) -> Calibration:
    """Try kinds of codes, cheapest first, until one keeps the true neighbours.

    Parameters
    ----------
    live : slots that count, ascending, at least one
    take : returns the originals of slots
    describe : returns a descriptor of the vectors as they are
    encode : writes codes of so many bits; 32 drops them
    form_bytes : bytes of a query form
    uniform : whether only codes with one step for all dimensions will do, which take 8 bits
    """
    rows = np.ascontiguousarray(live[:: max(1, -(-len(live) // _JUDGED_ROWS))], np.int32)
    own = rows[:: max(1, len(rows) // _QUERIES)]
    queries = take(own)
    truth = _nearest(rows, own, queries, describe(), form_bytes, None)
    wanted = max(1, sum(map(len, truth)))
    kept: dict[tuple[int, int], float] = {}
    written = 32
    for bits, depth, enough in CHOICES:
        if uniform and bits == 4:
            continue
        if bits != written:
            encode(bits)
            written = bits
        found = _nearest(rows, own, queries, describe(), form_bytes, depth)
        kept[bits, depth] = sum(len(a & b) for a, b in zip(truth, found, strict=True)) / wanted
        if kept[bits, depth] >= enough:
            return Calibration(bits, int(depth * _MARGIN), kept)
    encode(32)
    return Calibration(32, 0, kept)


def _nearest(
    rows: NDArray[np.int32],
    own: NDArray[np.int32],
    queries: NDArray[np.float32],
    ix: NDArray[np.int64],
    form_bytes: int,
    depth: int | None,
) -> list[set[int]]:
    """Return the nearest rows of each query without itself: all compared, or the first `depth` by code."""
    from zeusdb_vs.kernels import scan

    count, dim = queries.shape
    k = min(_NEIGHBORS + 1, len(rows))
    ix[layout.N] = int(rows[-1]) + 1
    scratch = Scratch(1, dim, form_bytes, 0, k)
    found = np.empty((count, k), np.int64)
    distances = np.empty((count, k), np.float32)
    given = (ix, scratch.block, queries.ctypes.data, count, k)
    out = (found.ctypes.data, distances.ctypes.data)
    if depth is None:
        scan.scan_exact(*given, rows.ctypes.data, len(rows), 0, *out)
    else:
        scan.scan_codes(*given, depth + 1, rows.ctypes.data, len(rows), *out)
    return [set(slots) - {slot, -1} for slots, slot in zip(found.tolist(), own.tolist(), strict=True)]
