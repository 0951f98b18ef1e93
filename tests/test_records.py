"""Documents kept as JSON text, and the columns that hold them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeusdb_vs.documents import MAX_DEPTH, MAX_DOCUMENT_BYTES, check_document, decode_documents
from zeusdb_vs.errors import CorruptIndexError, MetadataError
from zeusdb_vs.records import CHUNK, EncodedRecord, Records, decode_document, encode_document

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
# Keys that look like the marks of dates, often: they must come back as they are.
_keys = _text | st.sampled_from(["$date", "$datetime", "$date-key:", "$date-key:$date", "$dat", "a"])
_dates = (
    st.dates()
    | st.datetimes()
    | st.datetimes(
        timezones=st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(
            lambda delta: timezone(timedelta(seconds=int(delta.total_seconds())))
        )
    )
)
_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _text
    | _dates
)
_values = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=3)
)
_documents = st.dictionaries(_keys, _values, max_size=5)


def _same(a: Any, b: Any) -> bool:
    """Equal and of the same types all the way down; 1, 1.0 and True are three things here."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, datetime):
        return a == b and a.utcoffset() == b.utcoffset()
    return bool(a == b)


@settings(deadline=None, max_examples=300)
@given(_documents)
def test_document_comes_back_with_all_types(document: dict[str, Any]) -> None:
    text = encode_document(document, what="metadata")
    assert _same(decode_document(text), document)
    several = decode_documents([text, None, text])
    assert _same(several, [document, {}, document]) and several[0] is not several[2]
    assert "\n" not in text
    json.loads(text)  # any JSON reader can read it


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", '{"a":1}{', '{"a":NaN}', '{"a":1e400}', '{"a":{"$date":"x"}}', "[" * 9999]
)
def test_damaged_document_is_refused_alone_and_among_others(text: str) -> None:
    with pytest.raises(CorruptIndexError) as alone:
        decode_document(text)
    with pytest.raises(CorruptIndexError) as among:
        decode_documents(["{}", text, "{}"])
    assert str(alone.value) == str(among.value)


def test_decoding_gives_a_fresh_document_each_time() -> None:
    text = encode_document({"tags": ["a"]}, what="metadata")
    decode_document(text)["tags"].append("b")
    assert decode_document(text) == {"tags": ["a"]}


class _Color(str, Enum):
    RED = "red"


class _Level(IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("given_value", "kept"),
    [
        (np.float32(1.5), 1.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.arange(3), [0, 1, 2]),
        (np.array([[1.0, 2.0]]), [[1.0, 2.0]]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([{"k": 1}], dtype=object), [{"k": 1}]),
        (np.datetime64("2024-05-01"), date(2024, 5, 1)),
        (np.datetime64("2024-05-01T12:00:00.123456789"), datetime(2024, 5, 1, 12, 0, 0, 123456)),
        ((1, (2, 3)), [1, [2, 3]]),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (_Color.RED, "red"),
        (_Level.HIGH, 3),
        (2**70 + 1, 2**70 + 1),
        (-0.0, -0.0),
    ],
)
def test_value_is_converted_to_plain_python(given_value: Any, kept: Any) -> None:
    copy = check_document({"v": given_value}, what="metadata")
    assert _same(copy, {"v": kept})
    assert _same(decode_document(encode_document({"v": given_value}, what="metadata")), {"v": kept})


