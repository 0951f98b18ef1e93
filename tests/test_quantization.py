"""The scalar codec: what it fits, what it loses, what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.quantization import DIMS_PER_BLOCK, ScalarCodec


def _sample(count: int = 500, dim: int = 20) -> np.ndarray:
    rng = np.random.default_rng(1)
    scale = rng.lognormal(0, 1, dim)
    return (rng.standard_normal((count, dim)) * scale + 3 * rng.standard_normal(dim)).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dim", [1, 63, 64, 65, 128, 129, 384])
def test_rows_of_codes_are_whole_blocks(bits: int, dim: int) -> None:
    codec = ScalarCodec.fit(_sample(50, dim), bits, uniform=False, centered=False)
    assert codec.padded % DIMS_PER_BLOCK[bits] == 0
    assert dim <= codec.padded < dim + DIMS_PER_BLOCK[bits]
    assert codec.row_bytes == codec.blocks * 64 == codec.padded * bits // 8
    assert (codec.step[dim:] == 0).all() and (codec.mid[dim:] == 0).all()
    assert codec.half == {4: 7.5, 8: 127.5}[bits]


@pytest.mark.parametrize(("bits", "worst"), [(4, 0.02), (8, 0.0002)])
def test_codes_lose_a_known_share_of_the_variance(bits: int, worst: float) -> None:
    """Of a normal distribution, uniform codes with the best range lose 1.15 % in 4 bits and some .01 % in 8."""
    sample = _sample(4000)
    codec = ScalarCodec.fit(sample, bits, uniform=False, centered=False)
    lost = np.square(codec.decoded(sample) - sample).mean(axis=0) / sample.var(axis=0)
    assert lost.max() < worst


@pytest.mark.parametrize("bits", [4, 8])
def test_values_within_the_range_are_off_by_half_a_step_at_most(bits: int) -> None:
    sample = _sample()
    codec = ScalarCodec.fit(sample, bits, uniform=False, centered=False)
    mid, step = codec.mid[:20].astype(np.float64), codec.step[:20].astype(np.float64)
    inside = np.clip(sample, mid - step * codec.half, mid + step * codec.half)
    assert (np.abs(codec.decoded(sample) - inside) <= 0.5001 * step + 1e-5).all()


def test_one_step_serves_all_dimensions_where_codes_are_subtracted() -> None:
    codec = ScalarCodec.fit(_sample(), 8, uniform=True, centered=False)
    assert len(np.unique(codec.step[:20])) == 1
    assert codec.expand_scale == pytest.approx(codec.step[0])


def test_outliers_do_not_take_the_range() -> None:
    """Nineteen values in twenty thousand are a thousand times as large: the rest keeps most of the codes."""
    sample = np.random.default_rng(2).standard_normal((4096, 10)).astype(np.float32)
    sample[::2000] *= 20
    codec = ScalarCodec.fit(sample, 8, uniform=False, centered=False)
    assert (codec.step[:10] * 255 < 40).all()


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_stored_rows_fit_the_weights_of_a_query(bits: int, centered: bool) -> None:
    """No decoded row has a weight beyond what 8 bits hold at `expand_scale`."""
    codec = ScalarCodec.fit(_sample(), bits, uniform=False, centered=centered)
    codes = np.array([0, 2 * codec.half])[:, None]
    value = codec.step * (codes - codec.half) + (0 if centered else codec.mid)
    assert np.abs(value * codec.step / codec.expand_scale).max() <= 127.001


@pytest.mark.parametrize("bits", [4, 8])
def test_sample_that_does_not_vary_is_kept(bits: int) -> None:
    sample = np.tile(np.array([[1.5, -2.0, 0.0]], np.float32), (40, 1))
    codec = ScalarCodec.fit(sample, bits, uniform=False, centered=False)
    np.testing.assert_array_equal(codec.decoded(sample), sample)
    assert np.isfinite(codec.expand_scale)


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_state_goes_there_and_back(bits: int, rotated: bool) -> None:
    signs = ScalarCodec.draw_signs(20, 7) if rotated else None
    codec = ScalarCodec.fit(_sample(), bits, uniform=False, centered=True, signs=signs)
    back = ScalarCodec.from_state(codec.state(), 20)
    for name in ("bits", "uniform", "expand_scale"):
        assert getattr(back, name) == getattr(codec, name)
    for name in ("mid", "step"):
        np.testing.assert_array_equal(getattr(back, name), getattr(codec, name))
    if signs is None:
        assert back.signs is None
    else:
        np.testing.assert_array_equal(back.signs, signs)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bits", 6),
        ("bits", 16),
        ("bits", None),
        ("bits", "8"),
        ("mid", None),
        ("mid", np.zeros(3, np.float32)),
        ("mid", np.zeros(64, np.float64)),
        ("mid", np.full(64, np.nan, np.float32)),
        ("step", np.full(64, np.inf, np.float32)),
        ("step", np.full(64, -1, np.float32)),
        ("expand_scale", np.nan),
        ("expand_scale", -1.0),
        ("expand_scale", np.inf),
        ("uniform", 2),
        ("signs", np.zeros((2, 20), np.float32)),
        ("signs", np.ones((2, 21), np.float32)),
        ("signs", np.ones((3, 20), np.float32)),
        ("signs", np.full((2, 20), np.nan, np.float32)),
    ],
)
def test_impossible_state_is_refused(name: str, value: Any) -> None:
    state = ScalarCodec.fit(_sample(), 8, uniform=False, centered=False).state()
    with pytest.raises(CorruptIndexError, match=r"codes\.bin"):
        ScalarCodec.from_state({**state, name: value}, 20)


def test_signs_are_drawn_alike_for_equal_seeds() -> None:
    first = ScalarCodec.draw_signs(100, 5)
    assert first.dtype == np.float32 and set(np.unique(first)) == {-1.0, 1.0}
    np.testing.assert_array_equal(first, ScalarCodec.draw_signs(100, 5))
    assert (first != ScalarCodec.draw_signs(100, 6)).any()
