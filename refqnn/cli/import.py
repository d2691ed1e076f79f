"""``refqnn import``: from an ONNX quantized model to a network of integers."""  # noqa: N999 - the name of the command

from argparse import Namespace
from pathlib import Path

from refqnn.cli.options import Answer, Parser


def arguments(command: Parser) -> None:
    """Add the options."""
    command.epilog = (
        "Every step computes what onnxruntime does, with its rounding. Steps carry the "
        "names of the model's tensors. What is refused is named, and why."
    )
    add = command.add_argument
    add("model", type=Path, help="ONNX model: QDQ or quantized operators (.onnx)")
    output = "file of the integer network (.npz)"
    add("-o", "--output", type=Path, required=True, help=output)
    add("--until", metavar="NAME", help="stop after this node, or this tensor")
    add("--listing", type=Path, help="write the listing to this file, too")


def run(options: Namespace) -> Answer:
    """Write the integer network of a model, and list it."""
    from refqnn.deploy import import_onnx
    from refqnn.files import check_writable, write_text

    check_writable(options.output, options.listing, keep=(options.model,))
    integer = import_onnx(options.model, until=options.until)
    integer.save(options.output)
    if options.listing is not None:
        write_text(options.listing, f"{integer}\n")
    answer = {
        "output": str(options.output),
        "steps": [step.name for step in integer.steps],
        "logit_scale": integer.logit_scale,
    }
    return answer, f"{integer}\nwrote {options.output}"
