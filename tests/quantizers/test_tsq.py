import itertools
import math

import numpy as np
import pytest
from refusals import refuses

from refqnn.core import Run
from refqnn.quantizers import (
    TSQActivation,
    gaussian_delta,
    learn_transformation,
    optimal_ternary,
    transformation_objective,
    transformation_step,
    tsq_activation,
    tsq_activation_backward,
)
from refqnn.quantizers.tsq_weights import (
    Transformation,
    alpha_step,
    t_step,
    transformation_start,
    z_step,
)

# -- step 1: activations --------------------------------------------------------------


def level_by_thresholds(x, eps, delta, bits):
    """The intervals one after another, as the paper lists them."""
    if x <= eps:
        return 0.0
    for k in range(1, 2**bits - 1):
        if x <= (k + 0.5) * delta:
            return k * delta
    return (2**bits - 1) * delta


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("eps", [0.0, 0.25, 0.4375])
def test_the_levels_are_those_of_the_intervals(bits, eps):
    x = np.arange(-32, 160) / 32  # every threshold occurs, delta = 1/2
    y, cache = tsq_activation(x, np.array(eps), np.array(0.5), bits=bits)
    np.testing.assert_array_equal(
        y, [level_by_thresholds(v, eps, 0.5, bits) for v in x]
    )
    top = (2**bits - 1) / 2
    dx = tsq_activation_backward(np.arange(1.0, 193.0), cache)
    want = [i + 1.0 if 0 < v < top else 0.0 for i, v in enumerate(x)]
    np.testing.assert_array_equal(dx, want)


def test_the_dead_zone_passes_the_gradient():
    x = np.array([0.0, 0.01, 0.3])
    y, cache = tsq_activation(x, np.array(0.32), np.array(0.6487), bits=2)
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(tsq_activation_backward(np.ones(3), cache), [0, 1, 1])


def test_an_interval_for_every_channel():
    x = np.full((2, 3), 0.6)
    delta = np.array([[0.25], [1.0]])
    y, _ = tsq_activation(x, np.array(0.1), delta, bits=2)
    np.testing.assert_array_equal(y, [[0.5] * 3, [1.0] * 3])
    with pytest.raises(ValueError, match=r"eps must lie in \[0, delta\)"):
        tsq_activation(x, np.array(0.25), delta, bits=2)


def test_quotients_beyond_the_largest_number_are_the_last_level():
    tiny = np.finfo(np.float32).tiny
    x = np.array([1e19, -1e19], np.float32)
    y, _ = tsq_activation(x, np.array(0.0), np.array(tiny), bits=2)
    np.testing.assert_array_equal(y, np.float32([3, 0]) * tiny)


#: delta for N(0, 1), from the literature (HWGQ) and from a minimisation
HWGQ = {1: 0.79788, 2: 0.53881, 3: 0.32173, 4: 0.18424, 5: 0.10298, 8: 0.01648}
HALF = {1: 1.22401, 2: 0.65077, 3: 0.35341, 4: 0.19325, 5: 0.10549, 8: 0.01653}


@pytest.mark.parametrize("bits", HWGQ)
def test_gaussian_constants(bits):
    assert gaussian_delta(bits, 0.0) == pytest.approx(HWGQ[bits], abs=1e-5)
    assert gaussian_delta(bits) == pytest.approx(HALF[bits], abs=1e-5)
    assert gaussian_delta(bits, gaussian_delta(bits) / 2) == pytest.approx(
        gaussian_delta(bits), rel=1e-12
    )


def test_published_constants():
    assert gaussian_delta(2, 0.32) == pytest.approx(0.6487, abs=2e-4)
    assert gaussian_delta(1, 0.0) == pytest.approx(math.sqrt(2 / math.pi), rel=1e-12)
    assert math.erfc(-0.32 / math.sqrt(2)) / 2 == pytest.approx(0.626, abs=1e-3)


X = np.linspace(0, 9, 90_001)[1:]
DENSITY = np.exp(-X * X / 2) / math.sqrt(2 * math.pi) * (X[1] - X[0])


def mse(bits, eps, delta):
    """The integral of (Q(x) - x)^2 phi(x) over x > 0, by rectangles."""
    y, _ = tsq_activation(X, np.array(eps), np.array(delta), bits=bits)
    return float(np.sum((y - X) ** 2 * DENSITY))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_delta_is_where_the_error_is_least(bits, share):
    eps = share * HALF[bits]
    best = gaussian_delta(bits, eps)
    around = [mse(bits, eps, best * (1 + s)) for s in (-0.3, -0.02, 0, 0.02, 0.3)]
    assert min(around) == around[2]


