"""Whatever is wrong with a file is one error; nothing that it announces is believed."""

import gzip
import json
import os
from pathlib import Path

import pytest

from refqnn import files
from refqnn.files import reading


def nested(depth):
    return "[" * depth + "]" * depth


def test_json_is_read_to_its_depth():
    assert files.parse_json(nested(files.DEEPEST), "a") == json.loads(nested(64))
    for depth in (files.DEEPEST + 1, 1000, 100_000):
        with pytest.raises(files.Unreadable, match=r"^a is JSON nested more than 64"):
            files.parse_json(nested(depth), "a")
    assert files.parse_json('{"k": ' * 64 + "1" + "}" * 64, "a")
    deep = '{"k": ' * 65 + "1" + "}" * 65
    with pytest.raises(files.Unreadable, match="more than 64 deep"):
        files.parse_json(deep, "a")


@pytest.mark.parametrize(
    "text", ["", "{", "[1,]", "nul", "\x00", b"\xff\xfe", "1" * 5000, '"\ud800'[:1]]
)
def test_what_is_no_json_is_unreadable(text):
    with pytest.raises(files.Unreadable, match=r"^a is no JSON"):
        files.parse_json(text, "a")


@pytest.mark.parametrize("text", ["[]", "1", "null", '"text"'])
def test_what_is_no_object_is_unreadable(text):
    with pytest.raises(files.Unreadable, match=r"^a is no JSON object"):
        files.parse_object(text, "a")


def test_lines_are_numbered_in_errors(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"b": 2}\n')
    assert files.read_lines(path) == [{"a": 1}, {"b": 2}]
    path.write_text('{"a": 1}\n\n[2]\n')
    with pytest.raises(files.Unreadable, match=r"a\.jsonl, line 3, is no JSON object"):
        files.read_lines(path)


def test_sizes_are_compared_before_anything_is_read(tmp_path):
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(files.Unreadable, match=f"has {2**40} bytes, more than"):
        files.read_json(path)
    path.write_bytes(b"[1, 2]")
    assert files.read_bytes(path, 6) == b"[1, 2]"
    with pytest.raises(files.Unreadable, match="has 6 bytes, more than 5"):
        files.read_bytes(path, 5)


def test_gzip_grows_to_its_bound_only(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"text" * 100))
    assert files.read_bytes(path) == b"text" * 100
    with pytest.raises(files.Unreadable, match="grows to more than 399 bytes"):
        files.read_bytes(path, 399)
    path.write_bytes(gzip.compress(bytes(2**27)))
    bound = files.most(path.stat().st_size)
    with pytest.raises(files.Unreadable, match=f"grows to more than {bound} bytes"):
        files.read_bytes(path)


def test_a_pipe_is_not_waited_for_and_a_device_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        for read in (files.read_bytes, files.read_json, files.read_npz, files.read_npy):
            with pytest.raises(files.Unreadable, match="is not a regular file"):
                read(path)


def test_what_is_absent_is_said_in_both_ways(tmp_path):
    for kind in (files.Unreadable, FileNotFoundError):
        with pytest.raises(kind, match=r"absent cannot be read: No such file"):
            files.read_text(tmp_path / "absent")
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(files.Unreadable, match="latin is no text"):
        files.read_text(tmp_path / "latin")


def test_no_descriptor_is_left_open(tmp_path):
    (tmp_path / "a").write_text("[1")
    descriptors = Path("/proc/self/fd")
    before = len([*descriptors.iterdir()])
    for _ in range(3):
        for path in (tmp_path, tmp_path / "a", tmp_path / "absent"):
            with pytest.raises(files.Unreadable):
                files.read_json(path)
    assert len([*descriptors.iterdir()]) == before


def test_unreadable_leaves_the_command_line_with_4():
    assert issubclass(files.Unreadable, ValueError)
    assert reading.Unreadable.exit_code == 4
