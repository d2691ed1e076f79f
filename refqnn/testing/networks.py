"""The laws of modules and whole networks: gradients, company, files, integers.

A straight-through network is recorded once and replayed with every rounding residual
held: the smooth function whose exact gradient its backward passes are together.
"""

import contextlib
import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.core import Run, named_buffers, named_modules, named_params, zero_grads
from refqnn.deploy import compare_float64, compare_layers, deploy
from refqnn.nn import SGD, Training, checkpoint, cross_entropy, fit
from refqnn.ops import softmax_cross_entropy
from refqnn.quantizers import PACT
from refqnn.testing.trials import check_callable

State = dict[str, Array]
#: relative error with which two derivatives are the same
CLOSE = 1e-5
#: roundings of a loss, absolute: below NOISE / step a slope says nothing
NOISE = 1e-9


class NetworkReport(NamedTuple):
    """Errors and counts of a network that obeys its laws; a broken law raises."""

    #: largest relative error of a parameter's slope
    gradient_error: float
    #: gradients that were compared
    gradients: int
    #: largest difference of an image alone and in company
    batch_difference: float


def check_network(
    network: Any,
    images: Array,
    labels: Int,
    *,
    step: float = 1e-6,
    bound: float = CLOSE,
) -> NetworkReport:
    """Check every gradient, batch independence, and save, load and resume.

    images: (N, C, H, W), N >= 2, labels: (N,)

    The loss is the cross-entropy. Parameters are differenced one by one along a random
    direction, in float64, with the rounding of the recorded pass held. Works on copies.
    Raises AssertionError, naming the parameter or the law; ValueError for fewer than
    two images and for labels of another number. A decay of a learned clip (PACT) is no
    part of the loss, and left out.
    """
    check_callable(
        **{
            f"network.{name}": getattr(network, name, None)
            for name in ("forward", "backward")
        }
    )
    if len(images) < 2 or np.shape(labels) != (len(images),):
        raise ValueError(
            "images (N, C, H, W) and labels (N,) must agree on N >= 2, "
            f"got {np.shape(images)} and {np.shape(labels)}"
        )
    wide, x = in_float64(network), np.asarray(images, np.float64)
    for _, module in named_modules(wide):
        if isinstance(module, PACT):
            module.decay = 0.0
    rng = np.random.default_rng(0)
    calibrate(wide, x)
    worst, count = check_loss(wide, x, labels, rng, step=step, bound=bound)
    check_replay(wide, x)
    before = state_of(wide)
    wide.forward(x, Run())
    check_same_state(state_of(wide), before, law="an evaluation changes")
    difference = check_batch_independence(wide, x, Run(), bound=1e-9)
    check_save_and_load(network, images)
    check_resume(network, images, labels)
    return NetworkReport(worst, count, difference)


def check_loss(
    network: Any,
    x: Float,
    labels: Int,
    rng: np.random.Generator,
    *,
    step: float,
    bound: float,
) -> tuple[float, int]:
    """Compare the gradient of the loss by every parameter; the error, and how many."""
    recording = Run(training=True, rng=np.random.default_rng(1)).recording()
    zero_grads(network)
    cross_entropy(network, x, labels, recording)
    claims = {name: p.grad.copy() for name, p in named_params(network).items()}

    def loss() -> float:
        replay = recording.replaying(recording.tape or [])
        replay = replace(replay, rng=np.random.default_rng(1))
        logits, _ = network.forward(x, replay)
        return float(softmax_cross_entropy(logits, labels)[0])

    worst = 0.0
    for name, param in named_params(network).items():
        slope, claimed = slopes(param, loss, rng, step, claims[name])
        error = abs(claimed - slope) / max(abs(slope), abs(claimed), NOISE / step)
        if not error <= bound:
            raise AssertionError(disagreement(name, slope, claimed))
        worst = max(worst, error)
    if not any(np.any(grad) for grad in claims.values()):
        raise AssertionError("no gradient arrives at any parameter")
    return worst, len(claims)


