"""A LlamaIndex index on zeusdb-vs: documents in, answers out, filters and diversity in between.

Mock models stand for real ones here, so that this runs without a network: put your own in their place.
"""

from llama_index.core import Document, MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

embed_model = MockEmbedding(embed_dim=16)
documents = [
    Document(id_="hnsw", text="HNSW walks a layered graph.", metadata={"year": 2016, "tags": ["graphs"]}),
    Document(
        id_="pq", text="Product quantization codes vectors.", metadata={"year": 2011, "tags": ["codes"]}
    ),
    Document(id_="mmr", text="MMR picks what differs.", metadata={"year": 1998, "tags": ["ranking", "text"]}),
]

store = ZeusDBVectorStore()  # in memory; ZeusDBVectorStore("./library.zdb") keeps it on disk
index = VectorStoreIndex.from_documents(
    documents, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=embed_model
)
answer = index.as_query_engine(llm=MockLLM(), similarity_top_k=2).query("How does HNSW search?")
print("answered from", [hit.node.ref_doc_id for hit in answer.source_nodes])

# Filters decide what is ranked: a query fills its top_k as long as nodes match. They nest without limit.
recent_or_text = MetadataFilters(
    filters=[
        MetadataFilter(key="year", value=2010, operator=FilterOperator.GTE),
        MetadataFilter(key="tags", value="text", operator=FilterOperator.CONTAINS),
    ],
    condition=FilterCondition.OR,
)
filters = MetadataFilters(
    filters=[
        recent_or_text,
        MetadataFilters(filters=[MetadataFilter(key="doc_id", value="pq")], condition="not"),
    ]
)
hits = index.as_retriever(similarity_top_k=10, filters=filters).retrieve("search")
print("matching", sorted(hit.node.ref_doc_id for hit in hits))
assert sorted(hit.node.ref_doc_id for hit in hits) == ["hnsw", "mmr"]

# Maximal marginal relevance: 1 for similarity alone, 0 for diversity alone.
diverse = index.as_retriever(
    similarity_top_k=2, vector_store_query_mode="mmr", vector_store_kwargs={"mmr_threshold": 0.3}
)
print("diverse", [hit.node.ref_doc_id for hit in diverse.retrieve("search")])

# The store by itself: read, count, change, remove.
print(store.count(filters), "match;", store.list_ref_docs())
store.update_metadata({"read": True}, filters=filters)
index.delete_ref_doc("pq")
assert {node.metadata.get("read") for node in store.get_nodes()} == {True}
