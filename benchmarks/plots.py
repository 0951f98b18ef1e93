"""The two plots: recall against speed, and filtered speed and recall against selectivity."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from benchmarks.engines import ENGINES, OURS
from benchmarks.goals import FILTER_WORKLOADS
from benchmarks.measure import frontier

Results = dict[str, Any]
# Okabe and Ito's palette: told apart by colour-blind readers too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw what `results` has figures for; returns the files written. Nothing without matplotlib."""
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError:
        return []
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    written: list[Path] = []
    for dataset, result in results["sections"].get("search", {}).items():
        if result.get("engines"):
            written.append(
                _recall_against_speed(pyplot, result, folder / f"recall-qps-{dataset}.png", results)
            )
    for dataset, result in results["sections"].get("filter", {}).items():
        if result.get("selectivities"):
            written.append(_against_selectivity(pyplot, result, folder / f"filter-{dataset}.png", results))
    return written


def _style(name: str) -> dict[str, Any]:
    i = list(ENGINES).index(name)
    return {
        "color": _COLOURS[i],
        "marker": _MARKERS[i],
        "linewidth": 2.2 if name == OURS else 1.4,
        "markersize": 5,
    }


def _thousands(value: float, _position: int) -> str:
    return f"{value / 1000:g}k" if f"{value:.0f}"[0] in "125" else ""


def _caption(results: Results) -> str:
    machine = results["machine"]
    quick = "QUICK RUN, not evidence. " if results["scale"] == "quick" else ""
    return f"{quick}{machine['cpu']}, one core, one call per query, k = 10; {machine['date'][:10]}"


def _recall_against_speed(pyplot: Any, result: Any, path: Path, results: Results) -> Path:
    figure, axes = pyplot.subplots(figsize=(8, 5.2), layout="constrained")
    for name, figures in result["engines"].items():
        for mode, series in figures.get("series", {}).items():
            curve = frontier((point["recall"], point["qps"]) for point in series["points"])
            label = ENGINES[name].title + (" search()" if name == OURS and mode == "search" else "")
            label += "" if mode == "search" else f" {mode}"
            line = "-" if mode == "search" else "--"
            axes.plot([r for r, _ in curve], [q for _, q in curve], line, label=label, **_style(name))
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(pyplot.FuncFormatter(_thousands))
    axes.yaxis.set_minor_formatter(pyplot.FuncFormatter(_thousands))
    axes.set_xlim(0.8, 1.003)
    axes.set_xlabel("recall@10")
    axes.set_ylabel("queries per CPU second")
    axes.set_title(result["dataset"]["title"])
    axes.grid(True, which="both", alpha=0.25)
    axes.legend()
    return _finish(pyplot, figure, path, results)


def _against_selectivity(pyplot: Any, result: Any, path: Path, results: Results) -> Path:
    figure, table = pyplot.subplots(
        2, len(FILTER_WORKLOADS), figsize=(13, 7.5), layout="constrained", sharex=True, sharey="row"
    )
    rows = result["selectivities"]
    ticks = [float(share) * 100 for share in rows]
    for (workload, words), speed, recall in zip(FILTER_WORKLOADS.items(), *table, strict=True):
        for name, engine in ENGINES.items():
            points = [
                (share, row[workload].get(name)) for share, row in zip(ticks, rows.values(), strict=True)
            ]
            points = [(share, figures) for share, figures in points if figures]
            if points:
                shares = [share for share, _ in points]
                label = {"label": engine.title, **_style(name)}
                speed.plot(shares, [figures["qps"] for _, figures in points], **label)
                recall.plot(shares, [figures["recall"] for _, figures in points], **label)
        speed.set_title(words)
        speed.set_yscale("log")
        speed.yaxis.set_major_formatter(pyplot.FuncFormatter(_thousands))
        recall.set_xlabel("matching records, %")
        for axes in (speed, recall):
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{share:g}" for share in ticks])
            axes.minorticks_off()
            axes.grid(True, which="both", alpha=0.25)
    table[0][0].invert_xaxis()  # shared by all
    table[0][0].set_ylabel("queries per CPU second")
    table[1][0].set_ylabel("recall@10")
    table[1][0].set_ylim(min(0.6, *table[1][0].get_ylim()), 1.01)
    table[0][0].legend(fontsize="small")
    figure.suptitle(f"filtered search: {result['dataset']['title']}")
    return _finish(pyplot, figure, path, results)


def _finish(pyplot: Any, figure: Any, path: Path, results: Results) -> Path:
    figure.supxlabel(_caption(results), fontsize="x-small", color="0.4")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
