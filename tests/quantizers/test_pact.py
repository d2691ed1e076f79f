import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.core import Run, named_params
from refqnn.nn import SGD
from refqnn.quantizers import PACT, pact, pact_backward

seeds = given(seed=st.integers(0, 2**32 - 1))


def drawn(seed):
    rng = np.random.default_rng(seed)
    return rng, 2 * rng.normal(size=40), float(rng.uniform(0.3, 3))


def plain(x, alpha, bits):
    """The paper's closed form and its two roundings, one value at a time."""
    n = 2**bits - 1
    clipped = 0.5 * (abs(x) - abs(x - alpha) + alpha)
    return round(clipped * n / alpha) * alpha / n


@seeds
def test_the_closed_form_one_value_at_a_time(seed):
    _, x, alpha = drawn(seed)
    for bits in (1, 2, 4, 8):
        y, _ = pact(x, np.array(alpha), bits=bits)
        want = [plain(each, alpha, bits) for each in x.tolist()]
        np.testing.assert_allclose(y, want, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_output_is_above_alpha_and_every_one_is_step_times_code(dtype):
    rng = np.random.default_rng(0)
    above = 0
    for alpha in rng.uniform(0.1, 9, 300).astype(dtype):
        for bits in (2, 3, 5, 7, 16):
            module = PACT(bits=bits)
            module.alpha.value = np.asarray(alpha, np.float64)
            x = np.array([alpha, 2 * alpha, alpha / 3], dtype)
            y, _ = module.forward(x, Run())
            q, step, _ = module.quantize(x)
            np.testing.assert_array_equal(step * q.astype(dtype), y)
            assert y.max() <= alpha
            assert y.max() >= alpha * (1 - 2 * np.finfo(dtype).eps)
            np.testing.assert_array_equal(module.forward(y, Run())[0], y)
            n = dtype(2**bits - 1)
            above += n * (alpha / n) > alpha
    assert above > 10  # the plain quotient does overshoot


@pytest.mark.parametrize("scope", ["whole", "rounding"])
def test_ends_of_the_range_are_half_open(scope):
    x = np.array([-1e-9, 0.0, 1.0, 9.0])
    _, cache = pact(x, np.array(1.0), bits=2, scope=scope)
    dx, dalpha = pact_backward(np.array([1.0, 2, 4, 8]), cache)
    np.testing.assert_array_equal(dx, [0, 2, 0, 0])
    assert dalpha == 12


def test_scopes_differ_by_the_rounding_inside():
    x, alpha = np.array([-3.0, 0.25, 1.25, 5.0]), np.array(1.5)  # t = 0.5 and 2.5
    whole, rounding = (
        pact_backward(np.ones(4), pact(x, alpha, bits=2, scope=scope)[1])
        for scope in ("whole", "rounding")
    )
    np.testing.assert_array_equal(whole[0], rounding[0])
    assert whole[1] == 1
    np.testing.assert_allclose(rounding[1], 1 + (0 - 0.5) / 3 + (2 - 2.5) / 3)


@seeds
def test_the_real_slope_in_alpha(seed):
    """Saturated: both scopes. Inside: code / n, of which a share goes through x."""
    rng, x, alpha = drawn(seed)
    n, h = 7, 1e-7
    t = x * n / alpha
    x = x[np.abs(t - np.floor(t) - 0.5) > 1e-3]  # no code changes on the way
    dy = rng.normal(size=x.size)
    ends = [np.sum(dy * pact(x, np.array(alpha + k * h), bits=3)[0]) for k in (1, -1)]
    real = (ends[0] - ends[1]) / (2 * h)
    cache = pact(x, np.array(alpha), bits=3, scope="rounding")[1]
    dx, dalpha = pact_backward(dy, cache)
    np.testing.assert_allclose(alpha * real, alpha * dalpha + x @ dx, atol=1e-6)
    above = x > alpha
    whole = pact_backward(dy, pact(x, np.array(alpha), bits=3)[1])[1]
    np.testing.assert_allclose(whole, dy[above].sum(), atol=1e-12)


# -- the module -----------------------------------------------------------------------


def test_decay_adds_twice_lambda_alpha():
    module = PACT(bits=2, decay=2e-4, start=3.0)
    x = np.array([[1.0, 5.0]])
    _, cache = module.forward(x, Run(training=True))
    for times in (1, 2):
        module.backward(np.ones((1, 2)), cache)
        np.testing.assert_allclose(module.alpha.grad, times * (1 + 4e-4 * 3))
    h = 1e-6  # of lambda alpha^2 itself
    slope = 2e-4 * ((3 + h) ** 2 - (3 - h) ** 2) / (2 * h)
    np.testing.assert_allclose(module.alpha.grad / 2 - 1, slope)


def test_alpha_stays_without_an_activation_above_it():
    x = np.linspace(-1, 7.9, 50)[None]
    for decay, still in ((0.0, True), (1e-3, False)):
        module = PACT(decay=decay)
        _, cache = module.forward(x, Run(training=True))
        module.backward(np.ones_like(x), cache)
        assert (module.alpha.grad == 0) == still


def test_a_step_keeps_alpha_at_its_minimum():
    module = PACT(start=0.5, alpha_min=0.25)
    module.alpha.grad += 3
    SGD(named_params(module)).step(lr=1.0)
    assert module.alpha.value == 0.25
    module.forward(np.ones((1, 2)), Run())
    module.alpha.grad -= 6
    SGD(named_params(module)).step(lr=1.0)
    assert module.alpha.value == 3.25


def test_alpha_starts_at_8():
    module = PACT()
    assert module.alpha.value == 8


@pytest.mark.parametrize("percentile", [0.0, 37.5, 99.9, 100.0])
def test_a_percentile_of_the_first_training_batch_is_the_start(percentile, rng):
    x = np.maximum(rng.normal(size=(3, 40)), 0.25)
    module = PACT(percentile=percentile)
    module.forward(np.zeros((0, 3)), Run(training=True))
    refuses("alpha is unknown: train, or call set_alpha", module.forward, x, Run())
    refuses("alpha is unknown", module.encode, x)
    module.forward(x, Run(training=True))
    rank = max(int(np.ceil(percentile / 100 * x.size)), 1)
    assert module.alpha.value == np.sort(x, axis=None)[rank - 1]
    module.forward(9 * x, Run(training=True))
    module.forward(9 * x, Run())
    assert module.alpha.value == np.sort(x, axis=None)[rank - 1]


def test_a_first_batch_of_zeros_starts_at_the_minimum():
    module = PACT(percentile=99.9, alpha_min=0.25)
    y, _ = module.forward(np.zeros((1, 9)), Run(training=True))
    assert module.alpha.value == 0.25
    np.testing.assert_array_equal(y, 0)


def test_a_clip_is_set_without_training():
    module = PACT(percentile=99.9)
    module.set_alpha(3.0)
    module.forward(np.full((1, 4), 0.5), Run(training=True))
    assert module.alpha.value == 3
    for bad in (0.0, -1.0, np.nan):
        refuses("alpha must lie in", module.set_alpha, bad)
    assert module.alpha.value == 3
