"""The laws of quantizers, over tests/tables/quantizers.py."""

# ruff: noqa: ARG002, ARG005 - stand-ins keep the signature of what they stand in for

import inspect
import re
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from checkers import check_integer_codes, check_propagation
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses
from tables.quantizers import BITS, PAIRS, ROWS, table
from tables.quantizers.row import LEVELS, Verdict

import refqnn
from refqnn import quantizers as qz
from refqnn.core import Run, named_buffers, named_params
from refqnn.nn import SGD
from refqnn.testing.grids import (
    check_boundaries,
    check_codes,
    check_levels,
    check_scale,
)
from refqnn.testing.laws import ABOUT_PARAMETERS, LAWS
from refqnn.testing.networks import check_same_state, check_still, state_of
from refqnn.testing.strategies import dyadic
from refqnn.testing.subjects import heavy_tailed

HOME = Path(refqnn.__file__).parent / "quantizers"
#: files of the room that state no method
NO_METHOD = {"__init__.py", "checks.py", "module.py"}
DTYPES = (np.float32, np.float64)

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)

seeds = st.integers(0, 2**32 - 1)


def by_name(name):
    return next(row for row in ROWS if row.name == name)


# -- the laws -----------------------------------------------------------------------

REFUTED = [
    pytest.param(row, law, id=f"{row.name}-{law}")
    for row in ROWS
    for law, verdict in row.laws.items()
    if verdict.mark in "nc"
]


@every_row
@given(v=dyadic(), seed=seeds)
def test_laws_hold_where_the_row_says_so(row, v, seed):
    """The laws of the row, and what every grid keeps: levels, codes, scales."""
    for x in filter(row.takes, (v, heavy_tailed(seed))):
        for law, verdict in row.laws.items():
            if verdict.mark in "yc" and verdict.when(x):
                LAWS[law](row, x)
    for x in filter(row.takes, (v, heavy_tailed(seed), v.astype(np.float64))):
        check_levels(row, x, row.most_levels)
        check_codes(row.module(), x)
        if row.uniform:
            check_scale(row.module(), x)
        np.testing.assert_array_equal(row.module().forward(x, Run())[0], row.apply(x))


@pytest.mark.parametrize(("row", "law"), REFUTED)
def test_other_laws_fail_on_the_committed_counterexample(row, law):
    verdict = row.laws[law]
    example = np.atleast_2d(verdict.counterexample)
    assert verdict.mark == "n" or not verdict.when(example)
    with pytest.raises(AssertionError):
        LAWS[law](row, example)


def test_every_row_judges_every_law():
    for row in ROWS:
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


#: their codes are a rounded quotient; those of masks and signs are not
ROUNDED = [
    row
    for row in ROWS
    if row.uniform
    and row.source[2]
    in {"fixed_point_weights.py", "affine_grid.py", "learned_step_size.py"}
]


@pytest.mark.parametrize("row", ROUNDED, ids=lambda row: row.name)
@given(v=dyadic(), seed=seeds)
def test_codes_are_those_of_integer_quantize(row, v, seed):
    for x in (v, heavy_tailed(seed), heavy_tailed(seed, np.float64)):
        if np.abs(x).max(1).all():  # a scale of 0 is none in integer.quantize
            check_integer_codes(row.module(), x)


def test_other_codes_are_rejected():
    class Halved(qz.FixedPoint):
        def quantize(self, v):
            q, scale, zero_point = super().quantize(v)
            return q, scale / 2, zero_point

    check_integer_codes(qz.FixedPoint(bits=4), np.array([[0.5, -1.0]]))
    with pytest.raises(AssertionError):
        check_integer_codes(Halved(bits=4), np.array([[0.5, -1.0]]))


@every_row
def test_the_number_of_levels_is_reached(row):
    reached = max(np.unique(y).size for y in row.groups(row.apply(row.spread())))
    assert reached == row.most_levels


