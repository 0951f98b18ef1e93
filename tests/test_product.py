"""The product codec: what it trains, what it loses, what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from kernel_harness import clustered, turned
from numpy.typing import NDArray

from zeusdb_vs import threads
from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.kernels import layout, product
from zeusdb_vs.product import ProductCodec, quantization_error
from zeusdb_vs.quantization import ScalarCodec

DIM = 24


def _codec(bits: int = 4, subvectors: int = 6, *, is_l2: bool = False, rotated: bool = False) -> ProductCodec:
    signs = ScalarCodec.draw_signs(DIM, 7) if rotated else None
    sample = clustered(500, DIM, seed=1)
    if signs is not None:
        sample = turned(sample, signs).astype(np.float32)
    return ProductCodec.fit(sample, subvectors, bits, is_l2=is_l2, seed=3, signs=signs)


def _encoded(codec: ProductCodec, rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    codes = np.zeros((len(rows), codec.row_bytes), np.uint8)
    table = np.array([codes.ctypes.data])
    ix = np.zeros(layout.SIZE, np.int64)
    codec.describe(ix)
    ix[layout.DIM], ix[layout.CHUNK_SHIFT], ix[layout.CODES] = codec.dim, 30, table.ctypes.data
    ix[layout.FORM] = layout.FORM_L2 if codec.is_l2 else layout.FORM_DOT
    product.encode_products(ix, np.ascontiguousarray(rows).ctypes.data, 0, 0, len(rows))
    return codes


@pytest.fixture
def given_threads() -> Iterator[None]:
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("subvectors", [1, 3, 8, 24])
def test_sizes_are_those_of_packed_codes(bits: int, subvectors: int) -> None:
    codec = _codec(bits, subvectors)
    per_byte = {1: 8, 2: 4, 3: 2, 4: 2}.get(bits, 1)
    assert codec.centroids.shape == (subvectors, 2**bits, DIM // subvectors)
    assert codec.code_bytes == -(-subvectors // per_byte)
    assert codec.row_bytes % 4 == 0 and 0 <= codec.row_bytes - 4 - codec.code_bytes < 4
    assert codec.table.shape == (DIM, 256)
    assert codec.rows.shape == (codec.code_bytes, 256, per_byte * DIM // subvectors)
    assert codec.name == f"pq {subvectors}x{bits}"
    assert codec.memory_bytes > 256 * 4 * DIM


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_value_of_a_byte_means_centroids(bits: int) -> None:
    """Values that no code has too: bytes of a damaged file must read what is there."""
    codec = _codec(bits, 6)
    per_byte = {1: 8, 2: 4, 3: 2, 4: 2}.get(bits, 1)
    for s in range(6):
        for value in (0, 1, 2, 5, 77, 128, 254, 255):
            named = value >> (8 // per_byte * (s % per_byte)) & (2**bits - 1)
            np.testing.assert_array_equal(codec.table[s * 4 : s * 4 + 4, value], codec.centroids[s, named])
            part = slice(s % per_byte * 4, s % per_byte * 4 + 4)
            np.testing.assert_array_equal(codec.rows[s // per_byte, value, part], codec.centroids[s, named])


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
def test_codes_lose_what_they_must_and_little_more(bits: int) -> None:
    """No code of normally distributed numbers loses less than 4 ** -bits of each; here four of them share a code."""
    sample = np.random.default_rng(2).standard_normal((4000, DIM)).astype(np.float32)
    codec = ProductCodec.fit(sample, 6, bits, is_l2=False, seed=0)
    lost = np.square(codec.decode(_encoded(codec, sample)) - sample).mean()
    assert 4 ** (-bits / 4) < lost < 1.45 * 4 ** (-bits / 4)


@pytest.mark.parametrize("is_l2", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
def test_decoded_rows_are_near(is_l2: bool, rotated: bool) -> None:
    codec = _codec(8, 12, is_l2=is_l2, rotated=rotated)
    assert codec.name == ("pq 12x8 rotated" if rotated else "pq 12x8")
    rows = clustered(500, DIM, seed=1)
    wanted = rows if codec.signs is None else turned(rows, codec.signs)
    found = codec.decode(_encoded(codec, rows))
    assert found.dtype == np.float32 and found.shape == rows.shape
    assert np.square(found - wanted).mean() < 0.02 * wanted.var()


def test_decodes_no_rows() -> None:
    codec = _codec()
    assert codec.decode(np.empty((0, codec.row_bytes), np.uint8)).shape == (0, DIM)
    codec.check_codes(np.empty((0, codec.row_bytes), np.uint8))


def test_training_does_not_depend_on_the_threads(given_threads: None) -> None:
    codecs = []
    for count in (1, 2):
        threads.set_num_threads(count)
        codecs.append(_codec(6, 12))
    np.testing.assert_array_equal(codecs[0].centroids, codecs[1].centroids)
    np.testing.assert_array_equal(codecs[0].center, codecs[1].center)


def test_training_reports_each_subvector() -> None:
    told: list[tuple[int, int]] = []
    ProductCodec.fit(
        clustered(50, DIM, seed=1), 8, 2, is_l2=False, seed=0, report=lambda *done: told.append(done)
    )
    assert told == [(done, 8) for done in range(1, 9)]


@pytest.mark.parametrize("count", [1, 3, 200])
def test_sample_of_few_distinct_rows_is_kept(count: int) -> None:
    sample = np.concatenate([clustered(min(count, 3), DIM, seed=4)] * -(-count // 3))
    codec = ProductCodec.fit(sample, 6, 4, is_l2=True, seed=0)
    np.testing.assert_allclose(codec.decode(_encoded(codec, sample)), sample, rtol=1e-5, atol=1e-5)


def test_largest_numbers_are_trained_on() -> None:
    sample = np.full((20, DIM), 3.4e38, np.float32)
    sample[::2] *= -1
    sample[0, 0] = 1
    codec = ProductCodec.fit(sample, 6, 2, is_l2=True, seed=0)
    assert np.isfinite(codec.centroids).all() and np.isfinite(codec.center).all()


@pytest.mark.parametrize("is_spread", [False, True])
def test_rotates_where_codes_then_lose_less(is_spread: bool) -> None:
    """Dimensions in groups that vary together suit subvectors as they are; few that hold everything do not."""
    rng = np.random.default_rng(3)
    if is_spread:
        sample = np.repeat(rng.standard_normal((1500, 6)), 4, axis=1) + 0.1 * rng.standard_normal((1500, DIM))
    else:
        sample = rng.standard_normal((1500, DIM)) * np.where(np.arange(DIM) < 4, 1, 0.01)
    sample = sample.astype(np.float32)
    signs = ScalarCodec.draw_signs(DIM, 1)
    rotated = turned(sample, signs).astype(np.float32)
    codec = ProductCodec.fit_best(sample, rotated, signs, 6, 4, is_l2=False, seed=0)
    errors = [quantization_error(rows, 6, 4, seed=0) for rows in (sample, rotated)]
    assert (errors[0] < errors[1]) == is_spread
    if is_spread:
        assert codec.signs is None
    else:
        np.testing.assert_array_equal(codec.signs, signs)
    chosen = sample if is_spread else rotated
    np.testing.assert_array_equal(
        codec.centroids, ProductCodec.fit(chosen, 6, 4, is_l2=False, seed=0).centroids
    )


def test_error_is_that_of_rows_not_trained_on() -> None:
    sample = np.random.default_rng(2).standard_normal((6000, DIM)).astype(np.float32)
    codec = ProductCodec.fit(sample, 6, 4, is_l2=False, seed=0)
    lost = np.square(codec.decode(_encoded(codec, sample)) - sample).sum(axis=1).mean()
    assert lost < quantization_error(sample, 6, 4, seed=0) < 1.1 * lost


# ------------------------------------------------------------------------------------------- on disk


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("is_l2", [False, True])
def test_state_goes_there_and_back(is_l2: bool, rotated: bool) -> None:
    codec = _codec(3, 6, is_l2=is_l2, rotated=rotated)
    back = ProductCodec.from_state(codec.state(), DIM)
    for name in ("bits", "is_l2", "subvectors", "name", "row_bytes"):
        assert getattr(back, name) == getattr(codec, name)
    for name in ("centroids", "center", "signs", "table", "rows"):
        np.testing.assert_array_equal(getattr(back, name), getattr(codec, name))
    assert back.centroids is not codec.centroids, "kernels keep addresses of their own arrays"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bits", 0),
        ("bits", 9),
        ("bits", 3),
        ("bits", 4.5),
        ("bits", None),
        ("bits", np.nan),
        ("is_l2", 2),
        ("is_l2", 0.5),
        ("is_l2", None),
        ("centroids", None),
        ("centroids", np.zeros((6, 16, 4))),
        ("centroids", np.zeros((6, 16, 5), np.float32)),
        ("centroids", np.zeros((5, 16, 4), np.float32)),
        ("centroids", np.zeros((6, 15, 4), np.float32)),
        ("centroids", np.zeros((6, 16), np.float32)),
        ("centroids", np.zeros((0, 16, 4), np.float32)),
        ("centroids", np.full((6, 16, 4), np.nan, np.float32)),
        ("centroids", np.full((6, 16, 4), np.inf, np.float32)),
        ("center", None),
        ("center", np.zeros(DIM + 1, np.float32)),
        ("center", np.full(DIM, -np.inf, np.float32)),
        ("signs", np.zeros((2, DIM), np.float32)),
        ("signs", np.ones((2, DIM + 1), np.float32)),
        ("signs", np.full((2, DIM), np.nan, np.float32)),
        ("signs", None),
    ],
)
def test_impossible_state_is_refused(name: str, value: Any) -> None:
    state = _codec().state()
    with pytest.raises(CorruptIndexError, match=r"^pq_centroids\.bin: "):
        ProductCodec.from_state({**state, name: value}, DIM)


@pytest.mark.parametrize("is_l2", [False, True])
@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_that_name_no_centroid_are_refused(bits: int, is_l2: bool) -> None:
    codec = _codec(bits, 3, is_l2=is_l2)
    codes = _encoded(codec, clustered(30, DIM, seed=1))
    codec.check_codes(codes)
    per_byte = {1: 8, 2: 4, 3: 2, 4: 2}.get(bits, 1)
    for byte in range(codec.code_bytes):
        for bit in range(8):
            s, within = byte * per_byte + bit // (8 // per_byte), bit % (8 // per_byte)
            changed = codes.copy()
            changed[17, codec.head_bytes + byte] |= 1 << bit
            if s < 3 and within < bits:
                codec.check_codes(changed)
            else:
                with pytest.raises(CorruptIndexError, match=r"^pq_codes\.bin: a code"):
                    codec.check_codes(changed)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e-3, 4.001])
def test_impossible_factors_are_refused(value: float) -> None:
    codec = _codec()
    codes = _encoded(codec, clustered(30, DIM, seed=1))
    codes[5, :4] = np.frombuffer(np.float32(value).tobytes(), np.uint8)
    with pytest.raises(CorruptIndexError, match=r"^pq_codes\.bin: the factor"):
        codec.check_codes(codes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e-3])
def test_impossible_lengths_are_refused(value: float) -> None:
    codec = _codec(is_l2=True)
    codes = _encoded(codec, clustered(30, DIM, seed=1))
    codes[5, 4:8] = np.frombuffer(np.float32(value).tobytes(), np.uint8)
    with pytest.raises(CorruptIndexError, match=r"^pq_codes\.bin: the squared length"):
        codec.check_codes(codes)


def _digits(width: int) -> NDArray[np.int64]:
    bits = 8 // width
    return np.arange(256)[:, None] >> bits * np.arange(width) & 2**bits - 1


@pytest.mark.parametrize("width", [2, 4])
def test_numbers_of_centroids_tell_where_they_are(width: int) -> None:
    dim = 64 * width
    sample = np.random.default_rng(0).standard_normal((1500, dim)).astype(np.float32)
    codec = ProductCodec.fit(sample, 64, 8, is_l2=False, seed=0)
    assert codec.reads_digits and codec.digits is not None
    middle = codec.centroids.mean(axis=1, keepdims=True, dtype=np.float64)
    step, zero = codec.digits.astype(np.float64).reshape(2, 64, 1, width)
    told = zero + step * _digits(width)
    untold = np.square(codec.centroids - told).sum() / np.square(codec.centroids - middle).sum()
    assert untold < {2: 0.12, 4: 0.2}[width]
    # No other straight lines through the digits tell more.
    for change in (0.99, 1.01):
        for others in (zero + change * step * _digits(width), change * zero + step * _digits(width)):
            assert np.square(codec.centroids - others).sum() > np.square(codec.centroids - told).sum()
    # Numbers are all that is different.
    plain = replace(codec, reads_digits=False)
    assert plain.digits is None
    np.testing.assert_array_equal(
        plain.decode(_encoded(plain, sample)), codec.decode(_encoded(codec, sample))
    )


@pytest.mark.parametrize(
    ("subvectors", "bits", "width"), [(63, 8, 4), (64, 7, 4), (64, 8, 1), (64, 8, 3), (64, 8, 8)]
)
def test_codes_without_digits(subvectors: int, bits: int, width: int) -> None:
    sample = np.random.default_rng(0).standard_normal((300, subvectors * width)).astype(np.float32)
    codec = ProductCodec.fit(sample, subvectors, bits, is_l2=False, seed=0)
    assert not codec.reads_digits and codec.digits is None
    state = codec.state()
    assert "reads_digits" not in state
    assert not ProductCodec.from_state(state, codec.dim).reads_digits
    with pytest.raises(CorruptIndexError, match=r"^pq_centroids\.bin: 'reads_digits' is 1 for"):
        ProductCodec.from_state({**state, "reads_digits": 1}, codec.dim)


def test_whether_digits_are_read_is_kept() -> None:
    sample = np.random.default_rng(0).standard_normal((300, 128)).astype(np.float32)
    codec = ProductCodec.fit(sample, 64, 8, is_l2=False, seed=0)
    for one in (codec, replace(codec, reads_digits=False)):
        again = ProductCodec.from_state(one.state(), 128)
        assert again.reads_digits is one.reads_digits
        np.testing.assert_array_equal(again.centroids, one.centroids)
    for value in ("1", None, 2, -1, np.nan, [1]):
        with pytest.raises(CorruptIndexError, match=r"^pq_centroids\.bin: 'reads_digits' is"):
            ProductCodec.from_state({**codec.state(), "reads_digits": value}, 128)
