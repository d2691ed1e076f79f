"""The study of HAQ, arXiv:1811.08886: its agent beside random and greedy search.

A small ResNet is trained on the embedded Fashion-MNIST subset. Then each search may
evaluate ``episodes`` policies that shrink its weights to ``ratio`` of 32 bits: the
weights are shared by k-means, fine-tuned for a few steps, and judged on images kept
back from training. The best policy of each search is judged once more, on the test
images. Greedy search draws nothing, so it is the same for every seed. The ratio is
linear in bits and counts weights only; it is not the cp of DFS.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data, fast, plots
from refqnn.networks import resnet
from refqnn.nn import PARETO_CIFAR, evaluate, fit
from refqnn.papers import haq
from refqnn.papers.haq.environment import check_range, check_ratio
from refqnn.studies.study import Stage, Study, check_settings, checkpoint_folder, table
from refqnn.studies.sweep import Outcomes, Row

PRESET = replace(PARETO_CIFAR, warmup_epochs=0.5, epochs=8, batch=64)
#: the rate of fine-tuning, that of released code; 0.01 costs more than it brings here
FINE_RATE = 1e-3


@dataclass(frozen=True)
class Allocation:
    """The budget, the range of bits, the network, and the lengths of the searches."""

    ratio: float = 0.2
    lowest: int = 2
    highest: int = 10
    episodes: int = 60
    warm_up: int = 15
    #: of fine-tuning
    steps: int = 20
    depth: int = 8
    width: float = 0.5
    epochs: int = 8
    images: int = 3000
    #: of the last training images to judge policies by, and of test images
    held_out: int = 1000
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        check_range(self.lowest, self.highest)
        check_ratio(self.ratio, self.lowest)
        resnet(self.depth, width=self.width, rng=None)  # no arrays: a check
        check_settings(self, seeds=0, episodes=1, warm_up=0, steps=0, epochs=1)
        check_settings(self, images=PRESET.batch, held_out=1)
        if self.images + self.held_out > 4000:
            raise ValueError(
                f"images and held_out must be 4000 together, got {self.images} and "
                f"{self.held_out}"
            )


def stages(s: Allocation, folder: Path) -> Iterator[Stage]:
    """Yield the float network, then the three searches."""
    every = {key: value for key, value in asdict(s).items() if key != "seeds"}
    own = ("depth", "width", "epochs", "images", "held_out")
    network = {key: every[key] for key in own}
    yield Stage(partial(float_run, folder=str(folder)), [network], "float")
    kinds = [("DDPG", seed) for seed in s.seeds] + [
        ("random", seed) for seed in s.seeds
    ]
    runs = [
        {"kind": kind, "seed": seed} | every for kind, seed in (*kinds, ("greedy", 0))
    ]
    yield Stage(partial(search_run, folder=str(folder)), runs, "searches")


def float_network(
    folder: str, *, depth: int, width: float, epochs: int, images: int, **_: int
) -> Any:
    """Train the network in floating point, or read it."""
    rng = np.random.default_rng(0)
    network = resnet(depth, width=width, rng=rng)
    length = {"depth": depth, "width": width, "epochs": epochs, "images": images}
    fit(
        PRESET.training(network, images, rng=rng, epochs=epochs, backend=fast),
        data.embedded().first(images)[:2],
        epochs=epochs,
        checkpoint=checkpoint_folder(folder, "float", 0, **length).with_suffix(".npz"),
        progress=False,
    )
    return network


def last_training(count: int) -> tuple[Any, Any]:
    """Return the last training images of the embedded subset, and their labels."""
    pictures = data.embedded()
    return pictures.train_images[-count:], pictures.train_labels[-count:]


def float_run(*, folder: str, held_out: int, **network: Any) -> Row:
    """Train the network; return its accuracy on held-out images, and its layers."""
    made = float_network(folder, **network)
    score = evaluate(made, *last_training(held_out), backend=fast)
    layers = haq.layer_table(made, (1, 28, 28))
    return {
        "float_accuracy": 100 * score.accuracy,
        "layers": [layer.name for layer in layers],
        "weights": [layer.weights for layer in layers],
    }


def search_run(
    *,
    kind: str,
    seed: int,
    ratio: float,
    lowest: int,
    highest: int,
    episodes: int,
    warm_up: int,
    steps: int,
    folder: str,
    **network: Any,
) -> Row:
    """Search policies; return the best one, and how good it is on the test images."""
    made = float_network(folder, **network)
    pictures = data.embedded().first(network["images"], network["held_out"])
    layers = haq.layer_table(made, (1, 28, 28))
    held_out = last_training(network["held_out"])
    accuracy = 100 * evaluate(made, *held_out, backend=fast).accuracy
    problem = haq.Problem(layers, ratio, accuracy, b_min=lowest, b_max=highest)
    train = pictures[:2]
    worth, test = (
        haq.proxy(made, layers, train, part, steps=steps, lr=FINE_RATE, backend=fast)
        for part in (held_out, pictures[2:])
    )
    own = {"ratio": ratio, "bits": (lowest, highest), "steps": steps, "of": episodes}
    path = checkpoint_folder(
        folder, kind.lower(), seed, warm_up=warm_up, **own, **network
    )
    how: Row = {"checkpoint": path.with_suffix(".npz"), "progress": False}
    if kind == "DDPG":
        settings = haq.Settings(warm_up=warm_up)
        trace = haq.search(
            problem, worth, episodes=episodes, seed=seed, settings=settings, **how
        )
    elif kind == "random":
        trace = haq.random_search(
            problem, worth, evaluations=episodes, seed=seed, **how
        )
    else:
        trace = haq.greedy(problem, worth, evaluations=episodes, **how)
    return summary(trace, test)


def summary(trace: haq.Trace, test: haq.Evaluate) -> Row:
    """Return the best policy of a search, how good it is, and every reward.

    Policies that do not fit the budget have no reward.
    """
    best = trace.best
    policy = trace.policies[best]
    fitting = [trace.problem.fits(bits) for bits in trace.policies]
    rewards = [
        float(reward) if fits else None
        for reward, fits in zip(trace.rewards, fitting, strict=True)
    ]
    return {
        "evaluations": len(trace.policies),
        "reward": float(trace.rewards[best]),
        "accuracy": trace.accuracies[best],
        "test_accuracy": test(policy),
        "ratio": float(trace.ratios[best]),
        "bits": policy.tolist(),
        "rewards": rewards,
    }


def rows(s: Allocation, starts: Outcomes, searches: Outcomes) -> Row:
    """Return the network, and the three searches of every seed."""
    results = {(o.run["kind"], o.run["seed"]): o.result for o in searches}
    return starts[0].result | {
        "seeds": {
            str(seed): {
                "DDPG": results["DDPG", seed],
                "random": results["random", seed],
                "greedy": results["greedy", 0],
            }
            for seed in s.seeds
        }
    }


def lines(_: Allocation, rows: Row) -> Iterator[str]:
    """Yield a line for each search."""
    yield f"float: {rows['float_accuracy']:.1f} % on held-out images"
    yield from table(
        {"seed": seed, "search": name}
        | {key: value for key, value in result.items() if key != "rewards"}
        for seed, searches in rows["seeds"].items()
        for name, result in searches.items()
    )


def short_name(name: str) -> str:
    r"""Return the name of a layer as the figure shows it.

    >>> short_name("layers.stage1_block2.conv1")
    '1.2\nconv 1'
    """
    short = name.removeprefix("layers.").replace("_block", ".")
    return short.removeprefix("stage").replace(".conv", "\nconv ")


def figures(s: Allocation, starts: Outcomes, searches: Outcomes) -> Row:
    """Draw the bits of the first seed, those that DFS printed, and all rewards."""
    every = rows(s, starts, searches)
    seeds = [*every["seeds"].values()]
    named = zip(every["layers"], every["weights"], strict=True)
    ours = plots.LayerBits(
        f"Bits of the best policies at {100 * s.ratio:g} % of 32 bits",
        f"ResNet-{s.depth}, width {s.width:g}; below each layer its number of weights",
        [f"{short_name(name)}\n{weights}" for name, weights in named],
        {name: result["bits"] for name, result in seeds[0].items()},
    )
    printed = haq.printed_bits()[0]
    theirs = plots.LayerBits(
        f"Printed: HAQ on ResNet-38 at {printed.percent} %",
        f"DFS (arXiv:2001.00705), supplement, figure {printed.figure}, digitised; "
        f"{100 * printed.ratio():.1f} % of 32 bits; layer 2 to 36",
        [str(number) for number in printed.layers],
        {"HAQ": printed.bits.tolist()},
    )
    rewards = {
        name: [
            [np.nan if r is None else r for r in seed[name]["rewards"]]
            for seed in (seeds[:1] if name == "greedy" else seeds)
        ]
        for name in seeds[0]
    }
    return {"": plots.allocation([ours, theirs], rewards)}


STUDIES = (
    Study(
        name="haq_allocation",
        shows="which layers get how many bits: HAQ's agent beside random and greedy "
        "search (HAQ; DFS, supplement, figure 16)",
        takes=("20 min", "10 s"),
        settings=Allocation,
        quick={
            "episodes": 12,
            "warm_up": 10,
            "steps": 1,
            "width": 0.25,
            "epochs": 1,
            "images": 128,
            "held_out": 50,
        },
        stages=stages,
        rows=rows,
        lines=lines,
        figures=figures,
    ),
)
