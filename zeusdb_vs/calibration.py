"""Which codes an index walks on: chosen by measuring, on its own vectors, what each kind would lose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.kernels import layout
from zeusdb_vs.scratch import Scratch

FITTED_ROWS = 4096
"""Rows that the ranges of codes are fitted to."""
_JUDGED_ROWS = 32_768
"""Rows among which neighbours are sought: the more there are, the more lie close together, and the harder it is."""
_QUERIES = 64
NEIGHBORS = 10
_SMALLEST_DIM = 48
"""Below this a padded code row is not much smaller than the vector itself."""
_MARGIN = 1.25
"""The rerank is made this much deeper than the depth that was judged, for an index that grows."""


class CodeKind(NamedTuple):
    """A kind of code and how deep a rerank makes up for it.

    Attributes
    ----------
    bits : per dimension
    is_rotated : whether vectors are rotated before they are coded, which evens out what dimensions vary
    rerank : how many of the nearest by code are reranked for 10 neighbours
    """

    bits: int
    is_rotated: bool
    rerank: int


_CHOICES = (
    (CodeKind(4, False, 20), 0.997),
    (CodeKind(4, True, 20), 0.997),
    (CodeKind(4, True, 40), 0.995),
    (CodeKind(8, False, 20), 0.997),
    (CodeKind(8, True, 20), 0.997),
    (CodeKind(8, False, 40), 0.985),
    (CodeKind(8, True, 40), 0.985),
)
"""Kinds, cheapest first, and the share of true neighbours each has to keep; else walks compare the originals."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The codes chosen, and why.

    Attributes
    ----------
    kind : None where walks compare originals
    rerank : how many of the nearest by code are reranked for 10 neighbours; 0 without codes
    kept : for each kind that was tried, the share of the true neighbours among the nearest by code
    """

    kind: CodeKind | None
    rerank: int
    kept: dict[CodeKind, float]


def choose_codes(
    live: NDArray[np.integer],
    take: Callable[[NDArray[np.int32]], NDArray[np.float32]],
    describe: Callable[[], NDArray[np.int64]],
    encode: Callable[[CodeKind | None], None],
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
    encode : writes codes of a kind; None drops them
    form_bytes : bytes of a query form
    uniform : whether only codes with one step for all dimensions will do, which take 8 bits
    """
    rows = np.ascontiguousarray(live[:: max(1, -(-len(live) // _JUDGED_ROWS))], np.int32)
    own = rows[:: max(1, len(rows) // _QUERIES)]
    queries = take(own)
    truth = _nearest(rows, own, queries, describe(), form_bytes, None)
    wanted = max(1, sum(map(len, truth)))
    kept: dict[CodeKind, float] = {}
    written: tuple[int, bool] | None = None
    for kind, enough in _CHOICES:
        if queries.shape[1] < _SMALLEST_DIM or (uniform and (kind.bits == 4 or kind.is_rotated)):
            continue
        if kind[:2] != written:
            encode(kind)
            written = kind[:2]
        found = _nearest(rows, own, queries, describe(), form_bytes, kind.rerank)
        kept[kind] = sum(len(a & b) for a, b in zip(truth, found, strict=True)) / wanted
        if kept[kind] >= enough:
            return Calibration(kind, int(kind.rerank * _MARGIN), kept)
    encode(None)
    return Calibration(None, 0, kept)


DEPTHS = (15, 20, 30, 40, 60, 80, 120, 160, 250, 400, 600)
_ENOUGH_KEPT = 0.995
_NO_GAIN = 0.001
_ROUGH_MARGIN = 8
_ENOUGH_BY_DIGITS = 0.99
"""Share of the nearest by product codes that comparing by their digits may not lose."""


def choose_depth(
    live: NDArray[np.integer],
    queries: NDArray[np.float32],
    own: NDArray[np.int32],
    originals: tuple[NDArray[np.int64], int],
    quantized: tuple[NDArray[np.int64], int],
    depths: Sequence[int] = DEPTHS,
) -> tuple[int, float]:
    """Find how many of the nearest by a quantizer's codes have to be reranked for 10 neighbours.

    Parameters
    ----------
    live : slots that count, ascending, at least one
    queries : float32 (q, dim), the originals of the slots `own`
    originals, quantized : a descriptor of the vectors before and after, and the bytes of its query forms
    depths : what to try, ascending; `NEIGHBORS` alone where nothing will be reranked

    Returns
    -------
    the depth, and the share of true neighbours that it kept when it was judged
    """
    rows = np.ascontiguousarray(live[:: max(1, -(-len(live) // _JUDGED_ROWS))], np.int32)
    truth = _nearest(rows, own, queries, *originals, None)
    wanted = max(1, sum(map(len, truth)))
    best, kept_best = depths[0], 0.0
    for depth in depths:
        found = _nearest(rows, own, queries, *quantized, depth)
        kept = sum(len(a & b) for a, b in zip(truth, found, strict=True)) / wanted
        if kept > kept_best + _NO_GAIN:  # what is lost to coarse originals no depth brings back
            best, kept_best = depth, kept
        if kept >= _ENOUGH_KEPT or depth >= len(rows):
            break
    return int(best * _MARGIN), kept_best


def rough_depth(k: int) -> int:
    """Return how many of the nearest by digits of product codes are compared by the codes for k neighbours."""
    return 4 * k + _ROUGH_MARGIN


def digits_suffice(
    live: NDArray[np.integer],
    queries: NDArray[np.float32],
    own: NDArray[np.int32],
    quantized: tuple[NDArray[np.int64], int],
) -> bool:
    """Return whether the nearest by product codes are among the `rough_depth` nearest by the digits of these.

    Parameters are as in `choose_depth`.
    """
    from zeusdb_vs.kernels import distances, exact_distances

    rows = np.ascontiguousarray(live[:: max(1, -(-len(live) // _JUDGED_ROWS))], np.int32)
    k, depth = NEIGHBORS + 1, rough_depth(NEIGHBORS) + 1
    if len(rows) <= depth:
        return True
    ix, form_bytes = quantized
    scratch = Scratch(1, queries.shape[1], form_bytes, 0, k)
    exact, form = int(scratch.block[layout.QUERY_EXACT]), int(scratch.block[layout.QUERY_FORM])
    found = np.empty(len(rows), np.float32)
    kept = wanted = 0
    for query, slot in zip(queries, own, strict=True):
        if exact_distances.prepare_exact_query(ix, query.ctypes.data, exact) != 0:
            continue
        nearest = []
        for precision, count in ((layout.AS_CODED, k), (layout.ROUGH, depth)):
            distances.prepare_query_form(ix, exact, form, precision)
            distances.code_distances(ix, form, rows.ctypes.data, len(rows), found.ctypes.data)
            nearest.append(set(rows[np.argpartition(found, count)[:count]].tolist()) - {int(slot)})
        wanted += len(nearest[0])
        kept += len(nearest[0] & nearest[1])
    return kept >= _ENOUGH_BY_DIGITS * wanted


def judged_slots(live: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return the live slots whose own vectors are the queries of `choose_depth`."""
    rows = np.ascontiguousarray(live[:: max(1, -(-len(live) // _JUDGED_ROWS))], np.int32)
    return rows[:: max(1, len(rows) // _QUERIES)]


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
    k = min(NEIGHBORS + 1, len(rows))
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
