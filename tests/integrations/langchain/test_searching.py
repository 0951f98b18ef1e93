"""Scores, MMR, batches and the retriever."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from langchain_embedders import TableEmbeddings, WordEmbeddings
from langchain_zeusdb_vs import ZeusDBRetriever, ZeusDBVectorStore
from langchain_zeusdb_vs.scores import RELEVANCE, choose_diverse

from zeusdb_vs import HNSWIndex

SPACES = ["cosine", "l2", "l1", "dot"]
_MMR_TIE = 1e-9
"""Scores nearer than this are equal but for the order of float64 additions."""


def _random_store(
    space: str, n: int = 60, scale: float = 1.0
) -> tuple[ZeusDBVectorStore, np.ndarray[Any, Any]]:
    vectors = np.random.default_rng(3).standard_normal((n, 12)) * scale
    store = ZeusDBVectorStore(
        TableEmbeddings({f"q{i}": v.tolist() for i, v in enumerate(vectors)}), space=space
    )
    store.add_texts([f"q{i}" for i in range(n)], [{"n": i} for i in range(n)], ids=range(n))
    return store, vectors


# ------------------------------------------------------------------------------------------------ scores


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_relevance_stays_within_0_and_1_and_falls_with_the_distance(space: str, scale: float) -> None:
    store, vectors = _random_store(space, scale=scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(5):
            by_distance = store.similarity_search_with_score(f"q{number}", k=60)
            by_relevance = store.similarity_search_with_relevance_scores(f"q{number}", k=60)
            distances = [score for _, score in by_distance]
            relevance = [score for _, score in by_relevance]
            assert [d.id for d, _ in by_distance] == [d.id for d, _ in by_relevance]
            assert distances == sorted(distances)
            assert relevance == sorted(relevance, reverse=True)
            assert all(0 <= value <= 1 for value in relevance)
            lengths = np.linalg.norm(vectors, axis=1)
            expected = {
                "cosine": 1 - vectors @ vectors[number] / lengths / lengths[number],
                "l2": np.linalg.norm(vectors - vectors[number], axis=1),
                "l1": np.abs(vectors - vectors[number]).sum(axis=1),
                "dot": 1 - vectors @ vectors[number],
            }[space]  # fmt: skip
            tolerance = 1e-4 * (1 + np.abs(expected).max())  # float32 against float64
            assert (
                np.abs([expected[int(str(d.id))] for d, _ in by_distance] - np.array(distances)).max()
                < tolerance
            )


@pytest.mark.parametrize("space", SPACES)
@given(distances=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2))
def test_relevance_is_monotone_for_any_distance(space: str, distances: list[float]) -> None:
    nearer, farther = sorted(distances)
    assert 0 <= RELEVANCE[space](farther) <= RELEVANCE[space](nearer) <= 1


def test_threshold_is_of_relevance_and_max_distance_of_distance() -> None:
    store, _ = _random_store("cosine")
    scored = store.similarity_search_with_score("q1", k=60)
    cut = (scored[9][1] + scored[10][1]) / 2
    assert len(store.similarity_search("q1", k=60, max_distance=cut)) == 10
    assert len(store.similarity_search_with_relevance_scores("q1", k=60, score_threshold=1 - cut / 2)) == 10
    assert len(store.similarity_search_with_relevance_scores("q1", k=60, score_threshold=0)) == 60
    assert store.similarity_search_with_relevance_scores("q1", k=60, score_threshold=1.0) in (
        [], store.similarity_search_with_relevance_scores("q1", k=1))  # fmt: skip


async def test_score_key_and_own_relevance_function() -> None:
    store, _ = _random_store("l2")
    own = ZeusDBVectorStore(store.embeddings, index=store.index, relevance_score_fn=lambda d: 0.25)
    (document, score), *_ = own.similarity_search_with_relevance_scores("q1", score_key="relevance")
    assert score == document.metadata["relevance"] == 0.25
    (document, score), *_ = store.similarity_search_with_score("q1", score_key="distance")
    assert document.metadata == {"n": 1, "distance": score}
    assert store.similarity_search("q1", k=1, score_key="d")[0].metadata["d"] == score
    assert (await store.asimilarity_search("q1", k=1, score_key="d"))[0].metadata["d"] == score
    assert "d" not in store.get_by_ids(["1"])[0].metadata


def test_with_vectors_gives_them_as_they_went_in() -> None:
    store, vectors = _random_store("cosine")
    for document, vector in store.similarity_search_with_vectors("q5", k=7):
        assert vector.dtype == np.float32
        np.testing.assert_array_equal(vector, vectors[document.metadata["n"]].astype(np.float32))


# ------------------------------------------------------------------------------------------------ MMR


@settings(max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    dim=st.integers(1, 24),
    k=st.integers(1, 45),
    lambda_mult=st.floats(0, 1),
    duplicates=st.booleans(),
)
def test_mmr_is_that_of_langchain_core(
    seed: int, n: int, dim: int, k: int, lambda_mult: float, duplicates: bool
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    if duplicates:
        vectors = vectors[rng.integers(0, n, n)]
    query = rng.standard_normal(dim).astype(np.float32)
    chosen, scores = choose_diverse(query, vectors, k, lambda_mult)
    core = maximal_marginal_relevance(
        query.astype(np.float64), vectors.astype(np.float64).tolist(), lambda_mult, k
    )
    assert len(chosen) == len(core) == min(k, n) == len(set(chosen))
    if chosen != core:
        # Only where two rows tie but for rounding may the two part.
        step = next(i for i, (ours, theirs) in enumerate(zip(chosen, core, strict=True)) if ours != theirs)
        assert (
            abs(scores[step] - _value_of(query, vectors, chosen[:step], core[step], lambda_mult)) < _MMR_TIE
        )


def _value_of(query: Any, vectors: Any, picked: list[int], row: int, lambda_mult: float) -> float:
    if not picked:
        return _cosine(query, vectors[row])
    redundancy = max(_cosine(vectors[row], vectors[other]) for other in picked)
    return lambda_mult * _cosine(query, vectors[row]) - (1 - lambda_mult) * redundancy


def _cosine(one: Any, other: Any) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_mmr_of_a_zero_vector_is_similar_to_nothing() -> None:
    rows, _ = choose_diverse(np.ones(2, np.float32), np.array([[0, 0], [1, 1], [1, 0]], np.float32), 3, 0.5)
    assert rows == [1, 0, 2]


@pytest.mark.parametrize("space", SPACES)
async def test_mmr_searches_choose_among_the_nearest(space: str) -> None:
    store, vectors = _random_store(space)
    nearest = [int(str(document.id)) for document in store.similarity_search("q7", k=20)]
    rows = maximal_marginal_relevance(vectors[7], vectors[nearest].astype(np.float32).tolist(), 0.3, 6)
    expected = [str(nearest[row]) for row in rows]
    for found in (
        store.max_marginal_relevance_search("q7", k=6, fetch_k=20, lambda_mult=0.3),
        store.max_marginal_relevance_search_by_vector(vectors[7], k=6, fetch_k=20, lambda_mult=0.3),
        await store.amax_marginal_relevance_search("q7", k=6, fetch_k=20, lambda_mult=0.3),
        await store.amax_marginal_relevance_search_by_vector(
            vectors[7].tolist(), k=6, fetch_k=20, lambda_mult=0.3
        ),
        store.as_retriever(
            search_type="mmr", search_kwargs={"k": 6, "fetch_k": 20, "lambda_mult": 0.3}
        ).invoke("q7"),
    ):
        assert [document.id for document in found] == expected
    assert len(store.max_marginal_relevance_search("q7", k=30)) == 30, "fetch_k grows with k"
    # A larger lambda means nearer: peers that have it the other way round give the most diverse here.
    nearest_of_20 = sorted(nearest, key=lambda row: -_cosine(vectors[7], vectors[row]))[:6]
    found = store.max_marginal_relevance_search("q7", k=6, fetch_k=20, lambda_mult=1.0)
    assert [document.id for document in found] == [str(row) for row in nearest_of_20]


# ------------------------------------------------------------------------------------------------ batches


class CountedSearches:
    """Counts calls of the engine's search, all of which go through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        search = HNSWIndex.search

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return search(*args, **kwargs)

        monkeypatch.setattr(HNSWIndex, "search", counted)


