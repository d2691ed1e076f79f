"""The laws of quantizers, over tests/tables/quantizers.py."""

# ruff: noqa: ARG001, ARG005 - stand-ins keep the signature of what they stand in for

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tables.quantizers import LEVELS, PAIRS, ROWS, Verdict

import refqnn
from refqnn import quantizers as qz
from refqnn.core import Run
from refqnn.integer.affine import quantize

HOME = Path(refqnn.__file__).parent / "quantizers"
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


def groups(row, v):
    return list(v) if row.group == "filter" else [v.reshape(-1)]


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
    for x, y in zip(groups(row, v), groups(row, row.apply(v)), strict=True):
        steps = np.diff(y[np.argsort(x, kind="stable")])
        np.testing.assert_array_less(-steps, np.full_like(steps, 1e-30))


def orth(row, v):
    out = row.apply(v).astype(float)
    for x, y in zip(groups(row, v.astype(float)), groups(row, out), strict=True):
        bound = 1e-6 * np.abs(y) @ (np.abs(x) + np.abs(y))
        np.testing.assert_allclose(y @ (x - y), 0, rtol=0, atol=bound)


def bnd(row, v):
    levels = row.module().encode(v)[1]
    codebooks = levels.reshape(1 if row.group == "layer" else len(v), -1)
    for x, y, grid in zip(
        groups(row, v), groups(row, row.apply(v)), codebooks, strict=True
    ):
        inside = (grid[0] <= x) & (x <= grid[-1])
        gap = np.diff(grid).max(initial=0)
        slack = 4 * np.finfo(v.dtype).eps * max(np.abs(grid).max(), np.abs(x).max())
        error = np.abs(x - y)[inside]
        np.testing.assert_array_less(
            error, np.full_like(error, gap / 2 + slack + 1e-30)
        )


LAWS = {
    "IDEM": idem,
    "ODD": odd,
    "SE": se,
    "JSE": jse,
    "MONO": mono,
    "ORTH": orth,
    "BND": bnd,
}
CLAIMS = [
    pytest.param(row, law, id=f"{row.name}-{law}") for row in ROWS for law in LAWS
]


@pytest.mark.parametrize(("row", "law"), CLAIMS)
@given(v=dyadic, seed=st.integers(0, 2**32 - 1))
def test_laws_hold_where_the_row_says_so(row, law, v, seed):
    verdict = row.laws[law]
    if verdict.mark in "yc":
        for x in (v, heavy_tailed(seed)):
            if verdict.when(x):
                LAWS[law](row, x)


@pytest.mark.parametrize(("row", "law"), CLAIMS)
def test_other_laws_fail_on_the_committed_counterexample(row, law):
    verdict = row.laws[law]
    if verdict.mark in "nc":
        example = np.atleast_2d(verdict.counterexample)
        assert verdict.mark == "n" or not verdict.when(example)
        with pytest.raises(AssertionError):
            LAWS[law](row, example)


def test_every_row_judges_every_law():
    for row in ROWS:
        assert set(row.laws) == set(LAWS), row.name
        assert {verdict.mark for verdict in row.laws.values()} <= set("ync-"), row.name
        unasked = {law for law, verdict in row.laws.items() if verdict.mark == "-"}
        assert unasked <= {"JSE"}, f"{row.name}: only JSE may be without an answer"


BROKEN = {
    "IDEM": lambda v, k=1: v / 2,
    "ODD": lambda v, k=1: v + 1,
    "SE": lambda v, k=1: np.clip(v, -1, 1),
    "JSE": lambda v, k=1: np.clip(v, -1, 1),
    "MONO": lambda v, k=1: -v,
    "ORTH": lambda v, k=1: v / 2,
    "BND": lambda v, k=1: v + np.float32(0.25),
}


@pytest.mark.parametrize("law", LAWS)
def test_every_law_rejects_a_broken_quantizer(law):
    broken = replace(ROWS[1], apply=BROKEN[law])
    v = np.array([[-1.5, 0.25, 0.5, 2.0]], np.float32)
    with pytest.raises(AssertionError):
        LAWS[law](broken, v)


# -- grids: levels, codes, scale and zero-point ---------------------------------------


def at_most_levels(row, v):
    y = row.apply(v)
    for group in groups(row, y):
        distinct = np.unique(group).size
        np.testing.assert_array_less(distinct, row.most_levels + 1)


