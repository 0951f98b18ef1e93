"""The handle users hold: takes input of any form, checks it, locks for writes, and asks the collection.

Reads take the collection's published view once and never lock. Writes run one at a time under the handle's
lock.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.binding import MAPS_BY_DEFAULT, Binding, Reader
from zeusdb_vs.checks import check_bool, check_int, check_str_list
from zeusdb_vs.coerce import as_one_query, read_queries
from zeusdb_vs.collection import Collection
from zeusdb_vs.documents import check_document, encode_checked
from zeusdb_vs.errors import (
    ArgumentTypeError,
    ClosedIndexError,
    ConfigurationError,
    ReadOnlyError,
    RecordNotFoundError,
    VectorError,
)
from zeusdb_vs.fields import FieldSummary, Selection
from zeusdb_vs.inputs import CheckedRows, admit_rows, check_rows, merge_rows, read_rows
from zeusdb_vs.quantization_config import QuantizationConfig, read_quantization
from zeusdb_vs.reading import (
    DEFAULT_PARTS,
    Hits,
    build_hits,
    check_max_distance,
    chosen_parts,
    count_in,
    explain_search,
    find_slot,
    found_slots,
    live_selection,
    matching_slots,
    selection_of,
    shortened,
    slot_of,
    slots_in,
    with_parts,
    without_slot,
)
from zeusdb_vs.reports import (
    benchmark_reads,
    html_table,
    info_line,
    memory_table,
    performance_notes,
    quantization_info,
    statistics,
    storage_state,
    training_needed,
    training_progress,
)
from zeusdb_vs.results import AddResult, ExplainedHits, IndexStats, ReadBenchmark
from zeusdb_vs.searching import search_many, search_one
from zeusdb_vs.snapshots import IndexState, save_snapshot, take_snapshot
from zeusdb_vs.upkeep import UNCHANGED, Unchanged
from zeusdb_vs.views import SearchResult, View

logger = logging.getLogger("zeusdb_vs")

StrList = list[str]
Listing = list[tuple[str, dict[str, Any]]]
Counts = list[tuple[Any, int]]
Summaries = list[FieldSummary]
FloatArray = NDArray[np.float32]

MAX_TOP_K_COLUMNS = 65_536
"""Width `search_arrays` pads to; a larger `top_k` gives as many columns as there are records."""

MAX_QUICK_TOP_K = 256
"""Hits up to which a search fits the working memory that is always at hand."""
_FLOAT32 = np.dtype(np.float32)

MAX_M = 256
MAX_EF_CONSTRUCTION = 4096
MAX_EXPECTED_SIZE = 1 << 40
"""A hint, so nothing is taken for it."""


class HNSWIndex:
    """An index of vectors with ids, metadata, text and payload. `VectorDatabase` makes and loads them.

    Any number of threads may use one index. A search never waits for a writer, and sees every record whose
    `add` returned before it began and none whose removal had returned. Writers run one at a time, in order.
    """

    __slots__ = (
        "__weakref__",
        "_binding",
        "_collection",
        "_finalizer",
        "_lock",
        "_read_only",
        "_saved_at",
        "_state",
    )

    def __init__(
        self, collection: Collection, state: IndexState, *, binding: Binding | Reader | None = None
    ) -> None:
        self._collection = collection
        self._state = state
        self._binding = binding
        # Why this handle may only read; None while it may write.
        self._read_only: str | None = None
        if isinstance(binding, Reader):
            self._read_only = f"{binding.directory} was opened read-only; open it without read_only to write"
        self._lock = threading.RLock()
        # A handle that nobody closes lets go of its directory when it goes, at the latest with the process.
        self._finalizer = weakref.finalize(self, binding.close) if isinstance(binding, Binding) else None
        # The directory that holds exactly this state, while there is one: what a pickle can name.
        self._saved_at: str | None = None
        _handles.add(self)

    # ------------------------------------------------------------------------------------------ properties

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._collection.config.dim

    @property
    def space(self) -> str:
        """``"cosine"``, ``"l2"``, ``"l1"`` or ``"dot"``."""
        return self._collection.config.space

    @property
    def m(self) -> int:
        """Neighbors a record is linked to on the upper levels; twice as many on the lowest."""
        return self._collection.config.m

    @property
    def ef_construction(self) -> int:
        """Candidates looked at when a record is linked."""
        return self._collection.config.ef_construction

    @property
    def expected_size(self) -> int:
        """Number of records the index was made for, a hint."""
        return self._collection.config.expected_size

    @property
    def indexed_fields(self) -> StrList:
        """Fields declared at creation. Filters need no declaration."""
        return list(self._state.indexed_fields)

    # ------------------------------------------------------------------------------------------ add

    def add(
        self,
        data: Any,
        overwrite: bool = True,
        *,
        on_error: Literal["collect", "raise"] = "collect",
        progress: Callable[[int], None] | None = None,
    ) -> AddResult:
        """Store records; one with an id that is there already is replaced as a whole.

        Parameters
        ----------
        data : dict, list, ndarray or iterator
            A record ``{"id", "vector" or "values", "metadata", "text", "payload"}``, all but the vector
            optional; a list of records; a dict of arrays ``{"ids", "vectors", "metadatas", "texts",
            "payloads"}``; a 1-D or 2-D array or a list of vectors; or a generator of records or vectors,
            consumed in chunks. Numbers may have any float or integer type and any layout. Missing ids are
            generated as ``vec_1``, ``vec_2``, ...
        overwrite : bool
            With False, a record whose id is in the index is refused.
        on_error : {"collect", "raise"}
            ``"collect"``: a record that cannot be stored is listed in `AddResult.errors` and the others go
            in. ``"raise"``: the first such record raises and nothing goes in.
        progress : callable, optional
            Called now and then with the number of records stored so far.

        Returns
        -------
        AddResult

        Raises
        ------
        ArgumentTypeError
            `data` is of no known form.
        RecordError
            Columns have unequal lengths or unknown names; with ``on_error="raise"`` any record's error.
        """
        check_bool(overwrite, "overwrite")
        if on_error not in ("collect", "raise"):
            raise ConfigurationError(f"on_error must be 'collect' or 'raise', got {on_error!r}")
        self._check_writable()
        forbid_zero = self.space == "cosine"
        chunks: Iterable[CheckedRows] = (
            check_rows(rows, dim=self.dim, forbid_zero=forbid_zero) for rows in read_rows(data)
        )
        if on_error == "raise":
            chunks = _whole_input(list(chunks))
        outcome = AddResult(0, 0, [], (0, self.dim), [])
        stored: dict[str, None] = {}
        for checked in chunks:
            self._add_chunk(checked, overwrite, on_error == "raise", stored, outcome, progress)
        outcome.ids = list(stored)
        outcome.total_inserted, outcome.total_errors = len(stored), len(outcome.errors)
        return outcome

    def _add_chunk(
        self,
        checked: CheckedRows,
        overwrite: bool,
        raise_first: bool,
        stored: dict[str, None],
        outcome: AddResult,
        progress: Callable[[int], None] | None,
    ) -> None:
        def is_taken(record_id: str) -> bool:
            return record_id not in stored and record_id in self

        def report(done: int) -> None:
            assert progress is not None
            progress(before + done)

        before = len(stored)
        with self._writing():
            batch, failures = admit_rows(
                checked, new_ids=self._new_ids, is_taken=None if overwrite else is_taken
            )
            if failures and raise_first:
                raise failures[0].exception()
            if len(batch):
                self._collection.add(batch, progress=None if progress is None else report)
        for record_id in batch.ids:
            # Stored again means stored last: a later chunk may replace what an earlier one brought.
            stored.pop(record_id, None)
        stored.update(dict.fromkeys(batch.ids))
        outcome.errors.extend(failure.entry() for failure in failures)
        outcome.vector_shape = (outcome.vector_shape[0] + checked.count, self.dim)

    def _new_ids(self, count: int, given: set[str]) -> StrList:
        """Return the next generated ids, without those that users have taken."""
        find = self._collection.view.find
        ids: StrList = []
        while len(ids) < count:
            first = self._state.generated_ids + 1
            self._state.generated_ids += count - len(ids)
            names = [f"vec_{number}" for number in range(first, self._state.generated_ids + 1)]
            ids += [name for name in names if find(name) < 0 and name not in given]
        return ids

    # ------------------------------------------------------------------------------------------ search

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
            metadata = records.metadata
            return [
                {"id": names[s], "score": d, "metadata": metadata(s)} for s, d in zip(*found, strict=True)
            ]
        if parts is DEFAULT_PARTS:
            return [{"id": names[s], "score": d, "metadata": {}} for s, d in zip(*found, strict=True)]
        return build_hits(view, *found, parts)

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

    # ------------------------------------------------------------------------------------------ read

    def get_records(
        self,
        ids: str | Iterable[str],
        return_vector: bool = True,
        strict: bool = False,
        *,
        include: Iterable[str] | None = None,
    ) -> Hits:
        """Return records by id, in the order asked for.

        Parameters
        ----------
        ids : str or iterable of str
        return_vector : bool
            Add each record's vector, as it was given to `add`, float32 (dim,).
        strict : bool
            Raise for ids that are not in the index instead of skipping them.
        include : iterable of {"metadata", "text", "payload", "vector"}, optional
            What records carry beside their id. Decides alone when given.

        Returns
        -------
        list of dict

        Raises
        ------
        RecordNotFoundError
            With `strict`, naming the missing ids.
        """
        parts = chosen_parts(include, return_vector and include is None)
        names = [ids] if isinstance(ids, str) else check_str_list(ids, "ids")
        view = self._collection.view
        pairs = [(name, view.find(name)) for name in names]
        if check_bool(strict, "strict"):
            missing = [name for name, slot in pairs if slot < 0]
            if missing:
                raise RecordNotFoundError(f"not in the index: {shortened(missing)}")
        records = [{"id": name} for name, slot in pairs if slot >= 0]
        return with_parts(view, records, [slot for _, slot in pairs if slot >= 0], parts)

    def contains(self, id: str) -> bool:
        """Return whether a record with this id is in the index."""
        return id in self

    def __contains__(self, id: object) -> bool:
        if not isinstance(id, str):
            raise ArgumentTypeError(f"ids are str, got {id!r} of type {type(id).__name__}")
        return self._collection.view.find(id) >= 0

    def __len__(self) -> int:
        return self._collection.view.live_count

    def get_vector_count(self) -> int:
        """Return the number of records."""
        return len(self)

    def count(self, filter: Any = None, *, strict: bool = False) -> int:
        """Return how many records match a filter; all of them without one. `strict` is that of `search`."""
        view = self._collection.view
        return count_in(view, selection_of(view, filter, strict=strict))

    def list(
        self,
        number: int = 10,
        offset: int = 0,
        after: str | None = None,
        *,
        filter: Any = None,
        strict: bool = False,
    ) -> Listing:
        """Return one page of (id, metadata), in the order in which records were added.

        An update of a record's metadata leaves its place; a record added again moves to the end.

        Parameters
        ----------
        number : int
            Length of the page.
        offset : int
            Records to skip.
        after : str, optional
            Id of the last record of the page before: unlike `offset` it does not shift when records are
            removed.
        filter : dict or filter object, optional
            List only records that match.
        strict : bool
            As for `search`.

        Raises
        ------
        RecordNotFoundError
            `after` is not in the index (any more).
        """
        size, skip = check_int(number, "number", 0), check_int(offset, "offset", 0)
        view = self._collection.view
        slots = slots_in(view, selection_of(view, filter, strict=strict))
        if after is not None:
            if skip:
                raise ConfigurationError("list takes offset or after, not both")
            slots = slots[np.searchsorted(slots, slot_of(view, after), side="right") :]
        page = slots[skip : skip + size].tolist()
        return [(view.id_of(slot), view.records.metadata(slot)) for slot in page]

    def distinct(self, field: str, *, filter: Any = None, strict: bool = False) -> Counts:
        """Return the values of a metadata field with how many records hold each.

        Parameters
        ----------
        field : str
            A key or dotted path. Arrays count by their elements; objects are left out.
        filter : dict or filter object, optional
            Count only records that match.
        strict : bool
            As for `search`.

        Returns
        -------
        list of (value, int)
            In ascending order within a type.
        """
        if not isinstance(field, str):
            raise ArgumentTypeError(f"field must be a str, got {field!r}")
        view = self._collection.view
        selection = live_selection(view, selection_of(view, filter, strict=strict))
        live = view.live if selection is None else selection.mask()
        return view.fields.distinct(field, view.n, None if live is None else live[: view.n])

    def fields(self) -> Summaries:
        """Return what filters can name: each field, how many records have it, and of which types."""
        view = self._collection.view
        return view.fields.fields(view.n, None if view.live is None else view.live[: view.n])

    # ------------------------------------------------------------------------------------------ change

    def update_metadata(
        self,
        id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        ids: str | Iterable[str] | None = None,
        where: Any = None,
        merge: bool = False,
        strict: bool = False,
    ) -> bool | int:
        """Replace the metadata of one record, of several, or of all that match a filter; the rest stays.

        Parameters
        ----------
        id : str, optional
            The record.
        metadata : dict
            The new metadata.
        ids : str or iterable of str, optional
            Instead of `id`: the records to change, all at once; ids that are not in the index are skipped.
        where : dict or filter object, optional
            Instead of `id`: the records to change; with `ids`, those of them that match.
        merge : bool
            Keep the keys that `metadata` does not have.
        strict : bool
            As for `search`.

        Returns
        -------
        bool or int
            For `id`: whether there is such a record. For `ids` and `where`: how many records were changed.
        """
        document = check_document(metadata, what="metadata")  # type: ignore[arg-type]
        check_bool(merge, "merge")
        if (id is None) == (where is None and ids is None):
            raise ArgumentTypeError(
                "update_metadata takes the id of a record, or ids= or where= or both of these"
            )
        names = None if ids is None else [ids] if isinstance(ids, str) else check_str_list(ids, "ids")
        with self._writing() as view:
            if id is not None:
                slots = [slot] if (slot := find_slot(view, id)) >= 0 else []
            elif names is None:
                slots = matching_slots(view, where, strict=strict).tolist()
            else:
                slots = found_slots(view, names)
                if where is not None:
                    matching = set(matching_slots(view, where, strict=strict).tolist())
                    slots = [slot for slot in slots if slot in matching]
            old = view.records.metadata
            new = [{**old(slot), **document} if merge else document for slot in slots]
            self._replace_metadata(view, slots, new)
        return bool(slots) if id is not None else len(slots)

    def update_payload(self, ids: str | Iterable[str], patch: Mapping[str, Any]) -> int:
        """Set keys of the payload of some records; their other keys stay.

        Parameters
        ----------
        ids : str or iterable of str
            Ids that are not in the index are skipped.
        patch : dict
            The keys to set.

        Returns
        -------
        int
            Records changed.
        """
        document = check_document(patch, what="payload")
        names = [ids] if isinstance(ids, str) else check_str_list(ids, "ids")
        with self._writing() as view:
            slots = found_slots(view, names)
            new = [{**(view.records.payload(slot) or {}), **document} for slot in slots]
            self._replace_payload(view, slots, new)
        return len(slots)

    def remove_point(self, id: str) -> bool:
        """Remove a record; return whether it was there."""
        with self._writing() as view:
            slot = find_slot(view, id)
            if slot >= 0:
                self._collection.remove(np.array([slot], np.int64))
        return slot >= 0

    def remove_points(self, ids: Iterable[str]) -> StrList:
        """Remove records; return the ids that were not in the index."""
        names = list(dict.fromkeys(check_str_list(ids, "ids")))
        with self._writing() as view:
            slots = [view.find(name) for name in names]
            found = np.array([slot for slot in slots if slot >= 0], np.int64)
            if len(found):
                self._collection.remove(found)
        return [name for name, slot in zip(names, slots, strict=True) if slot < 0]

    def remove_where(self, filter: Any, *, strict: bool = False) -> int:
        """Remove the records that match a filter, which must not be empty; return how many."""
        return self.delete(where=filter, strict=strict)

    def delete(
        self, ids: str | Iterable[str] | None = None, where: Any = None, *, strict: bool = False
    ) -> int:
        """Remove records by id, by filter, or those among the ids that match the filter.

        Returns
        -------
        int
            Records removed.

        Raises
        ------
        ConfigurationError
            Neither is given; `clear` empties the index.
        FilterError
            `where` is empty.
        """
        if ids is None and where is None:
            raise ConfigurationError("delete needs ids= or where=; clear() empties the index")
        names = None if ids is None else [ids] if isinstance(ids, str) else check_str_list(ids, "ids")
        with self._writing() as view:
            if names is None:
                slots = matching_slots(view, where, strict=strict)
            else:
                slots = np.array(found_slots(view, names), np.int64)
                if where is not None:
                    slots = np.intersect1d(slots, matching_slots(view, where, strict=strict))
            if len(slots):
                self._collection.remove(slots)
        return len(slots)

    def clear(self) -> int:
        """Remove every record; return how many there were."""
        with self._writing():
            return self._collection.clear()

    def compact(self) -> int:
        """Rebuild without the places of removed records; return how many were reclaimed."""
        with self._writing():
            return self._collection.compact()

    def rebuild(
        self,
        *,
        m: int | None = None,
        ef_construction: int | None = None,
        expected_size: int | None = None,
        quantization_config: Mapping[str, Any] | Unchanged | None = UNCHANGED,
    ) -> int:
        """Build the graph anew with other parameters; return how many records it holds.

        Parameters
        ----------
        m, ef_construction, expected_size : int, optional
            As for `VectorDatabase.create`; what is not given stays.
        quantization_config : dict or None, optional
            Quantize the vectors in this way from now on, once there are enough of them, or, with None, no more.
            Not given, the present way stays.

        Raises
        ------
        ConfigurationError
            No parameter is given, or one is out of range; or the vectors, to be quantized otherwise, were
            dropped when they were quantized.
        """
        is_given = not (m is None and ef_construction is None and expected_size is None)
        if not is_given and isinstance(quantization_config, Unchanged):
            raise ConfigurationError(
                "rebuild changes m, ef_construction, expected_size or quantization_config: pass at least one; "
                "compact() rebuilds with the present ones"
            )
        checked = check_build_options(m, ef_construction, expected_size)
        quantization: QuantizationConfig | Unchanged | None = UNCHANGED
        if quantization_config is None:
            quantization = None
        elif not isinstance(quantization_config, Unchanged):
            quantization = read_quantization(quantization_config, self.dim, self.space)
        with self._writing():
            return self._collection.rebuild(**checked, quantization=quantization)

    def shrink_to_fit(self) -> int:
        """Give back memory that is reserved and unused; return how many bytes."""
        with self._writing():
            return self._collection.shrink_to_fit()

    # ------------------------------------------------------------------------------------------ save

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write the index to a directory, wholly or not at all.

        Parameters
        ----------
        path : str or path-like, optional
            A new path, an empty directory, or an index of ours, which is replaced. Anything else is left
            alone. The index is not bound to it: `VectorDatabase.open` binds. Without it, the directory the
            index was opened from, whose journal begins anew (a checkpoint).

        Raises
        ------
        ArgumentTypeError
            There is no path, and the index has no directory of its own.
        StorageError
            Of the class that says what stands in the way; what was saved before is untouched.
        """
        binding = self._binding
        if path is None or (isinstance(binding, Binding) and binding.is_at(path)):
            self._checkpoint()
        else:
            self.snapshot(path)

    def snapshot(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the index as it is now to another directory, while searches and writes go on.

        Parameters
        ----------
        path : str or path-like
            As for `save`.

        Raises
        ------
        StorageError
            As for `save`.
        """
        with self._lock:
            # One moment is taken under the lock; it is written while searches and writers go on.
            snapshot, version = take_snapshot(self._collection, self._state), self._collection.view.version
        created_at = save_snapshot(path, snapshot)
        with self._lock:
            if self._binding is None:
                self._state.created_at = created_at
            if self._collection.view.version == version:
                self._saved_at = os.path.realpath(path)
        logger.info("saved %d records to %s", snapshot.counts["records"], path)

    def _checkpoint(self) -> None:
        self._check_writable()
        if not isinstance(self._binding, Binding):
            raise ArgumentTypeError(
                "save needs a path: this index is not bound to a directory; VectorDatabase().open(path) binds"
            )
        self._binding.checkpoint(self._lock)

    def flush(self) -> None:
        """Force every change so far to disk, whatever the durability; nothing to do for an index in memory.

        Raises
        ------
        StorageError
            The system could not, and the handle can only be read from now on.
        """
        self._collection.view  # noqa: B018  raises where the handle is closed
        if isinstance(self._binding, Binding):
            self._binding.flush()

    def reload(self) -> bool:
        """Take in what another process has written since, on a handle opened read-only.

        Returns
        -------
        bool
            Whether there was anything. Searches under way finish on what they began with.

        Raises
        ------
        ConfigurationError
            The handle was not opened read-only.
        StorageError
            As for `VectorDatabase.open`; the handle goes on with what it had.
        """
        binding = self._binding
        self._collection.view  # noqa: B018
        if not isinstance(binding, Reader):
            raise ConfigurationError("reload is for indexes opened with read_only=True; this one is not")
        with self._lock:
            is_new = binding.reload()
            self._collection, self._state = binding.collection, binding.state
        return is_new

    def close(self) -> None:
        """Force all changes to disk, let go of the directory and of all memory; nothing the second time.

        Every later call raises ClosedIndexError.

        Raises
        ------
        StorageError
            The last changes could not be forced to disk. The handle is closed all the same.
        """
        with self._lock:
            closed = cast("Any", _CLOSED)
            self._collection = self._state = closed
            self._saved_at = None
        # Not under the lock: a checkpoint that is under way wants it.
        if isinstance(self._binding, Binding):
            self._binding.close()
        if self._finalizer is not None:
            self._finalizer.detach()

    def __enter__(self) -> HNSWIndex:
        self._collection.view  # noqa: B018
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> str | None:
        """Directory the index was opened from, None for an index in memory."""
        return None if self._binding is None else str(self._binding.directory)

    @property
    def read_only(self) -> bool:
        """Whether this handle can only be read."""
        return self._read_only is not None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._binding is not None:
            self._collection.view  # noqa: B018
            return _reopen_directory, (str(self._binding.directory),)
        if self._saved_at is None:
            raise ArgumentTypeError(
                "this index lives in memory, or has changed since it was saved, and is not pickled: "
                "save(path) it, then pickle it, or load the path in the other process"
            )
        return _reopen, (self._saved_at,)

    # ------------------------------------------------------------------------------------------ itself

    def add_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Set keys of the metadata of the index itself; values are what a record's metadata may hold."""
        document = check_document(metadata, what="index metadata")
        with self._writing():
            merged = {**self._state.metadata, **document}
            text = encode_checked(merged, what="index metadata")
            self._state.metadata = merged
            if isinstance(self._binding, Binding):
                self._binding.record_index_metadata(text)

    def get_metadata(self, key: str) -> Any:
        """Return one value of the index's own metadata, None when there is no such key."""
        return self.get_all_metadata().get(key)

    def get_all_metadata(self) -> dict[str, Any]:
        """Return a copy of the index's own metadata."""
        return check_document(self._state.metadata, what="index metadata")

    def info(self) -> str:
        """Return the index in one line."""
        return info_line(self._collection)

    def __repr__(self) -> str:
        return "HNSWIndex (closed)" if self._collection is cast("Any", _CLOSED) else self.info()

    def _repr_html_(self) -> str:
        return html_table(self._collection)

    def get_stats(self) -> IndexStats:
        """Return figures of the index; sizes in bytes."""
        return statistics(self._collection)

    def memory(self) -> dict[str, int]:
        """Return the bytes each part holds, and their sum under ``"total"``."""
        return memory_table(self._collection)

    def get_performance_info(self) -> dict[str, Any]:
        """Return what limits searches and adds."""
        return performance_notes()

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

    # ------------------------------------------------------------------------------------------ quantization

    @property
    def quantization(self) -> QuantizationConfig | None:
        """How vectors are quantized once there are enough of them; None: not at all."""
        return self._collection.config.quantization

    def has_quantization(self) -> bool:
        """Return whether vectors are quantized, now or once there are enough of them."""
        return self.quantization is not None

    def is_quantized(self) -> bool:
        """Return whether the quantizer is trained and searches use its codes."""
        return self._collection.is_quantized

    def can_use_quantization(self) -> bool:
        """Return whether the quantizer is trained; the same as `is_quantized`."""
        return self.is_quantized()

    def is_training_ready(self) -> bool:
        """Return whether enough vectors are there, or were, to train the quantizer."""
        return self.has_quantization() and self.training_vectors_needed() == 0

    def training_vectors_needed(self) -> int:
        """Return how many more vectors training needs; 0 without quantization."""
        return training_needed(self._collection)

    def get_training_progress(self) -> float:
        """Return how much of what training needs is there, 0..100; 0 without quantization."""
        return training_progress(self._collection)

    def get_storage_mode(self) -> str:
        """Return how vectors are kept now.

        Returns
        -------
        str
            ``"raw_only"``, ``"raw_collecting_for_training"`` or ``"quantized_active"``.
        """
        return storage_state(self._collection)

    def get_quantization_info(self) -> dict[str, Any] | None:
        """Return the quantizer's options and figures, None without one.

        Returns
        -------
        dict or None
            The options of `VectorDatabase.create`, ``is_trained``, ``compression_ratio`` (float32 over code),
            ``code_bytes`` of a record, ``memory_mb`` of the quantizer itself, ``total_centroids`` of "pq", and once
            trained ``codes``, ``rerank`` (candidates reranked for 10 hits), ``kept_neighbors`` (the share of true
            neighbors that these kept when it was trained) and ``training_seconds``, both None after a load.
        """
        return quantization_info(self._collection)

    def rebuild_with_quantization(self) -> bool:
        """Build the graph of a quantized index anew; return whether it was, False where no quantizer is trained."""
        if not self.is_quantized():
            return False
        self.rebuild(m=self.m)
        return True

    # ------------------------------------------------------------------------------------------ inside

    def _check_writable(self) -> None:
        self._collection.view  # noqa: B018  raises where the handle is closed
        if self._read_only is not None:
            raise ReadOnlyError(self._read_only)

    @contextmanager
    def _writing(self) -> Iterator[View]:
        """Hold the writer's lock; yield the view the change starts from.

        Of an index bound to a directory, the change is as durable as was asked for when this is left. The
        wait for that comes after the lock is let go, so that threads wait for the disk together.
        """
        self._check_writable()
        binding = self._binding
        if not isinstance(binding, Binding):
            with self._lock:
                self._saved_at = None
                yield self._collection.view
            return
        self._lock.acquire()
        try:
            while not binding.begin():
                # An earlier change was broken off: store the index as it is before it changes further.
                self._lock.release()
                try:
                    binding.checkpoint(self._lock)
                finally:
                    self._lock.acquire()
            self._saved_at = None
            yield self._collection.view
            ticket = binding.ticket()
        finally:
            self._lock.release()
        binding.settle(ticket, self._lock)

    def _replace_metadata(self, view: View, slots: Sequence[int], new: Sequence[dict[str, Any]]) -> None:
        if slots:
            payloads = [view.records.payload(slot) for slot in slots]
            self._collection.update(
                np.array(slots, np.int64),
                metadata=[
                    encode_checked(document, what="metadata") if document else None for document in new
                ],
                new=list(zip(new, payloads, strict=True)),
            )

    def _replace_payload(self, view: View, slots: Sequence[int], new: Sequence[dict[str, Any]]) -> None:
        if slots:
            metadata = [view.records.metadata(slot) for slot in slots]
            self._collection.update(
                np.array(slots, np.int64),
                payload=[encode_checked(document, what="payload") for document in new],
                new=list(zip(metadata, new, strict=True)),
            )


# ---------------------------------------------------------------------------------------------- helpers


class _Closed:
    """Stands in for what a closed handle has let go of."""

    def __getattr__(self, name: str) -> Any:
        raise ClosedIndexError("this index is closed; open it again with VectorDatabase().open or load")


_CLOSED = _Closed()
_handles: weakref.WeakSet[HNSWIndex] = weakref.WeakSet()


def _renew_locks_after_fork() -> None:
    for index in list(_handles):
        if index._lock.acquire(blocking=False):
            index._lock.release()
            continue
        # A thread that does not exist here was writing: what it left half-way is not on view, and stays so.
        index._lock = threading.RLock()
        index._read_only = (
            "this process was forked while the index was being written: here it can only be read"
        )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks_after_fork)


