"""An integer network as an ONNX model, in three forms.

    form        sums of products         rounding                    equals refqnn
    exact       ConvInteger,             int64 Mul, Add, Mod, Div;   always (1)
                MatMulInteger, int32     or float32 Mul, Round
    qoperator   QLinearConv; the rest    float32 of the runtime;     where ``inexact``
                as in exact              the rest as in exact        is empty
    qdq         float Conv and Gemm      float32 of the runtime      (2)
                between DequantizeLinear
                and QuantizeLinear

(1) Every operator of the exact form is one of integers, or a float32 operation that
IEEE 754 rounds in one way. A division by 2^k that rounds down is (t - t mod 2^k) / 2^k.
OpenVINO 2026.4 gives wrong codes for products of int64, without a message. Written for
``runtime="openvino"`` every layer rounds as float32_half_even, which has none and is
equal there; ``inexact`` has a line of each layer that had another rounding.

(2) Equal where the runtime fuses a layer to QLinearConv and ``inexact`` has no line of
the layer. Residual additions, the classifier and what is not fused are sums of floats:
they differ next to ties. Average pools are fused to an operator of onnxruntime's own.

Weights are written as uint8 with zero-point 128 unless ``weights="int8"``: on x86
processors with AVX2 and without VNNI onnxruntime adds the products of u8 and s8 in
pairs that saturate in int16, and 8-bit codes then give wrong sums, silently. Products
of u8 and u8 do not saturate. With int8 weights, set the session option
``session.x64quantprecision`` to "1", or keep the codes within 7 bits.

A residual addition is not QLinearAdd, an operator of onnxruntime alone: it reads codes
of a grid that the trained network does not have, and its rounding differs from
processor to processor (fused float32 on AVX2, 22-bit integers on NEON).
"""

from typing import Any, TypeGuard

import numpy as np

from refqnn._types import Array
from refqnn.deploy.build import FLOAT32, float32_weight_scale
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_exact import exact_step
from refqnn.deploy.formats.onnx_graph import (
    WEIGHT_OFFSET,
    Graph,
    as_uint8,
    clip_codes,
    constant,
    model,
    node,
    shift_codes,
    weight_constants,
    window_of,
)
from refqnn.deploy.formats.onnx_operations import CONTRIB, operation_step
from refqnn.deploy.formats.onnx_qdq import qdq_step
from refqnn.deploy.formats.onnx_reals import real_step
from refqnn.deploy.network import IntegerNetwork
from refqnn.deploy.operations import OperationStep, RealStep
from refqnn.deploy.steps import (
    Computing,
    Gated,
    ImageStep,
    LayerStep,
    PoolStep,
    ResidualStep,
    Step,
)

FORMS = ("exact", "qoperator", "qdq")
WEIGHTS = ("uint8", "int8")
#: runtimes for which a form may be written
RUNTIMES = ("any", "openvino")
FLOATS = "computed in floats, which a runtime rounds and fuses in its own ways"


def to_onnx(
    network: IntegerNetwork,
    *,
    form: str = "exact",
    weights: str = "uint8",
    runtime: str = "any",
) -> Any:
    """Return the ONNX model of an integer network, for any runtime or one of RUNTIMES.

    pixels: (N, C, H, W) uint8  ->  logit codes: (N, K) int16

    Tensors carry the names of ``IntegerNetwork.trace``: the codes of a layer its name,
    accumulators ``.accumulator`` in addition.

    Raises ValueError for an unknown form, a rounding that is not composed, sums that
    int64 might not hold, and where the package onnx is not installed.
    """
    check_known("form", form, FORMS)
    check_known("weights", weights, WEIGHTS)
    check_known("runtime", runtime, RUNTIMES)
    graph = Graph([], {}, weights)
    steps = {step.name: step for step in network.steps}
    for step in network.steps[1:]:
        check_exportable(step, steps)
        if isinstance(step, OperationStep):
            operation_step(graph, step, steps, exact=form == "exact")
        elif isinstance(step, RealStep) and form != "exact":
            real_step(graph, step, steps)
        elif isinstance(step, ImageStep | RealStep):
            raise ValueError(f"{step.name}: floats between codes have no exact form")
        elif isinstance(step, Gated):
            raise ValueError(f"{step.name}: networks with gates have no form in ONNX")
        elif form == "qdq":
            qdq_step(graph, step, steps)
        elif form == "qoperator" and is_qlinear(step):
            qlinear_conv(graph, step, steps[step.source])
        else:
            exact_step(graph, step, steps, in_floats=runtime == "openvino")
    image, last = network.steps[0], network.steps[-1]
    source = (image.name, np.uint8, ("N", *image.shape))
    own = any(node.domain for node in graph.nodes)
    output = (last.name, last.grid.dtype, ("N", *last.shape))
    return model(graph, form, source, output, {CONTRIB: 1} if own else None)


