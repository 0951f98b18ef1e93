"""What filters cost by themselves on one set of records, in a process of its own:
``python -m benchmarks.fieldmasks ORDER.json``.

No vector is searched, no field declared. ``"masks"`` builds an index of two dimensions, whose graph costs as little as
a graph can, by `add` as everybody would. A mask is timed from the filter as a dict to the finished mask over all
slots: parsing it and asking the field indexes that the index publishes. What these keep of filters they were
asked before is taken away before each call, and each call brings constants of its own, since what is prepared for a
comparison is kept too. ``"memory"`` fills field indexes alone, by the call that `add` makes, since nothing else tells
their resident bytes from those of vectors, ids and documents.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import metadata
from benchmarks.measure import Stopwatch, percentiles, resident, time_each_us
from benchmarks.metadata import Filter, Make
from benchmarks.settings import SEED

Result = dict[str, Any]
_DIM = 2
_TEXT_FIELDS = ("title", "doc_id")


# ------------------------------------------------------------------------------------------------- masks


def masks(rows: int, calls: int) -> Result:
    """Time filters of every kind over so many records, each kind by so many calls.

    Returns
    -------
    dict
        ``conditions``, ``many``, ``few`` and ``repeated``: by kind the matches of the first filter, and microseconds
        of masks and of ``count(filter)``. ``texts``: by field the same, how many distinct values it has, and how many
        the segments hold, each on its own.
    """
    with Stopwatch() as adding:
        index = _index(rows)
    kinds = {
        "conditions": metadata.conditions(rows),
        "many": metadata.many(rows),
        "few": metadata.few(rows),
    }
    asked = {
        group: {name: _time(index, make, calls) for name, make in makes.items()}
        for group, makes in kinds.items()
    }
    return {
        "rows": rows,
        "add_wall_s": adding.wall_s,
        **asked,
        "repeated": {"five conditions, repeated": _time_repeated(index, calls)},
        "texts": {field: _texts(index, field, calls) for field in _TEXT_FIELDS},
    }


def _index(rows: int) -> Any:
    from zeusdb_vs import VectorDatabase

    index = VectorDatabase().create("hnsw", dim=_DIM, space="l2", m=4, ef_construction=10, expected_size=rows)
    rng = np.random.default_rng(SEED + 21)
    for records in metadata.chunks(rows, gaps=True):
        vectors = rng.standard_normal((len(records), _DIM), dtype=np.float32)
        ids = [record["doc_id"] for record in records]
        outcome = index.add({"ids": ids, "vectors": vectors, "metadatas": records})
        if not outcome.is_success():
            raise RuntimeError(f"{outcome.summary()}: {outcome.errors[:1]}")
    return index


def _time(index: Any, make: Make, calls: int) -> Result:
    """Filters of a kind in turn: one as a mask, the next by `count`, which keeps what it finds where masks do."""
    filters = metadata.distinct(make, 2 * calls + 2)
    mask_of = _masker(index)
    matches = int(mask_of(filters[0]).sum())
    if matches != index.count(filters[0]):
        raise RuntimeError(f"{filters[0]}: {matches} in the mask, {index.count(filters[0])} counted")
    mask_us = []
    for each in filters[2::2]:
        _forget(index)
        mask_us += time_each_us(mask_of, [each])
    return {
        "matches": matches,
        "mask_us": percentiles(mask_us),
        "count_us": percentiles(time_each_us(index.count, filters[1::2])),
    }


def _time_repeated(index: Any, calls: int) -> Result:
    """One filter over and over: what it costs when its mask is there."""
    mask_of = _masker(index)
    again = [metadata.REPEATED] * (1 + calls)
    matches = int(mask_of(metadata.REPEATED).sum())
    index.count(metadata.REPEATED)
    return {
        "matches": matches,
        "mask_us": percentiles(time_each_us(mask_of, again)),
        "count_us": percentiles(time_each_us(index.count, again)),
    }


def _texts(index: Any, field: str, calls: int) -> Result:
    distinct = len(index.distinct(field))
    held = _fields(index).report(_parse({field: {"exists": True}}), len(index))[0]["terms"]
    kinds = {name: _time(index, make, calls) for name, make in metadata.texts(field).items()}
    return {"distinct": distinct, "held": held, "kinds": kinds}


def _fields(index: Any) -> Any:
    return index._collection.view.fields


def _forget(index: Any) -> None:
    _fields(index)._cache = {}


def _parse(filter: Filter) -> Any:
    from zeusdb_vs.filters import parse_filter

    return parse_filter(filter)


def _masker(index: Any) -> Callable[[Filter], Any]:
    from zeusdb_vs.filters import parse_filter

    view = index._collection.view
    fields, n = view.fields, view.n
    return lambda each: fields.evaluate(parse_filter(each), n)


# ------------------------------------------------------------------------------------------------ memory


def memory(rows: int) -> Result:
    """Fill field indexes with so many records; by how much has the process grown, against the records as JSON?

    Every kind of filter is asked before the second reading, so that what indexes make when first asked counts. Masks
    that are kept for filters asked again (at most 32 MB, whatever there is) do not.
    """
    _fill(10_000)  # whatever a first use imports and lays out
    before = resident()
    started = time.perf_counter()
    fields, json_bytes = _fill(rows)
    seconds = time.perf_counter() - started
    after = resident()
    if before is None or after is None:
        return {
            "rows": rows,
            "json_bytes": json_bytes,
            "said_bytes": fields.memory_bytes(),
            "growth_bytes": None,
        }
    growth = after - before
    return {
        "rows": rows,
        "json_bytes": json_bytes,
        "said_bytes": fields.memory_bytes(),
        "growth_bytes": growth.anonymous,
        "fill_wall_s": seconds,
    }


def _fill(rows: int) -> tuple[Any, int]:
    from zeusdb_vs.fields import FieldIndexes

    fields = FieldIndexes()
    json_bytes = 0
    for records in metadata.chunks(rows, gaps=True):
        json_bytes += metadata.json_bytes(records)
        fields.append(len(fields), [(record, None) for record in records], len(records))
    makes = [*metadata.conditions(rows).values(), *metadata.few(rows).values()]
    for field in _TEXT_FIELDS:
        makes += metadata.texts(field).values()
    view = fields.view()
    for make in makes:
        view.evaluate(_parse(make(1)), rows)
        view._cache = {}
    return fields, json_bytes


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    rows = order["rows"]
    result = memory(rows) if order["what"] == "memory" else masks(rows, order["calls"])
    Path(order["out"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
