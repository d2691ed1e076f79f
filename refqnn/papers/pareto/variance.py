r"""Proposition 5.1: how much mean|w| of a filter varies, and what its rho must be.

Chin, Chuang, Chandra, Marculescu. arXiv:2008.09916, section 5.3 and appendix D.

    paper                        code           where
    Var(mean|w|), (7)            variance       mean_abs_variance_printed
    rho, "average correlation"   rho            rho: what makes (7) true
    (7) for a Gaussian           variance       mean_abs_variance
    channels versus kernel       channels,      channel_correlation
                                 pixels

For w in R^d, each w_i ~ N(0, sigma^2), the paper states

    Var(mean|w|) = sigma^2 / d + (d - 1) rho sigma^2 / d - 2 sigma^2 / pi           (7)

and calls rho the average correlation of the weights. *Erratum*: it is not. Proof. For
uncorrelated Gaussian weights rho would be 0 and (7) negative for every d >= 2: already
sigma^2 (1/2 - 2/pi) = -0.137 sigma^2 at d = 2, and no variance is. What appendix D uses
in its last line is

    rho = 1 / (d (d - 1)) sum over i != j of E|w_i||w_j| / sigma^2                  (D1)

the average *uncentred second moment of the magnitudes*; with it (7) is exact for any
joint distribution that has those marginals. Independent weights have rho = 2 / pi.

For a pair that is jointly Gaussian with correlation r

    E|w_i||w_j| / sigma^2 = (2 / pi) (sqrt(1 - r^2) + r asin r)                     (D2)

between 2 / pi at r = 0 and 1 at r = 1 or -1, even in r. In (7):

    Var(mean|w|) = 2 sigma^2 / (pi d^2) sum over all i, j of g(r_ij)                (D3)
    g(r) = sqrt(1 - r^2) + r asin r - 1,  g(0) = 0,  g(1) = pi / 2 - 1

whose diagonal is the variance of independent weights, sigma^2 (1 - 2 / pi) / d. (D2)
and (D3) are derived in PARETO.md, beside this folder.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Float

#: how far from a correlation matrix rounding may take one
TOLERANCE = 1e-8


def mean_abs_variance(correlation: Any, *, sigma: float = 1.0) -> float:
    """2 sigma^2 / (pi d^2) sum_ij (sqrt(1 - r_ij^2) + r_ij asin r_ij - 1), (D3)

    correlation: (d, d)  ->  ()

    The exact variance of mean|w| for Gaussian w with standard deviation ``sigma`` and
    this correlation. Raises ValueError for a matrix that is no correlation matrix: not
    square, not finite, not symmetric, diagonal not 1, an eigenvalue below 0.

    >>> round(mean_abs_variance(np.eye(1)), 6)  # 1 - 2 / pi
    0.36338
    >>> round(mean_abs_variance(np.eye(10)), 6)
    0.036338
    >>> round(mean_abs_variance([[1, 1], [1, 1]]), 6)
    0.36338
    """
    r = checked_correlation(correlation)
    check_sigma(sigma)
    return 2 * sigma**2 / (math.pi * r.size) * float(magnitude_excess(r).sum())  # (D3)


def mean_abs_variance_printed(d: int, rho: float, *, sigma: float = 1.0) -> float:
    """sigma^2 / d + (d - 1) rho sigma^2 / d - 2 sigma^2 / pi, (7) as printed

    d: (), rho: ()  ->  (), a variance only with rho of (D1)

    Raises ValueError for d < 1 and for a rho that is not finite.

    >>> round(mean_abs_variance_printed(2, 0.0), 4)  # not a variance
    -0.1366
    >>> round(mean_abs_variance_printed(2, 2 / math.pi), 4)  # half of 1 - 2 / pi
    0.1817
    """
    check_dimension(d, least=1)
    check_sigma(sigma)
    if not math.isfinite(rho):
        raise ValueError(f"rho must be finite, got {rho}")
    s2 = sigma**2
    return s2 / d + (d - 1) * rho * s2 / d - 2 * s2 / math.pi  # (7)


def rho(correlation: Any) -> float:
    """(2 / pi) times the mean over i != j of sqrt(1 - r^2) + r asin r, (D1) and (D2)

    correlation: (d, d), d >= 2  ->  (), in [2 / pi, 1]

    What (7) needs in the place of the correlation; sigma does not matter.

    >>> round(rho(np.eye(3)), 6), rho([[1, -1], [-1, 1]])  # 2 / pi
    (0.63662, 1.0)
    """
    r = checked_correlation(correlation)
    check_dimension(len(r), least=2)
    pairs = ~np.eye(len(r), dtype=bool)
    mean = magnitude_excess(r)[pairs].mean()
    return float(2 / math.pi * (1 + mean))  # (D1), (D2)


def magnitude_excess(r: Float) -> Float:
    """g(r) = sqrt(1 - r^2) + r asin r - 1, about r^2 / 2

    r: (...), in [-1, 1]  ->  (...), in [0, pi / 2 - 1]

    >>> magnitude_excess(np.array([0.0, 1.0, -1.0])).round(6)
    array([0.      , 0.570796, 0.570796])
    """
    return np.sqrt(1 - r * r) + r * np.arcsin(r) - 1


def equal_correlation(d: int, r: float) -> Float:
    """Return the matrix with ``r`` off the diagonal; -1 / (d - 1) <= r <= 1.

    ->  (d, d)

    >>> equal_correlation(2, 0.5)
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    check_dimension(d, least=1)
    return checked_correlation(np.where(np.eye(d, dtype=bool), 1.0, r))


