"""Numba twins of ``refqnn.quantizers``; a name without a twin is the definition."""

from refqnn.quantizers import *  # noqa: F403, I001 - every name, before the twins
from refqnn.fast.quantizers.affine_grid import affine as affine
from refqnn.fast.quantizers.affine_grid import affine_backward as affine_backward
from refqnn.fast.quantizers.affine_grid import batch_range as batch_range
from refqnn.fast.quantizers.binary_weights import binary as binary
from refqnn.fast.quantizers.fixed_point_weights import fixed_point as fixed_point
from refqnn.fast.quantizers.fixed_point_weights import (
    fixed_point_backward as fixed_point_backward,
)
from refqnn.fast.quantizers.learned_step_size import lsq as lsq
from refqnn.fast.quantizers.learned_step_size import lsq_backward as lsq_backward
from refqnn.fast.quantizers.ternary_weights import ternary as ternary
