"""One node of ONNX: its attributes, its inputs and its outputs, with their types."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array
from refqnn.conformance.reach.goldens.golden import Unread

#: codes of at most 32 bits, by the names of ONNX's types
RANGES = {
    f"{'U' if low == 0 else ''}INT{bits}": (low, low + 2**bits - 1)
    for bits in (2, 4, 8, 16, 32)
    for low in (0, -(2 ** (bits - 1)))
}


class Tensor(NamedTuple):
    """An array, and the name of its type in ONNX."""

    array: Array
    kind: str


class Call(NamedTuple):
    """One node with its attributes, inputs and outputs by place (None: left out)."""

    attributes: Mapping[str, Any]
    inputs: Sequence[Tensor | None]
    outputs: Sequence[Tensor | None]

    @property
    def output(self) -> Tensor:
        """The first output; raise Unread where it is left out."""
        if self.outputs[0] is None:
            raise Unread("output 0 is missing")
        return self.outputs[0]

    def array(self, place: int, default: Any = None) -> Array:
        """Return an input; raise Unread where it is missing and has no default."""
        value = self.inputs[place] if place < len(self.inputs) else None
        if value is None:
            if default is None:
                raise Unread(f"input {place} is missing")
            return np.asarray(default)
        return value.array

    def ends(self) -> tuple[int, int]:
        """Return the range of the output."""
        if self.output.kind not in RANGES:
            raise Unread(f"the output is {self.output.kind}, no integer")
        return RANGES[self.output.kind]


def window_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a convolution; raise Unread where padding is automatic."""
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise Unread("auto_pad is set, pads must be written out")
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    return {
        "stride": tuple(attributes.get("strides", (1, 1))),
        "padding": ((top, bottom), (left, right)),
        "dilation": tuple(attributes.get("dilations", (1, 1))),
        "groups": int(attributes.get("group", 1)),
    }
