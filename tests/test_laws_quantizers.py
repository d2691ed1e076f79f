"""The laws of quantizers, over tests/tables/quantizers.py."""

# ruff: noqa: ARG001, ARG005 - stand-ins keep the signature of what they stand in for

import contextlib
import inspect
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tables.quantizers import BITS, PAIRS, ROWS, table
from tables.quantizers.row import LEVELS, Verdict

import refqnn
from refqnn import quantizers as qz
from refqnn.core import Run, named_buffers, named_params
from refqnn.integer.affine import quantize
from refqnn.nn import SGD

HOME = Path(refqnn.__file__).parent / "quantizers"
#: files of the room that state no method
NO_METHOD = {"__init__.py", "checks.py", "module.py"}
DTYPES = (np.float32, np.float64)

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
every_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)

# Multiples of 1/16 up to 4: ties, zeros and repeats come up; scaling by 4 is exact.
dyadic = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 6)),
    elements=st.integers(-64, 64).map(lambda i: i / 16),
)


def heavy_tailed(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(3, 7)) * rng.lognormal(size=(3, 7))).astype(dtype)


def by_name(name):
    return next(row for row in ROWS if row.name == name)


def codebooks(row, v):
    """The levels of every group, ascending."""
    levels = row.module().encode(v)[1]
    return np.sort(levels.reshape(len(row.groups(v)), -1), axis=1)


# -- the laws: each raises where it does not hold -------------------------------------


def idem(row, v):
    once = row.apply(v)
    np.testing.assert_array_equal(row.apply(once), once)


def odd(row, v):
    np.testing.assert_array_equal(row.apply(-v), -row.apply(v))


def se(row, v):
    for k in (0.25, 4):
        np.testing.assert_array_equal(row.apply(v * np.float32(k)), k * row.apply(v))


def jse(row, v):
    for k in (0.25, 4):
        want = k * row.apply(v)
        np.testing.assert_array_equal(row.apply(v * np.float32(k), k), want)


def mono(row, v):
    for x, y in zip(row.groups(v), row.groups(row.apply(v)), strict=True):
        steps = np.diff(y[np.argsort(x, kind="stable")])
        np.testing.assert_array_less(-steps, np.full_like(steps, 1e-30))


def orth(row, v):
    out = row.apply(v).astype(float)
    for x, y in zip(row.groups(v.astype(float)), row.groups(out), strict=True):
        bound = 1e-6 * np.abs(y) @ (np.abs(x) + np.abs(y))
        np.testing.assert_allclose(y @ (x - y), 0, rtol=0, atol=bound)


def inv(row, v):
    for k in (0.25, 4):
        np.testing.assert_array_equal(row.apply(v * np.float32(k), k), row.apply(v))


def rounding_of(x, grid):
    """How far a value of x may sit from where exact arithmetic puts it."""
    largest = max(np.abs(grid).max(initial=0), np.abs(x).max(initial=0))
    return 4 * np.finfo(x.dtype).eps * largest + 1e-30


def grouped(row, v):
    """Yield the values, outputs and levels of every group."""
    outputs = row.groups(row.apply(v))
    yield from zip(row.groups(v), outputs, codebooks(row, v), strict=True)


def bnd(row, v):
    for x, y, grid in grouped(row, v):
        inside = (grid[0] <= x) & (x <= grid[-1])
        bound = np.diff(grid).max(initial=0) / 2 + rounding_of(x, grid)
        np.testing.assert_array_less(np.abs(x - y)[inside], bound)


def near(row, v):
    for x, y, grid in grouped(row, v):
        best = np.abs(x[..., None] - grid).min(-1)
        np.testing.assert_array_less(np.abs(x - y), best + rounding_of(x, grid))


def zero(row, v):
    np.testing.assert_array_equal(row.apply(np.zeros_like(v)), 0)


LAWS = {
    "IDEM": idem,
    "ODD": odd,
    "SE": se,
    "JSE": jse,
    "INV": inv,
    "MONO": mono,
    "ORTH": orth,
    "BND": bnd,
    "NEAR": near,
    "ZERO": zero,
}
#: an answer may be missing where the method holds no parameter
ABOUT_PARAMETERS = {"JSE", "INV"}


