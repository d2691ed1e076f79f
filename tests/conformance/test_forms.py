"""Forms of the families of codes: ``identify`` names each, and names no other function.

A form is one known way to compute a family: softmax of codes by a table, or in exact
arithmetic. Every form must be named after few inputs and equal a plain loop, functions
of ``refqnn.integer`` must be named as the forms they are, and wrong ones not at all.
"""

import numpy as np
import pytest
from conformance import forms, independent
from conformance.forms import assert_loops, assert_named, variant

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.families.means import is_whole_plane
from refqnn.conformance.choices.families.tables import ANSWERS
from refqnn.conformance.choices.family import stack

PLANE = "kernel: the whole plane (not supported)"
#: family -> how many inputs ``identify`` may ask until one form is left
INPUTS = {"add": 5, "sub": 5, "mul": 5, "softmax": 6, "concat": 5, "mean_pool2d": 7}
INPUTS |= {"conv_transpose2d": 8, "resize_nearest": 8, "resize_bilinear": 8}
INPUTS |= {"lookup": 4, "matmul": 6} | dict.fromkeys(ANSWERS, 24)
#: family with too many forms for a test -> answers that differ from the default; the
#: forms one answer away from these stand for all
DIVIDED = {"resize_ratio": "divided"}
BASES = {"matmul": [{}], "conv_transpose2d": [{}], "resize_nearest": [{}, DIVIDED]}
BASES["resize_bilinear"] = [{}, DIVIDED | {"resize_blend": "float32_trunc"}]


def variants_of(name, rng, count):
    """All forms; those near BASES; of an activation every way and ``count`` drawn."""
    family = FAMILIES[name]
    if name in BASES:
        bases = [family.default | answers for answers in BASES[name]]
        return [form for base in bases for form in family.neighbours(base, 1)]
    every = family.variants()
    if name not in ANSWERS:
        return every
    own = [family.default | {"activation": how} for how in ANSWERS[name]]
    return [*own, *(every[i] for i in rng.choice(len(every), count, replace=False))]


@pytest.mark.parametrize("name", INPUTS)
def test_every_form_is_named(name, rng):
    assert_named(name, variants_of(name, rng, 12), inputs=INPUTS[name])


@pytest.mark.once
@pytest.mark.parametrize("name", INPUTS)
def test_every_form_is_that_of_an_independent_loop(name, rng):
    assert_loops(name, variants_of(name, rng, 8))


@pytest.mark.parametrize("name", ANSWERS)
def test_calls_are_computed_together_as_alone(name, rng):
    family = FAMILIES[name]
    together = stack(family.candidates())
    for choices in variants_of(name, rng, 8):
        alone = [family.evaluate(choices, **call)["y"] for call in family.candidates()]
        every = family.evaluate(choices, **together)["y"]
        np.testing.assert_array_equal(every, alone)


# -- what refqnn computes -------------------------------------------------------------


def softmax(semantics):
    def theirs(x, sx, s, z, q_min, q_max):
        grids = {"x_scale": sx, "scale": s, "zero_point": z}
        ends = {"q_min": q_min, "q_max": q_max}
        return integer.softmax(x, **grids, **ends, semantics=semantics)

    return theirs


def concat(semantics):
    def theirs(x, y, sx, zx, sy, zy, s, z, q_min, q_max):
        own = {"scales": [sx, sy], "zero_points": [zx, zy], "axis": -1}
        grid = {"scale": s, "zero_point": z, "q_min": q_min, "q_max": q_max}
        return integer.concat([x, y], **own, **grid, semantics=semantics)

    return theirs


def mean(semantics, count):
    def theirs(x, kernel, stride, padding, sx, zx, s, z, q_min, q_max):
        geometry = {"kernel": kernel, "stride": stride, "padding": padding}
        grids = {"x_scale": sx, "x_zero_point": zx, "scale": s, "zero_point": z}
        ends = {"q_min": q_min, "q_max": q_max, "semantics": semantics}
        counted = count == "include_pad"
        return integer.mean_pool2d(
            x, **geometry, **grids, **ends, count_include_pad=counted
        )

    return theirs


