"""The optimiser: PyTorch's order of operations, step by step."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.core import Param
from refqnn.nn import PARETO_CIFAR, SGD, adam_step, cosine, multistep, sgd_step

SETTINGS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "decay": {"weight_decay": 0.1},
    "nesterov and decay": {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1},
    "dampening": {"momentum": 0.5, "dampening": 0.25, "weight_decay": 0.1},
}


def test_three_steps_by_hand():
    value, velocity = np.array([1.0]), None
    settings = {"lr": 0.5, "momentum": 0.5, "nesterov": True, "weight_decay": 1.0}
    # g = 1 + 1 = 2, v = 2, direction = 3
    value, velocity = sgd_step(value, np.array([1.0]), velocity, **settings)
    np.testing.assert_array_equal([value[0], velocity[0]], [-0.5, 2.0])
    # g = 1 - .5 = .5, v = 1.5, direction = 1.25
    value, velocity = sgd_step(value, np.array([1.0]), velocity, **settings)
    np.testing.assert_array_equal([value[0], velocity[0]], [-1.125, 1.5])


def test_dampening_by_hand():
    one = np.array([1.0])
    first = sgd_step(one, np.array([4.0]), None, lr=0.25, dampening=0.5)
    np.testing.assert_array_equal(first, [[0.0], [4.0]])
    later = sgd_step(one, np.array([4.0]), one, lr=0.25, momentum=0.5, dampening=0.5)
    np.testing.assert_array_equal(later, [[1 - 2.5 / 4], [2.5]])


@pytest.mark.parametrize("name", SETTINGS)
def test_agrees_with_pytorch(name, rng):
    torch = pytest.importorskip("torch")
    start = rng.standard_normal(5)
    param = torch.nn.Parameter(torch.tensor(start))
    theirs = torch.optim.SGD([param], lr=0.1, **SETTINGS[name])
    value, velocity = start, None
    for _ in range(5):
        grad = rng.standard_normal(5)
        param.grad = torch.tensor(grad)
        theirs.step()
        value, velocity = sgd_step(value, grad, velocity, lr=0.1, **SETTINGS[name])
        np.testing.assert_allclose(value, param.detach().numpy(), rtol=1e-14)


@given(
    st.floats(0, 0.99), st.floats(0, 0.1), st.floats(0, 1), st.integers(0, 2**32 - 1)
)
def test_formula_with_float64_and_arguments_left_alone(momentum, decay, lr, seed):
    w, dw, v = np.random.default_rng(seed).standard_normal((3, 4))
    copies = w.copy(), dw.copy(), v.copy()
    new_w, new_v = sgd_step(w, dw, v, lr=lr, momentum=momentum, weight_decay=decay)
    np.testing.assert_allclose(new_v, momentum * v + dw + decay * w, rtol=1e-12)
    np.testing.assert_allclose(new_w, w - lr * new_v, rtol=1e-12)
    for array, copy in zip((w, dw, v), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not np.shares_memory(array, new_w)
        assert not np.shares_memory(array, new_v)


def test_float32_stays_float32():
    one = np.ones(2, np.float32)
    value, velocity = sgd_step(one, one, one, lr=0.1, momentum=0.9, weight_decay=5e-4)
    assert value.dtype == velocity.dtype == np.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, "momentum"),
        ({"nesterov": True}, "nesterov needs momentum"),
        ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "dampening = 0"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    refuses(message, sgd_step, np.ones(1), np.ones(1), None, lr=0.1, **settings)


@pytest.mark.parametrize("shapes", [((2,), (3,), (2,)), ((2,), (2,), (1,))])
def test_shapes_that_differ(shapes):
    value, grad, velocity = map(np.ones, shapes)
    refuses("must have one shape", sgd_step, value, grad, velocity, lr=0.1)


def three_params():
    params = {
        "w": Param(np.array([1.0])),
        "b": Param(np.array([1.0]), group="affine"),
        "s": Param(np.array([1.0]), group="quantizer", project=lambda s: s.clip(0.9)),
    }
    for param in params.values():
        param.grad[:] = 1.0
    return params


def test_groups_decay_rate_and_projection():
    params = three_params()
    sgd = SGD(params, weight_decay=0.5, lr_factors={"affine": 0.5, "quantizer": 3.0})
    sgd.step(lr=0.1)
    values = [params[name].value[0] for name in "wbs"]
    np.testing.assert_allclose(values, [1 - 0.15, 1 - 0.05, 0.9])
    np.testing.assert_array_equal(sgd.velocity["w"], [1.5])


def test_decay_can_be_for_all():
    params = three_params()
    SGD(params, weight_decay=0.5, decayed=("weight", "affine")).step(lr=0.1)
    np.testing.assert_allclose(params["b"].value, [1 - 0.15])


def test_momentum_uses_the_velocity_of_the_same_parameter():
    params = three_params()
    sgd = SGD(params, momentum=0.5)
    params["b"].grad[:] = 3.0
    sgd.step(lr=0.0)
    sgd.step(lr=1.0)
    np.testing.assert_array_equal(sgd.velocity["w"], [1.5])
    np.testing.assert_array_equal(params["w"].value, [-0.5])
    np.testing.assert_array_equal(params["b"].value, [1 - 4.5])


def test_old_values_are_not_overwritten():
    params = three_params()
    old = params["w"].value
    SGD(params).step(lr=1.0)
    np.testing.assert_array_equal(old, [1.0])


in_both_orders = pytest.mark.parametrize("scaled_rate", [False, True])


@in_both_orders
def test_adam_is_its_formula(scaled_rate):
    value, grad = np.arange(1.0, 7), np.array([1, -2, 0, 1e-9, 5, 100])
    moments, m, v, want = np.zeros((2, 6)), 0, 0, value
    for t in range(1, 5):
        value, moments = adam_step(
            value, t * grad, moments, lr=0.01, t=t, scaled_rate=scaled_rate
        )
        m = 0.9 * m + 0.1 * t * grad
        v = 0.999 * v + 0.001 * (t * grad) ** 2
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        want = want - 0.01 * step
        np.testing.assert_allclose(value, want, rtol=1e-14)
        np.testing.assert_allclose(moments, [m, v], rtol=1e-14)


@in_both_orders
def test_adam_against_torch(scaled_rate):
    torch = pytest.importorskip("torch")
    start = np.linspace(-2, 2, 12).reshape(3, 4)
    tensor = torch.tensor(start, requires_grad=True)
    optimiser = torch.optim.Adam([tensor], lr=1e-3)
    value, moments = start, np.zeros((2, 3, 4))
    for t in range(1, 6):
        grad = np.cos(start + t)
        tensor.grad = torch.tensor(grad)
        optimiser.step()
        value, moments = adam_step(
            value, grad, moments, lr=1e-3, t=t, scaled_rate=scaled_rate
        )
    np.testing.assert_allclose(value, tensor.detach().numpy(), rtol=1e-12)


def test_adam_adds_its_eps_to_the_root():
    moved, _ = adam_step(np.zeros(()), np.array(1e-8), np.zeros(2), lr=1.0, t=1)
    np.testing.assert_allclose(moved, -0.5)


def test_adam_changes_nothing_in_place():
    arrays = np.ones(2), np.ones(2), np.ones((2, 2))
    adam_step(*arrays, lr=1.0, t=3)
    assert all(np.all(array == 1) for array in arrays)


@pytest.mark.parametrize(
    ("shapes", "t", "message"),
    [
        (((2,), (3,), (2, 2)), 1, r"value\(2,\), grad\(3,\)"),
        (((2,), (2,), (2,)), 1, r"moments\(2,\)"),
        (((2,), (2,), (2, 2)), 0, "t must be at least 1, got 0"),
    ],
)
def test_adam_refuses(shapes, t, message):
    refuses(message, adam_step, *map(np.ones, shapes), lr=0.1, t=t)


NONSENSE = (-1.0, float("nan"), float("inf"))


@pytest.mark.parametrize("rate", NONSENSE)
@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_rates_that_are_nonsense_are_refused_by_name(name, rate):
    one = np.ones(1)
    with pytest.raises(ValueError, match=f"{name} must be finite and at least 0, got"):
        sgd_step(one, one, None, **({"lr": 0.1} | {name: rate}))


@pytest.mark.parametrize("rate", NONSENSE)
@pytest.mark.parametrize("name", ["lr", "eps"])
def test_rates_of_adam_that_are_nonsense_are_refused_by_name(name, rate):
    rates = {"lr": 0.1, "t": 1} | {name: rate}
    with pytest.raises(ValueError, match=f"{name} must be finite and at least 0, got"):
        adam_step(np.ones(1), np.ones(1), np.zeros((2, 1)), **rates)


@pytest.mark.parametrize("rate", NONSENSE)
def test_settings_of_sgd_that_are_nonsense_are_refused_by_name(rate):
    refuses("weight_decay must be finite", SGD, {}, weight_decay=rate)
    refuses("affine must be finite", SGD, {}, lr_factors={"affine": rate})


@pytest.mark.parametrize("rate", NONSENSE)
@pytest.mark.parametrize(
    "name", ["lr", "warmup_epochs", "weight_decay", "label_smoothing"]
)
def test_presets_that_are_nonsense_are_refused_by_name(name, rate):
    with pytest.raises(ValueError, match=f"{name} must be finite and at least 0, got"):
        dataclasses.replace(PARETO_CIFAR, **{name: rate})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "lr must be positive"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1"),
        ({"momentum": float("nan")}, r"momentum must be in \[0, 1\), got nan"),
    ],
)
def test_presets_that_cannot_learn_are_refused(change, message):
    refuses(message, dataclasses.replace, PARETO_CIFAR, **change)


@pytest.mark.parametrize("rate", NONSENSE)
def test_schedules_that_are_nonsense_are_refused(rate):
    for make in (
        lambda: cosine(rate, steps=3),
        lambda: cosine(0.1, steps=3, final=rate),
        lambda: multistep(rate, milestones=(1,)),
        lambda: multistep(0.1, milestones=(1,), factor=rate),
    ):
        refuses("must be finite and at least 0", make)
