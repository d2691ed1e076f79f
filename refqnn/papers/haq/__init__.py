"""HAQ: a reinforcement learner chooses the bits of every layer's weights.

Wang, Liu, Lin, Lin, Han. HAQ: Hardware-Aware Automated Quantization with Mixed
Precision. CVPR 2019, arXiv:1811.08886. Read in this order:

    paper                                          file
    states, actions, the budget, the reward        environment.py
    k-means and fine-tuning: what a policy earns   finetune.py
    the actor, the critic and their gradients      actor_critic.py
    deep deterministic policy gradients            ddpg.py
    episodes; random and greedy search beside it   search.py
    policies evaluated, and what resumes a search  record.py
    bits that DFS printed of HAQ on ResNet-38      printed.py
    HAQ on the backbone of DFS, and its cp         backbone.py

Only the case of model size is built: bits of weights, a share of 32 bits as budget (the
released default, and what DFS compares itself with). Then a ratio is **linear in bits
and counts weights alone**. The "computation percentage" (cp) of DFS is quadratic, bits
of weights times bits of activations: 8 bits everywhere are 25 % for HAQ and 6.25 % for
DFS, whose figure 7 draws both on one axis. What such an axis can mean is in
backbone.py. The quantizers are in ``quantizers/haq.py``.

Not confirmed from the paper's text: the order of the ten numbers of a state, b_min = 2,
lambda = 0.1. Released code (mit-han-lab/haq) agrees but for the order.
"""

from refqnn.papers.haq.backbone import routed_cp as routed_cp
from refqnn.papers.haq.backbone import routed_table as routed_table
from refqnn.papers.haq.ddpg import Agent as Agent
from refqnn.papers.haq.ddpg import Settings as Settings
from refqnn.papers.haq.ddpg import new_agent as new_agent
from refqnn.papers.haq.ddpg import truncated_normal as truncated_normal
from refqnn.papers.haq.environment import Layer as Layer
from refqnn.papers.haq.environment import Problem as Problem
from refqnn.papers.haq.environment import bits_of as bits_of
from refqnn.papers.haq.environment import layer_table as layer_table
from refqnn.papers.haq.environment import project as project
from refqnn.papers.haq.environment import size_ratio as size_ratio
from refqnn.papers.haq.environment import states as states
from refqnn.papers.haq.finetune import Evaluate as Evaluate
from refqnn.papers.haq.finetune import proxy as proxy
from refqnn.papers.haq.finetune import share_weights as share_weights
from refqnn.papers.haq.printed import PrintedBits as PrintedBits
from refqnn.papers.haq.printed import printed_bits as printed_bits
from refqnn.papers.haq.record import Trace as Trace
from refqnn.papers.haq.searches import greedy as greedy
from refqnn.papers.haq.searches import random_search as random_search
from refqnn.papers.haq.searches import search as search