def check_known(what: str, value: str, known: tuple[str, ...]) -> None:
    """Raise unless an option has one of its values."""
    if value not in known:
        raise ValueError(f"{what} must be one of {list(known)}, got {value!r}")


def check_exportable(step: Step, steps: dict[str, Step]) -> None:
    """Raise for sums of codes of more than 8 bits: these forms state no others."""
    if isinstance(step, LayerStep | ResidualStep | PoolStep):
        dtype = steps[step.source].grid.dtype
        if dtype not in (np.uint8, np.int8):
            raise ValueError(f"{step.name}: reads {dtype} codes, not 8 bits")


def inexact(network: IntegerNetwork, form: str, runtime: str = "any") -> list[str]:
    """Return a line for every layer that the form cannot state as it is, and why.

    A model with lines still runs; its codes then differ here and there.
    """
    check_known("runtime", runtime, RUNTIMES)
    steps = {step.name: step for step in network.steps}
    return [
        f"{step.name}: {reason}"
        for step in network.steps
        for reason in reasons(step, steps, form, runtime)
    ]


def reasons(
    step: Step, steps: dict[str, Step], form: str, runtime: str = "any"
) -> list[str]:
    """List why the codes of a step can differ in a form; empty where they cannot."""
    if not isinstance(step, Computing):
        return [FLOATS] * isinstance(step, RealStep)
    if form == "exact" or (form == "qoperator" and not is_qlinear(step)):
        other = runtime == "openvino" and step.rounding != FLOAT32
        return [f"rounds {step.rounding}, is written as {FLOAT32}"] * other
    lost = []
    if step.rounding != FLOAT32:
        lost.append(f"rounds {step.rounding}, the runtime float32_half_even")
    if isinstance(step, ResidualStep):
        lost.append("the addition is one of floats, whose sums round on the way")
    if isinstance(step, PoolStep):
        return lost
    if step.sum.fraction_bits.any():
        lost.append(
            f"biases have up to {step.sum.fraction_bits.max()} fraction bits, "
            "the form has none: deploy with finer_bias=False"
        )
    if step.sum.w.ndim == 2:
        lost.append("the classifier's 16-bit codes are rounded from sums of floats")
    elif not isinstance(step, ResidualStep):
        real = np.ldexp(step.multiplier.astype(np.float64), step.shift - 31)
        if np.any(ratio_of(step, steps[step.source].grid) != real):
            lost.append("multipliers are no float32 ratios of float32 scales")
    return lost


def ratio_of(step: LayerStep, x: Grid) -> Array:
    """Return the ratios that QLinearConv makes of its scales: (O,) float64"""
    scale = np.float32(x.scale) * float32_weight_scale(step.sum, x)
    ratio = (scale / np.float32(step.grid.scale)).astype(np.float64)
    return np.ldexp(ratio, -step.sum.fraction_bits)


def is_qlinear(step: Step) -> TypeGuard[LayerStep]:
    """Return whether a step is a convolution alone that stores 8-bit codes."""
    return (
        isinstance(step, LayerStep)
        and step.sum.w.ndim == 4
        and step.grid.dtype in (np.uint8, np.int8)
    )


def qlinear_conv(graph: Graph, step: LayerStep, source: Step) -> None:
    """Add QLinearConv, and Clip where the codes of a layer are fewer than its dtype."""
    total, name, x = step.sum, step.name, source.grid
    lowered = 0 if step.grid.dtype == np.uint8 else WEIGHT_OFFSET
    codes, added = as_uint8(graph, source)
    w, x_zero, w_zero = weight_constants(graph, total, total.x_zero_point + added)
    whole = np.rint(np.ldexp(total.bias.astype(np.float64), -total.fraction_bits))
    inputs = [
        codes,
        constant(graph, f"{name}.x_scale", x.scale, np.float32),
        x_zero,
        w,
        constant(graph, f"{name}.w_scale", float32_weight_scale(total, x), np.float32),
        w_zero,
        constant(graph, f"{name}.y_scale", step.grid.scale, np.float32),
        constant(
            graph, f"{name}.y_zero_point", step.grid.zero_point + lowered, np.uint8
        ),
        constant(graph, f"{name}.bias", whole, np.int32),
    ]
    rounded = node(graph, "QLinearConv", inputs, f"{name}.rounded", **window_of(total))
    if lowered:  # codes of int8, computed as uint8
        rounded = shift_codes(graph, rounded, -lowered, np.int8)
    clip_codes(graph, rounded, step)