def matmul(a, b, a_zero_point, b_zero_point):
    zeros = {"a_zero_point": a_zero_point, "b_zero_point": b_zero_point}
    return integer.matmul(a, b, **zeros, accumulator="int64")


def conv_transpose2d(x, w, b, xz, wz, stride, padding, extra, dilation, groups):
    zeros = {"x_zero_point": xz, "w_zero_point": wz, "accumulator": "int64"}
    at = {"stride": stride, "padding": padding, "output_padding": extra}
    at |= {"dilation": dilation, "groups": groups}
    return integer.conv_transpose2d(x, w, b, **zeros, **at)


def resize(mode):
    return lambda x, size: integer.resize(x, size=size, mode=mode)


#: family, function, the answers in which it differs from the default
OURS = [
    *(
        ("softmax", softmax(s), {"softmax": s})
        for s in ("exact", "onnxruntime", "table")
    ),
    *(
        ("concat", concat(s), {"concat_rescaling": s})
        for s in ("exact", "onnxruntime", "tflite")
    ),
    *(
        ("mean_pool2d", mean(s, n), {"mean_rescaling": s, "pool_count": n})
        for s in ("exact", "onnxruntime", "xnnpack", "offset", "offset_half_up")
        for n in ("include_pad", "exclude_pad")
    ),
    ("lookup", integer.lookup, {}),
]


@pytest.mark.parametrize(("name", "ours", "answers"), OURS)
def test_forms_of_refqnn_are_those_of_its_function(name, ours, answers):
    # of a whole plane, onnxruntime has another rule, and so has ours
    plane = answers.get("mean_rescaling") == "onnxruntime"
    part = (lambda call: not is_whole_plane(call)) if plane else None
    answer = identify(ours, name, in_process=True, supports=part)
    assert answer.certain == FAMILIES[name].default | answers
    assert answer.unseen == ((PLANE,) if plane else ())


def table(name):
    def ours(x, *given):
        *alpha, sx, zx, s, z, q_min, q_max = given
        options = {"alpha": alpha[0]} if alpha else {}
        grids = {"x_scale": sx, "x_zero_point": zx, "scale": s, "zero_point": z}
        grids |= {"q_min": q_min, "q_max": q_max, "dtype": x.dtype}
        return integer.lookup(x, integer.activation_table(name, **grids, **options))

    return ours


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("matmul", matmul),
        ("conv_transpose2d", conv_transpose2d),
        ("resize_nearest", resize("nearest")),
        ("resize_bilinear", resize("bilinear")),
        *((name, table(name)) for name in ANSWERS),
    ],
)
def test_the_default_is_the_function_of_refqnn(name, ours):
    answer = identify(ours, name, in_process=True)
    assert answer.explained
    assert answer.certain.items() <= FAMILIES[name].default.items()
    assert answer.unseen == ()


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_the_default_is_the_definition(name):
    answer = identify(getattr(integer, name), name, in_process=True)
    assert set(answer.certain.values()) == {"exact", "saturate"}


# -- functions that are no form -------------------------------------------------------


def default(name, *given):
    return variant(name, FAMILIES[name].default)(*given)


def largest_code_of_all_rows(x, sx, s, z, low, high):
    e = np.exp(sx * (x.astype(float) - x.max()))
    total = np.reshape(e, (-1, x.shape[-1])).sum(-1)[0]
    return np.clip(np.rint(e / total / s) + z, low, high)


def first_input_rescaled_only(x, y, *grids):
    q = default("concat", x, y, *grids)
    return np.concatenate([q[..., : x.shape[-1]], y.astype(np.int64)], -1)


def first_matrix_for_all(a, b, *zeros):
    b = np.broadcast_to(b[:1], b.shape) if b.ndim > 2 else b
    return default("matmul", a, b, *zeros)


def output_padding_left_at_zero(*given):
    y = default("conv_transpose2d", *given)
    h, w = np.broadcast_to(given[7], 2)
    y[:, :, y.shape[2] - h :] = 0
    y[:, :, :, y.shape[3] - w :] = 0
    return y


