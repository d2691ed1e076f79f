"""Quant and BipolarQuant nodes of QONNX as steps of integers: the inverse of to_qonnx.

Pappalardo, Umuroglu, Blott, Mitrevski, Hawks, Tran, Loncar, Summers, Borras, Muhizi,
Trahms, Hsu, Hauck, Duarte. QONNX: Representing Arbitrary-Precision Quantized Neural
Networks. arXiv:2206.07527.

    Quant         y = s (round(clip(x / s + z, low, high)) - z), ties to even        (1)
    BipolarQuant  y = s where x >= 0, else -s                                        (2)

Between two Quant nodes stand floats. Convolutions and products of quantized weights,
with a batch norm or without, alone or in a sum, are folded as ``deploy`` folds those of
a trained network: an exported network comes back with the integers that ``deploy``
makes. Other operators are those that ``import_onnx`` knows.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Float
from refqnn.deploy.build import layer_step, pool_step, weight_bits
from refqnn.deploy.convert import (
    LOGIT_MAX,
    Branch,
    branch,
    logit_scale,
    residual_step,
)
from refqnn.deploy.fold import (
    Folded,
    Grid,
    accumulator_range,
    check_sums,
    signed_codes,
)
from refqnn.deploy.formats.onnx_between import (
    clamped_grid,
    store_quantized,
    without_clamps,
)
from refqnn.deploy.formats.onnx_read import (
    Fixed,
    Node,
    Reader,
    Real,
    Term,
    constant_input,
    store,
    store_image,
    stored_as,
    unsupported_error,
    value_of,
)
from refqnn.deploy.formats.onnx_windows import window_of
from refqnn.deploy.operations import MOVED
from refqnn.deploy.plan import Stage
from refqnn.deploy.steps import ImageStep, Shortcut, Step
from refqnn.geometry import window

DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
#: of Quant, which single roundings of the sums keep at ties
ROUNDING = "half_even"
#: codes of weights that int8 holds
INT8 = np.arange(-128, 128)


class Affine(NamedTuple):
    """gain (s_x s_w sum w (x - z)) + offset, per channel: with its batch norm."""

    term: Term  # Conv, Gemm or MatMul
    x: Real
    w: Fixed
    gain: Float
    offset: Float


def quant_grid(reader: Reader, node: Node) -> tuple[Array, Array, int, int]:
    """Return scale, zero-point, low and high of (1); raise for other roundings."""
    scale, zero, bits = (constant_input(reader, node, at) for at in (1, 2, 3))
    rounding = str(node.attributes.get("rounding_mode", "ROUND")).upper()
    if rounding not in {"ROUND", "HALF_EVEN"}:
        raise unsupported_error(node, f"rounding_mode must be ROUND, is {rounding!r}")
    if bits.size != 1 or bits.item() != int(bits.item()) or not 1 <= bits.item() <= 8:
        raise unsupported_error(
            node, f"bits must be one integer in [1, 8], got {bits.ravel()[:3]}"
        )
    if np.any(zero != np.rint(zero)) or not np.all(np.isfinite(scale) & (scale > 0)):
        raise unsupported_error(
            node, "scales must be positive and zero-points integers"
        )
    b, narrow = int(bits.item()), int(node.attributes.get("narrow", 0))
    signed = bool(node.attributes.get("signed", 1))
    if b <= int(signed):
        raise unsupported_error(node, "1 bit with a sign: BipolarQuant has -1 and 1")
    if signed:
        return scale, zero, -(2 ** (b - 1)) + narrow, 2 ** (b - 1) - 1
    return scale, zero, 0, 2**b - 1 - narrow


def quant(reader: Reader, node: Node) -> None:
    """x, scale, zero_point, bits"""
    scale, zero, low, high = quant_grid(reader, node)
    value = value_of(reader, node, 0)
    if isinstance(value, np.ndarray):
        with np.errstate(over="ignore"):
            v = value.astype(np.float32) / scale.astype(np.float32) + zero
        q = np.rint(np.clip(v, low, high))  # (1)
        dtype = np.uint8 if low >= 0 else np.int8
        reader.values[node.output] = constant_codes(node, q.astype(dtype), scale, zero)
        return
    if scale.size != 1 or zero.size != 1:
        raise unsupported_error(node, "codes of a layer need one scale and zero-point")
    s, z = float(np.float32(scale.item())), int(zero.item())
    if z % 2:
        raise unsupported_error(
            node, f"it rounds with zero-point {z} added: ties agree for even ones"
        )
    store_codes(reader, node, value, Grid(s, z, low, high))


def bipolar_quant(reader: Reader, node: Node) -> None:
    """x, scale"""
    value, scale = value_of(reader, node, 0), constant_input(reader, node, 1)
    if not isinstance(value, np.ndarray):
        raise unsupported_error(node, "its input must be constant weights")
    q = np.where(value >= 0, 1, -1).astype(np.int8)  # (2)
    reader.values[node.output] = constant_codes(node, q, scale, np.zeros(1))


def constant_codes(node: Node, q: Array, scale: Array, zero: Array) -> Fixed:
    """Return constant codes whose scales vary along one axis at most."""
    axes = [i for i, n in enumerate(scale.shape[::-1]) if n > 1]
    if len(axes) > 1 or scale.ndim > q.ndim or zero.size > 1:
        raise unsupported_error(
            node, f"scales must vary along one axis and zero-points not: {scale.shape}"
        )
    axis = q.ndim - 1 - axes[0] if axes else 0
    return Fixed(q, scale.reshape(-1), zero.reshape(-1).astype(q.dtype), axis)


def store_codes(reader: Reader, node: Node, value: Any, y: Grid) -> None:
    """Add the step of a Quant node; what it hands on are its codes, dequantized."""
    if node.inputs[0] == reader.input.name:
        shift = 0 if y.q_min >= 0 else 128  # images are uint8
        store_image(reader, node.output, Grid(y.scale, y.zero_point + shift, 0, 255))
        step = reader.steps[node.output]
    elif isinstance(value, Real) and reader.steps[value.step].grid == y:
        reader.values[node.output] = value
        return
    else:
        term = value if isinstance(value, Term) else identity(node, value)
        if not folded_step(reader, node, term, y):
            store_quantized(reader, node, term, y)
        step = reader.steps[node.output]
    shape = getattr(value, "shape", step.shape)
    reader.values[node.output] = Real(step.name, tuple(shape))


def identity(node: Node, value: Any) -> Term:
    """Return codes as a float expression; raise for what is neither."""
    if not isinstance(value, Real):
        raise unsupported_error(node, f"{node.inputs[0]!r} is not made by a layer")
    return Term("Identity", (value,), {}, value.shape, node)


def folded_step(reader: Reader, node: Node, value: Term, y: Grid) -> bool:
    """Store sums of products, alone or with a skip, or the mean of every plane."""
    core, clamps = without_clamps(value)
    y = clamped_grid(clamps, y)
    if not y.q_min <= y.zero_point <= y.q_max:
        return False
    name, pooled = node.output, pooled_planes(reader, core)
    if pooled is not None:
        source = stored_as(reader, pooled)
        store(reader, pool_step(str(node), name, source, y, ROUNDING))
        return True
    if (main := affine_of(reader, core)) is not None:
        total = branch_of(reader, name, main, y.scale)
        source = stored_as(reader, main.x)
        made = (name, source, total.sum, total.shape, y, ROUNDING)
        store(reader, layer_step(*made))
        return True
    return core.op == "Add" and residual(reader, name, core, y)


def pooled_planes(reader: Reader, term: Term) -> Real | None:
    """Return the codes whose planes a term is the mean of, in any shape."""
    if term.op == "reshape" and isinstance(term.inputs[0], Term):
        term = term.inputs[0]
    if term.op != "GlobalAveragePool":
        return None
    return moved_codes(reader, term.inputs[0])


def affine_of(reader: Reader, term: Any) -> Affine | None:
    """Return a layer of quantized weights with its batch norm; None for other terms."""
    gain, offset = np.ones(1), np.zeros(1)
    if isinstance(term, Term) and term.op == "BatchNormalization":
        inner, *constants = term.inputs
        if all(isinstance(v, np.ndarray) for v in constants):
            scale, beta, mean, var = (v.astype(np.float64) for v in constants)
            gain = scale / np.sqrt(var + term.attributes.get("epsilon", 1e-5))
            offset, term = beta - gain * mean, inner
    if not isinstance(term, Term) or term.op not in {"Conv", "Gemm", "MatMul"}:
        return None
    x, w, *more = term.inputs
    x, w = moved_codes(reader, x), filters_first(term, w)
    bias = more[0] if more else np.zeros(1)
    bias = bias.real() if isinstance(bias, Fixed) else bias
    if w is None or x is None or not isinstance(bias, np.ndarray):
        return None
    offset = offset + gain * bias.astype(np.float64).reshape(-1)
    return Affine(term, x, w, gain, offset)


def filters_first(term: Term, w: Any) -> Fixed | None:
    """Return constant weights (O, ...), scales along O; None for others."""
    a = term.attributes
    plain = (a.get("alpha", 1.0), a.get("beta", 1.0), a.get("transA", 0))
    if not isinstance(w, Fixed) or w.block or plain != (1.0, 1.0, 0):
        return None
    product = term.op != "Conv"
    if w.q.ndim != (2 if product else 4) or len(term.shape) != (1 if product else 3):
        return None
    if product and not a.get("transB"):
        w = w._replace(q=w.q.T, axis=1 - w.axis)
    return w if w.scale.size == 1 or w.axis == 0 else None


def folded_layer(name: str, source: Step, layer: Affine) -> Folded:
    """Return codes and affine map of a layer, as ``refqnn.deploy.fold`` makes them."""
    channels = len(layer.w.q)
    q = layer.w.q.astype(np.int64) - int(layer.w.zero_point.item())
    if q.min(initial=0) < -128 or q.max(initial=0) > 127:
        raise ValueError(f"{name}: weights less their zero-point must fit int8")
    scale = layer.w.scale.astype(np.float64)
    real = np.broadcast_to(source.grid.scale * scale * layer.gain, channels)
    offset = np.broadcast_to(layer.offset, channels)
    if not np.all(np.isfinite(real) & np.isfinite(offset)):
        raise ValueError(f"{name}: folded scales and biases must be finite")
    w = signed_codes(name, q, real, INT8)
    check_sums(name, w, source.grid.zero_point)
    attributes, at = layer.term.node.attributes, window(1)
    if w.ndim == 4:
        at = window_of(attributes, (w.shape[2], w.shape[3]), source.shape, name)
    ends, groups = accumulator_range(w, source.grid), int(attributes.get("group", 1))
    return Folded(w, np.abs(real), offset, *ends, at, groups, weight_bits(w))


def branch_of(reader: Reader, name: str, layer: Affine, y_scale: float) -> Branch:
    """Return the accumulators of a layer, biases in fractions of their steps."""
    source = stored_as(reader, layer.x)
    return branch(name, folded_layer(name, source, layer), source, y_scale)


def residual(reader: Reader, name: str, core: Term, y: Grid) -> bool:
    """Store the sum of a layer and another, or codes, with one rounding."""
    main, other = (affine_of(reader, v) for v in core.inputs)
    skip_codes = core.inputs[1]
    if main is None:
        main, other, skip_codes = other, main, core.inputs[0]
    if main is None:
        return False
    one = branch_of(reader, name, main, y.scale)
    if other is not None:
        skip = branch_of(reader, other.term.node.output, other, y.scale)
        skip_source = stored_as(reader, other.x)
    elif (real := moved_codes(reader, skip_codes)) is not None:
        skip_source = stored_as(reader, real)
        z, channels = skip_source.grid.zero_point, skip_source.shape[0]
        around = Shortcut(f"{name}.shortcut", z, channels, 1, skip_source.grid.scale)
        skip = Branch(around, skip_source.shape, skip_source.grid)
    else:
        return False
    if skip.shape != one.shape:
        return False
    source = stored_as(reader, main.x).name
    stage = Stage(name, source, None, None, skip_source.name)
    store(reader, residual_step(stage, one, skip, y, ROUNDING))
    return True


def moved_codes(reader: Reader, value: Any) -> Real | None:
    """Return codes as they are, or a step of them moved; None for other terms."""
    if isinstance(value, Real):
        return value
    if not isinstance(value, Term) or value.op not in MOVED:
        return None
    name, inner = value.node.output, moved_codes(reader, value.inputs[0])
    if inner is None:
        return None
    if name not in reader.steps:
        term = value._replace(inputs=(inner, *value.inputs[1:]))
        store_quantized(reader, value.node, term, reader.steps[inner.step].grid)
        reader.values[name] = Real(name, value.shape)
    return Real(name, value.shape)


def store_logits(reader: Reader, name: str, value: Term) -> str:
    """Store an output that no Quant node follows on the grid of ``deploy``'s logits."""
    layer = affine_of(reader, value)
    if layer is None:
        raise unsupported_error(value.node, f"the output {name!r} must be quantized")
    source = stored_as(reader, layer.x)
    folded = folded_layer(name, source, layer)
    y = Grid(logit_scale(folded), 0, -LOGIT_MAX - 1, LOGIT_MAX)
    total = branch(name, folded, source, y.scale)
    made = (name, source, total.sum, total.shape, y, ROUNDING)
    return store(reader, layer_step(*made)).step


