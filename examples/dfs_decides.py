"""DFS decides for each image which blocks to skip, and at how many bits to run them.

Dynamic fractional skipping (arXiv:2001.00705): a gate before every block chooses
between skipping it, 8 bits, 16 bits, or all 32. The training pays for computation until
the mean cost (cp) meets a target. Then every image takes its own way, in integers.
"""

import numpy as np

from refqnn import data, fast
from refqnn.nn import carry_over
from refqnn.papers import dfs
from refqnn.papers.dfs.printed import option_name

TARGET = 0.2
pictures = data.embedded()
pictures = pictures._replace(
    train_images=data.halve(pictures.train_images),
    test_images=data.halve(pictures.test_images[:100]),
    test_labels=pictures.test_labels[:100],
)
how = dfs.Settings(backbone_steps=100, joint_steps=120)
rng = np.random.default_rng(0)
first = dfs.routed_resnet(14, width=0.25, rng=rng)

# every block first learns to classify, then the gates to keep all, then both to save;
# in training a gate mixes its options by their probabilities (soft, equation 1), or
# takes the most probable one, as the trained network does
dfs.backbone(first, pictures, how, rng=rng, backend=fast)
for gate_mode in ("soft", "straight_through"):
    network = dfs.routed_resnet(14, width=0.25, gate_mode=gate_mode, rng=rng)
    carry_over(first, network)
    dfs.gate_start(network, pictures, how, rng=rng, backend=fast)
    price = {"target": TARGET, "alpha": 8.0}
    joint = dfs.joint(network, pictures, how, **price, rng=rng, backend=fast)
    executed = np.mean([step.cp for step in joint.history[-60:]])
    score = dfs.evaluate(network, *pictures[2:], backend=fast)
    print(
        f"{gate_mode}: cp {executed:.1%} of the last 60 batches, {score.cp:.1%} of "
        f"test images (target {TARGET:.0%}), accuracy {score.accuracy:.1%}"
    )

print("\nshare of images, block by block")
names = [option_name(bits) for bits in network.options]
print("block  " + "".join(f"{name:>9s}" for name in names))
for block, shares in enumerate(score.shares, start=2):
    print(f"{block:5d}  " + "".join(f"{share:9.0%}" for share in shares))

# the same images again, each through the blocks it chose, with integers
ran = dfs.execute(network, pictures.test_images, backend=fast)
print("\nsix images, and the bits of their blocks (0 skips)")
for i in range(6):
    bits = [network.options[k] for k in ran.decisions[i]]
    label = data.FASHION_MNIST_CLASSES[pictures.test_labels[i]]
    print(f"{label:12s} {bits}")
ways = len(np.unique(ran.decisions, axis=0))
print(f"\n{len(ran.decisions)} images take {ways} different ways")
