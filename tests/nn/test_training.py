"""The training loop: what it counts, writes, resumes, and refuses."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from refusals import refuses
from tables.networks import pixels, tiny

import refqnn
from refqnn import data
from refqnn.core import Run, named_params
from refqnn.nn import SGD, Training, cosine, evaluate, fit, predict, steps_per_epoch
from refqnn.nn import checkpoint as checkpoints
from refqnn.nn.training import bar, cross_entropy, take_steps
from refqnn.testing.networks import check_same_state, state_of


def toy(seed=1, *, n=40):
    """Return images whose class is where they are bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    images = pixels(rng, n=n) // 8
    for image, label in zip(images, labels, strict=True):
        image[0, 2 * label : 2 * label + 3] += 200
    return images, labels


def start(seed=0, **options):
    """Return a training of a 4-bit ResNet-8 that is about to begin."""
    rng = np.random.default_rng(seed)
    network = tiny(rng, dtype="float32", weight_bits=4, activation_bits=4)
    sgd = SGD(named_params(network), momentum=0.9, nesterov=True, weight_decay=5e-4)
    settings = {"batch": 8, "augment": shift} | options
    return Training(network, sgd, cosine(0.1, steps=100, warmup=4), rng, **settings)


def shift(images, rng):
    return data.crop_and_flip(images, rng, padding=1, flip=False)


def full_state(training):
    velocity = {f"velocity {k}": v for k, v in training.optimiser.velocity.items()}
    return state_of(training.network) | velocity


def test_it_learns_and_keeps_account(tmp_path):
    training, train = start(), toy(n=124)
    metrics = tmp_path / "m.jsonl"
    records = fit(training, train, epochs=6, test=toy(2), metrics=metrics)
    assert [r["epoch"] for r in records] == [1, 2, 3, 4, 5, 6]
    assert [r["steps"] for r in records] == [15, 30, 45, 60, 75, 90]  # 4 left out
    assert records[-1]["train_loss"] < 0.6 * records[0]["train_loss"]
    assert records[-1]["test_accuracy"] > 0.7
    assert records[0]["lr"] == training.schedule(14)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert lines == records
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_records_are_means_over_the_epoch():
    training, (images, labels) = start(augment=None), toy(n=16)
    scores = []
    plain = training.step

    def noted(x, y):
        scores.append(plain(x, y))
        return scores[-1]

    training.step = noted
    (record,) = fit(training, (images, labels), epochs=1)
    losses, accuracies = zip(*scores, strict=True)
    assert len(scores) == 2
    np.testing.assert_allclose(record["train_loss"], np.mean(losses))
    np.testing.assert_allclose(record["train_accuracy"], np.mean(accuracies))


def test_every_image_of_an_epoch_once_and_a_new_order_each_epoch():
    training, (images, labels) = start(augment=None), toy(n=16)
    images[:, 0, 0, 0] = np.arange(16)
    seen = []
    plain = training.step
    training.step = lambda x, y: (seen.append(x[:, 0, 0, 0].tolist()), plain(x, y))[1]
    fit(training, (images, labels), epochs=2)
    first, second = seen[0] + seen[1], seen[2] + seen[3]
    assert sorted(first) == sorted(second) == list(range(16))
    assert first != second
    assert first != sorted(first)


def test_a_step_is_forward_loss_backward_update():
    smoothed = partial(cross_entropy, label_smoothing=0.1)
    training, (images, labels) = start(augment=None, objective=smoothed), toy(n=8)
    twin = start(augment=None)
    score = training.step(images, labels)
    run = Run(training=True)
    logits, cache = twin.network.forward(images, run)
    ops = refqnn.ops
    loss, loss_cache = ops.softmax_cross_entropy(logits, labels, label_smoothing=0.1)
    twin.network.backward(ops.softmax_cross_entropy_backward(1.0, loss_cache), cache)
    twin.optimiser.step(0.1 / 4)
    assert score.loss == loss
    assert score.accuracy == np.mean(logits.argmax(axis=1) == labels)
    check_same_state(full_state(training), full_state(twin))


def test_gradients_of_the_last_step_are_forgotten():
    training, (images, labels) = start(), toy(n=8)
    for param in training.optimiser.params.values():
        param.grad[...] = 1e6
    training.step(images, labels)
    assert all(np.abs(v).max() < 1e3 for v in training.optimiser.velocity.values())


