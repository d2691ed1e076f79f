"""DFS decides for each image which blocks to skip, and at how many bits to run them.

Dynamic fractional skipping (arXiv:2001.00705): a gate before every block chooses
between skipping it, 8 bits, 16 bits, or all 32. The training pays for computation until
the mean cost (cp) meets a target. Then every image takes its own way, in integers.
"""

import numpy as np

from refqnn import data, fast
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
network = dfs.routed_resnet(14, width=0.25, rng=rng)

# every block first learns to classify, then the gates to keep all, then both to save
dfs.backbone(network, pictures, how, rng=rng, backend=fast)
dfs.gate_start(network, pictures, how, rng=rng, backend=fast)
dfs.joint(network, pictures, how, target=TARGET, alpha=8.0, rng=rng, backend=fast)

score = dfs.evaluate(network, pictures.test_images, pictures.test_labels, backend=fast)
print(f"cp {score.cp:.1%} (target {TARGET:.0%}), accuracy {score.accuracy:.1%}\n")

print("share of images, block by block")
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
