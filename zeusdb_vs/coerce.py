"""Vectors in whatever form they come, turned into checked float32 rows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.errors import ArgumentTypeError, DimensionError, RecordError, VectorError

_CHECK_VALUES = 1 << 18
"""Values checked at a time: 1 MiB of float32, which stays in the second-level cache."""

FLOAT32_MAX = float(np.finfo(np.float32).max)
_BOOLS = (bool, np.bool_)
_ZERO = "vector is zero in float32, which has no direction in the cosine space"


def is_number(value: object) -> bool:
    """Return whether a value is a number to us; a bool is none."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def check_vectors(
    given: NDArray[Any] | list[Any], count: int, dim: int, failed: dict[int, RecordError]
) -> NDArray[np.float32]:
    """Return all vectors as float32 (count, dim); rows that failed hold anything finite."""
    if isinstance(given, np.ndarray):
        if count == 0:
            return np.empty((0, dim), np.float32)
        if given.dtype.kind not in "fiu":
            error = VectorError(f"an array of dtype {given.dtype} holds no vectors; pass floats or integers")
            failed.update((row, error) for row in range(count))
        elif given.shape[1] != dim:
            error = _wrong_width(given.shape[1], dim)
            failed.update((row, error) for row in range(count))
        else:
            # No copy where none is needed: the collection copies into its own chunks.
            return to_float32(given)
        return np.zeros((count, dim), np.float32)
    out = np.zeros((count, dim), np.float32)
    step = max(1, _CHECK_VALUES // dim)
    for start in range(0, count, step):
        if start:
            time.sleep(0)
        _convert_block(given, start, min(start + step, count), out, failed)
    return out


def to_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return numbers as float32 in C order, the same array where it is that already."""
    # Values beyond float32 become infinite here and are reported as such by the check for finite values.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def _convert_block(
    given: list[Any], start: int, stop: int, out: NDArray[np.float32], failed: dict[int, RecordError]
) -> None:
    dim = out.shape[1]
    rows = [row for row in range(start, stop) if row not in failed]
    block = _as_block([given[row] for row in rows])
    if block is not None and block.shape[1] == dim:
        out[rows] = to_float32(block)
        return
    for row in rows:
        try:
            out[row] = to_float32(_one_vector(given[row], dim))
        except RecordError as error:
            failed[row] = error


def _as_block(vectors: list[Any]) -> NDArray[Any] | None:
    """Convert all vectors at once, or return None when they need to be looked at one by one."""
    try:
        # NumPy would take booleans among floats for 0 and 1.
        if any(type(vector[0]) in _BOOLS for vector in vectors):
            return None
        block = np.asarray(vectors)
    except Exception:  # whatever a foreign object raises: one by one shows whose it is
        return None
    return block if block.ndim == 2 and block.dtype.kind in "fiu" else None


def _one_vector(value: Any, dim: int) -> NDArray[Any]:
    """Return one vector as a numeric array of width `dim`, or raise what is wrong with it."""
    try:
        vector = np.asarray(value)
    except (ValueError, TypeError, OverflowError, RuntimeError, MemoryError) as error:
        raise VectorError(f"vector is ragged or holds something other than numbers ({error})") from None
    if vector.ndim == 0:
        raise VectorError(f"vector must be a sequence of numbers, got {type(value).__name__}")
    if vector.ndim == 1 and vector.dtype.kind == "O":
        vector = _from_objects(vector)
    if vector.dtype.kind not in "fiu":
        raise VectorError(f"vector must be a sequence of numbers, got values of dtype {vector.dtype}")
    if vector.ndim != 1:
        raise VectorError(f"vector must have one dimension, got shape {vector.shape}")
    if len(vector) != dim:
        raise _wrong_width(len(vector), dim)
    return vector


def _from_objects(vector: NDArray[Any]) -> NDArray[np.float64]:
    """Convert what NumPy keeps as objects, such as integers beyond 64 bits."""
    for position, value in enumerate(vector):
        if not is_number(value):
            raise VectorError(f"vector value {position} is {value!r}, not a number")
    try:
        return vector.astype(np.float64)
    except OverflowError:
        raise VectorError(f"vector holds an integer beyond float32's ±{FLOAT32_MAX:.3g}") from None


def _wrong_width(width: int, dim: int) -> DimensionError:
    return DimensionError(f"vector has {width} values, this index needs {dim}")


def check_values(
    vectors: NDArray[np.float32],
    given: NDArray[Any] | list[Any],
    forbid_zero: bool,
    failed: dict[int, RecordError],
) -> None:
    """Find rows with values that are not finite and, where the space forbids them, rows of zeros."""
    step = max(1, _CHECK_VALUES // vectors.shape[1])
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step]
        if not np.isfinite(block).all():
            for row in (np.flatnonzero(~np.isfinite(block).all(axis=1)) + start).tolist():
                failed.setdefault(row, _not_finite(vectors[row], given[row]))
        if forbid_zero:
            # The norm in float64 is 0 only where every value is: the smallest float32 squared is about 2e-90.
            # Hardly any row starts with 0, so one column settles nearly all of them.
            suspects = np.flatnonzero(block[:, 0] == 0)
            if len(suspects):
                zeros = suspects[~block[suspects].any(axis=1)]
                for row in (zeros + start).tolist():
                    failed.setdefault(row, VectorError(_ZERO))


def _not_finite(vector: NDArray[np.float32], given: Any) -> VectorError:
    position = int(np.flatnonzero(~np.isfinite(vector))[0])
    value = float(given[position])
    if np.isfinite(value):
        return VectorError(
            f"vector value {position} is {value!r}, beyond float32's range of ±{FLOAT32_MAX:.3g}"
        )
    return VectorError(f"vector value {position} is {value!r}; every value must be finite")


def as_one_query(value: Any) -> NDArray[np.float32] | None:
    """Return what is plainly one query as float32, its values unchecked; None for anything else.

    Parameters
    ----------
    value : object
        Converted are 1-D arrays of numbers and lists that begin with a float.
    """
    if type(value) is list:
        if not value or type(value[0]) is not float:
            return None
        try:
            value = np.asarray(value)
        except (ValueError, TypeError, OverflowError):
            return None
    if type(value) is not np.ndarray or value.ndim != 1 or value.dtype.kind not in "fiu":
        return None
    return to_float32(value)


def read_queries(value: Any, *, dim: int, forbid_zero: bool) -> tuple[NDArray[np.float32], bool]:
    """Return queries as float32 rows.

    Parameters
    ----------
    value : array_like
        One vector, or several as a 2-D array or a list of vectors; any real dtype. An empty list is no query.
    dim : int
        Width each must have.
    forbid_zero : bool
        Refuse a query without a direction.

    Returns
    -------
    queries : ndarray of float32, shape (q, dim)
        C order and finite.
    many : bool
        Whether several were asked, even if that is none or one.

    Raises
    ------
    ArgumentTypeError
        There is no query at all.
    DimensionError, VectorError
        A query has another width, holds what is no finite float32, or is zero where that is forbidden.
    """
    if value is None or isinstance(value, str | bytes | dict):
        raise ArgumentTypeError(
            f"a query must be a vector of {dim} numbers or several of them, got {type(value).__name__}"
        )
    rows: Any = value
    many = True
    if not isinstance(value, list | tuple) or (value and is_number(value[0])):
        try:
            rows = np.asarray(value)
        except (ValueError, TypeError, OverflowError, RuntimeError) as error:
            raise VectorError(f"query is ragged or holds something other than numbers ({error})") from None
        if rows.ndim == 0 or rows.ndim > 2:
            raise VectorError(f"queries have 1 or 2 dimensions, these have shape {rows.shape}")
        if rows.ndim == 1 and (rows.size == 0 or rows.dtype.kind != "O" or is_number(rows[0])):
            many = rows.size == 0
            rows = [rows] if rows.size else []
        elif rows.dtype.kind == "O":
            rows = list(rows)
    failed: dict[int, RecordError] = {}
    queries = check_vectors(rows, len(rows), dim, failed)
    check_values(queries, rows, forbid_zero, failed)
    if failed:
        row = min(failed)
        place = f"query {row}: " if many else "query: "
        raise type(failed[row])(place + str(failed[row]))
    return queries, many
