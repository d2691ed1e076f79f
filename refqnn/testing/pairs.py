"""The laws of a forward and its backward, one checker a law, and all of them at once.

    y, cache = forward(*args, **options)      grads = backward(dy, cache)

Every checker takes a ``Pair`` and one draw of arguments, and raises AssertionError.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.testing.gradients import check_gradients
from refqnn.testing.trials import (
    answer,
    as_tuple,
    check_question,
    draw_dy,
    framework_of,
    output_and_cache,
    pairs,
)

Arguments = tuple[Any, ...]
Options = dict[str, Any]
Draw = Callable[[np.random.Generator], tuple[Arguments, Options]]


@dataclass(frozen=True)
class Pair:
    """A forward, its backward, and what the laws need to know about them."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    #: draw(rng) -> (args, options), float64
    draw: Draw
    #: the same forward in plain loops, without a cache
    loop: Callable[..., Any] | None = None
    #: positions of the differentiable arguments, in the order of the gradients
    wrt: tuple[int, ...] = (0,)
    #: positions of the arguments whose first axis is the batch; (): images interact
    batch: tuple[int, ...] = (0,)
    #: (part of the message, args, options) of calls that must raise
    wrong: tuple[tuple[str, Arguments, Options], ...] = ()
    straight_through: bool = False

    def __str__(self) -> str:
        return self.name


def check_op(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    draw: Draw | Sequence[Any],
    *,
    wrt: int | tuple[int, ...] = (0,),
    frozen: bool = False,
    batch: tuple[int, ...] = (),
    loop: Callable[..., Any] | None = None,
    examples: int = 20,
) -> float:
    """Check every law of a pair on ``examples`` draws; the largest relative error.

    ``draw(rng) -> (args, options)``, or the arguments themselves. The laws: gradients
    (of the frozen forward if ``frozen``, which is also replayed), linearity in dy,
    dtype kept, nothing written or aliased; with ``batch``, the positions of arguments
    whose first axis is the batch, images do not see each other; with ``loop``, another
    statement of the forward, both agree.

    >>> check_op(lambda x: (2 * x, None), lambda dy, _: 2 * dy, [np.ones(3)]) < 1e-6
    True
    """
    check_question(forward, backward, [] if callable(draw) else draw, frozen=frozen)
    chosen = draw if callable(draw) else lambda _: (copies(draw), {})
    name = getattr(forward, "__name__", "forward")
    positions = (wrt,) if isinstance(wrt, int) else tuple(wrt)
    pair = Pair(
        name,
        *with_names(forward, backward),
        chosen,
        loop,
        positions,
        batch,
        straight_through=frozen,
    )
    worst = 0.0
    for seed in range(examples):
        rng = np.random.default_rng(seed)
        args, options = drawn_call(pair, rng)
        check_untouched(pair, args, options, rng)  # before any other pass could write
        worst = max(worst, check_vjp(pair, args, options, rng))
        check_linear_in_dy(pair, args, options, rng)
        check_dtype(pair, args, options, rng)
        if batch:
            check_batch_independence(pair, args, options)
        if loop is not None:
            check_loop(pair, args, options)
        if frozen:
            check_replay(pair, args, options)
    return worst


