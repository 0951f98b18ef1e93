"""LangChain's own parts that stand on a vector store or a retriever, on ours."""

from __future__ import annotations

import pytest
from langchain_core.documents import Document
from langchain_core.example_selectors import (
    MaxMarginalRelevanceExampleSelector,
    SemanticSimilarityExampleSelector,
)
from langchain_core.runnables import ConfigurableField
from langchain_core.stores import InMemoryStore
from langchain_core.tools import create_retriever_tool
from langchain_embedders import WordEmbeddings
from langchain_zeusdb_vs import ZeusDBVectorStore


@pytest.fixture
def store() -> ZeusDBVectorStore:
    return ZeusDBVectorStore.from_texts(["bees honey", "bread salt"], WordEmbeddings(), ids=["bees", "bread"])


def test_retriever_is_a_tool_and_configurable(store: ZeusDBVectorStore) -> None:
    retriever = store.as_retriever(k=1)
    assert create_retriever_tool(retriever, "notes", "finds notes").invoke("honey") == "bees honey"
    configurable = retriever.configurable_fields(k=ConfigurableField(id="k"))
    assert len(configurable.invoke("honey", config={"configurable": {"k": 2}})) == 2
    assert len(retriever.model_copy(update={"k": 2}).invoke("honey")) == 2


def test_example_selectors() -> None:
    examples = [{"q": "bees honey", "a": "1"}, {"q": "bread salt", "a": "2"}]
    for selector in (SemanticSimilarityExampleSelector, MaxMarginalRelevanceExampleSelector):
        chosen = selector.from_examples(examples, WordEmbeddings(), ZeusDBVectorStore, k=1)
        assert chosen.select_examples({"q": "bread salt"}) == [examples[1]]


def test_retrievers_that_stand_on_a_store(store: ZeusDBVectorStore) -> None:
    retrievers = pytest.importorskip("langchain_classic.retrievers")
    splitters = pytest.importorskip("langchain_text_splitters")
    parents = retrievers.ParentDocumentRetriever(
        vectorstore=ZeusDBVectorStore(WordEmbeddings()),
        docstore=InMemoryStore(),
        child_splitter=splitters.RecursiveCharacterTextSplitter(chunk_size=12, chunk_overlap=0),
    )
    whole = Document("bees honey wax bread salt flour", metadata={"page": 1})
    parents.add_documents([whole])
    assert parents.invoke("bread") == [whole]
    both = retrievers.EnsembleRetriever(
        retrievers=[store.as_retriever(k=1), store.as_retriever(k=2)], weights=[0.5, 0.5]
    )
    assert [document.id for document in both.invoke("salt")] == ["bread", "bees"]
    weighted = retrievers.TimeWeightedVectorStoreRetriever(
        vectorstore=ZeusDBVectorStore(WordEmbeddings()), k=1
    )
    weighted.add_documents([Document("hello")])
    assert weighted.invoke("hello")[0].page_content == "hello"
