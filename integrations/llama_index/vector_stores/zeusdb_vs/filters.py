"""LlamaIndex's metadata filters as filters of the engine, with the meaning that core's reference evaluation has.

What core leaves undefined is settled so: groups nest, dotted keys reach into nested metadata (a literal key wins),
and a value of another type than the operator can compare does not match where core would raise in the middle of a
query. An operand that no value could be compared with is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)
from llama_index.vector_stores.zeusdb_vs.nodes import REF_DOC_FIELD, TYPE_FIELD

from zeusdb_vs import And, Field, Filter, FilterError, Not, Or
from zeusdb_vs import field as engine_field

RESERVED: Final = {
    "doc_id": REF_DOC_FIELD,
    "document_id": REF_DOC_FIELD,
    "ref_doc_id": REF_DOC_FIELD,
    "_node_type": TYPE_FIELD,
}
"""Names that core's helper writes into users' metadata. Here a filter finds them where records keep such things, unless
the record has a key of that name itself."""

MAX_DEPTH: Final = 28
"""Groups that go to the engine as one filter; it takes a few more, of which a condition may need some itself."""
_KINDS: Final[Mapping[FilterCondition, type[And] | type[Or] | type[Not]]] = {
    FilterCondition.AND: And,
    FilterCondition.OR: Or,
    FilterCondition.NOT: Not,
}

Make: TypeAlias = Callable[[Field], Filter]


@dataclass(frozen=True, slots=True)
class Deep:
    """A group nested deeper than the engine takes: evaluated here, over the ids that match its children."""

    kind: type[And] | type[Or] | type[Not]
    children: tuple[Filter | Deep, ...]

    def ids(self, listing: Callable[[Filter | None], Iterable[str]]) -> set[str]:
        """Return the ids of all records that match; `listing` gives those that match a filter of the engine."""
        found = [
            child.ids(listing) if isinstance(child, Deep) else set(listing(child)) for child in self.children
        ]
        if self.kind is And:
            return set.intersection(*found)
        union = set().union(*found)
        return set(listing(None)) - union if self.kind is Not else union


@dataclass(slots=True)
class Translation:
    """A filter of the engine, and what a strict store checks before it asks.

    Attributes
    ----------
    tree : Filter, Deep or None
        None where nothing is restricted.
    ordered : list of (str, object)
        Keys compared by order, each with the operand.
    """

    tree: Filter | Deep | None
    ordered: list[tuple[str, Any]] = field(default_factory=list)


def translate(filters: MetadataFilters | None) -> Translation:
    """Turn metadata filters into a filter of the engine.

    Raises
    ------
    FilterError
        An operator or condition is unknown, an operator cannot take the value, or a limit of the engine is broken.
    """
    if filters is None:
        return Translation(None)
    if not isinstance(filters, MetadataFilters):
        raise FilterError(f"filters must be MetadataFilters, got {type(filters).__name__}")
    translation = Translation(None)
    if filters.filters:
        try:
            translation.tree = _group(filters, translation.ordered)
        except RecursionError:
            raise FilterError(
                "filters are nested so deep that Python gives up; flatten them, or raise sys.setrecursionlimit"
            ) from None
    return translation


def both(first: Filter | Deep | None, second: Filter) -> Filter | Deep:
    """Return what matches both."""
    return second if first is None else _combined(And, [first, second])


def is_payload(name: str, operator: str, operand: Any) -> Filter:
    """Return a comparison with a field of the payload: a type, or a document's id."""
    subject = engine_field(name, source="payload", missing="null_differs")
    return subject == operand if operator == "==" else subject.isin(operand)


def _group(group: MetadataFilters, ordered: list[tuple[str, Any]]) -> Filter | Deep:
    children = [
        _group(child, ordered) if isinstance(child, MetadataFilters) else _condition(child, ordered)
        for child in group.filters
    ]
    condition = FilterCondition.AND if group.condition is None else group.condition
    kind = _KINDS.get(condition)
    if kind is None:
        known = ", ".join(c.value for c in FilterCondition)
        raise FilterError(f"unknown filter condition {condition!r}; allowed are {known}")
    return _combined(kind, children) if children else And()


def _combined(kind: type[And] | type[Or] | type[Not], children: Sequence[Filter | Deep]) -> Filter | Deep:
    """Return a group of children, which are at least one, no deeper than it has to be."""
    flat: list[Filter | Deep] = []
    for child in children:
        # A group within one of its kind adds nothing but depth.
        same = kind is not Not and (child.kind if isinstance(child, Deep) else type(child)) is kind
        flat += child.children if same and isinstance(child, Deep | And | Or) else (child,)
    if len(flat) == 1 and kind is not Not:
        return flat[0]
    if len(flat) == 1 and isinstance(flat[0], Not) and len(flat[0].children) == 1:
        return flat[0].children[0]
    plain = [child for child in flat if isinstance(child, Filter)]
    if len(plain) < len(flat) or max((child.depth for child in plain), default=0) >= MAX_DEPTH:
        return Deep(kind, tuple(flat))
    return kind(*plain)


