"""Searches of a view: one query with as little around the kernel as can be, or many on several threads.

`planner.py` chooses the way; this runs it, and what a walk gave up or left short is answered by a scan.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs import exact as exact_scan
from zeusdb_vs.errors import VectorError
from zeusdb_vs.filtering.views import Selection
from zeusdb_vs.kernels import layout
from zeusdb_vs.planner import DECODED_EF, DEFAULT_EF, Plan, exact_plan, plan, scan_plan
from zeusdb_vs.scratch import Scratch
from zeusdb_vs.threads import run_range
from zeusdb_vs.views import Matching, SearchResult, View

_QUERY_GRAIN = 8
_GAVE_UP = 3
_REMEMBERED_PLANS = 64
"""Plans that a view remembers."""


class _Kernels(NamedTuple):
    """The kernels that searches call, loaded when the first index with a graph is made."""

    search_graph: Callable[..., int]
    scan_matching: Callable[..., int]
    scan_exact: Callable[..., int]
    locate_rows: Callable[..., None]
    rows_behind: int


_KERNELS: _Kernels | None = None


def _load_kernels() -> _Kernels:
    """Load compiled code, which costs a process some 0.3 s: a small index does without."""
    global _KERNELS
    if _KERNELS is None:
        from zeusdb_vs.kernels import scan, search

        _KERNELS = _Kernels(
            search.search_graph, scan.scan_matching, scan.scan_exact, scan.locate_rows, scan.ROWS_BEHIND
        )
    return _KERNELS


def search_one(
    view: View,
    query: NDArray[np.float32],
    k: int,
    ef: int | None,
    selection: Selection | None,
    rerank: int | None = None,
) -> tuple[list[int], list[float]] | None:
    """Answer one query with as little around the kernel as can be.

    Parameters
    ----------
    query : (dim,) of a type that converts to float32, finite or not
    k : 1 .. 256
    ef : >= 1, None for the default
    rerank : as for `search_many`

    Returns
    -------
    slots and distances, nearest first; None where only `search_many` can say what to do: a query that is
    not usable, too few found
    """
    if selection is None:
        matching = None
        matches = view.live_count
    else:
        matching = view.matching(selection)
        matches = matching.count
    if k > matches:
        k = matches
        if k == 0:
            return [], []
    if view.is_linked:
        depth = None if rerank is None else view.settle_depth(rerank, k, matches)
        key = (k, ef, matches, matching is not None, depth)
        chosen = view.plans.get(key) or _plan(view, *key)
    elif _KERNELS is None:
        return _scan_one(view, query, k, matching)
    else:
        chosen = exact_plan(k)  # what is not linked is not quantized
    return _answer_one(view, query, k, chosen, matching)


def _answer_one(
    view: View,
    query: NDArray[np.float32],
    k: int,
    chosen: Plan,
    matching: Matching | None,
) -> tuple[list[int], list[float]] | None:
    """Answer one query by a plan; by a scan where a walk gives up."""
    if matching is None and chosen.path == "scan":
        matching = view.everything()
    scratch = view.scratches.take(view.n, max(chosen.capacity, chosen.keep, chosen.depth), k)
    scratch.query[:] = query
    status = _call_kernel(
        view,
        scratch,
        scratch.query_address,
        1,
        k,
        chosen,
        matching,
        scratch.out_slots_address,
        scratch.out_distances_address,
    )
    slots: list[int] = scratch.out_slots[:k].tolist()
    distances: list[float] = scratch.out_distances[:k].tolist()
    view.scratches.give(scratch)
    if status == _GAVE_UP:
        return _answer_one(view, query, k, scan_plan(k, view.rerank, view.settled_depth), matching)
    if status or slots[-1] < 0 or distances[-1] == math.inf:
        return None
    return slots, distances


def _call_kernel(
    view: View,
    scratch: Scratch,
    queries: int,
    count: int,
    k: int,
    chosen: Plan,
    matching: Matching | None,
    out_slots: int,
    out_distances: int,
) -> int:
    """Run the kernel of a plan over some queries; addresses and return value are the kernel's."""
    kernels = _KERNELS or _load_kernels()
    if chosen.path not in ("exact", "scan"):
        mask = view.live_address if matching is None else matching.mask_address()
        return kernels.search_graph(
            view.ix,
            scratch.block,
            scratch.partner_block(count),
            queries,
            count,
            k,
            chosen.ef,
            chosen.capacity,
            chosen.keep,
            chosen.depth,
            mask,
            chosen.mode,
            chosen.budget,
            out_slots,
            out_distances,
        )
    address, size = (0, view.n) if matching is None else (matching.slots_address, matching.count)
    if chosen.path == "scan":
        rows = 0
        if view.is_plain and matching is not None:
            rows = matching.rows_address or _locate_rows(kernels, view, matching)
        return kernels.scan_matching(
            view.ix,
            scratch.block,
            queries,
            count,
            k,
            chosen.depth,
            address,
            rows,
            size,
            out_slots,
            out_distances,
        )
    mask = view.live_address if matching is None else 0
    return kernels.scan_exact(
        view.ix, scratch.block, queries, count, k, address, size, mask, out_slots, out_distances
    )


