"""Operators of LiteRT as functions of arrays, by the kernels that one wheel holds.

One model rounds in up to four ways there: with the reference kernels, with the
optimized ones, with those of XNNPACK, and by the length of what a vector holds.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.conformance.carry.runtimes_onnx import as_int32, pair, whole_type
from refqnn.conformance.choices.families.means import is_whole_plane
from refqnn.conformance.choices.kinds import Inputs
from refqnn.deploy.formats.tflite_run import MICRO, RESOLVERS, runner_of
from refqnn.deploy.formats.tflite_schema import Model, Operator, Tensor
from refqnn.deploy.formats.tflite_write import write_model
from refqnn.geometry import pad_widths, same_padding, window

Function = Callable[..., Any]
KERNELS = (*RESOLVERS, MICRO)


def litert_model(
    operator: str,
    tensors: list[Tensor],
    *,
    version: int = 2,
    options: Mapping[str, float] | None = None,
) -> bytes:
    """Write a model of one operator: all tensors but the last are its inputs.

    ``options`` are fields of the operator's table of options, numbers all.
    """
    last = len(tensors) - 1
    named = tuple(t._replace(name=f"t{i}") for i, t in enumerate(tensors))
    made = Operator(operator, tuple(range(last)), (last,), options or {}, version)
    given = tuple(i for i in range(last) if tensors[i].data is None)
    return write_model(Model(named, (made,), given, (last,)))


def run_litert(model: bytes, inputs: list[Array], kernels: str) -> Array:
    """Run a model with one output, one thread."""
    return runner_of(model, 1, kernels)(inputs)[0]


def litert_sum(operator: str, kernels: str, x: Int, y: Int, *grids: Any) -> Array:
    """ADD, SUB or MUL of two int8 tensors."""
    sx, zx, sy, zy, s, z, q_min, q_max = grids
    whole_type(x, q_min, q_max)
    if x.dtype != np.int8:
        raise ValueError(f"the kernels judged here take int8, got {x.dtype}")
    shape = x.shape or (1,)
    given = [np.broadcast_to(v, x.shape).reshape(shape) for v in (x, y)]
    tensors = [
        Tensor(shape, "int8", float(scale), int(zero))
        for scale, zero in ((sx, zx), (sy, zy), (s, z))
    ]
    model = litert_model(operator, tensors, options={"fused_activation_function": 0})
    return run_litert(model, given, kernels).reshape(x.shape)


def litert_table(operator: str, kernels: str, x: Int, *given: Any) -> Array:
    """LOGISTIC, TANH, HARD_SWISH or LEAKY_RELU of an int8 tensor."""
    *alpha, sx, zx, s, z, q_min, q_max = given
    int8_only(x, q_min, q_max)
    shape = x.shape or (1,)
    if alpha and kernels == "xnnpack" and alpha[0] * sx / s < 2**-8:
        raise ValueError(f"slope {alpha[0]} is left to the optimized kernels")
    grids = (float(sx), int(zx)), (float(s), int(z))
    tensors = [Tensor(shape, "int8", *grid) for grid in grids]
    options = {"alpha": float(alpha[0])} if alpha else None
    version = 1 if operator == "HARD_SWISH" else 2
    model = litert_model(operator, tensors, version=version, options=options)
    return run_litert(model, [x.reshape(shape)], kernels).reshape(x.shape)


def two_scales(multiplier: Any, shift: Any) -> tuple[Float, Float]:
    """Give float32 scales of inputs and weights whose product is the real multiplier.

    multiplier: 31 bits, shift  ->  x_scale: (), w_scale: as multiplier

    Exactly, since some kernels multiply by the product without rounding it to 31 bits:
    x_scale holds a divisor of the multiplier. Raises ValueError where none leaves both
    24 bits or less.
    """
    m, e = np.broadcast_arrays(np.asarray(multiplier, np.int64), shift)
    divisors = np.arange(2**7, 2**16)
    divides = np.all(m.reshape(-1, 1) % divisors == 0, axis=0)
    if not divides.any():
        raise ValueError(f"no float32 scales have the product {multiplier}")
    d = int(divisors[np.argmax(divides)])
    w_scale = np.ldexp(m // d, e - 31 + 15).astype(np.float32)
    return np.asarray(np.ldexp(d, -15), np.float32), w_scale


def litert_requantize(
    operator: str,
    kernels: str,
    acc: Int,
    multiplier: Any,
    shift: Any,
    zero_point: Any,
    q_min: int,
    q_max: int,
) -> Array:
    """An operator of sums with weights of 0: the biases are the accumulators."""
    if (q_min, q_max) != (-128, 127) or np.size(zero_point) > 1:
        raise ValueError("the kernels judged here give int8 with one zero-point")
    x_scale, w_scale = two_scales(multiplier, shift)
    n, whole = acc.size, operator == "FULLY_CONNECTED"
    scales = np.broadcast_to(w_scale, acc.shape).ravel()
    if whole and np.ptp(scales) > 0:
        raise ValueError("one scale for all weights")
    scales = scales[:1] if whole else scales
    weights = np.zeros((n, 1) if whole else (n, 1, 1, 1), np.int8)
    bias = np.ascontiguousarray(as_int32(acc)).ravel()
    flat = (1, 1) if whole else (1, 1, 1, 1)
    tensors = [
        Tensor(flat, "int8", x_scale),
        Tensor(weights.shape, "int8", scales, 0, weights),
        Tensor((n,), "int32", scales * x_scale, 0, bias),
        Tensor((*flat[:-1], n), "int8", 1.0, int(np.ravel(zero_point)[0])),
    ]
    strides = {} if whole else {"stride_w": 1, "stride_h": 1}
    if operator == "TRANSPOSE_CONV":
        shape = np.array(tensors[-1].shape, np.int32)
        given = [tensors[1], tensors[0], *tensors[2:]]
        tensors = [Tensor(shape.shape, "int32", data=shape), *given]
    model = litert_model(operator, tensors, options=strides)
    x = np.zeros(flat, np.int8)
    return run_litert(model, [x], kernels).reshape(acc.shape)


def litert_quantize(
    kernels: str, x: Float, scale: Any, zero_point: Any, q_min: int, q_max: int
) -> Array:
    """QUANTIZE to int8 or uint8."""
    dtype = {(-128, 127): "int8", (0, 255): "uint8"}.get((q_min, q_max))
    if dtype is None or np.size(scale) > 1 or np.size(zero_point) > 1:
        raise ValueError("the kernels judged here give int8 or uint8, on one grid")
    shape = x.shape or (1,)
    grid = float(np.ravel(scale)[0]), int(np.ravel(zero_point)[0])
    tensors = [Tensor(shape, "float32"), Tensor(shape, dtype, *grid)]
    model = litert_model("QUANTIZE", tensors)
    return run_litert(model, [x.reshape(shape)], kernels).reshape(x.shape)


def litert_dequantize(kernels: str, q: Int, scale: Any, zero_point: Any) -> Array:
    """DEQUANTIZE from int8, uint8 or int16."""
    if np.size(scale) > 1 or np.size(zero_point) > 1:
        raise ValueError("the kernels judged here take one grid")
    shape = q.shape or (1,)
    grid = float(np.ravel(scale)[0]), int(np.ravel(zero_point)[0])
    tensors = [Tensor(shape, q.dtype.name, *grid), Tensor(shape, "float32")]
    model = litert_model("DEQUANTIZE", tensors)
    return run_litert(model, [q.reshape(shape)], kernels).reshape(q.shape)


def litert_softmax(kernels: str, x: Int, *grids: Any) -> Array:
    """SOFTMAX of an int8 tensor along its last axis."""
    sx, s, z, q_min, q_max = grids
    int8_only(x, q_min, q_max)
    scales = (float(sx), 0), (float(s), int(z))
    tensors = [Tensor(x.shape, "int8", *grid) for grid in scales]
    model = litert_model("SOFTMAX", tensors, options={"beta": 1.0})
    return run_litert(model, [x], kernels)


def litert_mean(channels: int, kernels: str, x: Int, *given: Any) -> Array:
    """MEAN of int8 planes over their height and width, so many at once as channels."""
    kernel, _, padding, sx, zx, s, z, q_min, q_max = given
    int8_only(x, q_min, q_max)
    if tuple(pair(kernel)) != x.shape[2:] or np.any(padding):
        raise ValueError(f"windows {kernel} must be planes {x.shape[2:]}")
    planes = x.reshape(-1, *x.shape[2:])
    n = -(-len(planes) // channels)
    planes = np.resize(planes, (n, channels, *x.shape[2:]))
    tensors = [
        Tensor((n, *x.shape[2:], channels), "int8", float(sx), int(zx)),
        Tensor((2,), "int32", data=np.array([1, 2], np.int32)),
        Tensor((n, 1, 1, channels), "int8", float(s), int(z)),
    ]
    model = litert_model("MEAN", tensors, options={"keep_dims": 1})
    y = run_litert(model, [planes.transpose(0, 2, 3, 1)], kernels)
    return y.ravel()[: x.shape[0] * x.shape[1]].reshape(*x.shape[:2], 1, 1)


def litert_concat(kernels: str, x: Int, y: Int, *grids: Any) -> Array:
    """CONCATENATION of two uint8 tensors along the last axis."""
    sx, zx, sy, zy, s, z, q_min, q_max = grids
    whole_type(x, q_min, q_max)
    if x.dtype != np.uint8:
        raise ValueError(f"codes of other grids are rescaled as uint8, got {x.dtype}")
    shape = (*x.shape[:-1], x.shape[-1] + y.shape[-1])
    tensors = [
        Tensor(of, "uint8", float(scale), int(zero))
        for of, scale, zero in ((x.shape, sx, zx), (y.shape, sy, zy), (shape, s, z))
    ]
    model = litert_model("CONCATENATION", tensors, options={"axis": x.ndim - 1})
    return run_litert(model, [x, y], kernels)


def litert_resize(operator: str, kernels: str, x: Int, size: Any) -> Array:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR with half-pixel centres."""
    n, c, h, w = x.shape
    grid = 1.0, 0
    tensors = [
        Tensor((n, h, w, c), x.dtype.name, *grid),
        Tensor((2,), "int32", data=np.array(size, np.int32)),
        Tensor((n, *map(int, size), c), x.dtype.name, *grid),
    ]
    options = {"half_pixel_centers": 1}
    model = litert_model(operator, tensors, version=3, options=options)
    y = run_litert(model, [np.ascontiguousarray(x.transpose(0, 2, 3, 1))], kernels)
    return y.transpose(0, 3, 1, 2)


