"""State dicts of PyTorch: names, files, and what is refused."""

import json
import pickle
import re
from functools import partial

import numpy as np
import pytest
from refusals import refuses

from refqnn.core import Run, named_buffers, named_params
from refqnn.networks import imagenet_resnet, mobilenetv2, resnet, vgg
from refqnn.nn.state_dicts import (
    canonical,
    load_state_dict,
    state_dict,
    torch_names,
    weights_of,
)
from refqnn.nn.tensor_files import read_tensors


def network(seed=0, **options):
    options = {"width": 0.25, "dtype": "float64"} | options
    return resnet(8, rng=np.random.default_rng(seed), **options)


def everything(net):
    return {
        n: p.value.copy() for n, p in (named_params(net) | named_buffers(net)).items()
    }


def safetensors(tensors):
    """The bytes of a file, written after the format's description."""
    kinds = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64"}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, a in tensors.items():
        offsets = [len(data), len(data) + a.nbytes]
        header[name] = {
            "dtype": kinds[a.dtype.name],
            "shape": list(a.shape),
            "data_offsets": offsets,
        }
        data += a.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_names_of_pytorch():
    names = torch_names(network(shortcut="B"))
    assert names["layers.stem.w"] == "conv1.weight"
    assert names["layers.stem_norm.var"] == "bn1.running_var"
    assert names["layers.stage2_block1.norm1.gamma"] == "layer2.0.bn1.weight"
    assert names["layers.stage3_block1.conv2.w"] == "layer3.0.conv2.weight"
    name = "layers.stage2_block1.shortcut.layers.norm.beta"
    assert names[name] == "layer2.0.downsample.1.bias"
    assert names["layers.classifier.b"] == "fc.bias"
    assert canonical("linear.weight") == "fc.weight"


@pytest.mark.parametrize("shortcut", "AB")
@pytest.mark.parametrize("depth", [8, 14])
def test_every_weight_has_a_name_of_its_own(depth, shortcut):
    net = resnet(depth, shortcut=shortcut, rng=np.random.default_rng(0))
    assert len(set(torch_names(net).values())) == len(weights_of(net))
    assert set(weights_of(net)) == set(everything(net))


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("shortcut", "AB")
def test_a_network_moves_through_a_file(tmp_path, shortcut, kind):
    source, target = network(shortcut=shortcut), network(1, shortcut=shortcut)
    tensors = state_dict(source)
    path = tmp_path / f"weights.{kind}"
    if kind == "npz":
        np.savez(path, **tensors)
    else:
        path.write_bytes(safetensors(tensors))
    assert load_state_dict(target, read_tensors(path)) == []
    for name, value in everything(source).items():
        np.testing.assert_array_equal(everything(target)[name], value)


@pytest.mark.parametrize("prefix", ["module.", "student.inner."])
def test_other_spellings_are_read(prefix, tmp_path):
    source, target = network(shortcut="B"), network(1, shortcut="B")
    tensors = {
        prefix + n.replace("downsample", "shortcut").replace("fc.", "linear."): a
        for n, a in state_dict(source).items()
    }
    tensors[f"{prefix}bn1.num_batches_tracked"] = np.array(3)
    path = tmp_path / "w"
    path.write_bytes(safetensors(tensors))
    load_state_dict(target, read_tensors(path))
    np.testing.assert_array_equal(
        target.layers["classifier"].w.value, source.layers["classifier"].w.value
    )


def test_quantizers_keep_what_they_have():
    source = network()
    target = network(1, weight_bits=4, activation_bits=4)
    left = load_state_dict(target, state_dict(source))
    assert "layers.stem_quant.lo" in left
    assert not set(left) & set(weights_of(target))
    np.testing.assert_array_equal(
        target.layers["stem"].w.value, source.layers["stem"].w.value
    )


def test_what_does_not_fit_is_listed_and_nothing_changes():
    target = network(1)
    before, tensors = everything(target), state_dict(network())
    del tensors["conv1.weight"]
    tensors["linear.weight"] = tensors.pop("fc.weight").T
    tensors["bn1.bias"] = np.full_like(tensors["bn1.bias"], np.nan)
    tensors["bn1.weight"] = tensors["bn1.weight"].astype(np.int64)
    tensors["layer9.0.conv1.weight"] = np.zeros((1, 2))
    with pytest.raises(ValueError, match="the state dict does not fit") as caught:
        load_state_dict(target, tensors)
    lines = str(caught.value).partition(": ")[2].split("; ")
    assert lines == [
        "missing conv1.weight, for layers.stem.w",
        "extra layer9.0.conv1.weight (1, 2)",
        "bn1.bias must hold finite floats of float64, holds nan",
        "bn1.weight must hold finite floats, is int64",
        "misshaped linear.weight (16, 10), want (10, 16)",
    ]
    for name, value in everything(target).items():
        np.testing.assert_array_equal(value, before[name])


