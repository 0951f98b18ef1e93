"""Which way a search goes: a scan of what matches, a walk over all, or a walk over what matches.

The costs are nanoseconds of one thread, fitted to runs over 20,000 and 100,000 rows of 192 to 1,536 bytes; only their
ratios matter, and those are much alike on machines of the class the project is measured on.
"""

from __future__ import annotations

from typing import NamedTuple

from zeusdb_vs.calibration import rough_depth
from zeusdb_vs.kernels.layout import WALK_ALL, WALK_FILTERED, WALK_TWO_HOP

DEFAULT_EF = 80
"""Pool of a search that names none: recall@10 above .99 on real text embeddings (README, "Parameters")."""

DECODED_EF = 64
BY_CODE_EF = 36
ROUGH_EF = 44
"""The same where results are ranked by decoded 8-bit codes (recall .989 of the .994 there is), and by product codes
alone (.855 of .862), where walks compare by tables and where roughly by digits: what a wider pool finds, these codes
cannot tell apart."""

_UNLIMITED = 1 << 60
_LARGEST_POOL = 1 << 14
# A row in a scan, and one met on a walk: a fixed part, and a part per byte that memory has to bring.
# Of plain codes, those of 4 or 8 bits a dimension, a scan compares several rows at once.
_SCAN_NS, _SCAN_NS_PER_BYTE = 3.0, 0.0235
_PLAIN_NS, _PLAIN_NS_PER_BYTE = 1.5, 0.0125
_WALK_NS, _WALK_NS_PER_BYTE = 18.0, 0.05
_SCAN_START_NS = 2_000.0
"""Finding the furthest of the nearest, and reranking."""
_WIDE_DEPTH = 100
"""Reranked after a wide walk at most, unless the codes need more."""
_START_DISTANCES = 220.0
"""Distances of the descent and of the way to the query's region."""
_DISTANCES_PER_EF = 16.0
_LOOK_NS = 100.0
"""A row of the graph that is looked through because its slot does not match."""
_LOOKS_PER_EF = 26.0
_WALK_GAIN, _FREE_WALK_GAIN = 1.2, 0.8
"""How much cheaper than a scan a walk must seem, under a filter and without: under one some queries give up and cost
both, and without one a small index has less to walk over."""
_TWO_HOP_GAIN = 2.0
"""How much cheaper than any other way a two-hop walk must be: what matches is less well connected than the whole."""
_FILTERED_POWER = 0.25
"""A filtered walk that finds as many matches as an unfiltered one keeps goes further and has more recall. Where a
share s matches, s**0.25 times as many give the same recall, on text embeddings as on Gaussian mixtures."""


class Plan(NamedTuple):
    """How one search is to be answered.

    Attributes
    ----------
    path : "exact" (all matching originals), "scan" (all matching codes, then rerank), "walk", "filtered walk" (over
        all, gathering what matches), "two-hop" (over what matches, looking through the rest)
    mode : of the walk, for kernels
    ef : pool positions that a walk expands; in a filtered walk, the matching slots it finds
    capacity : pool positions that a walk keeps
    keep : matching slots that a filtered walk gathers
    depth : how many of the nearest by code are reranked exactly; 0: none, their distances are those by code
    budget : distances after which a walk gives up and the scan takes over
    """

    path: str
    mode: int
    ef: int
    capacity: int
    keep: int
    depth: int
    budget: int


def exact_plan(k: int) -> Plan:
    """Return the plan that compares with every original."""
    return Plan("exact", WALK_ALL, 0, k, k, k, 0)


