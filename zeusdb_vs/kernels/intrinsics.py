"""What Numba has no word for: memory by address, prefetch, and the integer instructions of AVX-512.

Kernels reach rows by address and not through array arguments, so that one compiled kernel serves arrays in memory and
read-only memory maps alike (to Numba these are two types), and rows that live in many chunks.

Under NUMBA_DISABLE_JIT=1 each has a plain Python form of the same meaning.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from zeusdb_vs.kernels.compile import FASTMATH, HAS_AVX2, HAS_SAD512, HAS_VNNI512, JIT_DISABLED, inline_kernel
from zeusdb_vs.kernels.layout import QUERY_HEADER

LANES = 64
"""Bytes a 512-bit register holds; code rows are padded to a multiple of it."""
ROWS_AT_ONCE = 4
"""Rows that `distances_u4` and `distances_u8` take.

Both write to float32 `out` the distances `base + alpha * <code, query>` between the query form at `form` and the rows
whose addresses lie at `rows`, and meanwhile prefetch those whose addresses lie at `following`. Four sums across a
register cost little more than one, and one took as long as the products of a short row.
"""

_I64 = ir.IntType(64)


def _prefetch(builder: Any, address: Any, locality: int = 3) -> None:
    pointer = builder.inttoptr(address, ir.IntType(8).as_pointer())
    i32 = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
    call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(call, [pointer, i32(0), i32(locality), i32(1)])


if JIT_DISABLED:

    def load_i64(address: int) -> int:
        return ctypes.c_int64.from_address(int(address)).value

    def load_i32(address: int) -> int:
        return ctypes.c_int32.from_address(int(address)).value

    def load_u16(address: int) -> int:
        return ctypes.c_uint16.from_address(int(address)).value

    def load_u8(address: int) -> int:
        return ctypes.c_uint8.from_address(int(address)).value

    def load_f32(address: int) -> Any:
        return np.float32(ctypes.c_float.from_address(int(address)).value)

    def store_i64(address: int, value: int) -> None:
        ctypes.c_int64.from_address(int(address)).value = int(value)

    def store_i32(address: int, value: int) -> None:
        ctypes.c_int32.from_address(int(address)).value = int(value)

    def store_u16(address: int, value: int) -> None:
        ctypes.c_uint16.from_address(int(address)).value = int(value)

    def store_u8(address: int, value: int) -> None:
        ctypes.c_uint8.from_address(int(address)).value = int(value)

    def store_f32(address: int, value: float) -> None:
        ctypes.c_float.from_address(int(address)).value = float(value)

    def prefetch(address: int) -> None:
        """Do nothing: only a hint to the processor."""

    def move_bytes(target: int, source: int, count: int) -> None:
        ctypes.memmove(int(target), int(source), int(count))

    def bits_of_f32(value: Any) -> int:
        return int(np.float32(value).view(np.int32))

    def f32_of_bits(value: int) -> Any:
        return np.int32(value).view(np.float32)

    def at_most_16(address: int, limit: Any) -> int:
        values = (ctypes.c_float * 16).from_address(int(address))
        return sum(1 << i for i, value in enumerate(values) if not value > limit)

    def lowest_bit(bits: int) -> int:
        return (int(bits) & -int(bits)).bit_length() - 1

    def _array_at(address: int, count: int, dtype: Any) -> Any:
        dtype = np.dtype(dtype)
        if count == 0:
            return np.empty(0, dtype)
        buffer = (ctypes.c_char * (int(count) * dtype.itemsize)).from_address(int(address))
        return np.frombuffer(buffer, dtype)

    def f32_at(address: int, count: int) -> Any:
        return _array_at(address, count, np.float32)

    def u8_at(address: int, count: int) -> Any:
        return _array_at(address, count, np.uint8)

    def i8_at(address: int, count: int) -> Any:
        return _array_at(address, count, np.int8)

    def i64_at(address: int, count: int) -> Any:
        return _array_at(address, count, np.int64)

    def address_of(array: Any) -> int:
        return int(array.__array_interface__["data"][0])

else:

    def _make_load(llvm_type: ir.Type, numba_type: types.Type, promote: Any) -> Any:
        @intrinsic  # type: ignore[untyped-decorator]
        def load(typingctx: Any, address: Any) -> Any:  # noqa: ARG001
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
                pointer = builder.inttoptr(args[0], llvm_type.as_pointer())
                value = builder.load(pointer)
                return promote(builder, value)

            return numba_type(types.int64), codegen

        return load

    def _make_store(llvm_type: ir.Type, numba_type: types.Type, narrow: Any) -> Any:
        @intrinsic  # type: ignore[untyped-decorator]
        def store(typingctx: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
                pointer = builder.inttoptr(args[0], llvm_type.as_pointer())
                builder.store(narrow(builder, args[1]), pointer)
                return context.get_dummy_value()

            return types.void(types.int64, numba_type), codegen

        return store

    def _same(builder: Any, value: Any) -> Any:  # noqa: ARG001
        return value

    load_i64 = _make_load(_I64, types.int64, _same)
    load_i32 = _make_load(ir.IntType(32), types.int64, lambda b, v: b.sext(v, _I64))
    load_u16 = _make_load(ir.IntType(16), types.int64, lambda b, v: b.zext(v, _I64))
    load_u8 = _make_load(ir.IntType(8), types.int64, lambda b, v: b.zext(v, _I64))
    load_f32 = _make_load(ir.FloatType(), types.float32, _same)
    store_i64 = _make_store(_I64, types.int64, _same)
    store_i32 = _make_store(ir.IntType(32), types.int64, lambda b, v: b.trunc(v, ir.IntType(32)))
    store_u16 = _make_store(ir.IntType(16), types.int64, lambda b, v: b.trunc(v, ir.IntType(16)))
    store_u8 = _make_store(ir.IntType(8), types.int64, lambda b, v: b.trunc(v, ir.IntType(8)))
    store_f32 = _make_store(ir.FloatType(), types.float32, _same)

    @intrinsic  # type: ignore[untyped-decorator]
    def prefetch(typingctx: Any, address: Any) -> Any:  # noqa: ARG001
        """Ask for the cache line at `address`; an address that is not mapped is harmless."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            _prefetch(builder, args[0])
            return context.get_dummy_value()

        return types.void(types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def move_bytes(typingctx: Any, target: Any, source: Any, count: Any) -> Any:  # noqa: ARG001
        """Copy `count` bytes; the ranges may overlap."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            byte = ir.IntType(8).as_pointer()
            cgutils.raw_memmove(
                builder, builder.inttoptr(args[0], byte), builder.inttoptr(args[1], byte), args[2], 1
            )
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def bits_of_f32(typingctx: Any, value: Any) -> Any:  # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            return builder.sext(builder.bitcast(args[0], ir.IntType(32)), _I64)

        return types.int64(types.float32), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def f32_of_bits(typingctx: Any, value: Any) -> Any:  # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            return builder.bitcast(builder.trunc(args[0], ir.IntType(32)), ir.FloatType())

        return types.float32(types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def at_most_16(typingctx: Any, address: Any, limit: Any) -> Any:  # noqa: ARG001
        """A bit for each of the 16 float32 at `address`: 1 where it is at most `limit`, or is not a number."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            values = _load_block(builder, args[0], ir.VectorType(ir.FloatType(), 16))
            limits = _spread(builder, args[1], 16)
            is_within = builder.fcmp_unordered("<=", values, limits)
            return builder.zext(builder.bitcast(is_within, ir.IntType(16)), _I64)

        return types.int64(types.int64, types.float32), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def lowest_bit(typingctx: Any, bits: Any) -> Any:  # noqa: ARG001
        """Number of the lowest bit that is set; there is one."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

        return types.int64(types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def _pointer(typingctx: Any, address: Any) -> Any:  # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

        return types.voidptr(types.int64), codegen

    @inline_kernel
    def f32_at(address, count):  # type: ignore[no-untyped-def]
        return carray(_pointer(address), (count,), np.float32)

    @inline_kernel
    def u8_at(address, count):  # type: ignore[no-untyped-def]
        return carray(_pointer(address), (count,), np.uint8)

    @inline_kernel
    def i8_at(address, count):  # type: ignore[no-untyped-def]
        return carray(_pointer(address), (count,), np.int8)

    @inline_kernel
    def i64_at(address, count):  # type: ignore[no-untyped-def]
        return carray(_pointer(address), (count,), np.int64)

    @inline_kernel
    def address_of(array):  # type: ignore[no-untyped-def]
        return np.int64(array.ctypes.data)


_BYTES64 = ir.VectorType(ir.IntType(8), LANES)
_INTS16 = ir.VectorType(ir.IntType(32), 16)
_LONGS8 = ir.VectorType(ir.IntType(64), 8)
_BYTES32 = ir.VectorType(ir.IntType(8), 32)
_SHORTS16 = ir.VectorType(ir.IntType(16), 16)
_INTS8 = ir.VectorType(ir.IntType(32), 8)
_LONGS4 = ir.VectorType(ir.IntType(64), 4)


def _load_block(builder: Any, address: Any, block: Any = _BYTES64) -> Any:
    load = builder.load(builder.inttoptr(address, block.as_pointer()))
    load.align = 1
    return load


def _spread(builder: Any, value: Any, count: int) -> Any:
    """Return a vector of `count` times the same value."""
    vector = ir.VectorType(value.type, count)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    return _shuffled(builder, first, first, [0] * count)


def _shuffled(builder: Any, one: Any, other: Any, places: list[int]) -> Any:
    """Return a vector of elements of two vectors, those of the second numbered on from the first's."""
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))


