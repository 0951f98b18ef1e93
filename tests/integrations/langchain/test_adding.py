"""Adding, replacing, deleting and reading documents; and everything that must be refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_embedders import TableEmbeddings, WordEmbeddings
from langchain_zeusdb_vs import ZeusDBVectorStore

from zeusdb_vs import (
    ArgumentTypeError,
    ClosedIndexError,
    ConfigurationError,
    DimensionError,
    FilterError,
    MetadataError,
    RecordError,
    RecordNotFoundError,
    VectorDatabase,
    VectorError,
)


@pytest.fixture
def store() -> Iterator[ZeusDBVectorStore]:
    with ZeusDBVectorStore(WordEmbeddings()) as store:
        yield store


def _contents(store: ZeusDBVectorStore) -> dict[str, tuple[str, dict[str, Any]]]:
    return {str(d.id): (d.page_content, d.metadata) for d in store.iterate()}


# ------------------------------------------------------------------------------------------------ adding


def test_iterables_are_read_once(store: ZeusDBVectorStore) -> None:
    ids = store.add_texts(
        (f"text {i}" for i in range(3)), ({"n": i} for i in range(3)), ids=(i for i in range(3))
    )
    assert ids == ["0", "1", "2"]
    assert _contents(store) == {str(i): (f"text {i}", {"n": i}) for i in range(3)}
    store.add_documents(Document(f"doc {i}", id=f"d{i}") for i in range(2))
    assert store.count() == 5


def test_metadata_of_every_kind_comes_back_and_is_never_aliased(store: ZeusDBVectorStore) -> None:
    metadata = {"none": None, "list": [1, "a"], "dict": {"x": {"y": 1}}, "when": datetime(2024, 5, 1)}
    document = Document("text", metadata=metadata)
    store.add_documents([document], ids=["a"])
    metadata["list"].append(2)  # type: ignore[attr-defined]
    assert document.id is None
    found = store.get_by_ids(["a"])[0]
    assert found.metadata == {**metadata, "list": [1, "a"]}
    found.metadata["dict"]["x"]["y"] = 2
    assert store.similarity_search("text")[0].metadata["dict"] == {"x": {"y": 1}}


def test_text_is_kept_beside_the_metadata_not_in_it(store: ZeusDBVectorStore) -> None:
    store.add_texts(["the text"], [{"text": "a field of this name", "id": 7}], ids=["a"])
    found = store.similarity_search("the text", k=1)[0]
    assert (found.page_content, found.metadata, found.id) == (
        "the text",
        {"text": "a field of this name", "id": 7},
        "a",
    )


def test_ids_may_be_none_or_int_and_the_last_of_equal_ones_counts(store: ZeusDBVectorStore) -> None:
    ids = store.add_texts(["a", "b", "c", "d"], ids=["x", None, 7, "x"])
    assert ids[0] == ids[3] == "x" and ids[2] == "7" and len(ids[1]) == 36
    assert store.count() == 3
    assert store.get_by_ids(["x", 7])[0].page_content == "d"
    assert "x" in store and 7 in store and "nowhere" not in store


def test_adding_an_id_again_replaces_it_wholly(store: ZeusDBVectorStore) -> None:
    for round in range(30):
        store.add_texts([f"round {round}", "other"], [{"round": round}, {}], ids=["a", "b"])
    assert _contents(store) == {"a": ("round 29", {"round": 29}), "b": ("other", {})}
    assert [d.id for d in store.similarity_search("round 29", k=5)] == ["a", "b"]


def test_a_second_add_keeps_the_first(store: ZeusDBVectorStore) -> None:
    store.add_texts(["one"], ids=["1"])
    store.add_texts(["two"], ids=["2"])
    assert set(_contents(store)) == {"1", "2"}


def test_texts_go_to_the_model_in_batches(store: ZeusDBVectorStore) -> None:
    sizes = []

    class Watched(WordEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            sizes.append(len(texts))
            return super().embed_documents(texts)

    watched = ZeusDBVectorStore(Watched(), batch_size=4)
    watched.add_texts([f"t{i}" for i in range(10)])
    watched.add_documents([Document("x")] * 3, batch_size=2)
    assert sizes == [4, 4, 2, 2, 1]


def test_embeddings_are_taken_as_arrays_lists_and_integers() -> None:
    store = ZeusDBVectorStore(None, space="l2")
    store.add_embeddings(["a", "b"], np.eye(2), ids=["a", "b"])
    store.add_embeddings(["c"], [[3, 4]], [{"n": 1}], ["c"])
    assert store.similarity_search_with_score_by_vector([0, 0], k=3)[2][1] == pytest.approx(5)
    assert [d.id for d in store.similarity_search_by_vector(np.array([3, 4]), k=1)] == ["c"]
    with pytest.raises(ConfigurationError, match="no embedding model"):
        store.similarity_search("text")


def test_update_documents_needs_them_there(store: ZeusDBVectorStore) -> None:
    store.add_texts(["a", "b"], ids=["a", "b"])
    assert store.update_documents(["a"], [Document("new a", metadata={"v": 2})]) == ["a"]
    with pytest.raises(RecordNotFoundError, match="missing"):
        store.update_documents(["b", "missing"], [Document("x"), Document("y")])
    assert _contents(store) == {"b": ("b", {}), "a": ("new a", {"v": 2})}


def test_update_metadata_embeds_nothing(store: ZeusDBVectorStore) -> None:
    store.add_texts(["a", "b", "c"], [{"n": 1, "k": "x"}, {"n": 2, "k": "x"}, {"n": 3}], ids=["a", "b", "c"])
    model = store.embeddings
    assert isinstance(model, WordEmbeddings)
    before = model.documents_embedded, store.get(include=["embeddings"])["embeddings"][0].tolist()
    assert store.update_metadata({"seen": True}, ids=["a", "nope"]) == 1
    assert store.update_metadata({"k": "y"}, filter={"k": "x"}) == 2
    assert store.update_metadata({"only": 1}, filter=lambda d: d.metadata["n"] == 3, replace=True) == 1
    assert store.count({"k": "y"}) == 2 and store.count({"only": 1}) == 1
    assert (model.documents_embedded, store.get(include=["embeddings"])["embeddings"][0].tolist()) == before
    assert store.update_metadata({"z": 1}, ids=["a", "b"], filter={"n": 2}) == 1
    assert store.update_metadata({"z": 2}, ids=[]) == 0 and store.count({"z": 1}) == 1
    with pytest.raises(MetadataError):
        store.update_metadata({"z": {1, 2}}, ids=["a", "b"])
    with pytest.raises(ConfigurationError):
        store.update_metadata({"a": 1})
    with pytest.raises(FilterError):
        store.update_metadata({"a": 1}, filter={})


# ------------------------------------------------------------------------------------------------ deleting, reading


def test_delete_by_ids_filter_and_both(store: ZeusDBVectorStore) -> None:
    store.add_texts([f"t{i}" for i in range(10)], [{"n": i} for i in range(10)], ids=range(10))
    assert store.delete(["0", "missing"]) and store.count() == 9
    assert store.delete("1") and store.count() == 8
    assert store.delete([]) and store.count() == 8
    assert store.delete([], filter={"n": {"$lt": 5}}) and store.count() == 8
    assert store.delete(["2", "9"], filter={"n": {"$lt": 5}}) and store.count() == 7
    assert store.delete(filter={"n": {"$in": [3, 4]}}) and store.count() == 5
    assert store.delete(filter=lambda document: document.page_content == "t5") and store.count() == 4
    assert (
        store.delete(["6", "7"], filter=lambda document: document.metadata["n"] == 7) and store.count() == 3
    )
    with pytest.raises(FilterError, match="empty filter"):
        store.delete(filter={})
    with pytest.raises(TypeError, match="did you mean 'filter'"):
        store.delete(filters={"n": 1})
    assert store.count() == 3


def test_delete_without_arguments_deletes_everything_and_logs_it(
    store: ZeusDBVectorStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.add_texts(["a", "b"])
    assert store.delete()
    assert store.count() == 0 and "all 2 documents" in caplog.text


def test_get_count_and_iterate_agree(store: ZeusDBVectorStore) -> None:
    store.add_texts([f"t{i}" for i in range(6)], [{"n": i} for i in range(6)], ids=range(6))
    for filter in ({"n": {"$gte": 2}}, lambda document: document.metadata["n"] >= 2):
        assert store.count(filter) == 4
        assert store.get(filter=filter)["ids"] == ["2", "3", "4", "5"]
        assert store.get(filter=filter, limit=2, offset=1)["documents"] == ["t3", "t4"]
        assert [document.id for document in store.iterate(filter)] == ["2", "3", "4", "5"]
        assert store.get(["5", "0", "3", "nope"], filter)["ids"] == ["5", "3"]
    everything = store.get(include=["documents", "metadatas", "embeddings"])
    assert [len(column) for column in everything.values()] == [6, 6, 6, 6]
    assert set(store.get(include=[])) == {"ids"}
    assert store.get(ids="3")["metadatas"] == [{"n": 3}]
    with pytest.raises(ConfigurationError):
        store.get(include=["vectors"])


def test_iterating_survives_deletes_meanwhile(store: ZeusDBVectorStore) -> None:
    store.add_texts([f"t{i}" for i in range(1500)], ids=range(1500))
    documents = store.iterate()
    next(documents)
    store.delete([str(i) for i in range(1200, 1500)])
    assert 1000 <= sum(1 for _ in documents) + 1 <= 1200


def test_an_empty_store_answers_everything() -> None:
    store = ZeusDBVectorStore(WordEmbeddings())
    assert store.similarity_search("x") == [] and store.get_by_ids(["a"]) == [] and store.count() == 0
    assert store.max_marginal_relevance_search("x") == [] and store.similarity_search_batch(["a", "b"]) == [
        [],
        [],
    ]
    assert store.delete(["a"]) and store.delete() and store.get()["ids"] == [] and list(store.iterate()) == []
    assert store.add_texts([]) == [] and bool(store)
    with pytest.raises(FilterError, match="unknown operator"):
        store.similarity_search("x", filter={"a": {"$grater": 1}})


# ------------------------------------------------------------------------------------------------ refusals


class BrokenEmbeddings(Embeddings):
    def __init__(self, break_: Callable[[list[list[float]]], Any]) -> None:
        self.break_ = break_

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.break_([[1.0, 2.0, 3.0] for _ in texts])  # type: ignore[no-any-return]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


@pytest.mark.parametrize(
    ("break_", "error", "says"),
    [
        (lambda v: v[:-1], VectorError, "2 vectors for 3 texts"),
        (lambda v: [*v, v[0]], VectorError, "4 vectors for 3 texts"),
        (lambda v: [*v[:2], [1.0]], DimensionError, "1 values for text 2"),
        (lambda v: [*v[:2], [1.0, float("nan"), 0.0]], VectorError, "'c'"),
        (lambda v: [*v[:2], [1.0, float("inf"), 0.0]], VectorError, "'c'"),
        (lambda v: [*v[:2], None], VectorError, "text 2"),
        (lambda v: [*v[:2], "abc"], VectorError, "text 2"),
        (lambda v: [*v[:2], [0.0, 0.0, 0.0]], VectorError, "'c'"),
        (lambda v: [1.0, 2.0, 3.0], VectorError, "text 0"),
    ],
)
def test_what_a_model_gets_wrong_is_an_error_and_nothing_is_stored(
    break_: Callable[[Any], Any], error: type[Exception], says: str
) -> None:
    store = ZeusDBVectorStore(BrokenEmbeddings(break_))
    with pytest.raises(error, match=says):
        store.add_texts(["1", "2", "3"], ids=["a", "b", "c"])
    assert store.count() == 0


def test_another_width_than_the_store_has_is_an_error() -> None:
    store = ZeusDBVectorStore(WordEmbeddings(8), dim=4)
    with pytest.raises(DimensionError, match="have 8 values"):
        store.add_texts(["a"])
    with pytest.raises(DimensionError):
        store.similarity_search_by_vector([1.0] * 5)


def test_zero_embedding_is_named_and_can_be_skipped(caplog: pytest.LogCaptureFixture) -> None:
    store = ZeusDBVectorStore(TableEmbeddings({"good": [1, 0], "empty": [0, 0], "fine": [0, 1]}))
    with pytest.raises(VectorError, match=r"record 1 \(id 'e'\).*zero"):
        store.add_texts(["good", "empty", "fine"], ids=["g", "e", "f"])
    assert store.count() == 0
    assert store.add_texts(["good", "empty", "fine"], ids=["g", "e", "f"], on_error="skip") == ["g", "f"]
    assert store.count() == 2 and "'e'" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"texts": "one str"}, TypeError),
        ({"texts": ["a", 1]}, TypeError),
        ({"texts": ["a", None]}, TypeError),
        ({"texts": ["a", "b"], "ids": ["x"]}, RecordError),
        ({"texts": ["a", "b"], "ids": "xy"}, TypeError),
        ({"texts": ["a", "b"], "ids": ["x", True]}, TypeError),
        ({"texts": ["a", "b"], "ids": ["x", ""]}, RecordError),
        ({"texts": ["a", "b"], "metadatas": [{}]}, RecordError),
        ({"texts": ["a", "b"], "metadatas": {"a": 1}}, TypeError),
        ({"texts": ["a", "b"], "metadatas": [{}, "x"]}, TypeError),
        ({"texts": ["a", "b"], "metadatas": [{}, {"s": {1, 2}}]}, MetadataError),
        ({"texts": ["a", "b"], "metadatas": [{}, {1: 2}]}, MetadataError),
        ({"texts": ["a", "b"], "metadatas": [{}, {"x": float("nan")}]}, MetadataError),
        ({"texts": ["a", "b"], "batch_size": 0}, ValueError),
        ({"texts": ["a", "b"], "on_error": "ignore"}, ValueError),
    ],
)
def test_a_batch_with_one_fault_stores_nothing(
    store: ZeusDBVectorStore, arguments: dict[str, Any], error: type[Exception]
) -> None:
    store.add_texts(["there"], ids=["there"])
    with pytest.raises(error):
        store.add_texts(**arguments)
    assert _contents(store) == {"there": ("there", {})}


@pytest.mark.parametrize(
    "call", ["similarity_search", "max_marginal_relevance_search", "similarity_search_batch"]
)
def test_unknown_arguments_name_the_nearest(store: ZeusDBVectorStore, call: str) -> None:
    store.add_texts(["a"])
    query = ["a"] if call.endswith("batch") else "a"
    with pytest.raises(TypeError, match="unknown argument 'filters'; did you mean 'filter'"):
        getattr(store, call)(query, filters={"a": 1})
    with pytest.raises(TypeError, match="did you mean 'metadatas'"):
        store.add_texts(["a"], metadata=[{}])


@pytest.mark.parametrize("call", ["get", "count", "iterate", "update_metadata"])
async def test_unknown_arguments_of_reads_and_updates_name_the_nearest(
    store: ZeusDBVectorStore, call: str
) -> None:
    store.add_texts(["a"])
    given: list[Any] = [{"a": 1}, ["x"]] if call == "update_metadata" else []
    wanted = "unknown argument 'filters'; did you mean 'filter'"
    with pytest.raises(TypeError, match=wanted):
        getattr(store, call)(*given, filters={"a": 1})
    with pytest.raises(TypeError, match=wanted):
        asked = getattr(store, f"a{call}")(*given, filters={"a": 1})
        await (anext(asked) if call == "iterate" else asked)


@pytest.mark.parametrize(
    ("call", "arguments", "error"),
    [
        ("similarity_search", {"query": "a", "k": 0}, ValueError),
        ("similarity_search", {"query": "a", "k": -1}, ValueError),
        ("similarity_search", {"query": "a", "k": 2.0}, TypeError),
        ("similarity_search", {"query": "a", "k": True}, TypeError),
        ("similarity_search", {"query": None}, TypeError),
        ("similarity_search", {"query": "a", "score_key": 1}, TypeError),
        ("similarity_search", {"query": "a", "max_distance": "1"}, TypeError),
        ("similarity_search", {"query": "a", "ef_search": 0}, ValueError),
        ("similarity_search", {"query": "a", "filter": 5}, FilterError),
        ("similarity_search", {"query": "a", "filter": {"a": {"$x": 1}}}, FilterError),
        ("similarity_search_with_relevance_scores", {"query": "a", "score_threshold": 2}, ValueError),
        ("similarity_search_with_relevance_scores", {"query": "a", "score_threshold": "x"}, TypeError),
        ("max_marginal_relevance_search", {"query": "a", "k": 5, "fetch_k": 4}, ValueError),
        ("max_marginal_relevance_search", {"query": "a", "lambda_mult": 1.5}, ValueError),
        ("max_marginal_relevance_search", {"query": "a", "lambda_mult": float("nan")}, ValueError),
        ("similarity_search_batch", {"queries": "a"}, TypeError),
        ("similarity_search_batch", {}, TypeError),
        ("similarity_search_by_vector", {"embedding": "abc"}, VectorError),
        ("similarity_search_by_vector", {"embedding": [float("nan")] * 32}, VectorError),
        ("similarity_search_by_vector", {"embedding": [0.0] * 32}, VectorError),
    ],
)
def test_searches_refuse_bad_arguments(
    store: ZeusDBVectorStore, call: str, arguments: dict[str, Any], error: type[Exception]
) -> None:
    store.add_texts(["a", "b"])
    with pytest.raises(error):
        getattr(store, call)(**arguments)


def test_constructor_refuses_bad_arguments() -> None:
    index = VectorDatabase().create("hnsw", dim=2)
    for arguments, error in (
        ({"embedding": "model"}, TypeError),
        ({"index": index, "path": "x"}, ValueError),
        ({"space": "angular"}, ValueError),
        ({"batch_size": 0}, ValueError),
        ({"on_embedding_mismatch": "maybe"}, ValueError),
        ({"m": 1}, ValueError),
        ({"quantization_config": {"type": "nonsense"}}, ValueError),
        ({"filters": 1}, TypeError),
    ):
        with pytest.raises(error):
            ZeusDBVectorStore(**arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unknown argument 'spaces'; did you mean 'space'"):
        ZeusDBVectorStore.from_texts(["a"], WordEmbeddings(), spaces="l2")


def test_closed_store_refuses_every_call(store: ZeusDBVectorStore) -> None:
    store.add_texts(["a"])
    retriever = store.as_retriever()
    model = store.embeddings
    assert isinstance(model, WordEmbeddings)
    asked = model.queries_embedded
    store.close()
    for call in (
        lambda: store.similarity_search("a"),
        lambda: store.add_texts(["b"]),
        lambda: store.delete(["a"]),
        lambda: store.get_by_ids(["a"]),
        lambda: store.get(),
        lambda: store.count(),
        lambda: store.iterate(),
        lambda: store.save(),
        lambda: retriever.invoke("a"),
        lambda: store.update_metadata({"a": 1}, ids=["a"]),
    ):
        with pytest.raises(ClosedIndexError):
            call()  # type: ignore[no-untyped-call]
    store.close()
    assert model.queries_embedded == asked
    assert "closed" in repr(store)


def test_names_of_langchain_zeusdb_work() -> None:
    index = VectorDatabase().create("hnsw", dim=32)
    store = ZeusDBVectorStore(zeusdb_index=index, embedding=WordEmbeddings())
    # Its records hold the text among the metadata.
    index.add(
        [
            {
                "id": "old",
                "vector": WordEmbeddings().embed_query("old text"),
                "metadata": {"text": "old text", "a": 1},
            }
        ]
    )
    assert store.similarity_search("old text", k=1) == [Document("old text", metadata={"a": 1}, id="old")]
    assert store.get_vector_count() == 1 and "HNSW" in store.info()
    with pytest.raises(ArgumentTypeError):
        store.add_documents(["no document"])  # type: ignore[list-item]
