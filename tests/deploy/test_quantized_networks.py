"""What onnxruntime's own quantizer makes of small networks, imported: every step equal.

Where onnxruntime computes an operator in floats (int8 activations on x86), codes next
to ties are those of its fused operator; the tests that compare them say so.
"""

import numpy as np
import pytest
from deploy.architectures import (
    ARCHITECTURES,
    PLANES,
    Network,
    quantized,
    statically_quantized,
)
from deploy.matrix import FORMS, KINDS, row_of
from refusals import refuses

from refqnn.conformance import trace
from refqnn.deploy import IntegerNetwork, import_onnx, inexact, to_onnx
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_run import onnx_trace
from refqnn.deploy.operations import Instruction, OperationStep, RealStep
from refqnn.deploy.steps import ImageStep
from refqnn.geometry import window

#: files of each form: one kind here, the others in the slow test
QUICK = [(name, form, "u8s8") for name in ARCHITECTURES for form in FORMS]
QUICK += [("sequential", form, "u8u8") for form in FORMS]  # weights of 9 bits
SLOW = [(n, f, kind) for n in ARCHITECTURES for f in FORMS for kind in ("u8u8", "s8s8")]


def differences(made, shape, rng, images=2):
    """Count the codes of each step that differ from onnxruntime's."""
    network = import_onnx(made)
    names = [step.name for step in network.steps]
    counts = dict.fromkeys(names[1:], 0)
    for _ in range(images):
        x = rng.normal(0, 1, (1, *shape)).astype(np.float32)
        got = onnx_trace(made, x, names)
        codes = got[names[0]]
        if codes.dtype == np.int8:
            codes = (codes.astype(int) + 128).astype(np.uint8)
        tensors = network.trace(codes)
        for step in network.steps[1:]:
            if step.name not in got:  # pooled codes, (C,), read as planes
                assert step.operation == "reshape"
                assert step.shape[1:] == (1, 1)
                continue
            want, ours = got[step.name], tensors[step.name]
            assert want.size == ours.size, step.name
            counts[step.name] += int((want.ravel() != ours.ravel()).sum())
    return network, counts


@pytest.mark.parametrize(("name", "form", "kind"), QUICK)
def test_every_step_equals_onnxruntime(rng, tmp_path, name, form, kind):
    made, shape = quantized(rng, tmp_path, name, form=form, **KINDS[kind])
    network, counts = differences(made, shape, rng)
    assert not any(counts.values()), counts
    codes = np.zeros((2, *network.image_shape), np.uint8)
    network.save(tmp_path / "n.npz")
    again = IntegerNetwork.load(tmp_path / "n.npz")
    np.testing.assert_array_equal(again.forward(codes), network.forward(codes))
    recorded = trace(network, codes)
    assert list(recorded.manifest) == list(recorded.tensors)
    rows = network.listing().splitlines()
    assert len(rows) >= len(network.steps) + 3
    for step in network.steps:
        if isinstance(step, OperationStep | RealStep):
            (row,) = [row for row in rows if row.split()[:1] == [step.name]]
            assert f" ({', '.join(step.sources)}) " in row


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form", "kind"), SLOW)
def test_other_kinds_of_codes(rng, tmp_path, name, form, kind):
    made, shape = quantized(rng, tmp_path, name, form=form, **KINDS[kind])
    if (kind, form) == ("s8s8", "QDQ"):
        assert different_outputs(made, shape, rng) == 0
        return
    _, counts = differences(made, shape, rng)
    assert not any(counts.values()), counts


def test_a_row_of_the_matrix_names_the_levels_that_are_equal(rng, tmp_path):
    """Two architectures: equal at every level, and where the runtime's own differ."""
    row = row_of(rng, tmp_path, "sequential", "QOperator", "u8u8", images=1)
    assert (row.file, row.steps) == ("sequential QOperator u8u8", 5)
    assert row.equal == ["shown", "fused", "plain"]
    row = row_of(rng, tmp_path, "transposed", "QOperator", "u8s8", images=1)
    assert row.equal == ["shown", "fused"]
    assert row.different["plain"]["Relu8_y_quantized"] > 100