def is_uint8(call: Inputs) -> bool:
    """Say whether the codes are all of uint8."""
    return call["x"].dtype == np.uint8 and (call["q_min"], call["q_max"]) == (0, 255)


def litert_avg_pool2d(
    kernels: str, x: Int, kernel: Any, stride: Any, padding: Any, zero_point: int
) -> Array:
    """AVERAGE_POOL_2D of int8 planes, with padding VALID or SAME."""
    int8_only(x, -128, 127)
    call = {"x": x, "kernel": kernel, "stride": stride, "padding": padding}
    if not is_same_or_valid(call):
        raise ValueError(f"padding {padding} is neither none nor SAME")
    n, c, *size = x.shape
    (kh, kw), (sh, sw) = pair(kernel), pair(stride)
    valid = not np.any(padding)
    out = [
        (length - k) // step + 1 if valid else -(-length // step)
        for length, k, step in zip(size, (kh, kw), (sh, sw), strict=True)
    ]
    grid = 1.0, int(zero_point)
    tensors = [
        Tensor((n, *size, c), "int8", *grid),
        Tensor((n, *out, c), "int8", *grid),
    ]
    options = {"filter_height": kh, "filter_width": kw, "stride_h": sh, "stride_w": sw}
    options["padding"] = int(valid)
    model = litert_model("AVERAGE_POOL_2D", tensors, options=options)
    y = run_litert(model, [x.transpose(0, 2, 3, 1)], kernels)
    return y.transpose(0, 3, 1, 2)


