"""The gallery: one page a method, what its quantizers do to the values of a layer.

Each page draws, for weights and for activations, the transfer function over the
histogram of the values, the surrogate gradient, and how often each level is used. The
values are the weights of the largest convolution of a trained network, and what enters
it for 64 test images.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refqnn import data, fast, plots
from refqnn._types import Array, Float
from refqnn.core import Run, named_modules
from refqnn.networks import build, resnet
from refqnn.networks.methods import METHODS, method_of
from refqnn.nn import PARETO_CIFAR, Conv2d, Sequential, fit
from refqnn.nn import checkpoint as checkpoints
from refqnn.plots.quantizer import measure
from refqnn.studies.study import Stage, Study, check_settings, checkpoint_folder, table
from refqnn.studies.sweep import Outcome

SETTINGS = replace(
    PARETO_CIFAR, lr=0.1, warmup_epochs=0.5, epochs=5, batch=40, weight_decay=1e-3
)
IMAGES = 64
#: of weights, where only the bits are in question
ANY_SHAPE = (1, 1, 3, 3)


@dataclass(frozen=True)
class Gallery:
    """Methods, by default every one that has the bits; bits, by default the method's.

    ``weights`` is the checkpoint of a trained network, or empty: a float ResNet-8 of
    ``width`` is trained on the first ``images``.
    """

    methods: tuple[str, ...] = ()
    bits: int | None = None
    weights: str = ""
    epochs: int = SETTINGS.epochs
    width: float = 0.5
    images: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless every page can be drawn."""
        check_settings(self, epochs=1, images=SETTINGS.batch)
        for name, bits in self.pages().items():
            quantizers(name, bits, ANY_SHAPE)
        if not self.pages():
            raise ValueError(f"no method is defined for {self.bits} bits")
        if self.weights:
            checkpoints.load(self.weights)

    def pages(self) -> dict[str, int]:
        """Return the bits of every page."""
        own = self.bits
        pages = {n: own or default_bits(n) for n in self.methods or METHODS}
        return {n: b for n, b in pages.items() if self.methods or is_defined(n, b)}


def stages(s: Gallery, folder: Path) -> Iterator[Stage]:
    """Yield the training of the float network, if none is given, then the pages."""
    common = {k: v for k, v in asdict(s).items() if k not in {"methods", "bits"}}
    if not s.weights:
        yield Stage(partial(float_run, folder=str(folder)), [common], "float")
    runs = [{"name": n, "bits": b} | common for n, b in s.pages().items()]
    yield Stage(partial(page_run, folder=str(folder)), runs, "pages")


def float_run(*, folder: str, **settings: Any) -> None:
    """Train the network that the pages look into."""
    network_of(folder, **settings)


def network_of(
    folder: str, *, weights: str, epochs: int, width: float, images: int | None
) -> tuple[Sequential, str]:
    """Return a trained network, and what it is."""
    if weights:
        content = checkpoints.load(weights)
        network = build(content.config)
        checkpoints.restore(network, content)
        return network, weights
    pictures, rng = data.embedded().first(images), np.random.default_rng(0)
    network = resnet(8, width=width, rng=rng)
    count = len(pictures.train_images)
    fit(
        SETTINGS.training(network, count, rng=rng, epochs=epochs, backend=fast),
        pictures[:2],
        epochs=epochs,
        checkpoint=checkpoint_folder(
            folder, "float", 0, width=width, of=images
        ).with_suffix(".npz"),
    )
    return network, "a float ResNet-8 trained on Fashion-MNIST"


def page_run(*, name: str, bits: int, folder: str, **settings: Any) -> dict[str, Any]:
    """Draw the page of a method; return its file, and its numbers in short."""
    network, what = network_of(folder, **settings)
    layer = largest_convolution(network, data.embedded().test_images[:IMAGES])
    summary = f"{layer.name} of {what}: its weights, and what enters it"
    drawn = page(name, bits, layer, summary)
    path = Path(folder) / f"{name}_{bits}bit.png"
    plots.save(plots.gallery_page(drawn), path)
    return {"bits": bits, "file": str(path)} | {
        row.kind.lower(): {
            "levels": row.levels.size,
            "used": int(np.count_nonzero(row.shares)),
            "error": row.error,
            "scaled_error": row.scaled_error,
        }
        for row in drawn.rows
    }


def rows(_: Gallery, *outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the file and the numbers of every page."""
    return {o.run["name"]: o.result for o in outcomes[-1]}


def lines(s: Gallery, rows: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each page, and the methods that do not have the bits."""
    yield from table(
        {"method": name, "bits": row["bits"]}
        | {
            f"{kind}, {key}": row[kind][key]
            for kind in ("weights", "activations")
            for key in ("levels", "scaled_error")
        }
        | {"file": row["file"]}
        for name, row in rows.items()
    )
    left_out = [] if s.methods else sorted(set(METHODS) - set(rows))
    if left_out:
        yield f"not defined for {s.bits} bits: {', '.join(left_out)}"


class Layer(NamedTuple):
    """The weights of a trained layer, and what enters it."""

    name: str
    weights: Float  # (O, C, Kh, Kw)
    inputs: Float  # (N, C, H, W)


def largest_convolution(network: Sequential, images: Array) -> Layer:
    """Return the convolution of the most weights, and what enters it for the images.

    images: (N, C, H, W)
    """
    layers = [(n, m) for n, m in named_modules(network) if isinstance(m, Conv2d)]
    name, layer = max(layers, key=lambda pair: pair[1].w.value.size)
    entered = []

    def observe(module: Any, x: Array, _: Array) -> None:
        if module is layer:
            entered.append(x)

    network.forward(images, Run(backend=fast, observe=observe))
    return Layer(name.removeprefix("layers."), layer.w.value, entered[0])


def default_bits(name: str) -> int:
    """Return 4, or the first number of bits that the method is defined for."""
    return next((bits for bits in (4, 1, 2, 3) if is_defined(name, bits)), 4)


def is_defined(name: str, bits: int) -> bool:
    """Return whether both quantizers of a method exist with these bits."""
    try:
        quantizers(name, bits, ANY_SHAPE)
    except ValueError:
        return False
    return True


def quantizers(name: str, bits: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the quantizers of weights of a shape and of activations.

    Raises ValueError for an unknown method, and for bits that it does not define.
    """
    method = method_of(name)
    try:
        return method.weights(bits, shape), method.activations(bits)
    except ValueError as refused:
        raise ValueError(f"{name} is not for {bits} bits: {refused}") from refused


def page(name: str, bits: int, layer: Layer, summary: str) -> plots.GalleryPage:
    """Measure both quantizers of a method on a layer."""
    of_weights, of_inputs = quantizers(name, bits, layer.weights.shape)
    rows = (
        measure("Weights", of_weights, layer.weights),
        measure("Activations", of_inputs, layer.inputs),
    )
    title = f"{name}: weights and activations of {bits_text(name, bits)}"
    return plots.GalleryPage(title, summary, rows)


def bits_text(name: str, bits: int) -> str:
    """Write a number of bits, or of the bases that ABC-Net counts instead.

    >>> bits_text("qil", 1), bits_text("abc", 4)
    ('1 bit', '4 bases')
    """
    one, many = ("basis", "bases") if name == "abc" else ("bit", "bits")
    return f"{bits} {one if bits == 1 else many}"


STUDIES = (
    Study(
        name="gallery",
        shows="what every quantizer does to weights and activations, a page a method",
        takes=("2 min", "20 s"),
        settings=Gallery,
        quick={"epochs": 1, "images": 80, "width": 0.1},
        stages=stages,
        rows=rows,
        lines=lines,
    ),
)
