"""The product quantizer: a vector is cut into subvectors, and of each the nearest of some centroids is named.

What rows of codes and their factors are is told in `kernels/product.py`, which writes and compares them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.arrays import checked_array, checked_number
from zeusdb_vs.chunks import aligned_empty
from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.kernels import layout
from zeusdb_vs.threads import run_range

_CENTROIDS_FILE, _CODES_FILE = "pq_centroids.bin", "pq_codes.bin"
_TURNS = 4
"""Turns of k-means at most: two more change recall by less than another seed does, and take a third as long again."""
_TRIAL_ROWS = 1024
_TRIAL_TURNS = 4
"""Enough to tell whether a rotation helps."""
_MOST = float(np.finfo(np.float32).max)
_CHECKED_ROWS = 1 << 16
_COARSE_WIDTH = 3
"""Dimensions in a byte from which on its codes lose more than tables of 8 bits do."""

_DIGIT_WIDTHS = (2, 4)
"""Dimensions of a byte that can be read as digits of 4 or 2 bits."""
_CODES_PER_BYTE = {1: 8, 2: 4, 3: 2, 4: 2, 5: 1, 6: 1, 7: 1, 8: 1}


def _code_bytes(subvectors: int, bits: int) -> int:
    return -(-subvectors // _CODES_PER_BYTE[bits])


def _head_bytes(is_l2: bool) -> int:
    return 8 if is_l2 else 4


def product_row_bytes(subvectors: int, bits: int, *, is_l2: bool) -> int:
    """Return the bytes of a row of product codes, a multiple of 4."""
    return _head_bytes(is_l2) + -(-_code_bytes(subvectors, bits) // 4) * 4


def _has_digits(subvectors: int, bits: int, width: int) -> bool:
    """Whether numbers of centroids may be read as digits: kernels read registers of them."""
    return bits == 8 and width in _DIGIT_WIDTHS and subvectors >= layout.DIGIT_BLOCK


def _digits(width: int) -> NDArray[np.int64]:
    """Return int64 (256, width): the digits of each byte, the first in its low bits."""
    bits = 8 // width
    return np.arange(256)[:, None] >> bits * np.arange(width) & (1 << bits) - 1


def _numbered(centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return centroids, float32 (subvectors, 256, width), in an order in which their digits tell where they are.

    They are halved by the first dimension, each half by the second, and so on: the first round gives the high bit of
    each digit, the next ones the others. All bits of one digit first would leave the last dimensions little to part.
    """
    count, _, width = centroids.shape
    bits = 8 // width
    groups = centroids[:, None]
    for halved in range(8):
        order = np.argsort(groups[..., halved % width], axis=2, kind="stable")
        groups = np.take_along_axis(groups, order[..., None], axis=2)
        groups = groups.reshape(count, 2 << halved, -1, width)
    # Places are (count, high bits of all digits, next bits, ...); a number has the bits of its last digit first.
    places = groups.reshape(count, *[2] * 8, width)
    axes = [1 + level * width + d for d in reversed(range(width)) for level in range(bits)]
    return np.ascontiguousarray(places.transpose(0, *axes, 9)).reshape(centroids.shape)


