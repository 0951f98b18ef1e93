"""Checks of arrays that come from a file, before anything computes with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from zeusdb_vs.errors import CorruptIndexError


def checked_array(
    arrays: Mapping[str, Any], file: str, name: str, dtype: DTypeLike, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """Return an array of a file after checking its type and shape.

    Parameters
    ----------
    arrays : by name, as read
    dtype : what it must be
    shape : sizes it must have; None for any

    Raises
    ------
    CorruptIndexError
        It is missing, or is not of that type or shape.
    """
    array = arrays.get(name)
    if not isinstance(array, np.ndarray):
        raise CorruptIndexError(f"{file}: the array {name!r} is missing")
    wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
    fits = array.ndim == len(shape) and all(
        b is None or a == b for a, b in zip(array.shape, shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not fits:
        raise CorruptIndexError(
            f"{file}: the array {name!r} is {array.dtype} {array.shape}, must be {np.dtype(dtype)} {wanted}"
        )
    return array


def checked_number(arrays: Mapping[str, Any], file: str, name: str, low: float, high: float) -> float:
    """Return a number of a file after checking its range, both ends allowed.

    Raises
    ------
    CorruptIndexError
        It is missing, no number, or out of range.
    """
    value = arrays.get(name)
    number = (
        float(value)
        if isinstance(value, int | float | np.number | np.ndarray) and np.ndim(value) == 0
        else None
    )
    if number is None or not low <= number <= high:
        raise CorruptIndexError(f"{file}: {name!r} is {value!r}, must be a number from {low} to {high}")
    return number
