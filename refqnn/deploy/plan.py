"""Read the layers of a quantized network as the stages that integer hardware runs.

    layers of the network                              weighted   skip_source   quant
    Conv2d, [BatchNorm2d], ReLU, quantizer             the layer  ""            its own
    second half of a BasicBlock, shortcut included     the layer  the block's   its own
    GlobalAvgPool2d, quantizer                         None       ""            its own
    Linear                                             the layer  ""            None

A stage ends where codes are stored. It carries the dotted name of the layer that opens
it, and so do the step that is made of it and the codes that it stores.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from refqnn.nn import (
    BasicBlock,
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool2d,
    ImageInput,
    Linear,
    PadShortcut,
    ReLU,
    Sequential,
)


class Weighted(NamedTuple):
    """A layer with weights, and the batch norm that follows it, if one does."""

    name: str
    layer: Any  # Conv2d or Linear
    norm: BatchNorm2d | None = None


class Stage(NamedTuple):
    """codes -> sums or the mean of every plane, plus the skip, ReLU -> codes"""

    name: str
    #: the stage whose codes come in
    source: str
    #: None: the mean of every plane
    weighted: Weighted | None
    #: None: the classifier, whose sums are logits
    quant: Any
    #: the stage whose codes pass the block by; "": none is added
    skip_source: str = ""
    #: what the skip passes through; None: nothing
    skip: Weighted | PadShortcut | None = None


class Plan(NamedTuple):
    """The image and the stages in the order in which they run."""

    image_name: str
    image: ImageInput
    stages: tuple[Stage, ...]


Layers = deque[tuple[str, Any]]


def plan(network: Any) -> Plan:
    """Return the stages of a network.

    Raises ValueError, naming the layer, for layers in an order that has no stage and
    for a layer without the quantizer that deployment needs.

    >>> from refqnn.networks import resnet
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> network = resnet(8, weight_bits=4, activation_bits=4, width=0.1, rng=rng)
    >>> [stage.name for stage in plan(network).stages][:2]
    ['layers.stem', 'layers.stage1_block1.conv1']
    """
    if not isinstance(network, Sequential):
        kind = type(network).__name__
        raise ValueError(f"network must be a Sequential of named layers, got {kind}")  # noqa: TRY004 - bad values are ValueErrors in this house
    layers = dotted_layers(network)
    image_name, image = take(layers, ImageInput, after="the start")
    stages = tuple(read_stages(layers, image_name))
    if not stages or stages[-1].quant is not None:
        raise ValueError("the last layer must be a Linear classifier")
    return Plan(image_name, image, stages)


def dotted_layers(sequential: Sequential, *, prefix: str = "") -> Layers:
    """Return the layers under the names that their parameters carry."""
    return deque((f"{prefix}layers.{name}", layer) for name, layer in sequential)


def read_stages(layers: Layers, source: str) -> Iterator[Stage]:
    """Yield stage after stage, each fed by the one before."""
    while layers:
        name, layer = layers[0]
        if isinstance(layer, Conv2d):
            made: tuple[Stage, ...] = (conv_stage(layers, source),)
        elif isinstance(layer, BasicBlock):
            layers.popleft()
            made = block_stages(name, layer, source)
        elif isinstance(layer, GlobalAvgPool2d):
            layers.popleft()
            made = (Stage(name, source, None, take_quantizer(layers, after=name)),)
        elif isinstance(layer, Linear):
            made = (linear_stage(layers, source),)
        else:
            kind = type(layer).__name__
            raise ValueError(f"{name} ({kind}) after {source} cannot be deployed")  # noqa: TRY004 - bad values are ValueErrors in this house
        yield from made
        source = made[-1].name


def conv_stage(layers: Layers, source: str) -> Stage:
    """Take Conv2d, [BatchNorm2d], ReLU and the quantizer."""
    name, conv = take(layers, Conv2d, after=source)
    check_weight_quantizer(name, conv)
    norm, last = None, name
    if layers and isinstance(layers[0][1], BatchNorm2d):
        last, norm = layers.popleft()
    last, _ = take(layers, ReLU, after=last)
    quant = take_quantizer(layers, after=last)
    return Stage(name, source, Weighted(name, conv, norm), quant)


def block_stages(name: str, block: BasicBlock, source: str) -> tuple[Stage, ...]:
    """Cut a residual block where its codes are stored."""
    if block.quant0 is not None:
        raise ValueError(f"{name}.quant0 must be None: both branches read the codes")
    for slot in ("quant1", "quant2"):
        check_quantizer(f"{name}.{slot}", getattr(block, slot))
    for slot in ("conv1", "conv2"):
        check_weight_quantizer(f"{name}.{slot}", getattr(block, slot))
    first, second = f"{name}.conv1", f"{name}.conv2"
    one = Weighted(first, block.conv1, block.norm1)
    two = Weighted(second, block.conv2, block.norm2)
    skip = shortcut(f"{name}.shortcut", block.shortcut)
    return (
        Stage(first, source, one, block.quant1),
        Stage(second, first, two, block.quant2, source, skip),
    )


def shortcut(name: str, module: Any) -> Weighted | PadShortcut | None:
    """Return the skip: the identity, option A, or option B (1x1 conv, batch norm)."""
    if module is None or isinstance(module, PadShortcut):
        return module
    if not isinstance(module, Sequential):
        raise ValueError(f"{name} ({type(module).__name__}) cannot be deployed")  # noqa: TRY004 - bad values are ValueErrors in this house
    layers = dotted_layers(module, prefix=f"{name}.")
    conv_name, conv = take(layers, Conv2d, after=name)
    check_weight_quantizer(conv_name, conv)
    _, norm = take(layers, BatchNorm2d, after=conv_name)
    if layers:
        raise ValueError(f"{layers[0][0]} after the batch norm cannot be deployed")
    return Weighted(conv_name, conv, norm)


def linear_stage(layers: Layers, source: str) -> Stage:
    """Take the classifier, which must be the last layer."""
    name, linear = layers.popleft()
    check_weight_quantizer(name, linear)
    if layers:
        raise ValueError(f"{layers[0][0]} after the classifier {name} is not supported")
    return Stage(name, source, Weighted(name, linear), None)


def take(layers: Layers, kind: type, *, after: str) -> tuple[str, Any]:
    """Take the next layer, which must be of this kind."""
    if not layers:
        raise ValueError(f"a {kind.__name__} must follow {after}: no layer is left")
    name, layer = layers.popleft()
    if not isinstance(layer, kind):
        raise ValueError(  # noqa: TRY004 - bad values are ValueErrors in this house
            f"{name} must be a {kind.__name__} to follow {after}, "
            f"got {type(layer).__name__}"
        )
    return name, layer


def take_quantizer(layers: Layers, *, after: str) -> Any:
    """Take the activation quantizer that must stand next."""
    name, layer = layers.popleft() if layers else (f"the layer after {after}", None)
    check_quantizer(name, layer)
    return layer


def check_quantizer(name: str, module: Any) -> None:
    """Raise unless the module quantizes activations to an integer grid."""
    if not hasattr(module, "quantize") or not hasattr(module, "grid"):
        kind = "missing" if module is None else type(module).__name__
        why = "the network is not quantized"
        if isinstance(module, BasicBlock):
            why = "its shortcut reads floats (quantized_shortcut=False)"
        elif hasattr(module, "encode"):
            why = (
                "its levels have no scale * (code - zero_point): it has no quantize(v)"
            )
        raise ValueError(f"{name} must be an activation quantizer, is {kind}: {why}")


def check_weight_quantizer(name: str, layer: Conv2d | Linear) -> None:
    """Raise unless the weights of the layer are quantized to an integer grid."""
    if layer.weight_quant is None:
        raise ValueError(
            f"{name} has no weight quantizer: build the network with weight_bits, and "
            "with a method that gives its ends bits, such as METHODS['lsq']"
            "._replace(ends=8)"
        )
    if not hasattr(layer.weight_quant, "quantize"):
        kind = type(layer.weight_quant).__name__
        raise ValueError(
            f"{name} has weights of {kind}, which has no quantize(v) -> (codes, scale, "
            "zero_point): only uniform grids are deployed"
        )
