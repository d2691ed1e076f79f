"""Files of a search: every array in its shape, counts and generators as they were."""

import numpy as np
import pytest

from refqnn import files
from refqnn.papers.haq import Layer, Problem, Settings, search
from refqnn.papers.haq.record import FORMAT

LAYERS = tuple(
    Layer(f"layer{i}", 4 + i, 4, 3, 1, 64, n, depthwise=False)
    for i, n in enumerate((30, 200, 60))
)
PROBLEM = Problem(LAYERS, 0.14, 90.0, b_min=2, b_max=8)
SMALL = Settings(hidden=(4, 4), warm_up=1, batch=2)


def run(path, episodes):
    return search(
        PROBLEM,
        lambda _: 50.0,
        episodes=episodes,
        settings=SMALL,
        checkpoint=path,
        progress=False,
    )


@pytest.fixture
def saved(tmp_path):
    run(tmp_path / "h.npz", 2)
    return tmp_path / "h.npz"


def test_it_goes_on(saved):
    assert len(run(saved, 3).policies) == 3


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("trace/policies", lambda a: a[:, :-1], r"evaluations must be \(E, \(3,\)\)"),
        ("trace/policies", lambda a: a[:-1], "differ in number"),
        ("trace/policies", lambda a: a.astype("U3"), "evaluations must be"),
        ("trace/accuracies", lambda _: np.array(1.0), "has one number"),
        ("trace/accuracies", lambda a: a[:, None], "evaluations must be"),
        ("trace/accuracies", lambda a: a + 100, r"accuracy must be in \[0, 100\]"),
        ("counts", lambda a: a - 99, "counts must be at least 0"),
        ("counts", lambda a: a[:-1], "'counts' must be"),
        ("actor/0", lambda a: a[:-1], "'actor/0' must be"),
        ("actor/0", lambda a: a.astype(int), "of kind 'f', is .* of kind 'i'"),
        ("baseline", lambda a: a[None], "'baseline' must be"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved, name, change, message):
    header, arrays = files.read_headed(saved, FORMAT)
    files.write_npz(saved, arrays | {name: change(arrays[name])}, header)
    with pytest.raises(ValueError, match=message):
        run(saved, 3)


@pytest.mark.parametrize("name", ["counts", "trace/policies", "critic_m/0"])
def test_arrays_that_are_missing_are_named(saved, name):
    header, arrays = files.read_headed(saved, FORMAT)
    del arrays[name]
    files.write_npz(saved, arrays, header)
    with pytest.raises(
        files.Unreadable, match=name if "trace" not in name else "has n"
    ):
        run(saved, 3)


@pytest.mark.parametrize("states", [None, [], [{}, {}], [3, 4], [{"state": 1}] * 3])
def test_generators_of_another_kind_are_refused(saved, states):
    header, arrays = files.read_headed(saved, FORMAT)
    files.write_npz(saved, arrays, header | {"generators": states})
    with pytest.raises(files.Unreadable, match="its generators"):
        run(saved, 3)