def codes_reproduce(module, v):
    """levels[codes] and scale * (q - zero_point) are the output, exactly."""
    y = module.forward(v, Run())[0]
    codes, levels = module.encode(v)
    np.testing.assert_array_less(-1, codes, strict=False)
    np.testing.assert_array_equal(levels[codes], y)
    q, scale, zero_point = module.quantize(v)
    steps = (q.astype(np.int64) - zero_point).astype(v.dtype)
    np.testing.assert_array_equal(scale * steps, y)
    assert (levels.dtype, scale.dtype) == (v.dtype, v.dtype)
    assert np.issubdtype(q.dtype, np.integer)
    assert np.issubdtype(zero_point.dtype, np.integer)


@every_row
@given(v=dyadic, seed=st.integers(0, 2**32 - 1))
def test_levels_and_codes(row, v, seed):
    for x in (v, heavy_tailed(seed), v.astype(np.float64)):
        at_most_levels(row, x)
        codes_reproduce(row.module(), x)
        np.testing.assert_array_equal(row.module().forward(x, Run())[0], row.apply(x))


UNIFORM = [row for row in ROWS if row.levels.startswith("2^b")]


def codes_of_integer_quantize(module, v):
    """The codes are what integer.quantize gives with the module's scale."""
    q, scale, zero_point = module.quantize(v)
    ends = {"q_min": int(module.grid()[0]), "q_max": int(module.grid()[-1])}
    want = quantize(v, scale, zero_point, **ends)
    np.testing.assert_array_equal(q, want, strict=True)


@pytest.mark.parametrize("row", UNIFORM, ids=lambda row: row.name)
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
    v = np.linspace(-4, 4, 20001)[None] ** 5  # dense within, far beyond the ends
    assert np.unique(row.apply(v)).size == row.most_levels


def test_the_count_rejects_one_level_too_many():
    row = replace(ROWS[4], apply=lambda v, k=1: v)
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
    for wrong in (shifted, scaled):
        with pytest.raises(AssertionError):
            codes_reproduce(wrong, v)


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
    assert boundaries.shape[1] == row.most_levels - 1
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
    y = row.apply(v)
    assert (y.shape, y.dtype) == (v.shape, v.dtype)
    np.testing.assert_array_equal(np.isfinite(y), True)
    np.testing.assert_array_equal(y[v == 0] if not v.any() else 0, 0)
    codes_reproduce(row.module(), v)


@every_row
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e20])
def test_values_that_are_not_finite_or_too_large_raise(row, bad):
    v = np.array([[0.5, bad]], np.float32)
    with pytest.raises(
        ValueError, match=r"must be finite with magnitudes up to 1\.84e"
    ):
        row.apply(v)
    for call in (row.module().encode, row.module().quantize):
        with pytest.raises(ValueError, match="finite"):
            call(v)


@every_row
@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.complex128])
def test_other_dtypes_raise(row, dtype):
    with pytest.raises(
        ValueError, match=f"float32 or float64 array, got {dtype.__name__}"
    ):
        row.apply(np.ones((1, 2), dtype))


MADE_WITH_BITS = {
    qz.FixedPoint: range(2, 17),
    qz.Ternary: range(2, 3),
    qz.Binary: range(1, 2),
    qz.Affine: range(1, 17),
    qz.LSQ: range(2, 17),
}


@pytest.mark.parametrize("make", MADE_WITH_BITS)
@pytest.mark.parametrize("bits", [-1, 0, 1, 2, 3, 8, 16, 17, True, 4.0, "4", None])
def test_bits_are_an_int_in_the_range_of_the_method(make, bits):
    if type(bits) is int and bits in MADE_WITH_BITS[make]:
        assert make(bits=bits).bits == bits
        return
    with pytest.raises(ValueError, match=r"bits must be an int in \[\d+, \d+\], got"):
        make(bits=bits)
    if bits is not None:
        with pytest.raises(ValueError, match="bits"):
            make().forward(np.ones((1, 2)), Run(training=True), bits=bits)


def test_four_bits_are_the_default_where_there_is_a_choice():
    assert [make().bits for make in MADE_WITH_BITS] == [4, 2, 1, 4, 4]


def test_a_numpy_integer_is_a_number_of_bits():
    assert qz.Affine(bits=np.int64(3)).bits == 3


# -- gradients ------------------------------------------------------------------------


