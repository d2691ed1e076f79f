r"""Run figure 13, smaller: is the front with predicted scales above the shared one?

QuantNAS (Gao et al., CVPR 2024 NAS workshop), supplement, which gives no numbers. Three
supernets for each seed: with shared scales, with the predictor, and, ours, with steps
relative to the root mean square of their tensors; all with the same first weights and
draws. The oracle is the shared supernet with the steps of least square error. Every
subnet of a small space is evaluated, or an evolution runs in a large one.

The way of a genotype to its place on the front: ``front_run``, ``front_row``,
``search_points``, ``enumerate_space`` or ``evolve``, ``Judge.accuracy``, its memo, and,
the first time, ``deployment.accuracy``: ``calibrate``, ``plain``, ``evaluate``; then
``search.front``.

With ``deploy`` the predictor's most accurate subnet becomes a network of integers,
compared on every test image and saved among the runs, for ``refqnn evaluate``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np

from refqnn import data, plots
from refqnn.files import lock
from refqnn.papers.quantnas.cost import bit_operations, c_size, load_table, measure
from refqnn.papers.quantnas.judge import (
    Judge,
    compare_integers,
    image_parts,
    train_supernet,
)
from refqnn.papers.quantnas.search import (
    MOST,
    Evolution,
    Point,
    cheapest,
    enumerate_space,
    evolve,
    front,
    hypervolume,
)
from refqnn.papers.quantnas.space import (
    LARGE,
    SMALL,
    Genotype,
    Space,
    count,
    largest,
    random_subnet,
)
from refqnn.papers.quantnas.step_errors import compare_steps
from refqnn.studies.study import Stage, Study, check_settings, table
from refqnn.studies.sweep import Memo, Outcomes, Row, Rows, digest

SPACES = {"small": SMALL, "large": LARGE}
COSTS = {"bit_operations": "bit operations", "c_size": "bits", "latency": "seconds"}
#: images to train on, if not said
TRAIN = {"embedded": 3000, "fashion_mnist": 58_000}
TRAIN |= dict.fromkeys(data.IMAGE_OPTIONS, 48_000)
CHANCE = 0.1


@final
@dataclass(frozen=True)
class FrontSettings:
    """A space and a cost; ``subnets`` random ones, or None: a search.

    ``steps`` of the sandwich on ``train`` images, ``TRAIN`` of them if None.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    space: str = "small"
    cost: str = "bit_operations"
    subnets: int | None = None
    images: str = "embedded"
    train: int | None = None
    steps: int = 1500
    deploy: bool = False

    def __post_init__(self) -> None:
        check_settings(self, seeds=0, subnets=1, train=1, steps=1)
        check_settings(self, space=SPACES, cost=COSTS)


def front_stages(s: FrontSettings, folder: Path) -> Iterator[Stage]:
    """Yield the runs of every kind of scales and seed; then, if asked, the integers.

    The latency table of the space is measured once and stays in the folder.
    """
    of, files = data.source(s.images, cifar=True)
    images = s.train or TRAIN[of]
    image_parts(of, images, files)
    table = table_path(folder, s.space, of)
    if s.cost == "latency":
        folder.mkdir(parents=True, exist_ok=True)
        with lock(table):
            if not table.exists():
                measure(space_of(s.space, of), rng=np.random.default_rng(0)).save(table)
    price_of(s.cost, s.space, folder, of)
    net = {"steps": s.steps, "images": images, "of": of, "space": s.space}
    runs = [
        {"scales": scales, "seed": seed} | net | {"cost": s.cost, "subnets": s.subnets}
        for seed in s.seeds
        for scales in ("shared", "predicted", "relative")
    ]
    places: Row = {"runs": str(folder), "folder": files}
    yield Stage(partial(front_run, **places), runs, "fronts")
    if s.deploy:
        run = runs[1]
        file = f"integers_{digest(run)}"
        if not (folder / f"{file}.npz").exists():
            (folder / f"{file}.jsonl").unlink(missing_ok=True)
        yield Stage(partial(integers_run, **places, file=file), [run], file)


def front_run(
    *, cost: str = "bit_operations", subnets: int | None = None, runs: str, **net: Any
) -> Row:
    """Train a supernet and return its front; with shared scales the oracle's too.

    ``net`` are the arguments of ``judge_of``. ``runs`` is where the supernet's
    checkpoint, every evaluation and the latency table are kept, so that what is cut off
    is continued. ``subnets`` evaluates that many random ones in place of a search, for
    a first look.
    """
    judge = judge_of(**net, runs=runs)
    price = price_of(cost, net.get("space", "small"), runs, net.get("of", "embedded"))
    rows = {net["scales"]: front_row(judge, price, net["seed"], subnets)}
    if net["scales"] == "shared":
        rows["oracle"] = front_row(judge.by_oracle(), price, net["seed"], subnets)
    return rows


def judge_of(
    *,
    scales: str,
    seed: int,
    steps: int,
    images: int,
    of: str = "embedded",
    space: str = "small",
    runs: str,
    folder: str | None = None,
) -> Judge:
    """Return the judge of a supernet, trained or as its checkpoint has it."""
    parts = image_parts(of, images, folder)
    path = Path(runs) / f"{of}_{space}_{scales}_{seed}_{steps}_{images}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    net = train_supernet(
        space_of(space, of),
        seed,
        parts["train"],
        scales=scales,
        steps=steps,
        checkpoint=path,
    )
    return Judge(net, parts, Memo(path.with_suffix(f".{scales}.jsonl")))


def space_of(name: str, of: str) -> Space:
    """Give a space for a data set: CIFAR has three channels of 32 x 32.

    >>> space_of("small", "embedded").size, space_of("small", "cifar100").classes
    (14, 100)
    """
    own: Any = {}
    if of in data.IMAGE_OPTIONS:
        own = {**data.IMAGE_OPTIONS[of], "size": 32}
    return SPACES[name]._replace(**own)