REFUTED = [
    pytest.param(row, law, id=f"{row.name}-{law}")
    for row in ROWS
    for law, verdict in row.laws.items()
    if verdict.mark in "nc"
]


@every_row
@given(v=dyadic, seed=st.integers(0, 2**32 - 1))
def test_laws_hold_where_the_row_says_so(row, v, seed):
    for x in filter(row.takes, (v, heavy_tailed(seed))):
        for law, verdict in row.laws.items():
            if verdict.mark in "yc" and verdict.when(x):
                LAWS[law](row, x)


@pytest.mark.parametrize(("row", "law"), REFUTED)
def test_other_laws_fail_on_the_committed_counterexample(row, law):
    verdict = row.laws[law]
    example = np.atleast_2d(verdict.counterexample)
    assert verdict.mark == "n" or not verdict.when(example)
    with pytest.raises(AssertionError):
        LAWS[law](row, example)


def test_every_row_judges_every_law():
    for row in ROWS:
        assert set(row.laws) == set(LAWS), row.name
        assert {verdict.mark for verdict in row.laws.values()} <= set("ync-"), row.name
        unasked = {law for law, verdict in row.laws.items() if verdict.mark == "-"}
        assert unasked in (set(), ABOUT_PARAMETERS), row.name


BROKEN = {
    "IDEM": lambda v, k=1: v / 2,
    "ODD": lambda v, k=1: v + 1,
    "SE": lambda v, k=1: np.clip(v, -1, 1),
    "JSE": lambda v, k=1: np.clip(v, -1, 1),
    "MONO": lambda v, k=1: -v,
    "ORTH": lambda v, k=1: v / 2,
    "INV": lambda v, k=1: v,
    "BND": lambda v, k=1: v + np.float32(0.25),
    "NEAR": lambda v, k=1: v + np.float32(0.25),
    "ZERO": lambda v, k=1: v + 1,
}


@pytest.mark.parametrize("law", LAWS)
def test_every_law_rejects_a_broken_quantizer(law):
    broken = replace(by_name("fixed_point, 4 bits"), apply=BROKEN[law])
    v = np.array([[-1.5, 0.25, 0.5, 2.0]], np.float32)
    with pytest.raises(AssertionError):
        LAWS[law](broken, v)


# -- grids: levels, codes, scale and zero-point ---------------------------------------


def at_most_levels(row, v):
    y = row.apply(v)
    for group in row.groups(y):
        distinct = np.unique(group).size
        np.testing.assert_array_less(distinct, row.most_levels + 1)


def codes_reproduce(module, v):
    """levels[codes] is the output, exactly."""
    y = module.forward(v, Run())[0]
    codes, levels = module.encode(v)
    np.testing.assert_array_less(-1, codes, strict=False)
    np.testing.assert_array_equal(levels[codes], y)
    assert levels.dtype == v.dtype
    assert np.issubdtype(codes.dtype, np.integer)


def scale_reproduces(module, v):
    """scale * (q - zero_point) is the output, exactly."""
    y = module.forward(v, Run())[0]
    q, scale, zero_point = module.quantize(v)
    steps = (q.astype(np.int64) - zero_point).astype(v.dtype)
    np.testing.assert_array_equal(scale * steps, y)
    assert scale.dtype == v.dtype
    assert np.issubdtype(q.dtype, np.integer)
    assert np.issubdtype(zero_point.dtype, np.integer)


@every_row
@given(v=dyadic, seed=st.integers(0, 2**32 - 1))
def test_levels_and_codes(row, v, seed):
    for x in filter(row.takes, (v, heavy_tailed(seed), v.astype(np.float64))):
        at_most_levels(row, x)
        codes_reproduce(row.module(), x)
        if row.uniform:
            scale_reproduces(row.module(), x)
        np.testing.assert_array_equal(row.module().forward(x, Run())[0], row.apply(x))


