"""Tests of single layers as networks: recorded codes are computed, others refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conformance.test_goldens import POOL, descriptor, headers, rename

from refqnn import cli
from refqnn.conformance.reach.goldens.networks import read_network
from refqnn.deploy import IntegerNetwork
from refqnn.files import Unreadable

KINDS = ["convolution", "depthwise", "fully_connected"]


@pytest.mark.parametrize("w_bits", [8, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_c_headers_are_requantized_as_cmsis_nn_does(
    tmp_path, rng, kind, w_bits
):
    """The files here were made rounding down: up to one code apart, never more."""
    headers(tmp_path / "a", rng, kind, w_bits=w_bits, w_zero_point=3)
    layer = read_network(tmp_path / "a")
    apart = layer.network.forward(layer.x).astype(int) - layer.y
    assert set(np.unique(apart)) == {0, 1}
    assert layer.equal() == np.sum(apart == 0)
    (_, step) = layer.network.steps
    assert step.rounding == "two_stage_half_away"


def test_activations_without_the_zero_point_are_clamps_of_their_own(tmp_path, rng):
    headers(tmp_path / "a", rng, "convolution")
    rename(tmp_path / "a", ("_OUTPUT_OFFSET 11", "_OUTPUT_OFFSET -101"))
    layer = read_network(tmp_path / "a")
    assert [step.name for step in layer.network.steps] == ["x", "sums", "y"]
    assert layer.network.forward(layer.x).min() == -100
    rename(tmp_path / "a", ("_OUTPUT_OFFSET -101", "_OUTPUT_OFFSET 128"))
    with pytest.raises(Unreadable, match="the zero-point 128 is no int8"):
        read_network(tmp_path / "a")
    for name, value in (("STRIDE_Y", 0), ("INPUT_H", -3), ("FILTER_X", 10**9)):
        headers(tmp_path / name, rng, "convolution")
        with (tmp_path / name / "config_data.h").open("a") as file:
            file.write(f"#define LAYER_{name} {value}\n")
        with pytest.raises(Unreadable) as caught:
            read_network(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_multipliers_of_16_bit_outputs_with_wide_biases_have_15_bits(tmp_path, rng):
    headers(tmp_path / "a", rng, "convolution")
    whole = read_network(tmp_path / "a").network.steps[1].multiplier
    for old, bits in (("int8_t layer_output_ref", 16), ("int32_t layer_biases", 64)):
        rename(tmp_path / "a", (old, f"int{bits}_t {old.split()[1]}"))
        step = read_network(tmp_path / "a").network.steps[1]
        short = bits == 64
        assert step.rounding == ("half_up" if short else "two_stage_half_away")
        wanted = np.rint(whole / 2**16) * 2**16 if short else whole
        np.testing.assert_array_equal(step.multiplier, wanted)


def test_pixels_that_no_output_reads_are_cut_off_and_dilated_ones_are_read(
    tmp_path, rng
):
    headers(tmp_path / "a", rng, "convolution")
    layer = read_network(tmp_path / "a")
    _, _, rows, _ = layer.y.shape
    values = layer.y[:, :, :1].transpose(0, 2, 3, 1).ravel().tolist()
    line = f"const int8_t layer_output_ref[{len(values)}] = {{{str(values)[1:-1]}}};\n"
    (tmp_path / "a" / "output_ref_data.h").write_text(line)
    rename(tmp_path / "a", (f"_OUTPUT_H {rows}", "_OUTPUT_H 1"))
    first = read_network(tmp_path / "a")
    every = layer.network.forward(layer.x)
    np.testing.assert_array_equal(first.network.forward(first.x), every[:, :, :1])
    headers(tmp_path / "b", rng, "convolution")
    with (tmp_path / "b" / "config_data.h").open("a") as file:
        file.write("#define LAYER_DILATION_X 2\n")
    wide = read_network(tmp_path / "b")  # padded by two more on the right
    assert wide.network.forward(wide.x).shape == wide.y.shape == every.shape


@pytest.mark.parametrize("kind", ["avg", "max"])
def test_pooling_keeps_its_activation(tmp_path, rng, kind):
    folder = tmp_path / f"{kind}_pool"
    folder.mkdir()
    known = POOL | {"ACTIVATION_MIN": -20, "ACTIVATION_MAX": 30}
    x = rng.integers(-128, 128, (1, 5, 6, 2)).astype(np.int8)
    x[0, :2, :2, 0] = [[1, 1], [0, 0]]  # a mean of 1/2
    y = np.zeros((1, 3, 2, 2), np.int64)
    for i, j in np.ndindex(3, 2):
        part = x[:, max(2 * i - 1, 0) : 2 * i + 2, 3 * j : 3 * j + 2].astype(int)
        total, n = part.sum((1, 2)), part[0, :, :, 0].size
        mean = np.sign(total) * ((2 * np.abs(total) + n) // (2 * n))
        y[:, i, j] = np.clip(mean if kind == "avg" else part.max((1, 2)), -20, 30)
    text = "".join(f"#define {kind.upper()}_POOL_{k} {v}\n" for k, v in known.items())
    (folder / "config_data.h").write_text(text)
    for name, array in (("input", x), ("output_ref", y)):
        values = ", ".join(map(str, array.ravel().tolist()))
        line = f"const int8_t {kind}_pool_{name}[{array.size}] = {{{values}}};\n"
        (folder / f"{name}.h").write_text(line)
    layer = read_network(folder)
    assert layer.equal() == layer.y.size == 12


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("mode", "SD")
def test_rescale_of_tosa_is_a_layer_of_ones(tmp_path, rng, mode, bits):
    folder = tmp_path / f"rescale_rm{mode}_x"
    x = descriptor(folder, rng, mode=mode, bits=bits, n=400)
    with pytest.raises(Unreadable, match="codes of int32 are no image: up to 16 bits"):
        read_network(folder)
    np.save(folder / "input-0.npy", (x + 7).astype(np.int16))
    path = folder / "desc.json"
    record = json.loads(path.read_text())
    info = record["meta"]["data_gen"]["tensors"]["const-2"]["fixed_data_info"]
    info["data"] = [7.0]  # the zero-point of the input
    path.write_text(json.dumps(record))
    layer = read_network(folder)
    assert layer.equal() == layer.y.size == 1200
    y = np.load(folder / "ref-result-0.npy")
    np.save(folder / "ref-result-0.npy", y ^ (np.arange(y.size) == 7).reshape(y.shape))
    assert read_network(folder).equal() == 1199


def test_the_command_imports_a_folder(tmp_path, rng, capsys):
    headers(tmp_path / "a", rng, "convolution")
    out = tmp_path / "n.npz"
    assert cli.main(["import", str(tmp_path / "a"), "-o", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    layer = read_network(tmp_path / "a")
    assert (answer["equal"], answer["recorded"]) == (layer.equal(), layer.y.size)
    again = IntegerNetwork.load(out).forward(layer.x)
    np.testing.assert_array_equal(again, layer.network.forward(layer.x))
    assert cli.main(["import", str(tmp_path / "a"), "-o", str(out)]) == 0
    assert f"of {layer.y.size} recorded codes" in capsys.readouterr().out
    assert cli.main(["import", str(tmp_path), "-o", str(out)]) == 4
    assert "holds neither config_data.h nor desc.json" in capsys.readouterr().err
    until = ["import", str(tmp_path / "a"), "-o", str(out), "--until", "y"]
    assert cli.main(until) == 2
    with (tmp_path / "a" / "config_data.h").open("a") as file:
        file.write("#define LAYER_PAD_X_WITH_OFFSET 2\n")
    assert cli.main(["import", str(tmp_path / "a"), "-o", str(out)]) == 4
    assert "transposed convolutions are not read" in capsys.readouterr().err


def test_layers_of_cmsis_nn_are_equal():
    folder = os.environ.get("REFQNN_CMSIS_NN")
    if folder is None:
        pytest.skip("REFQNN_CMSIS_NN names no folder of sources of CMSIS-NN")
    layers = []
    for file in sorted(Path(folder).glob("**/config_data.h")):
        try:
            layers.append(read_network(file.parent))
        except Unreadable:
            continue
    assert len(layers) >= 134
    assert all(layer.equal() == layer.y.size for layer in layers)
