"""Training in stages: what is carried over, kept in the folder, resumed, refused."""

import json

import numpy as np
import pytest
from tables.networks import tiny, toy

from refqnn import data
from refqnn.core import named_params
from refqnn.nn import SGD, Training, carry_over, cosine, fit, fit_stages
from refqnn.nn import checkpoint as checkpoints
from refqnn.testing.networks import check_same_state, state_of

STEPS = 3  # an epoch
BITS = {"a": None, "b": 4, "c": 2}


def shift(images, rng):
    return data.crop_and_flip(images, rng, padding=1)


def begin(network, rng, epochs):
    sgd = SGD(named_params(network), momentum=0.9)
    schedule = cosine(0.05, steps=epochs * STEPS)
    return Training(network, sgd, schedule, rng, batch=8, augment=shift)


def builder(bits, method="dorefa", **options):
    options |= {"weight_bits": bits, "activation_bits": bits, "method": method}
    return lambda rng: tiny(rng, dtype="float32", **options)


def stages(names="abc", **options):
    return [(name, builder(BITS[name], **options)) for name in names]


def states(ended):
    return {
        f"{name} {key}": value
        for name, network, _ in ended
        for key, value in state_of(network).items()
    }


def untimed(ended):
    return [[r | {"time": 0} for r in stage.records] for stage in ended]


def test_every_stage_starts_from_the_one_before():
    ended = fit_stages(stages(), begin, toy(), epochs=2, seed=5, test=toy(2))
    assert [stage.name for stage in ended] == ["a", "b", "c"]
    assert [[r["epoch"] for r in stage.records] for stage in ended] == [[1, 2]] * 3
    before = None
    for i, (name, build) in enumerate(stages()):
        rng = np.random.default_rng([5, i])
        network = build(rng)
        if before is not None:
            assert carry_over(before, network) == []
        fit(begin(network, rng, 2), toy(), epochs=2)
        check_same_state(state_of(ended[i].network), state_of(network))
        assert ended[i].network.config["weight_bits"] == BITS[name]
        before = network


def test_quantizer_parameters_are_carried_over():
    four, two = stages("bc", method="lsq")
    seen = {}

    def noted(network, stage_rng, epochs):
        seen[network.config["weight_bits"]] = state_of(network)
        return begin(network, stage_rng, epochs)

    (first, _) = fit_stages([four, two], noted, toy(), epochs=1)
    steps = [n for n, p in named_params(first.network).items() if p.group[0] == "q"]
    assert steps
    for name in steps:
        value = named_params(first.network)[name].value
        np.testing.assert_array_equal(seen[2][f"param {name}"], value)
    assert not np.array_equal(
        seen[4][f"param {steps[0]}"], seen[2][f"param {steps[0]}"]
    )


def test_a_source_is_where_the_first_stage_starts(rng):
    source = builder(None)(rng)
    seen = []

    def noted(network, stage_rng, epochs):
        seen.append(state_of(network))
        return begin(network, stage_rng, epochs)

    fit_stages(stages("b"), noted, toy(), epochs=1, source=source)
    check_same_state(seen[0], state_of(source))


def test_epochs_of_each_stage():
    ended = fit_stages(stages("ab"), begin, toy(), epochs=[2, 1])
    assert [len(stage.records) for stage in ended] == [2, 1]
    assert ended[1].records[-1]["steps"] == STEPS
    with pytest.raises(ValueError, match="one a stage: 3 numbers, 2 stages"):
        fit_stages(stages("ab"), begin, toy(), epochs=[2, 1, 1])


def test_seeds_differ():
    one, other = (
        fit_stages(stages("b"), begin, toy(), epochs=1, seed=seed) for seed in (0, 1)
    )
    with pytest.raises(AssertionError):
        check_same_state(states(one), states(other))


class CutOffError(Exception):
    pass


def cut_after(steps):
    """A ``begin`` whose trainings together take so many steps, then stop."""
    left = [steps]

    def cut(network, rng, epochs):
        training = begin(network, rng, epochs)
        plain = training.next_batch

        def counted(images, labels):
            if not left[0]:
                raise CutOffError
            left[0] -= 1
            return plain(images, labels)

        training.next_batch = counted
        return training

    return cut