def _reopen(path: str) -> HNSWIndex:
    """Load what a pickle names; a copy in another process may only read."""
    index = load_index(path)
    index._read_only = (
        "this handle may only read: it came out of a pickle; load or open the directory to write"
    )
    return index


def _reopen_directory(path: str) -> HNSWIndex:
    """Open the directory that a pickle names, for reading."""
    reader = Reader(path, mmap=True, verify=True)
    return HNSWIndex(reader.collection, reader.state, binding=reader)


def load_index(path: str | os.PathLike[str]) -> HNSWIndex:
    """Return the index saved in a directory; what `VectorDatabase.load` does."""
    reader = Reader(path, mmap=False, verify=True, maps_originals=MAPS_BY_DEFAULT)
    index = HNSWIndex(reader.collection, reader.state)
    index._saved_at = os.path.realpath(path)
    return index


def check_build_options(
    m: int | None, ef_construction: int | None, expected_size: int | None
) -> dict[str, int]:
    """Return those of the graph's options that are given, checked."""
    options = {}
    if m is not None:
        options["m"] = check_int(m, "m", 2, MAX_M)
    if ef_construction is not None:
        options["ef_construction"] = check_int(ef_construction, "ef_construction", 1, MAX_EF_CONSTRUCTION)
    if expected_size is not None:
        options["expected_size"] = check_int(expected_size, "expected_size", 1, MAX_EXPECTED_SIZE)
    return options


def _whole_input(parts: Sequence[CheckedRows]) -> Sequence[CheckedRows]:
    """Return the parts of an input as one, or raise the first record that cannot be stored."""
    for part in parts:
        if part.failures:
            raise part.failures[0].exception()
    return [merge_rows(parts)] if parts else []


def _rows(result: SearchResult | None) -> Iterator[tuple[list[int], list[float]]]:
    """Yield slots and distances of each query."""
    if result is not None:
        yield from zip(result.slots.tolist(), result.distances.tolist(), strict=True)
