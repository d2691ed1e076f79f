"""A quantizer to be judged: a function, a module of ours, or one of torch or jax.

However it is given, it becomes ``apply(v, k)``, the quantizer with its held parameters
multiplied by k, the groups that share levels, and the levels of each group.
"""

import contextlib
import copy
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refqnn._types import Array, Float
from refqnn.core import Run, named_params

GROUPS = ("filter", "layer")
#: more distinct outputs than this are no grid
MOST_LEVELS = 4096


def spread() -> Float:
    """Space values from -1 024 to 1 024, densest around 0, over every level: (1, n)"""
    return np.linspace(-4, 4, 20001, dtype=np.float32)[None] ** 5


def heavy_tailed(seed: int, dtype: Any = np.float32) -> Float:
    """Draw a normal times a lognormal. (3, 7)"""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(3, 7)) * rng.lognormal(size=(3, 7))).astype(dtype)


@dataclass
class Quantizer:
    """A quantizer as the laws use it: ``apply``, ``groups`` and ``codebooks``."""

    name: str
    call: Callable[[Float, float], Float]
    #: JSE and INV are asked
    has_parameters: bool
    #: a module that encodes, whose levels count; None: the levels that occur
    module: Any = None
    split: Callable[[Float], list[Float]] | None = None
    by_filter: bool = False
    #: of a function of each value alone: its levels
    levels: Float | None = field(default=None, init=False)
    memo: dict[Any, Float] | None = field(default=None, init=False)

    def apply(self, v: Float, k: float = 1) -> Float:
        """Quantize ``v``; AssertionError for any exception that is no ValueError."""
        if self.memo is not None:
            key = (v.tobytes(), v.shape, v.dtype.char, k)
            if key not in self.memo:
                self.memo[key] = self.answer(v, k)
            return self.memo[key].copy()
        return self.answer(v, k)

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Ask the quantizer once for the same values: the laws ask many times."""
        self.memo = {}
        try:
            yield
        finally:
            self.memo = None

    def answer(self, v: Float, k: float) -> Float:
        """Call the quantizer; what it raises names it and the values."""
        try:
            with np.errstate(all="ignore"):  # what comes of it is checked, not how
                return self.call(v, k)
        except (ValueError, AssertionError):
            raise
        except Exception as error:
            raise AssertionError(
                f"{self.name} raises {type(error).__name__} for v = {show(v)}: {error}"
            ) from error

    def groups(self, v: Float) -> list[Float]:
        """Split by filters, axis 0, or take the layer as one."""
        if self.split is not None:
            return self.split(v)
        return list(v) if self.by_filter else [v.reshape(-1)]

    def codebooks(self, v: Float) -> list[Float]:
        """List the levels of each group: of the module, of the grid, or those met."""
        groups = self.groups(self.apply(v))
        if self.module is not None:
            levels = np.asarray(self.module.encode(v)[1])
            if levels.size and levels.size % len(groups) == 0:
                return list(np.sort(levels.reshape(len(groups), -1), axis=1))
        known = self.levels  # unless they depend on the shape of v
        if known is not None and all(np.isin(y, known).all() for y in groups):
            return [known for _ in groups]
        return [np.unique(y) for y in groups]

    def look(self, groups: Any = None) -> None:
        """Find out which values share levels, by changing some and watching the rest.

        ``groups`` decides instead: "filter", "layer", or a function that splits v.
        """
        if groups is not None and not callable(groups) and groups not in GROUPS:
            raise ValueError(f"groups must be one of {GROUPS}, got {groups!r}")
        v = heavy_tailed(0)
        y, changed = self.apply(v), v.copy()
        changed[1] = changed[1, ::-1] * 3 + 1
        alone = np.array_equal(self.apply(changed)[[0, 2]], y[[0, 2]])
        order = np.random.default_rng(0).permutation(v.size)
        mixed, want = (a.reshape(-1)[order].reshape(v.shape) for a in (v, y))
        same = np.array_equal(self.apply(mixed), want)
        single = v.copy()
        single[:, 0] = 5
        elementwise = np.array_equal(self.apply(single)[:, 1:], y[:, 1:])
        self.by_filter = alone and not (elementwise and same)
        if groups is not None:
            self.by_filter = groups == "filter"
            self.split = groups if callable(groups) else None
        if elementwise and same:
            levels = np.unique(self.apply(spread()))
            self.levels = levels if levels.size <= MOST_LEVELS else None


def show(v: Array) -> str:
    """Print a few values.

    >>> show(np.array([[1.5, -2.0]]))
    '[[1.5, -2.0]]'
    """
    return str(v.tolist()) if v.size <= 24 else f"an array of shape {v.shape}"


def subject(
    forward: Any, parameters: Sequence[Any], options: Mapping[str, Any]
) -> Quantizer:
    """Make the subject of a function, a module of ours or a class of one."""
    if inspect.isclass(forward) or hasattr(forward, "backward"):
        return of_module(forward, parameters, options)
    name = getattr(forward, "__name__", type(forward).__name__)
    function = native(forward, parameters, options)

    def call(v: Float, k: float) -> Float:
        y = function(
            v.copy() if k != 1 else v, *scale_parameters(parameters, v, k), **options
        )
        return y[0] if isinstance(y, tuple) else y

    return Quantizer(name, call, any(is_float(p) for p in parameters))


def is_float(value: Any) -> bool:
    """Whether a parameter is one that JSE multiplies: floats, alone or in an array."""
    return np.asarray(value).dtype.kind == "f"


def scale_parameters(parameters: Sequence[Any], v: Float, k: float) -> list[Any]:
    """Multiply the parameters by k, in the dtype of the values."""
    return [
        np.asarray(np.asarray(p, v.dtype) * v.dtype.type(k)) if is_float(p) else p
        for p in parameters
    ]


def of_module(
    made: Any, parameters: Sequence[Any], options: Mapping[str, Any]
) -> Quantizer:
    """Make the subject of a module: first values from a training pass, then held.

    Its Params, or those named by ``parameters``, are what k multiplies.
    """
    module: Any = made(**options) if inspect.isclass(made) else copy.deepcopy(made)
    name = type(module).__name__
    rng = np.random.default_rng(0)
    if inspect.isclass(made) or not usable(module):
        module.forward(heavy_tailed(0), Run(training=True, rng=rng))
    params = named_params(module)
    chosen = list(parameters) or list(params)
    unknown = [each for each in chosen if each not in params]
    if unknown:
        raise ValueError(f"parameters must be of {sorted(params)}, got {unknown}")

    def call(v: Float, k: float) -> Float:
        at = module
        if k != 1:
            at = copy.deepcopy(module)
            for each in chosen:
                param = named_params(at)[each]
                param.value = np.asarray(param.value * param.value.dtype.type(k))
        y, _ = at.forward(v, Run())
        return np.asarray(y)

    encodes = hasattr(module, "encode")
    return Quantizer(name, call, bool(params), module if encodes else None)


def usable(module: Any) -> bool:
    """Whether a module evaluates without a training pass before."""
    try:
        module.forward(heavy_tailed(0), Run())
    except ValueError:
        return False
    return True


def native(
    function: Callable[..., Any], parameters: Sequence[Any], options: Mapping[str, Any]
) -> Callable[..., Any]:
    """Let a function of torch or jax take and give NumPy arrays, through DLPack.

    A function that fails on NumPy arrays is taken for one of those only if it does not
    fail on theirs: otherwise the fault is its own, and is shown as it is.
    """
    v = heavy_tailed(0)
    given = scale_parameters(parameters, v, 1)
    frameworks = [sys.modules[name] for name in ("torch", "jax") if name in sys.modules]
    ways = [function, *(through_dlpack(function, each) for each in frameworks)]
    if type(function).__module__.split(".")[0] == "torch":
        ways = ways[1:]
    for way in ways:
        with contextlib.suppress(Exception), np.errstate(all="ignore"):
            y = way(v.copy(), *given, **options)
            if isinstance(y[0] if isinstance(y, tuple) else y, np.ndarray | np.generic):
                return way
    return ways[0]


def through_dlpack(function: Callable[..., Any], framework: Any) -> Callable[..., Any]:
    """Hand arrays over as those of another framework, and its answers back."""
    take = getattr(framework, "from_dlpack", None) or framework.dlpack.from_dlpack

    def given(value: Any) -> Any:
        return take(value.copy()) if isinstance(value, np.ndarray) else value

    def called(*args: Any, **options: Any) -> Any:
        y = function(*map(given, args), **options)
        y = y[0] if isinstance(y, tuple) else y
        y = y.detach() if hasattr(y, "detach") else y
        return np.from_dlpack(y).copy() if hasattr(y, "__dlpack__") else y

    return called
