"""Product codes read as digits: a rough distance that takes no look-ups.

Which of a subvector's centroids has which number is free, so the numbers can say where the centroids are, as in Douze,
Jegou and Perronnin 2016, "Polysemous codes" (arXiv:1609.01882). There Hamming distances between codes stand for
distances; here a byte is read as one digit for each of its dimensions, the first in its low bits, and the digit c of
dimension d stands for zero[d] + step[d] * c. A query form is then as short as that of scalar codes:

    distance = base + factor * (offset + alpha * sum of weights[d] * digit d) [+ |r|^2]

with what is said of base, factor and |r|^2 in `product.py`. `zeusdb_vs/product.py` numbers the centroids.

In memory: the head as in `product_tables.py` with DIGITS for the bytes of an entry, then int8 weights as
`simd_products.py` reads them.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.intrinsics import address_of, f32_at, i8_at, store_f32, store_i32
from zeusdb_vs.kernels.layout import CODE_BYTES, CODE_DIGITS, CODE_WIDTH, DIGIT_BLOCK, DIM, QUERY_HEADER
from zeusdb_vs.kernels.product_queries import COMFORT, write_weights
from zeusdb_vs.kernels.simd_products import digit_blocks, sum_of_halves, sum_of_quarters

DIGITS = 0
"""Where a form of tables has the bytes of an entry."""
_MOST_WEIGHT = np.float32(127)


@kernel
def prepare_digits(ix, query, out):
    """Write to `out` the form in which a query is compared with code rows read as digits.

    Parameters
    ----------
    query : address of float32 (dim,), the exact query, rotated where codes are
    out : address of QUERY_HEADER + 512 * CODE_BYTES bytes
    """
    dim = ix[DIM]
    width = ix[CODE_WIDTH]
    size = ix[CODE_BYTES]
    step = f32_at(ix[CODE_DIGITS], dim)
    zero = f32_at(ix[CODE_DIGITS] + dim * 4, dim)
    weights = np.empty(dim, np.float32)
    base = write_weights(ix, query, address_of(weights))
    offset = np.float32(0)
    extreme = abs(base)
    most = np.float32(0)
    for d in range(dim):
        offset += weights[d] * zero[d]
        extreme += abs(weights[d] * zero[d])
        weights[d] *= step[d]
        most = max(most, abs(weights[d]))
    extreme += most * np.float32(dim) * np.float32(15)
    inverse = _MOST_WEIGHT / most if most > np.float32(0) else np.float32(0)
    alpha = most / _MOST_WEIGHT
    if not (np.isfinite(inverse) and extreme < COMFORT):  # every row is as far away as every other
        base = np.float32(0)
        offset = np.float32(0)
        alpha = np.float32(0)
        inverse = np.float32(0)
        weights[:] = 0
    last = size - DIGIT_BLOCK
    for block in range(digit_blocks(size)):
        start = min(block * DIGIT_BLOCK, last)
        # Bytes that the block before holds too count there.
        fresh = block * DIGIT_BLOCK - start
        for place in range(width):
            target = i8_at(out + QUERY_HEADER + (block * width + place) * DIGIT_BLOCK, DIGIT_BLOCK)
            for j in range(fresh):
                target[j] = 0
            for j in range(fresh, DIGIT_BLOCK):
                target[j] = np.int8(np.rint(weights[(start + j) * width + place] * inverse))
    store_f32(out, base)
    store_f32(out + 4, alpha)
    store_f32(out + 8, offset)
    store_i32(out + 12, DIGITS)


@inline_kernel
def sum_by_digits(ix, form, codes):
    """Sum of the weights of a form times the digits of the codes at address `codes`."""
    if ix[CODE_WIDTH] == 4:
        return sum_of_quarters(codes, form + QUERY_HEADER, ix[CODE_BYTES])
    return sum_of_halves(codes, form + QUERY_HEADER, ix[CODE_BYTES])
