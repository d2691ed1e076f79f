"""QuantNAS: distillation, the sandwich, both optimisers, training that resumes."""

import numpy as np
import pytest
from refusals import refuses
from tables.networks import pixels

from refqnn.core import Param, Run, named_params, zero_grads
from refqnn.nn import cosine
from refqnn.papers.quantnas.elastic_network import calibrate, initialise, supernet
from refqnn.papers.quantnas.sandwich import (
    FACTOR,
    Alone,
    Sandwich,
    TwoSteps,
    distillation,
    distillation_backward,
    train,
)
from refqnn.papers.quantnas.space import Gene, Space, draw, largest, smallest
from refqnn.papers.quantnas.step_errors import calibration_error
from refqnn.testing import check_gradients

TINY = Space(
    channels=(2,), depths=(1, 2), widths=(0.5, 1.0), kernels=(1, 3), classes=3, size=4
)
ONE = ((Gene(0.5, 1),),)


def made(seed=0, *, scales="shared", dtype="float64"):
    return supernet(
        TINY, scales=scales, dtype=dtype, rng=np.random.default_rng([seed, 0])
    )


def batch(rng, n=6):
    return pixels(rng, n=n, size=4), rng.integers(0, 3, n)


def test_distillation_and_its_backward(rng):
    logits, teacher = rng.standard_normal((2, 5, 4))
    loss, _ = distillation(logits, teacher)
    p, q = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (teacher, logits))
    assert loss == pytest.approx((p * np.log(p / q)).sum() / 5)
    assert distillation(teacher + 3, teacher)[0] == pytest.approx(0, abs=1e-12)
    check_gradients(distillation, distillation_backward, [logits, teacher], wrt=0)
    far, _ = distillation(1e4 * logits, 1e4 * teacher)
    assert np.isfinite(far)
    refuses("logits and teacher must be", distillation, logits, teacher[:2])


