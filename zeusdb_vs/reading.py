"""What reads of every kind share: which slots are meant, what is returned of them, the dicts users get."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.checks import check_bool, check_str_list, did_you_mean
from zeusdb_vs.errors import (
    ArgumentTypeError,
    ConfigurationError,
    FilterError,
    RecordNotFoundError,
)
from zeusdb_vs.filtering.views import Selection
from zeusdb_vs.filters import matches_everything, parse_filter
from zeusdb_vs.results import SearchExplanation
from zeusdb_vs.views import SearchResult, View

Hit = dict[str, Any]
Hits = list[Hit]

_PARTS = ("metadata", "text", "payload", "vector")
DEFAULT_PARTS = frozenset({"metadata"})


# ---------------------------------------------------------------------------------------------- arguments


def chosen_parts(include: Iterable[str] | None, return_vector: bool) -> frozenset[str]:
    """Return which parts of a record are wanted beside its id.

    Raises
    ------
    ArgumentTypeError, ConfigurationError
        `include` is no list of known names.
    """
    if include is None and return_vector is False:
        return DEFAULT_PARTS
    parts = DEFAULT_PARTS if include is None else frozenset(check_str_list(include, "include"))
    for part in parts:
        if part not in _PARTS:
            raise ConfigurationError(f"include names {part!r}; {did_you_mean(part, _PARTS)}")
    return parts | {"vector"} if check_bool(return_vector, "return_vector") else parts


def check_max_distance(value: object) -> float:
    """Return `max_distance` as a float; NaN and what is no number are refused."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or isnan(value):
        raise ArgumentTypeError(f"max_distance must be a number, got {value!r}")
    return float(value)


# ---------------------------------------------------------------------------------------------- slots


def find_slot(view: View, id: object) -> int:
    """Return the slot of a record, -1 when it is not in the index."""
    if not isinstance(id, str):
        raise ArgumentTypeError(f"ids are str, got {id!r} of type {type(id).__name__}")
    return view.find(id)


def slot_of(view: View, id: object) -> int:
    """Return the slot of a record that must be in the index.

    Raises
    ------
    RecordNotFoundError
        It is not.
    """
    slot = find_slot(view, id)
    if slot < 0:
        raise RecordNotFoundError(f"not in the index: {id!r}")
    return slot


def found_slots(view: View, ids: Iterable[str], name: str = "ids") -> list[int]:
    """Return the slots of those ids that are in the index, each once, in the order given."""
    slots = map(view.find, check_str_list(ids, name))
    return list(dict.fromkeys(slot for slot in slots if slot >= 0))


def selection_of(
    view: View, filter: Any, ids: Iterable[str] | None = None, *, strict: bool = False
) -> Selection | None:
    """Return the slots that a filter and a choice of ids leave, None for all; removed slots mean nothing.

    Raises
    ------
    FilterError
        The filter cannot be understood, or, with `strict`, orders values that do not compare.
    """
    selection: Selection | None = None
    if filter is not None:
        tree = parse_filter(filter)
        if strict is not False and check_bool(strict, "strict"):
            view.fields.check_types(tree, view.n, None if view.live is None else view.live[: view.n])
        if not matches_everything(tree):
            selection = view.fields.select(tree, view.n)
    if ids is not None:
        slots = np.array(sorted(found_slots(view, ids)), np.int64)
        chosen = Selection(view.n, [(0, view.n, slots)])
        selection = chosen if selection is None else chosen.where(selection.mask())
    return selection


def live_selection(view: View, selection: Selection | None) -> Selection | None:
    """Return the live slots of a selection."""
    if selection is None or view.live is None:
        return selection
    return selection.where(view.live[: view.n])


def slots_in(view: View, selection: Selection | None) -> NDArray[np.int64]:
    """Return the live slots of a selection, in the order their records came in."""
    live = live_selection(view, selection)
    return view.live_slots() if live is None else live.slots()


def count_in(view: View, selection: Selection | None) -> int:
    """Return how many live slots a selection has."""
    live = live_selection(view, selection)
    return view.live_count if live is None else live.count


def matching_slots(view: View, where: Any, *, strict: bool = False) -> NDArray[np.int64]:
    """Return the live slots that match a filter which must restrict something.

    Raises
    ------
    FilterError
        As `selection_of`; or it matches every record by its very shape.
    """
    selection = selection_of(view, where, strict=strict)
    if selection is None:
        raise FilterError(
            "an empty filter matches every record and is refused here; clear() empties the index"
        )
    return slots_in(view, selection)


# ---------------------------------------------------------------------------------------------- answers


def build_hits(view: View, slots: Sequence[int], distances: Sequence[float], parts: frozenset[str]) -> Hits:
    """Return the hits of one query; slots of -1 at the end are padding."""
    if slots and slots[-1] < 0:
        slots = slots[: slots.index(-1)]
    names = view.names
    hits: Hits = [{"id": names[s], "score": d} for s, d in zip(slots, distances, strict=False)]
    return with_parts(view, hits, slots, parts) if parts else hits


def with_parts(view: View, records: Hits, slots: Sequence[int], parts: frozenset[str]) -> Hits:
    """Add the wanted parts of each slot to its dict, in place; return the dicts."""
    readers: dict[str, Callable[[int], Any]] = {
        "metadata": view.records.metadata,
        "text": view.records.text,
        "payload": view.records.payload,
        "vector": view.vector,
    }
    for part in _PARTS:
        if part in parts:
            read = readers[part]
            for record, slot in zip(records, slots, strict=True):
                record[part] = read(slot)
    return records


def without_slot(slots: list[int], distances: list[float], slot: int, most: int) -> None:
    """Drop one slot from the result of a query and leave at most `most` others; in place."""
    if slot in slots:
        at = slots.index(slot)
        del slots[at], distances[at]
    del slots[most:], distances[most:]


def shortened(names: Sequence[str]) -> str:
    """Return a list of ids for a message, cut after the fifth."""
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5:,} more"


def _scores(view: View, result: SearchResult | None) -> str:
    if view.has_exact_scores:
        # Of a quantized index that was asked not to rerank.
        return "by code" if result is not None and result.is_by_code else "exact"
    return "by code" if view.settled_depth == 0 or (result is not None and result.is_by_code) else "decoded"


def explain_search(
    result: SearchResult | None,
    view: View,
    *,
    selection: Selection | None,
    top_k: int,
    filter: Any,
    mask_s: float,
    search_s: float,
) -> SearchExplanation:
    """Return the explanation of a search; a result of None means that there was nothing to search."""
    path = "empty" if result is None else result.path
    return SearchExplanation(
        path=path,
        approximate=path not in ("empty", "exact") or not view.has_exact_scores,
        scores=_scores(view, result),
        reranked=0 if result is None else result.reranked,
        matches=count_in(view, selection),
        total=view.live_count,
        top_k=top_k,
        ef_search=result.ef if result is not None and result.ef else None,
        filter=None if filter is None else repr(filter),
        conditions=[] if filter is None else view.fields.report(parse_filter(filter), view.n),
        distances=0 if result is None else result.computed,
        hops=0 if result is None else result.hops,
        codes=view.codes,
        kept=view.kept,
        mask_s=mask_s,
        search_s=search_s,
        elapsed_s=mask_s + search_s,
    )
