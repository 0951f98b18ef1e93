"""A web handler that answers many requests at once from one store, while another task indexes.

Everything is plain asyncio: put the body of `answer` into a route of FastAPI, Starlette or aiohttp.
"""

import asyncio
import time

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import aindex
from langchain_zeusdb_vs import ZeusDBRecordManager, ZeusDBVectorStore


async def answer(store: ZeusDBVectorStore, question: str) -> dict[str, object]:
    """What a route would do: the event loop is free while the model embeds and the engine searches."""
    found = await store.asimilarity_search_with_relevance_scores(question, k=3, filter={"public": True})
    return {"question": question, "hits": [(document.id, round(score, 3)) for document, score in found]}


async def main() -> None:
    store = ZeusDBVectorStore(DeterministicFakeEmbedding(size=64))
    await store.aadd_texts([f"note {i}" for i in range(1_000)], [{"public": i % 3 > 0} for i in range(1_000)])

    # Keys and times of the indexing API live in the records: no second database to fall out of step.
    pages = [Document(f"page {i}", metadata={"source": f"file {i % 5}", "public": True}) for i in range(200)]
    indexing = asyncio.create_task(
        aindex(
            pages,
            ZeusDBRecordManager(store),
            store,
            cleanup="full",
            source_id_key="source",
            key_encoder="sha256",
        )
    )
    began = time.perf_counter()
    answers = await asyncio.gather(*(answer(store, f"note {i}") for i in range(50)))
    print(f"{len(answers)} requests in {time.perf_counter() - began:.2f} s; the first: {answers[0]}")
    print(await indexing)
    found = await store.asimilarity_search_batch(
        [f"page {i}" for i in range(20)], k=1
    )  # one call of the engine
    print("batch:", [row[0].page_content for row in found][:5])
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main())
