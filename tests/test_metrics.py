"""Distances without compiled code, and the table of metrics."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import oracle
import pytest

from zeusdb_vs.exact import nearest
from zeusdb_vs.kernels import layout
from zeusdb_vs.metrics import ALIASES, METRICS


def test_table_names_the_spaces_and_their_numbers_in_the_kernels() -> None:
    assert tuple(METRICS) == oracle.SPACES
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.space == getattr(layout, f"SPACE_{name.upper()}")
        assert ALIASES[name] == name
    forms = {name: metric.form for name, metric in METRICS.items()}
    assert forms == {
        "cosine": layout.FORM_DOT,
        "dot": layout.FORM_DOT,
        "l2": layout.FORM_L2,
        "l1": layout.FORM_L1,
    }
    assert set(ALIASES.values()) == set(METRICS)


@pytest.mark.parametrize("magnitude", [1e-30, 1e-20, 1e-3, 1.0, 1e3, 1e18])
@pytest.mark.parametrize("dim", [1, 3, 100])
@pytest.mark.parametrize("space", oracle.SPACES)
def test_distances_equal_the_oracle(space: str, dim: int, magnitude: float) -> None:
    rng = np.random.default_rng(dim)
    rows = (magnitude * rng.standard_normal((50, dim))).astype(np.float32)
    query = (magnitude * rng.standard_normal(dim)).astype(np.float32)
    right = oracle.distances(query, rows, space)[0]
    wide_norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    norms = np.where((wide_norms > 1e-30) & (wide_norms < 1e37), 1 / wide_norms, 0).astype(np.float32)
    scale = 1 + float(np.abs(right).max()) if space in ("cosine", "dot") else float(right.max())
    for known in (None, norms) if norms.all() else (None,):
        found = METRICS[space].distances(query, rows, known)
        assert found.dtype == np.float32
        assert (np.abs(found - right) <= 3e-6 * scale).all()
    if space != "dot":
        zero = METRICS[space].distances(rows[0], rows)[0]
        assert 0 <= zero <= 2e-7 * scale


@pytest.mark.parametrize("space", oracle.SPACES)
def test_distances_beyond_float32_are_infinite_and_never_nan(space: str) -> None:
    rows = np.array([[3e38, 3e38], [1, 1]], np.float32)
    query = np.array([-3e38, -3e38], np.float32)
    with np.errstate(over="ignore"):
        found = METRICS[space].distances(query, rows)
    assert not np.isnan(found).any()
    if space == "cosine":
        np.testing.assert_allclose(found, [2, 2], atol=1e-6)
    else:
        assert np.isinf(found[0])


def test_rows_are_prepared_to_unit_length_under_cosine_only() -> None:
    rows = np.array([[3, 4], [1e-20, 0], [1e30, 1e30]], np.float32)
    for name, metric in METRICS.items():
        prepared = metric.prepare(rows)
        if name == "cosine":
            np.testing.assert_allclose(np.linalg.norm(prepared.astype(float), axis=1), 1, rtol=1e-6)
            np.testing.assert_allclose(prepared[0], [0.6, 0.8], rtol=1e-6)
        else:
            assert prepared is rows


def test_rows_decoded_to_zero_stay_zero() -> None:
    prepared = METRICS["cosine"].prepare(np.array([[0, 0], [0, 2]], np.float32))
    np.testing.assert_array_equal(prepared, [[0, 0], [0, 1]])


@pytest.mark.parametrize("space", oracle.SPACES)
@pytest.mark.parametrize("k", [1, 7, 40, 41, 100])
def test_nearest_equals_the_oracle(space: str, k: int) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((40, 5)).astype(np.float32)
    query = rng.standard_normal(5).astype(np.float32)
    pieces = [rows[:16], rows[16:32], rows[32:]]
    norms = None
    if space == "cosine":
        inverse = (1 / np.linalg.norm(rows, axis=1)).astype(np.float32)
        norms = [inverse[:16], inverse[16:32], inverse[32:]]
    for allowed in (None, np.array([1, 15, 16, 17, 33, 39])):
        mask = np.ones(40, bool) if allowed is None else np.isin(np.arange(40), allowed)
        (right,), (distances,) = oracle.top_k(query, rows, space, k, mask)
        slots, found = nearest(METRICS[space], query, pieces, norms, k, allowed)
        assert slots.tolist() == right.tolist()
        np.testing.assert_allclose(found, distances, rtol=1e-5, atol=1e-6)


def test_nearest_breaks_ties_by_the_lower_slot() -> None:
    rows = np.tile(np.eye(3, dtype=np.float32), (5, 1))
    slots, found = nearest(METRICS["l2"], rows[1], [rows], None, 7, None)
    assert slots.tolist() == [1, 4, 7, 10, 13, 0, 2]
    assert (found[:5] == 0).all()


def test_no_second_table_of_metrics_exists() -> None:
    """The names of spaces are compared in one file; elsewhere a metric is asked."""
    package = Path(__file__).resolve().parent.parent / "zeusdb_vs"
    for path in package.rglob("kernels/*.py"):
        assert not re.search(r"""["'](cosine|l2|l1|dot)["']""", path.read_text()), path.name
