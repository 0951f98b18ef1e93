"""Files of one JSON object in which each record has a line of its own, so that one record can be read alone.

A file looks like this and is valid JSON as a whole::

    {
    "doc_1": {"category": "news"},
    "doc_2": {}
    }

Lines stand in the order of the ids in ``mappings.bin``, one for each id; when no record has content there
are none at all. Reading finds the line ends, compares every key with its id, and decodes a value only when
it is asked for.
"""

from __future__ import annotations

import json.encoder
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from zeusdb_vs.errors import CorruptIndexError, StorageError
from zeusdb_vs.storage.binary import ByteSink
from zeusdb_vs.storage.blocks import BLOCK_BYTES, CheckedReader, FileDigest, FileMismatchError

_encode_key = json.encoder.encode_basestring
_OPENING = b"{\n"
_CLOSING = b"}\n"
# Records handled at once.
_BATCH = 2048
# The same when writing. Small, for between batches a save lets other threads run.
_WRITTEN_BATCH = 256
_UINT8 = npt.NDArray[np.uint8]
_INT64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LinesFile:
    """One JSON text, or None, for each id in ``mappings.bin``, in that order.

    Attributes
    ----------
    values : iterable of str or None
        Compact JSON texts without line breaks. None is stored as the file's empty value (``{}`` in
        ``metadata.json``, ``null`` elsewhere), and that value comes back as None. After reading this is a
        `Lines`.
    """

    values: Iterable[str | None]


class IdTable:
    """The ids of the records, as ``mappings.bin`` holds them.

    Parameters
    ----------
    id_bytes : uint8 (b,)
        UTF-8 of all ids, one after the other.
    id_offsets : integer (n + 1,)
        Where each id begins; the last one is `b`.

    Raises
    ------
    ValueError
        The arrays do not describe a list of non-empty UTF-8 strings.
    """

    def __init__(self, id_bytes: npt.NDArray[Any], id_offsets: npt.NDArray[Any]) -> None:
        if id_bytes.dtype != np.uint8 or id_bytes.ndim != 1:
            raise ValueError(f"id_bytes must be uint8 of rank 1, is {id_bytes.dtype} of rank {id_bytes.ndim}")
        if id_offsets.dtype.kind not in "ui" or id_offsets.ndim != 1 or len(id_offsets) == 0:
            raise ValueError(
                f"id_offsets must be integers, one more than ids, is {id_offsets.dtype} {id_offsets.shape}"
            )
        if (
            id_offsets[0] != 0
            or int(id_offsets[-1]) != len(id_bytes)
            or int(id_offsets.max()) > len(id_bytes)
        ):
            raise ValueError(f"id_offsets must run from 0 to {len(id_bytes)}")
        self.offsets: _INT64 = id_offsets.astype(np.int64)
        self.lengths: _INT64 = np.diff(self.offsets)
        if self.lengths.size and int(self.lengths.min()) < 1:
            raise ValueError("id_offsets must grow from id to id")
        self.bytes: _UINT8 = id_bytes

    def __len__(self) -> int:
        return len(self.lengths)

    def decode(self, start: int, stop: int) -> list[str]:
        """Return the ids from `start` to `stop`; UnicodeDecodeError is a ValueError."""
        base = int(self.offsets[start])
        blob = self.bytes[base : int(self.offsets[stop])].tobytes()
        bounds = (self.offsets[start : stop + 1] - base).tolist()
        if blob.isascii():
            text = blob.decode("ascii")
            return [text[a:b] for a, b in pairwise(bounds)]
        return [blob[a:b].decode("utf-8") for a, b in pairwise(bounds)]

    def keys(self, start: int, stop: int) -> tuple[_UINT8, _INT64]:
        """Return the ids of a range as they stand inside a JSON string: all bytes, and each length."""
        raw = self.bytes[int(self.offsets[start]) : int(self.offsets[stop])]
        if not np.any(_NEEDS_ESCAPE[raw]):
            return raw, self.lengths[start:stop]
        keys = [_encode_key(text)[1:-1].encode("utf-8") for text in self.decode(start, stop)]
        return np.frombuffer(b"".join(keys), np.uint8), np.array([len(key) for key in keys], np.int64)


_NEEDS_ESCAPE = np.zeros(256, np.bool_)
_NEEDS_ESCAPE[:32] = True
_NEEDS_ESCAPE[[ord('"'), ord("\\")]] = True


