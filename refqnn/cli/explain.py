"""``refqnn explain``: the equations of a family under a profile."""

from argparse import Namespace

from refqnn.cli.options import Answer, Parser, add_family, add_profile


def arguments(command: Parser) -> None:
    """Add the options."""
    add_family(command)
    add_profile(command)


def run(options: Namespace) -> Answer:
    """Print the equations."""
    from refqnn.conformance.choices.families import family_of
    from refqnn.conformance.choices.profiles import profile_of

    semantics = profile_of(options.profile).semantics(options.family)
    choices = family_of(options.family).choices(semantics)
    text = semantics.explain(options.family)
    return {"family": options.family, "semantics": choices, "text": text}, text
