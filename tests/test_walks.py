"""How far a reader steps: calls of the package's functions, and moves between files.

A walk is what a debugger shows when one computation is stepped into. The bounds are
kept so that nobody pays for a hop that teaches nothing.
"""

import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import refqnn
from refqnn import deploy, networks, nn, quantizers
from refqnn.cli.lines import is_skipped
from refqnn.core import Param, Run
from refqnn.papers import dfs

PACKAGE = str(Path(refqnn.__file__).parent)


def walk(compute, root=PACKAGE, *, over=lambda *_: False):
    """Count calls under ``root``, and those in another file than the call before.

    ``over(module, function)`` says what is stepped over.
    """
    files = []

    def note(frame, event, _):
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if event == "call" and file.startswith(root):
            files.extend([file] * (not over(frame.f_globals["__name__"], name)))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        compute()
    finally:
        sys.setprofile(before)
    return len(files), sum(here != there for here, there in pairwise(files))


def images(n):
    return np.random.default_rng(0).integers(0, 256, (n, 1, 28, 28), dtype=np.uint8)


@pytest.fixture(scope="module")
def training():
    """A training of ResNet-8 at 4 bits that has done one step."""
    rng = np.random.default_rng(0)
    network = networks.resnet(8, width=0.25, weight_bits=4, activation_bits=4, rng=rng)
    preset = nn.Preset(0.1, 1.0, 2, 8, momentum=0.9, nesterov=True, weight_decay=1e-4)
    trained = preset.training(network, images=8, rng=rng)
    trained.next_batch(images(8), np.arange(8))
    return trained


@pytest.fixture(scope="module")
def routed():
    """A routed ResNet-8 whose ranges are known."""
    network = dfs.routed_resnet(8, width=0.25, rng=np.random.default_rng(0))
    network.forward(images(8), Run(training=True))
    return network


def test_a_training_step(training):
    calls, moves = walk(lambda: training.next_batch(images(8), np.arange(8)))
    assert calls <= 510
    assert moves <= 280


def test_a_deployment(training):
    calls, moves = walk(lambda: deploy.deploy(training.network))
    assert calls <= 650  # activations are asked for the code of the nearest level
    assert moves <= 339


def test_an_integer_forward(training):
    integer = deploy.deploy(training.network)
    calls, moves = walk(lambda: integer.forward(images(8)))
    assert calls <= 295
    assert moves <= 89


def test_one_image_of_dfs(routed):
    calls, moves = walk(lambda: routed.forward(images(1), Run()))
    assert calls <= 220
    assert moves <= 140


def test_one_image_of_dfs_through_its_own_options(routed):
    calls, moves = walk(lambda: dfs.execute(routed, images(1)))
    assert calls <= 245
    assert moves <= 140


#: what searches or solves in every training pass, and how far a reader steps there
SOLVERS = {
    quantizers.Balanced: "cuts every set of weights in two, bits times",
    quantizers.LQWeight: "a step of QEM moves its basis",
    quantizers.WEQWeight: "searches the boundaries of its clusters",
    quantizers.SAWB: "computes the clip of its weights",
    quantizers.ABCWeight: "solves for its coefficients",
}
WEIGHTS = (
    quantizers.Binary,
    quantizers.DoReFaWeight,
    quantizers.FixedPoint,
    quantizers.HAQLinear,
    quantizers.KMeansWeight,
    quantizers.LSQ,
    partial(quantizers.MinMax, of="weight"),
    quantizers.QILWeight,
    partial(quantizers.SYQ, kernel=(3, 3)),
    quantizers.Ternary,
    quantizers.TTQ,
    quantizers.TSQWeight,
    quantizers.TWN,
    quantizers.XnorWeight,
)


def convolution(make):
    """Make forward and backward of a quantized convolution that has seen a batch."""
    rng = np.random.default_rng(0)
    w = Param(rng.standard_normal((4, 3, 3, 3)))
    conv, x = nn.Conv2d(w, weight_quant=make()), rng.standard_normal((2, 3, 6, 6))
    conv.forward(x, Run(training=True))

    def compute():
        y, cache = conv.forward(x, Run(training=True))
        conv.backward(np.ones_like(y), cache)

    return compute


@pytest.mark.parametrize("make", WEIGHTS, ids=lambda m: getattr(m, "func", m).__name__)
def test_a_quantized_convolution_and_its_gradients(make):
    assert walk(convolution(make))[0] <= 25


@pytest.mark.parametrize("kind", SOLVERS)
def test_only_solvers_are_longer_walks(kind):
    assert walk(convolution(kind))[0] > 25


def test_a_residual_block(training):
    block = training.network.layers["stage1_block1"]
    x = np.zeros((2, 4, 28, 28), np.float32)
    assert walk(lambda: block.forward(x, Run()))[0] <= 40

    def train():
        block.forward(x, Run(training=True))

    assert walk(train)[0] <= 49  # statistics of the batch join the running ones
    assert walk(train, over=is_skipped)[0] <= 40  # as `refqnn step` steps


def test_calls_and_moves_are_counted(tmp_path):
    there = tmp_path / "there.py"
    there.write_text("def f():\n    pass\n\n\ndef g():\n    f()\n    f()\n")
    here = tmp_path / "here.py"
    here.write_text("def h(g):\n    g()\n    k()\n\n\ndef k():\n    pass\n")
    names = {"__name__": "refqnn.ops"}
    for path in (there, here):
        exec(compile(path.read_text(), str(path), "exec"), names)  # noqa: S102
    assert walk(lambda: names["h"](names["g"]), str(tmp_path)) == (5, 2)
    assert walk(lambda: names["h"](names["g"]), str(tmp_path / "other")) == (0, 0)
    over = walk(
        lambda: names["h"](names["g"]), str(tmp_path), over=lambda _, f: f == "f"
    )
    assert over == (3, 2)
