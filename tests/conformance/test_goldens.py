"""Goldens of others: read from directories made here, scored, turned into packs."""

import json

import numpy as np
import pytest

from refqnn import integer
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.reach import goldens, pack_files, pack_verify, packs
from refqnn.conformance.reach.goldens import c_source, cmsis_layers
from refqnn.conformance.reach.packs import Unreadable


def descriptor(
    folder, rng, *, mode="S", bits=8, unsigned=False, scale32=True, n=12, rank0=False
):
    """A RESCALE of TOSA as its generator writes it; outputs by its pseudo-code."""
    folder.mkdir(parents=True)
    shape = () if rank0 else (1, n, 3)
    x = rng.integers(-1000, 1000, shape, np.int32, endpoint=True)
    x = np.asarray(x, np.int32)
    multiplier, shift = ([3 << 29], [34]) if scale32 else ([3 << 13], [18])
    zero = 200 if unsigned else -5
    limit = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    y = [
        min(
            max(zero + rescaled(int(v), multiplier[0], shift[0], mode), limit[0]),
            limit[1],
        )
        for v in x.ravel()
    ]
    signed = np.array(y).astype(f"u{bits // 8}").view(f"i{bits // 8}").reshape(x.shape)
    np.save(folder / "input-0.npy", x)
    np.save(folder / "ref-result-0.npy", signed)
    fixed = {
        "const-0": ("INT32" if scale32 else "INT16", multiplier),
        "const-1": ("INT8", shift),
        "const-2": ("INT32", [0]),
        "const-3": (f"INT{bits}", [int(np.int64(zero).astype(f"i{bits // 8}"))]),
    }
    tensors = {"input-0": {"data_type": "INT32", "input_pos": 0, "op": "RESCALE"}}
    for place, (name, (kind, data)) in enumerate(fixed.items(), 1):
        tensors[name] = {
            "data_type": kind,
            "input_pos": place,
            "op": "RESCALE",
            "fixed_data_info": {"data": [float(v) for v in data]},
        }
    told = {
        "tosa_file": "test.tosa",
        "ifm_name": ["input-0"],
        "ifm_file": ["input-0.npy"],
        "ofm_name": ["result-0"],
        "ofm_file": ["ref-result-0.npy"],
        "expected_failure": False,
        "meta": {"data_gen": {"tensors": tensors}},
    }
    (folder / "desc.json").write_text(json.dumps(told))
    return x


def rescaled(v, multiplier, shift, mode):
    """The pseudo-code of TOSA's apply_scale_32: one rounding, or two."""
    extra = 0
    if mode == "D" and shift > 31:
        extra = (1 << 30) if v >= 0 else -(1 << 30)
    return (v * multiplier + (1 << (shift - 1)) + extra) >> shift


@pytest.mark.parametrize(
    ("mode", "scale32", "found"),
    [("S", True, "half_up"), ("S", False, "half_up"), ("D", True, "two_stage")],
)
def test_tosa_descriptors_are_read(tmp_path, rng, mode, scale32, found):
    folder = tmp_path / f"rescale_12x3_i32_outi8_sc1_rm{mode}_pc0_iu0_ou0"
    x = descriptor(folder, rng, mode=mode, scale32=scale32, n=200)
    suite = goldens.read(tmp_path)
    (golden,) = suite.goldens
    assert golden.declared == {"S": "SINGLE_ROUND", "D": "DOUBLE_ROUND"}[mode]
    assert golden.name == folder.name
    np.testing.assert_array_equal(golden.inputs["acc"], x)
    (score,) = goldens.score(suite)
    assert not score.unexplained
    assert score.recorder["requantize"].startswith(found)


def test_tensors_of_rank_0_take_the_single_scale(tmp_path, rng):
    descriptor(tmp_path / "rescale_rmS", rng, rank0=True)
    suite = goldens.read(tmp_path)
    (golden,) = suite.goldens
    assert golden.inputs["acc"].shape == golden.inputs["multiplier"].shape == ()
    (score,) = goldens.score(suite)
    assert not score.unexplained


