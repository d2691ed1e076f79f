r"""The runs behind figures 12 and 13, at a small scale: what a sweep calls.

QuantNAS (Gao et al., CVPR 2024 NAS workshop), supplement. Figure 12: the optimal scale
of an early and a late layer in 30 random subnets, trained from scratch. Figure 13: the
fronts with shared scales and with the predictor. The paper gives neither seeds nor
bits, nor says what optimal is; ours: 4 bits, the step of least square error on folded
weights, LSQ's own step beside it, and the same for subnets of one supernet, which the
claim is about. Fashion-MNIST, the embedded subset or all of it, halved to 14 x 14.

Also divided by fan-in: s sqrt(fan-in). Folded weights have a standard deviation near
1 / sqrt(fan-in), so that part of the ratios is there before any training.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from refqnn import data, fast
from refqnn._types import Float, Int
from refqnn.deploy import IntegerNetwork, compare_float64, compare_layers, deploy
from refqnn.nn import evaluate
from refqnn.papers.quantnas.cost import bit_operations, c_size, load_table
from refqnn.papers.quantnas.deployment import folded_weights, plain
from refqnn.papers.quantnas.sandwich import Alone, calibration_error, train
from refqnn.papers.quantnas.scales import Oracle, mse_step
from refqnn.papers.quantnas.search import (
    Evolution,
    Point,
    cheapest,
    enumerate_space,
    evolve,
    front,
    hypervolume,
)
from refqnn.papers.quantnas.space import Genotype, Space, draw, largest, layers_of
from refqnn.papers.quantnas.supernet import Calibrated, Supernet, calibrate, supernet
from refqnn.quantizers.learned_step_size import lsq_levels
from refqnn.studies.sweep import Sweep

#: 216 subnets, all of them evaluated; and 74 088, searched by evolution
SMALL = Space(
    channels=(4, 8, 16), depths=(1, 2), widths=(0.5, 1.0), kernels=(3,), size=14
)
LARGE = Space(size=14)
SPACES = {"small": SMALL, "large": LARGE}
#: layers that every subnet has
EARLY, LATE = "stage1_block1.conv2", "stage3_block1.conv2"
CALIBRATION, BATCH, CHANCE = 256, 64, 0.1
#: test images in memory layer by layer
AT_A_TIME = 1000
#: the last training images, which a search judges by
HELD_OUT = {"embedded": 512, "fashion_mnist": 2000}


def pictures(of: str, images: int, folder: str | None = None) -> dict[str, Any]:
    """Return images to train on, to calibrate on, to search by and to test on.

    ``of`` and ``folder`` as ``data.source`` returns them. Raises ValueError for no
    images to train on and for more than are not held out.
    """
    whole = data.sourced(of, folder)
    train_images, labels = data.halved(whole.train_images), whole.train_labels
    kept = len(labels) - HELD_OUT[of]
    if not 1 <= images <= kept:
        raise ValueError(f"images must be in [1, {kept}] for {of}, got {images}")
    return {
        "train": (train_images[:images], labels[:images]),
        "calibration": train_images[: min(CALIBRATION, images)],
        "search": (train_images[kept:], labels[kept:]),
        "test": (data.halved(whole.test_images), whole.test_labels),
    }


def trained(
    space: Space,
    seed: int,
    given: tuple[Any, Int],
    *,
    scales: str,
    steps: int,
    alone: Genotype | None = None,
    checkpoint: Path | None = None,
) -> Supernet:
    """Return a supernet after ``steps`` of the sandwich, or of one subnet ``alone``.

    First weights and draws depend on the seed alone.
    """
    net = supernet(space, scales=scales, rng=np.random.default_rng([seed, 0]))
    train(
        net,
        *given,
        None if alone is None else Alone(alone),
        steps=steps,
        first=alone,
        batch=min(BATCH, len(given[1])),
        checkpoint=checkpoint,
        rng=np.random.default_rng([seed, 1]),
        backend=fast,
    )
    return net


def drawn(space: Space, seed: int, index: int) -> Genotype:
    """Return the random subnet of a number."""
    return draw(space, np.random.default_rng([seed, 2, index]))


def scales_run(
    *,
    source: str,
    seed: int,
    index: int,
    subnets: int,
    steps: int,
    images: int,
    of: str = "embedded",
    folder: str | None = None,
) -> list[dict[str, Any]]:
    """Return scales of subnet ``index`` from scratch, or of all in one supernet."""
    given, space = pictures(of, images, folder), LARGE
    if source not in {"scratch", "supernet"}:
        raise ValueError(f"source must be 'scratch' or 'supernet', got {source!r}")
    if source == "scratch":
        chosen = [drawn(space, seed, index)]
    else:
        chosen = [drawn(space, seed, i) for i in range(subnets)]
    net = trained(
        space,
        seed if source == "supernet" else 1000 * seed + index,
        given["train"],
        scales="shared",
        steps=steps,
        alone=chosen[0] if source == "scratch" else None,
    )
    return [layer_scales(net, genotype, given["calibration"]) for genotype in chosen]


def layer_scales(net: Supernet, genotype: Genotype, images: Any) -> dict[str, Any]:
    """Return fan-in, best step and learned step of the early and the late layer."""
    found = calibrated(net, genotype, images)
    layers = {layer.name: layer for layer in layers_of(genotype, net.space)}
    rows: dict[str, Any] = {"genotype": genotype}
    for name in (EARLY, LATE):
        layer = layers[name]
        w_f, _ = folded_weights(net, layer, found)
        q_n, q_p = lsq_levels(layer.weight_bits, signed=True)
        rows[name] = {
            "fan_in": layer.fan_in,
            "best": mse_step(w_f, q_n=q_n, q_p=q_p),
            "learned": found.steps[name],
        }
    return rows


def calibrated(
    net: Supernet, genotype: Genotype, images: Any, scales: Any = None
) -> Calibrated:
    """Return a subnet calibrated in batches as long as those of training."""
    batch = min(BATCH, len(images))
    return calibrate(net, genotype, images, batch=batch, scales=scales, backend=fast)


def ratio(values: Any) -> float:
    """max / min

    >>> ratio([1.0, 3.0, 2.0])
    3.0
    """
    return float(np.max(values) / np.min(values))


def front_run(
    *,
    scales: str,
    seed: int,
    steps: int,
    images: int,
    of: str = "embedded",
    space: str = "small",
    cost: str = "bit_operations",
    subnets: int | None = None,
    runs: str,
    folder: str | None = None,
) -> dict[str, Any]:
    """Train a supernet and return its front; with shared scales the oracle's too.

    ``runs`` is where the supernet's checkpoint, every evaluation and the latency table
    are kept, so that what is cut off is continued. ``subnets`` evaluates that many
    random ones in place of a search, for a first look. The oracle is the supernet of
    the shared scales, its subnets calibrated with the steps of least square error.
    """
    settings: dict[str, Any] = {
        "scales": scales,
        "seed": seed,
        "steps": steps,
        "images": images,
        "of": of,
        "space": space,
        "runs": runs,
        "folder": folder,
    }
    price, judge = price_of(cost, space, runs), judge_of(**settings)
    found = {scales: judged(judge, price, seed, subnets)}
    if scales == "shared":
        found["oracle"] = judged(judge.by_oracle(), price, seed, subnets)
    return found


def judge_of(
    *,
    scales: str,
    seed: int,
    steps: int,
    images: int,
    of: str,
    space: str,
    runs: str,
    folder: str | None,
) -> "Judge":
    """Return the judge of a supernet, trained or as its checkpoint has it."""
    given = pictures(of, images, folder)
    path = Path(runs) / f"{of}_{space}_{scales}_{seed}_{steps}_{images}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    net = trained(
        SPACES[space], seed, given["train"], scales=scales, steps=steps, checkpoint=path
    )
    return Judge(net, given, path.with_suffix(f".{scales}.jsonl"))


@final
@dataclass(frozen=True)
class Judge:
    """The accuracy of subnets, calibrated; every one is recorded, and known from then.

    ``scales`` in place of the supernet's own.
    """

    net: Supernet
    given: dict[str, Any]
    path: Path
    scales: Any = None

    def accuracy(self, genotype: Genotype, part: str = "search") -> float:
        """Return the share of the images to search by, or of another part."""
        run = {"genotype": genotype, "part": part}
        asked = Sweep(self.evaluated, [run], self.path)
        return float(asked.completed(workers=1, progress=False)[0].result)

    def evaluated(self, *, genotype: Genotype, part: str) -> float:
        """Calibrate and evaluate one subnet."""
        network = plain(self.net, self.calibrated(genotype))
        return evaluate(network, *self.given[part], backend=fast).accuracy

    def calibrated(self, genotype: Genotype) -> Calibrated:
        """Return a subnet with its statistics and steps."""
        return calibrated(self.net, genotype, self.given["calibration"], self.scales)

    def by_oracle(self) -> "Judge":
        """Return the judge of the same supernet with the steps of least error."""
        path = self.path.with_suffix("").with_suffix(".oracle.jsonl")
        return replace(self, path=path, scales=Oracle())


def deployed(judge: Judge, genotype: Genotype) -> tuple[IntegerNetwork, dict[str, Any]]:
    """Return a subnet as integers, and how they agree with it on all test images.

    Equalities (a), with the quantized floats of the subnet, layer by layer, and (b),
    with the float64 execution of the integer network: how many integers differ.
    """
    network = plain(judge.net, judge.calibrated(genotype))
    side = judge.net.space.size
    integer = deploy(network, image_size=(side, side))
    images, labels = judge.given["test"]
    beyond = different = right = 0
    for i in range(0, len(images), AT_A_TIME):
        some, known = images[i : i + AT_A_TIME], labels[i : i + AT_A_TIME]
        beyond += sum(not r.holds for r in compare_layers(network, integer, some))
        different += sum(c.different for c in compare_float64(integer, some))
        right += int(np.sum(integer.predict(some, backend=fast) == known))
    return integer, {
        "genotype": genotype,
        "images": len(images),
        "layers_beyond_the_bound": beyond,
        "different_from_float64": different,
        "accuracy": right / len(images),
    }


def table_path(runs: str | Path, space: str) -> Path:
    """Return where the latency table of a space is kept among the runs."""
    return Path(runs) / f"latency_{space}.json"


def price_of(cost: str, space: str, runs: str) -> Callable[[Genotype], float]:
    """Return a cost of subnets by name; the latency table is that of the runs."""
    chosen = SPACES[space]
    if cost == "latency":
        table = load_table(table_path(runs, space))
        return lambda genotype: table.cost(genotype, chosen)
    models = {"bit_operations": bit_operations, "c_size": c_size}
    if cost not in models:
        names = [*models, "latency"]
        raise ValueError(f"cost must be one of {names}, got {cost!r}")
    return lambda genotype: float(models[cost](genotype, chosen))


def judged(
    judge: Judge, price: Callable[[Genotype], float], seed: int, subnets: int | None
) -> dict[str, Any]:
    """Return front, hypervolumes, and how far the scales are from the best ones.

    Its own accuracies flatter a front, the best of many; on test images they do not.
    """
    space = judge.net.space
    points = searched(space, judge.accuracy, price, seed, subnets)
    best = front(points)
    test = [p._replace(accuracy=judge.accuracy(p.genotype, "test")) for p in best]
    bounds = {"cost_max": 1.01 * price(largest(space)), "accuracy_min": CHANCE}
    return {
        "evaluated": len(points),
        "points": [[p.cost, p.accuracy] for p in points],
        "front": [
            {
                "genotype": p.genotype,
                "cost": p.cost,
                "accuracy": p.accuracy,
                "test_accuracy": seen.accuracy,
            }
            for p, seen in zip(best, test, strict=True)
        ],
        "hypervolume": hypervolume(best, **bounds),
        "test_hypervolume": hypervolume(test, **bounds),
        "mean": float(np.mean([p.accuracy for p in points])),
        **scale_study(judge, seed, min(12, subnets or 12)),
    }


def searched(
    space: Space,
    right: Callable[[Genotype], float],
    price: Callable[[Genotype], float],
    seed: int,
    subnets: int | None,
) -> list[Point]:
    """Return every subnet that was evaluated: random ones, all, or by evolution."""
    known: dict[Genotype, float] = {}
    if subnets is not None:
        chosen = {drawn(space, seed, i) for i in range(subnets)}
        return [Point(g, right(g), price(g)) for g in sorted(chosen)]
    if space == SMALL:
        return enumerate_space(space, right, price, known=known)
    ends = price(cheapest(space, price)), price(largest(space))
    rng, how = np.random.default_rng([seed, 3]), Evolution(generations=5)
    for budget in np.geomspace(1.05 * ends[0], ends[1], 5):
        evolve(space, right, price, budget=budget, how=how, known=known, rng=rng)
    return [Point(g, accuracy, price(g)) for g, accuracy in known.items()]


def scale_study(judge: Judge, seed: int, subnets: int) -> dict[str, Any]:
    """Return how steps s of random subnets lie to those of least square error, s*.

    calibration_error: mean |log s - log s*| over layers and subnets. correlation: that
    of log s and log s* over subnets, the mean over layers; None for shared steps, which
    have none. Of weights and of activations: mean log s - log s*, and the standard
    deviations of log s and of log s* over subnets, means over the layers that all have.
    """
    best = judge.by_oracle()
    found: list[tuple[dict[str, float], dict[str, float]]] = []
    for i in range(subnets):
        genotype = drawn(judge.net.space, seed, i)
        own = judge.calibrated(genotype).steps
        same = isinstance(judge.scales, Oracle)
        found.append((own, own if same else best.calibrated(genotype).steps))
    names = sorted(set.intersection(*(set(ours) for ours, _ in found)))
    logs = {n: np.log([[own[n], other[n]] for own, other in found]).T for n in names}
    each = [c for c in map(correlation_of, logs.values()) if c is not None]
    quants = {name for name in names if "quant" in name}
    return {
        "calibration_error": float(np.mean([calibration_error(*p) for p in found])),
        "correlation": float(np.mean(each)) if each else None,
        "weights": spread_of([logs[n] for n in names if n not in quants]),
        "activations": spread_of([logs[n] for n in names if n in quants]),
    }


def spread_of(logs: list[Float]) -> dict[str, float]:
    """Return mean difference and mean deviations of pairs of rows (log s, log s*).

    >>> spread_of([np.array([[1.0, 3.0], [0.0, 0.0]])])
    {'above': 2.0, 'deviation': 1.0, 'best_deviation': 0.0}
    """
    deviation, best_deviation = np.mean([pair.std(axis=1) for pair in logs], axis=0)
    return {
        "above": float(np.mean([own - best for own, best in logs])),
        "deviation": float(deviation),
        "best_deviation": float(best_deviation),
    }


def correlation_of(pair: Float) -> float | None:
    """Return the correlation of two rows, None where one is constant.

    >>> round(correlation_of(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])), 9)
    1.0
    """
    if np.any(np.ptp(pair, axis=1) < 1e-9):
        return None
    x, y = pair - pair.mean(axis=1, keepdims=True)
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))
