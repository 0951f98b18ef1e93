"""From core's SimpleVectorStore to zeusdb-vs: the embeddings are taken over, nothing is embedded again."""

from llama_index.core import Document, MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

embed_model = MockEmbedding(embed_dim=8)
old = VectorStoreIndex.from_documents(
    [Document(id_=f"d{i}", text=f"document {i}") for i in range(5)], embed_model=embed_model
)
old.storage_context.persist("./old")

# As found on disk: texts in the document store, embeddings in the vector store.
context = StorageContext.from_defaults(persist_dir="./old")
with ZeusDBVectorStore.from_simple(
    context.vector_store, docstore=context.docstore, path="./new.zdb"
) as store:
    index = VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
    hits = index.as_retriever(similarity_top_k=5).retrieve("document")
    print(sorted(hit.node.get_content() for hit in hits))
    assert len(hits) == 5 and store.list_ref_docs().keys() == {f"d{i}" for i in range(5)}