def channel_correlation(
    channels: int, pixels: int, *, within: float, across: float = 0.0
) -> Float:
    """Return the correlation of a filter: ``within`` a channel's slice, ``across`` two.

    ->  (d, d), d = channels * pixels

    The model behind "increasing the number of channels is more effective than
    increasing the kernel size": at one d, more channels and fewer pixels have the lower
    variance exactly if |within| > |across| (sum of the even, rising g over the pairs).

    >>> channel_correlation(2, 1, within=0.5, across=0.1)
    array([[1. , 0.1],
           [0.1, 1. ]])
    """
    check_dimension(channels, least=1)
    check_dimension(pixels, least=1)
    same = np.kron(np.eye(channels), np.ones((pixels, pixels))) > 0
    r = np.where(same, within, across)
    np.fill_diagonal(r, 1.0)
    return checked_correlation(r)


class Simulated(NamedTuple):
    """A variance estimated from draws, with its standard error."""

    variance: float
    standard_error: float


def simulate(
    correlation: Any, *, draws: int, rng: np.random.Generator, sigma: float = 1.0
) -> Simulated:
    """Return Var(mean|w|) from ``draws`` Gaussian filters: (D3) by experiment.

    correlation: (d, d)  ->  (), ()

    The standard error of the sample variance is sqrt((m_4 - m_2^2) / n).

    >>> found = simulate(np.eye(4), draws=1000, rng=np.random.default_rng(0))
    >>> abs(found.variance - mean_abs_variance(np.eye(4))) < 4 * found.standard_error
    True
    """
    r = checked_correlation(correlation)
    check_sigma(sigma)
    check_dimension(draws, least=2, name="draws")
    values, vectors = np.linalg.eigh(r)
    root = vectors * np.sqrt(np.maximum(values, 0))
    rows = max(1, 2**20 // len(r))
    means = np.concatenate(
        [
            # (n, d) . (d, d) -> (n, d) -> (n,)
            np.abs(rng.standard_normal((min(rows, draws - i), len(r))) @ root.T).mean(1)
            for i in range(0, draws, rows)
        ]
    )
    centred = sigma * (means - means.mean())
    second, fourth = (float(np.mean(centred**k)) for k in (2, 4))
    error = math.sqrt((fourth - second**2) / draws)
    return Simulated(second * draws / (draws - 1), error)


def checked_correlation(correlation: Any) -> Float:
    """Return a correlation matrix in float64, or raise a ValueError that says why not.

    Rounding is forgiven up to 1e-8; what comes back is symmetric, in [-1, 1], with an
    exact diagonal.
    """
    r = np.asarray(correlation, np.float64)
    if r.ndim != 2 or r.shape[0] != r.shape[1] or not r.size:
        raise ValueError(f"correlation must be (d, d) with d >= 1, got {r.shape}")
    if not np.isfinite(r).all():
        raise ValueError("correlation must be finite")
    for what, distance in (
        ("symmetric", np.abs(r - r.T).max()),
        ("1 on the diagonal", np.abs(np.diag(r) - 1).max()),
        ("in [-1, 1]", np.abs(r).max() - 1),
        ("without an eigenvalue below 0", -np.linalg.eigvalsh((r + r.T) / 2)[0]),
    ):
        if distance > TOLERANCE * len(r):
            raise ValueError(f"correlation must be {what}, off by {distance:.3g}")
    r = np.clip((r + r.T) / 2, -1, 1)
    np.fill_diagonal(r, 1.0)
    return r


def check_sigma(sigma: float) -> None:
    """Raise unless the standard deviation is finite and not negative."""
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be in [0, inf), got {sigma}")


def check_dimension(d: int, *, least: int, name: str = "d") -> None:
    """Raise unless ``d`` is an int of at least ``least``."""
    if isinstance(d, bool) or not isinstance(d, int | np.integer) or d < least:
        raise ValueError(f"{name} must be an int of at least {least}, got {d!r}")
