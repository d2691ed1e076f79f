"""Axes of published quantizers: options that their papers leave open."""

from refqnn.conformance.choices.axes.axis import Axis, Value

OPTIONS = {
    "ternary_variant": ("which threshold?", ("resolved", "printed", "twn")),
    "filter_group": ("which weights share a scale?", ("filter", "layer")),
    "narrow_range": ("is the lowest code left out?", ("False", "True")),
    "true_zero": ("is real 0 a level?", ("True", "False")),
    "pact_scope": ("through what does alpha's gradient pass?", ("whole", "rounding")),
    "sawb_grid": ("is 0 a level?", ("mid_rise", "mid_tread")),
    "max_grad": ("has the maximum a gradient?", ("True", "False")),
    "balanced_split": ("cut at medians or at means?", ("median", "mean")),
    "xnor_gradient": ("which gradient of the scale?", ("exact", "paper", "released")),
    "clip_grad": ("is the gradient of clipped values 0?", ("False", "True")),
}
QUANTIZER = {
    name: Axis(question, {v: Value(f"{name} = {v}", "the paper's file") for v in given})
    for name, (question, given) in OPTIONS.items()
}
