"""``refqnn export``: a network as ONNX, QONNX or TFLite, a pack in other formats."""

from argparse import Namespace
from pathlib import Path

from refqnn.cli.options import Answer, Parser

#: forms of a network, the default first; what is written of a pack, with its suffix
NETWORKS = ("onnx-exact", "onnx-qoperator", "onnx-qdq", "qonnx", "tflite")
PACKS = {"c-header": "h", "hex": "hex", "csv": "csv", "safetensors": "safetensors"}


def arguments(command: Parser) -> None:
    """Add the options."""
    command.epilog = (
        "The exact form computes in any runtime what refqnn does; of the others the "
        "layers that may differ are listed. OpenVINO multiplies int64 in 32 bits: "
        "--for openvino writes float32 there. Needs pip install refqnn[onnx]."
    )
    add = command.add_argument
    add("network", type=Path, help="an integer network, a checkpoint, or a pack")
    add("-o", "--output", type=Path, help="file to write (beside what it is made of)")
    add("--for", dest="runtime", choices=("any", "openvino"), default="any",
        help="the runtime that will run an ONNX model (any)")  # fmt: skip
    text = f"({NETWORKS[0]})"
    add("--format", choices=(*NETWORKS, *PACKS), default=NETWORKS[0], help=text)


def run(options: Namespace) -> Answer:
    """Write an ONNX model, and list the layers that may differ; or a pack's vectors."""
    from refqnn.files import check_writable

    if options.runtime != "any" and not options.format.startswith("onnx-"):
        raise ValueError(f"--for is for ONNX models, not --format {options.format}")
    if options.output is None:
        suffix = (PACKS | {"tflite": "tflite"}).get(options.format, "onnx")
        options.output = options.network.with_suffix(f".{suffix}")
    if options.output != Path("-"):
        check_writable(options.output, keep=(options.network,))
    return export_pack(options) if options.format in PACKS else export_network(options)


def export_network(options: Namespace) -> Answer:
    """Write an ONNX model, and list the layers that may differ in it."""
    from refqnn import deploy
    from refqnn.cli.inputs import load_either
    from refqnn.files import write_bytes

    network = load_either(options.network)
    whole = isinstance(network, deploy.IntegerNetwork)
    if whole == (options.format == "qonnx"):
        needed = "a checkpoint" if whole else "an integer network"
        raise ValueError(f"--format {options.format} needs {needed}: {options.network}")
    lines: list[str] = []
    if options.format == "tflite" and isinstance(network, deploy.IntegerNetwork):
        write_bytes(options.output, deploy.to_tflite(network))
        lines = deploy.inexact_in_tflite(network)
        text = "\n".join([*lines, f"wrote {options.output}"])
        return {"output": str(options.output), "inexact": lines}, text
    if isinstance(network, deploy.IntegerNetwork):
        form = options.format.removeprefix("onnx-")
        model = deploy.to_onnx(network, form=form, runtime=options.runtime)
        lines = deploy.inexact(network, form, options.runtime)
    else:
        model = deploy.to_qonnx(network)
    deploy.save_model(options.output, model)
    text = "\n".join([*lines, f"wrote {options.output}"])
    return {"output": str(options.output), "inexact": lines}, text


def export_pack(options: Namespace) -> Answer:
    """Write the vectors of a pack in another format."""
    from refqnn.cli.inputs import send
    from refqnn.conformance.reach import pack_files
    from refqnn.conformance.reach.exports import export
    from refqnn.files import write_bytes

    content = export(pack_files.read(options.network), options.format)
    if str(options.output) == "-":
        send(content, json=options.json)
        return {}, ""
    write_bytes(options.output, content)
    answer = {"file": str(options.output), "bytes": len(content)}
    return answer, f"wrote {options.output}"
