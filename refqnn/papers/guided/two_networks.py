"""Guidance: a network of few bits learns beside one in floating point.

Zhuang et al., CVPR 2018, arXiv:1711.00205: phi, R and the two losses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.core import Run
from refqnn.networks import build
from refqnn.nn import Sequential, carry_over, loss_and_gradient
from refqnn.nn.training import Objective
from refqnn.ops.straight_through import StraightThroughCache
from refqnn.prompt import one_line
from refqnn.quantizers import dorefa_activation, dorefa_activation_backward
from refqnn.quantizers.checks import check_bits, check_values

Config = Mapping[str, Any]


# Guidance


@one_line
class GuidanceCache(NamedTuple):
    """What the backward needs, and what freezes the rounding."""

    D: Float  # phi(a_full) - a_low
    phi: StraightThroughCache
    share: float  # 1 / N, or what mean_over asks for


def guidance(
    a_full: Float,
    a_low: Float,
    *,
    bits: int,
    mean_over: str | None = "images",
    frozen: GuidanceCache | None = None,
) -> tuple[np.floating[Any], GuidanceCache]:
    """Rh = 1/2 sum (phi(a_full) - a_low)^2 / N,  phi(a) = round(n clip(a, 0, 1)) / n

    a_full, a_low: (N, ...)  ->  Rh: (), dtype of a_full

    One layer's guidance, n = 2^k - 1 for k ``bits`` in [1, 16]. N is the number of
    images; ``mean_over="elements"`` divides by the number of all elements instead,
    and None by nothing. Raises ValueError for shapes or dtypes that differ,
    batches without images, and NaN or infinity.

    With ``frozen``, residual and clip of phi are held: the smooth function whose exact
    gradient ``guidance_backward`` is.

    >>> Rh, _ = guidance(np.array([[0.9, 5.0]]), np.array([[0.0, 1.0]]), bits=1)
    >>> float(Rh)  # phi gives 1 and 1
    0.5
    """
    check_values(a_low, name="a_low")
    phi, held = dorefa_activation(
        a_full, bits=bits, frozen=None if frozen is None else frozen.phi
    )
    check_features(a_full, a_low)
    D = phi - a_low
    share = 1 / divisor(D, mean_over)
    Rh = share * np.sum(D.astype(np.float64) ** 2) / 2
    return a_full.dtype.type(Rh), GuidanceCache(D, held, share)


def guidance_backward(dRh: float | Float, cache: GuidanceCache) -> tuple[Float, Float]:
    """da_full = dRh D / N where 0 <= a_full <= 1, else 0;  da_low = -dRh D / N

    dRh: ()  ->  da_full, da_low: (N, ...)

    >>> _, cache = guidance(np.array([[0.9, 5.0]]), np.zeros((1, 2)), bits=1)
    >>> guidance_backward(1.0, cache)
    (array([[1., 0.]]), array([[-1., -1.]]))
    """
    if np.shape(dRh) != ():
        raise ValueError(f"dRh must be one number, got shape {np.shape(dRh)}")
    dD = (float(dRh) * cache.share * cache.D).astype(cache.D.dtype)
    return dorefa_activation_backward(dD, cache.phi), -dD


def divisor(D: Float, mean_over: str | None) -> int:
    """Count the images, the elements, or 1: the divisor of the sum.

    >>> D = np.zeros((2, 3))
    >>> divisor(D, "images"), divisor(D, "elements"), divisor(D, None)
    (2, 6, 1)
    """
    divisors = {"images": len(D), "elements": D.size, None: 1}
    if mean_over not in divisors:
        raise ValueError(
            f"mean_over must be 'images', 'elements' or None, got {mean_over!r}"
        )
    return divisors[mean_over]


def check_features(a_full: Float, a_low: Float) -> None:
    """Raise unless both are features of the same images, of one dtype."""
    here, there = (f"{a.shape} {a.dtype}" for a in (a_full, a_low))
    if here != there:
        raise ValueError(
            f"a_full and a_low must have one shape and dtype: {here}, {there}"
        )
    if a_full.ndim == 0 or not a_full.size:
        raise ValueError(f"a_full must hold at least one number: a_full{a_full.shape}")


# The two networks


@final
@dataclass(eq=False)
class Guided:
    """A network ``low`` of few bits and the one in floating point that it learns with.

    ``layers`` names the layers whose outputs are compared, and are in both; ``bits``
    are those of phi. As a module it is ``low``: what it predicts is what ``low`` does.
    ``config`` is what ``guided_pair`` needs to make it again.
    """

    full: Sequential
    low: Sequential
    layers: tuple[str, ...]
    bits: int
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_bits(self.bits, least=1)
        for which, network in (("full", self.full), ("low", self.low)):
            for name in self.layers:
                if name not in network.layers:
                    raise ValueError(
                        f"layers must be in both networks; {which} has no {name!r}"
                    )

    def forward(self, x: Array, run: Run) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  logits of ``low``: (N, K)"""
        return self.low.forward(x, run)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, K)  ->  dx of ``low``: (N, C, H, W)"""
        return self.low.backward(dy, cache)

    def joint(
        self, x: Array, run: Run, *, mean_over: str | None = "images"
    ) -> tuple[tuple[Float, Float, float], Any]:
        """x: (N, C, H, W)  ->  z_full, z_low: (N, K), Rh: (), summed over the layers"""
        z_full, a_full, full = features(self.full, x, run, self.layers)
        z_low, a_low, low = features(self.low, x, run, self.layers)
        Rh, caches = 0.0, {}
        for name in self.layers:
            part, caches[name] = run.straight_through(
                guidance, a_full[name], a_low[name], bits=self.bits, mean_over=mean_over
            )
            Rh += float(part)
        return (z_full, z_low, Rh), (full, low, caches)

    def joint_backward(
        self, dz_full: Float, dz_low: Float, dRh: float, cache: Any
    ) -> Float:
        """dz_full, dz_low: (N, K), dRh: ()  ->  dx: (N, C, H, W)"""
        full, low, held = cache
        da = {name: guidance_backward(dRh, c) for name, c in held.items()}
        da_full = {name: pair[0] for name, pair in da.items()}
        da_low = {name: pair[1] for name, pair in da.items()}
        dx = features_backward(self.full, dz_full, da_full, full)
        return dx + features_backward(self.low, dz_low, da_low, low)


def features(
    network: Sequential, x: Array, run: Run, layers: Sequence[str]
) -> tuple[Float, dict[str, Float], list[Any]]:
    """Give the output, those of the named layers, and the caches of all layers."""
    y, named, caches = x, {}, []
    for name, layer in network:
        y, cache = layer.forward(y, run)
        caches.append(cache)
        if name in layers:
            named[name] = y
    run.see(network, x, y)
    return y, named, caches


def features_backward(
    network: Sequential, dy: Float, da: Mapping[str, Float], caches: list[Any]
) -> Float:
    """Undo ``features``: the gradient gains ``da`` at the named layers."""
    for (name, layer), cache in zip(
        reversed([*network]), reversed(caches), strict=True
    ):
        dy = dy + da[name] if name in da else dy
        dy = layer.backward(dy, cache)
    return dy


def guided_pair(
    low: Config,
    *,
    layers: Sequence[str] | None = None,
    bits: int | None = None,
    rng: np.random.Generator | None = None,
) -> Guided:
    """Make the network of the configuration ``low`` and the same one without bits.

    Both begin with the same values. ``layers`` default to the outputs of the stages,
    ``bits`` of phi to the activation bits of ``low``. Raises ValueError for a method
    other than DoReFa, and where a default does not exist.

    >>> net = {"network": "resnet", "depth": 8, "weight_bits": 2, "activation_bits": 2}
    >>> pair = guided_pair(net)
    >>> pair.layers, pair.bits
    (('stage1_block1', 'stage2_block1', 'stage3_block1'), 2)
    """
    low = {"method": "dorefa", **low}
    if low["method"] != "dorefa":
        raise ValueError(f"method must be 'dorefa', as phi is, got {low['method']!r}")
    rng = np.random.default_rng(0) if rng is None else rng
    full_network = build(low | {"weight_bits": None, "activation_bits": None}, rng=rng)
    low_network = build(low, rng=rng)
    carry_over(full_network, low_network)
    names = stage_outputs(low_network) if layers is None else tuple(layers)
    k = low_network.config["activation_bits"] if bits is None else bits
    config = {"network": "guided", "low": low, "layers": list(names), "bits": k}
    return Guided(full_network, low_network, names, k, config)


def stage_outputs(network: Sequential) -> tuple[str, ...]:
    """Name the last block of every stage of a ResNet."""
    last = {}
    for name in network.layers:
        stage_name, _, number = name.partition("_block")
        if number:
            last[stage_name] = name
    if not last:
        raise ValueError("layers must be given: the network has no stages of blocks")
    return tuple(last.values())


def guided_objective(
    lam: float, *, mean_over: str | None = "images", label_smoothing: float = 0.0
) -> Objective:
    """CE_low + CE_full + lam Rh, to be minimised by a ``Training`` of a ``Guided``.

    Its gradient in ``low`` is that of CE_low + lam Rh, in ``full`` that of
    CE_full + lam Rh. The logits it returns, and so the accuracy of a training, are
    those of ``low``. lam = 0 trains each network as if it were alone. Raises ValueError
    for a lam that is negative or not finite.
    """
    if not 0 <= lam < np.inf:
        raise ValueError(f"lam must be finite and at least 0, got {lam}")

    def objective(
        network: Guided, images: Array, labels: Int, run: Run
    ) -> tuple[float, Float]:
        (z_full, z_low, Rh), cache = network.joint(images, run, mean_over=mean_over)
        ce = partial(
            loss_and_gradient, labels=labels, run=run, label_smoothing=label_smoothing
        )
        (full, dz_full), (low, dz_low) = ce(z_full), ce(z_low)
        loss = low + full + lam * Rh
        if np.isfinite(loss) and dz_full is not None and dz_low is not None:
            network.joint_backward(dz_full, dz_low, lam, cache)
        return loss, z_low

    return objective
