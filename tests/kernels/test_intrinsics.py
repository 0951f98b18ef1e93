"""Memory by address, and the integer kernels, against NumPy: equal to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_harness import JIT_DISABLED, compiled
from numpy.typing import NDArray

from zeusdb_vs.kernels import intrinsics, simd, simd_products
from zeusdb_vs.kernels.layout import DIGIT_BLOCK, QUERY_HEADER

BLOCKS = (1, 2, 3, 6, 12, 24)
"""Blocks of 64 bytes: from one dimension to 1,536 in 8 bits and 3,072 in 4 bits."""


@compiled
def _write_table(grid, weights, groups, start, out):
    simd_products.write_table_u8(grid, weights, groups, start, out)


@compiled
def _table_shift(groups):
    return simd_products.table_shift(groups)


@compiled
def _sum_of_quarters(codes, query, size):
    return simd_products.sum_of_quarters(codes, query, size)


@compiled
def _sum_of_halves(codes, query, size):
    return simd_products.sum_of_halves(codes, query, size)


@compiled
def _dot_fours(rows, codes, query, blocks):
    return simd_products.dot_fours(rows, codes, query, blocks)


@compiled
def _dot_u4(codes: Any, query: Any, blocks: Any) -> Any:
    return simd.dot_u4_i8(codes, query, blocks)


@compiled
def _dot_u8(codes: Any, query: Any, blocks: Any) -> Any:
    return simd.dot_u8_i8(codes, query, blocks)


@compiled
def _sad(codes: Any, query: Any, blocks: Any) -> Any:
    return simd.sad_u8(codes, query, blocks)


@compiled
def _distances_u4(rows: Any, following: Any, form: Any, blocks: Any, out: Any) -> Any:
    simd.distances_u4(rows, following, form, blocks, out)


@compiled
def _distances_u8(rows: Any, following: Any, form: Any, blocks: Any, out: Any) -> Any:
    simd.distances_u8(rows, following, form, blocks, out)


@compiled
def _at_most_16(address: Any, limit: Any) -> Any:
    return intrinsics.at_most_16(address, limit)


@compiled
def _lowest_bit(bits: Any) -> Any:
    return intrinsics.lowest_bit(bits)


@compiled
def _loaded(address: Any, out: Any) -> Any:
    out[0] = intrinsics.load_i64(address)
    out[1] = intrinsics.load_i32(address)
    out[2] = intrinsics.load_u16(address)
    out[3] = intrinsics.load_u8(address)


@compiled
def _stored(address: Any, value: Any) -> Any:
    intrinsics.store_i64(address, value)
    intrinsics.store_i32(address + 8, value)
    intrinsics.store_u16(address + 12, value)
    intrinsics.store_f32(address + 16, np.float32(1.5))
    intrinsics.prefetch(address + 64)


@compiled
def _moved(target: Any, source: Any, count: Any) -> Any:
    intrinsics.move_bytes(target, source, count)


@compiled
def _bits(value: Any, out: Any) -> Any:
    out[0] = intrinsics.bits_of_f32(value)
    return intrinsics.f32_of_bits(out[0])


def _wide(codes: NDArray[np.uint8], query: NDArray[np.int8]) -> int:
    return int(codes.astype(np.int64) @ query.astype(np.int64))


def _nibbles(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes of 128 dimensions a block: the low halves of its 64 bytes, then the high ones."""
    blocks = codes.reshape(-1, 64)
    return np.concatenate([blocks & 15, blocks >> 4], axis=1).ravel()


def _rows(count: int, dtype: Any, seed: int) -> list[NDArray[Any]]:
    """Random rows and the extreme ones."""
    info = np.iinfo(dtype)
    least = -127 if dtype == np.int8 else 0
    rng = np.random.default_rng(seed)
    return [
        rng.integers(least, info.max, size=count, endpoint=True).astype(dtype),
        np.zeros(count, dtype),
        np.full(count, info.max, dtype),
        np.full(count, least, dtype),
        np.where(np.arange(count) % 2 == 0, least, info.max).astype(dtype),
    ]


