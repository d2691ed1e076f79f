"""``refqnn list``: ops, quantizers, profiles, axes, checks or claims."""

from argparse import Namespace

from refqnn.cli.options import Answer, Parser


def arguments(command: Parser) -> None:
    """Add the kind of things to list."""
    command.add_argument(
        "what", help="ops, quantizers, profiles, axes, checks or claims"
    )


def run(options: Namespace) -> Answer:
    """List the things of a kind, one a line."""
    from refqnn.conformance.choices.profiles import as_dict, profiles

    lists = {
        "ops": ops,
        "quantizers": quantizers,
        "profiles": verified_profiles,
        "axes": axes,
        "checks": checks,
        "claims": claims,
    }
    if options.what not in lists:
        raise ValueError(f"list one of {[*lists]}, not {options.what!r}")
    lines = lists[options.what]()
    width = max(map(len, lines))
    text = "\n".join(f"{name:{width}}  {line}" for name, line in lines.items())
    if options.what == "profiles":
        return {"profiles": {name: as_dict(p) for name, p in profiles.items()}}, text
    return {options.what: lines}, text


def ops() -> dict[str, str]:
    """Return the families that are no quantizers, and how many variants they have."""
    from refqnn.conformance.choices.families import FAMILIES
    from refqnn.conformance.choices.families.published_rows import ROWS

    published = {row.name for row in ROWS}
    return {
        name: f"{len(family.variants()):5} variants: {', '.join(family.axes)}"
        for name, family in FAMILIES.items()
        if name not in published
    }


def quantizers() -> dict[str, str]:
    """Return the published quantizers and what is asked about them."""
    from refqnn.conformance.choices.families import FAMILIES
    from refqnn.conformance.choices.families.published_rows import ROWS

    return {row.name: ", ".join(FAMILIES[row.name].axes) for row in ROWS}


def verified_profiles() -> dict[str, str]:
    """Return the profiles, with the day on which each was last verified."""
    from refqnn.conformance.choices.profiles import profiles

    return {
        name: f"{p.version or '-':8} verified {p.verified}, {len(p.rows)} operators"
        for name, p in profiles.items()
    }


def axes() -> dict[str, str]:
    """Return the axes with their values."""
    from refqnn.conformance.choices.axes import AXES

    return {name: ", ".join(axis.values) for name, axis in AXES.items()}


def checks() -> dict[str, str]:
    """Return the checks with their descriptions."""
    from refqnn.conformance.judge.inspection import CHECKS

    return {name: (check.__doc__ or "").strip() for name, check in CHECKS.items()}


def claims() -> dict[str, str]:
    """Return the claims of the papers in every regime, with verdict and evidence."""
    from refqnn.papers.claims import read_claims

    return {
        f"{c.number}, {c.regime}": f"{c.verdict}: {c.claim} ({c.paper}; {c.study}, "
        f"n = {c.n}{f', effect {c.effect}' if c.effect else ''})"
        for c in read_claims()
    }
