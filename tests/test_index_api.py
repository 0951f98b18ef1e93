"""The handle's calls, as the specification and the original document them."""

from __future__ import annotations

import pickle
import threading
import warnings
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import numpy as np
import oracle
import pytest

from zeusdb_vs import (
    AddResult,
    ArgumentTypeError,
    ConfigurationError,
    FilterError,
    HNSWIndex,
    RecordNotFoundError,
    VectorDatabase,
    VectorError,
)
from zeusdb_vs.filters import field

DIM = 8


def _index(**options: Any) -> HNSWIndex:
    return VectorDatabase().create("hnsw", **{"dim": DIM, "space": "l2", **options})


def _vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIM), dtype=np.float32)


def _ids(hits: list[dict[str, Any]]) -> list[str]:
    return [hit["id"] for hit in hits]


@pytest.fixture
def filled() -> HNSWIndex:
    """Twelve records r0 .. r11 with all that a record can have."""
    index = _index()
    index.add(
        {
            "ids": [f"r{i}" for i in range(12)],
            "vectors": _vectors(12),
            "metadatas": [{"n": i, "even": i % 2 == 0, "tags": ["a", "b"][: i % 3]} for i in range(12)],
            "texts": [f"text {i}" for i in range(12)],
            "payloads": [{"owner": i % 2} for i in range(12)],
        }
    )
    return index


# ------------------------------------------------------------------------------------------------ create


def test_created_index_has_the_defaults_and_says_so() -> None:
    index = VectorDatabase().create("hnsw", dim=8)
    assert (
        index.info()
        == repr(index)
        == "HNSWIndex(dim=8, space=cosine, m=16, ef_construction=200, expected_size=10000, vectors=0, "
        "quantization=none)"
    )
    assert (index.dim, index.space, index.m, index.ef_construction, index.expected_size) == (
        8,
        "cosine",
        16,
        200,
        10_000,
    )
    assert index.indexed_fields == []
    assert VectorDatabase().available_index_types() == ["hnsw"]


def test_m_is_larger_by_default_when_many_records_are_expected() -> None:
    assert VectorDatabase().create(dim=2, expected_size=25_000).m == 16
    assert VectorDatabase().create(dim=2, expected_size=25_001).m == 32
    assert VectorDatabase().create(dim=2, expected_size=10**12, m=8).m == 8


@pytest.mark.parametrize(
    ("name", "space"),
    [("COSINE", "cosine"), ("Euclidean", "l2"), ("manhattan", "l1"), ("ip", "dot"), ("inner_product", "dot")],
)
def test_space_goes_by_several_names(name: str, space: str) -> None:
    assert VectorDatabase().create("HNSW", dim=2, space=name).space == space


