"""LLVM instructions that intrinsics are made of, as calls of a builder."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

I64 = ir.IntType(64)
BYTES64 = ir.VectorType(ir.IntType(8), 64)
INTS16 = ir.VectorType(ir.IntType(32), 16)
LONGS8 = ir.VectorType(ir.IntType(64), 8)
BYTES32 = ir.VectorType(ir.IntType(8), 32)
SHORTS16 = ir.VectorType(ir.IntType(16), 16)
INTS8 = ir.VectorType(ir.IntType(32), 8)
LONGS4 = ir.VectorType(ir.IntType(64), 4)


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


def dot_accumulate(builder: Any, total: Any, unsigned: Any, signed: Any) -> Any:
    """Add the products of 64 unsigned with 64 signed bytes to 16 sums: one `vpdpbusd`."""
    values = [total, builder.bitcast(unsigned, INTS16), builder.bitcast(signed, INTS16)]
    return call_intrinsic(builder, "llvm.x86.avx512.vpdpbusd.512", INTS16, values)


def horizontal_sum(builder: Any, vector: Any) -> Any:
    name = f"llvm.vector.reduce.add.v{vector.type.count}i32"
    return builder.sext(call_intrinsic(builder, name, ir.IntType(32), [vector]), I64)


def block_loop(builder: Any, blocks: Any, start: list[Any], step: Any) -> list[Any]:
    """Build `for i in range(blocks): state = step(i, state)` with the state in registers."""
    before = builder.basic_block
    loop = builder.append_basic_block("blocks")
    after = builder.append_basic_block("blocks.end")
    builder.cbranch(builder.icmp_signed(">", blocks, I64(0)), loop, after)
    builder.position_at_end(loop)
    index = builder.phi(I64)
    states = [builder.phi(value.type) for value in start]
    results = step(index, states)
    following = builder.add(index, I64(1))
    index.add_incoming(I64(0), before)
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