def slopes(
    param: Any,
    loss: Callable[[], float],
    rng: np.random.Generator,
    step: float,
    grad: Float | None = None,
) -> tuple[float, float]:
    """Difference the loss along a random direction, and multiply the gradient by it."""
    claimed = param.grad.copy() if grad is None else grad
    value, along = param.value, rng.standard_normal(param.value.shape)
    ends = []
    for way in (step, -step):
        param.value = value + way * along
        ends.append(loss())
    param.value = value
    return (ends[0] - ends[1]) / (2 * step), float(np.sum(claimed * along))


def disagreement(name: str, slope: float, claimed: float) -> str:
    """Say both derivatives along a direction, and how one follows from the other.

    >>> disagreement("w", 0.5, -0.5)
    'w: the slope is 0.5, the gradient claims -0.5: the sign is turned'
    """
    text = f"{name}: the slope is {slope:.9g}, the gradient claims {claimed:.9g}"
    if abs(claimed + slope) <= CLOSE * abs(slope):
        return f"{text}: the sign is turned"
    if not slope or not claimed:
        return f"{text}: a gradient is lost or invented"
    return f"{text}: {claimed / slope:.6g} times the slope"


def check_backward_adds(
    module: Any, x: Float, run: Run, rng: np.random.Generator
) -> None:
    """Check that a second backward doubles every gradient, and that x is left alone."""
    before = x.copy()
    y, cache = module.forward(x, run)
    dy = rng.standard_normal(y.shape).astype(y.dtype)
    zero_grads(module)
    first_dx = module.backward(dy, cache)
    once = {name: p.grad.copy() for name, p in named_params(module).items()}
    np.testing.assert_array_equal(module.backward(dy, cache), first_dx)
    for name, param in named_params(module).items():
        text = f"a second backward doubles the gradient of {name}"
        np.testing.assert_array_equal(param.grad, 2 * once[name], err_msg=text)
    np.testing.assert_array_equal(x, before)
    if np.shares_memory(x, y):
        raise AssertionError("the output shares memory with the input")


def check_replay(network: Any, x: Array) -> None:
    """Check that replaying a recorded pass repeats its output and changes no state."""
    run = Run(training=True, rng=np.random.default_rng(2))
    recording = run.recording()
    y, _ = network.forward(x, recording)
    before = state_of(network)
    again, _ = network.forward(x, run.replaying(recording.tape or []))
    np.testing.assert_allclose(
        again, y, rtol=1e-9, atol=1e-9, err_msg="replay repeats the recorded pass"
    )
    check_same_state(state_of(network), before, law="a replay changes")


def check_still(module: Any, v: Array) -> None:
    """Check that only training changes state, and no evaluation, recording or replay.

    A quantizer that knows no range, step or codebook yet refuses to evaluate.
    """
    recording = Run().recording()
    before = state_of(module)
    for run in (Run(), recording):
        with contextlib.suppress(ValueError):
            module.forward(v, run)
        check_same_state(state_of(module), before, law="an evaluation changes")
    if recording.tape:
        module.forward(v, Run(training=True).replaying(recording.tape))
        check_same_state(state_of(module), before, law="a replay changes")


def check_batch_independence(
    network: Any, x: Array, run: Run, *, bound: float
) -> float:
    """Check that in eval an image's output does not depend on its company."""
    together, _ = network.forward(x, run)
    alone = np.concatenate(
        [network.forward(x[i : i + 1], run)[0] for i in range(len(x))]
    )
    np.testing.assert_allclose(
        alone, together, rtol=0, atol=bound, err_msg="an image alone and in company"
    )
    return float(np.abs(alone - together).max(initial=0))