@pytest.mark.parametrize("blocks", BLOCKS)
def test_dot_u4_i8_equals_numpy(blocks: int) -> None:
    for codes in _rows(64 * blocks, np.uint8, 1):
        for query in _rows(128 * blocks, np.int8, 2):
            found = _dot_u4(codes.ctypes.data, query.ctypes.data, blocks)
            assert found == _wide(_nibbles(codes), query)


@pytest.mark.parametrize("blocks", BLOCKS)
def test_dot_u8_i8_equals_numpy(blocks: int) -> None:
    for codes in _rows(64 * blocks, np.uint8, 3):
        for query in _rows(64 * blocks, np.int8, 4):
            assert _dot_u8(codes.ctypes.data, query.ctypes.data, blocks) == _wide(codes, query)


@pytest.mark.parametrize("blocks", BLOCKS)
def test_sad_u8_equals_numpy(blocks: int) -> None:
    for codes in _rows(64 * blocks, np.uint8, 5):
        for query in _rows(64 * blocks, np.uint8, 6):
            right = int(np.abs(codes.astype(np.int64) - query).sum())
            assert _sad(codes.ctypes.data, query.ctypes.data, blocks) == right


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 5, 16, 17])
def test_table_of_products_equals_numpy(groups: int) -> None:
    rng = np.random.default_rng(groups)
    shift = 7 + (groups - 1).bit_length()
    assert _table_shift(groups) == shift
    values = rng.integers(0, 256, (256, groups, 4)).astype(np.uint8)  # of each value, its dimensions
    values[0], values[1] = 255, 0
    # Weights of a group add up to 127: entries fit bytes.
    one_sided, two_sided = (
        np.tile(np.array([row], np.int8), (groups, 1)) for row in ([0, 0, 1, 126], [96, -31, 0, 0])
    )
    several = rng.integers(-31, 32, (groups, 4)).astype(np.int8)
    for weights in [several, one_sided, -one_sided, two_sided, -two_sided, 0 * several]:
        sums = (values.astype(int) * weights).sum(axis=(1, 2))
        for start in (-int(sums.min()), -int(sums.min()) + (1 << shift - 1)):
            right = sums + start >> shift
            assert right.max() <= 255
            # Value 64 a + 4 c + b at [a, b, c].
            grid = values.reshape(4, 16, 4, groups, 4).transpose(3, 0, 2, 1, 4)
            buffer = np.concatenate([np.zeros(1, np.uint8), grid.ravel()])[1:]  # not aligned
            out = np.full(258, 77, np.uint8)
            _write_table(buffer.ctypes.data, weights.ctypes.data, groups, start, out.ctypes.data + 1)
            np.testing.assert_array_equal(out[1:-1], right)
            assert out[0] == out[-1] == 77


def test_integer_kernels_read_rows_that_are_not_aligned() -> None:
    rng = np.random.default_rng(7)
    codes, query = rng.integers(0, 256, 400).astype(np.uint8), rng.integers(-127, 128, 400).astype(np.int8)
    for offset in (1, 3, 17):
        c, q = codes[offset : offset + 192], query[offset + 2 : offset + 2 + 192]
        assert _dot_u8(c.ctypes.data, q.ctypes.data, 3) == _wide(c, q)
        other = query.view(np.uint8)[offset + 2 : offset + 2 + 192]
        assert _sad(c.ctypes.data, other.ctypes.data, 3) == np.abs(c.astype(int) - other).sum()


def test_integer_kernels_find_nothing_in_no_blocks() -> None:
    row = np.full(64, 255, np.uint8)
    for kernel in (_dot_u4, _dot_u8, _sad):
        assert kernel(row.ctypes.data, row.ctypes.data, 0) == 0


