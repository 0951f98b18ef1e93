"""The vectors of an index: float32 originals, and the small codes the graph is walked on.

An unquantized index keeps both. A quantized one, once its quantizer is trained, keeps codes and drops the originals, or
keeps these too, for reranking: see `quantized`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.arrays import checked_array, checked_number
from zeusdb_vs.calibration import (
    DEPTHS,
    FITTED_ROWS,
    NEIGHBORS,
    Calibration,
    CodeKind,
    choose_codes,
    choose_depth,
    digits_suffice,
    judged_slots,
)
from zeusdb_vs.chunks import RowTable, aligned_empty, chunk_shift
from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.kernels import layout
from zeusdb_vs.metrics import Metric
from zeusdb_vs.product import ProductCodec
from zeusdb_vs.quantization import DIMS_PER_BLOCK, ScalarCodec
from zeusdb_vs.quantization_config import QuantizationConfig
from zeusdb_vs.threads import run_range

LEAST_NORM = 1e-30
GREATEST_NORM = 1e37
"""Norms beyond these are stored as an inverse of 0: products of a unit query with such rows, or the inverse itself,
would leave float32's full precision, so kernels take the exact path in float64 for them."""

Codec = ScalarCodec | ProductCodec

_ROTATION_SEED = 0x5EED
_NORM_TOLERANCE = 1e-3
"""Of a stored inverse norm against float32 sums of thousands of terms; what is beyond is computed exactly."""
_ENCODE_GRAIN = 256
_MOST_RERANK = 4096
_PIECE_BYTES = 1 << 20
"""Of rows that are converted at a time. Larger arrays of NumPy's are backed by huge pages, which stay with the heap."""
_SCAFFOLD_ROWS = 512


