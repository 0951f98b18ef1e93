"""Product codes and k-means against plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from kernel_harness import clustered, compiled, turned
from numpy.typing import NDArray

from zeusdb_vs.kernels import kmeans, layout, product, product_digits, product_queries, product_tables
from zeusdb_vs.kernels.compile import JIT_DISABLED
from zeusdb_vs.product import ProductCodec
from zeusdb_vs.quantization import ScalarCodec

CASES = (
    # dim, subvectors, bits: subvectors that fill their bytes, and that do not
    [(8, 4, 1), (6, 3, 4)]
    if JIT_DISABLED
    else [
        (8, 1, 8),
        *((8, 8, bits) for bits in range(1, 9)),
        *((96, 12, bits) for bits in range(1, 9)),
        *((15, 5, bits) for bits in (1, 2, 3, 4, 8)),
        (33, 11, 1),
        (384, 48, 8),
        (384, 96, 4),
        (384, 384, 1),
        (100, 20, 6),
    ]
)
DIGIT_CASES = [(384, 96), (256, 64), (260, 65), (508, 127), (512, 128), (128, 64), (256, 128), (384, 192)]
ROWS = 5 if JIT_DISABLED else 60
CHUNK_SHIFT = 2 if JIT_DISABLED else 5


# What the kernels should find, in plain NumPy: nothing of ours below


def nearest(rows: NDArray, centroids: NDArray) -> tuple[NDArray, NDArray]:
    """Squared distances of subvectors to centroids, float64 (n, subvectors, k), and the nearest."""
    subvectors, _, width = centroids.shape
    parts = rows.astype(np.float64).reshape(len(rows), subvectors, 1, width)
    squared = ((parts - centroids.astype(np.float64)[None]) ** 2).sum(axis=3)
    return squared, squared.argmin(axis=2)


def unpacked(codes: NDArray[np.uint8], subvectors: int, bits: int) -> NDArray[np.int64]:
    """Codes of rows of bytes, which are filled from the low bits up: 8, 4, 2 or 1 of them each."""
    per_byte = {1: 8, 2: 4, 3: 2, 4: 2}.get(bits, 1)
    fields = [codes >> (8 // per_byte * j) & (2 ** (8 // per_byte) - 1) for j in range(per_byte)]
    every = np.stack(fields, axis=2).reshape(len(codes), -1).astype(np.int64)
    assert (every[:, subvectors:] == 0).all(), "codes of subvectors that are not there"
    return every[:, :subvectors]


def factors(rows: NDArray, decoded: NDArray) -> NDArray[np.float64]:
    squared, products = (rows * rows).sum(axis=1), (rows * decoded).sum(axis=1)
    stretched = np.clip(squared / np.where(products > 0, products, 1), 0, 4)
    return np.where(squared == 0, 0, np.where(products > 0, stretched, 1))


def lloyd(points: NDArray[np.float32], draws: NDArray[np.float64], turns: int) -> NDArray[np.float64]:
    """k-means++ with the given draws, then plain k-means in float64."""
    wide = points.astype(np.float64)
    seeds = [wide[int(draws[0] * len(wide))]]
    while len(seeds) < len(draws):
        closest = np.min([((wide - seed) ** 2).sum(axis=1) for seed in seeds], axis=0)
        reached = np.cumsum(closest)
        seeds.append(wide[np.searchsorted(reached, draws[len(seeds)] * reached[-1], side="right")])
    centroids = np.array(seeds)
    for _ in range(turns):
        assigned = ((wide[:, None] - centroids[None]) ** 2).sum(axis=2).argmin(axis=1)
        for c in range(len(centroids)):
            if (assigned == c).any():
                centroids[c] = wide[assigned == c].mean(axis=0)
    return centroids


def mean_error(points: NDArray, centroids: NDArray) -> float:
    return float(((points[:, None] - centroids[None]) ** 2).sum(axis=2).min(axis=1).mean())


# ------------------------------------------------------------------------------------------------ codes


@dataclass
class Coded:
    """Rows and their codes, with a descriptor.

    Attributes
    ----------
    prepared : float64 (n, dim): what was coded, rotated but not relative to the center
    """

    codec: ProductCodec
    space: str
    prepared: NDArray[np.float64]
    codes: NDArray[np.uint8]
    ix: NDArray[np.int64]
    held: list[Any]

    @property
    def relative(self) -> NDArray[np.float64]:
        return self.prepared - self.codec.center.astype(np.float64)

    @property
    def levels(self) -> NDArray[np.int64]:
        start = self.codec.head_bytes
        packed = self.codes[:, start : start + self.codec.code_bytes]
        return unpacked(packed, self.codec.subvectors, self.codec.bits)

    @property
    def centroids_named(self) -> NDArray[np.float64]:
        chosen = self.codec.centroids[np.arange(self.codec.subvectors), self.levels]
        return chosen.reshape(len(self.codes), -1).astype(np.float64)

    @property
    def heads(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.codes[:, : self.codec.head_bytes]).view(np.float32)

    def row(self, slot: int) -> int:
        return int(self.codes[slot : slot + 1].ctypes.data)

    def form(self, query: NDArray[np.float32]) -> NDArray[np.uint8]:
        form = np.zeros(layout.QUERY_HEADER + 512 * self.codec.code_bytes, np.uint8)
        prepared = np.ascontiguousarray(query, np.float32)
        product_tables.prepare_tables(self.ix, prepared.ctypes.data, form.ctypes.data, True)
        return form


def random_codec(
    dim: int, subvectors: int, bits: int, *, is_l2: bool, rotated: bool, seed: int
) -> ProductCodec:
    rng = np.random.default_rng(seed)
    width = dim // subvectors
    return ProductCodec(
        bits,
        rng.standard_normal((subvectors, 2**bits, width)).astype(np.float32),
        (0.3 * rng.standard_normal(dim)).astype(np.float32),
        is_l2,
        ScalarCodec.draw_signs(dim, seed) if rotated else None,
    )


def encode(codec: ProductCodec, rows: NDArray[np.float32], space: str) -> Coded:
    """Code rows in chunks, beginning in the middle of one."""
    rows = np.ascontiguousarray(rows)
    first, per_chunk = per_first(), 1 << CHUNK_SHIFT
    chunks = [
        np.full((per_chunk, codec.row_bytes), 255, np.uint8)
        for _ in range(-(-(first + len(rows)) // per_chunk))
    ]
    table = np.array([chunk.ctypes.data for chunk in chunks], np.int64)
    ix = np.zeros(layout.SIZE, np.int64)
    codec.describe(ix)
    ix[layout.DIM], ix[layout.CHUNK_SHIFT], ix[layout.CODES] = codec.dim, CHUNK_SHIFT, table.ctypes.data
    ix[layout.FORM] = layout.FORM_L2 if codec.is_l2 else layout.FORM_DOT
    wide = rows.astype(np.float64)
    norms = None
    if space == "cosine":
        lengths = np.sqrt((wide**2).sum(axis=1))
        wide /= lengths[:, None]
        usual = (lengths > 1e-30) & (lengths < 1e37)
        norms = np.where(usual, 1 / np.where(usual, lengths, 1), 0).astype(np.float32)
    product.encode_products(ix, rows.ctypes.data, 0 if norms is None else norms.ctypes.data, first, len(rows))
    prepared = wide if codec.signs is None else turned(wide, codec.signs)
    every = np.concatenate(chunks)
    assert (every[:first] == 255).all() and (every[first + len(rows) :] == 255).all(), "other slots written"
    codes = np.ascontiguousarray(every[first : first + len(rows)])
    return Coded(codec, space, prepared, codes, ix, [chunks, table])


def per_first() -> int:
    return (1 << CHUNK_SHIFT) - 3


def coded(dim: int, subvectors: int, bits: int, space: str, *, rotated: bool) -> Coded:
    rows = clustered(ROWS, dim, seed=dim + bits)
    codec = random_codec(dim, subvectors, bits, is_l2=space == "l2", rotated=rotated, seed=bits)
    return encode(codec, rows, space)


def _scaled(codec: ProductCodec, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights in 127ths of half of what their dimensions range over, each byte padded to fours."""
    ranges = np.ptp(codec.centroids.astype(np.float64), axis=1).ravel()
    padded = np.zeros(codec.code_bytes * codec.byte_width)
    padded[: codec.dim] = weights * ranges / 2 / 127
    return np.pad(padded.reshape(codec.code_bytes, -1), ((0, 0), (0, -codec.byte_width % 4)))


