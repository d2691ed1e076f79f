"""Arrays, constants and aliases that C headers define, read without a compiler."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refqnn._types import Array
from refqnn.conformance.reach.goldens.golden import Unread

ARRAY = re.compile(
    r"const\s+(?P<kind>\w+)\s+(?P<name>\w+)\s*\[[^\]]*\]\s*=\s*\{(?P<values>[^}]*)\}"
)
ALIAS = re.compile(r"const\s+\w+\s*\*\s*(?:const\s+)?(\w+)\s*=\s*(\w+)\s*;")
DEFINE = re.compile(
    r"^\s*#\s*define\s+(\w+)\s+\(?(-?(?:0x)?[0-9a-fA-F]+)\)?\s*$", re.MULTILINE
)
INCLUDE = re.compile(r'^\s*#\s*include\s+"([\w.]+)"', re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
DTYPES = {f"{u}int{8 * n}_t": f"{u}int{8 * n}" for u in ("", "u") for n in (1, 2, 4, 8)}
DTYPES |= {"float": "float32", "double": "float64"}
DTYPES |= {f"float{8 * n}_t": f"float{8 * n}" for n in (2, 4)}
CAST = re.compile(r"\(float\d+_t\)")
SUFFIX = re.compile(r"(?<=\d)[uUlL]+$")
#: names of the unit tests of CMSIS-NN, of two generators, and the names here
SYNONYMS = {
    "bias": "biases",
    "input_bias": "biases",
    "input_weights": "weights",
    "output_multiplier": "output_mult",
    "input_tensor": "input",
    "output": "output_ref",
}


class Layer(NamedTuple):
    """Arrays and constants of one test, without the name of the test."""

    name: str
    arrays: dict[str, Array]
    constants: dict[str, int]


def read_headers(folder: Path) -> Layer:
    """Read the headers that ``test_data.h`` includes; all where it is missing."""
    texts = [COMMENT.sub(" ", f.read_text("utf-8", "replace")) for f in sources(folder)]
    named: dict[str, Array] = {}
    for text in texts:
        named |= arrays(text)
    for alias, name in (pair for text in texts for pair in ALIAS.findall(text)):
        if name in named:
            named[alias] = named[name]
    prefix = prefix_of(named)
    parts = {k.removeprefix(prefix): v for k, v in named.items()}
    parts = {SYNONYMS[k]: v for k, v in parts.items() if k in SYNONYMS} | parts
    constants = {
        k.removeprefix(prefix.upper()): v
        for text in texts
        for k, v in defines(text).items()
        if k.startswith(prefix.upper())
    }
    return Layer(prefix.rstrip("_"), parts, constants)


def sources(folder: Path) -> list[Path]:
    """List the headers of a test: headers of a former generator may lie beside them."""
    index = folder / "test_data.h"
    if index.is_file():
        included = INCLUDE.findall(index.read_text("utf-8", "replace"))
        if files := [folder / name for name in included if (folder / name).is_file()]:
            return files
    return sorted(folder.glob("*.h"))


def prefix_of(names: Iterable[str]) -> str:
    """Return the name of a test, which its arrays begin with, and an underscore.

    >>> prefix_of(["conv_1_output_ref", "conv_1_weights"])
    'conv_1_'
    """
    for suffix in ("output_ref", "output"):
        marks = [name for name in names if name.endswith(f"_{suffix}")]
        if len(marks) == 1:
            return marks[0].removesuffix(suffix)
        if marks:
            raise Unread(f"arrays *_{suffix}: {marks}, want one")
    raise Unread("there is no array *_output_ref and no array *_output")


def arrays(text: str) -> dict[str, Array]:
    """Return the arrays that a header defines; values wrap as in C.

    >>> arrays("static const int8_t a[] = {1, -0x2, (-127 - 1), 255};")
    {'a': array([   1,   -2, -128,   -1], dtype=int8)}
    """
    named = {}
    for match in ARRAY.finditer(COMMENT.sub(" ", text)):
        kind, name, values = match["kind"], match["name"], match["values"]
        if kind not in DTYPES:
            raise Unread(f"{name} is an array of {kind}, not of {list(DTYPES)}")
        numbers = np.array([number(v) for v in values.split(",") if v.strip()])
        named[name] = numbers.astype(DTYPES[kind])
    return named


def number(text: str) -> int | float:
    """Return a number of C: decimal, hexadecimal, a float in either, a difference.

    >>> number("0x10"), number("0x1.8p1f"), number("-2147483647 - 1"), number("7UL")
    (16, 3.0, -2147483648, 7)
    >>> number("(float16_t)-0.5")
    -0.5
    """
    text = CAST.sub("", text).strip().strip("()").strip()
    least = re.fullmatch(r"(-\d+)\s*L*\s*-\s*1", text)
    if least:
        return int(least[1]) - 1
    whole = SUFFIX.sub("", text)
    if re.fullmatch(r"[+-]?(0[xX][0-9a-fA-F]+|\d+)", whole):
        return int(whole, 0)
    real = text.rstrip("fFlL").replace("- ", "-")
    special = {"NAN": float("nan"), "INFINITY": np.inf, "-INFINITY": -np.inf}
    if text in special:
        return float(special[text])
    return float.fromhex(real) if "x" in real.lower() else float(real)


def defines(text: str) -> dict[str, int]:
    """Return the integer constants of a header.

    >>> defines("#define A_IN_CH 3"), defines("#define A_PAD_X (-0x1)")
    ({'A_IN_CH': 3}, {'A_PAD_X': -1})
    """
    return {name: int(value, 0) for name, value in DEFINE.findall(text)}
