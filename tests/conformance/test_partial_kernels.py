"""Kernels that take a part of their family: the verdict is about that part."""

# ruff: noqa: ARG001, ARG005 - the functions have the arguments of kernels

import numpy as np
import pytest

from refqnn import integer
from refqnn.conformance import (
    Child,
    Semantics,
    check_implementation,
    identify,
    verify,
)
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.variants import table
from refqnn.conformance.judge.arguments import (
    complete,
    order_of,
    two_pairs,
)
from refqnn.conformance.judge.confirm import confirming_calls, gather
from refqnn.conformance.judge.inspection import unplain
from refqnn.conformance.judge.subject import subject_of


def conv(x, w, b, xz, wz, stride, padding, dilation, groups):
    """Right for stride 1 and one group only."""
    return integer.conv2d(x, w, b, x_zero_point=xz, w_zero_point=wz, padding=padding)


def plain(call):
    ones = all(np.all(np.asarray(call[k]) == 1) for k in ("stride", "dilation"))
    return bool(ones and call["groups"] == 1)


def test_a_supported_part_is_judged_and_the_rest_is_named():
    whole = check_implementation(conv, "conv2d", in_process=True)
    assert whole.exit_code == 1
    part = check_implementation(conv, "conv2d", supports=plain, in_process=True)
    assert part.conforms
    assert part.exit_code == 0
    told = next(line for line in part.unseen if "not supported" in line)
    assert "groups: 2" in told
    assert "not looked at: " in str(part)
    assert '"unseen": [' in part.as_json()
    found = identify(conv, "conv2d", supports=plain, in_process=True)
    assert found.explained
    assert found.certain["kernel"] == "correlation"
    assert any("not supported" in line for line in found.unseen)


def test_a_wrong_kernel_is_wrong_in_the_part_that_it_supports():
    def wrong(*inputs):
        return conv(*inputs) + 1

    found = check_implementation(wrong, "conv2d", supports=plain, in_process=True)
    assert found.exit_code == 1


def test_what_cannot_be_seen_in_the_part_is_undetermined():
    """With one group nothing shows how channels are assigned to groups."""
    found = identify(conv, "conv2d", supports=plain, in_process=True)
    assert "group_assignment" in found.undetermined
    assert "group_assignment" not in found.certain


def test_supports_that_refuses_everything_checks_nothing():
    found = check_implementation(conv, "conv2d", supports=lambda _: False)
    assert found.exit_code == 3
    assert not found.conforms
    assert "nothing was checked" in str(found)
    asked = identify(conv, "conv2d", supports=lambda _: False)
    assert not asked.explained
    assert asked.inputs == 0
    assert "nothing that the function supports" in str(asked)
    with pytest.raises(ValueError, match=r"supports\(\{x, .* KeyError: 'group'"):
        identify(conv, "conv2d", supports=lambda call: call["group"] == 1)


def bare(x, w):
    return integer.conv2d(x, w)


def short(x, w, b, stride=1, padding=0):
    return integer.conv2d(x, w, b, stride=stride, padding=padding)


@pytest.mark.parametrize("function", [bare, short, integer.conv2d])
def test_arguments_that_a_function_leaves_out_have_their_defaults(function):
    found = check_implementation(function, "conv2d", in_process=True)
    assert found.conforms, str(found)
    wrong = check_implementation(
        lambda x, w: integer.conv2d(x, w[..., ::-1]), "conv2d", in_process=True
    )
    assert not wrong.conforms


def test_identify_asks_with_fewer_arguments():
    found = identify(bare, "conv2d", in_process=True)
    assert found.explained
    assert found.certain["weight_layout"] == "OIHW"
    assert "bias" in found.undetermined
    assert any("leaves out" in line for line in found.unseen)


def test_an_argument_without_a_default_cannot_be_left_out():
    with pytest.raises(ValueError, match="leaves out scale, which has no default"):
        identify(lambda x: x, "quantize")


