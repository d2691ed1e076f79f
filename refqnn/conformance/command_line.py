"""What the conformance commands do: answers as plain values and as text.

``exit_code`` of an answer: 0 conforms, 1 mismatch, 3 nothing was checked. Wrong usage
raises ValueError (2), files that cannot be read raise Unreadable (4). ``-`` is standard
input or output.
"""

import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refqnn._types import Array
from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.families import FAMILIES, family_of
from refqnn.conformance.choices.families.published import ROWS
from refqnn.conformance.choices.profiles import as_dict, profile_of, profiles
from refqnn.conformance.judge.checks import CHECKS
from refqnn.conformance.judge.identify_files import identify_files, write_probes
from refqnn.conformance.reach import goldens, pack_files, pack_verify, packs, stream
from refqnn.conformance.reach.exports import export
from refqnn.files import Unreadable, parse_npz, read_npz, write_bytes

Answer = tuple[dict[str, Any], str]
CONFORMS, MISMATCH, NOTHING = 0, 1, 3


list_of = list


def list(options: Namespace) -> Answer:  # noqa: A001 - the command's name
    """List what there is."""
    if options.what not in LISTS:
        raise ValueError(f"list one of {[*LISTS]}, not {options.what!r}")
    found = LISTS[options.what]()
    width = max(map(len, found))
    lines = [f"{name:{width}}  {told}" for name, told in found.items()]
    if options.what == "profiles":
        whole = {name: as_dict(profile) for name, profile in profiles.items()}
        return {"profiles": whole}, "\n".join(lines)
    return {options.what: found}, "\n".join(lines)


def ops() -> dict[str, str]:
    """Return the families that are no quantizers, and how many variants they have."""
    published = {row.name for row in ROWS}
    return {
        name: f"{len(family.variants()):5} variants: {', '.join(family.axes)}"
        for name, family in FAMILIES.items()
        if name not in published
    }


def quantizers() -> dict[str, str]:
    """Return the published quantizers and what is asked about them."""
    return {row.name: ", ".join(FAMILIES[row.name].axes) for row in ROWS}


def told_profiles() -> dict[str, str]:
    """Return the profiles, with the day on which each was last verified."""
    return {
        name: f"{p.version or '-':8} verified {p.verified}, {len(p.rows)} operators"
        for name, p in profiles.items()
    }


LISTS: dict[str, Callable[[], dict[str, str]]] = {
    "ops": ops,
    "quantizers": quantizers,
    "profiles": told_profiles,
    "axes": lambda: {name: ", ".join(axis.values) for name, axis in AXES.items()},
    "checks": lambda: {name: (c.__doc__ or "").strip() for name, c in CHECKS.items()},
}


def explain(options: Namespace) -> Answer:
    """Print the equations of a family under a profile."""
    semantics = profile_of(options.profile).semantics(options.family)
    chosen = family_of(options.family).choices(semantics)
    text = semantics.explain(options.family)
    return {"family": options.family, "semantics": chosen, "text": text}, text


def generate(options: Namespace) -> Answer:
    """Write a pack, or its lines to standard output."""
    pack = packs.generate(options.family, profile=options.profile)
    if options.stream:
        if options.output:
            raise ValueError("--stream writes to standard output, leave --output out")
        told = list_of(stream.lines(pack))
        return {"lines": told}, "\n".join(told)
    folder = options.output or f"{options.family}_pack"
    pack_files.write(pack, folder)
    manifest = pack.manifest()
    found = {
        "pack": str(folder),
        "cases": len(pack.cases),
        "digest": manifest["digest"],
    }
    return found, f"wrote {folder}: {len(pack.cases)} cases, {manifest['digest']}"


def verify(options: Namespace) -> Answer:
    """Compare outputs with a pack: a file, a folder, or answers to a stream."""
    if options.outputs is None:
        if options.pack != "-":
            raise ValueError("verify PACK OUTPUTS, or verify - for answers to a stream")
        pack, outputs = stream.read(text_of_input())
    else:
        pack, outputs = pack_files.read(options.pack), read_arrays(options.outputs)
    compared = pack_verify.verify(pack, outputs)
    checked = sum(c.total for c in compared)
    good = all(c.conforms for c in compared)
    code = (CONFORMS if good else MISMATCH) if checked else NOTHING
    why = None if good or not checked else pack_verify.diagnosed(pack, outputs)
    found = {
        "conforms": good and checked > 0,
        "checked": checked,
        "cases": [c.as_dict() for c in compared],
        "diagnosis": None if why is None else why.as_dict(),
        "exit_code": code,
    }
    return found, pack_verify.listed(compared, why)


