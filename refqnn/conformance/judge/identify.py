"""identify: ask a black box as little as possible and say which variant it is.

Every question is the candidate input whose answer is expected to leave the fewest of
the variants that agree with all answers so far. What no input separates is reported as
one class. A function that contradicts every variant is none of them, and that is said.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from refqnn._types import Array, Bool
from refqnn.conformance.carry.child import isolated
from refqnn.conformance.carry.words import one_line
from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.families import REFUSED, Family, Inputs, family_of
from refqnn.conformance.choices.semantics import Semantics, named, of
from refqnn.conformance.choices.variants import Table, size, table
from refqnn.conformance.judge.calls import (
    Broken,
    as_outputs,
    compare_calls,
    outputs_in_order,
)
from refqnn.conformance.judge.compare import Comparison

Function = Callable[..., Any]
#: at most as many inputs after the last doubt, each a chance to contradict the answer
CONFIRM = 3
#: calls of a random verification, each with parameters of its own
PARTS = 10


@final
@dataclass(frozen=True)
class Identification:
    """What the answers leave."""

    family: str
    #: every variant that agrees with all answers, one class that no probe separates
    alive: tuple[Mapping[str, str], ...]
    #: axes on which all of them agree
    certain: Mapping[str, str]
    #: axes on which they do not, and the answers left
    undetermined: Mapping[str, tuple[str, ...]]
    #: scalar inputs of an elementwise family, calls of any other
    inputs: int
    probes: tuple[int, ...]
    #: why an answer could not be used
    complaint: str = ""

    @property
    def explained(self) -> bool:
        """Whether some variant agrees with every answer."""
        return bool(self.alive)

    @property
    def semantics(self) -> Semantics:
        """The first variant that agrees; raises ValueError if there is none."""
        if not self.alive:
            raise ValueError(f"no variant of {self.family} agrees with every answer")
        return of(self.alive[0])

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "family": self.family,
            "explained": self.explained,
            "certain": dict(self.certain),
            "undetermined": {a: list(v) for a, v in self.undetermined.items()},
            "variants_left": len(self.alive),
            "inputs": self.inputs,
            "probes": list(self.probes),
            "complaint": self.complaint,
        }

    def __str__(self) -> str:
        head = f"{self.family}: {self.inputs} inputs, {len(self.probes)} questions"
        if not self.alive:
            count = len(family_of(self.family).variants())
            none = f"none of the {count} variants gives these answers: "
            why = self.complaint or none + "check_implementation shows the difference"
            return f"{head}\n  {why}"
        lines = [f"  {a:18} {v}{star(a, v)}" for a, v in self.certain.items()]
        open_ = [
            f"  {a:18} undetermined: {' or '.join(v)}"
            for a, v in self.undetermined.items()
        ]
        return "\n".join([head, *lines, *open_])


def star(axis: str, value: str) -> str:
    """Mark an answer that is not refqnn's.

    >>> star("rounding", "floor")
    '   (refqnn: half_even)'
    """
    default = AXES[axis].default
    return "" if value == default else f"   (refqnn: {default})"


def identify(
    fn: Function,
    family: str,
    *,
    backward: Function | None = None,
    confirm: int = CONFIRM,
    in_process: bool = False,
    seconds: float = 10.0,
) -> Identification:
    """Return which variants of ``family`` the function ``fn`` may be.

    ``fn`` takes the inputs of the family by position, arrays of one or few elements,
    and returns its outputs in order; an exception counts as the answer "an error". It
    runs in a child process, ``seconds`` for each call, unless ``in_process``. With
    ``backward``, ``fn`` leaves out dy, the last argument, and returns the first output;
    ``backward(dy, *inputs)`` returns the others.

    >>> found = identify(lambda x, s, z, lo, hi: np.clip(np.rint(x / s) + z, lo, hi),
    ...                  "quantize")
    >>> found.certain["rounding"], found.certain["zero_point_when"]
    ('half_even', 'after_rounding')
    """
    known = table(family)
    whole = fn if backward is None else both(fn, backward)
    with isolated(whole, seconds, in_process=in_process) as called:
        return ask_until_decided(called, known, confirm)


def ask_until_decided(fn: Function, known: Table, extra: int) -> Identification:
    """Ask until no probe tells the variants left apart, and ``extra`` inputs more."""
    alive = list(range(len(known.variants)))
    asked: list[int] = []
    complaint = ""
    while alive:
        probe = known.best(alive, asked)
        if probe is None:
            probe = surprising_probe(known, alive[0], asked)
            extra -= 0 if probe is None else size(known.family, known.probes[probe])
            if probe is None or extra < 0:
                break
        asked.append(probe)
        answer, complaint = ask(fn, known, probe)
        alive = remaining(known, alive, probe, answer)
    return conclude(known, alive, asked, complaint)


def verify(
    fn: Function,
    family: str,
    semantics: Mapping[str, str],
    *,
    rng: np.random.Generator,
    inputs: int = 100_000,
    in_process: bool = False,
    seconds: float = 60.0,
) -> Comparison:
    """Compare a function with the semantics it is said to have, on random inputs.

    ``identify`` chooses among documented variants; this is what can prove it wrong.

    >>> rint = lambda x, s, z, lo, hi: np.clip(np.rint(x / s) + z, lo, hi)
    >>> said = Semantics(rounding="half_up")
    >>> found = verify(rint, "quantize", said, rng=np.random.default_rng(0), inputs=999)
    >>> found.conforms
    False
    """
    of_family = family_of(family)
    choices = of_family.choices(semantics)
    calls = [of_family.draw(rng, max(inputs // PARTS, 1)) for _ in range(PARTS)]
    try:
        with isolated(fn, seconds, in_process=in_process) as called:
            got = [as_outputs(of_family, called(*call.values())) for call in calls]
    except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
        return Comparison(family, 0, 0, error=one_line(error))
    want = [of_family.evaluate(choices, **call) for call in calls]
    return compare_calls(of_family, got, want, family)


def both(fn: Function, backward: Function) -> Function:
    """Return one function from a forward and its vector-Jacobian product."""

    def whole(*args: Any) -> tuple[Any, ...]:
        *inputs, dy = args
        return (fn(*inputs), *outputs_in_order(backward(dy, *inputs)))

    return whole


def surprising_probe(known: Table, winner: int, asked: Sequence[int]) -> int | None:
    """Return a probe that would surprise, of a kind that was not asked.

    The kind of a probe is which variants answer it unlike the winner. Of the new kinds
    the one on which most variants differ: what would be news if contradicted.
    """
    unlike = known.labels != known.labels[winner]
    kinds = {unlike[:, p].tobytes() for p in asked}
    order = np.argsort(-unlike.sum(axis=0), kind="stable")
    fresh = (int(p) for p in order if int(p) not in asked)
    return next(
        (
            p
            for p in fresh
            if unlike[:, p].any() and unlike[:, p].tobytes() not in kinds
        ),
        None,
    )


def ask(fn: Function, known: Table, probe: int) -> tuple[Array | None, str]:
    """Return the answer as a vector, or None and why it is none."""
    family, inputs = known.family, known.probes[probe]
    want = known.outcomes[probe].shape[1]
    try:
        got = fn(*lift_scalar(family, inputs).values())
    except Broken as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
        if family.name == "quantize":
            return np.full(want, REFUSED, np.float64), ""
        return None, one_line(error)
    return as_vector(got, want)


def lift_scalar(family: Family, inputs: Inputs) -> Inputs:
    """Return the inputs of a call: an elementwise argument is at least (1,)."""
    name = family.elementwise
    if not name or np.ndim(inputs[name]):
        return inputs
    return {**inputs, name: np.atleast_1d(inputs[name])}


def as_vector(got: Any, want: int) -> tuple[Array | None, str]:
    """Return everything a function returned as one vector of ``want`` numbers."""
    parts = tuple(got.values()) if isinstance(got, Mapping) else outputs_in_order(got)
    try:
        flat = [np.asarray(part, np.float64).ravel() for part in parts]
    except (TypeError, ValueError) as error:
        return None, f"returned what is no array: {error}"
    vector = np.concatenate(flat) if flat else np.zeros(0)
    if len(vector) != want:
        return None, f"returned {len(vector)} numbers, want {want}"
    return vector, ""


def remaining(
    known: Table, alive: Sequence[int], probe: int, answer: Array | None
) -> list[int]:
    """Return the variants, of those alive, that give this answer to a probe."""
    if answer is None:
        return []
    same: Bool = np.all(known.family.agree(answer, known.outcomes[probe]), axis=1)
    return [v for v in alive if bool(same[v])]


def conclude(
    known: Table, alive: Sequence[int], asked: Sequence[int], complaint: str = ""
) -> Identification:
    """Say what is certain and what is not."""
    left = [known.variants[v] for v in alive]
    given = {
        axis: tuple(dict.fromkeys(v[axis] for v in left)) for axis in known.family.axes
    }
    return Identification(
        known.family.name,
        tuple(left),
        {a: v[0] for a, v in given.items() if len(v) == 1},
        {a: v for a, v in given.items() if len(v) > 1},
        sum(size(known.family, known.probes[p]) for p in asked),
        tuple(asked),
        complaint,
    )


def described(found: Identification, declared: Mapping[str, str]) -> str:
    """Return in one line how what was found deviates from what was declared."""
    if not found.alive:
        return f"{found.family}: none of the variants"
    return f"{found.family}: {named(found.alive[0], declared)}"
