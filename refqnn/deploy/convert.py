"""From a trained network to integers: plan its stages, fold each once, build its step.

plan      network -> stages                            refqnn.deploy.plan
fold      stage -> weight codes, step, offset          refqnn.deploy.fold
build     folded values -> one step of integers        refqnn.deploy.build
"""

import math
from typing import Any, NamedTuple

import numpy as np

from refqnn.cost import signed_bits
from refqnn.deploy.build import (
    check_ratios,
    layer_step,
    output_shape,
    pool_step,
    sum_ratio,
)
from refqnn.deploy.fold import (
    Folded,
    Grid,
    activation_codes,
    fold,
    place_bias,
)
from refqnn.deploy.network import IntegerNetwork
from refqnn.deploy.plan import Plan, Stage, Weighted, plan
from refqnn.deploy.steps import ImageStep, ResidualStep, Shape, Shortcut, Step, Sum
from refqnn.geometry import Pair, pair
from refqnn.integer import quantize_multipliers
from refqnn.integer.rescale import FLOATING
from refqnn.integer.rounding import ROUNDINGS

#: the largest possible logit of a network is this code: logits fit int16
LOGIT_MAX = 2**15 - 1


class Options(NamedTuple):
    """How the stages of one network become steps."""

    dtype: Any  # that the network computes in
    finer: bool  # finer_bias
    rounding: str


