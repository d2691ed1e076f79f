"""The smallest call on which a function and a variant give different outputs."""

from collections.abc import Callable, Sequence

import numpy as np

from refqnn.conformance.choices.families import Choices, Family, Inputs
from refqnn.conformance.judge.calls import Answered
from refqnn.conformance.judge.confirm import (
    count_wrong,
    elements,
    right,
    right_elements,
    split,
    thin,
)
from refqnn.conformance.judge.reproduce import call_text, numbers, shrink, wrong_values
from refqnn.conformance.judge.subject import Subject


def smallest_failure(
    subject: Subject, choices: Choices, answers: Sequence[Answered]
) -> str:
    """Return the smallest call that contradicts a variant, and both answers.

    One element where one alone contradicts; else fewer numbers, zeros where they do.
    """
    family = subject.family
    bad = [a for a in answers if count_wrong(family, choices, *a)]
    if not bad:
        return ""
    fails = failing(subject, choices)
    call = min((a.call for a in bad), key=numbers)
    if family.elementwise:
        alone = next((e for e in one_by_one(family, choices, bad) if fails(e)), None)
        call = shortest(family, call, fails) if alone is None else alone
    else:
        call = shrink(family, call, fails)
    try:
        got, want = subject.ask(call), family.evaluate(choices, **call)
    except Exception:  # noqa: BLE001 - the foreign function may raise anything
        return ""
    name = next(
        (k for k in want if not right_elements(family, call, got[k], want[k]).all()), ""
    )
    if not name:
        return ""
    return f"{call_text(call)}   {wrong_values(family, name, got[name], want[name])}"


def smallest_answer(
    family: Family, choices: Choices, answers: Sequence[Answered]
) -> str:
    """Return the smallest input whose answer contradicts a variant, and both answers.

    As ``smallest_failure``, where nobody can be asked again.
    """
    bad = [a for a in answers if count_wrong(family, choices, *a)]
    if not bad:
        return ""
    call, got = min(bad, key=lambda answer: numbers(answer.call))
    want = family.outputs_or_none(choices, call)
    good = right(family, choices, call, got)
    if want is None or good is None:
        return call_text(call)
    name = next(k for k in want if not good[k].all())
    data = np.asarray(call.get(family.elementwise, np.nan), np.float64)
    if good[name].shape != data.shape:
        values = wrong_values(family, name, got[name], want[name])
        return f"{call_text(call)}   {values}"
    size = np.abs(data)
    place = int(np.argmin(np.where(good[name] | np.isnan(size), np.inf, size)))
    one = elements(family, call)[place]
    return f"{call_text(one)}   " + wrong_values(
        family, name, *(np.ravel(side[name])[place] for side in (got, want))
    )


def failing(subject: Subject, choices: Choices) -> Callable[[Inputs], bool]:
    """Return the test whether the subject contradicts a variant on a call."""

    def fails(call: Inputs) -> bool:
        usable = subject.usable(call)
        if usable is not call:
            return False
        try:
            return count_wrong(subject.family, choices, call, subject.ask(call)) > 0
        except Exception:  # noqa: BLE001 - an error is no other answer
            return False

    return fails


def one_by_one(
    family: Family, choices: Choices, bad: Sequence[Answered]
) -> list[Inputs]:
    """Return some elements that contradict a variant, those nearest to 0 first."""
    wrong: list[Inputs] = []
    for call, got in bad:
        split(family, choices, call, got, wrong, [])
    single = [e for e in wrong if np.size(e[family.elementwise]) == 1]

    def magnitude(call: Inputs) -> float:
        value = abs(float(np.ravel(call[family.elementwise])[0]))
        return np.inf if np.isnan(value) else value

    return sorted(thin(single), key=magnitude)[:12]


def shortest(family: Family, call: Inputs, fails: Callable[[Inputs], bool]) -> Inputs:
    """Return the first elements of a call, as few as still fail; 1 axis only."""
    data = np.asarray(call[family.elementwise])
    if data.ndim != 1:
        return call
    fewest, most = 0, data.size
    while most - fewest > 1:
        middle = (fewest + most) // 2
        if fails(first_elements(call, data.size, middle)):
            most = middle
        else:
            fewest = middle
    return first_elements(call, data.size, most)


def first_elements(call: Inputs, size: int, n: int) -> Inputs:
    """Return a call with the first n of every array of ``size`` elements."""
    return {
        name: value[:n] if np.shape(value) == (size,) else value
        for name, value in call.items()
    }
