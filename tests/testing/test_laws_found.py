"""The search for laws finds the property matrix, and names what is no quantizer."""

import numpy as np
import pytest
from refusals import refuses
from tables.quantizers import ROWS

from refqnn import quantizers as qz
from refqnn.testing import check_quantizer, parametrize_with_laws
from refqnn.testing.laws import LAWS, holds
from refqnn.testing.subjects import subject

VERDICTS = {"y": "holds", "n": "fails", "c": "fails"}


@pytest.mark.once
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_row_of_every_quantizer_is_found(row):
    """From the function alone: no levels, no counterexample, no module is given.

    Only SYQ is told its groups: positions of a kernel, which no trying shows.
    """
    held = row.laws["JSE"].mark != "-"

    def forward(v, k=1.0):
        return row.apply(v, float(k))

    report = check_quantizer(
        forward,
        parameters=(1.0,) if held else (),
        groups=row.groups if row.source[2] == "symmetric_quantization.py" else None,
    )
    assert report.laws == {
        law: VERDICTS[v.mark] for law, v in row.laws.items() if v.mark != "-"
    }
    assert set(report.counterexamples) == {
        law for law, verdict in report.laws.items() if verdict == "fails"
    }
    for law, v in report.counterexamples.items():
        with pytest.raises(AssertionError):
            LAWS[law](row, v)
        assert v.size <= 10, law


def test_the_report_is_the_row_of_the_matrix():
    options = {"q_n": 8, "q_p": 7}
    report = check_quantizer(
        qz.lsq, qz.lsq_backward, parameters=(0.3,), options=options
    )
    head, _, row, *failures = str(report).splitlines()
    assert head.split(" | ")[2:] == [*list(LAWS)[:-1], "ZERO |"]
    assert row == "| lsq | 16 | y | n | n | y | n | y | n | y | y | y |"
    assert failures[0] == "ODD fails on [[2.5]]"
    assert 0 < report.gradient_error < 1e-6


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (qz.LSQ, {}),
        (qz.FixedPoint, {"bits": 3}),
        (qz.TTQ, {}),
        (qz.WEQActivation, {"levels": 4}),
        (qz.LQWeight, {"bits": 2, "filters": 3}),
    ],
)
def test_module_classes_are_judged_by_their_codes_too(module, options):
    report = check_quantizer(module, options=options)
    assert report.laws["MONO"] == "holds"
    assert report.gradient_error < 1e-6


def test_a_module_that_is_made_already_is_left_alone():
    module = qz.LSQ(bits=3)
    module.set_step(0.25)
    report = check_quantizer(module, expected={"JSE": "holds", "SE": "fails"})
    assert report.levels == 8
    assert module.s.value == 0.25
    with pytest.raises(ValueError, match=r"parameters must be of \['s'\]"):
        check_quantizer(module, parameters=("alpha",))


class WrongCodes(qz.FixedPoint):
    def encode(self, v):
        codes, levels = super().encode(v)
        return codes, np.roll(levels, 1)


class SlightlyWrong(qz.LSQ):
    def param_gradient(self, name, grad):  # noqa: ARG002 - the signature of the room
        return 1.001 * grad


class WrongGradient(qz.FixedPoint):
    def backward(self, dy, cache):
        return 2 * super().backward(dy, cache)


def test_wrong_codes_and_gradients_of_a_module_are_named():
    with pytest.raises(AssertionError, match=r"levels\[codes\]"):
        check_quantizer(WrongCodes)
    with pytest.raises(AssertionError, match=r"dv\[.* a factor of 2$"):
        check_quantizer(WrongGradient)
    with pytest.raises(AssertionError, match=r"ds is .* a factor of 1\.001"):
        check_quantizer(SlightlyWrong)


