"""The three data sets. Seeded: the same rows on every machine with the same NumPy.

`text`     384-d embeddings of real text (all-MiniLM-L6-v2), cosine: an optional file ``minilm-20k.npz`` with
           arrays ``vectors`` and ``queries``, looked for in the folder named by ``ZEUSDB_VS_DATA`` and in
           ``shared/data`` beside the repository's folder. Without it a generated substitute runs, and every table
           says so.
`mixture`  128-d Gaussian mixture, L2: 300 clusters of unequal spread on a shared 32-d subspace. Easy data.
`wide`     1536-d, cosine: clustered points whose standard deviation in dimension i falls as (i+1)**-0.6, as
           the spectrum of embeddings does; 2,000 small clusters. The local intrinsic dimension (maximum
           likelihood over 100 neighbours, median) is about 28, that of the real 384-d embeddings about 25:
           as hard as embeddings, a little harder.

Vectors under cosine are normalised once, here, for everybody: the peers then run by inner product and are
spared the work that our `search` still does on every query.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.settings import SEED, Scale

Floats = NDArray[np.float32]

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT_FILE = "minilm-20k.npz"
WARM_UP_QUERIES = 200


@dataclass(frozen=True)
class DataSet:
    """Rows to index, queries to time, and other queries to warm up with.

    `vectors` is float32 (n, dim), `queries` float32 (q, dim), `warm_up` float32 (w, dim); none of the three
    shares a row with another.
    """

    name: str
    title: str
    space: str
    note: str
    is_substitute: bool
    vectors: Floats
    queries: Floats
    warm_up: Floats

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def facts(self) -> dict[str, Any]:
        """All but the arrays, for the JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "space": self.space,
            "note": self.note,
            "is_substitute": self.is_substitute,
            "rows": len(self.vectors),
            "dim": self.dim,
            "queries": len(self.queries),
        }


def make(name: str, scale: Scale) -> DataSet:
    """Load or generate the data set `name` at the sizes of `scale`."""
    return {"text": _text, "mixture": _mixture, "wide": _wide}[name](scale)


def _text(scale: Scale) -> DataSet:
    rng = np.random.default_rng(SEED)
    path = _find_text_file()
    if path is None:
        rows = min(20_000, scale.text_rows)
        rows_and_queries = _decaying_spectrum(rng, rows + scale.queries + WARM_UP_QUERIES, dim=384)
        vectors, queries, warm_up = np.split(rows_and_queries, [rows, rows + scale.queries])
        note = f"SUBSTITUTE: {TEXT_FILE} not found, so these are generated rows and not text"
        title = f"generated {rows:,} x 384, cosine (substitute for real text)"
    else:
        with np.load(path, allow_pickle=False) as archive:
            vectors = _normalised(archive["vectors"])
            queries = _normalised(archive["queries"])[: scale.queries]
        vectors = vectors[: scale.text_rows]
        # The file has no third set: points between two records stand for it.
        one, other = rng.permutation(len(vectors))[: 2 * WARM_UP_QUERIES].reshape(2, -1)
        warm_up = _normalised(2 * vectors[one] + vectors[other])
        note = "all-MiniLM-L6-v2 embeddings of package descriptions and dictionary glosses"
        title = f"real text, {len(vectors):,} x {vectors.shape[1]}, cosine"
    return DataSet("text", title, "cosine", note, path is None, vectors, queries, warm_up)


def _find_text_file() -> Path | None:
    named = os.environ.get("ZEUSDB_VS_DATA")
    folders = [Path(named)] if named else []
    folders.append(REPOSITORY.parent / "shared" / "data")
    return next((folder / TEXT_FILE for folder in folders if (folder / TEXT_FILE).is_file()), None)


def _mixture(scale: Scale) -> DataSet:
    rng = np.random.default_rng(SEED + 1)
    dim, clusters, latent = 128, 300, 32
    rows = scale.mixture_rows
    total = rows + scale.queries + WARM_UP_QUERIES
    centres = rng.standard_normal((clusters, dim), dtype=np.float32)
    basis = rng.standard_normal((latent, dim), dtype=np.float32) / np.float32(np.sqrt(latent))
    cluster = rng.integers(0, clusters, total)
    spread = np.exp(0.3 * rng.standard_normal(clusters)).astype(np.float32)[cluster, None]
    inner = rng.standard_normal((total, latent), dtype=np.float32) @ basis
    everything = centres[cluster] + spread * inner
    vectors, queries, warm_up = np.split(everything, [rows, rows + scale.queries])
    note = "300 Gaussian clusters of unequal spread on a 32-d subspace; easy data"
    return DataSet(
        "mixture", f"generated {rows:,} x {dim} mixture, L2", "l2", note, False, vectors, queries, warm_up
    )


def _wide(scale: Scale) -> DataSet:
    rng = np.random.default_rng(SEED + 2)
    rows, dim = scale.wide_rows, 1536
    everything = _decaying_spectrum(rng, rows + scale.queries + WARM_UP_QUERIES, dim=dim)
    vectors, queries, warm_up = np.split(everything, [rows, rows + scale.queries])
    note = "2,000 clusters, spectrum falling as (i+1)**-0.6; local intrinsic dimension about 28"
    return DataSet(
        "wide", f"generated {rows:,} x {dim}, cosine", "cosine", note, False, vectors, queries, warm_up
    )


def _decaying_spectrum(rng: np.random.Generator, rows: int, dim: int, clusters: int = 2_000) -> Floats:
    spectrum = (1.0 + np.arange(dim)) ** -0.6
    spectrum = (spectrum / np.linalg.norm(spectrum)).astype(np.float32)
    centres = rng.standard_normal((clusters, dim), dtype=np.float32)
    points = rng.standard_normal((rows, dim), dtype=np.float32)
    points += centres[rng.integers(0, clusters, rows)]
    points *= spectrum
    return _normalised(points)


def _normalised(vectors: NDArray[Any]) -> Floats:
    wide = vectors.astype(np.float32)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return np.ascontiguousarray(wide)


_ARRAYS = ("vectors", "queries", "warm_up")


def store(data: DataSet, folder: Path) -> None:
    """Write `data` where the measuring processes find it."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {key: value for key, value in asdict(data).items() if key not in _ARRAYS}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(data, name))


def fetch(folder: Path) -> DataSet:
    """Read what `store` wrote."""
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return DataSet(**facts, **{name: np.load(folder / f"{name}.npy") for name in _ARRAYS})
