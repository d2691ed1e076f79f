"""``refqnn compare``: a model beside its integers, tensor by tensor."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from refqnn.cli.options import SEED, Answer, Parser, add_options, count


def arguments(command: Parser) -> None:
    """Add the options."""
    command.epilog = (
        "The model runs in onnxruntime or LiteRT, or has run on a device that wrote "
        "its tensors to a folder. Exit code 0: equal in every tensor of codes; 1: not; "
        "3: nothing was compared; 4: a file cannot be read."
    )
    add = command.add_argument
    add("model", type=Path, help="the model (.onnx, .tflite)")
    add("network", type=Path, help="what refqnn import has written (.npz)")
    given = "inputs of the model (.npy): (N, C, H, W) float32, or codes; else random"
    add("--images", type=Path, help=given)
    add("--kernels", default="reference", help="of LiteRT (reference)")
    add("--dumps", type=Path, help="folder of NAME.npy, or of .bin and tensors.json")
    add("--html", type=Path, help="write the comparison as one page, too")
    add_options(command, ("--count", count, 4, "of images"), SEED)


def run(options: Namespace) -> Answer:
    """Compare the codes of every step."""
    from refqnn.cli.inputs import is_tflite
    from refqnn.conformance.traces.report import html_page
    from refqnn.deploy import IntegerNetwork
    from refqnn.files import check_writable, write_text

    read = (options.model, options.network, options.images)
    check_writable(options.html, keep=read)
    network = IntegerNetwork.load(options.network)
    explaining: list[str] = []
    if options.dumps is not None or is_tflite(options.model):
        comparison, explaining = compare_tflite(options, network)
    else:
        comparison = compare_onnx(options, network)
    if options.html is not None:
        write_text(options.html, html_page(comparison, options.model.name))
    answer = comparison.as_dict() | {"exit_code": comparison.exit_code}
    if not explaining:
        return answer, str(comparison)
    line = f"the first is what these kernels compute: {', '.join(explaining)}"
    return answer | {"explaining_kernels": explaining}, f"{comparison}\n{line}"


def compare_onnx(options: Namespace, network: Any) -> Any:
    """Run an ONNX model on given or random images."""
    import numpy as np

    from refqnn.conformance.traces.report import compare_model
    from refqnn.deploy.formats.onnx_read import read_model
    from refqnn.files import read_npy

    model = read_model(options.model)
    if options.images is not None:
        x = read_npy(options.images)[: options.count]
    else:
        shape = (options.count, *network.image_shape)
        x = np.random.default_rng(options.seed).normal(size=shape).astype(np.float32)
        if model.graph.input[0].type.tensor_type.elem_type == 2:  # uint8
            x = np.clip(128 + 64 * x, 0, 255).astype(np.uint8)
    return compare_model(network, model, x)


def compare_tflite(options: Namespace, network: Any) -> tuple[Any, list[str]]:
    """Run a TFLite model on given or random codes, or read what a device computed.

    Returns the comparison and the kernels that explain the first tensor that differs.
    """
    import numpy as np

    from refqnn.cli.inputs import is_tflite
    from refqnn.conformance.traces.report import compare_tensors
    from refqnn.deploy.formats.tflite_dumps import read_dumps
    from refqnn.deploy.formats.tflite_import import explaining_kernels
    from refqnn.deploy.formats.tflite_run import names_of, run_steps
    from refqnn.files import read_npy
    from refqnn.integer import code_dtype

    image = network.steps[0]
    low, high = image.grid.q_min, image.grid.q_max
    if options.images is not None:
        x = read_npy(options.images)[: options.count]
    else:
        rng, shape = np.random.default_rng(options.seed), image.shape
        codes = rng.integers(low, high, (options.count, *shape), endpoint=True)
        x = codes.astype(code_dtype(low, high))
    if options.dumps is None:
        tensors = run_steps(options.model, network.steps, x, options.kernels)
    else:
        tensors = read_dumps(options.dumps, network.steps)
        if image.name not in tensors and options.images is not None:
            tensors[image.name] = x
    comparison = compare_tensors(network, tensors)
    if not is_tflite(options.model):
        return comparison, []
    names, bisection = names_of(options.model), comparison.bisection
    missing = [name for name in bisection.missing if name in names]
    comparison = comparison._replace(bisection=replace(bisection, missing=missing))
    first = bisection.first
    if first is None:
        return comparison, []
    return comparison, explaining_kernels(options.model, first.name, tensors)