def write(values: Iterable[str | None], ids: IdTable, sink: ByteSink, *, empty: str, file_name: str) -> None:
    """Write a lines file; streams, so that values may be produced as they are asked for.

    Raises
    ------
    StorageError
        There are more or fewer values than ids, or a value is not one line of UTF-8.
    """
    source = iter(values)
    sink.write(_OPENING)
    # A batch is written once it is known whether another follows: the very last line has no comma. Files in
    # which nothing but empty values has come so far are held back, for they may turn out to need no lines
    # at all.
    held = b""
    count, has_content = 0, False
    for start in range(0, len(ids), _WRITTEN_BATCH):
        stop = min(start + _WRITTEN_BATCH, len(ids))
        texts = list(islice(source, stop - start))
        count += len(texts)
        if len(texts) < stop - start:
            raise StorageError(f"{file_name}: {count} values for {len(ids)} ids")
        if not has_content and all(text is None for text in texts):
            continue
        if not has_content:
            has_content = True
            for earlier in range(0, start, _WRITTEN_BATCH):
                sink.write(
                    _lines(
                        [None] * _WRITTEN_BATCH,
                        ids.decode(earlier, earlier + _WRITTEN_BATCH),
                        empty,
                        file_name,
                    )
                )
        sink.write(held)
        held = _lines(texts, ids.decode(start, stop), empty, file_name)
    if next(source, _END) is not _END:
        raise StorageError(f"{file_name}: more than {len(ids)} values for {len(ids)} ids")
    sink.write(held[:-2] + b"\n" if held else b"")
    sink.write(_CLOSING)


_END: Any = object()


def _lines(texts: Sequence[str | None], keys: Sequence[str], empty: str, file_name: str) -> bytes:
    lines = "".join(
        [
            f"{_encode_key(key)}: {empty if text is None else text},\n"
            for key, text in zip(keys, texts, strict=True)
        ]
    )
    if lines.count("\n") != len(texts):
        broken = next(key for key, text in zip(keys, texts, strict=True) if text is not None and "\n" in text)
        raise StorageError(
            f"{file_name}: the value of {broken!r} holds a line break; it must be compact JSON"
        )
    try:
        return lines.encode("utf-8")
    except UnicodeEncodeError:
        raise StorageError(
            f"{file_name}: a value holds half a surrogate pair, which UTF-8 has no form for"
        ) from None


