"""Search in text with an embedder of your own: here the demo's small lexical one stands in for a model."""

from zeusdb_vs import VectorDatabase
from zeusdb_vs.demo.embedder import HashingEmbedder

notes = {
    "gzip": "Compress a file with gzip, or decompress it.",
    "csv": "Read rows from a CSV file and write them back.",
    "smtp": "Send an e-mail message to a mail server.",
    "tmp": "Create a temporary directory that is removed afterwards.",
}

embedder = HashingEmbedder(dim=256).fit(notes.values())
index = VectorDatabase().create("hnsw", dim=embedder.dim)
index.add(
    {"ids": list(notes), "vectors": embedder.embed(list(notes.values())), "texts": list(notes.values())}
)
index.add_metadata({"embedder": embedder.to_config()})  # lets `zeusdb-vs search` ask this index in words
index.save("notes.zdb")

[question] = embedder.embed(["how are files compressed"])
for hit in index.search(question, top_k=2, include=("text",)):
    print(f"{hit['score']:.3f}  {hit['id']:<5} {hit['text']}")
