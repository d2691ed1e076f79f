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
from refqnn.conformance.carry import runtimes_litert as litert
from refqnn.conformance.carry import runtimes_onnx as in_onnx
from refqnn.conformance.carry import runtimes_others as others
from refqnn.conformance.carry import runtimes_torch as in_torch
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
    call: Function
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


#: operators of ONNX, whose functions take what runs a node first
ONNX: dict[str, tuple[str, Function]] = {
    "QuantizeLinear": ("quantize", partial(in_onnx.onnx_affine, "QuantizeLinear")),
    "DequantizeLinear": (
        "dequantize",
        partial(in_onnx.onnx_affine, "DequantizeLinear"),
    ),
    "QLinearConv": ("requantize", in_onnx.onnx_requantize),
    "ConvInteger": ("conv2d", in_onnx.onnx_conv2d),
    "MatMulInteger": ("linear", in_onnx.onnx_linear),
    "MatMulInteger of two arrays": ("matmul", in_onnx.onnx_matmul),
    "Resize, nearest": ("resize_nearest", partial(in_onnx.onnx_resize, "nearest")),
    "LSTM": ("lstm_cell", in_onnx.onnx_lstm),
    "BatchNormalization": ("batch_norm", in_onnx.onnx_batch_norm),
}
#: operators of onnxruntime alone
ONNXRUNTIME: dict[str, tuple[str, Function]] = {
    **{
        kind: (family, partial(fn, kind))
        for kind, family, fn in (
            ("QLinearAdd", "add", in_onnx.onnx_sum),
            ("QLinearMul", "mul", in_onnx.onnx_sum),
            ("QLinearSigmoid", "sigmoid", in_onnx.onnx_table),
            ("QLinearLeakyRelu", "leaky_relu", in_onnx.onnx_table),
            ("QLinearAveragePool", "mean_pool2d", in_onnx.onnx_mean),
            ("QLinearGlobalAveragePool", "mean_pool2d", in_onnx.onnx_mean),
        )
    },
    "QLinearConcat": ("concat", in_onnx.onnx_concat),
    "QLinearSoftmax": ("softmax", in_onnx.onnx_softmax),
    "Resize, linear": (
        "resize_bilinear",
        partial(in_onnx.onnx_resize, "linear", in_onnx.onnxruntime),
    ),
}
#: which calls they take, where these are few
SUPPORTS: dict[str, Callable[[Inputs], bool]] = {
    "QLinearAveragePool": lambda call: not is_whole_plane(call),
    "QLinearGlobalAveragePool": is_whole_plane,
}
TORCH: dict[str, tuple[str, Function]] = {
    "quantize_per_tensor": ("quantize", in_torch.torch_quantize),
    "fake_quantize_per_tensor_affine": ("fake_quantize", in_torch.torch_fake_quantize),
    "_fake_quantize_learnable_per_tensor_affine": (
        "fake_quantize",
        in_torch.torch_learnable,
    ),
    "max_pool2d": ("max_pool2d", in_torch.torch_max_pool2d),
    "quantized avg_pool2d": ("avg_pool2d", in_torch.torch_avg_pool2d),
    "quantized.add": ("add", partial(in_torch.torch_sum, "add")),
    "quantized.cat": ("concat", in_torch.torch_concat),
    "quantized.mul": ("mul", partial(in_torch.torch_sum, "mul")),
    **{
        f"interpolate, {mode}": ("resize_nearest", partial(in_torch.torch_resize, mode))
        for mode in ("nearest", "nearest-exact")
    },
    "lstm_cell": ("lstm_cell", in_torch.torch_lstm_cell),
    "batch_norm": ("batch_norm", in_torch.torch_batch_norm),
    "cross_entropy": ("softmax_cross_entropy", in_torch.torch_loss),
    "optim.SGD": ("sgd", in_torch.torch_sgd),
}
#: operators whose sums OpenVINO adds up in float32
FLOAT32_SUMS = ("ConvInteger", "MatMulInteger", "MatMulInteger of two arrays")
OPENVINO = (
    *("QuantizeLinear", "DequantizeLinear", "QLinearConv", "LSTM"),
    *FLOAT32_SUMS,
)
#: operators of runtimes that are asked about few
OTHERS: dict[tuple[str, str], tuple[str, Function]] = {
    ("brevitas", "IntQuant.to_int"): ("quantize", others.brevitas_quantize),
    ("brevitas", "IntQuant"): ("fake_quantize", others.brevitas_fake_quantize),
    ("jax", "jit of round and clip"): ("quantize", others.jax_quantize),
    ("executorch", "quantize_per_tensor"): ("quantize", others.executorch_quantize),
    ("executorch", "dequantize_per_tensor"): (
        "dequantize",
        others.executorch_dequantize,
    ),
    ("tvm", "relax.quantize"): ("quantize", others.tvm_quantize),
    ("tvm", "relax.dequantize"): ("dequantize", others.tvm_dequantize),
    ("qonnx", "Quant"): ("quantize", in_onnx.qonnx_quant),
    ("numpy", "rint and clip"): ("quantize", numpy_quantize),
}
RUNNERS = {"onnxruntime": in_onnx.onnxruntime, "onnx": in_onnx.reference}
BOXES = (
    *(
        Box(
            "openvino",
            operator,
            ONNX[operator][0],
            partial(ONNX[operator][1], others.openvino),
            others.fits_float32 if operator in FLOAT32_SUMS else None,
        )
        for operator in OPENVINO
    ),
    *(
        Box(runtime, operator, family, partial(fn, run))
        for runtime, run in RUNNERS.items()
        for operator, (family, fn) in ONNX.items()
    ),
    *(
        Box("onnxruntime", operator, *row, SUPPORTS.get(operator))
        for operator, row in ONNXRUNTIME.items()
    ),
    *(Box("torch", operator, *row) for operator, row in TORCH.items()),
    *(
        Box(
            kernels if kernels == MICRO else f"litert-{kernels}",
            operator,
            family,
            partial(fn, kernels),
            litert.supports_of(operator, kernels),
        )
        for kernels in litert.KERNELS
        for operator, (family, fn) in litert.OPERATORS.items()
        if (kernels, operator) not in litert.ABSENT
    ),
    *(Box(*names, *row) for names, row in OTHERS.items()),
)
