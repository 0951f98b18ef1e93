"""Scalar quantizers: how each dimension becomes 4 or 8 bits. The kernels of the codes are in `kernels/codes.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.arrays import checked_array, checked_number
from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.kernels import layout
from zeusdb_vs.kernels.layout import ROTATION_ROUNDS

_CLIP_RANGE = np.linspace(2.0, 5.0, 7)
"""Half-widths, in standard deviations, that the clipping range of a code is chosen from."""
_WIDE_RANGE = 5.0
"""One value in two million of a normal distribution lies beyond."""
_PLANE_LEVELS = 16
"""Steps of an 8-bit code in one of its high half."""
_MOMENT_ROWS = 256
_MOST = float(np.finfo(np.float32).max)
_MOST_STEP = _MOST / 256
"""So that no code decodes to what float32 cannot hold, in planes neither."""

DIMS_PER_BLOCK = {4: 128, 8: 64}
"""Dimensions in a 64-byte block of codes, by bits."""


@dataclass(frozen=True, slots=True)
class ScalarCodec:
    """A uniform quantizer per dimension: `x[d] = mid[d] + step[d] * (code[d] - (2**bits - 1) / 2)`.

    Attributes
    ----------
    bits : 4 or 8
    mid, step : float32 (padded,); a dimension that does not vary, and padding, has step 0
    expand_scale : the scale at which a stored row becomes an 8-bit query; with `uniform` the one step
    uniform : whether all dimensions share one step (needed to compare codes by absolute differences)
    signs : float32 (2, dim) of -1 and 1: what is coded is the vector rotated by them; None where it is not rotated
    in_planes : whether these 4-bit codes are the high halves of 8-bit codes, whose low halves are kept beside them:
        walks compare the high halves, reranking decodes both
    """

    bits: int
    mid: NDArray[np.float32]
    step: NDArray[np.float32]
    expand_scale: float
    uniform: bool
    signs: NDArray[np.float32] | None = None
    in_planes: bool = False
    _addresses: tuple[int, int, int] = field(init=False, repr=False, compare=False, default=(0, 0, 0))

    def __post_init__(self) -> None:
        # Looked up once: a descriptor is made for every publication.
        signs = 0 if self.signs is None else int(self.signs.ctypes.data)
        addresses = (int(self.mid.ctypes.data), int(self.step.ctypes.data), signs)
        object.__setattr__(self, "_addresses", addresses)

    @property
    def name(self) -> str:
        """What the codes are, for people: "4-bit rotated", "8-bit in planes rotated"."""
        bits = "8-bit in planes" if self.in_planes else f"{self.bits}-bit"
        return f"{bits}{'' if self.signs is None else ' rotated'}"

    def describe(self, ix: NDArray[np.int64]) -> None:
        """Write what kernels need to know of the codes into a descriptor, but for where they are."""
        ix[layout.CODE] = layout.CODE_U4 if self.bits == 4 else layout.CODE_U8
        ix[layout.CODE_STRIDE] = self.row_bytes
        ix[layout.CODE_BLOCKS] = self.blocks
        ix[layout.CODE_MID], ix[layout.CODE_STEP], ix[layout.CODE_SIGNS] = self._addresses
        ix[layout.CODE_PADDED] = self.padded
        ix[layout.CODE_EXPAND] = np.float32(self.expand_scale).view(np.int32)

    @property
    def padded(self) -> int:
        """Dimensions after padding to whole blocks."""
        return len(self.mid)

    @property
    def blocks(self) -> int:
        """64-byte blocks of a code row."""
        return self.padded // DIMS_PER_BLOCK[self.bits]

    @property
    def row_bytes(self) -> int:
        """Bytes of a code row."""
        return 64 * self.blocks

    @property
    def memory_bytes(self) -> int:
        """Bytes of the quantizer itself."""
        return int(self.mid.nbytes + self.step.nbytes + (0 if self.signs is None else self.signs.nbytes))

    @property
    def half(self) -> float:
        """Code of the middle of the range."""
        return float(2**self.bits - 1) / 2

    @classmethod
    def fit(
        cls,
        sample: NDArray[np.float32],
        bits: int,
        *,
        uniform: bool,
        centered: bool,
        signs: NDArray[np.float32] | None = None,
        is_wide: bool = False,
    ) -> ScalarCodec:
        """Fit the ranges to a sample.

        Parameters
        ----------
        sample : float32 (n, dim), of unit length under cosine, and rotated if `signs` are given
        bits : 4 or 8
        uniform : whether all dimensions share one step
        centered : whether queries are taken relative to `mid` (the L2 form)
        is_wide : whether ranges reach so far that hardly a value is ever clipped: for codes that originals are
            decoded from, whose sample may be small
        """
        dim = sample.shape[1]
        low, high = sample.min(axis=0).astype(np.float64), sample.max(axis=0).astype(np.float64)
        mean, deviation = _moments(sample)
        top = 2**bits - 1
        best: tuple[float, NDArray[np.float64], NDArray[np.float64]] | None = None
        # Clipping the tails buys a finer step: take the range with the least squared error on a part of the sample.
        part = sample[:: max(1, len(sample) // 512)].astype(np.float64)
        for width in (_WIDE_RANGE,) if is_wide else _CLIP_RANGE:
            left, right = mean - width * deviation, mean + width * deviation
            if is_wide and uniform:  # not rotated, so of any distribution
                left, right = np.minimum(low, left), np.maximum(high, right)
            elif not is_wide:
                left, right = np.maximum(low, left), np.minimum(high, right)
            if uniform:
                half_range = np.full(dim, (right - left).max() / 2)
            else:
                half_range = (right - left) / 2
            mid, step = (left + right) / 2, 2 * half_range / top
            safe = np.where(step > 0, step, 1.0)
            codes = np.clip(np.rint((part - mid) / safe + top / 2), 0, top)
            error = float(np.square(mid + step * (codes - top / 2) - part).sum())
            if best is None or error < best[0]:
                best = (error, mid, step)
        assert best is not None
        _, mid, step = best
        block = DIMS_PER_BLOCK[bits]
        padded = -(-dim // block) * block
        mid32, step32 = np.zeros(padded, np.float32), np.zeros(padded, np.float32)
        # Ranges around values near float32's largest may reach beyond it.
        mid32[:dim], step32[:dim] = np.clip(mid, -_MOST, _MOST), np.minimum(step, _MOST_STEP)
        extreme = step * top / 2 if centered else np.abs(mid) + step * top / 2
        expand = float(step.max()) if uniform else float((extreme * step).max()) / 127
        return cls(bits, mid32, step32, min(expand, _MOST_STEP), uniform, signs)

    def with_planes(self, dim: int) -> ScalarCodec:
        """Return these 8-bit codes kept in two planes of 4 bits."""
        block = DIMS_PER_BLOCK[4]
        padded = -(-dim // block) * block
        mid, step = np.zeros(padded, np.float32), np.zeros(padded, np.float32)
        mid[:dim], step[:dim] = self.mid[:dim], self.step[:dim] * np.float32(_PLANE_LEVELS)
        # The scale of an 8-bit query is that of the products of values and steps, which have grown alike.
        expand = min(self.expand_scale * _PLANE_LEVELS, _MOST)
        return ScalarCodec(4, mid, step, expand, False, self.signs, in_planes=True)

    @staticmethod
    def draw_signs(dim: int, seed: int) -> NDArray[np.float32]:
        """Return random signs for a rotation, float32 (2, dim)."""
        drawn = np.random.default_rng(seed).integers(0, 2, (ROTATION_ROUNDS, dim))
        return (2 * drawn - 1).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Return what makes up the codec: named arrays and numbers."""
        return {
            "bits": self.bits,
            "uniform": int(self.uniform),
            "mid": self.mid,
            "step": self.step,
            "expand_scale": self.expand_scale,
            **({} if self.signs is None else {"signs": self.signs}),
            **({"in_planes": 1} if self.in_planes else {}),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], dim: int) -> ScalarCodec:
        """Return the codec that `state` describes, checked.

        Raises
        ------
        CorruptIndexError
            A part is missing or impossible.
        """
        bits = int(checked_number(state, "codes.bin", "bits", 4, 8))
        if bits not in DIMS_PER_BLOCK:
            raise CorruptIndexError(f"codes.bin: codes have {bits} bits, must have 4 or 8")
        block = DIMS_PER_BLOCK[bits]
        padded = -(-dim // block) * block
        mid = checked_array(state, "codes.bin", "mid", "<f4", (padded,))
        step = checked_array(state, "codes.bin", "step", "<f4", (padded,))
        if not (np.isfinite(mid).all() and np.isfinite(step).all() and (step >= 0).all()):
            raise CorruptIndexError("codes.bin: mid or step is not finite, or a step is negative")
        expand = checked_number(state, "codes.bin", "expand_scale", 0.0, _MOST)
        uniform = bool(checked_number(state, "codes.bin", "uniform", 0, 1))
        signs = None
        if "signs" in state:
            signs = checked_array(state, "codes.bin", "signs", "<f4", (ROTATION_ROUNDS, dim)).copy()
            if not (np.abs(signs) == 1).all():
                raise CorruptIndexError("codes.bin: signs must be -1 or 1")
        in_planes = "in_planes" in state
        if in_planes and (bits != 4 or uniform or checked_number(state, "codes.bin", "in_planes", 1, 1) != 1):
            raise CorruptIndexError(
                "codes.bin: only 4-bit codes of one step a dimension can be halves of 8-bit codes"
            )
        # Own copies: kernels keep their addresses.
        return cls(bits, mid.copy(), step.copy(), expand, uniform, signs, in_planes)

    def decode(
        self, codes: NDArray[np.uint8], low: NDArray[np.uint8] | None, dim: int
    ) -> NDArray[np.float32]:
        """Return the float32 (n, dim) rows that uint8 (n, row_bytes) codes stand for, rotated if codes are.

        Parameters
        ----------
        low : the low halves of codes in planes, laid out as `codes`; else None
        """
        levels = _nibbles(codes) if self.bits == 4 else codes
        values = levels.astype(np.float32) - np.float32(self.half)
        if low is not None:
            # 16 * high + low, in steps of the high half, from the middle of all 256.
            values += (_nibbles(low).astype(np.float32) - np.float32(self.half)) / np.float32(_PLANE_LEVELS)
        rows: NDArray[np.float32] = (self.mid + self.step * values)[:, :dim]
        return np.ascontiguousarray(rows)

    def decoded(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what float32 (n, dim) rows, already rotated if codes are, become when coded and decoded again."""
        dim = rows.shape[1]
        mid, step = self.mid[:dim], self.step[:dim]
        safe = np.where(step > 0, step, np.float32(1))
        codes = np.clip(np.rint((rows - mid) / safe + self.half), 0, 2 * self.half)
        restored: NDArray[np.float32] = (mid + step * (codes - self.half)).astype(np.float32)
        return restored


def _moments(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each column, in float64, without a copy of all rows in it."""
    mean = rows.mean(axis=0, dtype=np.float64)
    squares = np.zeros(rows.shape[1])
    for start in range(0, len(rows), _MOMENT_ROWS):
        squares += np.square(rows[start : start + _MOMENT_ROWS] - mean).sum(axis=0)
    return mean, np.sqrt(squares / len(rows))


def _nibbles(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the 4-bit codes of (n, 64 * blocks) bytes, one each, in the order of the dimensions."""
    blocks = codes.reshape(len(codes), -1, 64)
    return np.concatenate([blocks & 15, blocks >> 4], axis=2).reshape(len(codes), -1)