def _condition(condition: MetadataFilter, ordered: list[tuple[str, Any]]) -> Filter:
    key, operator, value = condition.key, condition.operator, condition.value
    try:
        operator = FilterOperator(operator)
    except ValueError:
        known = ", ".join(op.value for op in FilterOperator)
        raise FilterError(f"filter on {key!r}: unknown operator {operator!r}; allowed are {known}") from None
    try:
        make = _MAKERS[operator](value)
        found = make(engine_field(key, missing="null_differs"))
        if operator in _ORDERING:
            ordered.append((key, value))
        if key not in RESERVED:
            return found
        has_own = engine_field(key).exists()
        reserved = make(engine_field(RESERVED[key], source="payload", missing="null_differs"))
    except FilterError as error:
        raise FilterError(f"filter on {key!r} with the operator {operator.value!r}: {error}") from None
    return Or(And(has_own, found), And(Not(has_own), reserved))


# ---------------------------------------------------------------------------------------------- operators


def _with_twins(values: Iterable[Any]) -> list[Any]:
    """Add what Python calls equal and the engine does not: True to 1, False to 0, and the other way round."""
    found: list[Any] = []
    for value in values:
        found.append(value)
        if isinstance(value, bool):
            found.append(int(value))
        elif isinstance(value, int | float) and value in (0, 1):
            found.append(bool(value))
    return found


def _equal(value: Any) -> Make:
    values = _with_twins([value])
    return lambda subject: subject == value if len(values) == 1 else subject.isin(values)


def _differs(value: Any) -> Make:
    values = _with_twins([value])
    return lambda subject: subject != value if len(values) == 1 else subject.notin(values)


def _ordering(compare: Callable[[Any, Any], Any]) -> Callable[[Any], Make]:
    def make(value: Any) -> Make:
        if not isinstance(value, int | float):
            return lambda subject: _filter(compare(subject, value))
        number = int(value) if isinstance(value, bool) else value
        truths = [truth for truth in (False, True) if compare(truth, number)]
        if not truths:
            return lambda subject: _filter(compare(subject, number))
        # Python orders True and False as 1 and 0.
        return lambda subject: Or(_filter(compare(subject, number)), subject.isin(truths))

    return make


def _filter(outcome: Any) -> Filter:
    assert isinstance(outcome, Filter)
    return outcome


def _list_of(value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise FilterError(f"takes a list of values, got {value!r} of type {type(value).__name__}")
    return list(value)


def _text_of(value: Any) -> str:
    if not isinstance(value, str):
        raise FilterError(f"takes a str, got {value!r} of type {type(value).__name__}")
    return value


def _within(value: Any) -> Make:
    values = _with_twins(_list_of(value))
    return lambda subject: subject.isin(values)


def _not_within(value: Any) -> Make:
    values = _with_twins(_list_of(value))
    return lambda subject: subject.notin(values)


def _contains(value: Any) -> Make:
    values = _with_twins([value])
    if len(values) == 1:
        return lambda subject: subject.contains(value)
    return lambda subject: subject.any(values, arrays_only=True)


def _any(value: Any) -> Make:
    values = _with_twins(_list_of(value))
    texts = [item for item in values if isinstance(item, str)]

    def make(subject: Field) -> Filter:
        # `in` of Python: an element of a list, a part of a string.
        parts = [subject.any(values, arrays_only=True), *map(subject.text_match, texts)]
        return Or(*parts) if len(parts) > 1 else parts[0]

    return make


def _all(value: Any) -> Make:
    values = _list_of(value)

    def make(subject: Field) -> Filter:
        if not values:
            return And(subject.exists(), Not(subject.is_null()))
        parts = []
        for item in values:
            found: Filter = subject.any(_with_twins([item]), arrays_only=True)
            parts.append(Or(found, subject.text_match(item)) if isinstance(item, str) else found)
        return And(*parts)

    return make


def _text_match(case: bool) -> Callable[[Any], Make]:
    def make(value: Any) -> Make:
        text = _text_of(value)
        return lambda subject: subject.text_match(text, case=case)

    return make


_ORDERING: Final[Mapping[FilterOperator, Callable[[Any, Any], Any]]] = {
    FilterOperator.GT: lambda a, b: a > b,
    FilterOperator.GTE: lambda a, b: a >= b,
    FilterOperator.LT: lambda a, b: a < b,
    FilterOperator.LTE: lambda a, b: a <= b,
}
_MAKERS: Final[Mapping[FilterOperator, Callable[[Any], Make]]] = {
    FilterOperator.EQ: _equal,
    FilterOperator.NE: _differs,
    **{operator: _ordering(compare) for operator, compare in _ORDERING.items()},
    FilterOperator.IN: _within,
    FilterOperator.NIN: _not_within,
    FilterOperator.CONTAINS: _contains,
    FilterOperator.ANY: _any,
    FilterOperator.ALL: _all,
    FilterOperator.TEXT_MATCH: _text_match(True),
    FilterOperator.TEXT_MATCH_INSENSITIVE: _text_match(False),
    FilterOperator.IS_EMPTY: lambda _: lambda subject: subject.is_empty(),
}
