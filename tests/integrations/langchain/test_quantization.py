"""Stores that keep codes in place of vectors: trained in flight, kept on disk, searched like others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from langchain_embedders import TableEmbeddings, WordEmbeddings
from langchain_zeusdb_vs import ZeusDBVectorStore

from zeusdb_vs import ConfigurationError, VectorDatabase

DIM = 16
COUNT = 1_200
INT8 = {"type": "int8", "training_size": 1_000}
PRODUCT = {"type": "pq", "subvectors": 8, "bits": 8, "training_size": 1_000}
WITH_RAW = {**PRODUCT, "storage_mode": "quantized_with_raw"}
CONFIGS = pytest.mark.parametrize("config", [INT8, PRODUCT, WITH_RAW], ids=["int8", "pq", "raw"])


def _vectors(count: int = COUNT) -> np.ndarray[Any, Any]:
    """Return vectors around some centres, as embeddings lie."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((24, DIM))
    return centres[rng.integers(0, 24, count)] + 0.5 * rng.standard_normal((count, DIM))


VECTORS = _vectors()
TEXTS = [f"text {number}" for number in range(COUNT)]
MODEL = TableEmbeddings({text: vector.tolist() for text, vector in zip(TEXTS, VECTORS, strict=True)})


def _filled(config: dict[str, Any], **options: Any) -> ZeusDBVectorStore:
    return ZeusDBVectorStore.from_texts(
        TEXTS,
        MODEL,
        [{"n": number} for number in range(COUNT)],
        ids=range(COUNT),
        quantization_config=config,
        on_embedding_mismatch="ignore",
        **options,
    )


def _found(store: ZeusDBVectorStore) -> list[tuple[list[str | None], list[float]]]:
    found = store.similarity_search_batch_with_score(TEXTS[:20], k=10)
    return [([document.id for document, _ in row], [score for _, score in row]) for row in found]


@CONFIGS
async def test_documents_are_the_same_before_and_after_training(config: dict[str, Any]) -> None:
    store = ZeusDBVectorStore(MODEL, quantization_config=config)
    store.add_texts(TEXTS[:999], [{"n": number} for number in range(999)], ids=range(999))
    before = {document.id: document for document in store.iterate()}
    assert not store.index.is_quantized() and store.index.training_vectors_needed() == 1
    await store.aadd_texts(TEXTS[999:], ids=range(999, COUNT))
    assert store.index.is_quantized() and store.count() == COUNT
    assert {document.id: document for document in store.iterate() if int(str(document.id)) < 999} == before
    for number in (3, 700, 1_100):
        assert store.similarity_search(TEXTS[number], k=1)[0].id == str(number)
        found = store.similarity_search_with_relevance_scores(TEXTS[number], k=20, filter={"n": {"$lt": 15}})
        assert len(found) == 15 and all(0 <= relevance <= 1 for _, relevance in found)
    store.delete(["3"])
    store.update_metadata({"seen": True}, ids=["700"])
    assert store.similarity_search(TEXTS[700], k=1)[0].metadata == {"n": 700, "seen": True}
    assert len(store.similarity_search(TEXTS[3], k=2 * COUNT)) == COUNT - 1


@CONFIGS
async def test_mmr_is_cores_formula_on_the_vectors_given_back(config: dict[str, Any]) -> None:
    store = _filled(config)
    assert store.index.is_quantized()
    for number, filter in ((5, None), (77, {"n": {"$gte": 600}})):
        nearest = store.similarity_search_with_vectors(TEXTS[number], k=40, filter=filter)
        rows = maximal_marginal_relevance(
            VECTORS[number].astype(np.float32).astype(np.float64),
            [vector.astype(np.float64).tolist() for _, vector in nearest],
            0.4,
            10,
        )
        expected = [nearest[row][0].id for row in rows]
        options: Any = {"k": 10, "fetch_k": 40, "lambda_mult": 0.4, "filter": filter}
        found = store.max_marginal_relevance_search(TEXTS[number], **options)
        assert [document.id for document in found] == expected
        awaited = await store.amax_marginal_relevance_search(TEXTS[number], **options)
        assert [document.id for document in awaited] == expected
    assert len(store.max_marginal_relevance_search(TEXTS[0], k=10, filter={"n": {"$lt": 7}})) == 7


@CONFIGS
def test_a_directory_remembers_how_it_is_quantized(config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "docs.zdb"
    with _filled(config, path=path) as store:
        expected = _found(store)
    for options in ({}, {"quantization_config": config}, {"read_only": True}):
        with ZeusDBVectorStore(MODEL, path=path, on_embedding_mismatch="ignore", **options) as again:  # type: ignore[arg-type]
            assert again.index.is_quantized() and again.count() == COUNT
            for row, (ids, scores) in zip(_found(again), expected, strict=True):
                assert row[0] == ids and row[1] == pytest.approx(scores, rel=1e-5, abs=1e-6)
    with pytest.raises(ConfigurationError, match="quantization"):
        ZeusDBVectorStore(MODEL, path=path, quantization_config={**config, "training_size": 2_000})
    loaded = ZeusDBVectorStore.load_index(path, MODEL, on_embedding_mismatch="ignore")
    assert loaded.index.is_quantized()


def test_training_goes_on_where_a_restart_left_it(tmp_path: Path) -> None:
    path = tmp_path / "docs.zdb"
    for start in range(0, COUNT, 300):
        with ZeusDBVectorStore(None, path=path, quantization_config=PRODUCT) as store:
            assert store.has_index == (start > 0)
            store.add_embeddings(TEXTS[start : start + 300], VECTORS[start : start + 300])
            assert store.index.is_quantized() == (start + 300 >= 1_000)


def test_another_store_is_taken_over_into_codes(tmp_path: Path) -> None:
    old = InMemoryVectorStore.from_texts(TEXTS, MODEL, ids=[str(number) for number in range(COUNT)])
    with ZeusDBVectorStore.from_inmemory(
        old, path=tmp_path / "docs.zdb", quantization_config=INT8, on_embedding_mismatch="ignore"
    ) as store:
        assert store.index.is_quantized() and store.count() == COUNT


@pytest.mark.parametrize("bound", [False, True])
def test_what_cannot_be_is_refused_at_once(bound: bool, tmp_path: Path) -> None:
    path: Any = {"path": tmp_path / "docs.zdb"} if bound else {}
    for wrong, error in (
        ({"type": "zip"}, ValueError),
        ({"type": "pq", "bits": 9}, ValueError),
        ({"type": "pq", "subvectors": 48, "training_size": 999}, ValueError),
        ({"type": "int8", "subvectors": 4}, ValueError),
        ({"type": "pq", "subvectors": "8"}, TypeError),
        ("pq", TypeError),
    ):
        for dim in (None, 96):
            with pytest.raises(error):
                ZeusDBVectorStore(WordEmbeddings(), quantization_config=wrong, dim=dim, **path)  # type: ignore[arg-type]
    # Whether they divide the width is known with the first vectors.
    store = ZeusDBVectorStore(
        WordEmbeddings(32), quantization_config={"type": "pq", "subvectors": 20}, **path
    )
    with pytest.raises(ConfigurationError, match="subvectors=20 does not divide dim=32"):
        store.add_texts(["a"])
    assert store.count() == 0 and not (tmp_path / "docs.zdb").exists()
    index = VectorDatabase().create("hnsw", dim=2)
    with pytest.raises(ConfigurationError, match="rebuild"):
        ZeusDBVectorStore(None, index=index, quantization_config=INT8)