def test_the_count_rejects_one_level_too_many():
    row = replace(by_name("ternary, resolved"), apply=lambda v, k=1: v)
    with pytest.raises(AssertionError):
        check_levels(row, np.arange(16.0)[None], row.most_levels)


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
    check_codes(right, v)
    check_scale(right, v)
    for law, wrong in ((check_codes, shifted), (check_scale, scaled)):
        with pytest.raises(AssertionError):
            law(wrong, v)


@every_row
@every_dtype
def test_codes_change_at_the_decision_boundaries(row, dtype):
    v = heavy_tailed(3, dtype)
    boundaries = row.module().decision_boundaries(v)
    assert boundaries.dtype == dtype
    assert boundaries.shape == (len(row.groups(v)), row.most_levels - 1)
    check_boundaries(lambda x: row.codes(v, x), boundaries)


def test_the_boundary_law_rejects_a_shift():
    boundaries = np.array([[0.5, 1.5]])
    check_boundaries(np.rint, boundaries)
    for wrong in (boundaries + 0.01, boundaries[:, ::-1], boundaries[:, :1] + [[0, 2]]):
        with pytest.raises(AssertionError):
            check_boundaries(np.rint, wrong)


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
        refuses(f"at least {row.fewest} values", row.apply, v)
        return
    y = row.apply(v)
    assert (y.shape, y.dtype) == (v.shape, v.dtype)
    np.testing.assert_array_equal(np.isfinite(y), True)
    # where the scale is 0, the sign is that of the code
    assert case == "subnormal" or not np.signbit(y[y == 0]).any()
    check_codes(row.module(), v)
    if row.uniform:
        check_scale(row.module(), v)


@every_row
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e20])
def test_values_that_are_not_finite_or_too_large_raise(row, bad):
    v = np.array([[0.5, bad]], np.float32)
    refuses(r"must be finite with magnitudes up to 1\.84e", row.apply, v)
    for call in ("encode", *(["quantize"] if row.uniform else [])):
        refuses("finite", getattr(row.module(), call), v)


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
        module, v = make(bits=bits), heavy_tailed(4)
        assert module.bits == bits
        assert module.forward(v, Run(training=True))[0].shape == v.shape
        return
    refuses(r"bits must be an int in \[\d+, \d+\], got", make, bits=bits)
    if bits is not None:
        refuses("bits", make().forward, np.ones((1, 2)), Run(training=True), bits=bits)


#: module -> beginning of the message -> options that are refused with it
WRONG = {
    qz.ABCActivation: {"bases must be": [{"bases": n} for n in (0, 17, True, 2.0)]},
    qz.ABCWeight: {"bases must be": [{"bases": n} for n in (0, 17, True, 2.0)]},
    qz.Affine: {
        "rounding must be one of": [{"rounding": "nearest"}],
        "decay must lie in": [{"decay": d} for d in (1.0, -0.1, 2.0, np.nan)],
    },
    qz.Balanced: {
        "split must be": [{"split": "mode"}],
        "scale must be": [{"scale": "min"}],
    },
    qz.Binary: {"group must be 'filter' or 'layer'": [{"group": "row"}]},
    qz.HAQLinear: {"threshold must be": [{"threshold": "kl"}]},
    qz.KMeansWeight: {"reduction must be": [{"reduction": "max"}]},
    qz.LQActivation: {"ema must be": [{"ema": "none"}]},
    qz.LQWeight: {"ema must be": [{"ema": "none"}]},
    qz.LSQ: {
        "of must be": [{"of": "bias"}],
        "channels must be": [{"channels": n} for n in (0, -1, True, 2.0)],
    },
    qz.MinMax: {"of must be": [{"of": "bias"}], "keep must lie in": [{"keep": 1.0}]},
    qz.PACT: {
        "percentile must": [{"percentile": p} for p in (-1.0, 101.0, np.nan)],
        "decay must": [{"decay": -1.0}],
        "start must": [{"start": s} for s in (0.0, np.nan)],
        "alpha_min must": [{"alpha_min": 0.0}],
        "scope must": [{"scope": "all"}],
    },
    qz.SAWB: {"must be": [{"levels": "x"}, {"gradient": "x"}, {"bits": 7}]},
    qz.SYQ: {
        "eta must be 0 with 2 levels": [{"levels": 2, "eta": 0.05}],
        "levels must be 2 or 3": [{"levels": 4}],
        "group must be": [{"group": "filter"}],
    },
    qz.TTQ: {"t must lie in": [{"t": -0.5}]},
    qz.TWN: {"group must be 'filter' or 'layer'": [{"group": "row"}]},
    qz.Ternary: {"variant must be resolved, printed or twn": [{"variant": "x"}]},
    qz.WEQActivation: {"levels must be an int": [{"levels": 1}]},
    qz.WEQWeight: {"levels must be an int": [{"levels": 1}]},
    qz.XnorWeight: {"gradient must be exact, paper or rel": [{"gradient": "adam"}]},
}


