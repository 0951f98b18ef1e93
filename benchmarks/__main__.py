"""``python -m benchmarks``: measure, print the tables, write JSON and plots into ``benchmarks/results/``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import datasets, machine, plots, report
from benchmarks.engines import ENGINES, split_by_availability
from benchmarks.goals import evaluate
from benchmarks.settings import DATASETS, SECTION_DATASETS, SECTIONS, Scale
from benchmarks.worker import scale_named

RESULTS = Path(__file__).resolve().parent / "results"
_MADE_FOR_ONE_ENGINE = ("memory",)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run of about a minute; its figures are no evidence"
    )
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=f"of {', '.join(SECTIONS)}"
    )
    parser.add_argument(
        "--dataset", nargs="+", choices=DATASETS, metavar="NAME", help=f"of {', '.join(DATASETS)}"
    )
    parser.add_argument(
        "--engines", nargs="+", choices=list(ENGINES), metavar="NAME", help=f"of {', '.join(ENGINES)}"
    )
    parser.add_argument("--repeats", type=int, help="interleaved repeats of each point")
    parser.add_argument(
        "--out", type=Path, help="folder for JSON, tables and plots (default: benchmarks/results)"
    )
    parser.add_argument(
        "--report", action="store_true", help="measure nothing: tables and plots of the last run"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    scale = scale_named("quick" if options.quick else "full", options.repeats)
    # A smoke run must not stand where a reader expects evidence.
    folder: Path = options.out or (RESULTS / "quick" if options.quick else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    results = _earlier(folder, scale, keep=options.report or bool(options.only or options.dataset))
    failed = 0
    if not options.report:
        names = options.engines or list(ENGINES)
        names, results["skipped"] = split_by_availability(names)
        for name, reason in results["skipped"].items():
            print(f"skipped {ENGINES[name].title}: {reason}", file=sys.stderr)
        failed = _measure(options, scale, names, results, folder)
    if not results["sections"]:
        print(f"nothing to report in {folder / 'results.json'} for a {scale.name} run", file=sys.stderr)
        return 1
    text = report.render(results)
    (folder / "report.txt").write_text(text, encoding="utf-8")
    drawn = plots.draw(results, folder)
    print(text)
    for path in (folder / "results.json", folder / "report.txt", *drawn):
        print(f"wrote {path}", file=sys.stderr)
    return 1 if failed else 0


def _earlier(folder: Path, scale: Scale, keep: bool) -> dict[str, Any]:
    """The results to add to: a partial run replaces its part of the last ones and keeps its own date."""
    path = folder / "results.json"
    if keep and path.is_file():
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if earlier.get("scale") == scale.name:
            return earlier
    return {"scale": scale.name, "sections": {}}


def _measure(
    options: argparse.Namespace, scale: Scale, names: list[str], results: dict[str, Any], folder: Path
) -> int:
    """Run every section asked for, each in a process of its own; returns how many of them broke."""
    results["machine"] = machine.describe()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="zeusdb-vs-bench-") as scratch:
        for dataset in options.dataset or DATASETS:
            place = Path(scratch) / dataset
            wanted = [
                section
                for section in options.only or SECTIONS
                if dataset in SECTION_DATASETS[section] or (options.dataset and options.only)
            ]
            if not wanted:
                continue
            datasets.store(datasets.make(dataset, scale), place)
            for section in wanted:
                if section == "memory" and dataset not in scale.memory_datasets and not options.only:
                    continue
                present = names if options.engines else [name for name in names if _joins(name, section)]
                result = _run_section(section, dataset, place, scale, present, options.repeats)
                failed += "error" in result
                results["sections"].setdefault(section, {})[dataset] = result
                results["goals"] = [goal.to_dict() for goal in evaluate(results)]
                # After every section, so that a run cut short leaves what it has.
                (folder / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    return failed


def _joins(name: str, section: str) -> bool:
    sections = ENGINES[name].sections
    return sections is None or section in sections


def _run_section(
    section: str, dataset: str, place: Path, scale: Scale, names: list[str], repeats: int | None
) -> dict[str, Any]:
    start = time.perf_counter()
    print(f"{section}: {dataset}", file=sys.stderr, flush=True)
    groups = [[name] for name in names] if section in _MADE_FOR_ONE_ENGINE else [names]
    merged: dict[str, Any] = {}
    for group in groups:
        order = {
            "section": section,
            "dataset": str(place),
            "indexes": str(place / "indexes"),
            "scale": scale.name,
            "repeats": repeats,
            "engines": group,
            "out": str(place / "out.json"),
        }
        (place / "order.json").write_text(json.dumps(order), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.worker", str(place / "order.json")],
            env=machine.thread_environment(1),
            cwd=datasets.REPOSITORY,
            check=False,
        )
        if done.returncode:
            return {"error": f"the measuring process ended with {done.returncode}"}
        result = json.loads((place / "out.json").read_text(encoding="utf-8"))
        for key in ("engines", "failures"):
            result[key] = {**merged.get(key, {}), **result.get(key, {})}
        merged = result
    merged["elapsed_s"] = round(time.perf_counter() - start, 1)
    return merged


if __name__ == "__main__":
    raise SystemExit(main())