def test_which_arguments_are_taken():
    names = ("x", "w", "b", "stride")
    assert order_of(lambda x, w: 0, names) == (("x", "w"), ())
    assert order_of(lambda x, stride: 0, names) == (("x", "stride"), ())
    assert order_of(lambda p, q: 0, names) == (("x", "w"), ())
    assert order_of(lambda p, q, r, s, extra=3: 0, names) == (names, ())
    assert order_of(lambda p, extra=3: 0, names) == (("x",), ())
    assert order_of(lambda x, w, *, stride, other=1: 0, names) == (
        ("x", "w"),
        ("stride",),
    )
    assert order_of(lambda *a: 0, names) == (names, ())
    assert order_of(Child(lambda x, w: 0), names) == (("x", "w"), ())
    assert order_of(max, names) == (names, ())


def test_calls_are_completed():
    family = FAMILIES["conv2d"]
    x, w = np.zeros((1, 2, 4, 4), np.uint8), np.zeros((3, 2, 1, 1), np.int8)
    call = complete(family, {"x": x, "w": w, "b": None, "padding": (1, 2)})
    assert list(call) == list(family.arguments)
    np.testing.assert_array_equal(call["b"], [0, 0, 0])
    assert call["padding"] == ((1, 1), (2, 2))
    assert two_pairs(((0, 1), 2)) == ((0, 1), (2, 2))
    assert unplain(call) == 1


def only(dtype):
    """A linear layer that takes codes of one dtype."""

    def linear(x, w, b, xz, wz):
        if x.dtype != dtype:
            raise TypeError(f"x must be {dtype}")
        return integer.linear(x, w, b, x_zero_point=xz, w_zero_point=wz)

    return linear


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_kernels_of_one_dtype_are_asked_with_it(dtype):
    found = check_implementation(only(dtype), "linear", in_process=True)
    assert found.conforms, str(found)
    assert any(f"x must be {dtype}" in line for line in found.unseen)
    asked = identify(only(dtype), "linear", in_process=True)
    assert asked.explained
    assert any(f"x must be {dtype}" in line for line in asked.unseen)


def test_a_kernel_of_one_dtype_can_be_wrong():
    def wrong(x, w, b, xz, wz):
        return only("int8")(x, w, b, xz, wz) + (np.asarray(xz) < 0)

    assert check_implementation(wrong, "linear", in_process=True).exit_code == 1
    assert not identify(wrong, "linear", in_process=True).explained


def test_a_function_that_refuses_everything_is_broken_not_partial():
    def broken(*_):
        raise RuntimeError("no such kernel")

    found = check_implementation(broken, "linear", in_process=True)
    assert found.exit_code == 3
    assert not found.conforms
    assert "no such kernel" in str(found)


def test_a_built_in_range_of_codes_is_said():
    def int8_only(x, s, z, lo, hi):
        return np.clip(np.rint(x / s) + z, -128, 127)

    found = identify(int8_only, "quantize", in_process=True)
    assert found.explained
    assert any("ignores q_min and q_max" in line for line in found.unseen)
    assert "range: uint8" not in found.regions
    assert not check_implementation(int8_only, "quantize", in_process=True).conforms


def test_a_built_in_range_that_no_type_has_is_an_unknown_answer():
    """-127 .. 127 for every q_max: nothing would refute that q_max is used."""

    def fixed(x, s, z, lo, hi):
        return np.clip(np.rint(np.nan_to_num(x) / s) + z, -127, 127)

    found = identify(fixed, "quantize", in_process=True)
    assert not found.explained
    assert found.unknown["code_range"].startswith("-127 .. 127, whatever")
    assert found.certain["rounding"] == "half_even"
    said = Semantics(code_range="symmetric", nan="zero")
    rng = np.random.default_rng(0)
    assert not verify(fixed, "quantize", said, rng=rng, in_process=True).conforms

    def symmetric(x, s, z, lo, hi):
        return np.clip(np.rint(np.nan_to_num(x) / s) + z, max(lo, -hi), hi)

    found = identify(symmetric, "quantize", in_process=True)
    assert found.certain["code_range"] == "symmetric"
    assert verify(symmetric, "quantize", said, rng=rng, in_process=True).conforms