def test_unsigned_codes_of_tosa_are_unsigned(tmp_path, rng):
    descriptor(tmp_path / "rescale_rmS_ou1", rng, unsigned=True)
    (golden,) = goldens.read(tmp_path).goldens
    assert golden.inputs["zero_point"] == 200
    assert (golden.inputs["q_min"], golden.inputs["q_max"]) == (0, 255)
    assert not goldens.score(goldens.read(tmp_path))[0].unexplained


def test_parameters_of_tosa_may_be_files(tmp_path, rng):
    descriptor(tmp_path / "a", rng)
    path = tmp_path / "a" / "desc.json"
    told = json.loads(path.read_text())
    shift = told["meta"]["data_gen"]["tensors"]["const-1"].pop("fixed_data_info")
    np.save(tmp_path / "a" / "shift.npy", np.int8(shift["data"]))
    path.write_text(json.dumps(told))
    assert (
        "const-1 is neither fixed data nor a file" in goldens.read(tmp_path).reasons()
    )
    told["ifm_name"].append("const-1")
    path.write_text(json.dumps(told))
    assert "ValueError" in goldens.read(tmp_path).reasons()  # a name without a file
    told["ifm_file"].append("shift.npy")
    path.write_text(json.dumps(told))
    (golden,) = goldens.read(tmp_path).goldens
    np.testing.assert_array_equal(golden.inputs["shift"], [31 - 34])


def test_what_is_no_rescale_is_said(tmp_path, rng):
    for name in ("a", "b", "c", "d", "e", "f"):
        descriptor(tmp_path / name, rng)
    (tmp_path / "a" / "ref-result-0.npy").unlink()
    (tmp_path / "c" / "desc.json").write_text("garbage")
    told = json.loads((tmp_path / "b" / "desc.json").read_text())
    (tmp_path / "b" / "desc.json").write_text(
        json.dumps(told | {"expected_failure": True})
    )
    told["meta"] = {"data_gen": {"tensors": {"x": {"op": "ADD", "input_pos": 0}}}}
    (tmp_path / "d" / "desc.json").write_text(json.dumps(told))
    told["meta"]["data_gen"]["tensors"]["y"] = {"op": "ABS", "input_pos": 1}
    (tmp_path / "e" / "desc.json").write_text(json.dumps(told))
    (tmp_path / "f" / "desc.json").write_text(json.dumps(told | {"meta": {}}))
    suite = goldens.read(tmp_path)
    assert suite.goldens == ()
    assert list(suite.unread) == ["a", "b", "c", "d", "e", "f"]
    lines = suite.reasons()
    assert "run the reference model first" in lines
    assert "a failure is expected" in lines
    for names in ("ADD", "ABS, ADD", "unknown"):
        assert f"operator {names}: only RESCALE is read" in lines
    assert "desc.json is no JSON" in lines


def pack_nibbles(codes):
    """Two codes a byte, the first in its low half."""
    nibbles = np.resize(codes.view(np.uint8) & 15, codes.size + codes.size % 2)
    return (nibbles[::2] | nibbles[1::2] << 4).astype(np.uint8).view(np.int8)