def _grid_width(byte_width: int) -> int:
    return -(-byte_width // 4) * 4


def product_table_bytes(dim: int, subvectors: int, bits: int) -> tuple[int, int]:
    """Return the bytes that centroids take on disk, and about those in memory with the tables made of them."""
    centroids = 4 * dim << bits
    table = 4 * 256 * dim
    byte_width = dim // subvectors * _CODES_PER_BYTE[bits]
    size = _code_bytes(subvectors, bits)
    grid = 256 * size * _grid_width(byte_width) if byte_width >= _COARSE_WIDTH else 0
    return centroids, table + grid + (centroids if bits == 8 else centroids + table)


@dataclass(frozen=True, slots=True)
class ProductCodec:
    """A product quantizer: `x = center + d`, with d the centroids that the codes of its subvectors name.

    Attributes
    ----------
    bits : of a code, 1 .. 8
    centroids : float32 (subvectors, 2**bits, width)
    center : float32 (dim,): what vectors are taken relative to
    is_l2 : whether rows keep their squared lengths, as FORM_L2 wants them
    signs : float32 (2, dim) of -1 and 1: what is coded is the vector rotated by them; None where it is not rotated
    reads_digits : whether walks may read codes as digits, which roughly tell what they stand for
    table, rows, grid, middle, step, digits : what kernels read of a byte's values, see CODE_TABLE, CODE_ROWS,
        CODE_GRID, CODE_MID, CODE_STEP and CODE_DIGITS in `kernels/layout.py`
    """

    bits: int
    centroids: NDArray[np.float32]
    center: NDArray[np.float32]
    is_l2: bool
    signs: NDArray[np.float32] | None = None
    reads_digits: bool = False
    table: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    rows: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    grid: NDArray[np.uint8] | None = field(init=False, repr=False, compare=False)
    middle: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    step: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    digits: NDArray[np.float32] | None = field(init=False, repr=False, compare=False)
    _addresses: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        subvector = np.arange(self.subvectors)
        shift = subvector % self.codes_per_byte * self._field_bits
        # The code that each of the 256 values of its byte means for each subvector.
        named = np.arange(256) >> shift[:, None] & (2**self.bits - 1)
        values = self.centroids[subvector[:, None], named]  # (subvectors, 256, width)
        table = np.ascontiguousarray(values.transpose(0, 2, 1).reshape(self.dim, 256))
        padded = np.zeros((self.code_bytes * self.byte_width, 256), np.float32)
        padded[: self.dim] = table
        # A byte that is one code of 256 centroids: they are its values as they stand.
        rows = self.centroids
        if self.bits < 8:
            rows = padded.reshape(self.code_bytes, self.byte_width, 256).transpose(0, 2, 1).copy()
        low, high = (edge(table, axis=1).astype(np.float64) for edge in (np.min, np.max))
        middle, step = (low + high) / 2, (high - low) / (2 * layout.MOST_GRID)
        grid: NDArray[np.uint8] | None = None
        if self.byte_width >= _COARSE_WIDTH:
            steps = np.rint((table - middle[:, None]) / np.where(step > 0, step, 1)[:, None])
            padded[: self.dim] = np.clip(steps, -layout.MOST_GRID, layout.MOST_GRID) + layout.GRID_MIDDLE
            columns = np.zeros((self.code_bytes, _grid_width(self.byte_width), 256), np.float32)
            columns[:, : self.byte_width] = padded.reshape(self.code_bytes, self.byte_width, 256)
            # (bytes, groups, dimension, a, c, b) of values 64 a + 4 c + b
            fours = columns.astype(np.uint8).reshape(self.code_bytes, -1, 4, 4, 16, 4)
            # On lines of the cache: reading it is most of what making tables of a query takes.
            grid = aligned_empty(self.code_bytes, fours[0].size, fours.dtype)
            grid.reshape(self.code_bytes, -1, 4, 4, 16, 4)[...] = fours.transpose(0, 1, 3, 5, 4, 2)
        parts: dict[str, NDArray[Any] | None] = {
            "table": table,
            "rows": rows,
            "grid": grid,
            "middle": middle.astype(np.float32),
            "step": step.astype(np.float32),
            "digits": self._fit_digits() if self.reads_digits else None,
        }
        for name, part in parts.items():
            object.__setattr__(self, name, part)
        # Looked up once: a descriptor is made for every publication.
        arrays: dict[int, NDArray[Any] | None] = {
            layout.CODE_CENTER: self.center,
            layout.CODE_TABLE: self.table,
            layout.CODE_ROWS: self.rows,
            layout.CODE_GRID: self.grid,
            layout.CODE_MID: self.middle,
            layout.CODE_STEP: self.step,
            layout.CODE_SIGNS: self.signs,
            layout.CODE_DIGITS: self.digits,
        }
        addresses = tuple((at, int(array.ctypes.data)) for at, array in arrays.items() if array is not None)
        object.__setattr__(self, "_addresses", addresses)

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return len(self.center)

    @property
    def subvectors(self) -> int:
        """Parts that a vector is cut into."""
        return len(self.centroids)

    @property
    def width(self) -> int:
        """Dimensions of a subvector."""
        return int(self.centroids.shape[2])

    @property
    def codes_per_byte(self) -> int:
        """Codes in a byte, from its low bits up."""
        return _CODES_PER_BYTE[self.bits]

    @property
    def _field_bits(self) -> int:
        """Bits of a byte that a code has for itself."""
        return 8 // self.codes_per_byte

    @property
    def byte_width(self) -> int:
        """Dimensions that a byte of codes stands for; the last one may stand for fewer."""
        return self.width * self.codes_per_byte

    @property
    def code_bytes(self) -> int:
        """Bytes of the codes of a row."""
        return _code_bytes(self.subvectors, self.bits)

    @property
    def head_bytes(self) -> int:
        """Bytes of a row before its codes: its factor and, for FORM_L2, its squared length."""
        return _head_bytes(self.is_l2)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, a multiple of 4."""
        return product_row_bytes(self.subvectors, self.bits, is_l2=self.is_l2)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the quantizer itself."""
        own_rows = None if self.rows is self.centroids else self.rows
        arrays = (self.centroids, self.center, self.table, own_rows, self.grid, self.digits, self.signs)
        return sum(array.nbytes for array in arrays if array is not None)

    @property
    def name(self) -> str:
        """What the codes are, for people: "pq 48x8", "pq 96x4 rotated"."""
        return f"pq {self.subvectors}x{self.bits}{'' if self.signs is None else ' rotated'}"

    @classmethod
    def fit(
        cls,
        sample: NDArray[np.float32],
        subvectors: int,
        bits: int,
        *,
        is_l2: bool,
        seed: int,
        signs: NDArray[np.float32] | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> ProductCodec:
        """Train the centroids on a sample; the same on any number of threads.

        Parameters
        ----------
        sample : float32 (n, dim), n >= 1, of unit length under cosine, and rotated if `signs` are given
        subvectors : divides dim
        bits : 1 .. 8
        report : called with the subvectors trained so far, and all there are, from any thread but never from two
        """
        center = _center(sample)
        centroids = _train(sample, center, subvectors, bits, seed, _TURNS, report)
        has_digits = _has_digits(subvectors, bits, centroids.shape[2])
        if has_digits:
            centroids = _numbered(centroids)
        return cls(bits, centroids, center, is_l2, signs, has_digits)

    @classmethod
    def fit_best(
        cls,
        plain: NDArray[np.float32],
        rotated: NDArray[np.float32],
        signs: NDArray[np.float32],
        subvectors: int,
        bits: int,
        *,
        is_l2: bool,
        seed: int,
        report: Callable[[int, int], None] | None = None,
    ) -> ProductCodec:
        """Train the centroids on a sample, rotated where a trial says that codes then lose less.

        Parameters
        ----------
        plain, rotated : float32 (n, dim), the sample without and with rotation by `signs`; else as in `fit`
        """
        errors = [quantization_error(sample, subvectors, bits, seed=seed) for sample in (plain, rotated)]
        is_rotated = errors[1] < errors[0]
        return cls.fit(
            rotated if is_rotated else plain,
            subvectors,
            bits,
            is_l2=is_l2,
            seed=seed,
            signs=signs if is_rotated else None,
            report=report,
        )

    def _fit_digits(self) -> NDArray[np.float32]:
        """Return float32 (2, dim): what a step of each digit comes to and what 0 stands for, by least squares."""
        values = self.centroids.astype(np.float64)
        middle = values.mean(axis=1)
        digits = _digits(self.width)
        from_middle = digits - digits.mean(axis=0)
        step = np.einsum("skw,kw->sw", values - middle[:, None], from_middle) / np.square(from_middle).sum(
            axis=0
        )
        zero = middle - step * digits.mean(axis=0)
        # A line through the greatest of float32 may leave it: queries find out.
        with np.errstate(over="ignore"):
            return np.stack([step, zero]).reshape(2, self.dim).astype(np.float32)

    def describe(self, ix: NDArray[np.int64]) -> None:
        """Write what kernels need to know of the codes into a descriptor, but for where they are."""
        ix[layout.CODE] = layout.CODE_PQ
        ix[layout.CODE_SIGNS] = ix[layout.CODE_GRID] = ix[layout.CODE_DIGITS] = 0
        for at, address in self._addresses:
            ix[at] = address
        ix[layout.CODE_WIDTH] = self.byte_width
        ix[layout.CODE_BYTES] = self.code_bytes
        ix[layout.CODE_HEAD] = self.head_bytes
        ix[layout.CODE_STRIDE] = self.row_bytes

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the float32 (n, dim) rows that uint8 (n, row_bytes) rows of codes stand for, rotated if codes are."""
        named = codes[:, self.head_bytes : self.head_bytes + self.code_bytes]
        decoded = self.rows[np.arange(self.code_bytes), named]  # (n, bytes, byte_width)
        decoded = decoded.reshape(len(codes), self.code_bytes * self.byte_width)
        rows: NDArray[np.float32] = decoded[:, : self.dim] + self.center
        return rows

    def check_codes(self, codes: NDArray[np.uint8]) -> None:
        """Check uint8 (n, row_bytes) rows of codes that come from a file.

        Raises
        ------
        CorruptIndexError
            A row names centroids that are not there, or its head is none that a vector can have.
        """
        head = np.ascontiguousarray(codes[:, : self.head_bytes]).view("<f4")
        # Written so that NaN is refused too.
        if not ((head[:, 0] >= 0) & (head[:, 0] <= layout.MOST_FACTOR)).all():
            raise CorruptIndexError(
                f"{_CODES_FILE}: the factor of a row is not a number from 0 to {layout.MOST_FACTOR:g}"
            )
        if self.is_l2 and not ((head[:, 1] >= 0) & np.isfinite(head[:, 1])).all():
            raise CorruptIndexError(f"{_CODES_FILE}: the squared length of a row is negative or not finite")
        unused = self._unused_bits()
        if not unused.any():
            return
        for start in range(0, len(codes), _CHECKED_ROWS):
            named = codes[start : start + _CHECKED_ROWS, self.head_bytes :][:, : self.code_bytes]
            if (named & unused).any():
                raise CorruptIndexError(
                    f"{_CODES_FILE}: a code is not that of one of {2**self.bits} centroids"
                )

    def _unused_bits(self) -> NDArray[np.uint8]:
        """Return the bits of each byte of codes that no code has."""
        used = np.zeros(self.code_bytes, np.uint8)
        for s in range(self.subvectors):
            used[s // self.codes_per_byte] |= (2**self.bits - 1) << s % self.codes_per_byte * self._field_bits
        return ~used

    def state(self) -> dict[str, Any]:
        """Return what makes up the codec: named arrays and numbers."""
        return {
            "bits": self.bits,
            "is_l2": int(self.is_l2),
            "centroids": self.centroids,
            "center": self.center,
            **({} if self.signs is None else {"signs": self.signs}),
            **({"reads_digits": 1} if self.reads_digits else {}),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], dim: int) -> ProductCodec:
        """Return the codec that `state` describes, checked.

        Raises
        ------
        CorruptIndexError
            A part is missing or impossible.
        """
        bits = checked_number(state, _CENTROIDS_FILE, "bits", 1, 8)
        is_l2 = checked_number(state, _CENTROIDS_FILE, "is_l2", 0, 1)
        if bits != int(bits) or is_l2 != int(is_l2):
            raise CorruptIndexError(f"{_CENTROIDS_FILE}: bits {bits} and is_l2 {is_l2} must be whole numbers")
        centroids = checked_array(state, _CENTROIDS_FILE, "centroids", "<f4", (None, 2 ** int(bits), None))
        if centroids.shape[0] * centroids.shape[2] != dim:
            raise CorruptIndexError(
                f"{_CENTROIDS_FILE}: {centroids.shape[0]} subvectors of {centroids.shape[2]} dimensions "
                f"are not the {dim} of the index"
            )
        center = checked_array(state, _CENTROIDS_FILE, "center", "<f4", (dim,))
        if not (np.isfinite(centroids).all() and np.isfinite(center).all()):
            raise CorruptIndexError(f"{_CENTROIDS_FILE}: centroids or the center are not finite")
        signs = None
        if "signs" in state:
            signs = checked_array(
                state, _CENTROIDS_FILE, "signs", "<f4", (layout.ROTATION_ROUNDS, dim)
            ).copy()
            if not (np.abs(signs) == 1).all():
                raise CorruptIndexError(f"{_CENTROIDS_FILE}: signs must be -1 or 1")
        reads_digits = 0.0
        if "reads_digits" in state:
            reads_digits = checked_number(state, _CENTROIDS_FILE, "reads_digits", 0, 1)
        if reads_digits != 0 and not _has_digits(centroids.shape[0], int(bits), centroids.shape[2]):
            raise CorruptIndexError(
                f"{_CENTROIDS_FILE}: 'reads_digits' is {reads_digits:g} for {centroids.shape[0]} subvectors of "
                f"{centroids.shape[2]} dimensions and {bits} bits, whose codes have no digits"
            )
        # Own copies: kernels keep their addresses.
        return cls(int(bits), centroids.copy(), center.copy(), bool(is_l2), signs, bool(reads_digits))


def quantization_error(sample: NDArray[np.float32], subvectors: int, bits: int, *, seed: int) -> float:
    """Return about how much codes lose: the mean squared error of some rows with centroids trained on others.

    Parameters
    ----------
    sample : float32 (n, dim), n >= 1, of which a part is looked at
    """
    from zeusdb_vs.kernels.kmeans import subvector_error

    part = sample[:: -(-len(sample) // _TRIAL_ROWS)]
    is_trained = np.arange(len(part)) % 4 != 3
    center = _center(part[is_trained])
    centroids = _train(part[is_trained], center, subvectors, bits, seed, _TRIAL_TURNS, None)
    held_out = part[~is_trained]
    total = 0.0
    for s, own in enumerate(centroids):
        points = _points(held_out, center, s, own.shape[1])
        total += subvector_error(points.ctypes.data, len(points), points.shape[1], len(own), own.ctypes.data)
    return total / max(1, len(held_out))


def _center(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _points(
    sample: NDArray[np.float32], center: NDArray[np.float32], subvector: int, width: int
) -> NDArray[np.float32]:
    """Return one subvector of all rows, contiguous and relative to the center."""
    dims = slice(subvector * width, (subvector + 1) * width)
    wide = sample[:, dims].astype(np.float64) - center[dims]
    return np.clip(wide, -_MOST, _MOST).astype(np.float32, order="C")


def _train(
    sample: NDArray[np.float32],
    center: NDArray[np.float32],
    subvectors: int,
    bits: int,
    seed: int,
    turns: int,
    report: Callable[[int, int], None] | None,
) -> NDArray[np.float32]:
    """Return centroids, float32 (subvectors, 2**bits, width)."""
    from zeusdb_vs.kernels.kmeans import train_subvector

    width = sample.shape[1] // subvectors
    draws = np.random.default_rng(seed).random((subvectors, 2**bits))
    centroids = np.empty((subvectors, 2**bits, width), np.float32)
    lock = threading.Lock()
    trained = 0

    def train(start: int, stop: int) -> None:
        nonlocal trained
        for s in range(start, stop):
            points = _points(sample, center, s, width)
            train_subvector(
                points.ctypes.data,
                len(points),
                width,
                2**bits,
                draws[s].ctypes.data,
                turns,
                centroids[s].ctypes.data,
            )
            with lock:
                trained += 1
                if report is not None:
                    report(trained, subvectors)

    run_range(train, subvectors, 1)
    return centroids