def _locate_rows(kernels: _Kernels, view: View, matching: Matching) -> int:
    """Return where the addresses of the code rows of what matches are; 0 for the first scan, where they do not pay."""
    if not matching.is_scanned:
        matching.is_scanned = True
        return 0
    rows = np.empty(matching.count + kernels.rows_behind, np.int64)
    count = matching.count
    kernels.locate_rows(view.ix, matching.slots_address, count, count, int(rows.ctypes.data))
    return matching.keep_rows(rows)


def _plan(view: View, k: int, ef: int | None, matches: int, is_masked: bool, depth: int | None) -> Plan:
    chosen = plan(
        n=view.n,
        matches=matches,
        k=k,
        ef=ef,
        row_bytes=view.scan_bytes,
        rerank=view.rerank,
        masked=is_masked,
        settled_depth=view.settled_depth if depth is None else depth,
        default_ef=DEFAULT_EF if view.has_exact_scores else DECODED_EF,
        is_plain=view.is_plain,
        is_rough=view.is_rough,
    )
    if len(view.plans) < _REMEMBERED_PLANS:
        view.plans[(k, ef, matches, is_masked, depth)] = chosen
    return chosen


def _exhaustive_plan(view: View, k: int) -> Plan:
    """Return the plan that misses nothing: over the vectors, or over codes where these are all there is."""
    return exact_plan(k) if view.settled_depth is None else scan_plan(k, view.rerank, view.settled_depth)


def search_many(
    view: View,
    queries: NDArray[np.float32],
    k: int,
    *,
    ef: int | None = None,
    selection: Selection | None = None,
    exact: bool = False,
    max_distance: float | None = None,
    rerank: int | None = None,
) -> SearchResult:
    """Find the k nearest of each query.

    Parameters
    ----------
    view : what is searched
    queries : float32 (q, dim), C order
    k : >= 1; cut to the records that may be returned
    ef : pool of a walk; None for the default
    selection : slots of `view` that may be returned; None for all live ones
    exact : whether to compare with every record that may be returned
    max_distance : hits further away are left out
    rerank : of a quantized index: candidates reranked for each of the k, 0 for none; None for the default

    Raises
    ------
    VectorError
        A query is not finite, or zero under cosine, or so large that a distance is not finite.
    """
    count = len(queries)
    matching = None if selection is None else view.matching(selection)
    matches = view.live_count if matching is None else matching.count
    width = min(k, matches)
    if count == 0 or width == 0:
        return SearchResult(np.full((count, 0), -1), np.empty((count, 0), np.float32), "empty")
    depth = None if rerank is None else view.settle_depth(rerank, width, matches)
    if exact or not view.is_linked:
        chosen = _exhaustive_plan(view, width)
    else:
        chosen = _plan(view, width, ef, matches, matching is not None, depth)
    if view.is_linked or _KERNELS is not None:
        result = _run(view, queries, width, chosen, matching)
    else:
        result = _scan_without_kernels(view, queries, width, matching)
    _refuse_infinite(result)
    if max_distance is not None:
        far = result.distances > max_distance
        result.slots[far] = -1
        result.distances[far] = np.inf
    return result


