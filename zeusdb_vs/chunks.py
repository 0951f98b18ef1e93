"""Rows in chunks: growth appends a chunk and moves nothing, so readers and kernels keep what they hold."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_CHUNK_BYTES = 8 << 20
_LARGEST_SHIFT = 12
_SMALLEST_SHIFT = 6
_PAGES_BYTES = 128 << 10
"""Chunks of at least this size are pages of their own: of the heap they would leave holes when they go."""


def chunk_shift(dim: int) -> int:
    """Return log2 of the rows per chunk for float32 vectors of `dim`: at most 4,096 rows or about 8 MiB."""
    shift = _LARGEST_SHIFT
    while shift > _SMALLEST_SHIFT and (4 * dim << shift) > _CHUNK_BYTES:
        shift -= 1
    return shift


def aligned_empty(rows: int, width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an uninitialised C-order (rows, width) array that starts on a 64-byte boundary."""
    size = rows * width * dtype.itemsize
    if size >= _PAGES_BYTES and hasattr(mmap, "MAP_PRIVATE"):
        pages = _Pages(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANON)
        return np.frombuffer(pages, dtype).reshape(rows, width)
    buffer = np.empty(size + 64, np.uint8)
    offset = -buffer.ctypes.data % 64
    return buffer[offset : offset + size].view(dtype).reshape(rows, width)


class _Pages(mmap.mmap):
    """Memory of this process, in pages that belong to no file."""


class RowTable:
    """A growing (n, width) array in chunks of `1 << shift` rows, reached by kernels through a table of addresses.

    Parameters
    ----------
    dtype : dtype of an element
    width : elements of a row
    shift : log2 of the rows per chunk
    fill : value of rows not yet written, or None to leave them uninitialised

    Attributes
    ----------
    chunks : list of (1 << shift, width) arrays, the last of them shorter where it is the end of a mapped file; only
        ever appended to, save that a short one is replaced by a copy when rows are to follow
    table : int64 array of their addresses; replaced, never changed, when a chunk is added
    """

    __slots__ = ("address", "chunks", "dtype", "fill", "shift", "stride", "table", "width")

    def __init__(self, dtype: DTypeLike, width: int, shift: int, fill: int | None = None) -> None:
        self.dtype = np.dtype(dtype)
        self.width = width
        self.shift = shift
        self.fill = fill
        self.stride = width * self.dtype.itemsize
        self.chunks: list[NDArray[Any]] = []
        self.table: NDArray[np.int64] = np.zeros(1, np.int64)
        self.address = int(self.table.ctypes.data)

    @classmethod
    def from_rows(cls, rows: NDArray[Any], shift: int, fill: int | None = None) -> RowTable:
        """Take over a (n, width) array, mapped or not: chunks are views of it."""
        table = cls(rows.dtype, rows.shape[1], shift, fill)
        size = 1 << shift
        table._add([rows[start : start + size] for start in range(0, len(rows), size)])
        return table

    @property
    def capacity(self) -> int:
        """Rows there is room for."""
        if not self.chunks:
            return 0
        return (len(self.chunks) - 1 << self.shift) + len(self.chunks[-1])

    @property
    def memory_bytes(self) -> int:
        """Bytes the chunks reserve in memory; pages never written are not resident."""
        return sum(chunk.nbytes for chunk in self.chunks if not _is_mapped(chunk))

    @property
    def mapped_bytes(self) -> int:
        """Bytes of chunks that are files mapped into memory."""
        return sum(chunk.nbytes for chunk in self.chunks if _is_mapped(chunk))

    def _add(self, chunks: Sequence[NDArray[Any]]) -> None:
        self.chunks.extend(chunks)
        # At least one entry: an empty array has no address to speak of.
        table = np.zeros(max(1, len(self.chunks)), np.int64)
        table[: len(self.chunks)] = [chunk.ctypes.data for chunk in self.chunks]
        self.table = table
        self.address = int(table.ctypes.data)

    def ensure(self, rows: int) -> None:
        """Make room for at least `rows` rows."""
        if rows <= self.capacity:
            return
        if self.chunks and len(self.chunks[-1]) < 1 << self.shift:
            short, whole = self.chunks[-1], self._new_chunk()
            whole[: len(short)] = short
            # At once: readers of single rows come here too.
            self.chunks[-1] = whole
        self._add([self._new_chunk() for _ in range(-(-rows >> self.shift) - len(self.chunks))])

    def _new_chunk(self) -> NDArray[Any]:
        chunk = aligned_empty(1 << self.shift, self.width, self.dtype)
        if self.fill is not None:
            chunk.fill(self.fill)
        return chunk

    def spans(self, start: int, stop: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (first row, view) for the pieces of rows `start .. stop`, in order."""
        while start < stop:
            chunk = self.chunks[start >> self.shift]
            inside = start & ((1 << self.shift) - 1)
            count = min(len(chunk) - inside, stop - start)
            yield start, chunk[inside : inside + count]
            start += count

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Write rows `start .. start + len(rows)`, for which there is room."""
        for first, view in self.spans(start, start + len(rows)):
            view[...] = rows[first - start : first - start + len(view)]

    def row(self, slot: int) -> NDArray[Any]:
        """Return a view of one row."""
        row: NDArray[Any] = self.chunks[slot >> self.shift][slot & ((1 << self.shift) - 1)]
        return row

    def take(self, slots: NDArray[np.integer]) -> NDArray[Any]:
        """Return a copy of the rows of `slots`, shape (len(slots), width)."""
        out = np.empty((len(slots), self.width), self.dtype)
        where = np.asarray(slots) >> self.shift
        inside = np.asarray(slots) & ((1 << self.shift) - 1)
        for chunk in np.unique(where):
            chosen = where == chunk
            out[chosen] = self.chunks[chunk][inside[chosen]]
        return out

    def selected(self, slots: NDArray[np.integer]) -> RowTable:
        """Return a new table that holds a copy of the rows of `slots` in that order."""
        table = RowTable(self.dtype, self.width, self.shift, self.fill)
        table.ensure(len(slots))
        step = 1 << self.shift
        for start in range(0, len(slots), step):
            table.write(start, self.take(slots[start : start + step]))
        return table

    def pieces(self, n: int) -> list[NDArray[Any]]:
        """Return the chunks that hold rows `0 .. n`, the last one cut: for writing them as one array."""
        return [view for _, view in self.spans(0, n)]


def _is_mapped(array: NDArray[Any]) -> bool:
    """Return whether an array is a view of a mapped file."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    owner = base.obj if isinstance(base, memoryview) else base
    return isinstance(owner, mmap.mmap) and not isinstance(owner, _Pages)
