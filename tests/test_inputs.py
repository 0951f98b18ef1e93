"""Every form `add` takes, laid out and checked without an index."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zeusdb_vs.coerce import read_queries
from zeusdb_vs.errors import (
    ArgumentTypeError,
    DimensionError,
    IdError,
    MetadataError,
    RecordError,
    VectorError,
)
from zeusdb_vs.inputs import Failure, RecordBatch, admit_rows, check_rows, merge_rows
from zeusdb_vs.record_forms import GENERATOR_CHUNK, read_rows

DIM = 4
V = [1.0, 2.0, 3.0, 4.0]
W = [4.0, 3.0, 2.0, 1.0]


def _numbered() -> Callable[[int, set[str]], list[str]]:
    numbers = itertools.count(1)

    def new_ids(count: int, given: set[str]) -> list[str]:
        fresh = (name for name in (f"vec_{number}" for number in numbers) if name not in given)
        return list(itertools.islice(fresh, count))

    return new_ids


def _read(
    data: Any, *, dim: int = DIM, cosine: bool = True, **options: Any
) -> tuple[RecordBatch, list[Failure]]:
    parts = [check_rows(rows, dim=dim, forbid_zero=cosine) for rows in read_rows(data)]
    if not parts:
        return RecordBatch([], np.empty((0, dim), np.float32)), []
    return admit_rows(merge_rows(parts), new_ids=_numbered(), **options)


def _good(data: Any, **options: Any) -> RecordBatch:
    batch, failures = _read(data, **options)
    assert failures == []
    assert batch.vectors.dtype == np.float32
    assert batch.vectors.flags.c_contiguous
    assert batch.vectors.shape == (len(batch.ids), options.get("dim", DIM))
    assert np.isfinite(batch.vectors).all()
    return batch


# ------------------------------------------------------------------------------------------------ forms

_ONE = {"id": "a", "vector": V, "metadata": {"k": 1}, "text": "t", "payload": {"p": 2}}
_COLUMNS = {"ids": ["a"], "vectors": [V], "metadatas": [{"k": 1}], "texts": ["t"], "payloads": [{"p": 2}]}


@pytest.mark.parametrize(
    "data",
    [
        _ONE,
        {**{k: v for k, v in _ONE.items() if k != "vector"}, "values": V},
        {**{k: v for k, v in _ONE.items() if k != "vector"}, "embedding": np.array(V)},
        [_ONE],
        (_ONE,),
        (record for record in [_ONE]),
        _COLUMNS,
        {**_COLUMNS, "vectors": np.array([V])},
        {**_COLUMNS, "vectors": (tuple(V),)},
        {**_COLUMNS, "vectors": [np.array(V, np.float16)]},
        {**_COLUMNS, "ids": np.array(["a"])},
        {**_COLUMNS, "ids": (name for name in ["a"])},
        {"ids": "a", "vectors": V, "metadata": {"k": 1}, "text": "t", "payload": {"p": 2}},
        {"id": ["a"], "embeddings": [V], "metadata": [{"k": 1}], "text": ["t"], "payload": [{"p": 2}]},
        {"id": ["a"], "values": [V], "metadata": [{"k": 1}], "text": ["t"], "payload": [{"p": 2}]},
    ],
)
def test_record_is_the_same_in_every_form(data: Any) -> None:
    batch = _good(data)
    assert batch.ids == ["a"]
    assert batch.vectors.tolist() == [V]
    assert batch.documents is not None
    assert (batch.documents[0].metadata, batch.documents[0].text, batch.documents[0].payload) == (
        '{"k":1}',
        "t",
        '{"p":2}',
    )
    assert batch.decoded == [({"k": 1}, {"p": 2})]


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (np.array(V), 1),
        (np.array([V, W]), 2),
        (V, 1),
        (tuple(V), 1),
        ([np.float32(x) for x in V], 1),
        ([V, W], 2),
        ([tuple(V), np.array(W)], 2),
        (iter([V, W]), 2),
        ({"vectors": np.array([V, W])}, 2),
        ({"values": [V, W]}, 2),
        ({"values": np.array(V)}, 1),
        (np.array([V, W], dtype=object), 2),
        ([[1, 2, 3, 2**70]], 1),
    ],
)
def test_ids_are_generated_when_only_vectors_are_given(data: Any, rows: int) -> None:
    batch = _good(data)
    assert batch.ids == [f"vec_{i + 1}" for i in range(rows)]
    assert batch.documents is None
    assert batch.decoded is None


@pytest.mark.parametrize(
    "data",
    [
        [],
        (),
        np.zeros((0, DIM)),
        np.zeros(0),
        iter([]),
        {"ids": [], "vectors": []},
        {"vectors": np.zeros((0, 9))},
    ],
)
def test_nothing_gives_nothing(data: Any) -> None:
    assert len(_good(data)) == 0


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, (5, DIM), elements=st.floats(-100, 100, width=16)),
    st.sampled_from(
        ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<i4", ">i8", "i1", "f8-f", "strided", "readonly"]
    ),
)
def test_array_is_converted_right_whatever_its_type_and_layout(array: np.ndarray, form: str) -> None:
    array = np.round(array)
    expected = array.astype(np.float32)
    if form == "f8-f":
        given_array = np.asfortranarray(array.astype(np.float64))
    elif form == "strided":
        given_array = np.repeat(np.repeat(array, 2, axis=0), 3, axis=1)[::2, ::3]
    elif form == "readonly":
        given_array = array.copy()
        given_array.flags.writeable = False
    else:
        given_array = array.astype(form)
    before = given_array.copy()
    assert np.array_equal(_good(given_array, cosine=False).vectors, expected)
    assert np.array_equal(given_array, before)


def test_float32_array_is_not_copied() -> None:
    array = np.ones((1000, DIM), np.float32)
    assert np.shares_memory(_good(array).vectors, array)


def test_generator_is_consumed_in_chunks() -> None:
    taken = 0

    def records() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for i in range(3 * GENERATOR_CHUNK):
            taken += 1
            yield {"id": f"r{i}", "vector": V}

    rows = read_rows(records())
    assert next(rows).count == GENERATOR_CHUNK
    assert taken == GENERATOR_CHUNK
    assert [(r.first, r.count) for r in rows] == [
        (GENERATOR_CHUNK, GENERATOR_CHUNK),
        (2 * GENERATOR_CHUNK, GENERATOR_CHUNK),
    ]


def test_stored_copy_is_out_of_the_callers_reach() -> None:
    record = {"id": "a", "vector": list(V), "metadata": {"tags": ["x"]}, "payload": {"n": {"m": 1}}}
    batch = _good([record])
    record["metadata"]["tags"].append("y")
    record["payload"]["n"]["m"] = 2
    record["vector"][0] = 9.0
    assert batch.decoded == [({"tags": ["x"]}, {"n": {"m": 1}})]
    assert batch.vectors[0, 0] == 1.0


# ------------------------------------------------------------------------------------------------ batches


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"ids": ["a"], "vectors": [V, W]}, RecordError, "1 entries under 'ids' and 2 under 'vectors'"),
        ({"vectors": [V, W], "metadatas": [{}]}, RecordError, "1 entries under 'metadatas'"),
        ({"vectors": [V], "texts": ["a", "b"]}, RecordError, "2 entries under 'texts'"),
        ({"vectors": [V], "payloads": []}, RecordError, "0 entries under 'payloads'"),
        ({"ids": "ab", "vectors": [V, W]}, ArgumentTypeError, "'ids' must be a list"),
        ({"vectors": [V, W], "metadatas": {"k": 1}}, ArgumentTypeError, "'metadatas' must be a list"),
        ({"ids": ["a"], "vectors": None}, VectorError, "needs its vectors"),
        ({"ids": ["a"]}, VectorError, "needs its vectors"),
        ({"vectors": [V], "metdatas": [{}]}, RecordError, "did you mean 'metadatas'"),
        ({"vectors": [V], "values": [V]}, RecordError, "'vectors' and 'values'"),
        ({"vectors": [V], 3: [V]}, RecordError, "unknown key 3"),
        ({"vectors": 5}, ArgumentTypeError, "'vectors' must be a list"),
        (np.zeros((2, 2, 2)), VectorError, r"shape \(2, 2, 2\)"),
        (np.float32(1), VectorError, "shape"),
        ("abc", ArgumentTypeError, "add cannot take str"),
        (b"abc", ArgumentTypeError, "add cannot take bytes"),
        (None, ArgumentTypeError, "add cannot take NoneType"),
        (5, ArgumentTypeError, "add cannot take int"),
        ({1.0, 2.0}, ArgumentTypeError, "add cannot take set"),
    ],
)
def test_malformed_batch_raises(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _read(data)


# ------------------------------------------------------------------------------------------------ records

_NAN, _INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("record", "error", "reason"),
    [
        ({"id": "x", "vector": [1.0, 2.0, 3.0]}, DimensionError, "vector has 3 values, this index needs 4"),
        ({"id": "x", "vector": []}, DimensionError, "vector has 0 values"),
        ({"id": "x", "vector": [V]}, VectorError, "one dimension, got shape (1, 4)"),
        ({"id": "x", "vector": [1.0, [2.0], 3.0, 4.0]}, VectorError, "ragged"),
        ({"id": "x", "vector": "abcd"}, VectorError, "got str"),
        ({"id": "x", "vector": 5.0}, VectorError, "got float"),
        ({"id": "x", "vector": ["1", "2", "3", "4"]}, VectorError, "numbers"),
        ({"id": "x", "vector": [True] * 4}, VectorError, "dtype bool"),
        ({"id": "x", "vector": [None, 1.0, 1.0, 1.0]}, VectorError, "value 0 is None"),
        ({"id": "x", "vector": [1j, 1.0, 1.0, 1.0]}, VectorError, "complex"),
        ({"id": "x", "vector": [10**400, 1, 1, 1]}, VectorError, "float32"),
        ({"id": "x", "vector": [1.0, _NAN, 1.0, 1.0]}, VectorError, "value 1 is nan"),
        ({"id": "x", "vector": [1.0, 1.0, -_INF, 1.0]}, VectorError, "value 2 is -inf"),
        ({"id": "x", "vector": [1.0, 1.0, 1.0, 1e39]}, VectorError, "value 3 is 1e+39"),
        ({"id": "x", "vector": [0.0] * 4}, VectorError, "zero"),
        ({"id": "x", "vector": [1e-60] * 4}, VectorError, "zero in float32"),
        ({"id": "x"}, VectorError, "has no vector"),
        ({"id": "x", "vector": None}, VectorError, "has no vector"),
        ({"id": "x", "vector": V, "values": V}, RecordError, "two vectors"),
        ({"id": "x", "vector": V, "metdata": {}}, RecordError, "did you mean 'metadata'"),
        ({"id": "x", "vector": V, 5: 6}, RecordError, "unknown key 5"),
        ({"id": "x", "vector": V, "metadata": [1]}, MetadataError, "metadata must be a dict"),
        ({"id": "x", "vector": V, "metadata": {1: 2}}, MetadataError, "keys must be str"),
        ({"id": "x", "vector": V, "metadata": {"a": {"b": _NAN}}}, MetadataError, "metadata.a.b is nan"),
        ({"id": "x", "vector": V, "payload": {"a": {1}}}, MetadataError, "payload.a is of type set"),
        ({"id": "x", "vector": V, "text": 5}, MetadataError, "text must be a str"),
        ({"id": "x", "vector": V, "text": "\ud800"}, MetadataError, "lone surrogate"),
        ({"id": 5, "vector": V}, IdError, "id must be a str, got 5 of type int"),
        ({"id": b"x", "vector": V}, IdError, "id must be a str"),
        ({"id": "", "vector": V}, IdError, "empty"),
        ({"id": "a\0b", "vector": V}, IdError, "NUL"),
        ({"id": "\udc80", "vector": V}, IdError, "surrogate"),
        ({"id": "x" * 1025, "vector": V}, IdError, "1,025 bytes"),
        ({"id": "é" * 513, "vector": V}, IdError, "1,026 bytes"),
        ("no record", RecordError, "must be a dict"),
    ],
)
def test_bad_record_is_reported_and_the_others_go_in(
    record: Any, error: type[RecordError], reason: str
) -> None:
    data = [{"id": "first", "vector": V}, record, {"id": "last", "vector": W, "metadata": {"k": 1}}]
    for given_data in (data, iter(data)):
        batch, failures = _read(given_data)
        assert batch.ids == ["first", "last"]
        assert batch.vectors.tolist() == [V, W]
        assert batch.decoded == [(None, None), ({"k": 1}, None)]
        (failure,) = failures
        assert type(failure.error) is error
        assert failure.position == 1
        assert failure.id == ("x" if isinstance(record, dict) and record["id"] == "x" else None)
        assert reason in str(failure.error)
        assert reason in str(failure.exception())
        assert str(failure.exception()).startswith("record 1")


def test_bad_rows_of_an_array_are_reported_and_the_others_go_in() -> None:
    array = np.ones((2000, DIM))
    array[3, 1], array[700, 0], array[1999, 3], array[5] = np.nan, np.inf, 1e300, 0
    batch, failures = _read({"ids": [f"r{i}" for i in range(2000)], "vectors": array})
    assert [(f.position, f.id) for f in failures] == [(3, "r3"), (5, "r5"), (700, "r700"), (1999, "r1999")]
    assert "value 3 is 1e+300" in str(failures[3].error)
    assert len(batch) == 1996
    assert "r3" not in batch.ids


def test_width_and_type_of_a_whole_array_are_each_records_error() -> None:
    for array, error in ((np.ones((3, DIM + 1)), DimensionError), (np.ones((3, DIM), bool), VectorError)):
        batch, failures = _read(array)
        assert len(batch) == 0
        assert [f.position for f in failures] == [0, 1, 2]
        assert all(type(f.error) is error for f in failures)


def test_zero_is_a_vector_like_any_other_outside_cosine() -> None:
    assert len(_good(np.zeros((2, DIM)), cosine=False)) == 2


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e30])
def test_tiny_and_huge_vectors_are_kept_under_cosine(scale: float) -> None:
    assert len(_good(np.full((2, DIM), scale, np.float32))) == 2


# ------------------------------------------------------------------------------------------------ ids


def test_last_of_duplicate_ids_wins() -> None:
    data = {
        "ids": ["a", "b", "a", "c", "b"],
        "vectors": np.arange(1, 21).reshape(5, 4),
        "metadatas": [{"n": i} for i in range(5)],
    }
    batch = _good(data)
    assert batch.ids == ["a", "c", "b"]
    assert batch.vectors[:, 0].tolist() == [9.0, 13.0, 17.0]
    assert [m for m, _ in batch.decoded or []] == [{"n": 2}, {"n": 3}, {"n": 4}]


def test_good_record_stays_when_a_later_duplicate_is_bad() -> None:
    batch, failures = _read([{"id": "a", "vector": V}, {"id": "a", "vector": [1.0]}])
    assert batch.ids == ["a"]
    assert batch.vectors.tolist() == [V]
    assert [f.position for f in failures] == [1]


def test_duplicates_across_chunks_of_a_generator_are_settled_too() -> None:
    records = (
        {"id": f"r{i % GENERATOR_CHUNK}", "vector": [i + 1.0] * DIM} for i in range(2 * GENERATOR_CHUNK)
    )
    batch = _good(records)
    assert len(batch) == GENERATOR_CHUNK
    assert batch.vectors[0, 0] == GENERATOR_CHUNK + 1


def test_generated_ids_avoid_those_given_beside_them() -> None:
    batch = _good([{"vector": V}, {"id": "vec_1", "vector": W}, {"id": None, "vector": V}])
    assert batch.ids == ["vec_2", "vec_1", "vec_3"]


def test_taken_ids_are_refused_when_not_to_be_overwritten() -> None:
    batch, failures = _read(
        [{"id": name, "vector": V, "text": name} for name in "abc"], is_taken=lambda name: name == "b"
    )
    assert batch.ids == ["a", "c"]
    assert [d.text for d in batch.documents or []] == ["a", "c"]
    assert [(f.position, f.id) for f in failures] == [(1, "b")]
    assert "overwrite" in str(failures[0].error)


@given(st.text(min_size=1, max_size=300))
def test_every_id_is_kept_exactly_or_refused(name: str) -> None:
    batch, failures = _read([{"id": name, "vector": V}])
    sound = (
        "\0" not in name and not any(0xD800 <= ord(c) < 0xE000 for c in name) and len(name.encode()) <= 1024
    )
    assert batch.ids == ([name] if sound else [])
    assert len(failures) == (not sound)


# ------------------------------------------------------------------------------------------------ queries


@pytest.mark.parametrize(
    ("value", "rows", "many"),
    [
        (V, 1, False),
        (tuple(V), 1, False),
        (np.array(V), 1, False),
        (np.array(V, np.int8), 1, False),
        ([V], 1, True),
        ([V, np.array(W)], 2, True),
        (np.array([V, W], ">f8"), 2, True),
        ([], 0, True),
        (np.zeros((0, DIM)), 0, True),
    ],
)
def test_queries_are_read_in_every_form(value: Any, rows: int, many: bool) -> None:
    queries, several = read_queries(value, dim=DIM, forbid_zero=True)
    assert queries.shape == (rows, DIM)
    assert queries.dtype == np.float32
    assert queries.flags.c_contiguous
    assert several is many


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, ArgumentTypeError),
        ("abcd", ArgumentTypeError),
        ({"vector": V}, ArgumentTypeError),
        (5.0, VectorError),
        ([1.0, 2.0], DimensionError),
        (np.ones((2, DIM + 1)), DimensionError),
        (np.ones((1, 2, DIM)), VectorError),
        ([V, [1.0]], DimensionError),
        ([1.0, [2.0], 3.0, 4.0], VectorError),
        (["1", "2", "3", "4"], VectorError),
        ([1.0, 2.0, 3.0, _NAN], VectorError),
        ([1.0, 2.0, 3.0, 1e39], VectorError),
        ([0.0] * DIM, VectorError),
        ([True] * DIM, VectorError),
        ([None] * DIM, VectorError),
    ],
)
def test_bad_query_raises(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_queries(value, dim=DIM, forbid_zero=True)
