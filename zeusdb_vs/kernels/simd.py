"""Integer arithmetic on whole registers: sums of products and of differences of bytes.

By AVX-512 where the processor has it, else by AVX2, else in loops; the sums are the same. Under NUMBA_DISABLE_JIT=1
each has a plain Python form of the same meaning.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from zeusdb_vs.kernels.compile import FASTMATH, HAS_AVX2, HAS_SAD512, HAS_VNNI512, inline_kernel
from zeusdb_vs.kernels.intrinsics import i8_at, load_f32, load_i64, prefetch, store_f32, u8_at
from zeusdb_vs.kernels.layout import QUERY_HEADER
from zeusdb_vs.kernels.llvm import (
    BYTES32,
    BYTES64,
    I64,
    INTS8,
    INTS16,
    LONGS4,
    LONGS8,
    SHORTS16,
    block_loop,
    call_intrinsic,
    dot_accumulate,
    emit_prefetch,
    horizontal_sum,
    load_block,
    shuffled,
    spread,
)

LANES = 64
"""Bytes a 512-bit register holds; code rows are padded to a multiple of it."""
ROWS_AT_ONCE = 4
"""Rows that `distances_u4` and `distances_u8` take.

Both write to float32 `out` the distances `base + alpha * <code, query>` between the query form at `form` and the rows
whose addresses lie at `rows`, and meanwhile prefetch those whose addresses lie at `following`. Four sums across a
register cost little more than one, and one took as long as the products of a short row.
"""


def _added(builder: Any, vectors: list[Any]) -> Any:
    total = vectors[0]
    for vector in vectors[1:]:
        total = builder.add(total, vector)
    return total


if HAS_VNNI512:

    def _step_u4(builder: Any, codes: Any, query: Any, index: Any, totals: list[Any]) -> list[Any]:
        """Add the products of a block of 4-bit codes to two vectors of sums."""
        nibble = ir.Constant(BYTES64, [15] * LANES)
        four = ir.Constant(ir.VectorType(ir.IntType(16), 32), [4] * 32)
        row = load_block(builder, builder.add(codes, builder.mul(index, I64(64))), BYTES64)
        here = builder.add(query, builder.mul(index, I64(128)))
        low_query = load_block(builder, here, BYTES64)
        high_query = load_block(builder, builder.add(here, I64(64)), BYTES64)
        low = builder.and_(row, nibble)
        wide = builder.lshr(builder.bitcast(row, four.type), four)
        high = builder.and_(builder.bitcast(wide, BYTES64), nibble)
        return [
            dot_accumulate(builder, totals[0], low, low_query),
            dot_accumulate(builder, totals[1], high, high_query),
        ]

    def _step_u8(builder: Any, codes: Any, query: Any, index: Any, totals: list[Any]) -> list[Any]:
        """Add the products of a block of 8-bit codes to a vector of sums."""
        offset = builder.mul(index, I64(64))
        row = load_block(builder, builder.add(codes, offset), BYTES64)
        other = load_block(builder, builder.add(query, offset), BYTES64)
        return [dot_accumulate(builder, totals[0], row, other)]

    _ZEROS16 = ir.Constant(INTS16, [0] * 16)

    @intrinsic  # type: ignore[untyped-decorator]
    def dot_u4_i8(typingctx: Any, codes: Any, query: Any, blocks: Any) -> Any:  # noqa: ARG001
        """Sum of 4-bit codes times an 8-bit query over `blocks` blocks of 64 code bytes (128 dimensions each)."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            codes, query, blocks = args

            def step(index: Any, totals: list[Any]) -> list[Any]:
                return _step_u4(builder, codes, query, index, totals)

            low_sum, high_sum = block_loop(builder, blocks, [_ZEROS16, _ZEROS16], step)
            return horizontal_sum(builder, builder.add(low_sum, high_sum))

        return types.int64(types.int64, types.int64, types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def dot_u8_i8(typingctx: Any, codes: Any, query: Any, blocks: Any) -> Any:  # noqa: ARG001
        """Sum of 8-bit codes times an 8-bit query over `blocks` blocks of 64 bytes."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            codes, query, blocks = args

            def step(index: Any, totals: list[Any]) -> list[Any]:
                return _step_u8(builder, codes, query, index, totals)

            (total,) = block_loop(builder, blocks, [_ZEROS16], step)
            return horizontal_sum(builder, total)

        return types.int64(types.int64, types.int64, types.int64), codegen

    def _sums_of_four(builder: Any, vectors: list[Any]) -> Any:
        """Return the sums of four vectors of 16 integers as one vector of four.

        They are added crosswise within each 128 bits, where shuffles are cheap, and the quarters at last: 13
        instructions where four sums by themselves take some 40.
        """
        quarters = range(0, 16, 4)

        def crossed(one: Any, other: Any, lower: tuple[int, ...], upper: tuple[int, ...]) -> Any:
            return builder.add(
                *(
                    shuffled(
                        builder, one, other, [quarter + place for quarter in quarters for place in places]
                    )
                    for places in (lower, upper)
                )
            )

        first = crossed(vectors[0], vectors[1], (0, 16, 1, 17), (2, 18, 3, 19))
        second = crossed(vectors[2], vectors[3], (0, 16, 1, 17), (2, 18, 3, 19))
        total = crossed(first, second, (0, 1, 16, 17), (2, 3, 18, 19))
        for half in (8, 4):
            total = builder.add(
                *(shuffled(builder, total, total, list(range(at, at + half))) for at in (0, half))
            )
        return total

    def _make_distances(step_of: Any, sums: int) -> Any:
        @intrinsic  # type: ignore[untyped-decorator]
        def distances(typingctx: Any, rows: Any, following: Any, form: Any, blocks: Any, out: Any) -> Any:  # noqa: ARG001
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
                rows, following, form, blocks, out = args
                places = range(ROWS_AT_ONCE)
                here = [load_block(builder, builder.add(rows, I64(8 * i)), I64) for i in places]
                ahead = [load_block(builder, builder.add(following, I64(8 * i)), I64) for i in places]
                query = builder.add(form, I64(QUERY_HEADER))

                def step(index: Any, totals: list[Any]) -> list[Any]:
                    offset = builder.mul(index, I64(64))
                    for row in ahead:
                        # To be read once and left alone: the larger cache keeps what the rest of a search needs.
                        emit_prefetch(builder, builder.add(row, offset), locality=0)
                    added = []
                    for i, row in enumerate(here):
                        added += step_of(builder, row, query, index, totals[i * sums : (i + 1) * sums])
                    return added

                totals = block_loop(builder, blocks, [_ZEROS16] * (sums * ROWS_AT_ONCE), step)
                of_rows = [_added(builder, totals[i * sums : (i + 1) * sums]) for i in places]
                vector = ir.VectorType(ir.FloatType(), ROWS_AT_ONCE)
                products = builder.sitofp(_sums_of_four(builder, of_rows), vector)
                base, alpha = (
                    spread(
                        builder,
                        load_block(builder, builder.add(form, I64(at)), ir.FloatType()),
                        ROWS_AT_ONCE,
                    )
                    for at in (0, 4)
                )
                flags = tuple(FASTMATH)
                found = builder.fadd(base, builder.fmul(alpha, products, flags=flags), flags=flags)
                builder.store(found, builder.inttoptr(out, vector.as_pointer())).align = 1
                return context.get_dummy_value()

            return types.void(types.int64, types.int64, types.int64, types.int64, types.int64), codegen

        return distances

    distances_u4 = _make_distances(_step_u4, 2)
    distances_u8 = _make_distances(_step_u8, 1)

elif HAS_AVX2:

    @intrinsic  # type: ignore[untyped-decorator]
    def dot_u8_i8(typingctx: Any, codes: Any, query: Any, blocks: Any) -> Any:  # noqa: ARG001
        """Sum of 8-bit codes times an 8-bit query over `blocks` blocks of 64 bytes."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            codes, query, blocks = args
            nibble = ir.Constant(BYTES32, [15] * 32)
            four = ir.Constant(SHORTS16, [4] * 16)

            def step(index: Any, states: list[Any]) -> list[Any]:
                total = states[0]
                for part in (0, 32):
                    offset = builder.add(builder.mul(index, I64(64)), I64(part))
                    row = load_block(builder, builder.add(codes, offset), BYTES32)
                    signed = load_block(builder, builder.add(query, offset), BYTES32)
                    wide = builder.lshr(builder.bitcast(row, SHORTS16), four)
                    # Whole bytes would overflow the 16 bits of a pair: each half by itself, the high one times 16.
                    for half, weight in (
                        (builder.and_(row, nibble), 1),
                        (builder.and_(builder.bitcast(wide, BYTES32), nibble), 16),
                    ):
                        pairs = call_intrinsic(builder, "llvm.x86.avx2.pmadd.ub.sw", SHORTS16, [half, signed])
                        weights = ir.Constant(SHORTS16, [weight] * 16)
                        sums = call_intrinsic(builder, "llvm.x86.avx2.pmadd.wd", INTS8, [pairs, weights])
                        total = builder.add(total, sums)
                return [total]

            (total,) = block_loop(builder, blocks, [ir.Constant(INTS8, [0] * 8)], step)
            return horizontal_sum(builder, total)

        return types.int64(types.int64, types.int64, types.int64), codegen

else:

    @inline_kernel
    def dot_u8_i8(codes, query, blocks):  # type: ignore[no-untyped-def]
        """Sum of 8-bit codes times an 8-bit query over `blocks` blocks of 64 bytes."""
        row = u8_at(codes, blocks * 64)
        other = i8_at(query, blocks * 64)
        total = np.int32(0)
        for j in range(blocks * 64):
            total += np.int32(row[j]) * np.int32(other[j])
        return np.int64(total)


if not HAS_VNNI512 and HAS_AVX2:

    @intrinsic  # type: ignore[untyped-decorator]
    def dot_u4_i8(typingctx: Any, codes: Any, query: Any, blocks: Any) -> Any:  # noqa: ARG001
        """Sum of 4-bit codes times an 8-bit query over `blocks` blocks of 64 code bytes (128 dimensions each)."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            codes, query, blocks = args
            nibble = ir.Constant(BYTES32, [15] * 32)
            four = ir.Constant(SHORTS16, [4] * 16)
            ones = ir.Constant(SHORTS16, [1] * 16)

            def step(index: Any, states: list[Any]) -> list[Any]:
                row = builder.add(codes, builder.mul(index, I64(64)))
                here = builder.add(query, builder.mul(index, I64(128)))
                sums = None
                for part in (0, 32):
                    packed = load_block(builder, builder.add(row, I64(part)), BYTES32)
                    wide = builder.lshr(builder.bitcast(packed, SHORTS16), four)
                    for half, offset in (
                        (builder.and_(packed, nibble), part),
                        (builder.and_(builder.bitcast(wide, BYTES32), nibble), part + 64),
                    ):
                        signed = load_block(builder, builder.add(here, I64(offset)), BYTES32)
                        # Pairs of products in 16 bits: at most 2 * 15 * 127, and four of them still fit.
                        pairs = call_intrinsic(builder, "llvm.x86.avx2.pmadd.ub.sw", SHORTS16, [half, signed])
                        sums = pairs if sums is None else builder.add(sums, pairs)
                return [
                    builder.add(
                        states[0], call_intrinsic(builder, "llvm.x86.avx2.pmadd.wd", INTS8, [sums, ones])
                    )
                ]

            (total,) = block_loop(builder, blocks, [ir.Constant(INTS8, [0] * 8)], step)
            return horizontal_sum(builder, total)

        return types.int64(types.int64, types.int64, types.int64), codegen

elif not HAS_VNNI512:

    @inline_kernel
    def dot_u4_i8(codes, query, blocks):  # type: ignore[no-untyped-def]
        """Sum of 4-bit codes times an 8-bit query over `blocks` blocks of 64 code bytes (128 dimensions each)."""
        total = np.int32(0)
        for block in range(blocks):
            row = u8_at(codes + block * 64, 64)
            low_query = i8_at(query + block * 128, 64)
            high_query = i8_at(query + block * 128 + 64, 64)
            for j in range(64):
                code = row[j]
                # A product of a nibble and a signed byte fits 16 bits, which the compiler turns into a multiply-add.
                total += np.int32(np.int16(code & 15) * np.int16(low_query[j]))
                total += np.int32(np.int16(code >> 4) * np.int16(high_query[j]))
        return np.int64(total)


if not HAS_VNNI512:

    @inline_kernel
    def _prefetch_rows(rows, blocks):  # type: ignore[no-untyped-def]
        for i in range(ROWS_AT_ONCE):
            row = load_i64(rows + i * 8)
            for block in range(blocks):
                prefetch(row + block * 64)

    @inline_kernel
    def distances_u4(rows, following, form, blocks, out):  # type: ignore[no-untyped-def]
        _prefetch_rows(following, blocks)
        base, alpha = load_f32(form), load_f32(form + 4)
        for i in range(ROWS_AT_ONCE):
            product = dot_u4_i8(load_i64(rows + i * 8), form + QUERY_HEADER, blocks)
            store_f32(out + i * 4, base + alpha * np.float32(product))

    @inline_kernel
    def distances_u8(rows, following, form, blocks, out):  # type: ignore[no-untyped-def]
        _prefetch_rows(following, blocks)
        base, alpha = load_f32(form), load_f32(form + 4)
        for i in range(ROWS_AT_ONCE):
            product = dot_u8_i8(load_i64(rows + i * 8), form + QUERY_HEADER, blocks)
            store_f32(out + i * 4, base + alpha * np.float32(product))


if HAS_SAD512:

    @intrinsic  # type: ignore[untyped-decorator]
    def sad_u8(typingctx: Any, codes: Any, query: Any, blocks: Any) -> Any:  # noqa: ARG001
        """Sum of absolute differences of two rows of bytes over `blocks` blocks of 64."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            codes, query, blocks = args

            def step(index: Any, states: list[Any]) -> list[Any]:
                offset = builder.mul(index, I64(64))
                row = load_block(builder, builder.add(codes, offset), BYTES64)
                other = load_block(builder, builder.add(query, offset), BYTES64)
                return [
                    builder.add(
                        states[0],
                        call_intrinsic(builder, "llvm.x86.avx512.psad.bw.512", LONGS8, [row, other]),
                    )
                ]

            (total,) = block_loop(builder, blocks, [ir.Constant(LONGS8, [0] * 8)], step)
            return call_intrinsic(builder, "llvm.vector.reduce.add.v8i64", I64, [total])

        return types.int64(types.int64, types.int64, types.int64), codegen

elif HAS_AVX2:

    @intrinsic  # type: ignore[untyped-decorator]
    def sad_u8(typingctx: Any, codes: Any, query: Any, blocks: Any) -> Any:  # noqa: ARG001
        """Sum of absolute differences of two rows of bytes over `blocks` blocks of 64."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            codes, query, blocks = args

            def step(index: Any, states: list[Any]) -> list[Any]:
                total = states[0]
                for part in (0, 32):
                    offset = builder.add(builder.mul(index, I64(64)), I64(part))
                    row = load_block(builder, builder.add(codes, offset), BYTES32)
                    other = load_block(builder, builder.add(query, offset), BYTES32)
                    total = builder.add(
                        total, call_intrinsic(builder, "llvm.x86.avx2.psad.bw", LONGS4, [row, other])
                    )
                return [total]

            (total,) = block_loop(builder, blocks, [ir.Constant(LONGS4, [0] * 4)], step)
            return call_intrinsic(builder, "llvm.vector.reduce.add.v4i64", I64, [total])

        return types.int64(types.int64, types.int64, types.int64), codegen

else:

    @inline_kernel
    def sad_u8(codes, query, blocks):  # type: ignore[no-untyped-def]
        """Sum of absolute differences of two rows of bytes over `blocks` blocks of 64."""
        row = u8_at(codes, blocks * 64)
        other = u8_at(query, blocks * 64)
        total = np.int32(0)
        for j in range(blocks * 64):
            total += abs(np.int32(row[j]) - np.int32(other[j]))
        return np.int64(total)
