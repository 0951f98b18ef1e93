"""Binary files: several named arrays in one file, each at an offset that suits a memory map.

Layout, all little-endian (docs/format.md has the tables)::

    file header      64 bytes   magic, container version, number of arrays, generation, index uuid, crc
    array header     64 bytes   magic, rank, dtype, shape, name, crc
    array data       padded with zeros to a multiple of 64 bytes   (both once per array)

Nothing is allocated before the sizes in the headers have been added up, as Python integers, to exactly the
file's size.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

from zeusdb_vs.errors import StorageError
from zeusdb_vs.storage import fsio
from zeusdb_vs.storage.blocks import CheckedReader, FileDigest, FileMismatchError

Array = npt.NDArray[Any]

ALIGNMENT = 64
FILE_MAGIC = b"ZVSBIN\r\n"  # the line end shows a transfer in text mode
ARRAY_MAGIC = b"ZVSA"
CONTAINER_VERSION = 1
MAX_ARRAYS = 256
MAX_RANK = 3

_FILE_HEADER = struct.Struct("<8sHHIQ16s20xI")
_ARRAY_HEADER = struct.Struct("<4sBB4s2x3Q24sI")
_DTYPES = ("|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8")
_NAME_BYTES = 24

# Rows that are not laid out as the file wants them are converted this many bytes at a time.
_CONVERT_BYTES = 8 * 1024 * 1024


class ByteSink(Protocol):
    """What a binary file is written to."""

    def write(self, data: fsio.Buffer) -> None:
        """Append bytes."""


@dataclass(frozen=True, slots=True)
class BinaryFile:
    """Named arrays that make up one file.

    Attributes
    ----------
    arrays : mapping of str to array, sequence of arrays, or number
        Names are 1..24 ASCII characters, at most 256 of them. Arrays have rank 0..3 and a bool, integer or
        float dtype of 1..8 bytes in any byte order and memory layout. A sequence of arrays with equal
        trailing dimensions and dtype is written as if concatenated along its first axis, without ever being
        so. A Python number is an array of rank 0. After reading: one array per name, little-endian and C
        order, read-only where it is a memory map.
    """

    arrays: Mapping[str, Array | Sequence[Array] | int | float | bool]


@dataclass(frozen=True, slots=True)
class Section:
    """One array on its way to disk: what its header says and the pieces its data comes from."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    pieces: tuple[Array, ...]

    @property
    def data_bytes(self) -> int:
        """Length of the data without padding."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Extent:
    """Where an array stands in a file: `offset` and `data_bytes` in bytes."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    data_bytes: int


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def prepare(content: BinaryFile, file_name: str) -> list[Section]:
    """Check `content` and return what is to be written, before any file is touched.

    Raises
    ------
    StorageError
        A name, dtype, rank or chunk list that the container cannot hold.
    """
    if not 1 <= len(content.arrays) <= MAX_ARRAYS:
        raise StorageError(f"{file_name}: {len(content.arrays)} arrays, a file holds 1 to {MAX_ARRAYS}")
    return [_section(f"{file_name}: array {name!r}", name, value) for name, value in content.arrays.items()]


def _section(where: str, name: str, value: Any) -> Section:
    if not (name.isascii() and name.isprintable() and 1 <= len(name) <= _NAME_BYTES):
        raise StorageError(f"{where}: the name must be 1 to {_NAME_BYTES} printable ASCII characters")
    pieces = (
        [np.asarray(piece) for piece in value] if isinstance(value, (list, tuple)) else [np.asarray(value)]
    )
    if not pieces:
        raise StorageError(
            f"{where}: an empty list of chunks has neither dtype nor shape; give one chunk of no rows"
        )
    dtype = pieces[0].dtype.newbyteorder("<")
    if dtype.str not in _DTYPES:
        raise StorageError(
            f"{where}: dtype {pieces[0].dtype} cannot be stored; the choice is {', '.join(_DTYPES)}"
        )
    shape = pieces[0].shape
    if len(shape) > MAX_RANK:
        raise StorageError(f"{where}: rank {len(shape)}, at most {MAX_RANK} can be stored")
    if isinstance(value, (list, tuple)):
        for piece in pieces:
            if piece.ndim == 0 or piece.shape[1:] != shape[1:] or piece.dtype.newbyteorder("<") != dtype:
                raise StorageError(
                    f"{where}: a chunk of {piece.dtype} {piece.shape} does not go with one of {dtype} {shape}"
                )
        shape = (sum(piece.shape[0] for piece in pieces), *shape[1:])
    return Section(name, dtype, shape, tuple(pieces))


