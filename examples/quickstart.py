"""Create an index, add records, search with a filter, save, load."""

from zeusdb_vs import VectorDatabase

index = VectorDatabase().create("hnsw", dim=4, space="cosine")
result = index.add(
    [
        {"id": "cat", "vector": [0.9, 0.8, 0.1, 0.0], "metadata": {"legs": 4}, "text": "A cat sleeps."},
        {"id": "dog", "vector": [0.8, 0.9, 0.2, 0.0], "metadata": {"legs": 4}, "text": "A dog barks."},
        {"id": "eel", "vector": [0.5, 0.1, 0.9, 0.1], "metadata": {"legs": 0}, "text": "An eel swims."},
        {"id": "car", "vector": [0.0, 0.1, 0.1, 0.9], "metadata": {"doors": 5}, "text": "A car drives."},
    ]
)
print(result.summary())

for hit in index.search(
    [0.9, 0.8, 0.0, 0.0], top_k=2, filter={"legs": {"gt": 0}}, include=("metadata", "text")
):
    print(f"{hit['score']:.4f}  {hit['id']}  {hit['metadata']}  {hit['text']}")

index.save("animals.zdb")
print(VectorDatabase().load("animals.zdb").info())
