"""``refqnn step NAME``: the debugger at the first equation of a small example.

The example is seeded and small enough to check by hand; it runs forward and, where it
has one, backward. The debugger is Python's pdb: ``s`` steps into a function, ``n`` over
it, ``p y`` prints y, ``q`` leaves. Checks of arguments are stepped over. With --print,
or where standard input is no terminal, the lines that are passed are printed instead.
"""

import os
import pdb  # noqa: T100 - the command is a debugger
import sys
from argparse import Namespace
from bdb import BdbQuit
from collections.abc import Callable
from functools import partial
from typing import Any

from refqnn.cli.lines import SKIPPED, Line, is_skipped, lines_passed, listing
from refqnn.cli.options import SEED, Answer, Parser, add_options

Compute = Callable[[], Any]


def arguments(command: Parser) -> None:
    """Add the options."""
    command.add_argument(
        "name", help="conv2d, block, integer_layer, lstm_gate, gate, requantize or a "
        "quantizer; any other name lists them"
    )  # fmt: skip
    add_options(command, SEED)
    command.add_argument(
        "--print", action="store_true", help="print the lines passed, with values"
    )
    command.add_argument(
        "--debug", action="store_true", help="open pdb even where input is no terminal"
    )


def run(options: Namespace) -> Answer:
    """Open the debugger, or list the lines passed."""
    compute = example_of(options.name, options.seed)
    lines = lines_passed(compute)
    first = next((line for line in lines if line.equations), lines[0])
    answer = {
        "name": options.name,
        "first": f"{first.file}:{first.number}",
        "lines": [vars(line) for line in lines],
    }
    asked = options.debug or (sys.stdin.isatty() and not options.print)
    if asked and not options.json:
        debug(compute, first)
        return answer, ""
    return answer, listing(lines)


class Stepper(pdb.Pdb):
    """A debugger that stops in functions of the package only, checks left out."""

    def is_skipped_module(self, module_name: str | None) -> bool:
        """Say whether a module is stepped over."""
        return is_skipped(module_name or "")


def debug(compute: Compute, first: Line) -> None:
    """Run a computation under pdb, which stops at a line and is left with q."""
    from refqnn.cli.lines import PACKAGE

    stepper = Stepper(skip=SKIPPED, nosigint=True)
    stepper.reset()
    stepper.botframe = sys._getframe()  # noqa: SLF001 - pdb's own way to begin
    stepper.set_break(str(PACKAGE.parent / first.file), first.number, temporary=True)
    stepper.set_continue()
    twins = os.environ.get("NUMBA_DISABLE_JIT", "0")
    os.environ["NUMBA_DISABLE_JIT"] = "1"  # whoever steps into a twin sees its lines
    before = sys.gettrace()
    sys.settrace(stepper.trace_dispatch)
    try:
        compute()
    except BdbQuit:
        pass
    finally:
        sys.settrace(before)
        os.environ["NUMBA_DISABLE_JIT"] = twins


def example_of(name: str, seed: int) -> Compute:
    """Make the small example of a name; ValueError lists the names there are."""
    import numpy as np

    from refqnn.cli.values import quantizer_modules

    makers = {
        "conv2d": quantized_conv2d,
        "block": basic_block,
        "integer_layer": integer_layer,
        "requantize": requantization,
        "lstm_gate": lstm_gate,
        "gate": dfs_gate,
    } | {name: partial(quantizer, kind) for name, kind in quantizer_modules().items()}
    if name not in makers:
        raise ValueError(f"no example is called {name!r}; there are {[*makers]}")
    compute: Compute = makers[name](np.random.default_rng(seed))
    return compute


def there_and_back(module: Any, x: Any) -> Compute:
    """Make the forward and the backward of a module that has seen a batch."""
    import numpy as np

    from refqnn.core import Run

    module.forward(x, Run(training=True))

    def compute() -> None:
        y, cache = module.forward(x, Run())
        module.backward(np.ones_like(y), cache)

    return compute


def quantizer(kind: type, rng: Any) -> Compute:
    """Make a quantizer at its own bits, on eight numbers."""
    return there_and_back(kind(), rng.standard_normal((2, 4)))


def quantized_conv2d(rng: Any) -> Compute:
    """Make a 2 x 2 convolution of a 3 x 3 plane, weights of 3 bits."""
    from refqnn import nn, quantizers
    from refqnn.core import Param

    w = Param(rng.standard_normal((1, 1, 2, 2)))
    conv = nn.Conv2d(w, weight_quant=quantizers.FixedPoint(bits=3))
    return there_and_back(conv, rng.standard_normal((1, 1, 3, 3)))


def basic_block(rng: Any) -> Compute:
    """Make the first residual block of a 4-bit ResNet, on planes of 4 x 4."""
    from refqnn import networks

    net = networks.resnet(8, width=1 / 8, weight_bits=4, activation_bits=4, rng=rng)
    x = rng.standard_normal((1, 2, 4, 4)).astype("float32")
    return there_and_back(net.layers["stage1_block1"], x)


def integer_layer(rng: Any) -> Compute:
    """Make a 2 x 2 convolution of codes, and its requantization to 8 bits."""
    from refqnn import integer

    x = rng.integers(0, 16, (1, 1, 3, 3)).astype("uint8")
    w = rng.integers(-7, 8, (1, 1, 2, 2)).astype("int8")
    multiplier, shift = integer.quantize_multiplier(0.37)

    def compute() -> None:
        acc = integer.conv2d(x, w, x_zero_point=3)
        integer.requantize(acc, multiplier, shift, 3, q_min=0, q_max=255)

    return compute


def requantization(rng: Any) -> Compute:
    """Make a requantization of four sums to signed 8 bits."""
    from refqnn import integer

    acc = rng.integers(-300, 300, 4).astype("int32")

    def compute() -> None:
        multiplier, shift = integer.quantize_multiplier(0.37)
        integer.requantize(acc, multiplier, shift, 0, q_min=-128, q_max=127)

    return compute


def lstm_gate(rng: Any) -> Compute:
    """Make a step of an LSTM of two states, and its gradients."""
    import numpy as np

    from refqnn import ops

    draw = rng.standard_normal
    inputs = (draw((1, 1)), draw((1, 2)), draw((1, 2)), draw((8, 1)), draw((8, 2)))

    def compute() -> None:
        _, cache = ops.lstm_cell(*inputs, np.zeros(8))
        ops.lstm_cell_backward((np.ones((1, 2)), np.zeros((1, 2))), cache)

    return compute


def dfs_gate(rng: Any) -> Compute:
    """Make a gate of DFS that runs or skips a block, and its gradient."""
    from refqnn.cli.values import gate_at

    return partial(gate_at, float(rng.standard_normal()))