#: their codes are a rounded quotient; those of masks and signs are not
ROUNDED = [
    row
    for row in ROWS
    if row.uniform and row.file in {"fixed_point.py", "affine.py", "lsq.py"}
]


def codes_of_integer_quantize(module, v):
    """The codes are what integer.quantize gives with the module's scale."""
    q, scale, zero_point = module.quantize(v)
    ends = {"q_min": int(module.grid()[0]), "q_max": int(module.grid()[-1])}
    want = quantize(v, scale, zero_point, **ends)
    np.testing.assert_array_equal(q, want, strict=True)


@pytest.mark.parametrize("row", ROUNDED, ids=lambda row: row.name)
@given(v=dyadic, seed=st.integers(0, 2**32 - 1))
def test_codes_are_those_of_integer_quantize(row, v, seed):
    for x in (v, heavy_tailed(seed), heavy_tailed(seed, np.float64)):
        if np.abs(x).max(1).all():  # a scale of 0 is none in integer.quantize
            codes_of_integer_quantize(row.module(), x)


def test_other_codes_are_rejected():
    class Halved(qz.FixedPoint):
        def quantize(self, v):
            q, scale, zero_point = super().quantize(v)
            return q, scale / 2, zero_point

    codes_of_integer_quantize(qz.FixedPoint(bits=4), np.array([[0.5, -1.0]]))
    with pytest.raises(AssertionError):
        codes_of_integer_quantize(Halved(bits=4), np.array([[0.5, -1.0]]))


@every_row
def test_the_number_of_levels_is_reached(row):
    reached = max(np.unique(y).size for y in row.groups(row.apply(row.spread())))
    assert reached == row.most_levels


def test_the_count_rejects_one_level_too_many():
    row = replace(by_name("ternary, resolved"), apply=lambda v, k=1: v)
    with pytest.raises(AssertionError):
        at_most_levels(row, np.arange(16.0)[None])


def test_the_codes_reject_a_shifted_codebook_and_a_wrong_scale():
    v = np.array([[0.5, -1.0]])
    right = qz.FixedPoint(bits=4)
    codes, levels = right.encode(v)
    q, scale, zero_point = right.quantize(v)
    shifted = SimpleNamespace(
        forward=right.forward,
        quantize=right.quantize,
        encode=lambda v: (codes, np.roll(levels, 1)),
    )
    scaled = SimpleNamespace(
        forward=right.forward,
        encode=right.encode,
        quantize=lambda v: (q, scale * (1 + 1e-15), zero_point),
    )
    codes_reproduce(right, v)
    scale_reproduces(right, v)
    for law, wrong in ((codes_reproduce, shifted), (scale_reproduces, scaled)):
        with pytest.raises(AssertionError):
            law(wrong, v)


def changes_code_there_only(codes, boundaries):
    """Codes step up across each boundary and are constant between neighbours.

    codes: x (G, n) -> (G, n), boundaries: (G, n)
    """
    guard = 4 * np.spacing(np.abs(boundaries))
    below = codes(boundaries - guard).astype(int)
    above = codes(boundaries + guard).astype(int)
    np.testing.assert_array_less(below, above)
    np.testing.assert_array_equal(below[:, 1:], above[:, :-1])


@every_row
@every_dtype
def test_codes_change_at_the_decision_boundaries(row, dtype):
    v = heavy_tailed(3, dtype)
    boundaries = row.module().decision_boundaries(v)
    assert boundaries.dtype == dtype
    assert boundaries.shape == (len(row.groups(v)), row.most_levels - 1)
    changes_code_there_only(lambda x: row.codes(v, x), boundaries)


def test_the_boundary_law_rejects_a_shift():
    boundaries = np.array([[0.5, 1.5]])
    changes_code_there_only(np.rint, boundaries)
    for wrong in (boundaries + 0.01, boundaries[:, ::-1], boundaries[:, :1] + [[0, 2]]):
        with pytest.raises(AssertionError):
            changes_code_there_only(np.rint, wrong)


