"""What quantized indexes hold and should answer, in plain NumPy, from the files they are saved in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import oracle
from kernel_harness import turned
from numpy.typing import NDArray

from zeusdb_vs import HNSWIndex
from zeusdb_vs.storage import BinaryFile, read_snapshot

CODES_PER_BYTE = {1: 8, 2: 4, 3: 2, 4: 2, 5: 1, 6: 1, 7: 1, 8: 1}


def mixture(
    count: int, dim: int, seed: int, *, clusters: int = 40, spread: float = 0.5
) -> NDArray[np.float32]:
    """Rows around centres that are the same for every seed."""
    centres = np.random.default_rng(7).standard_normal((clusters, dim))
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(clusters, size=count)] + spread * rng.standard_normal((count, dim))
    return rows.astype(np.float32)


def arrays_of(path: Path) -> dict[str, dict[str, Any]]:
    """The arrays and numbers of every binary file of a saved index."""
    files = read_snapshot(path).files
    return {name: dict(file.arrays) for name, file in files.items() if isinstance(file, BinaryFile)}


def saved(index: HNSWIndex, path: Path) -> dict[str, dict[str, Any]]:
    """Save an index and return the arrays of its files."""
    index.save(path)
    return arrays_of(path)


def _nibbles(rows: NDArray[np.uint8]) -> NDArray[np.float64]:
    blocks = rows.reshape(len(rows), -1, 64).astype(int)
    return np.concatenate([blocks & 15, blocks >> 4], axis=2).reshape(len(rows), -1).astype(float)


def int8_rows(arrays: dict[str, Any], dim: int) -> NDArray[np.float64]:
    """The rows that the codes of ``codes.bin`` stand for; under cosine of unit length."""
    mid, step = (np.asarray(arrays[name], np.float64) for name in ("mid", "step"))
    if "low_codes" in arrays:
        levels = 16 * _nibbles(arrays["codes"]) + _nibbles(arrays["low_codes"])
        step = step / 16
    else:
        levels = arrays["codes"].astype(np.float64)
    rows = (mid + step * (levels - 127.5))[:, :dim]
    return rows if "signs" not in arrays else _back(rows, arrays["signs"])


def _back(rows: NDArray[np.float64], signs: NDArray[np.float32]) -> NDArray[np.float64]:
    # The rotation is a matrix, and its transpose turns back.
    return rows @ turned(np.eye(rows.shape[1]), signs).T


def product_parts(
    files: dict[str, dict[str, Any]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    """What product codes say of each vector: the centroids they name, its factor, its squared length or None."""
    codebook, rows = files["pq_centroids.bin"], files["pq_codes.bin"]["codes"]
    centroids, bits = codebook["centroids"].astype(np.float64), int(codebook["bits"])
    head = 8 if codebook["is_l2"] else 4
    numbers = np.ascontiguousarray(rows[:, :head]).view("<f4").astype(np.float64)
    per_byte = CODES_PER_BYTE[bits]
    parts = []
    for s, own in enumerate(centroids):
        values = rows[:, head + s // per_byte].astype(int)
        parts.append(own[values >> s % per_byte * (8 // per_byte) & 2**bits - 1])
    return np.hstack(parts), numbers[:, 0], numbers[:, 1] if codebook["is_l2"] else None


def product_scores(files: dict[str, dict[str, Any]], queries: NDArray, space: str) -> NDArray[np.float64]:
    """Scores estimated from product codes, (q, n)."""
    codebook = files["pq_centroids.bin"]
    named, factor, squared = product_parts(files)
    q = np.atleast_2d(np.asarray(queries, np.float64))
    if space == "cosine":
        q = q / np.linalg.norm(q, axis=1, keepdims=True)
    if "signs" in codebook:
        q = turned(q, codebook["signs"])
    center = codebook["center"].astype(np.float64)
    if space == "l2":
        near = ((q - center) ** 2).sum(axis=1)[:, None] + squared - 2 * factor * ((q - center) @ named.T)
        return np.sqrt(np.maximum(0, near))
    scores = 1 - (q @ center)[:, None] - factor * (q @ named.T)
    return np.maximum(0, scores) if space == "cosine" else scores


def expected_scores(
    files: dict[str, dict[str, Any]], queries: NDArray, space: str, originals: NDArray | None
) -> NDArray[np.float64]:
    """The scores that default searches give, (q, n): exact ones where there are originals."""
    if originals is not None:
        return oracle.distances(queries, originals, space)
    if "pq_codes.bin" in files:
        return product_scores(files, queries, space)
    rows = int8_rows(files["codes.bin"], np.shape(queries)[-1])
    # Decoded rows are of about unit length under cosine, and taken as if they were.
    if space == "cosine":
        q = np.atleast_2d(np.asarray(queries, np.float64))
        q = q / np.linalg.norm(q, axis=1, keepdims=True)
        return np.maximum(0, oracle.distances(q, rows, "dot"))
    return oracle.distances(queries, rows, space)


def check_hits(
    found: Sequence[str],
    scores: Sequence[float],
    names: Sequence[str],
    true: NDArray[np.float64],
    k: int,
    *,
    allowed: NDArray[np.bool_] | None = None,
    least: float = 1.0,
    space: str = "cosine",
    tolerance: float = 1e-5,
) -> None:
    """As many hits as there can be, all different, allowed, nearest first, each with its score, few better missed.

    Parameters
    ----------
    names : the id of each column of `true`
    true : float64 (n,), the score that each record should have
    least : share of the hits that must be among the true nearest
    space : l2 distances are compared by their squares, which is what codes estimate
    tolerance : what a score may be off, as a share of the largest
    """
    mask = np.ones(len(names), bool) if allowed is None else allowed
    place = {name: at for at, name in enumerate(names)}
    rows = [place[name] for name in found]
    assert len(rows) == len(set(rows)) == min(k, int(mask.sum()))
    assert mask[rows].all()
    assert list(scores) == sorted(scores)
    power = 2 if space == "l2" else 1
    raised = true**power
    atol = tolerance * float(np.abs(raised).max(initial=1.0))
    np.testing.assert_allclose(np.array(scores) ** power, raised[rows], rtol=0, atol=atol)
    if rows:
        limit = np.sort(raised[mask])[len(rows) - 1] + 2 * atol
        assert (raised[rows] <= limit).mean() >= least