def int8_only(x: Int, q_min: int, q_max: int) -> None:
    """Refuse codes that are not those of int8."""
    whole_type(x, q_min, q_max)
    if x.dtype != np.int8:
        raise ValueError(f"the kernels judged here take int8, got {x.dtype}")


def is_same_or_valid(call: Inputs) -> bool:
    """Say whether the padding of a pool is none or that which TFLite calls SAME."""
    size, kernel, stride = call["x"].shape[2:], call["kernel"], call["stride"]
    pads = pad_widths(call["padding"])
    return not np.any(pads) or pads == same_padding(size, window(kernel, stride=stride))


#: which calls an operator takes, where these are few
FEW: dict[str, Callable[[Inputs], bool]] = {
    "CONCATENATION": is_uint8,
    "AVERAGE_POOL_2D": is_same_or_valid,
    "MEAN": is_whole_plane,
    "MEAN of 16 channels": is_whole_plane,
    "RESIZE_BILINEAR": lambda call: bool(call["x"].dtype == np.int8),
    "SOFTMAX": lambda call: (call["scale"], call["zero_point"]) == (2.0**-8, -128),
    "LOGISTIC": lambda call: bool(np.all(call["scale"] == 2.0**-8)),
}


def supports_of(operator: str, kernels: str) -> Callable[[Inputs], bool] | None:
    """Return which calls an operator takes, where these are few; None for most."""
    if kernels == MICRO and operator in FIXED:
        return lambda call: (call["scale"], call["zero_point"]) == FIXED[operator]
    every = (operator, kernels) == ("LOGISTIC", "xnnpack")
    return None if every else FEW.get(operator)


