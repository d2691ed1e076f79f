"""ONNX models of integer networks in onnxruntime: equal, or said to differ."""

from dataclasses import replace

import numpy as np
import pytest
from refusals import refuses

from refqnn import integer
from refqnn.conformance import bisect, trace
from refqnn.deploy import IntegerNetwork, deploy
from refqnn.deploy.formats.onnx_exact import COMPOSED
from refqnn.deploy.formats.onnx_export import FORMS, WEIGHTS, inexact, to_onnx
from refqnn.deploy.formats.onnx_graph import package, save_model
from refqnn.deploy.formats.onnx_run import PRECISION, onnx_trace
from refqnn.deploy.steps import LayerStep, PoolStep, ResidualStep

onnx = pytest.importorskip("onnx", reason="needs the optional package onnx")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="needs the optional package onnxruntime"
)

SIZE = (8, 8)
SIGNS = (-1.0, 0.0, 1.0)
FLOAT32 = {"requantize": "float32_half_even", "finer_bias": False}


def deployed(make, *, shortcut="A", bits=4, **options):
    network = make(
        shortcut=shortcut,
        signs=SIGNS,
        weight_bits=bits,
        activation_bits=bits,
        image_zero_point=100,
        width=0.2,  # 3, 6, 12 channels: an odd number is new
    )
    network.layers["classifier"].b.value[...] = np.linspace(-1, 1, 10)
    return deploy(network, image_size=SIZE, **options)


def ran(network, images, form, weights="uint8", **options):
    names = list(network.trace(images))
    made = to_onnx(network, form=form, weights=weights)
    return onnx_trace(made, images, names, **options)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("rounding", COMPOSED)
@pytest.mark.parametrize("shortcut", "AB")
def test_the_exact_form_is_equal_tensor_by_tensor(
    make, images, shortcut, rounding, weights
):
    """Fraction bits, zero-points, negative and dead channels included."""
    network = deployed(make, shortcut=shortcut, requantize=rounding)
    assert any(step.sum.fraction_bits.any() for step in network.steps[1:3])
    entries = PRECISION if weights == "int8" else None
    got = ran(network, images, "exact", weights, entries=entries)
    found = bisect(trace(network, images), got)
    assert (found.missing, found.misfits, found.first) == ([], [], None)
    assert inexact(network, "exact") == []


@pytest.mark.parametrize("rounding", COMPOSED)
def test_the_exact_form_rounds_ties(make, images, rounding):
    """Quarters of sums: every fourth one is a tie."""
    network = deployed(make, shortcut="B", requantize=rounding)
    steps = list(network.steps)
    for at, step in enumerate(steps):
        if isinstance(step, LayerStep) and step.sum.w.ndim == 4:
            one = np.full(len(step.multiplier), 2**30, np.int32)
            steps[at] = replace(step, multiplier=one, shift=one - 2**30 - 6)
    network = IntegerNetwork(tuple(steps))
    got = ran(network, images, "exact")
    assert bisect(trace(network, images), got).exit_code == 0
    first = network.steps[1]
    acc = network.trace(images)[f"{first.name}.accumulator"]
    assert np.any(acc % 2**7 == 2**6)  # multiplied by 2^-7


@pytest.mark.parametrize("rounding", COMPOSED)
@pytest.mark.parametrize("optimize", [False, True])
def test_the_exact_form_does_not_depend_on_optimization(
    make, images, optimize, rounding
):
    network = deployed(make, shortcut="B", requantize=rounding)
    got = ran(network, images, "exact", optimize=optimize)
    assert bisect(trace(network, images), got).exit_code == 0


@pytest.mark.parametrize("rounding", COMPOSED)
def test_the_exact_form_in_the_evaluator_of_onnx(make, images, rounding):
    """A second runtime: the reference implementation of the package onnx."""
    network = deployed(make, bits=2, requantize=rounding)
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
    (got,) = evaluator(to_onnx(network)).run(None, {network.steps[0].name: images})
    np.testing.assert_array_equal(got, network.forward(images), strict=True)


def rounding_in_floats(network):
    """Return the network whose every layer rounds as float32_half_even."""
    kinds = (LayerStep, ResidualStep, PoolStep)
    rounding = {"rounding": "float32_half_even"}
    return IntegerNetwork(
        tuple(
            replace(s, **rounding) if isinstance(s, kinds) else s for s in network.steps
        )
    )


