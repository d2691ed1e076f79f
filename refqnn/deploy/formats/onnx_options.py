"""The attributes of ONNX's float operators as options of ``refqnn.deploy.real``.

Windows are written out, axes counted from the batch; what would mix images is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refqnn.deploy.formats.onnx_read import (
    Fixed,
    Node,
    Reader,
    constant_input,
    unsupported_error,
)
from refqnn.deploy.formats.onnx_rearrange import resize_target
from refqnn.deploy.formats.onnx_windows import (
    pool_window,
    transposed_window,
    window_of,
)
from refqnn.deploy.real import ELEMENTWISE

Inputs = tuple[Any, ...]
Options = dict[str, Any]


def planes(value: Any, node: Node) -> tuple[int, ...]:
    """Return the shape (C, H, W) of a value; raise for others."""
    shape = getattr(value, "shape", ())
    if len(shape) != 3:
        raise unsupported_error(node, f"it reads planes, is given shape {shape}")
    return tuple(shape)


def kernel_of(w: Any) -> tuple[int, int]:
    """Return the height and width of constant weights, 0 where they have none."""
    shape = w.q.shape if isinstance(w, Fixed) else np.shape(w)
    return (shape[2], shape[3]) if len(shape) == 4 else (0, 0)


def conv_options(_reader: Reader, node: Node, inputs: Inputs) -> Options:
    """Return window and groups of a convolution with constant weights."""
    if not isinstance(inputs[1], Fixed | np.ndarray):
        raise unsupported_error(node, "weights must be constants")
    shape, kernel = planes(inputs[0], node), kernel_of(inputs[1])
    groups = int(node.attributes.get("group", 1))
    at = window_of(node.attributes, kernel, shape, str(node))
    return {"at": at, "groups": groups}


def transposed_options(_reader: Reader, node: Node, inputs: Inputs) -> Options:
    """Return window, output_padding and groups of a transposed convolution."""
    if not isinstance(inputs[1], Fixed | np.ndarray):
        raise unsupported_error(node, "weights must be constants")
    shape, kernel = planes(inputs[0], node), kernel_of(inputs[1])
    at, extra = transposed_window(node.attributes, kernel, shape, str(node))
    groups = int(node.attributes.get("group", 1))
    return {"at": at, "groups": groups, "transposed": True, "extra": extra}


def mean_options(_reader: Reader, node: Node, inputs: Inputs) -> Options:
    """Return the window of an average pool, and whether padding counts."""
    at = pool_window(node.attributes, planes(inputs[0], node), str(node))
    counted = bool(node.attributes.get("count_include_pad", 0))
    return {"at": at, "count_include_pad": counted}


def softmax_options(reader: Reader, node: Node, inputs: Inputs) -> Options:
    """Return the axis, counted from the batch."""
    ndim = 1 + len(inputs[0].shape)
    axis = int(node.attributes.get("axis", 1 if reader.opset < 13 else -1)) % ndim
    if axis == 0 or (reader.opset < 13 and axis != ndim - 1):
        raise unsupported_error(
            node, f"axis {axis} of {ndim} mixes images or several axes"
        )
    return {"axis": axis}


def reduce_options(reader: Reader, node: Node, inputs: Inputs) -> Options:
    """Return the axes of a mean, counted from the batch."""
    ndim = 1 + len(inputs[0].shape)
    given = constant_input(reader, node, 1, node.attributes.get("axes"))
    axes = [] if given.dtype == object else [int(a) % ndim for a in np.ravel(given)]
    if 0 in axes or not axes:
        raise unsupported_error(node, f"axes {axes} mix images")
    return {"axes": tuple(axes), "keepdims": bool(node.attributes.get("keepdims", 1))}


def concat_options(_reader: Reader, node: Node, inputs: Inputs) -> Options:
    """Return the axis, counted from the batch."""
    axis = int(node.attributes.get("axis", 1)) % (1 + len(inputs[0].shape))
    if axis == 0:
        raise unsupported_error(node, "images are not put side by side")
    return {"axis": axis}


def resize_options(reader: Reader, node: Node, inputs: Inputs) -> Options:
    """Return size and scales of a bilinear resizing with half-pixel centres."""
    shape, a = planes(inputs[0], node), node.attributes
    modes = (
        a.get("mode", "nearest"),
        a.get("coordinate_transformation_mode", "half_pixel"),
    )
    if modes != ("linear", "half_pixel"):
        raise unsupported_error(
            node, f"mode and coordinates must be linear, half_pixel: {modes}"
        )
    size, scales = resize_target(reader, node, shape)
    return {"size": size, "scales": scales}


def attributes(*names: str) -> Callable[..., Options]:
    """Return a builder that copies these attributes where they are given."""
    return lambda _reader, node, _inputs: {
        k: node.attributes[k] for k in names if k in node.attributes
    }


#: operator -> the options of its function in ``refqnn.deploy.real``
OPTIONS: Mapping[str, Callable[[Reader, Node, Inputs], Options]] = {
    **{op: attributes() for op in ELEMENTWISE},
    "Clip": attributes("min", "max"),
    "LeakyRelu": attributes("alpha"),
    "HardSigmoid": attributes("alpha", "beta"),
    "Elu": attributes("alpha"),
    "Gelu": attributes("approximate"),
    "Conv": conv_options,
    "ConvTranspose": transposed_options,
    "Gemm": attributes("alpha", "beta", "transA", "transB"),
    "MatMul": attributes(),
    "Softmax": softmax_options,
    "AveragePool": mean_options,
    "GlobalAveragePool": attributes(),
    "ReduceMean": reduce_options,
    "BatchNormalization": attributes("epsilon"),
    "Resize": resize_options,
    "Concat": concat_options,
}
#: operators without an integer form, and why
REFUSED = {
    "DynamicQuantizeLinear": "its scale depends on the image: quantize statically",
    "ConvInteger": "it gives sums of 32 bits: a QLinearConv gives codes",
    "MatMulInteger": "it gives sums of 32 bits: a QLinearMatMul gives codes",
}
