"""What Numba has no word for: memory by address, and prefetch. Integer arithmetic on whole registers is in `simd.py`.

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

from zeusdb_vs.kernels.compile import JIT_DISABLED, inline_kernel
from zeusdb_vs.kernels.llvm import I64, emit_prefetch, load_block, spread

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

    load_i64 = _make_load(I64, types.int64, _same)
    load_i32 = _make_load(ir.IntType(32), types.int64, lambda b, v: b.sext(v, I64))
    load_u16 = _make_load(ir.IntType(16), types.int64, lambda b, v: b.zext(v, I64))
    load_u8 = _make_load(ir.IntType(8), types.int64, lambda b, v: b.zext(v, I64))
    load_f32 = _make_load(ir.FloatType(), types.float32, _same)
    store_i64 = _make_store(I64, types.int64, _same)
    store_i32 = _make_store(ir.IntType(32), types.int64, lambda b, v: b.trunc(v, ir.IntType(32)))
    store_u16 = _make_store(ir.IntType(16), types.int64, lambda b, v: b.trunc(v, ir.IntType(16)))
    store_u8 = _make_store(ir.IntType(8), types.int64, lambda b, v: b.trunc(v, ir.IntType(8)))
    store_f32 = _make_store(ir.FloatType(), types.float32, _same)

    @intrinsic  # type: ignore[untyped-decorator]
    def prefetch(typingctx: Any, address: Any) -> Any:  # noqa: ARG001
        """Ask for the cache line at `address`; an address that is not mapped is harmless."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            emit_prefetch(builder, args[0])
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
            return builder.sext(builder.bitcast(args[0], ir.IntType(32)), I64)

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
            values = load_block(builder, args[0], ir.VectorType(ir.FloatType(), 16))
            limits = spread(builder, args[1], 16)
            is_within = builder.fcmp_unordered("<=", values, limits)
            return builder.zext(builder.bitcast(is_within, ir.IntType(16)), I64)

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
