"""RESCALE of TOSA: ``desc.json`` beside ``.npy`` files.

    result = zero_out + round((value - zero_in) multiplier 2^-shift)

The descriptor says what every tensor holds: multiplier, shift and zero-points are fixed
data, the input is a file. With 16-bit multipliers the number is multiplier 2^-shift,
too, written here with 31 bits. The file of outputs is the one that the descriptor
names, written by the reference model or by another implementation.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Int
from refqnn.conformance.reach.goldens.golden import Golden, Unread, requantization
from refqnn.files import read_json, read_npy

#: how the names of folders tell the rounding mode, which the model holds
MODES = {"S": "SINGLE_ROUND", "D": "DOUBLE_ROUND", "I": "INEXACT_ROUND"}
#: fixed tensors of RESCALE in the order of its inputs
FIXED = ("multiplier", "shift", "input_zero_point", "output_zero_point")


class Rescale(NamedTuple):
    """Codes and outputs of a RESCALE, its numbers, and the rounding of its name."""

    x: Int
    y: Int
    #: multiplier of 31 bits, shift as of ``integer.requantize``: (C,), or () for all
    multiplier: Int
    shift: Int
    zeros: tuple[int, int]
    mode: str


def read_descriptor(folder: Path) -> Golden:
    """Read one descriptor as a call; raise Unread as ``read_rescale``."""
    x, y, multiplier, shift, (x_zero, y_zero), mode = read_rescale(folder)
    ends = np.iinfo(y.dtype)
    acc = x.astype(np.int64) - x_zero
    made = requantization(acc, multiplier, shift, y_zero, (ends.min, ends.max), y)
    return made._replace(declared=mode)


def read_rescale(folder: Path) -> Rescale:
    """Read one descriptor; raise Unread for other operators and expected failures."""
    descriptor = read_json(folder / "desc.json")
    if descriptor.get("expected_failure"):
        raise Unread("a failure is expected of it")
    given = dict(zip(descriptor["ifm_name"], descriptor["ifm_file"], strict=True))
    meta = descriptor.get("meta", {})
    tensors = meta.get("data_gen", {}).get("tensors", {})
    operators = {str(t.get("op")) for t in tensors.values()}
    if operators != {"RESCALE"}:
        names = ", ".join(sorted(operators)) or "unknown"
        raise Unread(f"operator {names}: only RESCALE is read")
    by_place = {int(t["input_pos"]): (name, t) for name, t in tensors.items()}
    name, source = by_place[0]
    fixed = {
        what: fixed_data(folder, given, *by_place[place])
        for place, what in enumerate(FIXED, 1)
    }
    made = rescale(
        codes(load(folder / given[name]), unsigned=bool(source.get("unsigned_data"))),
        codes(
            load(folder / descriptor["ofm_file"][0]),
            unsigned=unsigned_output(meta, folder),
        ),
        fixed,
        scale32=by_place[1][1]["data_type"] == "INT32",
    )
    mode = re.search(r"_rm([SDI])_", folder.resolve().name)
    return made._replace(mode=MODES[mode[1]] if mode else "")


def unsigned_output(meta: Mapping[str, Any], folder: Path) -> bool:
    """Say whether outputs are unsigned, by the descriptor or a folder named ..._ou1."""
    tensors = meta.get("compliance", {}).get("tensors", {}).values()
    infos = [t["rescale_inexact_info"] for t in tensors if "rescale_inexact_info" in t]
    if infos:
        return bool(infos[0].get("unsigned_data"))
    return folder.resolve().name.endswith("_ou1")


def load(path: Path) -> Array:
    """Read an array of integers; raise Unread where its file is missing."""
    if not path.exists():
        raise Unread(f"{path.name} is not there: run the reference model first")
    array = read_npy(path)
    if array.dtype.kind not in "iu":
        raise Unread(f"{path.name} holds {array.dtype}, not integers")
    return np.asarray(array)


def codes(array: Int, *, unsigned: bool) -> Int:
    """Return the codes; files hold unsigned ones in signed dtypes.

    >>> codes(np.int8([-1]), unsigned=True)
    array([255], dtype=uint8)
    """
    return array.view(f"u{array.dtype.itemsize}") if unsigned else array


def fixed_data(
    folder: Path, given: Mapping[str, str], name: str, tensor: Mapping[str, Any]
) -> Int:
    """Return the values of a tensor, from the descriptor or its file: (n,) int64."""
    if "fixed_data_info" in tensor:
        return np.array(tensor["fixed_data_info"]["data"]).astype(np.int64)
    if name not in given:
        raise Unread(f"{name} is neither fixed data nor a file")
    return load(folder / given[name]).astype(np.int64).ravel()


def rescale(x: Int, y: Int, fixed: Mapping[str, Int], *, scale32: bool) -> Rescale:
    """Return the numbers of a rescaling; zero-points are codes of the same dtypes."""
    missing = 31 if scale32 else 15
    shift = missing - fixed["shift"]
    multiplier = fixed["multiplier"] << (31 - missing)
    zeros = (
        fixed[f"{side}_zero_point"].astype(a.dtype)[0].item()
        for side, a in (("input", x), ("output", y))
    )
    x_zero, y_zero = zeros
    if multiplier.size == 1:  # one scale for a tensor of any rank, 0 too
        multiplier, shift = multiplier.reshape(()), shift.reshape(())
    return Rescale(x, y, multiplier, shift, (x_zero, y_zero), "")
