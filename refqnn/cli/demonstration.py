"""The whole way on one page: train, quantize, deploy to integers, check, report.

A float residual network is trained on the embedded Fashion-MNIST subset by the compiled
side; a 4-bit one (weights and activations; 8 bits at both ends) starts from what it
learned, is trained on, and becomes a network of integers. Every claim about that
network is checked on the way.
"""

import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from refqnn import fast, plots
from refqnn._types import Array, Float, Int
from refqnn.cli.report import Claim, Report, report_in
from refqnn.conformance import Semantics, diagnose, identify
from refqnn.conformance.choices.families import FAMILIES
from refqnn.core import named_modules
from refqnn.cost import cost
from refqnn.data import FASHION_MNIST_CLASSES, Dataset, crop_and_flip, embedded
from refqnn.deploy import (
    Comparison,
    IntegerNetwork,
    compare_backends,
    compare_float64,
    compare_layers,
    deploy,
)
from refqnn.files import check_folder, digest, lock, write_json, write_text
from refqnn.networks import resnet
from refqnn.nn import Preset, Sequential, fit, predict
from refqnn.nn import checkpoint as checkpoints
from refqnn.nn.transfer import carry_over

SHAPE = (1, 28, 28)
Say = Callable[[str], None]
#: half of the images mirrored; none shifted, because all are centred already
mirror = functools.partial(crop_and_flip, padding=0)


class Settings(NamedTuple):
    """How much the demo does."""

    depth: int
    width: float
    bits: int
    epochs: int  # of the float network
    batch: int
    lr: float
    warmup: float  # epochs of these; the same share of those that follow
    low_epochs: int  # of the quantized network, which starts from the float one
    low_lr: float
    weight_decay: float
    train: int  # images
    test: int
    slice: int  # images on which every layer is compared


FULL = Settings(8, 0.5, 4, 9, 40, 0.1, 1.0, 4, 0.02, 1e-3, 4000, 1000, 64)
QUICK = Settings(8, 0.25, 4, 6, 25, 0.1, 1.0, 3, 0.02, 1e-3, 1000, 200, 16)


def run(
    output: str | os.PathLike[str],
    *,
    seed: int = 0,
    settings: Settings = FULL,
    progress: bool | None = None,
    say: Say = print,
) -> Report:
    """Train, deploy, check; write figure, networks, listing and report to a folder.

    ``say`` is called with each line of progress. Raises ValueError where the folder
    cannot be written. The same demo of another process, which was waited for, is read.
    """
    check_folder(output)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / "report.json") as waited:
        if waited and (report := report_in(folder, kept_as(settings, seed))):
            return report
        return run_alone(folder, seed, settings, progress, say)


def run_alone(
    folder: Path, seed: int, settings: Settings, progress: bool | None, say: Say
) -> Report:
    """Train, deploy, check and write, in a folder that no other process works on."""
    data = embedded().first(settings.train, settings.test)
    low = f"{settings.bits}-bit"
    networks: dict[str, Sequential] = {}
    records = {}
    for name in ("float", low):
        say(f"training the {name} network on {len(data.train_images):,} images")
        kept = folder / f".{name}-{kept_as(settings, seed)}"
        networks[name], records[name] = train(
            data, networks.get("float"), settings, seed, progress, kept
        )
    for record in records[low]:  # drawn behind those that it goes on from
        record["epoch"] += settings.epochs
    say("deploying the quantized network: integers only")
    integer = deploy(networks[low], image_size=SHAPE[1:])
    say(f"comparing every layer on {settings.slice} images")
    claims = check(networks[low], integer, data.test_images[: settings.slice])
    say(f"running all three networks on {len(data.test_images):,} test images")
    logits = all_logits(networks, integer, data.test_images)
    claims += (end_to_end(logits[low], logits["integers"]),)
    columns = compare_networks(networks, logits, data)
    figure = page(records, networks[low], logits, data, columns)
    files = write(folder, networks, integer, figure)
    files = (*files, str(folder / "report.json"))
    judged = diagnosis(np.random.default_rng(seed))
    report = Report(columns, claims, files, judged, kept_as(settings, seed))
    write_json(folder / "report.json", report.as_dict(), indent=2)
    for kept in folder.glob(f".*-{kept_as(settings, seed)}.*"):
        kept.unlink()
    return report


