"""Installed runtimes as black boxes: one function an operator, to identify and verify.

Everything here is optional and imported when called. ``BOXES`` is the table from which
``profiles.py`` was filled, and that tests walk again where a runtime is installed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Float, Int

Function = Callable[..., Any]
Session = Callable[[dict[str, Array]], list[Array]]


class Box(NamedTuple):
    """An operator of a runtime, and the family it belongs to."""

    #: name of the distribution that must be installed
    runtime: str
    operator: str
    family: str
    make: Callable[[], Function]


def version(runtime: str) -> str | None:
    """Return the installed version of a distribution, None if there is none."""
    try:
        return metadata.version(runtime)
    except metadata.PackageNotFoundError:
        return None


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """Return one ONNX node, names separated by blanks."""
    from onnx import helper  # noqa: PLC0415

    return helper.make_node(kind, inputs.split(" "), outputs.split(" "), **attributes)


def model(one: Any, feeds: dict[str, Array]) -> bytes:
    """Return the model of one node whose inputs have the dtypes of ``feeds``."""
    from onnx import helper  # noqa: PLC0415

    given = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
    ]
    wanted = [helper.make_empty_tensor_value_info(name) for name in one.output if name]
    graph = helper.make_graph([one], "one", given, wanted)
    opset = [helper.make_opsetid("", 21)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=10)
    return bytes(made.SerializeToString())


def onnxruntime(one: Any, feeds: dict[str, Array]) -> list[Array]:
    """Run a node in onnxruntime, one thread."""
    import onnxruntime as ort  # noqa: PLC0415

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model(one, feeds), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def reference(one: Any, feeds: dict[str, Array]) -> list[Array]:
    """Run a node in the reference evaluator of onnx."""
    import onnx  # noqa: PLC0415
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

    made = onnx.load_model_from_string(model(one, feeds))
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(made).run(None, feeds))


Runner = Callable[[Any, dict[str, Array]], list[Array]]


def onnx_quantize(run: Runner) -> Function:
    """QuantizeLinear to int8."""

    def call(x: Float, scale: Any, zero_point: int, *_: int) -> Array:
        feeds = {"x": x, "s": np.float32(scale), "z": np.int8(zero_point)}
        arrays = {name: np.asarray(a) for name, a in feeds.items()}
        return run(node("QuantizeLinear", "x s z", "y"), arrays)[0]

    return call


def onnx_dequantize(run: Runner) -> Function:
    """DequantizeLinear from int8."""

    def call(q: Int, scale: Any, zero_point: int) -> Array:
        feeds = {"q": q, "s": np.float32(scale), "z": np.int8(zero_point)}
        arrays = {name: np.asarray(a) for name, a in feeds.items()}
        return run(node("DequantizeLinear", "q s z", "y"), arrays)[0]

    return call


def onnx_requantize(run: Runner) -> Function:
    """QLinearConv with one weight of 0: its bias is the accumulator."""

    def call(acc: Int, multiplier: int, shift: int, zero_point: int, *_: int) -> Array:
        n, real = len(acc), float(multiplier) * 2.0 ** (shift - 31)
        feeds: dict[str, Array] = {
            "x": np.zeros((1, 1, 1, 1), np.int8),
            "xs": np.asarray(real, np.float32),
            "xz": np.asarray(0, np.int8),
            "w": np.zeros((n, 1, 1, 1), np.int8),
            "ws": np.asarray(1, np.float32),
            "wz": np.asarray(0, np.int8),
            "ys": np.asarray(1, np.float32),
            "yz": np.asarray(zero_point, np.int8),
            "b": acc.astype(np.int32),
        }
        one = node("QLinearConv", "x xs xz w ws wz ys yz b", "y")
        return run(one, feeds)[0].reshape(n)

    return call


def onnx_conv2d(run: Runner) -> Function:
    """ConvInteger, the bias added after it."""

    def call(
        x: Int,
        w: Int,
        b: Int,
        xz: int,
        wz: int,
        stride: int,
        padding: Any,
        dilation: int,
        groups: int,
    ) -> Array:
        (t, u), (l, r) = padding
        one = node(
            "ConvInteger",
            "x w xz wz",
            "y",
            strides=[stride] * 2,
            pads=[t, l, u, r],
            dilations=[dilation] * 2,
            group=groups,
        )
        feeds: dict[str, Array] = {
            "x": x,
            "w": w,
            "xz": np.asarray(xz, x.dtype),
            "wz": np.asarray(wz, w.dtype),
        }
        return run(one, feeds)[0] + b[:, None, None]

    return call


def onnx_linear(run: Runner) -> Function:
    """MatMulInteger, the bias added after it."""

    def call(x: Int, w: Int, b: Int, xz: int, wz: int) -> Array:
        feeds = {
            "x": x,
            "w": np.ascontiguousarray(w.T),
            "xz": np.asarray(xz, x.dtype),
            "wz": np.asarray(wz, w.dtype),
        }
        return run(node("MatMulInteger", "x w xz wz", "y"), feeds)[0] + b

    return call


def onnx_lstm(run: Runner) -> Function:
    """LSTM over one step, in float32."""

    def call(*args: Float) -> tuple[Array, ...]:
        x, h, c, w_x, w_h, b_x, b_h = (a.astype(np.float32)[None] for a in args)
        b = np.concatenate([b_x, b_h], axis=1)
        feeds = {"x": x, "w": w_x, "r": w_h, "b": b, "h": h, "c": c}
        one = node("LSTM", "x w r b  h c", " hn cn", hidden_size=h.shape[-1])
        return tuple(y[0] for y in run(one, feeds))

    return call


def onnx_batch_norm(run: Runner) -> Function:
    """BatchNormalization in training mode, in float32."""

    def call(*args: Any) -> tuple[Array, ...]:
        *arrays, momentum, eps = args
        feeds = dict(zip("xgbmv", (a.astype(np.float32) for a in arrays), strict=True))
        settings = {"momentum": float(momentum), "epsilon": float(eps)}
        one = node(
            "BatchNormalization", "x g b m v", "y n w", training_mode=1, **settings
        )
        return tuple(run(one, feeds))

    return call


def torch_quantize(x: Float, scale: Any, zero_point: int, *_: int) -> Array:
    """Call torch.quantize_per_tensor to qint8."""
    import torch  # noqa: PLC0415

    q = torch.quantize_per_tensor(
        torch.from_numpy(x), float(scale), int(zero_point), torch.qint8
    )
    return np.asarray(q.int_repr())


def torch_fake_quantize(*args: Any) -> tuple[Array, ...]:
    """Call torch.fake_quantize_per_tensor_affine and its backward; scales are fixed."""
    import torch  # noqa: PLC0415

    x, scale, zero_point, q_min, q_max, dy = args
    leaf = torch.from_numpy(np.array(x)).requires_grad_()
    y = torch.fake_quantize_per_tensor_affine(
        leaf, float(scale), int(zero_point), q_min, q_max
    )
    torch.autograd.backward(y, torch.from_numpy(np.array(dy)))  # type: ignore[no-untyped-call, unused-ignore]
    return np.asarray(y.detach()), np.asarray(leaf.grad), np.zeros(())


def torch_learnable(*args: Any) -> tuple[Array, ...]:
    """Call torch._fake_quantize_learnable_per_tensor_affine and its backward."""
    import torch  # noqa: PLC0415

    x, scale, zero_point, q_min, q_max, dy = args
    leaf = torch.from_numpy(np.array(x)).requires_grad_()
    step = torch.tensor([float(scale)], requires_grad=True)
    zero = torch.tensor([float(zero_point)])
    learnable = torch._fake_quantize_learnable_per_tensor_affine  # noqa: SLF001 - what QAT with learned scales calls
    y = learnable(leaf, step, zero, q_min, q_max, 1.0)
    torch.autograd.backward(y, torch.from_numpy(np.array(dy)))  # type: ignore[no-untyped-call, unused-ignore]
    return np.asarray(y.detach()), np.asarray(leaf.grad), np.asarray(step.grad)[0]


def torch_max_pool2d(x: Int, kernel: int, stride: int, padding: int) -> Array:
    """Call torch max_pool2d on codes held in float32."""
    import torch  # noqa: PLC0415

    plane = torch.from_numpy(x.astype(np.float32))
    y = torch.nn.functional.max_pool2d(plane, kernel, stride, padding)
    return np.asarray(y)


def torch_avg_pool2d(
    x: Int, kernel: int, stride: int, padding: int, zero_point: int
) -> Array:
    """Call torch avg_pool2d on quint8 codes, 128 above the int8 ones."""
    import torch  # noqa: PLC0415

    codes = torch.from_numpy((x.astype(np.int16) + 128).astype(np.uint8))
    q = torch._make_per_tensor_quantized_tensor(codes, 1.0, zero_point + 128)  # noqa: SLF001 - the only way to set codes
    y = torch.nn.functional.avg_pool2d(q, kernel, stride, padding)
    return np.asarray(y.int_repr()).astype(np.int64) - 128


def torch_lstm_cell(*args: Float) -> tuple[Array, ...]:
    """Call torch.lstm_cell in float64."""
    import torch  # noqa: PLC0415

    x, h, c, *weights = (torch.from_numpy(np.array(a)) for a in args)
    return tuple(np.asarray(y) for y in torch.lstm_cell(x, (h, c), *weights))


def torch_batch_norm(*args: Any) -> tuple[Array, ...]:
    """Call torch batch_norm in training."""
    import torch  # noqa: PLC0415

    *arrays, momentum, eps = args
    x, gamma, beta, mean, var = (torch.from_numpy(np.array(a)) for a in arrays)
    y = torch.nn.functional.batch_norm(x, mean, var, gamma, beta, True, momentum, eps)
    return np.asarray(y), np.asarray(mean), np.asarray(var)


def torch_loss(logits: Float, labels: Int, label_smoothing: float) -> tuple[Array, ...]:
    """Call torch cross_entropy and its backward."""
    import torch  # noqa: PLC0415

    leaf = torch.from_numpy(np.array(logits)).requires_grad_()
    loss = torch.nn.functional.cross_entropy(
        leaf, torch.from_numpy(np.array(labels)), label_smoothing=label_smoothing
    )
    loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
    return np.asarray(loss.detach()), np.asarray(leaf.grad)


def torch_sgd(
    value: Float,
    grads: Float,
    lrs: Sequence[float],
    momentum: float,
    weight_decay: float,
    dampening: float,
    nesterov: bool,
) -> Array:
    """Call torch.optim.SGD step by step."""
    import torch  # noqa: PLC0415

    leaf = torch.nn.Parameter(torch.from_numpy(np.array(value)))
    optimiser = torch.optim.SGD(
        [leaf],
        lr=1.0,
        momentum=momentum,
        weight_decay=weight_decay,
        dampening=dampening,
        nesterov=nesterov,
    )
    steps = []
    for grad, lr in zip(grads, lrs, strict=True):
        optimiser.param_groups[0]["lr"] = float(lr)
        leaf.grad = torch.from_numpy(np.array(grad))
        optimiser.step()
        steps.append(np.array(leaf.detach()))
    return np.stack(steps)


def numpy_quantize(
    x: Float, scale: Any, zero_point: int, q_min: int, q_max: int
) -> Array:
    """Return what one writes in NumPy: clip(rint(x / scale) + zero_point)."""
    return np.clip(np.rint(x / np.asarray(scale)) + zero_point, q_min, q_max)


def qonnx_quant(x: Float, scale: Any, zero_point: int, q_min: int, q_max: int) -> Array:
    """Execute a model of one Quant node of qonnx, its numbers as codes again."""
    from onnx import TensorProto, helper  # noqa: PLC0415
    from qonnx.core.modelwrapper import ModelWrapper  # noqa: PLC0415
    from qonnx.core.onnx_exec import execute_onnx  # noqa: PLC0415

    bits, signed = int(q_max - q_min).bit_length(), int(q_min < 0)
    constants = {"s": float(scale), "z": float(zero_point), "b": float(bits)}
    quant = helper.make_node(
        "Quant",
        ["x", *constants],
        ["y"],
        domain="qonnx.custom_op.general",
        signed=signed,
        narrow=0,
        rounding_mode="ROUND",
    )
    info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name in "xy"
    ]
    graph = helper.make_graph([quant], "one", info[:1], info[1:])
    made = ModelWrapper(helper.make_model(graph))
    for name, value in constants.items():
        made.set_initializer(name, np.float32(value))
    y = execute_onnx(made, {"x": x})["y"]
    with np.errstate(invalid="ignore"):
        return np.rint(np.asarray(y, np.float64) / np.float64(np.float32(scale))) + int(
            zero_point
        )


def itself(fn: Function) -> Function:
    """Return the function: it needs no making."""
    return fn


ONNX = {
    "QuantizeLinear": ("quantize", onnx_quantize),
    "DequantizeLinear": ("dequantize", onnx_dequantize),
    "QLinearConv": ("requantize", onnx_requantize),
    "ConvInteger": ("conv2d", onnx_conv2d),
    "MatMulInteger": ("linear", onnx_linear),
    "LSTM": ("lstm_cell", onnx_lstm),
    "BatchNormalization": ("batch_norm", onnx_batch_norm),
}
TORCH: dict[str, tuple[str, Function]] = {
    "quantize_per_tensor": ("quantize", torch_quantize),
    "fake_quantize_per_tensor_affine": ("fake_quantize", torch_fake_quantize),
    "_fake_quantize_learnable_per_tensor_affine": ("fake_quantize", torch_learnable),
    "max_pool2d": ("max_pool2d", torch_max_pool2d),
    "quantized avg_pool2d": ("avg_pool2d", torch_avg_pool2d),
    "lstm_cell": ("lstm_cell", torch_lstm_cell),
    "batch_norm": ("batch_norm", torch_batch_norm),
    "cross_entropy": ("softmax_cross_entropy", torch_loss),
    "optim.SGD": ("sgd", torch_sgd),
}
BOXES = (
    *(
        Box(runtime, operator, family, partial(make, run))
        for runtime, run in (("onnxruntime", onnxruntime), ("onnx", reference))
        for operator, (family, make) in ONNX.items()
    ),
    *(
        Box("torch", operator, family, partial(itself, fn))
        for operator, (family, fn) in TORCH.items()
    ),
    Box("qonnx", "Quant", "quantize", partial(itself, qonnx_quant)),
    Box("numpy", "rint and clip", "quantize", lambda: numpy_quantize),
)
