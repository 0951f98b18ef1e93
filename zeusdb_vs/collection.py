"""One whole of all parts: writes keep them in step, and publish the record that readers take.

The caller lets one writer in at a time. A reader takes `collection.view` once and needs no lock: what a view shows is
never changed, only followed by another view.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs import exact as exact_scan
from zeusdb_vs.arrays import checked_number
from zeusdb_vs.calibration import Calibration
from zeusdb_vs.errors import ConfigurationError, CorruptIndexError, VectorError
from zeusdb_vs.fields import FieldIndexes, FieldsView, Selection
from zeusdb_vs.graph import HNSWGraph
from zeusdb_vs.ids import Ids
from zeusdb_vs.inputs import RecordBatch
from zeusdb_vs.kernels import layout
from zeusdb_vs.metrics import METRICS
from zeusdb_vs.planner import Plan, exact_plan, plan, scan_plan
from zeusdb_vs.quantization_config import QuantizationConfig
from zeusdb_vs.records import Records, RecordsView
from zeusdb_vs.scratch import Scratch, ScratchPool
from zeusdb_vs.threads import run_range
from zeusdb_vs.vectors import Vectors

logger = logging.getLogger("zeusdb_vs")

SMALLEST_GRAPH = 4096
"""Below this many slots every search is an exact scan: no graph, no codes, nothing to compile."""
_RECALIBRATION_GROWTH = 3
"""Codes are chosen again when the index has grown by this many times what it was when they were chosen."""
_MISFITS_LEAST, _MISFITS_SHARE = 64, 0.01
"""And when more slots than these, beyond the usual, have values far outside the range of the codes."""
_COMPACT_SHARE = 0.25
_COMPACT_LEAST = 1024
_QUERY_GRAIN = 8
_GAVE_UP = 3
_REMEMBERED = 64
_REMEMBERED_BYTES = 32 << 20
"""Filters whose matching slots a view remembers: so many, or as many as this holds, four at least."""

IS_TRAINED = "is_trained"


class Unchanged:
    """Stands for an option that is not given where None is a value."""


UNCHANGED = Unchanged()

_TRAINING_REPORTS = 4
_SCAFFOLD_SHARE = 200
"""Adds of more than one in so many slots are worth coding all anew for the time they are linked."""

Document = tuple[dict[str, Any] | None, dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class CollectionConfig:
    """What an index is created with.

    Attributes
    ----------
    dim : width of a vector, 1 .. 65,536
    space : "cosine", "l2", "l1" or "dot"
    m, ef_construction : as in the HNSW paper
    expected_size : records expected, a hint
    seed : of the levels, and of training
    quantization : how vectors are quantized once there are enough; None: not at all
    """

    dim: int
    space: str
    m: int = 16
    ef_construction: int = 200
    expected_size: int = 10_000
    seed: int = 0
    quantization: QuantizationConfig | None = None


@dataclass(slots=True)
class SearchResult:
    """Slots and distances of the nearest, and how they were found.

    Attributes
    ----------
    slots : int64 (q, k), padded with -1
    distances : float32 (q, k), padded with inf
    path : "empty", or the plan's; with ", then scan" where the walk of a query gave up or found too few
    ef : pool of the walk
    computed : distances computed for the queries together, where kernels count them
    hops : rows of the graph read, likewise
    reranked : candidates of a query that are reranked, at first
    is_by_code : whether distances are those by code
    """

    slots: NDArray[np.int64]
    distances: NDArray[np.float32]
    path: str
    ef: int = 0
    computed: int | None = None
    hops: int | None = None
    reranked: int = 0
    is_by_code: bool = False


class Matching:
    """The live slots that a search may return, in the forms that kernels want.

    Attributes
    ----------
    slots : int32 (count,), ascending
    count : how many
    """

    __slots__ = ("_masks", "_n", "count", "slots", "slots_address")

    def __init__(self, slots: NDArray[np.integer], n: int) -> None:
        self.slots: NDArray[np.int32] = np.ascontiguousarray(slots, np.int32)
        self.slots_address = int(self.slots.ctypes.data)
        self.count = len(self.slots)
        self._n = n
        self._masks: list[NDArray[np.bool_]] = []

    def mask_address(self) -> int:
        """Return the address of a byte per slot, 1 where it may be returned; the mask is made once."""
        if not self._masks:
            mask = np.zeros(self._n, np.bool_)
            mask[self.slots] = True
            # Threads may make one each: all use the first to be appended, and none goes while a kernel reads it.
            self._masks.append(mask)
        return int(self._masks[0].ctypes.data)


class View:
    """What readers see: the index as it was at one moment.

    Attributes
    ----------
    n : slots
    live_count : live ones
    live : bool (>= n,), False for removed slots; None while there are none among the first n
    records, fields : their views
    version : grows with every publication
    ix : descriptor for kernels
    is_linked : whether there is a graph
    is_coded : whether walks go on codes apart from the originals
    is_quantized : whether the codes are those of a trained quantizer
    rerank : how many of the nearest by code are reranked for 10 neighbours
    settled_depth : 0 where distances by code are all there is, None elsewhere
    has_exact_scores : whether the vectors are there as they were given
    codes, kept : what walks compare, and the share of neighbours it kept when it was chosen; see `Calibration`
    names : id of every slot
    plans : plans made for this view, by k, ef, number of matches, whether there is a filter, and settled depth
    """

    __slots__ = (
        "_everything",
        "_held",
        "_ids",
        "_matching",
        "_pieces",
        "_vectors",
        "codes",
        "fields",
        "has_exact_scores",
        "is_coded",
        "is_linked",
        "is_quantized",
        "ix",
        "kept",
        "live",
        "live_address",
        "live_count",
        "n",
        "names",
        "plans",
        "records",
        "rerank",
        "scan_bytes",
        "scratches",
        "settled_depth",
        "version",
    )

    def __init__(
        self,
        *,
        n: int,
        version: int,
        ids: Ids,
        vectors: Vectors,
        graph: HNSWGraph | None,
        ix: NDArray[np.int64],
        scratches: ScratchPool,
        records: RecordsView,
        fields: FieldsView,
        calibration: Calibration | None,
    ) -> None:
        self.n = n
        self.version = version
        self.live_count = ids.live_count
        self.live = ids.live if ids.live_count < n else None
        self.live_address = 0 if self.live is None else int(self.live.ctypes.data)
        self.names = ids.names
        self.ix = ix
        self.is_linked = graph is not None
        self.is_coded = vectors.is_coded
        self.is_quantized = vectors.is_quantized
        self.has_exact_scores = vectors.keeps_originals
        self.rerank = vectors.rerank
        self.settled_depth = 0 if vectors.is_by_code_only else None
        self.scan_bytes = vectors.scan_bytes
        self.codes = vectors.code_name
        self.kept = vectors.kept
        if calibration is not None and calibration.kind is not None:
            self.kept = calibration.kept[calibration.kind]
        self.scratches = scratches
        self.records = records
        self.fields = fields
        self._ids = ids
        self._vectors = vectors
        self.plans: dict[tuple[int, int | None, int, bool, int | None], Plan] = {}
        self._pieces: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]] | None] | None = None
        self._everything: Matching | None = None
        self._matching: dict[int, tuple[Selection, Matching]] = {}
        self._held = (vectors.held(), None if graph is None else graph.held())

    def find(self, id: str) -> int:
        """Return the slot of a record, -1 where there is none."""
        slot = self._ids.slots.get(id, -1)
        while slot >= self.n:  # replaced since this view was taken: the record it had then
            slot = self._ids.predecessors.get(slot, -1)
        if slot >= 0 and self.live is not None and not self.live[slot]:
            return -1
        return slot

    def id_of(self, slot: int) -> str:
        """Return the id of a slot."""
        return self.names[slot]

    def live_slots(self) -> NDArray[np.int64]:
        """Return the live slots in the order their records came in, int64."""
        if self.live is None:
            return np.arange(self.n, dtype=np.int64)
        return np.flatnonzero(self.live[: self.n])

    def matching(self, selection: Selection) -> Matching:
        """Return the live slots of a selection of this view; remembered, as selections are for equal filters."""
        known = self._matching.get(id(selection))
        if known is not None:
            return known[1]
        slots = selection.slots()
        if self.live is not None:
            slots = slots[self.live[slots]]
        matching = Matching(slots, self.n)
        most = _REMEMBERED_BYTES // (5 * self.n + 1)  # four bytes a match and one a slot
        if len(self._matching) >= min(_REMEMBERED, max(4, most)):
            self._matching.clear()
        # The selection is kept along, so that its identity is not given to another one.
        self._matching[id(selection)] = (selection, matching)
        return matching

    def settle_depth(self, rerank: int, k: int, matches: int) -> int | None:
        """Return how many are reranked where a caller asks for so many for each of k; None to decide here."""
        return min(rerank * k, matches) if self.is_quantized and self.settled_depth is None else None

    def everything(self) -> Matching:
        """Return all live slots; remembered."""
        if self._everything is None:
            self._everything = Matching(self.live_slots(), self.n)
        return self._everything

    def vector(self, slot: int) -> NDArray[np.float32]:
        """Return a copy of a vector, exactly as it was given, or decoded where originals are dropped."""
        return self._vectors.get(slot)

    def pieces(self) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]] | None]:
        """Return the originals of slots 0 .. n in chunks, and 1 / norm of each in chunks alike; remembered.

        There are norms under cosine only, and none where one of them leaves float32's usual range.
        """
        if self._pieces is None:
            norms: list[NDArray[np.float32]] | None = None
            if self._vectors.inverse_norms.chunks:
                norms = [piece[:, 0] for piece in self._vectors.inverse_norms.pieces(self.n)]
                if not all(piece.all() for piece in norms):
                    norms = None
            self._pieces = self._vectors.originals.pieces(self.n), norms
        return self._pieces


class Collection:
    """Records of one vector space.

    Parameters
    ----------
    config : what it is created with

    Attributes
    ----------
    view : what readers take
    calibration : how the codes in use were chosen; None while there are none
    numbering : grows whenever slots are numbered anew
    training_seconds : how long training took; None where it was not here
    """

    def __init__(self, config: CollectionConfig) -> None:
        self.config = config
        self.metric = METRICS[config.space]
        self.calibration: Calibration | None = None
        self.training_seconds: float | None = None
        self.numbering = 0
        self._version = 0
        self._calibrated_at = 0
        self._misfits = 0
        self._start_empty()
        self._publish(0)

    def _start_empty(self, quantized: Vectors | None = None) -> None:
        self._ids = Ids()
        self._vectors = Vectors(self.config.dim, self.metric) if quantized is None else quantized
        self._records = Records()
        self._fields = FieldIndexes()
        self._graph: HNSWGraph | None = None if quantized is None else self._new_graph()
        self._unrepaired: list[NDArray[np.int32]] = []
        self.calibration = None
        self._calibrated_at = 0
        self._misfits = 0
        self._renew_scratches()

    def _new_graph(self) -> HNSWGraph:
        config = self.config
        return HNSWGraph(config.m, config.ef_construction, config.seed, self._vectors.shift)

    def _renew_scratches(self) -> None:
        self._scratches = ScratchPool(self.config.dim, self._vectors.form_bytes)

    # Publication

    def _describe(self) -> NDArray[np.int64]:
        return _descriptor(self._vectors, self._graph)

    def _publish(self, n: int) -> None:
        ix = self._describe()
        ix[layout.N] = n
        self._version += 1
        self.view = View(
            n=n,
            version=self._version,
            ids=self._ids,
            vectors=self._vectors,
            graph=self._graph,
            ix=ix,
            scratches=self._scratches,
            records=self._records.view(),
            fields=self._fields.view(),
            calibration=self.calibration,
        )

    # Writes

    def add(self, batch: RecordBatch, *, progress: Callable[[int], None] | None = None) -> None:
        """Store records, replacing those with the same ids; wholly or, if it is interrupted, not at all.

        Parameters
        ----------
        batch : checked records, ids unique inside it
        progress : called with the records searchable so far
        """
        first = self.view.n
        count = len(batch)
        if count == 0:
            return
        claimed = first
        replaced: list[NDArray[np.int32]] = []

        def published(stop: int) -> None:
            nonlocal claimed
            if stop > claimed:
                replaced.append(self._ids.claim(claimed, stop))
                claimed = stop
            self._publish(claimed)
            if progress is not None:
                progress(claimed - first)

        try:
            self._append(batch)
            self._link(first + count, published, batch.vectors if batch.coded is None else None)
            self._train_if_due()
        except BaseException:
            self._withdraw(first, claimed)
            raise
        self._unrepaired.extend(part for part in replaced if len(part))
        self._after_removals()

    def _append(self, batch: RecordBatch) -> None:
        """Write the records to the slots behind the last, where nobody looks yet."""
        count = len(batch)
        if batch.coded is None:
            first = self._vectors.append(batch.vectors)
        else:
            first = self._vectors.append_coded(batch.coded)
        self._ids.append(batch.ids)
        if batch.documents is None:
            self._records.append_empty(count)
        else:
            self._records.append(batch.documents)
        self._fields.append(first, batch.decoded, count)

    def _link(
        self, stop: int, published: Callable[[int], None], rows: NDArray[np.float32] | None = None
    ) -> None:
        """Bring slots up to `stop` into the graph, which is made once there are enough for one.

        Parameters
        ----------
        rows : the vectors of the new slots, where they are at hand
        """
        if stop < SMALLEST_GRAPH and self._graph is None:
            published(stop)
            return
        if self._vectors.is_quantized:
            self._link_quantized(stop, published, rows)
            return
        if self._graph is None:
            self._start_graph(published)
        else:
            self._misfits += self._vectors.encode()
            # Codes serve the data they were chosen for: a larger index, or vectors of another kind, need others.
            added = stop - self._calibrated_at
            usual = self._vectors.misfits * added // max(1, self._calibrated_at)
            if added > _RECALIBRATION_GROWTH * self._calibrated_at or (
                self._misfits > max(_MISFITS_LEAST, _MISFITS_SHARE * stop) + 2 * usual
            ):
                self._calibrate()
        assert self._graph is not None
        self._graph.insert(stop, self._ids.live, self._describe, self._scratches, published)

    def _link_quantized(
        self, stop: int, published: Callable[[int], None], rows: NDArray[np.float32] | None
    ) -> None:
        graph, first = self._graph, self.view.n
        assert graph is not None
        self._vectors.encode()
        describe = self._describe
        if self._vectors.wants_scaffold and (stop - first) * _SCAFFOLD_SHARE > stop:
            describe = self._scaffolded(graph, first, rows)
        graph.insert(stop, self._ids.live, describe, self._scratches, published)

    def _scaffolded(
        self, graph: HNSWGraph, first: int, rows: NDArray[np.float32] | None
    ) -> Callable[[], NDArray[np.int64]]:
        """Return what describes a graph over the vectors in codes that are quick to compare with one another."""
        scaffold = self._vectors.scaffold(first, rows)
        return lambda: _descriptor(scaffold, graph)

    def _train_if_due(self) -> None:
        """Train the quantizer once there are enough records; searches go on as before until it is in place."""
        config = self.config.quantization
        if config is None or self._vectors.is_quantized or self._ids.live_count < config.training_size:
            return
        self._train(config)

    def _train(self, config: QuantizationConfig) -> None:
        started = time.perf_counter()
        count = self._ids.live_count

        def report(done: int, parts: int) -> None:
            if done * _TRAINING_REPORTS // parts == (done - 1) * _TRAINING_REPORTS // parts:
                return
            logger.info("training %s: %d of %d parts", config.type, done, parts)

        before = self._graph, copy(self._vectors), self.calibration, self._calibrated_at, self._misfits
        try:
            logger.info("training %s on %d records", config.type, min(count, config.max_training_vectors))
            if self._graph is None:
                self._start_graph(lambda _: None)
            vectors = self._vectors.quantized(config, self._ids.live, self.config.seed, report)
            self._put_in_place(vectors)
            seconds = time.perf_counter() - started
            logger.info("trained %s in %.1f s: %s", config.type, seconds, vectors.code_name)
        except BaseException:
            # Nothing is lost yet: the caller undoes what brought the training about.
            self._graph, self._vectors, self.calibration, self._calibrated_at, self._misfits = before
            self._renew_scratches()
            raise
        self.training_seconds = seconds

    def _put_in_place(self, vectors: Vectors) -> None:
        """Go on with other codes of the same vectors; what readers hold stays as it is."""
        self._vectors = vectors
        self.calibration = None
        self._calibrated_at = vectors.count
        self._misfits = 0
        self._renew_scratches()
        self._publish(self.view.n)

    def _start_graph(self, published: Callable[[int], None]) -> None:
        """Make the graph of an index that was scanned so far; searches go on scanning until it is whole."""
        self._calibrate()
        graph = self._new_graph()
        scanned = self.view.n

        def describe() -> NDArray[np.int64]:
            return _descriptor(self._vectors, graph)

        if scanned:
            graph.insert(scanned, self._ids.live, describe, self._scratches, lambda _: None)
        self._graph = graph
        if scanned:
            published(scanned)

    def _calibrate(self) -> None:
        started = time.perf_counter()
        self.calibration = self._vectors.calibrate(self._ids.live)
        self._calibrated_at = self._vectors.count
        self._misfits = 0
        logger.debug("codes chosen in %.2f s: %s", time.perf_counter() - started, self.calibration)

    def _withdraw(self, first: int, claimed: int) -> None:
        """Undo an add that failed: its slots are burned, what it replaced lives again."""
        stop = self._vectors.count
        missing = stop - len(self._ids.names)
        if missing > 0:
            self._ids.append([""] * missing)
        if len(self._records) < stop:
            self._records.append_empty(stop - len(self._records))
        self._ids.withdraw(first, claimed, stop)
        dead = np.arange(first, stop, dtype=np.int32)
        self._records.forget(dead.astype(np.int64))
        self._fields.forget(dead[dead < len(self._fields)])
        if self._graph is not None:
            self._vectors.encode()
            self._graph.skip(stop)
            self._unrepaired.append(dead[: max(0, claimed - first)])
        self._publish(stop)

    def remove(self, slots: NDArray[np.integer]) -> None:
        """Remove the records of live slots, each named once."""
        dead = np.asarray(slots, np.int32)
        if len(dead) == 0:
            return
        self._ids.remove(dead)
        self._publish(self.view.n)
        self._unrepaired.append(dead)
        self._after_removals()

    def _after_removals(self) -> None:
        """Mend the graph around removed slots and let go of what they held."""
        if not self._unrepaired:
            return
        dead = np.concatenate(self._unrepaired)
        self._unrepaired = []
        removed = self.view.n - self._ids.live_count
        if removed >= max(_COMPACT_LEAST, _COMPACT_SHARE * self.view.n):
            self.compact()
            return
        if self._graph is not None:
            self._graph.repair(dead, self._ids.live, self._describe(), self._scratches)
        self._records.forget(dead.astype(np.int64))
        self._fields.forget(dead)
        self._publish(self.view.n)

    def update(
        self,
        slots: NDArray[np.integer],
        *,
        metadata: Sequence[str | None] | None = None,
        text: Sequence[str | None] | None = None,
        payload: Sequence[str | None] | None = None,
        new: Sequence[Document] = (),
    ) -> None:
        """Replace what is stored beside the vectors of some live slots; what is not given stays.

        Parameters
        ----------
        metadata, text, payload : encoded, parallel to `slots`
        new : decoded (metadata, payload) as they are afterwards, parallel to `slots`, for the field indexes
        """
        positions = np.asarray(slots, np.int64)
        self._records.update(positions, metadata=metadata, text=text, payload=payload)
        if len(new):
            self._fields.update(positions, None, new)
        self._publish(self.view.n)

    def compact(self) -> int:
        """Leave out removed slots; returns how many there were. The order of the records stays."""
        n = self.view.n
        slots = self.view.live_slots()
        removed = n - len(slots)
        if removed == 0:
            return 0
        live, graph, names = self._ids.live, self._graph, self._ids.names
        if graph is not None:
            if len(slots) < SMALLEST_GRAPH // 2 and not self._vectors.is_quantized:
                graph = None
            else:
                # Every link to a removed slot is replaced before the slots are numbered anew.
                everything = np.flatnonzero(~live[:n]).astype(np.int32)
                describe = (
                    self._scaffolded(graph, n, None) if self._vectors.wants_scaffold else self._describe
                )
                graph.repair(everything, live, describe(), self._scratches, thorough=True)
                graph = graph.selected(slots)
        ids = Ids.from_names([names[slot] for slot in slots.tolist()])
        vectors = self._vectors.selected(slots)
        if graph is None:
            vectors.set_codec(None)
        else:
            graph.connect(ids.live, _descriptor(vectors, graph), self._scratches)
        records = self._records.take(slots)
        fields = self._fields.take(slots)
        # All is there before anything is replaced: an interruption leaves the index as it was.
        self._graph, self._ids, self._vectors = graph, ids, vectors
        self._records, self._fields = records, fields
        if graph is None:
            self.calibration, self._calibrated_at = None, 0
        self._unrepaired = []
        self.numbering += 1
        self._publish(len(slots))
        return removed

    def rebuild(
        self,
        *,
        m: int | None = None,
        ef_construction: int | None = None,
        expected_size: int | None = None,
        quantization: QuantizationConfig | Unchanged | None = UNCHANGED,
    ) -> int:
        """Build the graph anew, with other parameters where given; returns the records in it.

        Parameters
        ----------
        quantization : another quantizer, None for none, `UNCHANGED` for the one there is

        Raises
        ------
        ConfigurationError
            The vectors are to be quantized otherwise, and only codes of them are left.
        """
        config = replace(
            self.config,
            m=self.config.m if m is None else m,
            ef_construction=self.config.ef_construction if ef_construction is None else ef_construction,
            expected_size=self.config.expected_size if expected_size is None else expected_size,
        )
        if not isinstance(quantization, Unchanged):
            config = replace(config, quantization=quantization)
            if not self._vectors.keeps_originals and self.view.live_count:
                raise ConfigurationError(
                    "the vectors of this index were dropped when its quantizer was trained "
                    "(storage_mode='quantized_only'): what is left cannot be quantized in another way; make a new "
                    "index from the source"
                )
        self.compact()
        n = self.view.n
        if n == 0:
            self.config = config
            keeps = isinstance(quantization, Unchanged) and self._vectors.is_quantized
            self._start_empty(self._vectors.emptied() if keeps else None)
            self._publish(0)
            return 0
        before = self.config, copy(self._vectors), self._graph, self.calibration, self._calibrated_at
        try:
            self.config = config
            if not isinstance(quantization, Unchanged):
                self._vectors = self._vectors.unquantized()
            self._renew_scratches()
            if self._vectors.is_quantized:
                graph = self._new_graph()
                describe = lambda: _descriptor(self._vectors, graph)  # noqa: E731
                if self._vectors.wants_scaffold:
                    describe = self._scaffolded(graph, n, None)
                graph.insert(n, self._ids.live, describe, self._scratches, lambda _: None)
                self._graph = graph
            elif n >= SMALLEST_GRAPH or self._graph is not None:
                self._start_graph(lambda _: None)
            self._train_if_due()
        except BaseException:
            # The graph that is there goes on with the codes and the parameters that it was built with.
            self.config, self._vectors, self._graph, self.calibration, self._calibrated_at = before
            self._renew_scratches()
            self._publish(n)
            raise
        self._publish(n)
        return n

    def shrink_to_fit(self) -> int:
        """Give back what is held in reserve; returns the bytes."""
        before = sum(self.memory_bytes().values())
        self.compact()
        self._renew_scratches()
        self._publish(self.view.n)
        return max(0, before - sum(self.memory_bytes().values()))

    def clear(self) -> int:
        """Remove all records; returns how many there were."""
        count = self.view.live_count
        self.numbering += 1
        self._start_empty(self._vectors.emptied() if self._vectors.is_quantized else None)
        self._publish(0)
        return count

    def take_quantizer(self, vectors: Vectors) -> None:
        """Go on, while empty, with the quantizer that others were coded with."""
        self._start_empty(vectors.emptied())
        self._publish(0)

    def adopt_originals(self, rows: NDArray[np.float32]) -> None:
        """Take the originals of the first slots from an equal array that is mapped; see `Vectors.adopt_originals`."""
        vectors = copy(self._vectors)
        vectors.adopt_originals(rows)
        self._vectors = vectors
        self._publish(self.view.n)

    @property
    def is_quantized(self) -> bool:
        """Whether the quantizer is trained and in use."""
        return self._vectors.is_quantized

    @property
    def keeps_originals(self) -> bool:
        """Whether the vectors are there as they were given."""
        return self._vectors.keeps_originals

    @property
    def codec_bytes(self) -> int:
        """Bytes of the quantizer itself, 0 while there is none."""
        return 0 if self._vectors.codec is None else self._vectors.codec.memory_bytes

    def coded_rows(self, first: int, stop: int) -> NDArray[np.uint8]:
        """Return all that is kept of the vectors of some slots; see `Vectors.coded_rows`."""
        return self._vectors.coded_rows(first, stop)

    @property
    def coded_width(self) -> int:
        """Bytes of a row of `coded_rows`."""
        return self._vectors.coded_width

    # Searches

    def search_one(
        self,
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
        rerank : as for `search`

        Returns
        -------
        slots and distances, nearest first; None where only `search` can say what to do: a query that is
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
            chosen = view.plans.get(key) or self._plan(view, *key)
        elif _KERNELS is None:
            return self._scan_one(view, query, k, matching)
        else:
            chosen = exact_plan(k)  # what is not linked is not quantized
        return self._answer_one(view, query, k, chosen, matching)

    def _answer_one(
        self,
        view: View,
        query: NDArray[np.float32],
        k: int,
        chosen: Plan,
        matching: Matching | None,
    ) -> tuple[list[int], list[float]] | None:
        """Answer one query by a plan; by a scan where a walk gives up."""
        if matching is None and chosen.path == "scan":
            matching = view.everything()
        scratch = view.scratches.take(view.n, max(chosen.capacity, chosen.ef, chosen.depth), k)
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
            return self._answer_one(view, query, k, scan_plan(k, view.rerank, view.settled_depth), matching)
        if status or slots[-1] < 0 or distances[-1] == math.inf:
            return None
        return slots, distances

    def _plan(
        self, view: View, k: int, ef: int | None, matches: int, is_masked: bool, depth: int | None
    ) -> Plan:
        chosen = plan(
            n=view.n,
            matches=matches,
            k=k,
            ef=ef,
            row_bytes=view.scan_bytes,
            rerank=view.rerank,
            masked=is_masked,
            settled_depth=view.settled_depth if depth is None else depth,
        )
        if len(view.plans) < _REMEMBERED:
            view.plans[(k, ef, matches, is_masked, depth)] = chosen
        return chosen

    def search(
        self,
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
            chosen = self._plan(view, width, ef, matches, matching is not None, depth)
        if view.is_linked or _KERNELS is not None:
            result = self._run(view, queries, width, chosen, matching)
        else:
            result = self._scan_without_kernels(view, queries, width, matching)
        self._refuse_infinite(result)
        if max_distance is not None:
            far = result.distances > max_distance
            result.slots[far] = -1
            result.distances[far] = np.inf
        return result

    def _refuse_infinite(self, result: SearchResult) -> None:
        if np.isfinite(result.distances[:, -1]).all():  # the furthest of each query
            return
        bad = np.flatnonzero(((~np.isfinite(result.distances)) & (result.slots >= 0)).any(axis=1))
        if len(bad):
            raise VectorError(
                f"query {int(bad[0])}: a distance is beyond float32 (3.4e38): scale the vectors and the query down"
            )

    def _scan_one(
        self, view: View, query: NDArray[np.float32], k: int, matching: Matching | None
    ) -> tuple[list[int], list[float]] | None:
        """Answer one query of a small index without compiled code; None for a query that is not usable."""
        if not np.isfinite(query).all() or (self.metric.is_normalizing and not query.any()):
            return None
        chosen: NDArray[np.integer] | None = None if matching is None else matching.slots
        if chosen is None and view.live is not None:
            chosen = view.everything().slots
        slots, near = exact_scan.nearest(self.metric, query, *view.pieces(), k, chosen)
        distances: list[float] = near.tolist()
        return None if distances[-1] == math.inf else (slots.tolist(), distances)

    def _scan_without_kernels(
        self, view: View, queries: NDArray[np.float32], k: int, matching: Matching | None
    ) -> SearchResult:
        chosen: NDArray[np.integer] | None = None if matching is None else matching.slots
        if chosen is None and view.live is not None:
            chosen = view.live_slots()
        slots = np.full((len(queries), k), -1, np.int64)
        distances = np.full((len(queries), k), np.inf, np.float32)
        pieces, norms = view.pieces()
        for i, query in enumerate(queries):
            self._check_query(query, i)
            found, near = exact_scan.nearest(self.metric, query, pieces, norms, k, chosen)
            slots[i, : len(found)] = found
            distances[i, : len(found)] = near
        return SearchResult(slots, distances, "exact", computed=len(queries) * view.n, hops=0)

    def _check_query(self, query: NDArray[np.float32], number: int) -> None:
        if not np.isfinite(query).all():
            raise _query_error(1 + 4 * number)
        if self.metric.is_normalizing and not query.any():
            raise _query_error(2 + 4 * number)

    def _run(
        self, view: View, queries: NDArray[np.float32], k: int, chosen: Plan, matching: Matching | None
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
        room = max(chosen.capacity, chosen.ef, chosen.depth, k)
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
            self._complete(view, queries, k, matching, result)
        return result

    def _complete(
        self,
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
        rest = self._run(view, np.ascontiguousarray(queries[short]), k, again, matching)
        result.slots[short], result.distances[short] = rest.slots, rest.distances
        if not result.path.endswith("scan"):
            result.path = f"{result.path}, then scan"

    # State

    def state(self) -> dict[str, Any]:
        """Return the whole, by file name: named arrays for binary files, JSON texts for the others.

        Removed slots are compacted away first, so that nothing of them is saved.
        """
        self.compact()
        vectors = self._vectors.state()
        n = self.view.n
        graph = self._graph or self._new_graph()
        files: dict[str, Any] = {
            **vectors,
            "mappings.bin": self._ids.state(),
            "hnsw_index.hnsw.graph": graph.state(),
            "fields.bin": self._fields.state(),
        }
        if not files["fields.bin"]["data"]:
            files["fields.bin"]["data"] = np.empty(0, np.uint8)
        if self.config.quantization is not None:
            is_trained = self._vectors.is_quantized
            files["quantization.json"] = {**self.config.quantization.to_json(), IS_TRAINED: is_trained}
        if self._graph is not None:
            files["hnsw_index.hnsw.graph"]["calibrated_at"] = self._calibrated_at
        records = self._records.lines()
        files["metadata.json"] = records.get("metadata", [None] * n)
        for column, name in (("text", "texts.json"), ("payload", "payloads.json")):
            if column in records:
                files[name] = records[column]
        return files

    @classmethod
    def from_state(
        cls, files: Mapping[str, Any], config: CollectionConfig, *, lazy: bool = False, trusted: bool = False
    ) -> Collection:
        """Return the collection that `files` describe, every part checked by itself and against the others.

        Parameters
        ----------
        files : as `state` returns them; arrays may be memory maps, which stay where they are
        lazy : whether metadata, text and payload stay in the sequences given, to be read when asked for
        trusted : whether to leave unchecked what would take reading all vectors

        Raises
        ------
        CorruptIndexError
            A part is missing, damaged, or does not fit the others.
        """
        for name in ("mappings.bin", "hnsw_index.hnsw.graph", "metadata.json", "fields.bin"):
            if name not in files:
                raise CorruptIndexError(f"{name} is missing")
        collection = cls(config)
        vectors = Vectors.from_state(
            files,
            config.dim,
            collection.metric,
            quantization=trained_quantization(files, config),
            trusted=trusted,
        )
        n = vectors.count
        ids = Ids.from_state(files["mappings.bin"])
        if len(ids.names) != n:
            raise CorruptIndexError(f"mappings.bin has {len(ids.names)} ids, for {n} vectors")
        graph_state = files["hnsw_index.hnsw.graph"]
        if "calibrated_at" in graph_state:
            graph = HNSWGraph.from_state(
                graph_state, n, config.m, config.ef_construction, config.seed, vectors.shift
            )
            collection._graph = graph
            collection._calibrated_at = int(
                checked_number(graph_state, "hnsw_index.hnsw.graph", "calibrated_at", 0, 1 << 31)
            )
        elif n >= SMALLEST_GRAPH or vectors.is_coded:
            raise CorruptIndexError(f"hnsw_index.hnsw.graph holds no graph of the {n} vectors")
        columns = {"metadata": "metadata.json", "text": "texts.json", "payload": "payloads.json"}
        lines = {column: files[name] for column, name in columns.items() if files.get(name) is not None}
        collection._vectors, collection._ids = vectors, ids
        collection._records = Records.from_state(lines, n, lazy=lazy)
        collection._fields = FieldIndexes.from_state(files["fields.bin"], n)
        collection._renew_scratches()
        collection._publish(n)
        return collection

    def memory_bytes(self) -> dict[str, int]:
        """Bytes held in memory, by part; pages of arrays that were reserved and never written are counted too."""
        return {
            **self._vectors.memory_bytes(),
            "graph": 0 if self._graph is None else self._graph.memory_bytes(),
            "ids": self._ids.memory_bytes(),
            "records": self._records.memory_bytes(),
            "fields": self._fields.memory_bytes(),
            "working": self._scratches.memory_bytes(),
        }

    def mapped_bytes(self) -> int:
        """Bytes of vectors, codes and graph that are mapped files and not held in memory."""
        return self._vectors.mapped_bytes() + (0 if self._graph is None else self._graph.mapped_bytes())


def _exhaustive_plan(view: View, k: int) -> Plan:
    """Return the plan that misses nothing: over the vectors, or over codes where these are all there is."""
    return exact_plan(k) if view.settled_depth is None else scan_plan(k, view.rerank, view.settled_depth)


def _descriptor(vectors: Vectors, graph: HNSWGraph | None) -> NDArray[np.int64]:
    """Return what kernels need to know of an index; whoever keeps it keeps the parts' tables alive."""
    ix = np.zeros(layout.SIZE, np.int64)
    vectors.describe(ix)
    ix[layout.ENTRY_POINT] = -1
    if graph is not None:
        graph.describe(ix)
    return ix


