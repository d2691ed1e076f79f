"""Packs for simulations: widths, words, test benches, results back; a Verilog round."""

import argparse
import csv
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from refqnn import cli
from refqnn.cli.options import add_words
from refqnn.conformance.judge.identify_files import probe_calls, read_header
from refqnn.conformance.reach import hardware, packs
from refqnn.files import Unreadable

FLOOR = """
module requantize (
  input signed [31:0] acc, input signed [31:0] multiplier, input signed [7:0] shift,
  input signed [7:0] zero_point, input signed [15:0] q_min, input signed [15:0] q_max,
  output signed [7:0] y
);
  wire signed [63:0] product = acc * multiplier;
  wire signed [63:0] scaled = product >>> (31 - shift);
  wire signed [63:0] q = scaled + zero_point;
  assign y = q < q_min ? q_min : q > q_max ? q_max : q;
endmodule
"""


INT8 = {"q_min": -128, "q_max": 127}
#: the same for the command line
WHERE = ["--where", "q_min=-128", "--where", "q_max=127"]


@pytest.fixture
def pack():
    return packs.generate("requantize")


def words(path):
    return path.read_text().split()


def as_hex(array):
    return "".join(f"{word}\n" for word in hardware.hex_words(array))


def test_every_file_has_a_line_a_call_at_one_width(pack, tmp_path):
    hardware.write(pack, tmp_path)
    kinds = json.loads((tmp_path / "words.json").read_text())
    for name in pack.cases[0].inputs:
        lines = words(tmp_path / f"{name}.hex")
        assert len(lines) == kinds[name]["words"] == kinds["results"]["words"]
        assert {4 * len(line) for line in lines} == {kinds[name]["width"]}
    assert (kinds["acc"]["width"], kinds["results"]["width"]) == (32, 16)
    narrow = packs.generate("requantize", where=INT8)
    assert hardware.result_words(narrow).width == 8


def test_the_index_says_where_every_array_stands(tmp_path):
    pack = packs.generate("conv2d")
    hardware.write(pack, tmp_path)
    text = (tmp_path / "cases.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    lines = words(tmp_path / "x.hex")
    width = json.loads((tmp_path / "words.json").read_text())["x"]["width"]
    for row in rows:
        if row["array"] == "x":
            first, count = int(row["first_line"]), int(row["lines"])
            part = np.array([int(w, 16) for w in lines[first : first + count]])
            x = next(c for c in pack.cases if c.name == row["case"]).inputs["x"]
            np.testing.assert_array_equal(
                part, x.ravel().astype(np.int64) & ((1 << width) - 1)
            )
    assert any(row["array"] == "results" for row in rows)


@pytest.mark.parametrize(
    ("arrays", "width", "signed"),
    [
        ([np.array([0, 255], np.uint8)], 8, False),
        ([np.array([0, 255])], 16, True),
        ([-128, 127], 8, True),
        ([np.uint8(1), -1], 8, True),
        ([2**31 - 1], 32, True),
        ([2**31], 64, True),
        ([np.float32(1)], 32, True),
    ],
)
def test_widths_hold_every_value(arrays, width, signed):
    made = hardware.words_of(arrays)
    assert (made.width, made.signed) == (width, signed)


def test_right_results_conform_and_wrong_ones_do_not(pack, tmp_path, capsys):
    hardware.write(pack, tmp_path)
    packs_folder = tmp_path / "pack"
    assert cli.main(["generate", "requantize", "-o", str(packs_folder)]) == 0
    right = hardware.result_words(pack).values
    for change, code in ((0, 0), (1, 1)):
        (tmp_path / "y.hex").write_text(as_hex(right + np.int8(change)))
        numbers = "".join(f"{i},{v}\n" for i, v in enumerate(right + np.int8(change)))
        (tmp_path / "y.csv").write_text("call,y\n" + numbers)
        for name in ("y.hex", "y.csv"):
            argv = ["verify", str(packs_folder), str(tmp_path / name)]
            assert cli.main(argv) == code, capsys.readouterr()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0x1G\n", "line 1: '0x1G' is no hexadecimal word"),
        ("00\nxx\n", "line 2: 'xx' has unknown bits"),
        ("100\n", "line 1: '100' has more than 8 bits"),
    ],
)
def test_damaged_words_are_named_by_their_line(tmp_path, text, message):
    (tmp_path / "r.hex").write_text(text)
    with pytest.raises(Unreadable, match=message):
        hardware.read_words(tmp_path / "r.hex", width=8, signed=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y\n1\nz\n", "line 3: 'z' is no integer"),
        ("128\n", r"128 not in \[-128, 127\]"),
    ],
)
def test_damaged_numbers_are_named_by_their_line(tmp_path, text, message):
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(Unreadable, match=message):
        hardware.read_words(tmp_path / "r.csv", width=8, signed=True)


