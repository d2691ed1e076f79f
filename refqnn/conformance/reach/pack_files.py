"""A pack on disk: written whole, read with schema and digest checked."""

import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from refqnn._types import Array
from refqnn.conformance.choices.families import Outputs, family_of
from refqnn.conformance.reach.json_schema import problems
from refqnn.conformance.reach.packs import Case, Pack, digest
from refqnn.files import Unreadable, read_json, read_npz, write_json, write_npz


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
        manifest = read_json(path / "manifest.json")
        arrays = read_npz(path / "vectors.npz")
    except (OSError, ValueError) as error:
        raise Unreadable(f"{folder} is no pack: {error}") from error
    if wrong := problems(manifest, schema()):
        raise Unreadable(f"{folder}: the manifest is none: {wrong[0]}")
    if digest(arrays, manifest) != manifest["digest"]:
        raise Unreadable(f"{folder}: manifest and vectors are not what the digest says")
    try:
        of = family_of(manifest["family"])
        cases = tuple(read_case(row, arrays) for row in manifest["cases"])
        semantics = of.choices(manifest["semantics"])
    except (KeyError, ValueError) as error:
        raise Unreadable(f"{folder}: the manifest does not fit: {error}") from error
    return Pack(
        manifest["family"],
        manifest.get("profile", ""),
        semantics,
        cases,
        tuple(manifest.get("open", ())),
    )


def read_case(row: Mapping[str, Any], arrays: Mapping[str, Array]) -> Case:
    """Return one case of a manifest."""
    name = row["name"]

    def held(place: str) -> Outputs:
        return {k: arrays[f"{name}/{place}/{k}"] for k in row["outputs"]}

    return Case(
        name,
        {k: argument(k, arrays[f"{name}/in/{k}"]) for k in row["inputs"]},
        held("out"),
        row["policy"],
        tuple(row["reveals"]),
        row["result"],
        tuple(held(f"also/{i}") for i in range(row.get("alternatives", 0))),
        row.get("may_be_refused", False),
    )


#: arguments that are Python numbers or tuples of them
GEOMETRY = ("stride", "padding", "dilation", "kernel", "groups")


def argument(name: str, array: Array) -> Any:
    """Return what was a Python number or a tuple as one again, the rest as it is.

    >>> import numpy as np
    >>> argument("padding", np.array([[0, 1], [0, 1]]))
    ((0, 1), (0, 1))
    """
    if name in GEOMETRY:
        return tupled(array.tolist())
    return array.item() if array.ndim == 0 and array.dtype.char in "l?" else array


def tupled(value: Any) -> Any:
    """Return nested lists as tuples."""
    return tuple(map(tupled, value)) if isinstance(value, list) else value


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a manifest."""
    file = resources.files("refqnn.conformance.reach") / "schema" / "pack.json"
    return dict(json.loads(file.read_text(encoding="utf-8")))
