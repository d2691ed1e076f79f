"""TFLite models: what the runtimes answered is what the imported networks compute."""

import importlib
import inspect
import json
import re
import sys

import numpy as np
import pytest
from deploy.tflite_cases import CASES, Case, binary, case
from deploy.tflite_models import MODELS
from deploy.tflite_record import GOLDENS, digest, few, model_images
from refusals import refuses

import refqnn
from refqnn.deploy import IntegerNetwork, import_tflite
from refqnn.deploy.formats import tflite_operations, tflite_schema
from refqnn.deploy.formats.tflite_graph import RANGES
from refqnn.deploy.formats.tflite_import import HANDLERS, KERNELS
from refqnn.deploy.formats.tflite_read import parse_model
from refqnn.deploy.formats.tflite_run import MICRO, RESOLVERS, tflite_trace
from refqnn.deploy.formats.tflite_schema import Model, Operator, Tensor
from refqnn.deploy.formats.tflite_write import write_model

ANSWERS = json.loads(GOLDENS.read_text("utf-8"))


def computed(model, network, x):
    """Return the tensors that a file computes, in its order, as refqnn does."""
    graph = parse_model(model)
    values = network.trace(x)
    places = [n for operator in graph.operators for n in operator.outputs]
    places = [n for n in places if graph.tensors[n].dtype in RANGES]
    return {graph.tensors[n].name: values[graph.tensors[n].name] for n in places}


def imported(model, kernels):
    """Import a model; None where these kernels are refused."""
    try:
        return import_tflite(model, kernels=kernels)
    except ValueError as error:
        assert kernels != "reference", error  # noqa: PT017 - others must be refused
        return None


@pytest.mark.parametrize("name", CASES)
def test_operators_answer_as_the_runtimes(name):
    for ties in (False, True):
        model, x = case(name, ties=ties)
        for kernels in KERNELS:
            want = ANSWERS[name][kernels][ties]
            network = imported(model, kernels)
            if network is None:
                continue
            assert want, (name, kernels)
            tensors = [*computed(model, network, few(x)).values()]
            assert digest(tensors) == want, (name, kernels, ties)


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_of_whole_models(name):
    model = MODELS[name]()
    x = model_images(model)
    for kernels in KERNELS:
        network = import_tflite(model, kernels=kernels)
        tensors = [*computed(model, network, x).values()]
        assert digest(tensors) == ANSWERS[name][kernels][0]
    np.testing.assert_array_equal(network.forward(x), network.forward(x, refqnn.fast))


@pytest.mark.parametrize(
    "name", ["conv", "product", "matmul", "bilinear", "transposed"]
)
def test_files_keep_what_was_imported(tmp_path, name):
    model, x = case(name, ties=False)
    network = import_tflite(model)
    network.save(tmp_path / "n.npz")
    again = IntegerNetwork.load(tmp_path / "n.npz")
    np.testing.assert_array_equal(again.forward(few(x)), network.forward(few(x)))
    assert str(again) == str(network)


@pytest.mark.parametrize(
    "name", ["product", "relu", "concat uint8", "pad", "matmul", "mean", "conv int16"]
)
def test_twins_compute_the_same(name):
    model, x = case(name, ties=True)
    network = import_tflite(model)
    got, want = network.forward(x[:1], refqnn.fast), network.forward(x[:1])
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", [*CASES, *MODELS])
def test_writing_what_was_read_gives_the_same_bytes(name):
    model = MODELS[name]() if name in MODELS else case(name, ties=False)[0]
    assert write_model(parse_model(model)) == model


def test_every_operator_has_a_case():
    written = {
        operator.op
        for name in CASES
        for operator in parse_model(case(name, ties=False)[0]).operators
    }
    moved = {"DEQUANTIZE", "EXPAND_DIMS", "PADV2", "SLICE", "SQUEEZE"}
    assert written | moved == set(HANDLERS) == set(tflite_schema.CODES)


