"""From the stages of a trained network to the steps of an integer network."""

import math
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Float, Int
from refqnn.core import Run
from refqnn.cost import signed_bits
from refqnn.deploy.fold import (
    INT32_MAX,
    Folded,
    Grid,
    check_ratios,
    fold,
    place_bias,
)
from refqnn.deploy.network import IntegerNetwork
from refqnn.deploy.plan import (
    ConvStage,
    LinearStage,
    Plan,
    PoolStage,
    ResidualStage,
    Stage,
    Weighted,
    plan,
)
from refqnn.deploy.steps import (
    ImageStep,
    LayerStep,
    PoolStep,
    ResidualStep,
    Shape,
    Shortcut,
    Step,
    Sum,
    read_only,
)
from refqnn.geometry import Pair, output_size, pair, window
from refqnn.integer import quantize_multiplier, quantize_multipliers
from refqnn.integer.rescale import FLOATING
from refqnn.integer.rounding import ROUNDINGS

#: the largest possible logit of a network is this code: logits fit int16
LOGIT_MAX = 2**15 - 1


class Context(NamedTuple):
    """What the conversion of a stage needs to know."""

    known: dict[str, Step]  # the steps before it
    dtype: Any  # that the network computes in
    finer: bool  # finer_bias
    requantize: str


def deploy(
    network: Any,
    *,
    image_size: Pair = (28, 28),
    finer_bias: bool = True,
    requantize: str = "half_up",
) -> IntegerNetwork:
    """Return the integer-only network that a trained, quantized network amounts to.

    ``image_size`` is the (H, W) of the images it will run on: the multiplier of the
    pooling layer divides by the pixels that are left. With ``finer_bias=False`` biases
    are whole steps of the accumulator, the form that most runtimes read.

    ``requantize`` is a rounding of ``refqnn.integer.requantize_add``. With
    "float32_half_even" the multipliers are the float32 numbers that onnxruntime makes
    of float32 scales, x_scale * w_scale / y_scale in this order: with whole biases in
    addition, QLinearConv of onnxruntime computes what the layers do.

    Raises ValueError for an unknown rounding and, naming layer and channel, for a layer
    without a quantizer, an order of layers that has no integer form, weights that are
    no int8 codes, folded scales that are not finite or out of the reach of a shift, and
    biases or accumulators that do not fit int32.

    >>> from refqnn.networks import resnet
    >>> rng = np.random.default_rng(0)
    >>> network = resnet(8, weight_bits=4, activation_bits=4, width=0.1, rng=rng)
    >>> images = rng.integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)
    >>> _ = network.forward(images, Run(training=True))  # ranges of the activations
    >>> deploy(network, image_size=(8, 8)).forward(images).shape
    (4, 10)
    """
    if requantize not in (*ROUNDINGS, *FLOATING):
        names = [*ROUNDINGS, *FLOATING]
        raise ValueError(f"requantize must be one of {names}, got {requantize!r}")
    planned = plan(network)
    image = image_step(planned, image_size)
    known: dict[str, Step] = {image.name: image}
    dtype = planned.stages[0].weighted.layer.w.value.dtype  # type: ignore[union-attr] # image_step has checked that it is a convolution
    for stage in planned.stages:
        known[stage.name] = step_of(
            stage, Context(known, dtype, finer_bias, requantize)
        )
    return IntegerNetwork(tuple(known.values()))


def image_step(planned: Plan, image_size: Pair) -> ImageStep:
    """Return the step of the 8-bit pixels."""
    name, image, first = planned.image_name, planned.image, planned.stages[0]
    if not isinstance(first, ConvStage):
        raise ValueError(f"{first.name} cannot follow the image {name}")  # noqa: TRY004 - bad values are ValueErrors in this house
    z = image.zero_point
    if not isinstance(z, int) or not 0 <= z <= 255 or not 0 < image.scale < math.inf:
        raise ValueError(
            f"{name} needs a positive scale and a zero-point in [0, 255], "
            f"got {image.scale} and {z}"
        )
    conv = first.weighted.layer
    grid = Grid(float(conv.w.value.dtype.type(image.scale)), z, 0, 255)
    channels = conv.w.value.shape[1] * conv.groups
    h, w = pair(image_size, name="image_size", least=1)
    return ImageStep(name, (channels, h, w), grid)


def step_of(stage: Stage, context: Context) -> Step:
    """Return the step of one stage."""
    if isinstance(stage, ConvStage):
        return conv_step(stage, context)
    if isinstance(stage, ResidualStage):
        return residual_step(stage, context)
    if isinstance(stage, PoolStage):
        return pool_step(stage, context)
    return linear_step(stage, context)