def text_of_input() -> list_of[str]:
    """Return the lines of standard input; raise Unreadable for what is no text."""
    try:
        return sys.stdin.buffer.read().decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise Unreadable(f"- is no UTF-8 text: {error}") from error


def probe(options: Namespace) -> Answer:
    """Write the inputs that separate all variants of a family."""
    if options.output == "-":
        if options.json:
            raise ValueError("--json and --output - both want standard output")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "p.npz")
            count = write_probes(options.family, path)
            send(path.read_bytes())
        return {"probes": count}, ""
    path = Path(options.output or f"{options.family}_probes.npz")
    count = write_probes(options.family, path)
    return {"probes": count, "file": str(path)}, f"wrote {path}: {count} probes"


def send(content: bytes) -> None:
    """Write bytes to standard output."""
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def identify(options: Namespace) -> Answer:
    """Say which variants a file of outputs leaves."""
    outputs = read_arrays(options.outputs)
    try:
        found = identify_files(options.probes, outputs)
    except (OSError, ValueError) as error:
        raise Unreadable(str(error)) from error
    code = NOTHING if not found.probes else CONFORMS if found.explained else MISMATCH
    return found.as_dict() | {"exit_code": code}, str(found)


def score(options: Namespace) -> Answer:
    """List the variants that a pack, or somebody else's goldens, do not detect."""
    if not Path(options.pack, "manifest.json").exists():
        return score_goldens(options.pack)
    pack = pack_files.read(options.pack)
    count, missed = packs.score(pack)
    lines = [f"{count} / {count + len(missed)} variants detected"]
    lines += [
        f"missed: {', '.join(f'{a} = {v}' for a, v in m.items())}" for m in missed
    ]
    code = MISMATCH if missed else CONFORMS
    return {"detected": count, "missed": missed, "exit_code": code}, "\n".join(lines)


def score_goldens(path: str) -> Answer:
    """Say which answers the goldens below a folder cannot see."""
    suite = goldens.read(path)
    scores = goldens.score(suite)
    seen = all(s.detected == s.others and not s.unexplained for s in scores)
    code = (CONFORMS if seen else MISMATCH) if scores else NOTHING
    found = {
        "scores": [s.as_dict() for s in scores],
        "unread": dict(suite.unread),
        "exit_code": code,
    }
    told = [*map(str, scores), suite.told()]
    return found, "\n".join(line for line in told if line)


def convert(options: Namespace) -> Answer:
    """Write other people's goldens as packs, one for each family."""
    suite = goldens.read(options.goldens)
    root = Path(options.output or "packs")
    written = {}
    for pack in goldens.as_packs(suite):
        folder = root / "-".join(dict.fromkeys((pack.family, pack.profile)))
        pack_files.write(pack, folder)
        written[str(folder)] = len(pack.cases)
    lines = [f"wrote {folder}: {n} cases" for folder, n in written.items()]
    code = CONFORMS if written else NOTHING
    found = {"packs": written, "unread": dict(suite.unread), "exit_code": code}
    return found, "\n".join([*lines, suite.told()]).strip()


def export_pack(options: Namespace) -> Answer:
    """Write a pack in another format."""
    content = export(pack_files.read(options.network), options.format)
    if str(options.output) == "-":
        if options.json:
            raise ValueError("--json and --output - both want standard output")
        send(content)
        return {}, ""
    write_bytes(options.output, content)
    return {
        "file": str(options.output),
        "bytes": len(content),
    }, f"wrote {options.output}"


def read_arrays(path: str) -> dict[str, Array]:
    """Return the arrays of an ``.npz`` file, of a folder of them or of standard input.

    An array NAME of CASE.npz in a folder is called CASE/NAME. Raises Unreadable, never
    a traceback.
    """
    try:
        if path == "-":
            return parse_npz(sys.stdin.buffer.read(), "standard input")
        if Path(path).is_dir():
            return {
                f"{file.stem}/{name}": array
                for file in sorted(Path(path).glob("*.npz"))
                for name, array in read_npz(file).items()
            }
        return read_npz(path)
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read: {error}") from error
