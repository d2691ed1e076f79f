"""What the conformance commands do: answers as plain values and as text.

``exit_code`` of an answer: 0 conforms, 1 mismatch, 3 nothing was checked. Wrong usage
raises ValueError (2), files that cannot be read raise Unreadable (4). ``-`` is standard
input or output.
"""

import io
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.conformance import packs
from refqnn.conformance.axes import AXES
from refqnn.conformance.checks import CHECKS
from refqnn.conformance.families import FAMILIES, family_of
from refqnn.conformance.families.published import ROWS
from refqnn.conformance.identify import identify_files, write_probes
from refqnn.conformance.packs import Unreadable
from refqnn.conformance.profiles import profile_of, profiles
from refqnn.data import read_npz

Answer = tuple[dict[str, Any], str]
CONFORMS, MISMATCH, NOTHING = 0, 1, 3


def list(options: Namespace) -> Answer:  # noqa: A001 - the command's name
    """List what there is."""
    if options.what not in LISTS:
        raise ValueError(f"list one of {[*LISTS]}, not {options.what!r}")
    found = LISTS[options.what]()
    width = max(map(len, found))
    lines = [f"{name:{width}}  {told}" for name, told in found.items()]
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
    """Write a pack."""
    pack = packs.generate(options.family, profile=options.profile)
    folder = options.output or f"{options.family}_pack"
    packs.write(pack, folder)
    manifest = pack.manifest()
    found = {
        "pack": str(folder),
        "cases": len(pack.cases),
        "digest": manifest["digest"],
    }
    return found, f"wrote {folder}: {len(pack.cases)} cases, {manifest['digest']}"


def verify(options: Namespace) -> Answer:
    """Compare a file of outputs with a pack."""
    pack = packs.read(options.pack)
    compared = packs.verify(pack, read_arrays(options.outputs))
    checked = sum(c.total for c in compared)
    good = all(c.conforms for c in compared)
    code = (CONFORMS if good else MISMATCH) if checked else NOTHING
    found = {
        "conforms": good and checked > 0,
        "checked": checked,
        "cases": [c.as_dict() for c in compared],
        "exit_code": code,
    }
    return found, packs.listed(compared)


def probe(options: Namespace) -> Answer:
    """Write the inputs that separate all variants of a family."""
    if options.output == "-":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "p.npz")
            count = write_probes(options.family, path)
            sys.stdout.buffer.write(path.read_bytes())
        return {"probes": count}, ""
    path = Path(options.output or f"{options.family}_probes.npz")
    count = write_probes(options.family, path)
    return {"probes": count, "file": str(path)}, f"wrote {path}: {count} probes"


def identify(options: Namespace) -> Answer:
    """Say which variants a file of outputs leaves."""
    try:
        found = identify_files(options.probes, options.outputs)
    except (OSError, ValueError) as error:
        raise Unreadable(str(error)) from error
    code = NOTHING if not found.probes else CONFORMS if found.explained else MISMATCH
    return found.as_dict() | {"exit_code": code}, str(found)


def score(options: Namespace) -> Answer:
    """List the variants that a pack does not detect."""
    pack = packs.read(options.pack)
    count, missed = packs.score(pack)
    lines = [f"{count} / {count + len(missed)} variants detected"]
    lines += [
        f"missed: {', '.join(f'{a} = {v}' for a, v in m.items())}" for m in missed
    ]
    code = MISMATCH if missed else CONFORMS
    return {"detected": count, "missed": missed, "exit_code": code}, "\n".join(lines)


def export_pack(options: Namespace) -> Answer:
    """Write a pack in another format."""
    content = packs.export(packs.read(options.network), options.format)
    if str(options.output) == "-":
        return {"text": content.decode()}, content.decode().rstrip("\n")
    Path(options.output).write_bytes(content)
    return {
        "file": str(options.output),
        "bytes": len(content),
    }, f"wrote {options.output}"


def read_arrays(path: str) -> dict[str, Array]:
    """Return the arrays of an ``.npz`` file or of standard input.

    Raises Unreadable, never a traceback.
    """
    try:
        if path == "-":
            content = io.BytesIO(sys.stdin.buffer.read())
            with np.load(content, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        return read_npz(path)
    except Exception as error:
        raise Unreadable(f"{path} cannot be read: {error}") from error