# -- degenerate and bad input ---------------------------------------------------------

DEGENERATE = {
    "all zero": np.zeros((2, 3)),
    "one filter zero": np.array([[0.0, 0.0], [1.0, -2.0]]),
    "negative zero": np.array([[-0.0, 0.0]]),
    "constant": np.full((2, 3), 0.7),
    "constant negative": np.full((2, 3), -0.7),
    "one element": np.array([[1.3]]),
    "ties": np.array([[0.5, -0.5, 1.5, -1.5, 2.5]]),
    "empty": np.zeros((0, 3)),
    "empty filters": np.zeros((3, 0)),
    "huge": np.array([[1e18, -1.0, 3e17]]),
    "tiny": np.array([[1e-36, -3e-37]]),
    "subnormal": np.array([[1e-40, -3e-42]]),
    "one large": np.array([[1e4, 1e-4, -1e-4, 0.0]]),
    "convolution": np.linspace(-1, 1, 36).reshape(2, 2, 3, 3),
}


@every_row
@every_dtype
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_input_gives_finite_levels(row, dtype, case):
    v = DEGENERATE[case].astype(dtype)
    if not row.takes(v):
        with pytest.raises(ValueError, match=f"at least {row.fewest} values"):
            row.apply(v)
        return
    y = row.apply(v)
    assert (y.shape, y.dtype) == (v.shape, v.dtype)
    np.testing.assert_array_equal(np.isfinite(y), True)
    codes_reproduce(row.module(), v)
    if row.uniform:
        scale_reproduces(row.module(), v)


@every_row
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e20])
def test_values_that_are_not_finite_or_too_large_raise(row, bad):
    v = np.array([[0.5, bad]], np.float32)
    with pytest.raises(
        ValueError, match=r"must be finite with magnitudes up to 1\.84e"
    ):
        row.apply(v)
    for call in ("encode", *(["quantize"] if row.uniform else [])):
        with pytest.raises(ValueError, match="finite"):
            getattr(row.module(), call)(v)


@every_row
@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.complex128])
def test_other_dtypes_raise(row, dtype):
    with pytest.raises(
        ValueError, match=f"float32 or float64 array, got {dtype.__name__}"
    ):
        row.apply(np.ones((1, 2), dtype))


@pytest.mark.parametrize("make", BITS)
@pytest.mark.parametrize("bits", [-1, 0, 1, 2, 3, 8, 16, 17, True, 4.0, "4", None])
def test_bits_are_an_int_in_the_range_of_the_method(make, bits):
    if type(bits) is int and bits in BITS[make]:
        assert make(bits=bits).bits == bits
        return
    with pytest.raises(ValueError, match=r"bits must be an int in \[\d+, \d+\], got"):
        make(bits=bits)
    if bits is not None:
        with pytest.raises(ValueError, match="bits"):
            make().forward(np.ones((1, 2)), Run(training=True), bits=bits)


@pytest.mark.parametrize("make", BITS)
def test_four_bits_are_the_default_where_there_is_a_choice(make):
    assert make().bits == max(b for b in BITS[make] if b <= 4)


def test_a_numpy_integer_is_a_number_of_bits():
    assert qz.Affine(bits=np.int64(3)).bits == 3


# -- gradients ------------------------------------------------------------------------


def gradients_exact(op, backward, args, options, learned, rng):
    """<backward(dy), direction> is the slope of the frozen op (float64, 1e-6)."""
    y, cache = op(*args, **options)
    replayed, again = op(*args, **options, frozen=cache)
    largest = max(np.abs(part).max(initial=1) for part in (y, args[0]))
    np.testing.assert_allclose(replayed, y, rtol=0, atol=1e-14 * largest)
    assert type(again) is type(cache)
    dy = rng.normal(size=y.shape)
    grads = backward(dy, cache)
    for i, grad in enumerate(grads if learned > 1 else (grads,)):
        direction = rng.normal(size=np.shape(args[i]))
        h = 1e-5

        def loss(step, i=i, direction=direction):
            moved = [*args[:i], args[i] + step * direction, *args[i + 1 :]]
            return np.sum(dy * op(*moved, **options, frozen=cache)[0])

        slope = (loss(h) - loss(-h)) / (2 * h)
        assert grad.shape == np.shape(args[i])
        np.testing.assert_allclose(
            np.sum(grad * direction), slope, rtol=1e-6, atol=1e-8
        )


