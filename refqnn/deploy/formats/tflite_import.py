"""A TFLite quantized model as a network of integers, by the kernels of one runtime.

    reference      kernels/internal/reference of TensorFlow Lite (LiteRT)
    optimized      its optimized ones on x86 with AVX
    xnnpack        the delegate's, on x86
    tflite-micro   those of TensorFlow Lite Micro, without a library of a chip's

The kernels compute the same sums and differ in how these become codes; the modules
beside this one state the equations.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refqnn import integer
from refqnn._types import Array
from refqnn.deploy.build import FLOAT32
from refqnn.deploy.formats.tflite_graph import (
    RANGES,
    Kernels,
    Node,
    Reader,
    unique_names,
)
from refqnn.deploy.formats.tflite_layers import (
    TWICE_AWAY,
    TWICE_UP,
    conv_2d,
    depthwise_conv_2d,
    fully_connected,
    transpose_conv,
)
from refqnn.deploy.formats.tflite_means import mean
from refqnn.deploy.formats.tflite_operations import (
    add_image,
    batch_matmul,
    binary,
    concatenation,
    dequantize,
    function,
    pool_2d,
    quantize,
    softmax,
)
from refqnn.deploy.formats.tflite_read import parse_model, read_tflite
from refqnn.deploy.formats.tflite_rearrange import (
    pack,
    pad,
    reshape,
    resize_bilinear,
    resize_nearest,
    shape_numbers,
    slice_codes,
    split,
    strided_slice,
    tile,
    transpose,
)
from refqnn.deploy.formats.tflite_schema import Model, Operator
from refqnn.deploy.formats.tflite_tables import EIGHT_BITS
from refqnn.deploy.network import IntegerNetwork
from refqnn.deploy.operations import OperationStep
from refqnn.deploy.steps import REAL_ROUNDING, sources_of
from refqnn.files import Unreadable

#: what TensorFlow Lite Micro does with codes of uint8
UNSIGNED_OF_MICRO = ("DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE")
KERNELS: Mapping[str, Kernels] = {
    "reference": Kernels(
        TWICE_AWAY,
        TWICE_AWAY,
        REAL_ROUNDING,
        grouped=TWICE_AWAY,
        plain=TWICE_AWAY,
        quantize=TWICE_AWAY,
        left=TWICE_AWAY,
    ),
    "optimized": Kernels(
        TWICE_UP,
        TWICE_UP,
        TWICE_UP,
        grouped=TWICE_AWAY,
        plain=TWICE_AWAY,
        quantize=TWICE_UP,
        left=TWICE_UP,
        vectors=True,
    ),
    "xnnpack": Kernels(
        FLOAT32,
        FLOAT32,
        FLOAT32,
        grouped=FLOAT32,
        plain=TWICE_AWAY,
        quantize=EIGHT_BITS,
        left=TWICE_UP,
        semantics="xnnpack",
        vectors=True,
    ),
    "tflite-micro": Kernels(
        TWICE_AWAY,
        TWICE_AWAY,
        TWICE_AWAY,
        grouped=TWICE_AWAY,
        plain=TWICE_AWAY,
        quantize=TWICE_AWAY,
        left=TWICE_AWAY,
        semantics="tflite-micro",
        micro=True,
        missing=("RELU_N1_TO_1", "TILE"),
        unsigned=UNSIGNED_OF_MICRO,
    ),
}


def join(node: Node) -> None:
    """Codes side by side, or numbers of shapes"""
    (pack if node.tensor(0).dtype == "int32" else concatenation)(node)


HANDLERS: Mapping[str, Callable[[Node], None]] = {
    "ADD": binary,
    "AVERAGE_POOL_2D": pool_2d,
    "BATCH_MATMUL": batch_matmul,
    "CONCATENATION": join,
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "DEQUANTIZE": dequantize,
    "EXPAND_DIMS": reshape,
    "FULLY_CONNECTED": fully_connected,
    "HARD_SWISH": function,
    "LEAKY_RELU": function,
    "LOGISTIC": function,
    "MAX_POOL_2D": pool_2d,
    "MEAN": mean,
    "MUL": binary,
    "PACK": pack,
    "PAD": pad,
    "PADV2": pad,
    "QUANTIZE": quantize,
    "RELU": function,
    "RELU6": function,
    "RELU_N1_TO_1": function,
    "RESHAPE": reshape,
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest,
    "SHAPE": shape_numbers,
    "SLICE": slice_codes,
    "SOFTMAX": softmax,
    "SPLIT": split,
    "SQUEEZE": reshape,
    "STRIDED_SLICE": strided_slice,
    "SUB": binary,
    "TANH": function,
    "TILE": tile,
    "TRANSPOSE": transpose,
    "TRANSPOSE_CONV": transpose_conv,
}


def import_tflite(
    path: str | os.PathLike[str] | bytes,
    *,
    kernels: str = "reference",
    until: str | None = None,
) -> IntegerNetwork:
    """Return the integer network that a TFLite quantized model amounts to.

    ``path`` is that of a file, or its bytes. Steps carry the names of the tensors;
    (1, H, W, C) becomes (C, H, W). ``kernels`` are those of ``KERNELS``. With ``until``
    the network ends at the tensor of this name.

    Raises ValueError naming operator and place for what is not supported, with the
    names of what is; for a file, and for content that is damaged, it is ``Unreadable``.
    """
    if kernels not in KERNELS:
        raise ValueError(f"kernels must be one of {list(KERNELS)}, got {kernels!r}")
    model = parse_model(path) if isinstance(path, bytes) else read_tflite(path)
    computed = {number for operator in model.operators for number in operator.outputs}
    names = {n for i, n in enumerate(unique_names(model.tensors)) if i in computed}
    if until is not None and until not in names:
        raise ValueError(f"no tensor that is computed is called {until!r}")
    try:
        return network_of(model, KERNELS[kernels], until)
    except ValueError as error:
        if isinstance(path, bytes):
            raise
        raise Unreadable(f"{path}: {error}") from error


def network_of(model: Model, kernels: Kernels, until: str | None) -> IntegerNetwork:
    """Read the operators of a model in their order, up to a tensor."""
    reader = start(model, kernels)
    outputs = [*model.outputs]
    for place, operator in enumerate(model.operators):
        read_operator(Node(reader, place, operator))
        ends = [n for n in operator.outputs if reader.names[n] == until]
        if until is not None and ends:
            outputs = ends
            break
    return finish(reader, outputs)


def start(model: Model, kernels: Kernels) -> Reader:
    """Return a reader that knows the names, and the image where it is codes."""
    weights = sum(t.data.nbytes for t in model.tensors if t.data is not None)
    reader = Reader(model, kernels, unique_names(model.tensors), 2 * weights + 2**20)
    check_numbers(model)
    if len(model.inputs) != 1:
        names = [reader.names[number] for number in model.inputs]
        raise ValueError(f"the model must have one input, has {names}")
    (number,) = model.inputs
    if model.tensors[number].dtype in RANGES:
        image = Operator("INPUT", (), (number,))
        add_image(Node(reader, 0, image), number)
    return reader


def check_numbers(model: Model) -> None:
    """Raise where an operator or the graph names a tensor that does not exist."""
    count = len(model.tensors)
    for place, operator in enumerate(model.operators):
        if not operator.outputs:
            raise Unreadable(f"{operator.op} (operator {place}) has no output")
        for numbers, least in ((operator.inputs, -1), (operator.outputs, 0)):
            if any(not least <= number < count for number in numbers):
                raise Unreadable(
                    f"{operator.op} (operator {place}) names tensors {numbers}, there "
                    f"are {count}"
                )
    for number in (*model.inputs, *model.outputs):
        if not 0 <= number < count:
            raise Unreadable(f"the graph names tensor {number} of {count}")


def read_operator(node: Node) -> None:
    """Add the steps of one operator; raise for one that is not supported."""
    op, reader = node.operator.op, node.reader
    if op not in HANDLERS:
        raise node.refusal(f"supported are {', '.join(HANDLERS)}")
    check_kernels(node)
    for number in node.operator.outputs:
        known = number in {*reader.values, *reader.numbers, *reader.model.inputs}
        if known or reader.model.tensors[number].data is not None:
            raise node.damage("its output has a value already")
    if len(node.operator.outputs) > 1 and op != "SPLIT":
        raise node.refusal("it has one output")
    HANDLERS[op](node)


def check_kernels(node: Node) -> None:
    """Raise for an operator that the set of kernels does not have for its codes."""
    kernels, op = node.reader.kernels, node.operator.op
    if op in kernels.missing:
        raise node.refusal("these kernels do not have it")
    unsigned = any(node.has(i) and node.tensor(i).dtype == "uint8" for i in range(2))
    if unsigned and kernels.unsigned is not None and op not in kernels.unsigned:
        raise node.refusal(f"these kernels take uint8 in {list(kernels.unsigned)}")


def finish(reader: Reader, outputs: list[int]) -> IntegerNetwork:
    """Return the network whose last step is the last of the outputs."""
    missing = [reader.names[n] for n in outputs if n not in reader.values]
    if missing or not outputs:
        raise Unreadable(f"no operator computes the outputs {missing}")
    name = reader.values[outputs[-1]]
    step: Any = reader.steps.pop(name)
    if any(name in sources_of(other) for other in reader.steps.values()):
        reader.steps = put_back(reader.steps, step)
        options = {"shape": step.shape}
        name = f"{name}.output"
        step = OperationStep(
            name, (step.name,), ("x",), step.shape, "reshape", options, step.grid
        )
    reader.steps[name] = step
    return IntegerNetwork(tuple(reader.steps.values()))


def put_back(steps: Mapping[str, Any], step: Any) -> dict[str, Any]:
    """Put a step back before the first that reads it."""
    before: dict[str, Any] = {}
    for name, other in steps.items():
        if step.name in sources_of(other) and step.name not in before:
            before[step.name] = step
        before[name] = other
    return before


def explaining_kernels(
    path: str | os.PathLike[str], name: str, tensors: Mapping[str, Array]
) -> list[str]:
    """Return the kernels that compute a tensor of codes from what stands before it.

    tensors: those of a device by name, the image among them. What it lacks is computed.
    """
    explaining = []
    for kernels in KERNELS:
        try:
            network = import_tflite(path, kernels=kernels, until=name)
        except ValueError:
            continue  # an operator before is not known of these kernels
        values = network.trace(tensors[network.steps[0].name]) | dict(tensors)
        step = next(step for step in network.steps if step.name == name)
        codes = step.forward(values, integer)[name]
        if np.array_equal(codes, tensors[name]):
            explaining.append(kernels)
    return explaining
