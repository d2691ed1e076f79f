"""Fields of the steps in a file: each one of another kind, size or range is refused."""

import dataclasses

import numpy as np
import pytest
from refusals import refuses

from refqnn.core import Run
from refqnn.deploy import deploy
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.fields import check_steps, fits
from refqnn.deploy.operations import Instruction, OperationStep, RealStep
from refqnn.deploy.steps import ImageStep
from refqnn.networks import resnet


@pytest.fixture(scope="module")
def steps():
    rng = np.random.default_rng(0)
    network = resnet(
        8, weight_bits=4, activation_bits=4, width=0.25, shortcut="B", rng=rng
    )
    x = rng.integers(0, 256, (8, 1, 8, 8), dtype=np.uint8)
    network.forward(x, Run(training=True))
    return deploy(network, image_size=(8, 8)).steps


@pytest.fixture(scope="module")
def padded():
    rng = np.random.default_rng(0)
    network = resnet(8, weight_bits=4, activation_bits=4, width=0.25, rng=rng)
    x = rng.integers(0, 256, (8, 1, 8, 8), dtype=np.uint8)
    network.forward(x, Run(training=True))
    return deploy(network, image_size=(8, 8)).steps


def changed(value, path, new):
    """Replace a field, named by a dotted path, in a copy."""
    name, _, rest = path.partition(".")
    inner = getattr(value, name)
    new = changed(inner, rest, new) if rest else new(inner)
    if isinstance(value, Grid):
        return value._replace(**{name: new})
    return dataclasses.replace(value, **{name: new})


def kind_of(steps, kind):
    return next(i for i, s in enumerate(steps) if type(s).__name__ == kind)


def at_end(value):
    def put(array):
        new = array.copy()
        new[-1] = value
        return new

    return put


def constant(value):
    return lambda _: value


WRONG = (
    ("ImageStep", "name", constant(3), "name must be"),
    ("ImageStep", "shape", constant((1, 8)), "no \\(C, H, W\\)"),
    ("ImageStep", "shape", constant((1, 0, 8)), "no \\(C, H, W\\)"),
    ("ImageStep", "shape", constant((1, 8, 8.0)), "shape must be"),
    ("ImageStep", "shape", constant([1, 8, 8]), "shape must be"),
    ("ImageStep", "grid", constant("x"), "grid must be"),
    ("ImageStep", "grid.scale", constant(0.0), "scale must be positive"),
    ("ImageStep", "grid.scale", constant(float("nan")), "scale must be"),
    ("ImageStep", "grid.zero_point", constant(256), "zero_point must lie in"),
    ("ImageStep", "grid.q_min", constant(True), "q_min must be"),
    ("ImageStep", "grid.q_max", constant(-1), "must not exceed"),
    ("LayerStep", "source", constant("nowhere"), "which no step before it is"),
    ("LayerStep", "sum", constant(True), "sum must be"),
    ("LayerStep", "rounding", constant("up"), "rounding must be one of"),
    ("LayerStep", "shape", constant((1, 8, 8)), "shape is \\(1, 8, 8\\), computes"),
    ("LayerStep", "multiplier", at_end(-1), "multiplier must lie in"),
    ("LayerStep", "multiplier", lambda a: a[:-1], "multiplier must be \\("),
    ("LayerStep", "multiplier", lambda a: a.astype(np.int64), "must be int32"),
    ("LayerStep", "shift", at_end(32), "shift must lie in"),
    ("LayerStep", "shift", at_end(-32), "shift must lie in"),
    ("LayerStep", "sum.w", lambda a: a.astype(np.float64), "w must be int8"),
    ("LayerStep", "sum.w", lambda a: a[:, :, 0], "w must be \\(O, I\\)"),
    ("LayerStep", "sum.w", lambda a: np.zeros((4, 0, 3, 3), a.dtype), "w must be"),
    ("LayerStep", "sum.bias", lambda a: a[:-1], "bias must be"),
    ("LayerStep", "sum.bias", at_end(2**31 - 1), "sums and bias leave int32"),
    ("LayerStep", "sum.bias", at_end(-(2**31)), "sums and bias leave int32"),
    ("LayerStep", "sum.fraction_bits", at_end(30), "sums and bias leave int32"),
    ("LayerStep", "sum.fraction_bits", at_end(-1), "fraction_bits must lie in"),
    ("LayerStep", "sum.fraction_bits", lambda a: a.astype(float), "must be int32"),
    ("LayerStep", "sum.scale", at_end(0.0), "scale must be positive"),
    ("LayerStep", "sum.scale", at_end(np.inf), "scale must be positive"),
    ("LayerStep", "sum.x_zero_point", constant(3), "x_zero_point is 3"),
    ("LayerStep", "sum.stride", constant((0, 1)), "stride must be at least 1"),
    ("LayerStep", "sum.stride", constant((1, 1, 1)), "stride must be"),
    ("LayerStep", "sum.padding", constant(((9, 1), (1, 1))), "is wider than 3"),
    ("LayerStep", "sum.padding", constant(((-1, 1), (1, 1))), "padding must be"),
    ("LayerStep", "sum.dilation", constant((99, 1)), "window does not fit"),
    ("LayerStep", "sum.groups", constant(0), "groups must be at least 1"),
    ("LayerStep", "sum.groups", constant(2), "channels"),
    ("LayerStep", "sum.accumulator_bits", constant(2), "accumulator_bits must lie in"),
    ("LayerStep", "sum.accumulator_bits", constant(33), "accumulator_bits must lie in"),
    ("LayerStep", "sum.weight_bits", constant(9), "weight_bits must lie in"),
    ("PoolStep", "accumulator_bits", constant(2), "accumulator_bits must lie in"),
    ("ResidualStep", "skip_source", constant("nowhere"), "which no step before it is"),
    ("ResidualStep", "skip", constant(None), "skip must be"),
    ("ResidualStep", "skip_multiplier", at_end(-1), "skip_multiplier must lie in"),
    ("PoolStep", "x_zero_point", constant(7), "x_zero_point is 7"),
    ("PoolStep", "multiplier", lambda a: np.repeat(a, 2), "multiplier must be \\(1"),
    ("PoolStep", "scale", constant("1"), "scale must be"),
    ("PoolStep", "source", constant("layers.pool"), "which no step before it is"),
)


