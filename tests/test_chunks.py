"""Rows in chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeusdb_vs.chunks import RowTable, chunk_shift


@pytest.mark.parametrize("dim", [1, 2, 384, 512, 513, 1536, 65_536])
def test_chunk_shift_keeps_chunks_small_but_not_too_small(dim: int) -> None:
    rows = 1 << chunk_shift(dim)
    assert 64 <= rows <= 4096
    assert rows * dim * 4 <= 8 << 20 or rows == 64


@given(st.lists(st.integers(1, 40), max_size=8), st.integers(0, 4), st.integers(1, 3))
def test_table_holds_what_was_written_whatever_the_steps(steps: list[int], shift: int, width: int) -> None:
    total = sum(steps)
    right = np.arange(total * width, dtype=np.int32).reshape(total, width)
    table = RowTable(np.int32, width, shift)
    start = 0
    for step in steps:
        table.ensure(start + step)
        table.write(start, right[start : start + step])
        start += step
    assert table.capacity >= total
    assert table.memory_bytes == table.capacity * width * 4
    if total:
        np.testing.assert_array_equal(np.concatenate(table.pieces(total)), right)
        np.testing.assert_array_equal(table.row(total - 1), right[-1])
        slots = np.random.default_rng(0).integers(0, total, 17)
        np.testing.assert_array_equal(table.take(slots), right[slots])
        chosen = np.unique(slots)
        copy = table.selected(chosen)
        np.testing.assert_array_equal(np.concatenate(copy.pieces(len(chosen))), right[chosen])
        np.testing.assert_array_equal(table.take(np.arange(total)), right)  # the source is as it was
    else:
        assert table.pieces(0) == []


def test_growth_moves_no_row_and_leaves_the_old_table_as_it_was() -> None:
    table = RowTable(np.float32, 3, 2)
    table.ensure(4)
    table.write(0, np.ones((4, 3), np.float32))
    chunk, addresses, old = table.chunks[0], table.table, table.table.copy()
    table.ensure(100)
    assert table.chunks[0] is chunk
    np.testing.assert_array_equal(addresses, old)
    assert table.table is not addresses and table.table[0] == old[0]
    assert table.address == table.table.ctypes.data


def test_table_addresses_lead_to_rows_on_whole_cache_lines() -> None:
    table = RowTable(np.uint8, 64, 3)
    table.ensure(20)
    for chunk, address in zip(table.chunks, table.table, strict=True):
        assert chunk.ctypes.data == address
        assert address % 64 == 0


def test_room_is_filled_where_a_filling_is_named() -> None:
    table = RowTable(np.int32, 2, 2, fill=-1)
    table.ensure(9)
    assert all((chunk == -1).all() for chunk in table.chunks)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 24])
def test_table_takes_over_an_array(count: int) -> None:
    rows = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    rows.flags.writeable = False  # as a memory map would be
    table = RowTable.from_rows(rows, 3)
    if count:
        np.testing.assert_array_equal(np.concatenate(table.pieces(count)), rows)
    assert all(np.shares_memory(chunk, rows) for chunk in table.chunks[: count >> 3])
    table.ensure(count + 5)
    table.write(count, np.full((5, 2), 9, np.float32))
    np.testing.assert_array_equal(table.take(np.arange(count, count + 5)), np.full((5, 2), 9))
    np.testing.assert_array_equal(rows.ravel(), np.arange(count * 2))


def test_rows_can_be_read_while_a_short_chunk_is_replaced() -> None:
    """Readers of single rows take no lock, and look into the very table that a writer makes room in."""
    rows = np.arange(26, dtype=np.float32).reshape(13, 2)

    class Watched(RowTable):
        __slots__ = ()

        def _new_chunk(self) -> np.ndarray:
            np.testing.assert_array_equal(self.take(np.arange(13)), rows)
            np.testing.assert_array_equal(self.row(12), rows[12])
            return super()._new_chunk()

    table = Watched.from_rows(rows, 3)
    table.ensure(40)
    np.testing.assert_array_equal(table.take(np.arange(13)), rows)
    assert table.capacity == 40
