"""Regions of rows of outputs: those longer than a kernel computes at once."""

from collections.abc import Callable
from functools import partial

from refqnn.conformance.choices.kinds import Inputs, Regions, regions_named
from refqnn.geometry import output_size, window


def long_rows(outputs: Callable[[Inputs], int]) -> Regions:
    """Return the regions: more than eight outputs in a row, n over a multiple of four.

    Kernels compute so many at once, and what is left over another way.
    """
    tests = {
        f"above eight in a row, {over} over": partial(is_over, over)
        for over in range(4)
    }
    return regions_named("sum", tests, lambda call: (outputs(call),))


def windows_in_a_row(call: Inputs) -> int:
    """Return the width of the planes that windows or kernels over x give."""
    kernel = call["kernel"] if "kernel" in call else call["w"].shape[2:]
    sizes = {key: call[key] for key in ("stride", "padding")}
    at = window(kernel, **sizes, dilation=call.get("dilation", 1))
    return output_size(call["x"].shape[2:], at)[1]


def is_over(over: int, size: int) -> bool:
    """Say whether a size above eight leaves this remainder, divided by four.

    >>> [size for size in range(16) if is_over(1, size)]
    [9, 13]
    """
    return size > 8 and size % 4 == over