def check_save_and_load(network: Any, images: Array) -> None:
    """A file gives a network of the same names the same state and the same outputs."""
    first = calibrate(copy.deepcopy(network), images)
    other = copy.deepcopy(network)
    for param in named_params(other).values():
        param.value = param.value + np.ones_like(param.value)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.npz"
        checkpoint.save(path, checkpoint.of_network(first))
        checkpoint.restore(other, checkpoint.load(path))
    check_same_state(state_of(other), state_of(first), law="a file changes")
    np.testing.assert_array_equal(
        other.forward(images, Run())[0],
        first.forward(images, Run())[0],
        err_msg="a restored network gives other outputs",
    )


def check_resume(network: Any, images: Array, labels: Int) -> None:
    """Check that two epochs, and one resumed for another, end in the same bits."""

    def start(seed: int) -> Training:
        copied = copy.deepcopy(network)
        sgd = SGD(named_params(copied), momentum=0.9)
        batch = max(len(images) // 2, 2)
        rng = np.random.default_rng(seed)
        return Training(copied, sgd, lambda _: 0.01, rng, batch=batch)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training.npz"
        whole, half, resumed = start(0), start(0), start(7)
        fit(whole, (images, labels), epochs=2, progress=False)
        fit(half, (images, labels), epochs=1, checkpoint=path, progress=False)
        fit(resumed, (images, labels), epochs=2, checkpoint=path, progress=False)
    law = "a resumed training changes"
    check_same_state(state_of(resumed.network), state_of(whole.network), law=law)


def check_deployment(
    network: Any, images: Array, *, image_size: Any = None, **options: Any
) -> Any:
    """Deploy and compare integer and fake-quantized codes, layer by layer.

    images: (N, C, H, W) uint8. Raises AssertionError, naming the layer, where codes
    differ by more than one or away from a tie, and where the float64 network with the
    deployed multipliers is not the integer network; ValueError where nothing can be
    deployed. Returns the integer network.
    """
    size = images.shape[2:] if image_size is None else image_size
    integers = deploy(network, image_size=size, **options)
    for layer in compare_layers(network, integers, images):
        if not layer.holds:
            raise AssertionError(
                f"{layer.name}: codes differ by {layer.largest_difference}, "
                f"{layer.different} of {layer.codes}; deviation {layer.deviation:.3g}, "
                f"bound {layer.bound:.3g}"
            )
    for step in compare_float64(integers, images):
        if step.different:
            raise AssertionError(f"float64 is not the integer network: {step}")
    return integers


def state_of(network: Any) -> State:
    """Copy every parameter and buffer, by name."""
    params = {f"param {k}": p.value.copy() for k, p in named_params(network).items()}
    buffers = {f"buffer {k}": b.value.copy() for k, b in named_buffers(network).items()}
    return params | buffers


def check_same_state(have: State, want: State, *, law: str = "not the same") -> None:
    """Check that two states are equal, bit for bit."""
    if have.keys() != want.keys():
        raise AssertionError(f"{law}: {sorted(have.keys() ^ want.keys())}")
    for name, array in want.items():
        text = f"{law} {name}"
        np.testing.assert_array_equal(have[name], array, err_msg=text, strict=True)


def calibrate(network: Any, x: Array, *, backend: Any = None) -> Any:
    """Return the network after one pass in training mode, so that ranges are known."""
    options = {} if backend is None else {"backend": backend}
    network.forward(x, Run(training=True, rng=np.random.default_rng(0), **options))
    return network


def in_float64(module: Any, dtype: str = "float64") -> Any:
    """Copy a module, its float parameters and buffers in float64, or in float32."""
    copied = copy.deepcopy(module)
    leaves: list[Any] = [*named_params(copied).values()]
    for leaf in [*leaves, *named_buffers(copied).values()]:
        if leaf.value.dtype.kind == "f":
            leaf.value = leaf.value.astype(dtype)
    for param in leaves:
        param.grad = np.zeros_like(param.value)
    return copied
