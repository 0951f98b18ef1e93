"""Ingestion with upserts into a directory, and a restart: nothing is saved by hand, and nothing is embedded twice."""

from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

embed_model = MockEmbedding(embed_dim=16)


def documents(version: str) -> list[Document]:
    return [
        Document(id_=f"page_{i}", text=f"Page {i} of the handbook, {version if i == 1 else 'first'} edition.")
        for i in range(3)
    ]


with ZeusDBVectorStore("./handbook.zdb") as store:
    pipeline = IngestionPipeline(
        transformations=[TokenTextSplitter(chunk_size=64, chunk_overlap=8), embed_model],
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
        vector_store=store,
        disable_cache=True,
    )
    pipeline.run(documents=documents("first"))
    pipeline.run(documents=documents("second"))  # only page 1 has changed
    print(len(store), "nodes:", store.list_ref_docs())
    pipeline.run(documents=documents("second")[:2])  # page 2 is gone
    assert set(store.list_ref_docs()) == {"page_0", "page_1"}

# Each call was on disk when it returned: another process, or this one after a crash, finds all of it.
with ZeusDBVectorStore("./handbook.zdb") as store:
    index = VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
    texts = [hit.node.get_content() for hit in index.as_retriever(similarity_top_k=5).retrieve("handbook")]
    print(texts)
    assert "Page 1 of the handbook, second edition." in texts

# A copy elsewhere, on any file system that fsspec knows, and back into memory.
with ZeusDBVectorStore("./handbook.zdb", read_only=True) as store:
    store.persist("./backup/handbook.zdb")
copy = ZeusDBVectorStore.from_persist_path("./backup/handbook.zdb")
assert len(copy) == 2
