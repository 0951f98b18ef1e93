"""Which way a search goes: a scan of what matches, a walk over all, or a walk over what matches.

The costs are nanoseconds of one thread on the class of machine the project is measured on; only their ratios matter.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_EF = 80
"""Pool of a search that names none: recall@10 above .99 on real text embeddings (README, "Parameters")."""

_SCAN_NS = 12.0
"""A code row in a scan, prefetched."""
_WALK_NS = 24.0
"""A code row met on a walk."""
_LOOK_NS = 2.5
"""A row looked through on a two-hop walk because it does not match."""
_DISTANCES_PER_EF = 16.0
_START_DISTANCES = 220.0


@dataclass(frozen=True, slots=True)
class Plan:
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


def rerank_depth(k: int, *, coded: bool) -> int:
    """How many of the nearest by code are reranked, so that code errors cost under .0005 of recall@k."""
    return max(25, k + 15, k + k // 2) if coded else k


def walk_distances(ef: int) -> float:
    """Distances a walk with this pool computes, about."""
    return _START_DISTANCES + _DISTANCES_PER_EF * ef


def plan(
    *, n: int, matches: int, k: int, ef: int | None, exact: bool, linked: bool, coded: bool, masked: bool
) -> Plan:
    """Choose the cheapest way that keeps recall.

    Parameters
    ----------
    n : slots in the graph, removed ones included
    matches : live slots that may be returned
    k : neighbours asked for, <= matches
    ef : the caller's `ef_search`, None for the default
    exact : whether the caller asked for exact search
    linked : whether there is a graph
    coded : whether slots have codes apart from the originals
    masked : whether a filter restricts what may be returned
    """
    depth = rerank_depth(k, coded=coded)
    pool = max(ef if ef is not None else max(2 * k, DEFAULT_EF), k)
    if exact or not linked:
        return Plan("exact", pool, depth, 0)
    scan = Plan("scan" if coded else "exact", pool, max(depth, pool), 0)
    scan_ns = matches * _SCAN_NS
    if not masked:
        # Removed slots fill places of the pool without being results.
        pool = min(n, pool * n // max(1, matches))
        if walk_distances(pool) * _WALK_NS >= n * _SCAN_NS:
            return scan
        return Plan("walk", pool, depth, 1 << 60)
    share = matches / n
    two_hop_ns = walk_distances(pool) * (_WALK_NS + _LOOK_NS / share)
    if scan_ns <= two_hop_ns:
        return scan
    return Plan("two-hop", pool, depth, matches)
