"""Operators of LiteRT as functions of arrays, by the kernels that one wheel holds.

One model rounds in up to four ways there: with the reference kernels, with the
optimized ones, with those of XNNPACK, and by the length of what a vector holds.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.conformance.carry.runtimes_onnx import whole_type

Function = Callable[..., Any]

#: kernels -> the resolver that chooses them
KERNELS = {
    "reference": "BUILTIN_REF",
    "optimized": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "xnnpack": "AUTO",
}


class Tensor(NamedTuple):
    """A tensor of a model: its shape, type and grid; ``data`` where it is constant."""

    shape: tuple[int, ...]
    dtype: str
    #: one for all, one for each entry of the first axis, or none for real numbers
    scale: Any = ()
    zero_point: int = 0
    data: Array | None = None


class Writer:
    """Tables and vectors of a flatbuffer, by the names of the published schema."""

    def __init__(self) -> None:
        import flatbuffers  # noqa: PLC0415
        import tflite  # noqa: PLC0415

        self.builder, self.schema = flatbuffers.Builder(1024), tflite

    def table(self, kind: str, **fields: Any) -> int:
        """Write a table; return its offset."""
        getattr(self.schema, f"{kind}Start")(self.builder)
        for field, value in fields.items():
            getattr(self.schema, f"{kind}Add{field}")(self.builder, value)
        return int(getattr(self.schema, f"{kind}End")(self.builder))

    def offsets(self, values: list[int]) -> int:
        """Write a vector of tables; return its offset."""
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependUOffsetTRelative(value)
        return int(self.builder.EndVector())

    def numbers(self, values: Any, dtype: str) -> int:
        """Write a vector of numbers; return its offset."""
        return int(self.builder.CreateNumpyVector(np.asarray(values, dtype)))

    def tensor(self, place: int, t: Tensor, buffer: int) -> int:
        """Write a tensor with its grid; return its offset."""
        scales = np.ravel(t.scale)
        zeros = np.full(scales.size, t.zero_point)
        scale, zero = self.numbers(scales, "<f4"), self.numbers(zeros, "<i8")
        return self.table(
            "Tensor",
            Quantization=self.table(
                "QuantizationParameters", Scale=scale, ZeroPoint=zero
            ),
            Shape=self.numbers(t.shape, "<i4"),
            Name=self.builder.CreateString(f"t{place}"),
            Type=getattr(self.schema.TensorType, t.dtype.upper()),
            Buffer=buffer,
        )


def litert_model(
    operator: str,
    tensors: list[Tensor],
    *,
    version: int = 2,
    options: Mapping[str, int] | None = None,
) -> bytes:
    """Write a model of one operator: all tensors but the last are its inputs.

    ``options`` are fields of the operator's table of options, numbers all.
    """
    w = Writer()
    buffers, written = [w.table("Buffer")], []
    for place, t in enumerate(tensors):
        if t.data is not None:
            raw = w.numbers(np.frombuffer(t.data.tobytes(), np.uint8), "u1")
            buffers.append(w.table("Buffer", Data=raw))
        written.append(w.tensor(place, t, 0 if t.data is None else len(buffers) - 1))
    last = len(tensors) - 1
    made: dict[str, Any] = {}
    if options is not None:
        kind = f"{operator.title().replace('_', '')}Options"
        made["BuiltinOptionsType"] = getattr(w.schema.BuiltinOptions, kind)
        made["BuiltinOptions"] = w.table(kind, **options)
    made["Inputs"] = w.numbers(range(last), "<i4")
    made["Outputs"] = w.numbers([last], "<i4")
    parts = {
        "Operators": w.offsets([w.table("Operator", **made)]),
        "Tensors": w.offsets(written),
        "Inputs": w.numbers([i for i in range(last) if tensors[i].data is None], "<i4"),
        "Outputs": w.numbers([last], "<i4"),
    }
    code = getattr(w.schema.BuiltinOperator, operator)
    numbers = {"DeprecatedBuiltinCode": min(code, 127), "BuiltinCode": code}
    codes = w.offsets([w.table("OperatorCode", Version=version, **numbers)])
    subgraphs = w.offsets([w.table("SubGraph", **parts)])
    held = {"OperatorCodes": codes, "Subgraphs": subgraphs}
    model = w.table("Model", Version=3, Buffers=w.offsets(buffers), **held)
    w.builder.Finish(model, b"TFL3")
    return bytes(w.builder.Output())


def run_litert(model: bytes, inputs: list[Array], kernels: str) -> Array:
    """Run a model with one output, one thread."""
    from ai_edge_litert.interpreter import (  # noqa: PLC0415
        Interpreter,
        OpResolverType,
    )

    interpreter = Interpreter(
        model_content=model,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType[KERNELS[kernels]],
    )
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], np.ascontiguousarray(array))
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    return np.asarray(interpreter.get_tensor(output["index"]))


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
    model = litert_model(operator, tensors, options={"FusedActivationFunction": 0})
    return run_litert(model, given, kernels).reshape(x.shape)


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
    """CONV_2D or FULLY_CONNECTED with weights of 0: the biases are the accumulators."""
    if (q_min, q_max) != (-128, 127) or np.size(zero_point) > 1:
        raise ValueError("the kernels judged here give int8 with one zero-point")
    x_scale, w_scale = two_scales(multiplier, shift)
    n, whole = acc.size, operator == "FULLY_CONNECTED"
    scales = np.broadcast_to(w_scale, acc.shape).ravel()
    if whole and np.ptp(scales) > 0:
        raise ValueError("one scale for all weights")
    scales = scales[:1] if whole else scales
    weights = np.zeros((n, 1) if whole else (n, 1, 1, 1), np.int8)
    bias = np.ascontiguousarray(acc, np.int32).ravel()
    flat = (1, 1) if whole else (1, 1, 1, 1)
    tensors = [
        Tensor(flat, "int8", x_scale),
        Tensor(weights.shape, "int8", scales, 0, weights),
        Tensor((n,), "int32", scales * x_scale, 0, bias),
        Tensor((*flat[:-1], n), "int8", 1.0, int(np.ravel(zero_point)[0])),
    ]
    strides = {} if whole else {"StrideW": 1, "StrideH": 1}
    version = 4 if whole else 3
    model = litert_model(operator, tensors, version=version, options=strides)
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


#: operator -> its family and the function of it that takes the kernels first
OPERATORS: dict[str, tuple[str, Function]] = {
    **{o: (o.lower(), partial(litert_sum, o)) for o in ("ADD", "SUB", "MUL")},
    "CONV_2D": ("requantize", partial(litert_requantize, "CONV_2D")),
    "FULLY_CONNECTED": ("requantize", partial(litert_requantize, "FULLY_CONNECTED")),
    "QUANTIZE": ("quantize", litert_quantize),
    "DEQUANTIZE": ("dequantize", litert_dequantize),
}