@pytest.mark.parametrize(
    ("make", "message", "options"),
    [(m, text, o) for m, own in WRONG.items() for text in own for o in own[text]],
)
def test_options_outside_their_domain_raise(make, message, options):
    refuses(message, make, **options)


@pytest.mark.parametrize("make", BITS)
def test_four_bits_are_the_default_where_there_is_a_choice(make):
    assert make().bits == max(b for b in BITS[make] if b <= 4)


def test_a_numpy_integer_is_a_number_of_bits():
    assert qz.Affine(bits=np.int64(3)).bits == 3


# -- pairs: their other laws are those of all pairs, test_laws_pairs.py


@pytest.mark.parametrize(
    ("pair", "message", "args", "options"),
    [(pair, *wrong) for pair in PAIRS for wrong in pair.wrong],
)
def test_parameters_outside_their_domain_raise(pair, message, args, options):
    refuses(re.escape(message), pair.forward, *args, **options)


# -- values that are not finite, let through -------------------------------------------

ACTIVATIONS = [
    pair
    for pair in PAIRS
    if pair.forward.__name__.endswith("_activation")
    or pair.forward.__name__ in {"affine", "lsq", "lq", "min_max", "pact"}
]


@pytest.mark.parametrize("pair", ACTIVATIONS, ids=str)
def test_nan_stays_at_its_position(pair, rng):
    check_propagation(pair, *qz.propagating(pair.forward, pair.backward), rng)


def test_an_op_that_lets_nan_into_a_statistic_is_rejected(rng):
    pair = next(pair for pair in ACTIVATIONS if pair.name == "lsq")
    forward, _ = qz.propagating(pair.forward, pair.backward)

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
    forward, _ = qz.propagating(pair.forward, pair.backward)
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


#: what the optimiser and the checkpoint see of a module, in the order they see it
STATE = {
    qz.ABCActivation: (["v", "beta"], []),
    qz.Affine: ([], ["lo", "hi", "updates"]),
    qz.HAQLinear: ([], ["clip"]),
    qz.KMeansWeight: (["centroids"], ["known"]),
    qz.LQActivation: ([], ["basis", "count"]),
    qz.LQWeight: ([], ["basis", "count"]),
    qz.LSQ: (["s"], ["known"]),
    qz.LSQPlus: (["s", "beta"], ["known"]),
    qz.LearnedMinMax: (["lo", "hi"], ["known"]),
    qz.MinMax: ([], ["lo", "hi", "known"]),
    qz.PACT: (["alpha"], ["known"]),
    qz.QILActivation: (["c", "d"], ["known"]),
    qz.QILWeight: (["c", "d", "gamma"], ["known"]),
    qz.SAWB: ([], ["clip", "known"]),
    qz.SYQ: (["alpha"], ["known"]),
    qz.TTQ: (["wp", "wn"], []),
    qz.WEQActivation: ([], ["offset", "step", "known"]),
    qz.WEQWeight: ([], ["boundaries", "known"]),
}


