"""Sums of products of a TFLite model: convolutions, products and their requantization.

    CONV_2D, DEPTHWISE_CONV_2D    r = s_x s_w[o] / s_y in float64                   (1)
    uint8, one scale for all      r = (s_x s_w in float32) / s_y                    (2)
    FULLY_CONNECTED               reference kernels: float64(acc) r, r of (1), ties
                                  away from 0; optimized kernels: r of (2)          (3)
                                  Micro: (1)
    int16 activations, int64 bias   r of (1) with 15 bits, one rounding, ties up    (4)
    XNNPACK                       float32(acc) r, all of it in float32              (5)

r is written with 31 bits and a shift but in (3) and (5); the kernels' ``Kernels`` say
how acc r is rounded. DEPTHWISE_CONV_2D and TRANSPOSE_CONV of the optimized kernels have
ties up in vectors of 8 channels, away from 0 in the channels that are left.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from refqnn._types import Array, Float
from refqnn.deploy.build import FLOAT32, layer_step, output_shape
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_weights import Weights, weighted_sum
from refqnn.deploy.formats.tflite_graph import (
    RANGES,
    Node,
    add_step,
    reshape_codes,
    scale_of,
    store,
)
from refqnn.deploy.operations import OperationStep
from refqnn.deploy.steps import REAL_ROUNDING, LayerStep, Step, Sum
from refqnn.geometry import Pair, Window, same_padding
from refqnn.integer import quantize_multiplier

SAME, VALID = 0, 1
WEIGHTS = ("int8", "uint8", "int4")
INT64 = "int64"
TWICE_AWAY, TWICE_UP = "two_stage_half_away", "two_stage_half_up"
#: the option of a layer that states the type of its bias, and int32 there
BIAS_TYPE, INT32 = "quantized_bias_type", 2


def window_of(node: Node, kernel: Pair, size: Pair) -> Window:
    """Return the window of an operator over planes of a size, padding written out."""
    kind = int(node.option("padding"))
    stride = int(node.option("stride_h")), int(node.option("stride_w"))
    options = node.operator.options
    dilation = (
        int(options.get("dilation_h_factor", 1)),
        int(options.get("dilation_w_factor", 1)),
    )
    if kind not in {SAME, VALID} or not all(
        1 <= v < 2**15 for v in (*kernel, *stride, *dilation)
    ):
        raise node.refusal(
            f"padding must be SAME or VALID, kernel {kernel}, strides {stride} and "
            f"dilations {dilation} at least 1"
        )
    at = Window(kernel, stride, ((0, 0), (0, 0)), dilation)
    return at._replace(padding=same_padding(size, at)) if kind == SAME else at


def conv_2d(node: Node) -> None:
    """x, w: (O, Kh, Kw, C / G), [b]"""
    w, source = weights_of(node, 4), node.source()
    channels = plane_shape(node, source)[0]
    if channels % w.shape[3]:
        raise node.refusal(f"weights of {w.shape[3]} channels read {channels}")
    groups = channels // w.shape[3]
    store(node, make_layer(node, node.name, source, w.transpose(0, 3, 1, 2), groups))


def depthwise_conv_2d(node: Node) -> None:
    """x, w: (1, Kh, Kw, C M), [b]"""
    w, source = weights_of(node, 4), node.source()
    channels = plane_shape(node, source)[0]
    if w.shape[0] != 1 or w.shape[3] % channels:
        raise node.refusal(f"weights {w.shape} read {channels} channels")
    taps = w.transpose(3, 0, 1, 2)
    step = make_layer(node, node.name, source, taps, channels, axis=3)
    if step.rounding == TWICE_UP:
        store_vectors(node, step, replace(step, rounding=TWICE_AWAY))
    else:
        store(node, step)


def store_vectors(
    node: Node, step: LayerStep | OperationStep, rest: LayerStep | OperationStep
) -> None:
    """Store a step of which ``rest`` gives the channels beyond whole vectors of 8."""
    channels, *plane = step.shape
    whole = channels - channels % 8
    if whole in {0, channels}:
        store(node, step if whole else rest)
        return
    names = []
    for kind, made, ends in (("vectors", step, (0, whole)),
                             ("rest", rest, (whole, channels))):  # fmt: skip
        own = replace(made, name=f"{node.name}.{kind}")
        node.reader.steps[own.name] = own
        kept = {"picks": ((1, np.arange(*ends)),)}
        names.append(f"{own.name}.kept")
        add_step(node, names[-1], own, "take", (ends[1] - ends[0], *plane), kept)
    grid = step.grid
    options: dict[str, Any] = {"axis": 1, "semantics": "tflite", **grid._asdict()}
    options |= {"scales": (grid.scale,) * 2, "zero_points": (grid.zero_point,) * 2}
    joined = node.name, tuple(names), ("",), step.shape, "concat", options, grid
    store(node, OperationStep(*joined))


def fully_connected(node: Node) -> None:
    """x: (1, ..., I), w: (O, I), [b]  ->  (1, O), or (1, T, O) as T pixels convolved"""
    w, source = weights_of(node, 2), node.source()
    if node.option("weights_format"):
        raise node.refusal("weights must not be shuffled")
    name, shape, (channels, inputs) = node.name, node.tensor(0).shape, w.shape
    count = int(np.prod(shape, dtype=np.int64))
    if count == inputs:
        flat = reshape_codes(node, f"{name}.input", source, shape, (1, inputs))
        as_stated = node.output.shape == (1, channels)
        step = make_layer(node, name if as_stated else f"{name}.sums", flat, w, 1)
        if as_stated:
            store(node, step)
            return
        node.reader.steps[step.name] = step
        done = reshape_codes(node, name, step, (1, channels), node.output.shape)
    elif len(shape) == 3 and shape[2] == inputs:
        rows = shape[1]
        pixels = reshape_codes(
            node, f"{name}.input", source, shape, (1, rows, 1, inputs)
        )
        step = make_layer(node, f"{name}.sums", pixels, w[:, :, None, None], 1)
        node.reader.steps[step.name] = step
        out = (1, rows, channels)
        done = reshape_codes(node, name, step, (1, rows, 1, channels), out)
    else:
        raise node.refusal(f"{inputs} inputs must be those of (1, T, I), x is {shape}")
    store(node, done)


def plane_shape(node: Node, source: Step) -> tuple[int, int, int]:
    """Return (C, H, W) of a source; raise where it has no planes."""
    if len(source.shape) != 3:
        raise node.refusal(f"it reads planes, is given {source.shape}")
    return source.shape[0], source.shape[1], source.shape[2]


def weights_of(node: Node, axes: int) -> Array:
    """Return constant weights of 8 or 4 bits."""
    w, t = node.constant(1), node.tensor(1)
    if t.dtype not in WEIGHTS or w.ndim != axes or not w.size:
        raise node.refusal(
            f"weights must be {list(WEIGHTS)} with {axes} axes, are {t.dtype} {w.shape}"
        )
    node.reader.room -= w.nbytes
    if node.reader.room < 0:
        raise node.refusal("its weights are shared by more layers than the file holds")
    return w


def bias_of(node: Node, channels: int, at: int = 2) -> Array:
    """Return a bias of one integer a channel, zeros where none is given."""
    if not node.has(at):
        return np.zeros(channels, np.int32)
    b = node.constant(at)
    if b.shape != (channels,) or b.dtype.name not in {"int32", "int64"}:
        raise node.refusal(f"the bias must be ({channels},) int32 or int64")
    if np.abs(b.astype(np.float64)).max() >= 2**31:
        raise node.refusal("a bias leaves int32")
    return b.astype(np.int32)


def make_layer(
    node: Node, name: str, source: Step, w: Array, groups: int, *, axis: int = 0
) -> LayerStep:
    """Return the step of sums of products, requantized as the kernels do it.

    ``axis`` is that of the file's weights along which scales may differ.
    """
    attributes: dict[str, Any] = {}
    if w.ndim == 4 and node.operator.op != "FULLY_CONNECTED":
        size = source.shape[1], source.shape[2]
        at = window_of(node, (w.shape[2], w.shape[3]), size)
        (top, bottom), (left, right) = at.padding
        attributes = {
            "strides": at.stride,
            "dilations": at.dilation,
            "pads": (top, left, bottom, right),
            "group": groups,
        }
    depthwise = node.operator.op == "DEPTHWISE_CONV_2D"
    grouped = groups > 1 and not depthwise
    scale, y, rounding = scaling_of(node, len(w), axis, grouped=grouped)
    zero = weight_zeros(node, len(w))
    weights = Weights(w, scale, zero, bias_of(node, len(w)), attributes)
    total, shape = weighted_sum(str(node), name, source, weights, bits=16)
    total = with_product(node, total, scale, rounding)
    if rounding == INT64:
        return shorten_multipliers(
            layer_step(str(node), source, total, shape, y, "half_up")
        )
    if rounding == REAL_ROUNDING:  # its integer multiplier is there to be read only
        step = layer_step(str(node), source, total, shape, y, "half_away")
        return LayerStep(step.name, step.source, shape, total, step.multiplier,
                         step.shift, y, REAL_ROUNDING)  # fmt: skip
    return layer_step(str(node), source, total, shape, y, rounding)


def scaling_of(
    node: Node, channels: int, axis: int, *, grouped: bool = False
) -> tuple[Float, Grid, str]:
    """Return the scales of the weights, the grid of the codes and the rounding."""
    t, kernels, op = node.tensor(1), node.reader.kernels, node.operator.op
    scale = scale_of(t)
    if scale.size not in {1, channels} or (scale.size > 1 and t.axis != axis):
        raise node.refusal(
            f"weights must have one scale or one for each of {channels} along axis "
            f"{axis}, have {scale.size} along {t.axis}"
        )
    if not np.all((scale > 0) & (scale < np.inf)):
        raise node.refusal("scales of weights must be positive and finite")
    y = node.clamped_grid()
    if {node.tensor(0).dtype, node.output.dtype} & {"int16"}:
        return scale, y, wide_rounding(node)
    odd = kernels.semantics == "xnnpack" and t.shape[1] % 2  # no row of whole bytes
    if t.dtype == "int4" and (op != "FULLY_CONNECTED" or odd):
        return scale, y, kernels.left
    unsigned = node.tensor(0).dtype == "uint8"
    of_op = {
        "FULLY_CONNECTED": kernels.fully_connected,
        "DEPTHWISE_CONV_2D": kernels.plain if unsigned else kernels.depthwise,
    }
    default = kernels.grouped if grouped else kernels.convolution
    return scale, y, of_op.get(op, default)


def weight_zeros(node: Node, channels: int) -> Array:
    """Return the zero-points of weights: of uint8 and of products one, of others 0."""
    t = node.tensor(1)
    zero = np.ravel(t.zero_point)
    low, high = RANGES["int8" if t.dtype == "int4" else t.dtype]
    free = t.dtype == "uint8" or (node.operator.op == "FULLY_CONNECTED" and
                                  scale_of(t).size == 1)  # fmt: skip
    if not zero.size:
        return np.zeros(1, np.int64)
    if zero.size not in {1, channels} or zero.min() < low or zero.max() > high:
        raise node.damage(f"weights have {zero.size} zero-points, {zero.max()} one")
    if np.any(zero) and not (free and zero.size == 1):
        raise node.refusal("weights must have zero-point 0")
    return zero


def wide_rounding(node: Node) -> str:
    """Return the rounding of a layer that reads and gives codes of 16 bits."""
    kinds = {node.tensor(0).dtype, node.output.dtype}
    if kinds != {"int16"} or node.source().grid.zero_point or node.grid().zero_point:
        raise node.refusal("codes of 16 bits must come in and go out, zero-point 0")
    op, kernels = node.operator.op, node.reader.kernels
    micro = kernels.fully_connected == "two_stage_half_away"
    narrow = node.has(2) and node.tensor(2).dtype == "int32"
    if narrow and (op == "DEPTHWISE_CONV_2D" or node.option(BIAS_TYPE) != INT32):
        raise node.refusal(f"the bias must be int64, or int32 and {BIAS_TYPE} INT32")
    if op == "FULLY_CONNECTED" and not micro:
        exact = not narrow or kernels.fully_connected == REAL_ROUNDING
        return REAL_ROUNDING if exact else kernels.left
    return kernels.left if narrow else INT64


def with_product(node: Node, total: Sum, scale: Float, rounding: str) -> Sum:
    """Return a sum of scale s_x s_w, rounded to float32 where the kernels do it."""
    whole = node.operator.op == "FULLY_CONNECTED" and not node.reader.kernels.micro
    single = rounding != REAL_ROUNDING if whole else node.tensor(0).dtype == "uint8"
    if scale.size > 1 or not single:
        return total
    product = np.float32(node.source().grid.scale) * scale  # (2)
    return Sum(**{**vars(total), "scale": np.full(len(total.w), product, np.float64)})


def shorten_multipliers(step: LayerStep) -> LayerStep:
    """Round the multipliers of a step to 15 bits, (4)."""
    m = step.multiplier.astype(np.int64)
    short = np.where(m < 0x7FFF0000, (m + (1 << 15)) >> 16, 0x7FFF)
    fields = {**vars(step), "multiplier": (short << 16).astype(np.int32)}
    return LayerStep(**fields)


def transpose_conv(node: Node) -> None:
    """size, w: (O, Kh, Kw, C), x, [b]  ->  sums of what every code spreads"""
    w, source = weights_of(node, 4), node.source(2)
    c, h, width = plane_shape(node, source)
    if w.shape[3] != c:
        raise node.refusal(f"weights of {w.shape[3]} channels read {c}")
    n, *size, channels = (*node.integers(0), 0, 0, 0, 0)[:4]
    if n != 1 or channels != len(w) or not all(1 <= v < 2**14 for v in size):
        raise node.refusal(f"its size must be (1, H, W, {len(w)})")
    at = window_of(node, (w.shape[1], w.shape[2]), (size[0], size[1]))
    out = output_shape(str(node), np.zeros((1, 1, *at.kernel)), at, 1, (1, *size))
    if out[1:] != (h, width):
        raise node.refusal(f"a window makes {out[1:]} of its size, x is {(h, width)}")
    around, extra = [], []
    for k, n in enumerate((h, width)):
        begin = at.padding[k][0]
        whole = (n - 1) * at.stride[k] + at.kernel[k]
        end = whole - begin - size[k]
        around.append((begin, max(end, 0)))
        extra.append(max(-end, 0))
    options: dict[str, Any] = {
        "w": w.transpose(3, 0, 1, 2),
        "b": bias_of(node, len(w), 3).astype(np.int32),
        "x_zero_point": source.grid.zero_point,
        "stride": at.stride,
        "padding": tuple(around),
        "output_padding": tuple(extra),
        "requantize": transposed_scaling(node, source, len(w)),
    }
    shape = (len(w), size[0], size[1])
    made = (node.name, (source.name,), ("x",), shape, "conv_transpose2d", options)
    step = OperationStep(*made, node.clamped_grid())
    if options["requantize"]["rounding"] != TWICE_UP:
        store(node, step)
        return
    away = {"requantize": options["requantize"] | {"rounding": TWICE_AWAY}}
    store_vectors(node, step, replace(step, options=options | away))


def transposed_scaling(node: Node, source: Step, channels: int) -> dict[str, Any]:
    """Return how the sums of a transposed convolution are requantized, (1)."""
    if node.tensor(2).dtype != "int8" or np.any(np.ravel(node.tensor(1).zero_point)):
        raise node.refusal("codes must be int8, weights without a zero-point")
    scale, y, rounding = scaling_of(node, channels, 0)
    real: Any = np.float32 if rounding == FLOAT32 else np.float64
    ratio = real(source.grid.scale) * scale.astype(real) / real(y.scale)
    wide = np.broadcast_to(ratio, channels).astype(np.float64)
    multiplier, shift = quantize_multiplier(wide)
    return {
        "multiplier": multiplier.reshape(-1, 1, 1),
        "shift": shift.reshape(-1, 1, 1),
        "zero_point": y.zero_point,
        "q_min": y.q_min,
        "q_max": y.q_max,
        "rounding": rounding,
    }
