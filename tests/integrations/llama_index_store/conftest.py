"""Nodes and stores for the tests of the LlamaIndex adapter: real core, real engine, nothing from the network."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    # Third parties' deprecations on import are not ours to mend.
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("llama_index.core")
    from llama_index.core.embeddings import BaseEmbedding
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

DIM = 8


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "llama_index_store" in str(item.path):
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:pydantic"))
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:llama_index"))


class WordEmbedding(BaseEmbedding):
    """Embeds a text by which of a few words it holds: near texts share words."""

    words: tuple[str, ...] = ("cat", "dog", "car", "sun", "sea", "tree", "book")

    def _vector(self, text: str) -> list[float]:
        lowered = text.lower()
        return [0.1, *[float(lowered.count(word)) for word in self.words]]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._vector(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)


def make_node(number: int, *, doc: str | None = None, embedding: Any = None, **metadata: Any) -> TextNode:
    """Return a node with an embedding of its own direction."""
    if embedding is None:
        embedding = np.random.default_rng(number).standard_normal(DIM).tolist()
    node = TextNode(
        id_=f"node-{number}",
        text=f"text {number}",
        metadata={"number": number, **metadata},
        embedding=embedding,
    )
    if doc is not None:
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=doc)
    return node


@pytest.fixture
def node():
    return make_node


@pytest.fixture
def embed_model() -> WordEmbedding:
    return WordEmbedding()


@pytest.fixture
def nodes():
    return [make_node(i, doc=f"doc-{i // 3}", parity=["even", "odd"][i % 2]) for i in range(12)]


@pytest.fixture
def store(nodes) -> ZeusDBVectorStore:
    return ZeusDBVectorStore.from_nodes(nodes)
