"""The goals, and whether the figures of a run meet them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.engines import ENGINES, OURS, VARIANTS
from benchmarks.engines.quantized import OursInt8, OursPlain, OursPlainInDirectory, OursPQ, OursPQCodes
from benchmarks.measure import qps_at
from benchmarks.settings import QUANTIZED_TARGETS

Results = dict[str, Any]

_COMPARE: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le, ">": operator.gt}
FILTER_PEERS = ("hnswlib", "faiss", "zeusdb-original")
FILTER_WORKLOADS = {"random": "random", "near": "matches near the query", "far": "matches far from it"}


# The most that field indexes may take, of the metadata as JSON; the most that text may cost, a distinct value.
FIELDS_OF_JSON = 0.6
TEXT_NS = 100.0

_TRAINED = OursPQ.name
# Beyond this the curves of codes that are not rescored bend towards their end.
_HIGHEST_LEVEL = 0.985


@dataclass(frozen=True)
class _Wanted:
    """What is wanted of one quantized index of ours; speed and memory are shares of the unquantized one's.

    `recall` is that of the default; where None, the default may lie at most .01 below an exhaustive search by
    the same codes.
    """

    recall: float | None
    speed: float
    memory: float


_QUANTIZED = {
    OursInt8.name: _Wanted(0.985, 0.7, 0.32),
    OursPQ.name: _Wanted(0.98, 0.4, 0.2),
    OursPQCodes.name: _Wanted(None, 0.5, 0.2),
}


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
    yield from _masks_on(dataset, result)
    yield from _fields(result)


def _masks_on(dataset: str, result: Any) -> Iterator[Goal]:
    ours = result["engines"].get(OURS)
    if not ours:
        return
    if dataset == "text":
        slowdown = ours["add_with_metadata_cpu_s"] / ours["add_cpu_s"]
        yield Goal("metadata", "text: bulk add with 10 fields against none", "<=", 1.5, slowdown, "x")
    if "fields" in ours["memory_bytes"]:
        share = ours["memory_bytes"]["fields"] / ours["metadata_json_bytes"]
        text = f"{dataset}: field indexes by memory() against the JSON"
        yield Goal("metadata", text, "<=", FIELDS_OF_JSON, share, "x")


def _fields(result: Any) -> Iterator[Goal]:
    """Masks over many records, and what their indexes take."""
    for size in result.get("sizes", {}).values():
        masks, memory = size["masks"], size["memory"]
        mask = f"mask over {masks['rows']:,}"
        for group, limit_us in mask_limits_us(masks["rows"]).items():
            for kind, figures in masks[group].items():
                if limit_us is None:
                    continue
                measured = figures["mask_us"]["p50"]
                yield Goal("metadata", f"{mask}: {kind}", "<=", limit_us, measured, "us")
        for field, asked in masks["texts"].items():
            for kind, figures in asked["kinds"].items():
                text = f"{mask}: {field} {kind}, a distinct value"
                note = f"{figures['mask_us']['p50'] / 1e3:,.1f} ms"
                measured = a_value_ns(figures, asked["distinct"])
                yield Goal("metadata", text, "<=", TEXT_NS, measured, "ns", note)
        growth = memory["growth_bytes"]
        share = None if growth is None else growth / memory["json_bytes"]
        text = f"resident growth by the fields of {memory['rows']:,} against the JSON"
        yield Goal("metadata", text, "<=", FIELDS_OF_JSON, share, "x")


def mask_limits_us(rows: int) -> dict[str, float | None]:
    """How long a mask over so many records may take, by group of filters; None where no goal is set."""
    return {
        "conditions": 1_000.0 if rows <= 100_000 else 8_000.0,
        "many": None,
        "few": 100.0,
        "repeated": 20.0,
    }


def a_value_ns(figures: Any, distinct: int) -> float:
    """What asking text took for each of its distinct values."""
    return float(figures["mask_us"]["p50"] * 1e3 / distinct)


def quantized_baseline(result: Any) -> Any:
    """The figures of our unquantized index in a quantization result, or None."""
    figures = result["engines"].get(OursPlain.name)
    return figures if figures and "points" in figures else None


def held_bytes(figures: Any) -> int:
    """Vectors, codes and graph, by what the index says of itself."""
    parts = figures["costs"]["parts"]
    return sum(parts.get(name, 0) for name in ("vectors", "codes", "graph"))


def _beside_bytes(costs: Any) -> int:
    """What ids, metadata and fields hold, by what the index says of itself."""
    return sum(costs["parts"].get(name, 0) for name in ("ids", "records", "fields"))


def _quantization(dataset: str, result: Any) -> Iterator[Goal]:
    plain = quantized_baseline(result)
    if plain is None:
        return
    for name, figures in result["engines"].items():
        if VARIANTS[name].family != OURS or VARIANTS[name].config is None or "points" not in figures:
            continue
        title = f"{dataset}: {VARIANTS[name].title}"
        yield from _quantized_build(title, name, figures, result["engines"])
        if name in _QUANTIZED:
            yield from _quantized_search(title, _QUANTIZED[name], figures, plain)
            yield from _quantized_memory(title, _QUANTIZED[name], figures, plain)


def _quantized_build(title: str, name: str, figures: Any, engines: Any) -> Iterator[Goal]:
    """Against the unquantized index that lives where this one does, in memory or in a directory."""
    plain = engines.get(OursPlainInDirectory.name if VARIANTS[name].in_directory else OursPlain.name)
    if plain is None:
        return
    mine, theirs = figures["costs"], plain["costs"]["cpu_s"]
    training = mine["training_s"]
    note = f"{mine['cpu_s']:.2f} s against {theirs:.2f} s"
    if training is not None:
        note += f", {training:.2f} s of it training, {(mine['cpu_s'] - training) / theirs:.2f}x without"
    yield Goal(
        "quantization",
        f"{title}: build CPU against unquantized",
        "<=",
        1.5,
        mine["cpu_s"] / theirs,
        "x",
        note,
    )
    if name == _TRAINED:
        # Its own clock is a wall clock: an upper bound of what one core gave it.
        note = "wall, as it says" if training is not None else "build CPU less that of the unquantized one"
        measured = training if training is not None else mine["cpu_s"] - theirs
        yield Goal("quantization", f"{title}: training", "<=", 5.0, measured, "s", note)


def _quantized_search(title: str, wanted: _Wanted, figures: Any, plain: Any) -> Iterator[Goal]:
    default = figures["default"]
    if wanted.recall is not None:
        text = f"{title}: recall@10 at the default"
        yield Goal("quantization", text, ">=", wanted.recall, default["recall"], "recall")
    elif figures["recall_by_codes"] is not None:
        note = f"{default['recall']:.4f} against {figures['recall_by_codes']:.4f}"
        lost = max(0.0, figures["recall_by_codes"] - default["recall"])
        text = f"{title}: recall lost to an exhaustive search by codes"
        yield Goal("quantization", text, "<=", 0.01, lost, "recall", note)
    levels = _levels(wanted, figures)
    curves = [[(point["recall"], point["qps"]) for point in each["points"]] for each in (figures, plain)]
    for words, level in levels.items():
        mine, own = (qps_at(curve, level) for curve in curves)
        if mine is not None:
            note = f"{_speed(mine)} against {_speed(own)}"
            text = f"{title}: QPS against unquantized at {words}"
            yield Goal("quantization", text, ">=", wanted.speed, ratio(mine, own), "x", note)


def _levels(wanted: _Wanted, figures: Any) -> dict[str, float]:
    """Recalls to compare speeds at: the targets it can be asked for, the least that is wanted, its default's."""
    lowest = 0.9 if figures["highest_recall"] >= 0.9 else 0.0
    levels = {
        f"{target:.2f}"[1:]: target for target in QUANTIZED_TARGETS if lowest <= target < _HIGHEST_LEVEL
    }
    if wanted.recall is not None:
        levels[f"{wanted.recall:.3f}"[1:].rstrip("0")] = wanted.recall
    elif figures["recall_by_codes"] is not None:
        least = figures["recall_by_codes"] - 0.01
        levels[f"{least:.3f}"[1:] + ", .01 below all codes"] = least
    default = figures["default"]["recall"]
    return {**levels, f"{default:.3f}"[1:] + ", its default's": default}