def test_evaluate_and_predict_agree_with_one_big_batch():
    training, (images, labels) = start(), toy()
    fit(training, (images, labels), epochs=1)
    before = state_of(training.network)
    logits, _ = training.network.forward(images, Run())
    parts = predict(training.network, images, batch=16)
    np.testing.assert_allclose(parts, logits, rtol=1e-4, atol=1e-5)
    loss, _ = refqnn.ops.softmax_cross_entropy(logits, labels)
    score = evaluate(training.network, images, labels, batch=16)
    np.testing.assert_allclose(score.loss, loss, rtol=1e-5)
    assert score.accuracy == np.mean(logits.argmax(axis=1) == labels)
    check_same_state(state_of(training.network), before)


@pytest.mark.parametrize("every", [None, 1, 2])
@pytest.mark.parametrize("stop", [1, 2])
def test_resuming_gives_the_same_bits(tmp_path, stop, every):
    whole = start()
    want = fit(whole, toy(), epochs=3, test=toy(2))
    path = tmp_path / "c.npz"
    files = {
        "checkpoint": path,
        "metrics": tmp_path / "m.jsonl",
        "checkpoint_every": every,
    }
    fit(start(), toy(), epochs=stop, test=toy(2), **files)
    resumed = start(seed=99)  # another start, replaced by the checkpoint's state
    got = fit(resumed, toy(), epochs=3, test=toy(2), **files)
    check_same_state(full_state(resumed), full_state(whole))
    assert resumed.rng.bit_generator.state == whole.rng.bit_generator.state
    for a, b in zip(got, want, strict=True):
        assert a | {"time": 0} == b | {"time": 0}


def test_stopping_inside_an_epoch_gives_the_same_bits(tmp_path):
    whole = start()
    want = fit(whole, toy(), epochs=2)
    stopped = start()
    for _ in range(7):
        stopped.next_batch(*toy())
    stopped.save(tmp_path / "c.npz")
    resumed = start(seed=5)
    got = fit(resumed, toy(), epochs=2, checkpoint=tmp_path / "c.npz")
    check_same_state(full_state(resumed), full_state(whole))
    assert got[-1]["train_loss"] == want[-1]["train_loss"]
    assert got[-1]["train_accuracy"] == want[-1]["train_accuracy"]


CHILD = """
import sys, time
from test_training import fit, start, toy
training = start()
plain = training.next_batch
def told(images, labels):
    score = plain(images, labels)
    print(training.steps, flush=True)
    if training.steps == int(sys.argv[3]):
        time.sleep(600)
    return score
training.next_batch = told
fit(training, toy(), epochs=6, test=toy(2), checkpoint=sys.argv[1], checkpoint_every=1,
    metrics=sys.argv[2])
"""


def child(folder, *, last=-1):
    """Start a training that writes a checkpoint a step and hangs in step ``last``."""
    here = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, folder / "c.npz", folder / "m.jsonl", str(last)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{here}:{here.parent}:{here.parents[1]}"},
    )


def test_killed_runs_resume_to_the_same_bits(tmp_path):
    whole = start()
    want = fit(whole, toy(), epochs=6, test=toy(2))
    for steps in (7, 15):
        with child(tmp_path, last=steps + 3) as process:
            for line in process.stdout:
                if int(line) == steps:
                    os.kill(process.pid, signal.SIGKILL)
                    break
            process.stdout.read()
        assert process.returncode == -signal.SIGKILL
        done = checkpoints.load(tmp_path / "c.npz").state["steps"]
        assert steps - 1 <= done < steps + 3
    with child(tmp_path) as process:
        steps, errors = process.communicate()
    assert not errors, errors
    assert steps.split()[-1] == "30"
    finished = start(seed=3)
    finished.resume(tmp_path / "c.npz")
    check_same_state(full_state(finished), full_state(whole))
    lines = [json.loads(s) for s in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [r | {"time": 0} for r in lines] == [r | {"time": 0} for r in want]


def test_a_finished_training_is_left_as_it_is(tmp_path):
    files = {"checkpoint": tmp_path / "c.npz", "metrics": tmp_path / "m.jsonl"}
    records = fit(start(), toy(), epochs=2, **files)
    before = files["checkpoint"].read_bytes()
    assert fit(start(), toy(), epochs=2, **files) == records
    assert files["checkpoint"].read_bytes() == before


def test_metrics_of_an_earlier_training_are_replaced(tmp_path):
    metrics = tmp_path / "m.jsonl"
    fit(start(), toy(), epochs=2, metrics=metrics)
    fit(start(), toy(), epochs=1, metrics=metrics)
    assert len(metrics.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 4}, "written with batch 8, not 4"),
        ({"network": tiny(np.random.default_rng(0), width=0.26)}, "another network"),
    ],
)
def test_checkpoint_of_another_training_is_refused(tmp_path, change, message):
    fit(start(), toy(), epochs=1, checkpoint=tmp_path / "c.npz")
    other = start()
    for name, value in change.items():
        setattr(other, name, value)
    before = state_of(other.network)
    refuses(message, fit, other, toy(), epochs=2, checkpoint=tmp_path / "c.npz")
    check_same_state(state_of(other.network), before)
    assert other.steps == 0


