"""Which layers get how many bits: HAQ's agent beside random and greedy search.

    python examples/haq_allocation.py [--ratio 0.2] [--seeds 0 1 2] [--json]

A small ResNet is trained on the embedded Fashion-MNIST subset. Then each search may
evaluate so many policies (--episodes) that shrink its weights to --ratio of 32 bits:
the weights are shared by k-means, fine-tuned for a few steps, and judged on images kept
back from training. The best policy of each search is judged once more, on the test
images. The searches are those of refqnn.papers.haq (HAQ, arXiv:1811.08886); greedy
search draws nothing, so it is the same for every seed.

The figure shows the bits layer by layer, those that DFS printed of HAQ on ResNet-38
(arXiv:2001.00705, supplement, figure 16), and reward against policies evaluated.
HAQ's ratio is linear in bits and counts weights only; it is not the cp of DFS.

Everything is checkpointed under --runs; a run that was cut off resumes there. --quick
is for a look at the program: its numbers mean nothing.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refqnn import data, fast, plots
from refqnn.networks import resnet
from refqnn.nn import Preset, Training, evaluate, fit, steps_per_epoch
from refqnn.papers.haq import (
    Evaluate,
    Layer,
    Problem,
    Settings,
    Trace,
    greedy,
    layer_table,
    printed_bits,
    proxy,
    random_search,
    search,
)
from refqnn.papers.haq.environment import check_range, check_ratio

PRESET = Preset(
    lr=0.05,
    warmup_epochs=0.5,
    epochs=8,
    batch=64,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
)
#: of the 4 000 training images, as many are kept to judge policies by
HELD_OUT = 1000
#: the rate of fine-tuning, that of released code; 0.01 costs more than it brings here
FINE_RATE = 1e-3


class Study(NamedTuple):
    """What every search of a run shares."""

    problem: Problem
    worth: Evaluate
    test: Evaluate
    options: argparse.Namespace


def trained(options: argparse.Namespace, train: tuple[Any, Any]) -> Any:
    """Return the network in floating point."""
    rng = np.random.default_rng(0)
    network = resnet(options.depth, width=options.width, rng=rng)
    steps = steps_per_epoch(len(train[0]), PRESET.batch)
    training = Training(
        network,
        PRESET.optimiser(network),
        PRESET.schedule(steps, epochs=options.epochs),
        rng,
        batch=PRESET.batch,
        backend=fast,
    )
    path = options.runs / "float.npz"
    fit(training, train, epochs=options.epochs, checkpoint=path)
    return network


def study(options: argparse.Namespace) -> Study:
    """Return the problem, and what policies are worth on held-out and test images."""
    dataset = data.embedded()
    ends = slice(0, options.images), slice(-options.held_out, None)
    train, held_out = (
        (dataset.train_images[part], dataset.train_labels[part]) for part in ends
    )
    network = trained(options, train)
    layers = layer_table(network, dataset.train_images.shape[1:])
    whole = 100 * evaluate(network, *held_out, backend=fast).accuracy
    low, high = options.bits
    problem = Problem(layers, options.ratio, whole, b_min=low, b_max=high)
    tests = dataset.test_images[: options.held_out], dataset.test_labels
    worth, test = (
        proxy(
            network,
            layers,
            train,
            (images, labels[: len(images)]),
            steps=options.steps,
            lr=FINE_RATE,
            backend=fast,
        )
        for images, labels in (held_out, tests)
    )
    return Study(problem, worth, test, options)


def searches(given: Study, seed: int) -> dict[str, Trace]:
    """Return the traces of the three searches with equal numbers of evaluations."""
    problem, worth, _, options = given
    count, runs = options.episodes, options.runs
    settings = Settings(warm_up=options.warm_up)
    return {
        "DDPG": search(
            problem,
            worth,
            episodes=count,
            seed=seed,
            settings=settings,
            checkpoint=runs / f"ddpg_{seed}.npz",
        ),
        "random": random_search(
            problem,
            worth,
            evaluations=count,
            seed=seed,
            checkpoint=runs / f"random_{seed}.npz",
        ),
        "greedy": greedy(
            problem, worth, evaluations=count, checkpoint=runs / "greedy.npz"
        ),
    }


def summary(trace: Trace, test: Evaluate) -> dict[str, Any]:
    """Return what is said of one search: its best policy, and how good that is."""
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


def short_name(layer: Layer) -> str:
    """Return the name of a layer as the figure shows it."""
    name = layer.name.removeprefix("layers.").replace("_block", ".")
    return name.removeprefix("stage").replace(".conv", "\nconv ")


def figure(given: Study, found: Sequence[dict[str, Any]]) -> Any:
    """Draw the bits of the first seed, the printed ones, and all rewards."""
    layers = given.problem.layers
    ours = plots.LayerBits(
        f"Bits of the best policies at {100 * given.problem.ratio:g} % of 32 bits",
        f"ResNet-{given.options.depth}, width {given.options.width:g}; below each "
        "layer its number of weights",
        [f"{short_name(layer)}\n{layer.weights}" for layer in layers],
        {name: result["bits"] for name, result in found[0].items()},
    )
    printed = printed_bits()[0]
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
            for seed in (found[:1] if name == "greedy" else found)
        ]
        for name in found[0]
    }
    return plots.allocation([ours, theirs], rewards)


def told(given: Study, seeds: Sequence[int], found: Sequence[dict[str, Any]]) -> str:
    """Return the table of the results."""
    lines = [f"float: {given.problem.float_accuracy:.1f} % on held-out images"]
    lines += [
        f"seed {seed}, {name}: reward {r['reward']:+.3f}, "
        f"held out {r['accuracy']:.1f} %, test {r['test_accuracy']:.1f} %, "
        f"{100 * r['ratio']:.2f} % of the size, "
        f"bits {' '.join(map(str, r['bits']))}, {r['evaluations']} evaluations"
        for seed, result in zip(seeds, found, strict=True)
        for name, r in result.items()
    ]
    return "\n".join(lines)


def set_scale(options: argparse.Namespace) -> None:
    """Set what --quick makes small, and what it leaves."""
    quick = options.quick
    options.epochs = 1 if quick else PRESET.epochs
    options.images = 128 if quick else 4000 - HELD_OUT
    options.held_out = 50 if quick else HELD_OUT
    if quick:
        options.episodes, options.warm_up = 12, 10
        options.steps, options.width = 1, 0.25


def check(options: argparse.Namespace) -> None:
    """Raise, before anything is trained, unless the searches can begin."""
    low, high = options.bits
    check_range(low, high)
    check_ratio(options.ratio, low)
    if min(options.seeds) < 0:
        raise ValueError(f"seeds must be at least 0, got {options.seeds}")
    least = {"episodes": 1, "warm_up": 0, "steps": 0}
    for name, bound in least.items():
        if getattr(options, name) < bound:
            value = getattr(options, name)
            raise ValueError(f"{name} must be at least {bound}, got {value}")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, search three times, draw, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratio", type=float, default=0.2)
    parser.add_argument("--bits", type=int, nargs=2, default=[2, 10])
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--warm-up", type=int, default=15)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=20, help="of fine-tuning")
    parser.add_argument("--runs", type=Path, default=Path("runs/haq_allocation"))
    parser.add_argument("--figure", type=Path, default=Path("haq_allocation.png"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    set_scale(options)
    options.runs.mkdir(parents=True, exist_ok=True)
    try:
        check(options)
        given = study(options)
        found = [
            {name: summary(t, given.test) for name, t in searches(given, seed).items()}
            for seed in options.seeds
        ]
    except ValueError as error:
        parser.error(str(error))
    plots.save(figure(given, found), options.figure)
    result = {
        "float_accuracy": given.problem.float_accuracy,
        "layers": [layer.name for layer in given.problem.layers],
        "weights": given.problem.weights.tolist(),
        "seeds": dict(zip(map(str, options.seeds), found, strict=True)),
    }
    text = json.dumps(result)
    (options.runs / "result.json").write_text(text + "\n", encoding="utf-8")
    print(text if options.json else told(given, options.seeds, found))
    return result


if __name__ == "__main__":
    main()
