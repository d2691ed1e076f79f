"""What the register tiles are written in: vectors of LLVM, as wide as the CPU's.

Products of bytes and of int16 are instructions of their own; where a CPU lacks the one
for four bytes, two products of pairs take its place.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target


def has_avx512() -> bool:
    """Return whether Numba compiles for AVX-512."""
    return "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2]


def has_vnni() -> bool:
    """Return whether Numba compiles for a CPU that adds four products of bytes."""
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    return ("+avx512vnni" if has_avx512() else "+avxvnni") in features


VECTOR_BYTES = 64 if has_avx512() else 32


class Vectors:
    """The few LLVM sentences the tiles are written in."""

    def __init__(self, context: Any, builder: Any, sig: Any, args: Any) -> None:
        self.context, self.builder, self.sig, self.args = context, builder, sig, args
        self.number = context.get_value_type(sig.args[0].dtype)
        self.whole_numbers = isinstance(self.number, ir.IntType)
        self.bytes = sig.args[0].dtype.bitwidth // 8
        self.signs = self.whole_numbers and self.bytes == 8
        self.lanes = VECTOR_BYTES // self.bytes
        self.vector = ir.VectorType(self.number, self.lanes)
        self.zero = ir.Constant(
            self.vector, [0 if self.whole_numbers else 0.0] * self.lanes
        )

    def _float_call(
        self, name: str, result: Any, arguments: list[Any], **how: Any
    ) -> Any:
        kind = ir.FunctionType(result, [a.type for a in arguments])
        full = f"llvm.{name}.v{self.lanes}f{8 * self.bytes}"
        function = self._function(kind, full)
        return self.builder.call(function, arguments, **how)

    def _function(self, kind: Any, name: str) -> Any:
        get = cgutils.get_or_insert_function
        return get(self.builder.module, kind, name)  # type: ignore[no-untyped-call]

    def _array(self, i: int) -> Any:
        make = self.context.make_array(self.sig.args[i])
        return make(self.context, self.builder, self.args[i])

    def data(self, i: int) -> Any:
        """Return the pointer to the numbers of argument i."""
        return self._array(i).data

    def size(self, i: int) -> Any:
        """Return how many numbers argument i has."""
        return self.builder.extract_value(self._array(i).shape, 0)

    def whole(self, value: int) -> Any:
        """Return an index."""
        return ir.Constant(ir.IntType(64), value)

    def item(self, i: int, k: int) -> Any:
        """Return number k of argument i."""
        return self.builder.load(self.builder.gep(self.data(i), [self.whole(k)]))

    def _run(self, pointer: Any, lanes: int) -> Any:
        kind = ir.VectorType(self.number, lanes)
        return self.builder.bitcast(pointer, kind.as_pointer())

    def _some(self, first: int, count: int) -> Any:
        return ir.Constant(
            ir.VectorType(ir.IntType(32), count), [*range(first, first + count)]
        )

    def loads(self, pointers: list[Any], count: int) -> list[Any]:
        """Load ``count`` vectors, each from one place or in halves from two."""
        lanes = self.lanes * count // len(pointers)
        runs = [
            self.builder.load(self._run(p, lanes), align=self.bytes) for p in pointers
        ]
        if lanes == self.lanes:
            return runs
        every = self._some(0, self.lanes)
        pairs = zip(runs[::2], runs[1::2], strict=True)
        return [self.builder.shuffle_vector(*pair, every) for pair in pairs]

    def neighbours(self, pointer: Any, count: int) -> list[Any]:
        """Load ``count`` vectors, one behind the other."""
        at = [self.whole(v * self.lanes) for v in range(count)]
        return self.loads([self.builder.gep(pointer, [a]) for a in at], count)

    def shift_left(self, vector: Any, bits: int) -> Any:
        """vector * 2^bits, lane by lane"""
        return self.builder.shl(vector, ir.Constant(self.vector, [bits] * self.lanes))

    def store(self, pointers: list[Any], vectors: list[Any]) -> None:
        """Store vectors, each at one place or in halves at two."""
        lanes = self.lanes * len(vectors) // len(pointers)
        none = ir.Constant(self.vector, ir.Undefined)
        for i, pointer in enumerate(pointers):
            whole, part = divmod(i * lanes, self.lanes)
            value = vectors[whole]
            if lanes != self.lanes:
                value = self.builder.shuffle_vector(
                    value, none, self._some(part, lanes)
                )
            self.builder.store(value, self._run(pointer, lanes), align=self.bytes)

    def copy_part(self, pointer: Any, into: Any, share: int) -> None:
        """Copy one ``share``-th of a vector."""
        lanes = self.lanes // share
        part = self.builder.load(self._run(pointer, lanes), align=self.bytes)
        self.builder.store(part, self._run(into, lanes), align=self.bytes)

    def add(self, a: Any, b: Any) -> Any:
        """a + b, lane by lane"""
        return self.builder.add(a, b) if self.whole_numbers else self.builder.fadd(a, b)

    def splat(self, pointer: Any) -> Any:
        """Return a vector whose lanes are all one number of memory."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = ir.Constant(ir.IntType(32), 0)
        one = self.builder.insert_element(undefined, self.builder.load(pointer), first)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(one, undefined, mask)

    def add_numbers(self, a: Any, b: Any, total: Any) -> Any:
        """total + a b; of pairs of int16 in int32, differing bits of int64"""
        if self.signs:
            return self.builder.add(total, self._differing(a, b))
        if self.whole_numbers:
            return self.builder.add(total, self._pair_products(a, b))
        return self._float_call("fma", self.vector, [a, b, total])

    def add_quads(self, w: Any, x: Any, total: Any) -> Any:
        """total + the four products of bytes in each lane, by VNNI"""
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.x86.avx512.vpdpbusd.{8 * VECTOR_BYTES}"
        function = self._function(kind, name)
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

    def _differing(self, a: Any, b: Any) -> Any:
        kind = ir.FunctionType(self.vector, [self.vector])
        count = self._function(kind, f"llvm.ctpop.v{self.lanes}i{8 * self.bytes}")
        return self.builder.call(count, [self.builder.xor(a, b)])

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
        """start + the sum of all lanes"""
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
