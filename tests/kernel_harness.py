"""Small indexes as kernels see them, and the same things said in plain NumPy."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import oracle
from numpy.typing import NDArray

from zeusdb_vs.graph import HNSWGraph
from zeusdb_vs.kernels import distances, exact_distances, layout, repair, scan, search
from zeusdb_vs.kernels.compile import FASTMATH, JIT_DISABLED
from zeusdb_vs.metrics import METRICS
from zeusdb_vs.quantization import ScalarCodec
from zeusdb_vs.scratch import Scratch, ScratchPool
from zeusdb_vs.vectors import Vectors

ROWS = 40 if JIT_DISABLED else 700
"""Kernels run as plain Python take some microseconds for each number they touch."""

DIMS = (1, 2, 7, 100) if JIT_DISABLED else (1, 2, 7, 64, 100, 384, 1536)
"""Widths below, at and above the 64- and 128-dimension blocks of codes, most of them no multiple."""


def compiled(function: Any) -> Any:
    """Make a test's own kernel: a way to call what is inlined into its callers. Never cached."""
    return numba.njit(nogil=True, error_model="numpy", fastmath=FASTMATH)(function)


def call(kernel: Any, **arguments: Any) -> Any:
    """Call a kernel by the names of its parameters."""
    names = inspect.signature(getattr(kernel, "py_func", kernel)).parameters
    return kernel(*(arguments[name] for name in names))


def clustered(
    count: int, dim: int, seed: int, *, clusters: int = 12, spread: float = 0.4
) -> NDArray[np.float32]:
    """Points around random centres, in random order."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dim))
    points = centres[rng.integers(clusters, size=count)] + spread * rng.standard_normal((count, dim))
    return points.astype(np.float32)


def turned(rows: NDArray, signs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rows rotated as kernels do it, through the matrices of the transforms."""
    dim = rows.shape[1]
    hadamard = np.ones((1, 1))
    while 2 * len(hadamard) <= dim:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    power = len(hadamard)
    hadamard /= np.sqrt(power)
    rows = np.array(rows, np.float64)
    for sign in signs:
        rows = rows * sign
        rows[:, :power] = rows[:, :power] @ hadamard
        if power < dim:
            rows[:, dim - power :] = rows[:, dim - power :] @ hadamard
    return rows


