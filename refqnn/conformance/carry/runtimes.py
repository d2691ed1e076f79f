"""Installed runtimes as black boxes: one function an operator, to identify and verify.

Everything here is optional and imported when called. ``BOXES`` is the table from which
``profiles.py`` was filled, and that tests walk again where a runtime is installed.
"""

from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Float
from refqnn.conformance.carry import (
    runtimes_litert,
    runtimes_onnx,
    runtimes_others,
    runtimes_torch,
)
from refqnn.conformance.choices.families.means import is_whole_plane
from refqnn.conformance.choices.kinds import Inputs
from refqnn.deploy.formats.tflite_run import MICRO

Function = Callable[..., Any]


class Box(NamedTuple):
    """An operator of a runtime, and the family it belongs to."""

    #: the profile it belongs to
    runtime: str
    operator: str
    family: str
    make: Callable[[], Function]
    #: which calls it takes; None for all that it does not refuse
    supports: Callable[[Inputs], bool] | None = None


def distribution(runtime: str) -> str:
    """Name the distribution that holds a runtime, or a set of kernels of one."""
    if runtime.startswith("litert"):
        return "ai-edge-litert"
    return {"tvm": "apache-tvm"}.get(runtime, runtime)


def version(runtime: str) -> str | None:
    """Return the installed version of a runtime, None if it is not installed."""
    try:
        return metadata.version(distribution(runtime))
    except metadata.PackageNotFoundError:
        return None


def numpy_quantize(
    x: Float, scale: Any, zero_point: int, q_min: int, q_max: int
) -> Array:
    """clip(rint(x / scale) + zero_point), as programs in NumPy usually write it"""
    return np.clip(np.rint(x / np.asarray(scale)) + zero_point, q_min, q_max)


def itself(fn: Function) -> Function:
    """Return ``fn`` itself, as a maker of functions that take no preparation."""
    return fn


