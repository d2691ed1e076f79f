"""What a checkpoint must hold to be continued; whatever else is refused, by place."""

import json

import numpy as np
import pytest
from tables.networks import tiny

from refqnn import files
from refqnn.nn import Preset
from refqnn.nn import checkpoint as checkpoints
from refqnn.testing.networks import check_same_state, state_of

X = np.random.default_rng(1).integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)
Y = np.array([0, 1, 2, 0])


def begin():
    preset = Preset(0.1, 0.0, 2, 2, momentum=0.9, nesterov=True, weight_decay=0.0)
    network = tiny(np.random.default_rng(0))
    return preset.training(network, len(X), rng=np.random.default_rng(2))


@pytest.fixture
def saved(tmp_path):
    training = begin()
    training.next_batch(X, Y)
    training.save(tmp_path / "a.npz")
    return tmp_path / "a.npz"


def change_state(path, **changes):
    header, arrays = files.read_headed(path, checkpoints.FORMAT)
    header["state"] |= changes
    header["state"] = {k: v for k, v in header["state"].items() if v != "left out"}
    files.write_npz(path, arrays, header)


def change_arrays(path, **changes):
    header, arrays = files.read_headed(path, checkpoints.FORMAT)
    files.write_npz(path, arrays | changes, header)


def refuse(path, message):
    """Resume; nothing of the training has changed when it is refused."""
    training = begin()
    before, rng = state_of(training.network), training.rng.bit_generator.state
    with pytest.raises(ValueError, match=message) as info:
        training.resume(path, images=len(X))
    assert "a.npz" in str(info.value) or "another network" in message
    check_same_state(state_of(training.network), before)
    assert training.rng.bit_generator.state == rng
    assert (training.steps, training.order) == (0, None)


def test_it_goes_on(saved):
    training = begin()
    training.resume(saved, images=len(X))
    assert training.steps == 1
    training.next_batch(X, Y)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": [1]}, r"its state: Expected `int`, got `array` - at `\$.steps`"),
        ({"steps": -1}, r"its state: Expected `int` >= 0"),
        ({"steps": True}, "Expected `int`, got `bool`"),
        ({"sums": [0.5]}, r"its state: Expected `array` of length 2"),
        ({"sums": "left out"}, "missing required field `sums`"),
        ({"batch": "2"}, "Expected `int`, got `str`"),
        ({"batch": 3}, "was written with batch 3, not 2"),
        ({"rng": None}, "Expected `object`, got `null`"),
        ({"rng": {}}, "no state of a generator"),
        ({"rng": {"bit_generator": "PCG64", "state": {}}}, "no state of a generator"),
        ({"rng": {"bit_generator": "MT19937"}}, "no state of a generator"),
        ({"steps": "left out"}, "holds a network, but no training to resume"),
    ],
)
def test_states_of_another_kind_are_refused(saved, changes, message):
    change_state(saved, **changes)
    refuse(saved, message)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("velocity/layers.stem.w", lambda a: a[:1], "velocity/layers.stem.w: does not"),
        ("velocity/layers.stem.w", lambda a: a.astype(int), "does not fit its param"),
        ("velocity/another", lambda _: np.ones(1), "velocity/another: does not fit"),
        ("progress/order", lambda a: a[:-1], "progress/order: no permutation|3 images"),
        ("progress/order", lambda a: a * 0, "progress/order: no permutation"),
        ("progress/order", lambda a: a[None], "progress/order: no permutation"),
        ("progress/order", lambda a: a.astype(float), "float64, no indices"),
        ("progress/order", lambda _: np.arange(5), "was written with 5 images, not 4"),
        ("param/layers.stem.w", lambda a: a.astype("U9"), "another network"),
        ("param/layers.stem.w", lambda a: a.astype(int), "another network"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved, name, change, message):
    arrays = files.read_npz(saved)
    change_arrays(saved, **{name: change(arrays.get(name))})
    refuse(saved, message)


@pytest.mark.parametrize("field", ["config", "state"])
@pytest.mark.parametrize("value", [None, 3, [], "left out"])
def test_headers_of_another_kind_are_refused(saved, field, value):
    arrays = files.read_npz(saved)
    header = json.loads(str(arrays.pop("json"))) | {field: value}
    header = {k: v for k, v in header.items() if v != "left out"}
    files.write_npz(saved, arrays, header)
    with pytest.raises(files.Unreadable, match=r"a\.npz, its header: .*"):
        checkpoints.load(saved)


def test_counts_below_zero_are_refused(rng):
    network = tiny(rng, activation_bits=4)
    content = checkpoints.of_network(network)
    counts = [n for n, b in content.buffers.items() if b.dtype.kind == "i"]
    assert counts
    content.buffers[counts[0]] = np.array(-1)
    with pytest.raises(ValueError, match="counts, and is below 0"):
        checkpoints.restore(network, content)
