"""``refqnn train``: a residual network, from its first step or from a checkpoint."""

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refqnn.cli.options import DATA, SEED, Answer, Parser, add_options, count

if TYPE_CHECKING:
    from refqnn.data import Dataset
    from refqnn.nn import Training


def arguments(command: Parser) -> None:
    """Add the options."""
    command.epilog = (
        "Killed at any moment, it goes on from the last epoch with --resume, to the "
        "same bits, if the other options are the same."
    )
    text = "file to write after every epoch (.npz)"
    command.add_argument("checkpoint", type=Path, help=text)
    add_options(
        command,
        ("--depth", int, 20, "6n + 2"),
        ("--width", float, 1.0, "multiplies the channels 16, 32, 64"),
        ("--weight-bits", int, None, "none: float weights"),
        ("--activation-bits", int, None, "none: float activations"),
        ("--bits", int, None, "sets both"),
        ("--method", str, "pareto", "of quantization; own ones with --plugin"),
        ("--epochs", count, 15, "all, those before a resume included"),
        ("--batch", count, 100, "images in a step"),
        ("--lr", float, 0.1, "highest learning rate; cosine schedule"),
        ("--warmup", float, 0.5, "epochs of linear warm-up"),
        ("--weight-decay", float, 5e-4, "of weights only"),
        SEED,
        ("--metrics", Path, None, "file of JSON lines, one an epoch"),
        DATA,
    )
    text = "continue what CHECKPOINT holds"
    command.add_argument("--resume", action="store_true", help=text)


def run(options: Namespace) -> Answer:
    """Train; the checkpoint is written before the first step, then after each epoch."""
    from refqnn.cli.inputs import load_data
    from refqnn.files import check_writable, lock
    from refqnn.nn import fit

    refuse_surprise(options)
    check_writable(options.checkpoint, options.metrics)
    dataset = load_data(options.data)
    training = training_of(options, dataset)
    if not options.resume:
        with lock(options.checkpoint):
            refuse_surprise(options)  # of another process, meanwhile
            training.save(options.checkpoint)
    records = fit(
        training,
        (dataset.train_images, dataset.train_labels),
        epochs=options.epochs,
        test=(dataset.test_images, dataset.test_labels),
        checkpoint=options.checkpoint,
        metrics=options.metrics,
    )
    lines = [
        f"epoch {r['epoch']:3d}   loss {r['train_loss']:.4f}   "
        f"test accuracy {100 * r['test_accuracy']:.2f} %"
        for r in records
    ]
    text = "\n".join([*lines, f"wrote {options.checkpoint}"])
    return {"checkpoint": str(options.checkpoint), "epochs": records}, text


def refuse_surprise(options: Namespace) -> None:
    """Raise where a checkpoint would be overwritten, or there is none to resume."""
    from refqnn.files import Absent

    there = options.checkpoint.exists()
    if there and not options.resume:
        raise ValueError(
            f"{options.checkpoint} exists: --resume continues it, or name another file"
        )
    if options.resume and not there:
        raise Absent(f"{options.checkpoint} does not exist: nothing to resume")


def training_of(options: Namespace, dataset: "Dataset") -> "Training":
    """Return the training of the options, before its first step."""
    import numpy as np

    import refqnn.fast
    from refqnn.data import crop_and_flip
    from refqnn.networks import resnet
    from refqnn.nn import Preset, checkpoint

    preset = Preset(
        options.lr,
        options.warmup,
        options.epochs,
        options.batch,
        momentum=0.9,
        nesterov=True,
        weight_decay=options.weight_decay,
    )
    rng = np.random.default_rng(options.seed)
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    network = resnet(
        options.depth,
        classes=1 + int(labels.max()),
        in_channels=dataset.train_images.shape[1],
        width=options.width,
        weight_bits=first_given(options.weight_bits, options.bits),
        activation_bits=first_given(options.activation_bits, options.bits),
        method=options.method,
        rng=rng,
    )
    if options.resume:
        asked = checkpoint.of_network(network).config
        check_same(checkpoint.load(options.checkpoint).config, asked)
    return preset.training(
        network,
        len(dataset.train_images),
        rng=rng,
        augment=partial(crop_and_flip, padding=2),
        backend=refqnn.fast,
    )


def first_given(value: int | None, otherwise: int | None) -> int | None:
    """Return ``value``, or ``otherwise`` for None.

    >>> first_given(None, 4), first_given(0, 4)
    (4, 0)
    """
    return otherwise if value is None else value


def check_same(there: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise where a checkpoint is of another network than the options describe."""
    keys = sorted(there.keys() | asked.keys())
    other = [k for k in keys if there.get(k) != asked.get(k)]
    if other:
        listed = ", ".join(f"{k} {there.get(k)}, not {asked.get(k)}" for k in other)
        raise ValueError(f"the checkpoint is of another network: {listed}")