def write(sections: Sequence[Section], sink: ByteSink, *, generation: int, index_uuid: UUID) -> None:
    """Write the file that `sections` make up."""
    head = _FILE_HEADER.pack(FILE_MAGIC, CONTAINER_VERSION, len(sections), 0, generation, index_uuid.bytes, 0)
    sink.write(_sealed(head))
    for section in sections:
        sink.write(_array_header(section))
        for piece in section.pieces:
            for data in _byte_views(piece, section.dtype):
                sink.write(data)
        sink.write(bytes(_padded(section.data_bytes) - section.data_bytes))


def _sealed(header: bytes) -> bytes:
    return header[:-4] + zlib.crc32(header[:-4]).to_bytes(4, "little")


def _array_header(section: Section) -> bytes:
    shape = (*section.shape, *(0 for _ in range(MAX_RANK - len(section.shape))))
    name, dtype = section.name.encode("ascii"), section.dtype.str.encode("ascii")
    return _sealed(_ARRAY_HEADER.pack(ARRAY_MAGIC, len(section.shape), 0, dtype, *shape, name, 0))


def _byte_views(piece: Array, dtype: np.dtype[Any]) -> Iterator[memoryview]:
    """Yield the bytes of an array as the file wants them, copying only what is laid out otherwise."""
    if piece.size == 0:
        return
    if piece.flags.c_contiguous and piece.dtype == dtype:
        yield piece.reshape(-1).view(np.uint8).data
        return
    rows = piece.reshape(1) if piece.ndim == 0 else piece
    step = max(1, _CONVERT_BYTES // max(1, rows.nbytes // len(rows)))
    for start in range(0, len(rows), step):
        part = np.ascontiguousarray(rows[start : start + step], dtype=dtype)
        yield part.reshape(-1).view(np.uint8).data


def read_layout(file: fsio.FileReader, *, generation: int, index_uuid: UUID) -> list[Extent]:
    """Read and check all headers of a file; the extents returned fill it exactly.

    Raises
    ------
    FileMismatchError
        A header is damaged, belongs to another save, or declares more or less than the file holds.
    """
    head = file.read(0, _FILE_HEADER.size)
    if len(head) < _FILE_HEADER.size or not head.startswith(FILE_MAGIC):
        raise FileMismatchError("does not begin with the header of a binary file of ours")
    _check_seal(head, "its header")
    _, version, count, _, file_generation, file_uuid, _ = _FILE_HEADER.unpack(head)
    if version != CONTAINER_VERSION:
        raise FileMismatchError(
            f"is a container of version {version}, this library reads version {CONTAINER_VERSION}"
        )
    if (file_generation, file_uuid) != (generation, index_uuid.bytes):
        raise FileMismatchError(
            f"belongs to generation {file_generation} of index {UUID(bytes=file_uuid)}, "
            f"the manifest to generation {generation} of {index_uuid}"
        )
    if not 1 <= count <= MAX_ARRAYS:
        raise FileMismatchError(f"declares {count} arrays, a file holds 1 to {MAX_ARRAYS}")
    extents: list[Extent] = []
    position = _FILE_HEADER.size
    for _ in range(count):
        extent = _read_array_header(file, position)
        extents.append(extent)
        position = extent.offset + _padded(extent.data_bytes)
        if position > file.size:
            raise FileMismatchError(
                f"array {extent.name!r} declares {extent.data_bytes} bytes from byte {extent.offset} on, "
                f"the file ends at {file.size}"
            )
    if position != file.size:
        raise FileMismatchError(f"its arrays end at byte {position}, the file at {file.size}")
    if len({extent.name for extent in extents}) != len(extents):
        raise FileMismatchError("holds two arrays of one name")
    return extents


def _check_seal(header: bytes, what: str) -> None:
    if _sealed(header) != header:
        raise FileMismatchError(f"{what} does not have the CRC-32 it was written with")


def _read_array_header(file: fsio.FileReader, position: int) -> Extent:
    header = file.read(position, _ARRAY_HEADER.size)
    if len(header) < _ARRAY_HEADER.size or not header.startswith(ARRAY_MAGIC):
        raise FileMismatchError(f"has no array header at byte {position}")
    _check_seal(header, f"the array header at byte {position}")
    _, rank, _, dtype_bytes, *dims, name_bytes, _ = _ARRAY_HEADER.unpack(header)
    dtype_text = dtype_bytes.rstrip(b"\0").decode("latin-1")
    name = name_bytes.rstrip(b"\0").decode("latin-1")
    if dtype_text not in _DTYPES:
        raise FileMismatchError(
            f"array {name!r} declares the dtype {dtype_text!r}, known are {', '.join(_DTYPES)}"
        )
    if rank > MAX_RANK or any(dims[rank:]):
        raise FileMismatchError(f"array {name!r} declares rank {rank} with dimensions {dims}")
    dtype = np.dtype(dtype_text)
    # A dimension of zero must not hide others that no array could have.
    if math.prod(max(1, dim) for dim in dims[:rank]) * dtype.itemsize >= 2**62:
        raise FileMismatchError(
            f"array {name!r} declares the shape {tuple(dims[:rank])}, larger than any memory"
        )
    shape = tuple(dims[:rank])
    return Extent(name, dtype, shape, position + _ARRAY_HEADER.size, math.prod(shape) * dtype.itemsize)


def read_arrays(path: Path, expected: FileDigest, *, generation: int, index_uuid: UUID) -> dict[str, Array]:
    """Read a file into arrays of its own memory, each writable and separately freed.

    Raises
    ------
    FileMismatchError
        The file's headers, size or digest are not those expected.
    StorageError
        The file is larger than the machine's memory.
    """
    with CheckedReader(path, expected) as reader:
        extents = read_layout(reader.file, generation=generation, index_uuid=index_uuid)
        reader.expect_memory()
        arrays = {}
        for extent in extents:
            array: Array = np.empty(extent.shape, extent.dtype)
            reader.skip_to(extent.offset)
            if array.size:
                reader.read_into(array.reshape(-1).view(np.uint8).data)
            arrays[extent.name] = array
        reader.finish()
    _check_bools(arrays)
    return arrays


def map_arrays(
    reader: CheckedReader, *, generation: int, index_uuid: UUID, private: bool = False
) -> dict[str, Array]:
    """Map a file and return arrays over it, read-only or `private` as `fsio.FileReader.map` has it.

    Headers are checked here, the digest by `reader.finish()`.

    Raises
    ------
    FileMismatchError
        The file's headers are not those expected.
    """
    extents = read_layout(reader.file, generation=generation, index_uuid=index_uuid)
    mapped = reader.file.map(private=private)
    arrays: dict[str, Array] = {}
    for extent in extents:
        if extent.data_bytes:
            arrays[extent.name] = np.ndarray(extent.shape, extent.dtype, buffer=mapped, offset=extent.offset)
        else:
            arrays[extent.name] = np.empty(extent.shape, extent.dtype)
            arrays[extent.name].flags.writeable = private
    _check_bools(arrays)
    return arrays


def _check_bools(arrays: Mapping[str, Array]) -> None:
    # Any other byte in a bool array is undefined behaviour in compiled code.
    for name, array in arrays.items():
        if array.dtype == np.bool_ and array.size and int(array.view(np.uint8).max()) > 1:
            raise FileMismatchError(f"array {name!r} of bool holds bytes other than 0 and 1")
