"""Families: the operations that can be judged, each a piece of data.

affine.py        quantize
dequantize.py    dequantize
fake_quantize.py fake_quantize with its gradients
requantize.py    requantize
sums.py          add, sub, mul
concat.py        concat
tables.py        sigmoid, tanh, hard_swish, leaky_relu
lookup.py        lookup
softmax.py       softmax of codes
convolution.py   conv2d, linear
transposed.py    conv_transpose2d
matmul.py        matmul
pooling.py       avg_pool2d, max_pool2d
means.py         mean_pool2d
resize.py        resize_nearest, resize_bilinear
float_layers.py  lstm_cell, batch_norm, softmax_cross_entropy
folding.py       folded_conv2d
optimiser.py     sgd, adam
gating.py        gate
training_step.py whole steps of a quantized layer or convolution, and of layers of
                 binary and of ternary weights
learned_offset.py  a learned step and a learned offset (LSQ+)
gradients.py     dorefa_gradient, min_max_gradient
published.py     every quantizer of refqnn.quantizers, forward and backward
                 (published_rows.py the table, _answers.py the answers)
../family.py     what a family is
"""

from refqnn.conformance.choices.families import (
    affine,
    concat,
    convolution,
    dequantize,
    fake_quantize,
    float_layers,
    folding,
    gating,
    gradients,
    learned_offset,
    lookup,
    matmul,
    means,
    optimiser,
    pooling,
    published,
    requantize,
    resize,
    softmax,
    sums,
    tables,
    training_step,
    transposed,
)
from refqnn.conformance.choices.family import REFUSED as REFUSED
from refqnn.conformance.choices.family import Choices as Choices
from refqnn.conformance.choices.family import Family as Family
from refqnn.conformance.choices.family import Inputs as Inputs
from refqnn.conformance.choices.family import Outputs as Outputs
from refqnn.conformance.choices.family import equal as equal
from refqnn.conformance.choices.family import stack as stack

ROOMS = (
    affine,
    dequantize,
    fake_quantize,
    requantize,
    sums,
    concat,
    tables,
    lookup,
    softmax,
    convolution,
    transposed,
    matmul,
    pooling,
    means,
    resize,
    float_layers,
    folding,
    optimiser,
    gating,
    training_step,
    gradients,
    learned_offset,
    published,
)
FAMILIES: dict[str, Family] = {
    family.name: family for room in ROOMS for family in room.FAMILIES
}


def family_of(name: str) -> Family:
    """Return a family by its name; raise ValueError that lists the names.

    Options of a published quantizer can follow its name.

    >>> family_of("requantize").outputs, family_of("lsq:q_n=8,q_p=7").outputs
    (('y',), ('y', 'dx', 'ds'))
    """
    if name in FAMILIES:
        return FAMILIES[name]
    quantizer, _, options = name.partition(":")
    if quantizer in FAMILIES and options:
        return published.with_options(quantizer, options)
    raise ValueError(f"family must be one of {list(FAMILIES)}, got {name!r}")
