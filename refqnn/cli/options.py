"""Options that commands share, and the types of their values."""

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: what a command answers: plain values, and text for people
Answer = tuple[dict[str, Any], str]
Parser = argparse.ArgumentParser
#: flag, type, default, help
Option = tuple[str, Callable[[str], Any], Any, str]
#: exit codes of a comparison
CONFORMS, MISMATCH, NOTHING = 0, 1, 3


def whole_number(text: str) -> int:
    """Return an int of at least 0, such as seeds a generator.

    >>> whole_number("12")
    12
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def count(text: str) -> int:
    """Return an int of at least 1."""
    if whole_number(text) == 0:
        raise argparse.ArgumentTypeError("must be at least 1, got 0")
    return int(text)


def plug_in(module: str) -> None:
    """Import a module by its dotted name, or a .py file, from the current folder too.

    Only ever what the command line names: nothing is imported by name from a file.
    Raises ValueError where there is no such module, or where it raises or exits.
    """
    folder, name = str(Path.cwd()), module
    if module.endswith(".py"):
        folder, name = str(Path(module).resolve().parent), Path(module).stem
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"--plugin {module} cannot be imported: {why}") from error


SEED: Option = ("--seed", whole_number, 0, "of everything random")
DATA: Option = (
    "--data",
    Path,
    None,
    "npz, or folder: IDX, CIFAR, train/CLASS; none: the embedded Fashion-MNIST subset",
)


def add_options(command: Parser, *options: Option) -> None:
    """Add options, each with its default in its help."""
    for flag, kind, default, text in options:
        shown = text if default is None else f"{text} ({default})"
        command.add_argument(flag, type=kind, default=default, help=shown)


def add_family(command: Parser) -> None:
    """Add the family of functions that a command is about."""
    command.add_argument("family", help="of functions; refqnn list ops, quantizers")


def add_profile(command: Parser) -> None:
    """Add the profile whose semantics count."""
    command.add_argument("--profile", default="refqnn", help="(refqnn)")


def add_where(command: Parser) -> None:
    """Add which values of arguments the calls have."""
    text = "only calls with this value of an argument, such as q_min=-128; repeatable"
    command.add_argument(
        "--where", type=named_number, action="append", metavar="NAME=VALUE", help=text
    )


def named_number(text: str, kind: Callable[[str], Any] = int) -> tuple[str, Any]:
    """Split NAME=NUMBER.

    >>> named_number("q_min=-128"), named_number("s=0.5", float)
    (('q_min', -128), ('s', 0.5))
    """
    name, _, value = text.partition("=")
    try:
        return name, kind(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"want NAME=NUMBER, got {text!r}") from error


def add_words(command: Parser) -> None:
    """Add how the words of a simulation are read; by default as the pack has them."""
    text = "bits of a word of results, of .hex and .csv (as the pack's results)"
    command.add_argument("--width", type=int, choices=(8, 16, 32, 64), help=text)
    text = "words are two's complement, or not (as the pack's results)"
    command.add_argument("--signed", action=argparse.BooleanOptionalAction, help=text)


def is_words(path: str) -> bool:
    """Say whether a file holds words of a simulation, by its name."""
    return path.endswith((".hex", ".csv"))


def width_of(options: argparse.Namespace, kind: dict[str, Any]) -> dict[str, Any]:
    """Return width, signedness and kind of words: as given, else those of ``words``.

    >>> options = argparse.Namespace(width=16, signed=None)
    >>> width_of(options, {"width": 8, "signed": True, "float": False})
    {'width': 16, 'signed': True, 'floating': False}
    """
    return {
        "width": options.width or kind["width"],
        "signed": kind["signed"] if options.signed is None else options.signed,
        "floating": kind["float"],
    }
