"""The command line: ``refqnn demo | train | deploy | evaluate``.

Whatever the library refuses becomes one line on standard error and exit code 2. With
``--json`` standard output is one JSON object and nothing else. Nothing is coloured.
Subpackages load when a command first uses them, so ``--help`` answers at once.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import refqnn

Options = argparse.Namespace
#: a result as plain values, and the same for people
Answer = tuple[dict[str, Any], str]

FAILED, WRONG, INTERRUPTED = 1, 2, 130


def whole_number(text: str) -> int:
    """Return an int of at least 0, which is what seeds a generator."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def count(text: str) -> int:
    """Return an int of at least 1."""
    if whole_number(text) == 0:
        raise argparse.ArgumentTypeError("must be at least 1, got 0")
    return int(text)


SEED = ("--seed", whole_number, 0, "of everything random")
DATA = (
    "--data",
    Path,
    None,
    "folder of IDX or CIFAR binary files; none: the embedded Fashion-MNIST subset",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done; 1: the demo found a claim that does not hold; 2: wrong input; 130: Ctrl-C.

    >>> main(["evaluate", "absent.npz"])
    2
    """
    options = parser().parse_args(argv)
    try:
        found, text = options.command(options)
        print(json.dumps(found) if options.json else text, flush=True)
    except BrokenPipeError:
        return broken_pipe()
    except (ValueError, OSError, OverflowError, MemoryError) as error:
        print(f"refqnn: error: {one_line(error)}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("refqnn: interrupted", file=sys.stderr)
        return INTERRUPTED
    return FAILED if found.get("holds") is False else 0


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks, and never nothing.

    >>> one_line(ValueError("bits must   be an int")), one_line(OSError())
    ('bits must be an int', 'OSError')
    """
    return " ".join(str(error).split()) or type(error).__name__


def broken_pipe() -> int:
    """Leave quietly when the reader of standard output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    whole = argparse.ArgumentParser(
        prog="refqnn",
        description="Reference arithmetic of quantized convolutional networks.",
    )
    version = f"refqnn {refqnn.__version__}"
    whole.add_argument("--version", action="version", version=version)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_demo, add_train, add_deploy, add_evaluate):
        add(commands)
    return whole


def add_command(commands: Any, name: str, run: Callable[[Options], Answer]) -> Any:
    """Add a command that says of itself what its function says."""
    lines = (run.__doc__ or "").splitlines()
    command = commands.add_parser(
        name,
        help=lines[0].rstrip("."),
        description=" ".join(line.strip() for line in lines if line.strip()),
    )
    command.set_defaults(command=run)
    command.add_argument(
        "--json", action="store_true", help="answer as one JSON object"
    )
    return command


def add_demo(commands: Any) -> None:
    """Add ``refqnn demo``."""
    add = add_command(commands, "demo", demo).add_argument
    add_options(add, ("--output", Path, Path("runs/demo"), "folder for the results"))
    add_options(add, SEED)
    add("--quick", action="store_true", help="smaller networks, fewer images")


def add_train(commands: Any) -> None:
    """Add ``refqnn train``."""
    add = add_command(commands, "train", train).add_argument
    add("checkpoint", type=Path, help="file to write after every epoch (.npz)")
    add_options(
        add,
        ("--depth", int, 20, "6n + 2"),
        ("--width", float, 1.0, "multiplies the channels 16, 32, 64"),
        ("--weight-bits", int, None, "none: float weights"),
        ("--activation-bits", int, None, "none: float activations"),
        ("--bits", int, None, "sets both"),
        ("--epochs", count, 15, "all, those before a resume included"),
        ("--batch", count, 100, "images in a step"),
        ("--lr", float, 0.1, "highest learning rate; cosine schedule"),
        ("--warmup", float, 0.5, "epochs of linear warm-up"),
        ("--weight-decay", float, 5e-4, "of weights only"),
        SEED,
        ("--metrics", Path, None, "file of JSON lines, one an epoch"),
        DATA,
    )
    add("--resume", action="store_true", help="continue what CHECKPOINT holds")


def add_deploy(commands: Any) -> None:
    """Add ``refqnn deploy``."""
    add = add_command(commands, "deploy", deploy).add_argument
    add("checkpoint", type=Path, help="what refqnn train has written")
    add("output", type=Path, help="file of the integer network (.npz)")
    size = "of the images it will run on (28 28)"
    names = ("H", "W")
    add("--image-size", type=count, nargs=2, default=(28, 28), metavar=names, help=size)
    add_options(add, ("--listing", Path, None, "write the listing to this file, too"))


def add_evaluate(commands: Any) -> None:
    """Add ``refqnn evaluate``."""
    add = add_command(commands, "evaluate", evaluate).add_argument
    add("network", type=Path, help="a checkpoint or an integer network (.npz)")
    sides = ("fast", "definition")
    add("--backend", choices=sides, default="fast", help="which side computes (fast)")
    add_options(add, DATA)


def add_options(add: Any, *options: tuple[str, Callable[[str], Any], Any, str]) -> None:
    """Add options of the form (flag, type, default, help)."""
    for flag, kind, default, text in options:
        shown = text if default is None else f"{text} ({default})"
        add(flag, type=kind, default=default, help=shown)


def demo(options: Options) -> Answer:
    """Train a float and a 4-bit ResNet, deploy to integers, check every claim.

    Writes a figure, the networks, a listing and a report.
    """
    room = importlib.import_module("refqnn.demo")
    report = room.run(
        options.output,
        seed=options.seed,
        settings=room.QUICK if options.quick else room.FULL,
        say=partial(print, file=sys.stderr if options.json else sys.stdout, flush=True),
    )
    return report.as_dict(), f"\n{report}"


def train(options: Options) -> Answer:
    """Train a residual network, in floating point or with low-bit weights and maps.

    Killed at any moment, it goes on from the last epoch with --resume, to the same
    bits, if the other options are the same.
    """
    refuse_surprise(options)
    nn, dataset = refqnn.nn, load_data(options.data)
    training = start(options, dataset)
    if not options.resume:
        training.save(options.checkpoint)  # a folder that refuses does so at once
    records = nn.fit(
        training,
        (dataset.train_images, dataset.train_labels),
        epochs=options.epochs,
        test=(dataset.test_images, dataset.test_labels),
        checkpoint=options.checkpoint,
        metrics=options.metrics,
    )
    found = {"checkpoint": str(options.checkpoint), "epochs": records}
    lines = [
        f"epoch {r['epoch']:3d}   loss {r['train_loss']:.4f}   "
        f"test accuracy {100 * r['test_accuracy']:.2f} %"
        for r in records
    ]
    return found, "\n".join([*lines, f"wrote {options.checkpoint}"])


def refuse_surprise(options: Options) -> None:
    """Raise where a checkpoint would be overwritten, or resumed as another network."""
    there = options.checkpoint.exists()
    if there and not options.resume:
        raise ValueError(
            f"{options.checkpoint} exists: --resume continues it, or name another file"
        )
    if options.resume and not there:
        raise ValueError(f"{options.checkpoint} does not exist: nothing to resume")


def start(options: Options, dataset: Any) -> Any:
    """Return the training that the options ask for, before its first step."""
    nn = refqnn.nn
    preset = nn.Preset(
        options.lr,
        options.warmup,
        options.epochs,
        options.batch,
        momentum=0.9,
        nesterov=True,
        weight_decay=options.weight_decay,
    )
    rng = generator(options.seed)
    network = refqnn.networks.resnet(
        options.depth,
        classes=1
        + max(int(dataset.train_labels.max()), int(dataset.test_labels.max())),
        in_channels=dataset.train_images.shape[1],
        width=options.width,
        weight_bits=either(options.weight_bits, options.bits),
        activation_bits=either(options.activation_bits, options.bits),
        rng=rng,
    )
    if options.resume:
        check_same(nn.checkpoint.load(options.checkpoint).config, network.config)
    steps = nn.steps_per_epoch(len(dataset.train_images), options.batch)
    return nn.Training(
        network,
        preset.optimiser(network),
        preset.schedule(steps),
        rng,
        batch=options.batch,
        augment=partial(refqnn.data.crop_and_flip, padding=2),
        backend=refqnn.fast,
    )


def generator(seed: int) -> Any:
    """Return the random generator of a seed."""
    return importlib.import_module("numpy").random.default_rng(seed)


def either(value: int | None, otherwise: int | None) -> int | None:
    """Return the first that is given.

    >>> either(None, 4), either(0, 4)
    (4, 0)
    """
    return otherwise if value is None else value


def check_same(there: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise where a checkpoint is of another network than the options describe."""
    keys = sorted(there.keys() | asked.keys())
    other = [k for k in keys if there.get(k) != asked.get(k)]
    if other:
        told = ", ".join(f"{k} {there.get(k)}, not {asked.get(k)}" for k in other)
        raise ValueError(f"the checkpoint is of another network: {told}")


def deploy(options: Options) -> Answer:
    """Turn a trained low-bit network into one that computes with integers only.

    Prints a listing, layer by layer: shapes, scales, multipliers, shifts, widths.
    """
    integer = refqnn.deploy.deploy(
        load_network(options.checkpoint), image_size=tuple(options.image_size)
    )
    integer.save(options.output)
    if options.listing is not None:
        options.listing.write_text(f"{integer}\n", encoding="utf-8")
    found = {
        "output": str(options.output),
        "steps": [step.name for step in integer.steps],
        "logit_scale": integer.logit_scale,
    }
    return found, f"{integer}\nwrote {options.output}"


def evaluate(options: Options) -> Answer:
    """Measure the test accuracy of a checkpoint or of an integer network."""
    dataset = load_data(options.data)
    images, labels = dataset.test_images, dataset.test_labels
    backend = refqnn.fast if options.backend == "fast" else refqnn
    kind, network = load_either(options.network)
    if kind == "integers":
        chosen = network.predict(images, backend=backend)
    else:
        chosen = refqnn.nn.predict(network, images, backend=backend).argmax(axis=1)
    accuracy = float((chosen == labels).mean())
    found = {"network": kind, "images": len(images), "test_accuracy": accuracy}
    return found, f"{kind}: {100 * accuracy:.2f} % of {len(images):,} test images"


def load_either(path: Path) -> tuple[str, Any]:
    """Return what a file holds, an integer network or one in floating point."""
    header = str(refqnn.data.read_npz(path).get("json", ""))
    if "refqnn integer network" in header[:100]:
        return "integers", refqnn.deploy.IntegerNetwork.load(path)
    return "checkpoint", load_network(path)


def load_network(path: Path) -> Any:
    """Return the network of a checkpoint."""
    content = refqnn.nn.checkpoint.load(path)
    network = refqnn.networks.build(content.config)
    refqnn.nn.checkpoint.restore(network, content)
    return network


def load_data(folder: Path | None) -> Any:
    """Return the images of a folder, told by its files; without one those embedded."""
    data = refqnn.data
    if folder is None:
        return data.embedded()
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    if (folder / "train.bin").exists():
        parts = (
            data.read_cifar100(folder / name) for name in ("train.bin", "test.bin")
        )
    elif batches := sorted(folder.glob("data_batch_*.bin")):
        parts = (data.read_cifar10(b) for b in (batches, folder / "test_batch.bin"))
    else:
        return data.fashion_mnist(folder)
    return data.Dataset(*next(parts), *next(parts))
