"""Run a TFLite model in LiteRT, or in TensorFlow Lite Micro; show every tensor."""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.deploy.formats.onnx_graph import package
from refqnn.deploy.formats.tflite_graph import TO_PIXELS, planes, unique_names
from refqnn.deploy.formats.tflite_read import parse_model
from refqnn.deploy.formats.tflite_write import write_model
from refqnn.deploy.operations import dequantize32
from refqnn.deploy.steps import Step
from refqnn.files import read_bytes

#: kernels -> the resolver that chooses them
RESOLVERS = {
    "reference": "BUILTIN_REF",
    "optimized": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "xnnpack": "AUTO",
}
#: the kernels of TensorFlow Lite Micro, whose wheel is tflite-micro
MICRO = "tflite-micro"


def interpreter_of(model: bytes, kernels: str) -> Any:
    """Return LiteRT's interpreter of a model, one thread.

    Raises ValueError where ai-edge-litert is not installed, and for unknown kernels.
    """
    if kernels not in RESOLVERS:
        raise ValueError(
            f"kernels must be one of {[*RESOLVERS, MICRO]}, got {kernels!r}"
        )
    litert = package("ai_edge_litert.interpreter", "tflite")
    interpreter = litert.Interpreter(
        model_content=model,
        num_threads=1,
        experimental_op_resolver_type=litert.OpResolverType[RESOLVERS[kernels]],
    )
    interpreter.allocate_tensors()
    return interpreter


def runner_of(
    model: bytes, outputs: int, kernels: str
) -> Callable[[list[Array]], list[Array]]:
    """Return a function that computes the outputs of a model from its inputs."""
    if kernels == MICRO:
        return micro_runner(model, outputs)
    litert = interpreter_of(model, kernels)
    entries = [detail["index"] for detail in litert.get_input_details()]
    places = [detail["index"] for detail in litert.get_output_details()]

    def run(inputs: list[Array]) -> list[Array]:
        for entry, array in zip(entries, inputs, strict=True):
            litert.set_tensor(entry, np.ascontiguousarray(array))
        litert.invoke()
        return [np.asarray(litert.get_tensor(place)) for place in places]

    return run


def micro_runner(model: bytes, outputs: int) -> Callable[[list[Array]], list[Array]]:
    """Return ``runner_of`` of TensorFlow Lite Micro, with memory for all tensors."""
    runtime = package("tflite_micro", "tflite").runtime
    codes = sum(math.prod(t.shape) for t in parse_model(model).tensors)
    size = 2**18 + 10 * len(model) + 8 * codes
    micro = runtime.Interpreter.from_bytes(model, arena_size=size)

    def run(inputs: list[Array]) -> list[Array]:
        for i, array in enumerate(inputs):
            micro.set_input(np.ascontiguousarray(array), i)
        micro.invoke()
        return [np.array(micro.get_output(i)) for i in range(outputs)]

    return run


def names_of(path: str | os.PathLike[str]) -> set[str]:
    """Return the names of the tensors of a file, as steps carry them."""
    return set(unique_names(parse_model(read_bytes(path)).tensors))


def run_steps(
    path: str | os.PathLike[str], steps: tuple[Step, ...], x: Array, kernels: str
) -> dict[str, Array]:
    """Return the tensors of a file that steps hold, by name; x: codes of the image

    A model that quantizes its input is given the real numbers that the codes stand for.
    """
    model, image = read_bytes(path), steps[0]
    graph = parse_model(model)
    if graph.tensors[graph.inputs[0]].dtype == "float32":
        x = dequantize32(x, image.grid).astype(np.float32)
    tensors = tflite_trace(model, x, kernels)
    return {step.name: tensors[step.name] for step in steps if step.name in tensors}


def tflite_trace(model: bytes, x: Array, kernels: str) -> dict[str, Array]:
    """Return every tensor of codes or real numbers, by name, with the model's input.

    x: (N, C, H, W) or (N, I), the input of the model  ->  tensors of N images, channels
    first where they are planes

    The model is written anew with all of them as outputs: a delegate then keeps them,
    and Micro does not reuse their memory.
    """
    graph = parse_model(model)
    outputs = [n for operator in graph.operators for n in operator.outputs]
    computed = [n for n in outputs if graph.tensors[n].dtype not in {"int32", "int64"}]
    names = unique_names(graph.tensors)
    shown = graph._replace(outputs=tuple(computed))
    run = runner_of(write_model(shown), len(computed), kernels)
    parts: dict[str, list[Array]] = {names[n]: [] for n in computed}
    for image in x:
        pixels = image[None].transpose(TO_PIXELS) if x.ndim == 4 else image[None]
        arrays = run([pixels])
        for held, array in zip(parts.values(), arrays, strict=True):
            held.append(planes(array))
    tensors = {name: np.concatenate(held) for name, held in parts.items() if held}
    return {names[graph.inputs[0]]: x, **tensors}
