"""What people hand to the checkers by mistake: each is named, none ends in a traceback.

A verdict on a function that writes, forgets or answers by chance would be wrong, so
these are told before anything is said about laws or gradients.
"""

import warnings

import numpy as np
import pytest
from refusals import refuses

from refqnn.testing import check_gradients, check_op, check_quantizer, check_twin
from refqnn.testing.trials import handing

X = np.arange(1.0, 7.0).reshape(2, 3)


def square(x):
    return x * x, x


def square_backward(dy, x):
    return 2 * x * dy


class Counting:
    """A function that answers differently the first time only."""

    def __init__(self, answer):
        self.calls, self.answer = 0, answer

    def __call__(self, v):
        self.calls += 1
        return self.answer(v, self.calls)


def over(buffers, v):
    """Write every answer of a shape into one buffer."""
    buffer = buffers.setdefault((v.shape, v.dtype), np.empty_like(v))
    return np.rint(v, out=buffer)


def into_input(v):
    return np.rint(v, out=v).copy()


def declines(_):
    raise ValueError("bits must be 3")


BUFFERS = {}
QUANTIZERS = [
    (lambda v: v[:], "gives its input, or a part of it"),
    (lambda v: over(BUFFERS, v), "writes a later answer over this one"),
    (into_input, "writes into its input"),
    (Counting(lambda v, n: np.rint(v) + v.dtype.type(n > 1)), "another answer"),
    (lambda v: np.ma.masked_greater(np.rint(v), 1), "gives MaskedArray for the shape"),
    (lambda v: (), "gives tuple for the shape"),  # noqa: ARG005
    (lambda v: np.where(v < 0, np.nan, v), r"nan at \[0, 1\], for -0.06"),
    (np.log2, "gives NaN or infinity"),
    (lambda v: v.astype(np.float64), "gives the dtype float64 for float32"),
    (lambda v: v[:1], r"gives \(1, 7\) for the shape \(3, 7\)"),
    (lambda v: v.tolist(), "gives list for the shape"),
    (declines, "nothing was checked: declines raises for v = .*bits must be 3"),
    (lambda v: {}["scale"], "raises KeyError .*: 'scale'"),  # noqa: ARG005
]


@pytest.mark.parametrize(("quantizer", "message"), QUANTIZERS)
def test_what_is_no_quantizer(quantizer, message):
    with pytest.raises(AssertionError, match=message):
        check_quantizer(quantizer)


def test_what_cannot_be_called():
    refuses("forward must be a function or a module", check_quantizer, 3)
    with pytest.raises(ValueError, match="backward must be callable, got None"):
        check_gradients(square, None, [X], wrt=0)
    refuses("fast must be callable, got None", check_twin, None, np.rint)


@pytest.mark.parametrize(
    ("step", "rows"), [(np.full((4, 1), 0.5), 4), (np.full(5, 0.5), 5), ((0.5,), 3)]
)
def test_a_step_per_channel_meets_values_of_its_shape(step, rows):
    shapes = set()

    def lattice(v, s):
        shapes.add(v.shape)
        return np.rint(v / s) * s

    report = check_quantizer(lattice, parameters=(np.asarray(step),))
    assert (report.laws["JSE"], report.laws["SE"]) == ("holds", "fails")
    axis = 0 if np.ndim(step) == 2 else 1
    if rows > 3:
        assert {shape[axis] for shape in shapes} >= {rows}
        assert report.counterexamples["SE"].shape[axis] == rows


def test_filters_of_four_axes_are_handed_over_as_such():
    def by_filter(w):
        _, _, h, _ = w.shape
        assert h == 1
        return np.sign(w) * np.abs(w).mean((1, 2, 3), keepdims=True)

    def by_step(w, s):
        assert w.ndim == 4
        return np.rint(w / s) * s

    report = check_quantizer(by_filter)
    assert (report.laws["SE"], report.laws["MONO"]) == ("holds", "holds")
    steps = np.full((4, 1, 1, 1), 0.25)
    assert check_quantizer(by_step, parameters=(steps,)).laws["JSE"] == "holds"


def writes_dy(dy, x):
    dy *= 2
    return 2 * x * dy


def writes_cache(dy, x):
    dx = 2 * x * dy
    x[...] = 0
    return dx


class Adding:
    """A backward that adds to what it gave before, in place, as ``.grad`` does."""

    def __init__(self):
        self.grad = np.zeros_like(X)

    def __call__(self, dy, x):
        self.grad += 2 * x * dy
        return self.grad


BACKWARDS = [
    (writes_dy, "backward writes into dy"),
    (writes_cache, "another answer for the same dy"),
    (Adding(), "another answer for the same dy"),
    (lambda dy, x: [2 * x * dy], "backward gives a list"),
    (lambda dy, x: np.copysign(0 * x, -dy * dy), r"is 0, the slope .*: it is zero"),
    (lambda dy, x: (2 * x * dy).astype(np.float32), "dx is float32, x is float64"),
    (lambda dy, x: np.rint(2 * x * dy).astype(int), "dx is int64, x is float64"),
    (lambda dy, x: np.roll(2 * x * dy, 1), "stand at other entries: rolled"),
    (lambda dy, x: {}["x"], "backward raises KeyError: 'x'"),  # noqa: ARG005
]


@pytest.mark.parametrize(("backward", "message"), BACKWARDS)
def test_what_is_no_backward(backward, message):
    with pytest.raises(AssertionError, match=message):
        check_gradients(lambda x: (x * x, x.copy()), backward, [X], wrt=0)


