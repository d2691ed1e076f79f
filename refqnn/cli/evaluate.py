"""``refqnn evaluate``: how often a network names the class of a test image."""

from argparse import Namespace
from pathlib import Path

from refqnn.cli.options import DATA, Answer, Parser, add_options


def arguments(command: Parser) -> None:
    """Add the options."""
    text = "a checkpoint or an integer network (.npz)"
    command.add_argument("network", type=Path, help=text)
    command.add_argument(
        "--backend",
        choices=("fast", "definition"),
        default="fast",
        help="which side computes (fast)",
    )
    add_options(command, DATA)


def run(options: Namespace) -> Answer:
    """Measure the accuracy on the test images."""
    import refqnn.fast
    from refqnn.cli.inputs import load_data, load_either
    from refqnn.deploy import IntegerNetwork
    from refqnn.nn import predict

    dataset = load_data(options.data)
    images, labels = dataset.test_images, dataset.test_labels
    backend = refqnn.fast if options.backend == "fast" else refqnn
    network = load_either(options.network)
    if isinstance(network, IntegerNetwork):
        kind, chosen = "integers", network.predict(images, backend=backend)
    else:
        logits = predict(network, images, backend=backend)
        kind, chosen = "checkpoint", logits.argmax(axis=1)
    accuracy = float((chosen == labels).mean())
    answer = {"network": kind, "images": len(images), "test_accuracy": accuracy}
    return answer, f"{kind}: {100 * accuracy:.2f} % of {len(images):,} test images"