@pytest.mark.parametrize("make", FRESH)
def test_the_state_is_listed(make):
    params, buffers = named_params(make()), named_buffers(make())
    assert (list(params), list(buffers)) == STATE.get(make, ([], []))
    assert {param.group for param in params.values()} <= {"quantizer"}


@pytest.mark.parametrize("make", FRESH)
def test_a_module_is_its_pair(make):
    """It hands down every option they share; gradients add up."""
    module, v = make(), 4 * heavy_tailed(5, np.float64)
    module.forward(v, Run(training=True))
    (forward, backward), asked = module.pair, []

    def spy(v, *args, **options):
        asked.append((args, options))
        return forward(v, *args, **options)

    module.pair = spy, backward
    y, cache = module.forward(v, Run())
    ((args, options),) = asked
    given = {field.name: getattr(module, field.name) for field in fields(module)}
    for name, parameter in inspect.signature(forward).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and given.get(name) is not None:
            want = getattr(given[name], "value", given[name])
            np.testing.assert_array_equal(options[name], want, err_msg=name)
    want, recorded = forward(v, *args, **options)
    np.testing.assert_array_equal(y, want)
    dy = np.random.default_rng(6).normal(size=v.shape)
    grads = backward(dy, recorded)
    dv, *others = grads if isinstance(grads, tuple) else (grads,)
    for times in (1, 2):
        np.testing.assert_array_equal(module.backward(dy, cache), dv)
        for name, grad in zip(module.parameters, others, strict=False):
            if name in named_params(module):
                got = getattr(module, name).grad
                np.testing.assert_allclose(got, times * grad.reshape(got.shape))
                assert np.any(got != 0)


BEGUN = [make for make in FRESH if make.unknown]


@pytest.mark.parametrize("make", BEGUN)
def test_before_the_first_values_are_known_evaluation_raises(make):
    module, v = (make(percentile=99.0) if make is qz.PACT else make()), np.ones((2, 3))
    runs = [Run()]
    if make not in {
        qz.HAQLinear,
        qz.MinMax,
    }:  # the values of a training pass are its own
        runs.append(Run(training=True).replaying([]))
    for run in runs:
        refuses(r"unknown: train, or call set_", module.forward, v, run)
    if make not in {qz.WEQActivation, qz.WEQWeight}:  # they encode without
        refuses(r"unknown: train, or call set_", module.encode, v)


@pytest.mark.parametrize("make", FRESH)
def test_state_changes_in_training_only(make):
    module, v = make(), heavy_tailed(7)
    check_still(module, heavy_tailed(8))
    run = Run(training=True).recording()
    module.forward(v, run)
    check_still(module, heavy_tailed(8))
    before = state_of(module)
    module.forward(3 * v, run.replaying(run.tape))
    check_same_state(state_of(module), before)


@pytest.mark.parametrize(
    ("shape", "trained"), [((0, 3), False), ((3, 0), False), ((3, 0), True)]
)
@pytest.mark.parametrize("make", FRESH)
def test_nothing_changes_nothing(make, shape, trained):
    """An empty tensor: empty out, empty back, no gradient and no state."""
    module, nothing = make(), np.zeros(shape, np.float32)
    if trained:  # on as many filters
        module.forward(heavy_tailed(7), Run(training=True))
    before = state_of(module)
    y, cache = module.forward(nothing, Run(training=True))
    assert (y.shape, y.dtype) == (shape, np.float32)
    assert module.backward(nothing, cache).shape == shape
    check_same_state(state_of(module), before)
    assert not any(np.any(p.grad) for p in named_params(module).values())


class Drifting(qz.LSQ):
    def after(self, v, run):
        self.s.value = self.s.value * 2


def test_a_change_of_state_is_found():
    module = Drifting()
    module.set_step(0.5)
    with pytest.raises(AssertionError, match="an evaluation changes param s"):
        check_still(module, heavy_tailed(8))


