"""Foreign code at its worst: a line in the report and no traceback."""

import ctypes
import itertools
import json
import operator
import os
import pickle
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from refusals import refuses

from refqnn.conformance import (
    Broken,
    Child,
    check_implementation,
    from_command,
    from_ctypes,
    from_onnx,
    identify,
    verify,
)
from refqnn.conformance.carry.child import isolate
from refqnn.conformance.carry.messages import decode, receive, send
from refqnn.conformance.carry.words import one_line
from refqnn.conformance.choices.semantics import Semantics


class Silent(Exception):  # noqa: N818 - one that does not even print
    def __str__(self):
        raise RuntimeError("no message either")


def prints_and_dies(*_):
    sys.stdout.write("to standard output\n")
    sys.stderr.write("assertion failed: i < n\n")
    sys.stderr.flush()
    os._exit(3)


def writes_into_the_pipe(*_):
    """As C code does that writes to a descriptor which is not its own."""
    for descriptor in range(3, 64):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.write(descriptor, b"\x00\x00\x00\x04junk")
    return 0


def odd_object(*_):
    class Odd:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("no array today")

    return Odd()


NASTY = {
    "a null pointer": (lambda *_: ctypes.string_at(0), "crashed: signal 11"),
    "os._exit": (lambda *_: os._exit(0), "left with 0"),
    "sys.exit": (lambda *_: sys.exit(5), "left with 5"),
    "abort": (lambda *_: os.abort(), "crashed: signal 6"),
    "an endless loop": (lambda *_: time.sleep(99), "no answer after 0.3 s"),
    "last words": (prints_and_dies, "left with 3: assertion failed: i < n"),
    "text": (lambda *_: "text", "no array of numbers"),
    "objects": (lambda *_: np.array([None, {}]), "ndarray of object"),
    "complex numbers": (lambda *_: np.ones(3, complex), "complex128"),
    "nothing": (lambda *_: None, "no array of numbers"),
    "ragged lists": (lambda *_: [[1, 2], [3]], "ValueError"),
    "too few": (lambda *_: np.zeros(1), "shape (1,)"),
    "two outputs": (lambda q, *_: (q, q), "got 2 outputs"),
    "no outputs": (lambda *_: (), "missing ['y']"),
    "NaN": (lambda q, *_: np.full(np.shape(q), np.nan), "NaN"),
    "an odd object": (odd_object, "RuntimeError: no array today"),
    "deep recursion": (lambda *_: deep(0), "RecursionError"),
    "an error": (lambda *_: 1 // 0, "ZeroDivisionError"),
    "a silent exception": (lambda *_: raised(Silent()), "Silent: of no message"),
    "memory": (lambda *_: np.ones((2**40, 2**20)), "Error"),
    "garbage in the pipe": (writes_into_the_pipe, "garbled answer"),
}


def deep(n):
    return deep(n + 1) + 1


def raised(error):
    raise error


def signalled(number):
    """Make a function that gets a signal, with its usual effect."""

    def function(*_):
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        time.sleep(99)

    return function


def floods(*_):
    while True:
        sys.stdout.write("x" * 10_000)


def floods_and_leaves(*_):
    sys.stdout.write("x" * 2_000_000)
    os._exit(7)


def forks(*_):
    for _ in range(3):
        if not os.fork():
            break
    time.sleep(99)


def leaves_a_daemon(*_):
    if not os.fork():
        os.setsid()
        time.sleep(99)
    os._exit(4)


def ignores_signals(*_):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(99)


def uses_up_its_time(*_):
    resource.setrlimit(resource.RLIMIT_CPU, (0, 0))
    while True:
        pass


def alarmed(*_):
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(99)


#: the same kinds again, more of each: signals, forks, floods, exits, typed answers
NASTIER = {
    **{
        f"SIG{name}": (signalled(signal.Signals[f"SIG{name}"]), "crashed: signal")
        for name in ("TERM", "PIPE", "HUP", "QUIT", "BUS", "FPE", "ILL", "USR1", "XCPU")
    },
    "SIGKILL": (lambda *_: os.kill(os.getpid(), 9), "crashed: signal 9"),
    "SIGKILL to its group": (lambda *_: os.killpg(0, 9), "crashed: signal 9"),
    "an alarm": (alarmed, "crashed: signal 14"),
    "a stop": (lambda *_: os.kill(os.getpid(), signal.SIGSTOP), "no answer after"),
    "a flood": (floods, "no answer after 0.3 s"),
    "a flood, and an exit": (floods_and_leaves, "left with 7: xxx"),
    "no time left": (uses_up_its_time, "crashed: signal 9"),
    "no descriptors": (
        lambda *_: [os.open("/dev/null", 0) for _ in itertools.count()],
        "Too many open files",
    ),
    "closed descriptors": (lambda *_: os.closerange(0, 99), "left with 0"),
    "closed descriptors, then an endless loop": (
        lambda *_: (os.closerange(0, 99), time.sleep(99)),
        "hung up",
    ),
    "forks": (forks, "no answer after 0.3 s"),
    "a daemon": (leaves_a_daemon, "no answer after 0.3 s"),
    "signals ignored": (ignores_signals, "no answer after 0.3 s"),
    "KeyboardInterrupt": (lambda *_: raised(KeyboardInterrupt()), "left with 1"),
    "GeneratorExit": (lambda *_: raised(GeneratorExit()), "left with 1"),
    "StopIteration": (lambda *_: raised(StopIteration()), "StopIteration"),
    "an endless generator": (lambda *_: itertools.count(), "no array of numbers"),
    "bytes": (lambda *_: b"12", "no array of numbers"),
    "a set": (lambda *_: {1, 2}, "no array of numbers"),
    "dates": (lambda *_: np.array("2020-01-01", "M8[D]"), "no array of numbers"),
    "records": (lambda *_: np.zeros(3, [("a", "i4")]), "no array of numbers"),
    "a large int": (lambda *_: 2**200, "no array of numbers"),
    "a giant answer": (lambda *_: np.zeros(2**31, np.uint8), "no answer after 0.3 s"),
    "a function": (lambda *_: print, "no array of numbers"),
    "ten outputs": (lambda q, *_: (q,) * 10, "got 10 outputs"),
    "another shape": (lambda q, *_: np.zeros((*np.shape(q), 2)), "returns y of shape"),
}
EVERY = NASTY | NASTIER


@pytest.mark.parametrize(
    "name", [*NASTY, *(pytest.param(n, marks=pytest.mark.slow) for n in NASTIER)]
)
def test_nasty_code_is_a_line_of_the_report(name, capfd):
    function, told = EVERY[name]
    found = check_implementation(function, "dequantize", seconds=0.3)
    assert not found.conforms
    assert found.exit_code in {1, 3}
    assert told in str(found)
    assert "Traceback" not in str(found)
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err + shown.out
    assert "to standard output" not in shown.out


@pytest.mark.parametrize("name", ["a null pointer", "an endless loop", "os._exit"])
def test_identify_and_verify_survive_what_they_ask(name):
    function, told = NASTY[name]
    found = identify(function, "requantize", seconds=0.3)
    assert not found.explained
    assert told in found.complaint
    rng = np.random.default_rng(0)
    held = verify(function, "requantize", Semantics(), rng=rng, seconds=0.3, inputs=99)
    assert not held.conforms
    assert told in held.error


def test_a_child_answers_again_after_an_accident():
    def moody(x):
        if x[0] < 0:
            os.abort()
        return x + 1

    with Child(moody) as child:
        with pytest.raises(Broken, match="signal 6"):
            child(np.array([-1]))
        np.testing.assert_array_equal(child(np.array([1]))[0], [2])


def test_answers_by_name_stay_named():
    with Child(lambda x: {"y": x}) as child:
        assert list(child(np.array([1]))) == ["y"]


def test_a_child_is_not_put_into_another():
    with Child(lambda x: x) as child, isolate(child) as same:
        assert same is child
    with isolate(len, in_process=True) as same:
        assert same is len


def test_a_child_in_a_child_is_a_plain_function():
    inner = Child(lambda x: x + 1)
    with inner, Child(inner) as outer:
        inner(np.array([0]))
        np.testing.assert_array_equal(outer(np.array([1]))[0], [2])


def test_messages_are_one_short_line():
    told = one_line(ValueError("a\n" * 1000))
    assert "\n" not in told
    assert len(told) < 320


def test_children_end_with_the_block():
    with Child(lambda x: x) as child:
        child(np.zeros(1))
        process = child.process
    assert not process.is_alive()


OPEN = """
import json
import sys
from refqnn.conformance.carry import child
sys.kept = child, json  # both are alive when the names of modules become None
json.child = child.Child(abs)
json.child(-1)
print(json.child.process.pid)
"""


def test_a_child_that_is_open_ends_with_its_interpreter_without_a_word():
    ended = subprocess.run(
        [sys.executable, "-c", OPEN], capture_output=True, text=True, check=True
    )
    assert ended.stderr == ""
    assert not Path("/proc", ended.stdout.strip()).exists()


def test_a_child_that_cannot_start_says_why_and_leaves_nothing_open():
    with Child(lambda x: x, start="spawn") as child:
        with pytest.raises((AttributeError, pickle.PicklingError), match="pickle"):
            child(1)
        printed = child.printed
        os.fstat(printed)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(printed)


KERNELS = """
#include <stdint.h>
void good(const int32_t *acc, int32_t m, int32_t shift, int32_t z, int32_t lo,
          int32_t hi, int32_t *out, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    int64_t right = 31 - shift, t = (int64_t)acc[i] * m;
    int64_t q = z + ((t + ((int64_t)1 << (right - 1))) >> right);
    out[i] = q < lo ? lo : q > hi ? hi : q;
  }
}
void wild(const int32_t *acc, int32_t m, int32_t shift, int32_t z, int32_t lo,
          int32_t hi, int32_t *out, int64_t n) {
  for (int64_t i = 0;; i++) out[i * 4096] = 7;
}
"""
TYPES = ("int32*", "int32", "int32", "int32", "int32", "int32")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler on the path")
    folder = tmp_path_factory.mktemp("c")
    (folder / "k.c").write_text(KERNELS)
    command = [compiler, "-O1", "-shared", "-fPIC", "k.c", "-o", "k.so"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "k.so"


def test_libraries_run_in_a_child(library):
    good = from_ctypes(library, "good", arguments=TYPES, out="int32*")
    assert isinstance(good, Child)
    assert check_implementation(good, "requantize").conforms
    wild = from_ctypes(library, "wild", arguments=TYPES, out="int32*")
    found = check_implementation(wild, "requantize")
    assert "crashed: signal" in str(found)
    absent = from_ctypes(library, "absent", arguments=TYPES, out="int32*")
    assert "undefined symbol" in str(check_implementation(absent, "requantize"))


def test_a_library_in_this_process_is_a_plain_function(library):
    options = {"arguments": TYPES, "out": "int32*", "in_process": True}
    good = from_ctypes(library, "good", **options)
    call = (np.int32([3]), 1 << 30, 0, 0, -128, 127)
    np.testing.assert_array_equal(good(*call), [2])


def test_wrong_descriptions_of_libraries_raise_at_once(library, tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        from_ctypes(tmp_path / "absent.so", "good", arguments=TYPES, out="int32*")
    with pytest.raises(ValueError, match="type must be one of"):
        from_ctypes(library, "good", arguments=("int",), out="int32*")
    refuses("there is no file", from_onnx, tmp_path / "absent.onnx", ["x"])


def test_what_is_no_library_or_model_is_a_line(tmp_path):
    (tmp_path / "a.so").write_bytes(b"not a library")
    kernel = from_ctypes(tmp_path / "a.so", "f", arguments=TYPES, out="int32*")
    assert "OSError" in str(check_implementation(kernel, "requantize"))
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"not a model")
    model = from_onnx(tmp_path / "a.onnx", ["x"], seconds=60)
    told = str(check_implementation(model, "requantize"))
    assert "failed" in told
    assert "Traceback" not in told


NASTY_COMMANDS = {
    "pickled arrays": (
        "np.savez(sys.argv[2], y=np.array([{}], dtype=object))",
        "no outputs",
    ),
    "a cut file": (
        "import os; np.savez(sys.argv[2], y=np.ones(9)); os.truncate(sys.argv[2], 99)",
        "no outputs",
    ),
    "a pickle": ("import pickle; pickle.dump([], open(sys.argv[2], 'wb'))", "a pickle"),
    "a folder": ("import os; os.mkdir(sys.argv[2])", "there is no file"),
    "a pipe": ("import os; os.mkfifo(sys.argv[2])", "there is no file"),
    "a device": ("import os; os.symlink('/dev/zero', sys.argv[2])", "there is no file"),
    "no UTF-8": (
        "sys.stderr.buffer.write(bytes([255, 254, 10])); sys.exit(9)",
        "left with 9",
    ),
    "another name": ("np.savez(sys.argv[2], z=1)", "outputs lack"),
    "a signal": ("import os; os.kill(os.getpid(), 9)", "left with -9"),
}


@pytest.mark.parametrize("name", NASTY_COMMANDS)
def test_nasty_commands_are_broken(name):
    code, told = NASTY_COMMANDS[name]
    program = [sys.executable, "-c", f"import sys, numpy as np; {code}"]
    call = from_command(program, inputs=("q",), seconds=30)
    with pytest.raises(Broken, match=told):
        call(np.zeros(1))


def test_a_command_that_prints_without_end_ends_with_its_time():
    begun = time.monotonic()
    with pytest.raises(Broken, match="no answer"):
        from_command(["yes"], inputs=("q",), seconds=0.5)(np.zeros(1))
    assert time.monotonic() - begun < 20


def test_what_a_command_started_ends_with_it():
    """A grandchild that holds the pipes does not keep the judge waiting."""
    begun = time.monotonic()
    shell = ["sh", "-c", "sleep 60 & sleep 60"]
    with pytest.raises(Broken, match="no answer"):
        from_command(shell, inputs=("q",), seconds=0.5)(np.zeros(1))
    assert time.monotonic() - begun < 20


def half_a_message(*_):
    """Write a length and three bytes to every socket, and sleep."""
    for descriptor in range(3, 64):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.write(descriptor, (1000).to_bytes(8, "little") + b"abc")
    time.sleep(99)


def test_half_a_message_is_late():
    with Child(half_a_message, 0.5) as child:
        begun = time.monotonic()
        with pytest.raises(Broken, match=r"no answer after 0.5 s"):
            child(np.zeros(1))
        assert time.monotonic() - begun < 1.5


def test_a_stopped_process_that_takes_no_input_is_late():
    with Child(lambda x: x[:1], 0.5) as child:
        child(np.zeros(1))
        os.kill(child.process.pid, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(Broken, match=r"no answer after 0.5 s"):
            child(np.zeros(10**7))
        assert time.monotonic() - begun < 1.5


def is_alive(pid):
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_grandchildren_in_sessions_of_their_own_end_too(tmp_path):
    def starts_another(*_):
        shell = f"setsid sleep 60 & echo $! > {tmp_path / 'pid'}"
        subprocess.run(["sh", "-c", shell], check=True)
        time.sleep(99)

    with Child(starts_another, 1.5) as child, pytest.raises(Broken, match="no answer"):
        child(np.zeros(1))
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 2
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(pid)


def test_control_characters_do_not_reach_the_terminal():
    def colours(*_):
        raise ValueError("\x1b[31mred\x07")

    shown = str(check_implementation(colours, "dequantize", seconds=1))
    assert "\x1b" not in shown
    assert "\\x1b[31mred\\x07" in shown
    with Child(lambda: os.write(2, b"\x1b[2J gone\n") and os._exit(1)) as child:
        with pytest.raises(Broken) as raised_here:
            child()
        assert str(raised_here.value) == "left with 1: \\x1b[2J gone"


def test_a_spawned_child_imports_its_function():
    with Child(operator.neg, start="spawn") as child:
        np.testing.assert_array_equal(child(np.array([1, 2]))[0], [-1, -2])
    refuses("start must be one of", Child, operator.neg, start="thread")
    refuses("seconds must be positive", Child, operator.neg, 0)


def test_a_message_is_refused_by_its_length_before_it_is_read():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(theirs, b"x" * 100)
        refuses("100 bytes, more than 99", receive, ours, largest=99)


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        ({"arrays": [["|O", [1]]]}, bytes(8)),
        ({"arrays": [["<f8", [-1]]]}, b""),
        ({"arrays": [["<f8", [2]]]}, bytes(8)),
        ({"arrays": [["<f8", [1]]]}, bytes(9)),
        ({"arrays": [["<c16", [1]]]}, bytes(16)),
        ({"arrays": 7}, b""),
    ],
)
def test_answers_that_are_no_numbers_are_refused(head, rest):
    head = {"kind": "done", "names": None} | head
    with pytest.raises((Broken, ValueError, TypeError)):
        decode(json.dumps(head).encode() + b"\n" + rest)


@pytest.mark.parametrize("value", [300, -129, 1.5, np.nan])
def test_values_that_do_not_fit_a_c_type_are_refused(library, value):
    types = ("int8*", *TYPES[1:])
    kernel = from_ctypes(library, "good", arguments=types, out="int32*")
    with kernel, pytest.raises(Broken, match=r"int8 cannot hold"):
        kernel(np.array([value]), 1 << 30, 0, 0, -128, 127)


def test_an_output_file_of_a_terabyte_is_refused_before_it_is_read():
    program = "import sys; open(sys.argv[2], 'wb').truncate(2**40)"
    call = from_command([sys.executable, "-c", program], inputs=("q",))
    with pytest.raises(Broken, match=r"outputs.npz has 1099511627776 bytes"):
        call(np.zeros(1))