@dataclass
class KernelIndex:
    """Originals, codes and perhaps a graph, with the descriptor of all of them.

    Attributes
    ----------
    bits : 4, 8, or 32 for none
    rows : float32 (n, dim), the originals
    """

    space: str
    bits: int
    rows: NDArray[np.float32]
    vectors: Vectors
    codec: ScalarCodec | None
    graph: HNSWGraph | None = None

    @property
    def n(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        return self.rows.shape[1]

    def describe(self) -> NDArray[np.int64]:
        ix = np.zeros(layout.SIZE, np.int64)
        self.vectors.describe(ix)
        ix[layout.ENTRY_POINT] = -1
        if self.graph is not None:
            self.graph.describe(ix)
        ix[layout.N] = self.n
        return ix

    def scratch(self, pool: int = 1024, results: int = 256) -> Scratch:
        return ScratchPool(self.dim, self.vectors.form_bytes).take(self.n, pool, results)

    def build(self, m: int, ef_construction: int, *, cuts: tuple[int, ...] = (), seed: int = 0) -> HNSWGraph:
        """Build the graph, in several inserts where `cuts` names the slots at which they end."""
        self.graph = HNSWGraph(m, ef_construction, seed, self.vectors.shift)
        scratches = ScratchPool(self.dim, self.vectors.form_bytes)
        for stop in (*cuts, self.n):
            call(
                self.graph.insert,
                stop=stop,
                live=np.ones(self.n, np.bool_),
                describe=self.describe,
                scratches=scratches,
                published=lambda _: None,
            )
        return self.graph

    # What the kernels should find, in NumPy

    def prepared(self, rows: NDArray) -> NDArray[np.float64]:
        """Rows as codes see them, in float64."""
        wide = np.asarray(rows, np.float64)
        if self.space == "cosine":
            wide = wide / np.linalg.norm(wide, axis=1, keepdims=True)
        if self.codec is not None and self.codec.signs is not None:
            wide = turned(wide, self.codec.signs)
        return wide

    def code_bytes(self) -> NDArray[np.uint8]:
        assert self.vectors.codes is not None
        return np.concatenate(self.vectors.codes.pieces(self.n))

    def levels(self) -> NDArray[np.int64]:
        """Codes of every row, one number per padded dimension."""
        assert self.codec is not None
        raw = self.code_bytes().astype(np.int64)
        if self.bits == 8:
            return raw
        blocks = raw.reshape(self.n, self.codec.blocks, 64)
        return np.concatenate([blocks & 15, blocks >> 4], axis=2).reshape(self.n, self.codec.padded)

    def decoded(self) -> NDArray[np.float64]:
        """Rows as their codes say they are, (n, padded)."""
        if self.codec is None:
            return self.prepared(self.rows)
        return self.codec.mid.astype(np.float64) + self.codec.step.astype(np.float64) * (
            self.levels() - self.codec.half
        )

    # Kernels, called

    def prepare(self, query: NDArray[np.float32], ix: NDArray[np.int64], scratch: Scratch) -> int:
        """Prepare both forms of a query in `scratch`; return the address of the query form."""
        scratch.query[:] = query
        exact, form = int(scratch.block[layout.QUERY_EXACT]), int(scratch.block[layout.QUERY_FORM])
        assert exact_distances.prepare_exact_query(ix, scratch.query_address, exact) == 0
        distances.prepare_query_form(ix, exact, form, layout.AS_CODED)
        return form

    def expand(self, slot: int, ix: NDArray[np.int64], scratch: Scratch) -> int:
        """Make the query form of a stored row in `scratch`; return its address."""
        form = int(scratch.block[layout.QUERY_FORM])
        distances.expand_row(ix, np.int64(slot), form)
        return form

    def code_distances(
        self, form: int, ix: NDArray[np.int64], slots: NDArray[np.int32] | None = None
    ) -> NDArray[np.float32]:
        """Distances of a query form to the slots, all of them by default."""
        chosen = np.arange(self.n, dtype=np.int32) if slots is None else slots
        out = np.full(len(chosen), np.nan, np.float32)
        distances.code_distances(ix, form, chosen.ctypes.data, len(chosen), out.ctypes.data)
        return out

    def between(self, ix: NDArray[np.int64], scratch: Scratch) -> NDArray[np.float32]:
        """Distances between stored rows as building the graph sees them: [a, b] with a expanded, b coded."""
        return np.stack([self.code_distances(self.expand(slot, ix, scratch), ix) for slot in range(self.n)])

    def search_graph(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        ef: int,
        depth: int,
        mask: NDArray[np.bool_] | None = None,
        two_hop: bool = False,
        budget: int = 1 << 60,
        ix: NDArray[np.int64] | None = None,
    ) -> tuple[int, NDArray[np.int64], NDArray[np.float32]]:
        queries = np.ascontiguousarray(queries)
        slots, found = np.full((len(queries), k), -7, np.int64), np.full((len(queries), k), -7, np.float32)
        room = max(ef, depth)
        scratch, partner = self.scratch(room, k), self.scratch(room, k)
        status = call(
            search.search_graph,
            ix=self.describe() if ix is None else ix,
            scratch=scratch.block,
            partner=partner.block,
            queries=queries.ctypes.data,
            count=len(queries),
            k=k,
            ef=ef,
            depth=depth,
            capacity=room,
            keep=max(room, k),
            mask=0 if mask is None else mask.ctypes.data,
            mode=layout.WALK_ALL
            if mask is None
            else layout.WALK_TWO_HOP
            if two_hop
            else layout.WALK_FILTERED,
            budget=budget,
            out_slots=slots.ctypes.data,
            out_distances=found.ctypes.data,
        )
        return int(status), slots, found

    def scan_exact(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        slots: NDArray[np.int32] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> tuple[int, NDArray[np.int64], NDArray[np.float32]]:
        queries = np.ascontiguousarray(queries)
        out, found = np.full((len(queries), k), -7, np.int64), np.full((len(queries), k), -7, np.float32)
        scratch = self.scratch(results=k)  # it owns what its block points to
        status = call(
            scan.scan_exact,
            ix=self.describe(),
            scratch=scratch.block,
            queries=queries.ctypes.data,
            count=len(queries),
            k=k,
            slots=0 if slots is None else slots.ctypes.data,
            size=self.n if slots is None else len(slots),
            mask=0 if mask is None else mask.ctypes.data,
            out_slots=out.ctypes.data,
            out_distances=found.ctypes.data,
        )
        return int(status), out, found

    def scan_codes(
        self, queries: NDArray[np.float32], k: int, *, depth: int, slots: NDArray[np.int32]
    ) -> tuple[int, NDArray[np.int64], NDArray[np.float32]]:
        return self._scan(scan.scan_codes, queries, k, depth, slots)

    def scan_matching(
        self, queries: NDArray[np.float32], k: int, *, depth: int, slots: NDArray[np.int32], located: bool
    ) -> tuple[int, NDArray[np.int64], NDArray[np.float32]]:
        """Scan, with the addresses of the code rows found beforehand or not."""
        if not located:
            return self._scan(scan.scan_matching, queries, k, depth, slots, rows=0)
        rows = np.full(len(slots) + scan.ROWS_BEHIND, -1, np.int64)
        call(
            scan.locate_rows,
            ix=self.describe(),
            slots=slots.ctypes.data,
            count=len(slots),
            size=len(slots),
            rows=rows.ctypes.data,
        )
        return self._scan(scan.scan_matching, queries, k, depth, slots, rows=rows.ctypes.data)

    def _scan(
        self,
        kernel: Any,
        queries: NDArray[np.float32],
        k: int,
        depth: int,
        slots: NDArray[np.int32],
        **more: int,
    ) -> tuple[int, NDArray[np.int64], NDArray[np.float32]]:
        queries = np.ascontiguousarray(queries)
        out, found = np.full((len(queries), k), -7, np.int64), np.full((len(queries), k), -7, np.float32)
        scratch = self.scratch(depth, k)
        status = call(
            kernel,
            ix=self.describe(),
            scratch=scratch.block,
            queries=queries.ctypes.data,
            count=len(queries),
            k=k,
            depth=depth,
            slots=slots.ctypes.data,
            size=len(slots),
            out_slots=out.ctypes.data,
            out_distances=found.ctypes.data,
            **more,
        )
        return int(status), out, found

    def repair_all(self, live: NDArray[np.bool_]) -> int:
        assert self.graph is not None
        scratch = self.scratch()
        return int(
            call(
                repair.repair_all,
                ix=self.describe(),
                scratch=scratch.block,
                start=0,
                stop=self.n,
                live=live.ctypes.data,
                keep_0=self.graph.max_neighbors_0,
                keep_upper=self.graph.max_neighbors,
            )
        )


def make_index(space: str, bits: int, rows: NDArray[np.float32], *, rotated: bool = False) -> KernelIndex:
    """Store rows, coded with a codec fitted to them."""
    metric = METRICS[space]
    vectors = Vectors(rows.shape[1], metric)
    vectors.append(rows)
    codec = None
    if bits != 32:
        signs = ScalarCodec.draw_signs(rows.shape[1], 0) if rotated else None
        sample = metric.prepare(rows)
        if signs is not None:
            sample = turned(sample, signs).astype(np.float32)
        codec = ScalarCodec.fit(sample, bits, uniform=space == "l1", centered=space == "l2", signs=signs)
        vectors.set_codec(codec)
        vectors.encode()
    return KernelIndex(space, bits, rows, vectors, codec)


CODES = (
    ("cosine", 4),
    ("cosine", 8),
    ("cosine", 32),
    ("l2", 4),
    ("l2", 8),
    ("l2", 32),
    ("l1", 8),
    ("l1", 32),
    ("dot", 4),
    ("dot", 8),
    ("dot", 32),
)
"""Every way a space can be walked: l1 has no 4-bit codes."""


def neighbours(graph: HNSWGraph, slot: int, level: int = 0) -> list[int]:
    """The neighbours in a row of the graph; no row is damaged: -1 only at the end."""
    if level == 0:
        row = graph.links.row(slot)
    else:
        first = int(graph.upper_offsets.row(slot)[0])
        assert first >= 0
        row = graph.upper.row(first + level - 1)
    length = int(np.count_nonzero(row >= 0))
    assert (row[:length] >= 0).all(), "a gap inside a row"
    assert (row[length:] == -1).all()
    return [int(slot) for slot in row[:length]]


def pruned(
    between: NDArray[np.float32], owner: int, candidates: list[int], most: int, fill: int
) -> list[int]:
    """SELECT-NEIGHBORS-HEURISTIC in plain words; `between[a, b]` are the distances of the build."""
    order = sorted(candidates, key=lambda slot: (between[owner, slot], slot))
    accepted: list[int] = []
    for slot in order:
        own = between[owner, slot]
        hidden = any(
            between[kept, slot] < own or (between[kept, slot] == own and own <= between[owner, kept])
            for kept in accepted
        )
        if len(accepted) < most and not hidden:
            accepted.append(slot)
    rest = [slot for slot in order if slot not in accepted]
    return accepted + rest[: max(0, fill - len(accepted))]


def exact_truth(
    index: KernelIndex, queries: NDArray[np.float32], k: int, mask: NDArray[np.bool_] | None = None
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float64]]]:
    """What an exact search must find."""
    return oracle.top_k(queries, index.rows, index.space, k, mask)


def assert_same_hits(
    queries: NDArray[np.float32],
    index: KernelIndex,
    slots: NDArray[np.int64],
    found: NDArray[np.float32],
    k: int,
    mask: NDArray[np.bool_] | None = None,
) -> None:
    """Hits are the exact nearest, up to ties within float32, and their distances are right."""
    all_distances = oracle.distances(queries, index.rows, index.space)
    truth = exact_truth(index, queries, k, mask)[1]
    for row, right, hits, values in zip(all_distances, truth, slots, found, strict=True):
        size = len(right)
        assert (hits[:size] >= 0).all() and (hits[size:] == -1).all()
        assert np.isinf(values[size:]).all()
        assert len(set(hits[:size].tolist())) == size
        if mask is not None:
            assert mask[hits[:size]].all()
        tolerance = 1e-5 * max(1.0, float(np.abs(right).max(initial=0)))
        assert np.all(np.diff(values[:size]) >= 0)
        np.testing.assert_allclose(values[:size], right, rtol=1e-5, atol=tolerance)
        np.testing.assert_allclose(row[hits[:size]], right, rtol=1e-5, atol=tolerance)
