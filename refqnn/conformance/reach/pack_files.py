"""A pack on disk: written whole, read with types and digest checked.

``Manifest`` is what a manifest may hold; ``schema/pack.json`` says the same for others.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from refqnn._types import Array
from refqnn.conformance.choices.families import Outputs, family_of
from refqnn.conformance.reach.packs import Case, Pack, digest
from refqnn.files import Unreadable, decode, read_json, read_npz, write_json, write_npz

Policy = Annotated[
    str, msgspec.Meta(pattern=r"^(exact|bound|lsb\([0-9]+\)|ulp\([0-9]+\))$")
]


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """One case of a manifest."""

    name: str
    inputs: list[str]
    outputs: list[str]
    policy: Policy
    result: Literal["valid", "acceptable", "invalid"]
    reveals: list[str]
    alternatives: Annotated[int, msgspec.Meta(ge=0)] = 0
    may_be_refused: bool = False


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """``manifest.json``."""

    format: Literal["refqnn pack"]
    version: Annotated[str, msgspec.Meta(pattern=r"^1\.[0-9]+\.[0-9]+$")]
    family: str
    semantics: dict[str, str]
    digest: Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
    cases: Annotated[list[Row], msgspec.Meta(min_length=1)]
    profile: str = ""
    open: list[str] = []


def write(pack: Pack, folder: str | os.PathLike[str]) -> None:
    """Write a pack; the folder is made."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    write_npz(path / "vectors.npz", pack.arrays())
    write_json(path / "manifest.json", pack.manifest(), sort_keys=True)


def read(folder: str | os.PathLike[str]) -> Pack:
    """Read a pack; raise Unreadable where files are missing, damaged or changed."""
    path = Path(folder)
    try:
        content = read_json(path / "manifest.json")
        arrays = read_npz(path / "vectors.npz")
    except ValueError as error:
        raise Unreadable(f"{folder} is no pack: {error}") from error
    manifest = decode(content, Manifest, f"{folder}/manifest.json")
    if digest(arrays, content) != manifest.digest:
        raise Unreadable(f"{folder}: manifest and vectors are not what the digest says")
    try:
        semantics = family_of(manifest.family).choices(manifest.semantics)
        cases = tuple(read_case(row, arrays) for row in manifest.cases)
    except (KeyError, ValueError) as error:
        raise Unreadable(f"{folder}: the manifest does not fit: {error}") from error
    return Pack(
        manifest.family, manifest.profile, semantics, cases, tuple(manifest.open)
    )


def read_case(row: Row, arrays: Mapping[str, Array]) -> Case:
    """Return one case of a manifest, its arrays by name."""

    def outputs(place: str) -> Outputs:
        return {k: arrays[f"{row.name}/{place}/{k}"] for k in row.outputs}

    return Case(
        row.name,
        {k: argument(k, arrays[f"{row.name}/in/{k}"]) for k in row.inputs},
        outputs("out"),
        row.policy,
        tuple(row.reveals),
        row.result,
        tuple(outputs(f"also/{i}") for i in range(row.alternatives)),
        row.may_be_refused,
    )


#: arguments that are Python numbers or tuples of them
GEOMETRY = ("stride", "padding", "dilation", "kernel", "groups")


def argument(name: str, array: Array) -> Any:
    """Return a Python number or a tuple where the call had one, else the array.

    >>> import numpy as np
    >>> argument("padding", np.array([[0, 1], [0, 1]]))
    ((0, 1), (0, 1))
    """
    if name in GEOMETRY:
        return as_tuple(array.tolist())
    return array.item() if array.ndim == 0 and array.dtype.char in "l?" else array


def as_tuple(value: Any) -> Any:
    """Return nested lists as tuples."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value
