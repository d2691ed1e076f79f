"""Axes of training: cells, norms, losses, steps, gates, noise."""

from itertools import permutations

from refqnn.conformance.choices.axes.axis import Axis, Value

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
    "lstm_bias": Axis(
        "which biases are added?",
        {
            "sum": Value("b_x + b_h", "PyTorch, ONNX, cuDNN"),
            "input_only": Value("b_x", "Keras: one bias"),
            "recurrent_only": Value("b_h", "a bias loaded from the wrong half"),
        },
    ),
    "forget_bias": Axis(
        "is something added to the forget gate?",
        {
            "0": Value("sigmoid(f)", "PyTorch, ONNX"),
            "1": Value("sigmoid(f + 1)", "TensorFlow BasicLSTMCell"),
        },
    ),
    "running_variance": Axis(
        "which variance is remembered?",
        {
            "unbiased": Value("sum (x - mean)^2 / (M - 1)", "PyTorch"),
            "biased": Value("sum (x - mean)^2 / M", "Keras, ONNX since opset 15"),
        },
    ),
    "running_momentum": Axis(
        "what does the momentum multiply?",
        {
            "new": Value("(1 - m) old + m new", "PyTorch"),
            "old": Value("m old + (1 - m) new", "Keras, ONNX, Caffe"),
        },
    ),
    "batch_variance": Axis(
        "which variance normalizes the batch?",
        {
            "biased": Value("sum (x - mean)^2 / M", "everyone, by specification"),
            "unbiased": Value("sum (x - mean)^2 / (M - 1)", "var(ddof=1)"),
        },
    ),
    "epsilon": Axis(
        "where is epsilon added?",
        {
            "inside": Value("sqrt(var + eps)", "everyone, by specification"),
            "outside": Value("sqrt(var) + eps", "Adam's habit"),
        },
    ),
    "reduction": Axis(
        "how are the losses of a batch put together?",
        {
            "mean": Value("sum / N", "PyTorch and Keras by default"),
            "sum": Value("sum", "Caffe2, hand-written loops"),
        },
    ),
    "smoothing": Axis(
        "where does the smoothed mass go?",
        {
            "all_classes": Value("(1 - a) 1{k = y} + a / K", "arXiv:1512.00567"),
            "other_classes": Value(
                "(1 - a) at y, a / (K - 1) elsewhere", "fairseq, hand-written losses"
            ),
        },
    ),
    "logarithm": Axis(
        "in which base is the loss?",
        {
            "natural": Value("ln", "everyone, by specification"),
            "base_2": Value("log2", "information theory"),
        },
    ),
    "decay_order": Axis(
        "where does weight decay enter?",
        {
            "gradient": Value("g = grad + decay * value", "PyTorch SGD"),
            "after_momentum": Value(
                "direction = v + decay * value", "decay outside the velocity"
            ),
            "decoupled": Value("value (1 - lr decay) - lr v", "SGDW, arXiv:1711.05101"),
        },
    ),
    "decayed": Axis(
        "which parameters decay?",
        {
            "all": Value("weights and biases", "PyTorch SGD without groups"),
            "weights": Value("weights", "parameter groups, as most recipes want"),
        },
    ),
    "updated": Axis(
        "which weights does the step start from?",
        {
            "latent": Value(
                "w is updated, quantized anew in each pass", "BinaryConnect and since"
            ),
            "quantized": Value(
                "wq is updated: what was below one step is lost",
                "training loops that write the quantized weights back",
            ),
        },
    ),
    "velocity": Axis(
        "does the velocity hold the learning rate?",
        {
            "without_lr": Value("v = m v + g, value - lr v", "PyTorch, TensorFlow"),
            "with_lr": Value("v = m v + lr g, value - v", "Caffe, Keras, Sutskever"),
        },
    ),
    "dampening": Axis(
        "is the first step dampened?",
        {
            "not_first": Value("v = g at first", "refqnn"),
            "with_momentum": Value(
                "v = g at first, and wherever the momentum is 0", "PyTorch"
            ),
            "always": Value("v = (1 - dampening) g at first", "velocity from zero"),
        },
    ),
    "nesterov": Axis(
        "what is Nesterov's direction?",
        {
            "gradient_plus_velocity": Value("g + m v", "PyTorch, TensorFlow"),
            "velocity": Value("v", "heavy ball: the flag is ignored"),
            "twice": Value("m (m v + g) + g", "an update applied twice"),
        },
    ),
    "adam_decay": Axis(
        "where does the weight decay of Adam enter?",
        {
            "gradient": Value("g = grad + decay value", "PyTorch Adam"),
            "decoupled": Value(
                "value - lr decay value - lr step", "AdamW, arXiv:1711.05101"
            ),
        },
    ),
    "adam_epsilon": Axis(
        "where is the epsilon of Adam added?",
        {
            "to_root": Value("sqrt(v_hat) + eps", "arXiv:1412.6980, PyTorch"),
            "under_root": Value("sqrt(v_hat + eps)", "hand-written optimisers"),
            "uncorrected": Value(
                "lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps)",
                "TensorFlow and Keras: the paper's epsilon hat",
            ),
        },
    ),
    "bias_correction": Axis(
        "are the moments of Adam corrected for their start at 0?",
        {
            "both": Value("m / (1 - beta1^t), v / (1 - beta2^t)", "arXiv:1412.6980"),
            "none": Value("m, v", "BERT's optimiser"),
            "first": Value("m / (1 - beta1^t), v", "a line forgotten"),
        },
    ),
    "binary_scale": Axis(
        "is a binary weight scaled?",
        {
            "filter": Value("mean|w_o| sgn(w)", "XNOR-Net, BWN"),
            "none": Value("sgn(w)", "BinaryConnect, BinaryNet, larq"),
        },
    ),
    "binary_mask": Axis(
        "which latent weights get a gradient?",
        {
            "all": Value("dw = dwq", "BWN, section 3.1"),
            "within_1": Value("dw = dwq where |w| <= 1", "BinaryNet, larq ste_sign"),
        },
    ),
    "latent_clip": Axis(
        "are latent weights clipped after a step?",
        {
            "never": Value("w as stepped", "BWN"),
            "to_1": Value("clip(w, -1, 1)", "BinaryConnect, larq weight_clip"),
        },
    ),
    "offset_gradient": Axis(
        "what is the gradient of a learned offset?",
        {
            "clipped": Value("sum of dy where x is clipped", "LSQ+, the derivative"),
            "everywhere": Value("sum dy", "an offset that is only added back"),
            "negated": Value("-sum of dy where x is clipped", "a sign lost"),
            "none": Value("0", "an offset that is not learned"),
            "1/sqrt(N*q_p)": Value(
                "sum of dy where x is clipped / sqrt(N q_max)",
                "LSQ+ code that scales it as the step",
            ),
        },
    ),
    "noise_use": Axis(
        "is there noise before the rounding?",
        {
            "added": Value("as given", "DoReFa-Net; Banner et al."),
            "ignored": Value("none: biased", "rounding to the nearest"),
        },
    ),
    "gradient_maximum": Axis(
        "over what runs the maximum of DoReFa-Net's gradient quantizer?",
        {
            "sample": Value("max over one sample", "arXiv:1606.06160, section 2.5"),
            "tensor": Value("max over the batch", "one reduction for all"),
        },
    ),
    "gradient_limits": Axis(
        "over what run minimum and maximum of a quantized gradient?",
        {
            "tensor": Value("min and max over the batch", "Banner et al."),
            "sample": Value("min and max over one sample", "quantizers by example"),
        },
    ),
    "threshold": Axis(
        "does a probability of one half open the gate?",
        {
            "at_least": Value("run where p >= 0.5", "refqnn, SkipNet"),
            "above": Value("run where p > 0.5", "torch.round, ties to even"),
        },
    ),
    "gate_gradient": Axis(
        "what is the gradient of the decision?",
        {
            "through_sigmoid": Value("dlogit = dm p (1 - p)", "soft surrogate"),
            "straight_through": Value("dlogit = dm", "identity surrogate"),
            "none": Value("dlogit = 0", "a decision that was detached"),
        },
    ),
    "skipped_state": Axis(
        "what becomes of a recurrent state when its block is skipped?",
        {
            "kept": Value("h' = h", "states of skipped steps carry over"),
            "updated": Value("h' = h_new", "gates that see every block"),
            "zeroed": Value("h' = 0", "h' = m h_new"),
        },
    ),
    "skipped_branch": Axis(
        "is a skipped block computed?",
        {
            "not_run": Value("y = x", "executed work is saved"),
            "times_zero": Value(
                "y = x + 0 f(x), NaN where f(x) is infinite",
                "ucbdrive/skipnet#11; multiplication by a mask",
            ),
        },
    ),
    "backward": Axis(
        "is the backward pass the published one?",
        {
            "published": Value("as derived in the file", "refqnn"),
            "identity": Value("dx = dy", "straight through everything"),
            "none": Value("dx = 0", "autograd through a rounding"),
            "hard_tanh": Value("dx = dy where |x| <= 1", "BinaryNet, hard tanh"),
        },
    ),
}
