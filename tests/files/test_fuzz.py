"""Every reader against damaged files: only ValueError and OSError come out."""

import json
import os
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from fuzzing import damage, readers, run

from refqnn import cli

TESTS = Path(__file__).parent.parent
COUNT = 5000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 200
NAMES = (
    *("npz", "npy", "checkpoint", "network", "resume", "metrics", "plan", "state npz"),
    *("safetensors", "integers", "trace", "other trace", "manifest", "pack"),
    *("pack export", "outputs", "probes", "answers", "stream", "directory", "tosa"),
    *("tosa npy", "latency table", "sweep", "memo", "search", "idx", "idx gz"),
    *("cifar10", "cifar100", "tflite"),
)
WITH_ONNX = ("export", "qoperator", "qdq")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What a child with little memory reports of every reader."""
    folder = tmp_path_factory.mktemp("fuzz")
    command = [sys.executable, "-m", "fuzzing.run", folder, str(COUNT), "20240607"]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=TESTS
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    rows = map(json.loads, ran.stdout.splitlines())
    return {row["reader"]: row for row in rows}


@pytest.mark.once
def test_every_reader_is_fuzzed(answers):
    assert set(NAMES) <= set(answers) <= {*NAMES, *WITH_ONNX}
    assert sum(row["count"] for row in answers.values()) >= 3800


@pytest.mark.once
@pytest.mark.parametrize("name", NAMES + WITH_ONNX)
def test_damaged_files_are_refused_or_usable(answers, name):
    if name in WITH_ONNX:
        pytest.importorskip("onnx", reason="needs the optional package onnx")
    row = answers[name]
    assert row["failures"] == []
    assert row["accepted"] + row["refused"] == COUNT


class Careless(NamedTuple):
    path: Path
    damage: object
    read: object


def test_a_careless_reader_is_noticed(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2, 3]}')

    def careless(path):
        return json.loads(path.read_text("utf-8", "replace"))["a"][2] + 1

    row = run.fuzz("careless", Careless(path, damage.text_of, careless), 100, 0)
    kinds = {failure.split(": ")[1] for failure in row["failures"]}
    assert {"TypeError", "KeyError", "IndexError"} <= kinds


#: commands that read a file, and the reader whose file they are given
COMMANDS = (
    pytest.param("network", "evaluate {}", marks=pytest.mark.compiled),
    ("network", "deploy {} {}.out --image-size 8 8"),
    ("resume", "train {} --resume --depth 8 --width 0.1 --bits 4 --epochs 1"),
    ("integers", "evaluate {}"),
    ("integers", "trace {} -o {}.out"),
    ("trace", "bisect {} {}"),
    ("outputs", "verify pack {}"),
    ("probes", "identify {} answers.npz"),
    ("answers", "identify p.npz {}"),
    ("pack", "score {parent}"),
    ("manifest", "export {parent} --format csv -o {}.out"),
)


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    with warnings.catch_warnings():
        return readers.readers(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize(("name", "line"), COMMANDS)
def test_the_command_line_answers_in_one_line(every, name, line, monkeypatch, capsys):
    reader = every[name]
    good = reader.path.read_bytes()
    rng = np.random.default_rng([5, zlib.crc32(line.encode())])
    monkeypatch.chdir(every["outputs"].path.parent)
    names = {"parent": reader.path.parent}
    argv = [word.format(reader.path, **names) for word in line.split()]
    codes = []
    for damaged in (
        b"",
        good[: len(good) // 2],
        *(reader.damage(good, rng) for _ in range(12)),
    ):
        reader.path.write_bytes(damaged)
        codes.append(cli.main(argv))
        captured = capsys.readouterr()
        assert codes[-1] in {0, 1, 2, 3, 4}
        if codes[-1] in {2, 4}:
            assert captured.out == ""
            assert captured.err.startswith("refqnn: error: ")
            assert captured.err.count("\n") == 1
    reader.path.write_bytes(good)
    assert codes[:2] == [4, 4]
