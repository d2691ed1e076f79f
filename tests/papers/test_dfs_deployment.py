"""DFS as steps: equal to ``execute``, traced, counted, saved, bisected, refused."""

from dataclasses import replace

import numpy as np
import pytest
from papers.test_dfs import calibrated, tiny
from tables.networks import pixels

from refqnn import conformance, fast
from refqnn.deploy import IntegerNetwork, deploy, to_onnx, to_tflite
from refqnn.deploy.formats.fields import check_steps
from refqnn.deploy.gated import CodedStep, GatedStep
from refqnn.deploy.steps import with_branches
from refqnn.papers import dfs
from refqnn.papers.skipnet import skipnet

SIZE = (8, 8)


@pytest.fixture
def network(rng):
    """Return gates without habits: every option is taken by some image."""
    network = tiny(rng, depth=14, dtype="float32")
    network.split_statistics()
    calibrated(network, pixels(rng))
    for linear in (network.gates.projection, *network.gates.embeddings):
        linear.w.value = rng.normal(0, 9, linear.w.value.shape).astype(np.float32)
    return network


@pytest.fixture
def images(rng):
    """Return images from black to as bright as can be: gates tell them apart."""
    made = rng.integers(0, 256, (12, 1, *SIZE)) * np.arange(12)[:, None, None, None]
    return (made // 11).astype(np.uint8)


def decisions_of(network, values):
    return np.stack([values[f"gates.{i}"] for i in range(1, network.gated + 1)], 1)


def test_the_steps_are_execute_bit_for_bit(network, images):
    steps, done = deploy(network, image_size=SIZE), dfs.execute(network, images)
    values = steps.trace(images)
    np.testing.assert_array_equal(decisions_of(network, values), done.decisions)
    assert set(np.unique(done.decisions)) == {0, 1, 2, 3}
    for backend in (None, fast):
        got = steps.forward(images, *([backend] if backend else []))
        np.testing.assert_array_equal(got, done.logits, strict=True)
    np.testing.assert_array_equal(
        steps.predict(images), done.logits.argmax(1), strict=True
    )


def test_decisions_without_a_branch_are_refused(network, images):
    steps = deploy(network, image_size=SIZE).steps
    cut = tuple(
        replace(s, options=s.options[:-1], branches=s.branches[:-1])
        if isinstance(s, GatedStep)
        else s
        for s in steps
    )
    with pytest.raises(ValueError, match=r"blocks.\d+ has no branch for one of \[.*3"):
        IntegerNetwork(cut).forward(images)


def test_a_trace_has_rows_of_what_ran_alone(network, images):
    steps = deploy(network, image_size=SIZE)
    trace = conformance.trace(steps, images)
    taken = decisions_of(network, trace.tensors)
    for i in range(1, network.gated + 1):
        for k, bits in enumerate(network.options):
            rows = np.flatnonzero(taken[:, i - 1] == k)
            name = f"blocks.{i}.{bits}"
            block, gate = trace.manifest[name]["inputs"]
            assert gate == f"gates.{i}"
            given = trace.tensors[block][rows]
            np.testing.assert_array_equal(trace.tensors[name], given)
            end = trace.manifest[f"blocks.{i}"]["inputs"][2 + k]
            joined = trace.tensors[f"blocks.{i}"][rows]
            np.testing.assert_array_equal(trace.tensors[end], joined)
            if bits == dfs.SKIP:
                assert f"{name}.conv1" not in trace.tensors
            else:
                assert len(trace.tensors[f"{name}.conv1"]) == len(rows)
    assert list(trace.manifest) == list(trace.tensors)
    coded = [step for step in with_branches(steps.steps) if isinstance(step, CodedStep)]
    assert coded
    for step in coded:
        np.testing.assert_array_equal(trace.constants[f"{step.name}.w"], step.w)


def test_multiply_adds_are_those_of_the_ledger(network, images):
    steps, done = deploy(network, image_size=SIZE), dfs.execute(network, images)
    spent = steps.multiply_adds(steps.trace(images))
    for i, block in enumerate(network.blocks[1:], 1):
        executed = done.ledger.of(block.convolutions())
        for bits in network.options[1:]:
            names = (f"blocks.{i}.{bits}.conv{k}" for k in "12")
            assert sum(map(spent.__getitem__, names)) == executed.get(bits, 0)
        gate = sum(n for name, n in spent.items() if name.startswith(f"gates.{i}."))
        products = network.gates.macs(i - 1) - 3 * 10  # the LSTM's, element by element
        assert gate == len(images) * products


def test_a_file_of_it_runs_and_lists_its_options(network, images, tmp_path):
    steps = deploy(network, image_size=SIZE)
    steps.save(tmp_path / "gated.npz")
    again = IntegerNetwork.load(tmp_path / "gated.npz")
    np.testing.assert_array_equal(again.forward(images), steps.forward(images))
    assert str(again) == str(steps)
    assert "one of (0, 8, 16, 32) bits (blocks.1, gates.2)" in str(again)


def test_a_wrong_branch_and_a_wrong_decision_are_bisected(network, images):
    steps = deploy(network, image_size=SIZE)
    reference = conformance.trace(steps, images)
    ran = [s for s in reference.tensors if s.endswith(".8.conv2.accumulator")]
    name = next(s for s in ran if len(reference.tensors[s])).rpartition(".")[0]
    wrong = planted(steps, name, lambda s: replace(s, w=255 - s.w))
    first = conformance.bisect(reference, conformance.trace(wrong, images)).first
    assert first.name == f"{name}.accumulator"
    assert list(first.inputs) == [f"{name}.codes"]
    wrong = planted(
        steps,
        "gates.3.logits",
        lambda s: replace(s, constants=(-s.constants[0], s.constants[1])),
    )
    first = conformance.bisect(reference, conformance.trace(wrong, images)).first
    assert first.layer == "gates.3.logits"


def planted(network, name, change):
    """Return the network with one step changed, in a branch or not."""

    def changed(step):
        if isinstance(step, GatedStep):
            return replace(
                step, branches=tuple(tuple(map(changed, b)) for b in step.branches)
            )
        return change(step) if step.name == name else step

    return IntegerNetwork(tuple(map(changed, network.steps)))


def test_skipnet_is_one(rng, images):
    network = skipnet(8, width=0.13, classes=3, rng=rng)
    calibrated(network, pixels(rng))
    done = dfs.execute(network, images)
    steps = deploy(network, image_size=SIZE)
    values = steps.trace(images)
    np.testing.assert_array_equal(decisions_of(network, values), done.decisions)
    np.testing.assert_array_equal(values["classifier"], done.logits)


def test_what_has_no_steps_is_refused_by_name(network, rng):
    steps = deploy(network, image_size=SIZE)
    with pytest.raises(ValueError, match="pixels: networks with gates have no form"):
        to_onnx(steps)
    with pytest.raises(ValueError, match="pixels: FloatStep has no operator of TFLite"):
        to_tflite(steps)
    ways = skipnet(8, width=0.13, gate="FFGate-I", rng=rng)
    with pytest.raises(ValueError, match="gates of FeedForwardGate have no steps"):
        deploy(ways, image_size=SIZE)
    with pytest.raises(ValueError, match="dtype must be float32, got float64"):
        deploy(tiny(rng), image_size=SIZE)
    with pytest.raises(ValueError, match="the range is unknown"):
        deploy(tiny(rng, dtype="float32"), image_size=SIZE)
    released = calibrated(dfs.released_network(8, width=0.13, rng=rng), pixels(rng))
    with pytest.raises(ValueError, match="integers need true_zero=True"):
        deploy(released, image_size=SIZE)
    noisy = calibrated(tiny(rng, dtype="float32", stochastic=True), pixels(rng))
    with pytest.raises(ValueError, match="rounding that is stochastic has no steps"):
        deploy(noisy, image_size=SIZE)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("stem", {"op": "system"}, "stem has no operation of this version"),
        ("stem", {"sources": ("nothing",)}, "stem cannot be computed: 'nothing'"),
        ("stem", {"shape": (2, 8, 9)}, r"stem.shape is \(2, 8, 9\), computes"),
        ("stem", {"options": {"padding": 10**9}}, "stem: padding goes up to 16"),
        ("stem", {"shape": (2**27,)}, "stem has more than 67108864 values"),
        ("blocks.1.8.conv1", {"padding": 99}, "blocks.1.8.conv1: padding goes up"),
        ("blocks.1.8.conv1", {"bits": 2.5}, "blocks.1.8.conv1.bits must be"),
        ("blocks.1.8.conv1", {"bits": 99}, "blocks.1 cannot be computed: bits"),
        ("blocks.1.8.relu2", {"shape": ()}, r"relu2.shape is \(\), computes"),
    ],
)
def test_files_that_do_not_fit_are_refused(network, name, change, message):
    steps = deploy(network, image_size=SIZE)
    check_steps(steps.steps)
    with pytest.raises(ValueError, match=message):
        check_steps(planted(steps, name, lambda s: replace(s, **change)).steps)
