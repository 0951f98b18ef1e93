"""What readers take: the index as it was at one moment, what a filter leaves of it, and what a search found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.calibration import Calibration
from zeusdb_vs.filtering.views import FieldsView, Selection
from zeusdb_vs.graph import HNSWGraph
from zeusdb_vs.ids import Ids
from zeusdb_vs.kernels import layout
from zeusdb_vs.planner import Plan
from zeusdb_vs.records import RecordsView
from zeusdb_vs.scratch import ScratchPool
from zeusdb_vs.vectors import Vectors

_REMEMBERED = 64
_REMEMBERED_BYTES = 32 << 20
"""Filters whose matching slots a view remembers: so many, or as many as this holds, four at least."""


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
    is_scanned : whether a scan has been over them
    rows_address : where the addresses of their code rows are, 0 while nobody has kept them
    """

    __slots__ = ("_masks", "_n", "_rows", "count", "is_scanned", "rows_address", "slots", "slots_address")

    def __init__(self, slots: NDArray[np.integer], n: int) -> None:
        self.slots: NDArray[np.int32] = np.ascontiguousarray(slots, np.int32)
        self.slots_address = int(self.slots.ctypes.data)
        self.count = len(self.slots)
        self._n = n
        self._masks: list[NDArray[np.bool_]] = []
        self._rows: list[NDArray[np.int64]] = []
        self.rows_address = 0
        self.is_scanned = False

    def mask_address(self) -> int:
        """Return the address of a byte per slot, 1 where it may be returned; the mask is made once."""
        if not self._masks:
            mask = np.zeros(self._n, np.bool_)
            mask[self.slots] = True
            # Threads may make one each: all use the first to be appended, and none goes while a kernel reads it.
            self._masks.append(mask)
        return int(self._masks[0].ctypes.data)

    def keep_rows(self, rows: NDArray[np.int64]) -> int:
        """Keep the addresses of the code rows for later scans; returns where they are."""
        self._rows.append(rows)  # beside those of other threads, as with masks
        self.rows_address = int(rows.ctypes.data)
        return self.rows_address


class View:
    """What readers see: the index as it was at one moment.

    Attributes
    ----------
    n : slots
    live_count : live ones
    shape : that of a vector
    metric : of the space
    live : bool (>= n,), False for removed slots; None while there are none among the first n
    records, fields : their views
    version : grows with every publication
    ix : descriptor for kernels
    is_linked : whether there is a graph
    is_coded : whether walks go on codes apart from the originals
    is_plain : whether codes are of 4 or 8 bits a dimension, of which scans compare several rows at once
    is_rough : whether walks can compare by digits of codes
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
        "is_plain",
        "is_quantized",
        "is_rough",
        "ix",
        "kept",
        "live",
        "live_address",
        "live_count",
        "metric",
        "n",
        "names",
        "plans",
        "records",
        "rerank",
        "scan_bytes",
        "scratches",
        "settled_depth",
        "shape",
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
        self.shape = (vectors.dim,)
        self.metric = vectors.metric
        self.live_count = ids.live_count
        self.live = ids.live if ids.live_count < n else None
        self.live_address = 0 if self.live is None else int(self.live.ctypes.data)
        self.names = ids.names
        self.ix = ix
        self.is_linked = graph is not None
        self.is_coded = vectors.is_coded
        code, form = int(ix[layout.CODE]), int(ix[layout.FORM])
        self.is_plain = code in (layout.CODE_U4, layout.CODE_U8) and form != layout.FORM_L1
        self.is_rough = int(ix[layout.CODE_DIGITS]) != 0
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
        slot = self._ids.slots.find(id)
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
        most = _REMEMBERED_BYTES // (13 * self.n + 1)  # twelve bytes a match and one a slot
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
