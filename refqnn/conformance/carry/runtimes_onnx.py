"""Operators of ONNX as functions: onnxruntime, the evaluator of onnx, qonnx."""

from collections.abc import Callable
from typing import Any

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.geometry import pad_widths

Function = Callable[..., Any]


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """Return one ONNX node, names separated by blanks."""
    from onnx import helper

    return helper.make_node(kind, inputs.split(" "), outputs.split(" "), **attributes)


def model(one: Any, feeds: dict[str, Array]) -> bytes:
    """Return the model of one node whose inputs have the dtypes of ``feeds``."""
    from onnx import helper

    given = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
    ]
    wanted = [helper.make_empty_tensor_value_info(name) for name in one.output if name]
    graph = helper.make_graph([one], "one", given, wanted)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return bytes(made.SerializeToString())


def onnxruntime(one: Any, feeds: dict[str, Array]) -> list[Array]:
    """Run a node in onnxruntime, one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model(one, feeds), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def reference(one: Any, feeds: dict[str, Array]) -> list[Array]:
    """Run a node in the reference evaluator of onnx."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    made = onnx.load_model_from_string(model(one, feeds))
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(made).run(None, feeds))


Runner = Callable[[Any, dict[str, Array]], list[Array]]


def whole_type(x: Int, q_min: int, q_max: int) -> None:
    """Refuse what runtimes do not take: other codes than all of an 8-bit type."""
    info = np.iinfo(x.dtype)
    if info.bits != 8 or (q_min, q_max) != (info.min, info.max):
        raise ValueError(f"codes must be all of an 8-bit type, got {x.dtype}")


def grid(dtype: Any, **numbers: Any) -> dict[str, Array]:
    """Return scales, whose names begin with s, and zero-points as inputs of a node.

    >>> grid(np.int8, s=0.5, z=3)
    {'s': array(0.5, dtype=float32), 'z': array(3, dtype=int8)}
    """
    return {
        name: np.asarray(number, np.float32 if name[0] == "s" else dtype)
        for name, number in numbers.items()
    }


def run_contrib(kind: str, feeds: dict[str, Array], **settings: Any) -> Array:
    """Run a node of onnxruntime's own operators, one output."""
    one = node(kind, " ".join(feeds), "q", domain="com.microsoft", **settings)
    return onnxruntime(one, feeds)[0]


def onnx_affine(
    kind: str, run: Runner, x: Array, scale: Any, zero_point: int, *_: int
) -> Array:
    """QuantizeLinear to int8, or DequantizeLinear from it."""
    feeds = {"x": np.asarray(x), **grid(np.int8, s=scale, z=zero_point)}
    return run(node(kind, "x s z", "y"), feeds)[0]


def onnx_sum(kind: str, x: Int, y: Int, *grids: Any) -> Array:
    """QLinearAdd or QLinearMul."""
    sx, zx, sy, zy, s, z, q_min, q_max = grids
    whole_type(x, q_min, q_max)
    feeds = {"x": x, **grid(x.dtype, sx=sx, zx=zx)}
    feeds |= {"y": y, **grid(x.dtype, sy=sy, zy=zy, s=s, z=z)}
    return run_contrib(kind, feeds)


def onnx_table(kind: str, x: Int, *given: Any) -> Array:
    """QLinearSigmoid or QLinearLeakyRelu, of which alpha precedes the grids."""
    *alpha, sx, zx, s, z, q_min, q_max = given
    whole_type(x, q_min, q_max)
    settings = {"alpha": float(alpha[0])} if alpha else {}
    feeds = {"x": x, **grid(x.dtype, sx=sx, zx=zx, s=s, z=z)}
    return run_contrib(kind, feeds, **settings)


def onnx_concat(x: Int, y: Int, *grids: Any) -> Array:
    """QLinearConcat along the last axis."""
    sx, zx, sy, zy, s, z, q_min, q_max = grids
    whole_type(x, q_min, q_max)
    feeds = {**grid(x.dtype, s=s, z=z), "x": x, **grid(x.dtype, sx=sx, zx=zx)}
    feeds |= {"y": y, **grid(x.dtype, sy=sy, zy=zy)}
    return run_contrib("QLinearConcat", feeds, axis=-1)


def onnx_mean(kind: str, x: Int, *given: Any) -> Array:
    """QLinearAveragePool, padding not counted, or QLinearGlobalAveragePool."""
    kernel, stride, padding, sx, zx, s, z, q_min, q_max = given
    whole_type(x, q_min, q_max)
    feeds = {"x": x, **grid(x.dtype, sx=sx, zx=zx, s=s, z=z)}
    whole = tuple(pair(kernel)) == x.shape[2:] and not np.any(padding)
    if whole != (kind == "QLinearGlobalAveragePool"):
        raise ValueError(f"of windows that are planes, {kernel} is one: {whole}")
    if whole:
        return run_contrib(kind, feeds)
    (t, b), (l, r) = pad_widths(padding)
    settings = {"kernel_shape": pair(kernel), "strides": pair(stride)}
    return run_contrib(kind, feeds, pads=[t, l, b, r], count_include_pad=0, **settings)


