"""The branch-free roundings against those of the definition, and rows."""

import numpy as np
import pytest

from refqnn.fast.integer.affine import quantize
from refqnn.fast.integer.rescale import BLOCK, as_rows, requantize
from refqnn.fast.integer.rounding import carry, carry_terms, thresholds
from refqnn.integer.affine import quantize as quantize_definition
from refqnn.integer.rescale import requantize as definition
from refqnn.integer.rounding import ROUND, ROUNDINGS, divide


@pytest.mark.parametrize("rounding", list(ROUNDINGS))
def test_carry_is_divide(rounding):
    n = np.arange(-20, 21)
    for d in (*range(1, 10), 2**61, 2**62 - 1, 2**62):
        for scaled in (n, n * (d // 4), n * (d // 4) + 1, n * (d // 4) - 1):
            fits = [v for v in scaled.tolist() if -(2**63) <= v < 2**63]
            terms = carry_terms(rounding, np.array(d))
            got = [carry(v // d, v % d, d, *terms.tolist()) for v in fits]
            want = divide(np.array(fits), d, rounding=rounding)
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rounding", list(ROUNDINGS))
def test_thresholds_are_the_rounding(rounding, dtype):
    t = thresholds(rounding, np.dtype(dtype))
    ties = np.arange(-9, 10, dtype=dtype) / 2
    u = np.concatenate([np.nextafter(ties, dtype(v)) for v in (-99, 99)] + [ties])
    down = np.floor(np.abs(u))
    odd, negative = (down % 2 == 1).astype(int), (u < 0).astype(int)
    size = down + (np.abs(u) - down >= t[odd, negative])
    np.testing.assert_array_equal(np.where(u < 0, -size, size), ROUND[rounding](u))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rounding", list(ROUNDINGS))
def test_quantize_beside_ties(rounding, dtype):
    ties = np.arange(-9, 10, dtype=dtype) / 2
    x = np.concatenate([np.nextafter(ties, dtype(v)) for v in (-99, 99)] + [ties])
    options = {"q_min": -9, "q_max": 9, "rounding": rounding}
    got = quantize(x, 1.0, 1, **options)
    want = quantize_definition(x, 1.0, 1, **options)
    np.testing.assert_array_equal(got, want, strict=True)


@pytest.mark.parametrize(
    ("x", "params", "rows"),
    [
        ((2, 3, 4), [()], 1),
        ((2, 3, 4), [(1, 1, 1)], 1),
        ((2, 3, 4), [(4,)], 24),
        ((2, 3, 4), [(3, 1)], 6),
        ((2, 3, 4), [(2, 1, 1), ()], 2),
        ((2, 3, 4), [(2, 1, 1), (3, 1)], 6),
        ((), [()], 1),
        ((0, 3), [(3,)], 0),
    ],
)
def test_rows_hold_one_parameter_each(x, params, rows):
    x = np.arange(np.prod(x, dtype=int)).reshape(x)
    params = [np.arange(np.prod(p, dtype=int)).reshape(p) for p in params]
    got, *each = as_rows(x, *params)
    assert len(got) == rows
    np.testing.assert_array_equal(got.ravel(), x.ravel())
    for one, p in zip(each, params, strict=True):
        assert one.shape == (rows,)
        assert one.flags.writeable  # else another type to compile for
        want = np.broadcast_to(p, x.shape).ravel()
        np.testing.assert_array_equal(np.repeat(one, got.shape[1]), want)


def test_rows_longer_than_a_block():
    acc = np.arange(-BLOCK - 3, BLOCK + 3, dtype=np.int32).reshape(1, -1)
    options = {"q_min": -(2**31), "q_max": 2**31 - 1}
    for form in ("half_even", "two_stage_half_away", "float32_half_even"):
        got = requantize(acc, 3 << 29, -1, 5, **options, rounding=form)
        want = definition(acc, 3 << 29, -1, 5, **options, rounding=form)
        np.testing.assert_array_equal(got, want, strict=True)