@every_pair
@given(seed=st.integers(0, 2**32 - 1))
def test_gradients_are_those_of_the_frozen_function(pair, seed):
    rng = np.random.default_rng(seed)
    args, options = pair.draw(rng)
    gradients_exact(pair.op, pair.backward, args, options, pair.learned, rng)


def one_entry_lost(grad):
    """The largest entry becomes 0."""
    grad = grad.copy()
    grad.flat[np.abs(grad).argmax()] = 0
    return grad


def mask_dropped(grad):
    """Where nothing passed, something does."""
    return np.where(grad == 0, 1, grad)


ERRORS = {
    "a sign": lambda grad: -grad,
    "a factor": lambda grad: grad * 1.001,
    "a mask that is wrong in one place": one_entry_lost,
    "a mask that is dropped": mask_dropped,
}


def with_error(pair, error, at):
    """The backward of a pair with an error in one of its gradients."""

    def wrong(dy, cache):
        grads = pair.backward(dy, cache)
        if pair.learned == 1:
            return error(grads)
        return (*grads[:at], error(grads[at]), *grads[at + 1 :])

    return wrong


def drawn_where_it_matters(pair, error, at):
    """Draw arguments whose gradient an error changes; None where none is found.

    Only the gradient of the values has a mask: a sum may be 0 by chance.
    """
    for seed in range(40 if at == 0 or error is not mask_dropped else 0):
        args, options = pair.draw(np.random.default_rng(seed))
        y, cache = pair.op(*args, **options)
        grads = pair.backward(np.ones_like(y), cache)
        grad = grads[at] if pair.learned > 1 else grads
        if grad.size and not np.allclose(error(grad), grad, rtol=1e-5):
            return args, options
    return None


@pytest.mark.parametrize("error", ERRORS)
@every_pair
def test_the_gradient_law_rejects_an_error_in_each_gradient(pair, error, rng):
    for at in range(pair.learned):
        drawn = drawn_where_it_matters(pair, ERRORS[error], at)
        if drawn is None:  # an identity has no mask to drop
            assert ERRORS[error] is mask_dropped
            continue
        wrong = with_error(pair, ERRORS[error], at)
        gradients_exact(pair.op, pair.backward, *drawn, pair.learned, rng)
        with pytest.raises(AssertionError):
            gradients_exact(pair.op, wrong, *drawn, pair.learned, rng)


@pytest.mark.parametrize(
    ("pair", "message", "args", "options"),
    [(pair, *wrong) for pair in PAIRS for wrong in pair.wrong],
)
def test_parameters_outside_their_domain_raise(pair, message, args, options):
    with pytest.raises(ValueError, match=re.escape(message)):
        pair.op(*args, **options)


@every_pair
def test_backward_is_linear_and_checks_the_shape(pair, rng):
    args, options = pair.draw(rng)
    y, cache = pair.op(*args, **options)
    one, two = rng.normal(size=(2, *y.shape))

    def flat(dy):
        grads = pair.backward(dy, cache)
        return np.hstack(
            [np.ravel(g) for g in (grads if pair.learned > 1 else (grads,))]
        )

    np.testing.assert_allclose(
        flat(one - 3 * two), flat(one) - 3 * flat(two), atol=1e-12
    )
    with pytest.raises(ValueError, match="dy must have the shape"):
        pair.backward(one[None], cache)


def untouched_and_unshared(op, backward, args, options, learned):
    """Neither pass writes to its arguments or returns memory of theirs."""
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    before = [a.copy() for a in arrays]
    y, cache = op(*args, **options)
    dy = np.ones_like(y)
    grads = backward(dy, cache)
    replayed = op(*args, **options, frozen=cache)[0]
    for array, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, was)
    np.testing.assert_array_equal(dy, 1)
    for out in (y, replayed, *(grads if learned > 1 else (grads,))):
        for array in (*arrays, dy):
            np.testing.assert_equal(np.shares_memory(out, array), desired=False)


