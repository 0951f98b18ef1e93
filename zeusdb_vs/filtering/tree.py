"""The public filter objects: an immutable tree of comparisons, checked when it is made.

>>> field("year") >= 2020
field('year') >= 2020
>>> (field("lang") == "en") & ~field("tags").contains("draft")
And(field('lang') == 'en', Not(field('tags').contains('draft')))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NoReturn, TypeAlias

from zeusdb_vs.errors import ArgumentTypeError, FilterError
from zeusdb_vs.filtering.operands import (
    FLAG_OPS,
    MissingRule,
    Op,
    checked_operand,
    member_of,
    operand_repr,
    shown,
    typed_key,
)
from zeusdb_vs.filtering.values import from_json, to_json

MAX_DEPTH = 32
"""Groups nested in groups. A conjunction counts with the `Or` or `Not` that holds it."""
MAX_TERMS = 10_000
"""Comparisons in one filter."""

Source: TypeAlias = Literal["metadata", "payload"]
SOURCES: tuple[Source, ...] = ("metadata", "payload")


_ORDERED = {Op.GT: ">", Op.GTE: ">=", Op.LT: "<", Op.LTE: "<="}
_SYMBOLS = {Op.EQ: "==", Op.NE: "!=", **_ORDERED}
_METHODS = {
    Op.IN: "isin({})",
    Op.NIN: "notin({})",
    Op.TEXT_MATCH: "text_match({})",
    Op.TEXT_MATCH_INSENSITIVE: "text_match({}, case=False)",
    Op.ANY_ELEMENT: "any({}, arrays_only=True)",
    Op.ALL_ELEMENTS: "all({}, arrays_only=True)",
}


class Filter:
    """A condition on records: a `Comparison`, or an `And`, `Or`, `Not` of filters.

    Filters are immutable, hashable and equal when they are written alike. Combine them with ``&``, ``|`` and
    ``~``; they have no truth value, so that ``and``, ``or`` and chained comparisons fail loudly.

    Attributes
    ----------
    depth : int
        Groups nested in groups, 0 for a comparison, at most `MAX_DEPTH`.
    terms : int
        Comparisons in the filter, at most `MAX_TERMS`.
    """

    __slots__ = ("_hash", "_key", "depth", "terms")

    depth: int
    terms: int
    _key: tuple[Any, ...]
    _hash: int

    def _settle(self, key: tuple[Any, ...], depth: int, terms: int) -> None:
        if depth > MAX_DEPTH:
            raise FilterError(
                f"filter is nested {depth} groups deep, at most {MAX_DEPTH} are allowed; flatten it"
            )
        if terms > MAX_TERMS:
            raise FilterError(
                f"filter has {terms:,} terms, at most {MAX_TERMS:,} are allowed; "
                "compare with many values at once through 'in'"
            )
        for name, value in (("_key", key), ("_hash", hash(key)), ("depth", depth), ("terms", terms)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"filters are immutable; build a new one instead of setting {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"filters are immutable; build a new one instead of deleting {name!r}")

    def __and__(self, other: Filter) -> And:
        return And(self, other)

    def __or__(self, other: Filter) -> Or:
        return Or(self, other)

    def __invert__(self) -> Not:
        return Not(self)

    def __bool__(self) -> NoReturn:
        raise ArgumentTypeError(
            "a filter has no truth value; combine filters with &, | and ~, write ranges as "
            "field(...).between(low, high), and test for None with `is None`"
        )

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Filter):
            return NotImplemented
        return self._hash == other._hash and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return filter_from_json, (self.to_json(),)

    def to_json(self) -> dict[str, Any]:
        """Return the filter as plain JSON, which `filter_from_json` turns back into an equal filter."""
        raise NotImplementedError


class _Group(Filter):
    """A filter over filters, called children."""

    __slots__ = ("children",)

    _name: ClassVar[str]
    children: tuple[Filter, ...]

    def __init__(self, *children: Filter) -> None:
        for child in children:
            if not isinstance(child, Filter):
                raise ArgumentTypeError(
                    f"{type(self).__name__} takes filters, got {type(child).__name__}; "
                    "write field('name') == value, or parse_filter({...}) for a filter in dict form"
                )
        object.__setattr__(self, "children", children)
        terms = max(1, sum(child.terms for child in children))
        self._settle((self._name, children), self._nesting(children), terms)

    def _nesting(self, children: tuple[Filter, ...]) -> int:
        return 1 + max((child.depth for child in children), default=0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.children))})"

    def to_json(self) -> dict[str, Any]:
        return {self._name: [child.to_json() for child in self.children]}


class And(_Group):
    """Matches what all children match; without children, everything.

    Raises
    ------
    FilterError
        The result is nested too deep or has too many terms.
    """

    __slots__ = ()
    _name = "and"

    def _nesting(self, children: tuple[Filter, ...]) -> int:
        return max((child.depth + isinstance(child, And) for child in children), default=0)


class Or(_Group):
    """Matches what at least one child matches; without children, nothing.

    Raises
    ------
    FilterError
        The result is nested too deep or has too many terms.
    """

    __slots__ = ()
    _name = "or"


class Not(_Group):
    """Matches what none of the children match; without children, everything.

    Raises
    ------
    FilterError
        The result is nested too deep or has too many terms.
    """

    __slots__ = ()
    _name = "not"


class Comparison(Filter):
    """One condition on one field.

    Parameters
    ----------
    field : str
        A key, or a dotted path into nested objects; the literal key wins.
    op : Op or str
        What is asked.
    operand : object
        What the field is compared with: a value, a sequence of values (`Op.IN` and the like), a string or a
        bool, as the operator wants. NumPy scalars and arrays are taken as Python values.
    source : {"metadata", "payload"}
        Where the field is looked up.
    missing : MissingRule or str
        What holds for records without the field.

    Raises
    ------
    FilterError
        The operator is unknown or cannot take the operand.
    """

    __slots__ = ("field", "missing", "op", "operand", "source")

    field: str
    op: Op
    operand: Any
    source: Source
    missing: MissingRule

    def __init__(
        self,
        field: str,
        op: Op | str,
        operand: Any,
        *,
        source: Source = "metadata",
        missing: MissingRule | str = MissingRule.NEVER,
    ) -> None:
        if not isinstance(field, str):
            raise FilterError(f"a field is named by a str, got {field!r} of type {type(field).__name__}")
        if source not in SOURCES:
            raise FilterError(f"field {field!r}: source is 'metadata' or 'payload', got {source!r}")
        operator, rule = member_of(Op, op), member_of(MissingRule, missing)
        operand = checked_operand(operator, operand)
        values = (
            ("field", field),
            ("op", operator),
            ("operand", operand),
            ("source", source),
            ("missing", rule),
        )
        for name, value in values:
            object.__setattr__(self, name, value)
        # Names, for Python code hashes enum members.
        self._settle((field, operator.value, source, rule.value, typed_key(operand)), 0, 1)

    def __repr__(self) -> str:
        subject = repr(Field(self.field, source=self.source, missing=self.missing))
        if self.op in _SYMBOLS:
            return f"{subject} {_SYMBOLS[self.op]} {operand_repr(self.operand)}"
        if self.op in FLAG_OPS:
            return f"{subject}.{self.op.value}({'' if self.operand else 'False'})"
        call = _METHODS.get(self.op, self.op.value + "({})")
        return f"{subject}.{call.format(operand_repr(self.operand))}"

    def to_json(self) -> dict[str, Any]:  # noqa: D102 - as the base says
        plain: dict[str, Any] = {"field": self.field, "op": self.op.value, "value": to_json(self.operand)}
        if self.source != "metadata":
            plain["source"] = self.source
        if self.missing is not MissingRule.NEVER:
            plain["missing"] = self.missing.value
        return plain


class Field:
    """A field to compare: made by `field`, turned into a `Comparison` by an operator or a method."""

    __slots__ = ("missing", "name", "source")

    def __init__(
        self, name: str, *, source: Source = "metadata", missing: MissingRule | str = MissingRule.NEVER
    ):
        self.name = name
        self.source: Source = source
        self.missing = member_of(MissingRule, missing)

    def _compare(self, op: Op, operand: Any) -> Comparison:
        return Comparison(self.name, op, operand, source=self.source, missing=self.missing)

    def __eq__(self, value: object) -> Comparison:  # type: ignore[override]
        return self._compare(Op.EQ, value)

    def __ne__(self, value: object) -> Comparison:  # type: ignore[override]
        return self._compare(Op.NE, value)

    __hash__ = None  # type: ignore[assignment]

    def __gt__(self, value: Any) -> Comparison:
        return self._compare(Op.GT, value)

    def __ge__(self, value: Any) -> Comparison:
        return self._compare(Op.GTE, value)

    def __lt__(self, value: Any) -> Comparison:
        return self._compare(Op.LT, value)

    def __le__(self, value: Any) -> Comparison:
        return self._compare(Op.LTE, value)

    def between(self, low: Any, high: Any) -> And:
        """Match values from low to high, both included."""
        return And(self >= low, self <= high)

    def isin(self, values: Iterable[Any]) -> Comparison:
        """Match values equal to one of those given; an array is compared whole."""
        return self._compare(Op.IN, values)

    def notin(self, values: Iterable[Any]) -> Comparison:
        """Match values equal to none of those given."""
        return self._compare(Op.NIN, values)

    def contains(self, value: Any) -> Comparison:
        """Match strings that contain a substring, and arrays that have an element equal to the value."""
        return self._compare(Op.CONTAINS, value)

    def startswith(self, text: str) -> Comparison:
        """Match strings that start with the text."""
        return self._compare(Op.STARTSWITH, text)

    def endswith(self, text: str) -> Comparison:
        """Match strings that end with the text."""
        return self._compare(Op.ENDSWITH, text)

    def text_match(self, text: str, *, case: bool = True) -> Comparison:
        """Match strings (never arrays) that contain the text, in the same letter case or in any."""
        return self._compare(Op.TEXT_MATCH if case else Op.TEXT_MATCH_INSENSITIVE, text)

    def like(self, pattern: str) -> Comparison:
        """Match whole strings; ``%`` stands for any run, ``_`` for one character, a backslash escapes."""
        return self._compare(Op.LIKE, pattern)

    def ilike(self, pattern: str) -> Comparison:
        """Match as `like` does, with the pattern and the strings in lower case."""
        return self._compare(Op.ILIKE, pattern)

    def regex(self, pattern: str) -> Comparison:
        """Match strings in which Python's `re.search` finds the pattern.

        Every distinct string is searched, and nothing bounds the time a pattern takes: do not take patterns
        from strangers.
        """
        return self._compare(Op.REGEX, pattern)

    def any(self, values: Iterable[Any], *, arrays_only: bool = False) -> Comparison:
        """Match arrays with at least one of the values; anything else counts as an array of itself."""
        return self._compare(Op.ANY_ELEMENT if arrays_only else Op.ANY, values)

    def all(self, values: Iterable[Any], *, arrays_only: bool = False) -> Comparison:
        """Match arrays with all of the values; anything else counts as an array of itself."""
        return self._compare(Op.ALL_ELEMENTS if arrays_only else Op.ALL, values)

    def exists(self, wanted: bool = True) -> Comparison:
        """Match records that have the field, null included; with False, those that lack it."""
        return self._compare(Op.EXISTS, wanted)

    def is_null(self, wanted: bool = True) -> Comparison:
        """Match records where the field is null; with False, all others, those that lack it included."""
        return self._compare(Op.IS_NULL, wanted)

    def is_empty(self, wanted: bool = True) -> Comparison:
        """Match records where the field is missing, null, ``""`` or ``[]``; with False, all others."""
        return self._compare(Op.IS_EMPTY, wanted)

    def __repr__(self) -> str:
        parts = [repr(self.name)]
        if self.source != "metadata":
            parts.append(f"source={self.source!r}")
        if self.missing is not MissingRule.NEVER:
            parts.append(f"missing={self.missing.value!r}")
        return f"field({', '.join(parts)})"


def field(name: str, *, source: Source = "metadata", missing: MissingRule | str = MissingRule.NEVER) -> Field:
    """Name a field to compare, as in ``field("year") >= 2020``.

    Parameters
    ----------
    name : str
        A key, or a dotted path into nested objects; the literal key wins.
    source : {"metadata", "payload"}
        Where the field is looked up.
    missing : MissingRule or {"never", "differs", "null_differs"}
        What comparisons say of records without the field.

    Returns
    -------
    Field
    """
    return Field(name, source=source, missing=missing)


def matches_everything(tree: Filter) -> bool:
    """Whether the shape of a filter alone says that it matches every record, such as ``And()``.

    For refusing to delete by a filter that restricts nothing. A comparison is taken to restrict.
    """
    if isinstance(tree, And):
        return all(map(matches_everything, tree.children))
    if isinstance(tree, Or):
        return any(map(matches_everything, tree.children))
    return isinstance(tree, Not) and all(map(_matches_nothing, tree.children))


def _matches_nothing(tree: Filter) -> bool:
    if isinstance(tree, And):
        return any(map(_matches_nothing, tree.children))
    if isinstance(tree, Or):
        return all(map(_matches_nothing, tree.children))
    return isinstance(tree, Not) and any(map(matches_everything, tree.children))


def comparisons_of(tree: Filter) -> list[Comparison]:
    """Return the comparisons of a filter from left to right."""
    if isinstance(tree, Comparison):
        return [tree]
    assert isinstance(tree, _Group)
    return [leaf for child in tree.children for leaf in comparisons_of(child)]


def filter_from_json(plain: Mapping[str, Any]) -> Filter:
    """Return the filter that `Filter.to_json` wrote.

    Raises
    ------
    FilterError
        It is not in that form, or breaks a limit.
    """
    return _filter_from_json(plain, 0)


def _filter_from_json(plain: Any, depth: int) -> Filter:
    if not isinstance(plain, Mapping):
        raise FilterError(f"a filter in JSON form is an object, got {type(plain).__name__}")
    if depth > 3 * MAX_DEPTH:
        raise FilterError(f"filter is nested deeper than {MAX_DEPTH} groups, or contains itself")
    if len(plain) == 1:
        ((name, children),) = plain.items()
        for group in (And, Or, Not):
            if name == group._name and isinstance(children, Sequence) and not isinstance(children, str):
                return group(*[_filter_from_json(child, depth + 1) for child in children])
    if not {"field", "op", "value"} <= plain.keys() <= {"field", "op", "value", "source", "missing"}:
        raise FilterError(
            f"a filter in JSON form has field, op and value, or one of and, or, not; got {set(plain)}"
        )
    options = {key: plain[key] for key in ("source", "missing") if key in plain}
    try:
        operand = from_json(plain["value"])
    except (ValueError, TypeError, RecursionError) as error:
        raise FilterError(f"not a value in JSON form: {shown(plain['value'])} ({error})") from None
    return Comparison(plain["field"], plain["op"], operand, **options)
