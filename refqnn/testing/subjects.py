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
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Float
from refqnn.core import Run, named_params
from refqnn.testing.grids import codes_and_levels
from refqnn.testing.trials import answer, handing, output_and_cache, plain

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


class Layout(NamedTuple):
    """The arrays that a function takes: any (G, n), or as its parameters have it."""

    #: rows and columns of a step per channel; None: any number
    rows: int | None = None
    columns: int | None = None
    #: 4: values are handed over as filters (G, n, 1, 1)
    axes: int = 2

    def fit(self, v: Float) -> Float:
        """Repeat or cut rows and columns.

        >>> Layout(rows=3).fit(np.array([[1.0, 2.0]])).shape
        (3, 2)
        """
        if self.rows is not None:
            v = np.resize(v, (self.rows, v.shape[1]))
        if self.columns is not None:
            v = np.ascontiguousarray(np.resize(v.T, (self.columns, len(v))).T)
        return v

    def filters(self, v: Float) -> Float:
        """View (G, n) as the function takes it."""
        return v.reshape(*v.shape, *[1] * (self.axes - 2))


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
    #: torch or jax, for a function of their arrays
    framework: Any = None
    #: values and the very first answer to them
    first: tuple[Float, Float] | None = None
    layout: Layout = field(default_factory=Layout)
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
        except Exception as error:  # whatever a user's function raises is its fault
            raise AssertionError(
                f"{self.name} raises {type(error).__name__} for v = {show(v)}: {error}"
            ) from error

    def groups(self, v: Float) -> list[Float]:
        """Split by filters, axis 0, or take the layer as one."""
        if self.split is not None:
            return self.split(v)
        return list(v) if self.by_filter else [v.ravel()]

    def codebooks(self, v: Float) -> list[Float]:
        """List the levels of each group: of the module, of the grid, or those met."""
        groups = self.groups(self.apply(v))
        if self.module is not None:
            levels = np.asarray(codes_and_levels(self.module, v)[1])
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
        v = self.layout.fit(heavy_tailed(0))
        y, changed = self.apply(v), v.copy()
        changed[-1] = changed[-1, ::-1] * 3 + 1
        alone = np.array_equal(self.apply(changed)[:-1], y[:-1])
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
        if elementwise and same and not self.layout.columns:
            levels = np.unique(self.apply(self.layout.fit(spread())))
            self.levels = levels if levels.size <= MOST_LEVELS else None


def show(v: Array) -> str:
    """Print a few values.

    >>> show(np.array([[1.5, -2.0]]))
    '[[1.5, -2.0]]'
    """

    def text(x: Array) -> str:
        return f"[{', '.join(map(text, x))}]" if np.ndim(x) else str(x)

    return text(v) if v.size <= 24 else f"an array of shape {v.shape}"


def subject(
    forward: Any, parameters: Sequence[Any], options: Mapping[str, Any]
) -> Quantizer:
    """Make the subject of a function, a module of ours or a class of one."""
    if inspect.isclass(forward) or hasattr(forward, "backward"):
        return of_module(forward, parameters, options)
    if not callable(forward):
        raise ValueError(f"forward must be a function or a module, got {forward!r}")  # noqa: TRY004 - bad values are ValueErrors in this house
    name = getattr(forward, "__name__", type(forward).__name__)
    function, framework, layout, first = native(forward, parameters, options)

    def call(v: Float, k: float) -> Float:
        given = layout.filters(v.copy() if k != 1 else v)
        y = function(given, *scale_parameters(parameters, v, k), **options)
        y = y[0] if isinstance(y, tuple) and y else y
        flat = isinstance(y, np.ndarray) and y.shape == given.shape
        return y.reshape(v.shape) if flat else y

    has_parameters = any(is_float(p) for p in parameters)
    return Quantizer(
        name, call, has_parameters, framework=framework, layout=layout, first=first
    )


def is_float(value: Any) -> bool:
    """Whether a parameter is one that JSE multiplies: floats, alone or in an array."""
    return np.asarray(value).dtype.kind == "f"


