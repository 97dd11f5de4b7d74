# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Python files in a prefix that no conda record lists: byte code, and what pip has put over a conda package."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PathDistribution
from pathlib import Path

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import Prefix, Record


def compile_packages(prefix: Prefix) -> None:
    """Compiles every Python file of a conda package that has no byte code yet, as many at once as this process may use.

    A first import without it takes several times as long, and on other people's files it could never be written.
    Files that are not valid for the env's Python (some packages ship such) are passed over.
    """
    if not prefix.site_packages or not prefix.python.exists():
        return
    sources = [
        str(source)
        for record in prefix.records.values()
        for source, compiled in _compiled(record, prefix)
        if not compiled.exists()
    ]
    if sources:
        workers = str(len(os.sched_getaffinity(0)))
        subprocess.run(
            [str(prefix.python), "-I", "-m", "compileall", "-q", "-j", workers, "-i", "-"],
            input="\n".join(sources),
            text=True,
            capture_output=True,
            check=False,
        )


def remove_compiled(record: Record, prefix: Prefix) -> None:
    """Removes the byte code of a package that is to be linked anew or removed.

    It is on no record. Left behind, it keeps the folder of a removed package importable, and byte code
    of the old version is taken for that of the new where both carry the same time, as rebuilt packages do.
    """
    for _source, compiled in _compiled(record, prefix):
        compiled.unlink(missing_ok=True)
        _remove_if_empty(compiled.parent)


def _compiled(record: Record, prefix: Prefix) -> Iterator[tuple[Path, Path]]:
    """The Python files of a package, each with where its byte code is."""
    site = prefix.site_packages
    if not site:
        return
    library = f"lib/{site.parent.name}/"
    tag = site.parent.name.replace("python", "cpython-").replace(".", "")
    for file in record.files:
        if file.startswith(library) and file.endswith(".py"):
            source = prefix.path / file
            yield source, source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"


def remove_distribution(info: Path, prefix: Path) -> None:
    """Removes a dist-info folder, the files in its RECORD as far as they are inside the prefix, and their byte code."""
    for file in PathDistribution(info).files or []:
        path = Path(os.path.normpath(info.parent / file))
        if not path.is_relative_to(prefix):
            continue
        path.unlink(missing_ok=True)
        if path.suffix == ".py":
            for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
                compiled.unlink()
            _remove_if_empty(path.parent / "__pycache__")
        _remove_if_empty(path.parent)
    shutil.rmtree(info, ignore_errors=True)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
