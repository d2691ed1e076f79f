"""Axes of training: cells, norms, losses, steps, gates, noise, published quantizers."""

import re
from itertools import permutations

from refqnn.conformance.choices.axes.axis import Axis, Value, entries, read_table

ORDERS = {
    " ".join(order): Value(
        f"rows are cut into {', '.join(order)}",
        {"ifgo": "PyTorch, Keras", "iofg": "ONNX (i o f c)", "ifog": "Core ML"}.get(
            "".join(order), "-"
        ),
    )
    for order in permutations("ifgo")
}
TRAINING = {
    "gate_order": Axis("in which order are the four gates?", ORDERS),
} | read_table("""
lstm_bias: which biases are added?
    sum | b_x + b_h | PyTorch, ONNX, cuDNN
    input_only | b_x | Keras: one bias
    recurrent_only | b_h | a bias loaded from the wrong half
forget_bias: is something added to the forget gate?
    0 | sigmoid(f) | PyTorch, ONNX
    1 | sigmoid(f + 1) | TensorFlow BasicLSTMCell
running_variance: which variance is remembered?
    unbiased | sum (x - mean)^2 / (M - 1) | PyTorch
    biased | sum (x - mean)^2 / M | Keras, ONNX since opset 15
running_momentum: what does the momentum multiply?
    new | (1 - m) old + m new | PyTorch
    old | m old + (1 - m) new | Keras, ONNX, Caffe
batch_variance: which variance normalizes the batch?
    biased | sum (x - mean)^2 / M | everyone, by specification
    unbiased | sum (x - mean)^2 / (M - 1) | var(ddof=1)
epsilon: where is epsilon added?
    inside | sqrt(var + eps) | everyone, by specification
    outside | sqrt(var) + eps | Adam's habit
reduction: how are the losses of a batch put together?
    mean | sum / N | PyTorch and Keras by default
    sum | sum | Caffe2, hand-written loops
smoothing: where does the smoothed mass go?
    all_classes | (1 - a) 1{k = y} + a / K | arXiv:1512.00567
    other_classes | (1 - a) at y, a / (K - 1) elsewhere | fairseq, hand-written losses
logarithm: in which base is the loss?
    natural | ln | everyone, by specification
    base_2 | log2 | information theory
fold_statistics: by which statistics is a normalization folded into weights?
    running | sigma' = sigma_r;  y = conv(x, wq) + beta - gamma mean_r / sigma_r |
        refqnn.deploy; PyTorch and TensorFlow once statistics are frozen
    batch | sigma' = sigma;  y = conv(x, wq) + beta - gamma mean / sigma |
        arXiv:1712.05877, section 3.2
    corrected | sigma' = sigma_r;  y = conv(x, wq) sigma_r / sigma + beta - gamma mean /
        sigma | arXiv:1806.08342, section 3.2.2
    mixed | sigma' = sigma_r;  y = conv(x, wq) + beta - gamma mean / sigma |
        the correction left out
    of_quantized | c' = conv(x, wq) sigma_r / gamma, normalized by its own statistics |
        PyTorch ConvBn2d
zero_gamma: what is a channel whose gamma is 0?
    beta | y = beta | everyone, by specification
    nan | 0 / 0 | PyTorch ConvBn2d, which divides by gamma / sigma_r
decay_order: where does weight decay enter?
    gradient | g = grad + decay * value | PyTorch SGD
    after_momentum | direction = v + decay * value | decay outside the velocity
    decoupled | value (1 - lr decay) - lr v | SGDW, arXiv:1711.05101
decayed: which parameters decay?
    all | weights and biases | PyTorch SGD without groups
    weights | weights | parameter groups, as most recipes want
updated: which weights does the step start from?
    latent | w is updated, quantized anew in each pass | BinaryConnect and since
    quantized | wq is updated: what was below one step is lost |
        training loops that write the quantized weights back
velocity: does the velocity hold the learning rate?
    without_lr | v = m v + g, value - lr v | PyTorch, TensorFlow
    with_lr | v = m v + lr g, value - v | Caffe, Keras, Sutskever
dampening: is the first step dampened?
    not_first | v = g at first | refqnn
    with_momentum | v = g at first, and wherever the momentum is 0 | PyTorch
    always | v = (1 - dampening) g at first | velocity from zero
nesterov: what is Nesterov's direction?
    gradient_plus_velocity | g + m v | PyTorch, TensorFlow
    velocity | v | heavy ball: the flag is ignored
    twice | m (m v + g) + g | an update applied twice
adam_decay: where does the weight decay of Adam enter?
    gradient | g = grad + decay value | PyTorch Adam
    decoupled | value - lr decay value - lr step | AdamW, arXiv:1711.05101
adam_epsilon: where is the epsilon of Adam added?
    to_root | sqrt(v_hat) + eps | arXiv:1412.6980, PyTorch
    under_root | sqrt(v_hat + eps) | hand-written optimisers
    uncorrected | lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps) |
        TensorFlow and Keras: the paper's epsilon hat
bias_correction: are the moments of Adam corrected for their start at 0?
    both | m / (1 - beta1^t), v / (1 - beta2^t) | arXiv:1412.6980
    none | m, v | BERT's optimiser
    first | m / (1 - beta1^t), v | a line forgotten
binary_scale: is a binary weight scaled?
    filter | mean|w_o| sgn(w) | XNOR-Net, BWN
    none | sgn(w) | BinaryConnect, BinaryNet, larq
binary_mask: which latent weights get a gradient?
    all | dw = dwq | BWN, section 3.1
    within_1 | dw = dwq where |w| <= 1 | BinaryNet, larq ste_sign
latent_clip: are latent weights clipped after a step?
    never | w as stepped | BWN
    to_1 | clip(w, -1, 1) | BinaryConnect, larq weight_clip
ternary_scale: is a ternary weight scaled?
    mean_of_kept | mean of the |w| above the threshold | TWN, arXiv:1605.04711
    none | 1 | larq SteTern
offset_gradient: what is the gradient of a learned offset?
    clipped | sum of dy where x is clipped | LSQ+, the derivative
    everywhere | sum dy | an offset that is only added back
    negated | -sum of dy where x is clipped | a sign lost
    none | 0 | an offset that is not learned
    1/sqrt(N*q_p) | sum of dy where x is clipped / sqrt(N q_max) |
        LSQ+ code that scales it as the step
noise_use: is there noise before the rounding?
    added | as given | DoReFa-Net; Banner et al.
    ignored | none: biased | rounding to the nearest
gradient_maximum: over what runs the maximum of DoReFa-Net's gradient quantizer?
    sample | max over one sample | arXiv:1606.06160, section 2.5
    tensor | max over the batch | one reduction for all
gradient_limits: over what run minimum and maximum of a quantized gradient?
    tensor | min and max over the batch | Banner et al.
    sample | min and max over one sample | quantizers by example
threshold: does a probability of one half open the gate?
    at_least | run where p >= 0.5 | refqnn, SkipNet
    above | run where p > 0.5 | torch.round, ties to even
gate_gradient: what is the gradient of the decision?
    through_sigmoid | dlogit = dm p (1 - p) | soft surrogate
    straight_through | dlogit = dm | identity surrogate
    none | dlogit = 0 | a decision that was detached
skipped_state: what becomes of a recurrent state when its block is skipped?
    kept | h' = h | states of skipped steps carry over
    updated | h' = h_new | gates that see every block
    zeroed | h' = 0 | h' = m h_new
skipped_branch: is a skipped block computed?
    not_run | y = x | executed work is saved
    times_zero | y = x + 0 f(x), NaN where f(x) is infinite |
        ucbdrive/skipnet#11; multiplication by a mask
backward: is the backward pass the published one?
    published | as derived in the file | refqnn
    identity | dx = dy | straight through everything
    none | dx = 0 | autograd through a rounding
    hard_tanh | dx = dy where |x| <= 1 | BinaryNet, hard tanh
""")

