"""Answers that are no variant of refqnn's own functions, by hand."""

import numpy as np
import pytest
from refusals import refuses

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES, family_of
from refqnn.conformance.choices.families.roundings import ROUND
from refqnn.conformance.choices.regions import pool

ENDS = ("open", "closed", "half_open", "half_open_below")
INT8 = {"q_min": -128, "q_max": 127}


def evaluate(name, call, **answers):
    family = family_of(name)
    return family.evaluate({**family.default, **answers}, **call)


def quantize(x, scale=1.0, zero_point=0, ends=INT8, **answers):
    call = {"x": np.float32(x), "scale": np.float32(scale), "zero_point": zero_point}
    return evaluate("quantize", call | ends, **answers)["y"].tolist()


@pytest.mark.parametrize(
    ("rounding", "want"),
    [
        ("half_odd", [-3, -1, -1, 1, 1, 3, 1]),
        ("half_to_zero", [-2, -1, 0, 0, 1, 2, 1]),
        ("away", [-3, -2, -1, 1, 2, 3, 1]),
    ],
)
def test_roundings_that_refqnn_does_not_offer(rounding, want):
    x = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.75]
    assert quantize(x, rounding=rounding) == want


@pytest.mark.parametrize("rounding", sorted(ROUND))
def test_beside_ties_every_rounding_but_those_to_one_side_is_the_nearest(rounding):
    """t - floor(t) of a float32 below 0 can round to 1/2 where t is no tie."""
    t = np.float32([0.5, -0.5, 1.5, -2.5, 2**22 + 0.5, -(2**22) - 0.5])
    t = np.stack([np.nextafter(t, np.float32(sign * 9e9)) for sign in (1, -1)])
    exact = t.astype(np.float64)
    to_one_side = {"floor": np.floor, "ceil": np.ceil, "trunc": np.trunc}
    away = {"away": lambda u: np.copysign(np.ceil(np.abs(u)), u)}
    want = (to_one_side | away).get(rounding, np.rint)(exact)
    np.testing.assert_array_equal(ROUND[rounding](t), want)


def test_a_function_four_answers_from_the_reference_is_named():
    """QONNX rounds HALF_UP so; a table of variants ends at three."""
    family = family_of("quantize")
    own = {"rounding": "half_away", "half": "float", "nan": "kept"}
    own["zero_point_when"] = "before_rounding"
    choices = family.default | own
    assert choices not in family.variants()
    known = identify(lambda *a: family.evaluate(choices, *a)["y"], "quantize")
    assert known.certain == choices


@pytest.mark.parametrize("at", ["zeros", "a number"])
def test_nan_for_zeros_alone_leaves_the_rest_of_a_verdict(at):
    """DoReFa divides by max|tanh(w)|: its released code has 0 / 0 for zeros."""
    family = family_of("dorefa_weight")

    def port(x, dy):
        y, dx = family.evaluate(family.default, x, dy).values()
        lost = ~np.any(x) if at == "zeros" else x == 0
        return np.where(lost, np.nan, y), dx

    known = identify(port, "dorefa_weight", in_process=True)
    assert known.explained == (at == "zeros")
    if at == "zeros":
        assert known.certain["max_grad"] == "True"
        assert "0 / 0" in str(known)


def test_the_end_of_a_mask_is_moved_where_x_is_0_and_an_offset_is_not():
    """LSQ+: (0 + 1.5) / 0.5 is q_p = 3; 0 moved by itself alone would stay there."""
    x = np.zeros((1, 1, 1, 1))
    call = {"x": x, "dy": x - 1, "s": np.array(0.5), "beta": np.array(-1.5)}
    ends = {how: evaluate("lsq_plus", call, mask_ends=how)["dx"].item() for how in ENDS}
    assert ends == {"open": 0, "closed": -1, "half_open": 0, "half_open_below": -1}


def test_a_half_that_is_added_in_float_rounds():
    below = [0.49999997, -0.49999997]
    assert quantize(below, rounding="half_up", half="float") == [1, 0]
    assert quantize(below, rounding="half_away", half="float") == [1, -1]
    assert quantize(below, rounding="half_away") == [0, 0]


def test_ranges_nan_and_casts():
    assert quantize([-200], code_range="symmetric") == [-127]
    assert quantize([np.nan], zero_point=5, nan="raw_zero") == [0]
    assert quantize([300], overflow="wrap") == [44]
    assert quantize([300], overflow="wrap", ends={"q_min": -127, "q_max": 127}) == [44]


def test_an_affine_range_is_x_a_plus_b():
    """OpenVINO: 0.5 of scale 1 is 128.5 from q_min, and 128 is even."""
    assert quantize([0.5, 1.5], scaling="range") == [0, 2]
    assert quantize([0.5], scaling="range", code_range="symmetric") == [1]


def test_quantize_is_that_of_the_integer_room_for_all_its_options():
    calls = [c for c in pool("quantize", 60) if np.isfinite(c["x"]).all()]
    for call in calls:
        for rounding in integer.rounding.ROUNDINGS:
            for scaling in ("divide", "reciprocal"):
                for when in ("after_rounding", "before_rounding"):
                    options = {"rounding": rounding, "scaling": scaling}
                    options |= {"zero_point_when": when}
                    np.testing.assert_array_equal(
                        evaluate("quantize", call, **options)["y"],
                        integer.quantize(**call, **options),
                    )


def test_fused_dequantization_rounds_once():
    call = {"q": np.int8([3]), "scale": np.float32(0.1), "zero_point": 1}
    s = np.float32(0.1)
    exact = np.float64(s) * 3 - np.float64(s)
    y = evaluate("dequantize", call, dequantize_order="fma")["y"]
    assert y == np.float32(exact)
    assert y != evaluate("dequantize", call, dequantize_order="multiply_first")["y"]


