"""Train a small quantized network, export it to ONNX, compare with onnxruntime.

    python examples/export_onnx.py [--bits 4] [--epochs 3] [--runs runs/export_onnx]

Deploys the network twice: as refqnn does by default, with ties up and biases of
fractional steps, and for onnxruntime, in float32 with whole biases. Writes each in
three forms of ONNX and prints, layer by layer, on how many codes of the test images
onnxruntime differs: none in the exact form; none in the operator form of a network
deployed for it. Without onnxruntime the models are written and not run. The trained
network is checkpointed under --runs; a run that was cut off resumes there.
"""

import argparse
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data, fast
from refqnn._types import Array
from refqnn.conformance import bisect, trace
from refqnn.deploy import (
    IntegerNetwork,
    deploy,
    inexact,
    onnx_trace,
    save_model,
    to_onnx,
    to_qonnx,
)
from refqnn.deploy.formats.onnx_export import FORMS
from refqnn.networks import resnet
from refqnn.nn import Preset, Sequential, Training, fit, steps_per_epoch

SETTINGS = Preset(
    lr=0.1,
    warmup_epochs=0.5,
    epochs=3,
    batch=40,
    momentum=0.9,
    nesterov=True,
    weight_decay=1e-3,
)
PROFILES: dict[str, dict[str, Any]] = {
    "refqnn": {},
    "onnxruntime": {"requantize": "float32_half_even", "finer_bias": False},
}


def trained(options: argparse.Namespace) -> Sequential:
    """Return a ResNet-8 after a few epochs on the embedded images."""
    rng = np.random.default_rng(0)
    bits = {"weight_bits": options.bits, "activation_bits": options.bits}
    network = resnet(8, width=options.width, shortcut=options.shortcut, rng=rng, **bits)
    train = tuple(part[: options.images] for part in data.embedded()[:2])
    steps = steps_per_epoch(len(train[0]), SETTINGS.batch)
    training = Training(
        network,
        SETTINGS.optimiser(network),
        SETTINGS.schedule(steps, epochs=options.epochs),
        rng,
        batch=SETTINGS.batch,
        backend=fast,
    )
    name = f"{options.bits}bit_{options.shortcut}_{options.width}_{options.epochs}.npz"
    fit(training, train, epochs=options.epochs, checkpoint=options.runs / name)
    return network


def agreement(
    network: IntegerNetwork, form: str, images: Array, path: Path
) -> dict[str, Any]:
    """Write one form; where onnxruntime is there, count the codes that differ."""
    made = to_onnx(network, form=form)
    save_model(path, made)
    found: dict[str, Any] = {"file": str(path), "inexact": inexact(network, form)}
    if importlib.util.find_spec("onnxruntime") is None:
        return found
    reference = trace(network, images, fast)
    names = [step.name for step in network.steps]
    result = bisect(reference, onnx_trace(made, images, names))
    found["elements"] = {c.name: c.elements for c in result.compared}
    found["different"] = {c.name: c.different for c in result.compared}
    found["first"] = None if result.first is None else str(result.first)
    return found


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return a line per layer: differing codes, form by form."""
    some = next(iter(results.values()))
    lines = [f"{'layer':<28}{'codes':>9}" + "".join(f"{form:>12}" for form in results)]
    for name, elements in some["elements"].items():
        counts = [found["different"][name] for found in results.values()]
        lines.append(f"{name:<28}{elements:>9}" + "".join(f"{n:>12}" for n in counts))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, deploy, export, run, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--shortcut", choices="AB", default="B")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=4000, help="to train on")
    parser.add_argument("--test", type=int, default=1000, help="images to compare on")
    parser.add_argument("--runs", type=Path, default=Path("runs/export_onnx"))
    parser.add_argument("--quick", action="store_true", help="1 epoch, few images")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.epochs, options.images, options.test = 1, 200, 50
    options.runs.mkdir(parents=True, exist_ok=True)
    network, images = trained(options), data.embedded().test_images[: options.test]
    save_model(options.runs / "trained.qonnx.onnx", to_qonnx(network))
    found: dict[str, Any] = {}
    for profile, chosen in PROFILES.items():
        integers = deploy(network, **chosen)
        found[profile] = {
            form: agreement(
                integers, form, images, options.runs / f"{profile}.{form}.onnx"
            )
            for form in FORMS
        }
    text = json.dumps(found)
    (options.runs / "agreement.json").write_text(text + "\n", encoding="utf-8")
    if options.json:
        print(text)
        return found
    for profile, results in found.items():
        print(f"\ndeployed for {profile}: codes that onnxruntime gives differently")
        if "elements" not in results["exact"]:
            print("onnxruntime is not installed: models written, not run")
            continue
        print(table(results))
        for form, result in results.items():
            for line in result["inexact"]:
                print(f"{form}: {line}")
    return found


if __name__ == "__main__":
    main()
