"""Register tiles: the innermost loops of the convolutions, over flat planes.

    outer   out[r, j]      = b[r] + sum_k w[k, r] * planes[starts[j] + offsets[k]]  (1)
    dot     partial[r, t] += sum_j dy[r, j] * planes[start + offsets[t] + j]        (2)

Each tile is written twice: as NumPy, which is its meaning and what runs uncompiled, and
as the LLVM loop that Numba compiles in its place, which keeps every accumulator in a
vector register from the first term to the last. Terms are added in the order of k (1),
or lane by lane and then across the lanes (2); nothing depends on threads.

In (1) the columns are runs of neighbours, a vector long or half of one: rows of whole
runs are computed without the gaps between them, and each run goes where it belongs.

In (1) a number may also be a pair of int16 held by an int32, on both sides, and then
the product is ``w_low x_low + w_high x_high`` in an int32: twice the terms in one step.
(It must fit, as must the sums.) ``outer_quads`` takes four products in one step:
an int32 of planes holds four codes in 0 .. 255, one of w four weights in -128 .. 127.
A CPU with VNNI has one instruction for it; others add two pairs. An int64 holds 64
signs on both sides, and the product is -2 times the count of those that differ.

The wide tiles of a CPU with 32 registers of 64 bytes (AVX-512) hold 24 sums: enough
to hide the latency of the multiply-add, and 11 loads feed 24 of them. Other CPUs have
16 registers of 32 bytes, which hold 12 sums and what those are made of.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from refqnn._types import Array, Float, Int
from refqnn.fast.vectors import VECTOR_BYTES, Vectors, has_avx512, has_vnni

Tile = Callable[..., None]


class Outer(NamedTuple):
    """The size of a tile of equation (1)."""

    rows: int
    vectors: int
    runs: int


class Dot(NamedTuple):
    """The size of a tile of equation (2)."""

    rows: int
    taps: int


OUTER_WIDE = Outer(8, 3, 3) if has_avx512() else Outer(4, 3, 3)
OUTER_HALVES = OUTER_WIDE._replace(runs=6)
OUTER_QUADS = Outer(4, 3, 6)
OUTER_NARROW = Outer(1, 8, 8)
#: where the bytes of an int32 begin
EIGHTS = np.array([0, 8, 16, 24], np.int32)
DOT_WIDE = Dot(4, 6) if has_avx512() else Dot(2, 6)
DOT_NARROW = Dot(1, 9)


def lanes_of(dtype: np.dtype[Any]) -> int:
    """Return how many numbers one vector holds.

    >>> lanes_of(np.dtype(np.float32)) == VECTOR_BYTES // 4
    True
    """
    return VECTOR_BYTES // dtype.itemsize


def _outer(rows: int, vectors: int, runs: int, product: str = "numbers") -> Tile:
    """Return the tile of equation (1) with ``rows`` outputs of ``vectors`` vectors.

    ``product`` is "numbers" (pairs in int32, signs in int64), "quads" or
     "quads_by_pairs", which needs no VNNI.
    """
    multiply = product_of_numbers if product == "numbers" else product_of_quads

    def outer(
        out: Float,
        into: Int,
        pitch: int,
        bias: Float,
        first: int,
        planes: Float,
        starts: Int,
        offsets: Int,
        w: Float,
        w_at: int,
    ) -> None:
        neighbours = np.arange(vectors * lanes_of(planes.dtype) // runs)
        seen = planes[_sums(offsets, starts, neighbours)]
        w_rows = w[w_at : w_at + offsets.size * rows].reshape(offsets.size, rows)
        for r in range(rows):
            places = _sums(into, neighbours) + r * pitch
            out[places] = multiply(w_rows[:, r], seen) + bias[first + r]  # (1)

    @intrinsic
    def emit(
        typingctx, out, into, pitch, bias, first, planes, starts, offsets, w, w_at
    ):
        signature = types.void(
            out, into, pitch, bias, first, planes, starts, offsets, w, w_at
        )
        return signature, _outer_loop(rows, vectors, runs, product)

    @overload(outer)
    def compiled(out, into, pitch, bias, first, planes, starts, offsets, w, w_at):
        def call(out, into, pitch, bias, first, planes, starts, offsets, w, w_at):
            emit(  # type: ignore[call-arg]  # Numba passes the typing context
                out, into, pitch, bias, first, planes, starts, offsets, w, w_at
            )

        # two tiles with one name and one signature are one symbol to a cache
        call.__qualname__ = f"outer_{product}_{rows}_{vectors}_{runs}"
        return call

    return outer


def product_of_numbers(w: Array, seen: Array) -> Array:
    """Return w @ seen, of pairs for int32 and of signs for int64."""
    if w.dtype == np.int64:
        return product_of_signs(w, seen)
    return product_of_pairs(w, seen) if w.dtype == np.int32 else w @ seen


def product_of_pairs(w: Array, seen: Array) -> Array:
    """Return w @ seen, where int32 numbers are pairs of int16.

    w: (K,), seen: (K, J)  ->  (J,)

    >>> pair = np.array([3, 10], np.int16).view(np.int32)
    >>> product_of_pairs(pair, pair[None])
    array([109], dtype=int32)
    """
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


def product_of_signs(w: Array, seen: Array) -> Array:
    """Return -2 times how many bits of w and seen differ: (K,), (K, J)  ->  (J,)

    >>> product_of_signs(np.array([3, -1]), np.array([[1, 3], [-1, 1]]))
    array([  -2, -126])
    """
    differ = (w[:, None] ^ seen).view(np.uint64)
    return -2 * np.bitwise_count(differ).sum(axis=0, dtype=np.int64)


def _sums(offsets: Int, *others: Int) -> Int:
    """Every sum of one of each: (K,), (R,), (J,)  ->  (K, R J)

    >>> _sums(np.array([0, 100]), np.array([10, 20]), np.array([0, 1]))
    array([[ 10,  11,  20,  21],
           [110, 111, 120, 121]])
    """
    for other in others:
        offsets = np.add.outer(offsets, other)
    return offsets.reshape(len(offsets), -1) if len(others) > 1 else offsets.reshape(-1)


def _outer_loop(rows: int, vectors: int, runs: int, product: str) -> Tile:
    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, _, pitch, _, first, _, _, _, _, w_at = args
        ll = Vectors(context, builder, sig, args)
        multiply = getattr(ll, f"add_{product}")
        planes = [builder.gep(ll.data(5), [ll.item(6, i)]) for i in range(runs)]
        out = [builder.gep(ll.data(0), [ll.item(1, i)]) for i in range(runs)]
        bias, w = builder.gep(ll.data(3), [first]), builder.gep(ll.data(8), [w_at])

        def term(k: Any, sums: list[Any]) -> list[Any]:
            offset = builder.load(builder.gep(ll.data(7), [k]))
            x = ll.loads([builder.gep(p, [offset]) for p in planes], vectors)
            w_k = builder.gep(w, [builder.mul(k, ll.whole(rows))])
            w_rows = [ll.splat(builder.gep(w_k, [ll.whole(r)])) for r in range(rows)]
            pairs = [(w_r, x_v) for w_r in w_rows for x_v in x]
            return [multiply(*p, s) for p, s in zip(pairs, sums, strict=True)]

        sums = ll.loop(ll.size(7), ll.whole(1), rows * vectors, term)
        for r in range(rows):
            b = ll.splat(builder.gep(bias, [ll.whole(r)]))
            row = sums[r * vectors : (r + 1) * vectors]
            if ll.signs:
                row = [ll.shift_left(builder.neg(s), 1) for s in row]
            row = [ll.add(s, b) for s in row]
            ahead = builder.mul(pitch, ll.whole(r))
            ll.store([builder.gep(p, [ahead]) for p in out], row)
        return context.get_dummy_value()

    return build


def _weave(vectors: int, runs: int) -> Tile:
    """Return the tile that puts four rows of bytes into one row of int32.

    out[into[j]] = sum_r codes[at + r pitch + j] 2^(8 r)
    """

    def weave(out: Int, into: Int, codes: Int, at: int, pitch: int) -> None:
        width = vectors * lanes_of(codes.dtype)
        rows = codes[_sums(at + np.arange(4) * pitch, np.arange(width))]
        total = np.bitwise_or.reduce(rows.reshape(4, width) << EIGHTS[:, None])
        out[_sums(into, np.arange(width // runs))] = total

    @intrinsic
    def emit(typingctx, out, into, codes, at, pitch):
        return types.void(out, into, codes, at, pitch), build

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at, pitch = args[3:]
        ll = Vectors(context, builder, sig, args)
        total = [ll.zero] * vectors
        for r in range(4):
            row = builder.add(at, builder.mul(pitch, ll.whole(r)))
            codes = ll.neighbours(builder.gep(ll.data(2), [row]), vectors)
            pairs = zip(total, codes, strict=True)
            total = [builder.or_(t, ll.shift_left(c, 8 * r)) for t, c in pairs]
        places = [builder.gep(ll.data(0), [ll.item(1, i)]) for i in range(runs)]
        ll.store(places, total)
        return context.get_dummy_value()

    @overload(weave)
    def compiled(out, into, codes, at, pitch):
        def call(out, into, codes, at, pitch):
            emit(out, into, codes, at, pitch)  # type: ignore[call-arg]

        return call

    return weave


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
        ll = Vectors(context, builder, sig, args)

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
            dy = ll.loads([builder.gep(line, [j]) for line in lines], rows)
            new = list(sums)
            for t, first in enumerate(starts):
                x = ll.loads([builder.gep(planes, [builder.add(first, j)])], 1)[0]
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


weave = _weave(OUTER_QUADS.vectors, OUTER_QUADS.runs)
outer_wide = _outer(*OUTER_WIDE)
outer_halves = _outer(*OUTER_HALVES)
outer_narrow = _outer(*OUTER_NARROW)
QUADS = "quads" if has_vnni() else "quads_by_pairs"
outer_quads = _outer(*OUTER_QUADS, QUADS)
outer_quads_wide = _outer(*OUTER_HALVES, QUADS)
dot_wide = _dot(*DOT_WIDE)
dot_narrow = _dot(*DOT_NARROW)
