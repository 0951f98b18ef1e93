"""Which way a search goes: a scan of what matches, a walk over all, or a walk over what matches.

The costs are nanoseconds of one thread on the class of machine the project is measured on; only their ratios matter.
"""

from __future__ import annotations

from typing import NamedTuple

DEFAULT_EF = 80
"""Pool of a search that names none: recall@10 above .99 on real text embeddings (README, "Parameters")."""

_SCAN_NS = 12.0
"""A code row in a scan, prefetched."""
_WALK_NS = 24.0
"""A code row met on a walk."""
_LOOK_NS = 2.5
"""A row looked through on a two-hop walk because it does not match."""
_DISTANCES_PER_EF = 16.0
_UNLIMITED = 1 << 60
_START_DISTANCES = 220.0


class Plan(NamedTuple):
    """How one search is to be answered.

    Attributes
    ----------
    path : "exact" (all matching originals), "scan" (all matching codes, then rerank), "walk", "two-hop"
    ef : pool of a walk
    depth : how many of the nearest by code are reranked exactly
    budget : distances after which a walk gives up and the scan takes over
    """

    path: str
    ef: int
    depth: int
    budget: int


def plan(n: int, matches: int, k: int, ef: int | None, coded: bool, masked: bool) -> Plan:
    """Choose the cheapest way through an index with a graph that keeps recall.

    Parameters
    ----------
    n : slots in the graph, removed ones included
    matches : live slots that may be returned, >= 1
    k : neighbours asked for, <= matches
    ef : the caller's `ef_search`, None for the default
    coded : whether slots have codes apart from the originals
    masked : whether a filter restricts what may be returned
    """
    depth = max(25, k + 15, k + k // 2) if coded else k
    pool = max(k, 2 * k, DEFAULT_EF) if ef is None else max(k, ef)
    scan = "scan" if coded else "exact"
    scan_ns = matches * _SCAN_NS
    if masked:
        walk_ns = (_START_DISTANCES + _DISTANCES_PER_EF * pool) * (_WALK_NS + _LOOK_NS * n / matches)
        if scan_ns <= walk_ns:
            return Plan(scan, pool, max(depth, pool), 0)
        return Plan("two-hop", pool, depth, matches)
    # Removed slots fill places of the pool without being results.
    pool = min(n, pool * n // matches)
    if (_START_DISTANCES + _DISTANCES_PER_EF * pool) * _WALK_NS >= scan_ns:
        return Plan(scan, pool, max(depth, pool), 0)
    return Plan("walk", pool, depth, _UNLIMITED)