def headers(folder, rng, kind, *, w_zero_point=0, w_bits=8):
    """A layer in the files of CMSIS-NN; outputs by refqnn's integer operators."""
    folder.mkdir(parents=True)
    n, c, h, w, out, kh, kw = 2, 3, 5, 6, 6, 4, 3
    z, y_zero, stride, pad = -9, 11, (2, 1), (1, 1)
    x = rng.integers(-128, 128, (n, h, w, c)).astype(np.int8)
    bias = rng.integers(-500, 500, out).astype(np.int32)
    multiplier = rng.integers(1 << 30, 1 << 31, out)
    shift = rng.integers(-9, -7, out)
    defines = {"INPUT_BATCHES": n, "OUT_CH": out, "INPUT_OFFSET": -z}
    low, high = -(2 ** (w_bits - 1)), 2 ** (w_bits - 1)
    options = {}
    if kind == "fully_connected":
        weights = rng.integers(low, high, (out, h * w * c)).astype(np.int8)
        acc = integer.linear(
            x.reshape(n, -1), weights, bias, x_zero_point=z, w_zero_point=w_zero_point
        )
        defines["FILTER_OFFSET"] = -w_zero_point
        multiplier, shift = multiplier[:1], shift[:1]
        defines |= {"ACCUMULATION_DEPTH": h * w * c}
        defines |= {"OUTPUT_MULTIPLIER": multiplier[0], "OUTPUT_SHIFT": shift[0]}
        lift, planar = (-1,), ()
    else:
        groups = c if kind == "depthwise" else 1
        w_oihw = rng.integers(low, high, (out, c // groups, kh, kw)).astype(np.int8)
        acc = integer.conv2d(
            x.transpose(0, 3, 1, 2),
            w_oihw,
            bias,
            x_zero_point=z,
            stride=stride,
            padding=((1, 2), (1, 1)),
            groups=groups,
        )
        weights = w_oihw.transpose(0, 2, 3, 1)
        if kind == "depthwise":
            weights, defines["CH_MULT"] = w_oihw.transpose(1, 2, 3, 0), out // c
        _, _, ho, wo = acc.shape
        sizes = ("IN_CH", "INPUT_H", "INPUT_W", "FILTER_Y", "FILTER_X", "STRIDE_Y")
        defines |= dict(zip(sizes, (c, h, w, kh, kw, stride[0]), strict=True))
        defines |= {"STRIDE_X": 1, "PAD_Y": pad[0], "PAD_X": pad[1]}
        defines |= {"OUTPUT_H": ho, "OUTPUT_W": wo}
        options = {"output_mult": multiplier, "output_shift": shift}
        lift, planar = (-1, 1, 1), (0, 2, 3, 1)
    y = integer.requantize(
        acc, multiplier.reshape(lift), shift.reshape(lift), y_zero,
        q_min=-100, q_max=127, rounding="floor",
    )  # fmt: skip
    y = y.transpose(planar) if planar else y
    defines |= {"OUT_ACTIVATION_MIN": -100, "OUT_ACTIVATION_MAX": 127}
    defines |= {"OUTPUT_OFFSET": y_zero}
    text = "".join(f"#define LAYER_{k} {v}\n" for k, v in defines.items())
    (folder / "config_data.h").write_text("// generated\n#pragma once\n" + text)
    weights = pack_nibbles(weights) if w_bits == 4 else weights
    arrays = {"input": x, "weights": weights, "biases": bias, "output_ref": y} | options
    for name, array in arrays.items():
        kind = "int8_t" if array.dtype == np.int8 else "int32_t"
        values = ",\n ".join(map(str, array.ravel().tolist()))
        line = f"const {kind} layer_{name}[{array.size}] = {{{values}}};\n"
        (folder / f"{name}_data.h").write_text(f"#include <stdint.h>\n{line}")
    if w_bits == 4:
        rename(folder, ("layer_", "layer_int4_"), ("LAYER_", "LAYER_INT4_"))


@pytest.mark.parametrize("kind", ["convolution", "depthwise", "fully_connected"])
def test_c_headers_of_layers_are_read(tmp_path, rng, kind):
    headers(tmp_path / "layer", rng, kind)
    suite = goldens.read(tmp_path)
    assert not suite.unread, suite.unread
    (score,) = goldens.score(suite)
    assert not score.unexplained
    assert score.recorder["requantize"] == "floor"


def test_incomplete_headers_are_said(tmp_path, rng):
    headers(tmp_path / "a", rng, "convolution")
    headers(tmp_path / "b", rng, "convolution")
    (tmp_path / "a" / "output_ref_data.h").unlink()
    (tmp_path / "b" / "weights_data.h").unlink()
    unread = goldens.read(tmp_path).unread
    assert "no array *_output_ref" in unread["a"]
    assert "*_weights is missing" in unread["b"]


@pytest.mark.parametrize(("zero", "whole"), [(-100, True), (127, True), (-101, False)])
def test_outputs_at_the_ends_of_an_activation_are_left_out(tmp_path, rng, zero, whole):
    """The clamp may hide the zero-point; what is inside of it was rounded."""
    headers(tmp_path / "a", rng, "convolution")
    path = tmp_path / "a" / "config_data.h"
    path.write_text(
        path.read_text().replace("_OUTPUT_OFFSET 11", f"_OUTPUT_OFFSET {zero}")
    )
    (golden,) = goldens.read(tmp_path).goldens
    y = golden.outputs["y"]
    assert (golden.inputs["q_min"], y.ndim) == ((-100, 4) if whole else (-128, 1))
    assert whole or (y.size and y.min() > -100 and y.max() < 127)
    assert golden.inputs["acc"].shape == y.shape


def rename(folder, *pairs):
    """Replace text in every header of a folder."""
    for path in folder.glob("*.h"):
        text = path.read_text()
        for old, new in pairs:
            text = text.replace(old, new)
        path.write_text(text)


def test_zero_points_of_weights_are_applied(tmp_path, rng):
    headers(tmp_path / "a", rng, "fully_connected", w_zero_point=15)
    (score,) = goldens.score(goldens.read(tmp_path))
    assert not score.unexplained
    rename(tmp_path / "a", ("FILTER_OFFSET -15", "FILTER_OFFSET 15"))
    (score,) = goldens.score(goldens.read(tmp_path))
    assert score.unexplained == ("a",)


def test_transposed_convolutions_are_refused_by_name(tmp_path, rng):
    headers(tmp_path / "a", rng, "convolution")
    with (tmp_path / "a" / "config_data.h").open("a") as file:
        file.write("#define LAYER_PAD_X_WITH_OFFSET 2\n")
    assert "transposed convolution" in goldens.read(tmp_path).unread["a"]


def test_aliases_and_the_names_of_another_generator_are_followed(tmp_path, rng):
    headers(tmp_path / "a", rng, "convolution")
    (known,) = goldens.read(tmp_path).goldens
    rename(
        tmp_path / "a",
        ("layer_output_ref[", "layer_output["),
        ("layer_biases[", "layer_input_bias["),
    )
    (tmp_path / "a" / "alias.h").write_text(
        "const int8_t *const layer_output_ref = layer_output;\n"
        "const int32_t *const layer_biases = layer_input_bias;\n"
    )
    (golden,) = goldens.read(tmp_path).goldens
    np.testing.assert_array_equal(golden.inputs["acc"], known.inputs["acc"])
    np.testing.assert_array_equal(golden.outputs["y"], known.outputs["y"])


def test_headers_that_the_test_does_not_include_are_left_out(tmp_path, rng):
    headers(tmp_path / "a", rng, "convolution")
    names = [path.name for path in (tmp_path / "a").glob("*.h")]
    (tmp_path / "a" / "old.h").write_text("const int8_t old_output_ref[1] = {1};")
    assert "want one" in goldens.read(tmp_path).unread["a"]
    text = "".join(f'#include "{name}"\n' for name in names)
    (tmp_path / "a" / "test_data.h").write_text(text)
    assert len(goldens.read(tmp_path).goldens) == 1


@pytest.mark.parametrize("kind", ["convolution", "depthwise", "fully_connected"])
def test_weights_of_four_bits_are_unpacked(tmp_path, rng, kind):
    headers(tmp_path / "a", rng, kind, w_bits=4)
    (golden,) = goldens.read(tmp_path).goldens
    (score,) = goldens.score(goldens.read(tmp_path))
    assert not score.unexplained
    assert golden.declared == "int8 outputs"


def test_outputs_of_16_bits_are_a_group_by_the_width_of_biases():
    y, biases = np.zeros(2, np.int16), np.zeros(2, np.int64)
    assert cmsis_layers.widths({"output_ref": y}) == "int16 outputs"
    whole = cmsis_layers.widths({"output_ref": y, "biases": biases})
    assert whole == "int16 outputs, int64 biases"
    narrow = {"output_ref": y.astype(np.int8), "biases": biases}
    assert cmsis_layers.widths(narrow) == "int8 outputs"


POOL = {"INPUT_N": 1, "INPUT_H": 5, "INPUT_W": 6, "INPUT_C": 2, "FILTER_H": 3,
        "FILTER_W": 2, "STRIDE_H": 2, "STRIDE_W": 3, "PADDING_H": 1, "PADDING_W": 0,
        "OUTPUT_H": 3, "OUTPUT_W": 2, "OUTPUT_C": 2, "ACTIVATION_MIN": -128,
        "ACTIVATION_MAX": 127}  # fmt: skip


@pytest.mark.parametrize("kind", ["avg", "max"])
def test_pooling_layers_are_read(tmp_path, rng, kind):
    x = rng.integers(-100, 100, (1, 5, 6, 2)).astype(np.int8)
    x[0, :2, :2], x[0, 1:4, 3:5] = -128, 127  # whole windows at the ends of int8
    how = {"kernel": (3, 2), "stride": (2, 3), "padding": ((1, 1), (0, 0))}
    planes = x.transpose(0, 3, 1, 2)
    if kind == "avg":
        y = integer.avg_pool2d(
            planes, **how, rounding="half_away", count_include_pad=False
        )
    else:
        y = integer.max_pool2d(planes, **how)
    folder = tmp_path / f"{kind}pool"
    folder.mkdir()
    text = "".join(f"#define {kind.upper()}POOL_{k} {v}\n" for k, v in POOL.items())
    for name, array in {"input_tensor": x, "output": y.transpose(0, 2, 3, 1)}.items():
        values = ", ".join(map(str, array.ravel().tolist()))
        text += f"const int8_t {kind}pool_{name}[{array.size}] = {{{values}}};\n"
    (folder / "config_data.h").write_text(text)
    (score,) = goldens.score(goldens.read(tmp_path))
    assert (score.family, score.unexplained) == (f"{kind}_pool2d", ())


def test_arrays_of_our_own_headers_are_read_back():
    from refqnn.conformance.reach import exports

    pack = packs.generate("dequantize")
    found = c_source.arrays(exports.export(pack, "c-header").decode())
    for name, array in pack.arrays().items():
        got = found[f"case_{name.replace('/', '_')}"]
        np.testing.assert_array_equal(got, array.ravel())
        assert got.dtype == array.dtype


ONNX_CASES = (
    "QuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
    "MaxPool", "BatchNormalization", "SoftmaxCrossEntropyLoss", "LSTM", "Momentum",
    "DynamicQuantizeLinear",
)  # fmt: skip


def directory(folder, kind, arrays, output, **attributes):
    """An ONNX test directory of one node; None is an input that is left out."""
    onnx = pytest.importorskip("onnx")
    helper, to_tensor = onnx.helper, onnx.numpy_helper.from_array
    names = ["" if a is None else f"i{k}" for k, a in enumerate(arrays)]
    given = [(n, a) for n, a in zip(names, arrays, strict=True) if n]
    info = [
        helper.make_tensor_value_info(
            n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape
        )
        for n, a in [*given, ("y", output)]
    ]
    node = helper.make_node(kind, names, ["y"], **attributes)
    graph = helper.make_graph([node], "one", info[:-1], info[-1:])
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    onnx.save(helper.make_model(graph), folder / "model.onnx")
    for k, (name, array) in enumerate(given):
        (data / f"input_{k}.pb").write_bytes(to_tensor(array, name).SerializeToString())
    (data / "output_0.pb").write_bytes(to_tensor(output, "y").SerializeToString())


@pytest.mark.once
def test_zero_points_and_biases_may_be_left_out(tmp_path, rng):
    x = rng.integers(0, 256, (1, 2, 5, 5)).astype(np.uint8)
    w = rng.integers(-128, 128, (3, 2, 2, 2)).astype(np.int8)
    y = integer.conv2d(x, w, stride=2, padding=((0, 1), (1, 0)))
    pads = {"strides": [2, 2], "pads": [0, 1, 1, 0]}
    directory(tmp_path / "conv", "ConvInteger", [x, w], y, **pads)
    a = x.reshape(5, 10)
    b = rng.integers(-128, 128, (10, 3)).astype(np.int8)
    product = a.astype(np.int32) @ b.astype(np.int32)
    directory(tmp_path / "matmul", "MatMulInteger", [a, b], product)
    q = np.int8([-3, 5])
    real = np.float32([-1.5, 2.5])
    directory(tmp_path / "dequantize", "DequantizeLinear", [q, np.float32(0.5)], real)
    codes = np.uint8([3, 0])
    given = [np.float32([1.5, -9.0]), np.float32(0.5)]
    directory(tmp_path / "quantize", "QuantizeLinear", given, codes)
    suite = goldens.read(tmp_path)
    assert suite.unread == {}
    scores = goldens.score(suite)
    assert [s.family for s in scores] == ["conv2d", "dequantize", "linear", "quantize"]
    assert not any(s.unexplained for s in scores)
    (linear,) = [g for g in suite.goldens if g.family == "linear"]
    np.testing.assert_array_equal(linear.inputs["w"], b.T)
    np.testing.assert_array_equal(linear.inputs["b"], [0, 0, 0])
    assert (linear.inputs["x_zero_point"], linear.inputs["w_zero_point"]) == (0, 0)
    default = {s.family: s.recorder["x_zero_point_use"] for s in scores[::2]}
    assert default == {"conv2d": "subtracted", "linear": "subtracted"}


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("Relu", {}, "Relu is none of"),
        ("ConvInteger", {"auto_pad": "SAME_UPPER"}, "auto_pad is set"),
    ],
)
def test_what_is_not_judged_is_said(tmp_path, kind, change, told):
    x = np.ones((1, 1, 3, 3), np.uint8)
    arrays = [x] if kind == "Relu" else [x, np.ones((1, 1, 2, 2), np.int8)]
    y = np.ones((1, 1, 2, 2), np.int32)
    directory(tmp_path / "a", kind, arrays, y, **change)
    assert told in goldens.read(tmp_path).reasons()