def test_words_are_signed_or_not_as_said(tmp_path):
    (tmp_path / "r.hex").write_text("// results\n0xff\n7_f\n")
    for signed, first in ((True, -1), (False, 255)):
        read = hardware.read_words(tmp_path / "r.hex", width=8, signed=signed)
        assert read.tolist() == [first, 127]
    with pytest.raises(ValueError, match="width must be one of"):
        hardware.read_words(tmp_path / "r.hex", width=9, signed=True)


def test_another_number_of_results_is_refused(pack):
    with pytest.raises(Unreadable, match="3 results, the pack has"):
        hardware.named_outputs(pack, np.zeros(3, np.int8))


def simulate(folder):
    """Build the bench of a folder around the requantizer that rounds down; run it."""
    (folder / "dut.v").write_text(FLOOR)
    build = ["iverilog", "-g2012", "-o", "sim", "requantize_tb.sv", "dut.v"]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    subprocess.run(["vvp", "sim"], cwd=folder, check=True, capture_output=True)


def test_a_requantizer_in_verilog_that_rounds_down_is_named(tmp_path, capsys):
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not on the path")
    pack, probes = str(tmp_path / "pack"), str(tmp_path / "probes")
    for command, folder in (("generate", pack), ("probe", probes)):
        argv = [command, "requantize", "--format", "hex", "-o", folder, *WHERE]
        assert cli.main(argv) == 0
    for folder in (pack, probes):
        simulate(Path(folder))
    capsys.readouterr()
    assert cli.main(["verify", pack, f"{pack}/results.hex"]) == 1
    explained = capsys.readouterr().out.split("explained by")[1].splitlines()[1]
    assert explained.split()[:4] == ["1", "requantize", "=", "floor"]
    argv = ["identify", probes, f"{probes}/results.hex", "--width", "8", "--signed"]
    assert cli.main([*argv, "--json"]) == 0
    certain = json.loads(capsys.readouterr().out)["certain"]
    assert certain["requantize"] == "floor"


@pytest.mark.parametrize("family", ["requantize", "dequantize", "conv2d", "lstm_cell"])
def test_right_words_answer_probes(tmp_path, capsys, family):
    folder = str(tmp_path)
    assert cli.main(["probe", family, "--format", "hex", "-o", folder]) == 0
    header = read_header(tmp_path / "probes.npz")
    pack = hardware.as_pack(family, probe_calls(header))
    (tmp_path / "y.hex").write_text(as_hex(hardware.result_words(pack).values))
    capsys.readouterr()
    code = cli.main(["identify", folder, str(tmp_path / "y.hex"), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code == 0, answer
    assert answer["explained"]
    (tmp_path / "y.hex").write_text("00\n")
    assert cli.main(["identify", folder, str(tmp_path / "y.hex")]) == 4


def test_no_call_with_such_a_value_is_said(capsys):
    assert cli.main(["generate", "requantize", "--where", "q_min=77"]) == 2
    assert "no call of requantize has" in capsys.readouterr().err
    assert cli.main(["generate", "requantize", "--where", "bits=8"]) == 2
    assert "not ['bits']" in capsys.readouterr().err


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_words_have_the_bits_of_a_type(width):
    parser = argparse.ArgumentParser()
    add_words(parser)
    assert parser.parse_args(["--width", str(width)]).width == width