def _run(
    view: View, queries: NDArray[np.float32], k: int, chosen: Plan, matching: Matching | None
) -> SearchResult:
    """Run kernels over the queries, on several threads where there are many."""
    count, dim = queries.shape
    slots = np.empty((count, k), np.int64)
    distances = np.empty((count, k), np.float32)
    is_by_code = chosen.depth == 0 and chosen.path != "exact"
    reranked = chosen.depth if view.is_coded and chosen.path != "exact" else 0
    result = SearchResult(slots, distances, chosen.path, chosen.ef, 0, 0, reranked, is_by_code)
    query_address = queries.ctypes.data
    slots_address, distances_address = slots.ctypes.data, distances.ctypes.data
    if matching is None and chosen.path == "scan":
        matching = view.everything()
    totals = threading.Lock()
    last_resort = scan_plan(k, view.rerank, view.settled_depth if chosen.depth else 0)
    room = max(chosen.capacity, chosen.keep, chosen.depth, k)
    if chosen.path not in ("exact", "scan"):
        room = max(room, last_resort.depth)

    def piece(start: int, stop: int) -> None:
        scratch = view.scratches.take(view.n, room, k)
        at, way, among = start, chosen, matching
        while at < stop:
            status = _call_kernel(
                view,
                scratch,
                query_address + at * dim * 4,
                stop - at,
                k,
                way,
                among,
                slots_address + at * k * 8,
                distances_address + at * k * 4,
            )
            with totals:
                result.computed = (result.computed or 0) + int(scratch.block[layout.COUNT_DISTANCES])
                result.hops = (result.hops or 0) + int(scratch.block[layout.COUNT_HOPS])
            if status == 0:
                break
            failed = at + status // 4
            if status % 4 != _GAVE_UP:
                view.scratches.give(scratch)
                raise _query_error(status % 4 + 4 * failed)
            # This query's walk cost more than a scan of what matches, or could not see all of it.
            at, way, among = failed, last_resort, among or view.everything()
            result.path = f"{chosen.path}, then scan"
        view.scratches.give(scratch)

    run_range(piece, count, _QUERY_GRAIN)
    if chosen.path not in ("exact", "scan"):
        _complete(view, queries, k, matching, result)
    return result


def _complete(
    view: View,
    queries: NDArray[np.float32],
    k: int,
    matching: Matching | None,
    result: SearchResult,
) -> None:
    """Answer by a scan the queries whose walk found fewer than there are."""
    short = np.flatnonzero(result.slots[:, k - 1] < 0)
    if len(short) == 0:
        return
    again = _exhaustive_plan(view, k)
    rest = _run(view, np.ascontiguousarray(queries[short]), k, again, matching)
    result.slots[short], result.distances[short] = rest.slots, rest.distances
    if not result.path.endswith("scan"):
        result.path = f"{result.path}, then scan"


def _scan_one(
    view: View, query: NDArray[np.float32], k: int, matching: Matching | None
) -> tuple[list[int], list[float]] | None:
    """Answer one query of a small index without compiled code; None for a query that is not usable."""
    if not np.isfinite(query).all() or (view.metric.is_normalizing and not query.any()):
        return None
    chosen: NDArray[np.integer] | None = None if matching is None else matching.slots
    if chosen is None and view.live is not None:
        chosen = view.everything().slots
    slots, near = exact_scan.nearest(view.metric, query, *view.pieces(), k, chosen)
    distances: list[float] = near.tolist()
    return None if distances[-1] == math.inf else (slots.tolist(), distances)


def _scan_without_kernels(
    view: View, queries: NDArray[np.float32], k: int, matching: Matching | None
) -> SearchResult:
    chosen: NDArray[np.integer] | None = None if matching is None else matching.slots
    if chosen is None and view.live is not None:
        chosen = view.live_slots()
    slots = np.full((len(queries), k), -1, np.int64)
    distances = np.full((len(queries), k), np.inf, np.float32)
    pieces, norms = view.pieces()
    for i, query in enumerate(queries):
        _check_query(view, query, i)
        found, near = exact_scan.nearest(view.metric, query, pieces, norms, k, chosen)
        slots[i, : len(found)] = found
        distances[i, : len(found)] = near
    return SearchResult(slots, distances, "exact", computed=len(queries) * view.n, hops=0)


def _check_query(view: View, query: NDArray[np.float32], number: int) -> None:
    if not np.isfinite(query).all():
        raise _query_error(1 + 4 * number)
    if view.metric.is_normalizing and not query.any():
        raise _query_error(2 + 4 * number)


def _refuse_infinite(result: SearchResult) -> None:
    if np.isfinite(result.distances[:, -1]).all():  # the furthest of each query
        return
    bad = np.flatnonzero(((~np.isfinite(result.distances)) & (result.slots >= 0)).any(axis=1))
    if len(bad):
        raise VectorError(
            f"query {int(bad[0])}: a distance is beyond float32 (3.4e38): scale the vectors and the query down"
        )


def _query_error(status: int) -> VectorError:
    number, what = divmod(status, 4)
    if what == 1:
        return VectorError(f"query {number}: has NaN or infinite values; all must be finite")
    return VectorError(f"query {number}: is the zero vector, which has no direction under cosine")
