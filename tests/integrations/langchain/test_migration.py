"""Moving from other LangChain stores, real ones where they are installed, without embedding anything."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_embedders import WordEmbeddings
from langchain_zeusdb_vs import ZeusDBVectorStore

TEXTS = [f"word{i % 5} text {i}" for i in range(120)]
METADATAS: list[dict[str, Any]] = [{"n": i, "even": i % 2 == 0} for i in range(120)]
IDS = [f"id{i}" for i in range(120)]


def _inmemory() -> VectorStore:
    return InMemoryVectorStore.from_texts(TEXTS, WordEmbeddings(), METADATAS, ids=IDS)


def _faiss() -> VectorStore:
    pytest.importorskip("faiss")
    community = pytest.importorskip("langchain_community.vectorstores")
    store: VectorStore = community.FAISS.from_texts(TEXTS, WordEmbeddings(), METADATAS, ids=IDS)
    return store


def _faiss_inner_product() -> VectorStore:
    pytest.importorskip("faiss")
    community = pytest.importorskip("langchain_community.vectorstores")
    strategy = community.utils.DistanceStrategy.MAX_INNER_PRODUCT
    store: VectorStore = community.FAISS.from_texts(
        TEXTS, WordEmbeddings(), METADATAS, ids=IDS, distance_strategy=strategy
    )
    return store


def _chroma(**options: Any) -> VectorStore:
    chroma = pytest.importorskip("langchain_chroma")
    # The client in memory is one for the whole process.
    name = f"moved-{uuid.uuid4()}"
    store: VectorStore = chroma.Chroma.from_texts(
        TEXTS, WordEmbeddings(), METADATAS, ids=IDS, collection_name=name, **options
    )
    return store


def _chroma_configured(space: str) -> Callable[[], VectorStore]:
    return lambda: _chroma(collection_configuration={"hnsw": {"space": space}})


def _chroma_by_metadata(space: str) -> Callable[[], VectorStore]:
    return lambda: _chroma(collection_metadata={"hnsw:space": space})


@pytest.mark.filterwarnings("ignore")  # of the other packages
@pytest.mark.parametrize(
    ("make", "move", "space"),
    [
        (_inmemory, ZeusDBVectorStore.from_inmemory, "cosine"),
        (_faiss, ZeusDBVectorStore.from_faiss, "l2"),
        (_faiss_inner_product, ZeusDBVectorStore.from_faiss, "dot"),
        (_chroma, ZeusDBVectorStore.from_chroma, "l2"),
        (_chroma_configured("cosine"), ZeusDBVectorStore.from_chroma, "cosine"),
        (_chroma_configured("ip"), ZeusDBVectorStore.from_chroma, "dot"),
        (_chroma_by_metadata("cosine"), ZeusDBVectorStore.from_chroma, "cosine"),
    ],
)
def test_moved_stores_answer_alike(make: Any, move: Any, space: str, tmp_path: Path) -> None:
    source = make()
    model = WordEmbeddings()
    with move(source, model, batch_size=50, path=tmp_path / "moved.zdb") as store:
        assert model.documents_embedded == 1, "only the probe that tells models apart"
        assert store.space == space and store.count() == 120
        assert {d.id: (d.page_content, d.metadata) for d in store.iterate()} == {
            id: (text, metadata) for id, text, metadata in zip(IDS, TEXTS, METADATAS, strict=True)
        }
        for query in ("word3", "text 17", "word1 text 6"):
            theirs = {document.page_content for document in source.similarity_search(query, k=5)}
            assert theirs == {document.page_content for document in store.similarity_search(query, k=5)}
    with ZeusDBVectorStore.open(tmp_path / "moved.zdb", WordEmbeddings()) as again:
        assert again.count({"even": True}) == 60


def test_the_sources_model_is_taken_where_none_is_given() -> None:
    source = _inmemory()
    assert ZeusDBVectorStore.from_inmemory(source).embeddings is source.embeddings


@pytest.mark.filterwarnings("ignore")  # of the other packages
def test_a_space_that_is_named_goes_before_the_collections() -> None:
    assert ZeusDBVectorStore.from_chroma(_chroma_configured("cosine")(), space="l1").space == "l1"


@pytest.mark.parametrize("move", ["from_faiss", "from_chroma", "from_inmemory"])
def test_something_else_is_refused(move: str) -> None:
    with pytest.raises(TypeError, match="expected a LangChain"):
        getattr(ZeusDBVectorStore, move)(object())
