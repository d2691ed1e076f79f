"""Whole arrays refute what few inputs let pass, and the region is named."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refqnn import integer, quantizers
from refqnn.conformance import (
    Semantics,
    check_implementation,
    identify,
    identify_files,
    verify,
    write_probes,
)
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.regions import regions_of
from refqnn.conformance.judge.confirm import (
    Answered,
    confirming_calls,
    where_it_differs,
    with_both_signs,
)
from refqnn.conformance.judge.failures import smallest_failure
from refqnn.conformance.judge.subject import subject_of
from refqnn.data import read_npz
from refqnn.geometry import pad_widths

PUBLISHED = [name for name in FAMILIES if hasattr(quantizers, f"{name}_backward")]
ROOT = Path(__file__).parent.parent.parent


def variant(name, **changes):
    """A function of the arguments by position that is a variant."""
    family, names = FAMILIES[name], list(FAMILIES[name].arguments)

    def call(*inputs):
        whole = family.evaluate(
            family.default | changes, **dict(zip(names, inputs, strict=True))
        )
        return tuple(whole.values())

    return call


def rounded(u, z, lo, hi):
    return np.clip(np.rint(u) + z, lo, hi)


def test_what_is_a_variant_is_confirmed_in_regions():
    found = identify(variant("dequantize"), "dequantize", in_process=True)
    assert found.explained
    assert found.confirmed > 1000
    assert set(found.regions) == set(regions_of("dequantize"))
    assert found.unseen == ()
    assert f"confirmed on {found.confirmed} outputs in" in str(found)
    assert found.as_dict()["confirmed"] == found.confirmed


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("|dy|", lambda dx, _, dy: np.where(dy < 0, -dx, dx)),
        ("changed where x > 1", lambda dx, x, dy: np.where(x > 1, 2 * dx + dy, dx)),
    ],
)
def test_a_changed_backward_of_a_published_quantizer_is_refuted(name, what, change):
    right = variant(name)

    def wrong(x, dy, *rest):
        y, dx, *others = right(x, dy, *rest)
        return y, change(dx, x, dy), *others

    found = identify(wrong, name, in_process=True)
    assert not found.explained, what
    assert found.certain == {}


@pytest.mark.parametrize("name", ["lsq", "pact", "fake_quantize", "kmeans_weight"])
def test_gradients_that_come_in_have_both_signs(name):
    gradients = [c["dy"] for c in confirming_calls(name) if np.size(c["dy"]) > 4]
    assert all(len(np.unique(dy)) > 2 for dy in gradients if np.size(dy) > 60)
    assert sum(np.any(dy < 0) and np.any(dy > 0) for dy in gradients) >= 4
    flat = {"dy": np.ones(5, np.float32)}
    np.testing.assert_array_equal(
        with_both_signs(flat)["dy"], [1.5, -0.75, 0.5, -1.25, 0.25]
    )


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("adam", lambda call: call["beta2"] > 0.99),
        ("sgd", lambda call: len(call["lrs"]) > 9),
        ("softmax", lambda call: call["x"].shape[-1] > 256),
        ("conv2d", lambda call: call["w"].shape[2:] == (1, 1) and only_behind(call)),
    ],
)
def test_a_mistake_at_settings_that_are_much_in_use_is_refuted(name, wrong):
    family = FAMILIES[name]

    def kernel(*inputs):
        call = family.call_of(*inputs)
        return family.evaluate(family.default, **call)["y"] + wrong(call)

    assert not identify(kernel, name, in_process=True).explained
    assert check_implementation(kernel, name, in_process=True).exit_code == 1


def only_behind(call):
    (top, bottom), _ = pad_widths(call["padding"])
    return top == 0 < bottom


def test_a_narrow_range_is_refuted_with_its_region_and_smallest_input():
    def narrow(x, s, z, lo, hi):
        return rounded(np.nan_to_num(x) / s, z, lo + 1, hi - 1)

    found = identify(narrow, "quantize", in_process=True)
    assert not found.explained
    assert found.certain == {}
    assert "none of the" in str(found)
    assert "x=" in found.smallest
    assert "want" in found.smallest


def with_inputs(name, **changes):
    """A kernel that reads some arguments through ``changes``."""
    right, names = variant(name), list(FAMILIES[name].arguments)

    def kernel(*inputs):
        return right(
            *(changes.get(k, np.asarray)(v) for k, v in zip(names, inputs, strict=True))
        )

    return kernel


def first_rows(n, axis):
    """Zero what an unrolled loop of n steps along an axis does not read."""

    def read(w):
        w = np.array(w)
        w[(slice(None),) * axis + (slice(n, None),)] = 0
        return w

    return read


@pytest.mark.parametrize(
    ("name", "argument", "change"),
    [
        ("conv2d", "dilation", lambda d: np.minimum(d, 2)),
        ("conv2d", "stride", lambda s: np.minimum(s, 3)),
        ("conv2d", "padding", lambda p: np.minimum(p, 2)),
        ("conv2d", "w", first_rows(5, 2)),
        ("conv2d", "w", first_rows(24, 0)),
        ("conv2d", "x", first_rows(2, 0)),
        ("conv2d", "x", first_rows(18, 2)),
        ("conv_transpose2d", "stride", lambda s: np.minimum(s, 3)),
        ("conv_transpose2d", "x", first_rows(6, 3)),
        ("linear", "w", first_rows(32, 0)),
        ("resize_nearest", "x", first_rows(24, 2)),
        ("matmul", "y", first_rows(32, 1)),
        ("max_pool2d", "x", first_rows(4, 1)),
    ],
)
def test_a_kernel_of_small_layers_is_refuted_by_large_ones(name, argument, change):
    found = identify(with_inputs(name, **{argument: change}), name, in_process=True)
    assert not found.explained


def test_a_product_in_double_is_no_product_of_integers():
    """Its 62 bits are rounded to 53 beside a tie."""

    def double(acc, multiplier, shift, zero_point, q_min, q_max):
        t = np.ldexp(acc * np.asarray(multiplier, np.float64), np.asarray(shift) - 31)
        return np.clip(np.floor(t + 0.5) + zero_point, q_min, q_max)

    found = identify(double, "requantize", in_process=True)
    assert found.complaint.startswith("fits everything but")


def test_shapes_of_answers():
    """One number for one element is an array; another shape is named beside ours."""
    right = variant("quantize")
    number = identify(
        lambda *a: right(*a)[0].item() if a[0].size == 1 else right(*a)[0],
        "quantize",
        in_process=True,
    )
    assert number.explained
    last = identify(lambda value, *_: value, "adam", in_process=True)
    assert last.complaint.endswith("of shapes y (1,); wanted y (4, 1)")


def test_the_smallest_failure_is_one_element_where_one_fails_alone():
    def wrong(x, s, z, lo, hi):
        return rounded(x / s, z, lo, hi) + (x > 3)

    family = FAMILIES["quantize"]
    call = {"x": np.float32([1, 2, 9, 4]), "scale": np.float32(1), "zero_point": 0}
    call |= {"q_min": -128, "q_max": 127}
    answers = [Answered(call, {"y": wrong(*call.values())})]
    with subject_of(family, wrong, in_process=True) as subject:
        told = smallest_failure(subject, family.default, answers)
    assert told.startswith('x=np.array([4.0], "float32")')
    assert told.endswith("y: want 4   got 5")


def test_a_region_is_named_by_what_only_the_wrong_elements_visit():
    family = FAMILIES["quantize"]
    x = np.float32([-300, -1, 0.25, 5, 300, 200, 150])
    call = {"x": x, "scale": np.float32(1), "zero_point": 0}
    call |= {"q_min": -128, "q_max": 127}
    got = np.clip(np.rint(x), -128, 127) - (x > 127)
    told = where_it_differs(family, family.default, [Answered(call, {"y": got})])
    assert "x: above the range" in told


def test_an_element_and_a_vector_of_two_rules_are_both_named():
    """Vectors of 8 round half up, what is left over half to even, as libraries do."""
    up, even = variant("quantize", rounding="half_up"), variant("quantize")

    def two_ways(x, s, z, lo, hi):
        if np.ndim(s) or np.ndim(z) or not x.flags.c_contiguous:
            return even(x, s, z, lo, hi)[0]
        y = even(x, s, z, lo, hi)[0].ravel()
        whole = x.size - x.size % 8
        y[:whole] = up(x, s, z, lo, hi)[0].ravel()[:whole]
        return y.reshape(x.shape)

    found = identify(
        two_ways,
        "quantize",
        in_process=True,
        supports=lambda call: not np.ndim(call["scale"]) + np.ndim(call["zero_point"]),
    )
    assert not found.explained
    assert found.rules["one element"]["rounding"] == "half_even"
    assert found.rules["vectors"]["rounding"] == "half_up"
    assert "rounding" not in found.certain
    assert found.certain["overflow"] == "saturate"
    assert "vectors            rounding = half_up" in str(found)


def test_one_unknown_answer_does_not_hide_the_others():
    """NaN becomes a code that no variant gives; all else is decided."""

    def odd(x, s, z, lo, hi):
        u = np.where(np.isnan(x), 0, x) / s
        return np.where(np.isnan(x), 77, rounded(u, z, lo, hi))

    found = identify(odd, "quantize", in_process=True)
    assert not found.explained
    assert list(found.unknown) == ["nan"]
    assert "nan, " in found.unknown["nan"]
    assert ": 77 (known: raise an error, q_min -128, q_max" in found.unknown["nan"]
    assert found.certain["rounding"] == "half_even"
    assert found.certain["overflow"] == "saturate"
    assert "none of the known" in str(found)


def test_an_output_without_a_known_rule_leaves_the_others_named():
    right = variant("fake_quantize", straight_through="none")

    def wrong(*inputs):
        y, dx, ds = right(*inputs)
        return y, dx, 3 * ds + 100

    found = identify(wrong, "fake_quantize", in_process=True)
    assert not found.explained
    assert found.certain["straight_through"] == "none"
    assert "ds" in found.unknown
    assert "scale_gradient" not in found.certain


def test_exceptions_in_a_region_are_said_and_the_rest_is_judged():
    def refuses(x, s, z, lo, hi):
        if not np.all(np.isfinite(x)):
            raise ValueError("not finite")
        return rounded(x / s, z, lo, hi)

    found = identify(refuses, "quantize")
    assert found.explained
    assert found.certain["nan"] == "raise"
    told = next(line for line in found.unseen if "not finite" in line)
    assert "x: +infinity" in told
    assert "refused: RuntimeError" in told or "refused: ValueError" in told


def test_probes_that_confirm_travel_through_files(tmp_path):
    """A range of 16 bits is lost; the inputs that decide alone do not see it."""
    write_probes("dequantize", tmp_path / "p.npz")
    entries = read_npz(tmp_path / "p.npz")
    del entries["json"]
    names = ("q", "scale", "zero_point")
    q, s, z = (entries[name] for name in names)
    right = {"y": integer.dequantize(q, s, z)}
    found = identify_files(tmp_path / "p.npz", right)
    assert found.explained
    assert found.confirmed > 100
    wrong = {"y": np.where(q == -128, 0, right["y"])}
    found = identify_files(tmp_path / "p.npz", wrong)
    assert not found.explained
    assert found.certain == {}
    assert "fits everything but" in str(found)
    one = {"y": np.where(np.arange(q.size) == 9, np.nan, right["y"])}
    found = identify_files(tmp_path / "p.npz", one)
    assert found.nearest == FAMILIES["dequantize"].default
    assert f"q=np.array([{q[9]}]" in found.smallest
    assert found.smallest.endswith(f"want {right['y'][9]:.9g}   got nan")


def test_calls_that_confirm_travel_through_files(tmp_path):
    count = write_probes("max_pool2d", tmp_path / "p.npz")
    entries = read_npz(tmp_path / "p.npz")
    family, outputs, wrong = FAMILIES["max_pool2d"], {}, {}
    for i in range(count):
        call = {
            k.split("/")[1]: v.item() if not v.ndim else v
            for k, v in entries.items()
            if k.startswith(f"{i:04d}/")
        }
        y = family.evaluate(family.default, **call)["y"]
        outputs[f"{i:04d}/y"] = y
        wrong[f"{i:04d}/y"] = y - (call["stride"] != call["kernel"]) * (y > 3)
    assert identify_files(tmp_path / "p.npz", outputs).explained
    found = identify_files(tmp_path / "p.npz", wrong)
    assert not found.explained
    shown = "kernel=2, stride=1, padding=0   y[0, 0, 0, 0]: want 242   got 241"
    assert shown in found.smallest


def test_without_confirmation_only_the_deciding_questions_are_asked():
    asked = []

    def counted(*inputs):
        asked.append(1)
        return variant("dequantize")(*inputs)

    found = identify(counted, "dequantize", confirm=False, in_process=True)
    assert found.explained
    assert found.confirmed == 0
    assert len(asked) < 60


BUDGET = """
import re, sys, time
begun = time.process_time()
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES
name = sys.argv[1]
family, names = FAMILIES[name], list(FAMILIES[name].arguments)
def mine(*a):
    return tuple(family.evaluate(family.default, **dict(zip(names, a))).values())