def test_garbage_in_a_directory_is_said(tmp_path):
    pytest.importorskip("onnx")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "model.onnx").write_bytes(b"garbage")
    assert list(goldens.read(tmp_path).unread) == ["a"]


@pytest.fixture(scope="module")
def onnx_suite(tmp_path_factory):
    """ONNX's own node tests of integer operators, as directories."""
    onnx = pytest.importorskip("onnx")
    cases = pytest.importorskip("onnx.backend.test.case.node").collect_testcases
    root = tmp_path_factory.mktemp("onnx")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [c for c in cases(None) if c.model.graph.node[0].op_type in ONNX_CASES]
    for case in found:
        folder = root / case.model.graph.node[0].op_type / case.name
        data = folder / "test_data_set_0"
        data.mkdir(parents=True)
        onnx.save(case.model, folder / "model.onnx")
        graph = case.model.graph
        for kind, arrays, infos in zip(
            ("input", "output"),
            case.data_sets[0],
            (graph.input, graph.output),
            strict=True,
        ):
            for i, (array, info) in enumerate(zip(arrays, infos, strict=True)):
                made = array
                if not isinstance(array, onnx.TensorProto):
                    made = onnx.numpy_helper.from_array(np.asarray(array), info.name)
                (data / f"{kind}_{i}.pb").write_bytes(made.SerializeToString())
    return root


