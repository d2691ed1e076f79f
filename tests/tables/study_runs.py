"""A study for tests, as a paper's study.py declares it."""

import numbers
from dataclasses import dataclass

from refqnn import plots
from refqnn.studies.study import Stage, Study, check_settings, study_named


def run_quick(name, folder, **given):
    """Run a quick study in this process: settings, rows, table, figures."""
    study = study_named(name)
    settings = study.settings_with(quick=True, **given)
    outcomes = study.outcomes(settings, folder, workers=1, progress=False)
    rows = study.rows(settings, *outcomes)
    text = "\n".join(study.lines(settings, rows))
    return settings, rows, text, study.figures(settings, *outcomes)


@dataclass(frozen=True)
class Powers:
    seeds: tuple[int, ...] = (2, 3)
    power: int = 2
    factor: float = 1.0
    limit: int | None = None
    named: bool = True
    unit: str = "m"

    def __post_init__(self):
        check_settings(self, seeds=0, power=1)
        assert isinstance(self.factor, numbers.Real)


def start(seed):
    return seed + 1


def raised(seed, power, folder):
    if seed > 90:
        raise ValueError(f"seed must be at most 90, got {seed}")
    return [seed**power, folder]


def stages(s, folder):
    yield Stage(start, [{"seed": seed} for seed in s.seeds], "starts")
    runs = [{"seed": seed, "power": s.power, "folder": folder.name} for seed in s.seeds]
    yield Stage(raised, runs, "powers")


def rows(s, starts, powers):
    return [
        {"start": a.result, "power": s.factor * b.result[0], "folder": b.result[1]}
        for a, b in zip(starts, powers, strict=True)
    ]


def figures(_, __, powers):
    points = [(o.run["seed"], o.result[0]) for o in powers]
    return {end: plots.tradeoff({"ours": points}, 0.5) for end in ("", "_again")}


def lines(s, found):
    return [f"{row['start']} {row['power']:g} {s.unit}" for row in found]


POWERS = Study(
    name="powers",
    shows="what powers are",
    takes=("1 s", "0 s"),
    settings=Powers,
    quick={"power": 1, "seeds": (2,)},
    stages=stages,
    rows=rows,
    lines=lines,
    figures=figures,
)
STUDIES = (POWERS,)