def _nested(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(levels - 1):
        document = {"a": document}
    return document


def _cyclic() -> dict[str, Any]:
    document: dict[str, Any] = {}
    document["self"] = [document]
    return document


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"author": {"born": {1, 2}}}, "metadata.author.born "),
        ({"a": [0, {"b": float("nan")}]}, "metadata.a[1].b "),
        ({"a": float("inf")}, "metadata.a "),
        ({"a": b"raw"}, "metadata.a "),
        ({"a": 1j}, "metadata.a "),
        ({"a": Decimal(1)}, "metadata.a "),
        ({"a": timedelta(1)}, "metadata.a "),
        ({"a": object()}, "metadata.a "),
        ({"a": np.array([1.0, np.nan])}, "metadata.a[1] "),
        ({"a": np.datetime64("NaT")}, "metadata.a "),
        ({"a": np.timedelta64(1, "s")}, "metadata.a "),
        ({"a": np.longdouble(1)}, "metadata.a "),
        ({"a": 10**2000}, "metadata.a "),
        ({1: 2}, "metadata "),
        ({"a": {None: 2}}, "metadata.a "),
        ({"a": "\ud800"}, "metadata "),
        ({"\udfff": 1}, "metadata "),
        (_nested(MAX_DEPTH + 1), "metadata.a.a"),
        (_cyclic(), "metadata.self[0].self"),
        ({"a": "x" * MAX_DOCUMENT_BYTES}, "metadata "),
        ({"a": "ü" * (MAX_DOCUMENT_BYTES // 2)}, "metadata "),
        ([("a", 1)], "metadata "),
        ("text", "metadata "),
    ],
)
def test_document_that_cannot_be_kept_is_refused_with_its_path(document: Any, path: str) -> None:
    with pytest.raises(MetadataError) as caught:
        encode_document(document, what="metadata")
    assert str(caught.value).startswith(path)
    assert len(str(caught.value)) < 500


def test_deepest_and_longest_documents_are_kept() -> None:
    for document in (_nested(MAX_DEPTH), {"a": "x" * (MAX_DOCUMENT_BYTES - len('{"a":""}'))}):
        assert decode_document(encode_document(document, what="metadata")) == document


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[1]",
        '{"a":NaN}',
        '{"a":1}]',
        '{"a":1',
        '{"a":{"$date":"x"}}',
        '{"a":{"$date":1}}',
        '{"$date":"2024-01-01"}',
    ],
)
def test_damaged_text_is_reported_as_such(text: str) -> None:
    with pytest.raises(CorruptIndexError):
        decode_document(text)


# ------------------------------------------------------------------------------------------------ columns


def _encoded(i: int) -> EncodedRecord:
    return EncodedRecord(f'{{"i":{i}}}', f"text {i}", None if i % 2 else f'{{"p":{i}}}')


def test_unused_columns_hold_nothing() -> None:
    records = Records()
    records.append_empty(10_000)
    records.append([EncodedRecord()] * 5)
    assert records.memory_bytes() == 0
    assert records.state() == {}
    view = records.view()
    assert not (view.has_metadata or view.has_text or view.has_payload)
    assert (view.metadata(9_999), view.text(0), view.payload(10_004)) == ({}, None, None)


def test_first_content_arrives_when_slots_exist_already() -> None:
    records = Records(3 * CHUNK + 7)
    before = records.view()
    records.append([_encoded(0)])
    view = records.view()
    assert view.text(3 * CHUNK + 7) == "text 0"
    assert view.text(3 * CHUNK + 6) is None
    assert view.metadata(0) == {}
    assert before.text(0) is None
    # The chunks without content are one and the same.
    assert records.memory_bytes() < 2000


def test_earlier_view_keeps_what_it_saw_when_records_change() -> None:
    records = Records()
    records.append([_encoded(i) for i in range(2 * CHUNK + 3)])
    before = records.view()
    records.update([1, CHUNK], metadata=['{"new":1}', None], payload=['{"q":1}', None])
    records.forget([2, 2 * CHUNK])
    records.append([_encoded(9)] * CHUNK)
    after = records.view()
    assert before.metadata(1) == {"i": 1}
    assert before.metadata(CHUNK) == {"i": CHUNK}
    assert before.text(2) == "text 2"
    assert before.text(2 * CHUNK) == f"text {2 * CHUNK}"
    assert after.metadata(1) == {"new": 1}
    assert after.payload(1) == {"q": 1}
    assert after.text(1) == "text 1"
    assert after.metadata(CHUNK) == {}
    assert after.text(2) is None
    assert after.text(2 * CHUNK) is None
    assert after.text(3 * CHUNK + 2) == "text 9"


def test_take_gives_the_records_asked_for_in_their_order() -> None:
    records = Records()
    records.append([_encoded(i) for i in range(CHUNK + 10)])
    taken = records.take(np.array([CHUNK + 9, 0, 5]))
    assert [taken.view().text(i) for i in range(3)] == [f"text {CHUNK + 9}", "text 0", "text 5"]
    assert len(taken) == 3
    taken.append([_encoded(1)])
    assert records.view().text(3) == "text 3"