def sights(root):
    suite = goldens.read(root)
    (score,) = goldens.score(suite)
    seen = {(s.axis, s.value): s.seen for s in score.sights}
    return suite, score, seen


@pytest.mark.once
def test_what_the_cases_of_quantize_linear_cannot_see(onnx_suite):
    """design/conformance.md section 1: half away, reciprocal and zero-point order."""
    suite, score, seen = sights(onnx_suite / "QuantizeLinear")
    assert score.cases >= 8
    assert all("no integer" in why for why in suite.unread.values())
    assert score.unexplained == ()
    assert score.recorder == FAMILIES["quantize"].default
    assert seen["rounding", "half_away"] == 0
    assert seen["rounding", "half_up"] == 2
    assert seen["zero_point_when", "before_rounding"] == 1
    assert seen["scaling", "reciprocal"] == seen["scaling", "reciprocal_fma"] == 0
    assert seen["rounding", "trunc"] >= 7
    assert all(seen["nan", v] == 0 for v in ("q_min", "q_max", "zero", "kept"))
    assert "half_away                0 / " in str(score)
    assert "no case sees it" in str(score)


@pytest.mark.parametrize("operator", ["QLinearConv", "QLinearMatMul"])
def test_what_the_cases_of_qlinear_operators_cannot_see(onnx_suite, operator):
    suite, score, seen = sights(onnx_suite / operator)
    assert suite.unread == {}
    assert score.unexplained == ()
    blind = ("half_even", "half_away", "half_down", "two_stage_half_away",
             "float32_half_even", "mixed_half_even")  # fmt: skip
    assert all(seen["requantize", form] == 0 for form in blind)
    assert seen["requantize", "trunc"] == seen["requantize", "floor"] == score.cases


