"""The laws of every Numba twin, over the tables of all twins.

A public function defined in refqnn.fast without a row makes the suite fail. Each
checker is shown to reject a wrong implementation.
"""

import importlib
import inspect
from dataclasses import replace

import numba
import numpy as np
import pytest
from checkers import check_rejects_wrong_gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import ops as ops_table

from refqnn import fast
from refqnn.testing.twins import (
    Twin,
    check_pure,
    check_scattered,
    check_threads,
    compare_twin,
    extreme,
    is_cache,
    with_first,
)

PACKAGES = ("ops", "integer", "quantizers")
TABLES = [importlib.import_module(f"tables.{name}") for name in PACKAGES]
TWINS = [twin for table in TABLES for twin in table.TWINS]
every_twin = pytest.mark.parametrize("twin", TWINS, ids=str)
drawn = given(seed=st.integers(0, 2**32 - 1))
fewer = settings(max_examples=max(settings.default.max_examples // 4, 2))


@every_twin
@drawn
def test_equals_the_definition_or_keeps_its_bound(twin, seed):
    compare_twin(twin, *twin.draw(np.random.default_rng(seed)))


@every_twin
@fewer
@drawn
def test_order_of_memory_extremes_and_arguments(twin, seed):
    """Any order of memory, extreme values as in the definition, nothing mutated."""
    check_scattered(twin, *twin.draw(np.random.default_rng(seed)))
    check_pure(twin, *twin.draw(np.random.default_rng(seed)))
    rng = np.random.default_rng(seed)
    args, kwargs = twin.draw(rng)
    special = twin.bound is None
    ends = with_first(args, lambda a: extreme(rng, a, special=special))
    compare_twin(twin, ends, kwargs)


@pytest.mark.parametrize("twin", [t for t in TWINS if t.empty], ids=str)
def test_an_empty_first_argument_is_treated_as_in_the_definition(twin):
    for seed in range(5):
        args, kwargs = twin.draw(np.random.default_rng(seed))
        if any(is_cache(arg) for arg in args):
            continue  # dy belongs to its cache; the draws hold empty batches
        compare_twin(twin, with_first(args, lambda a: a[:0] if a.ndim else a), kwargs)


@pytest.mark.compiled
@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@every_twin
@fewer
@drawn
def test_one_thread_and_two_give_the_same_bits(twin, seed):
    check_threads(twin, *twin.draw(np.random.default_rng(seed)))


@pytest.mark.parametrize(
    ("pair", "message", "args", "options"),
    [(pair, *wrong) for pair in ops_table.PAIRS for wrong in pair.wrong],
)
def test_wrong_inputs_raise_as_in_the_definition(pair, message, args, options):
    with pytest.raises(ValueError, match=message):
        getattr(fast.ops, pair.name)(*args, **options)


@pytest.mark.parametrize("pair", ops_table.PAIRS, ids=str)
def test_wrong_gradients_raise_as_in_the_definition(pair):
    forward = getattr(fast.ops, pair.name)
    backward = getattr(fast.ops, f"{pair.name}_backward")
    mirror = replace(pair, forward=forward, backward=backward)
    for seed in range(5):
        args, options = pair.draw(np.random.default_rng(seed))
        check_rejects_wrong_gradients(mirror, args, options)


# The table is complete; that the mirror is, test_architecture.py shows


def functions(package):
    return {n: f for n, f in vars(package).items() if inspect.isroutine(f)}


def without_row(mirror, rows):
    """Public functions defined in a fast package that no row holds."""
    held = {id(row.twin) for row in rows}
    return {
        name
        for name, f in functions(mirror).items()
        if f.__module__.startswith("refqnn.fast") and id(f) not in held
    }


@pytest.mark.parametrize("name", PACKAGES)
def test_every_twin_has_a_row(name):
    mirror = importlib.import_module(f"refqnn.fast.{name}")
    assert without_row(mirror, TWINS) == set()


def test_rows_name_what_they_hold():
    for row in TWINS:
        assert row.name == row.definition.__name__ == row.twin.__name__
        assert row.definition is not row.twin


def test_a_twin_without_a_row_is_found():
    without = [row for row in TWINS if row.name != "relu"]
    assert without_row(fast.ops, without) == {"relu"}


# The checkers reject

A = np.array([[1.0, -2.0], [0.5, 4.0]])


def double(x):
    return 2 * x


def wrong(twin, bound=None):
    return Twin("double", double, twin, lambda _: ((A,), {}), bound)


def half_eps(args, kwargs, want):  # noqa: ARG001 - the signature of bounds
    return np.finfo(want.dtype).eps * np.abs(want)


@pytest.mark.parametrize(
    "twin",
    [
        lambda x: 2 * x + 1e-15,
        lambda x: (2 * x).astype(np.float32),
        lambda x: 2 * x[None],
        lambda x: (2 * x, x),
    ],
)
def test_check_twin_rejects_values_dtypes_shapes_and_counts(twin):
    with pytest.raises((AssertionError, ValueError)):
        compare_twin(wrong(twin), (A,), {})
    if twin(A) is not None:
        with pytest.raises((AssertionError, ValueError)):
            compare_twin(wrong(twin, lambda *_: 0.0), (A,), {})


def test_check_twin_rejects_an_error_beyond_the_bound_and_nan():
    compare_twin(wrong(lambda x: 2 * x * (1 + 2**-53), half_eps), (A,), {})
    for twin in (lambda x: 2 * x * (1 + 2**-50), lambda x: x * np.nan):
        with pytest.raises(AssertionError):
            compare_twin(wrong(twin, half_eps), (A,), {})


def raises(message):
    def f(x):
        raise ValueError(f"{message} {x.shape}")

    return f


def test_check_twin_rejects_other_errors():
    for row in (
        wrong(raises("x")),
        Twin("f", raises("x"), double, None),
        Twin("f", raises("x"), raises("y"), None),
        Twin("f", raises("x"), raises("y"), None, half_eps),
    ):
        with pytest.raises(AssertionError):
            compare_twin(row, (A,), {})


def test_check_scattered_rejects_a_reader_of_raw_memory():
    def raw(x):
        base = x if x.base is None else x.base
        return 2 * base.ravel()[: x.size].reshape(x.shape)

    with pytest.raises(AssertionError):
        check_scattered(wrong(raw), (A.copy(),), {})


def test_check_threads_rejects_a_result_that_counts_threads():
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs two threads")
    with pytest.raises(AssertionError):
        check_threads(wrong(lambda x: x * numba.get_num_threads()), (A,), {})


def overwrites(x):
    x[0] = 7
    return x.copy()


def test_check_pure_rejects_writing_and_views():
    for twin in (overwrites, lambda x: x[:1]):
        with pytest.raises(AssertionError):
            check_pure(wrong(twin), (A.copy(),), {})
