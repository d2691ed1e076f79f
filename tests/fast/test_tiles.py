"""The compiled tiles compute what their NumPy form says."""

import re

import numba
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


@pytest.mark.parametrize("product", ["quads", "quads_by_pairs"])
@pytest.mark.parametrize("size", [tiles.OUTER_QUADS, tiles.OUTER_WIDE], ids=str)
def test_outer_tile_takes_int32_as_four_bytes(size, product, rng):
    """Both kernels on every byte, extremes first: no product or pair saturates."""
    if product == "quads" and not tiles.has_vnni() and not numba.config.DISABLE_JIT:
        pytest.skip("this CPU has no VNNI")
    rows, width = size.rows, size.vectors * lanes_of(np.dtype(np.int32))
    planes = rng.integers(0, 256, (400 + width, 4)).astype(np.uint8)
    planes[:90] = 255
    offsets = rng.integers(0, 300, 5)
    offsets[:2] = 0
    w = rng.integers(-128, 128, (offsets.size * rows, 4)).astype(np.int8)
    w[:rows], w[rows : 2 * rows] = -128, 127
    out = np.zeros(rows * width, np.int32)
    codes, weights = planes.view(np.int32).ravel(), w.view(np.int32).ravel()
    tile = tiles._outer(*size, product)
    jitted(tile)(out, 0, width, codes, 0, offsets, weights, 0)
    at = offsets[:, None] + np.arange(width)
    terms = w.reshape(-1, rows, 4).astype(int)
    want = np.einsum("kri,kji->rj", terms, planes[at].astype(int))
    np.testing.assert_array_equal(out.reshape(rows, width), want)


@pytest.mark.compiled
def test_tiles_of_one_signature_are_different_symbols():
    """A cache links by name: pairs and quads of int32 must not be one symbol."""
    one, at = np.ones(500, np.int32), np.zeros(2, np.int64)
    names = set()
    for tile in (tiles.outer_wide, tiles.outer_quads_wide, tiles.outer_quads):
        call = jitted(tile)
        call(one.copy(), 0, 60, one, 0, at, one, 0)
        text = "".join(call.inspect_llvm().values())
        names |= set(re.findall(r"(outer_[a-z_]+_\d+_\d+)", text))
    assert len(names) == 1 + len({tiles.OUTER_WIDE, tiles.OUTER_QUADS})


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
