"""Which laws does a quantizer obey? A row of the property matrix, by search.

Inputs that break a law are short and round: numbers of a few sixteenths, repeated or
halfway between two levels. All arrays of one and two such numbers are tried, then
random ones; the first that breaks a law is made as small as it gets.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import isclass
from typing import Any

import numpy as np

from refqnn._types import Array, Float
from refqnn.core import Run
from refqnn.testing.gradients import check_gradients
from refqnn.testing.grids import check_codes, check_scale
from refqnn.testing.laws import ABOUT_PARAMETERS, LAWS, holds
from refqnn.testing.module_passes import check_unfrozen, module_error
from refqnn.testing.networks import check_still, in_float64
from refqnn.testing.subjects import (
    Layout,
    Quantizer,
    heavy_tailed,
    scale_parameters,
    show,
    subject,
)
from refqnn.testing.trials import (
    answer,
    as_tuple,
    check_question,
    handing,
    output_and_cache,
    plain,
    takes_frozen,
    undoing,
)

MARKS = {"holds": "y", "fails": "n", "not asked": "-"}
ROUND = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 5.0, 1e-7, 1e4)
RANDOM = 150


@dataclass(frozen=True)
class Report:
    """The laws of one quantizer; ``str`` is its row of the property matrix."""

    name: str
    #: law -> "holds" or "fails"; without parameters JSE and INV are not asked
    laws: dict[str, str]
    #: law that fails -> the smallest input on which it does
    counterexamples: dict[str, Array]
    #: distinct outputs in a group, as many as were met
    levels: int
    #: largest relative error of the gradients; None: there was no backward to check
    gradient_error: float | None = None

    def __str__(self) -> str:
        head = ["quantizer", "levels", *LAWS]
        marks = [MARKS[self.laws.get(law, "not asked")] for law in LAWS]
        rows = [head, ["---"] * len(head), [self.name, str(self.levels), *marks]]
        lines = [f"| {' | '.join(cells)} |" for cells in rows]
        lines += [
            f"{law} fails on {show(v)}" for law, v in self.counterexamples.items()
        ]
        return "\n".join(lines)


def check_quantizer(
    forward: Any,
    backward: Any = None,
    *,
    parameters: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
    expected: Mapping[str, Any] | Iterable[str] | None = None,
    groups: Any = None,
    linear: bool = True,
) -> Report:
    """Find which of the ten laws hold, with a smallest counterexample for each other.

    ``forward(v, *parameters, **options)`` gives y or (y, cache) and may be of NumPy,
    torch or jax; or it is a module of quantizers, or its class, of which ``parameters``
    then names the Params that JSE and INV multiply (all of them). A backward is
    checked by ``check_gradients`` on the frozen forward, if it takes ``frozen``, that
    of a module by record and replay; without a frozen form for shape, dtype and
    linearity in dy. ``groups`` says which values share levels, "filter", "layer" or a
    function from v to a list of arrays; without it, it is found by trying. A backward
    that scales dy by its own sign is not linear: with ``linear=False`` only its shape,
    dtype and finiteness are checked.

    Raises AssertionError for what no quantizer may do (another shape or dtype, NaN,
    writing into its input, answers that depend on earlier calls, a wrong gradient), and
    where a law is not as ``expected``: names of laws that hold, or {law: verdict}.

    >>> report = check_quantizer(lambda v: np.sign(v))
    >>> report.laws["ODD"], report.laws["SE"], report.counterexamples["SE"]
    ('holds', 'fails', array([[1.]], dtype=float32))
    """
    options = dict(options or {})
    if isclass(forward) and not hasattr(forward, "backward"):  # a module of torch
        forward, options = forward(**options), {}
    quantizer = subject(forward, parameters, options)
    check_contract(quantizer)
    quantizer.look(groups)
    ways = quantizer.layout, quantizer.framework
    error = gradient_error(
        forward, backward, parameters, options, ways=ways, linear=linear
    )
    inputs = [quantizer.layout.fit(v) for v in candidates(quantizer)]
    unasked = set() if quantizer.has_parameters else ABOUT_PARAMETERS
    asked = [law for law in LAWS if law not in unasked]
    broken = first_broken(quantizer, inputs, asked)
    smallest = {law: shrink(law, quantizer, broken[law]) for law in broken}
    verdicts = {law: "fails" if law in broken else "holds" for law in asked}
    levels = max(np.unique(y).size for v in inputs for y in outputs(quantizer, v))
    if quantizer.levels is not None:
        levels = quantizer.levels.size
    report = Report(quantizer.name, verdicts, smallest, levels, error)
    check_expected(report, expected)
    return report


def check_expected(
    report: Report, expected: Mapping[str, Any] | Iterable[str] | None
) -> None:
    """Raise AssertionError, with the counterexample, where a law is not as expected."""
    if expected is None:
        return
    claims = verdicts_of(expected)
    have = {law: report.laws.get(law, "not asked") for law in claims}
    wrong = [law for law in claims if have[law] != claims[law]]
    if wrong:
        lines = [f"{law} {have[law]}, expected: {claims[law]}" for law in wrong]
        raise AssertionError("; ".join(lines) + f"\n{report}")


def verdicts_of(expected: Mapping[str, Any] | Iterable[str]) -> dict[str, str]:
    """Read what is expected: {law: verdict}, or the laws that hold.

    >>> verdicts_of(["ODD"]), verdicts_of({"SE": False})
    ({'ODD': 'holds'}, {'SE': 'fails'})
    """
    if not isinstance(expected, Mapping):
        laws = [expected] if isinstance(expected, str) else expected
        expected = dict.fromkeys(laws, "holds")
    return {law: verdict_of(law, claim) for law, claim in expected.items()}


def verdict_of(law: str, claim: Any) -> str:
    """Read a verdict: its word, its mark, or whether the law holds.

    >>> verdict_of("ODD", "y"), verdict_of("ODD", False)
    ('holds', 'fails')
    """
    words: dict[Any, str] = {mark: word for word, mark in MARKS.items()}
    word = (words | {True: "holds", False: "fails"}).get(claim, claim)
    if law not in LAWS or word not in MARKS:
        raise ValueError(
            f"expected must map laws of {list(LAWS)} to 'holds', 'fails' or "
            f"'not asked', got {law!r}: {claim!r}"
        )
    return str(word)


def check_contract(quantizer: Quantizer) -> None:
    """Raise AssertionError for what no quantizer may do, on values of every kind."""
    if quantizer.first is not None:
        v, want = quantizer.first
        check_again(quantizer, v, want.reshape(-1))
    refusals = []
    inputs = [
        *(heavy_tailed(seed) for seed in range(3)),
        np.zeros((2, 3), np.float32),
        np.ones((1, 1), np.float32),
        heavy_tailed(3, np.float64),
    ]
    for v in map(quantizer.layout.fit, inputs):
        try:
            check_answer(quantizer, v)
        except ValueError as error:
            refusals.append(f"for v = {show(v)}: {error}")
    if len(refusals) == len(inputs):
        text = f"{quantizer.name} raises {refusals[0]}"
        raise AssertionError(f"nothing was checked: {text}")


def check_answer(quantizer: Quantizer, v: Float) -> None:
    """Raise AssertionError unless the answer is finite, fresh, and repeated."""
    name, before = quantizer.name, v.copy()
    where = f"for v = {show(before)}"
    y = quantizer.apply(v)
    if not np.array_equal(v, before):
        raise AssertionError(f"{name} writes into its input {where}")
    if type(y) is not np.ndarray or y.shape != v.shape:
        same_type = isinstance(y, np.generic) or type(y) is np.ndarray
        kind = y.shape if same_type else type(y).__name__
        raise AssertionError(f"{name} gives {kind} for the shape {v.shape}")
    if y.dtype != v.dtype:
        raise AssertionError(f"{name} gives the dtype {y.dtype} for {v.dtype}")
    if np.shares_memory(y, v):
        raise AssertionError(f"{name} gives its input, or a part of it, {where}")
    if not np.isfinite(y).all():
        at = tuple(map(int, np.argwhere(~np.isfinite(y))[0]))
        raise AssertionError(
            f"{name} gives NaN or infinity {where}: {y[at]} at {list(at)}, for {v[at]}"
        )
    first = y.copy()
    for other in (heavy_tailed(9) * 2, -v[::-1]):
        with contextlib.suppress(ValueError):
            quantizer.apply(quantizer.layout.fit(other))
    if not np.array_equal(y, first):
        raise AssertionError(f"{name} writes a later answer over this one {where}")
    check_again(quantizer, v, first.reshape(-1))
    if quantizer.module is not None:
        check_codes(quantizer.module, v)
        if hasattr(quantizer.module, "grid"):
            check_scale(quantizer.module, v)


def check_again(quantizer: Quantizer, v: Float, want: Float) -> None:
    """Raise AssertionError unless another call for v gives ``want``, too."""
    have = quantizer.apply(v.copy())
    if not np.array_equal(np.ravel(have), want, equal_nan=want.dtype.kind == "f"):
        raise AssertionError(
            f"{quantizer.name} gives another answer when it is called again for "
            f"v = {show(v)}: it depends on earlier calls or on chance"
        )


def first_broken(
    quantizer: Quantizer, inputs: Iterable[Float], laws: Iterable[str]
) -> dict[str, Float]:
    """Map each law that breaks to the first input on which it does."""
    broken: dict[str, Float] = {}
    pending = list(laws)
    for v in inputs:
        with quantizer.remembering():
            for law in [law for law in pending if not holds(law, quantizer, v)]:
                broken[law] = v
                pending.remove(law)
    return {law: broken[law] for law in LAWS if law in broken}


def outputs(quantizer: Quantizer, v: Float) -> list[Float]:
    """Quantize every group; values that are refused have no output."""
    try:
        return quantizer.groups(quantizer.apply(v))
    except ValueError:
        return []


def candidates(quantizer: Quantizer) -> Iterator[Float]:
    """Yield inputs from short and round to long and random, in the quantizer's range.

    A grid in other units than 1 is met by a power of two near its largest level.
    """
    scales, levels = {1.0}, quantizer.levels
    top = 0.0 if levels is None else float(np.abs(levels).max(initial=0))
    if top > 0:
        scales.add(float(2.0 ** np.round(np.log2(top) - 1)))
    special = [np.float32(sign * x) for x in ROUND for sign in (1, -1)]
    if levels is not None:
        thin = levels[:: -(-levels.size // 32)]
        ties = [(a + b) / 2 for a, b in itertools.pairwise(levels)]
        ties = ties[:: -(-max(len(ties), 1) // 32)]
        special += [*thin, *ties, *(-x for x in ties)]
    for x, scale in itertools.product(special, scales):
        yield np.full((1, 1), x * scale, np.float32)
    for length in (2, 3):
        for row in itertools.product((0, 0.5, 1, -1, 0.75, 3), repeat=length):
            yield np.array([row], np.float32)
    rng = np.random.default_rng(0)
    for seed, scale in itertools.product(range(RANDOM), scales):
        shape = (rng.integers(1, 4), rng.integers(1, 7))
        yield rng.integers(-64, 65, shape).astype(np.float32) * np.float32(scale / 16)
        yield heavy_tailed(seed) * np.float32(scale)


def shrink(law: str, quantizer: Quantizer, v: Float) -> Float:
    """Make a counterexample as small as it gets: fewer rows and columns, rounder."""

    def breaks(w: Float) -> bool:
        fits = w.shape == quantizer.layout.fit(w).shape
        return w.size > 0 and fits and not holds(law, quantizer, w)

    moved = True
    while moved:
        moved = False
        for axis in (0, 1):
            for i in reversed(range(v.shape[axis])):
                less = np.delete(v, i, axis)
                if breaks(less):
                    v, moved = less, True
        for at in np.ndindex(v.shape):
            x = v[at]
            for y in (
                0,
                np.sign(x),
                np.rint(x),
                np.rint(2 * x) / 2,
                np.rint(4 * x) / 4,
            ):
                w = v.copy()
                w[at] = y
                simpler = (len(f"{abs(y):g}"), abs(y)) < (len(f"{abs(x):g}"), abs(x))
                if simpler and breaks(w):
                    v, moved = w, True
                    break
    return v


def gradient_error(
    forward: Any,
    backward: Any,
    parameters: Sequence[Any],
    options: Mapping[str, Any],
    *,
    ways: tuple[Layout, Any] = (Layout(), None),
    linear: bool = True,
) -> float | None:
    """Return the largest relative error of a backward; None for a quantizer without.

    ``ways``: which arrays a function takes, and whose.
    """
    if isclass(forward) or hasattr(forward, "backward"):
        module = in_float64(forward(**options) if isclass(forward) else forward)
        rng = np.random.default_rng(1)
        v = heavy_tailed(5, np.float64)
        if backward is not None:
            raise ValueError("a module has its own backward: leave backward out")
        module.forward(v, Run(training=True, rng=rng))
        check_still(module, heavy_tailed(8, np.float64))
        return module_error(module, v, linear=linear)
    if backward is None:
        return None
    check_question(forward, backward, [])
    layout, framework = ways
    undo = undoing(backward, framework)
    frozen = linear and takes_frozen(forward, unknown=False)
    worst = 0.0
    for seed in range(5):
        v = layout.filters(layout.fit(heavy_tailed(seed, np.float64)))
        args = (v, *scale_parameters(parameters, v, 1))
        if framework is not None:
            args = handing(lambda *given: given, framework)(*args)
        y, cache = output_and_cache(answer("forward", forward, *args, **options))
        y = plain(y)
        grads = as_tuple(answer("backward", undo, np.ones_like(y), cache))
        if not frozen:
            check_unfrozen(undo, y, cache, v, linear=linear)
            continue
        rng = np.random.default_rng(seed)
        error = check_gradients(
            forward,
            backward,
            args,
            wrt=range(min(len(grads), len(args))),
            frozen=True,
            options=options,
            rng=rng,
        )
        worst = max(worst, error)
    return worst if frozen else None
