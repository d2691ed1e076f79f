r"""What a subnet costs: bit operations, size, or time on our integer kernels.

QuantNAS (Gao et al., CVPR 2024 NAS workshop) aims at the latency of a phone; these
models are ours, and all are sums over layers:

    cost                                    unit          function
    sum MAC b_w b_a                         operations    bit_operations
    sum weights b_w, equation 6 of Pareto   bits          c_size
    sum of measured times                   seconds       LatencyTable.cost

The first two grow with every gene. Measured times need not. A genotype outside the
space raises ValueError.
"""

import math
import os
import platform
import time
import timeit
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import numpy as np

from refqnn.files import Unreadable, decode, read_json, write_json
from refqnn.papers.quantnas.space import (
    Genotype,
    LayerShape,
    Space,
    largest,
    layers_of,
    stages_of,
)

FORMAT = "refqnn latency table 1"


def bit_operations(genotype: Genotype, space: Space) -> int:
    """Sum of MAC b_w b_a over the layers, of one image."""
    return sum(
        layer.macs * layer.weight_bits * layer.input_bits
        for layer in layers_of(genotype, space)
    )


def c_size(genotype: Genotype, space: Space) -> int:
    """Sum of weights times b_w over the layers, in bits."""
    return sum(
        layer.weights * layer.weight_bits for layer in layers_of(genotype, space)
    )


def key_of(layer: LayerShape) -> str:
    """Write channels, kernel, stride and size of a layer: its row of a table of times.

    >>> key_of(LayerShape("stem", 1, 8, 3, 1, 28, 8, 8))
    '1 to 8, kernel 3, stride 1, 28 x 28'
    """
    c, o, k, n = layer.inputs, layer.outputs, layer.kernel, layer.size
    return f"{c} to {o}, kernel {k}, stride {layer.stride}, {n} x {n}"


class LatencyTable(msgspec.Struct):
    """Seconds for one image of every kind of layer, and how they were measured."""

    seconds: dict[str, Annotated[float, msgspec.Meta(ge=0)]]
    provenance: dict[str, Any]

    def cost(self, genotype: Genotype, space: Space) -> float:
        """Sum of the seconds of the layers; ValueError names a layer not measured."""
        total = 0.0
        for layer in layers_of(genotype, space):
            if key_of(layer) not in self.seconds:
                raise ValueError(f"the table has no time of a layer {key_of(layer)}")
            total += self.seconds[key_of(layer)]
        return total

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table as JSON, whole or not at all."""
        write_json(path, {"format": FORMAT, **msgspec.structs.asdict(self)})


def load_table(path: str | os.PathLike[str]) -> LatencyTable:
    """Read what ``save`` wrote; raise ValueError for anything else."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise Unreadable(f"{path} is not a {FORMAT!r}")
    table = decode(content, LatencyTable, f"{path} is not a {FORMAT!r}")
    if not all(math.isfinite(seconds) for seconds in table.seconds.values()):
        raise Unreadable(f"{path}: seconds must be finite")
    return table


def layer_kinds(space: Space) -> list[LayerShape]:
    """Return the layers of all subnets of the space, one for each ``key_of``."""
    kinds: dict[str, LayerShape] = {}
    whole = largest(space)
    for s in range(len(space.channels)):
        for stage in stages_of(space):
            genotype = (*whole[:s], stage, *whole[s + 1 :])
            kinds |= {key_of(layer): layer for layer in layers_of(genotype, space)}
    return list(kinds.values())


def measure(
    space: Space, *, repeats: int = 20, batch: int = 8, rng: np.random.Generator
) -> LatencyTable:
    """Return the fastest of ``repeats`` runs of every kind of layer, per image.

    int8 codes through ``refqnn.fast.integer``, one batch at a time; the first run,
    which compiles, does not count. The fastest, because the machine only adds to it.
    """
    if repeats < 1 or batch < 1:
        raise ValueError(f"repeats and batch must be positive: {repeats}, {batch}")
    kinds = layer_kinds(space)
    seconds = {key_of(k): best_time(k, repeats, batch, rng) for k in kinds}
    return LatencyTable(seconds, provenance(repeats, batch))


def best_time(
    layer: LayerShape, repeats: int, batch: int, rng: np.random.Generator
) -> float:
    """Return the seconds of a layer on random codes, of one image."""
    from refqnn.fast import integer  # noqa: PLC0415 - compiled only where it is timed

    k, size = layer.kernel, layer.size * layer.stride
    x = rng.integers(0, 2**layer.input_bits, (batch, layer.inputs, size, size))
    w = rng.integers(-7, 8, (layer.outputs, layer.inputs, k, k), dtype=np.int8)
    codes = x.astype(np.uint8)
    if layer.name == "classifier":
        return fastest(
            lambda: integer.linear(codes[..., 0, 0], w[..., 0, 0]), repeats, batch
        )
    return fastest(
        lambda: integer.conv2d(codes, w, stride=layer.stride, padding=k // 2),
        repeats,
        batch,
    )


def fastest(call: Callable[[], Any], repeats: int, batch: int) -> float:
    """Return the least seconds of a call per image, after one that does not count."""
    call()
    took = timeit.repeat(call, timer=time.perf_counter, number=1, repeat=repeats)
    return min(took) / batch


def provenance(repeats: int, batch: int) -> dict[str, Any]:
    """Return where, when and how times were measured."""
    import numba  # noqa: PLC0415 - only its version and settings

    config: Any = numba.config
    return {
        "kernels": "refqnn.fast.integer",
        "statistic": f"least of {repeats} runs of {batch} images, per image",
        "machine": platform.machine(),
        "processor": platform.processor(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": config.NUMBA_NUM_THREADS,
        "compiled": not config.DISABLE_JIT,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
