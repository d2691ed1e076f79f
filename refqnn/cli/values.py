"""A number's way through a quantizer, a requantization or a gate, for ``explain --at``.

Each function gives the numbers worth a name, and a computation whose lines
``refqnn.cli.lines`` lists: forward, and backward with the gradient 1.
"""

import inspect
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

from refqnn.cli.lines import lines_passed, listing

#: standard normal numbers that set the first values of a quantizer
SAMPLE = 4096
Numbers = dict[str, Any]
Compute = Callable[[], Any]


def answer_at(name: str, options: Namespace) -> tuple[dict[str, Any], str]:
    """Compute a name at a value: its numbers and lines, as plain values and as text."""
    from refqnn.prompt import short

    modules, given = quantizer_modules(), dict(options.set or [])
    if name == "requantize":
        numbers, compute = requantize_at(options.at, options.bits, given)
    elif name == "gate":
        numbers, compute = gate_numbers(options.at, given)
    elif name in modules:
        numbers, compute = quantizer_at(modules[name], options.at, options.bits, given)
    else:
        raise ValueError(
            "--at needs the name of a quantizer with a module, requantize or gate"
        )
    at = {key: v if isinstance(v, str) else short(v) for key, v in numbers.items()}
    lines = lines_passed(compute)
    width = max(map(len, at))
    text = "\n".join(f"{key:{width}}  {value}" for key, value in at.items())
    answer = {"at": at, "lines": [vars(line) for line in lines]}
    return answer, f"{text}\n\n{listing(lines)}"


def quantizer_modules() -> dict[str, type]:
    """Map the name of every quantizer's function to its module class."""
    from refqnn import quantizers
    from refqnn.quantizers.module import Quantizer

    kinds = filter(inspect.isclass, vars(quantizers).values())
    return {
        kind.pair[0].__name__: kind for kind in kinds if issubclass(kind, Quantizer)
    }


def quantizer_at(
    kind: type, at: float, bits: int | None, given: Numbers
) -> tuple[Numbers, Compute]:
    """Quantize one value; give every number of the cache, and both passes.

    Learned numbers that are not given have the first values that a batch of standard
    normal numbers sets. A method without any, whose levels follow from the values, is
    given the value in place of the first number of that batch.
    """
    import numpy as np

    from refqnn.core import Run

    quantizer: Any = kind() if bits is None else kind(bits=bits)
    batch = np.random.default_rng(0).standard_normal((1, SAMPLE))
    quantizer.forward(batch, Run(training=True))
    check_names(given, quantizer.parameters, "the learned numbers")
    if given:
        quantizer.hold(**given)
    batch[0, 0] = at
    v = batch[:, :1] if quantizer.parameters or quantizer.unknown else batch
    one = np.zeros_like(v)
    one[0, 0] = 1
    y, cache = quantizer.forward(v, Run())
    codes, levels = quantizer.encode(v)
    numbers = {"quantizer": repr(quantizer), "levels": level_text(levels), "v": v[0, 0]}
    for name, array in getattr(cache[1], "_asdict", dict)().items():
        if np.shape(array) == v.shape or np.size(array) == 1:
            numbers[name] = np.ravel(array)[0]
    numbers |= {"code": codes[0, 0], "y": y[0, 0], "error y - v": y[0, 0] - v[0, 0]}
    numbers["dy / dv"] = quantizer.backward(one, cache)[0, 0]
    for name in quantizer.parameters:
        if hasattr(getattr(quantizer, name), "grad"):
            numbers[f"dy / d{name}"] = np.squeeze(getattr(quantizer, name).grad)

    def compute() -> None:
        quantizer.backward(one, quantizer.forward(v, Run())[1])

    return numbers, compute


def check_names(given: Numbers, known: Any, kind: str) -> None:
    """Raise for ``--set`` of a name that is not known."""
    for name in given:
        if name not in known:
            raise ValueError(f"--set {name}: {kind} are {', '.join(known) or 'none'}")


def level_text(levels: Any) -> str:
    """Write levels; the first and the last three of more than sixteen.

    >>> import numpy as np
    >>> level_text(np.arange(3.0))
    '0 1 2'
    """
    words = [f"{level:.6g}" for level in levels]
    if len(words) > 16:
        words = [*words[:3], "...", *words[-3:]]
    return " ".join(words)


def requantize_at(
    at: float, bits: int | None, given: Numbers
) -> tuple[Numbers, Compute]:
    """Bring a sum to a code of signed bits (8): a whole number times ``real``, 0.37."""
    import numpy as np

    from refqnn import integer
    from refqnn.quantizers.checks import check_bits

    chosen = {"real": 0.37, "zero_point": 0} | given
    check_names(given, ("real", "zero_point"), "the numbers of a requantization")
    whole = (at, chosen["zero_point"])
    if any(value != int(value) for value in whole):
        raise ValueError(f"accumulator and zero_point must be whole, got {whole}")
    check_bits(bits := 8 if bits is None else bits, least=2, most=32)
    q_min, q_max = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    acc, z = np.array(int(at), np.int64), int(chosen["zero_point"])

    def compute() -> Any:
        multiplier, shift = integer.quantize_multiplier(chosen["real"])
        return integer.requantize(acc, multiplier, shift, z, q_min=q_min, q_max=q_max)

    multiplier, shift = integer.quantize_multiplier(chosen["real"])
    exact = z + int(at) * chosen["real"]
    numbers = {"acc": int(at), **chosen, "q_min": q_min, "q_max": q_max}
    numbers |= {"multiplier": multiplier, "shift": shift, "q": compute()[()]}
    return numbers | {"exact": np.float64(exact)}, compute


def gate_numbers(at: float, given: Numbers) -> tuple[Numbers, Compute]:
    """Decide with the logits (``at``, 0) whether a block runs; its gradient."""
    check_names(given, (), "the numbers of a gate")
    p, m, dz = gate_at(at)
    numbers = {"z": at, "p": p[0, 0], "m": m[0, 0], "dL / dz": dz[0, 0]}
    return numbers, partial(gate_at, at)


def gate_at(z: float) -> tuple[Any, Any, Any]:
    """Pass the gate of DFS and its backward: the block gives 1, skipping gives 0.

    ->  p, m, dz: (1, 2); the loss is the output itself, and bits have no price
    """
    import numpy as np

    from refqnn import ops
    from refqnn.papers.dfs.mixture import BlockPass, gate_gradient, gate_mask

    p, _ = ops.softmax(np.array([[z, 0.0]]))
    m, _ = gate_mask(p, gate_mode="straight_through")
    one = np.ones((1, 1, 1, 1))
    at = BlockPass([one, 0 * one], [None, None], m, p, gate=None, chosen=False)
    return p, m, gate_gradient(one, at, np.zeros(2))