def test_a_backward_without_a_frozen_form_is_held_to_linearity_and_shape():
    def forward(v):
        return np.rint(v), v

    assert check_quantizer(forward, lambda dy, _: dy).gradient_error is None
    with pytest.raises(AssertionError, match="not linear in dy"):
        check_quantizer(forward, lambda dy, _: np.abs(dy))
    with pytest.raises(AssertionError, match="dv has the shape"):
        check_quantizer(forward, lambda dy, _: dy[0])
    with pytest.raises(AssertionError, match="dv is float32, v is float64"):
        check_quantizer(forward, lambda dy, _: dy.astype(np.float32))


def test_a_gradient_that_is_scaled_element_by_element_is_not_linear():
    def forward(v):
        return np.rint(v), v

    def backward(dy, v):
        return dy * (1 + 0.1 * np.sign(dy) * (v - np.rint(v)))

    with pytest.raises(AssertionError, match="linear=False if it is meant"):
        check_quantizer(forward, backward)
    report = check_quantizer(forward, backward, linear=False)
    assert (report.laws["ODD"], report.gradient_error) == ("holds", None)
    with pytest.raises(AssertionError, match="dv is not finite"):
        check_quantizer(forward, lambda dy, _: dy * np.nan, linear=False)


@pytest.mark.parametrize("expected", [["ODD"], "ODD", {"ODD": "y"}, {"ODD": True}])
def test_what_is_expected_is_a_test(expected):
    assert check_quantizer(np.rint, expected=expected).laws["ODD"] == "holds"
    with pytest.raises(AssertionError, match=r"(?s)ODD fails, expected: holds.*ODD f"):
        check_quantizer(np.floor, expected=expected)


def test_laws_about_parameters_are_not_asked_without_any():
    report = check_quantizer(np.rint, expected={"JSE": "not asked", "INV": "-"})
    assert set(LAWS) - set(report.laws) == {"JSE", "INV"}
    assert str(report).splitlines()[2] == (
        "| rint | 2049 | y | y | n | - | - | y | n | y | y | y |"
    )
    with pytest.raises(AssertionError, match="JSE not asked, expected: holds"):
        check_quantizer(np.rint, expected=["JSE"])


def test_a_law_that_does_not_exist_is_refused():
    refuses("expected must map laws", check_quantizer, np.rint, expected=["EVEN"])
    refuses("groups must be one of", check_quantizer, np.rint, groups="columns")


def test_groups_are_found_by_trying():
    def found(forward):
        judged = subject(forward, (), {})
        judged.look()
        return judged.by_filter, judged.levels is not None

    assert found(np.rint) == (False, True)
    assert found(lambda v: qz.binary(v, group="filter")[0]) == (True, False)
    assert found(lambda v: qz.binary(v, group="layer")[0]) == (False, False)


def test_functions_of_torch_come_through_dlpack():
    torch = pytest.importorskip("torch")
    report = check_quantizer(lambda x: torch.round(x.clamp(-1, 1) * 4) / 4)
    assert report.laws == check_quantizer(lambda v: np.rint(v.clip(-1, 1) * 4) / 4).laws
    assert check_quantizer(torch.nn.Hardtanh()).laws["ODD"] == "holds"
    with pytest.raises(AssertionError, match="gives NaN"):
        check_quantizer(torch.sqrt)


def test_values_that_are_refused_say_nothing():
    judged = subject(lambda v: qz.lsq(v, np.array(0.3), q_n=4, q_p=3), (), {})
    assert holds("ODD", judged, np.array([[np.inf]], np.float32))


@parametrize_with_laws(
    qz.pact, parameters=(6.0,), options={"bits": 2}, expected={"SE": "n", "MONO": "y"}
)
def test_the_decorator_gives_a_test_a_law(law):
    assert law().laws[law.law] == law.verdict


def test_the_decorator_fails_where_the_law_does_and_refuses_nothing():
    mark = parametrize_with_laws(np.floor, expected=["ODD"]).mark
    with pytest.raises(AssertionError, match="ODD fails, expected: holds"):
        mark.args[1][0]()
    refuses("nothing would be checked", parametrize_with_laws, np.floor, expected=[])
