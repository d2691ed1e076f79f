r"""Dynamic fractional skipping (DFS): skip, quantize or keep each block of each input.

Shen, Fu, Wang, Xu, Wang, Lin. Fractional Skipping: Towards Finer-Grained Dynamic CNN
Inference. AAAI 2020, arXiv:2001.00705.

    paper                                       code                     where
    equation 1, F_i                             x                        mixture.py
    G, the LSTM gate, logits z                  RecurrentGate            gate.py
    C_i^(b_k), the block at b_k bits            FractionalBlock          block.py
    G_i = softmax(z_i); the network             RoutedResNet             network.py
    equation 2, CE + alpha E                    Joint                    objectives.py
    two-step training                           backbone, gate_start     two_steps.py
    cp, dynamic sign of alpha                   computation_percentage   cost.py
    "executed" layers                           execute                  inference.py
    the same as a file of integer steps         steps_of                 deployment.py

Read in the released code (Torment123/DFS) where the paper is silent or says otherwise:
a "layer" is a residual block; the mixture of equation 1 is only the gradient, the
forward pass takes one option; transitions that are skipped are batch norm of a 1x1
convolution; seven options (``RELEASED_OPTIONS``), a grid without a true zero, and
activations that are rounded stochastically even in evaluation. ``released_network``
makes that network; it runs in floating point only.

What the paper claims, and what came of it: claims 1 to 8, 10 to 12, 14 and 24 to 32 of
``papers/claims.csv``; ``refqnn study`` measures them again.

Errata of the paper. Tables 1 and 2 are different runs (93.53 % at cp 40.20 and 93.54 %
at cp 40.93 for one setting); the text says that cp strays by about 3 % at alpha 1e-4
and 1e-3, the table says 0.8 to 1.0 and 3.4 to 3.8; the margins called "4 %", "8 %" and
"6 %" are 4.35, 8.53 and 5.85. HAQ's percentage, which figure 7 draws on the same axis,
is linear in bits and about weights alone; this cp is quadratic. "The first block of
each group is never skipped": in group 1 it is forced. The rate of step 1 is 0.1 in the
paper and 0.01 in the release.
"""

from typing import Any

from refqnn.papers.dfs.block import FractionalBlock as FractionalBlock
from refqnn.papers.dfs.block import FractionalConv as FractionalConv
from refqnn.papers.dfs.cost import KEEP as KEEP
from refqnn.papers.dfs.cost import OPTIONS as OPTIONS
from refqnn.papers.dfs.cost import RELEASED_OPTIONS as RELEASED_OPTIONS
from refqnn.papers.dfs.cost import SKIP as SKIP
from refqnn.papers.dfs.cost import check_options as check_options
from refqnn.papers.dfs.cost import check_target as check_target
from refqnn.papers.dfs.cost import computation_percentage as computation_percentage
from refqnn.papers.dfs.cost import costs as costs
from refqnn.papers.dfs.cost import dynamic_sign as dynamic_sign
from refqnn.papers.dfs.cost import least_skip_share as least_skip_share
from refqnn.papers.dfs.cost import one_hot as one_hot
from refqnn.papers.dfs.cost import resource as resource
from refqnn.papers.dfs.gate import RecurrentGate as RecurrentGate
from refqnn.papers.dfs.gate import recurrent_gate as recurrent_gate
from refqnn.papers.dfs.inference import Ledger as Ledger
from refqnn.papers.dfs.inference import block_macs as block_macs
from refqnn.papers.dfs.inference import execute as execute
from refqnn.papers.dfs.inference import gate_share as gate_share
from refqnn.papers.dfs.mixture import gate_mask as gate_mask
from refqnn.papers.dfs.network import RoutedResNet as RoutedResNet
from refqnn.papers.dfs.network import always as always
from refqnn.papers.dfs.network import routed_resnet as routed_resnet
from refqnn.papers.dfs.objectives import Forced as Forced
from refqnn.papers.dfs.objectives import GateStart as GateStart
from refqnn.papers.dfs.objectives import Joint as Joint
from refqnn.papers.dfs.objectives import check_price as check_price
from refqnn.papers.dfs.two_steps import PAPER as PAPER
from refqnn.papers.dfs.two_steps import RELEASE as RELEASE
from refqnn.papers.dfs.two_steps import SMALL as SMALL
from refqnn.papers.dfs.two_steps import Settings as Settings
from refqnn.papers.dfs.two_steps import backbone as backbone
from refqnn.papers.dfs.two_steps import evaluate as evaluate
from refqnn.papers.dfs.two_steps import gate_start as gate_start
from refqnn.papers.dfs.two_steps import joint as joint
from refqnn.papers.dfs.two_steps import train as train


def released_network(depth: int, **options: Any) -> RoutedResNet:
    """Make the network as released: seven options, no true zero, noisy activations.

    >>> import numpy as np
    >>> released_network(8, width=0.25, rng=np.random.default_rng(0)).options
    (0, 8, 10, 12, 14, 16, 32)
    """
    choices: dict[str, Any] = {
        "options": RELEASED_OPTIONS,
        "true_zero": False,
        "stochastic": True,
    }
    return routed_resnet(depth, **(choices | options))
