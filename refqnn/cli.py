"""The command line: ``refqnn COMMAND``; ``refqnn --help`` lists the commands.

Whatever the library refuses becomes one line on standard error and exit code 2. With
``--json`` standard output is one JSON object and nothing else. Nothing is coloured.
What a command does is in ``refqnn.commands``, loaded when one runs, so that ``--help``
answers at once.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import refqnn

#: exit codes: a claim does not hold; wrong input, unless the error has its own; Ctrl-C
FAILED, WRONG, INTERRUPTED = 1, 2, 130
#: what ``refqnn export`` writes of a pack of vectors
PACK_FORMS = ("c-header", "hex", "csv", "safetensors")
Option = tuple[str, Callable[[str], Any], Any, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done, conforms; 1: a claim does not hold, a mismatch; 2: wrong input; 3: nothing
    was checked; 4: a file that cannot be read; 130: Ctrl-C.

    >>> main(["evaluate", "absent.npz"])
    2
    """
    options = parser().parse_args(argv)
    try:
        commands = importlib.import_module(options.module)
        found, text = getattr(commands, options.command)(options)
        told = json.dumps(found) if options.json else text
        if told:
            print(told, flush=True)
    except BrokenPipeError:
        return broken_pipe()
    except (ValueError, OSError, OverflowError, MemoryError) as error:
        print(f"refqnn: error: {one_line(error)}", file=sys.stderr)
        return int(getattr(error, "exit_code", WRONG))
    except KeyboardInterrupt:
        print("refqnn: interrupted", file=sys.stderr)
        return INTERRUPTED
    return int(found.get("exit_code", FAILED if found.get("holds") is False else 0))


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks, and never nothing.

    >>> one_line(ValueError("bits must   be an int")), one_line(OSError())
    ('bits must be an int', 'OSError')
    """
    return " ".join(str(error).split()) or type(error).__name__


def broken_pipe() -> int:
    """Leave quietly when the reader of standard output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def whole_number(text: str) -> int:
    """Return an int of at least 0, which is what seeds a generator."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def count(text: str) -> int:
    """Return an int of at least 1."""
    if whole_number(text) == 0:
        raise argparse.ArgumentTypeError("must be at least 1, got 0")
    return int(text)


def beside(text: str) -> str:
    """Return the name of a file to write, or how its name starts: its folder exists.

    >>> beside("figure.png"), beside("figure")
    ('figure.png', 'figure')
    """
    folder = Path(f"{text}.").parent
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {folder}, got {text!r}")
    return text


SEED: Option = ("--seed", whole_number, 0, "of everything random")
DATA: Option = (
    "--data",
    Path,
    None,
    "folder of IDX or CIFAR binary files; none: the embedded Fashion-MNIST subset",
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    whole = argparse.ArgumentParser(
        prog="refqnn",
        description="Reference arithmetic of quantized convolutional networks.",
    )
    version = f"refqnn {refqnn.__version__}"
    whole.add_argument("--version", action="version", version=version)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        add_demo,
        add_train,
        add_deploy,
        add_evaluate,
        add_size,
        add_export,
        add_trace,
        add_bisect,
        add_study,
    ):
        add(commands)
    for name, (summary, arguments) in CONFORMANCE.items():
        add_conformance(commands, name, summary, arguments)
    return whole


def add_demo(commands: Any) -> None:
    """Add ``refqnn demo``."""
    add = add_command(
        commands,
        "demo",
        "train a float and a 4-bit ResNet, deploy to integers, check every claim",
        "Writes a figure, the networks, a listing and a report.",
    )
    add_options(add, ("--output", Path, Path("runs/demo"), "folder for the results"))
    add_options(add, SEED)
    add("--quick", action="store_true", help="smaller networks, fewer images")


def add_train(commands: Any) -> None:
    """Add ``refqnn train``."""
    add = add_command(
        commands,
        "train",
        "train a residual network, in floating point or in few bits",
        "Killed at any moment, it goes on from the last epoch with --resume, to the "
        "same bits, if the other options are the same.",
    )
    add("checkpoint", type=Path, help="file to write after every epoch (.npz)")
    add_options(
        add,
        ("--depth", int, 20, "6n + 2"),
        ("--width", float, 1.0, "multiplies the channels 16, 32, 64"),
        ("--weight-bits", int, None, "none: float weights"),
        ("--activation-bits", int, None, "none: float activations"),
        ("--bits", int, None, "sets both"),
        ("--epochs", count, 15, "all, those before a resume included"),
        ("--batch", count, 100, "images in a step"),
        ("--lr", float, 0.1, "highest learning rate; cosine schedule"),
        ("--warmup", float, 0.5, "epochs of linear warm-up"),
        ("--weight-decay", float, 5e-4, "of weights only"),
        SEED,
        ("--metrics", Path, None, "file of JSON lines, one an epoch"),
        DATA,
    )
    add("--resume", action="store_true", help="continue what CHECKPOINT holds")


def add_deploy(commands: Any) -> None:
    """Add ``refqnn deploy``."""
    add = add_command(
        commands,
        "deploy",
        "turn a trained low-bit network into one that computes with integers only",
        "Prints a listing, layer by layer: shapes, scales, multipliers, shifts, widths "
        "of accumulators.",
    )
    add("checkpoint", type=Path, help="what refqnn train has written")
    add("output", type=Path, help="file of the integer network (.npz)")
    size = "of the images it will run on (28 28)"
    names = ("H", "W")
    add("--image-size", type=count, nargs=2, default=(28, 28), metavar=names, help=size)
    add_options(add, ("--listing", Path, None, "write the listing to this file, too"))
    same = "round as QLinearConv of onnxruntime does: float32, whole biases"
    add("--onnxruntime", action="store_true", help=same)


def add_evaluate(commands: Any) -> None:
    """Add ``refqnn evaluate``."""
    add = add_command(
        commands,
        "evaluate",
        "measure the test accuracy of a checkpoint or of an integer network",
        "",
    )
    add("network", type=Path, help="a checkpoint or an integer network (.npz)")
    sides = ("fast", "definition")
    add("--backend", choices=sides, default="fast", help="which side computes (fast)")
    add_options(add, DATA)


def add_export(commands: Any) -> None:
    """Add ``refqnn export``."""
    add = add_command(
        commands,
        "export",
        "write a network as ONNX or QONNX, a pack as c-header, hex, csv or safetensors",
        "The exact form computes in any runtime what refqnn does; of the others the "
        "layers that may differ are listed. Needs pip install refqnn[onnx].",
    )
    add("network", type=Path, help="an integer network, a checkpoint, or a pack")
    add("-o", "--output", type=Path, help="file to write (beside what it is made of)")
    forms = ("onnx-exact", "onnx-qoperator", "onnx-qdq", "qonnx", *PACK_FORMS)
    add("--format", choices=forms, default=forms[0], help=f"({forms[0]})")


def add_trace(commands: Any) -> None:
    """Add ``refqnn trace``."""
    add = add_command(
        commands,
        "trace",
        "write every tensor of an integer network to a file, for a few test images",
        "",
    )
    add("network", type=Path, help="what refqnn deploy has written")
    add("-o", "--output", type=Path, required=True, help="file of the trace (.npz)")
    add_options(
        add,
        ("--images", count, 4, "the first ones of the test images"),
        ("--hex", Path, None, "folder for one file a tensor, a value a line"),
        ("--c-header", Path, None, "folder for one C header a tensor"),
        DATA,
    )


def add_bisect(commands: Any) -> None:
    """Add ``refqnn bisect``."""
    add = add_command(
        commands,
        "bisect",
        "find the first tensor that another implementation has differently",
        "Exit code 0: what was compared is equal; 1: not; 3: nothing was compared; "
        "4: a file cannot be read.",
    )
    add("reference", type=Path, help="what refqnn trace has written")
    add("other", type=Path, help="arrays under the same names (.npz)")
    same = "compare values whatever the dtypes"
    add("--any-dtype", action="store_true", help=same)


def add_study(commands: Any) -> None:
    """Add ``refqnn study``."""
    add = add_command(
        commands,
        "study",
        "list the studies of the papers, or run one: table and figures",
        "What has run is recorded when it ends; what was cut off is run again.",
    )
    commands.choices["study"].set_defaults(module="refqnn.studies.command")
    add("name", nargs="?", metavar="NAME", help="none: list the studies")
    add("--quick", action="store_true", help="a look at the program, not at numbers")
    add("--seeds", type=whole_number, nargs="+", help="of the trainings")
    add("--runs", type=Path, metavar="FOLDER", help="of the records (runs/NAME)")
    add("--workers", type=count, metavar="N", help="processes (one a core)")
    add("--cluster", metavar="ADDRESS", help="of a scheduler of Dask, instead")
    add("--figure", type=Path, metavar="PATH", help="(FOLDER/NAME.png)")
    text = "settings of the study; --set alone lists them"
    add("--set", nargs="*", action="extend", metavar="KEY=VALUE", help=text)


def add_size(commands: Any) -> None:
    """Add ``refqnn size``."""
    add = add_command(
        commands,
        "size",
        "count the bits of a network's weights, its multiply-adds and its memory",
        "First and last layer have 8-bit weights. Footprints are those of one image: "
        "the largest input map plus the largest output map plus all weights; of any "
        "two layers (separate) or of one layer (joint). Depth-wise weights: --bits, "
        "or 4 in mobilenetv2 as the paper counts it.",
    )
    add("network", help="resnet20 to resnet56, vgg11, vgg11a, mobilenetv2, ...")
    add_options(
        add,
        ("--width", float, 1.0, "multiplies channels"),
        ("--bits", int, 8, "of weights"),
        ("--depthwise-bits", int, None, "of depth-wise weights (see above)"),
        ("--activation-bits", int, 8, "of maps, in the footprints, too"),
    )
    ways = ("paper", "common")
    told = "what the multiplier does to ImageNet networks (paper): recovered or usual"
    add("--counting", choices=ways, default="paper", help=told)


OUTPUT = ("--output", "-o")
PROFILE = ("--profile",)
STREAM = ("--stream",)
#: name -> (summary, arguments); a name without -- is positional
CONFORMANCE: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "list": ("list ops, quantizers, profiles, axes or checks", (("what",),)),
    "explain": (
        "print the equations of a family under a profile",
        (("family",), PROFILE),
    ),
    "generate": (
        "write a pack: vectors with a purpose",
        (("family",), PROFILE, OUTPUT, STREAM),
    ),
    "verify": (
        "compare outputs (CASE/NAME in an .npz) with a pack; - alone: with a stream",
        (("pack",), ("outputs", "?")),
    ),
    "probe": ("write the inputs that separate all variants", (("family",), OUTPUT)),
    "identify": (
        "say which variants gave these outputs to a file of probes",
        (("probes",), ("outputs",)),
    ),
    "score": (
        "list what a pack, or ONNX, TOSA or CMSIS-NN test data, do not detect",
        (("pack",),),
    ),
    "convert": ("write such a folder as packs", (("goldens",), OUTPUT)),
}


def add_conformance(
    commands: Any, name: str, summary: str, arguments: Sequence[tuple[str, ...]]
) -> None:
    """Add a command of ``refqnn.conformance``."""
    add = add_command(commands, name, summary, "")
    for flags in arguments:
        if flags == STREAM:
            add(*flags, action="store_true", help="one JSON object a line, to a pipe")
        elif flags[0].startswith("-"):
            add(*flags, default="refqnn" if flags == PROFILE else None)
        else:
            add(flags[0], nargs="?" if flags[1:] else None)
    commands.choices[name].set_defaults(module="refqnn.conformance.command_line")


def add_command(
    commands: Any, name: str, summary: str, more: str
) -> Callable[..., argparse.Action]:
    """Add a command; return the function that adds its arguments."""
    said = f"{summary[0].upper()}{summary[1:]}. {more}"
    command = commands.add_parser(name, help=summary, description=said)
    command.set_defaults(command=name, module="refqnn.commands")
    command.add_argument(
        "--json", action="store_true", help="answer as one JSON object"
    )
    add: Callable[..., argparse.Action] = command.add_argument
    return add


def add_options(add: Callable[..., argparse.Action], *options: Option) -> None:
    """Add options of the form (flag, type, default, help)."""
    for flag, kind, default, text in options:
        shown = text if default is None else f"{text} ({default})"
        add(flag, type=kind, default=default, help=shown)