def row(op, tensors, *, inputs=(0,), outputs=None, **options):
    """Write a model of one operator; the last tensor is its output."""
    last = (len(tensors) - 1,) if outputs is None else outputs
    given = tuple(i for i in range(len(tensors)) if i not in last)
    named = [t._replace(name=f"t{i}") for i, t in enumerate(tensors)]
    made = Model(tuple(named), (Operator(op, given, last, options),), inputs, last)
    return write_model(made)


def whole(values):
    return Tensor(np.shape(values), "int32", data=np.array(values, np.int32))


def codes(*shape, scale=0.5, zero=3, dtype="int8"):
    return Tensor((1, *shape), dtype, scale, zero)


def test_slices_squeezes_and_padding_by_a_code():
    x = np.arange(24, dtype=np.int8).reshape(1, 4, 2, 3)
    pixels = x.transpose(0, 2, 3, 1)
    cut = row("SLICE", [codes(2, 3, 4), whole([0, 1, 0, 2]), whole([1, 1, -1, 2]),
                        codes(1, 3, 2)])  # fmt: skip
    got = import_tflite(cut).forward(x)
    np.testing.assert_array_equal(got, pixels[:, 1:2, :, 2:4].transpose(0, 3, 1, 2))
    pads = [[0, 0], [1, 0], [0, 2], [0, 0]]
    code = Tensor((1,), "int8", 0.5, 3, np.array([-7], np.int8))
    padded = row("PADV2", [codes(2, 3, 4), whole(pads), code, codes(3, 5, 4)])
    want = np.pad(pixels, pads, constant_values=-7).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(import_tflite(padded).forward(x), want)
    flat = row("SQUEEZE", [codes(1, 1, 4), codes(4)])
    np.testing.assert_array_equal(import_tflite(flat).forward(x[:, :, :1, :1]),
                                  x[:, :, 0, 0])  # fmt: skip
    wide = row("EXPAND_DIMS", [codes(4), whole(1), codes(1, 4)])
    np.testing.assert_array_equal(import_tflite(wide).forward(x[:, :, 0, 0]),
                                  x[:, None, :, 0, 0])  # fmt: skip


def test_float_models_begin_and_end_with_quantizers():
    real = Tensor((1, 4), "float32", name="image")
    grid = {"scale": 0.25, "zero_point": -3}
    q, y = (Tensor((1, 4), "int8", **grid, name=name) for name in "qy")
    out = Tensor((1, 4), "float32", name="out")
    operators = (
        Operator("QUANTIZE", (0,), (1,)),
        Operator("RELU", (1,), (2,)),
        Operator("DEQUANTIZE", (2,), (3,)),
    )
    model = write_model(Model((real, q, y, out), operators, (0,), (3,)))
    network = import_tflite(model)
    assert [step.name for step in network.steps] == ["q", "y"]
    got = network.forward(np.array([[-8, -3, 0, 9]], np.int8))
    np.testing.assert_array_equal(got, [[-3, -3, 0, 9]])
    assert network.logit_scale == 0.25


def test_until_ends_the_network_at_a_tensor():
    model = MODELS["detector"]()
    graph = parse_model(model)
    name = graph.tensors[graph.operators[5].outputs[0]].name
    assert import_tflite(model, until=name).steps[-1].name == name
    refuses("no tensor that is computed is called 'x'", import_tflite, model, until="x")
    refuses("kernels must be one of", import_tflite, model, kernels="fast")
    assert tuple(KERNELS) == importlib.import_module("refqnn.cli.import").KERNELS


def test_an_output_that_is_read_later_stays_in_its_place():
    tensors = [codes(4), codes(4), codes(4)]
    named = tuple(t._replace(name=n) for t, n in zip(tensors, "xyz", strict=True))
    chain = (Operator("RELU", (0,), (1,)), Operator("RELU", (1,), (2,)))
    model = write_model(Model(named, chain, (0,), (2, 1)))
    network = import_tflite(model)
    assert [step.name for step in network.steps] == ["x", "y", "z", "y.output"]
    x = np.array([[-9, 3, 4, 127]], np.int8)
    np.testing.assert_array_equal(network.forward(x), [[3, 3, 4, 127]])


