"""A file is held by one at a time; the lock of a dead owner is no lock."""

import os
import subprocess
import sys
import threading
import time

import pytest

from refqnn import files
from refqnn.files import locking

HOLD = """
import sys, time
from refqnn.files import lock
with lock(sys.argv[1]) as waited:
    print(waited, flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(path, seconds):
    """Start a process that holds ``path``; it holds it when this returns."""
    command = [sys.executable, "-c", HOLD, str(path), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "False\n"
    return process


def test_a_lock_leaves_no_file_and_none_holds_nothing(tmp_path):
    path = tmp_path / "a"
    with files.lock(path) as waited:
        assert not waited
        (lock,) = tmp_path.iterdir()
        assert lock.name == ".a.lock"
        assert lock.read_text().strip() == f"process {os.getpid()} on {locking.host()}"
    with files.lock(None) as waited:
        assert not waited
    assert not list(tmp_path.iterdir())


def test_a_second_process_is_waited_for_and_named(tmp_path, capfd):
    path = tmp_path / "a"
    with holder(path, 0.5) as process, files.lock(path) as waited:
        assert waited
        assert process.wait() == 0
        assert f"waiting for process {process.pid} on" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_dead_owner_is_not_waited_for(tmp_path):
    path = tmp_path / "a"
    with holder(path, 600) as process:
        process.kill()
    assert [entry.name for entry in tmp_path.iterdir()] == [".a.lock"]
    with files.lock(path) as waited:
        assert not waited
    assert not list(tmp_path.iterdir())


def test_a_write_removes_locks_of_dead_owners_only(tmp_path):
    with holder(tmp_path / "dead", 600) as process:
        process.kill()
    (tmp_path / ".other.lock").write_text("of another program")
    with files.lock(tmp_path / "held"):
        files.write_text(tmp_path / "a", "text")
        left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"a", ".held.lock", ".other.lock"}


def test_of_many_threads_one_holds(tmp_path, capsys):
    path, inside, most = tmp_path / "a", [], []

    def hold():
        with files.lock(path):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.005)
            inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
    assert not list(tmp_path.iterdir())
    assert "waiting for" in capsys.readouterr().err


def test_what_fails_inside_frees_the_lock(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.lock(tmp_path / "a"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_where_there_are_no_locks_nobody_waits(tmp_path, monkeypatch):
    with files.lock(tmp_path / "absent" / "a") as waited:
        assert not waited
    with monkeypatch.context() as patch:
        patch.setattr(locking, "fcntl", None)
        with files.lock(tmp_path / "a"), files.lock(tmp_path / "a") as waited:
            assert not waited

    def refused(*_):
        raise OSError(locking.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locking.fcntl, "flock", refused)
    with files.lock(tmp_path / "a") as waited:
        assert not waited
    assert not list(tmp_path.iterdir())
