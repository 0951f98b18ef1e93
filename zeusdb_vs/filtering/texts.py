"""Tests of strings: parts of them, LIKE patterns, regular expressions; one by one, and over all strings of a field."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.filtering.blobs import Blobs
from zeusdb_vs.filtering.choices import Choice, Matcher, Vocabulary, from_flags
from zeusdb_vs.filtering.values import Kind, classify

_CHARACTER = rb"(?:[\x00-\x7f]|[\xc0-\xff][\x80-\xbf]*)"
"""One character of UTF-8."""


class Text(Matcher):
    """A test of strings; `scan` chooses among the terms that are text."""

    index = "text scan"

    def __init__(self, test: Callable[[str], object], scan: Callable[[Blobs], Choice]) -> None:
        self.holds = test
        self.scan = scan

    def test(self, value: Any) -> bool:
        """Whether a value is a string that passes."""
        return isinstance(value, str) and bool(self.holds(value))

    def choose(self, field: Vocabulary) -> Choice:
        """Return the terms that are strings and pass."""
        base, end = field.terms.range_of(Kind.TEXT)
        if base == end:
            return []
        chosen = self.scan(field.terms.blobs(Kind.TEXT))
        if isinstance(chosen, list):
            return [(base + low, base + high) for low, high in chosen if low < high]
        return from_flags(chosen, base, len(field.terms))


def containing(needle: str) -> Text:
    """Return the test for a substring."""
    key = classify(needle)[1]
    assert isinstance(key, bytes)
    return Text(lambda text: needle in text, lambda blobs: blobs.containing(key))


def starting(prefix: str) -> Text:
    """Return the test for a beginning."""
    key = prefix.encode("utf-8", "surrogatepass")
    return Text(lambda text: text.startswith(prefix), lambda blobs: [blobs.prefix_range(key)])


def _starting_unordered(prefix: str) -> Text:
    key = prefix.encode("utf-8", "surrogatepass")
    return Text(lambda text: text.startswith(prefix), lambda blobs: blobs.starting_with(key))


def ending(suffix: str) -> Text:
    """Return the test for an end."""
    key = suffix.encode("utf-8", "surrogatepass")
    return Text(lambda text: text.endswith(suffix), lambda blobs: blobs.ending_with(key))


def containing_insensitive(needle: str) -> Text:
    """Return the test for a substring, both in lower case."""
    lowered = needle.lower()
    key = lowered.encode("utf-8", "surrogatepass")
    return Text(lambda text: lowered in text.lower(), lambda blobs: blobs.lowered().containing(key))


def regex(pattern: str) -> Text:
    """Return the test whether a regular expression is found anywhere."""
    search = re.compile(pattern).search
    return Text(search, lambda blobs: blobs.matching(search))


def like(pattern: str, *, is_ordered: bool) -> Text:
    """Return the test of a LIKE pattern; `is_ordered` says whether the strings that are scanned ascend."""
    tokens = _like_tokens(pattern)
    literals = [token for token in tokens if token]
    wildcards = "".join("_" if token == "" else "%" if token is None else "x" for token in tokens)
    if wildcards == "x%":
        return (starting if is_ordered else _starting_unordered)(literals[0])
    if wildcards == "%x":
        return ending(literals[0])
    if wildcards == "%x%":
        return containing(literals[0])
    matches = re.compile(
        "".join(".*" if t is None else "." if t == "" else re.escape(t) for t in tokens), re.DOTALL
    )
    as_bytes = re.compile(
        b"".join(
            b".*"
            if token is None
            else _CHARACTER
            if token == ""
            else re.escape(token.encode("utf-8", "surrogatepass"))
            for token in tokens
        ),
        re.DOTALL,
    )
    exact = _pieces(tokens)
    loose = _pieces([token or None for token in tokens])
    prefix = (literals[0] if wildcards.startswith("x") else "").encode("utf-8", "surrogatepass")

    def scan(blobs: Blobs) -> NDArray[np.bool_]:
        if "" in tokens and not blobs.data.isascii():
            # One character is several bytes there: the rest of the pattern leaves few for the expression.
            return blobs.full_matching(as_bytes, blobs.holding_in_order(loose))
        return blobs.holding_in_order(exact)

    def scan_ordered(blobs: Blobs) -> NDArray[np.bool_]:
        low, high = blobs.prefix_range(prefix)
        found = np.zeros(len(blobs), np.bool_)
        found[low:high] = scan(blobs.between(low, high))
        return found

    return Text(matches.fullmatch, scan_ordered if is_ordered and prefix else scan)


def ilike(pattern: str) -> Text:
    """Return the test of a LIKE pattern, both in lower case."""
    lowered = like(pattern.lower(), is_ordered=False)
    return Text(lambda text: lowered.holds(text.lower()), lambda blobs: lowered.scan(blobs.lowered()))


def _like_tokens(pattern: str) -> list[str | None]:
    """Split a LIKE pattern: None is any run, "" any one character, other strings stand for themselves."""
    tokens: list[str | None] = []
    literal = ""
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            # A backslash at the end stands for itself.
            literal += next(characters, "\\")
            continue
        if character not in "%_":
            literal += character
            continue
        if literal:
            tokens.append(literal)
            literal = ""
        if character == "_":
            tokens.append("")
        elif not tokens or tokens[-1] is not None:
            tokens.append(None)
    if literal:
        tokens.append(literal)
    return tokens


def _pieces(tokens: Sequence[str | None]) -> list[list[int | None]]:
    """Split a LIKE pattern where any run may stand, into bytes; None is any one byte."""
    pieces: list[list[int | None]] = [[]]
    before: str | None = ""
    for token in tokens:
        if token:
            pieces[-1] += token.encode("utf-8", "surrogatepass")
        elif token == "":
            pieces[-1].append(None)
        elif before is not None:
            pieces.append([])
        before = token
    return pieces