def mean_of_areas(x, size):
    """As image libraries shrink: every code counts, not four of them."""
    (n, c, h, w), (high, wide) = x.shape, size
    if h % high or w % wide:
        return default("resize_bilinear", x, size)
    blocks = x.reshape(n, c, high, h // high, wide, w // wide)
    return np.rint(blocks.mean(axis=(3, 5))).astype(np.int64)


def entry_of_the_neighbour(x, table):
    return integer.lookup(x, np.roll(table, -1))


def mean_that_rounds_twice(x, kernel, stride, padding, sx, zx, s, z, q_min, q_max):
    """First on the grid of its input, as TFLite's average pool, then on its own."""
    geometry = {"kernel": kernel, "stride": stride, "padding": padding}
    mean = integer.avg_pool2d(x, **geometry, zero_point=zx).astype(float)
    return np.clip(np.rint(sx / s * (mean - zx)) + z, q_min, q_max)


def zero_point_added_twice(x, y, *grids):
    *grids, s, z, low, high = grids
    return np.clip(default("add", x, y, *grids, s, z, -500, 500) + z, low, high)


def codes_without_sign(x, *given):
    return default("sigmoid", np.asarray(x) & 255, *given)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("softmax", largest_code_of_all_rows),
        ("concat", first_input_rescaled_only),
        ("matmul", first_matrix_for_all),
        ("conv_transpose2d", output_padding_left_at_zero),
        ("resize_bilinear", mean_of_areas),
        ("lookup", entry_of_the_neighbour),
        ("mean_pool2d", mean_that_rounds_twice),
        ("add", zero_point_added_twice),
        ("sigmoid", codes_without_sign),
    ],
)
def test_other_functions_are_none_of_the_forms(name, wrong):
    answer = identify(wrong, name, in_process=True)
    assert not answer.explained
    assert name != "add" or not answer.certain


def test_the_laws_of_forms_refuse_what_they_should(monkeypatch):
    variants, right = FAMILIES["lookup"].variants(), forms.variant
    with pytest.raises(AssertionError, match="decided by"):
        assert_named("lookup", variants, inputs=0)
    monkeypatch.setattr(forms, "variant", lambda name, _: right(name, variants[0]))
    with pytest.raises(AssertionError, match="decided by"):
        assert_named("lookup", variants[1:], inputs=9)
    monkeypatch.setattr(independent, "lookup", lambda _, x, table: x + table[0])
    with pytest.raises(AssertionError):
        assert_loops("lookup", variants)


# -- ties by hand ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "q"),
    [
        ("exact", 18),
        ("half_away", 19),
        ("tflite", 19),
        ("xnnpack", 19),
        ("separate", 19),
    ],
)
def test_a_tie_tells_how_a_sum_is_rounded(form, q):
    """(37 - 0) / 2 = 18.5: to even, away from 0, up."""
    own = {"x": np.int8(37), "y": np.int8(0), "x_scale": 0.5, "y_scale": 0.5}
    own |= {"scale": 1.0} | dict.fromkeys(("x_zero_point", "y_zero_point"), 0)
    call = FAMILIES["add"].candidates()[0] | own | {"zero_point": 0}
    choices = {"sum_rescaling": form, "overflow": "saturate"}
    assert FAMILIES["add"].evaluate(choices, **call)["y"] == q


@pytest.mark.parametrize(
    ("how", "q"), [("rounded", 52), ("float32", 52), ("fixed_point", 51)]
)
def test_products_of_16_bits_fall_short_of_a_tie(how, q):
    """v = 103 / 32 is above 3, and 16 v = 51.5."""
    grids = {"x_scale": 2.0**-5, "x_zero_point": 0, "scale": 2.0**-4}
    grids |= {"zero_point": 0, "q_min": -128, "q_max": 127}
    choices = FAMILIES["hard_swish"].default | {"activation": how}
    y = FAMILIES["hard_swish"].evaluate(choices, np.int8(103), **grids)["y"]
    assert y == q
