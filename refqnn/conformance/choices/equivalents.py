"""Mutants that are the reference itself, and why.

Each reason is a sentence about the operation; that the mutants it names equal the
reference is tested on calls other than those on which they were not seen.
"""

from fnmatch import fnmatchcase

from refqnn.conformance.choices.axes.axis import entries

#: arguments that are positive or 0 by contract
POSITIVE = (
    "scale multiplier q_max running_var eps momentum weight_decay dampening lrs labels "
    "label_smoothing bits a s alpha groups stride kernel dilation padding x_scale "
    "y_scale wp wn delta step beta1 beta2"
)
#: families | mutants; ... | why they are the reference; patterns of shells
TABLE = """
qil_* lq | c: absolute; d: absolute; gamma: absolute; v: absolute |
        positive by contract
balanced binary fixed_point haq_linear kmeans_weight lq min_max optimal_ternary
        ternary twn weq_weight | dx dy where * | dx is dy
fake_quantize learned_min_max affine lsq pact sawb syq ttq dorefa_activation
        xnor_activation | dx dy where x = 0 |
        0 lies inside the clip, where dx is dy
pact dorefa_activation qil_activation tsq_activation weq_activation |
        dx 0 where x < -1; dx 0 where x < 0; y absolute |
        values below 0 become 0, and their gradient is 0
dorefa_activation xnor_activation | dx 0 where x > 1; dx 0 where x < -1 |
        beyond the clip the gradient is 0
qil_* tsq_activation weq_activation | dx 0 where x = 0 |
        0 lies outside the interval, where the gradient is 0
weq_activation | dx dy where x > 0; dx dy where x > 1 | above 0 the gradient is dy
lstm_cell | b_x and b_h exchanged | their sum is used
folded_conv2d | running_var and eps exchanged | their sum is used
mul | x_scale and y_scale exchanged | their product is used
sigmoid softmax | q_min: -128; q_min: one less |
        what is positive is never below its zero-point
sigmoid tanh hard_swish leaky_relu softmax mean_pool2d concat | y * at 15 bits |
        codes have at most 8 bits
conv2d linear conv_transpose2d | w_zero_point: read as * |
        zero-points fit the type of the weights, or are refused
ttq syq | x: halved | the threshold moves with x, levels do not
affine *min_max | hi: absolute | 0 lies within the range
matmul | y_zero_point: read as * | zero-points fit the type of y, or are refused
conv2d | groups: 1 | weights of other channels are refused
conv_transpose2d | groups: 1 | biases of other outputs are refused
conv_transpose2d | output_padding: read as * | rows that are added are few
softmax_cross_entropy *_step |
        label_smoothing: negated; momentum: negated | negative values are refused
softmax_cross_entropy *_step batch_norm |
        loss absolute; running_var absolute | never negative
"""
EQUIVALENT = (
    (("*",), [f"{n}: absolute" for n in POSITIVE.split()], "positive or 0 by contract"),
    *(
        (families.split(), mutants.split("; "), reason)
        for families, mutants, reason in (e.split(" | ") for e in entries(TABLE))
    ),
)


def why_equivalent(family: str, mutant: str) -> str:
    """Return why a mutant is the reference itself; "" if nothing says so.

    >>> why_equivalent("lstm_cell", "b_x and b_h exchanged")
    'their sum is used'
    """
    for families, names, reason in EQUIVALENT:
        if any(fnmatchcase(family, f) for f in families) and any(
            fnmatchcase(mutant, n) for n in names
        ):
            return reason
    return ""
