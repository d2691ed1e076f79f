"""The runs that compare DFS with SkipNet, static networks and HAQ, and their records.

Figures 3 to 7 and 11 of DFS (arXiv:2001.00705), tables 1 and 2. What each run does is
in tradeoff_systems.py; here they are done in order, recorded, and not done twice.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from refqnn import data
from refqnn.papers.tradeoff_systems import (
    SETTINGS,
    backbone_run,
    dfs_run,
    haq_run,
    skipnet_run,
    static_run,
)
from refqnn.studies.sweep import Outcome, Sweep, digest

#: the function of every kind of run
RUNS: dict[str, Callable[..., dict[str, Any]]] = {
    "backbone": backbone_run,
    "dfs": dfs_run,
    "static": static_run,
    "skipnet": skipnet_run,
    "haq": haq_run,
}


def tradeoff_run(*, system: str, **arguments: Any) -> dict[str, Any]:
    """Do one run of a system: what a sweep calls."""
    if system not in RUNS:
        raise ValueError(f"system must be one of {sorted(RUNS)}, got {system!r}")
    return RUNS[system](**arguments)


def outcomes(
    runs: list[dict[str, Any]], *, folder: Path, name: str, jobs: int
) -> list[Outcome]:
    """Run what ``folder/name.jsonl`` does not record, the runs' backbones first.

    A run is known by what it does and not by where: a folder may be moved. Raises
    RuntimeError where a run failed; the others are recorded.
    """
    told = ("seed", "images", "steps")
    function = partial(tradeoff_run, folder=str(folder))
    starts = [{"system": "backbone"} | {key: run[key] for key in told} for run in runs]
    starts = list({digest(run): run for run in starts}.values())
    found: list[Outcome] = []
    for these, file in ((starts, "backbones"), (runs, name)):
        sweep = Sweep(function, these, folder / f"{file}.jsonl")
        found = sweep.completed(workers=jobs)
    return found


def check_runs(
    seeds: Sequence[int], *, images: int, steps: int | None, jobs: int
) -> None:
    """Raise unless runs with these arguments can begin.

    >>> check_runs([0, 1], images=512, steps=None, jobs=2)
    """
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds must be numbers of at least 0, got {[*seeds]}")
    known = len(data.embedded().train_images)
    if not SETTINGS.batch <= images <= known:
        raise ValueError(
            f"images must be in [{SETTINGS.batch}, {known}], a batch and all there "
            f"are, got {images}"
        )
    for name, value in (("steps", steps), ("jobs", jobs)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
