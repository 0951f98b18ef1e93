"""The goals, and whether the figures of a run meet them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.engines import ENGINES, OURS

Results = dict[str, Any]

_COMPARE: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le, ">": operator.gt}
FILTER_PEERS = ("hnswlib", "faiss", "zeusdb-original")
FILTER_WORKLOADS = {"random": "random", "near": "matches near the query", "far": "matches far from it"}


@dataclass(frozen=True)
class Goal:
    """One goal and what was measured; `measured` None means that there is no figure to judge by."""

    group: str
    text: str
    comparison: str
    wanted: float
    measured: float | None
    unit: str
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        return None if self.measured is None else _COMPARE[self.comparison](self.measured, self.wanted)

    def to_dict(self) -> dict[str, Any]:
        finite = self.measured is None or math.isfinite(self.measured)
        return {**asdict(self), "measured": self.measured if finite else "inf", "is_met": self.is_met}


def evaluate(results: Results) -> list[Goal]:
    """Every goal that the sections in `results` can speak to."""
    sections = results["sections"]
    found: list[Goal] = []
    for name, judge in _JUDGES.items():
        for dataset, result in sections.get(name, {}).items():
            if "error" not in result:
                found += judge(dataset, result)
    return found


def ratio(ours: float | None, peer: float | None) -> float | None:
    """ours / peer; infinite when only we get there, 0 when only the peer does, None when neither."""
    if ours is None:
        return None if peer is None else 0.0
    return math.inf if peer is None else ours / peer


def series_of(result: Any, engine: str, mode: str = "search") -> Any:
    """The series of `engine` in a search result, or None."""
    return result.get("engines", {}).get(engine, {}).get("series", {}).get(mode)


def _search(dataset: str, result: Any) -> Iterator[Goal]:
    ours = series_of(result, OURS)
    if ours is None:
        return
    wanted: dict[str, dict[str, float]] = {
        "text": {"hnswlib .90": 2.0, "hnswlib .95": 2.5, "hnswlib .99": 2.5}
        | {f"faiss {target}": 1.5 for target in (".90", ".95", ".99")},
        "mixture": {"hnswlib .99": 1.3},
        "wide": {f"hnswlib {target}": 1.3 for target in (".90", ".95", ".99")},
    }
    for key, least in wanted[dataset].items():
        peer, target = key.split()
        peers = series_of(result, peer)
        if peers is None:
            continue
        mine, theirs = ours["qps_at"][f"0{target}"], peers["qps_at"][f"0{target}"]
        note = f"{_speed(mine)} against {_speed(theirs)}"
        text = f"{dataset}: search() against {ENGINES[peer].title} at recall {target}"
        yield Goal("search", text, ">=", least, ratio(mine, theirs), "x", note)
    if dataset != "text":
        return
    default = next((point for point in ours["points"] if point["setting"] == "default"), None)
    if default is not None:
        yield Goal(
            "search", "text: recall@10 at the default ef_search", ">=", 0.99, default["recall"], "recall"
        )
    arrays = series_of(result, OURS, "search_arrays, one call")
    if arrays is not None:
        for target in ("0.90", "0.95", "0.99"):
            measured = ratio(arrays["qps_at"][target], ours["qps_at"][target])
            yield Goal(
                "search",
                f"text: search_arrays, all queries in one call, against our search() at {target[1:]}",
                ">=",
                1.5,
                measured,
                "x",
            )
    engines = result["engines"]
    if "hnswlib" in engines and "build" in engines["hnswlib"]:
        mine, theirs = engines[OURS]["build"]["cpu_s"], engines["hnswlib"]["build"]["cpu_s"]
        note = f"{mine:.2f} s against {theirs:.2f} s"
        yield Goal("build", "text: build CPU against hnswlib", "<=", 0.45, mine / theirs, "x", note)


def _filter(dataset: str, result: Any) -> Iterator[Goal]:
    unfiltered = (result.get("unfiltered") or {}).get("points", [])
    for selectivity, row in result.get("selectivities", {}).items():
        ours = row["random"].get(OURS)
        if not ours:
            continue
        share = f"{dataset}: filter {float(selectivity):.2%}"
        yield Goal("filter", f"{share}: recall, random", ">=", 0.99, ours["recall"], "recall")
        for kind, words in FILTER_WORKLOADS.items():
            figures = row[kind].get(OURS)
            if figures:
                if kind != "random":
                    yield Goal("filter", f"{share}: recall, {words}", ">=", 0.98, figures["recall"], "recall")
                yield Goal("filter", f"{share}: answers too short, {words}", "<=", 0, figures["short"], "")
        hnswlib = row["random"].get("hnswlib")
        if hnswlib:
            measured = ours["qps"] / hnswlib["qps"]
            note = f"hnswlib's recall there {hnswlib['recall']:.3f}"
            yield Goal("filter", f"{share}: QPS against hnswlib", ">", 1.0, measured, "x", note)
        peers = {name: row["random"][name] for name in FILTER_PEERS if row["random"].get(name)}
        if peers:
            holding = {name: peer["qps_at_95"] for name, peer in peers.items() if peer["holds_95"]}
            best = max(holding, key=lambda name: holding[name]) if holding else None
            least = 5.0 if float(selectivity) in (0.1, 0.05, 0.01) else 2.0
            note = (
                "no peer holds .95"
                if best is None
                else f"best: {ENGINES[best].title}, {holding[best]:,.0f}/s"
            )
            for words, mine in (("at our default", ours["qps"]), ("ours likewise", ours["qps_at_95"])):
                measured = math.inf if best is None else (mine or 0.0) / holding[best]
                text = f"{share}: QPS against the fastest peer that holds .95, {words}"
                yield Goal("filter", text, ">=", least, measured, "x", note)
        own = _own_speed(unfiltered, ours["recall"])
        if own is not None:
            note = f"{ours['qps']:,.0f}/s against {own:,.0f}/s"
            yield Goal(
                "filter", f"{share}: QPS against our own unfiltered", ">=", 0.5, ours["qps"] / own, "x", note
            )


def _own_speed(points: list[Any], recall: float) -> float | None:
    """Our best unfiltered speed at this recall, or at the highest measured where none has as much."""
    if not points:
        return None
    enough = min(recall, max(point["recall"] for point in points))
    return max(float(point["qps"]) for point in points if point["recall"] >= enough)


def _masks(dataset: str, result: Any) -> Iterator[Goal]:
    ours = result["engines"].get(OURS)
    if not ours:
        return
    if dataset == "text":
        slowdown = ours["add_with_metadata_cpu_s"] / ours["add_cpu_s"]
        yield Goal("metadata", "text: bulk add with 10 fields against none", "<=", 1.5, slowdown, "x")
    if "fields" in ours["memory_bytes"]:
        share = ours["memory_bytes"]["fields"] / ours["metadata_json_bytes"]
        yield Goal("metadata", f"{dataset}: field indexes against the JSON", "<=", 0.6, share, "x")
    if dataset != "mixture":
        return
    rows = f"{result['dataset']['rows']:,} records"
    limits = {"equality, one match": 100.0, "repeated": 20.0}
    for kind, figures in ours["filters"].items():
        if kind == "text contains":
            measured = figures["us"]["p50"] * 1e3 / ours["titles"]
            yield Goal("metadata", f"mask over {rows}: {kind}, a distinct value", "<=", 100.0, measured, "ns")
        else:
            limit = limits.get(kind, 1_000.0)
            yield Goal("metadata", f"mask over {rows}: {kind}", "<=", limit, figures["us"]["p50"], "us")


def _overhead(_dataset: str, result: Any) -> Iterator[Goal]:
    engines = result["engines"]
    key = f"{OURS} search_ids" if f"{OURS} search_ids" in engines else OURS
    if key in engines:
        text = "1,000 x 384: a search(), ids and scores only, median"
        yield Goal("calls", text, "<=", 40.0, engines[key]["us"]["p50"], "us")


def _adds(_dataset: str, result: Any) -> Iterator[Goal]:
    if OURS in result["engines"]:
        text = f"adding one vector to {result['rows_before']:,} x 384, median"
        yield Goal("calls", text, "<=", 300.0, result["engines"][OURS]["us"]["p50"], "us")


def _memory(dataset: str, result: Any) -> Iterator[Goal]:
    ours = result["engines"].get(OURS)
    if ours and dataset == "text":
        note = f"{ours['growth_bytes'] / 1e6:,.1f} MB"
        yield Goal(
            "memory", "text: resident growth against float32", "<=", 1.5, ours["of_float32"], "x", note
        )


def _writer(_dataset: str, result: Any) -> Iterator[Goal]:
    ours = result["engines"].get(OURS)
    if not ours:
        return
    beside = ours["beside_writer"]
    note = f"{beside['searches']:,} searches in {ours['writer_wall_s']:.1f} s"
    yield Goal(
        "writer", "p99 of searches beside a bulk writer", "<=", 10.0, beside["us"]["p99"] / 1e3, "ms", note
    )
    quiet = min(ours["quiet_before"]["recall"], ours["quiet_after"]["recall"])
    lost = max(0.0, quiet - min(beside["recall_by_tenth"]))
    note = f"worst tenth {min(beside['recall_by_tenth']):.3f}, quiet {quiet:.3f}"
    yield Goal("writer", "recall lost beside the writer", "<=", 0.02, lost, "recall", note)


def _speed(qps: float | None) -> str:
    return "never" if qps is None else f"{qps:,.0f}/s"


_JUDGES: dict[str, Callable[[str, Any], Iterator[Goal]]] = {
    "search": _search,
    "filter": _filter,
    "masks": _masks,
    "overhead": _overhead,
    "adds": _adds,
    "memory": _memory,
    "writer": _writer,
}