def test_checkpoint_of_another_data_set_is_refused(tmp_path):
    fit(start(), toy(), epochs=1, checkpoint=tmp_path / "c.npz")
    other = start(seed=4)
    before = state_of(other.network)
    with pytest.raises(ValueError, match="40 images, not 48"):
        fit(other, toy(n=48), epochs=2, checkpoint=tmp_path / "c.npz")
    check_same_state(state_of(other.network), before)


def test_checkpoint_without_a_training_is_refused(tmp_path):
    training = start()
    checkpoints.save(tmp_path / "c.npz", checkpoints.of_network(training.network))
    refuses("no training to resume", training.resume, tmp_path / "c.npz")


def test_nothing_to_predict():
    with pytest.raises(ValueError, match="at least one image"):
        predict(start().network, np.zeros((0, 1, 8, 8), np.uint8))


def test_divergence_stops_before_the_checkpoint(tmp_path):
    training = start()
    training.schedule = lambda _: 1e30
    message = "diverged|finite|NaN|inf"
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        fit(training, toy(), epochs=3, checkpoint=tmp_path / "c.npz")
    assert not (tmp_path / "c.npz").exists()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ((8, 8, 8), (8,), r"images must be \(N, C, H, W\): images\(8, 8, 8\)"),
        ((8, 1, 8, 8), (7,), r"disagree on N: images\(8, 1, 8, 8\), labels\(7,\)"),
        ((7, 1, 8, 8), (7,), r"batch must be in \[1, N = 7\], got 8"),
    ],
)
def test_data_that_does_not_fit(images, labels, message):
    train = np.zeros(images, np.uint8), np.zeros(labels, np.int64)
    refuses(message, fit, start(), train, epochs=1)


def test_labels_out_of_range():
    images, labels = toy()
    refuses("labels", fit, start(), (images, labels + 1), epochs=1)


@pytest.mark.parametrize("batch", [0, -1, 11])
def test_steps_per_epoch(batch):
    assert steps_per_epoch(10, 10) == 1
    refuses(r"batch must be in \[1, N = 10\]", steps_per_epoch, 10, batch)


def test_progress_only_where_somebody_watches(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert list(bar(2, 5, None)) == [2, 3, 4]
    assert capsys.readouterr() == ("", "")
    list(bar(2, 5, True))
    assert "5/5" in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    list(bar(0, 2, None))
    assert "2/2" in capsys.readouterr().err
    list(bar(0, 2, False, unit="policy"))
    assert capsys.readouterr() == ("", "")
    list(bar(0, 2, True, unit="policy"))
    assert "policy" in capsys.readouterr().err


def test_a_training_that_is_told_to_stop_has_done_the_step_before(tmp_path):
    training, path = start(), tmp_path / "c.npz"
    asked = []

    def stop():
        asked.append(training.steps)
        return len(asked) == 3

    assert take_steps(training, toy(), until=9, stop=stop, checkpoint=path) == 3
    assert asked == [1, 2, 3]
    again = start()
    again.resume(path)
    assert again.steps == training.steps == 3
    assert take_steps(training, toy(), until=5, stop=lambda: False) == 5
    assert take_steps(training, toy(), until=4, stop=stop) == 5
    assert len(asked) == 3
