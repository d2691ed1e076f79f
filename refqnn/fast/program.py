"""Networks of 8-bit codes as steps of the machine, planned once, before they run.

    program = Program()
    x = program.load((3, 32, 32), Codes(0, 255, zero_point=0))
    y = program.sum(x, w, bias, at, Scaling(...))
    program.store(y)
    program.run(images)

A program knows shapes and integers; ``refqnn.fast.placement`` decides where tensors lie
for blocks of so many images.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import get_num_threads

from refqnn._types import Array, Int
from refqnn.fast import machine
from refqnn.fast.integer.rounding import carry_terms
from refqnn.fast.placement import Codes, LayOut, Machine, Step, Tensor
from refqnn.fast.planes import Axis, forward_axis, tile_weights
from refqnn.fast.scaling import CARRY, FLOAT32, FLOAT64, RAW, SHIFT, TWICE
from refqnn.geometry import Window, output_size, window
from refqnn.integer.rescale import FLOATING, TWO_STAGE

__all__ = ["Codes", "Program", "Scaling", "UnsupportedError"]

Shape = tuple[int, ...]
#: images that a worker takes at once: runs of six planes of 8 x 8 are whole tiles
IMAGES = 6
#: float32 counts clamped codes exactly up to here, zero-point included
LARGEST = 1 << 22
POINT = window((1, 1))


class UnsupportedError(ValueError):
    """What the machine has no step for; the definition or another twin computes it."""


class Scaling(NamedTuple):
    """The arguments of ``integer.requantize``, channel by channel."""

    multiplier: Int
    shift: Int
    codes: Codes
    rounding: str
    skip_multiplier: Int | None = None


def planar(shape: Shape) -> tuple[int, int, int]:
    """(C,), (C, W) or (C, H, W)  ->  (C, H, W); raise for other shapes.

    >>> planar((10,))
    (10, 1, 1)
    """
    if len(shape) == 1:
        return shape[0], 1, 1
    if len(shape) == 2:
        return shape[0], 1, shape[1]
    if len(shape) != 3:
        raise UnsupportedError(f"shape must be (C,), (C, W) or (C, H, W), got {shape}")
    return shape[0], shape[1], shape[2]


class Program:
    """Steps on tensors that are called by their number."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.steps: list[Step] = []
        self.weights: list[Int] = []
        self.channels: list[Array] = []
        self.reals: list[Array] = []
        self.numbers: list[Int] = []
        self.outputs: list[int] = []
        self.inputs: list[int] = []
        self._ready: tuple[Array, ...] | None = None
        self._laid_out: dict[int, Machine] = {}

    def load(self, shape: Shape, codes: Codes) -> int:
        """Read codes of (N, *shape) from outside."""
        if codes.wide:
            raise UnsupportedError(f"codes must fit 8 bits, got {codes}")
        x = self._tensor(planar(shape), codes)
        outside = sum(math.prod(self.tensors[i].shape) for i in self.inputs)
        self.inputs.append(x)
        self._step(machine.LOAD, x, x, sign=codes.sign, outside=outside)
        return x

    def store(self, x: int) -> None:
        """Hand the codes or accumulators of a tensor out, behind those before."""
        tensor = self.tensors[x]
        outside = sum(
            math.prod(self.tensors[i].shape)
            for i in self.outputs
            if self.tensors[i].wide == tensor.wide
        )
        self.outputs.append(x)
        sign = tensor.codes.sign if tensor.codes else 0
        self._step(
            machine.STORE, x, x, sign=sign, wide=int(tensor.wide), outside=outside
        )

    def sum(
        self,
        x: int,
        w: Int,
        bias: Int,
        at: Window,
        scaling: Scaling | None,
        *,
        fraction_bits: Int | int = 0,
        groups: int = 1,
        skip: int | None = None,
    ) -> int:
        """2^f sum w (x - x_zero_point) + bias, requantized, with a skip or without.

        x: (C, H, W), w: (O, C // G, Kh, Kw) int8, bias: (O,)  ->  (O, Ho, Wo)

        Without ``scaling`` the accumulators themselves. ``skip`` is a tensor of codes,
        which count from their zero-point, or of accumulators.
        """
        source, source_codes = self._codes(x)
        if w.dtype != np.int8:
            raise UnsupportedError(f"weights must fit 8 bits, got {w.dtype}")
        size = source.shape[1:]
        out = output_size(size, at)
        y = self._tensor((len(w), *out), scaling.codes if scaling else None)
        axes = (
            forward_axis(size[0], out[0], 0, at),
            forward_axis(size[1], out[1], 1, at),
        )
        blocks = block_weights(w, groups)
        rows = tile_rows(blocks.shape[:2])
        tiles = tile_weights(blocks.reshape(*blocks.shape[:2], -1), rows)
        factor = np.left_shift(np.int64(1), np.broadcast_to(fraction_bits, bias.shape))
        zero = source_codes.zero_point + source_codes.sign
        total = w.astype(np.int64).reshape(len(w), -1).sum(axis=1)
        first = self._channels(
            bias - factor * zero * total, factor, scaling, tiles.size // tiles.shape[2]
        )
        second, plus, minus = self._skip(skip, y)
        fields = self._form(scaling, plus) | {"plus": plus, "minus": minus}
        fields |= {"blocks": len(tiles), "tiles": tiles.shape[1], "rows": rows}
        fields |= {"quads": blocks.shape[2], "first": first}
        fields |= {"weights": sum(a.size for a in self.weights)}
        fields |= {"factors": int(np.any(factor != 1))}
        self._step(machine.SUM, x, y, second, axes=axes, **fields)
        self.weights.append(tiles.reshape(-1))
        return y

    def pool(self, x: int, scaling: Scaling) -> int:
        """The sum of every plane less its zero-points, requantized.  ->  (C, 1, 1)"""
        source, source_codes = self._codes(x)
        c = source.shape[0]
        y = self._tensor((c, 1, 1), scaling.codes)
        none = np.zeros(c, np.int64)
        first = self._channels(none, none + 1, scaling, -(-c // 4) * 4)
        zero = source_codes.zero_point + source_codes.sign
        fields = self._form(scaling, machine.ALONE) | {"minus": zero, "first": first}
        self._step(machine.POOL, x, y, rows=4, quads=-(-c // 4), **fields)
        return y

    def move(self, xs: list[int], places: Int, codes: Codes) -> int:
        """Gather codes: where each one lies in its source, FILL or the next source's.

        places: (C, H, W), indices into all codes of the sources, one behind the other
        """
        y = self._tensor(planar(places.shape), codes)
        begin = 0
        for i, x in enumerate(xs):
            source = self.tensors[x]
            if source.wide or codes.wide:
                raise UnsupportedError("codes must fit 8 bits")
            count = math.prod(source.shape)
            mine = np.where(
                (places >= begin) & (places < begin + count),
                places - begin,
                machine.FILL,
            )
            self._step(machine.MOVE, x, y, sign=int(i == 0), map=len(self.numbers))
            self.numbers.append(mine.reshape(self.tensors[y].shape))
            begin += count
        return y

    def look_up(self, x: int, second: int | None, table: Int, codes: Codes) -> int:
        """table[x], or table[256 second + x]: codes as the machine keeps them."""
        source = self.tensors[x]
        other = self.tensors[x if second is None else second]
        if source.wide or other.wide or codes.wide or source.shape != other.shape:
            raise UnsupportedError("codes must fit 8 bits and have one shape")
        y = self._tensor(source.shape, codes)
        plus, at = int(second is not None), len(self.numbers)
        self._step(machine.LOOK_UP, x, y, second, plus=plus, sign=1, map=at)
        self.numbers.append(table.astype(np.int64))
        return y

    def _codes(self, x: int) -> tuple[Tensor, Codes]:
        tensor = self.tensors[x]
        if tensor.wide or tensor.codes is None:
            raise UnsupportedError("codes must fit 8 bits")
        return tensor, tensor.codes

    def _tensor(self, shape: tuple[int, int, int], codes: Codes | None) -> int:
        self.tensors.append(Tensor(shape, codes))
        return len(self.tensors) - 1

    def _step(
        self,
        kind: int,
        source: int,
        target: int,
        second: int | None = None,
        *,
        axes: tuple[Axis, Axis] | None = None,
        **fields: int,
    ) -> None:
        other = source if second is None else second
        self.steps.append(Step(kind, source, target, other, fields, axes))

    def _skip(self, skip: int | None, y: int) -> tuple[int | None, int, int]:
        if skip is None:
            return None, machine.ALONE, 0
        tensor = self.tensors[skip]
        if tensor.shape != self.tensors[y].shape:
            raise UnsupportedError(
                f"skip{tensor.shape} and sums{self.tensors[y].shape}"
            )
        if tensor.codes is None:
            return skip, machine.SUMS, 0
        if tensor.wide:
            raise UnsupportedError("codes must fit 8 bits")
        return skip, machine.CODES, tensor.codes.zero_point + tensor.codes.sign

    def _channels(
        self, bias: Int, factor: Int, scaling: Scaling | None, count: int
    ) -> int:
        """Keep the numbers of channels; return which is the first."""
        first = sum(len(c) for c in self.channels)
        ints, reals = np.zeros((count, 8), np.int64), np.zeros((count, 2))
        o = len(bias)
        ints[:o, 0], ints[:o, 1] = bias, factor
        if scaling:
            m, e = (
                np.broadcast_to(a, o).astype(np.int64)
                for a in (scaling.multiplier, scaling.shift)
            )
            k, rounding = 31 - e, scaling.rounding
            if rounding in TWO_STAGE:
                k, rounding = -e, TWO_STAGE[rounding]
                if np.any(k < 0):
                    raise UnsupportedError("a shift to the left may leave int32")
            ints[:o, 2], ints[:o, 3] = m, k
            reals[:o, 0] = np.ldexp(m.astype(np.float64), e - 31)
            if rounding not in FLOATING:
                ints[:o, 4:7] = carry_terms(rounding, np.int64(1) << k).T
            if scaling.skip_multiplier is not None:
                ints[:o, 7] = scaling.skip_multiplier
                reals[:o, 1] = np.ldexp(ints[:o, 7].astype(np.float64), e - 31)
        self.channels.append(ints)
        self.reals.append(reals)
        return first

    def _form(self, scaling: Scaling | None, plus: int) -> dict[str, Any]:
        if scaling is None:
            return {"form": RAW, "wide": 1}
        codes = scaling.codes
        if max(-codes.q_min, codes.q_max) > LARGEST:
            raise UnsupportedError(f"codes beyond {LARGEST} are not exact in float32")
        simple = scaling.rounding in {"half_up", "half_down", "floor", "ceil"}
        if scaling.rounding in FLOATING:
            single = FLOATING[scaling.rounding] is np.float32
            form = FLOAT32 if single else FLOAT64
        elif scaling.rounding in TWO_STAGE:
            form = TWICE
        else:  # two products of 2^62 leave no room for the half of a shift
            form = SHIFT if simple and plus != machine.SUMS else CARRY
        sign = codes.sign
        return {
            "form": form,
            "wide": int(codes.wide),
            "zero": codes.zero_point + sign,
            "low": codes.q_min + sign,
            "high": codes.q_max + sign,
        }

    def run(self, *xs: Array) -> list[Array]:
        """xs: (N, *shape) of each load  ->  (N, C, H, W) of each store"""
        n = len(xs[0])
        flat = [
            np.ascontiguousarray(x).reshape(n, math.prod(x.shape[1:])).view(np.uint8)
            for x in xs
        ]
        x = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)
        workers = min(get_num_threads(), max(1, n))
        images = max(1, min(IMAGES, n // workers))
        if images not in self._laid_out:
            lay_out = LayOut(self.tensors, self.steps, self.numbers, images)
            self._laid_out[images] = lay_out.machine()
        if self._ready is None:
            # a program of tables and moves alone has no sums
            reals = np.concatenate([np.zeros((0, 2)), *self.reals])
            self._ready = (
                np.concatenate([np.zeros(0, np.int32), *self.weights]),
                np.concatenate([np.zeros((0, 8), np.int64), *self.channels]),
                reals.astype(np.float32),
                reals,
            )
        plan = self._laid_out[images]
        out = [self.tensors[i] for i in self.outputs]
        sizes = [0, 0]
        for t in out:
            sizes[t.wide] += math.prod(t.shape)
        y, sums = np.empty((n, sizes[0]), np.uint8), np.empty((n, sizes[1]), np.int32)
        planned = machine.Plan(plan.steps, plan.tensors, plan.numbers, *self._ready)
        machine.run(workers, x, y, sums, planned, plan.size, images)
        return list(self._results(out, y, sums))

    @staticmethod
    def _results(out: list[Tensor], y: Array, sums: Array) -> Iterator[Array]:
        at = [0, 0]
        for t in out:
            count, flat = math.prod(t.shape), sums if t.wide else y
            part = flat[:, at[t.wide] : at[t.wide] + count]
            at[t.wide] += count
            part = part.reshape(len(part), *t.shape)
            if t.codes is None:
                yield part
            else:
                dtype = t.codes.dtype
                yield part.astype(dtype) if t.wide else part.view(dtype)


def block_weights(w: Int, groups: int) -> Int:
    """Merge groups until their channels are whole quads, with weights of 0 between.

    w: (O, C // G, Kh, Kw) int8  ->  (B, O / B, quads, taps) int32, four weights in each

    >>> block_weights(np.ones((8, 1, 3, 3), np.int8), 8).shape
    (2, 4, 1, 9)
    """
    o, cg, kh, kw = w.shape
    og = o // groups
    merged = (
        groups
        if groups == 1
        else next(m for m in (1, 2, 4) if m * cg % 4 == 0 and m * og % 4 == 0)
    )
    count = -(-groups // merged)
    quads = -(-merged * cg // 4)
    wide = np.zeros((count, merged, og, quads * 4, kh * kw), np.int8)
    for g in range(groups):
        b, i = divmod(g, merged)
        wide[b, i, :, i * cg : (i + 1) * cg] = w[g * og : (g + 1) * og].reshape(
            og, cg, -1
        )
    fours = wide.reshape(count, merged * og, quads, 4, kh * kw).swapaxes(3, 4)
    return np.ascontiguousarray(fours).view(np.int32)[..., 0]


def tile_rows(blocks: Shape) -> int:
    """How many channels a tile computes: eight where they fill it."""
    count, o = blocks
    full = o > machine.LOW_ROWS if count == 1 else o % machine.HIGH_ROWS == 0
    return machine.HIGH_ROWS if full else machine.LOW_ROWS
