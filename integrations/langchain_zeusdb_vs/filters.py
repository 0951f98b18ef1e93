"""The forms a filter may take, brought to one; and the translator for self-query retrievers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any, TypeAlias

from langchain_core.documents import Document
from langchain_core.structured_query import (
    Comparator,
    Comparison,
    FilterDirective,
    Operation,
    Operator,
    StructuredQuery,
    Visitor,
)

import zeusdb_vs
from zeusdb_vs import And, FilterError, HNSWIndex, Not, Or, VectorDatabase, field

Predicate: TypeAlias = Callable[[Document], bool]
Filter: TypeAlias = "Mapping[str, Any] | zeusdb_vs.Filter | Predicate | FilterDirective | StructuredQuery"
"""What every ``filter=`` takes: a dict (bare or ``$`` operators), a zeusdb_vs filter object, a callable on a
Document, or an expression of ``langchain_core.structured_query``."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A filter in parts: what the engine evaluates, and what has to be asked of each document.

    Attributes
    ----------
    tree : dict or zeusdb_vs.Filter or None
        For the engine; None restricts nothing.
    predicates : tuple of callable
        All of which must hold as well.
    """

    tree: Any = None
    predicates: tuple[Predicate, ...] = ()

    def holds(self, document: Document) -> bool:
        """Return whether all predicates accept a document."""
        return all(predicate(document) for predicate in self.predicates)


EVERYTHING = Condition()


def read_filter(filter: Filter | Condition | None) -> Condition:
    """Return a filter of any form as a condition.

    Raises
    ------
    FilterError
        It is of no known form, or an expression cannot be translated. Dicts are checked by the engine.
    """
    if filter is None:
        return EVERYTHING
    if isinstance(filter, Mapping):
        return Condition(filter) if filter else EVERYTHING
    if isinstance(filter, Condition):
        return filter
    if isinstance(filter, zeusdb_vs.Filter):
        return Condition(filter)
    if isinstance(filter, StructuredQuery):
        return EVERYTHING if filter.filter is None else Condition(translate(filter.filter))
    if isinstance(filter, FilterDirective):
        return Condition(translate(filter))
    if callable(filter):
        if inspect.iscoroutinefunction(filter):
            raise FilterError("a filter that is called must be an ordinary function; this one is async")
        return Condition(None, (filter,))
    raise FilterError(
        f"a filter is a dict, a zeusdb_vs filter, a function of a Document, or a structured query; "
        f"got {filter!r} of type {type(filter).__name__}"
    )


def both(first: Filter | Condition | None, second: Filter | Condition | None) -> Condition:
    """Return the condition that both filters hold, which neither can widen."""
    one, other = read_filter(first), read_filter(second)
    trees = [condition.tree for condition in (one, other) if condition.tree is not None]
    tree = {"$and": trees} if len(trees) == 2 else trees[0] if trees else None
    return Condition(tree, one.predicates + other.predicates)


def check_filter(condition: Condition) -> None:
    """Raise FilterError for a filter the engine would refuse, where there is no index yet to ask."""
    if condition.tree is not None:
        _empty_index().count(condition.tree)


@lru_cache(maxsize=1)
def _empty_index() -> HNSWIndex:
    return VectorDatabase().create("hnsw", dim=1)


# ---------------------------------------------------------------------------------------------- self-query


class ZeusDBTranslator(Visitor):
    """Turns a structured query, such as a language model writes, into a search of `ZeusDBVectorStore`.

    All comparators (eq, ne, gt, gte, lt, lte, in, nin, contain, like) and operators (and, or, not) are known.
    ``ne`` and ``nin`` match records without the attribute; ``like`` is SQL's where the value has a ``%``, and
    otherwise finds it anywhere in the text. Dates compare with dates and with ISO strings in the metadata.

    Parameters
    ----------
    base_filter : Filter, optional
        Holds for every search, whatever the query says: what it adds can only narrow the result further.

    Examples
    --------
    >>> from langchain_core.structured_query import Comparator, Comparison, StructuredQuery
    >>> translator = ZeusDBTranslator(base_filter={"tenant": "a"})
    >>> wanted = Comparison(Comparator.GTE, "year", 2020)
    >>> translator.visit_comparison(wanted)
    field('year', missing='differs') >= 2020
    >>> text, arguments = translator.visit_structured_query(StructuredQuery("bees", wanted))
    """

    allowed_comparators = tuple(Comparator)
    allowed_operators = tuple(Operator)

    def __init__(self, base_filter: Filter | Condition | None = None) -> None:
        self.base_filter = read_filter(base_filter)

    def visit_operation(self, operation: Operation) -> zeusdb_vs.Filter:
        """Return an operation as a zeusdb_vs filter; `Operator.NOT` holds where none of its arguments does."""
        return _translate_operation(operation)

    def visit_comparison(self, comparison: Comparison) -> zeusdb_vs.Filter:
        """Return a comparison as a zeusdb_vs filter."""
        return _translate_comparison(comparison)

    def visit_structured_query(self, structured_query: StructuredQuery) -> tuple[str, dict[str, Any]]:
        """Return the text to search for and the keyword arguments of the search."""
        narrowed = both(self.base_filter, structured_query)
        if narrowed == EVERYTHING:
            return structured_query.query, {}
        return structured_query.query, {"filter": narrowed if narrowed.predicates else narrowed.tree}


def translate(expression: FilterDirective) -> zeusdb_vs.Filter:
    """Return an expression of `langchain_core.structured_query` as a zeusdb_vs filter.

    Raises
    ------
    FilterError
        It holds something else, or a comparator cannot take its value.
    """
    if isinstance(expression, Operation):
        return _translate_operation(expression)
    if isinstance(expression, Comparison):
        return _translate_comparison(expression)
    raise FilterError(f"not a comparison or an operation: {expression!r}")


def _translate_operation(operation: Operation) -> zeusdb_vs.Filter:
    if not operation.arguments:
        raise FilterError(f"{operation.operator.value!r} needs at least one argument")
    parts = [translate(argument) for argument in operation.arguments]
    group = {Operator.AND: And, Operator.OR: Or, Operator.NOT: Not}[operation.operator]
    return group(*parts)


def _translate_comparison(comparison: Comparison) -> zeusdb_vs.Filter:
    subject = field(comparison.attribute, missing="differs")
    value = _plain_value(comparison.value)
    comparator = comparison.comparator
    if comparator is Comparator.LIKE:
        # Models write the bare word as often as a pattern, and mean "has it somewhere" either way.
        is_pattern = isinstance(value, str) and "%" in value
        return subject.like(value) if is_pattern else subject.text_match(value)
    compare: dict[Comparator, Callable[[Any], zeusdb_vs.Filter]] = {
        Comparator.EQ: subject.__eq__,
        Comparator.NE: subject.__ne__,
        Comparator.GT: subject.__gt__,
        Comparator.GTE: subject.__ge__,
        Comparator.LT: subject.__lt__,
        Comparator.LTE: subject.__le__,
        Comparator.IN: subject.isin,
        Comparator.NIN: subject.notin,
        Comparator.CONTAIN: subject.contains,
    }
    return compare[comparator](value)


def _plain_value(value: Any) -> Any:
    """Return a value with the query language's dates turned into Python's."""
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value]
    if isinstance(value, Mapping) and value.get("type") in ("date", "datetime"):
        kind = value["type"]
        written = str(value.get(kind))
        try:
            if kind == "date":
                return date.fromisoformat(written)
            # Python 3.10 does not read the Z for UTC.
            return datetime.fromisoformat(written.replace("Z", "+00:00"))
        except ValueError as error:
            raise FilterError(f"not an ISO {kind}: {written!r} ({error})") from None
    return value