async def test_batches_are_one_call_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    store, vectors = _random_store("cosine")
    queries = [f"q{i}" for i in range(20)]
    expected = [store.similarity_search(query, k=3, filter={"n": {"$gt": 5}}) for query in queries]
    retriever = store.as_retriever(k=3, filter={"n": {"$gt": 5}})
    chain = RunnableLambda(lambda text: text) | retriever
    searches = CountedSearches(monkeypatch)
    assert store.similarity_search_batch(queries, k=3, filter={"n": {"$gt": 5}}) == expected
    assert store.similarity_search_batch(vectors=vectors[:20], k=3, filter={"n": {"$gt": 5}}) == expected
    assert await store.asimilarity_search_batch(queries, k=3, filter={"n": {"$gt": 5}}) == expected
    assert retriever.batch(queries) == expected
    assert await retriever.abatch(queries) == expected
    assert chain.batch(queries) == expected
    assert searches.count == 6
    assert store.similarity_search_batch([], k=3) == [] and retriever.batch([]) == []


class Recorder(BaseCallbackHandler):
    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[int] = []
        self.errors: list[str] = []

    def on_retriever_start(self, serialized: Any, query: str, **kwargs: Any) -> None:
        self.started.append(query)

    def on_retriever_end(self, documents: Any, **kwargs: Any) -> None:
        self.ended.append(len(documents))

    def on_retriever_error(self, error: BaseException, **kwargs: Any) -> None:
        self.errors.append(type(error).__name__)


