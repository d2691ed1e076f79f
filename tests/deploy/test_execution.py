"""Programs of integer networks give the codes that their steps give."""

import numpy as np
import pytest
from deploy.conftest import SIZE, pixels

from refqnn import fast
from refqnn.deploy import deploy, import_onnx
from refqnn.deploy.execution import Part, plan_of
from refqnn.deploy.operations import OperationStep

ROUNDINGS = ("half_up", "half_even", "float32_half_even")


def images_of(network, rng, count=3):
    return rng.integers(0, 256, (count, *network.image_shape), np.uint8)


def check_forward(network, images):
    want = network.trace(images)[network.steps[-1].name]
    got = network.forward(images, fast)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("shortcut", "AB")
@pytest.mark.parametrize("width", [0.25, 0.2])
def test_a_deployed_network_is_one_program(make, rng, rounding, shortcut, width):
    network = make(shortcut=shortcut, signs=(-1.0, 0.0, 1.0), width=width)
    integer = deploy(network, image_size=SIZE, requantize=rounding)
    for count in (1, 5, 0):
        check_forward(integer, pixels(rng, count))
    (part,) = integer.plan
    assert part.results == (integer.steps[-1].name,)


ARCHITECTURES = pytest.importorskip("deploy.architectures", reason="needs onnx")
from deploy.matrix import KINDS  # noqa: E402 - after the skip


@pytest.mark.parametrize("kind", ["u8s8", "s8s8"])
@pytest.mark.parametrize("name", ARCHITECTURES.ARCHITECTURES)
def test_an_imported_network_runs_in_programs(rng, tmp_path, name, kind):
    made, _ = ARCHITECTURES.quantized(rng, tmp_path, name, form="QDQ", **KINDS[kind])
    network = import_onnx(made)
    check_forward(network, images_of(network, rng))
    assert any(isinstance(part, Part) for part in network.plan)


def test_steps_that_the_machine_lacks_run_between_programs(make, rng):
    integer = deploy(make(), image_size=SIZE)
    steps = list(integer.steps)
    pooled = OperationStep(
        "window",
        (steps[1].name,),
        ("x",),
        steps[1].shape,
        "max_pool2d",
        {"kernel": (3, 3), "stride": (1, 1), "padding": ((1, 1), (1, 1))},
        steps[1].grid,
    )
    steps.insert(2, pooled)
    object.__setattr__(steps[3], "source", "window")
    parts = plan_of(tuple(steps))
    assert [isinstance(part, Part) for part in parts] == [True, False, True]
    assert set(parts[0].results) == {steps[1].name}
    assert set(parts[2].sources) == {steps[1].name, "window"}
    network = type(integer)(tuple(steps))
    check_forward(network, pixels(rng))
