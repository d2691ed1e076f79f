"""A row of the table of pairs, and a checker for each law of pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

STEP = 1e-5


@dataclass(frozen=True)
class Pair:
    """A forward, its backward, and what the laws need to know about them."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    #: draw(rng) -> (args, options), float64
    draw: Callable[..., Any]
    #: the same forward in plain loops, without a cache
    loop: Callable[..., Any]
    #: positions of the differentiable arguments, in the order of the gradients
    wrt: tuple[int, ...] = (0,)
    #: positions of the arguments whose first axis is the batch; none: images interact
    batch: tuple[int, ...] = (0,)
    #: (part of the message, args, options) of calls that must raise
    wrong: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...] = ()
    straight_through: bool = False

    def __str__(self) -> str:
        return self.name


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


def draw_dy(rng, y):
    dy = tuple(
        rng.normal(size=np.shape(part)).astype(part.dtype) for part in as_tuple(y)
    )
    dy = tuple(float(d) if d.shape == () else d for d in map(np.asarray, dy))
    return dy if isinstance(y, tuple) else dy[0]


def arrays(*values):
    """The arrays among values and inside tuples of values."""
    for value in values:
        if isinstance(value, tuple):
            yield from arrays(*value)
        elif isinstance(value, np.ndarray):
            yield value


def frozen_at(pair, cache):
    return {"frozen": cache} if pair.straight_through else {}


def check_vjp(pair, args, options, rng):
    """<dy, (f(a + tu) - f(a - tu)) / 2t> = <grad, u> for each argument a."""
    y, cache = pair.forward(*args, **options)
    dy = draw_dy(rng, y)
    grads = as_tuple(pair.backward(dy, cache))
    assert len(grads) == len(pair.wrt)
    for at, grad in zip(pair.wrt, grads, strict=True):
        if args[at] is None:
            assert grad is None
            continue
        assert grad.shape == args[at].shape
        u = rng.normal(size=grad.shape)
        moved = []
        for t in (STEP, -STEP):
            there = [*args]
            there[at] = args[at] + t * u
            out, _ = pair.forward(*there, **options, **frozen_at(pair, cache))
            moved.append(sum(np.sum(d * o) for d, o in pairs_of(dy, out)))
        numerical = (moved[0] - moved[1]) / (2 * STEP)
        scale = 1 + np.abs(grad * u).sum()
        np.testing.assert_allclose(np.sum(grad * u), numerical, atol=1e-6 * scale)


def pairs_of(dy, y):
    return zip(as_tuple(dy), as_tuple(y), strict=True)


def check_linear_in_dy(pair, args, options, rng):
    """backward(2 a - 3 b) = 2 backward(a) - 3 backward(b)"""
    y, cache = pair.forward(*args, **options)
    a, b = as_tuple(draw_dy(rng, y)), as_tuple(draw_dy(rng, y))
    mixed = tuple(2 * p - 3 * q for p, q in zip(a, b, strict=True))
    grads = [
        as_tuple(pair.backward(dy if isinstance(y, tuple) else dy[0], cache))
        for dy in (mixed, a, b)
    ]
    for of_mixed, of_a, of_b in zip(*grads, strict=True):
        if of_mixed is not None:
            want = 2 * of_a - 3 * of_b
            np.testing.assert_allclose(of_mixed, want, rtol=1e-9, atol=1e-9)


def check_untouched(pair, args, options, rng):
    """Neither pass writes into an argument; no result shares memory with one."""
    before = [a.copy() for a in arrays(*args)]
    y, cache = pair.forward(*args, **options)
    dy = draw_dy(rng, y)
    dy_before = [d.copy() for d in arrays(dy)]
    grads = pair.backward(dy, cache)
    for old, new in zip(before, arrays(*args), strict=True):
        np.testing.assert_array_equal(old, new)
    for old, new in zip(dy_before, arrays(dy), strict=True):
        np.testing.assert_array_equal(old, new)
    given_arrays = [*arrays(*args), *arrays(dy)]
    results = [*arrays(y), *arrays(grads)]
    for i, result in enumerate(results):
        for other in [*given_arrays, *results[:i]]:
            assert not np.shares_memory(result, other)


def check_loop(pair, args, options):
    """The forward agrees with plain loops over numbers."""
    y, _ = pair.forward(*args, **options)
    for got, want in pairs_of(y, pair.loop(*args, **options)):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12, strict=False)
        assert np.shape(got) == np.shape(want)


def check_dtype(pair, args, options, rng):
    """float32 in, float32 out, forward and backward."""
    thin = tuple(
        a.astype(np.float32) if getattr(a, "dtype", None) == np.float64 else a
        for a in args
    )
    y, cache = pair.forward(*thin, **options)
    dy = draw_dy(rng, y)
    grads = as_tuple(pair.backward(dy, cache))
    for result in [*as_tuple(y), *(g for g in grads if g is not None)]:
        assert result.dtype == np.float32, result.dtype


def check_batch_independence(pair, args, options):
    """What an image gives does not depend on the other images."""
    y, _ = pair.forward(*args, **options)
    for n in range(args[pair.batch[0]].shape[0]):
        alone = tuple(
            a[n : n + 1] if at in pair.batch else a for at, a in enumerate(args)
        )
        one, _ = pair.forward(*alone, **options)
        for whole, single in pairs_of(y, one):
            np.testing.assert_allclose(whole[n : n + 1], single, rtol=1e-12, atol=1e-12)


def check_replay(pair, args, options):
    """Replaying at the recorded point gives the recorded output and cache."""
    y, cache = pair.forward(*args, **options)
    again, replayed = pair.forward(*args, **options, frozen=cache)
    assert type(replayed) is type(cache)
    for got, want in zip(arrays(replayed), arrays(cache), strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(again, y, rtol=1e-14, atol=1e-14)


def check_rejects_wrong_gradients(pair, args, options):
    """A dy that is not of the shape of y raises and says so."""
    y, cache = pair.forward(*args, **options)
    for k in range(len(as_tuple(y))):
        dy = [np.asarray(part) for part in as_tuple(y)]
        for wrong in (dy[k][None], np.zeros((*dy[k].shape, 2)), dy[k].astype(np.int64)):
            if wrong.shape == ():
                continue
            swapped = tuple(wrong if j == k else d for j, d in enumerate(dy))
            with pytest.raises(ValueError, match=r"^d"):
                pair.backward(swapped if isinstance(y, tuple) else wrong, cache)
