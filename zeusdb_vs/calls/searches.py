"""The nearest records: `search` and `search_arrays`, and a benchmark of them.

The usual search takes some 20 us, half of it the walk: `_search_quickly` answers it, all else goes through `_search`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.calls.handle import Handle
from zeusdb_vs.checks import check_bool, check_int
from zeusdb_vs.coerce import as_one_query, read_queries
from zeusdb_vs.errors import ArgumentTypeError, VectorError
from zeusdb_vs.filtering.views import Selection
from zeusdb_vs.reading import (
    DEFAULT_PARTS,
    Hits,
    build_hits,
    check_max_distance,
    chosen_parts,
    explain_search,
    selection_of,
    slot_of,
    without_slot,
)
from zeusdb_vs.reports import benchmark_reads
from zeusdb_vs.results import ExplainedHits, ReadBenchmark
from zeusdb_vs.searching import search_many, search_one
from zeusdb_vs.views import SearchResult, View

FloatArray = NDArray[np.float32]

MAX_TOP_K_COLUMNS = 65_536
"""Width `search_arrays` pads to; a larger `top_k` gives as many columns as there are records."""
MAX_QUICK_TOP_K = 256
"""Hits up to which a search fits the working memory that is always at hand."""
_FLOAT32 = np.dtype(np.float32)


class SearchCalls(Handle):
    """The calls of `HNSWIndex` that search."""

    __slots__ = ()

    def search(
        self,
        vector: Any = None,
        filter: Any = None,
        top_k: int = 10,
        ef_search: int | None = None,
        return_vector: bool = False,
        rerank: int | None = None,
        *,
        include: Iterable[str] | None = None,
        max_distance: float | None = None,
        exact: bool = False,
        explain: bool = False,
        id: str | None = None,
        ids: Iterable[str] | None = None,
        strict: bool = False,
    ) -> list[Any]:
        """Find the records nearest to one vector or to each of several.

        Parameters
        ----------
        vector : array_like, shape (dim,) or (q, dim)
            The query or queries; any float or integer type.
        filter : dict or filter object, optional
            Only records that match are ranked.
        top_k : int
            Hits wanted; there are always ``min(top_k, matching records)``. 0 gives none.
        ef_search : int, optional
            Width of the walk through the graph: more finds more of the true nearest and takes longer.
            Chosen from `top_k` by default.
        return_vector : bool
            Add each hit's vector, as it was given to `add`.
        rerank : int, optional
            On a quantized index: candidates rescored for each hit, 0 for none (scores are then estimated from
            codes). By default as many as training found that recall takes. Without effect on others.
        include : iterable of {"metadata", "text", "payload", "vector"}, optional
            What hits carry beside id and score; the metadata by default.
        max_distance : float, optional
            Leave out records farther than this.
        exact : bool
            Compare with every matching record.
        explain : bool
            Return lists that carry an `explanation`.
        id : str, optional
            Instead of `vector`: search with the vector of this record, which is itself left out.
        ids : iterable of str, optional
            Rank only these records; unknown ids are skipped.
        strict : bool
            Raise where the filter asks for an order between values of types that do not compare, which
            otherwise simply do not match.

        Returns
        -------
        list of dict, or list of list of dict
            For one query its hits, nearest first; for several a list of hits for each. A hit has ``id``,
            ``score`` (the distance: smaller is nearer) and what `include` names. Metadata is a fresh copy.

        Raises
        ------
        VectorError, DimensionError
            A query cannot be used, or a distance is not finite.
        FilterError
            The filter cannot be understood, or `strict` refuses it.
        RecordNotFoundError
            There is no record `id`.
        """
        if (
            (max_distance is None and id is None and ids is None)
            and (exact is False and explain is False and strict is False)
            and type(top_k) is int
            and (rerank is None or (type(rerank) is int and rerank >= 0))
            and (ef_search is None or type(ef_search) is int)
        ):
            usual = type(vector) is np.ndarray and vector.dtype == _FLOAT32
            query = vector if usual else as_one_query(vector)
            parts = chosen_parts(include, return_vector)
            quick = (
                None
                if query is None
                else self._search_quickly(query, filter, top_k, ef_search, rerank, parts)
            )
            if quick is not None:
                return quick
        view = self._collection.view
        began = time.perf_counter()
        parts = chosen_parts(include, return_vector)
        k = check_int(top_k, "top_k", 0)
        check_bool(explain, "explain")
        queries, many, itself = self._queries(view, vector, id)
        selection = selection_of(view, filter, ids, strict=strict)
        masked = time.perf_counter()
        # One more than asked for where the record itself will be among them and is to be dropped.
        wanted = min(k, view.live_count) + (k > 0 and itself >= 0)
        result = self._search(view, queries, wanted, selection, ef_search, max_distance, exact, rerank)
        answers: list[Hits] = [[] for _ in queries]
        for row, (slots, distances) in enumerate(_rows(result)):
            if itself >= 0:
                without_slot(slots, distances, itself, k)
            answers[row] = build_hits(view, slots, distances, parts)
        found = answers if many else answers[0]
        if not explain:
            return found
        explanation = explain_search(
            result,
            view,
            selection=selection,
            top_k=k,
            filter=filter,
            mask_s=masked - began,
            search_s=time.perf_counter() - masked,
        )
        return ExplainedHits(found, explanation)

    def _search_quickly(
        self,
        vector: FloatArray,
        filter: Any,
        k: int,
        ef: int | None,
        rerank: int | None,
        parts: frozenset[str],
    ) -> Hits | None:
        """Answer the usual search, one query and at most a filter; None for any other and for faults.

        At recall .90 the walk takes some 10 us, so each microsecond around it counts.
        """
        view = self._collection.view
        if vector.shape != view.shape or not 0 < k <= MAX_QUICK_TOP_K or (ef is not None and ef < 1):
            return None
        selection = None if filter is None else selection_of(view, filter)
        found = search_one(view, vector, k, ef, selection, rerank)
        if found is None or not found[0]:
            # Where there is nothing to find, the query has not been looked at either.
            return None
        names, records = view.names, view.records
        if parts is DEFAULT_PARTS and records.has_metadata:
            slots, distances = found
            rows = zip(slots, distances, records.metadata_of(slots), strict=True)
            return [{"id": names[s], "score": d, "metadata": m} for s, d, m in rows]
        if parts is DEFAULT_PARTS:
            return [{"id": names[s], "score": d, "metadata": {}} for s, d in zip(*found, strict=True)]
        return build_hits(view, *found, parts)

    def search_arrays(
        self,
        queries: Any,
        top_k: int = 10,
        *,
        filter: Any = None,
        ef_search: int | None = None,
        max_distance: float | None = None,
        exact: bool = False,
        ids: Iterable[str] | None = None,
        strict: bool = False,
        rerank: int | None = None,
    ) -> tuple[NDArray[np.object_], FloatArray]:
        """Find the records nearest to each query, as arrays.

        Parameters
        ----------
        queries : array_like, shape (q, dim) or (dim,)
            One query counts as a batch of one.
        top_k, filter, ef_search, max_distance, exact, ids, strict, rerank
            As for `search`.

        Returns
        -------
        ids : ndarray of object, shape (q, top_k)
            Ids nearest first, None where there are no more.
        distances : ndarray of float32, shape (q, top_k)
            Their distances, inf where there are no more.
        """
        view = self._collection.view
        k = check_int(top_k, "top_k", 0)
        rows, _ = self._read_queries(queries)
        selection = None if filter is None and ids is None else selection_of(view, filter, ids, strict=strict)
        columns = min(k, max(view.live_count, MAX_TOP_K_COLUMNS))
        if (
            (len(rows) == 1 and 0 < k <= MAX_QUICK_TOP_K)
            and (max_distance is None and rerank is None)
            and exact is False
        ):
            ef = None if ef_search is None else check_int(ef_search, "ef_search", 1)
            quick = search_one(view, rows[0], k, ef, selection)
            if quick is not None and len(quick[0]) == k:
                ids_found: NDArray[Any] = np.empty((1, k), dtype=object)
                ids_found[0] = [view.names[slot] for slot in quick[0]]
                return ids_found, np.array(quick[1], np.float32)[np.newaxis]
        result = self._search(
            view, rows, min(k, view.live_count), selection, ef_search, max_distance, exact, rerank
        )
        if result is None:
            result = SearchResult(
                np.empty((len(rows), 0), np.int64), np.empty((len(rows), 0), np.float32), ""
            )
        names = [None if slot < 0 else view.names[slot] for slot in result.slots.ravel().tolist()]
        width = result.slots.shape[1]
        found: NDArray[Any] = np.empty(len(names), dtype=object)
        found[:] = names
        found, distances = found.reshape(len(rows), width), result.distances
        if width < columns:
            padding = ((0, 0), (0, columns - width))
            found = np.pad(found, padding, constant_values=cast("Any", None))
            distances = np.pad(distances, padding, constant_values=np.inf)
        return found, distances

    def _queries(self, view: View, vector: Any, id: str | None) -> tuple[FloatArray, bool, int]:
        """Return the queries, whether they are several, and the slot of the record they come from or -1."""
        if id is None:
            return *self._read_queries(vector), -1
        if vector is not None:
            raise ArgumentTypeError("search takes a vector or the id of a record, not both")
        slot = slot_of(view, id)
        return view.vector(slot)[np.newaxis], False, slot

    def _read_queries(self, value: Any) -> tuple[FloatArray, bool]:
        """Return float32 rows and whether several were asked; kernels check the values of plain arrays."""
        if (
            type(value) is np.ndarray
            and value.dtype == _FLOAT32
            and value.ndim in (1, 2)
            and value.shape[-1] == self.dim
            and value.flags.c_contiguous
        ):
            return (value, True) if value.ndim == 2 else (value[np.newaxis], False)
        return read_queries(value, dim=self.dim, forbid_zero=self.space == "cosine")

    def _search(
        self,
        view: View,
        queries: FloatArray,
        k: int,
        selection: Selection | None,
        ef_search: int | None,
        max_distance: float | None,
        exact: bool,
        rerank: int | None,
    ) -> SearchResult | None:
        """Check the options that go to the collection and ask it; None when there is nothing to ask."""
        fetch = None if rerank is None else check_int(rerank, "rerank", 0)
        ef = None if ef_search is None else check_int(ef_search, "ef_search", 1)
        limit = None if max_distance is None else check_max_distance(max_distance)
        check_bool(exact, "exact")
        if k == 0 or view.live_count == 0 or len(queries) == 0:
            # No kernel will look at the queries, so this does.
            read_queries(queries, dim=self.dim, forbid_zero=self.space == "cosine")
            return None
        try:
            return search_many(
                view,
                queries,
                k,
                ef=ef,
                selection=selection,
                exact=exact,
                max_distance=limit,
                rerank=fetch,
            )
        except VectorError:
            # Which value is at fault: looked up only when one is.
            read_queries(queries, dim=self.dim, forbid_zero=self.space == "cosine")
            raise

    def benchmark_concurrent_reads(self, query_count: int = 1000, max_threads: int = 4) -> ReadBenchmark:
        """Time searches for stored vectors, one after another and on several threads.

        Parameters
        ----------
        query_count : int
            Searches, from 1.
        max_threads : int
            Threads of the second run, 1..256.
        """
        check_int(query_count, "query_count", 1)
        check_int(max_threads, "max_threads", 1, 256)
        view = self._collection.view
        slots = view.live_slots()
        chosen = (
            slots[np.linspace(0, len(slots) - 1, min(len(slots), 256)).astype(np.int64)]
            if len(slots)
            else slots
        )
        queries = [view.vector(slot) for slot in chosen.tolist()] or [np.ones(self.dim, np.float32)]
        return benchmark_reads(
            lambda number: self.search(queries[number % len(queries)]), query_count, max_threads
        )


def _rows(result: SearchResult | None) -> Iterator[tuple[list[int], list[float]]]:
    """Yield slots and distances of each query."""
    if result is not None:
        yield from zip(result.slots.tolist(), result.distances.tolist(), strict=True)