def test_low_ef_construction_warns() -> None:
    with pytest.warns(UserWarning, match="ef_construction=32"):
        _index(m=16, ef_construction=32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _index(m=16, ef_construction=33)


# ------------------------------------------------------------------------------------------------ add


def test_add_reports_what_it_did() -> None:
    index = _index()
    result = index.add(_vectors(5))
    assert isinstance(result, AddResult)
    assert (result.total_inserted, result.total_errors, result.errors) == (5, 0, [])
    assert result.vector_shape == (5, DIM)
    assert result.ids == [f"vec_{i}" for i in range(1, 6)]
    assert result.is_success()
    assert result.summary() == "5 inserted, 0 errors"
    assert repr(result) == "AddResult(inserted=5, errors=0, shape=(5, 8))"
    assert len(index) == index.get_vector_count() == index.count() == 5


def test_bad_record_is_an_entry_with_place_id_and_reason() -> None:
    index = _index()
    result = index.add([{"id": "a", "vector": [1.0]}, {"id": "b", "vector": _vectors(1)[0]}])
    assert result.summary() == "1 inserted, 1 errors"
    assert not result.is_success()
    (entry,) = result.errors
    assert (entry.position, entry.id) == (0, "a")
    assert str(entry) == "record 0 (id 'a'): vector has 1 values, this index needs 8"


def test_upsert_replaces_the_whole_record_and_moves_it_to_the_end(filled: HNSWIndex) -> None:
    vector = _vectors(1, seed=9)[0]
    filled.add({"id": "r3", "vector": vector})
    (record,) = filled.get_records("r3", include=("metadata", "text", "payload", "vector"))
    assert record["metadata"] == {}
    assert record["text"] is None
    assert record["payload"] is None
    assert np.array_equal(record["vector"], vector)
    assert len(filled) == 12
    assert filled.list(number=20)[-1] == ("r3", {})


def test_overwrite_false_keeps_what_is_there(filled: HNSWIndex) -> None:
    new = [{"id": name, "vector": [0.0] * DIM} for name in ("r1", "new")]
    result = filled.add(new, overwrite=False)
    assert result.ids == ["new"]
    assert [error.id for error in result.errors] == ["r1"]
    assert filled.get_records("r1")[0]["metadata"]["n"] == 1


def test_overwrite_false_counts_duplicates_in_a_generator_as_one_record() -> None:
    index = _index()
    records = ({"id": f"r{i % 1500}", "vector": [float(i)] * DIM} for i in range(3000))
    result = index.add(records, overwrite=False)
    assert result.is_success()
    assert len(index) == 1500
    assert index.get_records("r0")[0]["vector"][0] == 1500.0


def test_on_error_raise_is_all_or_nothing() -> None:
    index = _index()

    def records() -> Iterator[dict[str, Any]]:
        for i in range(2000):
            yield {"id": f"r{i}", "vector": [1.0] * (DIM if i != 1700 else 3)}

    with pytest.raises(VectorError, match=r"record 1700 \(id 'r1700'\): vector has 3 values"):
        index.add(records(), on_error="raise")
    assert len(index) == 0
    assert index.add(_vectors(2), on_error="raise").total_inserted == 2
    with pytest.raises(ValueError, match=r"'vec_1'.*overwrite"):
        index.add(
            [{"id": "x", "vector": [0.0] * DIM}, {"id": "vec_1", "vector": [0.0] * DIM}],
            False,
            on_error="raise",
        )
    assert len(index) == 2


def test_generated_ids_never_overwrite_a_users() -> None:
    index = _index()
    index.add([{"id": "vec_2", "vector": [1.0] * DIM}, {"id": "vec_4", "vector": [2.0] * DIM}])
    assert index.add(_vectors(4)).ids == ["vec_1", "vec_3", "vec_5", "vec_6"]
    index.remove_point("vec_6")
    assert index.add(_vectors(1)).ids == ["vec_7"]


def test_progress_counts_up_to_all_records() -> None:
    seen: list[int] = []
    _index().add(({"id": str(i), "vector": [float(i)] * DIM} for i in range(2500)), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 2500


def test_vectors_come_back_exactly_as_they_went_in() -> None:
    index = _index(space="cosine")
    vectors = _vectors(50) * np.float32(1e30)
    index.add({"ids": [str(i) for i in range(50)], "vectors": vectors})
    records = index.get_records([str(i) for i in range(50)])
    assert np.array_equal(np.stack([record["vector"] for record in records]), vectors)
    hit = index.search(vectors[7], top_k=1, return_vector=True)[0]
    assert hit["vector"].dtype == np.float32
    assert np.array_equal(hit["vector"], vectors[7])
    hit["vector"][:] = 0  # a copy
    assert np.array_equal(index.get_records("7")[0]["vector"], vectors[7])


@pytest.mark.parametrize("count", [500, 6000])
def test_interrupted_add_leaves_a_consistent_index(count: int) -> None:
    """6,000 records make a graph, in batches, of which readers have seen some when the interrupt comes."""
    index = _index()
    vectors = _vectors(count + 100)
    index.add({"ids": [f"r{i}" for i in range(100)], "vectors": vectors[:100]})

    def interrupt(done: int) -> None:
        if done >= count // 3:
            raise KeyboardInterrupt

    ids = [f"r{i}" for i in range(50, 50 + count)]  # replaces the half of what is there
    with pytest.raises(KeyboardInterrupt):
        index.add({"ids": ids, "vectors": vectors[100:], "texts": ids}, progress=interrupt)
    assert [name for name, _ in index.list(number=10_000)] == [f"r{i}" for i in range(100)]
    found = index.search(vectors[:100], top_k=1, include=["text"])
    assert [(hit["id"], hit["text"]) for (hit,) in found] == [(f"r{i}", None) for i in range(100)]
    assert index.add({"ids": ids, "vectors": vectors[100:]}).is_success()
    assert len(index) == count + 50
    assert [_ids(hits) for hits in index.search(vectors[:50], top_k=1)] == [[f"r{i}"] for i in range(50)]


# ------------------------------------------------------------------------------------------------ search


@pytest.mark.parametrize("space", oracle.SPACES)
@pytest.mark.parametrize("count", [50, 5000])
def test_search_agrees_with_the_oracle(space: str, count: int) -> None:
    vectors, queries = _vectors(count), _vectors(20, seed=1)
    index = _index(space=space)
    index.add({"ids": [str(i) for i in range(count)], "vectors": vectors})
    for exact in (False, True):
        answers = index.search(queries, top_k=10, exact=exact, include=())
        found = [[int(name) for name in _ids(hits)] for hits in answers]
        assert oracle.recall(queries, vectors, space, 10, found) >= (1.0 if exact else 0.95)
        true = oracle.distances(queries, vectors, space)
        for row, hits in enumerate(answers):
            scores = [hit["score"] for hit in hits]
            assert scores == sorted(scores)
            # float32 sums over 8 values: well within 1e-5 of the exact distance.
            np.testing.assert_allclose(scores, true[row][found[row]], rtol=1e-5, atol=1e-5)


def test_one_query_gives_a_list_and_several_a_list_of_lists(filled: HNSWIndex) -> None:
    queries = _vectors(3, seed=2)
    one = filled.search(queries[0], top_k=2)
    assert [list(hit) for hit in one] == [["id", "score", "metadata"]] * 2
    assert filled.search(queries[0].tolist(), top_k=2) == one
    many = filled.search(queries, top_k=2)
    assert many == filled.search(queries.tolist(), top_k=2)
    assert [len(hits) for hits in many] == [2, 2, 2]
    assert many[0] == one
    assert filled.search(queries[:1], top_k=2) == [one]


@pytest.mark.parametrize("count", [30, 5000])
def test_query_may_have_any_type_that_holds_numbers(count: int) -> None:
    index = _index(space="cosine")
    index.add(_vectors(count))
    query = np.round(_vectors(1, seed=2)[0] * 4)
    expected = index.search(query)
    for kind in ("<f8", ">f4", "f2", "i4", "i1", "longdouble"):
        assert index.search(query.astype(kind)) == expected
    for form in (query.tolist(), tuple(query.tolist()), [int(x) for x in query], list(query)):
        assert index.search(form) == expected
    strided = np.repeat(query, 3)[::3]
    assert index.search(strided) == expected
    assert index.search(query[np.newaxis]) == [expected]


def test_filter_objects_are_taken_wherever_dicts_are(filled: HNSWIndex) -> None:
    query = _vectors(1, seed=3)[0]
    for made, as_dict in (
        (field("n") >= 6, {"n": {"gte": 6}}),
        ((field("even") == True) & ~(field("n") == 4), {"even": True, "$not": {"n": 4}}),  # noqa: E712
    ):
        assert filled.search(query, filter=made) == filled.search(query, filter=as_dict)
        assert filled.count(made) == filled.count(as_dict)
        assert filled.list(filter=made) == filled.list(filter=as_dict)
    owned = field("owner", source="payload") == 1
    assert filled.count(owned) == 6
    assert filled.update_metadata(where=owned, metadata={"seen": 1}, merge=True) == 6
    filled.update_payload("r1", {"owner": 5})
    assert filled.delete(where=owned) == 5


def test_include_chooses_what_hits_carry(filled: HNSWIndex) -> None:
    query = _vectors(12)[4]
    assert filled.search(query, top_k=1, include=[]) == [{"id": "r4", "score": 0.0}]
    (hit,) = filled.search(query, top_k=1, include=["text", "payload"])
    assert hit == {"id": "r4", "score": 0.0, "text": "text 4", "payload": {"owner": 0}}
    (hit,) = filled.search(query, top_k=1, include=["vector"])
    assert list(hit) == ["id", "score", "vector"]
    (hit,) = filled.search(query, top_k=1, return_vector=True)
    assert list(hit) == ["id", "score", "metadata", "vector"]


def test_returned_metadata_is_a_fresh_copy(filled: HNSWIndex) -> None:
    filled.search(_vectors(12)[5], top_k=1)[0]["metadata"]["tags"].append("changed")
    filled.get_records("r5")[0]["metadata"]["tags"].append("changed")
    assert filled.search(_vectors(12)[5], top_k=1)[0]["metadata"]["tags"] == ["a", "b"]


def test_filter_gives_all_matches_however_few(filled: HNSWIndex) -> None:
    hits = filled.search(_vectors(1, seed=3)[0], filter={"even": True, "n": {"gte": 4}}, top_k=10)
    assert sorted(_ids(hits)) == ["r10", "r4", "r6", "r8"]
    assert filled.search(_vectors(1)[0], filter={"n": 99}) == []
    assert len(filled.search(_vectors(1)[0], filter={}, top_k=100)) == 12


def test_ids_restrict_what_is_ranked(filled: HNSWIndex) -> None:
    query = _vectors(1, seed=3)[0]
    assert sorted(_ids(filled.search(query, ids=["r1", "nobody", "r2", "r1"]))) == ["r1", "r2"]
    assert _ids(filled.search(query, ids=["r1", "r2"], filter={"even": True})) == ["r2"]
    assert filled.search(query, ids=[]) == []
    filled.remove_point("r1")
    assert _ids(filled.search(query, ids=["r1", "r2"])) == ["r2"]


def test_search_by_id_finds_what_is_like_the_record(filled: HNSWIndex) -> None:
    expected = [name for name in _ids(filled.search(_vectors(12)[3], top_k=12)) if name != "r3"]
    assert _ids(filled.search(id="r3", top_k=5)) == expected[:5]
    assert _ids(filled.search(id="r3", top_k=100)) == expected
    # Where a filter leaves the record itself out, as many others as match are given.
    assert len(filled.search(id="r3", top_k=3, filter={"even": True})) == 3
    assert len(filled.search(id="r3", top_k=10, filter={"even": True})) == 6
    assert len(filled.search(id="r3", top_k=10, filter={"even": False})) == 5
    with pytest.raises(RecordNotFoundError):
        filled.search(id="nobody")


def test_search_by_id_leaves_out_the_record_among_its_duplicates() -> None:
    index = _index()
    index.add([[1.0] * DIM] * 6)
    assert sorted(_ids(index.search(id="vec_4", top_k=10))) == ["vec_1", "vec_2", "vec_3", "vec_5", "vec_6"]
    assert len(index.search(id="vec_4", top_k=3)) == 3


def test_max_distance_cuts_the_list(filled: HNSWIndex) -> None:
    query = _vectors(12)[2]
    hits = filled.search(query, top_k=12)
    limit = (hits[4]["score"] + hits[5]["score"]) / 2
    assert filled.search(query, top_k=12, max_distance=limit) == hits[:5]
    assert filled.search(query, max_distance=-1.0) == []


def test_search_of_nothing_is_nothing(filled: HNSWIndex) -> None:
    empty = _index()
    assert empty.search([1.0] * DIM) == []
    assert empty.search(_vectors(3)) == [[], [], []]
    assert filled.search([]) == []
    assert filled.search(np.zeros((0, DIM))) == []
    assert filled.search(_vectors(1)[0], top_k=0) == []
    assert len(filled.search(_vectors(1)[0], top_k=10**12)) == 12


def test_explanation_says_how_it_was_answered(filled: HNSWIndex) -> None:
    hits = filled.search(_vectors(1)[0], filter={"even": True}, top_k=3, explain=True)
    assert hits == filled.search(_vectors(1)[0], filter={"even": True}, top_k=3)
    told = hits.explanation
    assert (told.path, told.approximate, told.matches, told.total, told.top_k) == ("exact", False, 6, 12, 3)
    assert told.filter == "{'even': True}"
    assert len(told.conditions) == 1
    assert told.elapsed_s >= 0
    many = filled.search(_vectors(2), explain=True)
    assert [len(answer) for answer in many] == [10, 10]
    assert many.explanation.matches == 12
    assert _index().search([1.0] * DIM, explain=True).explanation.path == "empty"


def test_search_arrays_gives_the_same_as_search(filled: HNSWIndex) -> None:
    queries = _vectors(4, seed=5)
    for options in ({}, {"filter": {"even": True}}, {"ids": ["r1"]}, {"max_distance": 3.0}, {"exact": True}):
        ids, distances = filled.search_arrays(queries, 8, **options)
        assert ids.shape == distances.shape == (4, 8)
        assert ids.dtype == object
        assert distances.dtype == np.float32
        for row, hits in enumerate(filled.search(queries, top_k=8, **options)):
            missing = 8 - len(hits)
            assert ids[row].tolist() == _ids(hits) + [None] * missing
            assert distances[row].tolist() == [hit["score"] for hit in hits] + [float("inf")] * missing
    one, _ = filled.search_arrays(queries[0], 20)
    assert one.shape == (1, 20)
    assert one[0, 12:].tolist() == [None] * 8
    assert filled.search_arrays([], 3)[0].shape == (0, 3)
    assert _index().search_arrays(queries, 2)[1].tolist() == [[float("inf")] * 2] * 4


# ------------------------------------------------------------------------------------------------ read


def test_get_records_keeps_the_order_asked_for_and_skips_the_missing(filled: HNSWIndex) -> None:
    records = filled.get_records(["r5", "nobody", "r2"], return_vector=False)
    assert records == [
        {"id": "r5", "metadata": {"n": 5, "even": False, "tags": ["a", "b"]}},
        {"id": "r2", "metadata": {"n": 2, "even": True, "tags": ["a", "b"]}},
    ]
    assert list(filled.get_records("r2")[0]) == ["id", "metadata", "vector"]
    assert filled.get_records("r2", include=["text"]) == [{"id": "r2", "text": "text 2"}]
    assert filled.get_records([]) == []
    with pytest.raises(RecordNotFoundError, match="'nobody'") as caught:
        filled.get_records(["r5", "nobody"], strict=True)
    assert isinstance(caught.value, KeyError)


def test_contains_tells_what_is_there(filled: HNSWIndex) -> None:
    assert "r1" in filled
    assert filled.contains("r1")
    assert "nobody" not in filled
    assert not filled.contains("")


def test_list_pages_through_the_records_in_order(filled: HNSWIndex) -> None:
    everything = filled.list(number=100)
    assert [name for name, _ in everything] == [f"r{i}" for i in range(12)]
    assert filled.list() == everything[:10]
    assert filled.list(number=3, offset=10) == everything[10:]
    assert filled.list(number=3, offset=99) == []
    assert filled.list(number=0) == []
    assert filled.list(number=3, after="r4") == everything[5:8]
    even = filled.list(filter={"even": True}, number=3, after="r4")
    assert [name for name, _ in even] == ["r6", "r8", "r10"]
    filled.remove_points(["r5", "r6"])
    assert [name for name, _ in filled.list(number=2, after="r4")] == ["r7", "r8"]
    with pytest.raises(RecordNotFoundError):
        filled.list(after="r5")
    with pytest.raises(ConfigurationError):
        filled.list(after="r4", offset=1)


def test_count_counts_live_matches(filled: HNSWIndex) -> None:
    assert filled.count({"even": True}) == 6
    filled.remove_point("r0")
    assert filled.count({"even": True}) == 5
    assert filled.count() == filled.count({}) == 11


def test_distinct_and_fields_tell_what_to_filter_by(filled: HNSWIndex) -> None:
    assert filled.distinct("even") == [(False, 6), (True, 6)]
    assert filled.distinct("n", filter={"n": {"lt": 3}}) == [(0, 1), (1, 1), (2, 1)]
    filled.remove_point("r0")
    assert filled.distinct("even") == [(False, 6), (True, 5)]
    assert {(f.source, f.name): f.count for f in filled.fields()}["metadata", "n"] == 11


# ------------------------------------------------------------------------------------------------ change


def test_update_metadata_replaces_it_in_place(filled: HNSWIndex) -> None:
    assert filled.update_metadata("r3", {"new": 1}) is True
    assert filled.update_metadata("nobody", {"new": 1}) is False
    (record,) = filled.get_records("r3", include=("metadata", "text", "payload"))
    assert record == {"id": "r3", "metadata": {"new": 1}, "text": "text 3", "payload": {"owner": 1}}
    assert [name for name, _ in filled.list()] == [f"r{i}" for i in range(10)]
    assert filled.count({"new": 1}) == 1
    assert filled.count({"n": 3}) == 0


def test_update_metadata_merges_when_asked(filled: HNSWIndex) -> None:
    filled.update_metadata("r3", {"n": 33, "new": None}, merge=True)
    assert filled.get_records("r3")[0]["metadata"] == {"n": 33, "even": False, "tags": [], "new": None}
    assert filled.update_metadata(where={"even": True}, metadata={"seen": True}, merge=True) == 6
    assert filled.count({"seen": True, "even": True}) == 6
    assert filled.update_metadata(where={"n": 99}, metadata={}) == 0
    assert filled.update_metadata("r3", {}) is True
    assert filled.get_records("r3")[0]["metadata"] == {}


def test_update_payload_patches_it(filled: HNSWIndex) -> None:
    filled.add({"id": "bare", "vector": [0.0] * DIM})
    assert filled.update_payload(["r1", "bare", "nobody", "r1"], {"seen": 1}) == 2
    payloads = [r["payload"] for r in filled.get_records(["r1", "bare", "r2"], include=["payload"])]
    assert payloads == [{"owner": 1, "seen": 1}, {"seen": 1}, {"owner": 0}]
    assert filled.get_records("r1")[0]["metadata"]["n"] == 1
    assert filled.count({"seen": 1}) == 0  # the dict language does not see payloads


def test_removed_records_are_gone_everywhere(filled: HNSWIndex) -> None:
    query = _vectors(12)[4]
    assert filled.remove_point("r4") is True
    assert filled.remove_point("r4") is False
    assert "r4" not in filled
    assert len(filled) == 11
    narrowed = [{"filter": {"even": True}}, {"ids": ["r4", "r6"]}]
    for options in ({}, {"exact": True}, {"ef_search": 500}, *narrowed):
        assert "r4" not in _ids(filled.search(query, top_k=20, **options))
    assert filled.get_records("r4") == []
    assert "r4" not in [name for name, _ in filled.list(number=20)]


def test_remove_points_returns_the_ids_that_were_not_there(filled: HNSWIndex) -> None:
    assert filled.remove_points(["r1", "nobody", "r2", "r1"]) == ["nobody"]
    assert filled.remove_points([]) == []
    assert len(filled) == 10


def test_remove_where_and_delete_count(filled: HNSWIndex) -> None:
    assert filled.remove_where({"n": {"lt": 2}}) == 2
    assert filled.delete(where={"n": 2}) == 1
    assert filled.delete(ids=["r3", "r0", "nobody"]) == 1
    assert filled.delete(ids="r4") == 1
    assert filled.delete(ids=["r5", "r6"], where={"even": True}) == 1
    assert filled.delete(where={"n": 2}) == 0
    assert [name for name, _ in filled.list(number=20)] == ["r5", "r7", "r8", "r9", "r10", "r11"]


@pytest.mark.parametrize("call", [lambda i: i.remove_where({}), lambda i: i.delete(where={})])
def test_empty_filter_never_empties_the_index(filled: HNSWIndex, call: Any) -> None:
    with pytest.raises(FilterError, match="empty"):
        call(filled)
    with pytest.raises(ConfigurationError, match=r"clear\(\)"):
        filled.delete()
    assert len(filled) == 12


def test_clear_empties_the_index_and_leaves_it_usable(filled: HNSWIndex) -> None:
    filled.add_metadata({"kept": True})
    assert filled.clear() == 12
    assert len(filled) == 0
    assert filled.search(_vectors(1)[0]) == []
    assert filled.get_metadata("kept") is True
    filled.add({"id": "r1", "vector": [1.0] * DIM})
    assert filled.list() == [("r1", {})]


def test_compact_reclaims_and_keeps_order_and_answers(filled: HNSWIndex) -> None:
    filled.remove_points(["r0", "r7"])
    before = (filled.list(number=20), filled.search(_vectors(12)[3], top_k=20))
    assert filled.get_stats()["stranded_graph_nodes"] == 2
    assert filled.compact() == 2
    assert filled.compact() == 0
    assert filled.get_stats()["stranded_graph_nodes"] == 0
    assert (filled.list(number=20), filled.search(_vectors(12)[3], top_k=20)) == before


def test_rebuild_changes_the_parameters(filled: HNSWIndex) -> None:
    assert filled.rebuild(m=8, ef_construction=50) == 12
    assert (filled.m, filled.ef_construction, filled.expected_size) == (8, 50, 10_000)
    with pytest.raises(ConfigurationError, match="at least one"):
        filled.rebuild()
    with pytest.raises(ConfigurationError, match="m must be"):
        filled.rebuild(m=1)
    assert isinstance(filled.shrink_to_fit(), int)


# ------------------------------------------------------------------------------------------------ itself


def test_index_metadata_holds_any_json_value() -> None:
    index = _index()
    made = datetime(2024, 5, 1, tzinfo=timezone.utc)
    index.add_metadata({"name": "demo", "sizes": [1, 2], "made": made})
    index.add_metadata({"name": "other"})
    assert index.get_metadata("name") == "other"
    assert index.get_metadata("nothing") is None
    everything = index.get_all_metadata()
    assert everything == {"name": "other", "sizes": [1, 2], "made": made}
    everything["sizes"].append(3)
    assert index.get_metadata("sizes") == [1, 2]


def test_stats_are_typed(filled: HNSWIndex) -> None:
    stats = filled.get_stats()
    assert (stats["total_vectors"], stats["dimension"], stats["space"], stats["m"]) == (12, 8, "l2", 16)
    assert stats["total_memory_bytes"] == sum(v for k, v in filled.memory().items() if k != "total")
    assert stats["memory_bytes"] == filled.memory()
    assert filled.get_performance_info()["num_threads"] >= 1
    timed = filled.benchmark_concurrent_reads(20, max_threads=2)
    assert timed["threads_used"] == 2
    assert timed["sequential_qps"] > 0
    assert _index().benchmark_concurrent_reads(3)["parallel_time"] > 0
    assert "<table>" in filled._repr_html_()


def test_unquantized_index_says_so(filled: HNSWIndex) -> None:
    assert not filled.has_quantization()
    assert not filled.is_quantized()
    assert not filled.can_use_quantization()
    assert not filled.is_training_ready()
    assert filled.training_vectors_needed() == 0
    assert filled.get_training_progress() == 0.0
    assert filled.get_storage_mode() == "raw_only"
    assert filled.get_quantization_info() is None


def test_properties_are_read_only(filled: HNSWIndex) -> None:
    for name in ("dim", "space", "m", "ef_construction", "expected_size", "indexed_fields"):
        with pytest.raises(AttributeError):
            setattr(filled, name, 1)
    assert _index(indexed_fields=["a", "b"]).indexed_fields == ["a", "b"]


def test_index_in_memory_says_why_it_is_not_pickled(filled: HNSWIndex) -> None:
    with pytest.raises(ArgumentTypeError, match=r"save\(path\)"):
        pickle.dumps(filled)


def test_readers_beside_a_writer_see_whole_records() -> None:
    """What a hit says of itself belongs together, and what was stored before a search began is found."""
    index = _index()
    index.add({"id": "anchor", "vector": [100.0] * DIM, "metadata": {"n": -1}})
    stop, problems = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            hits = index.search([50.0] * DIM, top_k=20, return_vector=True)
            others = [hit for hit in hits if hit["id"] != "anchor"]
            problems.extend(hit for hit in others if hit["vector"][0] != hit["metadata"]["n"])
            if "anchor" not in index or index.search([100.0] * DIM, top_k=1)[0]["id"] != "anchor":
                problems.append("anchor")

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for round_number in range(60):
            numbers = [float(n) for n in range(round_number % 7, 60, 3)]
            index.add([{"id": f"r{n:.0f}", "vector": [n] * DIM, "metadata": {"n": n}} for n in numbers])
            index.update_metadata(f"r{numbers[0]:.0f}", {"n": numbers[0], "seen": True})
            index.remove_points([f"r{n:.0f}" for n in numbers[::4]])
            if round_number % 10 == 9:
                index.compact()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert problems == []
