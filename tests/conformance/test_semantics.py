"""A semantics is a value: equal, hashable, immutable, and it says what it means."""

import pickle

import pytest

from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.families import FAMILIES
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
    with pytest.raises(
        ValueError, match=r"rounding must be one of \['half_even', .*'up'"
    ):
        Semantics(rounding="up")
    with pytest.raises(
        ValueError, match=r"axis must be one of \['rounding', .*'round'"
    ):
        Semantics(round="floor")
    with pytest.raises(AttributeError, match="no axis 'round'"):
        _ = Semantics().round
    with pytest.raises(ValueError, match="family must be one of"):
        Semantics().explain("conv3d")


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