def different_outputs(made, shape, rng, images=8):
    """Count the output codes that differ, nothing on the way shown.

    Between quantizers onnxruntime fuses int8 codes on x86 where one operator alone
    reads them: a tensor that is shown is read by two.
    """
    network = import_onnx(made)
    first, last = network.steps[0], network.steps[-1].grid
    output = made.graph.output[0].name
    different = 0
    for _ in range(images):
        x = rng.normal(0, 1, (1, *shape)).astype(np.float32)
        want = onnx_trace(made, x, [output])[output]
        codes = np.rint(x / np.float32(first.grid.scale)) + first.grid.zero_point
        got = network.forward(np.clip(codes, 0, 255).astype(np.uint8))
        real = np.float32(last.scale) * (got.astype(np.float32) - last.zero_point)
        apart = np.abs(real.ravel() - want.ravel()) > last.scale / 2
        different += int(apart.sum())
    return different


@pytest.mark.parametrize("name", ["average_pools", "residual", "silu_and_leaky"])
def test_int8_codes_that_become_uint8(rng, tmp_path, name):
    """Averages, sums and products of int8 codes + 128, or floats: as onnxruntime."""
    made, shape = quantized(rng, tmp_path, name, form="QDQ", **KINDS["s8s8"])
    assert different_outputs(made, shape, rng) == 0
    steps = import_onnx(made).steps
    shifted = [s for s in steps if "shift" in getattr(s, "options", {})]
    floats = [s for s in steps if isinstance(s, RealStep)]
    assert shifted or floats


@pytest.mark.parametrize("activations", ["QUInt16", "QInt16"])
@pytest.mark.parametrize("name", ["sequential", "residual", "average_pools", "moved"])
def test_activations_of_16_bits(rng, tmp_path, name, activations):
    """Floats in onnxruntime: of 65 536 codes a sum may round to the next, or two on."""
    kind = {"activations": activations, "weights": "QInt8", "per_channel": True}
    made, shape = quantized(rng, tmp_path, name, form="QDQ", **kind)
    network = import_onnx(made)
    names = [step.name for step in network.steps]
    x = rng.normal(0, 1, (1, *shape)).astype(np.float32)
    got = onnx_trace(made, x, names)
    tensors = network.trace(got[names[0]])
    for step in names[1:]:
        apart = np.abs(got[step].astype(int).ravel() - tensors[step].ravel())
        assert tensors[step].dtype == got[step].dtype
        assert apart.max() <= 2
    with pytest.raises(ValueError, match=f"images must be a {activations[1:].lower()}"):
        network.forward(np.zeros((1, *shape), np.uint8))


def test_blended_pixels(rng, tmp_path):
    """Bilinear resizing: ties are frequent, so the order of the sums counts."""
    network = Network(rng)
    x = network.relu(network.conv("x", 3, 8))
    scales = network.put([1, 1, 2, 1.5])
    x = network.node("Resize", x, "", scales, mode="linear")
    model = network.model(network.conv(x, 8, 4))
    made = statically_quantized(rng, tmp_path, model, form="QDQ", **KINDS["u8s8"])
    _, counts = differences(made, PLANES, rng)
    assert not any(counts.values()), counts


