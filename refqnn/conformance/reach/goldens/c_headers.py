"""Layers of CMSIS-NN's unit tests: constants and arrays in C.

A folder holds ``config_data.h`` and headers of one array each, all named after the
layer: NAME_input, _weights, _biases, _output_mult, _output_shift, _output_ref. Planes
are NHWC, weights OHWI, of depth-wise layers (1, H, W, O). The accumulators are exact
sums, so what is judged is the requantization.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import integer
from refqnn._types import Array, Int
from refqnn.conformance.reach.goldens.golden import Golden, Unread, requantization

ARRAY = re.compile(
    r"const\s+(?P<kind>\w+)\s+(?P<name>\w+)\s*\[[^\]]*\]\s*=\s*\{(?P<values>[^}]*)\}"
)
DEFINE = re.compile(
    r"^\s*#\s*define\s+(\w+)\s+\(?(-?(?:0x)?[0-9a-fA-F]+)\)?\s*$", re.MULTILINE
)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
DTYPES = {f"{u}int{8 * n}_t": f"{u}int{8 * n}" for u in ("", "u") for n in (1, 2, 4, 8)}
DTYPES |= {"float": "float32", "double": "float64"}
SUFFIX = re.compile(r"(?<=\d)[uUlL]+$")


def arrays(text: str) -> dict[str, Array]:
    """Return the arrays that a header defines.

    >>> arrays("static const int8_t a[] = {1, -0x2, (-127 - 1)}; // b[1] = {3}")
    {'a': array([   1,   -2, -128], dtype=int8)}
    """
    found = {}
    for match in ARRAY.finditer(COMMENT.sub(" ", text)):
        kind, name, values = match["kind"], match["name"], match["values"]
        if kind not in DTYPES:
            raise Unread(f"{name} is an array of {kind}, not of {list(DTYPES)}")
        numbers = [number(v) for v in values.split(",") if v.strip()]
        found[name] = np.array(numbers, DTYPES[kind])
    return found


def number(text: str) -> int | float:
    """Return a number of C: decimal, hexadecimal, a float in either, a difference.

    >>> number("0x10"), number("0x1.8p1f"), number("-2147483647 - 1"), number("7UL")
    (16, 3.0, -2147483648, 7)
    """
    text = text.strip().strip("()").strip()
    least = re.fullmatch(r"(-\d+)\s*L*\s*-\s*1", text)
    if least:
        return int(least[1]) - 1
    whole = SUFFIX.sub("", text)
    if re.fullmatch(r"[+-]?(0[xX][0-9a-fA-F]+|\d+)", whole):
        return int(whole, 0)
    real = text.rstrip("fFlL")
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


def read_layer(folder: Path) -> Golden:
    """Read one layer; raise Unread for what is none."""
    texts = [f.read_text("utf-8", "replace") for f in sorted(folder.glob("*.h"))]
    held: dict[str, Array] = {}
    constants: dict[str, int] = {}
    for text in texts:
        held |= arrays(text)
        constants |= defines(text)
    marks = [name for name in held if name.endswith("_output_ref")]
    if len(marks) != 1:
        raise Unread(f"arrays *_output_ref: {marks}, want one")
    prefix = marks[0].removesuffix("output_ref")
    parts = {k.removeprefix(prefix): v for k, v in held.items()}
    upper = prefix.upper()
    known = {
        k.removeprefix(upper): v for k, v in constants.items() if k.startswith(upper)
    }
    return layer(parts, known)


def layer(parts: Mapping[str, Array], known: Mapping[str, int]) -> Golden:
    """Return the accumulators of a layer and what became of them."""
    for name in ("input", "weights", "output_ref"):
        if name not in parts:
            raise Unread(f"an array *_{name} is missing: {sorted(parts)}")
    out = known["OUT_CH"]
    biases = parts.get("biases", np.zeros(out, np.int32)).astype(np.int64)
    dense = "ACCUMULATION_DEPTH" in known
    acc, y = (product if dense else convolution)(parts, known, biases)
    lift = (out,) if dense else (out, 1, 1)
    multiplier, shift = (
        np.broadcast_to(parts[name] if name in parts else known[constant], out).reshape(
            lift
        )
        for name, constant in (
            ("output_mult", "OUTPUT_MULTIPLIER"),
            ("output_shift", "OUTPUT_SHIFT"),
        )
    )
    ends = known["OUT_ACTIVATION_MIN"], known["OUT_ACTIVATION_MAX"]
    z = known.get("OUTPUT_OFFSET", 0)
    if not ends[0] <= z <= ends[1]:
        raise Unread(f"zero-point {z} outside of the activations {ends}")
    return requantization(acc, multiplier, shift, z, ends, y)


def product(
    parts: Mapping[str, Array], known: Mapping[str, int], biases: Int
) -> tuple[Int, Int]:
    """Return the sums of a fully connected layer, and its outputs: both (N, O)."""
    n, depth, out = (
        known[k] for k in ("INPUT_BATCHES", "ACCUMULATION_DEPTH", "OUT_CH")
    )
    x, w = parts["input"].reshape(n, depth), parts["weights"].reshape(out, depth)
    z = -known.get("INPUT_OFFSET", 0)
    acc = integer.linear(x, w, biases, x_zero_point=z, accumulator="int64")
    return acc, parts["output_ref"].reshape(n, out)


def convolution(
    parts: Mapping[str, Array], known: Mapping[str, int], biases: Int
) -> tuple[Int, Int]:
    """Return the sums of a convolution, and its outputs: both (N, O, Ho, Wo)."""
    n, c, h, w = (known[k] for k in ("INPUT_BATCHES", "IN_CH", "INPUT_H", "INPUT_W"))
    out, kh, kw = (known[k] for k in ("OUT_CH", "FILTER_Y", "FILTER_X"))
    ho, wo = known["OUTPUT_H"], known["OUTPUT_W"]
    stride = known["STRIDE_Y"], known["STRIDE_X"]
    dilation = known.get("DILATION_Y", 1), known.get("DILATION_X", 1)
    x = parts["input"].reshape(n, h, w, c).transpose(0, 3, 1, 2)
    if "CH_MULT" in known:
        weights = parts["weights"].reshape(1, kh, kw, out).transpose(3, 0, 1, 2)
        groups = c
    else:
        groups = out * kh * kw * c // parts["weights"].size
        weights = parts["weights"].reshape(out, kh, kw, c // groups)
        weights = weights.transpose(0, 3, 1, 2)
    pads = (
        (known[pad], size, k, into, step, apart)
        for pad, size, k, into, step, apart in zip(
            ("PAD_Y", "PAD_X"),
            (h, w),
            (kh, kw),
            (ho, wo),
            stride,
            dilation,
            strict=True,
        )
    )
    vertical, horizontal = (sides(*pad) for pad in pads)
    options: dict[str, Any] = {"stride": stride, "dilation": dilation}
    acc = integer.conv2d(
        x,
        weights,
        biases,
        x_zero_point=-known.get("INPUT_OFFSET", 0),
        padding=(vertical, horizontal),
        groups=groups,
        accumulator="int64",
        **options,
    )
    y = parts["output_ref"].reshape(n, ho, wo, out).transpose(0, 3, 1, 2)
    return acc[:, :, :ho, :wo], y


def sides(
    before: int, size: int, kernel: int, into: int, stride: int, dilation: int
) -> tuple[int, int]:
    """Return the padding in front and behind: what the outputs need.

    >>> sides(1, 5, 4, 3, 2, 1)
    (1, 2)
    """
    needed = (into - 1) * stride + (kernel - 1) * dilation + 1
    return before, max(needed - size - before, 0)
