"""What a network costs: size, multiply-adds, memory, accumulators, layer by layer.

Chin, Chuang, Chandra, Marculescu. One Weight Bitwidth to Rule Them All. ECCV Workshops
2020, arXiv:2008.09916 ("Pareto").

    paper                    code                              where
    C_size, eq. (6)          weights * weight_bits             LayerCost.c_size_bits
    footprint, appendix F    largest maps + all weights        Cost.footprint_bits_...

C_size counts the weights of convolutions and linear layers, in bits; not biases, not
batch norms, not the scales of the quantizers. What is not quantized has 32 bits. What
turns codes into weights is counted beside it, as float32 numbers:

    quantizer                                   scale_bits          codebook_bits
    a grid: has quantize(v)                     a scale a group     0
    learned parameters (TTQ, SYQ, k-means)      every parameter     0
    a basis (LQ)                                0                   every number of it
    levels from the weights (ABC, WEQ, own)     0                   every level

A code has the bits of its quantizer; of one that counts ``bases`` (ABC) a bit for each
basis, of one that counts ``levels`` ceil(log2(levels)).

``cost`` runs one image through the network, ``count`` only the shape of one: the
largest networks in milliseconds, and those whose weights were never drawn.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Array
from refqnn.core import Run, named_modules, named_params
from refqnn.nn import Conv2d, ImageInput, Linear, MaxPool2d, PadShortcut
from refqnn.prompt import html_table, text_table
from refqnn.shapes import blank, shapes_of

FLOAT_BITS = 32
IMAGE_BITS = 8
#: layers whose output has the codes of their input
KEEP_CODES = (MaxPool2d, PadShortcut)
#: what a quantizer says of its codes
COUNTED = ("bits", "bases", "levels")


class LayerCost(NamedTuple):
    """One convolution or linear layer, for one image; shapes without the batch."""

    name: str
    kind: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    weights: int
    weight_bits: int
    input_bits: int
    macs: int
    #: None where a factor is not quantized, and where only shapes were counted
    accumulator_bits: int | None
    #: of the scales or the codebook of the weights; None where only shapes were counted
    scale_bits: int | None = None
    codebook_bits: int | None = None

    @property
    def c_size_bits(self) -> int:
        """Equation (6) for one layer: weights * weight_bits, in bits."""
        return self.weights * self.weight_bits

    @property
    def bit_operations(self) -> int:
        """Return macs * weight_bits * input_bits."""
        return self.macs * self.weight_bits * self.input_bits


@final
@dataclass(frozen=True)
class Cost:
    """The layers of a network in the order in which they run."""

    layers: tuple[LayerCost, ...]

    def __repr__(self) -> str:
        return f"{self.title()}\n{text_table(self.rows())}"

    def _repr_html_(self) -> str:
        return html_table(self.title(), self.rows())

    def title(self) -> str:
        """Write C_size, multiply-adds and bit operations in a line."""
        size = f"C_size {self.c_size_bits:,} bits, {self.macs:,} multiply-adds"
        return f"Cost: {size}, {self.bit_operations:,} bit operations"

    def rows(self) -> list[dict[str, Any]]:
        """List a row for each layer: shapes, weights, bits, multiply-adds."""
        return [
            {
                "layer": x.name.removeprefix("layers."),
                "input": str(x.input_shape),
                "output": str(x.output_shape),
                "weights": x.weights,
                "weight bits": x.weight_bits,
                "input bits": x.input_bits,
                "macs": x.macs,
                "c_size bits": x.c_size_bits,
            }
            for x in self.layers
        ]

    @property
    def c_size_bits(self) -> int:
        """Equation (6): the sum over all layers, in bits."""
        return sum(layer.c_size_bits for layer in self.layers)

    @property
    def storage_bits(self) -> int:
        """C_size, scales and codebooks; ValueError where only shapes were counted."""
        tables = [bits for x in self.layers for bits in (x.scale_bits, x.codebook_bits)]
        if None in tables:
            raise ValueError("count knows no scales: cost(network, input_shape) does")
        return self.c_size_bits + sum(bits for bits in tables if bits is not None)

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def bit_operations(self) -> int:
        """Multiply-adds, each times the bits of both factors."""
        return sum(layer.bit_operations for layer in self.layers)

    def footprint_bits_separate_maxima(self, *, map_bits: int = 8) -> int:
        """The largest input + the largest output, of any two layers, + all weights."""
        largest_in = max(math.prod(layer.input_shape) for layer in self.layers)
        largest_out = max(math.prod(layer.output_shape) for layer in self.layers)
        return (largest_in + largest_out) * map_bits + self.c_size_bits

    def footprint_bits_joint_maximum(self, *, map_bits: int = 8) -> int:
        """The largest input + output of one layer, + all weights."""
        largest = max(
            math.prod(layer.input_shape) + math.prod(layer.output_shape)
            for layer in self.layers
        )
        return largest * map_bits + self.c_size_bits

    def as_dict(self, *, map_bits: int = 8) -> dict[str, Any]:
        """Return everything as plain numbers, for JSON; footprints of these maps."""
        rows = [
            layer._asdict()
            | {"c_size_bits": layer.c_size_bits, "bit_operations": layer.bit_operations}
            for layer in self.layers
        ]
        separate = self.footprint_bits_separate_maxima(map_bits=map_bits)
        joint = self.footprint_bits_joint_maximum(map_bits=map_bits)
        return {
            "c_size_bits": self.c_size_bits,
            "macs": self.macs,
            "bit_operations": self.bit_operations,
            "footprint_bits_separate_maxima": separate,
            "footprint_bits_joint_maximum": joint,
            "layers": rows,
        }


class Watcher:
    """Follows one forward pass: which layer ran, on a map of how many bits.

    Maps are recognized by identity, and kept so that no identity is used twice.
    """

    def __init__(self, network: Any, *, accumulators: bool = True) -> None:
        """Note the dotted name of every module."""
        self.accumulators = accumulators
        self.names = {id(module): name for name, module in named_modules(network)}
        self.bits: dict[int, int] = {}
        self.kept: list[Array] = []
        self.layers: list[LayerCost] = []

    def observe(self, module: Any, x: Array, y: Array) -> None:
        """Note the bits of ``y``; what a layer costs, if it has weights."""
        input_bits = self.bits.get(id(x), FLOAT_BITS)
        self.kept += [x, y]
        if isinstance(module, Conv2d | Linear):
            name = self.names[id(module)]
            layer = layer_cost(name, module, x, y, input_bits)
            if self.accumulators:
                sums = accumulator_bits(module, input_bits)
                scales, codebook = table_bits(module)
                layer = layer._replace(
                    accumulator_bits=sums, scale_bits=scales, codebook_bits=codebook
                )
            self.layers.append(layer)
        elif isinstance(module, ImageInput):
            self.bits[id(y)] = IMAGE_BITS
        elif isinstance(module, KEEP_CODES):
            self.bits[id(y)] = input_bits
        elif any(hasattr(module, name) for name in COUNTED):
            self.bits[id(y)] = code_bits(module)


def cost(network: Any, input_shape: tuple[int, int, int]) -> Cost:
    """Measure the cost of a network for one image of shape (C, H, W).

    One image of zeros passes through a copy of the network, so that shapes are those
    that really occur; in training mode, which needs no calibrated ranges.

    >>> from refqnn.networks import resnet
    >>> network = resnet(8, width=0.25, weight_bits=4, rng=np.random.default_rng(0))
    >>> cost(network, (1, 8, 8)).layers[0].c_size_bits  # 4 filters of 3x3 at 8 bits
    288
    """
    copied = copy.deepcopy(network)
    watcher = Watcher(copied)
    run = Run(training=True, rng=np.random.default_rng(0), observe=watcher.observe)
    copied.forward(np.zeros((1, *input_shape), np.uint8), run)
    return Cost(tuple(watcher.layers))


def layer_cost(
    name: str, layer: Conv2d | Linear, x: Array, y: Array, input_bits: int
) -> LayerCost:
    """Count the cost of a layer that turned ``x`` into ``y``, accumulators left out.

    Every weight is used once for each output pixel of its channel.
    """
    w = layer.w.value
    return LayerCost(
        name=name,
        kind=type(layer).__name__,
        input_shape=x.shape[1:],
        output_shape=y.shape[1:],
        weights=w.size,
        weight_bits=weight_bits(layer),
        input_bits=input_bits,
        macs=w.size * math.prod(y.shape[2:]),
        accumulator_bits=None,
    )


def weight_bits(layer: Conv2d | Linear) -> int:
    """Return the bits of one weight: those of its quantizer, or 32."""
    quant = layer.weight_quant
    return FLOAT_BITS if quant is None else code_bits(quant)


def code_bits(quant: Any) -> int:
    """Return the bits of one code; raise for a quantizer without bits, bases or levels.

    >>> from refqnn.quantizers import ABCWeight, FixedPoint, WEQWeight
    >>> [code_bits(q) for q in (FixedPoint(bits=3), ABCWeight(bases=2))]
    [3, 2]
    >>> code_bits(WEQWeight(levels=5))
    3
    """
    for name in ("bits", "bases"):
        if isinstance(number := getattr(quant, name, None), int | np.integer):
            return int(number)
    if isinstance(levels := getattr(quant, "levels", None), int | np.integer):
        return math.ceil(math.log2(levels))
    kind = type(quant).__name__
    raise ValueError(f"{kind} must have an int as bits, bases or levels to be counted")


def table_bits(layer: Conv2d | Linear) -> tuple[int, int]:
    """Return the bits of the float32 scales and of the float32 codebook of weights."""
    quant = layer.weight_quant
    if quant is None:
        return 0, 0
    if hasattr(quant, "quantize"):
        return FLOAT_BITS * int(np.size(quant.quantize(layer.w.value)[1])), 0
    learned = sum(param.value.size for param in named_params(quant).values())
    if learned:
        return FLOAT_BITS * learned, 0
    basis = getattr(quant, "basis", None)  # K numbers, whose sums are 2^K levels
    levels = quant.encode(layer.w.value)[1] if basis is None else basis.value
    return 0, FLOAT_BITS * int(np.size(levels))


def c_size_bits(network: Any) -> int:
    """C_size = sum over layers of weights * weight_bits, in bits.

    Equation (6) from the network alone: no image is needed.

    >>> from refqnn.networks import named
    >>> c_size_bits(named("resnet50", weight_bits=8, rng=None))
    204176128
    """
    layers = {
        id(module): module
        for _, module in named_modules(network)
        if isinstance(module, Conv2d | Linear)
    }
    return sum(
        layer.w.value.size * weight_bits(layer) for layer in layers.values()
    )  # (6)


def count(network: Any, input_shape: tuple[int, int, int]) -> Cost:
    """Count the cost of a network for one image of shape (C, H, W), from shapes alone.

    Nothing is computed, so accumulators, which depend on the weights, are None; all
    else is as in ``cost``.

    >>> from refqnn.networks import named
    >>> count(named("resnet50", rng=None), (3, 224, 224)).macs  # 4.33 G: a deep stem
    4328824832
    """
    watcher = Watcher(network, accumulators=False)
    run = Run(training=True, observe=watcher.observe)
    shapes_of(network).forward(blank((1, *input_shape)), run)
    return Cost(tuple(watcher.layers))


def accumulator_bits(layer: Conv2d | Linear, input_bits: int) -> int | None:
    """Return the bits of a signed integer that holds every sum of w_code * x_code.

    |sum| <= max over filters of sum|w_code - zero_point| times (2^input_bits - 1), with
    the weights as they are and any zero-point of the input. Biases are not in it. None
    where weights or inputs are not integers.
    """
    quant = layer.weight_quant
    if input_bits == FLOAT_BITS or not hasattr(quant, "quantize"):
        return None
    q, _, zero_point = quant.quantize(layer.w.value)
    codes = np.abs(q.astype(np.int64) - zero_point)
    largest = int(codes.reshape(len(codes), -1).sum(axis=1).max())
    return signed_bits(largest * (2**input_bits - 1))


def signed_bits(magnitude: int) -> int:
    """Return the smallest b with magnitude <= 2^(b - 1) - 1.

    >>> signed_bits(127), signed_bits(128)
    (8, 9)
    """
    return magnitude.bit_length() + 1
