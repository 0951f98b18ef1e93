"""LLVM instructions that intrinsics are made of, as calls of a builder."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

I64 = ir.IntType(64)


def emit_prefetch(builder: Any, address: Any, locality: int = 3) -> None:
    """Ask for a line of memory; with a locality of 0, past all but the nearest cache."""
    pointer = builder.inttoptr(address, ir.IntType(8).as_pointer())
    i32 = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
    call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(call, [pointer, i32(0), i32(locality), i32(1)])


def load_block(builder: Any, address: Any, block: Any) -> Any:
    """Return what lies at an address, aligned or not, as a type."""
    load = builder.load(builder.inttoptr(address, block.as_pointer()))
    load.align = 1
    return load


def spread(builder: Any, value: Any, count: int) -> Any:
    """Return a vector of `count` times the same value."""
    vector = ir.VectorType(value.type, count)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    return shuffled(builder, first, first, [0] * count)


def shuffled(builder: Any, one: Any, other: Any, places: list[int]) -> Any:
    """Return a vector of elements of two vectors, those of the second numbered on from the first's."""
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))


def call_intrinsic(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call an intrinsic of LLVM by its name."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)
