"""The vectors of an index: float32 originals, and the small codes the graph is walked on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.arrays import checked_array, checked_number
from zeusdb_vs.calibration import FITTED_ROWS, Calibration, CodeKind, choose_codes
from zeusdb_vs.chunks import RowTable, chunk_shift
from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.kernels import layout
from zeusdb_vs.metrics import Metric
from zeusdb_vs.quantization import ScalarCodec
from zeusdb_vs.threads import run_range

LEAST_NORM = 1e-30
GREATEST_NORM = 1e37
"""Norms beyond these are stored as an inverse of 0: products of a unit query with such rows, or the inverse itself,
would leave float32's full precision, so kernels take the exact path in float64 for them."""

_ROTATION_SEED = 0x5EED
_NORM_TOLERANCE = 1e-3
"""Of a stored inverse norm against float32 sums of thousands of terms; what is beyond is computed exactly."""


class Vectors:
    """Originals and codes of every slot.

    Parameters
    ----------
    dim : width of a vector
    metric : how vectors are compared

    Attributes
    ----------
    count : slots whose originals are written
    coded : slots whose codes are written
    codec : how rows are coded; None while they are not (small indexes) or where codes cannot keep recall
    rerank : how many of the nearest by code are reranked for 10 neighbours; 0 without codes
    misfits : slots that did not fit the codes when these were chosen
    """

    def __init__(self, dim: int, metric: Metric) -> None:
        self.dim = dim
        self.metric = metric
        self.shift = chunk_shift(dim)
        self.count = 0
        self.coded = 0
        self.codec: ScalarCodec | None = None
        self._codec_addresses = (0, 0, 0)
        self.rerank = 0
        self.misfits = 0
        self.originals = RowTable(np.float32, dim, self.shift)
        self.inverse_norms = RowTable(np.float32, 1, self.shift)
        self.codes: RowTable | None = None
        self.biases: RowTable | None = None

    @property
    def is_coded(self) -> bool:
        """Whether walks compare codes and not originals."""
        return self.codes is not None

    @property
    def code_name(self) -> str:
        """What walks compare, for people: "4-bit rotated", "float32"."""
        if self.codec is None:
            return "float32"
        return f"{self.codec.bits}-bit{'' if self.codec.signs is None else ' rotated'}"

    @property
    def form_bytes(self) -> int:
        """Bytes of a query form, whatever the code."""
        return layout.QUERY_HEADER + 4 * self.dim + -(-self.dim // 128) * 128

    def append(self, vectors: NDArray[np.float32]) -> int:
        """Write float32 (n, dim) originals to the slots behind the last; returns the first of them."""
        first = self.count
        self.originals.ensure(first + len(vectors))
        self.originals.write(first, vectors)
        if self.metric.is_normalizing:
            self.inverse_norms.ensure(first + len(vectors))
            for start, rows in self.originals.spans(first, first + len(vectors)):
                self.inverse_norms.write(start, _inverse_norms(rows))
        self.count = first + len(vectors)
        return first

    def calibrate(self, live: NDArray[np.bool_]) -> Calibration:
        """Choose the codes anew by what they lose among the live slots, and write them."""
        slots = np.flatnonzero(live[: self.count])
        sample = self.metric.prepare(self.originals.take(slots[:: max(1, -(-len(slots) // FITTED_ROWS))]))
        uniform, centered = self.metric.form == layout.FORM_L1, self.metric.form == layout.FORM_L2

        def encode(kind: CodeKind | None) -> None:
            codec = None
            if kind is not None:
                signs = ScalarCodec.draw_signs(self.dim, _ROTATION_SEED) if kind.is_rotated else None
                rows = sample if signs is None else _rotated(sample, signs)
                codec = ScalarCodec.fit(rows, kind.bits, uniform=uniform, centered=centered, signs=signs)
            self.set_codec(codec)
            self.misfits = self.encode()

        def describe() -> NDArray[np.int64]:
            ix = np.zeros(layout.SIZE, np.int64)
            self.describe(ix)
            return ix

        calibration = choose_codes(
            slots, self.originals.take, describe, encode, self.form_bytes, uniform=uniform
        )
        self.rerank = calibration.rerank
        return calibration

    def set_codec(self, codec: ScalarCodec | None) -> None:
        """Take other codes; none is written yet. Tables that readers hold are left as they are."""
        self.codec = codec
        self.coded = 0
        self.codes = self.biases = None
        self._note_addresses()
        if codec is not None:
            self.codes = RowTable(np.uint8, codec.row_bytes, self.shift)
            if self.metric.form == layout.FORM_L2:
                self.biases = RowTable(np.float32, 1, self.shift)

    def _note_addresses(self) -> None:
        """Look the codec's addresses up once: a descriptor is made for every publication."""
        codec = self.codec
        if codec is not None:
            signs = 0 if codec.signs is None else int(codec.signs.ctypes.data)
            self._codec_addresses = (int(codec.mid.ctypes.data), int(codec.step.ctypes.data), signs)

    def encode(self) -> int:
        """Write the codes of the slots that have none yet; returns how many of them the codes do not fit."""
        misfits: list[int] = []
        if self.codes is not None:
            from zeusdb_vs.kernels import codes

            self.codes.ensure(self.count)
            if self.biases is not None:
                self.biases.ensure(self.count)
            ix = np.zeros(layout.SIZE, np.int64)
            self.describe(ix)
            first = self.coded

            def piece(start: int, stop: int) -> None:
                misfits.append(codes.encode_rows(ix, first + start, first + stop))

            run_range(piece, self.count - first, 1024)
        self.coded = self.count
        return sum(misfits)

    def selected(self, slots: NDArray[np.integer]) -> Vectors:
        """Return a copy that holds the given slots only, in the given order."""
        copy = Vectors(self.dim, self.metric)
        copy.originals = self.originals.selected(slots)
        copy.count = len(slots)
        if self.metric.is_normalizing:
            copy.inverse_norms = self.inverse_norms.selected(slots)
        if self.coded == self.count:
            copy.codec = self.codec
            copy._note_addresses()
            copy.rerank = self.rerank
            copy.codes = None if self.codes is None else self.codes.selected(slots)
            copy.biases = None if self.biases is None else self.biases.selected(slots)
            copy.coded = len(slots)
        return copy

    def get(self, slot: int) -> NDArray[np.float32]:
        """Return a copy of the original of `slot`, exactly as it was given."""
        vector: NDArray[np.float32] = self.originals.row(slot).copy()
        return vector

    def describe(self, ix: NDArray[np.int64]) -> None:
        """Write what kernels need to know of the vectors into a descriptor."""
        ix[layout.DIM] = self.dim
        ix[layout.CHUNK_SHIFT] = self.shift
        ix[layout.SPACE] = self.metric.space
        ix[layout.FORM] = self.metric.form
        ix[layout.VECTORS] = self.originals.address
        ix[layout.INVERSE_NORMS] = self.inverse_norms.address
        if self.codec is None or self.codes is None:
            ix[layout.CODE] = layout.CODE_F32
            ix[layout.CODES] = self.originals.address
            ix[layout.CODE_STRIDE] = 4 * self.dim
            return
        codec = self.codec
        ix[layout.CODE] = layout.CODE_U4 if codec.bits == 4 else layout.CODE_U8
        ix[layout.CODES] = self.codes.address
        ix[layout.CODE_STRIDE] = codec.row_bytes
        ix[layout.CODE_BLOCKS] = codec.blocks
        ix[layout.CODE_MID], ix[layout.CODE_STEP], ix[layout.CODE_SIGNS] = self._codec_addresses
        ix[layout.CODE_PADDED] = codec.padded
        ix[layout.CODE_EXPAND] = np.float32(codec.expand_scale).view(np.int32)
        if self.biases is not None:
            ix[layout.CODE_BIAS] = self.biases.address

    def held(self) -> tuple[Any, ...]:
        """Return what a descriptor points to and whoever keeps it must keep alive."""
        tables = [self.originals, self.inverse_norms, self.codes, self.biases]
        return (self.codec, *((t.table, tuple(t.chunks)) for t in tables if t is not None))

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the originals and, where there are any, the codes: named arrays in chunks, which never change."""
        state: dict[str, dict[str, Any]] = {
            "vectors": {"vectors": self.originals.pieces(self.count) or [np.empty((0, self.dim), np.float32)]}
        }
        if self.metric.is_normalizing:
            norms = self.inverse_norms.pieces(self.count)
            state["vectors"]["inverse_norms"] = norms or [np.empty((0, 1), np.float32)]
        if self.codec is not None and self.codes is not None:
            state["codes"] = {
                **self.codec.state(),
                "rerank": self.rerank,
                "codes": self.codes.pieces(self.count),
            }
            if self.biases is not None:
                state["codes"]["biases"] = self.biases.pieces(self.count)
        return state

    @classmethod
    def from_state(
        cls, state: Mapping[str, Mapping[str, Any]], dim: int, metric: Metric, *, trusted: bool = False
    ) -> Vectors:
        """Return the vectors that `state` describes, every value checked.

        Parameters
        ----------
        state : as `state` returns it; arrays may be memory maps, which stay where they are
        trusted : whether to leave unchecked what would take reading all originals

        Raises
        ------
        CorruptIndexError
            An array is missing, has the wrong type or shape, or holds what no vector or code can be.
        """
        rows = checked_array(state["vectors"], "vectors.bin", "vectors", "<f4", (None, dim))
        vectors = cls(dim, metric)
        count = len(rows)
        vectors.originals = RowTable.from_rows(rows, vectors.shift)
        vectors.count = count
        if metric.is_normalizing:
            norms = checked_array(state["vectors"], "vectors.bin", "inverse_norms", "<f4", (count, 1))
            if not (np.isfinite(norms).all() and (norms >= 0).all()):
                raise CorruptIndexError("vectors.bin: inverse_norms are not finite, or negative")
            vectors.inverse_norms = RowTable.from_rows(norms, vectors.shift)
        if not trusted:
            run_range(vectors._check_originals, count, 1 << vectors.shift)
        if "codes" in state:
            codec = ScalarCodec.from_state(state["codes"], dim)
            if codec.uniform != (metric.form == layout.FORM_L1):
                raise CorruptIndexError("codes.bin: the codes are those of another space")
            vectors.codec = codec
            vectors._note_addresses()
            vectors.rerank = int(checked_number(state["codes"], "codes.bin", "rerank", 1, 4096))
            codes = checked_array(state["codes"], "codes.bin", "codes", "|u1", (count, codec.row_bytes))
            vectors.codes = RowTable.from_rows(codes, vectors.shift)
            if metric.form == layout.FORM_L2:
                biases = checked_array(state["codes"], "codes.bin", "biases", "<f4", (count, 1))
                if not np.isfinite(biases).all():
                    raise CorruptIndexError("codes.bin: biases are not finite")
                vectors.biases = RowTable.from_rows(biases, vectors.shift)
            vectors.coded = count
        return vectors

    def _check_originals(self, start: int, stop: int) -> None:
        """Raise CorruptIndexError for originals that are not finite, zero under cosine, or not of their norm."""
        for first, view in self.originals.spans(start, stop):
            with np.errstate(over="ignore", invalid="ignore"):
                squares = np.einsum("ij,ij->i", view, view)
            # A sum is finite only if all its terms are; one that is not may have overflowed: look at each.
            if not np.isfinite(squares).all() and not np.isfinite(view).all():
                raise CorruptIndexError("vectors.bin: a vector has NaN or infinite values")
            if self.metric.is_normalizing:
                norms = np.concatenate(
                    [rows for _, rows in self.inverse_norms.spans(first, first + len(view))]
                )
                with np.errstate(over="ignore", invalid="ignore"):
                    is_right = np.abs(squares * np.square(norms[:, 0]) - 1) < _NORM_TOLERANCE
                odd = np.flatnonzero(~is_right)
                if len(odd) and not view[odd].any(axis=1).all():
                    raise CorruptIndexError("vectors.bin: a zero vector in a cosine index")
                if len(odd) and not np.allclose(_inverse_norms(view[odd]), norms[odd], rtol=1e-5, atol=0):
                    raise CorruptIndexError("vectors.bin: inverse_norms are not those of the vectors")

    def memory_bytes(self) -> dict[str, int]:
        """Bytes reserved for originals and for codes."""
        codes = sum(t.memory_bytes for t in (self.codes, self.biases) if t is not None)
        return {"vectors": self.originals.memory_bytes + self.inverse_norms.memory_bytes, "codes": codes}


def _rotated(rows: NDArray[np.float32], signs: NDArray[np.float32]) -> NDArray[np.float32]:
    from zeusdb_vs.kernels.rotation import rotate_rows

    rotated = np.array(rows, np.float32, order="C")
    rotate_rows(rotated.ctypes.data, len(rotated), signs.ctypes.data, rotated.shape[1])
    return rotated


def _inverse_norms(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / norm of float32 (n, dim) rows as float32 (n, 1), from float64 sums; 0 for extreme norms."""
    wide = rows.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    usual = (norms > LEAST_NORM) & (norms < GREATEST_NORM)
    inverse = np.zeros((len(rows), 1), np.float32)
    inverse[usual, 0] = 1.0 / norms[usual]
    return inverse