W = Tensor((2, 4), "int8", 0.5, 0, np.ones((2, 4), np.int8))
WIDE = {"dtype": "int16", "zero": 0}
UNIT = WIDE | {"scale": 2.0**-15}
#: a model that is refused, and words of the reason
REFUSED = {
    "no operator": (row("RESHAPE", [codes(4), codes(2, 2, 2)]), "makes"),
    "apart": (row("TRANSPOSE", [codes(4), whole([1, 0]), codes(4)]), "begin with 0"),
    "beta": (row("SOFTMAX", [codes(4), codes(4, scale=1 / 256, zero=-128)], beta=0.5),
             "beta must be 1"),
    "softmax": (row("SOFTMAX", [codes(4), codes(4)], beta=1.0), "scale 1/256"),
    "pool": (row("MAX_POOL_2D", [codes(2, 2, 1), codes(1, 1, 1, zero=4)], padding=1,
                 stride_w=1, stride_h=1, filter_width=2, filter_height=2), "one grid"),
    "stride": (row("MAX_POOL_2D", [codes(2, 2, 1), codes(1, 1, 1)], padding=1,
                   filter_width=2, filter_height=2), "at least 1"),
    "shape": (row("RELU", [codes(4), codes(5)]), r"the file states \(5,\)"),
    "computed": (row("FULLY_CONNECTED", [codes(4), codes(4), codes(4)]),
                 "must be constant"),
    "axis": (row("FULLY_CONNECTED", [codes(4), W._replace(scale=np.float32([1, 2]),
                 axis=1), codes(2)]), "have 2 along 1"),
    "weights": (row("FULLY_CONNECTED", [codes(4), W._replace(dtype="uint8",
                    data=W.data.astype(np.uint8)), whole([1, 2, 3]), codes(2)]),
                r"the bias must be \(2,\)"),
    "concat": (row("CONCATENATION", [codes(4), codes(4, zero=9)], axis=1), "one grid"),
    "grid": (row("RESHAPE", [codes(4), codes(4, scale=0.25)]), "on the grid"),
    "scales": (row("RELU", [codes(4), codes(4, scale=[0.5, 0.25])]), "with 2 scales"),
    "wide": (row("HARD_SWISH", [codes(4, **WIDE)] * 2), "8 bits"),
    "wide clamp": (row("RELU_N1_TO_1", [codes(4, **WIDE)] * 2), "8 bits"),
    "wide zero": (row("RELU", [codes(4, dtype="int16")] * 2), "must be 0"),
    "wide grid": (row("TANH", [codes(4, **WIDE)] * 2), "give scale 3.05"),
    "wide steps": (row("LOGISTIC", [codes(4, **WIDE | {"scale": 6.0}),
                                    codes(4, **UNIT)]), "below 16/3, is 6.0"),
    "two types": (row("TANH", [codes(4), codes(4, **UNIT)]), "keeps the type"),
    "unsigned": (row("QUANTIZE", [codes(4, **WIDE), codes(4, dtype="uint8")]),
                 "those of int8 or int16"),
    "real": (row("RELU", [Tensor((1, 4), "float32"), codes(4)]), "a step computes"),
    "pads": (row("PAD", [codes(4), whole([[1, 0], [0, 0]]), codes(4)]), "stay apart"),
}  # fmt: skip


def test_the_smallest_inputs_that_tell_the_kernels_apart():
    """Those that docs/tflite.md names."""
    six = row("RELU6", [codes(1, scale=1.0, zero=0), codes(1, zero=0)])
    grid = {"scale": 1.0, "zero": 0}
    blend = row(
        "RESIZE_BILINEAR",
        [codes(1, 2, 1, **grid), whole([1, 4]), codes(1, 4, 1, **grid)],
    )
    down = row("QUANTIZE", [codes(16, **grid), codes(16, scale=4.0, zero=0)])
    answers = {}
    for kernels in KERNELS:
        x = np.array([[[[0, -1]]]], np.int8), np.full((1, 16), -2, np.int8)
        ones = np.ones((1, 1), np.int8)
        asked = (six, ones, 0), (blend, x[0], 1), (down, x[1], 0)
        answers[kernels] = tuple(
            int(import_tflite(m, kernels=kernels).forward(v).ravel()[i])
            for m, v, i in asked
        )
    assert answers == {
        "reference": (2, -1, -1),
        "optimized": (2, -1, 0),
        "xnnpack": (2, 0, 0),
        "tflite-micro": (1, -1, -1),
    }


