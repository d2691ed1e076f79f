"""The function under judgement, asked with what it takes.

A function may take fewer arguments than its family has: those it leaves out keep the
defaults of refqnn. It may refuse dtypes or shapes of arguments: calls of such a kind
are left out, or given in another dtype. ``supports`` leaves out more. Whatever is left
out is counted with its reason, so that a verdict can name it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array
from refqnn.conformance.carry.child import Child, isolate
from refqnn.conformance.carry.messages import as_arrays
from refqnn.conformance.carry.words import one_line
from refqnn.conformance.choices.families import Family, Inputs, Outputs
from refqnn.conformance.judge.arguments import (
    Function,
    Kind,
    joint,
    kind_of,
    order_of,
    recasts,
    typical,
    with_defaults,
    without_special,
)
from refqnn.conformance.judge.calls import Broken, as_outputs

Supports = Callable[[Inputs], bool]


#: ranges of codes that a type has, the smallest first
WHOLE_RANGES = ((-8, 7), (0, 15), (-128, 127), (0, 255), (-32768, 32767), (0, 65535))
#: inputs beyond the range of any type of codes, by family
WIDE_PROBES: dict[str, Inputs] = {
    "quantize": {
        "x": np.linspace(-70_000, 70_000, 999).astype(np.float32),
        "scale": np.float32(1),
        "zero_point": 0,
    },
    "requantize": {
        "acc": np.linspace(-70_000, 70_000, 999).astype(np.int32),
        "multiplier": 1 << 30,
        "shift": 1,
        "zero_point": 0,
    },
}


class Every2nd(NamedTuple):
    """An array whose last axis is every second element of memory, as it travels."""

    dense: Array

    def every_second(self) -> Array:
        """Return the array in that layout."""
        *outer, n = self.dense.shape
        memory = np.zeros((*outer, 2 * n), self.dense.dtype)
        memory[..., ::2] = self.dense
        return memory[..., ::2]


def own_copy(value: Any) -> Any:
    """Return an argument that a foreign function may spoil: calls are asked again."""
    if isinstance(value, Every2nd):
        return value.every_second()
    return value.copy() if isinstance(value, np.ndarray) else value


class Unfit(ValueError):  # noqa: N818 - says what the argument is
    """An argument that the type of a foreign function cannot hold: not its fault."""


@dataclass(frozen=True)
class Careful:
    """A function with its arguments laid out in memory, compared before and after."""

    function: Function
    positional: tuple[str, ...]
    keywords: tuple[str, ...]

    def __call__(self, *inputs: Any) -> Any:
        """Return the outputs as arrays; raise Broken where an argument was changed."""
        given = [own_copy(v) for v in inputs]
        before = [np.array(v) if isinstance(v, np.ndarray) else None for v in given]
        split = len(self.positional)
        named = dict(zip(self.keywords, given[split:], strict=True))
        answer = as_arrays(self.function(*given[:split], **named))
        names = (*self.positional, *self.keywords)
        for name, value, old in zip(names, given, before, strict=True):
            if old is not None and old.tobytes() != value.tobytes():
                raise Broken(f"writes into its argument {name}")
        return answer


def is_zero_by_zero(call: Inputs, outputs: Outputs) -> bool:
    """Say whether a quantizer of x alone gives NaN, where a whole filter is 0, only.

    >>> x = np.array([[0.0, 0], [1, 2]])
    >>> is_zero_by_zero({"x": x, "dy": x}, {"y": np.where(x == 0, np.nan, x)})
    True
    """
    if set(call) != {"x", "dy"}:
        return False
    x = call["x"]
    zeros = np.all(x == 0, axis=tuple(range(1, x.ndim)), keepdims=True)
    unknown = [np.isnan(a) for a in outputs.values() if a.shape == x.shape]
    return any(map(np.any, unknown)) and not any(np.any(a & ~zeros) for a in unknown)


def check_gradient_of_each(call: Inputs, outputs: Outputs) -> None:
    """Raise ValueError where a parameter for each filter has one gradient in all.

    A function of one parameter for a tensor does not take several: it is not wrong.
    """
    for name, value in call.items():
        got = outputs.get(f"d{name}")
        if name != "x" and got is not None and np.ndim(value) > 1 and not got.ndim:
            raise ValueError(f"one d{name} for {name} of shape {np.shape(value)}")


@dataclass(eq=False)
class Subject:
    """A function, and what of its family it takes."""

    family: Family
    called: Function
    #: the arguments it is given, in its order
    takes: tuple[str, ...]
    supports: Supports | None = None
    #: kinds of calls that it refuses, and how
    refuses: dict[Kind, str] = field(default_factory=dict)
    #: kinds of calls that it answered
    accepts: set[Kind] = field(default_factory=set)
    #: arguments that it ignores, and the values that it has instead
    built_in: dict[str, Any] = field(default_factory=dict)
    #: the ends of codes that it gives whatever the range, where no type has them
    narrower: tuple[int, int] | None = None
    #: calls that were left out, with the reason
    left_out: list[tuple[Inputs, str]] = field(default_factory=list)
    #: whether NaN for a filter of zeros, 0 / 0, is a refusal of the call
    skips_zeros: bool = False

    def ask(self, call: Inputs) -> Outputs:
        """Call the function; return its outputs, scalars for scalars.

        A flat output of an elementwise family takes the shape of its input, and so
        does the number for one element; Broken where it has another size.
        """
        name = self.family.elementwise
        data = np.asarray(call[name]) if name else np.zeros(0)
        lifted = call | {name: np.atleast_1d(call[name])} if name else call
        try:
            answer = self.called(*(for_travel(lifted[arg]) for arg in self.takes))
        except Broken as error:
            if " cannot hold " in str(error):
                raise Unfit(str(error)) from None
            raise
        outputs = as_outputs(self.family, answer)
        if self.skips_zeros and is_zero_by_zero(call, outputs):
            raise ValueError("NaN where all of a filter or layer is 0: 0 / 0")
        if not name:
            check_gradient_of_each(call, outputs)
            return outputs
        first = self.family.outputs[0]
        if outputs[first].size != data.size:
            raise Broken(
                f"returns {first} of shape {outputs[first].shape} for {name} of shape "
                f"{np.shape(lifted[name])}"
            )
        if not data.ndim:
            return {k: v.reshape(()) if v.size == 1 else v for k, v in outputs.items()}
        return {
            k: v.reshape(data.shape)
            if v.shape == (data.size,) or (k == first and not v.ndim)
            else v
            for k, v in outputs.items()
        }

    def usable(self, call: Inputs) -> Inputs | None:
        """Return a call as the function takes it, None (and note why) if it does not.

        Arguments that it leaves out have their defaults; a refused dtype of codes is
        replaced by one that is not.
        """
        changed = with_defaults(call, self.takes)
        if any(changed[name] != value for name, value in self.built_in.items()):
            self.note(call, f"the function ignores {' and '.join(self.built_in)}")
            changed = {**changed, **self.built_in}
            z = np.asarray(changed["zero_point"])
            if np.any((z < changed["q_min"]) | (z > changed["q_max"])):
                return None
        if changed is not call and not self.is_defined(changed):
            return self.note(call, "the function leaves out the argument")
        if not self.is_supported(changed):
            return self.note(call, "not supported")
        kind = kind_of(changed)
        if kind not in self.refuses:
            return changed
        for other in recasts(changed):
            # a zero-point that moved with its codes may be one that is left out
            whole = with_defaults(other, self.takes) is other
            if whole and kind_of(other) in self.accepts and self.is_supported(other):
                return other
        return self.note(call, f"refused: {self.refuses[kind]}")

    def note(self, call: Inputs, why: str) -> Inputs | None:
        """Note why a call is left out; return None in place of the call."""
        self.left_out.append((call, why))
        return None

    def is_supported(self, call: Inputs) -> bool:
        """Return whether a call is in the part that is judged."""
        if self.supports is None:
            return True
        try:
            return bool(self.supports(dict(call)))
        except Exception as error:
            raise ValueError(
                f"supports({{{', '.join(call)}}}) must be true or false: "
                f"{one_line(error)}"
            ) from error

    def is_defined(self, call: Inputs) -> bool:
        """Return whether the reference accepts a call."""
        return self.family.outputs_or_none(self.family.default, call) is not None

    def settle(self, calls: Sequence[Inputs]) -> None:
        """Find the kinds of arguments that the function refuses, by few calls each.

        A function that refuses every kind is taken to refuse none: it is broken.
        """
        groups: dict[Kind, list[Inputs]] = {}
        for call in calls:
            usable = self.usable(call)
            usable = (usable and without_special(self.family, usable)) or usable
            for each in () if usable is None else (usable, *recasts(usable)):
                if self.is_supported(each):
                    groups.setdefault(kind_of(each), []).append(each)
        self.left_out.clear()
        try:
            refusals = {k: self.refusal(typical(group)) for k, group in groups.items()}
        except Broken:  # it will end the same way when it is judged
            return
        if not all(refusals.values()):
            self.refuses = {kind: why for kind, why in refusals.items() if why}
            self.accepts = set(refusals) - set(self.refuses)

    def find_built_in_range(self, *, or_narrower: bool = False) -> None:
        """Find out whether q_min and q_max are ignored, and what the range is instead.

        Only the whole range of a type counts: another is a mistake. With
        ``or_narrower`` it is noted, and the function asked as one of the type.
        """
        probe = WIDE_PROBES.get(self.family.name, {})
        if not probe or not {"q_min", "q_max"} <= set(self.takes):
            return
        try:
            small, large = (
                self.ask(probe | {"q_min": lo, "q_max": hi})["y"]
                for lo, hi in (WHOLE_RANGES[0], WHOLE_RANGES[-1])
            )
        except Exception:  # noqa: BLE001 - the foreign function may raise anything
            return
        if not np.array_equal(small, large):
            return
        ends = int(small.min()), int(small.max())
        holds = [r for r in WHOLE_RANGES if r[0] <= ends[0] <= ends[1] <= r[1]]
        if holds and (or_narrower or ends == holds[0]):
            self.built_in = dict(zip(("q_min", "q_max"), holds[0], strict=True))
            self.narrower = ends if ends != holds[0] else None

    def refusal(self, calls: Sequence[Inputs]) -> str:
        """Return how the function refuses all of some calls, "" if it answers one."""
        why = ""
        for call in calls:
            try:
                self.ask(call)
            except Broken:
                raise
            except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
                why = one_line(error)
            else:
                return ""
        return why


@contextmanager
def subject_of(
    family: Family,
    function: Function,
    *,
    backward: Function | None = None,
    supports: Supports | None = None,
    in_process: bool = False,
    seconds: float = 10.0,
) -> Iterator[Subject]:
    """Yield a function as the subject of a family, in a child process if asked.

    With ``backward``, the function leaves out the gradient and returns the first
    output; ``backward(dy, *inputs)`` returns the others.
    """
    names = tuple(family.arguments)
    whole = function if backward is None else joint(function, backward, names)
    if isinstance(function, Child):
        seconds = function.seconds
    positional, keywords = order_of(whole, names)
    careful = Careful(whole, positional, keywords)
    here = in_process or (isinstance(function, Child) and function.start == "spawn")
    with isolate(careful, seconds, in_process=here) as called:
        yield Subject(family, called, (*positional, *keywords), supports)


def for_travel(value: Any) -> Any:
    """Return an argument so that its layout in memory survives being sent."""
    if isinstance(value, np.ndarray) and value.ndim and value.size:
        if value.flags.c_contiguous or value.flags.f_contiguous:
            return value
        return Every2nd(np.ascontiguousarray(value))
    return value