#: operations of int8 codes that onnxruntime computes as uint8, no table of them
REFUSED = [(name, "QDQ", "s8s8") for name in ("average_pools", "constants")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_was_imported_is_exported(rng, tmp_path, name, form, kind):
    """In operators of codes, or of floats: onnxruntime gives every tensor again."""
    made, shape = quantized(rng, tmp_path, name, form=form, **KINDS[kind])
    network = import_onnx(made)
    if (name, form, kind) in REFUSED:
        refuses("has no form here|fill no table", to_onnx, network, form="qoperator")
        return
    again = to_onnx(network, form="qoperator")
    codes = rng.integers(0, 256, (2, *shape)).astype(np.uint8)
    tensors = network.trace(codes)
    names = [step.name for step in network.steps]
    floats = [s.name for s in network.steps if isinstance(s, RealStep)]
    said = [line.partition(":")[0] for line in inexact(network, "qoperator")]
    assert [name for name in said if name in floats] == floats
    # optimized, floats are fused, and weights of transposed convolutions rounded again
    fused = {"optimize": False} if floats else {}
    parts = [onnx_trace(again, image[None], names, **fused) for image in codes]
    got = {name: np.concatenate([part[name] for part in parts]) for name in names}
    apart = {name: np.abs(got[name].astype(int) - tensors[name]) for name in names}
    for name_of_step in floats:  # ties, where sums are added in another order
        assert apart[name_of_step].max() <= 1
        assert apart[name_of_step].mean() < 0.01
    if not any(apart[name].any() for name in floats):
        assert not any(differ.any() for differ in apart.values())
    kinds = {getattr(step, "operation", "") for step in network.steps}
    if floats:
        refuses("have no exact form|fill no table of 256", to_onnx, network)
    elif kinds & {"mean_pool2d", "softmax"}:
        refuses(r"has no form here; qoperator states", to_onnx, network)
    else:  # sums, products and concatenations are tables of codes
        exact = to_onnx(network)
        got = onnx_trace(exact, codes, names[-1:])[names[-1]]
        np.testing.assert_array_equal(got, tensors[names[-1]])
        assert not any(node.domain for node in exact.graph.node)


@pytest.mark.parametrize("name", ["sequential", "residual", "perceptron"])
def test_codes_of_int8_are_exported_in_qdq_form(rng, tmp_path, name):
    made, shape = quantized(rng, tmp_path, name, form="QOperator", **KINDS["s8s8"])
    network = import_onnx(made)
    codes = rng.integers(0, 256, (2, *shape)).astype(np.uint8)
    tensors = network.trace(codes)
    names = [step.name for step in network.steps]
    got = onnx_trace(to_onnx(network, form="qdq"), codes, names)
    for name_of_step in names:
        np.testing.assert_array_equal(got[name_of_step], tensors[name_of_step])


@pytest.mark.parametrize("semantics", ["tflite", "exact", "xnnpack"])
@pytest.mark.parametrize("operation", ["add", "sub", "mul"])
def test_sums_in_any_semantics_are_exported_as_tables(rng, operation, semantics):
    """The second operand is one code a channel, on a grid of its own."""
    grid, half, y = (Grid(s, z, low, 255) for s, z, low in GRIDS)
    halved = {"table": np.arange(256).astype(np.uint8)[::-1].copy()}
    options = {"x_scale": 0.5, "x_zero_point": 3, "y_scale": 0.25, "y_zero_point": 5}
    options |= y._asdict() | {"semantics": semantics}
    both = ("x", "p"), ("x", "y"), (2, 3, 3)
    steps = (
        ImageStep("x", (2, 3, 3), grid),
        OperationStep("v", ("x",), ("x",), (2, 3, 3), "lookup", halved, half),
        OperationStep("p", ("v",), ("x",), (2, 1, 1), "max_pool2d", POOL, half),
        OperationStep("y", *both, operation, options, y),
    )
    network = IntegerNetwork(steps)
    codes = rng.integers(0, 256, (4, 2, 3, 3), dtype=np.uint8)
    for form in ("exact", "qoperator"):
        got = onnx_trace(to_onnx(network, form=form), codes, ["y"])["y"]
        np.testing.assert_array_equal(got, network.forward(codes), strict=True)


def test_a_resize_of_codes_has_no_operator():
    grid, options = Grid(0.5, 3, 0, 255), {"size": (4, 4), "mode": "bilinear"}
    step = OperationStep("y", ("x",), ("x",), (2, 4, 4), "resize", options, grid)
    network = IntegerNetwork((ImageStep("x", (2, 3, 3), grid), step))
    refuses("y: resize has no operator of ONNX", to_onnx, network)


@pytest.mark.parametrize("counted", [False, True])
def test_pools_and_clips_of_floats_are_exported(rng, counted):
    """Edges of a mean count or not; ends of a clip are attributes or constants."""
    x, y = Grid(0.5, 3, 0, 255), Grid(0.25, 0, 0, 255)
    pool = {"at": window(3, padding=1), "count_include_pad": counted}
    program = (
        Instruction("AveragePool", ("x",), "mean", pool),
        Instruction("Clip", ("mean",), "below", {"max": 60.0}),
        Instruction("Clip", ("below", "low"), "above", {}),
        Instruction("Clip", ("above", "low", "high"), "within", {}),
    )
    ends = {"low": np.array(50.0), "high": np.array(58.0)}
    step = RealStep("y", ("x",), (x,), (2, 4, 5), program, ends, y)
    network = IntegerNetwork((ImageStep("x", (2, 4, 5), x), step))
    codes = rng.integers(0, 256, (8, 2, 4, 5), dtype=np.uint8)
    want = network.forward(codes)
    assert (want.min(), want.max()) == (200, 232)
    got = onnx_trace(to_onnx(network, form="qdq"), codes, ["y"], optimize=False)["y"]
    np.testing.assert_array_equal(got, want, strict=True)


GRIDS = ((0.5, 3, 0), (0.25, 5, 0), (0.75, 7, 2))
POOL = {"kernel": (3, 3), "stride": (1, 1), "padding": ((0, 0), (0, 0))}


def test_what_is_not_fused_is_a_step_of_floats(rng, tmp_path):
    """HardSwish is a table; a transposed convolution stays in floats."""
    made, _ = quantized(rng, tmp_path, "hard_swish", form="QDQ", **KINDS["u8s8"])
    kinds = {type(step) for step in import_onnx(made).steps}
    assert RealStep not in kinds
    assert OperationStep in kinds
    made, _ = quantized(rng, tmp_path, "transposed", form="QDQ", **KINDS["u8s8"])
    steps = [s for s in import_onnx(made).steps if isinstance(s, RealStep)]
    assert [i.op for s in steps for i in s.program] == ["ConvTranspose"]


def trained_with_quantizers(rng, *, transposed_weights=False):
    """What exporters of quantization-aware training write: weights in floats.

    Weights pass QuantizeLinear and DequantizeLinear, biases are floats, Flatten follows
    dequantized codes, and the product may read transposed weights.
    """
    n = Network(rng)

    def pair(x, scale, zero, **axis):
        q = n.node("QuantizeLinear", x, scale, zero, **axis)
        return n.node("DequantizeLinear", q, scale, zero, **axis)

    def codes(x, scale, zero):
        return pair(x, n.put(scale), n.put(zero, np.uint8))

    def layer_weights(*shape):
        w = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
        scale = np.abs(w).reshape(len(w), -1).max(axis=1) / 127
        zeros = n.put(np.zeros(len(w)), np.int8)
        return pair(n.put(w), n.put(scale), zeros, axis=0)

    x = codes("x", 0.03, 120)
    for c, o, stride in ((3, 8, 2), (8, 8, 1)):
        bias = n.put(rng.normal(0, 0.3, o))
        options = {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [stride] * 2}
        y = n.node("Conv", x, layer_weights(o, c, 3, 3), bias, **options)
        x = codes(n.relu(y), 0.02, 0)
    x = codes(n.node("GlobalAveragePool", x), 0.01, 0)
    x = n.node("Flatten", x)
    if transposed_weights:
        w = n.node("Transpose", layer_weights(10, 8), perm=[1, 0])
        y = n.node("MatMul", x, w)
    else:
        y = n.node("Gemm", x, layer_weights(10, 8), n.put(rng.normal(0, 1, 10)),
                   transB=1)  # fmt: skip
    return n.model(codes(y, 0.01, 128))


@pytest.mark.parametrize("transposed_weights", [False, True])
def test_float_weights_behind_their_quantizer(rng, transposed_weights):
    made = trained_with_quantizers(rng, transposed_weights=transposed_weights)
    for _ in range(3):
        network, counts = differences(made, PLANES, rng)
        assert not any(counts.values()), counts
    kinds = [type(step).__name__ for step in network.steps]
    assert kinds.count("LayerStep") == 3
    assert "RealStep" not in kinds
