"""The command line: ``refqnn COMMAND``; ``refqnn --help`` lists the commands.

A command is a file of this folder with ``arguments``, which adds its options, and
``run``, which answers twice: as plain values for JSON, and as text for people. The file
is imported when its command is called, and what computes when it runs, so that help
answers at once. Whatever the library refuses becomes one line on standard error. With
``--json`` standard output is one JSON object and nothing else. Nothing is coloured.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO

import refqnn
from refqnn.cli.interrupts import raise_again
from refqnn.cli.options import plug_in

#: exit codes: a claim does not hold; wrong input, unless the error has its own; Ctrl-C
FAILED, WRONG, INTERRUPTED = 1, 2, 130
#: command, which is also the name of its file in this folder -> what it does
COMMANDS = {
    "demo": "train a float and a 4-bit ResNet, deploy to integers, check every claim",
    "train": "train a residual network, in floating point or in few bits",
    "deploy": "turn a trained low-bit network into one that computes with integers "
    "only",
    "import": "turn an ONNX quantized model into a network that computes with integers "
    "only",
    "compare": "compare an ONNX model with its integers, tensor by tensor",
    "evaluate": "measure the test accuracy of a checkpoint or of an integer network",
    "size": "count the bits of a network's weights, its multiply-adds and its memory",
    "export": "write a network as ONNX or QONNX, a pack as c-header, hex, csv or "
    "safetensors",
    "trace": "write every tensor of an integer network to a file, for a few test "
    "images",
    "bisect": "find the first tensor that another implementation has differently",
    "study": "list the studies of the papers, or run one: table and figures",
    "list": "list ops, quantizers, profiles, axes or checks",
    "explain": "print the equations of a name, and a number's way through its lines",
    "step": "open the debugger at the first equation of a small example",
    "generate": "write a pack: vectors with a purpose",
    "verify": "compare outputs (CASE/NAME in an .npz) with a pack; - alone: with a "
    "stream",
    "probe": "write the inputs that separate all variants",
    "identify": "say which variants gave these outputs to a file of probes",
    "score": "list what a pack, or ONNX, TOSA or CMSIS-NN test data, do not detect",
    "convert": "write such a folder as packs",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done, conforms; 1: a claim does not hold, a mismatch; 2: wrong options or values,
    a file that cannot be written; 3: nothing was checked; 4: a file that is missing,
    damaged or of another kind; 130: Ctrl-C.

    >>> main(["evaluate", "absent.npz"])
    4
    """
    words = sys.argv[1:] if argv is None else [*argv]  # list is a command here
    called = next((word for word in words if word in COMMANDS), None)
    try:
        with raise_again():
            options = parser(called).parse_args(words)
            for module in options.plugin:
                plug_in(module)
            answer, text = options.run(options)
        printed = json.dumps(answer) if options.json else text
        if printed:
            say(printed, sys.stdout)
    except BrokenPipeError:
        return broken_pipe()
    except (ValueError, OSError, OverflowError, MemoryError) as error:
        complain(f"error: {one_line(error)}")
        return int(getattr(error, "exit_code", WRONG))
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    return int(answer.get("exit_code", FAILED if answer.get("holds") is False else 0))


def parser(called: str | None) -> argparse.ArgumentParser:
    """Return the parser of all commands, with the options of the one that is called."""
    whole = argparse.ArgumentParser(
        prog="refqnn",
        description="Reference arithmetic of quantized convolutional networks.",
    )
    version = f"refqnn {refqnn.__version__}"
    whole.add_argument("--version", action="version", version=version)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        description = f"{summary[0].upper()}{summary[1:]}."
        command = commands.add_parser(name, help=summary, description=description)
        if name == called:
            add_arguments(command, name)
    return whole


def add_arguments(command: argparse.ArgumentParser, name: str) -> None:
    """Add the options that a command's file declares, and --json."""
    file: Any = importlib.import_module(f"refqnn.cli.{name}")
    command.set_defaults(run=file.run)
    command.add_argument(
        "--json", action="store_true", help="answer as one JSON object"
    )
    text = "import a module or a .py file first, which may register methods; repeatable"
    command.add_argument(
        "--plugin", action="append", default=[], metavar="MODULE", help=text
    )
    file.arguments(command)


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks, and never nothing.

    >>> one_line(ValueError("bits must   be an int")), one_line(OSError())
    ('bits must be an int', 'OSError')
    """
    from refqnn.files import printable

    return printable(" ".join(str(error).split())) or type(error).__name__


def say(text: str, stream: TextIO | None) -> None:
    """Write a text, characters that the stream lacks escaped; None: it is closed."""
    if stream is None:
        return
    try:
        print(text, file=stream, flush=True)
    except UnicodeEncodeError:
        escaped = text.encode(stream.encoding, "backslashreplace")
        print(escaped.decode(stream.encoding), file=stream, flush=True)


def complain(message: str) -> None:
    """Write a line on standard error, if anybody can read it."""
    with suppress(OSError):
        say(f"refqnn: {message}", sys.stderr)


def broken_pipe() -> int:
    """Leave quietly when the reader of standard output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED
