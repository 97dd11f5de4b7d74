# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Python files in a prefix that no conda record lists: byte code, and what pip has put over a conda package."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import Distribution
from pathlib import Path

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import Prefix


def compile_packages(prefix: Prefix) -> None:
    """Compiles every Python file of a conda package that has no byte code yet, as many at once as this process may use.

    A first import without it takes several times as long, and on other people's files it could never be written.
    Files that are not valid for the env's Python (some packages ship such) are passed over.
    """
    site = prefix.site_packages
    if not site or not prefix.python.exists():
        return
    library = f"lib/{site.parent.name}/"
    tag = site.parent.name.replace("python", "cpython-").replace(".", "")
    sources = [
        source
        for record in prefix.records.values()
        for source in record.files
        if source.startswith(library) and source.endswith(".py")
        and not _byte_code(prefix.path / source, tag).exists()
    ]
    if sources:
        workers = str(len(os.sched_getaffinity(0)))
        subprocess.run(
            [str(prefix.python), "-I", "-m", "compileall", "-q", "-j", workers, "-i", "-"],
            input="\n".join(str(prefix.path / source) for source in sources),
            text=True,
            capture_output=True,
            check=False,
        )


def _byte_code(source: Path, tag: str) -> Path:
    return source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"


def remove_distribution(dist: Distribution, prefix: Path) -> None:
    """Removes the files that pip's RECORD lists, and their byte code, as far as they are inside the prefix."""
    for file in dist.files or []:
        path = Path(os.path.normpath(str(file.locate())))
        if not path.is_relative_to(prefix):
            continue
        path.unlink(missing_ok=True)
        if path.suffix == ".py":
            for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
                compiled.unlink()
        _remove_if_empty(path.parent)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
