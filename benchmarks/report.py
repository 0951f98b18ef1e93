"""Tables for the terminal, made from the JSON and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.engines import ENGINES, OURS, title_of
from benchmarks.goals import (
    FIELDS_OF_JSON,
    FILTER_WORKLOADS,
    TEXT_NS,
    Goal,
    a_value_ns,
    evaluate,
    mask_limits_us,
    ratio,
    series_of,
)
from benchmarks.measure import median
from benchmarks.quantized_report import quantization
from benchmarks.tables import table, times, title_and_queries

Results = dict[str, Any]
_TARGETS = ("0.90", "0.95", "0.99")


def render(results: Results) -> str:
    """The whole report as text."""
    lines = list(_head(results))
    for section, writer in _WRITERS.items():
        for dataset, result in results["sections"].get(section, {}).items():
            if "error" in result:
                lines += ["", f"== {section}: {dataset}: FAILED: {result['error']}"]
                continue
            lines += ["", *writer(result), *_missing(result)]
    lines += ["", *_goals(evaluate(results))]
    return "\n".join(lines) + "\n"


def _head(results: Results) -> Iterator[str]:
    machine = results["machine"]
    yield f"zeusdb-vs benchmark, {results['scale']} run, {machine['date']}"
    yield f"{machine['cpu']}, {machine['cores']} cores, flags {' '.join(machine['flags'])}"
    yield f"{machine['memory_gib']} GiB, caches {machine['caches']}"
    yield f"{machine['system']}, Python {machine['python']}"
    yield ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield "QPS: queries per CPU second, one call per query on one core, k 10, M 16, ef_construction 200."
    yield "In brackets: our search() divided by that row; for build, memory and adds less is better."
    for name, reason in results.get("skipped", {}).items():
        yield f"skipped {ENGINES[name].title}: {reason}"
    if results["scale"] == "quick":
        yield "QUICK RUN: sizes and repeats are too small for any figure below to be evidence."


def _missing(result: Any) -> Iterator[str]:
    for name, reason in result.get("failures", {}).items():
        yield f"   FAILED {title_of(name)}: {reason}"


def _search(result: Any) -> Iterator[str]:
    engines = result["engines"]
    mine = series_of(result, OURS)
    my_build = engines.get(OURS, {}).get("build", {}).get("cpu_s")
    rows: list[list[str]] = []
    for name, figures in engines.items():
        for mode, series in figures.get("series", {}).items():
            is_first = mode == "search"
            row = [ENGINES[name].title + ("" if is_first else f" {mode}")]
            for target in _TARGETS:
                qps = series["qps_at"][target]
                own = (
                    None
                    if mine is None or (name == OURS and is_first)
                    else ratio(mine["qps_at"][target], qps)
                )
                row.append(("never" if qps is None else f"{qps:,.0f}") + times(own))
            row.append(f"{series['highest_recall']:.4f}")
            row.append(f"{median(point['qps'] / point['qps_wall'] for point in series['points']):.2f}")
            if is_first:
                build = figures["build"]["cpu_s"]
                own = None if my_build is None or name == OURS else my_build / build
                save = figures.get("save")
                row += [f"{build:.2f}{times(own)}"]
                row += [f"{save['bytes'] / 1e6:.1f}", f"{save['wall_s']:.2f}"] if save else ["-", "-"]
                row += [f"{figures['warm_up_cpu_s']:.1f}"]
            else:
                row += ["", "", "", ""]
            rows.append(row)
    head = [
        "",
        "QPS @ .90",
        "@ .95",
        "@ .99",
        "best recall",
        "wall/CPU",
        "build CPU s",
        "file MB",
        "save s",
        "warm-up CPU s",
    ]
    yield from table(f"search: {title_and_queries(result['dataset'])} (core {result['core']})", head, rows)
    if result["dataset"]["is_substitute"]:
        yield f"   {result['dataset']['note']}"
    yield "   recall @ QPS by ef:"
    for name, figures in engines.items():
        for mode, series in figures.get("series", {}).items():
            label = ENGINES[name].title + ("" if mode == "search" else f" {mode}")
            points = (
                f"{_short(p['setting'])}: {p['recall']:.3f} @ {p['qps']:,.0f}" for p in series["points"]
            )
            yield f"   {label}: " + " | ".join(points)


def _short(setting: str) -> str:
    return setting.removeprefix("ef ")


def _batch(result: Any) -> Iterator[str]:
    mine = result["engines"].get(OURS)
    rows: list[list[str]] = []
    for name, figures in result["engines"].items():
        row = [ENGINES[name].title]
        for target in _TARGETS:
            qps = figures["qps_at"][target]
            own = None if mine is None or name == OURS else ratio(mine["qps_at"][target], qps)
            row.append(("never" if qps is None else f"{qps:,.0f}") + times(own))
        rows.append(row)
    title = f"batches of {result['batch']:,} queries on {result['threads']} threads, queries a second (wall)"
    yield from table(
        f"{title}: {title_and_queries(result['dataset'])}", ["", "QPS @ .90", "@ .95", "@ .99"], rows
    )


def _start(result: Any) -> Iterator[str]:
    rows = [
        [
            ENGINES[name].title,
            f"{figures['process_cpu_s']:.2f}",
            f"{figures['process_wall_s']:.2f}",
            f"{figures['import_s'] * 1e3:,.0f}",
            f"{figures['load_s'] * 1e3:,.0f}",
            f"{figures['first_query_s'] * 1e3:,.1f}",
            f"{figures['resident_growth_bytes'] / 1e6:,.0f}",
        ]
        for name, figures in result["engines"].items()
    ]
    head = ["", "process CPU s", "wall s", "import ms", "load ms", "first query ms", "resident growth MB"]
    yield from table(
        f"start to first result, fresh process: {title_and_queries(result['dataset'])}", head, rows
    )


def _memory(result: Any) -> Iterator[str]:
    mine = result["engines"].get(OURS, {}).get("growth_bytes")
    rows = []
    for name, figures in result["engines"].items():
        own = None if mine is None or name == OURS else mine / max(1, figures["growth_bytes"])
        rows.append(
            [
                ENGINES[name].title,
                f"{figures['growth_bytes'] / 1e6:,.1f}{times(own)}",
                f"{figures['of_float32']:.2f}x",
            ]
        )
    yield from table(
        f"resident growth of a build: {title_and_queries(result['dataset'])}",
        ["", "MB", "of the float32 size"],
        rows,
    )


def _filter(result: Any) -> Iterator[str]:
    by_selectivity = result.get("selectivities", {})
    head = ["", *(f"{float(selectivity):.2%}" for selectivity in by_selectivity)]

    def cell(figures: Any, mine: Any) -> str:
        if not figures:
            return "-"
        own = None if mine is None else mine["qps"] / figures["qps"]
        return f"{figures['recall']:.3f} / {figures['qps']:,.0f}{times(own)}"

    for workload, words in FILTER_WORKLOADS.items():
        figures = [row[workload] for row in by_selectivity.values()]
        rows: list[list[str]] = []
        for name in (name for name in ENGINES if any(row.get(name) for row in figures)):
            cells = [cell(row.get(name), None if name == OURS else row.get(OURS)) for row in figures]
            rows.append([ENGINES[name].title, *cells])
            if name == OURS:
                fastest = [(row.get(name) or {}).get("qps_at_95") for row in figures]
                rows.append(
                    ["   at .95 or more", *("-" if qps is None else f"{qps:,.0f}" for qps in fastest)]
                )
        if workload == "random" and any(row.get("fresh") for row in by_selectivity.values()):
            fresh = [row.get("fresh") for row in by_selectivity.values()]
            rows.append(["   a new filter every call", *(f"{r['qps']:,.0f}" if r else "-" for r in fresh)])
        yield from table(
            f"filtered, {words}, recall / QPS: {title_and_queries(result['dataset'])}", head, rows
        )
    yield "   ours at its default; peers: the fastest setting that holds .95, else the one with the most recall"
    unfiltered = result.get("unfiltered")
    if unfiltered:
        points = " | ".join(
            f"{_short(p['setting'])}: {p['recall']:.3f} @ {p['qps']:,.0f}" for p in unfiltered["points"]
        )
        yield f"   our own search without a filter on the same index: {points}"
    for selectivity, row in by_selectivity.items():
        if row.get("path"):
            yield f"   {float(selectivity):.2%} ({row['matches']:,} matches): {row['path']}"


def _masks(result: Any) -> Iterator[str]:
    ours = result["engines"].get(OURS)
    if not ours:
        yield "== filters by themselves: no figures"
    else:
        rows = [
            [kind, f"{figures['matches']:,}", f"{figures['us']['p50']:,.1f}", f"{figures['us']['p99']:,.1f}"]
            for kind, figures in ours["filters"].items()
        ]
        title = f"count(filter), ten fields, none declared: {title_and_queries(result['dataset'])}"
        yield from table(f"{title}, us", ["", "matches", "median", "p99"], rows)
        plain, full, first = ours["add_cpu_s"], ours["add_with_metadata_cpu_s"], ours["first_filter_cpu_s"]
        yield f"   bulk add {plain:.2f} CPU s, with ten fields {full:.2f}, of which first filter {first:.2f}"
        parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in ours["memory_bytes"].items())
        yield f"   memory MB: {parts}; metadata as JSON {ours['metadata_json_bytes'] / 1e6:.1f}"
    for size in result.get("sizes", {}).values():
        yield from _masks_over(size)


def _masks_over(size: Any) -> Iterator[str]:
    masks, memory = size["masks"], size["memory"]

    def row(kind: str, figures: Any, *rest: str) -> list[str]:
        mask, count = figures["mask_us"], figures["count_us"]
        times_us = (mask["p50"], mask["p99"], count["p50"])
        return [kind, f"{figures['matches']:,}", *(f"{each:,.1f}" for each in times_us), *rest]

    head = ["", "matches", "mask us", "p99", "count() us"]
    rows = [
        row(kind, figures, "none" if limit_us is None else f"<= {limit_us:,.0f} us")
        for group, limit_us in mask_limits_us(masks["rows"]).items()
        for kind, figures in masks[group].items()
    ]
    yield ""
    yield from table(
        f"masks over {masks['rows']:,} records, nothing searched", [*head, "goal for a mask"], rows
    )
    rows = [
        row(
            f"{field} {kind}",
            figures,
            f"{a_value_ns(figures, asked['distinct']):,.1f}",
            f"<= {TEXT_NS:.0f} ns",
            f"{a_value_ns(figures, asked['held']):,.1f}",
        )
        for field, asked in masks["texts"].items()
        for kind, figures in asked["kinds"].items()
    ]
    yield ""
    head += ["ns a distinct value", "goal", "a value of a segment"]
    yield from table(f"masks of text over {masks['rows']:,} records", head, rows)
    for field, asked in masks["texts"].items():
        yield f"   {field}: {asked['distinct']:,} distinct values, {asked['held']:,} in the segments together"
    growth = memory["growth_bytes"]
    resident = (
        "not told here" if growth is None else f"{growth / 1e6:.1f} ({growth / memory['json_bytes']:.1%})"
    )
    yield (
        f"   field indexes of {memory['rows']:,} records, MB ({memory['json_bytes'] / 1e6:.1f} as JSON):"
        f" resident growth {resident}, by memory() {memory['said_bytes'] / 1e6:.1f};"
        f" goal <= {FIELDS_OF_JSON:.0%}; {masks['rows']:,} records added in {masks['add_wall_s']:.1f} s"
    )


def _adds(result: Any) -> Iterator[str]:
    mine = result["engines"].get(OURS, {}).get("us", {}).get("p50")
    rows = []
    for name, figures in result["engines"].items():
        own = None if mine is None or name == OURS else mine / figures["us"]["p50"]
        us = figures["us"]
        rows.append(
            [ENGINES[name].title, f"{us['p50']:,.0f}{times(own)}", f"{us['p99']:,.0f}", f"{us['max']:,.0f}"]
        )
    title = (
        f"one-by-one adds to {result['rows_before']:,} x {result['dataset']['dim']}, {result['adds']} adds"
    )
    yield from table(f"{title}, us", ["", "median", "p99", "max"], rows)


def _overhead(result: Any) -> Iterator[str]:
    rows = []
    for key, figures in result["engines"].items():
        name, _, mode = key.partition(" ")
        us = figures["us"]
        rows.append(
            [
                f"{ENGINES[name].title} {mode}".strip(),
                f"{us['p50']:,.1f}",
                f"{us['p90']:,.1f}",
                f"{us['p99']:,.1f}",
            ]
        )
    title = f"one call on {result['rows']:,} x {result['dataset']['dim']} at each library's default, us"
    yield from table(title, ["", "median", "p90", "p99"], rows)


def _writer(result: Any) -> Iterator[str]:
    ours = result["engines"].get(OURS)
    if not ours:
        yield "== searches beside a bulk writer: no figures"
        return
    rows = [
        [
            phase.replace("_", " "),
            f"{ours[phase]['searches']:,}",
            *(f"{ours[phase]['us'][p]:,.0f}" for p in ("p50", "p99", "p99.9", "max")),
            f"{ours[phase]['recall']:.4f}",
            f"{min(ours[phase]['recall_by_tenth']):.4f}",
        ]
        for phase in ("quiet_before", "beside_writer", "quiet_after")
    ]
    title = (
        f"one reader beside a bulk writer, {ours['rows_before']:,} + {ours['rows_added']:,} rows"
        f" in {ours['writer_wall_s']:.1f} s"
    )
    head = ["", "searches", "p50 us", "p99 us", "p99.9 us", "max us", "recall", "worst tenth"]
    yield from table(title, head, rows)


def _goals(goals: list[Goal]) -> list[str]:
    rows = [
        [
            {True: "met", False: "NOT MET", None: "no figure"}[goal.is_met],
            goal.text,
            f"{goal.comparison} {_amount(goal.wanted, goal.unit)}",
            "-" if goal.measured is None else _amount(goal.measured, goal.unit),
            goal.note,
        ]
        for goal in goals
    ]
    if not rows:
        return ["== goals: nothing to judge by"]
    met = sum(goal.is_met is True for goal in goals)
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, (*widths, 0), strict=True)).rstrip() for row in rows
    ]
    return [f"== goals: {met} of {len(goals)} met", *lines]


def _amount(value: float, unit: str) -> str:
    if math.isinf(value):
        return "inf"
    if unit == "x":
        return f"{value:.2f}x"
    return f"{value:.4f}".rstrip("0").rstrip(".") if unit == "recall" else f"{value:,.1f} {unit}"


_WRITERS: dict[str, Callable[[Any], Iterator[str]]] = {
    "search": _search,
    "batch": _batch,
    "start": _start,
    "memory": _memory,
    "filter": _filter,
    "quantization": quantization,
    "masks": _masks,
    "adds": _adds,
    "overhead": _overhead,
    "writer": _writer,
}