def _added(builder: Any, vectors: list[Any]) -> Any:
    total = vectors[0]
    for vector in vectors[1:]:
        total = builder.add(total, vector)
    return total


def _call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _dot_accumulate(builder: Any, total: Any, unsigned: Any, signed: Any) -> Any:
    """Add the products of 64 unsigned with 64 signed bytes to 16 sums: one `vpdpbusd`."""
    values = [total, builder.bitcast(unsigned, _INTS16), builder.bitcast(signed, _INTS16)]
    return _call(builder, "llvm.x86.avx512.vpdpbusd.512", _INTS16, values)


def _horizontal_sum(builder: Any, vector: Any) -> Any:
    name = f"llvm.vector.reduce.add.v{vector.type.count}i32"
    return builder.sext(_call(builder, name, ir.IntType(32), [vector]), _I64)


def _block_loop(builder: Any, blocks: Any, start: list[Any], step: Any) -> list[Any]:
    """Build `for i in range(blocks): state = step(i, state)` with the state in registers."""
    before = builder.basic_block
    loop = builder.append_basic_block("blocks")
    after = builder.append_basic_block("blocks.end")
    builder.cbranch(builder.icmp_signed(">", blocks, _I64(0)), loop, after)
    builder.position_at_end(loop)
    index = builder.phi(_I64)
    states = [builder.phi(value.type) for value in start]
    results = step(index, states)
    following = builder.add(index, _I64(1))
    index.add_incoming(_I64(0), before)
    index.add_incoming(following, builder.basic_block)
    for state, first, result in zip(states, start, results, strict=True):
        state.add_incoming(first, before)
        state.add_incoming(result, builder.basic_block)
    end_of_loop = builder.basic_block
    builder.cbranch(builder.icmp_signed("<", following, blocks), loop, after)
    builder.position_at_end(after)
    finals = []
    for first, result in zip(start, results, strict=True):
        final = builder.phi(first.type)
        final.add_incoming(first, before)
        final.add_incoming(result, end_of_loop)
        finals.append(final)
    return finals