def _reach(codec: ProductCodec, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half of how far the products of weights and centroids can lie apart, for each byte of a code."""
    ranges = np.ptp(codec.centroids.astype(np.float64), axis=1).ravel()
    padded = np.zeros(codec.code_bytes * codec.byte_width)
    padded[: codec.dim] = np.abs(weights) * ranges / 2
    return padded.reshape(codec.code_bytes, -1).sum(axis=1)


distance_of = compiled(lambda ix, form, row: product.product_distance(ix, form, row))


@compiled
def write_relative(ix, query, out):
    product_queries.write_relative(ix, query, out)


@compiled
def decode(ix, row, out, scaled):
    product.decode_product(ix, row, out, scaled)


@pytest.mark.parametrize("space", ["cosine", "l2", "dot"])
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize(("dim", "subvectors", "bits"), CASES)
def test_codes_name_the_nearest_centroids(
    dim: int, subvectors: int, bits: int, rotated: bool, space: str
) -> None:
    index = coded(dim, subvectors, bits, space, rotated=rotated)
    squared, best = nearest(index.relative, index.codec.centroids)
    levels = index.levels
    assert levels.max() < 2**bits
    found = np.take_along_axis(squared, levels[:, :, None], 2)
    least = np.take_along_axis(squared, best[:, :, None], 2)
    # Several codes of a byte are sought together, so what may be lost in rounding is of the whole byte.
    slack = 1e-5 * (1 + (index.relative**2).sum(axis=1))[:, None, None]
    assert (found <= least + slack).all()
    assert (levels == best).mean() > 0.99
    end = index.codec.head_bytes + index.codec.code_bytes
    assert (index.codes[:, end:] == 0).all(), "bytes that fill a row up"
    index.codec.check_codes(index.codes)


@pytest.mark.parametrize("space", ["cosine", "l2", "dot"])
@pytest.mark.parametrize(("dim", "subvectors", "bits"), CASES)
def test_heads_hold_factors_and_lengths(dim: int, subvectors: int, bits: int, space: str) -> None:
    index = coded(dim, subvectors, bits, space, rotated=False)
    wanted = factors(index.relative, index.centroids_named)
    products = (index.relative * index.centroids_named).sum(axis=1)
    clear = np.abs(products) > 1e-3 * (index.relative**2).sum(axis=1)  # else the quotient has lost its digits
    np.testing.assert_allclose(index.heads[clear, 0], wanted[clear], rtol=1e-3)
    if space == "l2":
        np.testing.assert_allclose(index.heads[:, 1], (index.relative**2).sum(axis=1), rtol=1e-4)


@pytest.mark.parametrize("space", ["cosine", "l2", "dot"])
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize(("dim", "subvectors", "bits"), CASES)
def test_distances_are_those_of_decoded_rows(
    dim: int, subvectors: int, bits: int, rotated: bool, space: str
) -> None:
    index = coded(dim, subvectors, bits, space, rotated=rotated)
    codec = index.codec
    center, d = codec.center.astype(np.float64), index.centroids_named
    factor = index.heads[:, 0].astype(np.float64)
    for query in [*clustered(2, dim, seed=dim + 1), index.prepared[0].astype(np.float32)]:
        form = index.form(query)
        base, alpha, offset = np.frombuffer(form[:12], np.float32).astype(np.float64)
        entry_bytes = int(form[12:16].view(np.int32)[0])
        tables = form[layout.QUERY_HEADER :][: 256 * entry_bytes * codec.code_bytes]
        tables = tables.view(np.uint8 if entry_bytes == 1 else np.uint16).reshape(-1, 256)
        found = np.array([distance_of(index.ix, form.ctypes.data, index.row(i)) for i in range(len(d))])
        q = query.astype(np.float64)
        if space == "l2":
            lengths = (index.relative**2).sum(axis=1)
            wanted = ((q - center) ** 2).sum() - 2 * factor * (d @ (q - center)) + lengths
        else:
            wanted = 1 - q @ center - factor * (d @ q)
        reach = _reach(codec, q - center if space == "l2" else q) * (2 if space == "l2" else 1)
        groups = -(-codec.byte_width // 4)
        weights = _scaled(codec, q - center if space == "l2" else q) * (2 if space == "l2" else 1)
        pair = np.abs(weights).reshape(-1, 2).sum(axis=1).max()
        entry = 128 << (groups - 1).bit_length()
        room = entry * 127 / 128 - 2 * groups
        is_even = reach.max() <= 4 * reach.mean() and pair / 126 <= 2 * reach.max() / 127 / room
        assert entry_bytes == (1 if codec.byte_width >= 3 and is_even else 2)
        if entry_bytes == 1:
            unit = max(reach.max() / 127 / room, pair / 126)
            # Half a step of the grid in each dimension, of which 127 make `reach`, and half a unit of each weight.
            rounding = reach.sum() / 127 / 2 + 0.5 * unit * 127 * codec.dim
            assert tables.max() <= 252
        else:
            unit, entry, rounding = 2 * reach.max() / 65534, 1, 0
        rounding = (rounding + 0.5 * alpha * codec.code_bytes) * factor
        scale = 1 + abs(base) + factor * (abs(offset) + alpha * tables.max(axis=1).sum()) + np.abs(wanted)
        assert (np.abs(found - wanted) <= rounding * 1.01 + 1e-5 * scale).all()
        assert alpha == pytest.approx(unit * entry, rel=1e-4), "the finest step that is sure to fit"
        # Where the entries of a byte may begin is taken off, so none is negative, and a byte of one dimension uses all.
        if codec.byte_width == 1:
            assert (tables.min(axis=1) <= 1).all()


@pytest.mark.parametrize("space", ["cosine", "l2", "dot"])
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize(("dim", "subvectors"), [(256, 64), (128, 64)] if JIT_DISABLED else DIGIT_CASES)
def test_distances_by_digits_are_those_of_what_digits_stand_for(
    dim: int, subvectors: int, rotated: bool, space: str
) -> None:
    given = random_codec(dim, subvectors, 8, is_l2=space == "l2", rotated=rotated, seed=dim)
    codec = replace(given, reads_digits=True)
    index = encode(codec, clustered(ROWS, dim, seed=dim), space)
    assert codec.digits is not None
    step, zero = codec.digits.astype(np.float64)
    places = dim // subvectors
    bits = 8 // places
    digits = index.levels[:, :, None] >> bits * np.arange(places) & 2**bits - 1
    d = zero + step * digits.reshape(len(digits), dim)
    center = codec.center.astype(np.float64)
    factor = index.heads[:, 0].astype(np.float64)
    for query in [*clustered(2, dim, seed=dim + 1), np.zeros(dim, np.float32)]:
        form = np.full(layout.QUERY_HEADER + 512 * codec.code_bytes, 77, np.uint8)
        product_digits.prepare_digits(index.ix, query.ctypes.data, form.ctypes.data)
        found = np.array([distance_of(index.ix, form.ctypes.data, index.row(i)) for i in range(len(d))])
        q = query.astype(np.float64)
        weights = -2 * (q - center) if space == "l2" else -q
        if space == "l2":
            wanted = ((q - center) ** 2).sum() + factor * (d @ weights) + (index.relative**2).sum(axis=1)
        else:
            wanted = 1 - q @ center + factor * (d @ weights)
        unit = np.abs(weights * step).max() / 127
        rounding = factor * unit / 2 * digits.reshape(len(digits), dim).sum(axis=1)
        scale = 1 + np.abs(wanted) + factor * (np.abs(d) @ np.abs(weights))
        assert (np.abs(found - wanted) <= rounding + 1e-5 * scale).all()


@pytest.mark.parametrize("space", ["cosine", "l2"])
@pytest.mark.parametrize(("dim", "subvectors"), [(32, 8), (36, 9), (16, 8), (24, 8), (20, 2)])
def test_distances_in_full_are_those_of_decoded_rows(dim: int, subvectors: int, space: str) -> None:
    index = coded(dim, subvectors, 8, space, rotated=False)
    center, factor = index.codec.center.astype(np.float64), index.heads[:, 0].astype(np.float64)
    query = clustered(1, dim, seed=dim + 1)[0]
    q = query.astype(np.float64)
    form = index.form(query)
    relative, room = np.empty(dim, np.float32), np.empty(dim, np.float32)
    write_relative(index.ix, query.ctypes.data, relative.ctypes.data)
    for row, (d, stretch) in enumerate(zip(index.centroids_named, factor, strict=True)):
        found = product.product_distance_in_full(
            index.ix, form.ctypes.data, relative.ctypes.data, index.row(row), room.ctypes.data
        )
        if space == "l2":
            wanted = ((q - center) ** 2).sum() - 2 * stretch * (d @ (q - center)) + index.heads[row, 1]
        else:
            wanted = 1 - q @ center - stretch * (d @ q)
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_query_that_one_byte_decides_keeps_the_fine_steps_of_the_others() -> None:
    """With 8 bits for all entries those of the other bytes would be a step or two."""
    index = coded(40, 8, 8, "dot", rotated=False)
    uneven = np.ones(40, np.float32)
    uneven[: index.codec.byte_width] = 1000
    even_form, form = index.form(np.ones(40, np.float32)), index.form(uneven)
    assert even_form[12] == 1
    assert form[12] == 2
    wanted = 1 - uneven @ index.codec.center - index.heads[:, 0] * (index.centroids_named @ uneven)
    found = np.array([distance_of(index.ix, form.ctypes.data, index.row(i)) for i in range(len(index.codes))])
    step = 2 * _reach(index.codec, uneven).max() / 65534
    assert np.abs(found - wanted).max() <= step * index.codec.code_bytes


@pytest.mark.parametrize(("dim", "subvectors", "bits"), CASES)
def test_rows_decode_to_their_centroids(dim: int, subvectors: int, bits: int) -> None:
    index = coded(dim, subvectors, bits, "l2", rotated=True)
    center, d = index.codec.center, index.centroids_named
    for scaled, stretch in [(False, 1), (True, index.heads[:, :1])]:
        found = np.empty((len(d), dim + 1), np.float32)
        found[:, dim] = -77
        for i in range(len(d)):
            decode(index.ix, index.row(i), found[i : i + 1].ctypes.data, scaled)
        np.testing.assert_allclose(found[:, :dim], center + stretch * d, rtol=1e-5, atol=1e-5)
        assert (found[:, dim] == -77).all(), "written beyond the row"
    np.testing.assert_allclose(index.codec.decode(index.codes), center + d, rtol=1e-6, atol=1e-6)


def test_row_at_the_center_has_no_direction() -> None:
    codec = random_codec(8, 4, 1, is_l2=True, rotated=False, seed=1)
    index = encode(codec, codec.center[None], "l2")
    np.testing.assert_array_equal(index.heads, [[0, 0]])
    query = np.arange(8, dtype=np.float32)
    found = distance_of(index.ix, index.form(query).ctypes.data, index.row(0))
    assert found == pytest.approx(((query - codec.center) ** 2).sum(), rel=1e-5)


def test_row_opposite_to_its_centroids_is_not_stretched() -> None:
    codec = ProductCodec(1, np.ones((2, 2, 2), np.float32), np.zeros(4, np.float32), False)
    index = encode(codec, np.array([[-1, -1, -1, -1], [0.001, 0, 0, 0]], np.float32), "dot")
    np.testing.assert_allclose(index.heads[:, 0], [1, 0.001])


def test_first_of_equal_centroids_is_named() -> None:
    """Values of a byte that no code has mean the same as others and must never be written."""
    codec = ProductCodec(3, np.zeros((4, 8, 2), np.float32), np.zeros(8, np.float32), False)
    index = encode(codec, clustered(4, 8, seed=1), "dot")
    assert (index.levels == 0).all()


def test_extreme_norms_are_coded_as_their_directions() -> None:
    codec = random_codec(6, 3, 1, is_l2=False, rotated=True, seed=2)
    rows = clustered(3, 6, seed=3)
    usual = encode(codec, rows, "cosine")
    for scale in (1e-33, 1e38 / np.abs(rows).max()):
        odd = encode(codec, (rows * np.float32(scale)).astype(np.float32), "cosine")
        np.testing.assert_array_equal(odd.levels, usual.levels)
        np.testing.assert_allclose(odd.heads, usual.heads, rtol=1e-3)


@pytest.mark.parametrize("space", ["l2", "dot"])
@pytest.mark.parametrize("rows_scale", [1.0, 3e38])
@pytest.mark.parametrize("query_scale", [1.0, 1e-44, 3e38])
def test_distances_are_never_nan(space: str, rows_scale: float, query_scale: float) -> None:
    rng = np.random.default_rng(5)
    rows = (rng.choice([-1, 1], (6, 8)) * rows_scale).astype(np.float32)
    centroids = rng.choice([-1, 1], (4, 2, 2)) * rows_scale
    codec = ProductCodec(
        1, centroids.astype(np.float32), rows.mean(axis=0, dtype=np.float64).astype("f4"), space == "l2"
    )
    with np.errstate(all="ignore"):
        index = encode(codec, rows, space)
        codec.check_codes(index.codes)
        form = index.form((rng.choice([-1, 1], 8) * query_scale).astype(np.float32))
        for slot in range(len(rows)):
            assert not np.isnan(distance_of(index.ix, form.ctypes.data, index.row(slot)))


@pytest.mark.parametrize("space", ["l2", "dot"])
@pytest.mark.parametrize("rows_scale", [1.0, 3e38])
@pytest.mark.parametrize("query_scale", [1.0, 1e-44, 3e38])
def test_distances_by_digits_are_never_nan(space: str, rows_scale: float, query_scale: float) -> None:
    rng = np.random.default_rng(6)
    rows = (rng.choice([-1, 1], (4, 128)) * rows_scale).astype(np.float32)
    centroids = (rng.choice([-1, 1], (64, 256, 2)) * rows_scale).astype(np.float32)
    center = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    with np.errstate(all="ignore"):
        codec = ProductCodec(8, centroids, center, space == "l2", None, True)
        index = encode(codec, rows, space)
        form = np.zeros(layout.QUERY_HEADER + 512 * codec.code_bytes, np.uint8)
        query = (rng.choice([-1, 1], 128) * query_scale).astype(np.float32)
        product_digits.prepare_digits(index.ix, query.ctypes.data, form.ctypes.data)
        for slot in range(len(rows)):
            assert not np.isnan(distance_of(index.ix, form.ctypes.data, index.row(slot)))


# ---------------------------------------------------------------------------------------------- k-means


def train(
    points: NDArray[np.float32], clusters: int, *, turns: int = 25, seed: int = 0
) -> NDArray[np.float32]:
    points = np.ascontiguousarray(points)
    draws = np.random.default_rng(seed).random(clusters)
    out = np.full((clusters + 1, points.shape[1]), -77, np.float32)
    kmeans.train_subvector(
        points.ctypes.data, *points.shape, clusters, draws.ctypes.data, turns, out.ctypes.data
    )
    assert (out[clusters] == -77).all()
    return out[:clusters]


SHAPES = (
    [(40, 2, 4)] if JIT_DISABLED else [(600, 1, 16), (600, 3, 7), (1500, 8, 64), (2000, 8, 256), (700, 20, 2)]
)


@pytest.mark.parametrize(("count", "width", "clusters"), SHAPES)
def test_centroids_are_as_good_as_those_of_plain_kmeans(count: int, width: int, clusters: int) -> None:
    points = clustered(count, width, seed=width)
    draws = np.random.default_rng(0).random(clusters)
    plain = mean_error(points, lloyd(points, draws, 25))
    found = train(points, clusters)
    assert mean_error(points, found) <= 1.05 * plain
    seeds = train(points, clusters, turns=0)
    np.testing.assert_allclose(seeds, lloyd(points, draws, 0), err_msg="seeds")
    error = kmeans.subvector_error(points.ctypes.data, count, width, clusters, found.ctypes.data)
    assert error == pytest.approx(mean_error(points, found) * count, rel=1e-4)


def test_training_is_the_same_each_time() -> None:
    points = clustered(SHAPES[0][0], 3, seed=1)
    np.testing.assert_array_equal(train(points, 8), train(points, 8))
    assert (train(points, 8) != train(points, 8, seed=1)).any()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_of_few_points_is_a_centroid(count: int) -> None:
    points = clustered(count, 3, seed=1)
    found = train(np.concatenate([points] * 4), 8)
    np.testing.assert_allclose(np.unique(found, axis=0), np.unique(points, axis=0))


def test_points_that_are_all_the_same() -> None:
    points = np.tile(np.array([[1.5, -2.0]], np.float32), (30, 1))
    np.testing.assert_array_equal(train(points, 4), points[:4])


def test_empty_cluster_takes_a_point_from_the_worst() -> None:
    """Two seeds fall on one place, so that a group of points is left to a far one until an empty cluster takes it."""
    points = np.concatenate([np.zeros((20, 1)), np.full((20, 1), 10.0), np.full((20, 1), 30.0)]).astype(
        np.float32
    )
    rows, assigned = points, np.array([0] * 20 + [1] * 40, np.int32)
    distances = np.array([0] * 20 + [100] * 19 + [81] + [100] * 19 + [121], np.float32)
    counts, errors = np.array([20, 40, 0]), np.array([0, float(distances.sum()), 0])
    sums = np.array([[0.0], [800.0], [0.0]])
    kmeans._fill_empty(rows, assigned, distances, counts, errors, sums)
    assert counts.tolist() == [20, 39, 1]
    assert assigned[59] == 2 and (assigned == 2).sum() == 1
    assert sums[:, 0].tolist() == [0, 770, 30]
    assert errors[1] == distances[20:59].sum()
