"""Arrays in, arrays out: many queries in one call, and recall measured against exact search."""

import numpy as np

from zeusdb_vs import VectorDatabase

rng = np.random.default_rng(7)
centers = rng.standard_normal((50, 32), dtype=np.float32)
vectors = centers[rng.integers(0, 50, 6_000)] + 0.4 * rng.standard_normal((6_000, 32), dtype=np.float32)
queries = centers[rng.integers(0, 50, 100)] + 0.4 * rng.standard_normal((100, 32), dtype=np.float32)

index = VectorDatabase().create("hnsw", dim=32, space="l2", expected_size=len(vectors))
index.add(vectors)  # ids vec_1, vec_2, ...

_, true = index.search_arrays(queries, top_k=10, exact=True)
for ef_search in (10, 50, 200):
    ids, distances = index.search_arrays(queries, top_k=10, ef_search=ef_search)
    recall = (distances <= true[:, -1:] * (1 + 1e-6)).mean()
    print(f"ef_search {ef_search:>3}: recall@10 {recall:.3f}, nearest to the first query: {ids[0, 0]}")
