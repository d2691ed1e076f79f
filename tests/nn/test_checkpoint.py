"""Checkpoints: whole or not at all, of this network or refused."""

import json
import os
import pickle

import numpy as np
import pytest
from refusals import refuses
from tables.networks import tiny

from refqnn.nn import checkpoint as checkpoints
from refqnn.testing.networks import check_same_state, state_of


@pytest.fixture
def saved(tmp_path, rng):
    network = tiny(rng)
    path = tmp_path / "a.npz"
    content = checkpoints.of_network(network)
    content.velocity = {"layers.stem.w": np.ones(3)}
    content.progress = {"order": np.arange(4)}
    content.state = {"steps": 7, "rng": np.random.default_rng(1).bit_generator.state}
    checkpoints.save(path, content)
    return network, path


def test_round_trip(saved, rng):
    network, path = saved
    read = checkpoints.load(path)
    assert read.state["steps"] == 7
    assert read.state["rng"] == np.random.default_rng(1).bit_generator.state
    assert read.config == network.config
    np.testing.assert_array_equal(read.velocity["layers.stem.w"], np.ones(3))
    np.testing.assert_array_equal(read.progress["order"], np.arange(4))
    other = tiny(rng)
    checkpoints.restore(other, read)
    check_same_state(state_of(other), state_of(network))


def test_flat_npz_without_pickle(saved):
    _, path = saved
    with np.load(path, allow_pickle=False) as archive:
        assert json.loads(str(archive["json"]))["format"] == checkpoints.FORMAT
        assert "param/layers.stem.w" in archive.files
        assert "buffer/layers.stem_norm.mean" in archive.files
    assert [p.name for p in path.parent.iterdir()] == ["a.npz"]


def test_restored_values_are_not_shared(saved, rng):
    _, path = saved
    read = checkpoints.load(path)
    one, two = tiny(rng), tiny(rng)
    checkpoints.restore(one, read)
    checkpoints.restore(two, read)
    one_w, two_w = (n.layers["stem"].w.value for n in (one, two))
    assert not np.shares_memory(one_w, two_w)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.26}, r"stem.w is \(4, 1, 3, 3\) in the network, \(2, 1, 3, 3\)"),
        ({"classes": 4}, r"classifier.w is \(4, 8\) in the network, \(3, 8\) in"),
        ({"shortcut": "B"}, "shortcut.layers.conv.w is only in the network.* more"),
        ({"activation_bits": 4}, "quant.lo is only in the network"),
    ],
)
def test_another_network_is_refused_and_unchanged(saved, rng, options, message):
    _, path = saved
    other = tiny(rng, **options)
    before = state_of(other)
    with pytest.raises(ValueError, match="another network: .*" + message):
        checkpoints.restore(other, checkpoints.load(path))
    check_same_state(state_of(other), before)


@pytest.mark.parametrize(
    ("extra", "more"), [(1, ""), (3, ""), (4, " and 1 more"), (10, " and 7 more")]
)
def test_three_complaints_are_enough(extra, more, rng):
    content = checkpoints.of_network(tiny(rng))
    content.params |= {f"p{i}": np.ones(1) for i in range(extra)}
    listed = "; ".join(f"p{i} is only in the file" for i in range(min(extra, 3)))
    with pytest.raises(ValueError, match=f"another network: {listed}{more}$"):
        checkpoints.restore(tiny(rng), content)


def test_names_that_only_the_file_has(rng, tmp_path):
    checkpoints.save(
        tmp_path / "b.npz", checkpoints.of_network(tiny(rng, shortcut="B"))
    )
    with pytest.raises(ValueError, match="is only in the file"):
        checkpoints.restore(tiny(rng), checkpoints.load(tmp_path / "b.npz"))


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(saved, part):
    _, path = saved
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    refuses(r"is not an? ", checkpoints.load, path)


def write_header(path, **entries):
    np.savez(path, **entries)
    return path


def test_other_npz_files_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    good = {"format": checkpoints.FORMAT, "config": {}, "state": {}}
    for text in ("", "[]", json.dumps({}), json.dumps({**good, "format": "other"})):
        with pytest.raises(ValueError, match="is not a 'refqnn checkpoint 1'"):
            checkpoints.load(write_header(path, json=np.array(text)))
    refuses("no header", checkpoints.load, write_header(path, x=np.ones(1)))
    header = np.array(json.dumps(good))
    with pytest.raises(ValueError, match="unknown entry 'odd/x'"):
        checkpoints.load(write_header(path, json=header, **{"odd/x": np.ones(1)}))
    path.write_bytes(pickle.dumps(good))
    refuses("pickle", checkpoints.load, path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoints.load(tmp_path / "none.npz")


def test_written_bytes_reach_the_disk_before_the_rename(saved, monkeypatch):
    network, path = saved
    flushed = []
    plain = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (flushed.append(handle), plain(handle))
    )
    checkpoints.save(path, checkpoints.of_network(network))
    assert len(flushed) == 2  # the file, then its directory
