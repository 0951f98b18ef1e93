"""Many questions at once: the asynchronous calls run on worker threads, and the event loop stays free."""

import asyncio

import numpy as np
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

vectors = np.random.default_rng(0).standard_normal((1_000, 32))


async def main() -> None:
    store = ZeusDBVectorStore(space="cosine")
    nodes = [
        TextNode(id_=f"n{i}", text=f"text {i}", embedding=vector.tolist()) for i, vector in enumerate(vectors)
    ]
    await store.async_add(nodes)

    async def nearest(number: int) -> str:
        query = VectorStoreQuery(query_embedding=vectors[number].tolist(), similarity_top_k=3)
        result = await store.aquery(query)
        return result.ids[0]

    found = await asyncio.gather(*map(nearest, range(50)))
    assert found == [f"n{i}" for i in range(50)]
    await store.adelete_nodes(["n0"])
    print(len(store), "nodes left; the nearest of", found[:3], "are themselves")


asyncio.run(main())