def test_ratios_of_functions_have_24_or_53_bits():
    """2.5 in float32, a little less in float64; 85.5 of two products or of one."""
    x = np.array([[1], [-4]], np.int8)
    grids = ((0.03125, 0), (0.0125, 0)), ((0.00139231130015105, 127),
                                          (0.000426649785367772, 127))  # fmt: skip
    rectified, leaky = (
        [codes(1, scale=scale, zero=zero) for scale, zero in pair] for pair in grids
    )
    alpha = float(np.float32(0.2))
    models = row("RELU", rectified), row("LEAKY_RELU", leaky, alpha=alpha)
    for kernels in KERNELS:
        one, other = (
            import_tflite(model, kernels=kernels).forward(code[None]).item()
            for model, code in zip(models, x, strict=True)
        )
        assert one == (2 if kernels == "tflite-micro" else 3)
        assert other == (42 if kernels in {"xnnpack", "tflite-micro"} else 41)


def test_codes_that_one_rounding_decides():
    """As LiteRT 2.3.0 and tflite-micro gave them, in the order of the kernels."""
    unit, out = {"scale": 1.0, "zero": 0}, {"scale": 1 / 256, "zero": -128}
    half = {"scale": 0.5, "zero": 0}
    long = np.repeat(np.array([5, 4], np.int8), [10, 31])
    for op, read, written, x, answers in (
        ("SOFTMAX", codes(3, scale=0.375), codes(3, **out), [50, 49, 34],
         (23, 24, 24, 23)),
        ("SOFTMAX", codes(2, scale=2.0**-14, **WIDE), codes(2, **UNIT), [2995, -16088],
         (24975, 24975, 24975, 24974)),
        ("LOGISTIC", codes(1, scale=2.0**-7, zero=0), codes(1, **out), [1],
         (0, 0, 0, 1)),
        ("LOGISTIC", codes(1, **unit), codes(1, scale=1.0, zero=1), [0],
         (None, None, 2, None)),
        ("MEAN", codes(1, 41, 1, scale=0.44599012, zero=109),
         codes(1, 1, 1, scale=0.4743166, zero=127), long, (28, 29, 29, 28)),
        ("MEAN", codes(1, 2, 1, **half), codes(1, 1, 1, **unit), [-5, -1],
         (-2, -2, -2, -2)),
        ("MEAN", codes(1, 2, 16, **half), codes(1, 1, 16, **unit), [[-5, -1]] * 16,
         (-2, -1, -2, -2)),
    ):  # fmt: skip
        mean = op == "MEAN"
        options = {"keep_dims": True} if mean else {"beta": 1.0} if op[0] == "S" else {}
        given = [read, whole([1, 2]), written] if mean else [read, written]
        shape = (-1, 1, np.shape(x)[-1]) if mean else (-1,)
        image = np.array(x, read.dtype).reshape(1, *shape)
        for kernels, answer in zip(KERNELS, answers, strict=True):
            if answer is not None:
                network = import_tflite(row(op, given, **options), kernels=kernels)
                assert network.forward(image).ravel()[0] == answer, (op, kernels)