def test_half_of_delta_is_the_best_eps():
    errors = {
        eps: mse(2, eps, gaussian_delta(2, eps)) for eps in (0.0, 0.2, 0.32, 0.36, 0.45)
    }
    best = mse(2, gaussian_delta(2) / 2, gaussian_delta(2))
    assert best < min(errors.values())
    assert errors[0.32] == pytest.approx(0.0234, abs=1e-4)
    assert errors[0.0] == pytest.approx(0.0432, abs=1e-4)


@pytest.mark.parametrize(
    ("bits", "ratio"), [(1, 0.523), (2, 0.542), (3, 0.632), (4, 0.735), (5, 0.826)]
)
def test_the_dead_zone_saves_error(bits, ratio):
    delta = gaussian_delta(bits)
    saved = mse(bits, delta / 2, delta) / mse(bits, 0.0, gaussian_delta(bits, 0.0))
    assert saved == pytest.approx(ratio, abs=2e-3)


def test_a_delta_that_is_none_raises():
    refuses(r"bits must be an int in \[1, 8\], got 9", gaussian_delta, 9)
    for bits, eps in ((4, 0.32), (2, -0.1), (2, math.nan)):
        refuses(r"eps must lie in \[0, delta\)", gaussian_delta, bits, eps)
        refuses(r"eps must lie in \[0, delta\)", TSQActivation, bits, eps)


def test_the_module_takes_gaussian_constants_where_none_are_given():
    delta = gaussian_delta(2)
    assert TSQActivation(2).interval() == (delta / 2, delta)
    assert TSQActivation(2, 0.32).interval() == (0.32, gaussian_delta(2, 0.32))
    assert TSQActivation(2, delta=0.5).interval() == (0.25, 0.5)
    assert TSQActivation(2, 0.3, 0.5).interval() == (0.3, 0.5)
    x = np.linspace(-1, 3, 101)
    y, _ = TSQActivation(4).forward(x, Run(), bits=2)
    np.testing.assert_array_equal(y, TSQActivation(2).forward(x, Run())[0])


# -- the optimal ternary weights ------------------------------------------------------


def least_error(w):
    """The least |w - alpha t|^2 over all t, each with its best alpha."""
    best = float(w @ w)
    for t in itertools.product((-1, 0, 1), repeat=w.size):
        if any(t):
            alpha = float(w @ np.array(t)) / sum(map(abs, t))
            best = min(best, float(np.sum((w - alpha * np.array(t)) ** 2)))
    return best


@pytest.mark.parametrize("n", range(1, 9))
def test_no_ternary_vector_is_nearer(n, rng):
    for i in range(4):
        w = rng.normal(size=n) * rng.lognormal(size=n)
        w = np.round(w * 2) / 2 if i == 0 else w
        y, _ = optimal_ternary(w[None])
        np.testing.assert_allclose(np.sum((w - y) ** 2), least_error(w), atol=1e-12)


def test_of_equal_errors_the_fewest_are_kept():
    w = np.array([[5.0, 5, 5, 5, 2, 2, 2, 2, 2]])  # 20^2 / 4 = 30^2 / 9
    y, _ = optimal_ternary(w)
    np.testing.assert_array_equal(y, [[5, 5, 5, 5, 0, 0, 0, 0, 0]])


def test_equal_magnitudes_stay_together():
    w = np.array([[2.0, -2.0, 2.0, 0.1], [0.3, -0.3, 0.3, 0.3]])
    want = [[2, -2, 2, 0], [0.3, -0.3, 0.3, 0.3]]
    np.testing.assert_array_equal(optimal_ternary(w)[0], want)


def test_small_filters_have_no_floor():
    w = np.array([[4.0, -3.0, 1.0, 0.0]])
    for k in (2.0**-100, 2.0**-30, 2.0**60):
        np.testing.assert_array_equal(
            optimal_ternary(w * k)[0], k * optimal_ternary(w)[0]
        )


