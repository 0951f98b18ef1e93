"""Writing code rows: 4-bit and 8-bit codes, and the squared norms of decoded rows."""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import kernel
from zeusdb_vs.kernels.exact_distances import HALF_U4, HALF_U8, PLANE_STEP
from zeusdb_vs.kernels.intrinsics import address_of, f32_at, store_f32, u8_at
from zeusdb_vs.kernels.layout import (
    CHUNK_SHIFT,
    CODE,
    CODE_BIAS,
    CODE_F32,
    CODE_MID,
    CODE_PADDED,
    CODE_STEP,
    CODE_STRIDE,
    CODE_U4,
    CODES,
    DIM,
    EXACT,
    EXACT_PLANES,
    FORM,
    FORM_L2,
    LOW_CODES,
)
from zeusdb_vs.kernels.rotation import prepare_row
from zeusdb_vs.kernels.rows import row_address

_LARGEST = np.finfo(np.float32).max
_MISFIT = np.float32(50)
"""A row whose clipped-off squares are this many times what rounding costs it does not fit the codes."""


@kernel
def encode_rows(ix, rows, inverse_norms, first, count):
    """Write the codes, and under FORM_L2 the squared norms of the decoded rows, of slots `first .. first + count`.

    Parameters
    ----------
    rows : address of float32 (count, dim), the originals
    inverse_norms : cosine: address of float32 (count,), see vectors.py; else 0

    Returns how many of them do not fit the ranges: clipping costs them far more than rounding does.
    """
    code = ix[CODE]
    misfits = np.int64(0)
    if code == CODE_F32:
        return misfits
    dim = ix[DIM]
    shift = ix[CHUNK_SHIFT]
    padded = ix[CODE_PADDED]
    mid = f32_at(ix[CODE_MID], padded)
    step = f32_at(ix[CODE_STEP], padded)
    stride = ix[CODE_STRIDE]
    in_planes = ix[EXACT] == EXACT_PLANES
    half = HALF_U4 if code == CODE_U4 and not in_planes else HALF_U8
    fine = PLANE_STEP if in_planes else np.float32(1)
    most = half + half
    # What rounding costs a row on average, in squared steps of each dimension: step^2 / 12.
    rounding = np.float32(0)
    for d in range(dim):
        rounding += step[d] * step[d] * fine * fine / np.float32(12)
    inverse_step = np.zeros(padded, np.float32)
    for d in range(padded):
        if step[d] > np.float32(0):
            inverse_step[d] = np.float32(1) / (step[d] * fine)
    levels = np.zeros(padded, np.uint8)
    values = np.empty(dim, np.float32)
    for i in range(count):
        slot = first + i
        norm = inverse_norms + i * 4 if inverse_norms != 0 else np.int64(0)
        prepare_row(ix, rows + i * dim * 4, norm, address_of(values))
        clipped = np.float32(0)
        for d in range(dim):
            excess = max(np.float32(0), abs(values[d] - mid[d]) - step[d] * fine * half)
            clipped += excess * excess
        if clipped > _MISFIT * rounding:
            misfits += 1
        for d in range(dim):
            value = (values[d] - mid[d]) * inverse_step[d] + half
            levels[d] = np.uint8(min(most, max(np.float32(0), value)) + np.float32(0.5))
        target = u8_at(row_address(ix[CODES], slot, shift, stride), stride)
        if in_planes:
            rest = u8_at(row_address(ix[LOW_CODES], slot, shift, stride), stride)
            for block in range(padded // 128):
                for j in range(64):
                    one = levels[block * 128 + j]
                    two = levels[block * 128 + 64 + j]
                    target[block * 64 + j] = (one >> np.uint8(4)) | (two & np.uint8(240))
                    rest[block * 64 + j] = (one & np.uint8(15)) | np.uint8(two << 4)
        elif code == CODE_U4:
            for block in range(padded // 128):
                for j in range(64):
                    low = levels[block * 128 + j]
                    high = levels[block * 128 + 64 + j]
                    target[block * 64 + j] = low | np.uint8(high << 4)
        else:
            for d in range(padded):
                target[d] = levels[d]
        if ix[FORM] == FORM_L2:
            squared = np.float32(0)
            for d in range(padded):
                # Of planes, walks see the high halves only.
                level = (
                    np.float32(levels[d] >> np.uint8(4)) - HALF_U4
                    if in_planes
                    else np.float32(levels[d]) - half
                )
                squared += (step[d] * level) * (step[d] * level)
            store_f32(row_address(ix[CODE_BIAS], slot, shift, 4), min(squared, _LARGEST))
    return misfits
