"""CRC-32 of a file, one for each block of 16 MiB, computed while its bytes stream by."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from zeusdb_vs.errors import StorageError
from zeusdb_vs.storage import fsio

# Small enough that a mapped file can be checked piece by piece and a flipped bit located, large enough that
# the list of digests stays short: 100 GB are 6,400 of them.
BLOCK_BYTES = 16 * 1024 * 1024

# What is read at once when bytes are only looked at and not kept: fits the processor's second-level cache.
_PIECE_BYTES = 1024 * 1024


class FileMismatchError(Exception):
    """A file is not the one the manifest speaks of; the message says why. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class FileDigest:
    """Length in bytes and one CRC-32 per block of a file."""

    bytes: int
    crc32: tuple[int, ...]


class BlockDigest:
    """Digest of the bytes given to `update` in order.

    Parameters
    ----------
    expected : tuple of int, optional
        The CRC-32 each block should have. Then `update` raises FileMismatchError at the end of the first
        block that differs, before the rest is read.
    """

    __slots__ = ("_crc", "_crcs", "_expected", "_in_block", "_total")

    def __init__(self, expected: tuple[int, ...] | None = None) -> None:
        self._expected = expected
        self._crcs: list[int] = []
        self._crc = 0
        self._in_block = 0
        self._total = 0

    def update(self, data: fsio.Buffer) -> None:
        """Take the next bytes of the file."""
        rest = memoryview(data)
        while rest.nbytes:
            piece = rest[: BLOCK_BYTES - self._in_block]
            self._crc = zlib.crc32(piece, self._crc)
            self._in_block += piece.nbytes
            self._total += piece.nbytes
            rest = rest[piece.nbytes :]
            if self._in_block == BLOCK_BYTES:
                self._close_block()

    def _close_block(self) -> None:
        number = len(self._crcs)
        if self._expected is not None and (
            number >= len(self._expected) or self._expected[number] != self._crc
        ):
            start = number * BLOCK_BYTES
            raise FileMismatchError(
                f"bytes {start} to {start + self._in_block} do not have the CRC-32 they were saved with"
            )
        self._crcs.append(self._crc)
        self._crc = 0
        self._in_block = 0

    def finish(self) -> FileDigest:
        """Close the last block and return the digest of the whole file."""
        if self._in_block:
            self._close_block()
        if self._expected is not None and len(self._crcs) != len(self._expected):
            raise FileMismatchError(
                f"has {len(self._crcs)} blocks of CRC-32, its manifest has {len(self._expected)}"
            )
        return FileDigest(self._total, tuple(self._crcs))


class DigestingWriter:
    """A new file that is digested while it is written."""

    def __init__(self, path: Path) -> None:
        self._file = fsio.FileWriter(path)
        self._blocks = BlockDigest()
        self.digest = FileDigest(0, ())

    def write(self, data: fsio.Buffer) -> None:
        """Append bytes."""
        rest = memoryview(data)
        # Piecewise, so that the CRC reads what the write then finds in the processor's cache.
        for start in range(0, rest.nbytes, _PIECE_BYTES * 4):
            piece = rest[start : start + _PIECE_BYTES * 4]
            self._blocks.update(piece)
            self._file.write(piece)

    def finish(self) -> None:
        """Force the file to disk and close it; from then on `digest` is that of all that was written."""
        self._file.sync()
        self._file.close()
        self.digest = self._blocks.finish()

    def close(self) -> None:
        """Close the file; for the way out after an error."""
        self._file.close()


class CheckedReader:
    """Reads a file from its first byte to its last, digesting everything.

    Raises
    ------
    FileMismatchError
        The file's size or the CRC-32 of a block is not the expected one.
    FileNotFoundError, NotRegularFileError
        See `fsio.FileReader`.
    """

    def __init__(self, path: Path, expected: FileDigest) -> None:
        self.file = fsio.FileReader(path)
        self._expected = expected
        self._position = 0
        self._digest = BlockDigest(expected.crc32)
        if self.file.size != expected.bytes:
            self.file.close()
            raise FileMismatchError(f"has {self.file.size} bytes, its manifest says {expected.bytes}")

    def expect_memory(self) -> None:
        """Raise StorageError if the file is larger than this machine's memory; called before allocating."""
        total = fsio.memory_total_bytes()
        if total is not None and self.file.size > total:
            raise StorageError(
                f"{self.file.path} holds {self.file.size} bytes, this machine's memory {total}; "
                "open the index with mmap=True"
            )

    def read_into(self, target: memoryview) -> None:
        """Fill `target` with the next bytes."""
        for start in range(0, target.nbytes, BLOCK_BYTES):
            piece = target[start : start + BLOCK_BYTES]
            if self.file.read_into(piece, self._position) != piece.nbytes:
                raise FileMismatchError("became shorter while it was read")
            self._digest.update(piece)
            self._position += piece.nbytes

    def skip_to(self, position: int) -> None:
        """Digest the bytes up to `position` without keeping them."""
        if position == self._position:
            return
        scratch = memoryview(bytearray(min(_PIECE_BYTES, position - self._position)))
        while self._position < position:
            self.read_into(scratch[: min(len(scratch), position - self._position)])

    def finish(self) -> None:
        """Digest what is left and check the last block."""
        self.skip_to(self._expected.bytes)
        self._digest.finish()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> CheckedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_file(path: Path, expected: FileDigest) -> None:
    """Stream a file past its digest without keeping any of it; raises as `CheckedReader` does."""
    with CheckedReader(path, expected) as reader:
        reader.finish()
