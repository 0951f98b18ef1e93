"""Queries: how many, in which order, how similar; ids that restrict; MMR; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.schema import ImageNode, IndexNode, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

from zeusdb_vs import ConfigurationError, DimensionError, VectorError

MODE = VectorStoreQueryMode


def ask(store, embedding, top_k=10, **options):
    kwargs = options.pop("kwargs", {})
    return store.query(
        VectorStoreQuery(query_embedding=embedding, similarity_top_k=top_k, **options), **kwargs
    )


def planar(angles: list[float]) -> list[TextNode]:
    return [
        TextNode(id_=str(i), embedding=[float(np.cos(a)), float(np.sin(a))], metadata={"i": i})
        for i, a in enumerate(angles)
    ]


SIMILARITY = {
    "cosine": lambda a, b: a @ b / (np.linalg.norm(a) * np.linalg.norm(b)),
    "dot": lambda a, b: a @ b,
    "l2": lambda a, b: 1 / (1 + np.linalg.norm(a - b)),
    "l1": lambda a, b: 1 / (1 + np.abs(a - b).sum()),
}


@pytest.mark.parametrize("space", list(SIMILARITY))
def test_similarities_are_higher_for_nearer_nodes(space: str) -> None:
    random = np.random.default_rng(3)
    vectors = random.standard_normal((40, 5))
    query = random.standard_normal(5)
    nodes = [TextNode(id_=str(i), embedding=v.tolist()) for i, v in enumerate(vectors)]
    result = ask(ZeusDBVectorStore.from_nodes(nodes, space=space), query.tolist(), 40)
    true = np.array([SIMILARITY[space](v, query) for v in vectors])
    assert [type(s) for s in result.similarities] == [float] * 40
    assert result.similarities == sorted(result.similarities, reverse=True)
    assert result.ids == [str(i) for i in np.argsort(-true)]
    # float32 holds seven digits.
    assert np.allclose(result.similarities, np.sort(true)[::-1], rtol=1e-5, atol=1e-5)
    assert [node.node_id for node in result.nodes] == result.ids


def test_cosine_of_the_same_and_the_opposite() -> None:
    store = ZeusDBVectorStore.from_nodes(planar([0.0, np.pi / 2, np.pi]))
    assert ask(store, [2.0, 0.0]).similarities == pytest.approx([1.0, 0.0, -1.0], abs=1e-6)
    for similarity in ask(store, [0.3, 0.1]).similarities:
        assert -1.0 <= similarity <= 1.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20), st.integers(0, 25), st.integers(1, 4), st.data())
def test_there_are_always_as_many_as_match(count, top_k, parts, data) -> None:
    store = ZeusDBVectorStore(dim=2)
    store.add(
        [TextNode(id_=str(i), embedding=[1.0, float(i)], metadata={"part": i % parts}) for i in range(count)]
    )
    filters = MetadataFilters(filters=[MetadataFilter(key="part", value=0)])
    mode = data.draw(st.sampled_from([MODE.DEFAULT, MODE.MMR]))
    found = ask(store, [1.0, 1.0], top_k, filters=filters, mode=mode)
    matching = len(range(0, count, parts))
    assert len(found.ids) == min(top_k, matching) == len(found.nodes) == len(found.similarities)
    assert len(set(found.ids)) == len(found.ids)


def test_an_empty_store_answers_with_nothing() -> None:
    for store in (ZeusDBVectorStore(), ZeusDBVectorStore(dim=2)):
        result = ask(store, [1.0, 0.0])
        assert (result.nodes, result.similarities, result.ids) == ([], [], [])


# ---------------------------------------------------------------------------------------------- restrictions


def test_node_ids_and_doc_ids_restrict(store, nodes) -> None:
    query = nodes[0].embedding
    assert set(ask(store, query, node_ids=["node-1", "node-7", "x"]).ids) == {"node-1", "node-7"}
    assert set(ask(store, query, doc_ids=["doc-1"]).ids) == {"node-3", "node-4", "node-5"}
    assert set(ask(store, query, doc_ids=["doc-1"], node_ids=["node-4", "node-9"]).ids) == {"node-4"}
    assert len(ask(store, query, 20, node_ids=[], doc_ids=[]).ids) == 12
    assert ask(store, query, node_ids=["x"]).ids == []
    assert ask(store, query, doc_ids=["x"]).ids == []
    filters = MetadataFilters(
        filters=[MetadataFilter(key="number", value=4), MetadataFilter(key="number", value=9)],
        condition=FilterCondition.OR,
    )
    assert ask(store, query, doc_ids=["doc-1"], filters=filters).ids == ["node-4"]


@pytest.mark.parametrize("kind", [IndexNode, ImageNode])
def test_all_non_text_ids_are_the_retrievers_artefact(store, nodes, kind) -> None:
    extra = {"index_id": "i"} if kind is IndexNode else {}
    store.add([kind(id_=f"other-{i}", text="o", embedding=[1.0] * 8, **extra) for i in range(2)])
    query = nodes[0].embedding
    assert len(ask(store, query, 20, node_ids=["other-1", "other-0"]).ids) == 14
    assert ask(store, query, 20, node_ids=["other-1"]).ids == ["other-1"]
    assert len(ask(store, query, 20, node_ids=["other-1", "other-0", "node-1"]).ids) == 3
    strict = ZeusDBVectorStore.from_client(store.client, strict_node_ids=True)
    assert len(ask(strict, query, 20, node_ids=["other-1", "other-0"]).ids) == 2


def test_ids_of_a_store_of_index_nodes_alone_restrict_as_they_say() -> None:
    nodes = [IndexNode(id_=str(i), index_id="i", text="o", embedding=[1.0, i]) for i in range(3)]
    assert len(ask(ZeusDBVectorStore.from_nodes(nodes), [1.0, 0.0], node_ids=["0", "1", "2"]).ids) == 3


def test_without_an_embedding_a_query_lists(store) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key="parity", value="odd")])
    result = ask(store, None, 4, filters=filters)
    assert result.ids == ["node-1", "node-3", "node-5", "node-7"] and result.similarities is None
    assert ask(store, None, 4, node_ids=["node-5", "node-2"]).ids == ["node-5", "node-2"]
    assert ask(store, None, 4, node_ids=["node-5", "node-2"], filters=filters).ids == ["node-5"]
    with pytest.raises(VectorError, match="query_embedding"):
        ask(store, None)
    with pytest.raises(VectorError, match="'mmr' needs query_embedding"):
        ask(store, None, filters=filters, mode=MODE.MMR)


# ---------------------------------------------------------------------------------------------- MMR


def mmr_oracle(vectors: np.ndarray, query: np.ndarray, top_k: int, threshold: float, similarity) -> list[int]:
    relevance = np.array([similarity(v, query) for v in vectors])
    chosen = [int(relevance.argmax())]
    while len(chosen) < min(top_k, len(vectors)):
        rest = [i for i in range(len(vectors)) if i not in chosen]
        scores = [
            threshold * relevance[i]
            - (1 - threshold) * max(similarity(vectors[i], vectors[j]) for j in chosen)
            for i in rest
        ]
        chosen.append(rest[int(np.argmax(scores))])
    return chosen


@pytest.mark.parametrize("space", list(SIMILARITY))
@pytest.mark.parametrize("threshold", [0, 0.3, 0.5, 1.0])
def test_mmr_agrees_with_the_oracle(space: str, threshold: float) -> None:
    random = np.random.default_rng(5)
    vectors, query = random.standard_normal((30, 6)).astype(np.float32), random.standard_normal(6)
    nodes = [TextNode(id_=str(i), embedding=v.tolist()) for i, v in enumerate(vectors)]
    store = ZeusDBVectorStore.from_nodes(nodes, space=space)
    result = ask(store, query.tolist(), 8, mode=MODE.MMR, kwargs={"mmr_threshold": threshold})
    expected = mmr_oracle(vectors.astype(np.float64), query, 8, threshold, SIMILARITY[space])
    assert result.ids == [str(i) for i in expected]
    true = [SIMILARITY[space](vectors[i], query) for i in expected]
    assert result.similarities == pytest.approx(true, rel=1e-5, abs=1e-5)


def test_mmr_takes_the_keyword_before_the_query_before_the_default() -> None:
    store = ZeusDBVectorStore.from_nodes(planar([0.0, 0.01, 0.02, 1.2]))
    nearest, diverse = ["0", "1"], ["0", "3"]
    assert ask(store, [1.0, 0.0], 2, mode=MODE.MMR, mmr_threshold=1.0).ids == nearest
    assert ask(store, [1.0, 0.0], 2, mode=MODE.MMR, mmr_threshold=0.0).ids == diverse
    assert (
        ask(store, [1.0, 0.0], 2, mode=MODE.MMR, mmr_threshold=1.0, kwargs={"mmr_threshold": 0}).ids
        == diverse
    )
    assert (
        ask(store, [1.0, 0.0], 2, mode="mmr", mmr_threshold=0.0, kwargs={"mmr_threshold": 1}).ids == nearest
    )
    only = {"mmr_prefetch_k": 2, "mmr_threshold": 0}
    assert ask(store, [1.0, 0.0], 2, mode=MODE.MMR, kwargs=only).ids == nearest
    factor = {"mmr_prefetch_factor": 2, "mmr_threshold": 0}
    assert ask(store, [1.0, 0.0], 2, mode=MODE.MMR, kwargs=factor).ids == diverse


def test_mmr_is_filtered() -> None:
    store = ZeusDBVectorStore.from_nodes(planar([0.0, 0.01, 0.02, 1.2]))
    filters = MetadataFilters(filters=[MetadataFilter(key="i", value=3, operator="!=")])
    assert ask(store, [1.0, 0.0], 2, mode=MODE.MMR, filters=filters, kwargs={"mmr_threshold": 0}).ids == [
        "0",
        "2",
    ]
    found = ask(store, [1.0, 0.0], 2, mode=MODE.MMR)
    assert [node.embedding for node in found.nodes] == [None, None]


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "mode", ["sparse", "hybrid", "text_search", "semantic_hybrid", "svm", "linear_regression"]
)
def test_modes_that_are_not_there_are_refused_by_name(store, mode: str) -> None:
    for some in (store, ZeusDBVectorStore()):
        with pytest.raises(NotImplementedError, match=f"'{mode}' is not available"):
            ask(some, [1.0] * 8, mode=MODE(mode), query_str="text")


def test_wrong_queries_are_refused(store) -> None:
    with pytest.raises(ConfigurationError, match="unknown query mode 'best'"):
        ask(store, [1.0] * 8, mode="best")
    with pytest.raises(DimensionError, match="8"):
        ask(store, [1.0] * 9)
    with pytest.raises(ValueError, match=r"finite|nan"):
        ask(store, [float("nan")] * 8)
    with pytest.raises(ConfigurationError, match="no option 'ef'; known are ef_search"):
        ask(store, [1.0] * 8, kwargs={"ef": 1})
    for threshold in (2, -0.1, "1", True):
        with pytest.raises(ConfigurationError, match="mmr_threshold"):
            ask(store, [1.0] * 8, mode=MODE.MMR, kwargs={"mmr_threshold": threshold})
    with pytest.raises(ValueError, match="top_k"):
        ask(store, [1.0] * 8, -1)
    with pytest.raises(TypeError, match="a list of str"):
        ask(store, [1.0] * 8, node_ids="node-1")


def test_options_of_a_query_reach_the_engine(store, nodes) -> None:
    result = ask(store, nodes[4].embedding, 1, kwargs={"exact": True, "ef_search": 20})
    assert result.ids == ["node-4"] and result.similarities == pytest.approx([1.0])
    with pytest.raises(ValueError, match="ef_search"):
        ask(store, [1.0] * 8, kwargs={"ef_search": 0})
