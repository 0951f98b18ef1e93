"""Quantization: small codes in place of embeddings, what each kind takes, and a restart."""

import zlib
from functools import lru_cache

import numpy as np
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

DIM = 128
WORDS = [
    "ant",
    "bee",
    "cat",
    "dog",
    "elk",
    "fox",
    "gnu",
    "hen",
    "ibex",
    "jay",
    "koi",
    "lynx",
    "owl",
    "pike",
    "seal",
]


@lru_cache
def direction(word: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(word.encode())).standard_normal(DIM)


class WordEmbedding(BaseEmbedding):
    """Stands for a real model: a text is the sum of its words, each a direction of its own."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return sum(direction(word) for word in text.split()).tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


random = np.random.default_rng(0)
notes = [
    TextNode(
        id_=f"note_{i}", text=f"{' '.join(random.choice(WORDS, 6))} number{i}", metadata={"page": i % 50}
    )
    for i in range(5_000)
]
embed_model = WordEmbedding()
questions = ["owl and fox", "a seal saw a pike", "ibex lynx elk"]


def index_of(store: ZeusDBVectorStore) -> VectorStoreIndex:
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(notes, storage_context=context, embed_model=embed_model)


def answers(index: VectorStoreIndex) -> list[list[str]]:
    retriever = index.as_retriever(similarity_top_k=10)
    return [[hit.node_id for hit in retriever.retrieve(question)] for question in questions]


# Embeddings are collected until there are `training_size`; then codes take their place, in the middle of an add.
KINDS = {
    "none": None,
    "int8": {"type": "int8", "training_size": 1_000},
    "pq": {"type": "pq", "subvectors": 32, "bits": 8, "training_size": 1_000},
}
found: dict[str, list[list[str]]] = {}
print(f"{'':6}{'vectors and codes':>20}{'all':>12}{'of the true ten':>18}")
for kind, config in KINDS.items():
    store = ZeusDBVectorStore(quantization_config=config)
    found[kind] = answers(index_of(store))
    memory = store.client.memory()
    same = np.mean([len({*a} & {*b}) / 10 for a, b in zip(found[kind], found["none"], strict=True)])
    held = (memory["vectors"] + memory["codes"]) / 1024
    print(f"{kind:6}{held:>16,.0f} KiB{memory['total'] / 1024:>8,.0f} KiB{same:>18.0%}")

# In a directory, "quantized_with_raw" leaves the embeddings on disk and ranks the best by them once more. All of it is
# there after a restart; nothing was saved, and nothing needs to be said again.
with_raw = {"type": "pq", "subvectors": 32, "training_size": 1_000, "storage_mode": "quantized_with_raw"}
with ZeusDBVectorStore("./quantized.zdb", quantization_config=with_raw) as store:
    before = answers(index_of(store))
with ZeusDBVectorStore("./quantized.zdb") as store:
    print(store.client.info())
    assert store.quantization_config["type"] == "pq" and store.client.is_quantized()
    index = VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
    assert answers(index) == before