def test_halves_are_widened(tmp_path):
    v = np.array([1.5, -2.0, 3.0e38], np.float32)
    header = {"w": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}
    text = json.dumps(header).encode()
    upper = (v.view(np.uint32) >> 16).astype("<u2").tobytes()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + upper)
    got = read_tensors(path)["w"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[:2], v[:2])
    np.testing.assert_allclose(got, v, rtol=2**-7)


def test_pickles_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "w"
    whole = safetensors({"a": np.ones(3)})
    cuts = [whole[:n] for n in (0, 7, 20, len(whole) - 1)]
    for content in (
        *cuts,
        pickle.dumps({}),
        b"\xff" * 8,
        whole.replace(b"F64", b"F63"),
    ):
        path.write_bytes(content)
        refuses("is neither an npz nor a whole safeten", read_tensors, path)
    path.write_bytes(b"PK\x03\x04archive/data.pkl")
    refuses(r"checkpoint of torch\.save, a pickle", read_tensors, path)
    path.write_bytes(b"PK\x03\x04")
    refuses("npz", read_tensors, path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04"])
def test_any_object_with_a_path_is_named_by_it(tmp_path, content):
    path = tmp_path / "w"
    path.write_bytes(content)

    class At:
        def __fspath__(self):
            return str(path)

    refuses(f"{path} is n", read_tensors, At())


def torch_resnet(torch, tensors, x, shortcut):
    """A residual network of PyTorch, written with its functions, in evaluation."""
    f = torch.nn.functional
    t = {k: torch.from_numpy(v) for k, v in tensors.items()}

    def norm(x, n):
        parts = [
            t[f"{n}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")
        ]
        return f.batch_norm(x, *parts, training=False)

    x = f.relu(norm(f.conv2d(x, t["conv1.weight"], padding=1), "bn1"))
    for layer in ("layer1.0", "layer2.0", "layer3.0"):
        stride = 1 if layer == "layer1.0" else 2
        w1, w2 = t[f"{layer}.conv1.weight"], t[f"{layer}.conv2.weight"]
        y = f.relu(norm(f.conv2d(x, w1, stride=stride, padding=1), f"{layer}.bn1"))
        y = norm(f.conv2d(y, w2, padding=1), f"{layer}.bn2")
        if stride == 2 and shortcut == "B":
            x = f.conv2d(x, t[f"{layer}.downsample.0.weight"], stride=2)
            x = norm(x, f"{layer}.downsample.1")
        elif stride == 2:
            new = (y.shape[1] - x.shape[1]) // 2
            x = f.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, new, new))
        x = f.relu(x + y)
    return f.linear(x.mean((2, 3)), t["fc.weight"], t["fc.bias"])


@pytest.mark.parametrize("shortcut", "AB")
def test_pytorch_computes_the_same(rng, shortcut):
    torch = pytest.importorskip("torch", reason="needs the optional package torch")
    net = network(shortcut=shortcut)
    for name, leaf in weights_of(net).items():
        if name.rpartition(".")[2] in {"gamma", "beta", "mean", "var", "b"}:
            leaf.value = rng.uniform(0.5, 1.5, leaf.value.shape)
    x = rng.normal(size=(2, 1, 8, 8))
    net.layers["image"].scale = 1.0
    net.layers["image"].zero_point = 0
    want = torch_resnet(torch, state_dict(net), torch.from_numpy(x), shortcut).numpy()
    other = network(1, shortcut=shortcut)
    load_state_dict(other, state_dict(net))
    other.layers["image"].scale, other.layers["image"].zero_point = 1.0, 0
    got, _ = other.forward(x, Run())
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


def test_a_batch_norm_that_was_folded(rng):
    net = network(shortcut="B")
    for name, leaf in weights_of(net).items():
        if name.rpartition(".")[2] in {"gamma", "beta", "mean", "var"}:
            leaf.value = rng.uniform(0.5, 1.5, leaf.value.shape)
    net.layers["stem_norm"].gamma.value[0] = 0.0
    x = rng.normal(size=(2, 1, 8, 8))
    want, _ = net.forward(x, Run())
    tensors = state_dict(net)
    pairs = [(c, c.replace("conv", "bn").replace("downsample.0", "downsample.1"))
             for c in {n.rpartition(".")[0] for n in tensors}
             if "conv" in c or c.endswith("downsample.0")]  # fmt: skip
    for conv, bn in pairs:
        parts = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, var = (tensors.pop(f"{bn}.{part}") for part in parts)
        scale = gamma / np.sqrt(var + 1e-5)
        tensors[f"{conv}.weight"] = (
            tensors[f"{conv}.weight"] * scale[:, None, None, None]
        )
        tensors[f"{conv}.bias"] = beta - mean * scale
    other = network(1, shortcut="B")
    load_state_dict(other, tensors)
    np.testing.assert_allclose(other.forward(x, Run())[0], want, rtol=1e-10, atol=1e-10)


