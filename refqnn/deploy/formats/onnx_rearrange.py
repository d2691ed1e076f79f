"""ONNX operators that move codes and change none: windows of maxima, shapes, edges.

They commute with quantization, so between two quantizers of one grid they act on codes,
as onnxruntime computes them there.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array
from refqnn.deploy.formats.onnx_read import (
    Codes,
    Fixed,
    Node,
    Reader,
    Real,
    Term,
    constant_input,
    rename,
    store,
    stored_as,
    unsupported_error,
    value_of,
)
from refqnn.deploy.formats.onnx_windows import (
    MOST_PADDING,
    pool_window,
    pooled_shape,
    reshape_target,
)
from refqnn.deploy.operations import OperationStep
from refqnn.deploy.steps import Shape
from refqnn.geometry import window


class Arrangement(NamedTuple):
    """An operation on an array (N, ...), its options, and the shape of its output."""

    operation: str
    options: dict[str, Any]
    shape: Shape


def rearrange(reader: Reader, node: Node) -> None:
    """Add an operator that moves the elements of its first input."""
    value = value_of(reader, node, 0)
    if isinstance(value, Fixed):
        reader.values[node.output] = transposed_constant(node, value)
        return
    if not isinstance(value, Codes | Real | Term):
        raise unsupported_error(
            node, f"{node.inputs[0]!r} is not the output of a layer"
        )
    made = REARRANGED[node.op](reader, node, value.shape)
    if isinstance(value, Codes):
        if made.operation == "reshape" and same_array(reader, value, made.shape):
            moved = value._replace(shape=made.shape)
            if not rename(reader, node, moved):
                reader.values[node.output] = moved
        else:
            store_rearranged(reader, node.output, value, made)
    elif made.operation == "reshape" and isinstance(value, Real):
        reader.values[node.output] = value._replace(shape=made.shape)
    else:
        reader.values[node.output] = Term(
            made.operation, (value,), made.options, made.shape, node
        )


def same_array(reader: Reader, value: Codes | Real, shape: Shape) -> bool:
    """Return whether the step already stores its codes in this shape."""
    return reader.steps[value.step].shape == shape


def store_rearranged(
    reader: Reader, name: str, value: Codes | Real, made: Arrangement
) -> Codes:
    """Add the step that moves codes."""
    source = stored_as(reader, value)
    options = made.options
    if made.operation == "max_pool2d":
        at = options["at"]
        if at.dilation != (1, 1):
            raise ValueError(f"{name}: max pools of codes have no dilation")
        options = {"kernel": at.kernel, "stride": at.stride, "padding": at.padding}
    if made.operation == "pad":
        real = float(options["value"]) / source.grid.scale
        code = int(np.clip(np.rint(real) + source.grid.zero_point, *source.grid[2:]))
        options = options | {"value": code}
    step = OperationStep(
        name, (source.name,), ("x",), made.shape, made.operation, options, source.grid
    )
    return store(reader, step)


def max_pool(_reader: Reader, node: Node, shape: Shape) -> Arrangement:
    """Take the maximum of every window."""
    at = pool_window(node.attributes, shape, str(node))
    return Arrangement("max_pool2d", {"at": at}, pooled_shape(shape, at))


def global_max_pool(_reader: Reader, node: Node, shape: Shape) -> Arrangement:
    """Take the maximum of every plane."""
    if len(shape) != 3:
        raise unsupported_error(node, f"it reads planes, is given shape {shape}")
    at = window((shape[1], shape[2]))
    return Arrangement("max_pool2d", {"at": at}, (shape[0], 1, 1))


#: places in the source of outputs i: of n pixels, m, and the scale
PLACES: Mapping[str, Callable[[Array, int, int, float], Array]] = {
    "half_pixel": lambda i, _n, _m, scale: (i + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda i, _n, m, scale: (
        (i + 0.5) / scale - 0.5 if m > 1 else 0.0 * i
    ),
    "asymmetric": lambda i, _n, _m, scale: i / scale,
    "align_corners": lambda i, n, m, _scale: i * (n - 1) / max(m - 1, 1),
}
#: places -> indices of the nearest pixels
NEAREST: Mapping[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def resize_target(
    reader: Reader, node: Node, shape: Shape
) -> tuple[tuple[int, int], tuple[float, float]]:
    """Return height and width after a resizing, and the scales of both."""
    scales = constant_input(reader, node, 2)
    if scales.dtype != object and scales.size == 4:
        factors = [float(v) for v in np.ravel(scales)[2:]]
        sizes = [int(np.floor(n * f)) for n, f in zip(shape[1:], factors, strict=True)]
    else:
        sizes = [int(v) for v in np.ravel(constant_input(reader, node, 3))[2:]]
        factors = [m / n for m, n in zip(sizes, shape[1:], strict=True)]
    if min(sizes) < 1 or max(sizes) > MOST_PADDING:
        raise unsupported_error(node, f"sizes {sizes} leave [1, {MOST_PADDING}]")
    return (sizes[0], sizes[1]), (factors[0], factors[1])


def resize(reader: Reader, node: Node, shape: Shape) -> Arrangement:
    """Give every pixel the value of the nearest one of the source."""
    place = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    mode = node.attributes.get("nearest_mode", "round_prefer_floor")
    nearest = node.attributes.get("mode", "nearest") == "nearest"
    if len(shape) != 3 or place not in PLACES or mode not in NEAREST or not nearest:
        raise unsupported_error(node, f"codes are not resized by {place}, {mode}")
    sizes, scales = resize_target(reader, node, shape)
    picks = []
    for axis, (m, scale) in enumerate(zip(sizes, scales, strict=True), start=2):
        n = shape[axis - 1]
        at = NEAREST[mode](PLACES[place](np.arange(m), n, m, scale))
        picks.append((axis, np.clip(at, 0, n - 1).astype(np.int64)))
    return Arrangement("take", {"picks": tuple(picks)}, (shape[0], *sizes))


def reshape(reader: Reader, node: Node, shape: Shape) -> Arrangement:
    """Reshape to constant sizes."""
    target = constant_input(reader, node, 1, node.attributes.get("shape"))
    zero = not node.attributes.get("allowzero", 0)
    sizes = reshape_target(shape, target, allow_zero=not zero, what=str(node))
    return Arrangement("reshape", {"shape": sizes}, sizes)


def flatten(_reader: Reader, node: Node, shape: Shape) -> Arrangement:
    """(N, ...)  ->  (N, all others)"""
    if node.attributes.get("axis", 1) not in {1, -len(shape)}:
        raise unsupported_error(node, "axis must be 1: images must stay apart")
    sizes = (int(np.prod(shape)),)
    return Arrangement("reshape", {"shape": sizes}, sizes)


def squeeze(reader: Reader, node: Node, shape: Shape) -> Arrangement:
    """Leave out axes of one element, or all but the batch."""
    axes = axes_of(reader, node, 1 + len(shape))
    if axes is None:
        axes = [i + 1 for i, size in enumerate(shape) if size == 1]
    if 0 in axes or any(shape[i - 1] != 1 for i in axes):
        raise unsupported_error(node, f"axes {axes} of (N, {shape}) cannot be left out")
    sizes = tuple(size for i, size in enumerate(shape) if i + 1 not in axes)
    return Arrangement("reshape", {"shape": sizes}, sizes)


def unsqueeze(reader: Reader, node: Node, shape: Shape) -> Arrangement:
    """Put in axes of one element."""
    given = np.ravel(constant_input(reader, node, 1, node.attributes.get("axes")))
    axes = [int(a) % (1 + len(shape) + len(given)) for a in given]
    if 0 in axes:
        raise unsupported_error(node, "the batch must stay the first axis")
    whole = [1, *shape]
    for a in sorted(axes):
        whole.insert(a, 1)
    return Arrangement("reshape", {"shape": tuple(whole[1:])}, tuple(whole[1:]))


def transpose(_reader: Reader, node: Node, shape: Shape) -> Arrangement:
    """Put the axes in another order, the batch first."""
    whole = 1 + len(shape)
    axes = tuple(int(a) for a in node.attributes.get("perm", range(whole)[::-1]))
    if axes[0] != 0:
        raise unsupported_error(
            node, f"the batch must stay the first axis, perm is {axes}"
        )
    sizes = tuple(shape[a - 1] for a in axes[1:])
    return Arrangement("transpose", {"axes": axes}, sizes)


def pad(reader: Reader, node: Node, shape: Shape) -> Arrangement:
    """Surround planes with a constant real number."""
    mode = node.attributes.get("mode", "constant")
    pads = np.ravel(constant_input(reader, node, 1, node.attributes.get("pads")))
    value = constant_input(reader, node, 2, node.attributes.get("value", 0.0))
    half = len(pads) // 2
    widths = [(int(a), int(b)) for a, b in zip(pads[:half], pads[half:], strict=True)]
    if mode != "constant" or len(node.inputs) > 3 or half != 1 + len(shape):
        raise unsupported_error(
            node, "its mode must be constant, with pads for every axis"
        )
    inside = 0 <= min(pads, default=0) <= max(pads, default=0) <= MOST_PADDING
    if not inside or widths[0] != (0, 0):
        raise unsupported_error(
            node, f"pads {pads.tolist()} leave [0, {MOST_PADDING}], or surround images"
        )
    options = {"widths": tuple(widths[1:]), "value": float(np.ravel(value)[0])}
    sizes = tuple(a + size + b for size, (a, b) in zip(shape, widths[1:], strict=True))
    return Arrangement("pad", options, sizes)


def slice_axes(reader: Reader, node: Node, shape: Shape) -> Arrangement:
    """Take elements of some axes, by start, end and step."""
    keys = ("starts", "ends", "axes", "steps")
    given = [
        constant_input(reader, node, i + 1, node.attributes.get(key))
        for i, key in enumerate(keys)
    ]
    starts, ends = (np.ravel(v) for v in given[:2])
    axes = np.arange(len(starts)) if given[2].ndim == 0 else np.ravel(given[2])
    steps = np.ones(len(starts), int) if given[3].ndim == 0 else np.ravel(given[3])
    whole = (1, *shape)
    kept = [
        (int(a) % len(whole), np.arange(whole[int(a)])[int(s) : int(e) : int(k)])
        for s, e, a, k in zip(starts, ends, axes, steps, strict=True)
    ]
    if any(a == 0 or not len(at) for a, at in kept):
        raise unsupported_error(node, "images must stay apart, and something be left")
    length = {a: len(at) for a, at in kept}
    sizes = tuple(length.get(i + 1, size) for i, size in enumerate(shape))
    return Arrangement("take", {"picks": tuple(kept)}, sizes)


def axes_of(reader: Reader, node: Node, ndim: int) -> list[int] | None:
    """Return the axes of a node, from its second input or its attribute."""
    given = constant_input(reader, node, 1, node.attributes.get("axes"))
    return None if given.dtype == object else [int(a) % ndim for a in np.ravel(given)]


def transposed_constant(node: Node, value: Fixed) -> Fixed:
    """Return constant codes with their axes in another order."""
    ndim = value.q.ndim
    if node.op != "Transpose" or value.block:
        raise unsupported_error(node, "constants are transposed, nothing else")
    axes = [int(a) for a in node.attributes.get("perm", range(ndim)[::-1])]
    q: Array = value.q.transpose(axes)
    return value._replace(q=q, axis=axes.index(value.axis % ndim))


REARRANGED: Mapping[str, Callable[[Reader, Node, Shape], Arrangement]] = {
    "MaxPool": max_pool,
    "GlobalMaxPool": global_max_pool,
    "Resize": resize,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Pad": pad,
    "Slice": slice_axes,
}
