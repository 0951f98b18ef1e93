"""The rotation: orthogonal, and the one that is written down."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_harness import DIMS, clustered, turned

from zeusdb_vs.kernels import rotation
from zeusdb_vs.quantization import ScalarCodec


@pytest.mark.parametrize("dim", [*DIMS, 3, 48])
def test_rotation_keeps_lengths_and_inner_products(dim: int) -> None:
    rows = clustered(5, dim, seed=1)
    signs = ScalarCodec.draw_signs(dim, 3)
    found = rows.copy()
    rotation.rotate_rows(found.ctypes.data, len(found), signs.ctypes.data, dim)
    np.testing.assert_allclose(found, turned(rows, signs), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found @ found.T, rows @ rows.T, rtol=1e-4, atol=1e-3 * np.sqrt(dim))
    one = rows[2].copy()
    rotation.rotate(one.ctypes.data, signs.ctypes.data, dim)
    np.testing.assert_array_equal(one, found[2])


@pytest.mark.parametrize("dim", [*DIMS, 3, 48])
def test_rotation_is_undone(dim: int) -> None:
    rows = clustered(5, dim, seed=2)
    signs = ScalarCodec.draw_signs(dim, 4)
    found = turned(rows, signs).astype(np.float32)
    rotation.unrotate_rows(found.ctypes.data, len(found), signs.ctypes.data, dim)
    np.testing.assert_allclose(found, rows, rtol=1e-4, atol=1e-4)
    one = turned(rows[2:3], signs).astype(np.float32)
    rotation.unrotate(one.ctypes.data, signs.ctypes.data, dim)
    np.testing.assert_array_equal(one[0], found[2])


def test_rotation_spreads_what_one_dimension_holds() -> None:
    row = np.zeros(100, np.float32)
    row[7] = 1
    signs = ScalarCodec.draw_signs(100, 3)
    rotation.rotate(row.ctypes.data, signs.ctypes.data, 100)
    assert np.abs(row).max() < 0.5
    assert np.count_nonzero(row) > 60