def with_names(
    forward: Callable[..., Any], backward: Callable[..., Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Name forward and backward in what they raise, and check for (y, cache)."""

    @functools.wraps(forward)
    def output(*args: Any, **options: Any) -> Any:
        return output_and_cache(answer("forward", forward, *args, **options))

    return output, lambda dy, cache: answer("backward", backward, dy, cache)


def drawn_call(pair: Any, rng: np.random.Generator) -> tuple[Arguments, Options]:
    """Draw arguments and options; ValueError for a draw that gives anything else."""
    call: Any = pair.draw(rng)
    if not isinstance(call, tuple) or len(call) != 2 or not isinstance(call[1], dict):
        raise ValueError(f"draw(rng) must give (args, options), gives {call!r}")
    if framework_of(call[0]):
        raise ValueError("arguments must be NumPy arrays; check_gradients takes others")
    return tuple(call[0]), call[1]


def copies(args: Sequence[Any]) -> Arguments:
    """Copy the arrays among arguments."""
    return tuple(a.copy() if isinstance(a, np.ndarray) else a for a in args)


def arrays(*values: Any) -> Iterator[Array]:
    """Yield the arrays among values and inside tuples of values."""
    for value in values:
        if isinstance(value, tuple):
            yield from arrays(*value)
        elif isinstance(value, np.ndarray):
            yield value


def check_vjp(
    pair: Pair, args: Arguments, options: Options, rng: np.random.Generator
) -> float:
    """<dy, (f(a + hu) - f(a - hu)) / 2h> = <grad, u> for each argument a."""
    return check_gradients(
        pair.forward,
        pair.backward,
        args,
        wrt=pair.wrt,
        frozen=pair.straight_through,
        options=options,
        rng=rng,
    )


def check_linear_in_dy(
    pair: Pair, args: Arguments, options: Options, rng: np.random.Generator
) -> None:
    """backward(2a - 3b) = 2 backward(a) - 3 backward(b)"""
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
            text = "the backward is not linear in dy"
            np.testing.assert_allclose(
                of_mixed, want, rtol=1e-9, atol=1e-9, err_msg=text
            )


def check_untouched(
    pair: Pair, args: Arguments, options: Options, rng: np.random.Generator
) -> None:
    """Check that no argument is written to and no result shares memory with one."""
    before = [a.copy() for a in arrays(*args)]
    y, cache = pair.forward(*args, **options)
    dy = draw_dy(rng, y)
    dy_before = [d.copy() for d in arrays(dy)]
    grads = pair.backward(dy, cache)
    results = [("an output", a) for a in arrays(y)]
    results += [("a gradient", a) for a in arrays(grads)]
    if pair.straight_through:
        again = pair.forward(*args, **options, frozen=cache)[0]
        results += [("a frozen output", a) for a in arrays(again)]
    for kept, now in ((before, arrays(*args)), (dy_before, arrays(dy))):
        for old, new in zip(kept, now, strict=True):
            np.testing.assert_array_equal(old, new, err_msg="an argument is written to")
    handed = [("an argument", a) for a in arrays(*args)]
    handed += [("dy", a) for a in arrays(dy)]
    for i, (what, result) in enumerate(results):
        for whose, other in [*handed, *results[:i]]:
            if np.shares_memory(result, other):
                raise AssertionError(f"{what} shares its memory with {whose}")


def check_loop(pair: Pair, args: Arguments, options: Options) -> None:
    """Check the forward against plain loops over numbers."""
    if pair.loop is None:
        raise ValueError(f"{pair.name} has no loop to agree with")
    y, _ = pair.forward(*args, **options)
    for have, want in pairs(y, pair.loop(*args, **options)):
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12, strict=False)
        if np.shape(have) != np.shape(want):
            raise AssertionError(f"the shape is {np.shape(have)}, not {np.shape(want)}")


def check_dtype(
    pair: Pair, args: Arguments, options: Options, rng: np.random.Generator
) -> None:
    """float32 in, float32 out: forward, backward, and the frozen forward."""
    thin = tuple(
        a.astype(np.float32) if getattr(a, "dtype", None) == np.float64 else a
        for a in args
    )
    y, cache = pair.forward(*thin, **options)
    dy = draw_dy(rng, y)
    grads = as_tuple(pair.backward(dy, cache))
    results = [*as_tuple(y), *(g for g in grads if g is not None)]
    if pair.straight_through:
        results += as_tuple(pair.forward(*thin, **options, frozen=cache)[0])
    for result in results:
        if result.dtype != np.float32:
            raise AssertionError(f"the dtype is {result.dtype} for float32 arguments")


def check_batch_independence(pair: Pair, args: Arguments, options: Options) -> None:
    """Raise AssertionError where an image's output depends on the other images."""
    y, _ = pair.forward(*args, **options)
    for n in range(args[pair.batch[0]].shape[0]):
        alone = tuple(
            a[n : n + 1] if at in pair.batch else a for at, a in enumerate(args)
        )
        one, _ = pair.forward(*alone, **options)
        for whole, single in pairs(y, one):
            text = f"image {n} alone and in company"
            np.testing.assert_allclose(
                whole[n : n + 1], single, rtol=1e-12, atol=1e-12, err_msg=text
            )


def check_replay(pair: Pair, args: Arguments, options: Options) -> None:
    """Check that replaying at the recorded point repeats the output, up to rounding."""
    y, cache = pair.forward(*args, **options)
    again, recorded = pair.forward(*args, **options, frozen=cache)
    if type(recorded) is not type(cache):
        raise AssertionError(f"a replay gives a cache of {type(recorded).__name__}")
    largest = max(np.abs(part).max(initial=1) for part in (y, args[0]))
    for have, want in zip(arrays(recorded), arrays(cache), strict=True):
        np.testing.assert_allclose(
            have, want, rtol=1e-12, atol=1e-12 * largest, err_msg="a replay's cache"
        )
    np.testing.assert_allclose(
        again, y, rtol=0, atol=1e-14 * largest, err_msg="a replay gives another output"
    )