class Lines(Sequence["str | None"]):
    """The values of a lines file, each decoded when it is asked for.

    ``lines[i]`` is the JSON text of the i-th id, or None where the file has its empty value. Holds the file
    (in memory or mapped) and 12 bytes per record.
    """

    def __init__(
        self,
        data: mmap.mmap | bytearray,
        starts: _INT64,
        lengths: npt.NDArray[np.uint32],
        name: str,
        empty: str,
    ) -> None:
        self._data = data
        self._starts = starts
        self._lengths = lengths
        # Python's own views: an entry of a NumPy array costs several times as much.
        self._start_at, self._length_at = memoryview(starts), memoryview(lengths)  # type: ignore[arg-type]
        self._name = name
        self._empty = empty

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        """Return one value, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._decode(index, self._start_at[index], self._length_at[index])

    def _decode(self, index: int, start: int, length: int) -> str | None:
        try:
            text = str(self._data[start : start + length], "utf-8")
        except UnicodeDecodeError as error:
            raise CorruptIndexError(
                f"{self._name}: value {index} is not UTF-8 at its byte {error.start}"
            ) from None
        return None if text == self._empty else text

    def __iter__(self) -> Iterator[str | None]:
        # Bounds as lists by batches: indexing NumPy scalars one by one would cost more than the decoding.
        for first in range(0, len(self), _BATCH):
            starts = self._starts[first : first + _BATCH].tolist()
            lengths = self._lengths[first : first + _BATCH].tolist()
            for i, (start, length) in enumerate(zip(starts, lengths, strict=True)):
                yield self._decode(first + i, start, length)


class NoLines(Sequence["str | None"]):
    """The values of a file in which no record has content: None, `count` times."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        """Return None, or a list of None for a slice."""
        if isinstance(index, slice):
            return [None] * len(range(*index.indices(self._count)))
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return None


def read(
    path: Path, expected: FileDigest, ids: IdTable, *, empty: str, opener: str, mapped: bool
) -> Lines | NoLines:
    """Read or map a lines file and check its digest and every key.

    Parameters
    ----------
    empty : str
        The value that stands for None.
    opener : str
        The character every other value begins with: ``{`` for objects, ``"`` for texts.

    Raises
    ------
    FileMismatchError
        The digest is not the expected one, or the lines do not go with `ids`.
    """
    data: mmap.mmap | bytearray
    with CheckedReader(path, expected) as reader:
        if mapped and reader.file.size:
            data = reader.file.map()
            # Read beside the map, not through it: what is only checked should not become resident.
            piece = memoryview(bytearray(min(BLOCK_BYTES, reader.file.size)))
        else:
            reader.expect_memory()
            data = bytearray(reader.file.size)
            piece = memoryview(data)
        ends = []
        for start in range(0, reader.file.size, BLOCK_BYTES):
            length = min(BLOCK_BYTES, reader.file.size - start)
            part = piece[:length] if mapped else piece[start : start + length]
            reader.read_into(part)
            ends.append(np.flatnonzero(np.frombuffer(part, np.uint8) == 10) + start)
        reader.finish()
        piece.release()
    line_ends: _INT64 = np.concatenate(ends) if ends else np.empty(0, np.int64)
    return _index(data, line_ends, ids, path.name, empty, opener)


def _index(
    data: mmap.mmap | bytearray, line_ends: _INT64, ids: IdTable, name: str, empty: str, opener: str
) -> Lines | NoLines:
    size = len(data)
    if (
        len(line_ends) < 2
        or int(line_ends[-1]) != size - 1
        or data[:2] != _OPENING
        or data[-3:] != b"\n" + _CLOSING
    ):
        raise FileMismatchError("is not an object with one record a line")
    count = len(line_ends) - 2
    if count == 0:
        return NoLines(len(ids))
    if count != len(ids):
        raise FileMismatchError(f"has {count} records, mappings.bin has {len(ids)} ids")
    array = np.frombuffer(data, np.uint8)
    line_starts = line_ends[:-2] + 1
    value_ends = line_ends[1:-1].copy()
    value_ends[:-1] -= 1  # the comma
    if not np.all(array[value_ends[:-1]] == ord(",")):
        raise FileMismatchError("a line does not end with a comma")
    starts = np.empty(count, np.int64)
    for first in range(0, count, _BATCH):
        stop = min(first + _BATCH, count)
        starts[first:stop] = _check_keys(array, line_starts[first:stop], value_ends[first:stop], ids, first)
    lengths = value_ends - starts
    closer = "}" if opener == "{" else opener
    is_usual = (array[starts] == ord(opener)) & (array[value_ends - 1] == ord(closer)) & (lengths > 1)
    for i in np.flatnonzero(~is_usual).tolist():
        if bytes(array[starts[i] : value_ends[i]]) != empty.encode():
            raise FileMismatchError(f"line {i + 2}: the value does not run from {opener} to {closer}")
    if int(lengths.max()) >= 2**32:
        raise FileMismatchError("a record is larger than 4 GiB")
    return Lines(data, starts, lengths.astype(np.uint32), name, empty)


def _check_keys(array: _UINT8, line_starts: _INT64, value_ends: _INT64, ids: IdTable, first: int) -> _INT64:
    """Compare ``"key": `` of each line of a batch with its id and return where the values start."""
    try:
        keys, lengths = ids.keys(first, first + len(line_starts))
    except UnicodeDecodeError:
        raise FileMismatchError("mappings.bin holds an id that is not UTF-8") from None
    starts = line_starts + lengths + 4
    fits = starts < value_ends
    if np.all(fits):
        before = np.cumsum(lengths) - lengths
        places = np.arange(len(keys)) + np.repeat(line_starts + 1 - before, lengths)
        same = (
            (array[line_starts] == 34)
            & (array[starts - 3] == 34)
            & (array[starts - 2] == 58)
            & (array[starts - 1] == 32)
        )
        wrong = np.flatnonzero(array[places] != keys)
        same[np.searchsorted(before, wrong, side="right") - 1] = False
        fits &= same
    if not np.all(fits):
        i = int(np.flatnonzero(~fits)[0])
        line = bytes(array[line_starts[i] : min(int(value_ends[i]), int(line_starts[i]) + 80)])
        begin, end = (int(ids.offsets[first + k]) for k in (i, i + 1))
        expected = ids.bytes[begin:end].tobytes()[:80].decode("utf-8", "replace")
        raise FileMismatchError(f"line {first + i + 2} begins with {line!r}, not with the id {expected!r}")
    return starts