def conv_step(stage: ConvStage, context: Context) -> LayerStep:
    """Fold a convolution into what the quantizer after its ReLU reads."""
    source = context.known[stage.source]
    grid = unsigned_grid(stage.name, stage.quant, context.dtype, relu=True)
    total = sum_of(stage.weighted, source.grid, grid.scale, finer=context.finer)
    ratio = sum_ratio(total, source.grid, grid, context.requantize)
    multiplier, shift = multipliers(stage.name, ratio)
    shape = conv_shape(stage.weighted, source.shape)
    return LayerStep(
        stage.name,
        stage.source,
        shape,
        total,
        multiplier,
        shift,
        grid,
        context.requantize,
    )


def residual_step(stage: ResidualStage, context: Context) -> ResidualStep:
    """Fold both branches of a block into what the quantizer after the sum reads."""
    source, skip_source = (context.known[n] for n in (stage.source, stage.skip_source))
    grid = unsigned_grid(stage.name, stage.quant, context.dtype, relu=True)
    total = sum_of(stage.weighted, source.grid, grid.scale, finer=context.finer)
    shape = conv_shape(stage.weighted, source.shape)
    if isinstance(stage.skip, Weighted):
        skip: Sum | Shortcut = sum_of(
            stage.skip, skip_source.grid, grid.scale, finer=context.finer
        )
        skip_shape = conv_shape(stage.skip, skip_source.shape)
    else:
        skip, skip_shape = shortcut_of(stage, skip_source)
    if skip_shape != shape:
        raise ValueError(f"{stage.name} and its skip disagree: {shape}, {skip_shape}")
    ratio = sum_ratio(total, source.grid, grid, context.requantize)
    skip_ratio = sum_ratio(skip, skip_source.grid, grid, context.requantize)
    check_ratios(stage.name, np.maximum(ratio, skip_ratio))
    multiplier, skip_multiplier, shift = quantize_multipliers(ratio, skip_ratio)
    return ResidualStep(
        stage.name,
        stage.source,
        stage.skip_source,
        shape,
        total,
        skip,
        read_only(multiplier, np.int32),
        read_only(skip_multiplier, np.int32),
        read_only(shift, np.int32),
        grid,
        context.requantize,
    )


def pool_step(stage: PoolStage, context: Context) -> PoolStep:
    """Fold 1 / (H W) into the multiplier of the pooled features."""
    source = context.known[stage.source]
    channels, *plane = source.shape
    pixels = math.prod(plane)
    z, peak = source.grid.zero_point, pixels * source.grid.magnitude()
    if pixels * max(255 - z, z) > INT32_MAX:
        raise ValueError(f"{stage.name}: sums of {pixels} pixels do not fit int32")
    grid = unsigned_grid(stage.name, stage.quant, context.dtype)
    scale = source.grid.scale / pixels
    ratio = np.array([scale / grid.scale])
    if context.requantize == "float32_half_even":
        x, y = np.float32(source.grid.scale), np.float32(grid.scale)
        ratio = np.array([x / (y * np.float32(pixels))], np.float64)
    multiplier, shift = multipliers(stage.name, ratio)
    return PoolStep(
        stage.name,
        stage.source,
        (channels,),
        z,
        signed_bits(peak),
        scale,
        multiplier,
        shift,
        grid,
        context.requantize,
    )


def linear_step(stage: LinearStage, context: Context) -> LayerStep:
    """Bring the accumulators of all classes to one scale of 16-bit codes."""
    source = context.known[stage.source]
    folded = fold(stage.weighted, source.grid)
    shape = (len(folded.w),)
    if (folded.w.shape[1],) != source.shape:
        raise ValueError(
            f"{stage.name} reads (I,) = ({folded.w.shape[1]},), "
            f"{stage.source} gives {source.shape}"
        )
    scale = logit_scale(folded)
    grid = Grid(scale, 0, -LOGIT_MAX - 1, LOGIT_MAX)
    total = sum_of(stage.weighted, source.grid, scale, finer=context.finer)
    ratio = sum_ratio(total, source.grid, grid, context.requantize)
    multiplier, shift = multipliers(stage.name, ratio)
    return LayerStep(
        stage.name,
        stage.source,
        shape,
        total,
        multiplier,
        shift,
        grid,
        context.requantize,
    )


def logit_scale(folded: Folded) -> float:
    """Return the largest possible ``|A a + h|`` of all classes, divided by 32 767.

    1 where every logit is 0.
    """
    ends = [folded.step * a + folded.offset for a in (folded.low, folded.high)]
    return float(np.abs(ends).max()) / LOGIT_MAX or 1.0


