"""Scans find what NumPy finds."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from kernel_harness import CODES, ROWS, assert_same_hits, clustered, make_index

from zeusdb_vs.kernels import scan

DIM = 20
K = 10


@pytest.mark.parametrize("space", oracle.SPACES)
def test_scan_exact_finds_the_nearest_of_all(space: str) -> None:
    index = make_index(space, 32, clustered(ROWS, DIM, seed=1))
    queries = clustered(4, DIM, seed=2)
    status, slots, found = index.scan_exact(queries, K)
    assert status == 0
    assert_same_hits(queries, index, slots, found, K)


@pytest.mark.parametrize("form", ["slots", "mask", "both"])
def test_scan_exact_returns_only_what_it_may(form: str) -> None:
    index = make_index("l2", 32, clustered(ROWS, DIM, seed=1))
    queries = clustered(3, DIM, seed=3)
    rng = np.random.default_rng(4)
    listed, masked = rng.random(index.n) < 0.5, rng.random(index.n) < 0.5
    allowed = {"slots": listed, "mask": masked, "both": listed & masked}[form]
    status, slots, found = index.scan_exact(
        queries,
        K,
        slots=None if form == "mask" else np.flatnonzero(listed).astype(np.int32),
        mask=None if form == "slots" else masked,
    )
    assert status == 0
    assert_same_hits(queries, index, slots, found, K, allowed)


@pytest.mark.parametrize("many", [0, 1, 3])
def test_scans_pad_when_fewer_than_k_may_be_returned(many: int) -> None:
    index = make_index("l2", 8, clustered(ROWS, DIM, seed=1))
    queries = clustered(2, DIM, seed=5)
    few = np.arange(many, dtype=np.int32) * 5
    allowed = np.zeros(index.n, bool)
    allowed[few] = True
    address_of_something = np.zeros(1, np.int32) if many == 0 else few
    for status, slots, found in (
        index.scan_exact(queries, K, slots=address_of_something[:many]),
        index.scan_codes(queries, K, depth=K, slots=address_of_something[:many]),
    ):
        assert status == 0
        assert_same_hits(queries, index, slots, found, K, allowed)


def test_scan_exact_breaks_ties_by_the_lower_slot() -> None:
    rows = np.tile(clustered(5, DIM, seed=6), (6, 1))
    index = make_index("l2", 32, rows)
    status, slots, found = index.scan_exact(rows[2:3], 8)
    assert status == 0
    assert slots[0, :6].tolist() == [2, 7, 12, 17, 22, 27]
    assert (found[0, :6] == 0).all()


@pytest.mark.parametrize(("space", "bits"), CODES)
def test_scan_codes_is_exact_when_all_are_reranked(space: str, bits: int) -> None:
    index = make_index(space, bits, clustered(ROWS, DIM, seed=1))
    queries = clustered(3, DIM, seed=2)
    everything = np.arange(index.n, dtype=np.int32)
    status, slots, found = index.scan_codes(queries, K, depth=index.n, slots=everything)
    assert status == 0
    assert_same_hits(queries, index, slots, found, K)


@pytest.mark.parametrize(("space", "bits"), CODES)
def test_scan_codes_reranks_the_nearest_by_code(space: str, bits: int) -> None:
    """Exactly those: neither one that is further by code, nor one left out."""
    index = make_index(space, bits, clustered(ROWS, DIM, seed=1))
    query = clustered(1, DIM, seed=7)
    ix, scratch = index.describe(), index.scratch()
    by_code = index.code_distances(index.prepare(query[0], ix, scratch), ix)
    depth = 25
    chosen = np.lexsort((np.arange(index.n), by_code))[:depth]
    allowed = np.zeros(index.n, bool)
    allowed[chosen] = True
    everything = np.arange(index.n, dtype=np.int32)
    status, slots, found = index.scan_codes(query, depth, depth=depth, slots=everything)
    assert status == 0
    assert set(slots[0].tolist()) == set(chosen.tolist())
    assert_same_hits(query, index, slots, found, depth, allowed)


@pytest.mark.parametrize(("space", "bits"), CODES)
def test_scan_codes_takes_the_lower_slots_of_those_equally_near(space: str, bits: int) -> None:
    index = make_index(space, bits, np.tile(clustered(3, DIM, seed=9), (ROWS // 3, 1)))
    query = clustered(1, DIM, seed=9)
    ix, scratch = index.describe(), index.scratch()
    by_code = index.code_distances(index.prepare(query[0], ix, scratch), ix)
    everything = np.arange(index.n, dtype=np.int32)
    for depth in (1, 5, ROWS // 3 - 1, ROWS // 3 + 2):
        chosen = np.lexsort((np.arange(index.n), by_code))[:depth]
        _, slots, _ = index.scan_codes(query, depth, depth=depth, slots=everything)
        assert set(slots[0].tolist()) == set(chosen.tolist())


@pytest.mark.parametrize(("space", "bits"), CODES)
@pytest.mark.parametrize("located", [False, True])
def test_scan_matching_finds_the_nearest_of_any_number(space: str, bits: int, located: bool) -> None:
    """Numbers at the edges of what is compared at once, prefetched ahead, and kept in a block."""
    index = make_index(space, bits, clustered(ROWS, DIM, seed=1))
    queries = clustered(2, DIM, seed=10)
    order = np.random.default_rng(11).permutation(index.n)
    for size in (1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 255, 256, 257, 271, 272, 273, 512, ROWS):
        if size > index.n:
            continue
        chosen = np.sort(order[:size]).astype(np.int32)
        allowed = np.zeros(index.n, bool)
        allowed[chosen] = True
        status, slots, found = index.scan_matching(queries, K, depth=60, slots=chosen, located=located)
        assert status == 0
        assert_same_hits(queries, index, slots, found, K, allowed)


@pytest.mark.parametrize("located", [False, True])
def test_scan_matching_looks_deeper_where_codes_say_little(located: bool) -> None:
    """All far from the query and hardly apart: code distances are as good as random."""
    rng = np.random.default_rng(12)
    rows = rng.standard_normal((ROWS, DIM), dtype=np.float32)
    rows[: ROWS // 2] *= 1e-3
    index = make_index("l2", 4, rows)
    near = np.arange(ROWS // 2, dtype=np.int32)
    queries = 5 * clustered(3, DIM, seed=13)
    status, slots, found = index.scan_matching(queries, 2, depth=6, slots=near, located=located)
    assert status == 0
    shallow = index.scan_codes(queries, 2, depth=6, slots=near)[2]
    assert (found <= shallow).all() and (found < shallow).any()
    assert np.isin(slots, near).all()


@pytest.mark.parametrize("order", ["random", "ascending", "descending", "inwards"])
def test_keys_are_chosen_and_sorted(order: str) -> None:
    rng = np.random.default_rng(14)
    for size in (1, 2, 3, 4, 5, 7, 16, 37, 96, 255, 256, 257, 700):
        keys = np.sort(rng.choice(1 << 40, size, replace=False) - (1 << 39)).astype(np.int64)
        right = keys.copy()
        if order == "random":
            rng.shuffle(keys)
        elif order == "descending":
            keys = keys[::-1].copy()
        elif order == "inwards":
            keys = np.concatenate([keys[::2], keys[1::2][::-1]])
        out = np.zeros(size, np.int64)
        scan._sort_keys(keys.ctypes.data, size, out.ctypes.data)
        np.testing.assert_array_equal(out, right)
        for most in {1, 2, size // 2, size - 1} - {0, size}:
            if most < size:
                mixed = keys.copy()
                greatest = scan._keep_least(mixed.ctypes.data, size, most)
                assert greatest == right[most - 1]
                np.testing.assert_array_equal(np.sort(mixed[:most]), right[:most])
                np.testing.assert_array_equal(np.sort(mixed), right)


@pytest.mark.parametrize("bad", [0, 2])
def test_scans_name_the_query_that_cannot_be_used(bad: int) -> None:
    index = make_index("cosine", 8, clustered(ROWS, DIM, seed=1))
    everything = np.arange(index.n, dtype=np.int32)
    for value, code in ((np.nan, 1), (0.0, 2)):
        queries = clustered(3, DIM, seed=8)
        queries[bad] = value
        assert index.scan_exact(queries, K)[0] == code + 4 * bad
        status, slots, _ = index.scan_codes(queries, K, depth=30, slots=everything)
        assert status == code + 4 * bad
        assert (slots[:bad] >= 0).all()