def pair(size: Any) -> list[int]:
    """Return the two numbers of a size of windows."""
    return [int(v) for v in np.broadcast_to(size, 2)]


def onnx_softmax(x: Int, *grids: Any) -> Array:
    """QLinearSoftmax along the last axis."""
    sx, s, z, q_min, q_max = grids
    whole_type(x, q_min, q_max)
    feeds = {"x": x, **grid(x.dtype, sx=sx, zx=0, s=s, z=z)}
    return run_contrib("QLinearSoftmax", feeds, axis=-1, opset=13)


def as_int32(acc: Int) -> Int:
    """Return accumulators as int32; ValueError where one does not fit."""
    narrow = acc.astype(np.int32)
    if np.any(narrow != acc):
        raise ValueError("the accumulators of this kernel are int32")
    return narrow


def onnx_requantize(
    run: Runner, acc: Int, multiplier: int, shift: int, zero_point: int, *_: int
) -> Array:
    """QLinearConv with one weight of 0: its bias is the accumulator."""
    n, real = len(acc), float(multiplier) * 2.0 ** (shift - 31)
    feeds = {"x": np.zeros((1, 1, 1, 1), np.int8), **grid(np.int8, sx=real, zx=0)}
    feeds |= {"w": np.zeros((n, 1, 1, 1), np.int8), **grid(np.int8, sw=1, zw=0)}
    feeds |= {**grid(np.int8, s=1, z=zero_point), "b": as_int32(acc)}
    one = node("QLinearConv", " ".join(feeds), "y")
    return run(one, feeds)[0].reshape(n)


def onnx_conv2d(
    run: Runner,
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
    """ConvInteger, the bias added after it."""
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
    feeds = {"x": x, "w": w, **grid(x.dtype, xz=xz), **grid(w.dtype, wz=wz)}
    return run(one, feeds)[0] + b[:, None, None]


def onnx_linear(run: Runner, x: Int, w: Int, b: Int, xz: int, wz: int) -> Array:
    """MatMulInteger, the bias added after it."""
    return onnx_matmul(run, x, np.ascontiguousarray(w.T), xz, wz) + b


def onnx_matmul(run: Runner, a: Int, b: Int, za: int, zb: int) -> Array:
    """MatMulInteger of two arrays."""
    feeds = {"a": a, "b": b, **grid(a.dtype, za=za), **grid(b.dtype, zb=zb)}
    return run(node("MatMulInteger", "a b za zb", "y"), feeds)[0]


def onnx_lstm(run: Runner, *args: Float) -> tuple[Array, ...]:
    """LSTM over one step, in float32."""
    x, h, c, w_x, w_h, b_x, b_h = (a.astype(np.float32)[None] for a in args)
    b = np.concatenate([b_x, b_h], axis=1)
    feeds = {"x": x, "w": w_x, "r": w_h, "b": b, "h": h, "c": c}
    one = node("LSTM", "x w r b  h c", " hn cn", hidden_size=h.shape[-1])
    return tuple(y[0] for y in run(one, feeds))


def onnx_batch_norm(run: Runner, *args: Any) -> tuple[Array, ...]:
    """BatchNormalization in training mode, in float32."""
    *arrays, momentum, eps = args
    feeds = dict(zip("xgbmv", (a.astype(np.float32) for a in arrays), strict=True))
    settings = {"momentum": float(momentum), "epsilon": float(eps)}
    one = node("BatchNormalization", "x g b m v", "y n w", training_mode=1, **settings)
    return tuple(run(one, feeds))


def onnx_resize(mode: str, run: Runner, x: Int, size: Any) -> Array:
    """Resize of codes to a size: half-pixel places, the nearest of two or a blend."""
    sizes = np.array([*x.shape[:2], *size], np.int64)
    one = node("Resize", "x   n", "y", mode=mode)
    return run(one, {"x": x, "n": sizes})[0]


def qonnx_quant(x: Float, scale: Any, zero_point: int, q_min: int, q_max: int) -> Array:
    """Execute a model of one Quant node of qonnx, its numbers as codes again."""
    from onnx import TensorProto, helper
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    bits, signed = int(q_max - q_min).bit_length(), int(q_min < 0)
    if (q_min, q_max) != (-signed << (bits - 1), (1 << (bits - signed)) - 1):
        raise ValueError(f"Quant has no range {q_min} .. {q_max}")
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