def sum_of(weighted: Weighted, x: Grid, output_scale: float, *, finer: bool) -> Sum:
    """Return the integer accumulators of a layer that reads codes on the grid ``x``."""
    name, layer, _ = weighted
    folded = fold(weighted, x)
    placed = place_bias(name, folded, output_scale, finer=finer)
    peak = int(np.abs([placed.low, placed.high]).max())
    at = window(
        folded.w.shape[2:] or 1,
        stride=getattr(layer, "stride", 1),
        padding=getattr(layer, "padding", 0),
        dilation=getattr(layer, "dilation", 1),
    )
    return Sum(
        name,
        read_only(folded.w, np.int8),
        read_only(placed.bias, np.int32),
        read_only(placed.fraction_bits, np.int32),
        x.zero_point,
        at.stride,
        at.padding,
        at.dilation,
        getattr(layer, "groups", 1),
        int(layer.weight_quant.bits),
        signed_bits(peak),
        read_only(placed.step, np.float64),
    )


def shortcut_of(stage: ResidualStage, source: Step) -> tuple[Shortcut, Shape]:
    """Return the identity, or option A, and the shape it gives."""
    channels, h, w = source.shape
    stride = 1
    if stage.skip is not None:
        channels, stride = stage.skip.channels, stage.skip.stride  # type: ignore[union-attr] # the caller has dealt with convolutions
    if channels < source.shape[0]:
        raise ValueError(
            f"{stage.name}: a shortcut cannot narrow {source.shape[0]} channels "
            f"to {channels}"
        )
    name = stage.name.rpartition(".")[0] + ".shortcut"
    skip = Shortcut(name, source.grid.zero_point, channels, stride, source.grid.scale)
    return skip, (channels, -(-h // stride), -(-w // stride))


def conv_shape(weighted: Weighted, x: Shape) -> Shape:
    """x: (C, H, W)  ->  (O, Ho, Wo)"""
    name, conv, _ = weighted
    o, c, *kernel = conv.w.value.shape
    if len(x) != 3 or x[0] != c * conv.groups:
        raise ValueError(f"{name} reads {c * conv.groups} planes, is given shape {x}")
    at = window(
        tuple(kernel), stride=conv.stride, padding=conv.padding, dilation=conv.dilation
    )
    return (o, *output_size(x[1:], at))


def unsigned_grid(name: str, quant: Any, dtype: Any, *, relu: bool = False) -> Grid:
    """Return the grid of an activation quantizer, from its zero-point on after a ReLU.

    Raises ValueError, naming the layer that it follows, where the range is unknown or
    the codes do not fit uint8.
    """
    try:
        quant.forward(np.zeros(1, dtype), Run())
        _, scale, zero_point = quant.quantize(np.zeros(1, dtype))
    except ValueError as error:
        raise ValueError(f"the quantizer after {name}: {error}") from error
    codes, z = quant.grid(), int(zero_point)
    low, high = int(codes[0]), int(codes[-1])
    if low < 0 or high > 255:
        raise ValueError(
            f"the quantizer after {name} has codes {low} .. {high}, outside uint8"
        )
    return Grid(float(scale), z, max(low, z) if relu else low, high)


def sum_ratio(total: Sum | Shortcut, x: Grid, y: Grid, requantize: str) -> Float:
    """Return how many codes of ``y`` one step of the accumulators is worth: (O,)

    In the order and the precision of onnxruntime where the rounding is float32's.
    """
    if requantize != "float32_half_even":
        return np.asarray(total.scale / y.scale)
    if isinstance(total, Shortcut):
        return np.asarray(np.float32(x.scale) / np.float32(y.scale), np.float64)
    w_scale = float32_weight_scale(total, x)
    ratio = np.float32(x.scale) * w_scale / np.float32(y.scale)
    return np.ldexp(ratio.astype(np.float64), -total.fraction_bits)


def float32_weight_scale(total: Sum, x: Grid) -> Float:
    """Return what one step of a weight is worth, in float32: A / s_x, (O,)"""
    step = np.ldexp(total.scale, total.fraction_bits)
    return (step / np.float64(np.float32(x.scale))).astype(np.float32)


def multipliers(name: str, ratio: Float) -> tuple[Int, Int]:
    """Return multiplier and shift of every ratio: (O,) -> (O,) int32, (O,) int32."""
    check_ratios(name, ratio)
    multiplier, shift = quantize_multiplier(ratio)
    return read_only(multiplier, np.int32), read_only(shift, np.int32)
