"""Register tiles: the innermost loops of the convolutions, over flat planes.

    outer   out[r, j]      = sum_k w[k, r] * planes[start + offsets[k] + j]         (1)
    dot     partial[r, t] += sum_j dy[r, j] * planes[start + offsets[t] + j]        (2)

Each tile is written twice: as NumPy, which is its meaning and what runs uncompiled, and
as the LLVM loop that Numba compiles in its place, which keeps every accumulator in a
vector register from the first term to the last. Terms are added in the order of k (1),
or lane by lane and then across the lanes (2); nothing depends on threads.

In (1) a number may also be a pair of int16 held by an int32, on both sides, and then
the product is ``w_low x_low + w_high x_high`` in an int32: twice the terms in one step.
(It must fit, as must the sums.) ``outer_quads`` takes four products in one step:
an int32 of planes holds four codes in 0 .. 255, one of w four weights in -128 .. 127.
A CPU with VNNI has one instruction for it; others add two pairs.

The wide tiles of a CPU with 32 registers of 64 bytes (AVX-512) hold 24 sums: enough
to hide the latency of the multiply-add, and 11 loads feed 24 of them. Other CPUs have
16 registers of 32 bytes, which hold 12 sums and what those are made of.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload

from refqnn._types import Array, Float, Int

Tile = Callable[..., None]


class Outer(NamedTuple):
    """The size of a tile of equation (1)."""

    rows: int
    vectors: int


class Dot(NamedTuple):
    """The size of a tile of equation (2)."""

    rows: int
    taps: int


def has_avx512() -> bool:
    """Return whether Numba compiles for AVX-512."""
    return "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2]


def has_vnni() -> bool:
    """Return whether Numba compiles for a CPU that adds four products of bytes."""
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    return ("+avx512vnni" if has_avx512() else "+avxvnni") in features


VECTOR_BYTES = 64 if has_avx512() else 32
OUTER_WIDE = Outer(8, 3) if has_avx512() else Outer(4, 3)
OUTER_QUADS = Outer(4, 3)
OUTER_NARROW = Outer(1, 8)
DOT_WIDE = Dot(4, 6) if has_avx512() else Dot(2, 6)
DOT_NARROW = Dot(1, 9)


def lanes_of(dtype: np.dtype[Any]) -> int:
    """Return how many numbers one vector holds.

    >>> lanes_of(np.dtype(np.float32)) == VECTOR_BYTES // 4
    True
    """
    return VECTOR_BYTES // dtype.itemsize


def _outer(rows: int, vectors: int, product: str = "numbers") -> Tile:
    """Return the tile of equation (1) with ``rows`` outputs of ``vectors`` vectors.

    ``product`` is "numbers" (or pairs, where these are int32), "quads", or
    "quads_by_pairs", which needs no VNNI.
    """
    multiply = product_of_pairs if product == "numbers" else product_of_quads

    def outer(
        out: Float,
        at: int,
        pitch: int,
        planes: Float,
        start: int,
        offsets: Int,
        w: Float,
        w_at: int,
    ) -> None:
        width = vectors * lanes_of(planes.dtype)
        seen = np.stack([planes[start + k : start + k + width] for k in offsets])
        w_rows = w[w_at : w_at + offsets.size * rows].reshape(offsets.size, rows)
        for r in range(rows):
            line = out[at + r * pitch : at + r * pitch + width]
            line[:] = multiply(w_rows[:, r], seen)  # (1)

    @intrinsic
    def emit(typingctx, out, at, pitch, planes, start, offsets, w, w_at):
        signature = types.void(out, at, pitch, planes, start, offsets, w, w_at)
        return signature, _outer_loop(rows, vectors, product)

    @overload(outer)
    def compiled(out, at, pitch, planes, start, offsets, w, w_at):
        def call(out, at, pitch, planes, start, offsets, w, w_at):
            # Numba passes the typing context
            emit(out, at, pitch, planes, start, offsets, w, w_at)  # type: ignore[call-arg]

        # two tiles with one name and one signature are one symbol to a cache
        call.__qualname__ = f"outer_{product}_{rows}_{vectors}"
        return call

    return outer


def product_of_pairs(w: Array, seen: Array) -> Array:
    """Return w @ seen, where int32 numbers are pairs of int16.

    w: (K,), seen: (K, J)  ->  (J,)

    >>> pair = np.array([3, 10], np.int16).view(np.int32)
    >>> product_of_pairs(pair, pair[None])
    array([109], dtype=int32)
    """
    if w.dtype != np.int32:
        return w @ seen
    both = np.ascontiguousarray(w).view(np.int16).astype(np.int32)
    low, high = both[0::2], both[1::2]
    pairs = np.ascontiguousarray(seen).view(np.int16).astype(np.int32)
    return low @ pairs[:, 0::2] + high @ pairs[:, 1::2]


def product_of_quads(w: Array, seen: Array) -> Array:
    """Return w @ seen, where int32 numbers are four int8 in w, four uint8 in seen.

    w: (K,), seen: (K, J)  ->  (J,)

    >>> four = np.array([3, 10, 0, 1], np.int8).view(np.int32)
    >>> product_of_quads(four, four[None])
    array([110], dtype=int32)
    """
    bytes_of_w = np.ascontiguousarray(w).view(np.int8).astype(np.int32)
    codes = np.ascontiguousarray(seen).view(np.uint8).astype(np.int32)
    # (K, 4) . (K, J, 4) -> (J,)
    k = len(seen)
    return np.einsum("ki,kji->j", bytes_of_w.reshape(k, 4), codes.reshape(k, -1, 4))


def _outer_loop(rows: int, vectors: int, product: str) -> Tile:
    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, at, pitch, _, start, _, _, w_at = args
        ll = _Vectors(context, builder, sig, args)
        multiply = getattr(ll, f"add_{product}")
        planes = builder.gep(ll.data(3), [start])
        w = builder.gep(ll.data(6), [w_at])

        def term(k: Any, sums: list[Any]) -> list[Any]:
            offset = builder.load(builder.gep(ll.data(5), [k]))
            x = ll.loads(builder.gep(planes, [offset]), vectors)
            w_k = builder.gep(w, [builder.mul(k, ll.whole(rows))])
            w_rows = [ll.splat(builder.gep(w_k, [ll.whole(r)])) for r in range(rows)]
            pairs = [(w_r, x_v) for w_r in w_rows for x_v in x]
            return [multiply(*p, s) for p, s in zip(pairs, sums, strict=True)]

        sums = ll.loop(ll.size(5), ll.whole(1), rows * vectors, term)
        for i, total in enumerate(sums):
            row, v = divmod(i, vectors)
            place = builder.add(at, builder.mul(pitch, ll.whole(row)))
            ll.store(total, builder.gep(ll.data(0), [place]), v)
        return context.get_dummy_value()

    return build


def _dot(rows: int, taps: int) -> Tile:
    """Return the tile of equation (2) with ``rows`` rows of dy and ``taps`` offsets."""

    def dot(
        partial: Float,
        at: int,
        pitch: int,
        dy: Float,
        dy_at: int,
        dy_pitch: int,
        planes: Float,
        start: int,
        offsets: Int,
        length: int,
    ) -> None:
        seen = np.stack([planes[start + k : start + k + length] for k in offsets])
        for r in range(rows):
            row = dy[dy_at + r * dy_pitch : dy_at + r * dy_pitch + length]
            partial[at + r * pitch : at + r * pitch + taps] += seen @ row  # (2)

    @intrinsic
    def emit(
        typingctx,
        partial,
        at,
        pitch,
        dy,
        dy_at,
        dy_pitch,
        planes,
        start,
        offsets,
        length,
    ):
        signature = types.void(
            partial, at, pitch, dy, dy_at, dy_pitch, planes, start, offsets, length
        )
        return signature, _dot_loop(rows, taps)

    @overload(dot)
    def compiled(
        partial, at, pitch, dy, dy_at, dy_pitch, planes, start, offsets, length
    ):
        def call(
            partial, at, pitch, dy, dy_at, dy_pitch, planes, start, offsets, length
        ):
            emit(  # type: ignore[call-arg]  # Numba passes the typing context
                partial, at, pitch, dy, dy_at, dy_pitch, planes, start, offsets, length
            )

        call.__qualname__ = f"dot_{rows}_{taps}"
        return call

    return dot


def _dot_loop(rows: int, taps: int) -> Tile:
    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, at, pitch, _, dy_at, dy_pitch, _, start, _, length = args
        ll = _Vectors(context, builder, sig, args)

        def at_row(first: Any, row_pitch: Any, r: int) -> Any:
            return builder.add(first, builder.mul(row_pitch, ll.whole(r)))

        planes = builder.gep(ll.data(6), [start])
        starts = [
            builder.load(builder.gep(ll.data(8), [ll.whole(t)])) for t in range(taps)
        ]
        lines = [
            builder.gep(ll.data(3), [at_row(dy_at, dy_pitch, r)]) for r in range(rows)
        ]

        def term(j: Any, sums: list[Any]) -> list[Any]:
            dy = [ll.loads(builder.gep(line, [j]), 1)[0] for line in lines]
            new = list(sums)
            for t, first in enumerate(starts):
                x = ll.loads(builder.gep(planes, [builder.add(first, j)]), 1)[0]
                for r in range(rows):
                    new[r * taps + t] = ll.add_numbers(dy[r], x, sums[r * taps + t])
            return new

        sums = ll.loop(length, ll.whole(ll.lanes), rows * taps, term)
        for i, total in enumerate(sums):
            row, t = divmod(i, taps)
            place = builder.add(at_row(at, pitch, row), ll.whole(t))
            place = builder.gep(ll.data(0), [place])
            builder.store(ll.across(total, builder.load(place)), place)
        return context.get_dummy_value()

    return build


class _Vectors:
    """The few LLVM sentences the tiles are written in."""

    def __init__(self, context: Any, builder: Any, sig: Any, args: Any) -> None:
        self.context, self.builder, self.sig, self.args = context, builder, sig, args
        self.number = context.get_value_type(sig.args[0].dtype)
        self.pairs = isinstance(self.number, ir.IntType)
        self.bytes = 8 if isinstance(self.number, ir.DoubleType) else 4
        self.lanes = VECTOR_BYTES // self.bytes
        self.vector = ir.VectorType(self.number, self.lanes)
        self.zero = ir.Constant(self.vector, [0 if self.pairs else 0.0] * self.lanes)

    def _float_call(
        self, name: str, result: Any, arguments: list[Any], **how: Any
    ) -> Any:
        kind = ir.FunctionType(result, [a.type for a in arguments])
        full = f"llvm.{name}.v{self.lanes}f{8 * self.bytes}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, full)
        return self.builder.call(function, arguments, **how)

    def _array(self, i: int) -> Any:
        make = self.context.make_array(self.sig.args[i])
        return make(self.context, self.builder, self.args[i])

    def data(self, i: int) -> Any:
        return self._array(i).data

    def size(self, i: int) -> Any:
        return self.builder.extract_value(self._array(i).shape, 0)

    def whole(self, value: int) -> Any:
        return ir.Constant(ir.IntType(64), value)

    def _place(self, pointer: Any, v: int) -> Any:
        moved = self.builder.gep(pointer, [self.whole(v * self.lanes)])
        return self.builder.bitcast(moved, self.vector.as_pointer())

    def loads(self, pointer: Any, count: int) -> list[Any]:
        return [
            self.builder.load(self._place(pointer, v), align=self.bytes)
            for v in range(count)
        ]

    def store(self, value: Any, pointer: Any, v: int) -> None:
        self.builder.store(value, self._place(pointer, v), align=self.bytes)

    def splat(self, pointer: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = ir.Constant(ir.IntType(32), 0)
        one = self.builder.insert_element(undefined, self.builder.load(pointer), first)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(one, undefined, mask)

    def add_numbers(self, a: Any, b: Any, total: Any) -> Any:
        if self.pairs:
            return self.builder.add(total, self._pair_products(a, b))
        return self._float_call("fma", self.vector, [a, b, total])

    def add_quads(self, w: Any, x: Any, total: Any) -> Any:
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.x86.avx512.vpdpbusd.{8 * VECTOR_BYTES}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [total, x, w])

    def add_quads_by_pairs(self, w: Any, x: Any, total: Any) -> Any:
        """The even bytes are one pair of int16, the odd ones another."""
        build, halves = self.builder, ir.VectorType(ir.IntType(16), 2 * self.lanes)
        eight = ir.Constant(halves, [8] * (2 * self.lanes))
        w, x = (build.bitcast(v, halves) for v in (w, x))
        even = (
            build.ashr(build.shl(w, eight), eight),
            build.lshr(build.shl(x, eight), eight),
        )
        odd = (build.ashr(w, eight), build.lshr(x, eight))
        for a, b in (even, odd):
            total = build.add(total, self._pair_products(a, b))
        return total

    def _pair_products(self, a: Any, b: Any) -> Any:
        build, twice = self.builder, 2 * self.lanes
        halves = ir.VectorType(ir.IntType(16), twice)
        wide = ir.VectorType(ir.IntType(32), twice)
        a, b = (build.sext(build.bitcast(v, halves), wide) for v in (a, b))
        low, high = (ir.Constant(self.vector, [*range(i, twice, 2)]) for i in (0, 1))
        products, none = build.mul(a, b), ir.Constant(wide, ir.Undefined)
        return build.add(
            build.shuffle_vector(products, none, low),
            build.shuffle_vector(products, none, high),
        )

    def across(self, vector: Any, start: Any) -> Any:
        how = {"fastmath": ("reassoc",)}
        return self._float_call(
            "vector.reduce.fadd", self.number, [start, vector], **how
        )

    def loop(self, stop: Any, step: Any, count: int, term: Any) -> list[Any]:
        """``sums = term(i, sums)`` for i in range(0, stop, step), from zeros."""
        builder, entry = self.builder, self.builder.block
        body = builder.append_basic_block("tile")
        after = builder.append_basic_block("tile.end")
        builder.branch(body)
        builder.position_at_end(body)
        i = builder.phi(ir.IntType(64))
        i.add_incoming(self.whole(0), entry)
        sums = [builder.phi(self.vector) for _ in range(count)]
        for total in sums:
            total.add_incoming(self.zero, entry)
        new = term(i, sums)
        following = builder.add(i, step)
        i.add_incoming(following, builder.block)
        for total, updated in zip(sums, new, strict=True):
            total.add_incoming(updated, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, stop), body, after)
        builder.position_at_end(after)
        return new


outer_wide = _outer(*OUTER_WIDE)
outer_narrow = _outer(*OUTER_NARROW)
QUADS = "quads" if has_vnni() else "quads_by_pairs"
outer_quads = _outer(*OUTER_QUADS, QUADS)
outer_quads_wide = _outer(*OUTER_WIDE, QUADS)
dot_wide = _dot(*DOT_WIDE)
dot_narrow = _dot(*DOT_NARROW)
