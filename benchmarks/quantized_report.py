"""Tables of the `quantization` section: search, costs, parts, and who does better with as much memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.engines import OURS, VARIANTS, title_of
from benchmarks.goals import held_bytes, quantized_baseline, ratio
from benchmarks.settings import QUANTIZED_TARGETS
from benchmarks.tables import table, times, title_and_queries

# As much memory: anonymous resident bytes that differ by no more than this.
_ALIKE = 0.15
_TARGETS = tuple(f"{target:.2f}" for target in QUANTIZED_TARGETS)
_HEADS = tuple(f"@ {target[1:]}" for target in _TARGETS)


def quantization(result: Any) -> Iterator[str]:
    """All tables of one data set."""
    if not result["engines"]:
        yield "== quantized search: no figures"
        return
    yield from _search(result)
    yield ""
    yield from _costs(result)
    yield from _parts(result)
    yield ""
    yield from _alike(result)


def _search(result: Any) -> Iterator[str]:
    engines = {name: figures for name, figures in result["engines"].items() if "points" in figures}
    plain = quantized_baseline(result)
    rows: list[list[str]] = []
    for name, figures in engines.items():
        default, by_codes = figures["default"], figures["recall_by_codes"]
        own = [
            None if figures is plain else _over(figures["qps_at"][target], plain, target)
            for target in _TARGETS
        ]
        rows.append(
            [
                title_of(name),
                f"{default['recall']:.4f}",
                f"{default['qps']:,.0f}",
                *(
                    _speed(figures["qps_at"][target]) + times(share)
                    for target, share in zip(_TARGETS, own, strict=True)
                ),
                f"{figures['highest_recall']:.4f}",
                "" if by_codes is None else f"{by_codes:.4f}",
            ]
        )
    head = ["", "recall at default", "QPS there", f"QPS {_HEADS[0]}", *_HEADS[1:], "best recall", "all codes"]
    yield from table(
        f"quantized search: {title_and_queries(result['dataset'])} (core {result['core']})", head, rows
    )
    yield "   in brackets: that row divided by our unquantized index; all codes: exhaustive search by the same codes"
    yield "   recall @ QPS by setting:"
    for name, figures in engines.items():
        points = (f"{p['setting']}: {p['recall']:.3f} @ {p['qps']:,.0f}" for p in figures["points"])
        yield f"   {title_of(name)}: " + " | ".join(points)


def _costs(result: Any) -> Iterator[str]:
    plain = quantized_baseline(result)
    dataset = result["dataset"]
    float32 = dataset["rows"] * dataset["dim"] * 4
    rows: list[list[str]] = []
    for name, figures in result["engines"].items():
        costs = figures["costs"]
        first = None if plain is None or figures is plain else plain["costs"]
        training = costs["training_s"]
        rows.append(
            [
                title_of(name),
                f"{costs['cpu_s']:.2f}{_share(costs, first, 'cpu_s')}",
                f"{costs['wall_s']:.2f}",
                "" if training is None else f"{training:.2f}",
                _megabytes(costs["anonymous_bytes"]) + _share(costs, first, "anonymous_bytes"),
                _megabytes(costs["mapped_bytes"]),
                "-"
                if costs["anonymous_bytes"] is None
                else f"{costs['anonymous_bytes'] / dataset['rows']:,.0f}",
                f"{costs['disk_bytes'] / 1e6:.1f}{_share(costs, first, 'disk_bytes')}",
            ]
        )
    head = [
        "",
        "build CPU s",
        "wall s",
        "training s",
        "own memory MB",
        "mapped MB",
        "own B/vector",
        "disk MB",
    ]
    yield from table(f"what quantized indexes cost: {title_and_queries(dataset)}", head, rows)
    yield (
        f"   trained on {result['training_size']:,} vectors; float32 would be {float32 / 1e6:.1f} MB;"
        " own memory: anonymous resident growth of a fresh process that builds and searches"
    )
    yield "   mapped: resident pages of files, which the system can drop; in brackets: divided by our unquantized index"


def _parts(result: Any) -> Iterator[str]:
    plain = quantized_baseline(result)
    whole = None if plain is None else held_bytes(plain)
    for name, figures in result["engines"].items():
        parts = figures["costs"]["parts"]
        if not parts:
            continue
        held = held_bytes(figures)
        share = "" if not whole or figures is plain else f" ({held / whole:.2f}x)"
        listed = ", ".join(f"{part} {size / 1e6:.1f}" for part, size in parts.items())
        yield f"   {title_of(name)}, memory() MB: {listed}; vectors + codes + graph {held / 1e6:.1f}{share}"


def _alike(result: Any) -> Iterator[str]:
    """Ours, each followed by the peers that hold about as much, or by the nearest where none does."""
    sizes = {
        name: max(1, figures["costs"]["anonymous_bytes"])
        for name, figures in result["engines"].items()
        if "points" in figures and figures["costs"]["anonymous_bytes"] is not None
    }
    peers = [name for name in sizes if VARIANTS[name].family != OURS]
    rows: list[list[str]] = []
    for name in (name for name in sizes if VARIANTS[name].family == OURS):
        mine = result["engines"][name]
        rows.append([title_of(name), *_row(result, sizes, name), ""])
        rivals = [peer for peer in peers if abs(sizes[peer] / sizes[name] - 1) <= _ALIKE]
        if not rivals:
            rivals = sorted(peers, key=lambda peer: abs(sizes[peer] - sizes[name]))[:1]
        for peer in rivals:
            shares = {
                target: ratio(mine["qps_at"][target], result["engines"][peer]["qps_at"][target])
                for target in _TARGETS
            }
            cells = _row(result, sizes, peer)
            cells[0] += times(sizes[peer] / sizes[name])
            cells[-len(_TARGETS) :] = [
                cell + times(share)
                for cell, share in zip(cells[-len(_TARGETS) :], shares.values(), strict=True)
            ]
            rows.append([f"   {title_of(peer)}", *cells, _verdict(shares)])
    head = ["", "own B/vector", "recall at default", "best recall", f"QPS {_HEADS[0]}", *_HEADS[1:], "better"]
    yield from table(f"with as much memory: {title_and_queries(result['dataset'])}", head, rows)
    yield (
        f"   peers within {_ALIKE:.0%} of our own memory, or else the nearest (in brackets: theirs divided by ours);"
        " QPS in brackets: ours divided by that row"
    )


def _row(result: Any, sizes: dict[str, int], name: str) -> list[str]:
    figures = result["engines"][name]
    return [
        f"{sizes[name] / result['dataset']['rows']:,.0f}",
        f"{figures['default']['recall']:.4f}",
        f"{figures['highest_recall']:.4f}",
        *(_speed(figures["qps_at"][target]) for target in _TARGETS),
    ]


def _verdict(shares: dict[str, float | None]) -> str:
    """Who is faster at which recall; nobody where neither gets to the lowest."""
    ours = [target[1:] for target, share in shares.items() if share is not None and share >= 1]
    peer = [target[1:] for target, share in shares.items() if share is not None and share < 1]
    if ours and peer:
        return f"ours @ {' '.join(ours)}, it @ {' '.join(peer)}"
    return "ours" if ours else "it" if peer else "neither gets there"


def _over(qps: float | None, plain: Any, target: str) -> float | None:
    if plain is None or qps is None:
        return None
    own = plain["qps_at"][target]
    return None if own is None else qps / own


def _share(costs: Any, first: Any, key: str) -> str:
    if first is None or costs[key] is None or not first[key]:
        return ""
    return times(costs[key] / first[key])


def _megabytes(size: float | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f}"


def _speed(qps: float | None) -> str:
    return "never" if qps is None else f"{qps:,.0f}"
