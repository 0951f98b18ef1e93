"""Which records a call is about: filters and ids, brought to what the engine is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from llama_index.vector_stores.zeusdb_vs.filters import RESERVED, Deep, Translation
from llama_index.vector_stores.zeusdb_vs.protocol import VectorIndex

from zeusdb_vs import ArgumentTypeError, Filter, FilterError


def listed_ids(ids: Iterable[str] | None) -> list[str] | None:
    """Return ids as a list; one str is refused, whose letters would be taken for ids."""
    if ids is None:
        return None
    if isinstance(ids, str):
        raise ArgumentTypeError(f"ids are a list of str, got the str {ids!r}")
    return list(ids)


def selection(
    index: VectorIndex, tree: Filter | Deep | None, ids: list[str] | None
) -> tuple[Filter | None, list[str] | None]:
    """Return a filter of the engine and ids that together select what a tree and ids do, None for no restriction."""
    if not isinstance(tree, Deep):
        return tree, ids
    ordered = [record_id for record_id, _ in index.list(len(index))] if ids is None else ids
    matching = tree.ids(lambda where: [record_id for record_id, _ in index.list(len(index), filter=where)])
    return None, [record_id for record_id in ordered if record_id in matching]


def matching_ids(index: VectorIndex, ids: Sequence[str], tree: Filter) -> list[str]:
    """Return those of the ids that match, in their order and each once."""
    wanted = list(dict.fromkeys(ids))
    anywhere = np.ones(index.dim, np.float32)
    found = index.search_arrays(anywhere, len(wanted), filter=tree, ids=wanted, exact=True)[0]
    matching = set(found[0].tolist())
    return [node_id for node_id in wanted if node_id in matching]


def check_order(index: VectorIndex, translation: Translation) -> None:
    """Raise where a comparison by order meets values of another type."""
    types = {summary.name: summary.types for summary in index.fields() if summary.source == "metadata"}
    for key, operand in translation.ordered:
        comparable = (
            {"null", "str", "datetime"} if isinstance(operand, str) else {"null", "int", "float", "bool"}
        )
        strangers = sorted(set(types.get(key, ())) - comparable)
        if strangers and key not in RESERVED:
            raise FilterError(
                f"filter on {key!r}: {operand!r} does not compare with the stored values of type "
                f"{', '.join(strangers)}; strict_filters=False takes these not to match"
            )