@pytest.mark.parametrize("value", [-3.0, 0.0])
@pytest.mark.parametrize("make", FRESH)
@pytest.mark.filterwarnings("ignore:the centre")  # of QIL, held at its floor
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


#: modules that can be asked for 2 bits and for 8; a basis has a bit an element
SEVERAL = [
    m
    for m in BITS
    if {2, 8} <= {*BITS[m]} and not issubclass(m, (qz.LQWeight, qz.LQActivation))
]


@pytest.mark.parametrize("make", SEVERAL)
def test_bits_of_a_call_override_those_of_the_module(make):
    v = np.linspace(-1, 1, 200)[None]
    module = make(bits=8)
    module.forward(v, Run(training=True))
    assert np.unique(module.forward(v, Run(), bits=2)[0]).size <= 4
    assert np.unique(module.forward(v, Run())[0]).size > 16


#: a value, parameters and options: each term of a parameter's gradient is alike
SUMS = {
    "abc_activation": (0.75, ([0.0], [1.0]), {}),
    "kmeans_weight": (1.0, ([0.5, 2.0],), {}),
    "learned_min_max": (9.0, (-1.0, 2.0), {"bits": 2}),
    "lq": (9.0, ([1.0, 2.0],), {"signed": True}),
    "lsq": (9.0, (1.0,), {"q_n": 0, "q_p": 3}),
    "lsq_plus": (9.0, (1.0, 0.5), {"q_p": 3}),
    "pact": (9.0, (1.0,), {"bits": 2}),
    "qil_activation": (0.75, (0.5, 0.5), {"bits": 4}),
    "qil_weight": (0.75, (0.5, 0.5, 1.0), {"bits": 4}),
    "syq": (1.0, (1.0,), {"eta": 0.05, "group": "layer"}),
    "ttq": (1.0, (1.0, 1.0), {"t": 0.5}),
}


@pytest.mark.parametrize("name", SUMS)
def test_gradients_of_parameters_are_summed_in_float64(name):
    """dy = (1, 2^-24, 2^-24, ...): a sum in float32 loses some of it."""
    value, parameters, options = SUMS[name]
    forward, backward = getattr(qz, name), getattr(qz, f"{name}_backward")
    v, dy = (np.full((1, 2**12), each, np.float32) for each in (value, 2.0**-24))
    dy[0, 0] = 1
    cache = forward(v, *map(np.array, parameters), **options)[1]
    terms = backward(np.eye(1, 2**12, dtype=np.float32), cache)[1:]
    for term, got in zip(terms, backward(dy, cache)[1:], strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, term * dy.sum(dtype=float), rtol=2.0**-23)


def test_every_pair_with_parameters_is_in_the_table_of_sums():
    learned = {pair.forward.__name__ for pair in PAIRS if len(pair.wrt) > 1}
    assert learned == set(SUMS)


# -- the table itself -----------------------------------------------------------------


def test_the_readme_shows_the_table():
    """``python -m tables.quantizers`` in tests/ prints what belongs there."""
    readme = (HOME / "README.md").read_text()
    shown = readme[readme.index("| paper | equation |") :].split("\n\n")[0]
    assert shown.splitlines() == table().splitlines()


def files_without_a_row(names):
    return set(names) - {row.source[2] for row in ROWS} - NO_METHOD


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
    known = {pair.forward.__name__ for pair in pairs}
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
    assert not without_a_frozen_form([pair.forward for pair in PAIRS])
    assert without_a_frozen_form([qz.affine, qz.batch_range]) == ["batch_range"]


def test_every_file_cites_its_source():
    for path in HOME.glob("*.py"):
        if path.name not in NO_METHOD:
            text = path.read_text()
            assert re.search(r"arXiv:\d{4}\.\d{4,5}", text), path.name
            assert "paper  " in text, f"{path.name} has no table of symbols"


def test_rows_are_consistent():
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {row.levels[0] for row in ROWS} <= set(LEVELS)
    assert all(isinstance(v, Verdict) for row in ROWS for v in row.laws.values())
