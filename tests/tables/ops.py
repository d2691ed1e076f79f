"""Every float pair of refqnn.ops, one row each."""

import numpy as np
from tables import draws, loops
from tables.ops_bounds import (
    backward_draw,
    conv2d_bound,
    conv2d_grads_bound,
    forward_draw,
    input_grad_bound,
    input_grad_draw,
    norm_backward_bound,
    norm_bound,
    pool_bound,
    weight_grad_bound,
    weight_grad_draw,
)

from refqnn import fast, ops
from refqnn.testing.pairs import Pair
from refqnn.testing.twins import Twin


def z(*shape):
    return np.zeros(shape)


def row(name, draw, **fields):
    """A row whose forward, backward and loop share a name."""
    forward, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
    return Pair(name, forward, backward, draw, getattr(loops, name), **fields)


NORM = (
    ("disagree on C", (z(2, 3, 4, 4), z(2), z(3)), {}),
    ("disagree on C", (z(2, 3), z(3), z(1)), {}),
    (r"x must be \(N, C, H, W\)", (z(3), z(3), z(3)), {}),
    (r"x must be \(N, C, H, W\)", (z(3, 0), z(0), z(0)), {}),
    (r"eps must lie in \[0", (z(2, 3), z(3), z(3)), {"eps": -1}),
    (r"eps must lie in \[0", (z(2, 3), z(3), z(3)), {"eps": np.nan}),
)
POOL = (
    (r"x must be \(N, C, H, W\)", (z(3, 4, 4),), {"kernel": 2}),
    (r"H, W >= 1", (z(3, 4, 4, 0),), {"kernel": 1}),
    ("kernel must be at least 1", (z(1, 1, 4, 4),), {"kernel": 0}),
    ("stride must be at least 1", (z(1, 1, 4, 4),), {"kernel": 2, "stride": 0}),
    ("padding must be at least 0", (z(1, 1, 4, 4),), {"kernel": 2, "padding": -1}),
    ("does not fit", (z(1, 1, 4, 4),), {"kernel": 5}),
)
PAIRS = [
    row("relu", draws.kinked),
    row("relu6", draws.kinked),
    row("sigmoid", draws.elementwise),
    row("tanh", draws.elementwise),
    row(
        "add",
        draws.add,
        wrt=(0, 1),
        batch=(),
        wrong=(("broadcast", (z(2, 3), z(2, 2)), {}),),
    ),
    row(
        "conv2d",
        draws.conv2d,
        wrt=(0, 1, 2),
        wrong=(
            ("x must be", (z(3, 4, 4), z(2, 3, 1, 1)), {}),
            ("and w", (z(1, 3, 4, 4), z(2, 3)), {}),
            (r"disagree on C // G: x\(1, 3", (z(1, 3, 4, 4), z(2, 2, 1, 1)), {}),
            (r"disagree on O: b\(3,\)", (z(1, 3, 4, 4), z(2, 3, 1, 1), z(3)), {}),
            ("must divide C = 3", (z(1, 3, 4, 4), z(2, 3, 1, 1)), {"groups": 2}),
            ("O = 3", (z(1, 2, 4, 4), z(3, 1, 1, 1)), {"groups": 2}),
            ("groups must be", (z(1, 3, 4, 4), z(2, 3, 1, 1)), {"groups": 0}),
            ("groups must be", (z(1, 3, 4, 4), z(2, 3, 1, 1)), {"groups": True}),
            ("does not fit", (z(1, 3, 4, 4), z(2, 3, 5, 1)), {}),
            ("stride must be", (z(1, 3, 4, 4), z(2, 3, 1, 1)), {"stride": 0}),
            ("dilation must be", (z(1, 3, 4, 4), z(2, 3, 1, 1)), {"dilation": 0}),
            ("padding must be", (z(1, 3, 4, 4), z(2, 3, 1, 1)), {"padding": (-1, 0)}),
        ),
    ),
    row(
        "linear",
        draws.linear,
        wrt=(0, 1, 2),
        wrong=(
            (r"disagree on I: x\(4, 3\), w\(8, 5\)", (z(4, 3), z(8, 5)), {}),
            (r"disagree on O: b\(3,\), w\(8, 3\)", (z(4, 3), z(8, 3), z(3)), {}),
            (r"x must be \(N, I\)", (z(4), z(8, 4)), {}),
            (r"w \(O, I\)", (z(4, 3), z(3)), {}),
        ),
    ),
    row(
        "softmax_cross_entropy",
        draws.softmax_cross_entropy,
        batch=(),
        wrong=(
            (r"labels must lie in \[0, 3\), got 3", (z(2, 3), np.array([0, 3])), {}),
            (r"labels must lie in \[0, 3\), got -1", (z(2, 3), np.array([-1, 0])), {}),
            ("disagree on N", (z(2, 3), np.array([0])), {}),
            ("labels must be integers", (z(2, 3), z(2)), {}),
            (r"logits must be \(N, K\)", (z(3), np.array([0, 1, 2])), {}),
            ("not empty", (z(0, 3), np.zeros(0, int)), {}),
            ("smoothing", (z(1, 3), np.array([0])), {"label_smoothing": 1.1}),
        ),
    ),
    row("batch_norm", draws.batch_norm, wrt=(0, 1, 2), batch=(), wrong=NORM),
    row(
        "batch_norm_inference",
        draws.batch_norm_inference,
        wrt=(0, 1, 2, 3, 4),
        wrong=(
            ("mean .* disagree on C", (z(2, 3), z(3), z(3), z(2), z(3)), {}),
            ("var .* disagree on C", (z(2, 3), z(3), z(3), z(3), z(2)), {}),
            ("must be positive.*channel 0", (z(2, 1), *[z(1)] * 4), {"eps": 0}),
            ("must be positive", (z(2, 1), *[z(1)] * 3, z(1) - 1), {}),
        ),
    ),
    row(
        "range_batch_norm",
        draws.range_batch_norm,
        wrt=(0, 1, 2),
        batch=(),
        wrong=(
            *NORM,
            ("equal parts of at least 2", (z(5, 3), z(3), z(3)), {"chunks": 2}),
            ("equal parts of at least 2", (z(4, 3), z(3), z(3)), {"chunks": 4}),
            ("at least 2", (z(0, 3), z(3), z(3)), {}),
            ("chunks must be", (z(4, 3), z(3), z(3)), {"chunks": 0}),
            ("chunks must be", (z(4, 3), z(3), z(3)), {"chunks": True}),
            ("'released'", (z(4, 3), z(3), z(3)), {"constant": "printed"}),
            ("constant must lie", (z(4, 3), z(3), z(3)), {"constant": -0.5}),
            ("is 0 in channel 0", (z(4, 3), z(3), z(3)), {"eps": 0}),
        ),
    ),
    row(
        "max_pool2d",
        draws.max_pool2d,
        wrong=(
            *POOL,
            ("dilation must be", (z(1, 1, 4, 4),), {"kernel": 2, "dilation": 0}),
            ("outside the plane", (z(1, 1, 4, 4),), {"kernel": 2, "padding": 2}),
        ),
    ),
    row(
        "avg_pool2d",
        draws.avg_pool2d,
        wrong=(
            *POOL,
            (
                "outside the plane",
                (z(1, 1, 4, 4),),
                {"kernel": 2, "padding": 2, "count_include_pad": False},
            ),
        ),
    ),
    row(
        "global_avg_pool2d",
        draws.global_avg_pool2d,
        wrong=(("x must be", (z(3, 4, 4),), {}), ("H, W >= 1", (z(2, 3, 0, 4),), {})),
    ),
    row(
        "lstm_cell",
        draws.lstm_cell,
        wrt=(0, 1, 2, 3, 4, 5),
        batch=(0, 1, 2),
        wrong=(
            ("h and c", (z(2, 3), z(2, 2), z(1, 2), z(8, 3), z(8, 2), z(8)), {}),
            ("h and c", (z(2, 3), z(2), z(2), z(8, 3), z(8, 2), z(8)), {}),
            ("disagree on N", (z(1, 3), z(2, 2), z(2, 2), z(8, 3), z(8, 2), z(8)), {}),
            ("disagree on I", (z(2, 4), z(2, 2), z(2, 2), z(8, 3), z(8, 2), z(8)), {}),
            ("disagree on D", (z(2, 3), z(2, 2), z(2, 2), z(6, 3), z(8, 2), z(8)), {}),
            ("disagree on D", (z(2, 3), z(2, 2), z(2, 2), z(8, 3), z(8, 3), z(8)), {}),
            ("disagree on O", (z(2, 3), z(2, 2), z(2, 2), z(8, 3), z(8, 2), z(2)), {}),
        ),
    ),
    row(
        "softmax",
        draws.softmax,
        batch=(),
        wrong=(
            ("axis = 2", (z(2, 3),), {"axis": 2}),
            ("axis = -3", (z(2, 3),), {"axis": -3}),
            ("with entries", (z(2, 0),), {}),
        ),
    ),
    row(
        "straight_through_round",
        draws.elementwise,
        straight_through=True,
        wrong=(("finite", (z(2) + np.nan,), {}), ("finite", (z(2) + np.inf,), {})),
    ),
    row(
        "straight_through_sign",
        draws.sign,
        straight_through=True,
        wrong=(("NaN", (z(2) + np.nan,), {}),),
    ),
    row(
        "straight_through_clip",
        draws.clip,
        straight_through=True,
        wrong=(("at most hi", (z(2), 1.0, -1.0), {}),),
    ),
]


