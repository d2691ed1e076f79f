"""``refqnn explain``: what a name means, and a quantizer at one value."""

import json

import pytest

from refqnn import quantizers
from refqnn.cli import main
from refqnn.conformance.choices.families import FAMILIES


def explained(capsys, *words):
    assert main(["explain", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_quantizer_has_citation_equations_and_choices(capsys):
    answer = explained(capsys, "lsq")
    assert answer["file"] == "refqnn/quantizers/learned_step_size.py"
    assert "arXiv:1902.08153" in answer["about"]
    assert "d v_hat / d s, eq. (3)   ds          lsq_backward" in answer["about"]
    assert answer["function"].startswith("lsq(v, s, q_n, q_p, grad_scale, frozen)")
    assert "v_hat = s * round(clip(v / s, -q_n, q_p))" in answer["function"]
    assert answer["semantics"]["rounding"] == "half_even"
    assert "  rounding = half_even; or half_away, half_up" in answer["choices"]
    for part in ("about", "function", "equations", "choices"):
        assert answer[part] in answer["text"]


def test_an_op_and_a_profile(capsys):
    text = explained(capsys, "conv2d", "--profile", "onnx")["text"]
    assert "refqnn/ops/conv.py" in text
    assert 'DERIVATIONS.md, "conv2d"' in text
    assert "choices, under profile onnx" in text


@pytest.mark.parametrize("name", [*FAMILIES, "lsq_plus", "relu", "quantize_multiplier"])
def test_every_family_quantizer_and_op_is_explained(capsys, name):
    answer = explained(capsys, name)
    assert answer["text"].strip()
    assert ("semantics" in answer) == (name in FAMILIES)


def test_an_unknown_name_is_told_what_is_near(capsys):
    assert main(["explain", "lsqq"]) != 0
    message = capsys.readouterr().err
    assert "no quantizer, op or family is called 'lsqq'; near: " in message
    assert "lsq" in message.partition("near: ")[2].split(", ")


def at(capsys, *words):
    return explained(capsys, *words)["at"]


def test_lsq_at_a_value_by_hand(capsys):
    numbers = at(capsys, "lsq", "--at", "0.7", "--bits", "3", "--set", "s=0.5")
    assert numbers["levels"] == "-2 -1.5 -1 -0.5 0 0.5 1 1.5"
    want = {"u": "1.4", "q": "1", "s": "0.5", "code": "5", "y": "0.5", "dy / dv": "1"}
    assert {name: numbers[name] for name in want} == want
    assert numbers["error y - v"] == "-0.2"
    assert numbers["grad_scale"] == "0.57735"  # 1 / sqrt(1 * 3)
    assert numbers["dy / ds"] == "-0.23094"  # (1 - 1.4) / sqrt(3)


def test_pact_beyond_its_level(capsys):
    numbers = at(capsys, "pact", "--at", "9", "--bits", "2", "--set", "alpha=3")
    want = {"y": "3", "code": "3", "dy / dv": "0", "dy / dalpha": "1"}
    assert {name: numbers[name] for name in want} == want


def test_numbers_of_a_method_whose_levels_are_learned(capsys):
    numbers = at(capsys, "ttq", "--at", "0.4", "--set", "wp=2", "--set", "wn=0.5")
    assert numbers["levels"] == "-0.5 0 2"
    assert (numbers["y"], numbers["dy / dwp"], numbers["dy / dwn"]) == ("2", "1", "0")


MODULES = {
    kind.pair[0].__name__
    for kind in vars(quantizers).values()
    if isinstance(kind, type) and hasattr(kind, "pair")
}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_quantizer_is_computed_at_a_value(capsys, name):
    numbers = at(capsys, name, "--at", "0.4")
    assert float(numbers["v"]) == 0.4
    y = float(numbers["y"])
    levels = numbers["levels"].split()
    assert "..." in levels or y in map(float, levels)
    assert abs(float(numbers["error y - v"]) - (y - 0.4)) < 1e-5
    assert "dy / dv" in numbers


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lsq", "--at", "1", "--set", "q=1"), "the learned numbers are s"),
        (("fixed_point", "--at", "1", "--set", "a=1"), "the learned numbers are none"),
        (("conv2d", "--at", "1"), "--at needs the name of a quantizer with a module"),
        (("lsq", "--at", "1", "--bits", "1"), "bits must be an int in [2, 16]"),
        (("lsq", "--at", "1", "--set", "s=-1"), "step size s must be positive"),
    ],
)
def test_what_cannot_be_computed_is_said(capsys, words, message):
    assert main(["explain", *words]) != 0
    assert message in capsys.readouterr().err
