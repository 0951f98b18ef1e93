"""The forms of a filter, diversity, scores, and a retriever that keeps tenants apart."""

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_zeusdb_vs import ZeusDBVectorStore

from zeusdb_vs import field

store = ZeusDBVectorStore(DeterministicFakeEmbedding(size=32))
store.add_documents(
    [
        Document(
            f"report {i}",
            metadata={
                "tenant": "ab"[i % 2],
                "year": 2000 + i % 25,
                "tags": ["draft"] if i % 3 else ["final"],
            },
            id=f"report-{i}",
        )
        for i in range(500)
    ]
)

# One filter, written five ways. It decides what is ranked: there are always min(k, matching documents) results.
for filter in (
    {"tenant": "a", "year": {"$gte": 2020}, "tags": {"$contains": "final"}},
    {"tenant": "a", "year": {"gte": 2020}, "tags": {"contains": "final"}},
    (field("tenant") == "a") & (field("year") >= 2020) & field("tags").contains("final"),
    {
        "$and": [
            {"tenant": {"$ne": "b"}},
            {"$nor": [{"year": {"$lt": 2020}}, {"tags": {"$contains": "draft"}}]},
        ]
    },
    lambda document: (
        document.metadata["tenant"] == "a"
        and document.metadata["year"] >= 2020
        and "final" in document.metadata["tags"]
    ),
):
    print(
        store.count(filter),
        [document.id for document in store.similarity_search("report", k=3, filter=filter)],
    )

# A retriever's filter can be narrowed by a call, never dropped.
tenant_a = store.as_retriever(k=5, filter={"tenant": "a"})
print("someone else's:", tenant_a.invoke("report", filter={"tenant": "b"}))
print(
    "ours, recent:", [document.id for document in tenant_a.invoke("report", filter={"year": {"$gte": 2023}})]
)

for document, distance in store.similarity_search_with_score("report 7", k=2):
    print(f"distance {distance:.3f} (lower is nearer)", document.id)
for document, relevance in store.similarity_search_with_relevance_scores(
    "report 7", k=5, score_threshold=0.6
):
    print(f"relevance {relevance:.3f} (0 to 1)", document.id)
print(
    "diverse:",
    [d.id for d in store.max_marginal_relevance_search("report", k=4, fetch_k=40, lambda_mult=0.3)],
)

# Metadata changes without embedding anything; deleting goes by filter too.
print("archived:", store.update_metadata({"archived": True}, filter={"year": {"$lt": 2005}}))
store.delete(filter={"archived": True})
print("left:", store.count())
