"""What embedding models hand over, checked; and how a store recognises the model it was filled with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from zeusdb_vs import DimensionError, VectorError

PROBE = "The quick brown fox jumps over the lazy dog."
"""Embedded once when a directory is made and once when it is opened: the same model gives the same vector."""
_PROBE_VALUES = 64
_PROBE_LIKENESS = 0.98
"""Least cosine between two probes of one model. Another machine changes the last digits only."""
_MODEL_NAMES = ("model", "model_name", "model_id", "deployment", "azure_deployment")
_ROWS_AT_A_TIME = 64
"""Lists of floats become arrays in blocks this long: NumPy keeps the interpreter lock for each."""


def as_matrix(vectors: Any, expected: int, source: str) -> NDArray[np.float32]:
    """Return embeddings as one array, with a row for each text.

    Parameters
    ----------
    vectors : sequence of sequence of float, or ndarray
    expected : int
        How many there must be.
    source : str
        Whom to name when something is wrong.

    Returns
    -------
    ndarray of float32, shape (expected, dim)

    Raises
    ------
    VectorError
        The number is another, or something is no vector.
    DimensionError
        The widths differ.
    """
    rows: Any = vectors if isinstance(vectors, np.ndarray | list | tuple) else list(vectors)
    if len(rows) != expected:
        raise VectorError(f"{source} gave {len(rows):,} vectors for {expected:,} texts; nothing was stored")
    if isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.dtype.kind in "fiu":
        return _to_float32(rows)
    blocks = []
    width: int | None = None
    for start in range(0, expected, _ROWS_AT_A_TIME):
        block = rows[start : start + _ROWS_AT_A_TIME]
        try:
            array = np.asarray(block)
        except (ValueError, TypeError, OverflowError):
            array = None
        if (
            array is None
            or array.ndim != 2
            or array.dtype.kind not in "fiu"
            or array.shape[1] != (width or array.shape[1])
        ):
            raise _explain(block, start, width, source)
        width = array.shape[1]
        blocks.append(_to_float32(array))
    return np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32)


def as_vector(vector: Any, source: str) -> NDArray[np.float32]:
    """Return one embedding as an array; raise VectorError if it is none."""
    try:
        array = np.asarray(vector)
    except (ValueError, TypeError, OverflowError):
        raise _explain([vector], 0, None, source) from None
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise _explain([vector], 0, None, source)
    return _to_float32(array)


def _to_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype == np.float32 and array.flags.c_contiguous:
        return array
    converted = np.empty(array.shape, np.float32)
    # What is beyond float32 becomes infinite and is refused, by name, when it is stored or searched for.
    with np.errstate(over="ignore", invalid="ignore"):
        converted[...] = array
    return converted


def _explain(block: Sequence[Any], start: int, width: int | None, source: str) -> VectorError:
    """Return the error for the first row that is no vector, or not as wide as those before it."""
    for position, row in enumerate(block, start):
        try:
            array = np.asarray(row)
            is_vector = array.ndim == 1 and array.dtype.kind in "fiu"
        except (ValueError, TypeError, OverflowError):
            is_vector = False
        if not is_vector:
            return VectorError(f"{source} gave no vector of numbers for text {position}: {row!r:.80}")
        if width is not None and len(array) != width:
            return DimensionError(
                f"{source} gave {len(array)} values for text {position} and {width} for those before it"
            )
        width = len(array)
    return VectorError(f"{source} gave no vectors of numbers")


def name_of(embedding: Embeddings) -> str:
    """Return a model's name: its class, and the model it says it uses."""
    name = type(embedding).__name__
    for attribute in _MODEL_NAMES:
        model = getattr(embedding, attribute, None)
        if isinstance(model, str) and model:
            return f"{name}({model})"
    return name


def identity_of(embedding: Embeddings) -> dict[str, Any]:
    """Return what a store keeps of its model: its name, width, and the head of a known text's embedding.

    Asks the model once.
    """
    name = name_of(embedding)
    probe = as_matrix(embedding.embed_documents([PROBE]), 1, name)[0].astype(np.float64)
    length = float(np.linalg.norm(probe)) or 1.0
    head = (probe / length)[:_PROBE_VALUES]
    return {"name": name, "dim": len(probe), "probe": [round(float(value), 6) for value in head]}


def difference(stored: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    """Say how two identities differ, None if they embed alike; names alone decide nothing (wrappers, renamings)."""
    filled, here = f"it was filled with {stored.get('name')}", str(given.get("name"))
    if stored.get("dim") != given.get("dim"):
        return f"{filled}, of {stored.get('dim')} values; {here} gives {given.get('dim')}"
    one = np.asarray(stored.get("probe"), np.float64)
    other = np.asarray(given.get("probe"), np.float64)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    likeness = float(one @ other) / lengths if lengths else 1.0
    if likeness >= _PROBE_LIKENESS:
        return None
    return f"{filled}; {here} embeds the same text otherwise (cosine {likeness:.3f})"
