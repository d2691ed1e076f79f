"""A study: runs of functions, recorded once, and the rows, table and figures of them.

A paper's ``study.py`` declares its studies in a tuple ``STUDIES``; the table
``MODULES`` says where each is, so that it is imported when it is asked for.
``refqnn study`` runs them.

    tradeoff = study_named("dfs_tradeoff")
    settings = tradeoff.settings_with(quick=True, seeds=(0, 1))
    outcomes = tradeoff.outcomes(settings, Path("runs/dfs"))
    rows = tradeoff.rows(settings, *outcomes)
"""

import dataclasses
import importlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple, final, get_args, get_origin, get_type_hints

import numpy as np
from scipy.stats import t as student_t

from refqnn.studies.sweep import Outcome, Sweep, digest

#: study -> the module that declares it
MODULES: Mapping[str, str] = MappingProxyType(
    {
        "fashion_mnist": "refqnn.studies.fashion_mnist",
        "gallery": "refqnn.studies.gallery",
        "dfs_adaptivity": "refqnn.papers.dfs.adaptivity",
        "dfs_tradeoff": "refqnn.papers.dfs.study",
        "dfs_controller": "refqnn.papers.dfs.study",
        "dfs_tables": "refqnn.papers.dfs.study",
        "dfs_decisions": "refqnn.papers.dfs.decisions",
        "dfs_two_steps": "refqnn.papers.dfs.random_gates",
        "skipnet": "refqnn.papers.skipnet_study",
        "scalable_training": "refqnn.papers.scalable_study",
        "pareto_clip": "refqnn.papers.pareto.study",
        "pareto_curves": "refqnn.papers.pareto.study_curves",
        "pareto_dual_precision": "refqnn.papers.pareto.study_dual_precision",
        "pareto_sensitivity": "refqnn.papers.pareto.study_sensitivity",
        "pareto_sizes": "refqnn.papers.pareto.study",
        "pareto_variance": "refqnn.papers.pareto.study",
        "quantnas_front": "refqnn.papers.quantnas.study",
        "quantnas_scales": "refqnn.papers.quantnas.study_scales",
        "qil_table": "refqnn.papers.qil_study",
        "qil_pruning": "refqnn.papers.qil_pruning_study",
        "haq_allocation": "refqnn.papers.haq.study",
        "guided_training": "refqnn.papers.guided_study",
        **dict.fromkeys(
            (
                "dfs_above_base",
                "dfs_first_blocks",
                "dfs_few_bits",
                "dfs_few_bits_static",
                "dfs_large_steps",
                "dfs_low_cp",
                "haq_learns",
                "pareto_inverted",
                "pareto_fan_in",
                "pareto_dual_fixed",
                "pareto_memory",
                "pareto_vgg11",
                "qil_best",
                "qil_fully_connected",
                "quantnas_predictor",
            ),
            "refqnn.papers.experiments",
        ),
    }
)


class Stage(NamedTuple):
    """Runs of one function, recorded in ``file``.jsonl of the study's folder."""

    function: Callable[..., Any]
    runs: Sequence[Mapping[str, Any]]
    file: str


