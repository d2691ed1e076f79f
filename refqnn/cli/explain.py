"""``refqnn explain NAME``: citation, equations and choices of a quantizer or an op.

NAME is a function of ``refqnn.quantizers``, ``ops`` or ``integer``, or a family of the
conformance kit; where it is both, the equations of the family follow, under a profile.
``--at VALUE`` computes a quantizer, ``requantize`` or ``gate`` at a value: every number
of its cache, the lines that are passed forward and backward, and their equations.
"""

import difflib
import importlib
import inspect
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from refqnn.cli.options import Answer, Parser, add_profile, named_number

ROOMS = ("quantizers", "ops", "integer")


def arguments(command: Parser) -> None:
    """Add the options."""
    command.add_argument("name", help="a quantizer, an op or a family; refqnn list")
    add_profile(command)
    command.add_argument("--at", type=float, help="a value, followed line by line")
    command.add_argument("--bits", type=int, help="of the quantizer (4, or its own)")
    text = "a learned number, such as s=0.5 (from a standard normal batch); repeatable"
    number = partial(named_number, kind=float)
    command.add_argument(
        "--set", type=number, action="append", metavar="NAME=NUMBER", help=text
    )


def run(options: Namespace) -> Answer:
    """Print citation, equations and choices of a name; with ``--at`` each number."""
    from refqnn.cli.values import answer_at
    from refqnn.conformance.choices.families import FAMILIES

    name, function = options.name, function_of(options.name)
    answer: dict[str, Any] = {"name": name}
    parts = []
    if function is not None:
        answer |= about_function(function)
        parts += [answer["file"], answer["about"], answer["function"]]
    if name in FAMILIES:
        answer |= under_profile(name, options.profile)
        parts += [answer["equations"], answer["choices"]]
    if not parts:
        raise ValueError(unknown_name(name, FAMILIES))
    if options.at is not None:
        numbers, text = answer_at(name, options)
        answer |= numbers
        parts.append(text)
    answer["text"] = "\n\n".join(part for part in parts if part)
    return answer, answer["text"]


def function_of(name: str) -> Callable[..., Any] | None:
    """Look a function up in the rooms of definitions; None for none of that name."""
    for room in ROOMS:
        function = getattr(importlib.import_module(f"refqnn.{room}"), name, None)
        if inspect.isfunction(function):
            return function
    return None


def about_function(function: Callable[..., Any]) -> dict[str, str]:
    """Give where a function stands, what its file says, and its signature with text."""
    module = sys.modules[function.__module__]
    path = Path(*module.__name__.split(".")).with_suffix(".py")
    text = inspect.getdoc(function) or ""
    names = ", ".join(inspect.signature(function).parameters)
    return {
        "file": path.as_posix(),
        "about": inspect.cleandoc(module.__doc__ or ""),
        "function": f"{function.__name__}({names})\n{indent(text)}",
    }


def indent(text: str) -> str:
    """Indent every line that is not empty by four spaces.

    >>> indent("a")
    '    a'
    """
    return "\n".join(f"    {line}" if line else "" for line in text.split("\n"))


def under_profile(name: str, profile: str) -> dict[str, Any]:
    """Give the equations of a family under a profile, and every other answer."""
    from refqnn.conformance.choices.families import family_of
    from refqnn.conformance.choices.profiles import profile_of

    family = family_of(name)
    semantics = profile_of(profile).semantics(name)
    chosen = family.choices(semantics)
    lines = []
    for axis, value in chosen.items():
        others = [other for other in family.axes[axis] if other != value]
        lines.append(f"  {axis} = {value}; or {', '.join(others) or 'nothing else'}")
    return {
        "family": name,
        "semantics": chosen,
        "equations": semantics.explain(name),
        "choices": "\n".join([f"choices, under profile {profile}", *lines]),
    }


def unknown_name(name: str, families: Iterable[str]) -> str:
    """Write that a name is unknown, and which ones are near."""
    rooms = [importlib.import_module(f"refqnn.{room}") for room in ROOMS]
    known = {
        key
        for room in rooms
        for key, value in vars(room).items()
        if inspect.isfunction(value)
    }
    near = difflib.get_close_matches(name, known | set(families), n=4)
    hint = f"; near: {', '.join(near)}" if near else ""
    return f"no quantizer, op or family is called {name!r}{hint}"
