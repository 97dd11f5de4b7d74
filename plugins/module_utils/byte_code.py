# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Byte code in a prefix, which conda's records need not list, and what pip has put over a conda package."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import Prefix, Record

# With fewer files than this, another process does not gain what its start costs.
_WORTH_A_PROCESS = 100


def compile_packages(prefix: Prefix) -> None:
    """Compiles every Python file of a conda package that has no byte code yet, as many at once as this process may use.

    A first import without it takes several times as long, and on other people's files it could never be written.
    Files that are not valid for the env's Python (some packages ship such) are passed over.
    """
    if not prefix.site_packages or not prefix.python.exists():
        return
    sources = [
        source
        for record in prefix.records.values()
        for source, compiled in _compiled(record, prefix)
        if not os.path.exists(compiled)  # noqa: PTH110 - as in _compiled
    ]
    processes = min(len(os.sched_getaffinity(0)), len(sources) // _WORTH_A_PROCESS + 1)
    if sources:
        with ThreadPoolExecutor(processes) as pool:
            for number in range(processes):
                pool.submit(_compile, prefix, sources[number::processes])


def _compile(prefix: Prefix, sources: list[str]) -> None:
    # Without site, which reads what packages have put there to be run at every start.
    command = [str(prefix.python), "-I", "-S", "-m", "py_compile", "-"]
    subprocess.run(command, input="\n".join(sources), text=True, capture_output=True, check=False)


def remove_compiled(record: Record, prefix: Prefix) -> None:
    """Removes the byte code of a package that is to be linked anew or removed.

    It may be on no record. Left behind, it keeps the folder of a removed package importable, and byte code
    of the old version is taken for that of the new where both carry the same time, as rebuilt packages do.
    """
    for _source, compiled in _compiled(record, prefix):
        path = Path(compiled)
        path.unlink(missing_ok=True)
        _remove_if_empty(path.parent)


def _compiled(record: Record, prefix: Prefix) -> Iterator[tuple[str, str]]:
    """The Python files of a package, each with where its byte code is; not as Path, as there are thousands."""
    site = prefix.site_packages
    if not site:
        return
    library = f"lib/{site.parent.name}/"
    tag = site.parent.name.replace("python", "cpython-").replace(".", "")
    for file in record.files:
        if file.startswith(library) and file.endswith(".py"):
            folder, _slash, name = file.rpartition("/")
            yield f"{prefix.path}/{file}", f"{prefix.path}/{folder}/__pycache__/{name[:-3]}.{tag}.pyc"


def remove_distribution(info: Path, prefix: Path) -> None:
    """Removes a dist-info folder, the files in its RECORD as far as they are inside the prefix, and their byte code."""
    from importlib.metadata import PathDistribution  # noqa: PLC0415 - slow to import, and seldom needed

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
