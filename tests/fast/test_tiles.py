"""The compiled tiles compute what their NumPy form says."""

import numpy as np
import pytest
from numba import njit

from refqnn.fast import tiles
from refqnn.fast.tiles import lanes_of

OUTER = {
    "wide": (tiles.outer_wide, *tiles.OUTER_WIDE),
    "narrow": (tiles.outer_narrow, *tiles.OUTER_NARROW),
}
DOT = {
    "wide": (tiles.dot_wide, *tiles.DOT_WIDE),
    "narrow": (tiles.dot_narrow, *tiles.DOT_NARROW),
}
DTYPES = [np.float32, np.float64]


def jitted(tile):
    @njit
    def call(*args):
        tile(*args)

    return call


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OUTER)
def test_outer_tile_is_a_sum_of_shifted_planes(name, dtype, rng):
    tile, rows, vectors = OUTER[name]
    width = vectors * lanes_of(np.dtype(dtype))
    planes = rng.integers(-9, 9, 400 + width).astype(dtype)
    offsets = rng.integers(-5, 300, 7)
    w = rng.integers(-9, 9, 11 + offsets.size * rows).astype(dtype)
    out = np.zeros(20 + rows * (width + 3), dtype)
    jitted(tile)(out, 20, width + 3, planes, 6, offsets, w, 11)
    want = np.zeros_like(out)
    for r in range(rows):
        for j in range(width):
            total = 0.0
            for k, offset in enumerate(offsets):
                total += w[11 + k * rows + r] * planes[6 + offset + j]
            want[20 + r * (width + 3) + j] = total
    np.testing.assert_array_equal(out, want)  # small integers: exact in any order


@pytest.mark.parametrize("name", OUTER)
def test_outer_tile_takes_int32_as_pairs_of_int16(name, rng):
    tile, rows, vectors = OUTER[name]
    width = vectors * lanes_of(np.dtype(np.int32))
    planes = rng.integers(-300, 300, (400 + width, 2)).astype(np.int16)
    offsets = rng.integers(0, 300, 5)
    w = rng.integers(-300, 300, (offsets.size * rows, 2)).astype(np.int16)
    out = np.zeros(rows * width, np.int32)
    numbers = (a.view(np.int32).ravel() for a in (planes, w))
    planes_32, w_32 = numbers
    jitted(tile)(out, 0, width, planes_32, 0, offsets, w_32, 0)
    for r in range(rows):
        for j in range(width):
            total = 0
            for k, offset in enumerate(offsets):
                x = planes[offset + j].astype(int)
                total += int(w[k * rows + r].astype(int) @ x)
            assert out[r * width + j] == total


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DOT)
def test_dot_tile_adds_to_what_is_there(name, dtype, rng):
    tile, rows, taps = DOT[name]
    length = 3 * lanes_of(np.dtype(dtype))
    planes = rng.integers(-9, 9, 100 + length).astype(dtype)
    offsets = rng.integers(-5, 90, taps)
    dy = rng.integers(-9, 9, 4 + rows * (length + 2)).astype(dtype)
    partial = rng.integers(-9, 9, 5 + rows * (taps + 1)).astype(dtype)
    want = partial.copy()
    for r in range(rows):
        for t, offset in enumerate(offsets):
            for j in range(length):
                seen = planes[6 + offset + j]
                want[5 + r * (taps + 1) + t] += dy[4 + r * (length + 2) + j] * seen
    jitted(tile)(partial, 5, taps + 1, dy, 4, length + 2, planes, 6, offsets, length)
    np.testing.assert_array_equal(partial, want)


@pytest.mark.compiled
def test_the_compiled_tile_is_not_its_numpy_form():
    """The overload is in place: compiled code holds fused multiply-adds."""
    call = jitted(tiles.outer_wide)
    one = np.ones(500, np.float32)
    call(one.copy(), 0, 60, one, 0, np.zeros(2, np.int64), one, 0)
    assert any("tile" in text for text in call.inspect_llvm().values())
