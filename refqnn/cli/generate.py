"""``refqnn generate``: a pack, vectors with a purpose."""

from argparse import Namespace

from refqnn.cli.options import Answer, Parser, add_family, add_profile, add_where


def arguments(command: Parser) -> None:
    """Add the options."""
    add_family(command)
    add_profile(command)
    command.add_argument("-o", "--output", help="folder to write (FAMILY_pack)")
    text = "hex: also a file of words an argument, and test benches, for simulations"
    command.add_argument("--format", choices=("npz", "hex"), default="npz", help=text)
    add_where(command)
    text = "one JSON object a line, to a pipe"
    command.add_argument("--stream", action="store_true", help=text)


def run(options: Namespace) -> Answer:
    """Write a pack, or its lines to standard output."""
    from refqnn.conformance.reach import hardware, pack_files, packs, stream
    from refqnn.files import check_folder

    if options.stream and options.output:
        raise ValueError("--stream writes to standard output, leave --output out")
    folder = options.output or f"{options.family}_pack"
    if not options.stream:
        check_folder(folder)
    pack = packs.generate(
        options.family, profile=options.profile, where=dict(options.where or ())
    )
    if options.stream:
        lines = list(stream.lines(pack))
        return {"lines": lines}, "\n".join(lines)
    pack_files.write(pack, folder)
    files = hardware.write(pack, folder) if options.format == "hex" else []
    digest = pack.manifest()["digest"]
    answer = {"pack": str(folder), "cases": len(pack.cases), "digest": digest}
    answer |= {"files": files} if files else {}
    text = f"wrote {folder}: {len(pack.cases)} cases, {digest}"
    return answer, "\n".join([text, *(f"      {folder}/{name}" for name in files)])