def rerank_depth(k: int, rerank: int) -> int:
    """Return how many of the nearest by code are reranked for k neighbours; k where there are no codes."""
    return max(rerank * k // 10, k + rerank - 10) if rerank else k


def scan_plan(k: int, rerank: int, depth: int | None = None) -> Plan:
    """Return the plan that looks at everything that matches: at the codes, where there are any.

    Parameters
    ----------
    depth : how many are reranked, where that is settled: 0 for none
    """
    if depth is not None:
        return Plan("scan", WALK_ALL, 0, max(k, depth), k, depth, 0)
    if not rerank:
        return exact_plan(k)
    # Half as many again as the codes need on the whole: the kernel goes deeper where the first half did not suffice.
    depth = rerank_depth(k, rerank) * 3 // 2
    return Plan("scan", WALK_ALL, 0, depth, k, depth, 0)


def plan(
    *,
    n: int,
    matches: int,
    k: int,
    ef: int | None,
    row_bytes: int,
    rerank: int,
    masked: bool,
    settled_depth: int | None = None,
    default_ef: int = DEFAULT_EF,
    is_plain: bool = True,
    is_rough: bool = False,
) -> Plan:
    """Choose the cheapest way through an index with a graph that keeps recall.

    Parameters
    ----------
    n : slots in the graph, removed ones included
    matches : live slots that may be returned, >= 1
    k : neighbours asked for, <= matches
    ef : the caller's `ef_search`, None for the default
    row_bytes : bytes of a row that walks and scans compare: a code, or a float32 vector
    rerank : how many of the nearest by code are reranked for 10 neighbours; 0 where there are no codes
    masked : whether a filter restricts what may be returned
    default_ef : pool of a search that names none
    settled_depth : how many are reranked, where neither the codes nor the pool decide it; 0 for none
    is_plain : whether codes are plain
    is_rough : whether walks that nothing is reranked after compare roughly
    """
    scan = scan_plan(k, rerank, settled_depth)
    if matches <= scan.depth:
        return exact_plan(k)
    is_rough = is_rough and settled_depth == 0
    if settled_depth == 0:
        default_ef = ROUGH_EF if is_rough else BY_CODE_EF
    pool = max(2 * k, default_ef) if ef is None else max(k, ef)
    # Whoever asks for a wider pool asks for more recall, which a fixed rerank would bound.
    depth = max(rerank_depth(k, rerank), min(pool // 2, _WIDE_DEPTH)) if rerank else k
    if settled_depth is not None:
        depth = min(settled_depth, _LARGEST_POOL)
        pool = max(pool, depth)
    kept = rough_depth(k) if is_rough else max(k, depth)
    share = matches / n
    found = max(k, int(pool * share**_FILTERED_POWER)) if ef is None else pool
    distance_ns = _WALK_NS + _WALK_NS_PER_BYTE * row_bytes
    row_ns, byte_ns = (_PLAIN_NS, _PLAIN_NS_PER_BYTE) if is_plain else (_SCAN_NS, _SCAN_NS_PER_BYTE)
    scan_ns = _SCAN_START_NS + matches * (row_ns + byte_ns * row_bytes)
    filtered_ns = (_START_DISTANCES + _DISTANCES_PER_EF * found / share) * distance_ns
    two_hop_ns = (_START_DISTANCES + _DISTANCES_PER_EF * pool) * distance_ns + pool * (
        1 + _LOOKS_PER_EF * (1 - share)
    ) * _LOOK_NS
    gain = _WALK_GAIN if masked else _FREE_WALK_GAIN
    if scan_ns <= min(gain * filtered_ns, _TWO_HOP_GAIN * two_hop_ns):
        return scan
    if matches == n:
        return Plan("walk", WALK_ALL, pool, max(pool, kept), kept, depth, _UNLIMITED)
    # A walk in a region where the filter is sparser than elsewhere gives up once the scan would have been cheaper.
    budget = int(scan_ns / distance_ns) + int(_START_DISTANCES) if masked else _UNLIMITED
    if filtered_ns <= _TWO_HOP_GAIN * two_hop_ns:
        capacity = min(n, _LARGEST_POOL, int(2 * max(found, kept) / share) + 64)
        path = "filtered walk" if masked else "walk"
        return Plan(path, WALK_FILTERED, found, capacity, max(found, kept), depth, budget)
    return Plan("two-hop", WALK_TWO_HOP, pool, max(pool, kept), kept, depth, budget)