class Vectors:
    """Originals and codes of every slot.

    Parameters
    ----------
    dim : width of a vector
    metric : how vectors are compared

    Attributes
    ----------
    count : slots whose vectors are written
    coded : slots whose codes are written
    codec : how rows are coded; None while they are not (small indexes) or where codes cannot keep recall
    rerank : how many of the nearest by code are reranked for 10 neighbours; 0 without codes, and where distances by
        code are all there is
    kept : of a quantizer that was trained here, the share of true neighbours that reranking so many kept
    misfits : slots that did not fit the codes when these were chosen
    is_quantized : whether the codes are those of a trained quantizer, which stay
    keeps_originals : whether the vectors are there as they were given
    """

    def __init__(self, dim: int, metric: Metric) -> None:
        self.dim = dim
        self.metric = metric
        self.shift = chunk_shift(dim)
        self.count = 0
        self.coded = 0
        self.codec: Codec | None = None
        self.rerank = 0
        self.misfits = 0
        self.kept: float | None = None
        self.is_quantized = False
        self.keeps_originals = True
        self.originals = RowTable(np.float32, dim, self.shift)
        self.inverse_norms = RowTable(np.float32, 1, self.shift)
        self.codes: RowTable | None = None
        self.low_codes: RowTable | None = None
        self.biases: RowTable | None = None

    @property
    def is_coded(self) -> bool:
        """Whether walks compare codes and not originals."""
        return self.codes is not None

    @property
    def code_name(self) -> str:
        """What walks compare, for people: "4-bit rotated", "float32", "pq 48x8"."""
        return "float32" if self.codec is None else self.codec.name

    @property
    def form_bytes(self) -> int:
        """Bytes of the largest query form that these vectors need, whatever the scalar code."""
        scalar = layout.QUERY_HEADER + 4 * self.dim + -(-self.dim // 128) * 128
        # Of product codes: a table of 256 16-bit numbers a byte.
        return scalar + 512 * self.codec.code_bytes if isinstance(self.codec, ProductCodec) else scalar

    @property
    def scan_bytes(self) -> int:
        """Bytes of a plain code row that take as long to compare as a row of these codes."""
        if self.codec is None:
            return 4 * self.dim
        # A look-up in a table takes as long as the products of a dozen bytes.
        return self.codec.row_bytes * (12 if isinstance(self.codec, ProductCodec) else 1)

    # ------------------------------------------------------------------------------------------ writing

    def append(self, vectors: NDArray[np.float32]) -> int:
        """Write float32 (n, dim) vectors to the slots behind the last; returns the first of them.

        Where originals are dropped their codes are written at once.
        """
        first, count = self.count, len(vectors)
        norms = None
        if self.metric.is_normalizing:
            norms = _inverse_norms(vectors)
            self.inverse_norms.ensure(first + count)
            self.inverse_norms.write(first, norms)
        if self.keeps_originals:
            self.originals.ensure(first + count)
            self.originals.write(first, vectors)
            self.count = first + count
        else:
            self.count = first + count
            self._ensure_codes()
            self._encode(np.ascontiguousarray(vectors), norms, first)
            self.coded = self.count
        return first

    def calibrate(self, live: NDArray[np.bool_]) -> Calibration:
        """Choose the codes anew by what they lose among the live slots, and write them."""
        slots = np.flatnonzero(live[: self.count])
        sample = self._sample(slots[:: max(1, -(-len(slots) // FITTED_ROWS))])
        uniform, centered = self.metric.form == layout.FORM_L1, self.metric.form == layout.FORM_L2

        def encode(kind: CodeKind | None) -> None:
            codec = None
            if kind is not None:
                signs = ScalarCodec.draw_signs(self.dim, _ROTATION_SEED) if kind.is_rotated else None
                rows = sample if signs is None else _rotated(sample, signs)
                codec = ScalarCodec.fit(rows, kind.bits, uniform=uniform, centered=centered, signs=signs)
            self.set_codec(codec)
            self.misfits = self.encode()

        calibration = choose_codes(
            slots, self.take, self._described, encode, self.form_bytes, uniform=uniform
        )
        self.rerank = calibration.rerank
        return calibration

    def _sample(self, slots: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the vectors of `slots` as codes are fitted to them, in pages that go back to the system after use."""
        sample: NDArray[np.float32] = aligned_empty(len(slots), self.dim, np.dtype(np.float32))
        for start, stop in _pieces(len(slots), self.dim):
            sample[start:stop] = self.metric.prepare(self.take(slots[start:stop]))
        return sample

    def set_codec(self, codec: Codec | None) -> None:
        """Take other codes; none is written yet. Tables that readers hold are left as they are."""
        self.codec = codec
        self.coded = 0
        self.codes = self.low_codes = self.biases = None
        if codec is not None:
            self.codes = RowTable(np.uint8, codec.row_bytes, self.shift)
            if isinstance(codec, ScalarCodec) and codec.in_planes:
                self.low_codes = RowTable(np.uint8, codec.row_bytes, self.shift)
            if isinstance(codec, ScalarCodec) and self.metric.form == layout.FORM_L2:
                self.biases = RowTable(np.float32, 1, self.shift)

    def encode(self) -> int:
        """Write the codes of the slots that have none yet; returns how many of them the codes do not fit."""
        misfits = 0
        if self.codes is not None and self.keeps_originals:
            self._ensure_codes()
            for start, rows in self.originals.spans(self.coded, self.count):
                norms = None
                if self.metric.is_normalizing:
                    norms = next(self.inverse_norms.spans(start, start + len(rows)))[1]
                misfits += self._encode(rows, norms, start)
        self.coded = self.count
        return misfits

    def _ensure_codes(self) -> None:
        for table in (self.codes, self.low_codes, self.biases):
            if table is not None:
                table.ensure(self.count)

    def _encode(self, rows: NDArray[np.float32], norms: NDArray[np.float32] | None, first: int) -> int:
        """Write the codes of float32 (n, dim) rows, C order, to the slots from `first`; returns the misfits."""
        from zeusdb_vs.kernels import codes, product

        ix = self._described()
        rows_address = rows.ctypes.data
        norms_address = 0 if norms is None else norms.ctypes.data
        misfits: list[int] = []

        def piece(start: int, stop: int) -> None:
            norm = norms_address + start * 4 if norms_address else 0
            given = (ix, rows_address + start * self.dim * 4, norm, first + start, stop - start)
            if isinstance(self.codec, ProductCodec):  # centroids have no range that a row could leave
                product.encode_products(*given)
            else:
                misfits.append(codes.encode_rows(*given))

        run_range(piece, len(rows), _ENCODE_GRAIN)
        return sum(misfits)

    # ------------------------------------------------------------------------------------------ quantizing

    def quantized(
        self,
        config: QuantizationConfig,
        live: NDArray[np.bool_],
        seed: int,
        report: Callable[[int, int], None] | None = None,
    ) -> Vectors:
        """Return these vectors quantized: a quantizer trained on the live slots, and the codes of all.

        Parameters
        ----------
        config : what to train
        live : bool (>= count,)
        seed : of everything random
        report : called with parts done and parts in all, while training goes on
        """
        slots = np.flatnonzero(live[: self.count])
        step = max(1, -(-len(slots) // config.max_training_vectors))
        sample = self._sample(slots[::step])
        trained = self.unquantized()
        trained.set_codec(self._trained_codec(config, sample, seed, report))
        trained.is_quantized = True
        trained.encode()
        own = judged_slots(slots)
        queries = self.take(own)
        described = (trained._described(), trained.form_bytes)
        is_by_code_only = not config.keeps_originals and isinstance(trained.codec, ProductCodec)
        trained.rerank, trained.kept = choose_depth(
            slots,
            queries,
            own,
            (self._described(), self.form_bytes),
            described,
            (NEIGHBORS,) if is_by_code_only else DEPTHS,
        )
        if is_by_code_only:
            trained.rerank = 0
        codec = trained.codec
        if (
            isinstance(codec, ProductCodec)
            and codec.reads_digits
            and not digits_suffice(slots, queries, own, described)
        ):
            trained.codec = replace(codec, reads_digits=False)
        if not config.keeps_originals:
            trained.keeps_originals = False
            trained.originals = RowTable(np.float32, self.dim, self.shift)
        return trained

    def _trained_codec(
        self,
        config: QuantizationConfig,
        sample: NDArray[np.float32],
        seed: int,
        report: Callable[[int, int], None] | None,
    ) -> Codec:
        signs = ScalarCodec.draw_signs(self.dim, _ROTATION_SEED)
        form = self.metric.form
        if config.type == "int8":
            if form == layout.FORM_L1:  # no rotation keeps these distances, and they want one step for all
                return ScalarCodec.fit(sample, 8, uniform=True, centered=False, is_wide=True)
            rows = _rotated(sample, signs)
            codec = ScalarCodec.fit(
                rows, 8, uniform=False, centered=form == layout.FORM_L2, signs=signs, is_wide=True
            )
            # Halves kept apart take as much memory only where they fill their blocks as well.
            is_apart = -(-self.dim // DIMS_PER_BLOCK[4]) * 2 <= -(-self.dim // DIMS_PER_BLOCK[8])
            return codec.with_planes(self.dim) if is_apart and not config.keeps_originals else codec
        return ProductCodec.fit_best(
            sample,
            _rotated(sample, signs),
            signs,
            config.subvectors,
            config.bits,
            is_l2=form == layout.FORM_L2,
            seed=seed,
            report=report,
        )

    @property
    def is_by_code_only(self) -> bool:
        """Whether distances by code are all there is: decoded rows of 8-bit codes tell more, others do not."""
        return not self.keeps_originals and not isinstance(self.codec, ScalarCodec)

    @property
    def wants_scaffold(self) -> bool:
        """Whether comparing two rows by their codes takes much longer than comparing a query with one."""
        return isinstance(self.codec, ProductCodec)

    def unquantized(self) -> Vectors:
        """Return vectors of the same originals, without any code."""
        plain = Vectors(self.dim, self.metric)
        plain.originals, plain.inverse_norms, plain.count = self.originals, self.inverse_norms, self.count
        return plain

    def scaffold(self, first: int, rows: NDArray[np.float32] | None) -> Vectors:
        """Return these quantized vectors in 4-bit codes, for the time in which many slots are linked.

        Comparing two rows of product codes means making tables of one of them; scalar codes are compared as they
        are, and new rows are coded from what they were before they were quantized.

        Parameters
        ----------
        first : the first of the new slots
        rows : float32 vectors of the slots from `first`; None to decode them too
        """
        temporary = Vectors(self.dim, self.metric)
        temporary.count = self.count
        temporary.inverse_norms = self.inverse_norms
        signs = ScalarCodec.draw_signs(self.dim, _ROTATION_SEED)
        sample = self.take(np.arange(0, self.count, max(1, -(-self.count // _SCAFFOLD_ROWS))))
        codec = ScalarCodec.fit(
            _rotated(self.metric.prepare(sample), signs),
            4,
            uniform=False,
            centered=self.metric.form == layout.FORM_L2,
            signs=signs,
        )
        temporary.set_codec(codec)
        temporary._ensure_codes()
        stop = self.count if rows is None else first
        for start, end in _pieces(stop, self.dim):
            temporary._encode_given(self.take(np.arange(start, end)), start)
        if rows is not None:
            temporary._encode_given(np.ascontiguousarray(rows), first)
        temporary.coded = self.count
        temporary.keeps_originals = False
        return temporary

    def _encode_given(self, rows: NDArray[np.float32], first: int) -> None:
        self._encode(rows, _inverse_norms(rows) if self.metric.is_normalizing else None, first)

    def coded_rows(self, first: int, stop: int) -> NDArray[np.uint8]:
        """Return all that is kept of some slots whose originals are dropped: uint8 (stop - first, `coded_width`)."""
        columns = [
            np.concatenate([rows for _, rows in table.spans(first, stop)]).view(np.uint8)
            for table in self._coded_tables()
        ]
        return np.hstack(columns)

    @property
    def coded_width(self) -> int:
        """Bytes of a row of `coded_rows`."""
        return sum(table.stride for table in self._coded_tables())

    def _coded_tables(self) -> list[RowTable]:
        tables = [self.codes, self.low_codes, self.biases]
        if self.metric.is_normalizing:
            tables.append(self.inverse_norms)
        return [table for table in tables if table is not None]

    def append_coded(self, rows: NDArray[np.uint8]) -> int:
        """Write what `coded_rows` gave to the slots behind the last; returns the first of them.

        Raises
        ------
        CorruptIndexError
            They are no codes of this quantizer.
        """
        if rows.shape[1:] != (self.coded_width,):
            raise CorruptIndexError(
                f"codes of {rows.shape[1]} bytes a record, the quantizer's have {self.coded_width}"
            )
        first = self.count
        at = 0
        for table in self._coded_tables():
            part = np.ascontiguousarray(rows[:, at : at + table.stride]).view(table.dtype)
            self._check_coded(table, part)
            table.ensure(first + len(rows))
            table.write(first, part)
            at += table.stride
        self.count = self.coded = first + len(rows)
        return first

    def _check_coded(self, table: RowTable, rows: NDArray[Any]) -> None:
        if table is self.codes and isinstance(self.codec, ProductCodec):
            self.codec.check_codes(rows)
        elif table.dtype == np.float32 and not (np.isfinite(rows).all() and (rows >= 0).all()):
            raise CorruptIndexError("codes come with norms that are not finite, or negative")

    def adopt_originals(self, rows: NDArray[np.float32]) -> None:
        """Take the originals of the first slots from an equal array, a memory map: what was in memory is let go."""
        table = RowTable.from_rows(rows, self.shift)
        table.ensure(self.count)
        for start, view in self.originals.spans(len(rows), self.count):
            table.write(start, view)
        self.originals = table

    # ------------------------------------------------------------------------------------------ reading

    def selected(self, slots: NDArray[np.integer]) -> Vectors:
        """Return a copy that holds the given slots only, in the given order."""
        chosen = Vectors(self.dim, self.metric)
        chosen.count = len(slots)
        chosen.keeps_originals = self.keeps_originals
        if self.keeps_originals:
            chosen.originals = self.originals.selected(slots)
        if self.metric.is_normalizing:
            chosen.inverse_norms = self.inverse_norms.selected(slots)
        if self.coded == self.count:
            chosen.codec, chosen.rerank, chosen.is_quantized = self.codec, self.rerank, self.is_quantized
            chosen.kept = self.kept
            chosen.codes = None if self.codes is None else self.codes.selected(slots)
            chosen.low_codes = None if self.low_codes is None else self.low_codes.selected(slots)
            chosen.biases = None if self.biases is None else self.biases.selected(slots)
            chosen.coded = len(slots)
        return chosen

    def emptied(self) -> Vectors:
        """Return vectors of no slot; of a quantized index, with its quantizer."""
        empty = Vectors(self.dim, self.metric)
        if self.is_quantized:
            empty.set_codec(self.codec)
            empty.is_quantized, empty.rerank, empty.kept = True, self.rerank, self.kept
            empty.keeps_originals = self.keeps_originals
        return empty

    def get(self, slot: int) -> NDArray[np.float32]:
        """Return a copy of the vector of `slot`: exactly as it was given, or decoded where originals are dropped."""
        if self.keeps_originals:
            vector: NDArray[np.float32] = self.originals.row(slot).copy()
            return vector
        decoded: NDArray[np.float32] = self.take(np.array([slot]))[0]
        return decoded

    def take(self, slots: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the vectors of `slots`, float32 (len(slots), dim), as `get` does."""
        if self.keeps_originals:
            originals: NDArray[np.float32] = self.originals.take(slots)
            return originals
        # Values near float32's largest may decode to what lies beyond it.
        with np.errstate(over="ignore"):
            return _made_finite(self._decoded(slots))

    def _decoded(self, slots: NDArray[np.integer]) -> NDArray[np.float32]:
        assert self.codes is not None and self.codec is not None
        if isinstance(self.codec, ProductCodec):
            rows = self.codec.decode(self.codes.take(slots))
        else:
            low = None if self.low_codes is None else self.low_codes.take(slots)
            rows = self.codec.decode(self.codes.take(slots), low, self.dim)
        if self.codec.signs is not None:
            rows = _unrotated(rows, self.codec.signs)
        if self.metric.is_normalizing:
            inverse = self.inverse_norms.take(slots)
            # Of extreme norms only the direction is kept.
            rows /= np.where(inverse > 0, inverse, np.float32(1))
        return rows

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
        self.codec.describe(ix)
        ix[layout.CODES] = self.codes.address
        if self.biases is not None:
            ix[layout.CODE_BIAS] = self.biases.address
        if self.low_codes is not None:
            ix[layout.LOW_CODES] = self.low_codes.address
            ix[layout.EXACT] = layout.EXACT_PLANES
        elif not self.keeps_originals:
            ix[layout.EXACT] = layout.EXACT_CODES

    def _described(self) -> NDArray[np.int64]:
        ix = np.zeros(layout.SIZE, np.int64)
        self.describe(ix)
        return ix

    def held(self) -> tuple[Any, ...]:
        """Return what a descriptor points to and whoever keeps it must keep alive."""
        tables = [self.originals, self.inverse_norms, self.codes, self.low_codes, self.biases]
        return (self.codec, *((t.table, tuple(t.chunks)) for t in tables if t is not None))

    # ------------------------------------------------------------------------------------------ state

    def state(self) -> dict[str, dict[str, Any]]:
        """Return vectors and codes by file name: named arrays in chunks, which never change, and numbers."""
        state: dict[str, dict[str, Any]] = {}
        norms = {}
        if self.metric.is_normalizing:
            norms = {"inverse_norms": self.inverse_norms.pieces(self.count) or [np.empty((0, 1), np.float32)]}
        if self.keeps_originals:
            rows = self.originals.pieces(self.count) or [np.empty((0, self.dim), np.float32)]
            state["vectors.bin"] = {"vectors": rows, **norms}
            norms = {}
        if self.codec is None or self.codes is None:
            return state
        codes: dict[str, Any] = {"rerank": self.rerank, **norms}
        for name, table in (("codes", self.codes), ("low_codes", self.low_codes), ("biases", self.biases)):
            if table is not None:
                codes[name] = table.pieces(self.count) or [np.empty((0, table.width), table.dtype)]
        if isinstance(self.codec, ProductCodec):
            state["pq_centroids.bin"] = self.codec.state()
            state["pq_codes.bin"] = codes
        else:
            state["codes.bin"] = {**self.codec.state(), **codes}
        return state

    @classmethod
    def from_state(
        cls,
        files: Mapping[str, Mapping[str, Any]],
        dim: int,
        metric: Metric,
        *,
        quantization: QuantizationConfig | None = None,
        trusted: bool = False,
    ) -> Vectors:
        """Return the vectors that `files` describe, every value checked.

        Parameters
        ----------
        files : as `state` returns them, other files among them; arrays may be memory maps, which stay where they are
        quantization : of an index whose quantizer is trained: what it was trained for
        trusted : whether to leave unchecked what would take reading all originals

        Raises
        ------
        CorruptIndexError
            An array is missing, has the wrong type or shape, or holds what no vector or code can be.
        """
        vectors = cls(dim, metric)
        vectors.is_quantized = quantization is not None
        is_product = quantization is not None and quantization.type == "pq"
        name = "pq_codes.bin" if is_product else "codes.bin"
        for needed in (name, "pq_centroids.bin") if is_product else (name,):
            if quantization is not None and needed not in files:
                raise CorruptIndexError(f"{needed} is missing")
        if quantization is None or quantization.keeps_originals:
            if "vectors.bin" not in files:
                raise CorruptIndexError("vectors.bin is missing")
            rows = checked_array(files["vectors.bin"], "vectors.bin", "vectors", "<f4", (None, dim))
            vectors.originals = RowTable.from_rows(rows, vectors.shift)
            vectors.count = len(rows)
            vectors._read_norms(files["vectors.bin"], "vectors.bin")
            if not trusted:
                run_range(vectors._check_originals, vectors.count, 1 << vectors.shift)
        else:
            vectors.keeps_originals = False
            codes = files[name].get("codes")
            vectors.count = len(codes) if isinstance(codes, np.ndarray) and codes.ndim else 0
            vectors._read_norms(files[name], name)
        if name in files:
            vectors._read_codes(files, name, quantization)
        return vectors

    def _read_norms(self, arrays: Mapping[str, Any], file: str) -> None:
        if self.metric.is_normalizing:
            norms = checked_array(arrays, file, "inverse_norms", "<f4", (self.count, 1))
            if not (np.isfinite(norms).all() and (norms >= 0).all()):
                raise CorruptIndexError(f"{file}: inverse_norms are not finite, or negative")
            self.inverse_norms = RowTable.from_rows(norms, self.shift)

    def _read_codes(
        self, files: Mapping[str, Mapping[str, Any]], file: str, quantization: QuantizationConfig | None
    ) -> None:
        arrays = files[file]
        codec: Codec
        if file == "codes.bin":
            codec = ScalarCodec.from_state(arrays, self.dim)
            if codec.uniform != (self.metric.form == layout.FORM_L1):
                raise CorruptIndexError("codes.bin: the codes are those of another space")
            if codec.in_planes and self.keeps_originals:
                raise CorruptIndexError("codes.bin: 8-bit codes in planes beside the vectors they stand for")
            if quantization is not None and codec.bits != 8 and not codec.in_planes:
                raise CorruptIndexError(f"codes.bin: {codec.bits}-bit codes of an index of 8-bit ones")
        else:
            assert quantization is not None
            codec = ProductCodec.from_state(files["pq_centroids.bin"], self.dim)
            is_l2 = self.metric.form == layout.FORM_L2
            if (codec.subvectors, codec.bits, codec.is_l2) != (
                quantization.subvectors,
                quantization.bits,
                is_l2,
            ):
                raise CorruptIndexError(
                    "pq_centroids.bin: the centroids are not those that quantization.json says"
                )
        self.set_codec(codec)
        least = 0 if self.is_by_code_only else 1
        self.rerank = int(checked_number(arrays, file, "rerank", least, _MOST_RERANK))
        codes = checked_array(arrays, file, "codes", "|u1", (self.count, codec.row_bytes))
        if isinstance(codec, ProductCodec):
            codec.check_codes(codes)
        self.codes = RowTable.from_rows(codes, self.shift)
        if self.low_codes is not None:
            low = checked_array(arrays, file, "low_codes", "|u1", (self.count, codec.row_bytes))
            self.low_codes = RowTable.from_rows(low, self.shift)
        if self.biases is not None:
            biases = checked_array(arrays, file, "biases", "<f4", (self.count, 1))
            if not np.isfinite(biases).all():
                raise CorruptIndexError(f"{file}: biases are not finite")
            self.biases = RowTable.from_rows(biases, self.shift)
        self.coded = self.count

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
        """Bytes in memory reserved for originals and for codes; mapped files are not counted."""
        codes = sum(t.memory_bytes for t in (self.codes, self.low_codes, self.biases) if t is not None)
        if self.codec is not None:
            codes += self.codec.memory_bytes
        return {"vectors": self.originals.memory_bytes + self.inverse_norms.memory_bytes, "codes": codes}

    def mapped_bytes(self) -> int:
        """Bytes of mapped files that originals and codes are read from."""
        tables = (self.originals, self.inverse_norms, self.codes, self.low_codes, self.biases)
        return sum(table.mapped_bytes for table in tables if table is not None)


def _pieces(count: int, dim: int) -> Iterator[tuple[int, int]]:
    """Yield the ends of pieces of `count` rows that are small enough to be converted at a time."""
    step = max(16, _PIECE_BYTES // (4 * dim))
    for start in range(0, count, step):
        yield start, min(start + step, count)


def _rotated(rows: NDArray[np.float32], signs: NDArray[np.float32]) -> NDArray[np.float32]:
    from zeusdb_vs.kernels.rotation import rotate_rows

    rotated: NDArray[np.float32] = aligned_empty(len(rows), rows.shape[1], np.dtype(np.float32))
    rotated[...] = rows
    rotate_rows(rotated.ctypes.data, len(rotated), signs.ctypes.data, rotated.shape[1])
    return _made_finite(rotated)


def _unrotated(rows: NDArray[np.float32], signs: NDArray[np.float32]) -> NDArray[np.float32]:
    from zeusdb_vs.kernels.rotation import unrotate_rows

    restored = np.array(rows, np.float32, order="C")
    unrotate_rows(restored.ctypes.data, len(restored), signs.ctypes.data, restored.shape[1])
    return _made_finite(restored)


def _made_finite(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put right, in place, what left float32's range: sums of values near its largest."""
    if not np.isfinite(rows).all():
        np.nan_to_num(rows, copy=False)
    return rows


def _inverse_norms(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / norm of float32 (n, dim) rows as float32 (n, 1), from float64 sums; 0 for extreme norms."""
    inverse = np.zeros((len(rows), 1), np.float32)
    for start, stop in _pieces(len(rows), rows.shape[1]):
        wide = rows[start:stop].astype(np.float64)
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        usual = (norms > LEAST_NORM) & (norms < GREATEST_NORM)
        inverse[start:stop][usual, 0] = 1.0 / norms[usual]
    return inverse