class Branch(NamedTuple):
    """Accumulators of one branch of a stage, their shape, and the grid they read."""

    sum: Any  # Sum or Shortcut
    shape: Shape
    grid: Grid  # of the codes that it reads


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

    A network with gates states its own steps, ``integer_steps``: those of DFS compute
    as it does, and neither option applies.

    Raises ValueError for an unknown rounding and, naming layer and channel, for a layer
    without a quantizer, an order of layers that has no integer form, weights that are
    no int8 codes, folded scales that are not finite or out of the reach of a shift, and
    biases or accumulators that do not fit int32.

    >>> from refqnn.networks import resnet
    >>> rng = np.random.default_rng(0)
    >>> network = resnet(8, weight_bits=4, activation_bits=4, width=0.1, rng=rng)
    >>> from refqnn.core import Run
    >>> images = rng.integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)
    >>> _ = network.forward(images, Run(training=True))  # ranges of the activations
    >>> deploy(network, image_size=(8, 8)).forward(images).shape
    (4, 10)
    """
    if requantize not in (*ROUNDINGS, *FLOATING):
        names = [*ROUNDINGS, *FLOATING]
        raise ValueError(f"requantize must be one of {names}, got {requantize!r}")
    if hasattr(network, "integer_steps"):  # a network with gates, such as DFS's
        return IntegerNetwork(network.integer_steps(image_size))
    planned = plan(network)
    image, dtype = image_step(planned, image_size)
    known: dict[str, Step] = {image.name: image}
    options = Options(dtype, finer_bias, requantize)
    for stage in planned.stages:
        known[stage.name] = step_of(stage, known, options)
    return IntegerNetwork(tuple(known.values()))


def image_step(planned: Plan, image_size: Pair) -> tuple[ImageStep, Any]:
    """Return the step of the 8-bit pixels, and the dtype of the first weights."""
    name, image, first = planned.image_name, planned.image, planned.stages[0]
    if first.weighted is None or first.quant is None:
        raise ValueError(f"{first.name} cannot follow the image {name}")
    z = image.zero_point
    if not isinstance(z, int) or not 0 <= z <= 255 or not 0 < image.scale < math.inf:
        raise ValueError(
            f"{name} needs a positive scale and a zero-point in [0, 255], "
            f"got {image.scale} and {z}"
        )
    conv = first.weighted.layer
    w = conv.w.value
    grid = Grid(float(w.dtype.type(image.scale)), z, 0, 255)
    size = pair(image_size, name="image_size", least=1)
    return ImageStep(name, (w.shape[1] * conv.groups, *size), grid), w.dtype


def step_of(stage: Stage, known: dict[str, Step], options: Options) -> Step:
    """Fold a stage once and build its step; ``known`` are the steps before it."""
    name, source, rounding = stage.name, known[stage.source], options.rounding
    if stage.weighted is None:
        grid = activation_grid(name, stage.quant, options.dtype)
        return pool_step(name, name, source, grid, rounding)
    folded = fold(stage.weighted, source.grid)
    if stage.quant is None:
        grid = Grid(logit_scale(folded), 0, -LOGIT_MAX - 1, LOGIT_MAX)
    else:
        grid = activation_grid(name, stage.quant, options.dtype, relu=True)
    finer = options.finer
    main = branch(stage.weighted.name, folded, source, grid.scale, finer=finer)
    if not stage.skip_source:
        return layer_step(name, source, main.sum, main.shape, grid, rounding)
    skip_source = known[stage.skip_source]
    if isinstance(stage.skip, Weighted):
        folded = fold(stage.skip, skip_source.grid)
        skip = branch(stage.skip.name, folded, skip_source, grid.scale, finer=finer)
    else:
        skip = shortcut_of(stage, skip_source)
    return residual_step(stage, main, skip, grid, rounding)


def residual_step(
    stage: Stage, main: Branch, skip: Branch, y: Grid, rounding: str
) -> ResidualStep:
    """Bring both branches of a block to one shift, that of the larger multiplier."""
    name = stage.name
    if skip.shape != main.shape:
        raise ValueError(f"{name} and its skip disagree: {main.shape}, {skip.shape}")
    ratio, skip_ratio = (sum_ratio(b.sum, b.grid, y, rounding) for b in (main, skip))
    check_ratios(name, np.maximum(ratio, skip_ratio))
    multiplier, skip_multiplier, shift = quantize_multipliers(ratio, skip_ratio)
    return ResidualStep(
        name,
        stage.source,
        stage.skip_source,
        main.shape,
        main.sum,
        skip.sum,
        multiplier.astype(np.int32),
        skip_multiplier.astype(np.int32),
        shift.astype(np.int32),
        y,
        rounding,
    )


def branch(
    name: str, folded: Folded, source: Step, y_scale: float, *, finer: bool = True
) -> Branch:
    """Return the integer accumulators of a folded layer, and their shape."""
    placed, at = place_bias(name, folded, y_scale, finer=finer), folded.at
    total = Sum(
        name,
        folded.w,
        placed.bias,
        placed.fraction_bits,
        source.grid.zero_point,
        at.stride,
        at.padding,
        at.dilation,
        folded.groups,
        folded.bits,
        signed_bits(int(np.abs([placed.low, placed.high]).max())),
        placed.step,
    )
    shape = output_shape(name, folded.w, at, folded.groups, source.shape)
    return Branch(total, shape, source.grid)


def shortcut_of(stage: Stage, source: Step) -> Branch:
    """Return a skip without weights: the codes themselves, or option A: (O, Ho, Wo)."""
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
    return Branch(skip, (channels, -(-h // stride), -(-w // stride)), source.grid)


def logit_scale(folded: Folded) -> float:
    """Return the largest possible ``|A a + h|`` of all classes, divided by 32 767.

    1 where every logit is 0.
    """
    ends = [folded.step * a + folded.offset for a in (folded.low, folded.high)]
    return float(np.abs(ends).max()) / LOGIT_MAX or 1.0


def activation_grid(name: str, quant: Any, dtype: Any, *, relu: bool = False) -> Grid:
    """Return the grid of an activation quantizer, from its zero-point on after a ReLU.

    Raises ValueError, naming the layer that it follows, where the range is unknown or
    the codes do not fit uint8.
    """
    codes, scale, z = activation_codes(name, quant, dtype)
    low, high = int(codes[0]), int(codes[-1])
    if low < 0 or high > 255:
        raise ValueError(
            f"the quantizer after {name} has codes {low} .. {high}, outside uint8"
        )
    return Grid(float(scale), z, max(low, z) if relu else low, high)