@pytest.mark.parametrize(
    ("op", "shape", "want"),
    [
        ("ADD", (1, 2, 2, 4), "tflite-avx2"),
        ("SUB", (1, 2, 2, 8), "tflite-avx2"),
        ("ADD", (1, 2, 2, 3), "tflite"),
        ("MUL", (1, 2, 2, 4), "tflite"),
        ("ADD", (1, 2, 2, 6), "vectors of 16 leave otherwise"),
    ],
)
def test_vectors_add_codes_of_16_bits_in_a_form_of_their_own(rng, op, shape, want):
    made = Case(op, False, rng)
    binary(made, dtype="int16", through="MUL", shape=shape)
    for kernels in ("optimized", "xnnpack"):
        if " " in want:
            refuses(want, import_tflite, made.model(), kernels=kernels)
        else:
            last = import_tflite(made.model(), kernels=kernels).steps[-1]
            assert last.options["semantics"] == want
    last = import_tflite(made.model()).steps[-1]
    assert last.options["semantics"] == "tflite"


def test_sets_refuse_what_they_do_not_have_or_round_by_what_vectors_leave():
    unsigned = codes(4, dtype="uint8")
    for model, words in (
        (row("RELU", [unsigned, unsigned]), "these kernels take uint8 in"),
        (row("RELU_N1_TO_1", [codes(4), codes(4)]), "these kernels do not have it"),
        (row("TANH", [codes(4), codes(4)]), "give scale 0.0078125 and zero-point 0"),
    ):
        refuses(words, import_tflite, model, kernels="tflite-micro")
        import_tflite(model)
    for c, kept in ((15, 1), (16, 1), (17, 1), (17, 0)):
        out = codes(1, 1, c) if kept else codes(c)
        model = row("MEAN", [codes(2, 2, c), whole([1, 2]), out], keep_dims=kept)
        if (c, kept) == (17, 1):
            refuses("vectors of 16 channels", import_tflite, model, kernels="optimized")
        else:
            import_tflite(model, kernels="optimized")


def test_scales_near_two_powers_have_a_form_of_their_own():
    """Multiplied by 3 alone there, by 15 bits 0.06 % further; optimized otherwise."""
    x = np.arange(-(2**15), 2**15, 4, dtype=np.int16).reshape(1, -1)
    forms = ("LOGISTIC", -12, 23956), ("TANH", -12, 24956), ("TANH", -11, 31589)
    for op, power, code in forms:
        answers = []
        for share in (1.0, 1.0006, 1.0008):
            size, grid = x.shape[1], WIDE | {"scale": share * 2.0**power}
            model = row(op, [codes(size, **grid), codes(size, **UNIT)])
            answers.append(import_tflite(model).forward(x))
            for kernels in ("optimized", "xnnpack"):
                if share < 1.0007:
                    refuses("another form", import_tflite, model, kernels=kernels)
                else:
                    got = import_tflite(model, kernels=kernels).forward(x)
                    np.testing.assert_array_equal(got, answers[-1])
        assert answers[0][x == 4096].item() == code
        assert np.array_equal(*answers[:2])
        assert not np.array_equal(*answers[1:])
        real = x * 2.0**power
        want = np.tanh(real) if op == "TANH" else 1 / (1 + np.exp(-real))
        assert np.abs(answers[0] - 2**15 * want).max() < 1.6


def test_tables_take_no_more_memory_than_stated(monkeypatch):
    model = row("TANH", [codes(4, **UNIT)] * 2)
    import_tflite(model)
    monkeypatch.setattr(tflite_operations, "MOST_TABLES", 2**17 - 1)
    refuses("more than 131071 bytes", import_tflite, model)


def test_codes_of_a_clamp_keep_their_type():
    """What Micro clamps is read as int16 by the function behind it."""
    tensors = [codes(4, **UNIT)._replace(name=n) for n in "xyz"]
    chain = (Operator("RELU6", (0,), (1,)), Operator("TANH", (1,), (2,)))
    model = write_model(Model(tuple(tensors), chain, (0,), (2,)))
    x = np.array([[-7, 0, 9000, 32767]], np.int16)
    for kernels in KERNELS:
        got = import_tflite(model, kernels=kernels).forward(x)
        np.testing.assert_array_equal(got, [[0, 0, 8780, 24956]], kernels)


