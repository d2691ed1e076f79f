"""A semantics is a value: equal, hashable, immutable, and it says what it means."""

import pickle

import numpy as np
import pytest
from conformance import independent
from refusals import refuses

from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.changes import is_square
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.families.fake_quantize import scale_factor
from refqnn.conformance.choices.families.published_answers import (
    Pass,
    parameter_gradient,
    step_of,
)
from refqnn.conformance.choices.kinds import units
from refqnn.conformance.choices.semantics import Semantics


def test_defaults_are_those_of_the_axes():
    s = Semantics()
    assert dict(s) == {name: axis.default for name, axis in AXES.items()}
    assert s.deviations() == {}
    assert repr(s) == "Semantics()"


def test_a_semantics_is_a_value():
    a = Semantics(rounding="floor")
    b = Semantics().replace(rounding="floor")
    assert a == b
    assert hash(a) == hash(b)
    assert a != Semantics()
    assert a.difference(Semantics()) == {"rounding": ("floor", "half_even")}
    assert pickle.loads(pickle.dumps(a)) == a  # noqa: S301 - our own bytes


def test_a_semantics_is_immutable():
    s = Semantics()
    with pytest.raises(AttributeError, match=r"immutable: replace\(rounding='floor'\)"):
        s.rounding = "floor"


def test_errors_list_what_is_valid():
    refuses(r"rounding must be one of \['half_even', .*'up'", Semantics, rounding="up")
    refuses(r"axis must be one of \['rounding', .*'round'", Semantics, round="floor")
    with pytest.raises(AttributeError, match="no axis 'round'"):
        _ = Semantics().round
    refuses("family must be one of", Semantics().explain, "conv3d")


@pytest.mark.parametrize("name", FAMILIES)
def test_explain_fills_every_answer_in(name):
    family = FAMILIES[name]
    for axis, values in family.axes.items():
        if f"{{{axis}}}" not in " ".join(family.equations):
            continue
        for value in values:
            told = Semantics(**{axis: value}).explain(name)
            assert AXES[axis].values[value].equation in told
            assert "{" not in told.replace("1{", "")


def test_a_family_may_lack_an_answer():
    with pytest.raises(
        ValueError, match="requantize has no overflow = 'cast_then_clip'"
    ):
        Semantics(overflow="cast_then_clip").explain("requantize")
    told = Semantics(overflow="cast_then_clip").explain()
    assert "requantize\n  requantize has no overflow = 'cast_then_clip'" in told
    assert "clip(int32(t), q_min, q_max)" in told


@pytest.mark.parametrize("bits", ["24", "15", "15_truncated"])
def test_multipliers_keep_the_bits_that_an_independent_loop_keeps(bits, rng):
    choices = FAMILIES["requantize"].default | {"multiplier_bits": bits}
    kept = {"multiplier_bits": "31"}
    ends = [2**30, 2**31 - 1, 2**30 + 2**15, 2**30 + 2**15 - 1, 2**31 - 2**6]
    for m in [*ends, *rng.integers(2**30, 2**31, 40)]:
        for acc in (2**28 + 12345, -(2**27) - 77, 3):
            call = {"shift": -8, "zero_point": 0, "q_min": -(2**31), "q_max": 2**31 - 1}
            y = FAMILIES["requantize"].evaluate(
                choices, acc=np.array([acc]), multiplier=int(m), **call
            )["y"]
            want = independent.requantize(
                FAMILIES["requantize"].default | kept, acc,
                independent.kept_bits(bits, int(m)), -8, 0, -(2**31), 2**31 - 1,
            )  # fmt: skip
            assert int(y[0]) == int(np.ravel(want)[0]), (bits, m, acc)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("1", 1.0),
        ("none", 0.0),
        ("negated", -1.0),
        ("1/N", 1 / 6),
        ("1/sqrt(N)", 6**-0.5),
        ("1/sqrt(N*q_p)", 42**-0.5),
        ("1/sqrt(F*q_p)", 21**-0.5),
    ],
)
def test_factors_of_a_gradient_of_a_step(name, want):
    assert scale_factor(name, (2, 3), 7) == pytest.approx(want)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("sum", 1.0),
        ("negated", -1.0),
        ("none", 0.0),
        ("mean", 1 / 3),
        ("mean_of_kept", 1 / 5),
        ("1/sqrt(N)", 3**-0.5),
        ("1/sqrt(N*q_p)", 21**-0.5),
        ("1/sqrt(F*q_p)", 21**-0.5),
    ],
)
def test_factors_of_a_gradient_of_a_parameter(name, factor):
    choices = {"parameter_gradient": name}
    x, g = np.zeros((2, 3)), np.array([1.0, -2.0])
    found = parameter_gradient(choices, g, x, {"q_p": 7}, 5)
    np.testing.assert_allclose(found, factor * g)


@pytest.mark.parametrize(
    ("shape", "square"),
    [((3, 3), True), ((2, 3, 3), True), ((3, 3, 2), False), ((3,), False),
     ((1, 1), False), ((4, 1, 1), False)],
)  # fmt: skip
def test_what_can_be_transposed_unseen_is_square(shape, square):
    assert is_square(np.zeros(shape)) == square


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("dorefa_activation", {"bits": 3}, ()),
        ("fixed_point", {"bits": 3}, (np.array(1.5),)),
        ("haq_linear", {"bits": 4, "clip": 1.5}, ()),
        ("min_max", {"bits": 3}, (np.array(-1.0), np.array(1.5))),
        ("affine", {"bits": 3}, (np.array(-1.0), np.array(1.5))),
        ("affine", {"bits": 3, "narrow_range": True}, (np.array(-1.0), np.array(1.5))),
    ],
)
def test_steps_of_uniform_grids_are_distances_of_levels(name, options, parameters):
    x = np.linspace(-3, 3, 6001)[None]
    q = Pass(name, options, parameters, np.ones_like(x))
    gaps = np.diff(np.unique(np.round(q(x)[0], 12)))
    np.testing.assert_allclose(gaps, step_of(q), rtol=1e-9)


def test_ends_of_a_grid_are_in_steps_from_its_zero_point():
    call = {"x": [1.0, -3.0], "scale": 0.5, "zero_point": 3, "q_min": -8, "q_max": 7}
    steps, least, most = units(call, "x")
    np.testing.assert_array_equal(steps, [2, -6])
    assert (float(least), float(most)) == (-11, 4)
