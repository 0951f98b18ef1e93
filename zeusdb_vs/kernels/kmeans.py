"""Lloyd's k-means on a few dimensions, seeded as in Arthur and Vassilvitskii 2007, "k-means++".

Distances are float32 and means float64. What is computed depends on the points and the draws alone, so a codec comes
out the same on any number of threads, each of which trains whole subvectors.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.intrinsics import address_of, f32_at, i64_at, load_f32

_BLOCK = 512
"""Points whose distances to a new seed are computed at a time: their sums stay in the first cache."""
_LARGEST_BITS = np.int32(0x7FFFFFFF)


@inline_kernel
def column_distances(table, stride, width, count, x, out):
    """Write the squared distances of a vector to `count` columns of a table.

    Parameters
    ----------
    table : address of float32 (width, stride)
    x : address of float32 (width,)
    out : address of float32 (count,)
    """
    total = f32_at(out, count)
    for j in range(count):
        total[j] = np.float32(0)
    # Four dimensions a turn, so that sums are fetched and stored a quarter as often.
    whole = width & ~3
    for d in range(0, whole, 4):
        a, b, c, e = (
            load_f32(x + d * 4),
            load_f32(x + d * 4 + 4),
            load_f32(x + d * 4 + 8),
            load_f32(x + d * 4 + 12),
        )
        one = f32_at(table + d * stride * 4, count)
        two = f32_at(table + (d + 1) * stride * 4, count)
        three = f32_at(table + (d + 2) * stride * 4, count)
        four = f32_at(table + (d + 3) * stride * 4, count)
        for j in range(count):
            total[j] += (
                (one[j] - a) * (one[j] - a)
                + (two[j] - b) * (two[j] - b)
                + (three[j] - c) * (three[j] - c)
                + (four[j] - e) * (four[j] - e)
            )
    for d in range(whole, width):
        value = load_f32(x + d * 4)
        column = f32_at(table + d * stride * 4, count)
        for j in range(count):
            difference = column[j] - value
            total[j] += difference * difference


@inline_kernel
def nearest_column(table, stride, width, count, x, out):
    """Find the column nearest to a vector, the first of equals; `out` keeps the distances, see `column_distances`."""
    column_distances(table, stride, width, count, x, out)
    # Floats that are not negative compare like their bits, and a minimum of integers can be vectorised.
    bits = f32_at(out, count).view(np.int32)
    smallest = _LARGEST_BITS
    for j in range(count):
        smallest = min(smallest, bits[j])
    first = np.int32(count)
    for j in range(count):
        first = min(first, np.int32(j) if bits[j] == smallest else np.int32(count))
    return np.int64(min(first, np.int32(count - 1)))


@kernel
def _seed(columns, points, count, width, clusters, draws, centroids):
    """Draw seeds, each point with a chance in proportion to its squared distance from those drawn before it.

    Parameters
    ----------
    columns : float32 (width, count), the points transposed
    points : float32 (count, width)
    draws : float64 (clusters,) from [0, 1)
    centroids : out: float32 (clusters, width)
    """
    closest = np.full(count, np.float32(np.inf), np.float32)
    closest_bits = closest.view(np.int32)
    found = np.empty(_BLOCK, np.float32)
    found_bits = found.view(np.int32)
    chosen = min(np.int64(draws[0] * count), count - 1)
    for c in range(clusters):
        if c > 0:
            total = 0.0
            for i in range(count):
                total += np.float64(closest[i])
            target = draws[c] * total
            # Where every point is a seed already, as with fewer distinct points than clusters, seeds repeat.
            chosen = min(np.int64(draws[c] * count), count - 1)
            reached = 0.0
            for i in range(count):
                if closest[i] > np.float32(0):
                    chosen = i
                    reached += np.float64(closest[i])
                    if reached > target:
                        break
        for d in range(width):
            centroids[c, d] = points[chosen, d]
        seed = address_of(points) + chosen * width * 4
        for start in range(0, count, _BLOCK):
            size = min(_BLOCK, count - start)
            column_distances(address_of(columns) + start * 4, count, width, size, seed, address_of(found))
            for i in range(size):
                closest_bits[start + i] = min(closest_bits[start + i], found_bits[i])


@kernel
def _fill_empty(points, assigned, distances, counts, errors, sums):
    """Give each empty cluster the furthest point of the cluster with the largest error."""
    clusters, width = sums.shape
    for empty in range(clusters):
        if counts[empty] > 0:
            continue
        worst = np.int64(-1)
        for c in range(clusters):
            if counts[c] > 1 and errors[c] > 0.0 and (worst < 0 or errors[c] > errors[worst]):
                worst = np.int64(c)
        if worst < 0:  # every point lies on its centroid
            return
        furthest = np.int64(-1)
        for i in range(len(assigned)):
            if assigned[i] == worst and (furthest < 0 or distances[i] > distances[furthest]):
                furthest = np.int64(i)
        errors[worst] -= np.float64(distances[furthest])
        counts[worst] -= 1
        counts[empty] = 1
        assigned[furthest] = np.int32(empty)
        distances[furthest] = np.float32(0)
        for d in range(width):
            sums[worst, d] -= np.float64(points[furthest, d])
            sums[empty, d] = np.float64(points[furthest, d])


@kernel
def train_subvector(points, count, width, clusters, draws, iterations, out):
    """Find centroids of points by k-means.

    Ends early where fewer than one point in a thousand changes its cluster. Of fewer distinct points than clusters
    each becomes a centroid, and some of them repeat.

    Parameters
    ----------
    points : address of float32 (count, width), count >= 1
    draws : address of float64 (clusters,) from [0, 1), for the seeds
    iterations : at most so many turns of assigning points and moving centroids
    out : address of float32 (clusters, width)
    """
    rows = f32_at(points, count * width).reshape(count, width)
    centroids = f32_at(out, clusters * width).reshape(clusters, width)
    columns = np.empty((width, count), np.float32)
    for i in range(count):
        for d in range(width):
            columns[d, i] = rows[i, d]
    _seed(columns, rows, count, width, clusters, i64_at(draws, clusters).view(np.float64), centroids)
    assigned = np.full(count, -1, np.int32)
    distances = np.empty(count, np.float32)
    table = np.empty((width, clusters), np.float32)
    found = np.empty(clusters, np.float32)
    counts = np.empty(clusters, np.int64)
    errors = np.empty(clusters, np.float64)
    sums = np.empty((clusters, width), np.float64)
    for _ in range(iterations):
        for c in range(clusters):
            counts[c] = 0
            errors[c] = 0.0
            for d in range(width):
                table[d, c] = centroids[c, d]
                sums[c, d] = 0.0
        changed = 0
        for i in range(count):
            nearest = nearest_column(
                address_of(table), clusters, width, clusters, points + i * width * 4, address_of(found)
            )
            changed += assigned[i] != nearest
            assigned[i] = np.int32(nearest)
            distances[i] = found[nearest]
            counts[nearest] += 1
            errors[nearest] += np.float64(found[nearest])
            for d in range(width):
                sums[nearest, d] += np.float64(rows[i, d])
        if changed == 0 or changed * 1000 < count:
            return
        _fill_empty(rows, assigned, distances, counts, errors, sums)
        for c in range(clusters):
            if counts[c] > 0:
                for d in range(width):
                    centroids[c, d] = np.float32(sums[c, d] / counts[c])


@kernel
def subvector_error(points, count, width, clusters, centroids):
    """Sum of the squared distances of points to their nearest centroids.

    Parameters
    ----------
    points : address of float32 (count, width)
    centroids : address of float32 (clusters, width)
    """
    given = f32_at(centroids, clusters * width).reshape(clusters, width)
    table = np.empty((width, clusters), np.float32)
    for c in range(clusters):
        for d in range(width):
            table[d, c] = given[c, d]
    found = np.empty(clusters, np.float32)
    total = 0.0
    for i in range(count):
        nearest = nearest_column(
            address_of(table), clusters, width, clusters, points + i * width * 4, address_of(found)
        )
        total += np.float64(found[nearest])
    return total
