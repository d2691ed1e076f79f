"""Mistakes planted in the backward passes of quantizers are caught and named.

Only the public checkers look: ``check_gradients``, and ``check_quantizer`` with a
backward.
"""

import numpy as np
import pytest
from tables.quantizers import PAIRS

from refqnn import quantizers as qz
from refqnn.testing import check_gradients, check_quantizer

#: quantizers that learn something beside the values
LEARNING = {pair.name: pair for pair in PAIRS if len(pair.wrt) > 1}


def of_values(change):
    """A mistake in the gradient of the values: change(dv, dy, v)."""

    def wrong(right, dy, args):
        dv, *others = right(dy)
        return change(dv, dy, args[0]), *others

    return wrong


def closed(places):
    """A mask closed at places(v, where it is open)."""

    def wrong(right, dy, args):
        dv, *others = right(dy)
        passes = right(np.ones_like(dy))[0] != 0
        return np.where(places(args[0], passes), 0, dv), *others

    return wrong


def of_parameter(change):
    """A mistake in the gradient of the first parameter: change(dp, dy)."""

    def wrong(right, dy, args):  # noqa: ARG001 - one signature for all
        dv, dp, *others = right(dy)
        return dv, np.asarray(change(dp, dy)), *others

    return wrong


def of_dy(change):
    """A wrong use of dy: change(dy, v)."""
    return lambda right, dy, args: right(change(dy, args[0]))


def parameter_from(change):
    """The first parameter gets the gradient of a changed dy: change(dy, v)."""

    def wrong(right, dy, args):
        dv, _, *others = right(dy)
        return dv, right(change(dy, args[0]))[1], *others

    return wrong


#: mistake -> the backward with it, and what the diagnosis says
MISTAKES = {
    "sign of dv": (of_values(lambda dv, *_: -dv), "sign is turned"),
    "sign of dp": (of_parameter(lambda dp, _: -dp), "sign is turned"),
    "factor of dv": (of_values(lambda dv, *_: dv * 1.001), "a factor of 1.001"),
    "factor of dp": (of_parameter(lambda dp, _: 2 * dp), "a factor of 2"),
    "mean for sum": (of_parameter(lambda dp, dy: dp / dy.size), "the mean over|factor"),
    "magnitude of dy": (of_dy(lambda dy, _: np.abs(dy)), r"\|dy\| instead of dy"),
    "dy unused": (of_dy(lambda dy, _: np.ones_like(dy)), "dy is not used"),
    "sign of dy only": (of_dy(lambda dy, _: np.sign(dy)), "only the sign of dy"),
    "mask opened above": (
        of_values(lambda dv, dy, v: np.where((v > 0) & (dv == 0), dy, dv)),
        "mask is opened",
    ),
    "mask opened below": (
        of_values(lambda dv, dy, v: np.where((v <= 0) & (dv == 0), dy, dv)),
        "mask is opened",
    ),
    "mask closed below": (
        closed(lambda v, passes: v <= np.median(v[passes])),
        "mask is closed|zero, the mask is closed",
    ),
    "mask closed in one place": (
        closed(lambda v, passes: v == v[passes].max()),
        "mask is closed|zero, the mask is closed",
    ),
    "parameter without the largest value": (
        parameter_from(lambda dy, v: np.where(v < v.max(), dy, 0)),
        "mask|factor|differs|zero",
    ),
    "constant added": (of_values(lambda dv, *_: dv + 0.01), "dv|dw|dx"),
}
#: every value gets a gradient, so that no mask can be opened
UNMASKED = ("kmeans_weight", "ttq", "syq", "lq, {-1, 1}")
#: negative values get one
UNMASKED_BELOW = ("lq, {0, 1}",)


def inert(name, mistake):
    """Say whether a planted change equals the right backward."""
    below = mistake == "mask opened below" and name.startswith(UNMASKED_BELOW)
    return below or (mistake.startswith("mask opened") and name.startswith(UNMASKED))


PLANTED = [
    (name, mistake)
    for name in LEARNING
    for mistake in MISTAKES
    if not inert(name, mistake)
]


def planted(pair, mistake, seed):
    """Draw arguments, and plant the mistake; None where it changes nothing."""
    args, options = pair.draw(np.random.default_rng(seed))
    wrong, _ = MISTAKES[mistake]

    def backward(dy, cache):
        return wrong(lambda dy: pair.backward(dy, cache), dy, args)

    y, cache = pair.forward(*args, **options)
    if not np.any(pair.backward(np.ones_like(y), cache)[0]):
        return None  # no value gets a gradient
    dy = np.random.default_rng(1).normal(size=y.shape) - 0.1
    grads = zip(pair.backward(dy, cache), backward(dy, cache), strict=True)
    changes = not all(np.allclose(a, b, rtol=1e-5, atol=1e-9) for a, b in grads)
    return (args, options, backward) if changes and y.size > 3 else None


@pytest.mark.parametrize(("name", "mistake"), PLANTED)
def test_a_planted_mistake_is_caught_and_named(name, mistake):
    pair = LEARNING[name]
    cases = (planted(pair, mistake, seed) for seed in range(60))
    args, options, backward = next(filter(None, cases))
    settings = {"wrt": pair.wrt, "frozen": True, "options": options}
    assert check_gradients(pair.forward, pair.backward, args, **settings) < 1e-6
    with pytest.raises(AssertionError, match=MISTAKES[mistake][1]):
        check_gradients(pair.forward, backward, args, **settings)


def test_sixty_and_more_are_planted_in_every_learning_quantizer():
    assert len(PLANTED) >= 60
    assert {name.split(",")[0] for name, _ in PLANTED} >= {
        "abc_activation",
        "kmeans_weight",
        "lq",
        "lsq",
        "pact",
        "qil_activation",
        "qil_weight",
        "syq",
        "ttq",
    }


@pytest.mark.once
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_search_for_laws_catches_them_too(mistake):
    wrong, _ = MISTAKES[mistake]

    def forward(v, s, *, frozen=None):
        y, cache = qz.lsq(v, s, q_n=4, q_p=3, frozen=frozen and frozen[0])
        return y, (cache, v)

    def backward(dy, cache):
        return wrong(lambda dy: qz.lsq_backward(dy, cache[0]), dy, cache[1:])

    assert check_quantizer(qz.lsq, parameters=(0.3,), options={"q_n": 4, "q_p": 3})
    with pytest.raises(AssertionError, match=r"d(v|s)(\[| is)"):
        check_quantizer(forward, backward, parameters=(0.3,))