def kept_as(settings: Settings, seed: int) -> str:
    """Name what a demo that is interrupted goes on from: 8 digits of its settings."""
    return digest(json.dumps([settings, seed]))[:8]


def truncating(
    acc: Int, multiplier: int, shift: int, zero_point: int, q_min: int, q_max: int
) -> Int:
    """Requantize as C code that divides: a deliberately different implementation."""
    product = acc.astype(np.int64) * np.int64(multiplier)
    quotient = np.sign(product) * (np.abs(product) >> (31 - shift))
    return np.clip(quotient + zero_point, q_min, q_max)


def diagnosis(rng: np.random.Generator) -> str:
    """Judge an implementation that rounds another way; two lines.

    >>> print(diagnosis(np.random.default_rng(0)).splitlines()[1])
    its rounding is trunc, as ... inputs tell; refqnn rounds half_up
    """
    inputs = FAMILIES["requantize"].draw(rng, 4096)
    diagnosed = diagnose("requantize", inputs, truncating(**inputs))
    asked = identify(truncating, "requantize")
    wrong, total = diagnosed.comparison.mismatches, diagnosed.comparison.total
    rounding, inputs_used = asked.certain["requantize"], asked.inputs
    return (
        f"another requantization: {wrong} of {total} codes differ\n"
        f"its rounding is {rounding}, as {inputs_used} inputs tell; "
        f"refqnn rounds {Semantics().requantize}"
    )


def train(
    data: Dataset,
    start: Sequential | None,
    settings: Settings,
    seed: int,
    progress: bool | None,
    kept: Path,
) -> tuple[Sequential, list[dict[str, Any]]]:
    """Train a float network, or from such a ``start`` a quantized one.

    Returns the network and its metrics, one record an epoch. ``kept`` begins the names
    of files from which an interrupted training goes on.
    """
    rng = np.random.default_rng(seed)
    bits = None if start is None else settings.bits
    network = resnet(
        settings.depth,
        width=settings.width,
        weight_bits=bits,
        activation_bits=bits,
        rng=rng,
    )
    if start is not None:
        carry_over(start, network)
    epochs = settings.epochs if start is None else settings.low_epochs
    preset = Preset(
        settings.lr if start is None else settings.low_lr,
        settings.warmup * epochs / settings.epochs,
        epochs,
        settings.batch,
        momentum=0.9,
        nesterov=True,
        weight_decay=settings.weight_decay,
    )
    count = len(data.train_images)
    training = preset.training(network, count, rng=rng, augment=mirror, backend=fast)
    records = fit(
        training,
        data[:2],
        epochs=preset.epochs,
        test=data[2:],
        checkpoint=kept.with_suffix(".npz"),
        metrics=kept.with_suffix(".jsonl"),
        progress=progress,
    )
    return network, records


def check(
    quantized: Sequential, integer: IntegerNetwork, images: Array
) -> tuple[Claim, ...]:
    """Check that definition and twin agree, and equalities (a) and (b)."""
    layers = compare_layers(quantized, integer, images, fast)
    return (
        equal("definition = twin, bit for bit", compare_backends(integer, images)),
        Claim(
            "(a) float32 = integers but for ties",
            f"{sum(layer.different for layer in layers):,} of "
            f"{sum(layer.codes for layer in layers):,} codes differ, by at most "
            f"{max(layer.largest_difference for layer in layers)}",
            all(layer.holds for layer in layers),
        ),
        equal("(b) float64 = integers, exactly", compare_float64(integer, images)),
    )


