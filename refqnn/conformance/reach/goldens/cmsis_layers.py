"""Layers of CMSIS-NN's unit tests: fully connected, convolution, products, pooling.

Planes are NHWC, weights OHWI, of depth-wise layers (1, H, W, O). The accumulators are
exact sums, so what is judged is the requantization; 8-bit and 16-bit outputs are groups
of their own, because their kernels requantize differently (``widths``). Where the
zero-point lies outside of the fused activation, outputs at its ends say nothing and are
left out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refqnn import integer
from refqnn._types import Array, Int
from refqnn.conformance.reach.goldens.c_source import Layer, read_headers
from refqnn.conformance.reach.goldens.golden import (
    Golden,
    Unread,
    of_codes,
    requantization,
)
from refqnn.geometry import Pair


def read_layer(folder: Path) -> Golden:
    """Read one layer; raise Unread, naming the reason, for any other."""
    layer = read_headers(folder)
    _, parts, known = layer
    for array in ("output_ref", "input", "lhs_input_tensor"):
        if array in parts and parts[array].dtype.kind == "f":
            raise Unread(f"{array} is of {parts[array].dtype}: codes are judged")
    if "PAD_X_WITH_OFFSET" in known:
        raise Unread("transposed convolutions are not read")
    if "FILTER_W" in known:
        return pooling(layer)
    return requantization_of(layer)._replace(declared=widths(parts))


def widths(parts: Mapping[str, Array]) -> str:
    """Say the width of the outputs, and of 16-bit ones that of the biases.

    The kernels of 16-bit outputs shorten the multiplier where biases have 64 bits.
    """
    y, biases = (parts.get(name) for name in ("output_ref", "biases"))
    words = f"{y.dtype} outputs" if y is not None else ""
    if y is not None and y.itemsize == 2 and biases is not None and biases.size:
        words += f", {biases.dtype} biases"
    return words


def requantization_of(layer: Layer) -> Golden:
    """Return the sums of a layer, and what became of them."""
    _, parts, known = layer
    if "lhs_input_tensor" in parts:
        acc, y, out = batch_matmul(layer)
    else:
        product = product_of(layer)
        acc, y, out = accumulate(product), product.y, len(product.w)
    lift = (out, 1, 1) if "FILTER_X" in known else (out,)
    multiplier, shift = (v.reshape(lift) for v in scaling_of(layer, out))
    low, high = ends_of(known)
    z = known.get("OUTPUT_OFFSET", 0)
    if low <= z <= high:
        return requantization(acc, multiplier, shift, z, (low, high), y)
    kept = (low < y) & (y < high)
    acc, m, e = (np.broadcast_to(a, y.shape)[kept] for a in (acc, multiplier, shift))
    ends = np.iinfo(y.dtype)
    return requantization(acc, m, e, z, (ends.min, ends.max), y[kept])


class Product(NamedTuple):
    """A layer: its codes, weights and biases, how they are read, and its outputs."""

    x: Int  # (N, I) or (N, C, H, W)
    w: Int  # (O, I) or (O, C / G, Kh, Kw)
    b: Int  # (O,) int64
    zeros: tuple[int, int]  # of x and w
    #: of ``integer.conv2d``
    options: Mapping[str, Any]
    y: Int  # (N, O) or (N, O, Ho, Wo)


def accumulate(product: Product) -> Int:
    """Return the exact sums of a layer."""
    function: Any = integer.conv2d if product.x.ndim == 4 else integer.linear
    zeros = dict(zip(("x_zero_point", "w_zero_point"), product.zeros, strict=True))
    options = {**zeros, **product.options, "accumulator": "int64"}
    sums: Int = function(product.x, product.w, product.b, **options)
    return sums


def scaling_of(layer: Layer, out: int) -> tuple[Int, Int]:
    """Return multiplier and shift of every channel: (O,), (O,)"""
    _, parts, known = layer
    return (
        np.broadcast_to(
            parts.get("output_mult", known.get("OUTPUT_MULTIPLIER", 0)), out
        ),
        np.broadcast_to(parts.get("output_shift", known.get("OUTPUT_SHIFT", 0)), out),
    )


def ends_of(known: Mapping[str, int]) -> tuple[int, int]:
    """Return the ends of the fused activation."""
    prefix = "OUT_" if "OUT_ACTIVATION_MIN" in known else ""
    return known[f"{prefix}ACTIVATION_MIN"], known[f"{prefix}ACTIVATION_MAX"]


def product_of(layer: Layer) -> Product:
    """Return the products that a layer adds up."""
    _, parts, known = layer
    for array in ("input", "weights"):
        if array not in parts:
            raise Unread(f"an array *_{array} is missing: {sorted(parts)}")
    if "ACCUMULATION_DEPTH" in known:
        return fully_connected(layer)
    if "FILTER_X" not in known:
        raise Unread(f"no family judges it: constants {sorted(known)}")
    return convolution(layer)


def biases_of(parts: Mapping[str, Array], out: int) -> Int:
    """Return the biases, zeros for a layer without: (O,) int64."""
    biases = parts.get("biases", np.zeros(0))
    return (biases if biases.size else np.zeros(out)).astype(np.int64)


def weights_of(layer: Layer, count: int) -> Int:
    """Return the codes of the weights, 4-bit ones from their bytes.

    Their number does not tell: a convolution of two groups has half of them, too.
    """
    weights = layer.arrays["weights"]
    if "int4" in layer.name and weights.size == -(-count // 2):
        return integer.unpack_nibbles(weights.view(np.uint8), count=count, signed=True)
    return weights


def fully_connected(layer: Layer) -> Product:
    """Return a product of codes (N, I) and weights (O, I)."""
    _, parts, known = layer
    n, depth, out = (
        known[k] for k in ("INPUT_BATCHES", "ACCUMULATION_DEPTH", "OUT_CH")
    )
    return Product(
        parts["input"].reshape(n, depth),
        weights_of(layer, out * depth).reshape(out, depth),
        biases_of(parts, out),
        (-known.get("INPUT_OFFSET", 0), -known.get("FILTER_OFFSET", 0)),
        {},
        parts["output_ref"].reshape(n, out),
    )


def batch_matmul(layer: Layer) -> tuple[Int, Int, int]:
    """Return sums and outputs, both (B, H, M, N), and N."""
    _, parts, known = layer
    if known.get("ADJ_X") or known.get("ADJ_Y"):
        raise Unread("adjoint products: the operands are stored transposed")
    shapes = [
        tuple(known[f"{side}_{d}"] for d in ("BATCH", "HEIGHT", "ROWS", "COLS"))
        for side in ("LHS", "RHS", "OUTPUT")
    ]
    x, w, y = (
        parts[name].astype(np.int64).reshape(shape)
        for name, shape in zip(
            ("lhs_input_tensor", "rhs_input_tensor", "output_ref"), shapes, strict=True
        )
    )
    acc = (x + known["LHS_OFFSET"]) @ (w + known["RHS_OFFSET"])
    return acc, y.astype(parts["output_ref"].dtype), y.shape[-1]


def convolution(layer: Layer) -> Product:
    """Return a convolution of planes, without the pixels that no output reads."""
    _, parts, known = layer
    n, c, h, w = (known[k] for k in ("INPUT_BATCHES", "IN_CH", "INPUT_H", "INPUT_W"))
    out, kh, kw = (known[k] for k in ("OUT_CH", "FILTER_Y", "FILTER_X"))
    ho, wo = known["OUTPUT_H"], known["OUTPUT_W"]
    stride = known["STRIDE_Y"], known["STRIDE_X"]
    dilation = known.get("DILATION_Y", 1), known.get("DILATION_X", 1)
    x = parts["input"].reshape(n, h, w, c).transpose(0, 3, 1, 2)
    if "CH_MULT" in known:
        codes = weights_of(layer, kh * kw * out)
        weights, groups = codes.reshape(1, kh, kw, out).transpose(3, 0, 1, 2), c
    else:
        codes = weights_of(layer, out * kh * kw * c)
        weights = codes.reshape(out, kh, kw, -1).transpose(0, 3, 1, 2)
        groups = c // weights.shape[1]
    pads = (
        sides(known[pad], size, k, into, step, apart)
        for pad, size, k, into, step, apart in zip(
            ("PAD_Y", "PAD_X"),
            (h, w),
            (kh, kw),
            (ho, wo),
            stride,
            dilation,
            strict=True,
        )
    )
    (top, bottom), (left, right) = pads
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    options["padding"] = (top, max(bottom, 0)), (left, max(right, 0))
    return Product(
        x[:, :, : h + min(bottom, 0), : w + min(right, 0)],
        weights,
        biases_of(parts, out),
        (-known.get("INPUT_OFFSET", 0), 0),
        options,
        parts["output_ref"].reshape(n, ho, wo, out).transpose(0, 3, 1, 2),
    )


def sides(
    before: int, size: int, kernel: int, into: int, stride: int, dilation: int
) -> tuple[int, int]:
    """Return the padding in front and behind that the outputs need, or negative.

    >>> sides(1, 5, 4, 3, 2, 1), sides(0, 5, 2, 2, 2, 1)
    ((1, 2), (0, -1))
    """
    needed = (into - 1) * stride + (kernel - 1) * dilation + 1
    return before, needed - size - before


class Pool(NamedTuple):
    """A pooling layer: its codes, windows and outputs, all channels first."""

    kind: str  # max_pool2d or avg_pool2d
    x: Int
    kernel: Pair
    stride: Pair
    padding: tuple[Pair, Pair]
    y: Int
    ends: tuple[int, int]


def pool_of(layer: Layer) -> Pool:
    """Return the windows of a pooling layer, and its outputs."""
    name, parts, known = layer
    shape, into = (
        tuple(known[f"{side}_{d}"] for d in dims)
        for side, dims in (("INPUT", "NHWC"), ("OUTPUT", "HWC"))
    )
    kernel, stride = (
        (known[f"{what}_H"], known[f"{what}_W"]) for what in ("FILTER", "STRIDE")
    )
    (top, bottom), (left, right) = (
        sides(known[f"PADDING_{d}"], size, k, to, step, 1)
        for d, size, k, to, step in zip(
            "HW", shape[1:3], kernel, into[:2], stride, strict=True
        )
    )
    padding = (top, max(bottom, 0)), (left, max(right, 0))
    y = parts["output_ref"].reshape(shape[0], *into)
    x, y = (a.transpose(0, 3, 1, 2) for a in (parts["input"].reshape(shape), y))
    kind = "max_pool2d" if "max" in name else "avg_pool2d"
    return Pool(kind, x, kernel, stride, padding, y, ends_of(known))


def pooling(layer: Layer) -> Golden:
    """Return the call of a pooling layer; its family knows no fused activation."""
    kind, x, *windows, y, (low, high) = pool_of(layer)
    ends = np.iinfo(y.dtype)
    if (low > ends.min and (y == low).any()) or (high < ends.max and (y == high).any()):
        raise Unread("pooling with an activation that outputs reach: no family has it")
    zeros = () if kind == "max_pool2d" else (0,)
    made = of_codes(kind, y, x, *windows, *zeros)
    return made._replace(declared=f"{y.dtype} outputs")