@pytest.mark.parametrize(
    ("difference", "want"), [("exact", 190), ("wraps", -66), ("wraps_in_type", 190)]
)
def test_differences_of_codes_wrap_where_they_are_stored(difference, want):
    call = {"q": np.uint8([200]), "scale": np.float32(1), "zero_point": 10}
    assert evaluate("dequantize", call, code_difference=difference)["y"] == want


def requantize(acc, multiplier=1 << 30, shift=0, **answers):
    call = {"acc": np.int32(acc), "multiplier": multiplier, "shift": shift}
    call |= {"zero_point": 0, **INT8}
    return evaluate("requantize", call, **answers)["y"].tolist()


def test_requantization_as_other_kernels_do_it():
    assert requantize([1, -1], requantize="float32_half_away") == [1, -1]
    assert requantize([80_000], overflow="cast16_then_clip") == [-128]
    assert requantize([3], 1_431_655_766, -1, requantize="floor") == [1]
    truncated = {"requantize": "floor", "multiplier_bits": "15_truncated"}
    assert requantize([3], 1_431_655_766, -1, **truncated) == [0]
    # 15 bits hold at most 2^15 - 1: the largest multiplier does not round up
    full = requantize([2**15], 2**31 - 1, 0, multiplier_bits="15")
    assert full == [127]


@pytest.mark.parametrize(
    ("accumulator", "want"),
    [
        ("int16_wrap", 40_000 - 2**16),
        ("int16_saturate", 2**15 - 1),
        ("int24_wrap", 40_000),
        ("int32_wrap", 40_000),
    ],
)
def test_sums_of_fewer_bits(accumulator, want):
    call = {"x": np.int16([[20_000]]), "w": np.int8([[2]]), "b": np.int32([0])}
    call |= {"x_zero_point": 0, "w_zero_point": 0}
    assert evaluate("linear", call, accumulator=accumulator)["y"] == want


def published(name, x, dy, *parameters, options="", **answers):
    family = family_of(name + options)
    names = [k for k in family.candidates()[0] if k not in {"x", "dy"}]
    call = {"x": np.float64(x), "dy": np.float64(dy)}
    call |= dict(zip(names, map(np.asarray, parameters), strict=True))
    return evaluate(name + options, call, **answers)


@pytest.mark.parametrize(("sign", "want"), [("+1", 1), ("-1", -1), ("0", 0)])
def test_the_sign_of_zero(sign, want):
    x = [[0.0, 2.0]]
    assert published("binary", x, [[1, 1]], sign_of_zero=sign)["y"][0, 0] == want
    outputs = published("xnor_weight", x, [[3.0, 5.0]], sign_of_zero=sign)
    # alpha = 1; the other weight gets s mean(dy b), |w| < 1 only for the first
    np.testing.assert_allclose(outputs["y"], [[want, 1]], atol=1e-9)
    np.testing.assert_allclose(outputs["dx"], [[3, (3 * want + 5) / 2]], atol=1e-9)


@pytest.mark.parametrize(
    ("how", "want"), [("published", -1), ("up", 0.25), ("away", -1), ("to_zero", 0.25)]
)
def test_ties_of_centroids(how, want):
    x = [[-0.375]]
    y = published("kmeans_weight", x, [[1]], (-1.0, 0.25), ties=how)["y"]
    assert y == want


@pytest.mark.parametrize(
    ("ends", "want"),
    [
        ("published", [0, 1, 1, 1, 0]),
        ("open", [0, 0, 1, 0, 0]),
        ("half_open", [0, 1, 1, 0, 0]),
        ("half_open_below", [0, 0, 1, 1, 0]),
    ],
)
def test_ends_of_masks(ends, want):
    x = [[-0.5, 0, 0.25, 1, 1.5]]
    dx = published("dorefa_activation", x, np.ones((1, 5)), mask_ends=ends)["dx"]
    np.testing.assert_array_equal(dx, [want])


@pytest.mark.parametrize(
    ("form", "want"),
    [
        ("sum", -9.0),
        ("mean", -3.0),
        ("mean_of_kept", -4.5),
        ("negated", 9.0),
        ("none", 0.0),
        ("1/sqrt(N*q_p)", -3.0),
    ],
)
def test_gradients_of_a_learned_step(form, want):
    """Terms -4 times 3, 3 times 1, 0: the last lies on a level."""
    x, dy = [[-9.0], [9.0], [1.0]], [[3.0], [1.0], [7.0]]
    ds = published("lsq", x, dy, 1.0, parameter_gradient=form)["ds"]
    np.testing.assert_allclose(ds, want)


def test_the_printed_sign_of_ttq():
    x, dy = [[1.0], [-1.0]], [[2.0], [5.0]]
    right = published("ttq", x, dy, 1.0, 1.0)
    printed = published("ttq", x, dy, 1.0, 1.0, negative_level="sum")
    assert (right["dwn"], printed["dwn"]) == (-5, 5)
    assert right["dwp"] == printed["dwp"] == 2


def test_options_of_a_quantizer_can_be_set():
    x, dy = [[5.0]], [[1.0]]
    assert published("lsq", x, dy, 1.0)["y"] == 3
    assert published("lsq", x, dy, 1.0, options=":q_n=8,q_p=7")["y"] == 5
    refuses(r"options of lsq to be set are \['q_n', 'q_p", family_of, "lsq:bits=3")
    refuses("family must be one of", family_of, "lsqq:q_n=3")


def test_arguments_of_quantizers_have_their_names():
    names = {n: list(FAMILIES[n].arguments) for n in ("pact", "qil_weight")}
    assert names["pact"] == ["x", "dy", "alpha"]
    assert names["qil_weight"] == ["x", "dy", "c", "d", "gamma"]