def test_a_function_that_refuses_every_number_has_not_chosen_to_refuse_nan():
    def broken(*_):
        raise RuntimeError("no such kernel")

    found = identify(broken, "quantize", in_process=True)
    assert not found.explained
    assert "no such kernel" in str(found)


@pytest.mark.parametrize("over", [1, 3])
@pytest.mark.parametrize("name", ["conv2d", "linear", "matmul", "mean_pool2d"])
def test_what_is_left_over_of_a_row_can_be_wrong(name, over):
    """Rows above eight, computed four outputs at once: the last one is spoiled."""
    family = FAMILIES[name]

    def spoiled(*inputs):
        call = dict(zip(family.arguments, inputs, strict=True))
        y = np.array(family.evaluate(family.default, **call)["y"])
        if y.shape[-1] > 8 and y.shape[-1] % 4 == over:
            y[..., -1] = y[..., -2]
        return y

    supports = plain if name == "conv2d" else None
    found = identify(spoiled, name, supports=supports, in_process=True)
    assert not found.explained


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_the_whole_range_of_every_type_is_found(bits, signed):
    ends = -(2 ** (bits - 1)) * signed, 2 ** (bits - signed) - 1

    def clipped(x, s, z, lo, hi):
        return np.clip(np.rint(x / s) + z, *ends)

    with subject_of(FAMILIES["quantize"], clipped, in_process=True) as subject:
        subject.find_built_in_range()
        assert subject.built_in == {"q_min": ends[0], "q_max": ends[1]}


def writes(x, w, b, xz, wz):
    y = integer.linear(x, w, b, x_zero_point=xz, w_zero_point=wz)
    x[...] = 0
    return y


def other_shapes(x, s, z, lo, hi):
    return np.clip(np.rint(x / s) + z, lo, hi).ravel()[:1]


@pytest.mark.parametrize(
    ("function", "family", "told"),
    [
        (writes, "linear", "writes into its argument x"),
        (other_shapes, "quantize", "returns y of shape (1,) for x of shape (7,)"),
    ],
)
@pytest.mark.parametrize("in_process", [True, False])
def test_bad_manners_are_told_in_one_line(function, family, told, in_process):
    found = identify(function, family, in_process=in_process)
    assert not found.explained
    assert found.certain == {}
    assert "\n" not in found.complaint
    assert told.split(" for ")[0] in found.complaint
    checked = check_implementation(function, family, in_process=in_process)
    assert not checked.conforms
    assert told.split(" for ")[0] in str(checked)


def test_arrays_keep_their_layout_in_another_process():
    """A vector of every second element of memory arrives as one."""
    seen = []

    def strides(q, scale, zero_point):
        seen.append(q.strides)
        return np.full(q.shape, 0.0 if q.flags.c_contiguous else 1.0)

    family = FAMILIES["dequantize"]
    q = np.zeros(10, np.int8)[::2]
    call = {"q": q, "scale": np.float32(1), "zero_point": 0}
    for in_process in (True, False):
        with subject_of(family, strides, in_process=in_process) as subject:
            np.testing.assert_array_equal(subject.ask(call)["y"], np.ones(5))
    assert seen == [(2,)]


def test_names_of_arguments_are_their_order():
    def turned(zero_point, scale, q):
        return integer.dequantize(q, scale, zero_point)

    assert identify(turned, "dequantize", in_process=True).explained


def test_forward_and_backward_leave_out_what_they_do_not_need():
    def forward(x, s):
        return float(s) * np.clip(np.rint(x / float(s)), -4, 3)

    def backward(dy, x, s):
        u = x / float(s)
        inside = (u > -4) & (u < 3)
        ds = np.where(inside, np.rint(u) - u, np.clip(np.rint(u), -4, 3))
        return np.where(inside, dy, 0), np.asarray((dy * ds).sum())

    found = identify(forward, "lsq", backward=backward, in_process=True)
    assert found.explained
    assert found.certain["backward"] == "published"
    with pytest.raises(ValueError, match="needs a family with a gradient"):
        identify(forward, "dequantize", backward=backward)