def test_distillation_computes_in_float64_and_leaves_its_arguments(rng):
    logits, teacher = rng.standard_normal((2, 5, 4), np.float32)
    before = logits.copy(), teacher.copy()
    loss, cache = distillation(logits, teacher)
    assert loss == distillation(logits.astype(float), teacher.astype(float))[0]
    assert distillation_backward(1.0, cache).dtype == np.float32
    for array, kept in zip((logits, teacher), before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_a_sandwich_without_draws_is_the_largest_and_the_smallest(rng):
    net, (images, labels) = made(), batch(rng)
    initialise(net, images)
    run = Run(training=True, rng=np.random.default_rng(5))
    loss, teacher = Sandwich(drawn=0)(net, images, labels, run)
    alone, _ = Alone()(net, images, labels, run)
    student, _ = net.forward(images, run, smallest(TINY))
    assert loss == pytest.approx(alone + distillation(student, teacher)[0])
    assert run.rng.random() == np.random.default_rng(5).random()


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_loss_that_is_not_finite_adds_no_gradient(rng):
    net, (images, labels) = made(), batch(rng)
    initialise(net, images)
    net.classifier_b.value[0] = np.inf
    zero_grads(net)
    run = Run(training=True, rng=np.random.default_rng(5))
    loss, _ = Sandwich()(net, images, labels, run)
    assert not np.isfinite(loss)
    assert not any(np.any(p.grad) for p in named_params(net).values())


def test_the_sandwich_is_the_sum_of_its_layers(rng):
    net, (images, labels) = made(), batch(rng)
    initialise(net, images)
    zero_grads(net)
    run = Run(training=True, rng=np.random.default_rng(5))
    loss, logits = Sandwich()(net, images, labels, run)
    got = {n: p.grad.copy() for n, p in named_params(net).items()}
    drawn = np.random.default_rng(5)
    subnets = [smallest(TINY), draw(TINY, drawn), draw(TINY, drawn)]
    zero_grads(net)
    want, teacher = Alone(largest(TINY))(net, images, labels, run)
    np.testing.assert_array_equal(logits, teacher)
    for genotype in subnets:
        student, cache = net.forward(images, run, genotype)
        part, kl = distillation(student, teacher)
        net.backward(distillation_backward(1.0, kl), cache)
        want += part
    assert loss == pytest.approx(want)
    for name, param in named_params(net).items():
        np.testing.assert_allclose(got[name], param.grad, rtol=1e-12, atol=1e-15)
    refuses("run needs an rng", Sandwich(), net, images, labels, Run(training=True))


def test_weights_take_sgd_and_scales_take_adam():
    params = {
        "w": Param(np.array([1.0])),
        "s": Param(np.array(0.5), group="quantizer"),
        "f": Param(np.array([0.0, 0.0]), group="predictor"),
    }
    for p in params.values():
        p.grad[...] = 2.0
    optimiser = TwoSteps(params, weight_decay=0.0)
    optimiser.step(0.1)
    np.testing.assert_allclose(params["w"].value, [0.8])
    np.testing.assert_allclose(params["s"].value, 0.5 - 0.1 * FACTOR, rtol=1e-6)
    params["f"].grad[...] = -2.0
    before = params["f"].value.copy()
    optimiser.step(0.1)
    np.testing.assert_allclose(params["w"].value, 0.8 - 0.1 * (0.9 * 2 + 2))
    # m_hat = (0.9 * 0.2 - 0.2) / (1 - 0.81), v_hat = 4
    m_hat = -0.02 / 0.19
    want = before - 0.1 * FACTOR * m_hat / 2
    np.testing.assert_allclose(params["f"].value, want, rtol=1e-6)


def test_weights_decay_and_scales_do_not():
    params = {
        "w": Param(np.array([1.0], np.float32)),
        "s": Param(np.array(0.5, np.float32), group="quantizer"),
    }
    TwoSteps(params).step(0.1)
    np.testing.assert_allclose(params["w"].value, 1 - 0.1 * 1e-4, rtol=1e-7)
    assert params["s"].value == 0.5
    assert {p.value.dtype for p in params.values()} == {np.dtype(np.float32)}
    assert pytest.approx(1e-3) == FACTOR * 0.05


def test_training_initialises_by_the_first_batch_and_follows_a_cosine(rng, monkeypatch):
    images, labels = batch(rng, 12)
    seen, rates, fresh, net = [], [], made(), made()
    initialise(fresh, images[:4])
    step = TwoSteps.step

    def objective(net, images, labels, run):
        seen.append((len(images), net.scales.log_s["stem"].value.copy()))
        return Alone()(net, images, labels, run)

    def stepping(self, lr):
        rates.append(lr)
        step(self, lr)

    monkeypatch.setattr(TwoSteps, "step", stepping)
    train(net, images, labels, objective, steps=40, lr=0.3, batch=4, rng=rng)
    assert seen[0] == (4, fresh.scales.log_s["stem"].value)
    rate = cosine(0.3, steps=40, warmup=2)
    assert rates == [rate(i) for i in range(40)]


def test_training_is_by_the_sandwich_and_saves_its_end(rng, tmp_path):
    images, labels = batch(rng, 12)
    path, nets = tmp_path / "net.npz", [made(), made(), made()]
    common = {"steps": 3, "batch": 4}

    def refusing(*_):
        pytest.fail("there is nothing left to train")

    for net, objective in zip(nets, (None, Sandwich(), refusing), strict=True):
        where = None if net is nets[1] else path
        own = np.random.default_rng(3)
        train(net, images, labels, objective, checkpoint=where, rng=own, **common)
    for other in nets[1:]:
        for name, param in named_params(other).items():
            np.testing.assert_array_equal(
                param.value, named_params(nets[0])[name].value
            )


def test_step_0_of_the_predictor_is_the_shared_baseline(rng):
    images, labels = batch(rng)
    losses = []
    for scales in ("shared", "predicted"):
        net = made(scales=scales)
        initialise(net, images)
        run = Run(training=True, rng=np.random.default_rng(5))
        losses.append(Sandwich()(net, images, labels, run)[0])
    assert losses[0] == losses[1]


def test_training_learns_and_moves_the_predictor(rng):
    images = np.repeat(np.array([40, 120, 220], np.uint8), 8)[:, None, None, None]
    images = images + rng.integers(0, 20, (24, 1, 4, 4), dtype=np.uint8)
    labels = np.repeat(np.arange(3), 8)
    net = made(scales="predicted")
    losses = []

    def objective(*args):
        loss, logits = Sandwich(drawn=1)(*args)
        losses.append(loss)
        return loss, logits

    train(net, images, labels, objective, steps=25, batch=24, rng=rng)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert np.any(net.scales.w2.value)


def test_a_training_cut_off_resumes_to_the_same_bits(rng, tmp_path):
    images, labels = batch(rng, 12)
    path, found = tmp_path / "net.npz", []

    def stopping(limit):
        def objective(*args):
            if limit and args[0].stopped == limit:
                raise KeyboardInterrupt
            args[0].stopped += 1
            return Sandwich(drawn=1)(*args)

        return objective

    for limits, where in (((0,), None), ((3, 0), path)):
        for limit in limits:
            net = made(scales="predicted", dtype="float32")
            net.stopped = 0
            try:
                train(
                    net,
                    images,
                    labels,
                    stopping(limit),
                    steps=5,
                    batch=4,
                    checkpoint=where,
                    save_every=2,
                    rng=np.random.default_rng([0, 1]),
                )
            except KeyboardInterrupt:
                assert path.exists()
        found.append({n: p.value for n, p in named_params(net).items()})
    for name, value in found[0].items():
        np.testing.assert_array_equal(found[1][name], value, err_msg=name)


def test_one_subnet_alone_leaves_the_rest(rng):
    net, (images, labels) = made(), batch(rng)
    initialise(net, images)
    zero_grads(net)
    _, logits = Alone(ONE)(net, images, labels, Run(training=True))
    want, _ = net.forward(images, Run(training=True), ONE)
    np.testing.assert_array_equal(logits, want)
    assert np.any(net.convs["stage1_block1.conv1"].w.grad)
    assert not np.any(net.convs["stage1_block2.conv1"].w.grad)


def test_the_first_steps_are_those_of_the_subnet_that_is_named(rng):
    net, (images, labels) = made(), batch(rng)
    initialise(net, images, ONE)
    want = {name: p.value.copy() for name, p in net.scales.log_s.items()}
    assert set(want) == set(calibrate(net, ONE, images, batch=4).steps)
    initialise(net, images)
    assert net.scales.log_s["stage1_block1.conv2"].value != want["stage1_block1.conv2"]
    alone = made()
    train(alone, images, labels, Alone(ONE), steps=1, first=ONE, batch=6, rng=rng)
    assert set(alone.scales.log_s) == set(want)


def test_bad_settings_raise(rng):
    images, labels = batch(rng)
    with pytest.raises(ValueError, match=r"batch must be in \[1, N = 6\], got 7"):
        train(made(), images, labels, steps=1, batch=7, rng=rng)
    with pytest.raises(ValueError, match=r"batch must be in \[1, N = 6\], got 0"):
        train(made(), images, labels, steps=1, batch=0, rng=rng)
    with pytest.raises(ValueError, match=r"disagree on N: .* labels\(5,\)"):
        train(made(), images, labels[:5], steps=1, batch=2, rng=rng)
    for wrong in ({"steps": 0}, {"steps": 1, "save_every": 0}):
        with pytest.raises(ValueError, match="must be at least 1, got 0"):
            train(made(), images, labels, batch=2, rng=rng, **wrong)
    refuses("layers differ", calibration_error, {"a": 1.0}, {"b": 1.0})
    found = calibration_error({"a": np.e, "b": 1.0}, {"a": 1.0, "b": np.e})
    assert found == pytest.approx(1)
