"""``refqnn compare``: an ONNX model beside its integers, tensor by tensor."""

from argparse import Namespace
from pathlib import Path

from refqnn.cli.options import (
    SEED,
    Answer,
    Parser,
    add_options,
    count,
)


def arguments(command: Parser) -> None:
    """Add the options."""
    command.epilog = (
        "The model runs in onnxruntime. Exit code 0: equal in every tensor of codes; "
        "1: not; 3: nothing was compared; 4: a file cannot be read."
    )
    add = command.add_argument
    add("model", type=Path, help="ONNX model (.onnx)")
    add("network", type=Path, help="what refqnn import has written (.npz)")
    given = "inputs of the model (.npy): (N, C, H, W) float32, or uint8; else random"
    add("--images", type=Path, help=given)
    add("--html", type=Path, help="write the comparison as one page, too")
    add_options(command, ("--count", count, 4, "of images"), SEED)


def run(options: Namespace) -> Answer:
    """Compare the codes of every step."""
    import numpy as np

    from refqnn.conformance.traces.report import compare_model, html_page
    from refqnn.deploy import IntegerNetwork
    from refqnn.deploy.formats.onnx_read import read_model
    from refqnn.files import check_writable, read_npy, write_text

    read = (options.model, options.network, options.images)
    check_writable(options.html, keep=read)
    network, model = IntegerNetwork.load(options.network), read_model(options.model)
    if options.images is not None:
        x = read_npy(options.images)[: options.count]
    else:
        shape = (options.count, *network.image_shape)
        x = np.random.default_rng(options.seed).normal(size=shape).astype(np.float32)
        if model.graph.input[0].type.tensor_type.elem_type == 2:  # uint8
            x = np.clip(128 + 64 * x, 0, 255).astype(np.uint8)
    comparison = compare_model(network, model, x)
    if options.html is not None:
        write_text(options.html, html_page(comparison, options.model.name))
    answer = comparison.as_dict() | {"exit_code": comparison.exit_code}
    return answer, str(comparison)
