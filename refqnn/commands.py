"""What each command of the command line does.

A command takes the parsed options and returns its answer twice: as plain values for
JSON, and as text for people. It raises ValueError or OSError for wrong input.
"""

import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import refqnn
from refqnn import conformance, data
from refqnn import demo as demonstration
from refqnn import deploy as deployment
from refqnn.conformance.command_line import export_pack
from refqnn.conformance.reach.exports import FORMATS
from refqnn.cost import Cost, count
from refqnn.files import read_headed, write_text
from refqnn.networks import build, image_shape, named, resnet
from refqnn.nn import Preset, Sequential, Training, fit, predict
from refqnn.nn import checkpoint as checkpoints

Answer = tuple[dict[str, Any], str]


def demo(options: Namespace) -> Answer:
    """Train, deploy, check; with --json progress is told on standard error."""
    report = demonstration.run(
        options.output,
        seed=options.seed,
        settings=demonstration.QUICK if options.quick else demonstration.FULL,
        say=partial(print, file=sys.stderr if options.json else sys.stdout, flush=True),
    )
    return report.as_dict(), f"\n{report}"


def train(options: Namespace) -> Answer:
    """Train a network, from its first step or from where a checkpoint was."""
    refuse_surprise(options)
    dataset = load_data(options.data)
    training = start(options, dataset)
    if not options.resume:
        training.save(options.checkpoint)  # a folder that refuses does so at once
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
    there = options.checkpoint.exists()
    if there and not options.resume:
        raise ValueError(
            f"{options.checkpoint} exists: --resume continues it, or name another file"
        )
    if options.resume and not there:
        raise ValueError(f"{options.checkpoint} does not exist: nothing to resume")


def start(options: Namespace, dataset: data.Dataset) -> Training:
    """Return the training that the options ask for, before its first step."""
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
        weight_bits=either(options.weight_bits, options.bits),
        activation_bits=either(options.activation_bits, options.bits),
        rng=rng,
    )
    if options.resume:
        check_same(checkpoints.load(options.checkpoint).config, network.config)
    return preset.training(
        network,
        len(dataset.train_images),
        rng=rng,
        augment=partial(data.crop_and_flip, padding=2),
        backend=refqnn.fast,
    )


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


def deploy(options: Namespace) -> Answer:
    """Write the integer network of a checkpoint, and list it."""
    h, w = options.image_size
    integer = deployment.deploy(
        load_network(options.checkpoint),
        image_size=(h, w),
        finer_bias=not options.onnxruntime,
        requantize="float32_half_even" if options.onnxruntime else "half_up",
    )
    integer.save(options.output)
    if options.listing is not None:
        write_text(options.listing, f"{integer}\n")
    found = {
        "output": str(options.output),
        "steps": [step.name for step in integer.steps],
        "logit_scale": integer.logit_scale,
    }
    return found, f"{integer}\nwrote {options.output}"


def evaluate(options: Namespace) -> Answer:
    """Measure how often a network names the class of a test image."""
    dataset = load_data(options.data)
    images, labels = dataset.test_images, dataset.test_labels
    backend = refqnn.fast if options.backend == "fast" else refqnn
    network = load_either(options.network)
    if isinstance(network, deployment.IntegerNetwork):
        kind, chosen = "integers", network.predict(images, backend=backend)
    else:
        logits = predict(network, images, backend=backend)
        kind, chosen = "checkpoint", logits.argmax(axis=1)
    accuracy = float(np.mean(chosen == labels))
    found = {"network": kind, "images": len(images), "test_accuracy": accuracy}
    return found, f"{kind}: {100 * accuracy:.2f} % of {len(images):,} test images"


def export(options: Namespace) -> Answer:
    """Write an ONNX model, and say which layers may differ; or a pack's vectors."""
    if options.output is None:
        options.output = exported_name(options.network, options.format)
    if options.format in FORMATS:
        return export_pack(options)
    network = load_either(options.network)
    whole = isinstance(network, deployment.IntegerNetwork)
    if whole == (options.format == "qonnx"):
        needed = "a checkpoint" if whole else "an integer network"
        raise ValueError(f"--format {options.format} needs {needed}: {options.network}")
    lines: list[str] = []
    if isinstance(network, deployment.IntegerNetwork):
        form = options.format.removeprefix("onnx-")
        made = deployment.to_onnx(network, form=form)
        lines = deployment.inexact(network, form)
    else:
        made = deployment.to_qonnx(network)
    deployment.save_model(options.output, made)
    text = "\n".join([*lines, f"wrote {options.output}"])
    return {"output": str(options.output), "inexact": lines}, text