@pytest.mark.parametrize("rounding", COMPOSED)
def test_for_openvino_every_layer_rounds_in_floats(make, images, rounding):
    network = deployed(make, shortcut="B", requantize=rounding)
    made = to_onnx(network, runtime="openvino")
    names = [s.name for s in network.steps]
    want = rounding_in_floats(network).trace(images)
    got = onnx_trace(made, images, names)
    for name in names:
        np.testing.assert_array_equal(got[name], want[name])
    assert not {"Mod", "Div"} & {node.op_type for node in made.graph.node}
    said = inexact(network, "exact", "openvino")
    line = f"rounds {rounding}, is written as float32_half_even"
    others = [] if rounding == "float32_half_even" else names[1:]
    assert said == [f"{name}: {line}" for name in others]
    refuses("runtime must be one of", to_onnx, network, runtime="tensorrt")
    refuses("runtime must be one of", inexact, network, "exact", "tensorrt")


@pytest.mark.parametrize("rounding", ["half_up", "float32_half_even"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_is_written_for_openvino_in_openvino(make, images, bits, rounding):
    """A third runtime; of int64 products it gives wrong codes."""
    openvino = pytest.importorskip("openvino", reason="needs the package openvino")
    network = deployed(make, bits=bits, requantize=rounding)
    core = openvino.Core()
    model = to_onnx(network, runtime="openvino")
    made = core.read_model(model.SerializeToString())
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    (got,) = core.compile_model(made, "CPU", hint)(images).values()
    np.testing.assert_array_equal(got, rounding_in_floats(network).forward(images))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shortcut", "AB")
def test_qoperator_is_equal_for_networks_of_its_profile(make, images, shortcut, bits):
    network = deployed(make, shortcut=shortcut, bits=bits, **FLOAT32)
    assert inexact(network, "qoperator") == []
    got = ran(network, images, "qoperator")
    found = bisect(trace(network, images), got)
    assert found.first is None
    assert found.misfits == []
    kinds = {node.op_type for node in to_onnx(network, form="qoperator").graph.node}
    assert "QLinearConv" in kinds
    # only the sums inside QLinearConv are not shown
    stems = [s.name for s in network.steps if type(s).__name__ == "LayerStep"][:-1]
    assert found.missing == [f"{name}.accumulator" for name in stems]


def test_qoperator_says_what_differs_otherwise(make, images):
    network = deployed(make)
    lines = inexact(network, "qoperator")
    convs = [s.name for s in network.steps if type(s).__name__ == "LayerStep"][:-1]
    assert {line.partition(":")[0] for line in lines} == set(convs)
    assert any("rounds half_up, the runtime float32_half_even" in x for x in lines)
    assert any("fraction bits" in line for line in lines)
    assert bisect(trace(network, images), ran(network, images, "qoperator")).first


def test_every_reason_is_a_difference_in_a_layer_of_its_name(make, rng):
    """Half-up networks without fraction bits differ from the runtime in rounding."""
    network = deployed(make, bits=8, finer_bias=False, requantize="floor")
    images = rng.integers(0, 256, (4, 1, *SIZE), dtype=np.uint8)
    first = bisect(trace(network, images), ran(network, images, "qoperator")).first
    named = {line.partition(":")[0] for line in inexact(network, "qoperator")}
    assert first.layer in named


def test_qdq_biases_are_those_of_the_integers_without_fraction_bits(make):
    network = deployed(make, bits=8)
    made = to_onnx(network, form="qdq")
    biases = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    sums = [s.sum for s in network.steps if isinstance(s, LayerStep)]
    assert any(np.any(total.fraction_bits) for total in sums)
    for total in sums:
        whole = np.rint(total.bias / 2.0**total.fraction_bits)
        np.testing.assert_array_equal(biases[f"{total.name}.bias"], whole)


def test_a_trace_hands_its_entries_to_the_session(make, images, monkeypatch):
    entries = {"session.disable_prepacking": "1"}
    asked = {}

    class Options(onnxruntime.SessionOptions):
        def add_session_config_entry(self, key, value):
            asked[key] = value
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    onnx_trace(to_onnx(deployed(make)), images, ["logits"], entries=entries)
    assert asked == entries


@pytest.mark.parametrize("shortcut", "AB")
def test_qdq_layers_without_a_reason_are_equal(make, images, shortcut):
    """Every layer is fed the codes of refqnn: what differs there is its own."""
    network = deployed(make, shortcut=shortcut, bits=8, **FLOAT32)
    named = {line.partition(":")[0] for line in inexact(network, "qdq")}
    names = [step.name for step in network.steps]
    got = onnx_trace(to_onnx(network, form="qdq"), images, names)
    values = network.trace(images)
    compared = 0
    for step in network.steps[1:]:
        read = [step.source, getattr(step, "skip_source", step.source)]
        if all(np.array_equal(got[n], values[n]) for n in read):
            difference = np.abs(got[step.name].astype(int) - values[step.name])
            assert difference.max() <= 1
            if step.name not in named:
                compared += 1
                assert not difference.any(), step.name
    assert compared >= 2
    residual = [s.name for s in network.steps if hasattr(s, "skip")]
    assert named == {*residual, "layers.classifier"}


def test_qdq_is_made_of_float_operators_between_quantizers(make):
    made = to_onnx(deployed(make), form="qdq")
    kinds = {node.op_type for node in made.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm"} <= kinds
    assert not {"ConvInteger", "MatMulInteger", "QLinearConv"} & kinds


def saturating(network):
    """The network with the largest weights there are."""
    steps = list(network.steps)
    for i, step in enumerate(steps):
        if hasattr(step, "sum"):
            full = replace(step.sum, w=np.full_like(step.sum.w, 127))
            steps[i] = replace(step, sum=full)
    return replace(network, steps=tuple(steps))


@pytest.mark.parametrize("form", ["exact", "qoperator"])
def test_uint8_weights_do_not_saturate(make, form):
    """Nor do int8 weights where the session asks for precision.

    Without VNNI int8 weights give other sums here; which, depends on the processor.
    """
    network = saturating(deployed(make, bits=8, **FLOAT32))
    images = np.full((2, 1, *SIZE), 255, np.uint8)
    for weights, entries in (("uint8", None), ("int8", PRECISION)):
        got = ran(network, images, form, weights, entries=entries)
        assert bisect(trace(network, images), got).first is None


def test_products_of_bytes_are_exact_as_uint8(rng):
    """Full-range codes: the sums that pairs in int16 cannot hold."""
    helper = onnx.helper
    x = rng.integers(0, 256, (64, 32), dtype=np.uint8)
    w = rng.integers(-128, 128, (10, 32)).astype(np.int8)
    inits = {
        "w": (w.T.astype(int) + 128).astype(np.uint8),
        "xz": np.array(5, np.uint8),
        "wz": np.array(128, np.uint8),
    }
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w", "xz", "wz"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT32, (64, 10))],
        [onnx.numpy_helper.from_array(v, k) for k, v in inits.items()],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    got = onnx_trace(made, x, ["y"])["y"]
    np.testing.assert_array_equal(got, integer.linear(x, w, x_zero_point=5))


def test_batches_are_free_and_the_input_is_checked(make, rng):
    network = deployed(make)
    made = to_onnx(network)
    for count in (1, 5):
        images = rng.integers(0, 256, (count, 1, *SIZE), dtype=np.uint8)
        got = onnx_trace(made, images, [network.steps[-1].name])
        np.testing.assert_array_equal(
            got["layers.classifier"], network.forward(images), strict=True
        )


@pytest.mark.parametrize("form", FORMS)
def test_files_are_whole_and_read_back(make, images, tmp_path, form):
    network = deployed(make)
    path = tmp_path / "n.onnx"
    save_model(path, to_onnx(network, form=form))
    assert [p.name for p in tmp_path.iterdir()] == ["n.onnx"]
    onnx.checker.check_model(onnx.load(path), full_check=True)
    last = network.steps[-1].name
    assert onnx_trace(onnx.load(path), images, [last])[last].dtype == np.int16


def test_what_cannot_be_exported_is_refused(make):
    network = deployed(make)
    refuses("form must be one of", to_onnx, network, form="onnx")
    refuses("weights must be one of", to_onnx, network, weights="int4")
    odd = deployed(make, requantize="half_away")
    refuses(r"stem: rounding must be .* got 'half_away'", to_onnx, odd)
    steps = list(network.steps)
    wide = replace(steps[1].sum, accumulator_bits=33)
    steps[1] = replace(steps[1], sum=wide)
    refuses("int64 has no room", to_onnx, replace(network, steps=tuple(steps)))


def test_absent_packages_are_named():
    refuses(r"absent is not installed: pip install refqnn", package, "absent.helper")
