"""ONNX operators on real numbers, in float64: what stays between two quantizers.

Each function takes the inputs of the operator, None where one is left out, and its
attributes under the names of ONNX. ``ELEMENTWISE`` are those whose every output is a
function of one element of each input: with one source, a table of 256 codes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from refqnn._types import Array, Float
from refqnn.geometry import Pair, Window, pad_planes, windows
from refqnn.integer.tables import ACTIVATIONS, erf
from refqnn.ops.conv import conv2d
from refqnn.ops.pool import max_pool2d


def double(v: Any) -> Float:
    """Return an array in float64."""
    return np.asarray(v, np.float64)


def clip(x: Float, low: Array | None = None, high: Array | None = None,
         *, min: float = -np.inf, max: float = np.inf) -> Float:  # noqa: A002 - names of ONNX  # fmt: skip
    """clip(x, low, high); the attributes are those of opset 6"""
    low = double(min) if low is None else double(low)
    return np.clip(x, low, double(max) if high is None else double(high))


def gelu(x: Float, *, approximate: str = "none") -> Float:
    """x Phi(x), or its approximation by tanh"""
    return ACTIVATIONS["gelu" if approximate == "none" else "gelu_tanh"](x)


def prelu(x: Float, slope: Float) -> Float:
    """x where x >= 0, slope x elsewhere"""
    return np.where(x < 0, double(slope) * x, x)


#: op -> function of real arrays, element by element
ELEMENTWISE: dict[str, Callable[..., Float]] = {
    "Relu": ACTIVATIONS["relu"],
    "Clip": clip,
    "LeakyRelu": ACTIVATIONS["leaky_relu"],
    "PRelu": prelu,
    "Sigmoid": ACTIVATIONS["sigmoid"],
    "Tanh": ACTIVATIONS["tanh"],
    "HardSigmoid": ACTIVATIONS["hard_sigmoid"],
    "HardSwish": ACTIVATIONS["hard_swish"],
    "Elu": ACTIVATIONS["elu"],
    "Gelu": gelu,
    "Erf": erf,
    "Exp": ACTIVATIONS["exponential"],
    "Softplus": ACTIVATIONS["softplus"],
    "Neg": ACTIVATIONS["negative"],
    "Abs": ACTIVATIONS["absolute"],
    "Sqrt": np.sqrt,
    "Add": lambda x, y: x + double(y),
    "Sub": lambda x, y: x - double(y),
    "Mul": lambda x, y: x * double(y),
    "Div": lambda x, y: x / double(y),
    "Pow": lambda x, y: x ** double(y),
    "Min": lambda *xs: np.minimum.reduce(xs),
    "Max": lambda *xs: np.maximum.reduce(xs),
    "Identity": double,
}


def conv(x: Float, w: Float, b: Float | None = None, *, at: Window, groups: int,
         transposed: bool = False, extra: Pair = (0, 0)) -> Float:  # fmt: skip
    """x: (N, C, H, W), w: (O, C / G, Kh, Kw)  ->  (N, O, Ho, Wo)

    ``transposed``: w is (C, O / G, Kh, Kw) and every x spreads its kernel; zeros are
    put between the pixels and the kernel is turned around.
    """
    w = double(w)
    bias = None if b is None else double(b)
    if not transposed:
        return conv2d(
            x,
            w,
            bias,
            stride=at.stride,
            padding=at.padding,
            dilation=at.dilation,
            groups=groups,
        )[0]
    c, o, kh, kw = w.shape
    turned = w.reshape(groups, c // groups, o, kh, kw).swapaxes(1, 2)[..., ::-1, ::-1]
    turned = np.ascontiguousarray(turned.reshape(groups * o, c // groups, kh, kw))
    n, _, height, width = x.shape
    (sh, sw), (dh, dw) = at.stride, at.dilation
    apart = np.zeros((n, c, (height - 1) * sh + 1, (width - 1) * sw + 1))
    apart[:, :, ::sh, ::sw] = x
    reach = dh * (kh - 1), dw * (kw - 1)
    (top, bottom), (left, right) = at.padding
    sides = [
        (reach[0] - top, reach[0] - bottom + extra[0]),
        (reach[1] - left, reach[1] - right + extra[1]),
    ]
    grown = [(max(a, 0), max(b, 0)) for a, b in sides]
    planes = np.pad(apart, ((0, 0), (0, 0), *grown))
    y = conv2d(planes, turned, bias, dilation=at.dilation, groups=groups)[0]
    cut = [(max(-a, 0), y.shape[k + 2] - max(-b, 0)) for k, (a, b) in enumerate(sides)]
    return y[:, :, cut[0][0] : cut[0][1], cut[1][0] : cut[1][1]]


def gemm(
    a: Float,
    b: Float,
    c: Float | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Float:
    """alpha a b + beta c, either factor transposed"""
    left, right = double(a), double(b)
    y = alpha * ((left.T if transA else left) @ (right.T if transB else right))
    return y if c is None else y + beta * double(c)


def softmax(x: Float, *, axis: int = -1) -> Float:
    """exp(x) / sum exp(x) along an axis"""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


def average_pool(x: Float, *, at: Window, count_include_pad: bool = False) -> Float:
    """Mean of every window: in float32 the sums of its columns, then theirs, over n.

    Means of few codes are often ties, so the order is that of onnxruntime (mlas,
    pooling.cpp).
    """
    v = windows(pad_planes(x.astype(np.float32), at), at)
    total = np.zeros(v.shape[:4], np.float32)
    for j in range(at.kernel[1]):
        column = v[..., 0, j]
        for i in range(1, at.kernel[0]):
            column = column + v[..., i, j]
        total = total + column
    inside = np.ones((1, 1, *x.shape[2:]), np.float32)
    ones = pad_planes(inside, at, float(count_include_pad))
    count = windows(ones, at).sum(axis=(-2, -1))
    return np.divide(total, count, dtype=np.float32).astype(np.float64)


def max_pool(x: Float, *, at: Window) -> Float:
    """Take the maximum of every window."""
    return max_pool2d(
        x, kernel=at.kernel, stride=at.stride, padding=at.padding, dilation=at.dilation
    )[0]


def global_average_pool(x: Float) -> Float:
    """(N, C, H, W)  ->  (N, C, 1, 1)"""
    return x.mean(axis=(2, 3), keepdims=True)


def reduce_mean(
    x: Float,
    _axes: Array | None = None,
    *,
    axes: tuple[int, ...],
    keepdims: bool = True,
) -> Float:
    """Mean over axes, which are an input since opset 18."""
    return np.asarray(x.mean(axis=axes, keepdims=keepdims))


def batch_norm(x: Float, scale: Float, b: Float, mean: Float, var: Float,
               *, epsilon: float = 1e-5) -> Float:  # fmt: skip
    """scale (x - mean) / sqrt(var + epsilon) + b, per channel"""
    axes = (-1, *(1,) * (x.ndim - 2))
    gain = double(scale) / np.sqrt(double(var) + epsilon)
    shifted = x - double(mean).reshape(axes)
    return shifted * gain.reshape(axes) + double(b).reshape(axes)


def neighbours(n: int, m: int, scale: float) -> tuple[Array, Array, Array, Array]:
    """Return the two source pixels of each of m outputs and their distances, float32.

    Output i lies at (i + 1/2) / scale - 1/2 among n pixels; two equal pixels share.
    """
    half = np.float32(0.5)
    at = (np.arange(m, dtype=np.float32) + half) / np.float32(scale) - half
    at = np.clip(at, np.float32(0), np.float32(n - 1))
    low = np.minimum(at.astype(np.int64), n - 1)
    high = np.minimum(low + 1, n - 1)
    near, far = (np.abs(at - v.astype(np.float32)) for v in (low, high))
    same = low == high
    return low, high, np.where(same, half, near), np.where(same, half, far)


def resize_linear(
    x: Float, *_constants: Array | None, size: Pair, scales: tuple[float, float]
) -> Float:
    """x: (N, C, H, W)  ->  (N, C, *size), bilinear with half-pixel centres

    Ties are frequent here, so the sums are those of onnxruntime, in float32 and in its
    order (upsample.h, UpsampleBilinear).
    """
    v = x.astype(np.float32)
    top, bottom, dy1, dy2 = neighbours(x.shape[2], size[0], scales[0])
    left, right, dx1, dx2 = neighbours(x.shape[3], size[1], scales[1])
    rows, cols = (top[:, None], bottom[:, None]), (left, right)
    corners = [v[:, :, r, c] for r in rows for c in cols]
    y: Float = dx2 * dy2[:, None] * corners[0]
    y = y + dx1 * dy2[:, None] * corners[1]
    y = y + dx2 * dy1[:, None] * corners[2]
    y = y + dx1 * dy1[:, None] * corners[3]
    return y.astype(np.float64)


def take(x: Float, *, picks: tuple[tuple[int, Array], ...]) -> Float:
    """x at the indices of each ``(axis, indices)``"""
    for axis, indices in picks:
        x = np.take(x, indices, axis)
    return x


REAL: dict[str, Callable[..., Float]] = {
    **ELEMENTWISE,
    "Conv": conv,
    "ConvTranspose": conv,
    "Gemm": gemm,
    "MatMul": lambda a, b: double(a) @ double(b),
    "Softmax": softmax,
    "AveragePool": average_pool,
    "max_pool2d": max_pool,
    "GlobalAveragePool": global_average_pool,
    "ReduceMean": reduce_mean,
    "BatchNormalization": batch_norm,
    "Resize": resize_linear,
    "Concat": lambda *xs, axis: np.concatenate(xs, axis),
    "reshape": lambda x, *, shape: x.reshape(len(x), *shape),
    "transpose": lambda x, *, axes: x.transpose(axes),
    "pad": lambda x, *, widths, value: np.pad(
        x, ((0, 0), *widths), constant_values=value
    ),
    "take": take,
}
