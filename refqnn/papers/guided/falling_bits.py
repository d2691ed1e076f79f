"""Stages of falling bits: two-stage and progressive training.

Zhuang et al., CVPR 2018, arXiv:1711.00205, sections on two-stage and progressive
optimization: weights before activations, and 32, 16, 8, 4, 2 bits in turn.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from refqnn._types import Array, Int
from refqnn.networks import build
from refqnn.nn import Stage, fit_stages
from refqnn.nn.staged import Begin, Builder

#: bits of weights and of activations; None is floating point
Bits = tuple[int | None, int | None]
#: how floating point is called among bits
FLOATING = 32
Config = Mapping[str, Any]


def two_stage_bits(weight_bits: int, activation_bits: int) -> list[Bits]:
    """Return the two stages: quantized weights alone, then both.

    >>> two_stage_bits(2, 4)
    [(2, None), (2, 4)]
    """
    return [(weight_bits, None), (weight_bits, activation_bits)]


def progression(
    sequence: Sequence[int | None], *, weights_first: bool = False
) -> list[Bits]:
    """Return stages whose weights and activations go through the bits of a sequence.

    With ``weights_first`` the weights go down a stage ahead of the activations. 32 and
    None are floating point.

    >>> progression((32, 4, 2))
    [(None, None), (4, 4), (2, 2)]
    >>> progression((4, 2), weights_first=True)
    [(4, None), (4, 4), (2, 4), (2, 2)]
    """
    steps = [floating(bits) for bits in sequence]
    if not weights_first:
        return [(bits, bits) for bits in steps]
    before = [None, *steps][: len(steps)]
    pairs = [
        pair
        for last, bits in zip(before, steps, strict=True)
        for pair in ((bits, last), (bits, bits))
    ]
    return [pair for i, pair in enumerate(pairs) if i == 0 or pair != pairs[i - 1]]


def floating(bits: int | None) -> int | None:
    """Return None for 32 bits."""
    return None if bits == FLOATING else bits


def check_falling(bits: Sequence[Bits]) -> None:
    """Raise where the bits of weights or activations rise from one stage to the next.

    >>> check_falling([(None, None), (4, None), (4, 4)])
    """
    for i, what in enumerate(("weight", "activation")):
        widths = [pair[i] or FLOATING for pair in bits]
        for before, after in itertools.pairwise(widths):
            if after > before:
                raise ValueError(
                    f"{what} bits must not rise from stage to stage, got {widths}"
                )


def stages(
    config: Config, bits: Sequence[Bits], *, make: Callable[..., Any] = build
) -> list[tuple[str, Builder]]:
    """Return ``(name, builder)`` of networks that differ only in their bits.

    config: of a network, quantized by DoReFa unless it names another method. ``make``
    is ``build``, or ``guided`` for guided training in every stage. Raises ValueError
    for bits that rise.

    >>> net = {"network": "resnet", "depth": 8}
    >>> [name for name, _ in stages(net, [(2, None), (2, 2)])]
    ['1_w2_a32', '2_w2_a2']
    """
    pairs = [(floating(w), floating(a)) for w, a in bits]
    check_falling(pairs)
    own = {"method": "dorefa", **config}
    return [
        (
            f"{i}_w{w or FLOATING}_a{a or FLOATING}",
            made_by(make, {**own, "weight_bits": w, "activation_bits": a}),
        )
        for i, (w, a) in enumerate(pairs, start=1)
    ]


def made_by(make: Callable[..., Any], config: Config) -> Builder:
    """Bind a configuration: a builder from the generator alone."""
    return lambda rng: make(config, rng=rng)


def two_stage(
    config: Config,
    begin: Begin,
    train: tuple[Array, Int],
    *,
    weight_bits: int,
    activation_bits: int,
    make: Callable[..., Any] = build,
    **settings: Any,
) -> list[Stage]:
    """Train with quantized weights until done, then with both quantized.

    ``begin`` and the settings are those of ``refqnn.nn.fit_stages``, among them
    ``epochs``, ``seed``, ``source`` (a float network to start from) and ``folder``.
    """
    bits = two_stage_bits(weight_bits, activation_bits)
    return fit_stages(stages(config, bits, make=make), begin, train, **settings)


def progressive(
    config: Config,
    begin: Begin,
    train: tuple[Array, Int],
    *,
    bits: Sequence[int | None],
    weights_first: bool = False,
    make: Callable[..., Any] = build,
    **settings: Any,
) -> list[Stage]:
    """Train at each number of bits in turn; the weights of each first where asked.

    ``begin`` and the settings are those of ``refqnn.nn.fit_stages``. Raises ValueError
    for bits that rise.
    """
    pairs = progression(bits, weights_first=weights_first)
    return fit_stages(stages(config, pairs, make=make), begin, train, **settings)