@pytest.mark.parametrize(
    ("operator", "family", "cases", "answers", "reason"),
    [
        ("MaxPool", "max_pool2d", 9, {"max_pool_padding": "never"}, "ceil_mode is 1"),
        (
            "BatchNormalization",
            "batch_norm",
            2,
            {"running_variance": "biased", "running_momentum": "old"},
            "training_mode is 0",
        ),
        ("SoftmaxCrossEntropyLoss", "softmax_cross_entropy", 4, {}, "reduction is"),
        ("LSTM", "lstm_cell", 3, {}, "peepholes"),
        (
            "Momentum",
            "sgd",
            3,
            {"decay_order": "gradient", "nesterov": "gradient_plus_velocity"},
            "",
        ),
        ("DynamicQuantizeLinear", "quantize", 3, {"rounding": "half_even"}, ""),
    ],
)
def test_layers_and_steps_of_onnx_are_read(
    onnx_suite, operator, family, cases, answers, reason
):
    suite = goldens.read(onnx_suite / operator)
    scores = goldens.score(suite)
    assert {score.family for score in scores} == {family}
    assert sum(score.cases for score in scores) == cases
    assert not any(score.unexplained for score in scores)
    assert answers.items() <= scores[0].recorder.items()
    assert reason in suite.reasons()


