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


@pytest.mark.parametrize("name", ["gaussian_clip", "training_step"])
def test_quantizers_and_families_are_near(name, capsys):
    assert main(["explain", name[:-1]]) != 0
    assert name in capsys.readouterr().err.strip().partition("near: ")[2].split(", ")


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


def lines_at(capsys, *words):
    return explained(capsys, *words)["lines"]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_the_way_of_a_number_passes_the_equations_and_the_gradient(capsys, name):
    lines = lines_at(capsys, name, "--at", "0.4")
    forward = {
        e for line in lines if line["function"] == name for e in line["equations"]
    }
    backward = [line for line in lines if line["function"] == f"{name}_backward"]
    assert forward
    assert [e for line in backward for e in line["equations"]]
    assert all(line["values"] for line in backward if line["equations"])


def test_the_lines_of_lsq_are_its_equations_by_hand(capsys):
    words = ("lsq", "--at", "0.7", "--bits", "3", "--set", "s=0.5")
    by_equation = {
        line["equations"][0]: line["values"]
        for line in lines_at(capsys, *words)
        if line["equations"]
    }
    assert by_equation["1"] == {"q": "1"}
    assert by_equation["2"]["gives"].startswith("(0.5, LSQCache(")
    assert by_equation["5"] == {"dv": "1"}
    assert by_equation["3"] == {"ds": "-0.4"}  # 1 - 1.4, before its scale
    text = explained(capsys, *words)["text"]
    assert " (1)   q = np.rint(np.clip(u, -q_n, q_p)) + 0.0 " in text


def test_a_requantization_at_a_sum(capsys):
    words = ("requantize", "--at", "10", "--set", "real=0.25", "--set", "zero_point=-3")
    numbers = at(capsys, *words)
    want = {"acc": "10", "q": "0", "exact": "-0.5", "shift": "-1", "q_max": "127"}
    assert {name: numbers[name] for name in want} == want
    assert numbers["multiplier"] == str(2**30)
    lines = lines_at(capsys, *words)
    scaled = next(line for line in lines if line["equations"] == ["3"])
    assert scaled["values"] == {"scaled": "3"}  # 2.5, half up
    assert at(capsys, *words, "--bits", "16")["q_max"] == "32767"


def test_a_gate_at_a_logit(capsys):
    numbers = at(capsys, "gate", "--at", "0")
    assert (numbers["p"], numbers["m"], numbers["dL / dz"]) == ("0.5", "1", "0.25")
    marks = [
        e for line in lines_at(capsys, "gate", "--at", "0") for e in line["equations"]
    ]
    assert marks == ["1", "a", "b"]
    assert at(capsys, "gate", "--at", "-2")["m"] == "0"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lsq", "--at", "1", "--set", "q=1"), "the learned numbers are s"),
        (("fixed_point", "--at", "1", "--set", "a=1"), "the learned numbers are none"),
        (("conv2d", "--at", "1"), "--at needs the name of a quantizer with a module"),
        (("requantize", "--at", "1.5"), "accumulator and zero_point must be whole"),
        (("requantize", "--at", "1", "--bits", "1"), "bits must be an int in [2, 32]"),
        (("requantize", "--at", "1", "--set", "s=1"), "are real, zero_point"),
        (("gate", "--at", "1", "--set", "s=1"), "the numbers of a gate are none"),
        (("lsq", "--at", "1", "--bits", "1"), "bits must be an int in [2, 16]"),
        (("lsq", "--at", "1", "--set", "s=-1"), "step size s must be positive"),
    ],
)
def test_what_cannot_be_computed_is_said(capsys, words, message):
    assert main(["explain", *words]) != 0
    assert message in capsys.readouterr().err