if HAS_VNNI512:

    def _step_u4(builder: Any, codes: Any, query: Any, index: Any, totals: list[Any]) -> list[Any]:
        """Add the products of a block of 4-bit codes to two vectors of sums."""
        nibble = ir.Constant(_BYTES64, [15] * LANES)
        four = ir.Constant(ir.VectorType(ir.IntType(16), 32), [4] * 32)
        row = _load_block(builder, builder.add(codes, builder.mul(index, _I64(64))))
        here = builder.add(query, builder.mul(index, _I64(128)))
        low_query = _load_block(builder, here)
        high_query = _load_block(builder, builder.add(here, _I64(64)))
        low = builder.and_(row, nibble)
        wide = builder.lshr(builder.bitcast(row, four.type), four)
        high = builder.and_(builder.bitcast(wide, _BYTES64), nibble)
        return [
            _dot_accumulate(builder, totals[0], low, low_query),
            _dot_accumulate(builder, totals[1], high, high_query),
        ]

    def _step_u8(builder: Any, codes: Any, query: Any, index: Any, totals: list[Any]) -> list[Any]:
        """Add the products of a block of 8-bit codes to a vector of sums."""
        offset = builder.mul(index, _I64(64))
        row = _load_block(builder, builder.add(codes, offset))
        other = _load_block(builder, builder.add(query, offset))
        return [_dot_accumulate(builder, totals[0], row, other)]

    _ZEROS16 = ir.Constant(_INTS16, [0] * 16)

    @intrinsic  # type: ignore[untyped-decorator]
    def dot_u4_i8(typingctx: Any, codes: Any, query: Any, blocks: Any) -> Any:  # noqa: ARG001
        """Sum of 4-bit codes times an 8-bit query over `blocks` blocks of 64 code bytes (128 dimensions each)."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            codes, query, blocks = args

            def step(index: Any, totals: list[Any]) -> list[Any]:
                return _step_u4(builder, codes, query, index, totals)

            low_sum, high_sum = _block_loop(builder, blocks, [_ZEROS16, _ZEROS16], step)
            return _horizontal_sum(builder, builder.add(low_sum, high_sum))

        return types.int64(types.int64, types.int64, types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def dot_u8_i8(typingctx: Any, codes: Any, query: Any, blocks: Any) -> Any:  # noqa: ARG001
        """Sum of 8-bit codes times an 8-bit query over `blocks` blocks of 64 bytes."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            codes, query, blocks = args

            def step(index: Any, totals: list[Any]) -> list[Any]:
                return _step_u8(builder, codes, query, index, totals)

            (total,) = _block_loop(builder, blocks, [_ZEROS16], step)
            return _horizontal_sum(builder, total)

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
                    _shuffled(
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
                *(_shuffled(builder, total, total, list(range(at, at + half))) for at in (0, half))
            )
        return total

    def _make_distances(step_of: Any, sums: int) -> Any:
        @intrinsic  # type: ignore[untyped-decorator]
        def distances(typingctx: Any, rows: Any, following: Any, form: Any, blocks: Any, out: Any) -> Any:  # noqa: ARG001
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
                rows, following, form, blocks, out = args
                places = range(ROWS_AT_ONCE)
                here = [_load_block(builder, builder.add(rows, _I64(8 * i)), _I64) for i in places]
                ahead = [_load_block(builder, builder.add(following, _I64(8 * i)), _I64) for i in places]
                query = builder.add(form, _I64(QUERY_HEADER))

                def step(index: Any, totals: list[Any]) -> list[Any]:
                    offset = builder.mul(index, _I64(64))
                    for row in ahead:
                        # To be read once and left alone: the larger cache keeps what the rest of a search needs.
                        _prefetch(builder, builder.add(row, offset), locality=0)
                    added = []
                    for i, row in enumerate(here):
                        added += step_of(builder, row, query, index, totals[i * sums : (i + 1) * sums])
                    return added

                totals = _block_loop(builder, blocks, [_ZEROS16] * (sums * ROWS_AT_ONCE), step)
                of_rows = [_added(builder, totals[i * sums : (i + 1) * sums]) for i in places]
                vector = ir.VectorType(ir.FloatType(), ROWS_AT_ONCE)
                products = builder.sitofp(_sums_of_four(builder, of_rows), vector)
                base, alpha = (
                    _spread(
                        builder,
                        _load_block(builder, builder.add(form, _I64(at)), ir.FloatType()),
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
            nibble = ir.Constant(_BYTES32, [15] * 32)
            four = ir.Constant(_SHORTS16, [4] * 16)

            def step(index: Any, states: list[Any]) -> list[Any]:
                total = states[0]
                for part in (0, 32):
                    offset = builder.add(builder.mul(index, _I64(64)), _I64(part))
                    row = _load_block(builder, builder.add(codes, offset), _BYTES32)
                    signed = _load_block(builder, builder.add(query, offset), _BYTES32)
                    wide = builder.lshr(builder.bitcast(row, _SHORTS16), four)
                    # Whole bytes would overflow the 16 bits of a pair: each half by itself, the high one times 16.
                    for half, weight in (
                        (builder.and_(row, nibble), 1),
                        (builder.and_(builder.bitcast(wide, _BYTES32), nibble), 16),
                    ):
                        pairs = _call(builder, "llvm.x86.avx2.pmadd.ub.sw", _SHORTS16, [half, signed])
                        weights = ir.Constant(_SHORTS16, [weight] * 16)
                        sums = _call(builder, "llvm.x86.avx2.pmadd.wd", _INTS8, [pairs, weights])
                        total = builder.add(total, sums)
                return [total]

            (total,) = _block_loop(builder, blocks, [ir.Constant(_INTS8, [0] * 8)], step)
            return _horizontal_sum(builder, total)

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
            nibble = ir.Constant(_BYTES32, [15] * 32)
            four = ir.Constant(_SHORTS16, [4] * 16)
            ones = ir.Constant(_SHORTS16, [1] * 16)

            def step(index: Any, states: list[Any]) -> list[Any]:
                row = builder.add(codes, builder.mul(index, _I64(64)))
                here = builder.add(query, builder.mul(index, _I64(128)))
                sums = None
                for part in (0, 32):
                    packed = _load_block(builder, builder.add(row, _I64(part)), _BYTES32)
                    wide = builder.lshr(builder.bitcast(packed, _SHORTS16), four)
                    for half, offset in (
                        (builder.and_(packed, nibble), part),
                        (builder.and_(builder.bitcast(wide, _BYTES32), nibble), part + 64),
                    ):
                        signed = _load_block(builder, builder.add(here, _I64(offset)), _BYTES32)
                        # Pairs of products in 16 bits: at most 2 * 15 * 127, and four of them still fit.
                        pairs = _call(builder, "llvm.x86.avx2.pmadd.ub.sw", _SHORTS16, [half, signed])
                        sums = pairs if sums is None else builder.add(sums, pairs)
                return [
                    builder.add(states[0], _call(builder, "llvm.x86.avx2.pmadd.wd", _INTS8, [sums, ones]))
                ]

            (total,) = _block_loop(builder, blocks, [ir.Constant(_INTS8, [0] * 8)], step)
            return _horizontal_sum(builder, total)

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
                offset = builder.mul(index, _I64(64))
                row = _load_block(builder, builder.add(codes, offset))
                other = _load_block(builder, builder.add(query, offset))
                return [
                    builder.add(
                        states[0], _call(builder, "llvm.x86.avx512.psad.bw.512", _LONGS8, [row, other])
                    )
                ]

            (total,) = _block_loop(builder, blocks, [ir.Constant(_LONGS8, [0] * 8)], step)
            return _call(builder, "llvm.vector.reduce.add.v8i64", _I64, [total])

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
                    offset = builder.add(builder.mul(index, _I64(64)), _I64(part))
                    row = _load_block(builder, builder.add(codes, offset), _BYTES32)
                    other = _load_block(builder, builder.add(query, offset), _BYTES32)
                    total = builder.add(total, _call(builder, "llvm.x86.avx2.psad.bw", _LONGS4, [row, other]))
                return [total]

            (total,) = _block_loop(builder, blocks, [ir.Constant(_LONGS4, [0] * 4)], step)
            return _call(builder, "llvm.vector.reduce.add.v4i64", _I64, [total])

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
