"""Quantize a trained float network without training: ranges from a few images.

Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko. CVPR 2018, arXiv:1712.05877,
section 3, calls it post-training quantization. Weights are rounded as their quantizers
do; what is chosen here is the range of every activation:

    min_max      from the smallest to the largest value
    percentile   what lies between the (100 - p)-th and the p-th percentile
    mse          the part of the min_max range with the least mean squared error
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

import refqnn
from refqnn._types import Array, Float
from refqnn.core import Run, named_buffers, named_modules, named_params
from refqnn.networks import build
from refqnn.nn import BasicBlock, Sequential
from refqnn.quantizers import Affine, affine

#: the parts of the range that "mse" tries, and the number of values it looks at
PARTS = np.arange(1, 41) / 40
MOST_VALUES = 2**17


def calibrate(
    network: Sequential,
    images: Array,
    *,
    weight_bits: int,
    activation_bits: int,
    method: str = "min_max",
    percentile: float = 99.9,
    backend: Any = refqnn,
) -> Sequential:
    """Return a quantized network with the parameters of a trained float ``network``.

    images: (N, C, H, W) uint8, N >= 1; all of them pass in one batch

    The ranges are set in the order in which layers run, each one with every layer
    before it quantized. The network given is left as it is. Raises ValueError for a
    network without configuration, no images, an unknown method or percentile.

    >>> rng = np.random.default_rng(0)
    >>> trained = build({"network": "resnet", "depth": 8, "width": 0.1}, rng=rng)
    >>> images = rng.integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
    >>> quantized = calibrate(trained, images, weight_bits=4, activation_bits=4)
    >>> quantized.config["weight_bits"], quantized.layers["stem_quant"].bits
    (4, 4)
    """
    check_calibration(network, images, method, percentile)
    bits = {"weight_bits": weight_bits, "activation_bits": activation_bits}
    quantized = build(network.config | bits)
    copy_values(network, quantized)
    before = feeding(quantized)

    def set_range(module: Any, _x: Array, y: Array) -> None:
        if id(module) in before:
            quant = before[id(module)]
            quant.set_range(*activation_range(y, quant, method, percentile))

    quantized.forward(images, Run(backend=backend, observe=set_range))
    return quantized


def check_calibration(
    network: Any, images: Array, method: str, percentile: float
) -> None:
    """Raise a ValueError for what ``calibrate`` cannot work with."""
    if not isinstance(network, Sequential) or not network.config:
        raise ValueError("network must be one that refqnn.networks.build can build")
    if method not in RANGES:
        raise ValueError(f"method must be one of {list(RANGES)}, got {method!r}")
    if not 50 < percentile <= 100:
        raise ValueError(f"percentile must lie in (50, 100], got {percentile}")
    if images.ndim != 4 or not images.size:
        raise ValueError(f"images must be (N, C, H, W), N >= 1: images{images.shape}")


def copy_values(source: Sequential, target: Sequential) -> None:
    """Copy every parameter, and the running statistics of the batch norms."""
    params = named_params(source)
    for name, param in named_params(target).items():
        param.value = params[name].value.copy()
    buffers = named_buffers(source)
    for name, buffer in named_buffers(target).items():
        if name.rpartition(".")[2] in {"mean", "var"}:
            buffer.value = buffers[name].value.copy()


def feeding(network: Sequential) -> Mapping[int, Affine]:
    """Return the activation quantizers, under the ids of the layers that feed them."""
    layers = [layer for _, layer in network]
    pairs = list(pairwise(layers))
    for _, module in named_modules(network):
        if isinstance(module, BasicBlock):
            pairs += [(module.relu1, module.quant1), (module.relu2, module.quant2)]
    return {id(feeder): quant for feeder, quant in pairs if isinstance(quant, Affine)}


def activation_range(
    y: Float, quant: Affine, method: str, percentile: float
) -> tuple[float, float]:
    """Return the range of ``y: (...)`` that a method chooses for a quantizer."""
    values = y.ravel().astype(np.float64)
    return RANGES[method](values, quant.bits, percentile)


def min_max_range(y: Float, _bits: int, _percentile: float) -> tuple[float, float]:
    """Return the smallest and the largest value, 0 included.

    >>> min_max_range(np.array([0.5, 2.0]), 4, 99.9)
    (0.0, 2.0)
    """
    return float(y.min(initial=0)), float(y.max(initial=0))


def percentile_range(y: Float, _bits: int, percentile: float) -> tuple[float, float]:
    """Return the (100 - p)-th and the p-th percentile, widened to hold 0.

    >>> percentile_range(np.arange(101.0), 4, 90)
    (0.0, 90.0)
    """
    lo, hi = np.percentile(y, [100 - percentile, percentile])
    return min(float(lo), 0.0), max(float(hi), 0.0)


def mse_range(y: Float, bits: int, _percentile: float) -> tuple[float, float]:
    """Return the part k / 40 of the range whose quantization error is the smallest.

    Of more than 2^17 values, evenly spaced ones are looked at.

    >>> y = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0])
    >>> mse_range(y, 1, 99.9)  # levels 0 and c; c = 10 / 9 is best, 45 / 40 nearest
    (0.0, 1.1)
    """
    lo, hi = min_max_range(y, bits, 100)
    some = y[:: -(-y.size // MOST_VALUES)]
    errors = [
        np.mean((affine(some, part * lo, part * hi, bits=bits)[0] - some) ** 2)
        for part in PARTS
    ]
    part = float(PARTS[int(np.argmin(errors))])
    return part * lo, part * hi


RANGES: dict[str, Callable[[Float, int, float], tuple[float, float]]] = {
    "min_max": min_max_range,
    "percentile": percentile_range,
    "mse": mse_range,
}