#: operator -> its family and the function of it that takes the kernels first
OPERATORS: dict[str, tuple[str, Function]] = {
    **{o: (o.lower(), partial(litert_sum, o)) for o in ("ADD", "SUB", "MUL")},
    **{
        operator: (family, partial(litert_table, operator))
        for operator, family in {
            "LOGISTIC": "sigmoid",
            "TANH": "tanh",
            "HARD_SWISH": "hard_swish",
            "LEAKY_RELU": "leaky_relu",
        }.items()
    },
    "CONCATENATION": ("concat", litert_concat),
    "SOFTMAX": ("softmax", litert_softmax),
    "RESIZE_BILINEAR": (
        "resize_bilinear",
        partial(litert_resize, "RESIZE_BILINEAR"),
    ),
    "RESIZE_NEAREST_NEIGHBOR": (
        "resize_nearest",
        partial(litert_resize, "RESIZE_NEAREST_NEIGHBOR"),
    ),
    "MEAN": ("mean_pool2d", partial(litert_mean, 1)),
    "MEAN of 16 channels": ("mean_pool2d", partial(litert_mean, 16)),
    "AVERAGE_POOL_2D": ("avg_pool2d", litert_avg_pool2d),
    "CONV_2D": ("requantize", partial(litert_requantize, "CONV_2D")),
    "TRANSPOSE_CONV": ("requantize", partial(litert_requantize, "TRANSPOSE_CONV")),
    "FULLY_CONNECTED": ("requantize", partial(litert_requantize, "FULLY_CONNECTED")),
    "QUANTIZE": ("quantize", litert_quantize),
    "DEQUANTIZE": ("dequantize", litert_dequantize),
}
#: the grids on which the kernels of tflite-micro give codes, whatever a file states
FIXED = {"LOGISTIC": (2.0**-8, -128), "TANH": (2.0**-7, 0)}
#: what no kernel of a set does with the codes that are asked about
ABSENT = ((MICRO, "CONCATENATION"),)
