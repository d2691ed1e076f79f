r"""The runs behind figures 12 and 13, at a small scale: what a sweep calls.

QuantNAS (Gao et al., CVPR 2024 NAS workshop), supplement. Figure 12: the optimal scale
of an early and a late layer in 30 random subnets, trained from scratch. Figure 13: the
fronts with shared scales and with the predictor. The paper gives neither seeds nor
bits, nor says what optimal is; ours: 4 bits, the step of least square error on folded
weights, LSQ's own step beside it, and the same for subnets of one supernet, which the
claim is about. Embedded Fashion-MNIST, halved to 14 x 14.

Also divided by fan-in: s sqrt(fan-in). Folded weights have a standard deviation near
1 / sqrt(fan-in), so that part of the ratios is there before any training.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data, fast
from refqnn._types import Float, Int
from refqnn.nn import evaluate
from refqnn.papers.quantnas.cost import bit_operations, c_size, load_table
from refqnn.papers.quantnas.deployment import folded_weights, plain
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
from refqnn.papers.quantnas.training import Alone, calibration_error, train
from refqnn.quantizers.lsq import lsq_levels

#: 216 subnets, all of them evaluated; and 74 088, searched by evolution
SMALL = Space(
    channels=(4, 8, 16), depths=(1, 2), widths=(0.5, 1.0), kernels=(3,), size=14
)
LARGE = Space(size=14)
SPACES = {"small": SMALL, "large": LARGE}
#: layers that every subnet has
EARLY, LATE = "stage1_block1.conv2", "stage3_block1.conv2"
CALIBRATION, HELD_OUT, BATCH, CHANCE = 256, 512, 64, 0.1


def pictures(images: int) -> dict[str, Any]:
    """Return images to train on, to calibrate on, to search by and to test on."""
    whole = data.embedded()
    train_images, labels = data.halved(whole.train_images), whole.train_labels
    kept = len(labels) - HELD_OUT
    images = min(images, kept)
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
    objective: Any = None,
    checkpoint: Path | None = None,
) -> Supernet:
    """Return a supernet after ``steps``; weights and draws depend on the seed alone."""
    net = supernet(space, scales=scales, rng=np.random.default_rng([seed, 0]))
    train(
        net,
        *given,
        objective,
        steps=steps,
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
    *, source: str, seed: int, index: int, subnets: int, steps: int, images: int
) -> list[dict[str, Any]]:
    """Return scales of subnet ``index`` from scratch, or of all in one supernet."""
    given, space = pictures(images), LARGE
    if source not in {"scratch", "supernet"}:
        raise ValueError(f"source must be 'scratch' or 'supernet', got {source!r}")
    if source == "scratch":
        chosen, alone = [drawn(space, seed, index)], Alone(drawn(space, seed, index))
    else:
        chosen, alone = [drawn(space, seed, i) for i in range(subnets)], None
    net = trained(
        space,
        seed if source == "supernet" else 1000 * seed + index,
        given["train"],
        scales="shared",
        steps=steps,
        objective=alone,
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
    space: str = "small",
    cost: str = "bit_operations",
    subnets: int | None = None,
    folder: str,
) -> dict[str, Any]:
    """Train a supernet and return its front; with shared scales the oracle's too.

    ``subnets`` evaluates that many random ones in place of a search, for a first look.
    The oracle is the supernet of the shared scales, its subnets calibrated with the
    steps of least square error.
    """
    given, chosen = pictures(images), SPACES[space]
    path = Path(folder) / f"{space}_{scales}_{seed}_{steps}_{images}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    net = trained(
        chosen, seed, given["train"], scales=scales, steps=steps, checkpoint=path
    )
    price = price_of(cost, chosen, folder)
    found = {scales: judged(net, given, price, seed, subnets)}
    if scales == "shared":
        found["oracle"] = judged(net, given, price, seed, subnets, Oracle())
    return found


def price_of(cost: str, space: Space, folder: str) -> Callable[[Genotype], float]:
    """Return a cost of subnets by name; the latency table is that of the folder."""
    if cost == "latency":
        table = load_table(Path(folder) / f"latency_{space.size}.json")
        return lambda genotype: table.cost(genotype, space)
    models = {"bit_operations": bit_operations, "c_size": c_size}
    if cost not in models:
        names = [*models, "latency"]
        raise ValueError(f"cost must be one of {names}, got {cost!r}")
    return lambda genotype: float(models[cost](genotype, space))


def judged(
    net: Supernet,
    given: dict[str, Any],
    price: Callable[[Genotype], float],
    seed: int,
    subnets: int | None,
    scales: Any = None,
) -> dict[str, Any]:
    """Return front, hypervolume, and how far the scales are from the best ones."""

    def right(genotype: Genotype, part: str = "search") -> float:
        found = calibrated(net, genotype, given["calibration"], scales)
        return evaluate(plain(net, found), *given[part], backend=fast).accuracy

    points = searched(net.space, right, price, seed, subnets)
    best = front(points)
    errors, correlation = scale_errors(
        net, given["calibration"], seed, scales, min(12, subnets or 12)
    )
    return {
        "evaluated": len(points),
        "points": [[p.cost, p.accuracy] for p in points],
        "front": [
            {
                "genotype": p.genotype,
                "cost": p.cost,
                "accuracy": p.accuracy,
                "test_accuracy": right(p.genotype, "test"),
            }
            for p in best
        ],
        "hypervolume": hypervolume(
            best, cost_max=1.01 * price(largest(net.space)), accuracy_min=CHANCE
        ),
        "calibration_error": errors,
        "correlation": correlation,
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


def scale_errors(
    net: Supernet, images: Any, seed: int, scales: Any, subnets: int
) -> tuple[float, float | None]:
    """Return mean |log s - log s*|, and the correlation of both over random subnets.

    s* is the step of least square error in the same subnet. The correlation is the mean
    over layers of that over subnets: what a shared step cannot have, it is None there.
    """
    found: list[tuple[dict[str, float], dict[str, float]]] = []
    for i in range(subnets):
        genotype = drawn(net.space, seed, i)
        ours = calibrated(net, genotype, images, scales)
        same = isinstance(scales, Oracle)
        best = ours if same else calibrated(net, genotype, images, Oracle())
        found.append((ours.steps, best.steps))
    errors = float(np.mean([calibration_error(*pair) for pair in found]))
    names = set.intersection(*(set(ours) for ours, _ in found))
    logs = [
        np.log([[ours[n], best[n]] for ours, best in found]).T for n in sorted(names)
    ]
    each = [c for c in map(correlation_of, logs) if c is not None]
    return errors, float(np.mean(each)) if each else None


def correlation_of(pair: Float) -> float | None:
    """Return the correlation of two rows, None where one is constant.

    >>> round(correlation_of(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])), 9)
    1.0
    """
    if pair.shape[1] < 2 or np.any(np.ptp(pair, axis=1) < 1e-9):
        return None
    x, y = pair - pair.mean(axis=1, keepdims=True)
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))