def test_a_bias_before_a_batch_norm_moves_its_mean(rng):
    net, other = network(), network(1)
    tensors, bias = state_dict(net), rng.normal(size=4)
    tensors["bn1.running_mean"] = tensors["bn1.running_mean"] + bias
    load_state_dict(other, tensors | {"conv1.bias": bias})
    x = rng.normal(size=(2, 1, 8, 8))
    np.testing.assert_allclose(
        other.forward(x, Run())[0], net.forward(x, Run())[0], rtol=1e-10, atol=1e-10
    )


def test_batch_norms_inside_convolutions_and_prefixes():
    source, target = network(shortcut="B"), network(1, shortcut="B")
    tensors = {}
    for name, array in state_dict(source).items():
        inside = re.sub(r"(^|\.)bn(\d)\.", r"\1conv\2.bn.", name)
        inside = inside.replace("downsample.1", "downsample.0.bn")
        tensors[f"module.model.{inside}"] = array
    assert load_state_dict(target, tensors) == []
    for name, value in everything(source).items():
        np.testing.assert_array_equal(everything(target)[name], value)


def test_integers_with_a_scale(rng):
    net, tensors = network(), state_dict(network())
    codes = rng.integers(-128, 128, tensors["conv1.weight"].shape).astype(np.int8)
    tensors["conv1.weight"] = codes
    refuses(r"is int8: it needs conv1.weight_scale", load_state_dict, net, tensors)
    scale = np.array([0.5, 0.25, 2.0, 1.0], np.float32)
    load_state_dict(
        net,
        tensors
        | {"conv1.weight_scale": scale, "conv1.weight_zero_point": codes[:, 0, 0, 0]},
    )
    zero = codes[:, 0, 0, 0].astype(float)[:, None, None, None]
    np.testing.assert_array_equal(
        net.layers["stem"].w.value, scale[:, None, None, None] * (codes - zero)
    )


def test_what_is_not_placed_is_a_warning_where_that_is_asked():
    source, target = network(), network(1)
    before, tensors = everything(target), state_dict(source)
    del tensors["conv1.weight"]
    tensors["layer1.0.conv2.activation_post_process.scale"] = np.ones(1)
    tensors["fc.activation_post_process.min_val"] = np.zeros(())
    refuses("missing conv1", load_state_dict, target, tensors)
    with pytest.warns(UserWarning, match="not placed: ") as caught:
        left = load_state_dict(target, tensors, strict=False)
    assert str(caught[0].message).removeprefix("not placed: ").split("; ") == [
        "missing conv1.weight, for layers.stem.w",
        "extra layer1.0.conv2.activation_post_process.scale (1,)",
        "extra fc.activation_post_process.min_val ()",
    ]
    assert left == ["layers.stem.w"]
    for name, value in everything(target).items():
        want = before if name == "layers.stem.w" else everything(source)
        np.testing.assert_array_equal(value, want[name])
    tensors["fc.weight"] = tensors["fc.weight"].T
    refuses("misshaped fc", load_state_dict, target, tensors, strict=False)


def test_a_map_of_names():
    source, target = network(), network(1)
    tensors = {f"enc/{n}": a for n, a in state_dict(source).items()}
    refuses(r"extra enc/conv1.weight", load_state_dict, target, tensors)
    load_state_dict(target, tensors, names=lambda name: name.removeprefix("enc/"))
    tensors["enc/conv1.weight"] = tensors["enc/conv1.weight"] + 1
    names = {n: n.removeprefix("enc/") for n in tensors}
    names["enc/conv1.weight"] = "layers.stem.w"
    load_state_dict(target, tensors, names=names)
    np.testing.assert_array_equal(
        target.layers["stem"].w.value, source.layers["stem"].w.value + 1
    )
    names["enc/bn1.weight"] = "conv1.weight"
    refuses("have one place", load_state_dict, target, tensors, names=names)