async def test_batches_tell_callbacks_of_each_query() -> None:
    store, _ = _random_store("cosine")
    retriever = store.as_retriever(k=2)
    recorder = Recorder()
    retriever.batch(["q1", "q2"], {"callbacks": [recorder]})
    await retriever.abatch(["q3"], {"callbacks": [recorder]})
    assert recorder.started == ["q1", "q2", "q3"] and recorder.ended == [2, 2, 2]
    with pytest.raises(KeyError):
        retriever.batch(["q1", "unknown"], {"callbacks": [recorder]})
    assert recorder.errors == ["KeyError", "KeyError"]
    found = retriever.batch(["q1", "unknown"], return_exceptions=True)
    assert len(found[0]) == 2 and isinstance(found[1], KeyError)


# ------------------------------------------------------------------------------------------------ retriever


async def test_a_filter_of_the_call_narrows_and_never_replaces() -> None:
    store, _ = _random_store("cosine")
    for retriever in (
        store.as_retriever(k=60, filter={"n": {"$lt": 10}}),
        store.as_retriever(k=60, search_kwargs={"filter": {"n": {"$lt": 10}}}),
        store.as_retriever(k=60, filter=lambda d: d.metadata["n"] < 10),
    ):
        assert len(retriever.invoke("q1")) == 10
        assert len(retriever.invoke("q1", filter={"n": {"$gte": 5}})) == 5
        assert len(await retriever.ainvoke("q1", filter=lambda d: d.metadata["n"] >= 7)) == 3
        assert retriever.invoke("q1", filter={"n": {"$gte": 10}}) == []
        assert retriever.batch(["q1"], filter={"n": 3})[0][0].id == "3"