def equal(name: str, comparisons: Sequence[Comparison]) -> Claim:
    """Claim that nothing differs."""
    different = sum(c.different for c in comparisons)
    elements = sum(c.elements for c in comparisons)
    text = f"{different:,} of {elements:,} integers in {len(comparisons)} arrays differ"
    return Claim(name, text, different == 0)


def end_to_end(quantized: Float, integers: Float) -> Claim:
    """Report (c): how many decisions are the same.

    quantized, integers: logits (N, K)
    """
    same = int(np.sum(quantized.argmax(axis=1) == integers.argmax(axis=1)))
    text = f"the same class for {same:,} of {len(integers):,} test images"
    return Claim("(c) end to end", text, None)


def all_logits(
    networks: dict[str, Sequential], integer: IntegerNetwork, images: Array
) -> dict[str, Float]:
    """Return the logits of every network: name -> (N, K)."""
    logits = {
        name: predict(network, images, backend=fast)
        for name, network in networks.items()
    }
    parts = [
        integer.logits(images[i : i + 250], fast) for i in range(0, len(images), 250)
    ]
    return logits | {"integers": np.concatenate(parts)}


def compare_networks(
    networks: dict[str, Sequential], logits: dict[str, Float], data: Dataset
) -> dict[str, dict[str, float]]:
    """Return accuracy, size in bits and work of every network.

    The integer network has the size and the work of the quantized one, the last.
    """
    columns = {}
    for name, z in logits.items():
        counted = cost(networks.get(name, list(networks.values())[-1]), SHAPE)
        columns[name] = {
            "accuracy": float(np.mean(z.argmax(axis=1) == data.test_labels)),
            "c_size_bits": counted.c_size_bits,
            "macs": counted.macs,
        }
    return columns


def page(
    records: dict[str, list[dict[str, Any]]],
    quantized: Sequential,
    logits: dict[str, Float],
    data: Dataset,
    columns: dict[str, dict[str, float]],
) -> Figure:
    """Draw the figure."""
    depth = quantized.config["depth"]
    return plots.demo(
        records,
        weight_codes(quantized),
        plots.Decisions(logits["float"], logits["integers"], data.test_labels),
        data.test_images,
        classes=FASHION_MNIST_CLASSES,
        title=f"ResNet-{depth} on Fashion-MNIST, from training to integers",
        summary=summary(columns),
    )


def write(
    folder: Path,
    networks: dict[str, Sequential],
    integer: IntegerNetwork,
    figure: Figure,
) -> tuple[str, ...]:
    """Write the figure, the networks and the listing; return the paths."""
    plots.save(figure, folder / "demo.png")
    write_text(folder / "listing.txt", f"{integer}\n")
    integer.save(folder / "integers.npz")
    for name, network in networks.items():
        checkpoints.save(folder / f"{name}.npz", checkpoints.of_network(network))
    names = ("demo.png", "listing.txt", "integers.npz", *(f"{n}.npz" for n in networks))
    return tuple(str(folder / name) for name in names)


def summary(columns: dict[str, dict[str, float]]) -> str:
    """Return the line under the title of the figure."""
    accuracies = [f"{name} {100 * c['accuracy']:.1f} %" for name, c in columns.items()]
    sizes = [f"{c['c_size_bits'] / 8000:.0f} kB" for c in columns.values()]
    return (
        f"test accuracy: {', '.join(accuracies)};   "
        f"weights: {sizes[0]} of 32 bits, {sizes[-1]} quantized"
    )


def weight_codes(network: Sequential) -> list[plots.LayerCodes]:
    """Return the integer weights of every layer that has them, in running order."""
    layers = []
    for name, module in named_modules(network):
        quant = getattr(module, "weight_quant", None)
        if quant is not None:
            codes = quant.quantize(module.w.value)[0]
            short = name.removeprefix("layers.").replace("_block", ".")
            layers.append(plots.LayerCodes(short, codes, int(quant.grid()[-1])))
    return layers
