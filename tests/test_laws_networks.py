"""The laws of whole networks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from checkers import check_module
from tables.networks import TINY, pixels, tiny

from refqnn.core import Run, named_modules, named_params
from refqnn.networks import resnet
from refqnn.nn import SGD, Training, cosine, fit
from refqnn.testing.networks import (
    calibrate,
    check_batch_independence,
    check_network,
    check_same_state,
    state_of,
)


def images(name, rng, **options):
    return pixels(rng, channels=TINY[name].get("in_channels", 1), **options)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", TINY)
def test_gradient_check_at_frozen_residuals(name, training, rng):
    network = tiny(rng, **TINY[name])
    x = images(name, rng, dtype=np.float64)
    calibrate(network, x)
    check_module(network, x, Run(training=training), rng)


@pytest.mark.parametrize("broken", ["shortcut", "norm", "scale"])
def test_gradient_check_rejects_a_broken_network(broken, rng, monkeypatch):
    network = tiny(rng, shortcut="B")
    kinds = {
        "shortcut": type(network.layers["stage2_block1"].shortcut),
        "norm": type(network.layers["stem_norm"]),
        "scale": type(network.layers["image"]),
    }
    kind = kinds[broken]
    right = kind.backward
    monkeypatch.setattr(kind, "backward", lambda s, dy, c: right(s, dy, c) * 1.0001)
    x = images("float", rng, dtype=np.float64)
    with pytest.raises(AssertionError):
        check_module(network, x, Run(training=True), rng)


@pytest.mark.parametrize("name", TINY)
def test_networks_keep_every_law(name, rng):
    """A replay and an evaluation change nothing; images are apart; files keep bits."""
    network = tiny(rng, **TINY[name])
    check_network(network, images(name, rng), np.array([0, 1, 2]))


def test_batch_independence_rejects_batch_statistics(rng):
    with pytest.raises(AssertionError):
        check_batch_independence(
            tiny(rng), images("float", rng), Run(training=True), bound=1e-10
        )


def test_same_state_check_rejects():
    one = {"w": np.zeros(2)}
    for other in ({}, {"w": np.ones(2)}, {"w": np.zeros(2, np.float32)}):
        with pytest.raises(AssertionError):
            check_same_state(other, one)


@pytest.mark.parametrize("width", [0.01, 0.3, 0.99, 1.0, 1.5])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_width_changes_only_widths(width, shortcut):
    options = {"classes": 7, "in_channels": 3, "shortcut": shortcut, "weight_bits": 4}
    one, wide = (
        resnet(14, width=w, rng=np.random.default_rng(0), **options)
        for w in (1.0, width)
    )
    kinds = [[(n, type(m)) for n, m in named_modules(net)] for net in (one, wide)]
    assert kinds[0] == kinds[1]
    fixed = {3, 7, 1}  # image channels, classes and the 1x1 and 3x3 of a kernel
    scaled = {c: max(1, int(width * c)) for c in (16, 32, 64)} | {k: k for k in fixed}
    for name, param in named_params(one).items():
        want = tuple(scaled[size] for size in param.value.shape)
        assert named_params(wide)[name].value.shape == want, name


@dataclass(eq=False)
class Setting:
    """What a short training is run with."""

    backend: Any
    size: int
    steps: int
    width: float


def train(setting, seed=0):
    """Return the state after a few steps on random images at 4 bits."""
    rng = np.random.default_rng(seed)
    x = pixels(rng, n=32, size=setting.size)
    y = rng.integers(0, 3, 32)
    options = {"weight_bits": 4, "activation_bits": 4, "dtype": "float32"}
    network = tiny(rng, width=setting.width, **options)
    sgd = SGD(named_params(network), momentum=0.9, nesterov=True)
    schedule = cosine(0.05, steps=setting.steps)
    training = Training(network, sgd, schedule, rng, batch=16, backend=setting.backend)
    fit(training, (x, y), epochs=setting.steps // 2)
    return state_of(network)


def test_one_seed_gives_the_same_bits():
    import refqnn

    setting = Setting(refqnn, size=6, steps=4, width=0.13)
    check_same_state(train(setting), train(setting))
    with pytest.raises(AssertionError):
        check_same_state(train(setting, seed=1), train(setting))


@pytest.mark.compiled
def test_one_and_two_threads_give_the_same_bits():
    import numba
    from threadpoolctl import threadpool_limits

    from refqnn import fast

    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("numba was started with one thread")
    setting = Setting(fast, size=14, steps=50, width=0.5)
    states = []
    before = numba.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            with threadpool_limits(threads, user_api="blas"):
                states.append(train(setting))
    finally:
        numba.set_num_threads(before)
    check_same_state(states[1], states[0])