def exported_name(source: Path, form: str) -> Path:
    """Return where an export goes if not said: beside its source, by its format.

    >>> exported_name(Path("runs/pack"), "c-header").name
    'pack.h'
    >>> exported_name(Path("net.npz"), "qonnx").name
    'net.onnx'
    """
    suffix = {"c-header": "h"}.get(form, form if form in FORMATS else "onnx")
    return source.with_suffix(f".{suffix}")


def trace(options: Namespace) -> Answer:
    """Write the trace of an integer network for the first test images."""
    network = deployment.IntegerNetwork.load(options.network)
    images = load_data(options.data).test_images[: options.images]
    found = conformance.trace(network, images, refqnn.fast)
    found.save(options.output)
    for form, folder in (("hex", options.hex), ("c-header", options.c_header)):
        if folder is not None:
            conformance.write_vectors(found, folder, form=form)
    shapes = {name: list(array.shape) for name, array in found.tensors.items()}
    text = f"wrote {len(shapes)} tensors of {len(images)} images to {options.output}"
    return {"output": str(options.output), "tensors": shapes}, text


def bisect(options: Namespace) -> Answer:
    """Compare two traces, tensor by tensor in execution order."""
    reference, other = map(conformance.Trace.load, (options.reference, options.other))
    found = conformance.bisect(reference, other, any_dtype=options.any_dtype)
    return found.as_dict() | {"exit_code": found.exit_code}, str(found)


def load_either(path: Path) -> Sequential | deployment.IntegerNetwork:
    """Return what a file holds, told by its header."""
    header, _ = read_headed(path, None)
    if str(header.get("format")).startswith("refqnn integer network"):
        return deployment.IntegerNetwork.load(path)
    return load_network(path)


def load_network(path: Path) -> Sequential:
    """Return the network of a checkpoint."""
    content = checkpoints.load(path)
    network = build(content.config)
    checkpoints.restore(network, content)
    return network


def load_data(folder: Path | None) -> data.Dataset:
    """Return the images of a folder, told by its files; without one those embedded."""
    if folder is None:
        return data.embedded()
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    if (folder / "train.bin").exists():
        train, test = (
            data.read_cifar100(folder / f"{part}.bin") for part in ("train", "test")
        )
    elif batches := sorted(folder.glob("data_batch_*.bin")):
        train = data.read_cifar10(batches)
        test = data.read_cifar10(folder / "test_batch.bin")
    else:
        return data.fashion_mnist(folder)
    return data.Dataset(*train, *test)


def size(options: Namespace) -> Answer:
    """Count what a network of the Pareto paper weighs and computes."""
    network = named(
        options.network,
        width=options.width,
        weight_bits=options.bits,
        depthwise_bits=options.depthwise_bits,
        activation_bits=options.activation_bits,
        counting=options.counting,
        rng=None,
    )
    counted = count(network, image_shape(options.network))
    bits = options.activation_bits
    found = {
        "c_size_bits": counted.c_size_bits,
        "macs": counted.macs,
        "footprint_bits_separate_maxima": counted.footprint_bits_separate_maxima(
            map_bits=bits
        ),
        "footprint_bits_joint_maximum": counted.footprint_bits_joint_maximum(
            map_bits=bits
        ),
        "layers": counted.as_dict()["layers"],
    }
    return found, size_table(counted, found)


def size_table(counted: Cost, found: dict[str, Any]) -> str:
    """Return a line for each layer, and the totals."""
    lines = [f"{'layer':44s} {'weights':>12s} {'bits':>4s} {'multiply-adds':>16s}"]
    lines += [
        f"{layer.name.removeprefix('layers.'):44s} {layer.weights:12,d} "
        f"{layer.weight_bits:4d} {layer.macs:16,d}"
        for layer in counted.layers
    ]
    totals = (
        ("C_size", "c_size_bits", "bits"),
        ("multiply-adds", "macs", ""),
        (
            "footprint, maxima of any two layers",
            "footprint_bits_separate_maxima",
            "bits",
        ),
        ("footprint, maximum of one layer", "footprint_bits_joint_maximum", "bits"),
    )
    lines += [f"{text:36s} {found[key]:16,d} {unit}" for text, key, unit in totals]
    return "\n".join(line.rstrip() for line in lines)
