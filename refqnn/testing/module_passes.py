"""A module as a pair of functions, and the gradients of quantizers without one.

The pass of a module is recorded and replayed with its residuals held, so that what is
said of a wrong backward is what ``check_gradients`` says of a function.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from refqnn._types import Float
from refqnn.core import Run, named_params, zero_grads
from refqnn.testing.gradients import check_gradients
from refqnn.testing.networks import check_backward_adds
from refqnn.testing.trials import as_tuple, check_form, draw_dy, output_and_cache


def module_error(module: Any, v: Float, *, linear: bool) -> float | None:
    """Check the backward of a module in evaluation; the largest relative error.

    One that is not linear in dy has no function to be differenced: its form is checked.
    """
    if not linear:
        y, cache = module.forward(v, Run())
        check_unfrozen(module.backward, y, cache, v, linear=False)
        return None
    values = [param.value for param in named_params(module).values()]
    recording = Run().recording()
    module.forward(v, recording)
    try:
        error = check_gradients(
            *as_pair(module), [v, *values], wrt=range(1 + len(values)), frozen=True
        )
    except AssertionError as wrong:
        if recording.tape:
            raise
        raise AssertionError(
            f"{wrong}; but the forward recorded nothing: it must compute by "
            "run.straight_through(op, ...), whose frozen form is differenced"
        ) from wrong
    check_backward_adds(module, v, Run(), np.random.default_rng(1))
    return error


def as_pair(module: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Make forward(v, *values, frozen=None) and backward of a module in evaluation.

    values: those of its Params. A pass is recorded, and replayed where it is frozen.
    """
    params = named_params(module)

    def forward(v: Float, *values: Float, frozen: Any = None) -> tuple[Any, Any]:
        for param, value in zip(params.values(), values, strict=True):
            param.value = np.asarray(value)
        run = Run().recording() if frozen is None else Run().replaying(frozen[1])
        y, cache = output_and_cache(module.forward(v, run))
        return y, (cache, run.tape)

    def backward(dy: Float, cache: Any) -> tuple[Any, ...]:
        zero_grads(module)
        dv = module.backward(dy, cache[0])
        return dv, *(np.array(param.grad) for param in params.values())

    own = [name.replace(".", "_") for name in params]
    names = ["x" if "v" in own else "v", *own]
    shown: Any = forward
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    frozen = inspect.Parameter("frozen", inspect.Parameter.KEYWORD_ONLY, default=None)
    given = [inspect.Parameter(name, kind) for name in names]
    shown.__signature__ = inspect.Signature([*given, frozen])
    return forward, backward


def check_unfrozen(
    backward: Any, y: Float, cache: Any, v: Float, *, linear: bool
) -> None:
    """dv has the form of v; backward(2a - 3b) = 2 backward(a) - 3 backward(b)"""
    rng = np.random.default_rng(0)
    a, b = draw_dy(rng, y), draw_dy(rng, y)
    of_mixed, of_a, of_b = (
        as_tuple(backward(dy, cache)) for dy in (2 * a - 3 * b, a, b)
    )
    check_form(of_a[0], v, "v")
    for mixed, one, two in zip(of_mixed, of_a, of_b, strict=True):
        if linear and not np.allclose(mixed, 2 * one - 3 * two, rtol=1e-9, atol=1e-9):
            raise AssertionError(
                "the backward is not linear in dy; linear=False if it is meant to be so"
            )
