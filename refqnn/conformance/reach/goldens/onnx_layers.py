"""ONNX test directories of layers and of training, as calls of families.

MaxPool                   max_pool2d: of floats their ranks, which have the same maxima
BatchNormalization        batch_norm, of the batch
SoftmaxCrossEntropyLoss   softmax_cross_entropy: its loss
LSTM                      lstm_cell: one step in one direction
Momentum                  sgd: a first step brings the velocity, the second is judged
DynamicQuantizeLinear     quantize on the grid that it chose
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refqnn._types import Float, Int
from refqnn.conformance.choices.families import family_of
from refqnn.conformance.reach.goldens.golden import Golden, Unread, of_codes
from refqnn.conformance.reach.goldens.onnx_node import Call, Tensor, window_of


def refuse(call: Call, **only: Any) -> None:
    """Raise Unread for the first attribute that has another value than is given."""
    for name, value in only.items():
        given = call.attributes.get(name, value)
        if given != value:
            raise Unread(f"{name} is {given!r}, only {value!r} is judged")


def of_floats(family: str, outputs: dict[str, Any], *arguments: Any) -> Golden:
    """Return a golden of real outputs, the arguments in the order of the family."""
    inputs = family_of(family).call_of(*arguments)
    return Golden("", family, inputs, {k: as_real(v) for k, v in outputs.items()})


def as_real(value: Any) -> Float:
    """Return an array in float64."""
    return np.asarray(value, np.float64)


def max_pool(call: Call) -> Golden:
    """x: (N, C, H, W) or (N, C, L)"""
    x, y = call.array(0), call.output.array
    if x.ndim not in {3, 4}:
        raise Unread(f"x has {x.ndim} axes, no planes")
    refuse(call, ceil_mode=0, dilations=[1] * (x.ndim - 2))
    flat = x.ndim == 3  # one row
    lead, sides = ([1], [0]) if flat else ([], [])
    attributes = dict(call.attributes)
    kernel = (*lead, *attributes["kernel_shape"])
    strides = [*lead, *attributes.get("strides", [1] * (x.ndim - 2))]
    pads = attributes.get("pads", [0] * 2 * (x.ndim - 2))
    half = len(pads) // 2
    pads = [*sides, *pads[:half], *sides, *pads[half:]]
    at = window_of(attributes | {"strides": strides, "pads": pads, "dilations": (1, 1)})
    if flat:
        x, y = x[:, :, None], y[:, :, None]
    codes, pooled = (x, y) if x.dtype.kind in "iu" else ranks(x, y)
    given = codes, kernel, at["stride"], at["padding"]
    return of_codes("max_pool2d", pooled, *given)


def ranks(x: Float, y: Float) -> tuple[Int, Int]:
    """Replace numbers by their ranks among x and 0, the rank of 0 being 0.

    >>> ranks(np.array([-2.5, 7.0]), np.array([7.0]))
    (array([-1,  1], dtype=int16), array([1], dtype=int16))
    """
    known = np.unique(np.append(x, 0.0))
    zero = np.searchsorted(known, 0.0)
    if len(known) > 2**15 or not np.all(np.isin(y, known)):
        raise Unread("the maxima are none of the numbers of x")
    first, second = (
        np.asarray(np.searchsorted(known, v) - zero).astype(np.int16) for v in (x, y)
    )
    return first, second


def batch_normalization(call: Call) -> Golden:
    """x, gamma, beta, running mean, running variance"""
    if not call.attributes.get("training_mode", 0):
        raise Unread("training_mode is 0: nothing of the batch is computed")
    names = dict(zip(("y", "running_mean", "running_var"), call.outputs, strict=False))
    momentum = float(call.attributes.get("momentum", 0.9))
    eps = float(call.attributes.get("epsilon", 1e-5))
    given = (as_real(call.array(place)) for place in range(5))
    outputs = {name: t.array for name, t in names.items() if t is not None}
    return of_floats("batch_norm", outputs, *given, momentum, eps)


def softmax_cross_entropy(call: Call) -> Golden:
    """logits: (N, K), labels: (N,)"""
    logits, labels = call.array(0), call.array(1)
    if logits.ndim != 2 or len(call.inputs) > 2:
        raise Unread("weights of classes, or logits that are no matrix")
    reduction = call.attributes.get("reduction", b"mean").decode()
    if reduction == "none":
        raise Unread("reduction is none: a loss for every example")
    ignored = call.attributes.get("ignore_index", -1)
    if np.any(labels == ignored):
        raise Unread(f"examples of class {ignored} are ignored")
    given = as_real(logits), labels.astype(np.int64), 0.0
    outputs = {"loss": call.output.array.reshape(())}
    golden = of_floats("softmax_cross_entropy", outputs, *given)
    return golden._replace(declared=f"reduction {reduction}")


def lstm(call: Call) -> Golden:
    """x: (1, N, I), w: (1, 4 D, I), r: (1, 4 D, D), [b: (1, 8 D)], -, [h], [c]"""
    refuse(call, direction=b"forward", input_forget=0, activations=None, clip=None)
    x, w, r = (as_real(call.array(place)) for place in range(3))
    axis = 1 if call.attributes.get("layout", 0) else 0
    if x.shape[axis] != 1 or len(w) != 1:
        raise Unread(f"x of shape {x.shape}: only one step is judged")
    if len(call.inputs) > 7 and call.inputs[7] is not None:
        raise Unread("peepholes")
    x, d = np.take(x, 0, axis), r.shape[2]
    b = as_real(call.array(3, np.zeros((1, 8 * d))))[0]
    start = np.zeros((1, len(x), d))
    h, c = (as_real(call.array(p, start)).reshape(len(x), d) for p in (5, 6))
    named = dict(zip(("", "h", "c"), call.outputs, strict=False))
    outputs = {k: t.array for k, t in named.items() if k and t is not None}
    if not outputs and named[""] is not None:
        outputs = {"h": named[""].array}
    shaped = {k: np.reshape(v, (len(x), d)) for k, v in outputs.items()}
    halves = b[: 4 * d], b[4 * d :]
    return of_floats("lstm_cell", shaped, x, h, c, w[0], r[0], *halves)


def momentum(call: Call) -> Golden:
    """rate, step, values ..., gradients ..., velocities ..."""
    n = (len(call.inputs) - 2) // 3
    parts = (call.inputs[2 + part * n : 2 + part * n + n] for part in range(3))
    values, grads, velocities = map(in_one_vector, parts)
    rate, step = call.array(0).item(), call.array(1).item()
    alpha, decay = (
        float(call.attributes[name]) for name in ("alpha", "norm_coefficient")
    )
    beta = float(call.attributes["beta"]) if step else 1.0
    after = in_one_vector(call.outputs[:n])
    nesterov = call.attributes["mode"] == b"nesterov"
    # a step before this one, whose velocity is the one given and which ends at values
    start = values + rate * velocities * (1 + alpha * nesterov)
    gradients = np.stack([velocities - decay * start, grads])
    settings = alpha, decay, 1 - beta, nesterov
    given = start, gradients, np.array([rate, rate]), *settings
    return of_floats("sgd", {"y": np.stack([values, after])}, *given)


def in_one_vector(tensors: Sequence[Tensor | None]) -> Float:
    """Put the elements of tensors into one vector of float64."""
    return np.concatenate([as_real(t.array).ravel() for t in tensors if t is not None])


def dynamic_quantize_linear(call: Call) -> Golden:
    """x; its outputs are codes, the scale and the zero-point"""
    scale, zero = (t.array for t in call.outputs[1:3] if t is not None)
    given = call.array(0), scale.reshape(()), int(zero.item()), 0, 255
    return of_codes("quantize", call.output.array, *given)


HANDLERS = {
    "MaxPool": max_pool,
    "BatchNormalization": batch_normalization,
    "SoftmaxCrossEntropyLoss": softmax_cross_entropy,
    "LSTM": lstm,
    "Momentum": momentum,
    "DynamicQuantizeLinear": dynamic_quantize_linear,
}
