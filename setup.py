"""Build a tree that is read-only, too: setuptools writes beside what it builds.

Links of the README are relative in the tree. In the description of the package they
lead to the public address of the sources, ``url`` in setup.cfg; while there is none,
they are the paths that they name. Everything else about the package is in setup.cfg.
"""

import atexit
import os
import re
import shutil
import tempfile
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup


def description(readme: str, address: str) -> str:
    """Make links into the tree lead to an address; without one, name their paths."""

    def away(link: re.Match[str]) -> str:
        image, text, path = link.groups()
        if not address:
            named = f"`{path}`" if text == path else f"{text} (`{path}`)"
            return "" if image else named
        kind = "raw" if image else "blob"
        return f"{image}[{text}]({address.rstrip('/')}/{kind}/HEAD/{path})"

    return re.sub(r"(!?)\[([^]]*)\]\((?![a-z]+:)([^)]+)\)", away, readme)


if __name__ == "__main__":
    if not os.access(".", os.W_OK):
        folder = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        copy = folder / "copy"
        left = shutil.ignore_patterns(".git")
        shutil.copytree(".", copy, ignore=left, copy_function=shutil.copyfile)
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.chdir(copy)
    settings = ConfigParser()
    settings.read("setup.cfg", encoding="utf-8")
    readme = Path("README.md").read_text(encoding="utf-8")
    address = settings.get("metadata", "url", fallback="")
    setup(
        long_description=description(readme, address),
        long_description_content_type="text/markdown",
    )
