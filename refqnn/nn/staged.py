"""Training in stages: each network starts from the values of the one before.

What both have is carried over by name (``carry_over``): weights, running statistics,
and the parameters of quantizers whose shapes do not depend on the bits. Every stage has
its own generator, made from the seed and the number of the stage, so that a stage that
is cut off and resumed goes on to the same bits.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Int
from refqnn.core import named_buffers, named_params
from refqnn.files import read_lines, write_lines
from refqnn.nn.training import Training, fit
from refqnn.nn.transfer import carry_over

Builder = Callable[[np.random.Generator], Any]
#: (network, generator, epochs) -> the training of one stage, not begun
Begin = Callable[[Any, np.random.Generator, int], Training]
#: the file of a folder that says what its stages are
PLAN = "stages"


class Stage(NamedTuple):
    """A stage that has ended."""

    name: str
    network: Any
    #: one an epoch, as ``fit`` returns them
    records: list[dict[str, Any]]


def fit_stages(
    stages: Iterable[tuple[str, Builder]],
    begin: Begin,
    train: tuple[Array, Int],
    *,
    epochs: int | Sequence[int],
    seed: int = 0,
    source: Any = None,
    test: tuple[Array, Int] | None = None,
    folder: str | Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool | None = None,
) -> list[Stage]:
    """Train the network of each stage in turn, from the values of the one before.

    stages: (name, build) with ``build(rng)`` a fresh network; ``begin(network, rng,
    epochs)`` is its training. ``epochs`` is one number for all stages or one a stage.
    The first stage starts from ``source``, or as it was built.

    train, test: (images (N, C, H, W), labels (N,))

    In ``folder`` every stage keeps NAME.npz, its checkpoint, and NAME.jsonl, its
    metrics; stages.jsonl says what the stages are: name, epochs, seed and configuration
    (not ``source``, the data, or what ``begin`` chooses). Stages found there are
    resumed or, where they have ended, read. Stages may be added at the end; ValueError
    where the folder holds others, where a name is no file name or stands twice, and
    where two networks have no name in common.
    """
    named = [*stages]
    lengths = lengths_of(epochs, len(named))
    check_names([name for name, _ in named])
    rngs = [np.random.default_rng([seed, i]) for i in range(len(named))]
    networks = [build(rng) for (_, build), rng in zip(named, rngs, strict=True)]
    names = [name for name, _ in named]
    if folder is not None:
        keep_plan(Path(folder), plan_of(names, networks, lengths, seed))
    ended: list[Stage] = []
    for name, network, rng, length in zip(names, networks, rngs, lengths, strict=True):
        start_from(source, network, name)
        records = fit(
            begin(network, rng, length),
            train,
            epochs=length,
            test=test,
            checkpoint=None if folder is None else Path(folder) / f"{name}.npz",
            checkpoint_every=checkpoint_every,
            metrics=None if folder is None else Path(folder) / f"{name}.jsonl",
            progress=progress,
        )
        ended.append(Stage(name, network, records))
        source = network
    return ended


def lengths_of(epochs: int | Sequence[int], stages: int) -> list[int]:
    """List the epochs of every stage.

    >>> lengths_of(3, 2), lengths_of([4, 1], 2)
    ([3, 3], [4, 1])
    """
    if isinstance(epochs, int | np.integer):
        return [int(epochs)] * stages
    if len(epochs) != stages:
        raise ValueError(
            f"epochs must be one number or one a stage: {len(epochs)} numbers, "
            f"{stages} stages"
        )
    return [int(length) for length in epochs]


def check_names(names: Sequence[str]) -> None:
    """Raise unless every name is the stem of a file of its own."""
    for i, name in enumerate(names):
        if name != Path(name).name or not name or name == PLAN:
            raise ValueError(
                f"the name of a stage must be a file name and not {PLAN!r}, "
                f"got {name!r}"
            )
        if name in names[:i]:
            raise ValueError(f"two stages have the name {name!r}")


def start_from(source: Any, network: Any, name: str) -> None:
    """Carry over the values of ``source``; raise where no name agrees."""
    if source is None:
        return
    left = carry_over(source, network)
    if len(left) == len(named_params(network) | named_buffers(network)):
        raise ValueError(
            f"the network of stage {name!r} shares no name with the one before it"
        )


def plan_of(
    names: Sequence[str], networks: Sequence[Any], epochs: Sequence[int], seed: int
) -> list[dict[str, Any]]:
    """List name, epochs, seed and configuration of every stage, as JSON gives them."""
    lines = [
        {
            "name": name,
            "epochs": length,
            "seed": seed,
            "config": dict(getattr(network, "config", {})),
        }
        for name, network, length in zip(names, networks, epochs, strict=True)
    ]
    return [json.loads(json.dumps(line)) for line in lines]


def keep_plan(folder: Path, plan: list[dict[str, Any]]) -> None:
    """Write the plan; raise where the folder holds the stages of another."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{PLAN}.jsonl"
    if path.exists():
        before = read_lines(path)
        for was, now in zip(before, plan, strict=False):
            if was != now:
                raise ValueError(f"{path} holds the stage {was}, not {now}")
        if len(before) > len(plan):
            raise ValueError(
                f"{path} holds {len(before)} stages, and {len(plan)} are asked for"
            )
    write_lines(path, plan)
