"""The training loop: one seed, the same bits, also after a kill.

The state of a training is its parameters, buffers and velocities, the number of steps
done, the order of the current epoch, and the state of the generator. Everything random
(the order, augmentation, quantizers) draws from that one generator.
"""

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, final

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

import refqnn
from refqnn._types import Array, Float, Int
from refqnn.core import Run, zero_grads
from refqnn.files import decode, lock, read_lines, write_lines
from refqnn.nn import checkpoint as checkpoints
from refqnn.nn.optim import Optimiser
from refqnn.nn.resuming import resumable
from refqnn.nn.schedules import Schedule

Augment = Callable[[Array, np.random.Generator], Array]
#: (network, images, labels, run) -> (loss, logits); adds the gradients of the loss
Objective = Callable[[Any, Array, Int, Run], tuple[float, Float]]


class Score(NamedTuple):
    """Mean loss, and the share of images whose largest logit is their label."""

    loss: float
    accuracy: float


Part = TypeVar("Part")


def in_batches(
    forward: Callable[[Array], Part], images: Array, *, batch: int = 250
) -> list[Part]:
    """List ``forward(x)`` for ``batch`` images at a time, BLAS on one thread.

    images: (N, C, H, W), x: (B, C, H, W)
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(
            f"images must be (N, C, H, W) with at least one image: images{images.shape}"
        )
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    with threadpool_limits(1, user_api="blas"):
        return [forward(images[i : i + batch]) for i in range(0, len(images), batch)]


def predict(
    network: Any, images: Array, *, batch: int = 250, backend: Any = refqnn
) -> Float:
    """Compute logits in eval mode.

    images: (N, C, H, W)  ->  logits: (N, K)
    """
    run = Run(backend=backend)
    parts = in_batches(lambda x: network.forward(x, run)[0], images, batch=batch)
    return np.concatenate(parts)


def accuracy(logits: Float, labels: Int) -> float:
    """Share of images whose largest logit is their label.

    logits: (N, K), labels: (N,)  ->  in [0, 1]

    >>> accuracy(np.array([[0.0, 2.0], [0.0, 1.0]]), np.array([1, 0]))
    0.5
    """
    return float(np.mean(logits.argmax(axis=1) == labels))


def evaluate(
    network: Any, images: Array, labels: Int, *, batch: int = 250, backend: Any = refqnn
) -> Score:
    """Measure mean cross-entropy and accuracy in eval mode.

    images: (N, C, H, W), labels: (N,)  ->  loss: (), accuracy: () in [0, 1]
    """
    images, labels = check_images(images, labels)
    logits = predict(network, images, batch=batch, backend=backend)
    loss, _ = backend.ops.softmax_cross_entropy(logits, labels)
    return Score(float(loss), accuracy(logits, labels))


def loss_and_gradient(
    logits: Float, labels: Int, run: Run, *, label_smoothing: float = 0.0
) -> tuple[float, Float | None]:
    """CE and dCE / dlogits; None for a loss that is not finite.

    logits: (B, K), labels: (B,)  ->  loss: (), dlogits: (B, K)
    """
    ops = run.backend.ops
    loss, cache = ops.softmax_cross_entropy(
        logits, labels, label_smoothing=label_smoothing
    )
    if not np.isfinite(loss):
        return float(loss), None
    return float(loss), ops.softmax_cross_entropy_backward(1.0, cache)


def cross_entropy(
    network: Any,
    images: Array,
    labels: Int,
    run: Run,
    *,
    label_smoothing: float = 0.0,
    **options: Any,
) -> tuple[float, Float]:
    """Compute the mean loss and the logits of a batch, and add up the gradients.

    images: (B, C, H, W), labels: (B,)  ->  loss: (), logits: (B, K)

    ``options`` are those of the network's forward.
    """
    logits, cache = network.forward(images, run, **options)
    loss, dlogits = loss_and_gradient(
        logits, labels, run, label_smoothing=label_smoothing
    )
    if dlogits is not None:
        network.backward(dlogits, cache)
    return loss, logits


class Record(msgspec.Struct):
    """The field that every line of a file of metrics must hold: the steps taken."""

    steps: int


@final
@dataclass(eq=False)
class Training:
    """A training in progress: make one, then ``fit`` it.

    ``objective`` is what is minimised. ``order`` is the permutation of the current
    epoch, ``sums`` the loss and the number of right answers of its batches so far. The
    incomplete last batch of an epoch is left out; the next shuffle brings its images
    back.
    """

    network: Any
    optimiser: Optimiser
    schedule: Schedule
    rng: np.random.Generator
    batch: int = 128
    augment: Augment | None = None
    objective: Objective = cross_entropy
    backend: Any = refqnn
    steps: int = 0
    order: Int | None = None
    sums: tuple[float, int] = (0.0, 0)

    def step(self, images: Array, labels: Int) -> Score:
        """Take one optimiser step on one batch.

        images: (B, C, H, W), labels: (B,)  ->  loss: (), accuracy: ()
        """
        if self.augment is not None:
            images = self.augment(images, self.rng)
        run = Run(training=True, rng=self.rng, backend=self.backend)
        zero_grads(self.network)
        loss, logits = self.objective(self.network, images, labels, run)
        if not np.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} at step {self.steps}: training diverged"
            )
        self.optimiser.step(self.schedule(self.steps))
        self.steps += 1
        return Score(float(loss), accuracy(logits, labels))

    def next_batch(self, images: Array, labels: Int) -> Score:
        """Take a step on the batch whose turn it is, shuffling first in a new epoch."""
        batches = len(images) // self.batch
        i = self.steps % batches
        if i == 0 or self.order is None:
            self.order, self.sums = self.rng.permutation(len(images)), (0.0, 0)
        chosen = self.order[i * self.batch : (i + 1) * self.batch]
        score = self.step(images[chosen], labels[chosen])
        right = round(score.accuracy * self.batch)
        self.sums = self.sums[0] + score.loss, self.sums[1] + right
        return score

    def save(self, path: str | Path) -> None:
        """Write everything that ``resume`` needs to continue to the same bits."""
        content = checkpoints.of_network(self.network)
        content.velocity = dict(self.optimiser.velocity)
        if self.order is not None:
            content.progress = {"order": self.order}
        content.state = {
            "steps": self.steps,
            "sums": self.sums,
            "batch": self.batch,
            "rng": self.rng.bit_generator.state,
        }
        checkpoints.save(path, content)

    def resume(self, path: str | Path, *, images: int | None = None) -> None:
        """Continue where the training that wrote ``path`` was.

        Raises ValueError for a checkpoint of another network, another batch size or
        another number of images, and for one that holds no training; nothing changes.
        """
        content = checkpoints.load(path)
        state = resumable(content, self.batch, images, path)
        before = self.rng.bit_generator.state
        checkpoints.restore_generator(self.rng, state.rng, str(path))
        try:
            checkpoints.restore(self.network, content)
        except ValueError:
            self.rng.bit_generator.state = before
            raise
        self.optimiser.velocity = dict(content.velocity)
        self.steps, self.sums = state.steps, state.sums
        self.order = content.progress.get("order")


def take_steps(
    training: Training,
    train: tuple[Array, Int],
    *,
    until: int,
    stop: Callable[[], bool] | None = None,
    after_step: Callable[[Training], None] | None = None,
    checkpoint: str | Path | None = None,
    save_every: tuple[int | None, ...] = (),
    progress: bool | None = None,
) -> int:
    """Train until ``until`` steps are done or ``stop()``; return the steps done.

    train: (images (N, C, H, W), labels (N,))

    After every step come ``after_step(training)``, then ``stop()``. A ``checkpoint`` is
    written at the end and at every multiple of a number in ``save_every``; one that
    exists is for the caller to resume. BLAS runs on one thread.
    """
    if training.steps >= until:
        return training.steps
    images, labels = check_images(*train)
    steps_per_epoch(len(images), training.batch)
    every = [number for number in save_every if number is not None]
    with threadpool_limits(1, user_api="blas"):
        for _ in bar(training.steps, until, progress):
            training.next_batch(images, labels)
            if after_step is not None:
                after_step(training)
            ended = training.steps == until or (stop is not None and stop())
            if checkpoint is not None and (
                ended or any(training.steps % number == 0 for number in every)
            ):
                training.save(checkpoint)
            if ended:
                break
    return training.steps


def fit(
    training: Training,
    train: tuple[Array, Int],
    *,
    epochs: int,
    test: tuple[Array, Int] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    metrics: str | Path | None = None,
    progress: bool | None = None,
    after_step: Callable[[Training], None] | None = None,
) -> list[dict[str, Any]]:
    """Train until ``epochs`` are done; return one record of metrics per epoch.

    An existing ``checkpoint`` is resumed; while another process trains it, this one
    waits (``files.lock``). It is written after every epoch, and every
    ``checkpoint_every`` steps. ``metrics`` is a file of JSON lines, one per epoch.
    ``progress=None`` shows a bar only where standard error is a terminal.
    ``after_step(training)`` is called after every step, to watch.

    train, test: (images (N, C, H, W), labels (N,))
    """
    images, _ = check_images(*train)
    per_epoch = steps_per_epoch(len(images), training.batch)
    records: list[dict[str, Any]] = []

    def end_epoch(training: Training) -> None:
        if after_step is not None:
            after_step(training)
        if training.steps % per_epoch == 0:
            records.append(record(training, per_epoch, test))
            if metrics is not None:
                write_lines(metrics, records)

    with lock(checkpoint):
        if checkpoint is not None and Path(checkpoint).exists():
            training.resume(checkpoint, images=len(images))
        records += earlier_records(metrics, training.steps)
        take_steps(
            training,
            train,
            until=per_epoch * epochs,
            after_step=end_epoch,
            checkpoint=checkpoint,
            save_every=(per_epoch, checkpoint_every),
            progress=progress,
        )
    return records


def steps_per_epoch(images: int, batch: int) -> int:
    """Count the whole batches in a number of images.

    >>> steps_per_epoch(4000, 128)
    31
    """
    if not 1 <= batch <= images:
        raise ValueError(f"batch must be in [1, N = {images}], got {batch}")
    return images // batch


def record(
    training: Training, per_epoch: int, test: tuple[Array, Int] | None
) -> dict[str, Any]:
    """Measure the epoch that has just ended: losses, accuracies, rate, time."""
    loss, right = training.sums
    metrics = {
        "epoch": training.steps // per_epoch,
        "steps": training.steps,
        "lr": training.schedule(training.steps - 1),
        "train_loss": loss / per_epoch,
        "train_accuracy": right / (per_epoch * training.batch),
    }
    if test is not None:
        score = evaluate(training.network, *test, backend=training.backend)
        metrics |= {"test_loss": score.loss, "test_accuracy": score.accuracy}
    return metrics | {"time": time.time()}


def earlier_records(path: str | Path | None, steps: int) -> list[dict[str, Any]]:
    """Read the records of a metrics file up to ``steps``: those of a resumed run."""
    if path is None or not Path(path).exists() or steps == 0:
        return []
    lines = read_lines(path)
    for number, line in enumerate(lines, start=1):
        decode(line, Record, f"{path}, record {number}")
    return [line for line in lines if line["steps"] <= steps]


def bar(
    done: int, total: int, progress: bool | None, *, unit: str = "step"
) -> Iterable[int]:
    """Count on a progress bar; silent when asked, or when nobody is watching."""
    shown = sys.stderr.isatty() if progress is None else progress
    return tqdm(
        range(done, total), initial=done, total=total, unit=unit, disable=not shown
    )


def check_images(images: Array, labels: Int) -> tuple[Array, Int]:
    """Give both as arrays; raise a ValueError where they do not fit together."""
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4:
        raise ValueError(f"images must be (N, C, H, W): images{images.shape}")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"images (N, C, H, W) and labels (N,) disagree on N: "
            f"images{images.shape}, labels{labels.shape}"
        )
    return images, labels