@every_pair
def test_no_argument_is_mutated_or_aliased(pair, rng):
    args, options = pair.draw(rng)
    untouched_and_unshared(pair.op, pair.backward, args, options, pair.learned)


def test_mutation_and_aliasing_are_found():
    def alias(w, frozen=None):
        return w, None

    def mutate(w, frozen=None):
        w += 1
        return w.copy(), None

    def right(w, frozen=None):
        return w.copy(), None

    def copy(dy, cache):
        return dy.copy()

    untouched_and_unshared(right, copy, (np.ones(2),), {}, 1)
    for op, backward in ((alias, copy), (mutate, copy), (right, lambda dy, cache: dy)):
        with pytest.raises(AssertionError):
            untouched_and_unshared(op, backward, (np.ones(2),), {}, 1)


@every_pair
def test_gradients_keep_the_dtype(pair, rng):
    args, options = pair.draw(rng)
    args = [a.astype(np.float32) if isinstance(a, np.ndarray) else a for a in args]
    y, cache = pair.op(*args, **options)
    grads = pair.backward(np.ones_like(y), cache)
    replayed = pair.op(*args, **options, frozen=cache)[0]
    for array in (y, replayed, *(grads if pair.learned > 1 else (grads,))):
        assert array.dtype == np.float32


# -- values that are not finite, let through -------------------------------------------

ACTIVATIONS = [
    pair
    for pair in PAIRS
    if pair.op.__name__.endswith("_activation")
    or pair.op.__name__ in {"affine", "lsq", "lq", "min_max", "pact"}
]


def parts(grads):
    return grads if isinstance(grads, tuple) else (grads,)


def check_propagation(pair, forward, backward, rng):
    """NaN stays where it is, without a gradient and without a share in any other."""
    args, options = pair.draw(rng)
    x, *rest = args
    at = (0,) * x.ndim
    spoiled, without = x.copy(), x.copy()
    spoiled[at], without[at] = np.nan, 0
    y, cache = forward(spoiled, *rest, **options)
    want, want_cache = pair.op(without, *rest, **options)
    want[at] = np.nan
    np.testing.assert_array_equal(y, want)
    dy = rng.normal(size=y.shape)
    grads = parts(backward(dy, cache))
    dy[at] = 0
    for grad, other in zip(grads, parts(pair.backward(dy, want_cache)), strict=True):
        np.testing.assert_array_equal(grad, other)
    again = forward(spoiled, *rest, **options, frozen=cache)[0]
    np.testing.assert_allclose(again, y, rtol=0, atol=1e-14)


@pytest.mark.parametrize("pair", ACTIVATIONS, ids=str)
def test_nan_stays_at_its_position(pair, rng):
    check_propagation(pair, *qz.propagating(pair.op, pair.backward), rng)


