"""Archives of arrays: the bytes of NumPy, and nothing believed that they announce."""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from refqnn import files

ARRAYS = {
    "a": np.arange(6).reshape(2, 3),
    "b/c": np.asfortranarray(np.ones((2, 3), np.float32)),
    "scalar": np.array(3, np.int8),
    "empty": np.zeros((0, 4), ">i2"),
    "text": np.array("x"),
    "file": np.array([True]),
}


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def archive(path, members, kind=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", kind) as made:
        for name, content in members:
            made.writestr(name, content)
    return path


def refused(path, message):
    with pytest.raises(files.Unreadable, match=message) as info:
        files.read_npz(path)
    assert str(info.value).startswith(str(path))


def test_round_trip_keeps_values_dtypes_and_order(tmp_path):
    path = tmp_path / "a.npz"
    files.write_npz(path, ARRAYS)
    for read in (files.read_npz(path), files.parse_npz(path.read_bytes(), "a")):
        assert list(read) == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert read[name].dtype == array.dtype
            np.testing.assert_array_equal(read[name], array)
            assert read[name].flags.writeable


def test_the_bytes_are_those_of_numpy(tmp_path):
    arrays = {name: array for name, array in ARRAYS.items() if name != "file"}
    np.savez(tmp_path / "want.npz", **arrays)
    files.write_npz(tmp_path / "got.npz", arrays)
    want, got = ((tmp_path / f"{name}.npz").read_bytes() for name in ("want", "got"))
    assert want == got


def test_objects_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        files.write_npz(tmp_path / "a.npz", {"x": np.array([{}], object)})
    assert not list(tmp_path.iterdir())


def test_headers(tmp_path):
    path = tmp_path / "a.npz"
    files.write_npz(path, {"x": np.ones(2)}, {"format": "mine 1", "n": 3})
    header, arrays = files.read_headed(path, "mine 1")
    assert (header, list(arrays)) == ({"format": "mine 1", "n": 3}, ["x"])
    assert files.read_headed(path, None)[0] == header
    with pytest.raises(files.Unreadable, match="is not a 'other 1', but 'mine 1'"):
        files.read_headed(path, "other 1")
    files.write_npz(path, {"x": np.ones(2)})
    assert files.read_headed(path, None)[0] == {}
    with pytest.raises(files.Unreadable, match="is not a 'mine 1': no header"):
        files.read_headed(path, "mine 1")
    for entry in (np.ones(1), np.array(["{}"]), np.array(1)):
        files.write_npz(path, {"json": entry})
        for form in ("mine 1", None):
            with pytest.raises(files.Unreadable, match="no header, but"):
                files.read_headed(path, form)


class Trap:
    """Unpickling this would touch a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("inside", [False, True])
def test_a_pickle_is_never_read(tmp_path, inside):
    trap = Trap(tmp_path / "sprung")
    path = tmp_path / "a.npz"
    if inside:
        np.savez(path, x=np.array([trap], object))
    else:
        path.write_bytes(pickle.dumps(trap))
    message = "holds objects, a pickle" if inside else "not an npz file but a pickle"
    refused(path, message)
    assert not trap.path.exists()


def test_damaged_npz_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(100))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 1
    for content in (whole[:150], whole[:-30], bytes(flipped), b"", b"PK", b"text"):
        path.write_bytes(content)
        refused(path, "is not a")


def test_members_that_are_no_arrays(tmp_path):
    for content in (b"hello", b"", npy(np.ones(3))[:-1], npy(np.ones(3)) + b"x"):
        path = archive(tmp_path / "a.npz", [("x.npy", content)])
        refused(path, r"x\.npy, (is no array|announces)")


@pytest.mark.parametrize("code", ["c16", "S3", "M8[s]", "V4", "i4,f4", "O"])
def test_kinds_of_numbers_that_nothing_computes_with(tmp_path, code):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(2, code))
    refused(path, r"x\.npy, holds ")


@pytest.mark.parametrize(
    "shape", ["(2**62,)", "(-1,)", "(3, 10**30)", "(0, 10**30)", "'x'", "(" * 9000]
)
def test_shapes_that_are_announced_are_not_believed(tmp_path, shape):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    head = np.lib.format.MAGIC_PREFIX + b"\x01\x00" + struct.pack("<H", len(text))
    for body in (b"", bytes(8)):
        path = archive(tmp_path / "a.npz", [("x.npy", head + text + body)])
        refused(path, r"x\.npy, (announces|is no whole array)")


def test_archives_that_grow_are_refused_before_they_do(tmp_path):
    content = npy(np.zeros(2**27, np.int8))
    path = archive(tmp_path / "a.npz", [("x.npy", content)], zipfile.ZIP_DEFLATED)
    del content
    tracemalloc.start()
    refused(path, "grows to 1342178.. bytes, more than")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_a_stream_that_grows_beyond_its_declared_size(tmp_path):
    content = npy(np.zeros(2**26, np.int8))
    path = archive(tmp_path / "a.npz", [("x.npy", content)], zipfile.ZIP_DEFLATED)
    whole = bytearray(path.read_bytes())
    declared = struct.pack("<I", len(content))
    assert whole.count(declared) == 2  # beside the member, and in the directory
    path.write_bytes(whole.replace(declared, struct.pack("<I", 1000)))
    del content
    tracemalloc.start()
    refused(path, "CRC|announces")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


def test_members_twice_and_other_compressions(tmp_path):
    one = npy(np.ones(1))
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive(tmp_path / "a.npz", [("x.npy", one), ("x.npy", one)])
    refused(path, r"holds 'x\.npy' twice")
    path = archive(tmp_path / "b.npz", [("x.npy", one)], zipfile.ZIP_LZMA)
    refused(path, "is neither stored nor deflated")


def test_a_member_is_checked_to_its_last_byte(tmp_path):
    path = tmp_path / "a.npz"
    files.write_npz(path, {"x": np.arange(3)})
    whole = path.read_bytes()
    start = whole.index(np.arange(3).tobytes())
    for i in (start, start + 23):
        changed = bytearray(whole)
        changed[i] ^= 1
        path.write_bytes(changed)
        refused(path, "Bad CRC-32")


def test_npy_files(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    np.testing.assert_array_equal(files.read_npy(tmp_path / "a.npy"), [0, 1, 2])
    (tmp_path / "b.npy").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(files.Unreadable, match=r"b\.npy is no array"):
        files.read_npy(tmp_path / "b.npy")


def test_the_digest_is_that_of_text_names_dtypes_shapes_and_values():
    want = files.digest("t", {"a": np.int8([1, 2]), "b": np.int8([3])})
    swapped = files.digest("t", {"b": np.int8([3]), "a": np.int8([1, 2])})
    assert want == swapped
    others = [
        files.digest("u", {"a": np.int8([1, 2]), "b": np.int8([3])}),
        files.digest("t", {"a": np.int8([1, 3]), "b": np.int8([3])}),
        files.digest("t", {"a": np.uint8([1, 2]), "b": np.int8([3])}),
        files.digest("t", {"a": np.int8([[1, 2]]), "b": np.int8([3])}),
        files.digest("t", {"a": np.int8([1, 2]), "c": np.int8([3])}),
        files.digest("t", {"a": np.int8([1, 2])}),
    ]
    assert len({want, *others}) == 7
    json_head = files.digest(
        "t", {"a": np.int8([1])}, lambda n, a: json.dumps([n, *a.shape])
    )
    assert json_head != files.digest("t", {"a": np.int8([1])})