loaded = time.process_time() - begun
found = identify(mine, name, in_process=True)
status = open("/proc/self/status").read()  # the peak of this program, not of its parent
most = int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) / 2**20
print(time.process_time() - begun - loaded, most, found.inputs)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.compiled
@pytest.mark.parametrize(
    ("name", "seconds"),
    [("quantize", 2), ("fake_quantize", 2), ("requantize", 2), ("conv2d", 10)],
)
def test_a_first_identification_keeps_its_budget(name, seconds):
    ran = subprocess.run(
        [sys.executable, "-c", BUDGET, name],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    spent, gigabytes, inputs = map(float, ran.stdout.split())
    assert spent < seconds
    assert gigabytes < 1
    assert inputs <= 12


def cut(bits, *, saturates):
    """Rounding to the nearest, accumulators of so many bits."""
    half = 1 << (bits - 1)

    def requantize(acc, m, e, z, lo, hi):
        a = acc.astype(np.int64)
        kept = np.clip(a, -half, half - 1) if saturates else (a + half) % (2 * half)
        kept = kept - (0 if saturates else half)
        n = 31 - np.asarray(e, np.int64)
        t = (kept * np.asarray(m, np.int64) + (np.int64(1) << (n - 1))) >> n
        return np.clip(t + np.asarray(z, np.int64), lo, hi)

    return requantize


@pytest.mark.once
@pytest.mark.parametrize(
    ("bits", "saturates"), [(32, True), (40, False), (48, True), (48, False)]
)
def test_accumulators_of_fewer_bits_than_int64_are_refuted(bits, saturates):
    wrong = cut(bits, saturates=saturates)
    assert not identify(wrong, "requantize", in_process=True).explained
    assert not check_implementation(wrong, "requantize", in_process=True).conforms
    said, rng = Semantics(), np.random.default_rng(0)
    assert not verify(wrong, "requantize", said, rng=rng, inputs=500).conforms


def test_a_kernel_of_int32_accumulators_may_refuse_others_and_that_is_said():
    whole = cut(64, saturates=True)

    def of_int32(acc, *others):
        if np.any(acc != acc.astype(np.int32)):
            raise ValueError("accumulators are int32")
        return whole(acc, *others)

    found = identify(of_int32, "requantize", in_process=True)
    assert found.certain["requantize"] == "half_up"
    assert any("accumulators are int32" in line for line in found.unseen)
    results = check_implementation(of_int32, "requantize", in_process=True)
    assert results.conforms
    assert any("accumulators are int32" in line for line in results.unseen)


def test_two_roundings_are_not_judged_beyond_int32():
    """gemmlowp's fixed point has no int64: whatever is answered there is right."""
    for beyond in (0, 77):

        def two_stage(acc, *others, beyond=beyond):
            wide = acc != acc.astype(np.int32)
            rule = variant("requantize", requantize="two_stage_half_away")
            (y,) = rule(np.where(wide, 0, acc), *others)
            return np.where(wide, beyond, y)

        found = identify(two_stage, "requantize", in_process=True)
        assert found.certain["requantize"] == "two_stage_half_away"


def learned_step(of_step):
    """LSQ from its equations; ``of_step`` sums the terms of the gradient of s."""

    def lsq(x, dy, s):
        u = x / s
        inside, q = (u > -4) & (u < 3), np.clip(np.rint(u), -4, 3)
        return s * q, dy * inside, of_step(dy * np.where(inside, q - u, q), s)

    return lsq


def test_a_step_for_each_filter_is_judged_where_it_is_taken():
    def of_each(terms, s):
        return terms.sum(axis=(1, 2, 3), keepdims=True) if s.ndim else terms.sum()

    def neighbours(terms, s):
        return np.roll(of_each(terms, s), 1)

    def in_all(terms, _):
        return terms.sum()

    assert check_implementation(learned_step(of_each), "lsq", in_process=True).conforms
    wrong = learned_step(neighbours)
    assert not identify(wrong, "lsq", in_process=True).explained
    assert not check_implementation(wrong, "lsq", in_process=True).conforms
    one = check_implementation(learned_step(in_all), "lsq", in_process=True)
    assert one.conforms
    assert any("one ds for s of shape" in line for line in one.unseen)


def test_numbers_of_few_bits_do_not_hide_a_narrow_gradient():
    """dy in float16: powers of two and quarters alone would not have shown it."""
    of_lsq = variant("lsq")

    def narrow(x, dy, s):
        return of_lsq(x, dy.astype(np.float16).astype(dy.dtype), s)

    assert not identify(narrow, "lsq", in_process=True).explained


def test_verify_says_what_a_kernel_of_one_range_was_not_asked():
    def int8_only(x, s, z, _lo, _hi):
        u = np.nan_to_num(x / s, posinf=1e9, neginf=-1e9)
        return np.clip(np.rint(u) + z, -128, 127)

    said, rng = Semantics(nan="zero"), np.random.default_rng(0)
    held = verify(int8_only, "quantize", said, rng=rng, inputs=500, in_process=True)
    assert held.conforms
    assert "ignores q_min and q_max" in str(held)