@pytest.mark.parametrize(("kind", "field", "new", "message"), WRONG)
def test_fields_that_do_not_fit_are_refused(steps, kind, field, new, message):
    i = kind_of(steps, kind)
    with pytest.raises(ValueError, match=message):
        check_steps((*steps[:i], changed(steps[i], field, new), *steps[i + 1 :]))


SHORTCUTS = (
    ("skip.x_zero_point", constant(5), "x_zero_point is 5"),
    ("skip.channels", constant(10**9), "disagree"),
    ("skip.channels", constant(1), "makes 1 channels"),
    ("skip.stride", constant(0), "stride 0"),
)


@pytest.mark.parametrize(("field", "new", "message"), SHORTCUTS)
def test_shortcuts_that_do_not_fit_are_refused(padded, field, new, message):
    i = kind_of(padded, "ResidualStep")
    with pytest.raises(ValueError, match=message):
        check_steps((*padded[:i], changed(padded[i], field, new), *padded[i + 1 :]))


def test_what_deployment_makes_is_accepted(steps, padded):
    check_steps(steps)
    check_steps(padded)
    refuses("two steps have the name", check_steps, (*steps, steps[-1]))
    refuses("step 0 is int, no step", check_steps, (3,))
    refuses("step 0 is Sum, no step", check_steps, (steps[1].sum,))


def test_kinds():
    assert fits(1, float)
    assert fits(1.5, float)
    assert not fits(True, float)
    assert not fits("1", float)
    assert fits(None, int | None)
    assert not fits(1.0, int | None)
    assert fits((), tuple[int, ...])
    assert not fits((1, 2), tuple[int])


def image(shape=(2, 4, 5)):
    return ImageStep("x", shape, Grid(0.5, 3, 0, 255))


def operation(name, options, shape, *, sources=("x",), arguments=("x",)):
    grid = Grid(0.5, 3, 0, 255)
    return OperationStep("y", sources, arguments, shape, name, options, grid)


MEAN = {
    "kernel": (2, 2), "stride": (2, 1), "padding": ((0, 0), (0, 1)),
    "count_include_pad": True, "x_scale": 0.5, "x_zero_point": 3, "scale": 0.5,
    "zero_point": 3, "q_min": 0, "q_max": 255,
}  # fmt: skip
FAR = ((0, 0), (0, 0), (0, 10**9))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (operation("system", {}, (2, 4, 5)), "has no operation of this version"),
        (operation("add", {}, (2, 4, 5), sources=()), "has no operation of this"),
        (operation("clip", {}, (2, 4, 5), sources=("z",)), "which no step before it"),
        (operation("clip", {}, (2, 4, 5)), "cannot be computed"),
        (operation("reshape", {"shape": (40,)}, (41,)), r"shape is \(41,\), computes"),
        (operation("reshape", {"shape": (41,)}, (41,)), "cannot be computed"),
        (operation("clip", {"q_min": 0, "q_max": 9}, (2**27,)), "more than 67108864"),
        (operation("pad", {"widths": FAR, "value": 0}, (2, 4, 5)), "go up to 4096"),
        (operation("resize", {"size": (10**9, 1)}, (2, 4, 5)), "go up to 4096"),
        (
            operation("mean_pool2d", MEAN | {"padding": ((0, 0), (0, 99))}, (2, 2, 5)),
            "is wider than its window",
        ),
        (
            operation("lookup", {"table": np.zeros(9, np.int8)}, (2, 4, 5)),
            "256 entries",
        ),
    ],
)
def test_operations_that_do_not_fit_are_refused(step, message):
    refuses(message, check_steps, (image(), step))


def test_operations_that_fit():
    check_steps((image(), operation("mean_pool2d", MEAN, (2, 2, 5))))
    check_steps((image(), operation("reshape", {"shape": (40,)}, (40,))))


CODES = Grid(0.5, 3, 0, 255)


def real(program, *, grids=(CODES,), shape=(2, 4, 5)):
    return RealStep("y", ("x",), grids, shape, program, {}, CODES)


RELU = Instruction("Relu", ("x",), "v", {})


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (real((Instruction("Loop", ("x",), "v", {}),)), "has no operation of this"),
        (real((RELU,), grids=(Grid(0.25, 3, 0, 255),)), "not those of its sources"),
        (real((Instruction("Relu", ("z",), "v", {}),)), "cannot be computed"),
        (real((RELU,), shape=(2, 4, 4)), r"shape is \(2, 4, 4\), computes"),
        (
            real((Instruction("pad", ("x",), "v", {"widths": FAR, "value": 0.0}),)),
            "go up to 4096",
        ),
        (real(()), "cannot be computed"),
    ],
)
def test_floats_that_do_not_fit_are_refused(step, message):
    check_steps((image(), real((RELU,))))
    refuses(message, check_steps, (image(), step))