#: options of the files of published quantizers; the first answer is the default
OPTIONS = """
ternary_variant: which threshold? resolved printed twn
filter_group: which weights share a scale? filter layer
narrow_range: is the lowest code left out? False True
true_zero: is real 0 a level? True False
pact_scope: through what does alpha's gradient pass? whole rounding
sawb_grid: is 0 a level? mid_rise mid_tread
sawb_gradient: does the gradient of clipped weights pass? sawb sawb+
max_grad: has the maximum a gradient? True False
balanced_split: cut at medians or at means? median mean
balanced_scale: what is the largest level? max 2E
clip_grad: is the gradient of clipped values 0? False True
ste_slope: what is the slope through the clip? 1 2
centroid_reduction: is the gradient of a centroid a sum or a mean over its cluster?
        sum mean
"""
QUANTIZER = {
    name: Axis(
        f"{question}?",
        {v: Value(f"{name} = {v}", "the paper's file") for v in answers.split()},
    )
    for name, question, answers in map(re.compile(r": |\?").split, entries(OPTIONS))
} | read_table("""
xnor_gradient: which gradient of the scale?
    exact | s mean(dy b) + alpha dy 1{|w| < 1} | the chain rule
    paper | (1 / n + alpha 1{|w| < 1}) dy | arXiv:1603.05279, 3.1
    released | paper's (1 - 1 / C) n | XNOR-Net under SGD
    exact_released | exact's (1 - 1 / C) n | XNOR-Net-PyTorch, its sum corrected
    exact_released_adam | exact's (1 - 1 / C) n 10^9 | XNOR-Net-PyTorch under Adam
ties: which level gets a value midway between two, or on a threshold?
    published | as in the file | refqnn
    up | the upper level | >= where the file has >
    down | the lower level | > where the file has >=
    away | the level farther from 0 | |x| >= threshold
    to_zero | the level nearer to 0 | |x| > threshold
sign_of_zero: what is the sign of 0?
    +1 | sgn(0) = +1 | refqnn, larq
    -1 | sgn(0) = -1 | x > 0 ? 1 : -1
    0 | sgn(0) = 0 | torch.sign, numpy.sign; larq/larq#32
mask_ends: does the gradient of x pass at an end of the clip?
    published | as in the file | refqnn
    closed | at both ends | torch.clamp, lo <= x <= hi
    open | at neither end | lo < x < hi
    half_open | at the lower end | lo <= x < hi
    half_open_below | at the upper end | lo < x <= hi
parameter_mask: to a parameter, is a value at an end of the clip inside?
    published | as in the file | refqnn
    closed | inside | x > alpha where the file has x >= alpha
parameter_gradient: what becomes of the terms dy k of a parameter's gradient?
    sum | sum dy k | refqnn, automatic differentiation
    mean | sum dy k / N, N all values | gradients averaged once more
    mean_of_kept | sum dy k / the number of values with k other than 0 | dy[mask].mean()
    negated | -sum dy k | a sign lost
    none | 0 | a parameter that was detached
    1/sqrt(N*q_p) | sum dy k / sqrt(N q_p) | LSQ for weights, 2.2
    1/sqrt(F*q_p) | sum dy k / sqrt(F q_p), F the values of one example |
        LSQ for activations; zhutmost/lsq-net#23
    1/sqrt(N) | sum dy k / sqrt(N) | LSQ without the levels
negative_level: which sign has the gradient of the negative level?
    minus_sum | dW_n = -sum dy where w < -Delta | the derivative
    sum | dW_n = sum dy where w < -Delta | equation (7) as printed
""")
