"""``refqnn demo``: everything once, from training to integers."""

import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

from refqnn.cli.options import SEED, Answer, Parser, add_options


def arguments(command: Parser) -> None:
    """Add the options."""
    command.epilog = "Writes a figure, the networks, a listing and a report."
    output = ("--output", Path, Path("runs/demo"), "folder for the results")
    add_options(command, output, SEED)
    text = "smaller networks, fewer images"
    command.add_argument("--quick", action="store_true", help=text)


def run(options: Namespace) -> Answer:
    """Train, deploy, check; with --json progress goes to standard error."""
    from refqnn.cli import demonstration

    report = demonstration.run(
        options.output,
        seed=options.seed,
        settings=demonstration.QUICK if options.quick else demonstration.FULL,
        say=partial(print, file=sys.stderr if options.json else sys.stdout, flush=True),
    )
    return report.as_dict(), f"\n{report}"
