"""``refqnn trace``: every tensor of an integer network, for a few test images."""

from argparse import Namespace
from pathlib import Path

from refqnn.cli.options import DATA, Answer, Parser, add_options, count


def arguments(command: Parser) -> None:
    """Add the options."""
    add = command.add_argument
    add("network", type=Path, help="what refqnn deploy has written")
    add("-o", "--output", type=Path, required=True, help="file of the trace (.npz)")
    add_options(
        command,
        ("--images", count, 4, "the first ones of the test images"),
        ("--hex", Path, None, "folder for one file a tensor, a value a line"),
        ("--c-header", Path, None, "folder for one C header a tensor"),
        DATA,
    )


def run(options: Namespace) -> Answer:
    """Write the trace, and where asked the files that a simulation reads."""
    from refqnn import conformance, fast
    from refqnn.cli.inputs import load_data
    from refqnn.deploy import IntegerNetwork
    from refqnn.files import check_folder, check_writable

    check_writable(options.output, keep=(options.network,))
    for folder in (options.hex, options.c_header):
        check_folder(folder)
    network = IntegerNetwork.load(options.network)
    images = load_data(options.data).test_images[: options.images]
    trace = conformance.trace(network, images, fast)
    trace.save(options.output)
    for form, folder in (("hex", options.hex), ("c-header", options.c_header)):
        if folder is not None:
            conformance.write_vectors(trace, folder, form=form)
    shapes = {name: list(array.shape) for name, array in trace.tensors.items()}
    text = f"wrote {len(shapes)} tensors of {len(images)} images to {options.output}"
    return {"output": str(options.output), "tensors": shapes}, text
