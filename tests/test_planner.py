"""What every plan keeps to, whatever the costs are tuned to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zeusdb_vs.calibration import rough_depth
from zeusdb_vs.kernels.layout import WALK_ALL, WALK_FILTERED, WALK_TWO_HOP
from zeusdb_vs.planner import Plan, exact_plan, plan, scan_plan

_SIZES = st.integers(1, 2_000_000)
_RERANKS = st.sampled_from([0, 25, 50])


@given(_SIZES, st.data(), st.none() | st.integers(1, 5000), _RERANKS, st.booleans())
def test_plans_have_room_for_what_is_asked(
    n: int, data: st.DataObject, ef: int | None, rerank: int, masked: bool
) -> None:
    matches = data.draw(st.integers(1, n))
    k = data.draw(st.integers(1, min(matches, 3000)))
    chosen = plan(n=n, matches=matches, k=k, ef=ef, row_bytes=192, rerank=rerank, masked=masked)
    assert chosen.depth >= k
    if chosen.path == "exact":
        # Few enough to be reranked whole are not looked at by code first.
        assert rerank == 0 or matches <= scan_plan(k, rerank).depth
        return
    assert chosen.capacity >= k
    if chosen.path == "scan":
        assert rerank > 0 and chosen.capacity >= chosen.depth
        return
    # A walk is as wide as was asked for, and gives up only where it may skip what does not match.
    assert chosen.ef >= max(k, ef or 1)
    assert chosen.budget > 0
    if chosen.mode == WALK_ALL:
        assert matches == n
    else:
        assert matches < n or masked
        assert chosen.mode in (WALK_FILTERED, WALK_TWO_HOP)
    if not masked:
        assert chosen.budget >= 1 << 40


@given(_RERANKS)
def test_few_matches_are_scanned_and_many_are_walked(rerank: int) -> None:
    def path(n: int, matches: int, masked: bool) -> str:
        return plan(n=n, matches=matches, k=10, ef=None, row_bytes=192, rerank=rerank, masked=masked).path

    scan = "scan" if rerank else "exact"
    assert path(1_000_000, 100, True) == scan
    assert path(1_000_000, 1_000_000, False) == "walk"
    assert path(1_000_000, 900_000, True) != scan
    walked = [
        "walk" in path(1_000_000, matches, True) for matches in (10, 100, 1000, 10_000, 100_000, 900_000)
    ]
    assert walked == sorted(walked), "once walks pay, they pay for all wider filters"


@given(st.integers(1, 1000))
def test_wider_pools_rerank_no_less(k: int) -> None:
    depths = [
        plan(n=10**6, matches=10**6, k=k, ef=ef, row_bytes=192, rerank=25, masked=False).depth
        for ef in (10, 100, 1000)
    ]
    assert depths == sorted(depths)


def test_scans_without_codes_are_exact() -> None:
    assert exact_plan(7) == Plan("exact", WALK_ALL, 0, 7, 7, 7, 0)
    assert scan_plan(7, 0) == exact_plan(7)
    assert scan_plan(7, 25).depth >= 25


@given(st.integers(1, 3000), st.none() | st.integers(1, 5000), st.sampled_from([0.01, 0.5, 1.0]))
def test_rough_walks_keep_more_than_they_return(k: int, ef: int | None, share: float) -> None:
    n = 10**7
    given = {
        "n": n,
        "matches": int(share * n),
        "k": k,
        "ef": ef,
        "row_bytes": 100,
        "rerank": 0,
        "masked": share < 1,
    }
    by_tables, rough = (plan(**given, settled_depth=0, is_rough=is_rough) for is_rough in (False, True))
    assert rough.depth == by_tables.depth == 0
    if rough.path == "scan":
        return
    assert rough.keep >= rough_depth(k) >= 2 * k
    if rough.path == "walk":
        assert rough.capacity >= max(rough.ef, rough_depth(k))
        assert by_tables.capacity == by_tables.ef
    elif rough.path == "filtered walk":
        assert rough.keep >= rough.ef and rough.capacity >= min(rough.keep, 1 << 14)
    # What is reranked by originals is not compared roughly.
    assert plan(**given, settled_depth=50, is_rough=True) == plan(**given, settled_depth=50)
