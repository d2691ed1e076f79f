"""Files that commands read: what is missing or no file is one line, and a 4.

Values and options that are wrong leave with 2, as does what cannot be written.
"""

import errno
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from refqnn import cli

#: the way of a command to a file that it reads first
READS = {
    "bisect": ["bisect", "FILE", "other.npz"],
    "compare": ["compare", "model.onnx", "FILE"],
    "convert": ["convert", "FILE", "-o", "packs"],
    "deploy": ["deploy", "FILE", "integers.npz"],
    "evaluate": ["evaluate", "FILE"],
    "evaluate data": ["evaluate", "other.npz", "--data", "FILE"],
    "export": ["export", "FILE", "-o", "model.onnx"],
    "export pack": ["export", "FILE", "--format", "csv", "-o", "pack.csv"],
    "identify": ["identify", "FILE", "other.npz"],
    "identify outputs": ["identify", "probes.npz", "FILE"],
    "identify words": ["identify", "probes.npz", "FILE.hex"],
    "import": ["import", "FILE", "-o", "integers.npz"],
    "score": ["score", "FILE"],
    "trace": ["trace", "FILE", "-o", "trace.npz"],
    "train": ["train", "FILE", "--resume"],
    "train data": ["train", "checkpoint.npz", "--data", "FILE"],
    "verify": ["verify", "FILE", "other.npz"],
    "verify outputs": ["verify", "pack", "FILE"],
}
#: what may be a folder of files; and what is written, too, which leaves with 2
FOLDERS = ("identify outputs", "verify outputs", "train")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("other.npz", y=np.zeros(3))
    assert cli.main(["probe", "requantize", "-o", "probes.npz"]) == 0
    assert cli.main(["generate", "requantize", "-o", "pack"]) == 0
    return tmp_path


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (name, what)
        for name in READS
        for what in ("absent", "folder", "pipe", "name")
        if what != "folder" or name not in FOLDERS
    ],
)
def test_what_is_no_file_leaves_with_4(name, what, folder, capsys):
    path = folder / "thing"
    path = path / ("n" * 300) if what == "name" else path
    argv = [str(path).join(word.split("FILE")) for word in READS[name]]
    suffix = ".hex" * ("words" in name)
    if what == "folder":
        Path(f"{path}{suffix}").mkdir()
    if what == "pipe":
        os.mkfifo(f"{path}{suffix}")
    before = sorted(p.name for p in folder.iterdir())
    capsys.readouterr()
    assert cli.main(argv) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("refqnn: error: ")
    assert printed.err.count("\n") == 1
    assert str(path) in printed.err
    assert sorted(p.name for p in folder.iterdir()) == before


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stream", [None, Full()], ids=["closed", "full"])
def test_errors_that_nobody_can_read_keep_their_code(stream, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", stream)
    assert cli.main(["evaluate", "absent.npz"]) == 4
    assert capsys.readouterr().out == ""


def test_answers_that_cannot_be_written_leave_with_2(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Full())
    assert cli.main(["list", "ops"]) == 2
    assert "No space left" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["list", "ops"]) == 0
    export = ["export", str(folder / "pack"), "--format", "csv", "-o", "-"]
    for argv in (["probe", "requantize", "-o", "-"], export):
        assert cli.main(argv) == 2
        assert capsys.readouterr().err == "refqnn: error: standard output is closed\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_that_a_terminal_lacks_are_escaped(
    encoding, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.main(["probe", "requantize", "-o", "caf\u00e9\udce9.npz"]) == 0
    written = stream.buffer.getvalue().decode(encoding)
    shown = "caf\\xe9" if encoding == "ascii" else "caf\u00e9"
    assert written.startswith(f"wrote {shown}\\udce9.npz: ")
    assert capsys.readouterr().err == ""
    assert cli.main(["evaluate", "a\x1b[31m.npz"]) == 4
    assert "a\\x1b[31m.npz cannot be read" in capsys.readouterr().err