def of_pixels(reader: Reader, node: Node) -> bool:
    """Return whether a node is Cast of the uint8 input, or Sub or Mul behind it."""
    name, value = node.inputs[0] if node.inputs else "", value_of(reader, node, 0)
    if node.op == "Cast":
        return (
            name == reader.input.name and reader.input.type.tensor_type.elem_type == 2
        )
    if not isinstance(value, Real) or reader.uses[name] != 1:
        return False
    step, number = reader.steps[value.step], value_of(reader, node, 1)
    single = isinstance(number, np.ndarray) and number.size == 1
    if not isinstance(step, ImageStep) or not single:
        return False
    fresh, v = step.grid[:2] == (1.0, 0), float(number.item())
    return (node.op == "Sub" and fresh and v in range(256)) or (
        node.op == "Mul" and step.grid.scale == 1.0 and 0 < v < np.inf
    )


def pixels(reader: Reader, node: Node) -> None:
    """Read Cast, Sub and Mul of the image as its grid: scale (pixel - zero_point)."""
    if node.op == "Cast":
        store_image(reader, reader.input.name, Grid(1.0, 0, 0, 255))
        shape = reader.steps[reader.input.name].shape
        reader.values[node.output] = Real(reader.input.name, shape)
        return
    value = value_of(reader, node, 0)
    step, number = reader.steps[value.step], constant_input(reader, node, 1).item()
    field = {"zero_point": int(number)} if node.op == "Sub" else {"scale": number}
    grid = step.grid._replace(**field)
    reader.steps[step.name] = ImageStep(step.name, step.shape, grid)
    reader.values[node.output] = value


NODES: Mapping[str, Callable[[Reader, Node], None]] = {
    "Quant": quant,
    "IntQuant": quant,
    "BipolarQuant": bipolar_quant,
}


def handler(
    reader: Reader, domain: str, node: Node
) -> Callable[[Reader, Node], None] | None:
    """Return the function that reads a node of QONNX, or of its pixels; else None."""
    if domain in DOMAINS:
        return NODES.get(node.op)
    return pixels if not domain and of_pixels(reader, node) else None