def test_payload_may_be_empty_and_is_told_from_none() -> None:
    records = Records()
    records.append([EncodedRecord(payload="{}"), EncodedRecord()])
    again = Records.from_state(records.state(), 2)
    assert again.view().payload(0) == {}
    assert again.view().payload(1) is None


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_columns_agree_with_plain_lists(data: st.DataObject) -> None:
    """Any run of operations, against one list of tuples; views taken on the way are checked at the end."""
    records, model = Records(), []
    views: list[tuple[Any, list[tuple[Any, Any, Any]]]] = []
    optional = st.none() | st.integers(0, 99)

    def encode(entry: tuple[Any, Any, Any]) -> EncodedRecord:
        m, t, p = entry
        return EncodedRecord(
            None if m is None else f'{{"m":{m}}}',
            None if t is None else str(t),
            None if p is None else f'{{"p":{p}}}',
        )

    for _ in range(data.draw(st.integers(1, 8))):
        action = data.draw(st.sampled_from(["append", "empty", "update", "forget", "take", "state"]))
        if action == "append":
            new = data.draw(st.lists(st.tuples(optional, optional, optional), max_size=5))
            records.append([encode(entry) for entry in new])
            model += new
        elif action == "empty":
            count = data.draw(st.integers(0, 2 * CHUNK + 5))
            records.append_empty(count)
            model += [(None, None, None)] * count
        elif action == "state":
            records = Records.from_state(records.state(), len(model))
        elif model:
            slots = data.draw(st.lists(st.integers(0, len(model) - 1), unique=True, max_size=4))
            if action == "update":
                records.update(slots, metadata=['{"m":7}'] * len(slots))
                for slot in slots:
                    model[slot] = (7, *model[slot][1:])
            elif action == "forget":
                records.forget(np.array(slots, np.int64))
                for slot in slots:
                    model[slot] = (None, None, None)
            else:
                records, model = records.take(np.array(slots, np.int64)), [model[slot] for slot in slots]
        views.append((records.view(), list(model)))
    for view, expected in views:
        for slot in {*range(min(20, len(expected))), *range(max(0, len(expected) - 20), len(expected))}:
            m, t, p = expected[slot]
            assert view.metadata(slot) == ({} if m is None else {"m": m})
            assert view.text(slot) == (None if t is None else str(t))
            assert view.payload(slot) == (None if p is None else {"p": p})


@pytest.mark.parametrize(
    ("state", "damage"),
    [
        ({"metadata": ["{}"]}, "1 records, 2 expected"),
        ({"metadata": ["[1]", None]}, "metadata, record 0"),
        ({"payload": [None, "{"]}, "payload, record 1"),
        ({"text": ['"a"', "1"]}, "text, record 1"),
        ({"text": ['"\\ud800"', None]}, "text, record 0"),
    ],
)
def test_damaged_state_is_refused(state: dict[str, Any], damage: str) -> None:
    with pytest.raises(CorruptIndexError, match=damage):
        Records.from_state(state, 2)


def test_state_of_chosen_slots_comes_back_to_their_places() -> None:
    records = Records()
    records.append([_encoded(i) for i in range(6)])
    live = np.array([1, 4])
    state = records.state(live)
    assert state["text"] == ['"text 1"', '"text 4"']
    view = Records.from_state(state, 6, live).view()
    assert [view.text(i) for i in range(6)] == [None, "text 1", None, None, "text 4", None]


def _per_call_us(call: Callable[[], object], calls: int = 2_000) -> float:
    from time import perf_counter

    best = float("inf")
    for _ in range(7):
        start = perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (perf_counter() - start) / calls * 1e6)
    return best


def test_small_document_decodes_at_the_speed_of_the_c_scanner() -> None:
    text = encode_document(
        {"category": "science", "priority": 3, "year": 2021, "score": 0.5}, what="metadata"
    )
    # About 1 us where this was written; json.loads does the same work with more around it.
    assert _per_call_us(lambda: decode_document(text)) < 1.5 * _per_call_us(lambda: json.loads(text))
