"""QuantNAS: shared, predicted and best steps."""

import numpy as np
import pytest
from refusals import refuses

from refqnn.papers.quantnas.scales import (
    Oracle,
    Relative,
    Shared,
    Starting,
    Where,
    features,
    mse_step,
    new_predictor,
    square_error,
)
from refqnn.quantizers.learned_step_size import lsq, lsq_step
from refqnn.testing.networks import slopes

CONV = Where("conv", 4, signed=True, fan_in=18)


def known():
    shared = Shared()
    shared.start(Starting({"conv": 0.3, "last": 0.1}))
    return shared


def test_a_zero_predictor_is_the_shared_step_to_the_bit(rng):
    shared = known()
    predictor = new_predictor(shared, ("last", "conv"), 4, rng=rng)
    for _ in range(20):
        v, a = rng.standard_normal(9), rng.standard_normal(4)
        assert predictor.step(CONV, v, a)[0] == shared.step(CONV, v, a)[0]
    assert shared.step(CONV, v, a)[0] == pytest.approx(0.3)


@pytest.mark.parametrize("kind", ["shared", "relative", "predicted"])
def test_gradients_equal_differences(kind, rng):
    shared = known()
    scales, params = shared, [shared.log_s["conv"]]
    if kind == "relative":
        scales = Relative()
        scales.start(Starting({"conv": 0.3}, {"conv": 0.2}))
        params = [scales.log_r["conv"]]
    if kind == "predicted":
        scales = new_predictor(shared, ("last", "conv"), 4, hidden=5, rng=rng)
        params += [scales.w1, scales.b1, scales.w2, scales.b2]
        for param in params[2:]:
            param.value = rng.normal(0, 0.3, param.value.shape)
    v, a = rng.standard_normal(9), rng.standard_normal(4)
    _, cache = scales.step(CONV, v, a)
    for part in (0.9, 0.8):
        scales.backward(np.array(part), cache)
    for param in params:

        def loss():
            return 1.7 * scales.step(CONV, v, a)[0]

        # eps |loss| / step, the rounding of the difference, is below 1e-9
        slope, got = slopes(param, loss, rng, 1e-6)
        np.testing.assert_allclose(got, slope, rtol=1e-7, atol=1e-9)
    assert not np.any(shared.log_s["last"].grad)


def test_the_relative_step_follows_its_tensor(rng):
    v, first, scales = rng.standard_normal(30), Starting(), Relative()
    want, _ = first.step(CONV, v, np.zeros(1))
    refuses("step of conv is unknown", scales.step, CONV, v, np.zeros(1))
    scales.start(first)
    for gain in (1, 4):
        got, _ = scales.step(CONV, gain * v, np.zeros(1))
        np.testing.assert_allclose(got, gain * want, rtol=1e-12)


def test_every_layer_has_an_output_of_its_own(rng):
    scales = new_predictor(known(), ("last", "conv"), 4, rng=rng)
    scales.b2.value = np.log([2.0, 5.0])
    v, a = rng.standard_normal(9), rng.standard_normal(4)
    assert scales.step(CONV, v, a)[0] == pytest.approx(5 * 0.3)
    assert scales.step(CONV._replace(name="last"), v, a)[0] == pytest.approx(2 * 0.1)


def test_the_first_layer_of_the_predictor_keeps_the_size_of_what_it_reads(rng):
    w1 = new_predictor(Shared(), (), 6, hidden=5000, rng=rng).w1.value
    assert np.mean(w1**2) == pytest.approx(2 / 8, rel=0.05)


def test_parameters_say_who_they_are(rng):
    relative = Relative()
    relative.start(Starting({"conv": 0.3}, {"conv": 0.2}))
    scales = new_predictor(known(), ("conv",), 4, rng=rng)
    learned = (scales.w1, scales.b1, scales.w2, scales.b2)
    assert {param.group for param in learned} == {"predictor"}
    steps = [*scales.shared.log_s.values(), *relative.log_r.values()]
    assert {param.group for param in steps} == {"quantizer"}


def test_a_learned_predictor_tells_subnets_apart(rng):
    scales = new_predictor(known(), ("conv",), 4, rng=rng)
    scales.w2.value = rng.standard_normal(scales.w2.value.shape)
    v = rng.standard_normal(9)
    steps = {float(scales.step(CONV, v, a)[0]) for a in np.eye(4)}
    assert len(steps) == 4
    assert all(s > 0 for s in steps)


@pytest.mark.parametrize(("bits", "signed"), [(2, True), (4, True), (8, False)])
def test_the_best_step_is_the_best_of_a_dense_grid(bits, signed, rng):
    where = Where("v", bits, signed=signed, fan_in=1)
    q_n, q_p = where.ends
    v = rng.standard_normal(3000)
    v = v if signed else np.maximum(v, 0)
    s = mse_step(v, q_n=q_n, q_p=q_p)
    dense = np.geomspace(s / 3, 3 * s, 2000)
    least = min(square_error(v, x, q_n, q_p) for x in dense)
    assert square_error(v, s, q_n, q_p) <= 1.005 * least
    assert Oracle().step(where, v, np.zeros(1))[0] == s


def test_the_best_step_follows_its_tensor(rng):
    v = rng.standard_normal(500)
    ends = {"q_n": 8, "q_p": 7}
    np.testing.assert_allclose(mse_step(4 * v, **ends), 4 * mse_step(v, **ends))
    assert mse_step(np.zeros(5), **ends) > 0
    assert mse_step(-np.ones(5), q_n=0, q_p=7) > 0
    many = np.repeat(rng.standard_normal(20_000), 2) * np.linspace(0.1, 3, 40_000)
    np.testing.assert_allclose(mse_step(many, **ends), mse_step(many[::9], **ends), 0.1)
    refuses("v must be finite", mse_step, np.array([1.0, np.nan]), **ends)


def test_an_outlier_is_clipped():
    v = np.append(np.ones(10_000), 40.0)
    assert mse_step(v, q_n=8, q_p=7) == pytest.approx(1, rel=0.05)


def test_the_square_error_is_that_of_lsq(rng):
    v, s = rng.standard_normal(50), np.array(0.1)
    want = np.mean((v - lsq(v, s, q_n=8, q_p=7)[0]) ** 2)
    assert square_error(v, 0.1, 8, 7) == pytest.approx(want)


def test_starting_steps_are_those_of_lsq(rng):
    v, starting = rng.standard_normal(30), Starting()
    s, _ = starting.step(CONV, v, np.zeros(1))
    assert s == lsq_step(v, q_p=7) == starting.steps["conv"]


def test_features(rng):
    v = rng.standard_normal((4, 5))
    want = [np.log(18), np.log(np.sqrt(np.mean(v**2)))]
    np.testing.assert_allclose(features(CONV, v), want)
    assert np.all(np.isfinite(features(CONV, np.zeros(3))))
