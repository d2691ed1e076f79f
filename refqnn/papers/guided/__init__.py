r"""Two-stage, progressive and guided training of networks of few bits.

Zhuang, Shen, Tan, Liu, Reid. Towards Effective Low-bitwidth Convolutional Neural
Networks. CVPR 2018, arXiv:1711.00205. The quantizer is that of DoReFa-Net
(arXiv:1606.06160): weights through tanh, activations in [0, 1].

    paper                                    code            where
    two-stage: weights, then activations     bits            two_stage_bits, two_stage
    progressive: 32, 16, 8, 4, 2 bits        bits            progression, progressive
    guided: networks full and low            full, low       Guided, guided
    phi, the k-bit activation quantizer      phi             dorefa_activation
    R = 1/2 sum_l ||phi(a_full) - a_low||^2  Rh              guidance (one l)
    L_low = CE_low + lambda R    -> low      loss, lam       guided_objective
    L_full = CE_full + lambda R  -> full     loss, lam       guided_objective

Not confirmed from the paper's text, and so choices here: lambda, the layers that guide,
the norm, the sequence of bits. With D = phi(a_full) - a_low the gradients are those of
the one number CE_low + CE_full + lam Rh: no parameter is in both networks, so each gets
the gradient of its own loss, with Rh once.

Choices. The sum over a layer is divided by the number of images, as the cross-entropy
is (``mean_over="elements"``: by that of all elements; None: not at all). A lam means
nothing without that choice: per image, thousands of elements add up. The layers that
guide are the outputs of the stages of a ResNet, behind ReLU and quantizer. Both
networks begin with the same values, are trained with one schedule, and see the same
batches. Progressive training in two stages quantizes the weights at the new bits while
the activations keep the bits of the step before, so that neither ever rises. lam has
no default.

Pitfalls of a public port (nowgood/QuantizeCNNModel, quantize/quantize_guided.py): the
backward of the full network is commented out and the optimiser named after it holds the
low network's parameters, so that the low one is stepped twice and the full one never;
features are quantized to 8 bits between minimum and maximum; activations are mapped
to [-1, 1] behind a ReLU, and zero is lost.
"""

from refqnn.papers.guided.falling_bits import check_falling as check_falling
from refqnn.papers.guided.falling_bits import progression as progression
from refqnn.papers.guided.falling_bits import progressive as progressive
from refqnn.papers.guided.falling_bits import stages as stages
from refqnn.papers.guided.falling_bits import two_stage as two_stage
from refqnn.papers.guided.falling_bits import two_stage_bits as two_stage_bits
from refqnn.papers.guided.two_networks import Guided as Guided
from refqnn.papers.guided.two_networks import guidance as guidance
from refqnn.papers.guided.two_networks import guidance_backward as guidance_backward
from refqnn.papers.guided.two_networks import guided_objective as guided_objective
from refqnn.papers.guided.two_networks import guided_pair as guided_pair
