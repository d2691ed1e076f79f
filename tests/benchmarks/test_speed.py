"""pytest-benchmark cases: definition, twin and, where installed, PyTorch.

    pytest tests/benchmarks --benchmark-only --benchmark-group-by=group

Equality is asserted before anything is timed. Ratios, which are what we quote, come
from ``ratios.py`` beside this file.
"""

import numpy as np
import pytest

import refqnn
from refqnn import fast

BACKENDS = {"definition": refqnn, "twin": fast}


@pytest.fixture(params=["definition", "twin"])
def backend(request):
    return BACKENDS[request.param]


@pytest.fixture
def maps(rng):
    x = rng.standard_normal((16, 32, 16, 16), np.float32)
    return x, rng.standard_normal((32, 32, 3, 3), np.float32)


@pytest.mark.benchmark(group="conv2d")
def test_conv2d(benchmark, backend, maps):
    x, w = maps
    want = refqnn.ops.conv2d(x, w, padding=1)[0]
    np.testing.assert_allclose(backend.ops.conv2d(x, w, padding=1)[0], want, atol=1e-3)
    benchmark(backend.ops.conv2d, x, w, padding=1)


@pytest.mark.benchmark(group="conv2d")
def test_conv2d_torch(benchmark, maps):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, w = maps
    tx, tw = torch.tensor(x), torch.tensor(w)
    want = refqnn.ops.conv2d(x, w, padding=1)[0]
    np.testing.assert_allclose(torch.conv2d(tx, tw, padding=1), want, atol=1e-3)
    benchmark(torch.conv2d, tx, tw, padding=1)


@pytest.mark.benchmark(group="conv2d backward")
def test_conv2d_backward(benchmark, backend, maps):
    x, w = maps
    dy, cache = refqnn.ops.conv2d(x, w, padding=1)
    want = refqnn.ops.conv2d_backward(dy, cache)
    for mine, theirs in zip(
        backend.ops.conv2d_backward(dy, cache)[:2], want[:2], strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=0.1)
    benchmark(backend.ops.conv2d_backward, dy, cache)


@pytest.mark.benchmark(group="depthwise conv2d")
def test_depthwise_conv2d(benchmark, backend, rng):
    x = rng.standard_normal((16, 64, 16, 16), np.float32)
    w = rng.standard_normal((64, 1, 3, 3), np.float32)
    settings = {"padding": 1, "groups": 64}
    want = refqnn.ops.conv2d(x, w, **settings)[0]
    np.testing.assert_allclose(backend.ops.conv2d(x, w, **settings)[0], want, atol=1e-4)
    benchmark(backend.ops.conv2d, x, w, **settings)


@pytest.mark.benchmark(group="integer conv2d")
def test_integer_conv2d(benchmark, backend, rng):
    x = rng.integers(0, 256, (16, 32, 16, 16), dtype=np.uint8)
    w = rng.integers(-127, 128, (32, 32, 3, 3), dtype=np.int8)
    settings = {"x_zero_point": 128, "padding": 1}
    want = refqnn.integer.conv2d(x, w, **settings)
    np.testing.assert_array_equal(backend.integer.conv2d(x, w, **settings), want)
    benchmark(backend.integer.conv2d, x, w, **settings)


@pytest.mark.benchmark(group="binary conv2d")
def test_xnor_conv2d(benchmark, backend, rng):
    x = refqnn.integer.pack_bits(rng.choice([-1, 1], (4, 64, 16, 16)))
    w = refqnn.integer.pack_bits(rng.choice([-1, 1], (64, 64, 3, 3)))
    want = refqnn.integer.xnor_conv2d(x, w, channels=64)
    np.testing.assert_array_equal(backend.integer.xnor_conv2d(x, w, channels=64), want)
    benchmark(backend.integer.xnor_conv2d, x, w, channels=64)


@pytest.mark.benchmark(group="requantize")
@pytest.mark.parametrize("rounding", ["half_up", "half_even", "two_stage_half_away"])
def test_requantize(benchmark, backend, rounding, rng):
    acc = rng.integers(-(2**20), 2**20, (16, 32, 16, 16)).astype(np.int32)
    args = (acc, 1_518_500_250, -12, 3)
    settings = {"q_min": 0, "q_max": 255, "rounding": rounding}
    want = refqnn.integer.requantize(*args, **settings)
    np.testing.assert_array_equal(backend.integer.requantize(*args, **settings), want)
    benchmark(backend.integer.requantize, *args, **settings)


@pytest.mark.benchmark(group="batch_norm")
def test_batch_norm(benchmark, backend, rng):
    x = rng.standard_normal((32, 32, 16, 16), np.float32)
    gamma, beta = np.ones(32, np.float32), np.zeros(32, np.float32)
    want = refqnn.ops.batch_norm(x, gamma, beta)[0]
    np.testing.assert_allclose(
        backend.ops.batch_norm(x, gamma, beta)[0], want, atol=1e-4
    )
    benchmark(backend.ops.batch_norm, x, gamma, beta)


@pytest.mark.benchmark(group="affine")
def test_affine(benchmark, backend, rng):
    x = np.abs(rng.standard_normal((32, 32, 16, 16), np.float32))
    want = refqnn.quantizers.affine(x, 0.0, 3.0, bits=4)[0]
    np.testing.assert_array_equal(
        backend.quantizers.affine(x, 0.0, 3.0, bits=4)[0], want
    )
    benchmark(backend.quantizers.affine, x, 0.0, 3.0, bits=4)
