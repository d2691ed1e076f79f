"""Damaged and hostile ONNX models: one error that names the place, and nothing else."""

import numpy as np
import pytest
from deploy.architectures import onnx, quantized
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refuses

from refqnn import cli
from refqnn.deploy import IntegerNetwork, import_onnx
from refqnn.files import Unreadable

fewer = settings(
    max_examples=max(settings.default.max_examples // 2, 5),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
U8S8 = {"activations": "QUInt8", "weights": "QInt8", "per_channel": True}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(3)
    return quantized(rng, folder, "residual", form="QDQ", **U8S8)[0]


def attempt(made):
    """Import and run; only ValueErrors may come out."""
    try:
        network = import_onnx(made)
        network.forward(np.zeros((1, *network.image_shape), np.uint8))
    except ValueError as error:
        assert str(error)  # noqa: PT017 - other errors go through


def copy(made):
    other = onnx.ModelProto()
    other.CopyFrom(made)
    return other


@fewer
@given(data=st.data())
def test_changed_bytes(whole, tmp_path, data):
    content = bytearray(whole.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.integers(0, 255)
        )
    (tmp_path / "m.onnx").write_bytes(content)
    attempt(tmp_path / "m.onnx")


def without_inputs(node, _):
    del node.input[:]


def without_outputs(node, _):
    del node.output[:]


def fed_by_another(node, data):
    if node.input:
        at = data.draw(st.integers(0, len(node.input) - 1))
        node.input[at] = data.draw(st.sampled_from(["x", "nowhere", node.output[0]]))


def another_operator(node, data):
    node.op_type = data.draw(
        st.sampled_from(["MaxPool", "Reshape", "Pad", "Slice", "Concat", "Conv", "Gemm",
                         "Softmax", "Resize", "Transpose", "DequantizeLinear"])
    )  # fmt: skip


def another_attribute(node, data):
    for attribute in node.attribute:
        if attribute.ints:
            attribute.ints[0] = data.draw(st.sampled_from([-1, 0, 7, 2**31, 2**40]))
        attribute.i = data.draw(st.sampled_from([-1, 0, 7, 2**40]))


@fewer
@given(data=st.data())
@pytest.mark.parametrize(
    "change",
    [without_inputs, without_outputs, fed_by_another, another_operator,
     another_attribute],
)  # fmt: skip
def test_changed_operators(whole, change, data):
    made = copy(whole)
    change(made.graph.node[data.draw(st.integers(0, len(made.graph.node) - 1))], data)
    attempt(made)


@fewer
@given(data=st.data())
def test_changed_constants(whole, data):
    made = copy(whole)
    at = data.draw(st.integers(0, len(made.graph.initializer) - 1))
    tensor = made.graph.initializer[at]
    if data.draw(st.booleans()):
        sizes = st.sampled_from([0, 1, 3, 2**40])
        tensor.dims[:] = data.draw(st.lists(sizes, max_size=4))
    else:
        tensor.data_type = data.draw(st.sampled_from([1, 2, 3, 6, 7, 9, 10, 11, 22]))
    attempt(made)


@pytest.mark.parametrize("axis", [99, -5, "a", 1.5, [0]])
def test_axes_that_weights_do_not_have_are_named(whole, axis):
    made = copy(whole)
    weights = [i.name for i in made.graph.initializer if len(i.dims) == 4]
    node = next(n for n in made.graph.node if n.input[0] in weights)
    kept = [a for a in node.attribute if a.name != "axis"]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("axis", axis)])
    refuses("DequantizeLinear .*axis must lie in", import_onnx, made)


def test_orders_that_run_in_a_circle(whole):
    made = copy(whole)
    nodes = list(made.graph.node)[::-1]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    refuses("is not supported", import_onnx, made)


def with_constants(whole, op, arrays, **attributes):
    """Return a copy that begins with an operator of constants."""
    made = copy(whole)
    for i, array in enumerate(arrays):
        made.graph.initializer.append(onnx.numpy_helper.from_array(array, f"c{i}"))
    names = [f"c{i}" for i in range(len(arrays))]
    node = onnx.helper.make_node(op, names, ["folded"], "growing", **attributes)
    made.graph.node.insert(0, node)
    return made


LARGE, LINE = np.array([2**33], np.int64), np.zeros((1, 2**15), np.float32)