def trained_quantization(files: Mapping[str, Any], config: CollectionConfig) -> QuantizationConfig | None:
    """Return how the vectors of a saved index are quantized; None where no quantizer was trained."""
    if config.quantization is None:
        return None
    is_trained = files["quantization.json"].get(IS_TRAINED)
    if type(is_trained) is not bool:
        raise CorruptIndexError(f"quantization.json: {IS_TRAINED} is {is_trained!r}, must be true or false")
    return config.quantization if is_trained else None


class _Kernels(NamedTuple):
    """The kernels that searches call, loaded when the first index with a graph is made."""

    search_graph: Callable[..., int]
    scan_matching: Callable[..., int]
    scan_exact: Callable[..., int]


_KERNELS: _Kernels | None = None


def _load_kernels() -> _Kernels:
    """Load compiled code, which costs a process some 0.3 s: a small index does without."""
    global _KERNELS
    if _KERNELS is None:
        from zeusdb_vs.kernels import scan, search

        _KERNELS = _Kernels(search.search_graph, scan.scan_matching, scan.scan_exact)
    return _KERNELS


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
            chosen.depth,
            mask,
            chosen.mode,
            chosen.budget,
            out_slots,
            out_distances,
        )
    address, size = (0, view.n) if matching is None else (matching.slots_address, matching.count)
    if chosen.path == "scan":
        return kernels.scan_matching(
            view.ix, scratch.block, queries, count, k, chosen.depth, address, size, out_slots, out_distances
        )
    mask = view.live_address if matching is None else 0
    return kernels.scan_exact(
        view.ix, scratch.block, queries, count, k, address, size, mask, out_slots, out_distances
    )


def _query_error(status: int) -> VectorError:
    number, what = divmod(status, 4)
    if what == 1:
        return VectorError(f"query {number}: has NaN or infinite values; all must be finite")
    return VectorError(f"query {number}: is the zero vector, which has no direction under cosine")