def test_an_op_that_lets_nan_into_a_statistic_is_rejected(rng):
    pair = next(pair for pair in ACTIVATIONS if pair.name == "lsq")
    forward, _ = qz.propagating(pair.op, pair.backward)

    def leaky(dy, cache):
        return pair.backward(dy + 1, cache.cache)

    with pytest.raises(AssertionError):
        check_propagation(pair, forward, leaky, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("pair", ACTIVATIONS, ids=str)
def test_infinity_saturates(pair, sign, dtype, rng):
    (x, *rest), options = pair.draw(rng)
    x = x.astype(dtype)
    forward, _ = qz.propagating(pair.op, pair.backward)
    limit, beyond = x.copy(), x.copy()
    limit.flat[0], beyond.flat[0] = sign * 1e18, sign * np.inf
    y = forward(beyond, *rest, **options)[0]
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(y, forward(limit, *rest, **options)[0])


# -- modules --------------------------------------------------------------------------


OWN_MODULE = [row for row in ROWS if type(row.module()).__module__.startswith("refqnn")]


def test_every_module_has_a_row():
    made = {type(row.module()) for row in OWN_MODULE}
    public = {
        thing
        for thing in vars(qz).values()
        if isinstance(thing, type) and hasattr(thing, "decision_boundaries")
    }
    assert made == public
    assert set(BITS) <= public


@pytest.mark.parametrize("row", OWN_MODULE, ids=str)
def test_a_recorded_pass_replays_and_is_seen(row):
    v = heavy_tailed(5, np.float64)
    module = row.module()
    seen = []
    run = Run(observe=lambda *what: seen.append(what)).recording()
    y, cache = module.forward(v, run)
    assert [m for m, _, _ in seen] == [module]
    np.testing.assert_array_equal(seen[0][1], v)
    np.testing.assert_array_equal(seen[0][2], y)
    dy, step = np.random.default_rng(6).normal(size=(2, *v.shape))
    up, down = (
        module.forward(v + h * step, run.replaying(run.tape))[0] for h in (1e-5, -1e-5)
    )
    slope = np.sum(module.backward(dy, cache) * step)
    np.testing.assert_allclose(np.sum(dy * (up - down)) / 2e-5, slope, rtol=1e-6)


@every_row
def test_evaluation_is_repeatable_and_changes_nothing(row):
    v = heavy_tailed(6)
    module = row.module()
    first = module.forward(v, Run())[0]
    module.forward(v * 2, Run())
    np.testing.assert_array_equal(module.forward(v, Run())[0], first)


FRESH = sorted({type(row.module()) for row in OWN_MODULE}, key=lambda t: t.__name__)


def state(module):
    """Return copies of parameters, their gradients and buffers, by name."""
    params = named_params(module)
    values = {name: p.value.copy() for name, p in params.items()}
    grads = {f"grad of {name}": p.grad.copy() for name, p in params.items()}
    buffers = {name: b.value.copy() for name, b in named_buffers(module).items()}
    return values | grads | buffers


def changed(module, call):
    """Return the names of the state that a call changes; what it raises is no matter.

    A quantizer that knows no range, step or codebook yet refuses to evaluate.
    """
    before = state(module)
    with contextlib.suppress(ValueError):
        call()
    after = state(module)
    assert set(after) == set(before)
    return [
        name for name, was in before.items() if not np.array_equal(after[name], was)
    ]


def pass_of(module, run, v=None):
    v = heavy_tailed(8) if v is None else v
    return lambda: module.forward(v, run)


@pytest.mark.parametrize("make", FRESH)
def test_state_changes_in_training_only(make):
    module, learner = make(), Run(training=True)
    assert changed(module, pass_of(module, Run())) == []
    module.forward(heavy_tailed(7), learner)
    assert changed(module, pass_of(module, Run())) == []
    recording = Run().recording()
    assert changed(module, pass_of(module, recording)) == []
    replaying = learner.replaying(recording.tape)
    assert changed(module, pass_of(module, replaying)) == []


@pytest.mark.parametrize(
    ("shape", "trained"), [((0, 3), False), ((3, 0), False), ((3, 0), True)]
)
@pytest.mark.parametrize("make", FRESH)
def test_nothing_changes_nothing(make, shape, trained):
    """An empty tensor: empty out, empty back, no gradient and no state."""
    module, nothing = make(), np.zeros(shape, np.float32)
    if trained:  # on as many filters
        module.forward(heavy_tailed(7), Run(training=True))
    assert changed(module, pass_of(module, Run(training=True), nothing)) == []
    y, cache = module.forward(nothing, Run(training=True))
    assert (y.shape, y.dtype) == (shape, np.float32)
    assert module.backward(nothing, cache).shape == shape
    assert not any(np.any(p.grad) for p in named_params(module).values())


def test_a_change_of_state_is_found():
    """What the law is for: a first pass that sets a step, and one that has none."""
    module = qz.LSQ()
    assert changed(module, pass_of(module, Run())) == []
    assert changed(module, pass_of(module, Run(training=True))) == ["s", "known"]


@pytest.mark.parametrize("value", [-3.0, 0.0])
@pytest.mark.parametrize("make", FRESH)
def test_learned_parameters_have_a_group_and_a_step_keeps_their_domain(make, value):
    """A step out of the domain, where there is one, is put back before it is used."""
    module, v = make(), np.abs(heavy_tailed(7))
    module.forward(v, Run(training=True))
    for param in named_params(module).values():
        assert param.group == "quantizer"
        if param.project is not None:
            param.grad += param.value - value
    SGD(named_params(module)).step(lr=1.0)
    assert np.isfinite(module.forward(v, Run())[0]).all()
    assert np.isfinite(module.encode(v)[1]).all()


@pytest.mark.parametrize("make", [qz.FixedPoint, qz.Affine, qz.LSQ])
def test_bits_of_a_call_override_those_of_the_module(make):
    v = np.linspace(-1, 1, 200)[None]
    module = make(bits=8)
    module.forward(v, Run(training=True))
    assert np.unique(module.forward(v, Run(), bits=2)[0]).size <= 4
    assert np.unique(module.forward(v, Run())[0]).size > 16


# -- the table itself -----------------------------------------------------------------


def test_the_readme_shows_the_table():
    """``python -m tables.quantizers`` in tests/ prints what belongs there."""
    readme = (HOME / "README.md").read_text()
    shown = readme[readme.index("| paper | equation |") :].split("\n\n")[0]
    assert shown.splitlines() == table().splitlines()


def files_without_a_row(names):
    return set(names) - {row.file for row in ROWS} - NO_METHOD


def test_every_quantizer_file_has_a_row():
    assert not files_without_a_row(path.name for path in HOME.glob("*.py"))
    assert files_without_a_row(["affine_grid.py", "new.py"]) == {"new.py"}


def backwards(sources):
    """Return the name of every backward, by the file that defines it."""
    return {
        name: re.findall(r"^def (\w+)_backward\(", text, flags=re.MULTILINE)
        for name, text in sources.items()
        if name not in NO_METHOD
    }


def files_without_a_backward(sources):
    return [name for name, found in backwards(sources).items() if not found]


def not_differenced(sources, pairs):
    """Return what is defined with a backward, but not exported and in PAIRS."""
    known = {pair.op.__name__ for pair in pairs}
    defined = {name for found in backwards(sources).values() for name in found}
    return sorted(defined - (known & set(vars(qz))))


def without_a_frozen_form(ops):
    """Return the names of quantizers that cannot be held for finite differences."""
    return [
        op.__name__ for op in ops if "frozen" not in inspect.signature(op).parameters
    ]


SOURCES = {path.name: path.read_text("utf-8") for path in HOME.glob("*.py")}
PLANTED = {
    "new.py": "def new(w):\n    return w\n\n\ndef new_backward(dy, cache):\n    ..."
}


def test_every_quantizer_file_has_a_backward():
    assert files_without_a_backward(SOURCES) == []
    assert files_without_a_backward({"new.py": "def new(w):\n    return w"}) == [
        "new.py"
    ]


def test_every_backward_is_differenced():
    assert not_differenced(SOURCES, PAIRS) == []
    assert not_differenced(SOURCES | PLANTED, PAIRS) == ["new"]


def test_every_quantizer_has_a_frozen_form():
    assert not without_a_frozen_form([pair.op for pair in PAIRS])
    assert without_a_frozen_form([qz.affine, qz.batch_range]) == ["batch_range"]


def test_every_file_cites_its_source():
    for path in HOME.glob("*.py"):
        if path.name not in NO_METHOD:
            text = path.read_text()
            assert re.search(r"arXiv:\d{4}\.\d{4,5}", text), path.name
            assert "paper  " in text, f"{path.name} has no table of symbols"


def test_rows_are_consistent():
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {row.levels for row in ROWS} <= set(LEVELS)
    assert all(isinstance(v, Verdict) for row in ROWS for v in row.laws.values())
