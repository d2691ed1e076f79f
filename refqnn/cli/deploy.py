"""``refqnn deploy``: from a checkpoint to a network that computes with integers."""

from argparse import Namespace
from pathlib import Path

from refqnn.cli.options import Answer, Parser, count


def arguments(command: Parser) -> None:
    """Add the options."""
    command.epilog = (
        "Prints a listing, layer by layer: shapes, scales, multipliers, shifts, widths "
        "of accumulators."
    )
    add = command.add_argument
    add("checkpoint", type=Path, help="what refqnn train has written")
    add("output", type=Path, help="file of the integer network (.npz)")
    size = "of the images it will run on (28 28)"
    names = ("H", "W")
    add("--image-size", type=count, nargs=2, default=(28, 28), metavar=names, help=size)
    add("--listing", type=Path, help="write the listing to this file, too")
    same = "round as QLinearConv of onnxruntime does: float32, whole biases"
    add("--onnxruntime", action="store_true", help=same)


def run(options: Namespace) -> Answer:
    """Write the integer network of a checkpoint, and list it."""
    from refqnn.cli.inputs import load_network
    from refqnn.deploy import deploy
    from refqnn.files import check_writable, write_text

    check_writable(options.output, options.listing, keep=(options.checkpoint,))
    h, w = options.image_size
    integer = deploy(
        load_network(options.checkpoint),
        image_size=(h, w),
        finer_bias=not options.onnxruntime,
        requantize="float32_half_even" if options.onnxruntime else "half_up",
    )
    integer.save(options.output)
    if options.listing is not None:
        write_text(options.listing, f"{integer}\n")
    answer = {
        "output": str(options.output),
        "steps": [step.name for step in integer.steps],
        "logit_scale": integer.logit_scale,
    }
    return answer, f"{integer}\nwrote {options.output}"
