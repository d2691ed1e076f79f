"""What the forms of an ONNX export share: weights, windows, shortcuts, clips."""

from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.deploy.formats.onnx_graph import Graph, constant, dtype_of, node
from refqnn.deploy.steps import Shortcut, Step, Sum

#: uint8 weights are codes + 128, zero-point 128
WEIGHT_OFFSET = 128
#: an end of Slice that no plane reaches
FAR = 2**31 - 1


def weight_constants(graph: Graph, total: Sum) -> tuple[str, str, str]:
    """Return the names of weights, zero-point of the input, zero-point of the weights.

    Weights of a product are (I, O).
    """
    signed = graph.weights == "int8"
    offset, dtype = (0, np.int8) if signed else (WEIGHT_OFFSET, np.uint8)
    w = total.w.astype(np.int64) + offset
    return (
        constant(graph, f"{total.name}.w", w.T if w.ndim == 2 else w, dtype),
        constant(graph, f"{total.name}.x_zero_point", total.x_zero_point, np.uint8),
        constant(graph, f"{total.name}.w_zero_point", offset, dtype),
    )


def window_of(total: Sum) -> dict[str, Any]:
    """Return the attributes of a convolution."""
    (top, bottom), (left, right) = total.padding
    return {
        "kernel_shape": list(total.w.shape[2:]),
        "strides": list(total.stride),
        "pads": [top, left, bottom, right],
        "dilations": list(total.dilation),
        "group": total.groups,
    }


def strided(graph: Graph, skip: Shortcut, source: str) -> str:
    """Keep every ``stride``-th pixel."""
    if skip.stride == 1:
        return source
    parts = {
        "starts": [0, 0],
        "ends": [FAR, FAR],
        "axes": [2, 3],
        "steps": [skip.stride, skip.stride],
    }
    names = [constant(graph, f"{skip.name}.{k}", v, np.int64) for k, v in parts.items()]
    return node(graph, "Slice", [source, *names], f"{skip.name}.strided")


def widened(graph: Graph, skip: Shortcut, x: str, channels: int, output: str) -> str:
    """Add channels of zeros around the ``channels`` there are."""
    new = skip.channels - channels
    if not new:
        return node(graph, "Identity", [x], output)
    pads = [0, new // 2, 0, 0, 0, new - new // 2, 0, 0]
    at = constant(graph, f"{skip.name}.pads", pads, np.int64)
    return node(graph, "Pad", [x, at], output)


def clipped(graph: Graph, codes: str, step: Step) -> None:
    """Restrict codes to those of the grid, under the name of the step."""
    dtype = dtype_of(step)
    info = np.iinfo(dtype)
    if (info.min, info.max) == (step.grid.q_min, step.grid.q_max):
        node(graph, "Identity", [codes], step.name)
        return
    low = constant(graph, f"{step.name}.q_min", step.grid.q_min, dtype)
    high = constant(graph, f"{step.name}.q_max", step.grid.q_max, dtype)
    node(graph, "Clip", [codes, low, high], step.name)


def raised(v: Array, ndim: int) -> Array:
    """View (O,) so that it broadcasts: (O, 1, 1) against four axes.

    >>> raised(np.ones(3), 4).shape, raised(np.ones(3), 2).shape
    ((3, 1, 1), (3,))
    """
    return v.reshape(-1, *(1,) * (ndim - 2))