OF_MOBILENET = {
    "layers.stem.w": "features.0.0.weight",
    "layers.stem_norm.mean": "features.0.1.running_mean",
    "layers.row1_block1.layers.depthwise.w": "features.1.conv.0.0.weight",
    "layers.row1_block1.layers.project.w": "features.1.conv.1.weight",
    "layers.row1_block1.layers.project_norm.beta": "features.1.conv.2.bias",
    "layers.row2_block2.body.layers.expand.w": "features.3.conv.0.0.weight",
    "layers.row2_block2.body.layers.depthwise_norm.beta": "features.3.conv.1.1.bias",
    "layers.row2_block2.body.layers.project_norm.beta": "features.3.conv.3.bias",
    "layers.last.w": "features.18.0.weight",
    "layers.classifier.b": "classifier.1.bias",
}
BLOCK1, BLOCK4 = "layers.stage1_block1", "layers.stage4_block1"
OF_BOTTLENECKS = {
    f"{BLOCK1}.body.layers.conv3.w": "layer1.0.conv3.weight",
    f"{BLOCK1}.body.layers.conv1_norm.var": "layer1.0.bn1.running_var",
    f"{BLOCK1}.body.layers.norm3.beta": "layer1.0.bn3.bias",
    f"{BLOCK4}.shortcut.layers.norm.beta": "layer4.0.downsample.1.bias",
}
OF_VGG = {
    "layers.conv1.w": "features.0.weight",
    "layers.conv1_norm.gamma": "features.1.weight",
    "layers.conv2.w": "features.4.weight",
    "layers.classifier.w": "classifier.weight",
}


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (partial(mobilenetv2, width=0.5), OF_MOBILENET),
        (partial(imagenet_resnet, 50, width=0.1), OF_BOTTLENECKS),
        (partial(vgg, "11", width=0.1), OF_VGG),
    ],
)
def test_names_of_other_networks(make, names):
    net = make(rng=np.random.default_rng(0))
    theirs = torch_names(net)
    assert len(set(theirs.values())) == len(theirs)
    assert {n: theirs[n] for n in names} == names
    target = make(rng=np.random.default_rng(0))
    for leaf in weights_of(target).values():
        leaf.value = leaf.value + 1
    assert load_state_dict(target, state_dict(net)) == []
    for name, leaf in weights_of(net).items():
        np.testing.assert_array_equal(weights_of(target)[name].value, leaf.value)


def test_what_is_no_state_dict_is_refused_with_the_way_to_one():
    net, tensors = network(), state_dict(network())
    before = everything(net)
    for wrong in (None, [*tensors.items()], "net.npz", net):
        refuses(r"map names to arrays, got \w+; module", load_state_dict, net, wrong)
    with pytest.raises(ValueError, match=r"give one of them, as tensors\['model'\]"):
        load_state_dict(net, {"model": tensors, "optimizer": {}, "epoch": 3})
    with pytest.raises(ValueError, match="names must be a mapping or a function"):
        load_state_dict(net, tensors, names=3)
    with pytest.raises(ValueError, match=r"names must be those of tensors.*'fc.bais'"):
        load_state_dict(net, tensors, names={"fc.bais": "fc.bias"})
    for name, value in before.items():
        np.testing.assert_array_equal(everything(net)[name], value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "fc.bias",
            1e300,
            r"must hold finite floats of float32, holds 1e\+300",
        ),
        ("fc.bias", np.nan, "fc.bias must hold finite floats of float32, holds nan"),
        ("fc.bias", 1j, "fc.bias must hold finite floats, is complex128"),
        ("bn1.running_var", -1.0, "bn1.running_var must not be negative, holds -1"),
    ],
)
def test_values_that_no_network_has(name, value, message):
    net = network(dtype="float32")
    tensors = state_dict(net)
    tensors[name] = np.full(tensors[name].shape, value)
    refuses(message, load_state_dict, net, tensors)


def test_tensors_of_pytorch_with_gradients_and_of_sixteen_bits():
    torch = pytest.importorskip("torch", reason="needs the optional package torch")
    net, want = network(dtype="float32"), state_dict(network(1, dtype="float32"))
    learned = {name: torch.nn.Parameter(torch.tensor(v)) for name, v in want.items()}
    assert load_state_dict(net, learned) == []
    np.testing.assert_array_equal(state_dict(net)["fc.weight"], want["fc.weight"])
    halves = {name: tensor.bfloat16() for name, tensor in learned.items()}
    load_state_dict(net, halves)
    error = np.abs(state_dict(net)["fc.weight"] - want["fc.weight"])
    assert 0 < error.max() <= 2**-8 * np.abs(want["fc.weight"]).max()


def test_parametrized_weights_are_those_of_the_layer():
    net, tensors = network(), state_dict(network(1))
    own = "layer1.0.conv1.weight"
    moved = {n: v for n, v in tensors.items() if n != own}
    moved["layer1.0.conv1.parametrizations.weight.original"] = tensors[own]
    load_state_dict(net, moved)
    np.testing.assert_array_equal(state_dict(net)[own], tensors[own])