def written(x):
    x *= 2
    return x.copy(), None


FORWARDS = [
    (written, "forward writes into x"),
    (Counting(lambda x, n: (x * n, None)), "forward gives another answer"),
    (lambda x: ([x, x], None), "forward gives a list"),
    (lambda x: ({"y": x}, None), "forward gives dict for float64"),
    (lambda x: ((x, None), None), "forward gives NoneType for float64"),
    (lambda x: (np.rint(x).astype(int), None), "forward gives int64"),
    (lambda x: (x > 1, None), "forward gives bool"),
    (lambda x: x["a"], "forward raises IndexError"),
]


@pytest.mark.parametrize(("forward", "message"), FORWARDS)
def test_what_is_no_forward(forward, message):
    with pytest.raises(AssertionError, match=message):
        check_gradients(forward, lambda dy, _: dy, [X], wrt=0)
    with pytest.raises(AssertionError):
        check_op(forward, lambda dy, _: dy, [X])


@pytest.mark.parametrize(
    ("args", "wrt", "options", "message"),
    [
        (X, 0, {}, "args must be a list of the arguments, got ndarray"),
        ([X], None, {}, r"positions or names of \['x'\], got None"),
        ([X], (), {}, "wrt must name an argument"),
        ([(X, X)], 0, {}, "which is tuple, no float array"),
        ([X + 0j], 0, {}, "which is complex128"),
        ([X], 0, {"frozen": True}, "a forward that takes frozen=cache"),
    ],
)
def test_wrong_questions_are_value_errors(args, wrt, options, message):
    refuses(message, check_gradients, square, square_backward, args, wrt=wrt, **options)


def test_a_draw_that_gives_no_arguments():
    with pytest.raises(ValueError, match=r"draw\(rng\) must give \(args, options\)"):
        check_op(square, square_backward, lambda _: X)
    with pytest.raises(ValueError, match=r"draw\(rng\) must give \(args, options\)"):
        check_twin(square, square, draw=lambda _: [X])


@pytest.mark.parametrize(
    ("fast", "message"),
    [
        (lambda x: 1 / 0, "raises ZeroDivisionError"),  # noqa: ARG005
        (lambda x: np.multiply(x, x, out=x).copy(), "an argument is written to"),
    ],
)
def test_what_is_no_twin(fast, message):
    with pytest.raises(AssertionError, match=message):
        check_twin(fast, lambda x: x * x)


def test_a_twin_of_nothing_is_not_checked():
    for bound in (None, 1.0):
        with pytest.raises(AssertionError, match="nothing was checked"):
            check_twin(lambda _: None, lambda _: None, bound=bound)


def test_outputs_without_axes_and_arguments_in_any_order_of_memory():
    def total(x):
        return np.sum(x * x), x

    for x in (X, X.T, X[::-1, ::2], X.astype(np.float32), np.array(3.0), 3.0):
        assert check_gradients(total, square_backward, [x], wrt=0) < 1e-6


def test_a_forward_of_any_keywords_may_take_frozen():
    def lattice(x, **how):
        return x + (how["frozen"] if "frozen" in how else np.rint(x) - x), np.rint(
            x
        ) - x

    x = X + 0.3
    assert check_gradients(lattice, lambda dy, _: dy, [x], wrt=0, frozen=True) < 1e-6
    assert check_quantizer(lattice, lambda dy, _: dy).gradient_error is None


def test_a_nan_that_stays_is_not_written():
    def first(x, _):
        return x * x, x

    beside = np.full(3, np.nan)
    assert check_gradients(first, square_backward, [X, beside], wrt=0) < 1e-6


def test_what_dlpack_cannot_share_is_copied():
    torch = pytest.importorskip("torch", reason="needs the optional package torch")
    listed = handing(lambda a: [t.tolist() for t in a], torch)
    backwards, broadcast = X[::-1], np.broadcast_to(1.5, (2, 3))  # negative: aborts
    assert listed((backwards, broadcast)) == [backwards.tolist(), broadcast.tolist()]


def test_tensors_of_torch_are_read_and_written_writes_are_seen():
    torch = pytest.importorskip("torch", reason="needs the optional package torch")
    for tensor in (torch.arange(3.0), torch.arange(6.0).double().reshape(2, 3).T):
        assert check_gradients(square, square_backward, [tensor], wrt=0) < 1e-6
        with pytest.raises(AssertionError, match=r"a factor of 0\.5"):
            check_gradients(square, lambda dy, x: x * dy, [tensor], wrt=0)

    def lattice(x, s, *, frozen=None):
        u = x / s
        q = torch.round(u) if frozen is None else u + frozen[0]
        return s * q, (q - u,)

    def lattice_backward(dy, cache):
        return dy, (dy * cache[0]).sum()

    report = check_quantizer(lattice, lattice_backward, parameters=(0.5,))
    assert report.gradient_error < 1e-6
    with pytest.raises(AssertionError, match="ds is"):
        check_quantizer(lattice, lambda dy, _: (dy, dy.sum()), parameters=(0.5,))
    with pytest.raises(AssertionError, match="writes into its input"):
        check_quantizer(lambda x: x.round_())

    class Lattice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.s = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, x):
            return torch.round(x / self.s) * self.s

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_quantizer(Lattice).laws["IDEM"] == "holds"


def test_single_precision_inside_is_suspected():
    def inside(x):
        return (x.astype(np.float32) ** 2).astype(np.float64), x

    with pytest.raises(AssertionError, match="is it computed in float32"):
        check_gradients(inside, square_backward, [X + 0.1], wrt=0)