def test_a_filter_of_zeros_is_zero_among_others():
    y, _ = optimal_ternary(np.array([[0.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_array_equal(y, [[0, 0], [1, 0]])
    assert optimal_ternary(np.zeros((2, 0)))[0].shape == (2, 0)


# -- step 2 ---------------------------------------------------------------------------

GRID = {"eps": 0.32, "delta": 0.6487, "bits": 2}


def problem(seed, d=7, n=60):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(d, n))
    w = rng.normal(size=d)
    codes, _ = tsq_activation(
        w @ x + 0.2 * rng.normal(size=n), np.array(0.32), np.array(0.6487), bits=2
    )
    return w, x, codes


def objective(state, x, y, lam):
    return transformation_objective(state, x, y, delta=0.6487, lam=lam)


@pytest.mark.parametrize("lam", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("seed", range(5))
def test_no_block_raises_the_objective(lam, seed):
    w, x, y = problem(seed)
    state = transformation_start(w, x, **GRID)
    first = last = objective(state, x, y, lam)
    for _ in range(8):
        for step in (
            lambda state: z_step(state, x, y, **GRID, lam=lam),
            lambda state: alpha_step(state, x),
            lambda state: t_step(state, x),
        ):
            state = step(state)
            now = objective(state, x, y, lam)
            assert now <= last * (1 + 1e-12)
            last = now
    assert last < first or lam > 1  # a large lambda may hold everything


def test_the_objective_by_hand():
    state = Transformation(2.0, np.array([1.0, -1.0]), np.array([0.5]), np.array([1]))
    x, y = np.array([[1.0], [0.5]]), np.array([3.0])
    got = transformation_objective(state, x, y, delta=2.0, lam=10.0)
    assert got == (3 - 2) ** 2 + 10 * (0.5 - 2 * 0.5) ** 2


def interval_of(k):
    ends = [-math.inf, 0.32, 1.5 * 0.6487, 2.5 * 0.6487, math.inf]
    return ends[k], ends[k + 1]


@pytest.mark.parametrize("lam", [0.1, 1.0, 10.0])
def test_every_z_is_the_best_of_all_levels(lam):
    w, x, y = problem(9)
    state = z_step(transformation_start(w, x, **GRID), x, y, **GRID, lam=lam)
    v = state.alpha * (x.T @ state.t)
    tried = np.linspace(-6, 6, 4001)
    for i in range(v.size):
        low, high = interval_of(state.k[i])
        assert low <= state.z[i] <= high
        got = (y[i] - 0.6487 * state.k[i]) ** 2 + lam * (state.z[i] - v[i]) ** 2
        for k in range(4):
            low, high = interval_of(k)
            z = tried[(low <= tried) & (tried <= high)]
            best = np.min((y[i] - 0.6487 * k) ** 2 + lam * (z - v[i]) ** 2)
            assert got <= best + 1e-12


def test_z_at_an_open_end_keeps_its_level():
    """v = 0.1 for the code 1: z goes to eps, which by value is level 0."""
    state = Transformation(0.1, np.ones(1), np.zeros(1), np.zeros(1, int))
    x, y = np.ones((1, 1)), np.array([0.6487])
    state = z_step(state, x, y, **GRID, lam=1.0)
    np.testing.assert_array_equal(state.z, [0.32])
    np.testing.assert_array_equal(state.k, [1])
    by_value, _ = tsq_activation(state.z, np.array(0.32), np.array(0.6487), bits=2)
    np.testing.assert_array_equal(by_value, [0])
    kept = objective(state, x, y, 1.0)
    assert kept < objective(state._replace(k=np.zeros(1, int)), x, y, 1.0)
    again = z_step(state, x, y, **GRID, lam=1.0)
    np.testing.assert_array_equal(again.k, [1])


def test_alpha_is_the_least_squares_scale_and_not_negative(rng):
    x, z = rng.normal(size=(3, 20)), rng.normal(size=20)
    t = np.array([1.0, 0.0, -1.0])
    want, *_ = np.linalg.lstsq((x.T @ t)[:, None], z, rcond=None)
    for sign in (1, -1):
        state = alpha_step(Transformation(0.5, sign * t, z, np.zeros(20, int)), x)
        np.testing.assert_allclose(state.alpha * state.t, want * t)
        assert state.alpha >= 0
    state = alpha_step(Transformation(0.5, 0 * t, z, np.zeros(20, int)), x)
    assert state.alpha == 0


def test_each_t_is_the_best_with_the_others_held(rng):
    x, z = rng.normal(size=(5, 30)), rng.normal(size=30)
    state = Transformation(0.4, np.array([1.0, 0, -1, 0, 1]), z, np.zeros(30, int))
    want = state.t.copy()
    for j in range(5):
        errors = []
        for level in (-1, 0, 1):
            want[j] = level
            errors.append(np.sum((z - 0.4 * (want @ x)) ** 2))
        want[j] = np.argmin(errors) - 1
    assert not np.array_equal(want, state.t)
    np.testing.assert_array_equal(t_step(state, x).t, want)


def test_what_has_no_effect_keeps_its_t(rng):
    x, z = rng.normal(size=(3, 20)), rng.normal(size=20)
    x[1] = 0
    t = np.array([1.0, -1.0, 0.0])
    assert t_step(Transformation(0.4, t, z, np.zeros(20, int)), x).t[1] == -1
    idle = t_step(Transformation(0.0, t, z, np.zeros(20, int)), x)
    np.testing.assert_array_equal(idle.t, t)


def test_no_step_writes_to_the_state():
    w, x, y = problem(3)
    state = transformation_start(w, x, **GRID)
    before = [np.copy(part) for part in state]
    transformation_step(state, x, y, **GRID, lam=1.0)
    for part, was in zip(state, before, strict=True):
        np.testing.assert_array_equal(part, was)


def test_learning_starts_from_the_optimal_ternary_weights():
    w, x, y = problem(4)
    start = learn_transformation(w, x, y, **GRID, lams=[])
    np.testing.assert_array_equal(start.alpha * start.t, optimal_ternary(w[None])[0][0])
    np.testing.assert_allclose(start.z, start.alpha * start.t @ x)
    codes, _ = tsq_activation(start.z, np.array(0.32), np.array(0.6487), bits=2)
    np.testing.assert_array_equal(start.k * 0.6487, codes)


def test_the_sweeps_are_those_of_the_lambdas():
    w, x, y = problem(5)
    state = transformation_start(w, x, **GRID)
    for lam in (0.1, 1.0, 10.0):
        state = transformation_step(state, x, y, **GRID, lam=lam)
    learned = learn_transformation(w, x, y, **GRID, lams=[0.1, 1.0, 10.0])
    for got, want in zip(learned, state, strict=True):
        np.testing.assert_array_equal(got, want)


def test_learning_finds_a_planted_scale():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 400))
    t = np.array([1.0, -1, 0, 1, 0, -1])
    y, _ = tsq_activation(0.5 * (t @ x), np.array(0.32), np.array(0.6487), bits=2)
    for alpha in (0.3, 0.8):
        learned = learn_transformation(alpha * t, x, y, **GRID, lams=[1.0] * 100)
        np.testing.assert_array_equal(learned.t, t)
        assert learned.alpha == pytest.approx(0.5, abs=0.05)


def test_an_offset_moves_the_intervals():
    rng = np.random.default_rng(0)
    x, offset = rng.normal(size=(6, 400)), rng.normal(size=400)
    t, alpha = np.array([1.0, -1, 0, 1, 0, -1]), 0.5
    y, _ = tsq_activation(
        alpha * (t @ x) + offset, np.array(0.32), np.array(0.6487), bits=2
    )
    ends = np.array([-np.inf, 0.32, 1.5 * 0.6487, 2.5 * 0.6487, np.inf])
    given = {**GRID, "offset": offset}
    start = learn_transformation(alpha * t, x, y, **given, lams=[])
    np.testing.assert_array_equal(start.k * 0.6487, y)
    for begin in (0.3, 0.8):
        learned = learn_transformation(begin * t, x, y, **given, lams=[1.0] * 100)
        np.testing.assert_array_equal(learned.t, t)
        assert learned.alpha == pytest.approx(alpha, abs=0.02)
        v = learned.z + offset  # in the closed interval of its level
        assert np.all((ends[learned.k] - 1e-9 <= v) & (v <= ends[learned.k + 1] + 1e-9))
    state = start._replace(alpha=0.9)
    z = z_step(state, x, y, **given, lam=1e9).z  # only alpha X^T t costs nothing
    np.testing.assert_allclose(z, 0.9 * t @ x, atol=1e-9)
    for lam in (0.1, 1.0, 10.0):
        how = {"delta": 0.6487, "lam": lam}
        before = transformation_objective(
            z_step(state, x, y, **given, lam=lam), x, y, **how
        )
        state = transformation_step(state, x, y, **given, lam=lam)
        assert transformation_objective(state, x, y, **how) <= before * (1 + 1e-9)
    with pytest.raises(
        ValueError, match=r"offset must be \(\) or \(400,\), got \(6,\)"
    ):
        learn_transformation(t, x, y, **GRID, offset=np.ones(6), lams=[])


def test_a_wrong_t_stays_until_z_is_half_a_step_away(rng):
    """|x_j (z - v)| > alpha |x_j|^2 / 2 moves t_j: close levels do not."""
    x = np.linalg.qr(rng.normal(size=(50, 3)))[0].T  # orthogonal: one t_j at a time
    t, near = np.array([1.0, 0.0, -1.0]), np.array([1.0, 1.0, -1.0])
    v, aim = 0.5 * (t @ x), 0.5 * (near @ x)
    for share, want in ((0.49, t), (0.51, near)):
        state = Transformation(0.5, t, v + share * (aim - v), np.zeros(50, int))
        np.testing.assert_array_equal(t_step(state, x).t, want)


def test_bad_problems_raise():
    w, x, y = problem(7)
    for lam in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="lams must be positive and finite"):
            learn_transformation(w, x, y, **GRID, lams=[1.0, lam])
    for args in ((w[1:], x, y), (w, x, y[1:]), (w, x[0], y), (w[None], x, y)):
        refuses("disagree", learn_transformation, *args, **GRID, lams=[1.0])
    with pytest.raises(ValueError, match=r"eps must lie in \[0, delta\)"):
        learn_transformation(w, x, y, eps=0.7, delta=0.6487, bits=2, lams=[1.0])
    with pytest.raises(ValueError, match="y must be finite"):
        learn_transformation(w, x, y * np.nan, **GRID, lams=[1.0])