@pytest.mark.parametrize(
    ("op", "arrays"),
    [
        ("ConstantOfShape", [LARGE]),
        ("Expand", [np.zeros(1, np.float32), LARGE]),
        ("Tile", [np.zeros(8, np.float32), LARGE]),
        ("Range", [np.int64(0), np.int64(2**40), np.int64(1)]),
        ("Add", [LINE, LINE.T]),
        ("MatMul", [LINE.T, LINE]),
    ],
)
def test_constants_far_larger_than_the_file_are_refused(whole, op, arrays):
    made = with_constants(whole, op, [np.asarray(a) for a in arrays])
    refuses(rf"{op} \(node 'growing'.*: \d+ elements of", import_onnx, made)


def test_operators_with_graphs_of_their_own_are_refused(whole):
    """A Loop of constants could run forever."""
    helper = onnx.helper
    value = helper.make_tensor_value_info
    ends = [value("i", 7, []), value("on", 9, [])]
    same = helper.make_node("Identity", ["on"], ["still"])
    body = helper.make_graph([same], "body", ends, [value("still", 9, [])])
    arrays = [np.array(2**62), np.array(True)]
    made = with_constants(whole, "Loop", arrays, body=body)
    refuses("it runs a graph of its own", import_onnx, made)


def with_data_outside(whole, location, **entries):
    """Return a copy whose first weights stand in another file."""
    made = copy(whole)
    tensor = next(t for t in made.graph.initializer if len(t.dims) == 4)
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    for key, value in ({"location": location} | entries).items():
        tensor.external_data.add(key=key, value=str(value))
    return made, content


def test_data_beside_the_model(whole, tmp_path):
    made, content = with_data_outside(whole, "w.bin", offset=3)
    (tmp_path / "w.bin").write_bytes(b"..." + content)
    onnx.save(made, tmp_path / "m.onnx")
    again = import_onnx(tmp_path / "m.onnx")
    codes = np.zeros((1, *again.image_shape), np.uint8)
    want = import_onnx(whole).forward(codes)
    np.testing.assert_array_equal(again.forward(codes), want)
    refuses("stand in another file", import_onnx, made)


@pytest.mark.parametrize(
    ("location", "entries", "message"),
    [
        ("absent.bin", {}, "is no file beside the model"),
        ("../outside.bin", {}, "is no file beside the model"),
        ("link.bin", {}, "is no file beside the model"),
        ("", {}, "is no file beside the model"),
        ("w.bin", {"offset": 10**9}, "bytes at 1000000000 are not in w.bin"),
        ("w.bin", {"length": 10**9}, "1000000000 bytes at 0 are not in w.bin"),
        ("w.bin", {"length": -1}, "-1 bytes at 0 are not in w.bin"),
        ("w.bin", {"offset": "three"}, "invalid literal"),
    ],
)
def test_data_that_is_not_there(whole, tmp_path, location, entries, message):
    (tmp_path / "outside.bin").write_bytes(bytes(10_000))
    home = tmp_path / "home"
    home.mkdir()
    (home / "w.bin").write_bytes(bytes(10_000))
    (home / "link.bin").symlink_to(tmp_path / "outside.bin")
    made, _ = with_data_outside(whole, location, **entries)
    onnx.save(made, home / "m.onnx")
    with pytest.raises(Unreadable, match=message):
        import_onnx(home / "m.onnx")


def test_the_command(whole, tmp_path, capsys):
    model, output = tmp_path / "m.onnx", tmp_path / "n.npz"
    onnx.save(whole, model)
    listing = tmp_path / "n.txt"
    words = ["import", str(model), "-o", str(output), "--listing", str(listing)]
    assert cli.main(words) == 0
    network = IntegerNetwork.load(output)
    assert listing.read_text("utf-8") == f"{network}\n"
    assert capsys.readouterr().out == f"{network}\nwrote {output}\n"
    middle = network.steps[3].name
    assert cli.main([*words[:4], "--until", middle]) == 0
    assert IntegerNetwork.load(output).steps[-1].name == middle
    capsys.readouterr()
    assert cli.main([*words[:4], "--until", "nowhere"]) == 2
    assert "no tensor is called 'nowhere'" in capsys.readouterr().err
    content = model.read_bytes()
    backwards, inconsistent = copy(whole), copy(whole)
    del backwards.graph.node[:]
    backwards.graph.node.extend(list(whole.graph.node)[::-1])
    weights = next(t for t in inconsistent.graph.initializer if len(t.dims) == 4)
    weights.dims[:] = [*weights.dims[:2], weights.dims[2] * weights.dims[3], 1]
    for damaged in (
        content[:-100],
        backwards.SerializeToString(),
        inconsistent.SerializeToString(),
    ):
        model.write_bytes(damaged)
        assert cli.main(words) == 4
        assert capsys.readouterr().err.count("\n") == 1
