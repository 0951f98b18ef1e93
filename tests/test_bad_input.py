"""One rule for each entry point: odd input raises the right error, loses nothing, and harms nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeusdb_vs import (
    ArgumentTypeError,
    ConfigurationError,
    CorruptIndexError,
    FilterError,
    ForeignDirectoryError,
    HNSWIndex,
    IndexNotFoundError,
    MetadataError,
    RecordNotFoundError,
    StorageError,
    UnsupportedVersionError,
    VectorDatabase,
    VectorError,
    ZeusDBError,
)

DIM = 4
NAN, INF = float("nan"), float("inf")


@pytest.fixture(params=["cosine", "l2"])
def index(request: pytest.FixtureRequest) -> HNSWIndex:
    """Three records a, b, c."""
    made = VectorDatabase().create("hnsw", dim=DIM, space=request.param)
    made.add(
        {
            "ids": ["a", "b", "c"],
            "vectors": np.eye(3, DIM),
            "metadatas": [{"n": 1}, {"n": "x"}, {"n": [1, 2]}],
        }
    )
    return made


def _is_untouched(index: HNSWIndex) -> bool:
    hits = index.search(np.eye(3, DIM)[1], top_k=5)
    return (
        index.list() == [("a", {"n": 1}), ("b", {"n": "x"}), ("c", {"n": [1, 2]})]
        and hits[0]["id"] == "b"
        and len(hits) == 3
    )


# ------------------------------------------------------------------------------------------------ create


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigurationError, "needs dim="),
        ({"dim": 0}, ConfigurationError, "dim must be an integer from 1 to 65,536, got 0"),
        ({"dim": -1}, ConfigurationError, "dim must be"),
        ({"dim": 65_537}, ConfigurationError, "got 65,537"),
        ({"dim": True}, ArgumentTypeError, "dim must be .* got True"),
        ({"dim": 4.0}, ArgumentTypeError, "got 4.0 of type float"),
        ({"dim": NAN}, ArgumentTypeError, "dim must be"),
        ({"dim": "4"}, ArgumentTypeError, "dim must be"),
        ({"dim": 4, "m": 1}, ConfigurationError, "m must be an integer from 2 to 256, got 1"),
        ({"dim": 4, "m": 257}, ConfigurationError, "m must be"),
        ({"dim": 4, "m": 16.0}, ArgumentTypeError, "m must be"),
        ({"dim": 4, "ef_construction": 0}, ConfigurationError, "ef_construction must be .* from 1 to 4,096"),
        ({"dim": 4, "ef_construction": 4097}, ConfigurationError, "got 4,097"),
        ({"dim": 4, "ef_construction": False}, ArgumentTypeError, "ef_construction must be"),
        ({"dim": 4, "expected_size": 0}, ConfigurationError, "expected_size must be"),
        ({"dim": 4, "expected_size": 1e6}, ArgumentTypeError, "expected_size must be"),
        ({"dim": 4, "expected_size": 10**30}, ConfigurationError, "expected_size must be"),
        ({"dim": 4, "space": "cosin"}, ConfigurationError, "unknown space 'cosin'; did you mean 'cosine'"),
        ({"dim": 4, "space": "hamming"}, ConfigurationError, "unknown space 'hamming'; "),
        ({"dim": 4, "space": 2}, ArgumentTypeError, "space must be a str"),
        ({"dim": 4, "index_type": "hsnw"}, ConfigurationError, "did you mean 'hnsw'"),
        ({"dim": 4, "index_type": None}, ArgumentTypeError, "index_type must be a str"),
        ({"dim": 4, "ef_constuction": 9}, ConfigurationError, "did you mean 'ef_construction'"),
        ({"dim": 4, "quantization_config": {"type": "pqq"}}, ConfigurationError, "did you mean 'pq'"),
        ({"dim": 4, "indexed_fields": "year"}, ArgumentTypeError, "indexed_fields must be a list of str"),
        ({"dim": 4, "indexed_fields": ["a", 1]}, ArgumentTypeError, r"indexed_fields\[1\]"),
    ],
)
def test_create_names_the_option_and_what_is_allowed(
    options: dict[str, Any], error: type[ZeusDBError], message: str
) -> None:
    with pytest.raises(error, match=message):
        VectorDatabase().create(**options)


def test_huge_expected_size_is_only_a_hint() -> None:
    made = VectorDatabase().create(dim=1536, expected_size=10**12)
    assert made.memory()["total"] < 100_000_000


def test_numpy_integers_are_integers() -> None:
    made = VectorDatabase().create(dim=np.int64(4), m=np.uint8(8), ef_construction=np.int32(50))
    assert made.info().startswith("HNSWIndex(dim=4, space=cosine, m=8, ef_construction=50")


# ------------------------------------------------------------------------------------------------ add


@pytest.mark.parametrize(
    "data",
    [
        None,
        5,
        "abc",
        {"a", "b"},
        {"ids": ["x"], "vectors": np.eye(2, DIM)},
        {"ids": "xy", "vectors": np.eye(2, DIM)},
        {"vectors": np.eye(2, DIM), "metadatas": [{}, {}, {}]},
        {"vectors": np.eye(2, DIM), "color": [1, 2]},
        {"ids": ["x"]},
        np.zeros((1, 1, DIM)),
    ],
)
@pytest.mark.parametrize("on_error", ["collect", "raise"])
def test_malformed_batch_raises_before_anything_changes(index: HNSWIndex, data: Any, on_error: Any) -> None:
    with pytest.raises(ZeusDBError):
        index.add(data, on_error=on_error)
    assert _is_untouched(index)


_BAD_RECORDS = [
    {"id": "a", "vector": [1.0] * 3},
    {"id": "a", "vector": [1.0, [1.0], 1.0, 1.0]},
    {"id": "a", "vector": [1.0, NAN, 1.0, 1.0]},
    {"id": "a", "vector": [1.0, INF, 1.0, 1.0]},
    {"id": "a", "vector": [1.0, 1e39, 1.0, 1.0]},
    {"id": "a", "vector": None},
    {"id": "a", "vector": "text"},
    {"id": "a", "vector": {1.0, 2.0, 3.0, 4.0}},
    {"id": 7, "vector": [1.0] * DIM},
    {"id": "", "vector": [1.0] * DIM},
    {"id": "x\0", "vector": [1.0] * DIM},
    {"id": "\ud800", "vector": [1.0] * DIM},
    {"id": "x" * 1025, "vector": [1.0] * DIM},
    {"id": "a", "vector": [1.0] * DIM, "metadata": "text"},
    {"id": "a", "vector": [1.0] * DIM, "metadata": {1: 1}},
    {"id": "a", "vector": [1.0] * DIM, "metadata": {"n": NAN}},
    {"id": "a", "vector": [1.0] * DIM, "metadata": {"n": b"x"}},
    {"id": "a", "vector": [1.0] * DIM, "metadata": {"n": {1, 2}}},
    {"id": "a", "vector": [1.0] * DIM, "metadata": {"n": "x" * (1 << 20)}},
    {"id": "a", "vector": [1.0] * DIM, "payload": {"n": object()}},
    {"id": "a", "vector": [1.0] * DIM, "text": 5},
    {"id": "a", "vector": [1.0] * DIM, "extra": 5},
    "no record",
]


@pytest.mark.parametrize("record", _BAD_RECORDS)
def test_bad_record_keeps_out_and_the_old_one_stays(index: HNSWIndex, record: Any) -> None:
    result = index.add(iter([record]))
    assert (result.total_inserted, result.total_errors) == (0, 1)
    assert _is_untouched(index)
    with pytest.raises(ZeusDBError, match="record 1"):
        index.add([{"id": "new", "vector": [1.0] * DIM}, record], on_error="raise")
    assert _is_untouched(index)
    result = index.add([record, {"id": "new", "vector": [1.0] * DIM}])
    assert result.ids == ["new"]
    assert [error.position for error in result.errors] == [0]


def test_zero_vector_is_refused_under_cosine_only() -> None:
    for space, refused in (("cosine", 1), ("l2", 0), ("l1", 0), ("dot", 0)):
        result = VectorDatabase().create(dim=DIM, space=space).add([[0.0] * DIM])
        assert result.total_errors == refused


def test_vectors_of_extreme_length_have_a_direction() -> None:
    made = VectorDatabase().create(dim=DIM, space="cosine")
    made.add({"ids": ["huge", "tiny"], "vectors": np.array([[1e30, 0, 0, 0], [0, 1e-30, 0, 0]])})
    (near, far) = made.search([0.0, 1e-38, 0.0, 0.0])
    assert near["id"] == "tiny"
    assert near["score"] == pytest.approx(0.0, abs=1e-6)
    assert far["score"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_overwrite_must_be_a_bool(index: HNSWIndex, value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="overwrite"):
        index.add([], overwrite=value)
    with pytest.raises(ConfigurationError, match="on_error"):
        index.add([], on_error="ignore")  # type: ignore[arg-type]


def test_later_changes_by_the_caller_do_not_reach_the_store(index: HNSWIndex) -> None:
    vectors, metadata = np.ones((2, DIM), np.float32), [{"tags": ["x"]}, {"tags": ["y"]}]
    index.add({"ids": ["p", "q"], "vectors": vectors, "metadatas": metadata})
    vectors[:] = 9
    metadata[0]["tags"].append("changed")
    records = index.get_records(["p", "q"])
    assert [record["vector"].tolist() for record in records] == [[1.0] * DIM] * 2
    assert [record["metadata"] for record in records] == [{"tags": ["x"]}, {"tags": ["y"]}]
    assert index.count({"tags": {"contains": "changed"}}) == 0


_ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "ids", "vector", "vectors", "values", "metadata", "text", "payloads", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_ANYTHING, st.sampled_from(["collect", "raise"]))
def test_whatever_is_added_ends_in_a_result_or_an_error_of_ours(data: Any, on_error: Any) -> None:
    made = VectorDatabase().create(dim=2, space="l2")
    try:
        result = made.add(data, on_error=on_error)
    except ZeusDBError:
        assert len(made) == 0
    else:
        assert len(made) == result.total_inserted == len(result.ids)
        assert all(name in made for name in result.ids)


# ------------------------------------------------------------------------------------------------ search


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"vector": None}, ArgumentTypeError),
        ({"vector": "abcd"}, ArgumentTypeError),
        ({"vector": [1.0] * 3}, VectorError),
        ({"vector": np.ones((2, 5))}, VectorError),
        ({"vector": [1.0, NAN, 1.0, 1.0]}, VectorError),
        ({"vector": np.array([1.0, np.nan, 1.0, 1.0], np.float32)}, VectorError),
        ({"vector": np.array([1.0, np.inf, 1.0, 1.0], np.float32)}, VectorError),
        ({"vector": [[1.0] * DIM, [NAN] * DIM]}, VectorError),
        ({"vector": [1e300] * DIM}, VectorError),
        ({"top_k": -1}, ConfigurationError),
        ({"top_k": True}, ArgumentTypeError),
        ({"top_k": 2.0}, ArgumentTypeError),
        ({"top_k": None}, ArgumentTypeError),
        ({"ef_search": 0}, ConfigurationError),
        ({"ef_search": "many"}, ArgumentTypeError),
        ({"return_vector": 1}, ArgumentTypeError),
        ({"rerank": -1}, ConfigurationError),
        ({"rerank": 1.5}, ArgumentTypeError),
        ({"include": "text"}, ArgumentTypeError),
        ({"include": ["txt"]}, ConfigurationError),
        ({"include": [5]}, ArgumentTypeError),
        ({"max_distance": NAN}, ArgumentTypeError),
        ({"max_distance": "far"}, ArgumentTypeError),
        ({"exact": 1}, ArgumentTypeError),
        ({"explain": "yes"}, ArgumentTypeError),
        ({"id": "a"}, ArgumentTypeError),
        ({"vector": None, "id": "nobody"}, RecordNotFoundError),
        ({"vector": None, "id": 5}, ArgumentTypeError),
        ({"ids": "a"}, ArgumentTypeError),
        ({"ids": [5]}, ArgumentTypeError),
        ({"filter": "n = 1"}, FilterError),
        ({"filter": {"n": {"gtt": 1}}}, FilterError),
    ],
)
def test_odd_search_raises(index: HNSWIndex, options: dict[str, Any], error: type[ZeusDBError]) -> None:
    for vector in ([1.0] * DIM, np.ones(DIM, np.float32)):
        with pytest.raises(error):
            index.search(**{"vector": vector, **options})
        # What does not depend on the records is checked without any, too.
        if "id" not in options:
            with pytest.raises(error):
                VectorDatabase().create(dim=DIM).search(**{"vector": vector, **options})
    assert _is_untouched(index)


@pytest.mark.parametrize("query", [[0.0] * DIM, np.zeros(DIM, np.float32), np.zeros((2, DIM))])
def test_zero_query_has_no_direction(query: Any) -> None:
    made = VectorDatabase().create(dim=DIM, space="cosine")
    made.add(np.eye(DIM))
    with pytest.raises(VectorError, match="zero"):
        made.search(query)
    with pytest.raises(VectorError, match="zero"):
        made.search_arrays(query)
    assert len(VectorDatabase().create(dim=DIM, space="dot").search(query)) in (0, 2)


@pytest.mark.parametrize("space", ["l2", "l1", "dot"])
def test_distance_beyond_float32_is_an_error(space: str) -> None:
    made = VectorDatabase().create(dim=DIM, space=space)
    made.add({"ids": ["far", "near"], "vectors": np.array([[3e38] * DIM, [0.0] * DIM])})
    for query in ([-3e38] * DIM, np.full(DIM, -3e38, np.float32)):
        with pytest.raises(VectorError):
            made.search(query)


@given(_ANYTHING)
def test_whatever_is_searched_ends_in_hits_or_an_error_of_ours(vector: Any) -> None:
    made = VectorDatabase().create(dim=2, space="l2")
    made.add([[0.0, 1.0]])
    try:
        hits = made.search(vector)
    except ZeusDBError:
        return
    assert isinstance(hits, list)


# ------------------------------------------------------------------------------------------------ filter


def _deep(levels: int) -> dict[str, Any]:
    tree: dict[str, Any] = {"n": 1}
    for _ in range(levels):
        tree = {"$and": [tree]}
    return tree


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        ({"n": {"gtt": 1}}, "gtt.*gt"),
        ({"$an": []}, "\\$an"),
        ({"$and": [{"a": 1}, {"b": 2}, {"price": {"$gte1": 3}}]}, r"\$and\[2\]\.price"),
        ({"n": {"in": 5}}, "n"),
        ({"$and": {"n": 1}}, r"\$and"),
        ({"$not": 5}, r"\$not"),
        ({5: 1}, "5"),
        (_deep(40), "deep|32|nested"),
        ({"$or": [{"n": i} for i in range(10_001)]}, "10,?000"),
        (["n"], "dict"),
    ],
)
def test_odd_filter_raises_wherever_it_is_taken(index: HNSWIndex, filter: Any, message: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: index.search([1.0] * DIM, filter=filter),
        lambda: index.search_arrays([1.0] * DIM, filter=filter),
        lambda: index.count(filter),
        lambda: index.list(filter=filter),
        lambda: index.distinct("n", filter=filter),
        lambda: index.remove_where(filter),
        lambda: index.delete(where=filter),
        lambda: index.update_metadata(where=filter, metadata={}),
    ]
    for call in calls:
        with pytest.raises(FilterError, match=message):
            call()
    assert _is_untouched(index)


def test_mixed_types_compare_false(index: HNSWIndex) -> None:
    assert index.count({"n": {"gt": 0}}) == 1
    assert index.count({"n": {"gte": "a"}}) == 1
    assert index.count({"n": True}) == 0


# ------------------------------------------------------------------------------------------------ other calls


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda i: i.remove_points("abc"), ArgumentTypeError),
        (lambda i: i.remove_points([1]), ArgumentTypeError),
        (lambda i: i.remove_points(None), ArgumentTypeError),
        (lambda i: i.remove_point(1), ArgumentTypeError),
        (lambda i: i.remove_point(None), ArgumentTypeError),
        (lambda i: i.delete(), ConfigurationError),
        (lambda i: i.delete(where={}), FilterError),
        (lambda i: i.delete(ids=5), ArgumentTypeError),
        (lambda i: i.delete(ids=["a", 5]), ArgumentTypeError),
        (lambda i: i.remove_where(None), ConfigurationError),
        (lambda i: i.get_records(5), ArgumentTypeError),
        (lambda i: i.get_records(["a", None]), ArgumentTypeError),
        (lambda i: i.get_records("a", include=["nothing"]), ConfigurationError),
        (lambda i: i.get_records("nobody", strict=True), KeyError),
        (lambda i: i.contains(5), TypeError),
        (lambda i: 5 in i, TypeError),
        (lambda i: i.list(-1), ConfigurationError),
        (lambda i: i.list(offset=-1), ConfigurationError),
        (lambda i: i.list(number=1.5), ArgumentTypeError),
        (lambda i: i.list(after="nobody"), RecordNotFoundError),
        (lambda i: i.distinct(5), ArgumentTypeError),
        (lambda i: i.update_metadata("a", None), MetadataError),
        (lambda i: i.update_metadata("a", {"n": {1}}), MetadataError),
        (lambda i: i.update_metadata(5, {}), ArgumentTypeError),
        (lambda i: i.update_metadata(metadata={}), ArgumentTypeError),
        (lambda i: i.update_metadata("a", {}, where={"n": 1}), ArgumentTypeError),
        (lambda i: i.update_metadata(where={}, metadata={}), FilterError),
        (lambda i: i.update_metadata("a", {"x": "y" * (1 << 20)}), MetadataError),
        (lambda i: i.update_metadata("a", {}, merge=1), ArgumentTypeError),
        (lambda i: i.update_payload("a", {"n": b""}), MetadataError),
        (lambda i: i.update_payload(5, {}), ArgumentTypeError),
        (lambda i: i.add_metadata([1]), MetadataError),
        (lambda i: i.add_metadata({"a": {1}}), MetadataError),
        (lambda i: i.rebuild(m=0), ConfigurationError),
        (lambda i: i.rebuild(ef_construction=1.5), ArgumentTypeError),
        (lambda i: i.benchmark_concurrent_reads(0), ConfigurationError),
    ],
)
def test_odd_call_raises_and_changes_nothing(
    index: HNSWIndex, call: Callable[[HNSWIndex], object], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        call(index)
    assert isinstance(caught.value, ZeusDBError)
    assert len(str(caught.value)) > 10
    assert _is_untouched(index)


def test_merged_metadata_too_large_changes_nothing(index: HNSWIndex) -> None:
    half = "x" * (1 << 19)
    index.add_metadata({"one": half})
    with pytest.raises(MetadataError):
        index.add_metadata({"two": half})
    assert list(index.get_all_metadata()) == ["one"]
    index.update_metadata("a", {"one": half})
    with pytest.raises(MetadataError):
        index.update_metadata("a", {"two": half}, merge=True)
    assert list(index.get_records("a")[0]["metadata"]) == ["one"]


# ------------------------------------------------------------------------------------------------ save, load


def test_save_leaves_alone_what_is_not_ours(index: HNSWIndex, tmp_path: Path) -> None:
    file, folder = tmp_path / "file.zdb", tmp_path / "folder"
    file.write_text("precious")
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / "note.txt").write_text("precious")
    link = tmp_path / "link.zdb"
    link.symlink_to(folder)
    for path in (file, folder, link, file / "below"):
        with pytest.raises(ForeignDirectoryError):
            index.save(path)
        with pytest.raises(ForeignDirectoryError):
            index.save(str(path))
    assert file.read_text() == "precious"
    assert (folder / "deeper" / "note.txt").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file.zdb", "folder", "link.zdb"]
    assert link.is_symlink()
    assert _is_untouched(index)


def test_failed_save_keeps_what_was_saved_before(index: HNSWIndex, tmp_path: Path) -> None:
    path = tmp_path / "x.zdb"
    index.save(path)
    before = {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}
    (path / "manifest.json").write_bytes(before["manifest.json"][:-20])
    with pytest.raises(StorageError):
        index.save(path)
    (path / "manifest.json").write_bytes(before["manifest.json"])
    assert {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()} == before
    assert len(VectorDatabase().load(path)) == 3


@pytest.mark.parametrize("path", [5, None, b"bytes", ["x"]])
def test_path_must_be_a_path(index: HNSWIndex, path: Any) -> None:
    with pytest.raises(ArgumentTypeError):
        index.save(path)
    with pytest.raises(ArgumentTypeError):
        VectorDatabase().load(path)


def test_load_says_why_there_is_nothing_to_load(index: HNSWIndex, tmp_path: Path) -> None:
    load = VectorDatabase().load
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    for name in ("missing", "file", "empty"):
        with pytest.raises(IndexNotFoundError):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")

    index.save(tmp_path / "x.zdb")
    (tmp_path / "x.zdb" / "extra.txt").write_text("ignored")
    assert len(load(tmp_path / "x.zdb")) == 3
    manifest = tmp_path / "x.zdb" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"records": 3', '"records": 4'))
    with pytest.raises((CorruptIndexError, UnsupportedVersionError)):
        load(tmp_path / "x.zdb")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_load_does_not_hang_on_a_fifo(index: HNSWIndex, tmp_path: Path) -> None:
    path = tmp_path / "x.zdb"
    index.save(path)
    (path / "vectors.bin").unlink()
    os.mkfifo(path / "vectors.bin")
    errors: list[BaseException] = []

    def load() -> None:
        try:
            VectorDatabase().load(path)
        except ZeusDBError as error:
            errors.append(error)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(errors[0], CorruptIndexError)


@pytest.mark.parametrize(
    "name", ["config.json", "mappings.bin", "metadata.json", "vectors.bin", "hnsw_index.hnsw.graph"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "empty"])
def test_damaged_file_is_refused(index: HNSWIndex, tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / "x.zdb"
    index.save(path)
    data = bytearray((path / name).read_bytes())
    if damage == "missing":
        (path / name).unlink()
    else:
        data[len(data) // 2] ^= 1
        kept = {"truncated": data[:-1], "flipped": data, "empty": b""}[damage]
        (path / name).write_bytes(kept)
    with pytest.raises(CorruptIndexError, match=name.replace(".", r"\.")):
        VectorDatabase().load(path)
