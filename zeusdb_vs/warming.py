"""Compiling everything ahead of time: for container images, and against a pause in the first search."""

from __future__ import annotations

import numpy as np

from zeusdb_vs.database import VectorDatabase
from zeusdb_vs.linking import SMALLEST_GRAPH
from zeusdb_vs.quantization_config import LEAST_TRAINING_SIZE

_DIM = 64
"""Wide enough for codes: narrower vectors are compared as they are."""
_SPARE = 512


def warmup() -> None:
    """Compile all kernels into the cache, or load them from there into this process.

    Takes some 20 seconds of CPU time where nothing is cached, about a second afterwards. Kernels are compiled
    for this machine's processor and cached in the user's cache folder or in ``ZEUSDB_VS_CACHE_DIR``.

    Notes
    -----
    Uses a small index and throws it away: a list of kernels and their signatures would be one more thing to
    forget. One compiled form serves every space and every width of vectors.
    """
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((SMALLEST_GRAPH + _SPARE, _DIM), dtype=np.float32)
    index = VectorDatabase().create("hnsw", dim=_DIM)
    result = index.add(vectors)
    few, most = result.ids[:500], result.ids[: len(vectors) // 2]
    for _ in range(2):  # a scan of the same records again keeps where their codes lie
        index.search(vectors[0])
    index.search(vectors[0], top_k=1, ef_search=1)
    index.search(vectors[0], exact=True)
    index.search(vectors[0], ids=few)
    index.search(vectors[0], ids=most, top_k=1, ef_search=1)
    index.add({"id": result.ids[0], "vector": vectors[1]})
    index.remove_points(few)
    index.remove_points(most)
    index.compact()
    quantization = {"type": "pq", "bits": 4, "training_size": LEAST_TRAINING_SIZE}
    quantized = VectorDatabase().create("hnsw", dim=_DIM, quantization_config=quantization)
    quantized.add(vectors[:LEAST_TRAINING_SIZE])
    quantized.search(vectors[0])
    quantized.rebuild_with_quantization()  # from decoded vectors