def table_path(runs: str | Path, space: str, of: str = "embedded") -> Path:
    """Return the file of the latency table of a space among the runs."""
    name = f"{space}_{of}" if of in data.IMAGE_OPTIONS else space
    return Path(runs) / f"latency_{name}.json"


def price_of(
    cost: str, space: str, runs: str | Path, of: str = "embedded"
) -> Callable[[Genotype], float]:
    """Return one of ``COSTS`` as a function; the latency table is that of the runs."""
    chosen = space_of(space, of)
    if cost == "latency":
        table = load_table(table_path(runs, space, of))
        return lambda genotype: table.cost(genotype, chosen)
    models = {"bit_operations": bit_operations, "c_size": c_size}
    if cost not in models:
        raise ValueError(f"cost must be one of {[*COSTS]}, got {cost!r}")
    return lambda genotype: float(models[cost](genotype, chosen))


def front_row(
    judge: Judge, price: Callable[[Genotype], float], seed: int, subnets: int | None
) -> Row:
    """Return front, hypervolumes, and how far the steps are from the best ones.

    Its own accuracies flatter a front, the best of many; on test images they do not.
    """
    space = judge.net.space
    points = search_points(space, judge.accuracy, price, seed, subnets)
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
        **compare_steps(judge, seed, min(12, subnets or 12)),
    }


def search_points(
    space: Space,
    accuracy: Callable[[Genotype], float],
    price: Callable[[Genotype], float],
    seed: int,
    subnets: int | None,
) -> list[Point]:
    """Evaluate random subnets, all of a small space, or those an evolution asks for."""
    if subnets is not None:
        chosen = {random_subnet(space, seed, i) for i in range(subnets)}
        return [Point(g, accuracy(g), price(g)) for g in sorted(chosen)]
    if count(space) <= MOST:
        return enumerate_space(space, accuracy, price)
    ends = price(cheapest(space, price)), price(largest(space))
    rng, how = np.random.default_rng([seed, 3]), Evolution(generations=5)
    points: dict[Genotype, Point] = {}
    for budget in np.geomspace(1.05 * ends[0], ends[1], 5):
        evolve(space, accuracy, price, budget=budget, how=how, points=points, rng=rng)
    return list(points.values())


def integers_run(
    *, cost: str, subnets: int | None, runs: str, file: str, **net: Any
) -> Row:
    """Save the most accurate subnet of a front as integers; return how they agree."""
    judge = judge_of(**net, runs=runs)
    price = price_of(cost, net["space"], runs, net["of"])
    points = search_points(judge.net.space, judge.accuracy, price, net["seed"], subnets)
    best = max(front(points), key=lambda point: point.accuracy)
    integer, report = compare_integers(judge, best.genotype)
    path = Path(runs) / f"{file}.npz"
    integer.save(path)
    subnet = judge.accuracy(best.genotype, "test")
    return report | {"file": str(path), "subnet_accuracy": subnet}


def front_rows(_: FrontSettings, outcomes: Outcomes, *integers: Outcomes) -> list[Row]:
    """Return a row for each seed and kind of scales, and the report of the integers."""
    rows = [
        {"scales": scales, "seed": outcome.run["seed"]} | row
        for outcome in outcomes
        for scales, row in outcome.result.items()
    ]
    return rows + [{"integers": outcome.result} for (outcome,) in integers]


def front_lines(_: FrontSettings, rows: Rows) -> Iterator[str]:
    """Yield the table, how often a hypervolume is that of shared or larger, integers.

    The three numbers of weights and activations, logarithms of steps: above the best
    step, deviation over subnets, that of the best.
    """
    fronts = [row for row in rows if "front" in row]
    names = ("scales", "seed", "hypervolume", "test_hypervolume", "best", "mean")
    more = ("calibration_error", "correlation", "weights", "activations")
    yield from table((front_cells(row) for row in fronts), *names, *more)
    volumes = {(row["scales"], row["seed"]): row["hypervolume"] for row in fronts}
    seeds = sorted({row["seed"] for row in fronts})
    for kind in ("predicted", "relative"):
        won = sum(volumes[kind, seed] >= volumes["shared", seed] for seed in seeds)
        yield f"{kind} at least as large as shared: {won} of {len(seeds)}"
    for report in (row["integers"] for row in rows if "integers" in row):
        yield "integers, compared with their subnet on all test images"
        yield from (f"{name}: {value}" for name, value in report.items())


def front_cells(row: Mapping[str, Any]) -> Row:
    """Return a row with its best accuracy, and deviations of steps as lists."""
    best = max(point["accuracy"] for point in row["front"])
    kinds = {kind: [*row[kind].values()] for kind in ("weights", "activations")}
    return {**row, **kinds, "best": best}


def front_figures(s: FrontSettings, outcomes: Outcomes, *_: Any) -> Row:
    """Draw figure 13."""
    fronts: dict[str, list[list[tuple[float, float]]]] = {}
    for row in front_rows(s, outcomes):
        points = [(point["cost"], point["accuracy"]) for point in row["front"]]
        fronts.setdefault(row["scales"], []).append(points)
    return {"": plots.search_fronts(fronts, COSTS[s.cost])}


STUDIES = (
    Study(
        "quantnas_front",
        "Is the front with predicted scales above that with shared ones? Figure 13",
        takes=("60 min", "60 s"),
        settings=FrontSettings,
        quick={"steps": 6, "train": 256, "subnets": 4},
        stages=front_stages,
        rows=front_rows,
        lines=front_lines,
        figures=front_figures,
        folder="quantnas",
    ),
)
