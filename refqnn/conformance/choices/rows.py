"""Regions of layers larger than a kernel computes at once, or in unrolled loops."""

from collections.abc import Callable
from functools import partial

import numpy as np

from refqnn.conformance.choices.kinds import (
    Inputs,
    Regions,
    Test,
    regions_named,
    where,
)
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


#: many examples and channels; not as many as fill an accumulator
LARGE_BATCHES = where(
    "x",
    {
        "above two examples, large": lambda x: len(x) > 2,
        "many channels, large": lambda x: 16 < x.shape[1] < 100,
    },
)
LARGE_ROWS = where("w", {"above 32 rows, large": lambda w: len(w) > 32})
#: what a convolution may have been unrolled for is less
LARGE: dict[str, Test] = {"large": lambda size: np.any(size > 5)}
LARGE_LAYERS = (
    LARGE_BATCHES
    | where("stride", LARGE)
    | where("padding", LARGE)
    | where("dilation", LARGE)
    | where("groups", LARGE)
    | where("w", {"above 6 x 6, large": lambda w: min(w.shape[2:]) > 6})
)


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
