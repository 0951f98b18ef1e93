"""Integer arithmetic of product codes on whole registers: tables of a query, and sums over the digits of codes.

By AVX-512 where the processor has it, else by AVX2, else in loops, with the same results, as in `simd.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from zeusdb_vs.kernels.compile import FASTMATH, HAS_AVX2, HAS_VNNI512, JIT_DISABLED, inline_kernel
from zeusdb_vs.kernels.intrinsics import f32_at, i8_at, u8_at
from zeusdb_vs.kernels.layout import DIGIT_BLOCK
from zeusdb_vs.kernels.llvm import (
    BYTES32,
    BYTES64,
    I64,
    INTS8,
    INTS16,
    SHORTS16,
    block_loop,
    call_intrinsic,
    dot_accumulate,
    horizontal_sum,
    load_block,
    spread,
)


@inline_kernel
def table_shift(groups):
    """By how many bits the sums of `write_table_u8` are shifted: weights of more dimensions add up to more."""
    shift = np.int64(7)
    while np.int64(1) << (shift - 7) < groups:
        shift += 1
    return shift


# `write_table_u8` writes (start + <grid, weights>) >> table_shift(groups) for each of 256 values of a byte of codes.
#   grid : address of uint8 (groups, 4, 4, 16, 4): the dimensions of value 64 a + 4 c + b lie at [:, a, b, c], so that
#       four vectors of sums make one of bytes by shifts alone
#   weights : address of int8 (groups, 4); the absolute values of a pair add up to 128 at most: two products fit 16 bits
#   out : address of uint8 (256,), which the results fit
if HAS_VNNI512 or HAS_AVX2:
    _TABLE_SUMS = INTS16 if HAS_VNNI512 else INTS8

    def _products_of_four(builder: Any, total: Any, address: Any, factors: Any) -> Any:
        """Add the products of groups of four bytes at an address with `factors` to a vector of sums."""
        if HAS_VNNI512:
            return dot_accumulate(builder, total, load_block(builder, address, BYTES64), factors)
        pairs = call_intrinsic(
            builder,
            "llvm.x86.avx2.pmadd.ub.sw",
            SHORTS16,
            [load_block(builder, address, BYTES32), builder.bitcast(factors, BYTES32)],
        )
        ones = ir.Constant(SHORTS16, [1] * 16)
        return builder.add(total, call_intrinsic(builder, "llvm.x86.avx2.pmadd.wd", INTS8, [pairs, ones]))

    @intrinsic  # type: ignore[untyped-decorator]
    def write_table_u8(typingctx: Any, grid: Any, weights: Any, groups: Any, start: Any, out: Any) -> Any:  # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            grid, weights, groups, start, out = args
            lanes = _TABLE_SUMS.count
            i32 = ir.IntType(32)
            leading_zeros = builder.ctlz(builder.sub(groups, I64(1)), ir.IntType(1)(0))
            shift = builder.sub(I64(7 + 64), leading_zeros)
            begin = spread(builder, builder.trunc(start, i32), lanes)
            by = spread(builder, builder.trunc(shift, i32), lanes)
            for first in range(0, 256, 4 * lanes):
                # Of a block of 64 values as many as there are lanes for, times four.
                block, inside = first // 64 * 256, first % 64

                def step(group: Any, totals: list[Any], begins: int = block + inside) -> list[Any]:
                    here = builder.add(builder.add(grid, builder.mul(group, I64(1024))), I64(begins))
                    four = load_block(builder, builder.add(weights, builder.mul(group, I64(4))), i32)
                    factors = spread(builder, four, lanes)
                    return [
                        _products_of_four(builder, total, builder.add(here, I64(64 * i)), factors)
                        for i, total in enumerate(totals)
                    ]

                entries = None
                for i, total in enumerate(block_loop(builder, groups, [begin] * 4, step)):
                    entry = builder.shl(builder.lshr(total, by), ir.Constant(_TABLE_SUMS, [8 * i] * lanes))
                    entries = entry if entries is None else builder.or_(entries, entry)
                place = builder.inttoptr(builder.add(out, I64(first)), _TABLE_SUMS.as_pointer())
                builder.store(entries, place).align = 1
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

else:

    @inline_kernel
    def write_table_u8(grid, weights, groups, start, out):  # type: ignore[no-untyped-def]
        entries = u8_at(out, 256)
        factors = i8_at(weights, groups * 4)
        for v in range(256):
            total = np.int64(start)
            place = grid + (v // 64) * 256 + (v % 4) * 64 + (v % 64) // 4 * 4
            for group in range(groups):
                values = u8_at(place + group * 1024, 4)
                for j in range(4):
                    total += np.int64(values[j]) * np.int64(factors[group * 4 + j])
            entries[v] = np.uint8(total >> table_shift(groups))


# `sum_of_quarters` and `sum_of_halves` return the sum of an 8-bit query times the digits of a row's codes: each byte is
# read as four of two bits or two of four bits, from its low bits up.
#   codes : address of `size` bytes, at least DIGIT_BLOCK
#   query : address of int8 (blocks, digits of a byte, DIGIT_BLOCK). The last block is that of the last DIGIT_BLOCK
#       bytes; weights of those that the block before it holds too are 0 there
@inline_kernel
def digit_blocks(size):
    """Blocks that `size` bytes of codes are looked at in."""
    return (size + (DIGIT_BLOCK - 1)) // DIGIT_BLOCK


if HAS_VNNI512 or HAS_AVX2:
    _REGISTER = BYTES64 if HAS_VNNI512 else BYTES32
    _ZEROS = ir.Constant(INTS16 if HAS_VNNI512 else INTS8, None)

    def _digits_of(builder: Any, row: Any, bits: int) -> list[Any]:
        """Return the digits of a register of bytes, a register for each place."""
        shorts = ir.VectorType(ir.IntType(16), row.type.count // 2)
        mask = ir.Constant(row.type, [(1 << bits) - 1] * row.type.count)
        places = []
        for shift in range(0, 8, bits):
            by = ir.Constant(shorts, [shift] * shorts.count)
            wide = builder.lshr(builder.bitcast(row, shorts), by) if shift else row
            places.append(builder.and_(builder.bitcast(wide, row.type), mask))
        return places

    def _make_sum_of_digits(bits: int) -> Any:
        @intrinsic  # type: ignore[untyped-decorator]
        def sum_of_digits(typingctx: Any, codes: Any, query: Any, size: Any) -> Any:  # noqa: ARG001
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
                codes, query, size = args
                last = builder.sub(size, I64(DIGIT_BLOCK))
                blocks = builder.sdiv(builder.add(size, I64(DIGIT_BLOCK - 1)), I64(DIGIT_BLOCK))
                width = _REGISTER.count
                stride = DIGIT_BLOCK * 8 // bits

                def step(index: Any, totals: list[Any]) -> list[Any]:
                    whole = builder.mul(index, I64(DIGIT_BLOCK))
                    offset = builder.select(builder.icmp_signed("<", whole, last), whole, last)
                    weights = builder.add(query, builder.mul(index, I64(stride)))
                    pairs = None
                    for part in range(0, DIGIT_BLOCK, width):
                        row = load_block(
                            builder, builder.add(codes, builder.add(offset, I64(part))), _REGISTER
                        )
                        for place, digits in enumerate(_digits_of(builder, row, bits)):
                            at = builder.add(weights, I64(place * DIGIT_BLOCK + part))
                            signed = load_block(builder, at, _REGISTER)
                            if HAS_VNNI512:
                                totals = [dot_accumulate(builder, totals[0], digits, signed)]
                                continue
                            # In 16 bits: of a block at most 4 * 2 * 15 * 127.
                            products = call_intrinsic(
                                builder, "llvm.x86.avx2.pmadd.ub.sw", SHORTS16, [digits, signed]
                            )
                            pairs = products if pairs is None else builder.add(pairs, products)
                    if pairs is not None:
                        ones = ir.Constant(SHORTS16, [1] * 16)
                        sums = call_intrinsic(builder, "llvm.x86.avx2.pmadd.wd", INTS8, [pairs, ones])
                        totals = [builder.add(totals[0], sums)]
                    return totals

                (total,) = block_loop(builder, blocks, [_ZEROS], step)
                return horizontal_sum(builder, total)

            return types.int64(types.int64, types.int64, types.int64), codegen

        return sum_of_digits

    sum_of_quarters = _make_sum_of_digits(2)
    sum_of_halves = _make_sum_of_digits(4)

else:

    @inline_kernel
    def _sum_of_digits(codes, query, size, bits):  # type: ignore[no-untyped-def]
        total = np.int32(0)
        places = 8 // bits
        for block in range(digit_blocks(size)):
            row = u8_at(codes + min(block * DIGIT_BLOCK, size - DIGIT_BLOCK), DIGIT_BLOCK)
            for place in range(places):
                weights = i8_at(query + (block * places + place) * DIGIT_BLOCK, DIGIT_BLOCK)
                shift = np.uint8(place * bits)
                for j in range(DIGIT_BLOCK):
                    total += np.int32((row[j] >> shift) & ((1 << bits) - 1)) * np.int32(weights[j])
        return np.int64(total)

    @inline_kernel
    def sum_of_quarters(codes, query, size):  # type: ignore[no-untyped-def]
        return _sum_of_digits(codes, query, size, 2)

    @inline_kernel
    def sum_of_halves(codes, query, size):  # type: ignore[no-untyped-def]
        return _sum_of_digits(codes, query, size, 4)


FOURS_AT_ONCE = 8
"""Bytes that a block of `dot_fours` has."""

# `dot_fours` returns the inner product of a float32 query with the rows of four that bytes of codes name.
#   rows : address of float32 (bytes, 256, 4)
#   codes : address of uint8 (blocks * FOURS_AT_ONCE,)
#   query : address of float32 (blocks * FOURS_AT_ONCE, 4)
if JIT_DISABLED:

    def dot_fours(rows: int, codes: int, query: int, blocks: int) -> Any:
        total = np.float32(0)
        for b, code in enumerate(u8_at(codes, blocks * FOURS_AT_ONCE)):
            named = f32_at(rows + (b * 256 + int(code)) * 16, 4)
            total += np.float32((named * f32_at(query + b * 16, 4)).sum(dtype=np.float32))
        return total

else:
    _FLOATS4 = ir.VectorType(ir.FloatType(), 4)
    _SUMS = 4

    @intrinsic  # type: ignore[untyped-decorator]
    def dot_fours(typingctx: Any, rows: Any, codes: Any, query: Any, blocks: Any) -> Any:  # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            rows, codes, query, blocks = args
            flags = tuple(FASTMATH)

            def step(index: Any, totals: list[Any]) -> list[Any]:
                first = builder.mul(index, I64(FOURS_AT_ONCE))
                named = load_block(builder, builder.add(codes, first), I64)
                own_rows = builder.add(rows, builder.mul(first, I64(256 * 16)))
                own_query = builder.add(query, builder.mul(first, I64(16)))
                sums = list(totals)
                for b in range(FOURS_AT_ONCE):
                    code = builder.and_(builder.lshr(named, I64(8 * b)), I64(255))
                    place = builder.add(own_rows, I64(b * 256 * 16))
                    row = load_block(builder, builder.add(place, builder.shl(code, I64(4))), _FLOATS4)
                    other = load_block(builder, builder.add(own_query, I64(b * 16)), _FLOATS4)
                    product = builder.fmul(row, other, flags=flags)
                    sums[b % _SUMS] = builder.fadd(sums[b % _SUMS], product, flags=flags)
                return sums

            zeros = ir.Constant(_FLOATS4, [0.0] * 4)
            total, *others = block_loop(builder, blocks, [zeros] * _SUMS, step)
            for other in others:
                total = builder.fadd(total, other, flags=flags)
            result = ir.Constant(ir.FloatType(), 0.0)
            for i in range(4):
                element = builder.extract_element(total, ir.IntType(32)(i))
                result = builder.fadd(result, element, flags=flags)
            return result

        return types.float32(*[types.int64] * 4), codegen