def gradients_exact(op, backward, args, options, learned, rng):
    """<backward(dy), direction> is the slope of the frozen op (float64, 1e-6)."""
    y, cache = op(*args, **options)
    replayed, again = op(*args, **options, frozen=cache)
    np.testing.assert_allclose(replayed, y, rtol=0, atol=1e-14)
    assert type(again) is type(cache)
    dy = rng.normal(size=y.shape)
    grads = backward(dy, cache)
    for i, grad in enumerate(grads if learned > 1 else (grads,)):
        direction = rng.normal(size=args[i].shape)
        h = 1e-3

        def loss(step, i=i, direction=direction):
            moved = [*args[:i], args[i] + step * direction, *args[i + 1 :]]
            return np.sum(dy * op(*moved, **options, frozen=cache)[0])

        slope = (loss(h) - loss(-h)) / (2 * h)
        assert grad.shape == args[i].shape
        np.testing.assert_allclose(
            np.sum(grad * direction), slope, rtol=1e-6, atol=1e-8
        )


@every_pair
@given(seed=st.integers(0, 2**32 - 1))
def test_gradients_are_those_of_the_frozen_function(pair, seed):
    rng = np.random.default_rng(seed)
    args, options = pair.draw(rng)
    gradients_exact(pair.op, pair.backward, args, options, pair.learned, rng)


@every_pair
def test_the_gradient_law_rejects_a_wrong_backward(pair, rng):
    def wrong(dy, cache):
        grads = pair.backward(dy, cache)
        return (grads[0], grads[1] + 1e-3) if pair.learned > 1 else grads + 1e-3

    args, options = pair.draw(rng)
    with pytest.raises(AssertionError):
        gradients_exact(pair.op, wrong, args, options, pair.learned, rng)


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


# -- modules --------------------------------------------------------------------------


@every_row
def test_a_recorded_pass_replays_and_is_seen(row):
    v = heavy_tailed(5, np.float64)
    module = row.module()
    if type(module) not in MADE_WITH_BITS:
        return
    seen = []
    run = Run(observe=lambda *what: seen.append(what)).recording()
    y, cache = module.forward(v, run)
    assert [m for m, _, _ in seen] == [module]
    np.testing.assert_array_equal(seen[0][1], v)
    np.testing.assert_array_equal(seen[0][2], y)
    step = np.full_like(v, 1e-3)
    moved, _ = module.forward(v + step, run.replaying(run.tape))
    slope = module.backward(np.ones_like(v), cache)
    np.testing.assert_allclose(moved - y, slope * step, atol=1e-12)


@every_row
def test_evaluation_is_repeatable_and_changes_nothing(row):
    v = heavy_tailed(6)
    module = row.module()
    first = module.forward(v, Run())[0]
    module.forward(v * 2, Run())
    np.testing.assert_array_equal(module.forward(v, Run())[0], first)


@pytest.mark.parametrize("make", [qz.FixedPoint, qz.Affine, qz.LSQ])
def test_bits_of_a_call_override_those_of_the_module(make):
    v = np.linspace(-1, 1, 200)[None]
    module = make(bits=8)
    module.forward(v, Run(training=True))
    assert np.unique(module.forward(v, Run(), bits=2)[0]).size <= 4
    assert np.unique(module.forward(v, Run())[0]).size > 16


# -- the table itself -----------------------------------------------------------------


def readme_rows():
    """Return {name: {column: cell}} of the README's table."""
    lines = (HOME / "README.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if "| row |" in line)
    end = lines.index("", start)
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in lines[start:end]]
    head = cells[0]
    return {
        row["row"]: row for row in (dict(zip(head, c, strict=True)) for c in cells[2:])
    }


def test_the_readme_claims_what_the_table_runs():
    stated = readme_rows()
    assert list(stated) == [row.name for row in ROWS]
    for row in ROWS:
        marks = {law: stated[row.name][law] for law in LAWS}
        assert marks == {law: verdict.mark for law, verdict in row.laws.items()}
        assert row.file in stated[row.name]["file"], row.name
        assert stated[row.name]["levels"] == row.levels


def files_without_a_row(names):
    return set(names) - {row.file for row in ROWS} - {"__init__.py", "checks.py"}


def test_every_quantizer_file_has_a_row():
    assert not files_without_a_row(path.name for path in HOME.glob("*.py"))
    assert files_without_a_row(["affine.py", "new.py"]) == {"new.py"}


def test_every_backward_is_differenced():
    public = {name for name in vars(qz) if name.endswith("_backward")}
    assert public == {pair.backward.__name__ for pair in PAIRS}


def test_every_file_cites_its_source():
    for path in HOME.glob("*.py"):
        if path.name not in {"__init__.py", "checks.py"}:
            text = path.read_text()
            assert re.search(r"arXiv:\d{4}\.\d{4,5}", text), path.name
            assert "paper  " in text, f"{path.name} has no table of symbols"


def test_rows_are_consistent():
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {row.levels for row in ROWS} <= set(LEVELS)
    assert all(isinstance(v, Verdict) for row in ROWS for v in row.laws.values())