def sliced(limits, size, **masks):
    """Write a model: a slice of the shape (1, 2, 3, 4) of its input resizes it."""
    numbers = [Tensor((n,), "int32") for n in (4, 2, 0)]
    held = [*map(whole, limits), whole([0]), whole([1])]
    tensors = [codes(2, 3, 4), *numbers, *held, codes(*size, 4)]
    chain = (
        Operator("SHAPE", (0,), (1,), {"out_type": 2}),
        Operator("STRIDED_SLICE", (1, 7, 7, 8), (3,)),  # no number
        Operator("STRIDED_SLICE", (1, 4 if limits[0] else 3, 5, 6), (2,), masks),
        Operator("RESIZE_NEAREST_NEIGHBOR", (0, 2), (9,)),
    )
    named = tuple(t._replace(name=f"t{i}") for i, t in enumerate(tensors))
    return write_model(Model(named, chain, (0,), (9,)))


def test_slices_of_the_numbers_of_a_shape():
    x = np.arange(24, dtype=np.int8).reshape(1, 4, 2, 3)
    for limits, size, masks in (
        (([0], [4], [2]), (1, 3), {}),
        (([-2], [4], [1]), (3, 4), {}),
        (([2], [0], [-1]), (3, 2), {}),
        (([1], [2], [1]), (1, 2), {"begin_mask": 1}),
        (([1], [0], [2]), (2, 4), {"end_mask": 1}),
    ):
        given = [codes(2, 3, 4), whole(size), codes(*size, 4)]
        want = import_tflite(row("RESIZE_NEAREST_NEIGHBOR", given)).forward(x)
        got = import_tflite(sliced(limits, size, **masks)).forward(x)
        np.testing.assert_array_equal(got, want, strict=True)
    one = r"STRIDED_SLICE \(operator 2, output 't2'\).* has one axis"
    for limits in (
        ([], [3], [2]),
        ([0, 0], [3], [2]),
        ([0], [3, 3], [2]),
        ([0], [3], [2, 2]),
        ([0], [3], [0]),
    ):
        refuses(one, import_tflite, sliced(limits, (1, 3)))
    for key in ("ellipsis_mask", "new_axis_mask"):
        refuses(one, import_tflite, sliced(([0], [4], [2]), (1, 3), **{key: 1}))
    for begin in (-5, 4):
        single = sliced(([begin], [0], [1]), (1, 3), shrink_axis_mask=1)
        refuses(rf"number {begin} is none of 4", import_tflite, single)


def test_pack_takes_single_numbers_once():
    given, pair = [codes(2, 3, 4), whole([2])], Tensor((2,), "int32")
    shape = Operator("SHAPE", (0,), (2,), {"out_type": 2})
    for chain, words in (
        ((shape, Operator("PACK", (1, 2), (3,))), "one row of up to 16 numbers"),
        ((shape, shape), "its output has a value already"),
    ):
        tensors = [*given, Tensor((4,), "int32"), pair]
        named = tuple(t._replace(name=f"t{i}") for i, t in enumerate(tensors))
        made = write_model(Model(named, chain, (0,), (3,)))
        refuses(rf"operator 1, .*{words}", import_tflite, made)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named_with_its_place(name):
    model, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as caught:
        import_tflite(model)
    assert re.search(r"\(operator 0, output 't\d'\)", str(caught.value))
    assert "\n" not in str(caught.value)


def test_unknown_operators_say_what_is_supported():
    model = bytearray(row("RELU", [codes(4), codes(4)]))
    place = model.index(bytes([19, 0, 0, 0]))  # its code, and the deprecated one
    model[place] = model[model.rindex(19)] = 54
    refuses(r"builtin operator 54 .* supported are ADD", import_tflite, bytes(model))


