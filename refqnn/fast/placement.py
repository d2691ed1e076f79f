"""Where the tensors of a program lie in the memory of a worker, planned once.

Tensors of one size have one layout, whose gaps are as wide as the widest window that
reads or writes planes of that size needs: convolutions with unit stride read their
source in place, all others a copy that is split by remainders. A tensor takes the first
place that is free as long as it is needed.
"""

from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Int
from refqnn.fast import machine
from refqnn.fast.machine import RUN, RUNS, STEP, TENSOR
from refqnn.fast.planes import Axis, gapless_starts
from refqnn.fast.scaling import WIDTH
from refqnn.geometry import Pair
from refqnn.integer.checks import code_dtype


class Codes(NamedTuple):
    """Codes in [q_min, q_max] and the one that is real 0."""

    q_min: int
    q_max: int
    zero_point: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that integers of this range have in ``refqnn.integer``."""
        return code_dtype(self.q_min, self.q_max)

    @property
    def wide(self) -> bool:
        """Whether a byte does not hold them."""
        return self.dtype.itemsize > 1

    @property
    def sign(self) -> int:
        """What the machine adds to codes of int8."""
        return 128 if self.dtype == np.int8 else 0


class Tensor(NamedTuple):
    """Planes of codes, or of accumulators where ``codes`` is None."""

    shape: tuple[int, int, int]
    codes: Codes | None

    @property
    def wide(self) -> bool:
        """Whether an entry is one number, not four codes."""
        return self.codes is None or self.codes.wide


class Step(NamedTuple):
    """One step before it is laid out: numbers of STEP, and what needs a layout."""

    kind: int
    source: int
    target: int
    second: int
    fields: dict[str, int]
    axes: tuple[Axis, Axis] | None = None


class Machine(NamedTuple):
    """What ``machine.run`` is given besides images and results."""

    steps: Array
    tensors: Array
    numbers: Int
    size: int


class Planes(NamedTuple):
    """How planes of one size lie: entries, as in ``refqnn.fast.planes.Layout``."""

    row: int
    image: int
    margin: int
    span: int
    channel: int
    starts: int  # where the runs of a tile begin, among the numbers
    runs: int


class LayOut:
    """Places of tensors, and steps with them, for blocks of so many images."""

    def __init__(
        self, tensors: list[Tensor], steps: list[Step], maps: list[Int], images: int
    ) -> None:
        self.images, self.maps, self.tensors = images, maps, list(tensors)
        self.sizes = [t.shape[1:] for t in self.tensors]  # which layout each has
        self.numbers: list[Int] = []
        self.count = 0
        self.steps = [s for step in steps for s in self._with_split(step)]
        self.planes = {size: self._planes(size) for size in dict.fromkeys(self.sizes)}

    def machine(self) -> Machine:
        """Return the arrays of the machine."""
        tensors = np.zeros(len(self.tensors), TENSOR).view(np.recarray)
        steps = np.zeros(len(self.steps), STEP).view(np.recarray)
        for step in self.steps:
            if step.kind != machine.STORE:
                self._describe(tensors[step.target], step, tensors)
        ends = self._allocate(tensors)
        for record, step in zip(steps, self.steps, strict=True):
            named = step._asdict() | step.fields | self._places(step, tensors)
            for name in STEP.names or ():
                record[name] = named.get(name, 0)
        return Machine(steps, tensors, np.concatenate(self.numbers), ends)

    def _with_split(self, step: Step) -> list[Step]:
        """Put a split before a sum that cannot read its source where it lies."""
        if not step.axes:
            return [step]
        source, out = self.tensors[step.source], self.tensors[step.target]
        rows, cols = step.axes
        if (rows.stride, cols.stride) == (1, 1) and source.shape[1:] == out.shape[1:]:
            return [step]
        self.tensors.append(source)
        self.sizes.append(out.shape[1:])
        copy = len(self.tensors) - 1
        fields = {"row_step": rows.stride, "col_step": cols.stride}
        split = Step(machine.SPLIT, step.source, copy, step.source, fields, step.axes)
        return [split, step._replace(source=copy)]

    def _keep(self, numbers: Int) -> int:
        """Keep numbers for the machine; return where they start."""
        self.numbers.append(np.asarray(numbers, np.int64).reshape(-1))
        self.count += self.numbers[-1].size
        return self.count - self.numbers[-1].size

    def _planes(self, size: Pair) -> Planes:
        """The narrowest layout in which no window of any step leaves its gaps."""
        axes = [s.axes for s in self.steps if s.axes and self.sizes[s.target] == size]
        row = max([size[1], *(cols.pitch for _, cols in axes)])
        image = row * max([size[0], *(rows.pitch for rows, _ in axes)])
        margin = max([0, *(r.before * row + c.before for r, c in axes)])
        reach = max([0, *(r.reach * row + c.reach for r, c in axes)])
        span = -(-self.images * image // WIDTH) * WIDTH
        channel = ((margin + span + reach) // 16 + 1 | 1) * 16
        lie = Planes(row, image, margin, span, channel, 0, 0)
        starts: Int = np.arange(0, span, RUN)
        if size[1] % RUN == 0:  # no gaps; the last run fills the last tile
            starts = gapless_starts(self.images, size, row, image, RUN)
            starts = np.pad(starts, (0, -starts.size % RUNS), "edge")
        return lie._replace(starts=self._keep(starts), runs=starts.size)

    def _describe(self, record: Any, step: Step, tensors: Array) -> None:
        """Fill in the tensor that a step writes, but for its place."""
        tensor, lie = self.tensors[step.target], self.planes[self.sizes[step.target]]
        channels, record.rows, record.cols = tensor.shape
        record.channels, record.planes = channels, -(-channels // 4)
        for name in ("row", "image", "margin", "span", "channel", "starts", "runs"):
            record[name] = getattr(lie, name)
        if tensor.codes:
            record.zero = four(tensor.codes.zero_point + tensor.codes.sign)
        if step.kind == machine.SPLIT and step.axes:
            kinds = len(remainders(step.axes))
            record.planes = tensors[step.source].planes * kinds
        if step.kind == machine.SUM:
            fields = step.fields
            record.planes = fields["blocks"] * fields["tiles"] * fields["rows"] // 4
        if tensor.wide:
            record.planes, record.margin, record.channel = (
                4 * record.planes,
                0,
                lie.span,
            )

    def _allocate(self, tensors: Array) -> int:
        """Give every tensor a place that is free while it is needed: first fit."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for i, step in enumerate(self.steps):
            for t in (step.source, step.second, step.target):
                first.setdefault(t, i)
                last[t] = i
        end = 0
        held: list[tuple[int, int, int]] = []  # start, stop, last step
        for t in sorted(first, key=lambda t: first[t]):
            held = [h for h in held if h[2] >= first[t]]
            size, at = int(tensors[t].planes * tensors[t].channel), 0
            for start, stop, _ in sorted(held):
                if at + size <= start:
                    break
                at = max(at, stop)
            tensors[t].at = at
            held.append((at, at + size, last[t]))
            end = max(end, at + size)
        return end

    def _places(self, step: Step, tensors: Array) -> dict[str, int]:
        """Offsets of the taps, remainders of a split, places of a move."""
        source, target = tensors[step.source], tensors[step.target]
        if step.kind == machine.SPLIT and step.axes:
            return {"remainders": self._keep(np.array(remainders(step.axes)))}
        if step.kind == machine.LOOK_UP:
            return {"map": self._keep(self.maps[step.fields["map"]])}
        if step.kind == machine.MOVE:
            return {"map": self._keep(self._map(step, source, target))}
        if step.kind != machine.SUM or not step.axes:
            return {}
        rows, cols = step.axes
        keys = remainders(step.axes)
        shifts = [
            keys.index((a, b)) * source.channel + u * source.row + v
            for _, a, u in rows.taps
            for _, b, v in cols.taps
        ]
        quads = step.fields["quads"]
        planes = np.arange(quads)[:, None] * (len(keys) * source.channel)
        offsets = planes + np.array(shifts, np.int64)
        return {
            "offsets": self._keep(offsets),
            "terms": offsets.size,
            "quads": quads * len(keys),
        }

    def _map(self, step: Step, source: Any, target: Any) -> Int:
        """Where the code of every byte of the target lies in an image of the source."""
        places = self.maps[step.fields["map"]]
        c, h, w = np.unravel_index(
            np.maximum(places, 0), self.tensors[step.source].shape
        )
        entry = c // 4 * source.channel + h * source.row + w
        at = np.where(places < 0, machine.FILL, 4 * entry + c % 4)
        padded = np.full((4 * target.planes, *places.shape[1:]), machine.FILL)
        padded[: len(places)] = at
        return padded.reshape(-1, 4, *places.shape[1:]).transpose(0, 2, 3, 1)


def remainders(axes: tuple[Axis, Axis]) -> list[Pair]:
    """Which rows and columns, modulo the strides, the taps read: one plane for each."""
    rows, cols = axes
    return sorted({(a, b) for _, a, _ in rows.taps for _, b, _ in cols.taps})


def four(code: int) -> int:
    """Return one code in all four bytes of an int32."""
    return int(np.full(4, code, np.uint8).view(np.int32)[0])
