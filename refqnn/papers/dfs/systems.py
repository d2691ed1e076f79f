"""DFS, SkipNet, static networks and HAQ at a small scale, on one honest axis.

The comparison of DFS's figures 3 to 7 and 11 (arXiv:2001.00705) with ResNet-14 at a
quarter of its width, on the embedded Fashion-MNIST subset halved to 14 x 14. All start
from the same backbone of a seed; a folder of runs holds backbones.jsonl and
tradeoff.jsonl, which every study of the comparison shares. Static networks and DFS's
joint training get 800 iterations more; DFS starts its gates in some 30 before,
SkipNet's hybrid training adds 300; HAQ searches its bits before. Each run returns what
JSON can hold. ``cp`` is DFS's for every system: gated blocks only, block 1 left out,
bits of weights over 32 times bits of inputs over 32; HAQ's inputs have 32. Percentages
of another definition stand beside it: SkipNet's, which counts block 1, as
``cp_skipnet``, and HAQ's share of the size of all weights as ``ratio``.

What cannot be compared with the paper: images, network, iterations. The steps follow
the paper; alpha is that of the scale-free loss (``scale="mean"``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refqnn import data, fast
from refqnn.networks.parts import check_sizes
from refqnn.networks.resnets import blocks_of
from refqnn.nn import carry_over, checkpoint, evaluate
from refqnn.papers import dfs, haq
from refqnn.papers.scalable import static_resnet
from refqnn.papers.skipnet import Hybrid, Supervised, skipnet
from refqnn.studies.study import Stage, check_settings
from refqnn.studies.sweep import Row, Rows

DEPTH, WIDTH = 14, 0.25
#: training images that there are
MOST_IMAGES = {"embedded": 4000, "fashion_mnist": 60_000}
MOST_IMAGES |= dict.fromkeys(data.IMAGE_OPTIONS, 50_000)
SETTINGS = dfs.Settings(backbone_steps=600, joint_steps=800)
#: SkipNet's hybrid training: iterations, rate, weight of the policy term. The release
#: trains 10 000 iterations at 1e-4 and 0.01; these were chosen on seed 0, for cp to
#: move in as few iterations as here
HYBRID_STEPS, HYBRID_LR, HYBRID_WEIGHT = 300, 0.01, 0.1
#: HAQ's search: policies, those of the warm-up, steps of fine-tuning before each is
#: judged, bits; figure 18 of DFS's supplement shows 20
HAQ_POLICIES, HAQ_WARM_UP, HAQ_STEPS, HAQ_BITS = 40, 15, 10, (2, 20)
#: one of so many training images is kept from that fine-tuning, to judge by. The
#: backbone has seen them: test images stay unseen by the search
JUDGED = 4


def dataset(
    images: int, of: str = "embedded", files: str | None = None
) -> data.Dataset:
    """Return a data set with ``images`` to train on and all to test.

    CIFAR stays at 32 x 32, as in the paper; others are halved.
    """
    part = data.read_images(of, files).first(images)
    if of in data.IMAGE_OPTIONS:
        return part
    return part._replace(
        train_images=data.halve(part.train_images),
        test_images=data.halve(part.test_images),
    )


def settings(steps: int | None) -> dfs.Settings:
    """Return the settings; ``steps`` shortens backbone and joint training."""
    if steps is None:
        return SETTINGS
    return SETTINGS._replace(backbone_steps=steps, joint_steps=steps)


class Start(NamedTuple):
    """Generator of a run's own, images, settings, size, and its backbone's file."""

    rng: np.random.Generator
    pictures: data.Dataset
    how: dfs.Settings
    size: Row
    kept: Path


def start_of(
    stream: int | None,
    *,
    seed: int,
    images: int,
    steps: int | None,
    folder: str,
    depth: int = DEPTH,
    width: float = WIDTH,
    of: str = "embedded",
    files: str | None = None,
) -> Start:
    """Return the start of a run; systems of one seed draw from streams of their own.

    A backbone, which has no stream, is kept for each seed, length, size and data set.
    """
    name = f"backbone_{seed}_{images}_{steps or 'full'}"
    if (depth, width, of) != (DEPTH, WIDTH, "embedded"):
        name += f"_{depth}_{width:g}_{of}"
    rng = np.random.default_rng(seed if stream is None else [seed, stream])
    size: Row = {"depth": depth, "width": width, **data.IMAGE_OPTIONS.get(of, {})}
    kept = Path(folder) / f"{name}.npz"
    return Start(rng, dataset(images, of, files), settings(steps), size, kept)


def backbone_run(**common: Any) -> dict[str, float]:
    """Train and keep the backbone that all systems of a seed start from."""
    at = start_of(None, **common)
    network = dfs.routed_resnet(**at.size, rng=at.rng)
    dfs.backbone(network, at.pictures, at.how, rng=at.rng, backend=fast)
    at.kept.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(at.kept, checkpoint.of_network(network))
    keep = dfs.always(len(network.options) - 1)
    return {"accuracy": score_on_test(network, at.pictures, keep).accuracy}


def from_backbone(network: Any, at: Start) -> Any:
    """Give a network the blocks, stem and classifier of a backbone."""
    kept = dfs.routed_resnet(**at.size, rng=np.random.default_rng(0))
    checkpoint.restore(kept, checkpoint.load(at.kept))
    gates, network.gates = network.gates, None
    kept.gates = None
    carry_over(kept, network)
    network.gates = gates
    return network


def score_on_test(network: Any, pictures: data.Dataset, choose: Any = None) -> Any:
    """Return accuracy, cp and shares on the test images."""
    return dfs.evaluate(
        network, pictures.test_images, pictures.test_labels, choose=choose, backend=fast
    )


def train_on(network: Any, at: Start, objective: Any) -> None:
    """Train as long and as fast as the second step of DFS."""
    length: Any = {"steps": at.how.joint_steps, "lr": at.how.joint_lr}
    how: Any = {"settings": at.how, "rng": at.rng, "backend": fast}
    dfs.train(network, at.pictures, objective, **length, **how)


def trained_dfs(
    *,
    target: float,
    alpha: float = 1.0,
    sign: str = "dynamic",
    two_step: bool = True,
    options: Sequence[int] = dfs.OPTIONS,
    gate_mode: str = "straight_through",
    statistics: str = "shared",
    released: bool = False,
    **common: Any,
) -> tuple[dfs.RoutedResNet, dfs.Joint, data.Dataset]:
    """Train DFS towards a target cp; without ``two_step`` the gates start at random.

    ``statistics`` of batch norms are "shared" by the options or "own" to each;
    ``released`` blocks are those of ``dfs.released_network``, with its options.
    """
    if statistics not in {"shared", "own"}:
        raise ValueError(f"statistics must be 'shared' or 'own', got {statistics!r}")
    at = start_of(1, **common)
    rng, pictures, how = at[:3]
    made: Any = {"gate_mode": gate_mode} | at.size
    if released:
        network = from_backbone(dfs.released_network(**made, rng=rng), at)
    else:
        made["options"] = options
        network = from_backbone(dfs.routed_resnet(**made, rng=rng), at)
    if statistics == "own":
        network.split_statistics()
    if two_step:
        dfs.gate_start(network, pictures, how, rng=rng, backend=fast)
    price: Any = {"target": target, "alpha": alpha, "sign": sign}
    joint = dfs.joint(network, pictures, how, **price, rng=rng, backend=fast)
    return network, joint, pictures


def dfs_run(**arguments: Any) -> Row:
    """Train DFS by ``trained_dfs`` and score it on the test images."""
    network, joint, pictures = trained_dfs(**arguments)
    return result(network, pictures) | {
        "history": [round(m.cp, 5) for m in joint.history],
        "train_shares": np.mean([m.shares for m in joint.history[-250:]], 0).tolist(),
    }


def static_run(*, bits: int, **common: Any) -> Row:
    """Train the backbone on with every gated block at ``bits``, as long as DFS."""
    at = start_of(2, **common)
    network = static_resnet(**at.size, bits=bits, rng=at.rng)
    train_on(from_backbone(network, at), at, dfs.Forced())
    return result(network, at.pictures, dfs.always(0))


def skipnet_run(
    *,
    alpha: float | None,
    gate: str = "RNNGate",
    hybrid_steps: int = HYBRID_STEPS,
    **common: Any,
) -> Row:
    """Train SkipNet: supervised, then hybrid unless the reward alpha is None."""
    at = start_of(3, **common)
    network = from_backbone(skipnet(**at.size, gate=gate, rng=at.rng), at)
    train_on(network, at, Supervised())
    if alpha is not None:
        shorter = hybrid_steps
        if common["steps"] is not None:  # a look at the program
            shorter = min(hybrid_steps, common["steps"])
        how = at.how._replace(joint_steps=shorter, joint_lr=HYBRID_LR)
        hybrid = Hybrid(alpha=alpha, w=HYBRID_WEIGHT)
        train_on(network, at._replace(how=how), hybrid)
    score = result(network, at.pictures)
    kept = np.asarray(score["shares"])[:, 1].mean()
    blocks = network.gated
    return score | {"cp_skipnet": float((1 + blocks * kept) / (blocks + 1))}


def haq_run(*, ratio: float, **common: Any) -> Row:
    """Let HAQ share the backbone's weights, ``ratio`` of 32 bits, and train it on.

    The best policy of the search is trained as long as the other systems, its
    clusters held.
    """
    at = start_of(4, **common)
    network = static_resnet(**at.size, bits=dfs.KEEP, rng=at.rng)
    from_backbone(network, at)
    seed, short = common["seed"], common["steps"] is not None
    trace = haq_search(network, at.pictures, ratio, seed, short=short)
    layers, bits = trace.problem.layers, trace.policies[trace.best]
    haq.share_weights(network, layers, bits)
    train_on(network, at, dfs.Forced())
    return result(network, at.pictures, dfs.always(0)) | {
        "cp": haq.routed_cp(bits, layers),
        "ratio": haq.size_ratio(bits, trace.problem.weights),
        "bits": bits.tolist(),
        "layers": [layer.name for layer in layers],
    }


def haq_search(
    network: Any, pictures: data.Dataset, ratio: float, seed: int, *, short: bool
) -> haq.Trace:
    """Search policies of a ratio; a short search is for a look at the program."""
    images, labels = pictures[:2]
    end = len(images) - len(images) // JUDGED
    if end < SETTINGS.batch:
        raise ValueError(f"images must be at least 85 for a search, got {len(images)}")
    tuned, held_out = (images[:end], labels[:end]), (images[end:], labels[end:])
    layers = haq.routed_table(network, images.shape[1:])
    low, high = HAQ_BITS
    before = 100 * evaluate(network, *held_out, backend=fast).accuracy
    problem = haq.Problem(layers, ratio, before, b_min=low, b_max=high)
    fine = 1 if short else HAQ_STEPS
    worth = haq.proxy(network, layers, tuned, held_out, steps=fine, backend=fast)
    return haq.search(
        problem,
        worth,
        episodes=3 if short else HAQ_POLICIES,
        seed=seed,
        settings=haq.Settings(warm_up=2 if short else HAQ_WARM_UP),
        progress=False,
    )


def result(network: Any, pictures: data.Dataset, choose: Any = None) -> Row:
    """Return a score as JSON holds it."""
    score = score_on_test(network, pictures, choose)
    return {
        "accuracy": score.accuracy,
        "cp": score.cp,
        "shares": score.shares.round(5).tolist(),
        "options": list(network.options),
    }


#: the function of every system's runs
SYSTEMS: dict[str, Callable[..., Row]] = {
    "backbone": backbone_run,
    "dfs": dfs_run,
    "static": static_run,
    "skipnet": skipnet_run,
    "haq": haq_run,
}


def system_run(*, system: str, **arguments: Any) -> Row:
    """Do one run of a system."""
    if system not in SYSTEMS:
        raise ValueError(f"system must be one of {sorted(SYSTEMS)}, got {system!r}")
    return SYSTEMS[system](**arguments)


def stages(settings: Any, kinds: Rows, folder: Path) -> Iterator[Stage]:
    """Yield the backbones of every seed, then every kind of run of every seed.

    settings: seeds, images and steps are read. A run is known by what it does and not
    by where: a folder may be moved.
    """
    function = partial(system_run, folder=str(folder), files=settings.files())
    common = {"images": settings.images, "steps": settings.steps} | settings.place()
    seeds = [{"seed": seed} | common for seed in settings.seeds]
    backbones = [{"system": "backbone"} | seed for seed in seeds]
    yield Stage(function, backbones, "backbones")
    yield Stage(function, [kind | seed for seed in seeds for kind in kinds], "tradeoff")


@dataclass(frozen=True)
class Lengths:
    """Settings of every study of the comparison: seeds, images to train on, steps."""

    seeds: tuple[int, ...] = (0,)
    images: int = 4000
    #: of the backbone and of joint training; none: those of ``SETTINGS``
    steps: int | None = None
    depth: int = DEPTH
    width: float = WIDTH
    #: "embedded", or the folder of Fashion-MNIST, CIFAR-10 or CIFAR-100
    data: str = "embedded"

    def place(self) -> Row:
        """Give what a run must know of network and data, where not the usual."""
        own = {
            "depth": self.depth,
            "width": self.width,
            "of": self.images_of()[0],
        }
        usual = {"depth": DEPTH, "width": WIDTH, "of": "embedded"}
        return {name: value for name, value in own.items() if value != usual[name]}

    def images_of(self) -> tuple[str, str | None]:
        """Give the data set and the folder of its files."""
        return data.source(self.data, cifar=True)

    def files(self) -> str | None:
        """Give the folder of the images, which a run is not known by."""
        return self.images_of()[1]

    def __post_init__(self) -> None:
        check_settings(self, seeds=0, steps=1)
        blocks_of(self.depth)
        check_sizes(self.width, 10, 1)
        most = MOST_IMAGES[self.images_of()[0]]
        if not SETTINGS.batch <= self.images <= most:
            raise ValueError(
                f"images must be in [{SETTINGS.batch}, {most}], a batch and all there "
                f"are, got {self.images}"
            )
        options = getattr(self, "options", dfs.OPTIONS)
        for name in ("targets", "skipping", "one_step"):
            for target in getattr(self, name, ()):
                dfs.check_target(target, options)


@dataclass(frozen=True)
class Machinery(Lengths):
    """Settings of studies that may train another DFS than the paper's."""

    options: tuple[int, ...] = dfs.OPTIONS
    #: of batch norms: "shared" by the options, or "own" to each
    statistics: str = "shared"
    gate_mode: str = "straight_through"
    #: blocks of the released code, with its seven options
    released: bool = False

    def __post_init__(self) -> None:
        dfs.check_options(self.options)
        if self.released and self.options != dfs.OPTIONS:
            raise ValueError(
                f"options of released blocks are their own, got {self.options}"
            )
        check_settings(self, statistics=("shared", "own"))
        check_settings(self, gate_mode=("straight_through", "soft"))
        super().__post_init__()

    def changes(self) -> Row:
        """Give what a run of ``dfs_run`` must know, where not the paper's."""
        own: Row = {"options": [*self.options], "statistics": self.statistics}
        own |= {"gate_mode": self.gate_mode, "released": self.released}
        usual: Row = {"options": [*dfs.OPTIONS], "statistics": "shared"}
        usual |= {"gate_mode": "straight_through", "released": False}
        return {name: value for name, value in own.items() if value != usual[name]}
