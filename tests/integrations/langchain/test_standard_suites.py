"""LangChain's own test suites for vector stores and retrievers, unmodified, on every kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests
from langchain_zeusdb_vs import ZeusDBRetriever, ZeusDBVectorStore


class TestInMemory(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:  # type: ignore[override]
        with ZeusDBVectorStore(self.get_embeddings()) as store:
            yield store


class TestL2(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:  # type: ignore[override]
        with ZeusDBVectorStore(self.get_embeddings(), space="l2") as store:
            yield store


class TestL1(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:  # type: ignore[override]
        with ZeusDBVectorStore(self.get_embeddings(), space="l1") as store:
            yield store


class UnitEmbedding(DeterministicFakeEmbedding):
    """Of length 1, as models for inner products give them: a text is then the nearest to itself."""

    def embed_query(self, text: str) -> list[float]:
        vector = super().embed_query(text)
        length = sum(value * value for value in vector) ** 0.5
        return [value / length for value in vector]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


class TestDot(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:  # type: ignore[override]
        with ZeusDBVectorStore(UnitEmbedding(size=6), space="dot") as store:
            yield store


class TestOnAPath(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:  # type: ignore[override]
        with ZeusDBVectorStore(self.get_embeddings(), path=tmp_path / "docs.zdb") as store:
            yield store


class ReopenedStore(ZeusDBVectorStore):
    """A store whose directory is closed and opened again before every read: nothing survives but what is on disk."""

    def _plan(self, *args: Any) -> Any:
        self._reopen()
        return super()._plan(*args)

    def get_by_ids(self, ids: Any, /) -> Any:
        self._reopen()
        return super().get_by_ids(ids)

    def _reopen(self) -> None:
        path, embedding = self._path, self._embedding
        if self._index is not None:
            self.close()
            ZeusDBVectorStore.__init__(self, embedding, path=path)


class TestReopenedBetweenOperations(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:  # type: ignore[override]
        with ReopenedStore(self.get_embeddings(), path=tmp_path / "docs.zdb") as store:
            yield store


class TestRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[ZeusDBRetriever]:
        return ZeusDBRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        store = ZeusDBVectorStore.from_texts(
            [f"text {number}" for number in range(8)], DeterministicFakeEmbedding(size=6)
        )
        return {"vectorstore": store}

    @property
    def retriever_query_example(self) -> str:
        return "text 3"


INT8 = {"type": "int8", "training_size": 1_000}
PRODUCT = {"type": "pq", "subvectors": 6, "training_size": 1_000}
WITH_RAW = {"type": "pq", "subvectors": 3, "training_size": 1_000, "storage_mode": "quantized_with_raw"}


def emptied(store: ZeusDBVectorStore) -> ZeusDBVectorStore:
    """Return a store whose quantizer is trained, on documents that are deleted again.

    The suite begins with an empty store and never adds as many documents as training takes: this is an empty store in
    which everything that is added becomes a code.
    """
    ids = [f"trained on {number}" for number in range(1_000)]
    store.add_embeddings(ids, np.random.default_rng(0).standard_normal((1_000, 6)), ids=ids)
    store.delete(ids)
    assert store.index.is_quantized() and store.count() == 0
    return store


class TestCollectingForQuantization(VectorStoreIntegrationTests):
    @pytest.fixture(params=[INT8, PRODUCT], ids=["int8", "pq"])
    def vectorstore(self, request: pytest.FixtureRequest) -> Iterator[VectorStore]:  # type: ignore[override]
        with ZeusDBVectorStore(self.get_embeddings(), quantization_config=request.param) as store:
            yield store
            assert not store.has_index or store.index.get_storage_mode() == "raw_collecting_for_training"


class TestQuantized(VectorStoreIntegrationTests):
    @pytest.fixture(params=[INT8, PRODUCT, WITH_RAW], ids=["int8", "pq", "pq with raw"])
    def vectorstore(self, request: pytest.FixtureRequest) -> Iterator[VectorStore]:  # type: ignore[override]
        with ZeusDBVectorStore(self.get_embeddings(), quantization_config=request.param) as store:
            yield emptied(store)
            assert store.index.is_quantized()


class TestQuantizedOnAPath(VectorStoreIntegrationTests):
    @pytest.fixture(params=[INT8, WITH_RAW], ids=["int8", "pq with raw"])
    def vectorstore(  # type: ignore[override]
        self, request: pytest.FixtureRequest, tmp_path: Path
    ) -> Iterator[VectorStore]:
        path = tmp_path / "docs.zdb"
        with ZeusDBVectorStore(self.get_embeddings(), path=path, quantization_config=request.param) as store:
            yield emptied(store)
            assert store.index.is_quantized()


class TestQuantizedReopenedBetweenOperations(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:  # type: ignore[override]
        path = tmp_path / "docs.zdb"
        with ReopenedStore(self.get_embeddings(), path=path, quantization_config=PRODUCT) as store:
            yield emptied(store)
            assert store.index.is_quantized()
