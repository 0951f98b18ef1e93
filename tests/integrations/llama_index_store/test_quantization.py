"""Stores that keep codes in place of embeddings: trained in flight, kept, copied, searched like others."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

from zeusdb_vs import ArgumentTypeError, ConfigurationError, VectorDatabase

DIM = 16
COUNT = 1_200
INT8 = {"type": "int8", "training_size": 1_000}
PRODUCT = {"type": "pq", "subvectors": 8, "bits": 8, "training_size": 1_000}
WITH_RAW = {**PRODUCT, "storage_mode": "quantized_with_raw"}
CONFIGS = pytest.mark.parametrize("config", [INT8, PRODUCT, WITH_RAW], ids=["int8", "pq", "raw"])


def make_nodes() -> list[TextNode]:
    """Return nodes whose embeddings lie around some centres, as they do."""
    random = np.random.default_rng(7)
    centres = random.standard_normal((24, DIM))
    vectors = centres[random.integers(0, 24, COUNT)] + 0.5 * random.standard_normal((COUNT, DIM))
    return [
        TextNode(
            id_=f"n{i}",
            text=f"text {i}",
            metadata={"i": i},
            embedding=vector.tolist(),
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc-{i // 4}")},
        )
        for i, vector in enumerate(vectors)
    ]


NODES = make_nodes()


def ask(store: ZeusDBVectorStore, i: int, top_k: int = 10, **options: Any) -> Any:
    kwargs = options.pop("kwargs", {})
    query = VectorStoreQuery(query_embedding=NODES[i].embedding, similarity_top_k=top_k, **options)
    return store.query(query, **kwargs)


def answers(store: ZeusDBVectorStore) -> list[list[str]]:
    return [ask(store, i).ids for i in range(20)]


def below(number: int) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key="i", value=number, operator=FilterOperator.LT)])


@CONFIGS
def test_nodes_are_the_same_before_and_after_training(config: dict[str, Any]) -> None:
    store = ZeusDBVectorStore(quantization_config=config)
    store.add(NODES[:999])
    assert not store.client.is_quantized() and store.client.training_vectors_needed() == 1
    store.add(NODES[999:])
    assert store.client.is_quantized() and len(store) == COUNT
    assert store.get_nodes() == [node.model_copy(update={"embedding": None}) for node in NODES]
    for i in (3, 700, 1_100):
        found = ask(store, i, 20, filters=below(15))
        assert len(found.ids) == 15 and all(-1 <= value <= 1 for value in found.similarities)
        assert found.similarities == sorted(found.similarities, reverse=True)
        assert ask(store, i, 1).ids == [f"n{i}"]
    store.delete("doc-0")
    assert len(ask(store, 0, 2 * COUNT).ids) == len(store) == COUNT - 4
    store.clear()
    store.add(NODES[:10])
    assert store.client.is_quantized() and ask(store, 5, 1).ids == ["n5"]


@CONFIGS
def test_a_directory_remembers_how_it_is_quantized(config: dict[str, Any], tmp_path: Path) -> None:
    with ZeusDBVectorStore(tmp_path / "store", quantization_config=config) as store:
        store.add(NODES)
        expected, taken_over = answers(store), store.quantization_config
        assert taken_over is not None and taken_over.items() >= config.items()
        unpickled = pickle.loads(pickle.dumps(store))
        assert unpickled.quantization_config == taken_over and answers(unpickled) == expected
        unpickled.close()
    for options in ({}, {"quantization_config": config}, {"read_only": True}):
        with ZeusDBVectorStore(tmp_path / "store", **options) as again:
            assert again.client.is_quantized() and again.quantization_config == taken_over
            assert answers(again) == expected
            configuration = again.to_dict()
    with ZeusDBVectorStore.from_dict(configuration) as again:
        assert answers(again) == expected
    with pytest.raises(ConfigurationError, match="quantization"):
        ZeusDBVectorStore(tmp_path / "store", quantization_config={**config, "training_size": 2_000})


@CONFIGS
@pytest.mark.parametrize("on", ["local", "memory"])
def test_copies_are_quantized_too(config: dict[str, Any], on: str, tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory") if on == "memory" else None
    path = f"/{tmp_path.name}/copy" if on == "memory" else str(tmp_path / "copy")
    store = ZeusDBVectorStore.from_nodes(NODES, quantization_config=config)
    store.persist(path, fs)
    loaded = ZeusDBVectorStore.from_persist_path(path, fs)
    assert loaded.client.is_quantized() and loaded.quantization_config == store.quantization_config
    assert answers(loaded) == answers(store)
    with pytest.raises(ConfigurationError, match="rebuild"):
        ZeusDBVectorStore.from_persist_path(path, fs, quantization_config=config)
    if fs is not None:
        fs.rm(f"/{tmp_path.name}", recursive=True)


@CONFIGS
@pytest.mark.parametrize("space", ["cosine", "l2"])
def test_mmr_follows_the_formula_on_what_the_index_gives_back(config: dict[str, Any], space: str) -> None:
    store = ZeusDBVectorStore.from_nodes(
        NODES, space=space, quantization_config=config, include_embeddings=True
    )
    filters = MetadataFilters(filters=[MetadataFilter(key="i", value=300, operator=FilterOperator.GTE)])
    candidates = ask(store, 5, 40, filters=filters)
    vectors = np.array([node.embedding for node in candidates.nodes])
    if space == "cosine":
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        alike = units @ units.T
    else:
        alike = 1 / (1 + np.linalg.norm(vectors[:, None] - vectors[None], axis=2))
    picked = [0]
    while len(picked) < 10:
        values = 0.4 * np.array(candidates.similarities) - 0.6 * alike[:, picked].max(axis=1)
        values[picked] = -np.inf
        picked.append(int(values.argmax()))
    options = {"mmr_threshold": 0.4, "mmr_prefetch_k": 40}
    found = ask(store, 5, 10, filters=filters, mode=VectorStoreQueryMode.MMR, kwargs=options)
    assert found.ids == [candidates.ids[at] for at in picked]
    assert found.similarities == pytest.approx([candidates.similarities[at] for at in picked])


@pytest.mark.parametrize("bound", [False, True])
def test_what_cannot_be_is_refused_and_nothing_made(bound: bool, tmp_path: Path) -> None:
    path = {"path": tmp_path / "store"} if bound else {}
    for wrong in (
        {"type": "zip"},
        {"type": "pq", "bits": 9},
        {"type": "pq", "subvectors": 48, "training_size": 999},
        {"type": "int8", "subvectors": 4},
    ):
        for dim in (None, 96):
            with pytest.raises(ConfigurationError):
                ZeusDBVectorStore(quantization_config=wrong, dim=dim, **path)
    with pytest.raises(ArgumentTypeError, match="quantization_config must be a dict"):
        ZeusDBVectorStore(quantization_config="pq", **path)  # type: ignore[arg-type]
    # Whether they divide the width is known with the first node.
    store = ZeusDBVectorStore(quantization_config={"type": "pq", "subvectors": 5}, **path)
    with pytest.raises(ConfigurationError, match="subvectors=5 does not divide dim=16"):
        store.add(NODES[:1])
    assert len(store) == 0 and not (tmp_path / "store").exists()
    index = VectorDatabase().create("hnsw", dim=2)
    with pytest.raises(ConfigurationError, match="rebuild"):
        ZeusDBVectorStore.from_client(index, quantization_config=INT8)
    assert ZeusDBVectorStore.from_dict(store.to_dict()).to_dict() == store.to_dict()
