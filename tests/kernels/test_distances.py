"""Exact distances, codes, and distances on codes: each against NumPy, within what its definition allows."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import oracle
import pytest
from kernel_harness import CODES, DIMS, ROWS, KernelIndex, clustered, compiled, make_index

from zeusdb_vs.kernels import distances, exact_distances, layout
from zeusdb_vs.metrics import METRICS
from zeusdb_vs.vectors import Vectors

FLOAT32 = 2e-6
"""Relative error allowed to float32 sums: some units in the last place, whatever the order of summation."""


@compiled
def _exact(ix: Any, query: Any, slot: Any) -> Any:
    return exact_distances.exact_distance(ix, query, slot)


@compiled
def _exact_f64(space: Any, query: Any, row: Any, dim: Any) -> Any:
    return exact_distances.exact_distance_f64(space, query, row, dim)


def _exact_distances(index: KernelIndex, query: np.ndarray) -> np.ndarray:
    ix, scratch = index.describe(), index.scratch()
    scratch.query[:] = query
    exact = int(scratch.block[layout.QUERY_EXACT])
    assert exact_distances.prepare_exact_query(ix, scratch.query_address, exact) == 0
    return np.array([_exact(ix, exact, slot) for slot in range(index.n)], np.float64)


def _scale(space: str, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Size of the terms a distance is summed from, per row: what its rounding error is relative to."""
    q, x = query.astype(np.float64), rows.astype(np.float64)
    if space == "cosine":
        return np.ones(len(rows))
    if space == "dot":
        return 1 + np.abs(x) @ np.abs(q)
    return oracle.distances(query, rows, space)[0]


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("space", oracle.SPACES)
def test_exact_distance_equals_float64(space: str, dim: int) -> None:
    rows = clustered(ROWS // 6, dim, seed=dim)
    index = make_index(space, 32, rows)
    queries = clustered(3, dim, seed=dim + 1)
    for query in [*queries, rows[0], -rows[1]]:
        found = _exact_distances(index, query)
        right = oracle.distances(query, rows, space)[0]
        bound = FLOAT32 * _scale(space, query, rows) + 1e-12
        assert (np.abs(found - right) <= np.sqrt(dim) * bound).all()
        if space != "dot":
            assert (found >= 0).all()


@pytest.mark.parametrize("magnitude", [1e-30, 1e-20, 1e-8, 1e8, 1e18, 1e30])
@pytest.mark.parametrize("space", oracle.SPACES)
def test_exact_distance_holds_where_float32_squares_do_not(space: str, magnitude: float) -> None:
    rows = clustered(20, 24, seed=3) * np.float32(magnitude)
    query = clustered(1, 24, seed=4)[0] * np.float32(magnitude)
    right = oracle.distances(query, rows, space)[0]
    beyond = np.abs(right) > np.finfo(np.float32).max
    with np.errstate(over="ignore", invalid="ignore"):  # as plain Python, the overflow would be announced
        found = _exact_distances(make_index(space, 32, rows), query)
    tolerance = 1e-4 * _scale(space, query, rows)
    assert (np.abs(found - right)[~beyond] <= tolerance[~beyond]).all()
    assert np.isinf(found[beyond]).all()


@pytest.mark.parametrize("space", oracle.SPACES)
def test_exact_distance_in_float64_equals_numpy(space: str) -> None:
    rows = clustered(10, 33, seed=5)
    query = clustered(1, 33, seed=6)[0]
    number = METRICS[space].space
    found = [_exact_f64(number, query.ctypes.data, row.ctypes.data, 33) for row in rows]
    np.testing.assert_allclose(found, oracle.distances(query, rows, space)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("space", oracle.SPACES)
def test_exact_query_is_of_unit_length_under_cosine_only(space: str) -> None:
    index = make_index(space, 32, clustered(4, 9, seed=7))
    ix = index.describe()
    query, out = 5 * clustered(1, 9, seed=8)[0], np.zeros(9, np.float32)
    assert exact_distances.prepare_exact_query(ix, query.ctypes.data, out.ctypes.data) == 0
    right = index.prepared(query[None])[0]
    np.testing.assert_allclose(out, right, rtol=1e-6)
    if space != "cosine":
        np.testing.assert_array_equal(out, query)


@pytest.mark.parametrize("space", oracle.SPACES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_exact_query_is_refused_when_not_finite(space: str, value: float) -> None:
    ix = make_index(space, 32, clustered(4, 9, seed=7)).describe()
    query, out = np.ones(9, np.float32), np.zeros(9, np.float32)
    query[8] = value
    assert exact_distances.prepare_exact_query(ix, query.ctypes.data, out.ctypes.data) == 1


@pytest.mark.parametrize("space", oracle.SPACES)
def test_zero_query_is_refused_under_cosine_only(space: str) -> None:
    ix = make_index(space, 32, clustered(4, 9, seed=7)).describe()
    query, out = np.zeros(9, np.float32), np.ones(9, np.float32)
    status = exact_distances.prepare_exact_query(ix, query.ctypes.data, out.ctypes.data)
    assert status == (2 if space == "cosine" else 0)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize(("space", "bits"), [case for case in CODES if case[1] != 32])
def test_codes_are_the_nearest_there_are(space: str, bits: int, dim: int) -> None:
    index = make_index(space, bits, clustered(ROWS // 4, dim, seed=dim))
    assert index.codec is not None
    levels, codec = index.levels(), index.codec
    assert levels.min() >= 0 and levels.max() <= 2 * codec.half
    assert (levels[:, dim:] == 0).all(), "padding is not coded as zero"
    rows = index.prepared(index.rows)
    mid, step = codec.mid[:dim].astype(np.float64), codec.step[:dim].astype(np.float64)
    # A row decoded is no further than half a step from the row drawn into the range that codes span.
    inside = np.clip(rows, mid - step * codec.half, mid + step * codec.half)
    error = np.abs(index.decoded()[:, :dim] - inside)
    assert (error <= step * 0.5 * (1 + 1e-3) + 1e-6 * np.abs(mid)).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_dimension_that_does_not_vary_is_kept_as_its_middle(bits: int) -> None:
    rows = clustered(30, 10, seed=9)
    rows[:, 3] = 0.25
    index = make_index("l2", bits, rows)
    assert index.codec is not None and index.codec.step[3] == 0
    np.testing.assert_array_equal(index.decoded()[:, 3], np.full(30, 0.25))


@pytest.mark.parametrize(("bits", "dim"), [(4, 7), (4, 100), (8, 7), (8, 100)])
def test_biases_are_the_squared_norms_of_decoded_rows(bits: int, dim: int) -> None:
    index = make_index("l2", bits, clustered(ROWS // 4, dim, seed=10))
    assert index.codec is not None and index.vectors.biases is not None
    biases = np.concatenate(index.vectors.biases.pieces(index.n))[:, 0]
    relative = index.decoded() - index.codec.mid.astype(np.float64)
    np.testing.assert_allclose(biases, (relative**2).sum(axis=1), rtol=1e-5, atol=1e-9)


def _distances_to_decoded(index: KernelIndex, query: np.ndarray) -> np.ndarray:
    """What FORM_DOT, FORM_L2 and FORM_L1 stand for, of the exact query and the decoded rows, in float64."""
    decoded = index.decoded()[:, : index.dim]
    q = index.prepared(query[None])[0]
    if index.space == "l2":
        return ((decoded - q) ** 2).sum(axis=1)
    if index.space == "l1":
        return np.abs(decoded - q).sum(axis=1)
    return 1 - decoded @ q


def _rounding_bound(index: KernelIndex, alpha: float) -> np.ndarray:
    """Each 8-bit weight of a query form is off by half a unit at most: that, times the codes and |alpha|."""
    return 0.5 * abs(alpha) * index.levels()[:, : index.dim].sum(axis=1) * (1 + 1e-4)


def _float_slack(index: KernelIndex, query: np.ndarray) -> float:
    """Rounding of the float32 base and of the final sum, whose terms may be larger than the result."""
    if index.codec is None:
        return 1e-5 * (1 + np.abs(_distances_to_decoded(index, query)).max())
    codec = index.codec
    dim = index.dim
    extreme = np.abs(codec.mid[:dim]) + codec.step[:dim] * codec.half
    q = np.abs(index.prepared(query[None])[0])
    return 1e-5 * float(1 + ((q + extreme) ** 2).sum())


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize(("space", "bits"), CODES)
def test_code_distances_are_as_near_as_the_codec_says(space: str, bits: int, dim: int) -> None:
    _assert_near(make_index(space, bits, clustered(ROWS // 4, dim, seed=dim)))


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize(("space", "bits"), [case for case in CODES if case[1] != 32 and case[0] != "l1"])
def test_code_distances_are_as_near_when_rotated(space: str, bits: int, dim: int) -> None:
    _assert_near(make_index(space, bits, clustered(ROWS // 4, dim, seed=dim), rotated=True))


def _assert_near(index: KernelIndex) -> None:
    space, bits, dim = index.space, index.bits, index.dim
    ix, scratch = index.describe(), index.scratch()
    for query in [*clustered(3, dim, seed=dim + 1), index.rows[0]]:
        form = index.prepare(query, ix, scratch)
        found = index.code_distances(form, ix).astype(np.float64)
        slack = _float_slack(index, query)
        if bits == 32:
            np.testing.assert_allclose(found, _distances_to_decoded(index, query), atol=slack)
            continue
        alpha = float(np.frombuffer(_memory(form, 8), np.float32)[1])
        if space == "l1":
            # The query is drawn to its own nearest codes, so no dimension is off by more than half a step
            # and what lies outside the range.
            assert index.codec is not None
            mid, step = index.codec.mid[:dim].astype(np.float64), float(index.codec.step[0])
            outside = np.maximum(np.abs(query - mid) - step * index.codec.half, 0).sum()
            bound = np.full(index.n, 0.5 * step * dim * (1 + 1e-3) + outside)
        else:
            bound = _rounding_bound(index, alpha)
        assert (np.abs(found - _distances_to_decoded(index, query)) <= bound + slack).all()


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize(("space", "bits"), CODES)
def test_stored_rows_are_compared_as_near_as_the_codec_says(space: str, bits: int, dim: int) -> None:
    index = make_index(space, bits, clustered(ROWS // 6, dim, seed=dim))
    ix, scratch = index.describe(), index.scratch()
    decoded = index.decoded()[:, :dim]
    for slot in (0, index.n // 2, index.n - 1):
        form = index.expand(slot, ix, scratch)
        found = index.code_distances(form, ix).astype(np.float64)
        if space == "l2":
            right = ((decoded - decoded[slot]) ** 2).sum(axis=1)
        elif space == "l1":
            right = np.abs(decoded - decoded[slot]).sum(axis=1)
        else:
            right = 1 - decoded @ decoded[slot]
        slack = 1e-5 * float(1 + (decoded**2).sum(axis=1).max())
        bound = np.zeros(index.n)
        if bits != 32 and space != "l1":
            alpha = float(np.frombuffer(_memory(form, 8), np.float32)[1])
            bound = _rounding_bound(index, alpha)
        assert (np.abs(found - right) <= bound + slack).all()


@pytest.mark.parametrize(("space", "bits"), CODES)
def test_a_row_is_nearest_to_itself_by_code_where_a_metric_says_so(space: str, bits: int) -> None:
    if space == "dot":
        pytest.skip("an inner product has no such order")
    index = make_index(space, bits, clustered(ROWS // 4, 48, seed=11))
    ix, scratch = index.describe(), index.scratch()
    for slot in range(0, index.n, 7):
        found = index.code_distances(index.expand(slot, ix, scratch), ix)
        # Weights of 8 bits may put a near twin first, by less than this.
        assert found[slot] <= found.min() + 0.05 * np.median(found)


@pytest.mark.parametrize(("space", "bits"), CODES)
def test_one_code_distance_is_the_same_as_among_many(space: str, bits: int) -> None:
    index = make_index(space, bits, clustered(ROWS // 4, 33, seed=12))
    ix, scratch = index.describe(), index.scratch()
    form = index.prepare(clustered(1, 33, seed=13)[0], ix, scratch)
    many = index.code_distances(form, ix)
    for slot in (0, 1, index.n - 1):
        one = np.float32(distances.code_distance(ix, form, np.int64(slot)))
        np.testing.assert_allclose(one, many[slot], rtol=1e-6, atol=1e-6)
    few = index.code_distances(form, ix, np.array([index.n - 1, 0], np.int32))
    np.testing.assert_allclose(few, many[[index.n - 1, 0]], rtol=1e-6, atol=1e-6)


def test_rows_in_several_chunks_are_all_reached() -> None:
    dim = 5000  # chunks of this width hold few rows
    vectors = Vectors(dim, METRICS["l2"])
    count = (1 << vectors.shift) + 3
    if count > 600:
        pytest.fail("chunks of this width were meant to be small")
    rows = np.zeros((count, dim), np.float32)
    rows[:, 0] = np.arange(count)
    vectors.append(rows)
    index = KernelIndex("l2", 32, rows, vectors, None)
    assert len(vectors.originals.chunks) == 2
    ix = index.describe()
    query = np.zeros(dim, np.float32)
    for slot in (0, (1 << vectors.shift) - 1, 1 << vectors.shift, count - 1):
        scratch_query = query.ctypes.data
        assert _exact(ix, scratch_query, slot) == slot


def _memory(address: int, count: int) -> bytes:
    return ctypes.string_at(address, count)
