"""``refqnn import``: from a quantized model, or a test of one layer, to integers."""  # noqa: N999 - the name of the command

from argparse import Namespace
from pathlib import Path

from refqnn.cli.options import Answer, Parser

#: sets of kernels of TFLite, the default first
KERNELS = ("reference", "optimized", "xnnpack", "tflite-micro")


def arguments(command: Parser) -> None:
    """Add the options."""
    command.epilog = (
        "Every step computes what the runtime does, with its rounding: onnxruntime, or "
        "the kernels of TFLite that are named. Steps carry the names of the model's "
        "tensors. What is refused is named, and why. A folder is a unit test of "
        "CMSIS-NN (config_data.h) or a RESCALE of TOSA (desc.json): one layer."
    )
    add = command.add_argument
    add("model", type=Path, help="quantized model (.onnx, .tflite), or a folder")
    output = "file of the integer network (.npz)"
    add("-o", "--output", type=Path, required=True, help=output)
    add("--until", metavar="NAME", help="stop after this node, or this tensor")
    add("--kernels", metavar="KERNELS", help=f"of TFLite: {', '.join(KERNELS)}")
    add("--listing", type=Path, help="write the listing to this file, too")


def run(options: Namespace) -> Answer:
    """Write the integer network of a model, and list it."""
    from refqnn.cli.inputs import is_tflite
    from refqnn.deploy import import_onnx, import_tflite
    from refqnn.files import check_writable, write_text

    check_writable(options.output, options.listing, keep=(options.model,))
    recorded = None
    if options.model.is_dir():
        from refqnn.conformance.reach.goldens.networks import read_network

        if options.until is not None or options.kernels is not None:
            raise ValueError("--until and --kernels are for models, not for a folder")
        recorded = read_network(options.model)
        integer = recorded.network
    elif is_tflite(options.model):
        kernels = options.kernels or KERNELS[0]
        integer = import_tflite(options.model, kernels=kernels, until=options.until)
    elif options.kernels is not None:
        raise ValueError(f"--kernels is for TFLite models, not {options.model}")
    else:
        integer = import_onnx(options.model, until=options.until)
    integer.save(options.output)
    if options.listing is not None:
        write_text(options.listing, f"{integer}\n")
    answer = {
        "output": str(options.output),
        "steps": [step.name for step in integer.steps],
        "logit_scale": integer.logit_scale,
    }
    text = f"{integer}\nwrote {options.output}"
    if recorded is not None:
        counts = {"recorded": recorded.y.size, "equal": recorded.equal()}
        answer |= counts
        text += "\nequal to {equal} of {recorded} recorded codes".format(**counts)
    return answer, text
