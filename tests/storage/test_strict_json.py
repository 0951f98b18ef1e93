"""JSON as strict as the format needs it, in both directions."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeusdb_vs.storage import strict_json

_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=12,
)


@settings(deadline=None)
@given(_values)
def test_every_json_value_comes_back(value):
    assert strict_json.parse(strict_json.encode(value)) == value
    assert strict_json.parse(strict_json.canonical(value)) == value


@settings(deadline=None)
@given(st.binary(max_size=40) | st.text('{}[]",:01eE+-.nulltrefasNI\\ud8', max_size=30).map(str.encode))
def test_bytes_parse_as_the_standard_library_does_or_are_refused(data):
    try:
        value = strict_json.parse(data)
    except strict_json.StrictJSONError:
        return
    assert json.loads(data.decode("utf-8")) == value
    strict_json.encode(value)


REFUSED = {
    "NaN": b"[NaN]",
    "infinity": b"-Infinity",
    "overflow": b"1e999",
    "key twice": b'{"a": {"b": 1, "b": 1}}',
    "surrogate": b'"\\udc00"',
    "surrogate in a key": b'{"\\ud83e": 1}',
    "not UTF-8": b'"\xc3"',
    "byte order mark": b"\xef\xbb\xbf1",
    "two values": b"1 2",
    "nothing": b"",
    "control character": b'"\x01"',
    "number without end": b"9" * 5000,
    "33 lists": b"[" * 33 + b"]" * 33,
    "33 objects": b'{"a":' * 33 + b"1" + b"}" * 33,
    "very deep": b"[" * 1_000_000,
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_strict_json_is_refused(case):
    with pytest.raises(strict_json.StrictJSONError):
        strict_json.parse(REFUSED[case])


def test_depth_of_32_is_accepted():
    assert strict_json.parse(b"[" * 32 + b"1" + b"]" * 32)
    assert strict_json.parse(b"[" * 32 + b"]" * 32)


circle = []
circle.append(circle)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        b"x",
        {1: 2},
        {"a": {None: 1}},
        "\ud800",
        {"\udfff": 1},
        circle,
        object(),
        {1, 2},
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_could_not_be_read_back_is_not_written(value):
    with pytest.raises(strict_json.StrictJSONError):
        strict_json.encode(value)