@pytest.mark.skipif(JIT_DISABLED, reason="65,536 dimensions take too long as plain Python")
def test_sums_hold_at_the_greatest_width_and_the_greatest_values() -> None:
    blocks = 65_536 // 64
    codes, query = np.full(65_536, 255, np.uint8), np.full(65_536, 127, np.int8)
    assert _dot_u8(codes.ctypes.data, query.ctypes.data, blocks) == 255 * 127 * 65_536
    lowest = -query
    assert _dot_u8(codes.ctypes.data, lowest.ctypes.data, blocks) == -255 * 127 * 65_536
    assert _dot_u4(codes.ctypes.data, query.ctypes.data, blocks // 2) == 15 * 127 * 65_536
    zeros = np.zeros(65_536, np.uint8)
    assert _sad(codes.ctypes.data, zeros.ctypes.data, blocks) == 255 * 65_536


def _form(base: float, alpha: float, query: NDArray[np.int8]) -> NDArray[np.uint8]:
    """A query form in memory: see distances.py."""
    header = np.zeros(QUERY_HEADER, np.uint8)
    header[:8].view(np.float32)[:] = base, alpha
    return np.concatenate([header, query.view(np.uint8)])


def _four(
    kernel: Any, rows: list[NDArray[np.uint8]], form: NDArray[np.uint8], blocks: int
) -> NDArray[np.float32]:
    addresses = np.array([row.ctypes.data for row in rows], np.int64)
    out = np.full(6, 7, np.float32)
    following = addresses[::-1].copy()
    kernel(addresses.ctypes.data, following.ctypes.data, form.ctypes.data, blocks, out.ctypes.data + 4)
    assert out[0] == out[5] == 7  # nothing is written beside the four
    return out[1:5]


@pytest.mark.parametrize("blocks", [0, *BLOCKS])
@pytest.mark.parametrize("bits", [4, 8])
def test_distances_of_four_rows_equal_numpy(blocks: int, bits: int) -> None:
    kernel = _distances_u4 if bits == 4 else _distances_u8
    rows = _rows(64 * blocks, np.uint8, 1)
    for query in _rows((128 if bits == 4 else 64) * blocks, np.int8, 2):
        for first in range(len(rows)):
            four = [rows[(first + i) % len(rows)] for i in range(4)]
            sums = [_wide(_nibbles(row) if bits == 4 else row, query) for row in four]
            right = np.array(sums, np.float32)
            np.testing.assert_array_equal(_four(kernel, four, _form(0, 1, query), blocks), right)
            np.testing.assert_allclose(
                _four(kernel, four, _form(0.75, -3e-4, query), blocks),
                0.75 - 3e-4 * right,
                rtol=1e-6,
                atol=1e-6,
            )


def test_distances_of_four_rows_that_are_not_aligned() -> None:
    rng = np.random.default_rng(8)
    codes, query = rng.integers(0, 256, 600).astype(np.uint8), rng.integers(-127, 128, 384).astype(np.int8)
    four = [codes[start : start + 192] for start in (1, 70, 131, 333)]
    right = [_wide(row, query[:192]) for row in four]
    assert _four(_distances_u8, four, _form(0, 1, query[:192]), 3).tolist() == right
    right = [_wide(_nibbles(row), query) for row in four]
    assert _four(_distances_u4, four, _form(0, 1, query), 3).tolist() == right


@pytest.mark.parametrize("limit", [0.5, -1.0, np.inf, -np.inf, np.nan])
def test_at_most_16_takes_what_is_not_greater(limit: float) -> None:
    values = np.array([0.5, 0.25, -1, -2, 1, np.inf, -np.inf, np.nan, 0.5000001, -0.0] * 2, np.float32)
    for start in range(5):  # aligned or not
        part = values[start : start + 16]
        right = sum(1 << i for i, value in enumerate(part.tolist()) if not value > np.float32(limit))
        assert _at_most_16(part.ctypes.data, np.float32(limit)) == right


def test_lowest_bit_is_the_first_that_is_set() -> None:
    for number in range(63):
        assert _lowest_bit(1 << number) == number
        assert _lowest_bit((1 << number) | (1 << 62) | (1 << 40 << number % 20)) == min(
            number, 40 + number % 20
        )


@pytest.mark.parametrize("value", [0, 1, -1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 0x1234567890ABCDEF])
def test_loads_read_what_numpy_reads(value: int) -> None:
    memory = np.array([value], np.int64)
    out = np.zeros(4, np.int64)
    _loaded(memory.ctypes.data, out)
    right = [memory.view(dtype)[0] for dtype in ("<i8", "<i4", "<u2", "u1")]
    assert out.tolist() == [int(number) for number in right]


@pytest.mark.parametrize("value", [0, -1, 70_000, -70_000, 2**31 - 1])
def test_stores_write_only_their_own_bytes(value: int) -> None:
    memory = np.full(64, 0xAA, np.uint8)
    _stored(memory.ctypes.data, value)
    assert memory[:8].view("<i8")[0] == value
    assert memory[8:12].view("<i4")[0] == value
    assert memory[12:14].view("<u2")[0] == value % 65_536
    assert memory[16:20].view("<f4")[0] == np.float32(1.5)
    assert (memory[14:16] == 0xAA).all() and (memory[20:] == 0xAA).all()


def test_move_bytes_moves_ranges_that_overlap() -> None:
    for target, source in ((8, 0), (0, 8), (3, 2)):
        memory = np.arange(64, dtype=np.uint8)
        right = memory.copy()
        right[target : target + 40] = memory[source : source + 40].copy()
        _moved(memory.ctypes.data + target, memory.ctypes.data + source, 40)
        np.testing.assert_array_equal(memory, right)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, -1.5, 3e38, -3e38, 1e-45, np.inf, -np.inf])