def test_arguments_go_call_before_search_kwargs_before_fields() -> None:
    store, _ = _random_store("cosine")
    retriever = store.as_retriever(k=5, search_kwargs={"k": 7})
    assert len(retriever.invoke("q1")) == 7
    assert len(retriever.invoke("q1", k=2)) == 2
    retriever.search_kwargs["k"] = 9
    assert len(retriever.invoke("q1")) == 9
    assert len(ZeusDBRetriever(vectorstore=store).invoke("q1")) == 4


def test_thresholds_in_every_spelling() -> None:
    store, _ = _random_store("cosine")
    expected = [d for d, _ in store.similarity_search_with_relevance_scores("q1", k=60, score_threshold=0.5)]
    assert 0 < len(expected) < 60
    for retriever in (
        store.as_retriever(k=60, score_threshold=0.5),
        store.as_retriever(k=60, search_type="similarity_score_threshold", score_threshold=0.5),
        store.as_retriever(
            search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.5, "k": 60}
        ),
    ):
        assert retriever.invoke("q1") == expected
        assert retriever.batch(["q1"]) == [expected]
    # An int, which langchain-core's own retriever refuses.
    integer = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0}
    )
    assert len(integer.invoke("q1")) == 4
    scored = store.as_retriever(k=1, score_threshold=0.1, score_key="relevance").invoke("q1")
    assert scored[0].metadata["relevance"] == pytest.approx(1)
    with pytest.raises(ValueError, match="needs score_threshold"):
        store.as_retriever(search_type="similarity_score_threshold")
    with pytest.raises(ValueError, match="search_type"):
        store.as_retriever(search_type="nearest")
    with pytest.raises(TypeError, match="did you mean 'filter'"):
        store.as_retriever().invoke("q1", filters={"n": 1})


@pytest.mark.parametrize("misspelt", [{"filters": {"n": 1}}, {"search_kwargs": {"filters": {"n": 1}}}])
def test_a_misspelt_filter_is_no_retriever(misspelt: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="'filters'; did you mean 'filter'"):
        ZeusDBVectorStore(WordEmbeddings()).as_retriever(**misspelt)


def test_retriever_says_what_it_asks() -> None:
    store = ZeusDBVectorStore.from_texts(["a"], WordEmbeddings())
    params = store.as_retriever()._get_ls_params()
    assert params["ls_vector_store_provider"] == "ZeusDBVectorStore"
    assert params["ls_embedding_provider"] == "WordEmbeddings"
    assert params["ls_embedding_model"] == "WordEmbeddings"
    assert {"ZeusDBVectorStore", "WordEmbeddings"} <= set(store.as_retriever().tags or [])


async def test_search_by_type_and_twins_agree() -> None:
    store, vectors = _random_store("cosine")
    assert store.search("q1", "similarity", k=3) == await store.asearch("q1", "similarity", k=3)
    assert store.search("q1", "mmr", k=3) == await store.asearch("q1", "mmr", k=3)
    threshold = {"k": 9, "score_threshold": 0.5}
    assert store.search("q1", "similarity_score_threshold", **threshold) == await store.asearch(
        "q1", "similarity_score_threshold", **threshold
    )
    assert store.similarity_search_with_score("q1") == await store.asimilarity_search_with_score("q1")
    assert store.similarity_search_with_relevance_scores("q1") == (
        await store.asimilarity_search_with_relevance_scores("q1")
    )
    assert store.similarity_search_by_vector(vectors[1]) == await store.asimilarity_search_by_vector(
        vectors[1]
    )
    assert store.similarity_search_with_score_by_vector(vectors[1]) == (
        await store.asimilarity_search_with_score_by_vector(vectors[1])
    )
    assert [d for d, _ in store.similarity_search_with_vectors("q1")] == [
        d for d, _ in await store.asimilarity_search_with_vectors("q1")
    ]
    assert isinstance(store.similarity_search("q1", exact=True, ef_search=50, k=1)[0], Document)
