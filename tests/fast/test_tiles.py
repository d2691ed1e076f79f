"""The compiled tiles compute what their NumPy form says."""

import re

import numba
import numpy as np
import pytest
from numba import njit

from refqnn.fast import packing, tiles
from refqnn.fast.tiles import lanes_of

OUTER = {
    "wide": (tiles.outer_wide, *tiles.OUTER_WIDE),
    "halves": (tiles.outer_halves, *tiles.OUTER_HALVES),
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


def runs_of(size, dtype, rng):
    """Draw where runs begin in the planes, and where they go: apart, out of order."""
    rows, vectors, runs = size
    run = vectors * lanes_of(np.dtype(dtype)) // runs
    starts, into = rng.integers(5, 90, runs), (run + 3) * rng.permutation(runs) + 7
    pitch = int(into.max()) + run + 2
    columns = np.add.outer(starts, np.arange(run)).reshape(-1)
    places = np.add.outer(into, np.arange(run)).reshape(-1)
    return starts, into, pitch, columns, places, np.arange(rows)[:, None] * pitch


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OUTER)
def test_outer_tile_is_a_sum_of_shifted_planes(name, dtype, rng):
    tile, *size = OUTER[name]
    starts, into, pitch, columns, places, rows = runs_of(size, dtype, rng)
    planes = rng.integers(-9, 9, 600).astype(dtype)
    offsets = rng.integers(-5, 300, 7)
    w = rng.integers(-9, 9, 11 + offsets.size * size[0]).astype(dtype)
    bias = rng.integers(-9, 9, size[0] + 2).astype(dtype)
    out = np.full(size[0] * pitch + 100, 99, dtype)
    want = out.copy()
    jitted(tile)(out, into, pitch, bias, 2, planes, starts, offsets, w, 11)
    terms = w[11:].reshape(offsets.size, size[0])
    seen = planes[np.add.outer(offsets, columns)]
    want[rows + places] = terms.T @ seen + bias[2:, None]
    np.testing.assert_array_equal(out, want)  # small integers: exact in any order


@pytest.mark.parametrize("name", OUTER)
def test_outer_tile_takes_int32_as_pairs_of_int16(name, rng):
    tile, *size = OUTER[name]
    starts, into, pitch, columns, places, rows = runs_of(size, np.int32, rng)
    planes = rng.integers(-300, 300, (600, 2)).astype(np.int16)
    offsets = rng.integers(0, 300, 5)
    w = rng.integers(-300, 300, (offsets.size * size[0], 2)).astype(np.int16)
    bias = rng.integers(-300, 300, size[0]).astype(np.int32)
    out = np.zeros(size[0] * pitch + 100, np.int32)
    planes_32, w_32 = (a.view(np.int32).ravel() for a in (planes, w))
    jitted(tile)(out, into, pitch, bias, 0, planes_32, starts, offsets, w_32, 0)
    terms = w.reshape(offsets.size, size[0], 2).astype(int)
    seen = planes[np.add.outer(offsets, columns)].astype(int)
    want = np.einsum("kri,kji->rj", terms, seen) + bias[:, None]
    np.testing.assert_array_equal(out[rows + places], want)


@pytest.mark.parametrize("product", ["quads", "quads_by_pairs"])
@pytest.mark.parametrize("size", [tiles.OUTER_QUADS, tiles.OUTER_HALVES], ids=str)
def test_outer_tile_takes_int32_as_four_bytes(size, product, rng):
    """Both kernels on every byte, extremes first: no product or pair saturates."""
    if product == "quads" and not tiles.has_vnni() and not numba.config.DISABLE_JIT:
        pytest.skip("this CPU has no VNNI")
    starts, into, pitch, columns, places, rows = runs_of(size, np.int32, rng)
    planes = rng.integers(0, 256, (600, 4)).astype(np.uint8)
    planes[:200] = 255
    offsets = rng.integers(0, 300, 5)
    offsets[:2] = 0
    w = rng.integers(-128, 128, (offsets.size * size.rows, 4)).astype(np.int8)
    w[: size.rows], w[size.rows : 2 * size.rows] = -128, 127
    out = np.zeros(size.rows * pitch + 100, np.int32)
    bias = np.arange(size.rows, dtype=np.int32)
    codes, weights = planes.view(np.int32).ravel(), w.view(np.int32).ravel()
    tile = tiles._outer(*size, product)
    jitted(tile)(out, into, pitch, bias, 0, codes, starts, offsets, weights, 0)
    terms = w.reshape(-1, size.rows, 4).astype(int)
    seen = planes[np.add.outer(offsets, columns)].astype(int)
    want = np.einsum("kri,kji->rj", terms, seen) + bias[:, None]
    np.testing.assert_array_equal(out[rows + places], want)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 8, 9, 17, 40])
def test_copies_write_their_neighbours_only(dtype, count, rng):
    x = rng.integers(-99, 99, 60).astype(dtype)
    out = np.full(60, 7, dtype)
    want = out.copy()
    want[5 : 5 + count] = x[11 : 11 + count]
    jitted(packing.copy)(out, 5, x, 11, count)
    np.testing.assert_array_equal(out, want)


def test_a_copy_changes_the_dtype():
    out = np.zeros(9, np.int32)
    jitted(packing.copy)(out, 1, np.arange(8), 2, 5)
    np.testing.assert_array_equal(out, [0, 2, 3, 4, 5, 6, 0, 0, 0])


def test_four_rows_of_bytes_are_woven_into_one_of_int32(rng):
    starts, into, pitch, _, places, _ = runs_of(tiles.OUTER_QUADS, np.int32, rng)
    rows = rng.integers(0, 256, (4, starts.size * 8 + 50))
    width = places.size
    codes = np.zeros(3 + 4 * rows.shape[1], np.int32)
    codes[3:] = rows.ravel()
    out = np.zeros(pitch + 100, np.int32)
    jitted(tiles.weave)(out, into, codes, 3, rows.shape[1])
    want = np.zeros_like(out)
    fours = np.ascontiguousarray(rows[:, :width].T.astype(np.uint8)).view(np.int32)
    want[places] = fours.ravel()
    np.testing.assert_array_equal(out, want)


@pytest.mark.compiled
def test_tiles_of_one_signature_are_different_symbols():
    """A cache links by name: pairs and quads of int32 must not be one symbol."""
    one, at = np.ones(500, np.int32), np.zeros(2, np.int64)
    names = set()
    some = (tiles.outer_wide, tiles.outer_halves, tiles.outer_quads_wide)
    for tile in (*some, tiles.outer_quads):
        call, where = jitted(tile), np.arange(6) * 9
        call(one.copy(), where, 60, one, 0, one, where, at, one, 0)
        text = "".join(call.inspect_llvm().values())
        names |= set(re.findall(r"(outer_[a-z_]+_\d+_\d+_\d+)", text))
    assert len(names) == 2 + len({tiles.OUTER_HALVES, tiles.OUTER_QUADS})


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
    where, at = np.arange(3) * 16, np.zeros(2, np.int64)
    call(one.copy(), where, 60, one, 0, one, where, at, one, 0)
    assert any("tile" in text for text in call.inspect_llvm().values())