def _quantized_memory(title: str, wanted: _Wanted, figures: Any, plain: Any) -> Iterator[Goal]:
    mine, theirs = figures["costs"], plain["costs"]
    if mine["anonymous_bytes"] is not None and theirs["anonymous_bytes"]:
        own, whole = mine["anonymous_bytes"], theirs["anonymous_bytes"]
        # The ids are the same records' in both, and no quantizer makes them smaller.
        without = (own - _beside_bytes(mine)) / (whole - _beside_bytes(theirs))
        note = f"{own / 1e6:.1f} MB against {whole / 1e6:.1f} MB; without ids {without:.2f}x"
        note += f"; {mine['mapped_bytes'] / 1e6:.1f} MB of mapped pages" if mine["mapped_bytes"] > 1e6 else ""
        measured = own / whole
        text = f"{title}: own memory against unquantized"
        yield Goal("quantization", text, "<=", wanted.memory, measured, "x", note)
    if held_bytes(plain):
        text = f"{title}: vectors + codes + graph by memory()"
        measured = held_bytes(figures) / held_bytes(plain)
        yield Goal("quantization", text, "<=", wanted.memory, measured, "x")


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
    "quantization": _quantization,
    "masks": _masks,
    "overhead": _overhead,
    "adds": _adds,
    "memory": _memory,
    "writer": _writer,
}