def table(rows: Iterable[Mapping[str, Any]], *names: str) -> list[str]:
    """Return a line of the keys, or of some ``names``, and a line for each row.

    >>> table([{"bits": 4, "lost": 1 / 3}, {"bits": 16, "lost": None}])
    ['bits  lost', '4     0.3333', '16    -']
    """
    every = [{name: row[name] for name in names or row} for row in rows]
    cells = [[*row] for row in every[:1]] + [[*map(cell, r.values())] for r in every]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def cell(value: Any) -> str:
    """Return a value as text: numbers with four digits, lists with spaces.

    >>> cell([0.123456, 2]), cell(None)
    ('0.1235 2', '-')
    """
    if isinstance(value, list | tuple):
        return " ".join(map(cell, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def paired_interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval of paired differences, by Student's t with n - 1.

    differences: n, one a seed  ->  (mean, low, high); of one seed the ends are infinite

    >>> mean, low, high = paired_interval([1.0, 2.0, 3.0])
    >>> mean, round(low, 2), round(high, 2)
    (2.0, -0.48, 4.48)
    """
    d = np.asarray(differences, np.float64)
    mean = float(d.mean())
    if len(d) < 2:
        return mean, -np.inf, np.inf
    half = float(student_t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d)))
    return mean, mean - half, mean + half


@final
@dataclass(frozen=True)
class Study:
    """A declared study. ``s`` below are its settings, an instance of ``settings``.

    stages(s, folder) -> the stages, one after the other; the runs of one are spread
    over workers. rows(s, *outcomes) -> what JSON holds, from the outcomes of every
    stage. lines(s, rows) -> the table as text, by default that of rows in a list.
    figures(s, *outcomes) -> {end of the file's name: figure}.
    """

    name: str
    #: the question, and the figures and tables of the paper that it belongs to
    shows: str
    #: time on two cores: in full, and with ``quick``
    takes: tuple[str, str]
    #: a frozen dataclass of ints, floats, texts, truths, of tuples of them, or None
    settings: type
    quick: Mapping[str, Any]
    stages: Callable[[Any, Path], Iterable[Stage]]
    rows: Callable[..., Any]
    lines: Callable[[Any, Any], Iterable[str]] = lambda _, rows: table(rows)
    figures: Callable[..., Mapping[str, Any]] = lambda *_: {}
    #: of the records, below runs/; studies that share it do not repeat their runs
    folder: str = ""
    #: settings of an experiment where not the defaults of ``settings``
    given: Mapping[str, Any] = field(default_factory=dict)

    def settings_with(self, *, quick: bool = False, **given: Any) -> Any:
        """Return the settings: those given, else of ``quick``, else the study's own.

        Texts are read by the type of their setting. Raises ValueError for a name that
        the study does not have, and for values that it refuses.
        """
        kinds = get_type_hints(self.settings)
        for name in given:
            if name not in kinds:
                raise ValueError(
                    f"{self.name} has no setting {name!r}: {self.settings_line()}"
                )
        values = {
            name: value_of(name, kinds[name], value)
            for name, value in {
                **self.given,
                **(self.quick if quick else {}),
                **given,
            }.items()
        }
        return self.settings(**values)

    def settings_line(self) -> str:
        """Write the settings with their defaults in one line."""
        fields = dataclasses.fields(self.settings)
        own = {f.name: self.given.get(f.name, f.default) for f in fields}
        return ", ".join(f"{k}={text_of(v)}" for k, v in own.items()) or "none"

    def outcomes(
        self, settings: Any, folder: Path, executor: Executor | None = None, **how: Any
    ) -> list[list[Outcome]]:
        """Return the outcomes of every stage; options as of ``Sweep.completed``.

        Raises RuntimeError, once all runs of a stage have ended, where one failed.
        """
        every = []
        for function, runs, file in self.stages(settings, folder):
            sweep = Sweep(function, runs, folder / f"{file}.jsonl")
            every.append(sweep.completed(executor, **how))
        return every


def value_of(name: str, kind: Any, value: Any) -> Any:
    """Return a text as a value of a type; anything else as it is.

    >>> value_of("seeds", tuple[int, ...], "0,1"), value_of("bits", int | None, "none")
    ((0, 1), None)
    """
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    one, *others = get_args(kind) or (kind,)
    if get_origin(kind) is tuple:
        return tuple(value_of(name, one, part) for part in value.split(",") if value)
    if NoneType in others and value == "none":
        return None
    kinds: dict[type, tuple[Callable[[str], Any], str]] = {
        bool: ({"yes": True, "no": False}.__getitem__, "yes or no"),
        int: (int, "a whole number"),
        float: (float, "a number"),
        str: (str, "a text"),
    }
    read, what = kinds[one]
    try:
        return read(value)
    except (ValueError, KeyError):
        raise ValueError(f"{name} must be {what}, got {value!r}") from None


def text_of(value: Any) -> str:
    """Return a value as ``value_of`` reads it.

    >>> text_of((0.5, 2)), text_of(None), text_of(True)
    ('0.5,2', 'none', 'yes')
    """
    if isinstance(value, tuple):
        return ",".join(map(text_of, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def check_settings(settings: Any, **least: float | Collection[str]) -> None:
    """Raise ValueError where a setting, or one of a tuple, is below its least value.

    Texts must be among those that are given. None is not compared; an empty tuple is
    refused.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        values = value if isinstance(value, tuple) else (value,)
        if not values:
            raise ValueError(f"{name} must not be empty")
        for one in values:
            if isinstance(bound, Collection):
                if one not in bound:
                    raise ValueError(f"{name} must be of {[*bound]}, got {one!r}")
            elif one is not None and not one >= bound:
                raise ValueError(f"{name} must be at least {bound}, got {one}")


def checkpoint_folder(
    folder: str | Path, name: str, seed: int, **settings: Any
) -> Path:
    """Name the folder of a run's checkpoints; other settings, other folder.

    >>> checkpoint_folder("runs", "float", 0, epochs=1).name
    'float_0_f75a221d'
    """
    return Path(folder) / f"{name}_{seed}_{digest(settings)[:8]}"


def study_named(name: str) -> Study:
    """Import a study; ``package.module:name`` is one that MODULES does not list.

    Raises ValueError, which lists the studies, where there is none of that name.
    """
    module, _, own = name.rpartition(":")
    module = module or MODULES.get(name, "")
    if not module:
        raise ValueError(f"study must be one of {', '.join(MODULES)}, got {name!r}")
    declared = {study.name: study for study in importlib.import_module(module).STUDIES}
    if own not in declared:
        raise ValueError(f"{module} declares {', '.join(declared)}, got {own!r}")
    return declared[own]
