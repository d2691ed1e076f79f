"""The study of what QIL's intervals prune: arXiv:1808.05779, supplement, figure 1.

An AlexNet of an eighth of the width and a ResNet-8 on the embedded Fashion-MNIST
subset, trained in floating point and fine-tuned progressively. Fully connected layers
start as convolutions do (``start``).

Rule, written before it was run: that fully connected layers prune more holds, or does
not in this regime, where the mean share of their zeros less that of convolutions has
one sign in three of three seeds and lies over five standard errors from 0, and where
training has forgotten the start: ``forgetting``, decay / (1 - momentum) times the sum
of the rates of fine-tuning, is at least 3 (``networks=alexnet decay=0.02 epochs=9``).
Added after the first seed was seen: a seed in which an interval ends at its floor, a
layer of signs that prunes nothing, decides nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data, fast, plots
from refqnn.core import named_modules
from refqnn.networks import alexnet, resnet
from refqnn.nn import Linear, Preset, fit_stages, he_normal
from refqnn.papers.qil import PROGRESSIVE_BITS, Pruned, progressive, pruning_ratios
from refqnn.papers.qil_study import FLOAT, QUICK, begin_training
from refqnn.studies.study import (
    Stage,
    Study,
    check_settings,
    checkpoint_folder,
    paired_interval,
    table,
)
from refqnn.studies.sweep import Outcomes, Row, Rows

FLOAT_PRUNED = replace(FLOAT, lr=0.05, epochs=8)
#: the rate of fine-tuning, and the share of it at which intervals move
FINE_RATE, INTERVAL_RATE = 0.02, 0.01
PRUNED = {
    "AlexNet, small": partial(alexnet, width=1 / 8),
    "ResNet-8": partial(resnet, 8),
}
#: what ``networks`` calls them
SHORT = {name.partition(",")[0].lower(): name for name in PRUNED}


@dataclass(frozen=True)
class Pruning:
    """The bits that fine-tuning goes down to, from 5."""

    bits: int = 3
    seeds: tuple[int, ...] = (0,)
    images: int = 4000
    #: of every stage; none: 8 in floating point, 2 of fine-tuning
    epochs: int | None = None
    #: of fully connected layers: "he_normal", as convolutions, or "as_built", uniform,
    #: which decides by itself how many weights round to 0
    start: str = "he_normal"
    networks: tuple[str, ...] = tuple(SHORT)
    #: of the weights in fine-tuning; none: that of the Pareto paper, 5e-4
    decay: float | None = None

    def __post_init__(self) -> None:
        check_settings(self, seeds=0, images=FLOAT.batch, epochs=1, networks=SHORT)
        check_settings(self, decay=0)
        check_settings(self, start=("he_normal", "as_built"))
        if self.bits not in PROGRESSIVE_BITS:
            raise ValueError(f"bits must be of {PROGRESSIVE_BITS}, got {self.bits}")


def pruning_stages(s: Pruning, folder: Path) -> Iterator[Stage]:
    """Yield the runs of both networks."""
    length: Row = {
        "bits": s.bits,
        "images": s.images,
        "epochs": s.epochs,
        "start": s.start,
    }
    length |= {} if s.decay is None else {"decay": s.decay}
    names = [SHORT[short] for short in s.networks]
    runs = [{"name": n, "seed": seed} | length for n in names for seed in s.seeds]
    yield Stage(partial(pruning_run, folder=str(folder)), runs, "pruning")


def pruning_run(
    *,
    name: str,
    seed: int,
    bits: int,
    images: int,
    epochs: int | None,
    start: str,
    folder: str,
    decay: float | None = None,
) -> list[Row]:
    """Train in floating point, fine-tune from 5 bits down, and count zeros by layer."""
    pictures, make = data.embedded().first(images), PRUNED[name]
    short = name.partition(",")[0].lower()
    place = checkpoint_folder(
        folder, short, seed, images=images, of=epochs, start=start
    )
    common: Row = {"seed": seed, "test": pictures[2:], "progress": False}

    def begin(network: Any, rng: np.random.Generator, length: int, how: Preset) -> Any:
        return begin_training(
            network, rng, length, preset=how, images=images, rate=INTERVAL_RATE
        )

    def build(rng: np.random.Generator) -> Any:
        network = make(rng=rng)
        return with_he_normal(network, rng) if start == "he_normal" else network

    full = fit_stages(
        [("float", build)],
        partial(begin, how=FLOAT_PRUNED),
        pictures[:2],
        epochs=epochs or FLOAT_PRUNED.epochs,
        folder=place / "float",
        **common,
    )
    stages = progressive(
        lambda b, rng: make(method="qil", weight_bits=b, activation_bits=b, rng=rng),
        partial(begin, how=fine_tuning(decay)),
        pictures[:2],
        bits=[b for b in PROGRESSIVE_BITS if b >= bits],
        epochs=epochs or 2,
        source=full[-1].network,
        folder=place / ("qil" if decay is None else f"qil_{decay:g}"),
        **common,
    )
    layers = pruning_ratios(
        stages[-1].network, pictures.test_images[:250], backend=fast
    )
    return [layer._asdict() for layer in layers]


def fine_tuning(decay: float | None) -> Preset:
    """Make the settings of the stages; ``decay`` None is that of the Pareto paper."""
    fine = replace(FLOAT_PRUNED, lr=FINE_RATE)
    return fine if decay is None else replace(fine, weight_decay=decay)


def forgetting(s: Pruning) -> float:
    """decay / (1 - momentum) sum_t lr_t: exp(-it) of the float weights is left

    Over all stages of fine-tuning, but for what gradients bring.

    >>> round(forgetting(Pruning()), 4)
    0.0189
    >>> round(forgetting(Pruning(decay=0.02, epochs=9)), 4)
    3.36
    """
    how, stages = fine_tuning(s.decay), sum(b >= s.bits for b in PROGRESSIVE_BITS)
    each, epochs = s.images // how.batch, s.epochs or 2
    rate = how.schedule(each, epochs=epochs)
    rates = sum(map(rate, range(epochs * each)))
    return how.weight_decay / (1 - how.momentum) * stages * rates


def with_he_normal(network: Any, rng: np.random.Generator) -> Any:
    """Draw the weights of fully connected layers as those of convolutions."""
    for _, module in named_modules(network):
        if isinstance(module, Linear):
            w = module.w.value
            module.w.value = he_normal(w.shape, rng=rng, dtype=w.dtype)
    return network


def pruning_rows(s: Pruning, runs: Outcomes) -> Row:
    """Return the layers of every network and seed, and the mean shares of zeros."""
    names = [SHORT[short] for short in s.networks]
    layers = {n: [o.result for o in runs if o.run["name"] == n] for n in names}
    return {
        name: {"layers": seeds, "answers": [mean_shares(layers) for layers in seeds]}
        for name, seeds in layers.items()
    }


def mean_shares(layers: Rows) -> dict[str, float]:
    """Return the mean shares of zeros of fully connected layers and of convolutions."""
    shares = {}
    for kind in ("linear", "conv"):
        own = [layer for layer in layers if layer["kind"] == kind]
        if own:
            for what in ("weight", "activation"):
                mean = np.mean([layer[f"{what}_ratio"] for layer in own])
                shares[f"{kind}_{what}s"] = float(mean)
    return shares


def pruning_lines(s: Pruning, rows: Row) -> Iterator[str]:
    """Yield the shares of zeros of every network, and the numbers of the rule."""
    for name, row in rows.items():
        yield f"{name}: shares of zeros"
        each = zip(s.seeds, row["answers"], strict=True)
        yield from table({"seed": seed} | answers for seed, answers in each)
        for seed, layers in zip(s.seeds, row["layers"], strict=True):
            if held := [layer["name"] for layer in layers if layer.get("held")]:
                yield f"seed {seed} decides nothing, intervals at their floor: {held}"
        if "linear_weights" in row["answers"][0]:
            more = [a["linear_weights"] - a["conv_weights"] for a in row["answers"]]
            mean, low, high = paired_interval([100 * share for share in more])
            interval = f"{mean:.1f} points, {low:.1f} to {high:.1f}"
            yield f"fully connected less convolutions: {interval}"
    yield f"forgetting of the start: {forgetting(s):.2f} (the rule: at least 3)"


def pruning_figure(s: Pruning, runs: Outcomes) -> Row:
    """Draw the layers of the first seed; stage1_block1.conv2 is called 1.1.2."""
    first = {o.run["name"]: o.result for o in runs if o.run["seed"] == s.seeds[0]}
    panels = []
    for name, rows in first.items():
        layers = [Pruned(**row) for row in rows]
        names = [".".join(re.findall(r"\d+", layer.name)) for layer in layers]
        linear = [layer.kind == "linear" for layer in layers]
        weights = plots.LayerBars(
            f"{name}: weights",
            names,
            linear,
            [layer.weights for layer in layers],
            [layer.weight_ratio for layer in layers],
        )
        inputs = weights._replace(
            title=f"{name}: activations",
            counts=[layer.activations for layer in layers],
            shares=[layer.activation_ratio for layer in layers],
        )
        panels.append((weights, inputs))
    return {"": plots.pruning(panels)}


STUDIES = (
    Study(
        name="qil_pruning",
        shows="do fully connected layers prune more than convolutions? (QIL, "
        "supplement, figure 1)",
        takes=("5 min", "15 s"),
        settings=Pruning,
        quick=QUICK,
        stages=pruning_stages,
        rows=pruning_rows,
        lines=pruning_lines,
        figures=pruning_figure,
    ),
)