ONNX: dict[str, tuple[str, Function]] = {
    "QuantizeLinear": ("quantize", runtimes_onnx.onnx_quantize),
    "DequantizeLinear": ("dequantize", runtimes_onnx.onnx_dequantize),
    "QLinearConv": ("requantize", runtimes_onnx.onnx_requantize),
    "ConvInteger": ("conv2d", runtimes_onnx.onnx_conv2d),
    "MatMulInteger": ("linear", runtimes_onnx.onnx_linear),
    "MatMulInteger of two arrays": (
        "matmul",
        partial(partial, runtimes_onnx.onnx_matmul),
    ),
    "Resize, nearest": (
        "resize_nearest",
        partial(runtimes_onnx.onnx_resize, "nearest"),
    ),
    "LSTM": ("lstm_cell", runtimes_onnx.onnx_lstm),
    "BatchNormalization": ("batch_norm", runtimes_onnx.onnx_batch_norm),
}
#: operators of onnxruntime alone
ONNXRUNTIME: dict[str, tuple[str, Function]] = {
    **{
        kind: (family, partial(fn, kind))
        for kind, family, fn in (
            ("QLinearAdd", "add", runtimes_onnx.onnx_sum),
            ("QLinearMul", "mul", runtimes_onnx.onnx_sum),
            ("QLinearSigmoid", "sigmoid", runtimes_onnx.onnx_table),
            ("QLinearLeakyRelu", "leaky_relu", runtimes_onnx.onnx_table),
            ("QLinearAveragePool", "mean_pool2d", runtimes_onnx.onnx_mean),
            ("QLinearGlobalAveragePool", "mean_pool2d", runtimes_onnx.onnx_mean),
        )
    },
    "QLinearConcat": ("concat", runtimes_onnx.onnx_concat),
    "QLinearSoftmax": ("softmax", runtimes_onnx.onnx_softmax),
    "Resize, linear": (
        "resize_bilinear",
        runtimes_onnx.onnx_resize("linear", runtimes_onnx.onnxruntime),
    ),
}
#: which calls they take, where these are few
SUPPORTS: dict[str, Callable[[Inputs], bool]] = {
    "QLinearAveragePool": lambda call: not is_whole_plane(call),
    "QLinearGlobalAveragePool": is_whole_plane,
}
TORCH: dict[str, tuple[str, Function]] = {
    "quantize_per_tensor": ("quantize", runtimes_torch.torch_quantize),
    "fake_quantize_per_tensor_affine": (
        "fake_quantize",
        runtimes_torch.torch_fake_quantize,
    ),
    "_fake_quantize_learnable_per_tensor_affine": (
        "fake_quantize",
        runtimes_torch.torch_learnable,
    ),
    "max_pool2d": ("max_pool2d", runtimes_torch.torch_max_pool2d),
    "quantized avg_pool2d": ("avg_pool2d", runtimes_torch.torch_avg_pool2d),
    "quantized.add": ("add", partial(runtimes_torch.torch_sum, "add")),
    "quantized.cat": ("concat", runtimes_torch.torch_concat),
    "quantized.mul": ("mul", partial(runtimes_torch.torch_sum, "mul")),
    "interpolate, nearest": (
        "resize_nearest",
        partial(runtimes_torch.torch_resize, "nearest"),
    ),
    "interpolate, nearest-exact": (
        "resize_nearest",
        partial(runtimes_torch.torch_resize, "nearest-exact"),
    ),
    "lstm_cell": ("lstm_cell", runtimes_torch.torch_lstm_cell),
    "batch_norm": ("batch_norm", runtimes_torch.torch_batch_norm),
    "cross_entropy": ("softmax_cross_entropy", runtimes_torch.torch_loss),
    "optim.SGD": ("sgd", runtimes_torch.torch_sgd),
}
#: operators whose sums OpenVINO adds up in float32
FLOAT32_SUMS = ("ConvInteger", "MatMulInteger", "MatMulInteger of two arrays")
OPENVINO = (
    *("QuantizeLinear", "DequantizeLinear", "QLinearConv", "LSTM"),
    *FLOAT32_SUMS,
)
#: operators of runtimes that are asked about few
OTHERS: dict[tuple[str, str], tuple[str, Function]] = {
    ("brevitas", "IntQuant.to_int"): ("quantize", runtimes_others.brevitas_quantize),
    ("brevitas", "IntQuant"): ("fake_quantize", runtimes_others.brevitas_fake_quantize),
    ("jax", "jit of round and clip"): ("quantize", runtimes_others.jax_quantize),
    ("executorch", "quantize_per_tensor"): (
        "quantize",
        runtimes_others.executorch_quantize,
    ),
    ("executorch", "dequantize_per_tensor"): (
        "dequantize",
        runtimes_others.executorch_dequantize,
    ),
    ("tvm", "relax.quantize"): ("quantize", runtimes_others.tvm_quantize),
    ("tvm", "relax.dequantize"): ("dequantize", runtimes_others.tvm_dequantize),
}
BOXES = (
    *(
        Box(
            "openvino",
            operator,
            ONNX[operator][0],
            partial(ONNX[operator][1], runtimes_others.openvino),
            runtimes_others.fits_float32 if operator in FLOAT32_SUMS else None,
        )
        for operator in OPENVINO
    ),
    *(
        Box(runtime, operator, family, partial(itself, fn))
        for (runtime, operator), (family, fn) in OTHERS.items()
    ),
    *(
        Box(runtime, operator, family, partial(make, run))
        for runtime, run in (
            ("onnxruntime", runtimes_onnx.onnxruntime),
            ("onnx", runtimes_onnx.reference),
        )
        for operator, (family, make) in ONNX.items()
    ),
    *(
        Box(
            "onnxruntime", operator, family, partial(itself, fn), SUPPORTS.get(operator)
        )
        for operator, (family, fn) in ONNXRUNTIME.items()
    ),
    *(
        Box("torch", operator, family, partial(itself, fn))
        for operator, (family, fn) in TORCH.items()
    ),
    *(
        Box(
            kernels if kernels == MICRO else f"litert-{kernels}",
            operator,
            family,
            partial(itself, partial(fn, kernels)),
            runtimes_litert.supports_of(operator, kernels),
        )
        for kernels in runtimes_litert.KERNELS
        for operator, (family, fn) in runtimes_litert.OPERATORS.items()
        if (kernels, operator) not in runtimes_litert.ABSENT
    ),
    Box("qonnx", "Quant", "quantize", partial(itself, runtimes_onnx.qonnx_quant)),
    Box("numpy", "rint and clip", "quantize", lambda: numpy_quantize),
)