def test_bits_of_floats_go_there_and_back(value: float) -> None:
    out = np.zeros(1, np.int64)
    back = _bits(np.float32(value), out)
    assert out[0] == np.float32(value).view(np.int32)
    assert np.float32(back).tobytes() == np.float32(value).tobytes()


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("size", [64, 65, 96, 127, 128, 129, 192, 512])
def test_sums_of_digits_equal_numpy(bits: int, size: int) -> None:
    summed = {2: _sum_of_quarters, 4: _sum_of_halves}[bits]
    places = 8 // bits
    starts = [*range(0, size - DIGIT_BLOCK, DIGIT_BLOCK), size - DIGIT_BLOCK]
    for codes in _rows(size + 2, np.uint8, size):
        own = codes[1 : size + 1]  # not aligned, and with bytes around them that do not count
        digits = own[:, None] >> bits * np.arange(places) & 2**bits - 1
        for weights in _rows(size * places, np.int8, bits):
            of_byte = weights.reshape(size, places)
            query = np.zeros((len(starts), places, DIGIT_BLOCK), np.int8)
            told = 0
            for block, start in enumerate(starts):
                fresh = slice(max(start, told), start + DIGIT_BLOCK)
                query[block, :, fresh.start - start :] = of_byte[fresh].T
                told = fresh.stop
            assert summed(own.ctypes.data, query.ctypes.data, size) == _wide(digits.ravel(), weights)


@pytest.mark.parametrize("blocks", [0, 1, 2, 12])
def test_dot_fours_equals_numpy(blocks: int) -> None:
    rng = np.random.default_rng(blocks)
    size = blocks * simd_products.FOURS_AT_ONCE
    rows = rng.standard_normal((size, 256, 4)).astype(np.float32)
    codes = rng.integers(0, 256, size).astype(np.uint8)
    codes[:2] = [0, 255][: len(codes[:2])]
    query = rng.standard_normal((size, 4)).astype(np.float32)
    products = rows[np.arange(size), codes].astype(np.float64) * query
    found = _dot_fours(rows.ctypes.data, codes.ctypes.data, query.ctypes.data, blocks)
    assert abs(found - products.sum()) <= 1e-6 * np.abs(products).sum()
