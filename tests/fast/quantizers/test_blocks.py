"""Arrays longer than a block, where kernels run in parallel."""

import numpy as np
import pytest

from refqnn import fast
from refqnn import quantizers as qz
from refqnn.fast.quantizers.affine_grid import BLOCK

SIZES = (BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 17)


def same(got, want):
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)


@pytest.mark.parametrize("size", SIZES)
def test_every_block_is_visited(rng, size):
    x = rng.normal(size=size).astype(np.float32)
    f = fast.quantizers
    got, want = f.affine(x, -0.9, 1.6, bits=4), qz.affine(x, -0.9, 1.6, bits=4)
    same((got[0], *got[1]), (want[0], *want[1]))
    dy = x[::-1].copy()
    same((f.affine_backward(dy, got[1]),), (qz.affine_backward(dy, got[1]),))
    same(f.batch_range(x), qz.batch_range(x))
    grid = {"q_n": 8, "q_p": 7}
    (y, cache), (plain, _) = (q.lsq(x, np.array(0.3), **grid) for q in (f, qz))
    np.testing.assert_array_equal(y, plain)
    (dv, ds), (dv_plain, ds_plain) = (q.lsq_backward(dy, cache) for q in (f, qz))
    np.testing.assert_array_equal(dv, dv_plain)
    np.testing.assert_allclose(ds, ds_plain, rtol=1e-5)


@pytest.mark.parametrize("at", [0, BLOCK - 1, BLOCK, 2 * BLOCK])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_one_bad_value_anywhere_raises(at, bad):
    x = np.zeros(2 * BLOCK + 1, np.float32)
    x[at] = bad
    for call in (
        lambda: fast.quantizers.batch_range(x),
        lambda: fast.quantizers.affine(x, 0.0, 1.0, bits=4),
    ):
        with pytest.raises(ValueError, match="x must be finite"):
            call()


@pytest.mark.parametrize("at", [0, BLOCK - 1, BLOCK, 2 * BLOCK])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_extreme_anywhere_is_found(at, dtype):
    x = np.zeros(2 * BLOCK + 1, dtype)
    for end in (-2.5, 3.5):
        x[at] = end
        lo, hi = fast.quantizers.batch_range(x)
        assert (lo, hi) == (min(end, 0), max(end, 0))
        assert lo.dtype == hi.dtype == dtype
