"""One directory, two frameworks: what one adapter writes the other reads, filters and replaces."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

pytest.importorskip("langchain_core")

from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_zeusdb_vs import ZeusDBVectorStore as LangChainStore

EMBEDDING = DeterministicFakeEmbedding(size=8)
TEXTS = ["cat", "dog", "sea"]
METADATA = [{"page": i, "nested": {"deep": [i]}} for i in range(3)]
IDS = ["a", "b", "c"]


def embedded(text: str, **fields: object) -> TextNode:
    return TextNode(text=text, embedding=EMBEDDING.embed_documents([text])[0], **fields)


def test_documents_of_langchain_are_nodes_here(tmp_path: Path) -> None:
    theirs = LangChainStore(EMBEDDING, path=tmp_path / "shared")
    theirs.add_texts(TEXTS, METADATA, ids=IDS)
    theirs.close()
    with ZeusDBVectorStore(tmp_path / "shared") as ours:
        assert ours.get_nodes() == [
            TextNode(id_=i, text=t, metadata=m) for i, t, m in zip(IDS, TEXTS, METADATA, strict=True)
        ]
        query = VectorStoreQuery(
            query_embedding=EMBEDDING.embed_query("dog"),
            similarity_top_k=3,
            filters=MetadataFilters(filters=[MetadataFilter(key="page", value=1)]),
        )
        assert ours.query(query).ids == ["b"]
        ours.add([embedded("sun", id_="b")])
    theirs = LangChainStore(EMBEDDING, path=tmp_path / "shared")
    assert [document.page_content for document in theirs.get_by_ids(["b"])] == ["sun"]
    theirs.close()


def test_nodes_of_ours_are_documents_there(tmp_path: Path) -> None:
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc")}
    with ZeusDBVectorStore(tmp_path / "shared") as ours:
        ours.add(
            [
                embedded(text, id_=i, metadata=m, relationships=source)
                for i, text, m in zip(IDS, TEXTS, METADATA, strict=True)
            ]
        )
    theirs = LangChainStore(EMBEDDING, path=tmp_path / "shared")
    found = theirs.get_by_ids(IDS)
    assert [(d.id, d.page_content, d.metadata) for d in found] == list(zip(IDS, TEXTS, METADATA, strict=True))
    assert [d.id for d in theirs.similarity_search("dog", filter={"page": {"$gte": 1}}, k=3)] != []
    theirs.add_texts(["new"], ids=["a"])
    theirs.close()
    with ZeusDBVectorStore(tmp_path / "shared") as ours:
        # The record is theirs now, and knows no document of LlamaIndex any more.
        assert ours.get_nodes(["a"]) == [TextNode(id_="a", text="new")]
        assert ours.list_ref_docs() == {"doc": ["b", "c"]}