def test_what_a_function_spoils_is_asked_again_as_it_was():
    calls = [*table("linear").probes, *confirming_calls("linear")]
    before = [{name: np.array(v) for name, v in call.items()} for call in calls]
    identify(writes, "linear", in_process=True)
    for call, old in zip(calls, before, strict=True):
        for name, value in old.items():
            np.testing.assert_array_equal(call[name], value)


@pytest.mark.parametrize("bits", [12, 16, 17, 20])
def test_what_a_kernel_refuses_is_replaced_until_it_is_refuted(bits):
    """Multipliers of few bits differ beside ties only: the calls that are left miss it.

    Asked for the calls of the covering alone, all four are called 15 bits, certainly.
    """

    def kernel(acc, multiplier, shift, zero_point, q_min, q_max):
        if (q_min, q_max) != (-128, 127) or np.size(multiplier) > 1:
            raise ValueError("int8, one multiplier for all")
        if np.size(zero_point) > 1:
            raise ValueError("one zero-point for all")
        lost = 31 - bits
        m = (int(np.ravel(multiplier)[0]) + (1 << lost >> 1)) >> lost << lost
        options = {"q_min": q_min, "q_max": q_max, "rounding": "two_stage_half_up"}
        m = min(m, 2**31 - 1)
        return integer.requantize(acc, m, shift, zero_point, **options)

    answer = identify(kernel, "requantize", in_process=True)
    assert not answer.explained
    assert "multiplier_bits" not in answer.certain


@pytest.mark.once
def test_rare_regions_of_what_a_partial_kernel_takes_are_looked_for():
    """One number for all channels, int32 only: a shifted product of 33 bits wraps."""

    def requantize(acc, m, shift, z, low, high):
        if acc.dtype != np.int32 or any(map(np.ndim, (m, shift, z))):
            raise TypeError("int32 accumulators and single numbers")
        wide = acc.astype(np.int64) * int(m) >> (30 - int(shift))
        return np.clip(int(z) + ((wide.astype(np.int32) + np.int64(1)) >> 1), low, high)

    results = check_implementation(
        requantize, "requantize", supports=takes_single_numbers, in_process=True
    )
    failed = [r.check for r in results.results if r.status == "failed"]
    assert "regions" in failed
    assert not identify(
        requantize, "requantize", supports=takes_single_numbers, in_process=True
    ).explained


def test_pairs_that_only_refused_calls_visit_are_looked_for_in_others():
    """h and w exchanged where nothing is padded; a kernel beyond the plane raises."""

    def max_pool(x, kernel, stride, padding):
        h, w = np.broadcast_to(kernel, 2)
        kernel = kernel if np.any(padding) else (w, h)
        return integer.max_pool2d(x, kernel=kernel, stride=stride, padding=padding)

    assert not identify(max_pool, "max_pool2d", in_process=True).explained
    assert check_implementation(max_pool, "max_pool2d", in_process=True).exit_code == 1


def test_a_kernel_is_not_blamed_for_refusing_calls_that_are_drawn_for_others():
    """Some have parameters along an axis along which the covering has none."""

    def single(acc, multiplier, shift, zero_point, q_min, q_max):
        m, e, z = (np.asarray(a).item() for a in (multiplier, shift, zero_point))
        return integer.requantize(acc, m, e, z, q_min=q_min, q_max=q_max)

    assert check_implementation(single, "requantize", in_process=True).conforms


def test_calls_that_are_drawn_in_place_of_others_are_not_counted_as_left_out():
    family = FAMILIES["requantize"]
    with subject_of(
        family, integer.requantize, supports=takes_single_numbers, in_process=True
    ) as subject:
        calls = confirming_calls("requantize")
        evidence = gather(subject, calls)
    left_out = [call for call in calls if not takes_single_numbers(call)]
    assert [why for _, why in subject.left_out] == ["not supported"] * len(left_out)
    assert 0 < len(left_out) < len(calls)
    assert len(calls) <= len(evidence.answered) < 3 * len(calls)  # pairs that are lost


def takes_single_numbers(call):
    rest = (call["multiplier"], call["shift"], call["zero_point"])
    return call["acc"].dtype == np.int32 and not any(map(np.ndim, rest))
