"""Axes of published quantizers: options of their files, ties, masks, sums."""

from refqnn.conformance.choices.axes.axis import Axis, Value

OPTIONS = {
    "ternary_variant": ("which threshold?", ("resolved", "printed", "twn")),
    "filter_group": ("which weights share a scale?", ("filter", "layer")),
    "narrow_range": ("is the lowest code left out?", ("False", "True")),
    "true_zero": ("is real 0 a level?", ("True", "False")),
    "pact_scope": ("through what does alpha's gradient pass?", ("whole", "rounding")),
    "sawb_grid": ("is 0 a level?", ("mid_rise", "mid_tread")),
    "sawb_gradient": ("does the gradient of clipped weights pass?", ("sawb", "sawb+")),
    "max_grad": ("has the maximum a gradient?", ("True", "False")),
    "balanced_split": ("cut at medians or at means?", ("median", "mean")),
    "balanced_scale": ("what is the largest level?", ("max", "2E")),
    "clip_grad": ("is the gradient of clipped values 0?", ("False", "True")),
    "ste_slope": ("what is the slope through the clip?", ("1", "2")),
    "centroid_reduction": (
        "is the gradient of a centroid a sum or a mean over its cluster?",
        ("sum", "mean"),
    ),
}
MEAN = "sum dy k / the number of values with k other than 0"

QUANTIZER = {
    name: Axis(question, {v: Value(f"{name} = {v}", "the paper's file") for v in given})
    for name, (question, given) in OPTIONS.items()
} | {
    "xnor_gradient": Axis(
        "which gradient of the scale?",
        {
            "exact": Value("s mean(dy b) + alpha dy 1{|w| < 1}", "the chain rule"),
            "paper": Value("(1 / n + alpha 1{|w| < 1}) dy", "arXiv:1603.05279, 3.1"),
            "released": Value("paper's (1 - 1 / C) n", "XNOR-Net under SGD"),
            "exact_released": Value(
                "exact's (1 - 1 / C) n", "XNOR-Net-PyTorch, its sum corrected"
            ),
            "exact_released_adam": Value(
                "exact's (1 - 1 / C) n 10^9", "XNOR-Net-PyTorch under Adam"
            ),
        },
    ),
    "ties": Axis(
        "which level gets a value midway between two, or on a threshold?",
        {
            "published": Value("as in the file", "refqnn"),
            "up": Value("the upper level", ">= where the file has >"),
            "down": Value("the lower level", "> where the file has >="),
            "away": Value("the level farther from 0", "|x| >= threshold"),
            "to_zero": Value("the level nearer to 0", "|x| > threshold"),
        },
    ),
    "sign_of_zero": Axis(
        "what is the sign of 0?",
        {
            "+1": Value("sgn(0) = +1", "refqnn, larq"),
            "-1": Value("sgn(0) = -1", "x > 0 ? 1 : -1"),
            "0": Value("sgn(0) = 0", "torch.sign, numpy.sign; larq/larq#32"),
        },
    ),
    "mask_ends": Axis(
        "does the gradient of x pass at an end of the clip?",
        {
            "published": Value("as in the file", "refqnn"),
            "closed": Value("at both ends", "torch.clamp, lo <= x <= hi"),
            "open": Value("at neither end", "lo < x < hi"),
            "half_open": Value("at the lower end", "lo <= x < hi"),
            "half_open_below": Value("at the upper end", "lo < x <= hi"),
        },
    ),
    "parameter_mask": Axis(
        "to a parameter, is a value at an end of the clip inside?",
        {
            "published": Value("as in the file", "refqnn"),
            "closed": Value("inside", "x > alpha where the file has x >= alpha"),
        },
    ),
    "parameter_gradient": Axis(
        "what becomes of the terms dy k of a parameter's gradient?",
        {
            "sum": Value("sum dy k", "refqnn, automatic differentiation"),
            "mean": Value("sum dy k / N, N all values", "gradients averaged once more"),
            "mean_of_kept": Value(MEAN, "dy[mask].mean()"),
            "negated": Value("-sum dy k", "a sign lost"),
            "none": Value("0", "a parameter that was detached"),
            "1/sqrt(N*q_p)": Value("sum dy k / sqrt(N q_p)", "LSQ for weights, 2.2"),
            "1/sqrt(F*q_p)": Value(
                "sum dy k / sqrt(F q_p), F the values of one example",
                "LSQ for activations; zhutmost/lsq-net#23",
            ),
            "1/sqrt(N)": Value("sum dy k / sqrt(N)", "LSQ without the levels"),
        },
    ),
    "negative_level": Axis(
        "which sign has the gradient of the negative level?",
        {
            "minus_sum": Value("dW_n = -sum dy where w < -Delta", "the derivative"),
            "sum": Value("dW_n = sum dy where w < -Delta", "equation (7) as printed"),
        },
    ),
}
