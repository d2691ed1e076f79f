"""``refqnn size``: what a network of the Pareto paper weighs and computes."""

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from refqnn.cli.options import Answer, Parser, add_options

if TYPE_CHECKING:
    from refqnn.cost import Cost


def arguments(command: Parser) -> None:
    """Add the options."""
    command.epilog = (
        "First and last layer have 8-bit weights. Footprints are those of one image: "
        "the largest input map plus the largest output map plus all weights; of any "
        "two layers (separate) or of one layer (joint). Depth-wise weights: --bits, "
        "or 4 in mobilenetv2 as the paper counts it."
    )
    text = "resnet20 to resnet56, vgg11, vgg11a, mobilenetv2, ..."
    command.add_argument("network", help=text)
    add_options(
        command,
        ("--width", float, 1.0, "multiplies channels"),
        ("--bits", int, 8, "of weights"),
        ("--depthwise-bits", int, None, "of depth-wise weights (see below)"),
        ("--activation-bits", int, 8, "of maps, in the footprints, too"),
    )
    command.add_argument(
        "--counting",
        choices=("paper", "common"),
        default="paper",
        help="what the multiplier does to ImageNet networks (paper): recovered or "
        "usual",
    )


def run(options: Namespace) -> Answer:
    """Count bits, multiply-adds and footprints."""
    from refqnn.cost import count
    from refqnn.networks import image_shape, named

    network = named(
        options.network,
        width=options.width,
        weight_bits=options.bits,
        depthwise_bits=options.depthwise_bits,
        activation_bits=options.activation_bits,
        counting=options.counting,
        rng=None,
    )
    cost = count(network, image_shape(options.network))
    answer = cost.as_dict(map_bits=options.activation_bits)
    del answer["bit_operations"]
    return answer, table(cost, answer)


def table(cost: "Cost", answer: dict[str, Any]) -> str:
    """Return a line for each layer, and the totals."""
    lines = [f"{'layer':44s} {'weights':>12s} {'bits':>4s} {'multiply-adds':>16s}"]
    lines += [
        f"{layer.name.removeprefix('layers.'):44s} {layer.weights:12,d} "
        f"{layer.weight_bits:4d} {layer.macs:16,d}"
        for layer in cost.layers
    ]
    totals = (
        ("C_size", "c_size_bits", "bits"),
        ("multiply-adds", "macs", ""),
        (
            "footprint, maxima of any two layers",
            "footprint_bits_separate_maxima",
            "bits",
        ),
        ("footprint, maximum of one layer", "footprint_bits_joint_maximum", "bits"),
    )
    lines += [f"{text:36s} {answer[key]:16,d} {unit}" for text, key, unit in totals]
    return "\n".join(line.rstrip() for line in lines)