# Twins


def twins(name, draw, bound=None, backward_bound=None):
    """The rows of a forward and of its backward."""
    op, back = getattr(ops, name), f"{name}_backward"
    return [
        Twin(name, op, getattr(fast.ops, name), forward_draw(draw), bound),
        Twin(
            back,
            getattr(ops, back),
            getattr(fast.ops, back),
            backward_draw(op, draw),
            backward_bound,
        ),
    ]


TWINS = [
    *twins("relu", draws.kinked),
    *twins("relu6", draws.kinked),
    *twins("conv2d", draws.conv2d, conv2d_bound, conv2d_grads_bound),
    Twin(
        "conv2d_input_grad",
        ops.conv2d_input_grad,
        fast.ops.conv2d_input_grad,
        input_grad_draw,
        input_grad_bound,
        empty=False,
    ),
    Twin(
        "conv2d_weight_grad",
        ops.conv2d_weight_grad,
        fast.ops.conv2d_weight_grad,
        weight_grad_draw,
        weight_grad_bound,
        empty=False,
    ),
    *twins("batch_norm", draws.batch_norm, norm_bound, norm_backward_bound),
    *twins(
        "batch_norm_inference",
        draws.batch_norm_inference,
        norm_bound,
        norm_backward_bound,
    ),
    *twins("max_pool2d", draws.max_pool2d, None, pool_bound),
    *twins("avg_pool2d", draws.avg_pool2d, pool_bound, pool_bound),
    *twins("global_avg_pool2d", draws.global_avg_pool2d, pool_bound, pool_bound),
]