def scale_parameters(parameters: Sequence[Any], v: Float, k: float) -> list[Any]:
    """Multiply the parameters by k, in the dtype of the values."""
    return [
        np.asarray(np.asarray(p, v.dtype) * k) if is_float(p) else p for p in parameters
    ]


def of_module(
    made: Any, parameters: Sequence[Any], options: Mapping[str, Any]
) -> Quantizer:
    """Make the subject of a module: first values from a training pass, then held.

    Its Params, or those named by ``parameters``, are what k multiplies.
    """
    name = made.__name__ if inspect.isclass(made) else type(made).__name__
    module = answer(name, made, **options) if inspect.isclass(made) else made
    module = copy.deepcopy(module)
    rng = np.random.default_rng(0)
    if inspect.isclass(made) or not usable(module):
        training = Run(training=True, rng=rng)
        answer(name, module.forward, heavy_tailed(0), training)
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
        return np.asarray(output_and_cache(at.forward(v, Run()))[0])

    encodes = hasattr(module, "encode")
    return Quantizer(name, call, bool(params), module if encodes else None)


def usable(module: Any) -> bool:
    """Whether a module evaluates without a training pass before."""
    try:
        answer(type(module).__name__, module.forward, heavy_tailed(0), Run())
    except ValueError:
        return False
    return True


def native(
    function: Callable[..., Any], parameters: Sequence[Any], options: Mapping[str, Any]
) -> tuple[Callable[..., Any], Any, Layout, tuple[Float, Float] | None]:
    """Let a function of torch or jax take and give NumPy arrays; find its layout.

    A function that fails on NumPy arrays is taken for one of those only if it does not
    fail on theirs: otherwise the fault is its own, and is shown as it is. Gives the
    function, the framework, the layout and the first answer, if there is any.
    """
    frameworks = [sys.modules[name] for name in ("torch", "jax") if name in sys.modules]
    ways: list[tuple[Callable[..., Any], Any]] = [(function, None)]
    ways += [(through_dlpack(function, each), each) for each in frameworks]
    if type(function).__module__.split(".")[0] == "torch":
        ways = ways[1:]
    tried = [(way, layout) for layout in layouts(parameters) for way in ways]
    for strict, several in ((True, tried), (False, [(w, Layout()) for w in ways])):
        for (way, framework), layout in several:
            first = first_answer(way, layout, parameters, options, strict=strict)
            if first is not None:
                return way, framework, layout, first
    return (*ways[0], Layout(), None)


def first_answer(
    way: Callable[..., Any],
    layout: Layout,
    parameters: Sequence[Any],
    options: Mapping[str, Any],
    *,
    strict: bool,
) -> tuple[Float, Float] | None:
    """Give values and the answer to them; None unless it is an array of their shape.

    Unless ``strict``, an array of any shape is one.
    """
    answers = []
    for v in map(layout.fit, (heavy_tailed(0), np.ones((1, 1), np.float32))):
        given = scale_parameters(parameters, v, 1)
        y: Any = None
        with contextlib.suppress(Exception), np.errstate(all="ignore"):
            y = way(layout.filters(v.copy()), *given, **options)
        y = y[0] if isinstance(y, tuple) and y else y
        if not isinstance(y, np.ndarray | np.generic):
            break
        answers.append((v, np.array(y)))
        if strict and y.shape != layout.filters(v).shape:
            return None
    return answers[0] if len(answers) == 2 or (answers and not strict) else None


def layouts(parameters: Sequence[Any]) -> list[Layout]:
    """List what a function may take: (G, n), a channel for each parameter, filters."""
    shapes = [np.shape(p) for p in parameters if is_float(p)]
    sizes = sorted({n for shape in shapes for n in shape if n > 1})
    fixed = [Layout(rows=n) for n in sizes] + [Layout(columns=n) for n in sizes]
    flat = [Layout(), *fixed]
    return [*flat, *(each._replace(axes=4) for each in flat)]


def through_dlpack(function: Callable[..., Any], framework: Any) -> Callable[..., Any]:
    """Hand arrays over as those of another framework, and its answers back."""
    handed = handing(function, framework)

    def called(*args: Any, **options: Any) -> Any:
        y = handed(*args, **options)
        return plain(y[0] if isinstance(y, tuple) and y else y)

    return called
