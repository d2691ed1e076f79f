"""The mean of a window on another grid, against rationals and plain float32 sums."""

from fractions import Fraction

import numpy as np
import pytest

from refqnn.conformance.carry.runtimes_litert import litert_mean
from refqnn.conformance.carry.runtimes_onnx import grid, run_contrib
from refqnn.conformance.choices.families import means
from refqnn.integer import avg_pool2d, mean_pool2d

GRIDS = {
    "x_scale": 0.5, "x_zero_point": 7, "scale": 0.75, "zero_point": 9,
    "q_min": 0, "q_max": 255,
}  # fmt: skip
WINDOWS = [
    {"kernel": 2},
    {"kernel": 3, "stride": 2, "padding": 1},
    {"kernel": (2, 3), "stride": 1, "padding": ((0, 1), (2, 1))},
    {"kernel": (2, 3), "stride": 1, "padding": ((0, 1), (2, 1)),
     "count_include_pad": True},
]  # fmt: skip


def windows_of(x, options):
    """Yield every output's place, the codes inside the plane and the count."""
    kh, kw = np.broadcast_to(options["kernel"], 2).tolist()
    sh, sw = np.broadcast_to(options.get("stride", options["kernel"]), 2).tolist()
    (t, b), (left, r) = np.broadcast_to(options.get("padding", 0), (2, 2)).tolist()
    _, _, height, width = x.shape
    for p in range((height + t + b - kh) // sh + 1):
        for q in range((width + left + r - kw) // sw + 1):
            rows = range(max(p * sh - t, 0), min(p * sh - t + kh, height))
            cols = range(max(q * sw - left, 0), min(q * sw - left + kw, width))
            inside = [(i, j) for i in rows for j in cols]
            whole = options.get("count_include_pad", False)
            yield (p, q), inside, kh * kw if whole else len(inside)


def clipped(q, given):
    return min(max(q, given["q_min"]), given["q_max"])


@pytest.mark.parametrize("options", WINDOWS)
def test_means_are_rational_numbers_rounded_once(rng, options):
    x = rng.integers(0, 256, (2, 3, 5, 6), dtype=np.uint8)
    got = mean_pool2d(x, **options, **GRIDS)
    for (p, q), inside, count in windows_of(x, options):
        for n, c in np.ndindex(2, 3):
            total = sum(int(x[n, c, i, j]) - 7 for i, j in inside)
            want = clipped(9 + round(Fraction(total * 2, 3 * count)), GRIDS)
            assert got[n, c, p, q] == want


@pytest.mark.parametrize("options", WINDOWS)
def test_the_form_of_onnxruntime(rng, options):
    x = rng.integers(0, 256, (2, 3, 5, 6), dtype=np.uint8)
    given = GRIDS | {"x_scale": 0.0123, "scale": 0.0111}
    got = mean_pool2d(x, **options, **given, semantics="onnxruntime")
    for (p, q), inside, count in windows_of(x, options):
        for n, c in np.ndindex(2, 3):
            total = np.float32(0)
            for i, j in inside:
                total += np.float32(0.0123) * np.float32(int(x[n, c, i, j]) - 7)
            t = total / np.float32(count) / np.float32(0.0111) + np.float32(9)
            assert got[n, c, p, q] == clipped(int(np.rint(t)), given)


@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("semantics", ["onnxruntime", "xnnpack", "offset"])
def test_scales_of_any_kind_of_number_give_the_same_codes(semantics, side):
    """Half a step is a tie in float32 alone: 0.05 / 0.1 is no half of other floats."""
    x = np.arange(256, dtype=np.uint8).reshape(-1, 1, side, side)
    how = GRIDS | {"kernel": 1, "semantics": semantics, "x_scale": 0.05, "scale": 0.1}
    want = mean_pool2d(x, **how)
    for kind in (np.float64, np.float32):
        scales = {name: kind(how[name]) for name in ("x_scale", "scale")}
        np.testing.assert_array_equal(mean_pool2d(x, **how | scales), want)


@pytest.mark.parametrize("kind", ["QLinearAveragePool", "QLinearGlobalAveragePool"])
def test_onnxruntime_multiplies_the_sum_of_a_whole_plane_beside_ties(kind):
    """Its window of the whole plane is its global mean; other windows add floats."""
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    pytest.importorskip("onnx", reason="needs the optional package onnx")
    rng = np.random.default_rng(3)
    for _ in range(120):
        x, kernel, _, _, *grids = means.beside_tie(rng).values()
        given = dict(zip(GRIDS, grids, strict=True))
        got = mean_pool2d(x, kernel=kernel, **given, semantics="onnxruntime")
        if kind == "QLinearGlobalAveragePool":
            want = run_mean(kind, x, grids)
        else:
            want = run_mean(kind, x, grids, kernel_shape=list(kernel))
        np.testing.assert_array_equal(got, want)


def run_mean(kind, x, grids, **settings):
    sx, zx, s, z, *_ = grids
    feeds = {"x": x, **grid(x.dtype, sx=sx, zx=zx, s=s, z=z)}
    return run_contrib(kind, feeds, **settings)


def test_the_form_of_xnnpack_rounds_with_the_zero_point(rng):
    x = rng.integers(0, 256, (2, 3, 6, 7), dtype=np.uint8)
    given = GRIDS | {"x_scale": 0.5, "scale": 0.25}
    got = mean_pool2d(x, kernel=(6, 7), **given, semantics="xnnpack")
    ratio = np.float32(1) / np.float32(42) * (np.float32(0.5) / np.float32(0.25))
    offset = np.float32(9) - np.float32(7) * np.float32(42) * ratio
    for n, c in np.ndindex(2, 3):
        total = np.float32(int(x[n, c].astype(int).sum()))
        want = int(np.rint(total * ratio + offset))
        assert got[n, c, 0, 0] == clipped(want, given)
    beside = {"x_scale": 0.44599012, "x_zero_point": 109, "scale": 0.4743166}
    beside |= {"zero_point": 127, "q_min": -128, "q_max": 127, "kernel": (1, 41)}
    row = np.repeat(np.array([5, 4], np.int8), [10, 31]).reshape(1, 1, 1, 41)
    assert mean_pool2d(row, **beside, semantics="xnnpack").item() == 29  # not 28
    odd = {"x_scale": 1.0, "x_zero_point": 0, "scale": 1.0, "zero_point": 1}
    odd |= {"q_min": -9, "q_max": 9, "semantics": "xnnpack"}
    pair = np.array([[[[0, 1]]]], np.int8)  # 1/2 + 1 goes to 2, 1/2 to 0
    assert mean_pool2d(pair, kernel=(1, 2), **odd).item() == 2
    assert mean_pool2d(pair, kernel=(1, 2), **(odd | {"zero_point": 0})).item() == 0


def test_xnnpack_means_are_those_of_its_kernel_beside_ties():
    pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")
    rng = np.random.default_rng(3)
    for _ in range(120):
        call = means.beside_tie(rng)
        got = mean_pool2d(**call, semantics="xnnpack")
        want = litert_mean(1, "xnnpack", *call.values())
        np.testing.assert_array_equal(got, want)


def test_the_form_with_an_offset_rounds_the_zero_point_apart():
    """round(3 / 2) = 2 and M(1/4, sum of codes): 3, 6 and -6 in quarters."""
    given = {"x_scale": 0.5, "x_zero_point": 3, "scale": 1.0, "zero_point": 10}
    given |= {"q_min": -128, "q_max": 127, "kernel": (1, 2)}
    pairs = np.array([[[[1, 2]], [[5, 1]], [[-5, -1]]]], np.int8)
    away = mean_pool2d(pairs, **given, semantics="offset")
    up = mean_pool2d(pairs, **given, semantics="offset_half_up")
    assert away.ravel().tolist() == [10 - 2 + 1, 10 - 2 + 2, 10 - 2 - 2]
    assert up.ravel().tolist() == [10 - 2 + 1, 10 - 2 + 2, 10 - 2 - 1]
    below = given | {"x_zero_point": -3}  # of -3 / 2 the nearest is -2, away from 0
    moved = mean_pool2d(pairs, **below, semantics="offset")
    assert moved.ravel().tolist() == [10 + 2 + 1, 10 + 2 + 2, 10 + 2 - 2]
    far = given | {"x_zero_point": 127, "scale": 0.125, "zero_point": -100}
    low = mean_pool2d(np.full((1, 1, 1, 2), 125, np.int8), **far, semantics="offset")
    assert low.item() == -100 - 508 + 500  # the offset alone leaves the codes


def test_the_form_of_tensorflow_lite(rng):
    x = rng.integers(-128, 128, (1, 2, 5, 6), dtype=np.int8)
    given = {"x_scale": 0.5, "x_zero_point": 3, "scale": 0.5, "zero_point": 3}
    given |= {"q_min": -128, "q_max": 127, "semantics": "tflite"}
    got = mean_pool2d(x, kernel=3, stride=2, padding=1, **given)
    want = avg_pool2d(x, kernel=3, stride=2, padding=1, count_include_pad=False)
    np.testing.assert_array_equal(got, want, strict=True)
    for wrong in ({"scale": 0.25}, {"zero_point": 4}, {"count_include_pad": True}):
        with pytest.raises(ValueError, match="needs one grid and no counted padding"):
            mean_pool2d(x, kernel=3, **(given | wrong))


def test_bad_arguments_raise():
    x = np.zeros((1, 1, 4, 4), np.uint8)
    for wrong, message in (
        ({"semantics": "mean"}, "semantics must be one of"),
        ({"scale": 0.0}, "scale must be positive"),
        ({"x_zero_point": 256}, "zero_point must lie in"),
        ({"kernel": 5}, "window does not fit"),
        ({"padding": 2}, "padding must be smaller than the kernel"),
    ):
        with pytest.raises(ValueError, match=message):
            mean_pool2d(x, **({"kernel": 2} | GRIDS | wrong))
