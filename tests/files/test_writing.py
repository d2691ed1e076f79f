"""Files are replaced whole or not at all, links stay links, leftovers go."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from refusals import refuses

from refqnn import files
from refqnn.files import writing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_bytes_text_json_and_lines(tmp_path):
    path = tmp_path / "a"
    files.write_bytes(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    files.write_text(path, "Größe\n")
    assert path.read_bytes() == "Größe\n".encode()
    files.write_json(path, {"b": 1, "a": [2]}, sort_keys=True)
    assert path.read_text() == '{\n "a": [\n  2\n ],\n "b": 1\n}\n'
    files.write_lines(path, [{"a": 1}, {"b": 2}])
    assert path.read_text() == '{"a": 1}\n{"b": 2}\n'
    assert names(tmp_path) == ["a"]


def test_what_fails_leaves_the_earlier_file_and_no_other(tmp_path):
    path = tmp_path / "a"
    path.write_text("before")

    def interrupted(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writing.write_whole(path, interrupted)
    assert path.read_text() == "before"
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("before")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(OSError, match="intact: No space left") as info:
        files.write_text(path, "after")
    assert info.value.filename == str(path)
    assert (path.read_text(), names(tmp_path)) == ("before", ["a"])


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link", tmp_path / "there" / "a"
    link.symlink_to(target)  # dangling until it is written
    for text in ("first", "second"):
        files.write_text(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert names(tmp_path / "there") == ["a"]


def test_a_link_to_nowhere_is_refused_and_stays(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "absent" / "a")
    with pytest.raises(OSError, match="cannot write"):
        files.write_text(link, "text")
    assert link.is_symlink()


def test_a_link_to_itself_is_refused_and_stays(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(link)
    refuses("cannot write .*link: Too many levels", files.check_writable, link)
    with pytest.raises(OSError, match="Too many levels"):
        files.write_text(link, "text")
    assert link.is_symlink()


def test_what_is_no_regular_file_is_written_to(tmp_path):
    files.write_text("/dev/null", "text")
    assert not Path("/dev/null").is_file()
    with pytest.raises(IsADirectoryError):
        files.write_text(tmp_path, "text")


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path):
    path = tmp_path / "a.b"
    script = (
        "import os, signal, sys; from refqnn.files import writing;"
        "kill = lambda f: (f.write(b'half'), f.flush(), os.kill(os.getpid(), 9));"
        "writing.write_whole(sys.argv[1], kill)"
    )
    killed = subprocess.run([sys.executable, "-c", script, path], check=False)
    assert killed.returncode == -9
    assert len(names(tmp_path)) == 1
    here = writing.host()
    mine = tmp_path / f".a.b.{here}-{os.getpid()}-00000000.part"
    other = tmp_path / ".a.b.elsewhere-1-00000000.part"
    own = tmp_path / f".a.b.{here}-99999999.part"  # no name that a write gives
    for kept in (mine, other, own):
        kept.write_text("of a process that runs, or may run, or of a user")
    old = time.time() - writing.OLD - 60
    for gone in (f".c.{here}-99999999-00000000.part", ".a.b.there-1-00000001.part"):
        (tmp_path / gone).write_text("of a dead process and another file, or old")
        if "there" in gone:
            os.utime(tmp_path / gone, (old, old))
    files.write_text(path, "whole")
    assert names(tmp_path) == sorted([mine.name, other.name, own.name, "a.b"])


def test_outputs_are_checked_before_work_starts(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_text("before")
    (tmp_path / "link").symlink_to(path)
    files.check_writable(path, None, other, "/dev/null", "/dev/null")
    assert (names(tmp_path), path.read_text()) == (["a", "link"], "before")
    for wrong, how, match in (
        ((tmp_path,), {}, "it is a folder"),
        ((f"{tmp_path}/no/a",), {}, "no/a, in .*no: No such file"),
        ((path, other, tmp_path / "link"), {}, "link: it is another file of this"),
        ((other,), {"keep": (None, other)}, "b: it is another file of this"),
        ((path / "c",), {}, "Not a directory"),
    ):
        refuses(match, files.check_writable, *wrong, **how)
    files.check_folder(tmp_path / "new" / "one")
    files.check_folder(None)
    assert names(tmp_path) == ["a", "link"]
    refuses(r"a/b, in .*a: Not a", files.check_folder, path / "b")


def test_threads_may_replace_one_file(tmp_path):
    path = tmp_path / "a"
    texts = [str(i) * 10_000 for i in range(8)]
    threads = [threading.Thread(target=files.write_text, args=(path, t)) for t in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("sync", [True, False])
def test_lines_are_appended_after_one_that_was_cut_off(tmp_path, sync):
    path = tmp_path / "a.jsonl"
    files.append_line(path, {"a": 1}, sync=sync)
    with path.open("a") as file:
        file.write('{"b": ')
    files.append_line(path, {"c": 3}, sync=sync)
    first, cut, last = path.read_text().splitlines()
    assert (json.loads(first), cut, json.loads(last)) == ({"a": 1}, '{"b": ', {"c": 3})


def test_a_full_disk_leaves_earlier_lines(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    files.append_line(path, {"a": 1})

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing.os, "fsync", full)
        with pytest.raises(OSError, match="earlier lines are intact: No space") as info:
            files.append_line(path, {"b": 2})
    assert info.value.filename == str(path)
    assert path.read_text().startswith('{"a": 1}\n')