@pytest.mark.parametrize("steps", [1, 3, 7, 10, 16])
def test_a_stage_that_is_cut_off_resumes_to_the_same_bits(tmp_path, steps):
    whole = fit_stages(stages(), begin, toy(), epochs=2, test=toy(2))
    files = {"folder": tmp_path / "runs", "checkpoint_every": 2, "test": toy(2)}
    with pytest.raises(CutOffError):
        fit_stages(stages(), cut_after(steps), toy(), epochs=2, **files)
    resumed = fit_stages(stages(), begin, toy(), epochs=2, **files)
    check_same_state(states(resumed), states(whole))
    assert untimed(resumed) == untimed(whole)


def test_checkpoints_within_an_epoch(tmp_path):
    options = {"epochs": 1, "folder": tmp_path, "checkpoint_every": 2}
    with pytest.raises(CutOffError):
        fit_stages(stages("ab"), cut_after(STEPS + 2), toy(), **options)
    steps = [checkpoints.load(tmp_path / f"{x}.npz").state["steps"] for x in "ab"]
    assert steps == [STEPS, 2]


def test_the_folder_holds_a_checkpoint_and_metrics_a_stage(tmp_path):
    options = {"epochs": 1, "folder": tmp_path}
    ended = fit_stages(stages("ab"), begin, toy(), **options)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.jsonl", "a.npz", "b.jsonl", "b.npz", "stages.jsonl"]
    lines = [json.loads(x) for x in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert lines == ended[1].records
    again = fit_stages(stages("ab"), cut_after(0), toy(), **options)
    check_same_state(states(again), states(ended))
    assert [s.records for s in again] == [s.records for s in ended]


def test_stages_may_be_added(tmp_path):
    whole = fit_stages(stages(), begin, toy(), epochs=1)
    fit_stages(stages("ab"), begin, toy(), epochs=1, folder=tmp_path)
    longer = fit_stages(stages(), cut_after(STEPS), toy(), epochs=1, folder=tmp_path)
    check_same_state(states(longer), states(whole))


@pytest.mark.parametrize(
    ("names", "change", "message"),
    [
        ("ab", {"epochs": 2}, "holds the stage .*'epochs': 1.*, not .*'epochs': 2"),
        ("ab", {"seed": 1}, "holds the stage"),
        ("ac", {}, "holds the stage .*'name': 'b'.*, not .*'name': 'c'"),
        ("a", {}, "holds 2 stages, and 1 are asked for"),
    ],
)
def test_a_folder_of_other_stages_is_refused(tmp_path, names, change, message):
    options = {"epochs": 1, "folder": tmp_path}
    fit_stages(stages("ab"), begin, toy(), **options)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        fit_stages(stages(names), begin, toy(), **options | change)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_stage_of_other_bits_under_the_same_name_is_refused(tmp_path):
    fit_stages(stages("b"), begin, toy(), epochs=1, folder=tmp_path)
    with pytest.raises(ValueError, match=r"'weight_bits': 4.*not .*'weight_bits': 2"):
        fit_stages([("b", builder(2))], begin, toy(), epochs=1, folder=tmp_path)


@pytest.mark.parametrize("name", ["", "x/y", "stages"])
def test_names_that_are_no_file_names(name):
    with pytest.raises(ValueError, match="must be a file name"):
        fit_stages([(name, builder(2))], begin, toy(), epochs=1)


def test_a_name_that_stands_twice():
    with pytest.raises(ValueError, match="two stages have the name 'b'"):
        fit_stages(stages("bab"), begin, toy(), epochs=1)


def test_networks_without_a_common_name(rng):
    other = {"x": builder(None)(rng)}
    with pytest.raises(ValueError, match="stage 'b' shares no name"):
        fit_stages(stages("b"), begin, toy(), epochs=1, source=other)


def test_no_stages():
    assert fit_stages([], begin, toy(), epochs=1) == []
