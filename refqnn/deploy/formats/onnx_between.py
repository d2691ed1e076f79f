"""A float expression between DequantizeLinear and QuantizeLinear as one step.

    what the expression is                       what computes it
    Conv, Gemm, MatMul of quantized weights      integer sums, requantized: LayerStep
    GlobalAveragePool                            integer sums: PoolStep
    Add, Mul, Concat, AveragePool, Softmax       ``refqnn.integer``, as onnxruntime
    a function of one element                    a table of 256 codes
    codes moved                                  codes moved
    anything else that ``refqnn.deploy.real`` has    floats: RealStep

Where onnxruntime does not fuse (int8 activations on x86, optimization off) it computes
in floats, and next to ties its codes differ from those of its own fused operators. A
Relu or a Clip behind the first three rows is a smaller range of codes: both commute
with the rounding.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refqnn.deploy.build import layer_step, pool_step
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_floats import store_real, store_table
from refqnn.deploy.formats.onnx_options import OPTIONS
from refqnn.deploy.formats.onnx_read import (
    GRIDS,
    Codes,
    Fixed,
    Node,
    Reader,
    Real,
    Term,
    readers_of,
    store,
    stored_as,
    unsupported_error,
    value_of,
)
from refqnn.deploy.formats.onnx_rearrange import Arrangement, store_rearranged
from refqnn.deploy.formats.onnx_weights import ROUNDING, Weights, weighted_sum
from refqnn.deploy.operations import (
    MOVED,
    OperationStep,
    quantize32,
)
from refqnn.deploy.real import REAL
from refqnn.deploy.steps import ImageStep

SEMANTICS = "onnxruntime"


def float_operator(reader: Reader, node: Node) -> None:
    """Keep an operator of floats until its value is quantized."""
    inputs = tuple(value_of(reader, node, at) for at in range(len(node.inputs)))
    for name, value in zip(node.inputs, inputs, strict=True):
        if name and not isinstance(value, Real | Term | Fixed | np.ndarray):
            raise unsupported_error(node, f"{name!r} must be dequantized codes")
    options = OPTIONS[node.op](reader, node, inputs)
    given = [in_shape_of(value) for value in inputs]
    try:
        with np.errstate(all="ignore"):
            made = REAL[node.op](*given, **options)
    except (ValueError, IndexError, TypeError) as error:
        raise unsupported_error(node, str(error)) from error
    shape = np.shape(made)
    if not shape or shape[0] != 1:
        raise unsupported_error(node, f"images must stay apart, its output is {shape}")
    reader.values[node.output] = Term(node.op, inputs, options, shape[1:], node)


def in_shape_of(value: Any) -> Any:
    """Return a constant in real numbers; zeros (1, *shape) for a value of an image."""
    if isinstance(value, Real | Term):
        return np.zeros((1, *value.shape))
    return value.real() if isinstance(value, Fixed) else value


def store_quantized(reader: Reader, node: Node, value: Term, y: Grid) -> None:
    """Add the step that computes the codes of a float expression on a grid."""
    core, clamps = without_clamps(value)
    terms = (*clamps, core)
    alone = all(reader.uses.get(term.node.output, 1) == 1 for term in terms)
    if alone and core.op in {"Conv", "ConvTranspose", "Gemm"}:
        core = value = with_quantized_constants(reader, core)
        for clamp in reversed(clamps):
            value = clamp._replace(inputs=(value, *clamp.inputs[1:]))
    smaller = clamped_grid(clamps, y)
    builder = STEPS.get(core.op) or (move if core.op in MOVED else None)
    inside = smaller.q_min <= y.zero_point <= smaller.q_max
    shift: int | None = 0
    if core.op in SHIFTED and y[2:] == GRIDS["int8"]:
        shift = int8_shift(reader, node.output, core)
    known = shift is not None and builder and inside
    if known and builder and builder(reader, node.output, core, smaller):
        if shift:
            step = reader.steps[node.output]
            reader.steps[node.output] = shifted_step(step, shift)
        return
    if not store_table(reader, node.output, value, y):
        store_real(reader, node.output, value, y)


def clamped_grid(clamps: list[Term], y: Grid) -> Grid:
    """Restrict the codes of a grid to those inside of clamps."""
    low, high = y.q_min, y.q_max
    for clamp in clamps:
        ends = (quantize32(REAL[clamp.op](np.array(e), *clamp.inputs[1:],
                **clamp.attributes), y) for e in (-1e30, 1e30))  # fmt: skip
        least, most = (int(e) for e in ends)
        low, high = max(low, least), min(high, most)
    return y._replace(q_min=low, q_max=max(low, high))


def without_clamps(term: Term) -> tuple[Term, list[Term]]:
    """Split a term into the operand of its last clamps, and these, the last first."""
    clamps = []
    while term.op in {"Relu", "Clip"} and isinstance(term.inputs[0], Term):
        if not all(isinstance(v, np.ndarray | None) for v in term.inputs[1:]):
            break
        clamps.append(term)
        term = term.inputs[0]
    return term, clamps


def with_quantized_constants(reader: Reader, term: Term) -> Term:
    """Quantize float weights and float biases as onnxruntime does when it optimizes.

        s_w = (max w - min w) / 255,  z_w = round(-128 - min w / s_w),  int8
        b   = round(b / (s_x s_w)),   int32

    (qdq_transformer/weight_bias_quantization.cc), all in float32, where dequantized
    codes come in and codes go out.
    """
    x, w, *more = term.inputs
    if not isinstance(x, Real):
        return term
    if isinstance(w, np.ndarray) and w.dtype == np.float32:
        low, high = min(w.min(), np.float32(0)), max(w.max(), np.float32(0))
        scale = np.float32((high - low) / np.float32(255) or 1)
        zero = np.clip(np.rint(np.float32(-128) - low / scale), -128, 127)
        q = np.clip(np.rint(w / scale) + zero, -128, 127).astype(np.int8)
        w = Fixed(q, np.asarray(scale), zero.astype(np.int8), 0)
    fixed = isinstance(w, Fixed) and not w.block
    if fixed and more and isinstance(more[0], np.ndarray) and more[0].ndim == 1:
        step = np.float32(reader.steps[x.step].grid.scale) * w.scale.astype(np.float32)
        q = np.rint(more[0].astype(np.float32) / step.reshape(-1))
        if np.all(np.abs(q) < 2**31):
            zeros = np.zeros((), np.int32)
            more = [Fixed(q.astype(np.int32), step, zeros, 0)]
    return term._replace(inputs=(x, w, *more))


def has_bytes(reader: Reader, value: Any) -> bool:
    """Return whether a value is dequantized codes of 8 bits, which runtimes fuse."""
    if not isinstance(value, Real):
        return False
    return bool(reader.steps[value.step].grid.dtype.itemsize == 1)


def layer(reader: Reader, name: str, term: Term, y: Grid) -> bool:
    """Store the step of a convolution or a product with quantized weights."""
    x, w, *more = term.inputs
    bias = more[0] if more else None
    if not has_bytes(reader, x) or not isinstance(w, Fixed) or w.block:
        return False
    q, axis, attributes = w.q, w.axis % w.q.ndim, dict(term.node.attributes)
    if term.op != "Conv":
        gemm = [
            attributes.get(k, d)
            for k, d in (("alpha", 1.0), ("beta", 1.0), ("transA", 0))
        ]
        if gemm != [1.0, 1.0, 0] or len(x.shape) != 1 or q.ndim != 2:
            return False
        if not attributes.get("transB"):
            q, axis = q.T, 1 - axis
        attributes = {}
    if max(w.scale.size, w.zero_point.size) > 1 and axis != 0:
        return False
    whole = np.zeros(len(q), np.int32)
    if bias is not None:
        integers = bias_codes(reader, term.node, bias, x, w)
        if integers is None or integers.size != len(q):
            return False
        whole = integers.reshape(-1)
    weights = Weights(q, w.scale, w.zero_point, whole, attributes)
    source = stored_as(reader, x)
    total, shape = weighted_sum(str(term.node), name, source, weights)
    store(reader, layer_step(str(term.node), source, total, shape, y, ROUNDING))
    return True


def bias_codes(reader: Reader, node: Node, bias: Any, x: Real, w: Fixed) -> Any:
    """Return a bias as int32 in steps of the sums; None where it is not quantized.

    Raises ValueError for another scale: runtimes that fuse the layer ignore it.
    """
    if not isinstance(bias, Fixed) or bias.q.dtype != np.int32:
        return None
    step = np.float32(reader.steps[x.step].grid.scale) * w.scale.astype(np.float32)
    step = step.reshape(-1) if step.size > 1 else step
    same = np.allclose(bias.scale, step, rtol=1e-5, atol=0)
    if not same or np.any(bias.zero_point):
        raise unsupported_error(node, "the scale of the bias must be x_scale * w_scale")
    return bias.q


def global_mean(reader: Reader, name: str, term: Term, y: Grid) -> bool:
    """Store the step of the mean of every plane."""
    (x,) = term.inputs
    if not has_bytes(reader, x):
        return False
    source = stored_as(reader, x)
    step = pool_step(str(term.node), name, source, y, ROUNDING)
    store(reader, step, term.shape)
    return True


def window_mean(reader: Reader, name: str, term: Term, y: Grid) -> bool:
    """Store the step of the mean of every window."""
    at = term.attributes["at"]
    options = {
        "kernel": at.kernel,
        "stride": at.stride,
        "padding": at.padding,
        "count_include_pad": term.attributes["count_include_pad"],
    }
    return one_input(reader, name, term, y, "mean_pool2d", options)


def softmax(reader: Reader, name: str, term: Term, y: Grid) -> bool:
    """Store the step of a softmax."""
    options = {"axis": term.attributes["axis"]}
    return one_input(reader, name, term, y, "softmax", options)


def one_input(
    reader: Reader, name: str, term: Term, y: Grid, operation: str, options: Any
) -> bool:
    """Store an operation of ``refqnn.integer`` on one array of codes."""
    x = term.inputs[0]
    if not has_bytes(reader, x):
        return False
    source = stored_as(reader, x)
    grid = source.grid
    options = options | {"x_scale": grid.scale, "x_zero_point": grid.zero_point}
    options |= y._asdict() | {"semantics": SEMANTICS}
    store(
        reader,
        OperationStep(name, (source.name,), ("x",), term.shape, operation, options, y),
    )
    return True


def binary(reader: Reader, name: str, term: Term, y: Grid) -> bool:
    """Store the step of a sum or a product of two arrays of codes."""
    sources, arguments = [], []
    options: dict[str, Any] = y._asdict() | {"semantics": SEMANTICS}
    for key, value in zip("xy", term.inputs, strict=True):
        if has_bytes(reader, value):
            step = stored_as(reader, value)
            sources.append(step.name)
            arguments.append(key)
            scale, zero = step.grid.scale, step.grid.zero_point
        elif (
            isinstance(value, Fixed) and value.scale.size == 1 == value.zero_point.size
        ):
            options[key] = value.q
            scale, zero = float(value.scale.item()), int(value.zero_point.item())
        else:
            return False
        options |= {f"{key}_scale": scale, f"{key}_zero_point": zero}
    operation = {"Add": "add", "Mul": "mul"}[term.op]
    made = (tuple(sources), tuple(arguments), term.shape, operation, options, y)
    store(reader, OperationStep(name, *made))
    return True


def concat(reader: Reader, name: str, term: Term, y: Grid) -> bool:
    """Store the step that puts codes side by side."""
    if not all(has_bytes(reader, v) for v in term.inputs):
        return False
    steps = [stored_as(reader, v) for v in term.inputs]
    options = {
        "scales": tuple(s.grid.scale for s in steps),
        "zero_points": tuple(s.grid.zero_point for s in steps),
        "axis": term.attributes["axis"],
        **y._asdict(),
        "semantics": SEMANTICS,
    }
    names = tuple(s.name for s in steps)
    store(reader, OperationStep(name, names, ("",), term.shape, "concat", options, y))
    return True


def move(reader: Reader, name: str, term: Term, y: Grid) -> bool:
    """Store the step that moves codes, where both grids are one."""
    x = term.inputs[0]
    made = Arrangement(term.op, dict(term.attributes), term.shape)
    if isinstance(x, Real):
        if reader.steps[x.step].grid != y:
            return False
        store_rearranged(reader, name, x, made)
        return True
    core = without_clamps(x)[0]
    if core.op not in STEPS or not isinstance(core.inputs[0], Real):
        return False  # all of it in floats
    if x.op == "GlobalAveragePool" and made[::2] == (
        "reshape",
        x.shape[:1],
    ):  # as its step stores it
        store_quantized(reader, term.node._replace(output=name), x, y)
        reader.values[name] = Codes(name, made.shape)
        return True
    before = f"{name}.before"
    store_quantized(reader, term.node._replace(output=before), x, y)
    store_rearranged(reader, name, reader.values[before], made)
    return True


STEPS: Mapping[str, Callable[[Reader, str, Term, Grid], bool]] = {
    "Conv": layer,
    "Gemm": layer,
    "MatMul": layer,
    "GlobalAveragePool": global_mean,
    "Concat": concat,
    "AveragePool": window_mean,
    "Softmax": softmax,
    "Add": binary,
    "Mul": binary,
}


#: fused operators whose codes depend on the zero-point that they are rounded with
SHIFTED = ("Add", "Mul", "AveragePool")


def int8_shift(reader: Reader, name: str, term: Term) -> int | None:
    """Give the shift of int8 codes where onnxruntime fuses: 128, or 0; None: floats.

    On x86 processors codes that one operator alone reads become uint8, codes + 128
    (qdq_transformer/qdq_s8_to_u8.cc); what reads or makes both kinds stays in floats.
    """
    reads = [reader.dequantized[n] for n in term.node.inputs if n in reader.dequantized]
    tensors = [q for q in reads if q not in reader.constants]
    if not tensors or isinstance(reader.steps.get(tensors[0]), ImageStep):
        return 0
    alone = {readers_of(reader, q) == 1 for q in (*tensors, name)}
    if len(alone) > 1:
        return None
    return 128 if alone == {True} else 0


def shifted_step(step: Any, shift: int) -> OperationStep:
    """Return the operation on codes + shift, whose own codes are shifted back."""
    options = dict(step.options) | {"shift": shift}
    for key in ("x_zero_point", "y_zero_point", "zero_point", "q_min", "q_max"):
        if key in options:
            options[key] += shift
    for key in "xy":
        if key in options:
            options[key] = (options[key].astype(np.int16) + shift).astype(np.uint8)
    return replace(step, options=options)
