r"""The layers of a supernet: a slice of shared weights, and a step chosen for it.

QuantNAS (Gao et al., CVPR 2024 NAS workshop) shares weights between subnets; the wiring
is ours. A layer of a subnet reads views of shared arrays: the first channels, the
centre of the kernels. Gradients add up in the same places of the shared gradients. LSQ
quantizes weights and activations with the steps that the scales of the pass choose.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Float
from refqnn.core import Param, Run
from refqnn.nn import PadShortcut, he_normal
from refqnn.papers.quantnas.fold import (
    Statistics,
    calibrated_statistics,
    folded_conv2d,
    folded_conv2d_backward,
)
from refqnn.papers.quantnas.scales import Where
from refqnn.papers.quantnas.space import Genotype, LayerShape
from refqnn.prompt import one_line
from refqnn.quantizers.learned_step_size import LSQCache


class Calibrated(NamedTuple):
    """Statistics and steps of one subnet, by layer: what it is evaluated with."""

    genotype: Genotype
    statistics: dict[str, Statistics]
    steps: dict[str, float]


class Pass(NamedTuple):
    """A forward pass: its subnet and scales; ``calibrated`` notes the chosen steps."""

    run: Run
    a: Float  # its encoding
    scales: Any
    layers: dict[str, LayerShape]
    #: calibration: images of a batch, None in training
    batch: int | None
    calibrated: Calibrated


@one_line
class ChosenStepCache(NamedTuple):
    """The values whose step was chosen, and LSQ's cache of that step."""

    v: Float
    lsq: LSQCache


@final
@dataclass(eq=False)
class SharedConv:
    """A folded convolution of the largest subnet: w (O, C, Kh, Kw), gamma, beta (O,)"""

    w: Param
    gamma: Param
    beta: Param

    def cut(self, layer: LayerShape) -> tuple[slice, tuple[slice, ...]]:
        """Return the slices of a layer: of gamma and beta (O,), of w (O, C, Kh, Kw)."""
        before = (self.w.value.shape[2] - layer.kernel) // 2
        centre = slice(before, before + layer.kernel)
        outputs = slice(layer.outputs)
        return outputs, (outputs, slice(layer.inputs), centre, centre)

    def forward(self, name: str, x: Float, at: Pass) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, O, Ho, Wo)"""
        kept: list[Any] = []
        layer, ops = at.layers[name], at.run.backend.ops
        outputs, cut = self.cut(layer)
        w, where = self.w.value[cut], where_of_weights(layer)
        conv = {"stride": layer.stride, "padding": layer.kernel // 2}
        if at.batch is not None:
            z, _ = ops.conv2d(x, w, **conv)
            at.calibrated.statistics[name] = calibrated_statistics(
                z, batch=at.batch, backend=at.run.backend
            )
        y, cache = at.run.straight_through(
            folded_conv2d,
            x,
            w,
            self.gamma.value[outputs],
            self.beta.value[outputs],
            lambda v: choose_step(where, v, at, kept),
            **lsq_options(where, w.size),
            statistics=at.calibrated.statistics.get(name),
            **conv,
            backend=at.run.backend,
        )
        return y, (layer, cache, at.scales, kept[-1])

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, O, Ho, Wo)  ->  dx: (N, C, H, W); adds to the layer's slices"""
        layer, folded, scales, how = cache
        outputs, cut = self.cut(layer)
        grads = folded_conv2d_backward(dy, folded)
        self.w.grad[cut] += grads.dw
        self.gamma.grad[outputs] += grads.dgamma
        self.beta.grad[outputs] += grads.dbeta
        scales.backward(grads.ds, how)
        return grads.dx


def shared_conv(
    layer: LayerShape, dtype: np.dtype[Any], rng: np.random.Generator
) -> SharedConv:
    """Return random weights and the batch norm that starts as the identity."""
    shape = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
    return SharedConv(
        Param(he_normal(shape, rng=rng, dtype=dtype)),
        Param(np.ones(layer.outputs, dtype), group="affine"),
        Param(np.zeros(layer.outputs, dtype), group="affine"),
    )


def shortcut_of(
    inputs: int, first: LayerShape, second: LayerShape
) -> PadShortcut | None:
    """Return the identity, or option A where channels or size change."""
    if inputs == second.outputs and first.stride == 1:
        return None
    return PadShortcut(channels=second.outputs, stride=first.stride)


def where_of_weights(layer: LayerShape) -> Where:
    """Name, bits, signed grid and fan-in of a layer's weights, which its step is for"""
    return Where(layer.name, layer.weight_bits, signed=True, fan_in=layer.fan_in)


def lsq_options(where: Where, n: int) -> dict[str, Any]:
    """Return LSQ's Q_N, Q_P and gradient scale 1 / sqrt(n Q_P) for n values."""
    q_n, q_p = where.ends
    return {"q_n": q_n, "q_p": q_p, "grad_scale": 1 / np.sqrt(max(n, 1) * q_p)}


def choose_step(where: Where, v: Float, at: Pass, kept: list[Any]) -> Float:
    """Choose the step of v by the pass's scales, and note it in the pass: ()

    What ``scales.backward`` needs is appended to ``kept``.
    """
    s, how = at.scales.step(where, v, at.a)
    at.calibrated.steps[where.name] = float(s)
    kept.append(how)
    return np.asarray(s)


def quantize_activations(name: str, v: Float, bits: int, at: Pass) -> tuple[Float, Any]:
    """v: (N, C, ...)  ->  v_hat, on the unsigned grid of a step whose fan-in is C"""
    where = Where(name, bits, signed=False, fan_in=v.shape[1])
    return fake_quantize(where, v, at)


def fake_quantize(where: Where, v: Float, at: Pass) -> tuple[Float, Any]:
    """v: (...)  ->  v_hat = lsq(v, s), s the step that the pass's scales choose for v

    LSQ balances the gradient of s by N: all weights, or the features of one image.
    """
    kept: list[Any] = []
    n = v.size if where.signed else v.size // len(v)
    y, cache = at.run.straight_through(
        lsq_chosen_step,
        v,
        lambda seen: choose_step(where, seen, at, kept),
        **lsq_options(where, n),
        backend=at.run.backend,
    )
    return y, (at.run.backend, cache, at.scales, kept[-1])


def fake_quantize_backward(dy: Float, cache: Any) -> Float:
    """dv_hat: (...)  ->  dv = LSQ's mask times dv_hat; ds goes on to the scales"""
    backend, (_, recorded), scales, how = cache
    dv, ds = backend.quantizers.lsq_backward(dy, recorded)
    scales.backward(ds, how)
    return dv


def lsq_chosen_step(
    v: Float,
    s: Any,
    *,
    backend: Any,
    frozen: ChosenStepCache | None = None,
    **grid: Any,
) -> tuple[Float, ChosenStepCache]:
    """v_hat = lsq(v, s(v)); frozen, s reads the recorded v and LSQ its residual"""
    seen = v if frozen is None else frozen.v
    held = None if frozen is None else frozen.lsq
    y, cache = backend.quantizers.lsq(v, s(seen), **grid, frozen=held)
    return y, ChosenStepCache(seen, cache)