@pytest.mark.once
def test_zero_points_of_channels_are_read(onnx_suite):
    suite, score, _ = sights(onnx_suite / "ConvInteger")
    assert suite.unread == {}
    assert (score.cases, score.unexplained) == (2, ())


def test_goldens_become_packs(onnx_suite, tmp_path):
    made = goldens.as_packs(goldens.read(onnx_suite / "QLinearMatMul"))
    (pack,) = made
    pack_files.write(pack, tmp_path)
    again = pack_files.read(tmp_path)
    assert again.manifest() == pack.manifest()
    assert len(again.cases) == 8
    assert "requantize = trunc" in again.cases[0].reveals
    missing = pack_verify.verify(again, {})
    assert [c.error for c in missing] == ["missing"] * 8


def test_a_case_that_no_variant_gives_is_named(tmp_path, rng):
    descriptor(tmp_path / "good", rng)
    descriptor(tmp_path / "odd", rng)
    y = np.load(tmp_path / "odd" / "ref-result-0.npy")
    y.flat[0] ^= 5
    np.save(tmp_path / "odd" / "ref-result-0.npy", y)
    (score,) = goldens.score(goldens.read(tmp_path))
    assert score.unexplained == ("odd",)
    assert "not recorded by it: odd" in str(score)


def test_a_folder_without_goldens_is_unreadable(tmp_path):
    with pytest.raises(Unreadable, match=r"holds no model\.onnx"):
        goldens.read(tmp_path)
    with pytest.raises(Unreadable, match="is not a folder"):
        goldens.read(tmp_path / "absent")


@pytest.mark.parametrize(
    ("c", "dtype"),
    [("int8_t", "int8"), ("uint16_t", "uint16"), ("int64_t", "int64"),
     ("float", "float32"), ("double", "float64"),
     ("float16_t", "float16"), ("float32_t", "float32")],
)  # fmt: skip
def test_arrays_of_c_have_their_types(c, dtype):
    (array,) = c_source.arrays(f"const {c} x[2] = {{1, 2}};").values()
    assert array.dtype == dtype
