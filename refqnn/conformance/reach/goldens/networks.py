"""A test of CMSIS-NN or of TOSA as an integer network of one layer.

    CMSIS-NN    layers and windows, requantized as its profile says
    TOSA        RESCALE of codes of up to 16 bits: every code times 1, requantized

The files hold no scales: a step of the outputs is worth 1, and what the others are
worth follows from the multipliers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from refqnn._types import Array, Int
from refqnn.conformance.choices.families.requantize import of_15_bits
from refqnn.conformance.choices.profiles import profile_of
from refqnn.conformance.reach.goldens import cmsis_layers, tosa_descriptors
from refqnn.conformance.reach.goldens.c_source import Layer, read_headers
from refqnn.conformance.reach.goldens.golden import Unread, reason
from refqnn.deploy import IntegerNetwork
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_weights import Weights, weighted_sum
from refqnn.deploy.operations import OperationStep
from refqnn.deploy.steps import ImageStep, LayerStep, Step
from refqnn.files import Unreadable

#: how RESCALE rounds by the mode that it declares
ROUNDINGS = {"SINGLE_ROUND": "half_up", "DOUBLE_ROUND": "two_stage_half_away"}


@final
@dataclass(frozen=True, eq=False)
class RecordedLayer:
    """A network of one layer, images of it, and the codes that somebody recorded."""

    network: IntegerNetwork
    x: Int
    y: Int

    def __post_init__(self) -> None:
        made, given = self.network.steps[-1].shape, self.y.shape[1:]
        if made != given or len(self.x) != len(self.y):
            raise Unread(f"the layer computes {made}, recorded are {given}")

    def equal(self) -> int:
        """Return how many of the recorded codes the network computes."""
        return int(np.sum(self.network.forward(self.x) == self.y))


def read_network(folder: Path) -> RecordedLayer:
    """Read the layer of one folder; raise Unreadable, naming the reason, for others."""
    try:
        if (folder / "config_data.h").is_file():
            return cmsis_network(read_headers(folder))
        if (folder / "desc.json").is_file():
            return rescale_network(tosa_descriptors.read_rescale(folder))
    except Exception as error:  # foreign files may be anything
        raise Unreadable(f"{folder}: {reason(error)}") from error
    raise Unreadable(f"{folder} holds neither config_data.h nor desc.json")


def image_of(x: Array, zero_point: int) -> ImageStep:
    """Return the step of codes; raise for those of more than 16 bits."""
    if x.dtype.itemsize > 2:
        raise Unread(f"codes of {x.dtype} are no image: up to 16 bits")
    ends = np.iinfo(x.dtype)
    return ImageStep("x", x.shape[1:], Grid(1.0, zero_point, ends.min, ends.max))


def cmsis_network(layer: Layer) -> RecordedLayer:
    """Return the network of one test of CMSIS-NN."""
    _, parts, known = layer
    if "FILTER_W" in known:
        return pool_network(cmsis_layers.pool_of(layer))
    if "PAD_X_WITH_OFFSET" in known:
        raise Unread("transposed convolutions are not read")
    if "lhs_input_tensor" in parts:
        raise Unread("a product of two arrays has two inputs, a network one")
    product = cmsis_layers.product_of(layer)
    grid = Grid(1.0, known.get("OUTPUT_OFFSET", 0), *cmsis_layers.ends_of(known))
    multiplier, shift = cmsis_layers.scaling_of(layer, len(product.w))
    widths = cmsis_layers.widths(parts)
    wide = "int16 outputs" in widths and "int32" not in widths
    rounding = profile_of("cmsis-nn").semantics("requantize").requantize
    if wide:
        multiplier = of_15_bits(multiplier.astype(np.int64))
        rounding = "half_up"
    scaling = multiplier, shift, rounding
    return RecordedLayer(layer_network(product, scaling, grid), product.x, product.y)


def layer_network(
    product: cmsis_layers.Product, scaling: tuple[Int, Int, str], grid: Grid
) -> IntegerNetwork:
    """Return the network that adds up products and requantizes the sums."""
    image, ends = image_of(product.x, product.zeros[0]), np.iinfo(product.y.dtype)
    if not ends.min <= grid.zero_point <= ends.max:
        raise Unread(f"the zero-point {grid.zero_point} is no {ends.dtype}")
    multiplier, shift, rounding = scaling
    real = np.ldexp(multiplier.astype(np.float64), shift - 31)
    (top, bottom), (left, right) = product.options.get("padding", ((0, 0), (0, 0)))
    attributes = {
        "strides": product.options.get("stride", (1, 1)),
        "dilations": product.options.get("dilation", (1, 1)),
        "group": product.options.get("groups", 1),
        "pads": (top, left, bottom, right),
    }
    zero = np.array([product.zeros[1]])
    weights = Weights(product.w, real, zero, product.b, attributes)
    total, shape = weighted_sum("the layer", "y", image, weights, bits=16)
    scaled = multiplier.astype(np.int32), shift.astype(np.int32)
    if grid.q_min <= grid.zero_point <= grid.q_max:
        step = LayerStep("y", "x", shape, total, *scaled, grid, rounding)
        return IntegerNetwork((image, step))
    whole = grid._replace(q_min=ends.min, q_max=ends.max)
    # a clamp without the zero-point is a step of its own
    layer = LayerStep("sums", "x", shape, total, *scaled, whole, rounding)
    clamp = {"q_min": grid.q_min, "q_max": grid.q_max}
    made = "y", ("sums",), ("x",), shape, "clip", clamp, whole
    return IntegerNetwork((image, layer, OperationStep(*made)))


def pool_network(pool: cmsis_layers.Pool) -> RecordedLayer:
    """Return the network of one pooling layer and its fused activation."""
    image, shape = image_of(pool.x, 0), pool.y.shape[1:]
    windows: dict[str, Any] = {"kernel": pool.kernel, "stride": pool.stride}
    windows["padding"] = pool.padding
    grid = Grid(1.0, 0, *pool.ends)
    ends = {"q_min": grid.q_min, "q_max": grid.q_max}
    steps: list[Step] = [image]
    if pool.kind == "avg_pool2d":
        windows |= {"x_scale": 1.0, "x_zero_point": 0, "scale": 1.0, "zero_point": 0}
        windows |= ends | {"semantics": "tflite"}
        made = "y", ("x",), ("x",), shape, "mean_pool2d", windows, grid
        steps.append(OperationStep(*made))
    else:
        largest = "largest", ("x",), ("x",), shape, "max_pool2d", windows, image.grid
        clamped = "y", ("largest",), ("x",), shape, "clip", ends, image.grid
        steps += [OperationStep(*largest), OperationStep(*clamped)]
    return RecordedLayer(IntegerNetwork(tuple(steps)), pool.x, pool.y)


def rescale_network(rescale: tosa_descriptors.Rescale) -> RecordedLayer:
    """Return the network of one RESCALE: its last axis are channels."""
    channels = rescale.multiplier.size
    x, y = (
        np.moveaxis(v.reshape(1, -1, 1, channels), 3, 1) for v in (rescale.x, rescale.y)
    )
    ends = np.iinfo(y.dtype)
    one = np.ones((channels, 1, 1, 1), np.int8)
    zeros = rescale.zeros[0], 0
    biases = np.zeros(channels, np.int64)
    product = cmsis_layers.Product(x, one, biases, zeros, {"groups": channels}, y)
    rounding = ROUNDINGS.get(rescale.mode, "half_up")
    scaling = rescale.multiplier.reshape(-1), rescale.shift.reshape(-1), rounding
    grid = Grid(1.0, rescale.zeros[1], ends.min, ends.max)
    return RecordedLayer(layer_network(product, scaling, grid), x, y)
