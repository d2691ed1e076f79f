"""``{ladder} conv2d``: the rungs of a kernel, timed when the book is built.

Every rung is compared with the first before it is timed.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from book import rungs
from refqnn import fast, integer, ops
from refqnn._types import Array


class Rung(NamedTuple):
    """One way to compute the same numbers, and where it is written."""

    name: str
    place: str
    run: Callable[[], Any]


def convolutions() -> list[Rung]:
    """Eight images of 8 channels, 16 filters of 3 x 3, without padding."""
    from tables.loops import conv2d as plain  # noqa: PLC0415 - comes with the tests

    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 8, 18, 18)).astype(np.float32)
    w = rng.normal(size=(16, 8, 3, 3)).astype(np.float32)

    def into(kernel: Any) -> Callable[[], Array]:
        def run() -> Array:
            y = np.empty((8, 16, 16, 16), np.float32)
            kernel(x, w, y)
            return y

        return run

    return [
        Rung("plain loop", "tests/tables/loops.py::conv2d", lambda: plain(x, w)),
        Rung("NumPy", "refqnn/ops/conv.py::conv2d", lambda: ops.conv2d(x, w)[0]),
        Rung(
            "compiled loop",
            "docs/book/rungs.py::compiled_loop",
            into(rungs.compiled_loop),
        ),
        Rung("flat planes", "docs/book/rungs.py::flat_planes", into(rungs.flat_planes)),
        Rung(
            "register tiles",
            "refqnn/fast/ops/conv.py::conv2d",
            lambda: fast.ops.conv2d(x, w)[0],
        ),
    ]


def requantizations() -> list[Rung]:
    """100 000 accumulators, one rounding, half up."""
    rng = np.random.default_rng(0)
    acc = rng.integers(-40_000, 40_000, 100_000).astype(np.int32)
    m, shift = integer.quantize_multiplier(0.0031)
    ends = {"q_min": -128, "q_max": 127}
    return [
        Rung(
            "plain loop",
            "docs/book/rungs.py::requantize_loop",
            lambda: rungs.requantize_loop(acc, m, shift),
        ),
        Rung(
            "NumPy",
            "refqnn/integer/rescale.py::requantize",
            lambda: integer.requantize(acc, m, shift, 0, **ends),
        ),
        Rung(
            "compiled, in blocks",
            "refqnn/fast/integer/rescale.py::requantize",
            lambda: fast.integer.requantize(acc, m, shift, 0, **ends),
        ),
    ]


def binary_convolutions() -> list[Rung]:
    """Two images of 64 channels, 8 filters of 3 x 3: products of signs."""
    rng = np.random.default_rng(0)
    x, w = (rng.choice([-1, 1], size=s) for s in ((2, 64, 10, 10), (8, 64, 3, 3)))
    bits = integer.pack_bits(x), integer.pack_bits(w)
    return [
        Rung(
            "plain loop",
            "docs/book/rungs.py::xnor_loop",
            lambda: rungs.xnor_loop(x, w),
        ),
        Rung(
            "64 products a word, NumPy",
            "refqnn/integer/bits.py::xnor_conv2d",
            lambda: integer.xnor_conv2d(*bits, channels=64),
        ),
        Rung(
            "compiled, on flat planes",
            "refqnn/fast/integer/bits.py::xnor_conv2d",
            lambda: fast.integer.xnor_conv2d(*bits, channels=64),
        ),
    ]


LADDERS = {
    "conv2d": convolutions,
    "requantize": requantizations,
    "xnor_conv2d": binary_convolutions,
}


def checked(every: list[Rung]) -> None:
    """Compare every rung with the first: integers exactly, floats within rounding."""
    want = np.asarray(every[0].run())
    for rung in every[1:]:
        y = rung.run()
        if y.dtype.kind == "f":
            np.testing.assert_allclose(y, want, rtol=0, atol=1e-3, err_msg=rung.name)
        else:
            np.testing.assert_array_equal(y, want, err_msg=rung.name)


def seconds(run: Callable[[], Any], *, budget: float = 0.3) -> float:
    """Measure the shortest of some runs; the first compiles and is not counted."""
    begun, best = time.perf_counter(), np.inf
    while True:
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        best = min(best, now - start)
        if now - begun > budget:
            return best


class Ladder(SphinxDirective):
    """A table of rungs: where each is written, its time, what it wins."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Check, measure and set the table."""
        make = LADDERS.get(self.arguments[0])
        if make is None:
            raise self.error(f"ladders are {', '.join(LADDERS)}")
        every = make()
        # one thread each, so that what else the machine does matters least
        numba.set_num_threads(1)
        checked(every)
        times = [seconds(rung.run) for rung in every]
        lines = ["| rung | milliseconds | times the first |", "| --- | ---: | ---: |"]
        for rung, each in zip(every, times, strict=True):
            link = f"{{source}}`{rung.name} <{rung.place}>`"
            lines.append(f"| {link} | {1e3 * each:.3g} | {times[0] / each:,.0f} |")
        lines += [
            "",
            f"{make.__doc__} Measured when this page was built, in one thread.",
        ]
        box = nodes.container()
        self.state.nested_parse(StringList(lines, "ladder"), 0, box)
        return box.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("ladder", Ladder)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
