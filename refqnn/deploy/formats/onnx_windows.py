"""The windows and shapes of ONNX operators, padding written out.

auto_pad SAME_UPPER    ceil(H / stride) outputs, the odd pixel below and right
SAME_LOWER    the same, the odd pixel above and left
VALID         no padding
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.geometry import Pair, Window, output_size, same_padding

Shape = tuple[int, ...]
#: nothing but a file bounds padding
MOST_PADDING = 2**12


def window_of(
    attributes: Mapping[str, Any], kernel: Pair, shape: Shape, what: str
) -> Window:
    """Return the window of a convolution or a pool over planes: (C, H, W).

    Raises ValueError, naming the operator, for an auto_pad that ONNX does not have, and
    for windows that are not two-dimensional.
    """
    if len(shape) != 3 or len(kernel) != 2:
        raise ValueError(f"{what} reads planes, is given shape {shape}")
    stated = attributes.get("kernel_shape", kernel)
    if tuple(stated) != tuple(kernel):
        raise ValueError(f"{what}: kernel_shape {list(stated)}, weights {kernel}")
    stride, dilation = (
        tuple(int(v) for v in attributes.get(k, (1, 1)))
        for k in ("strides", "dilations")
    )
    pads = [int(v) for v in attributes.get("pads", (0, 0, 0, 0))]
    auto = attributes.get("auto_pad", "NOTSET")
    if auto not in {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"}:
        raise ValueError(f"{what}: auto_pad must be one of ONNX's four, got {auto!r}")
    if len(pads) != 4 or min(pads) < 0 or max(pads) > MOST_PADDING:
        raise ValueError(f"{what}: pads must be 4 in [0, {MOST_PADDING}], got {pads}")
    if len(stride) != 2 or len(dilation) != 2 or min(*stride, *dilation, *kernel) < 1:
        raise ValueError(
            f"{what}: kernel, strides and dilations must be pairs of at least 1, got "
            f"{kernel}, {stride}, {dilation}"
        )
    around = ((pads[0], pads[2]), (pads[1], pads[3]))
    at = Window(
        (int(kernel[0]), int(kernel[1])),
        (stride[0], stride[1]),
        around if auto == "NOTSET" else ((0, 0), (0, 0)),
        (dilation[0], dilation[1]),
    )
    if not auto.startswith("SAME"):
        return at
    rows, columns = same_padding((shape[1], shape[2]), at)
    if auto == "SAME_LOWER":
        rows, columns = rows[::-1], columns[::-1]
    return at._replace(padding=(rows, columns))


def pool_window(attributes: Mapping[str, Any], shape: Shape, what: str) -> Window:
    """Return the window of a pool; ``ceil_mode`` becomes padding below and right."""
    kernel = tuple(int(v) for v in attributes.get("kernel_shape", ()))
    at = window_of(attributes, kernel, shape, what)  # type: ignore[arg-type] # its length is checked there
    if not attributes.get("ceil_mode"):
        return at
    padding = []
    for k in (0, 1):
        before, after = at.padding[k]
        reach = at.dilation[k] * (at.kernel[k] - 1) + 1
        room = shape[k + 1] + before + after - reach
        steps = -(-room // at.stride[k])
        # a window that starts beyond the plane and its leading padding is left out
        if steps * at.stride[k] >= shape[k + 1] + before:
            steps -= 1
        padding.append((before, after + max(steps * at.stride[k] - room, 0)))
    return at._replace(padding=(padding[0], padding[1]))


def transposed_window(
    attributes: Mapping[str, Any], kernel: Pair, shape: Shape, what: str
) -> tuple[Window, Pair]:
    """Return the window of a transposed convolution, and its output_padding."""
    if "output_shape" in attributes or attributes.get("auto_pad", "NOTSET") not in {
        "NOTSET",
        "VALID",
    }:
        raise ValueError(f"{what}: pads must be written out, without output_shape")
    extra = [int(v) for v in attributes.get("output_padding", (0, 0))]
    return window_of(attributes, kernel, shape, what), (extra[0], extra[1])


def pooled_shape(shape: Shape, at: Window) -> Shape:
    """(C, H, W)  ->  (C, Ho, Wo)"""
    return (shape[0], *output_size((shape[1], shape[2]), at))


def reshape_target(
    shape: Shape, target: Array, *, allow_zero: bool, what: str
) -> Shape:
    """Return the shape that Reshape makes of (1, *shape), without the batch."""
    sizes = [int(v) for v in np.ravel(target)]
    if not allow_zero:
        whole = (1, *shape)
        sizes = [
            whole[i] if v == 0 and i < len(whole) else v for i, v in enumerate(sizes)
        ]
    total, known = int(np.prod(shape)), int(np.prod([v for v in sizes if v > 0]))
    if sizes.count(-1) == 1 and known and total % known == 0:
        sizes[sizes.index(-1)] = total // known
    if not sizes or sizes[0] != 1 or int(np.prod(sizes)) != total or min(sizes) < 1:
        raise ValueError(
            f"{what}: images must stay apart: (1, {', '.join(map(str, shape))}) cannot "
            f"become {[int(v) for v in np.ravel(target)]}"
        )
    return tuple(sizes[1:])
