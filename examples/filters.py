"""What filters can say. They decide what is ranked: a search fills its top_k as long as records match."""

import numpy as np

from zeusdb_vs import FilterError, VectorDatabase

rng = np.random.default_rng(1)
index = VectorDatabase().create("hnsw", dim=16)
index.add(
    {
        "ids": [f"paper_{i}" for i in range(1_000)],
        "vectors": rng.standard_normal((1_000, 16), dtype=np.float32),
        "metadatas": [
            {"year": 1990 + i % 35, "tags": ["graphs"] if i % 3 else ["graphs", "search"], "open": i % 2 == 0}
            for i in range(1_000)
        ],
    }
)
query = rng.standard_normal(16, dtype=np.float32)

for condition in (
    {"open": True},
    {"year": {"gte": 2010, "lt": 2020}},
    {"tags": {"contains": "search"}, "open": True},
    {"$or": [{"year": 1999}, {"tags": {"all": ["graphs", "search"]}}]},
    {"$not": {"year": {"lt": 2020}}},
    {"year": {"in": [1990, 1991]}, "tags": {"contains": "nothing has this tag"}},
):
    hits = index.search(query, filter=condition, top_k=10)
    print(f"{index.count(condition):>4} match, {len(hits):>2} returned: {condition}")

try:
    index.search(query, filter={"year": {"greater": 2000}})
except FilterError as error:
    print("refused:", error)

print("removed:", index.delete(where={"year": {"lt": 2000}}), "left:", len(index))