def test_operators_that_read_what_comes_later():
    named = [codes(4)._replace(name=n) for n in "xyz"]
    circle = (Operator("RELU", (2,), (1,)), Operator("RELU", (1,), (2,)))
    with pytest.raises(ValueError, match="not computed before it"):
        import_tflite(write_model(Model(tuple(named), circle, (0,), (2,))))
    twice = (Operator("RELU", (0,), (1,)), Operator("RELU", (0,), (1,)))
    with pytest.raises(ValueError, match="has a value already"):
        import_tflite(write_model(Model(tuple(named), twice, (0,), (1,))))
    beyond = (Operator("RELU", (7,), (1,)),)
    with pytest.raises(ValueError, match="there are 3"):
        import_tflite(write_model(Model(tuple(named), beyond, (0,), (1,))))


def test_tables_of_the_schema_are_those_of_the_published_package():
    tflite = pytest.importorskip("tflite", reason="pip install refqnn[tflite]")
    for kind, fields in tflite_schema.FIELDS.items():
        published = getattr(tflite, kind)
        assert importlib.import_module(published.__module__) in sys.modules.values()
        for name, field in fields.items():
            camel = "".join(part.title() for part in name.split("_"))
            if field.kind == "-" and not hasattr(published, camel):
                continue  # deprecated: a slot without a reader
            source = inspect.getsource(getattr(published, camel))
            slot = int(re.search(r"Offset\((\d+)\)", source).group(1))
            assert slot == 4 + 2 * field.slot, (kind, name)
    for op, code in tflite_schema.CODES.items():
        assert getattr(tflite.BuiltinOperator, op) == code
    for kind, union in tflite_schema.OPTIONS.values():
        assert getattr(tflite.BuiltinOptions, kind) == union
    for number, dtype in tflite_schema.TYPES.items():
        assert getattr(tflite.TensorType, dtype.upper()) == number


@pytest.mark.parametrize("name", MODELS)
def test_the_published_parser_reads_what_is_written(name):
    tflite = pytest.importorskip("tflite", reason="pip install refqnn[tflite]")
    model = MODELS[name]()
    graph, read = parse_model(model), tflite.Model.GetRootAs(model, 0).Subgraphs(0)
    assert read.TensorsLength() == len(graph.tensors)
    assert read.OperatorsLength() == len(graph.operators)
    for i, t in enumerate(graph.tensors):
        other = read.Tensors(i)
        assert (other.Name().decode(), *other.ShapeAsNumpy()) == (t.name, *t.shape)
        scale = other.Quantization() and other.Quantization().ScaleAsNumpy()
        if np.size(t.scale):
            np.testing.assert_array_equal(scale, np.ravel(t.scale))
    for i, operator in enumerate(graph.operators):
        assert tuple(read.Operators(i).InputsAsNumpy()) == operator.inputs


RUNTIMES = {"ai_edge_litert": tuple(RESOLVERS), "tflite_micro": (MICRO,)}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", CASES)
def test_runtimes_agree_on_20_000_outputs(name, runtime):
    pytest.importorskip(runtime, reason="pip install refqnn[tflite]")
    for ties in (False, True):
        model, x = case(name, ties=ties)
        for kernels in RUNTIMES[runtime]:
            network = imported(model, kernels)
            if network is None:
                continue
            theirs = tflite_trace(model, x, kernels)
            for key, codes in computed(model, network, x).items():
                np.testing.assert_array_equal(codes, theirs[key], f"{key} {kernels}")


def test_weights_of_minus_128_have_eight_bits(tmp_path):
    w = np.array([[-128, 127]], np.int8)
    tensors = (
        Tensor((1, 2), "int8", 1.0, 0, name="x"),
        Tensor(w.shape, "int8", [0.01], 0, w, "w"),
        Tensor((1, 1), "int8", 1.0, 0, name="y"),
    )
    operator = Operator("FULLY_CONNECTED", (0, 1), (2,), {}, 3)
    network = import_tflite(write_model(Model(tensors, (operator,), (0,), (2,))))
    network.save(tmp_path / "integers.npz")
    read = IntegerNetwork.load(tmp_path / "integers.npz")
    (layer,) = (step for step in read.steps if hasattr(step, "sum"))
    assert layer.sum.weight_bits == 8
    x = np.array([[-100, 3]], np.int8)
    np.testing.assert_array_equal(read.forward(x), network.forward(x))
