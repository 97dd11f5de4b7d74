# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a lock is one for what is asked for now, and whether a mirror has its files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.lock_file import Lock, LockFileError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import Pin, brought_by_conda, canonical_name
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package

try:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version
except ImportError:
    SpecifierSet = None  # type: ignore[assignment,misc] # complaints() says what is missing

CONDA_SPEC = re.compile(r"(?:\S+::)?(?P<name>[A-Za-z0-9_.-]+)\s*(?P<version>[=<>!~][^\[]*)?")


def complaints(lock: Lock, specs: Iterable[str], pins: Iterable[Pin] | None) -> Iterator[str]:
    """What the lock has other than asked for, a line each; without ``pins`` its part for pip can be anything.

    Raises LockFileError where that cannot be found out.
    """
    if SpecifierSet is None:
        raise LockFileError("packaging is missing for the Python that reads the lock: every controller has it")
    conda = {file.package.name: file.package for file in lock.conda}
    for spec in specs:
        match = CONDA_SPEC.match(spec.strip())
        package = conda.get(match["name"].lower()) if match else None
        if not (match and package and _satisfies(package, match["version"] or "")):
            yield f"{spec} is wanted from conda, it has {package or 'nothing of that name'}"
    if pins is None:
        return
    pip = {file.package.name: file.package for file in lock.pip}
    brought = {canonical_name(name) for name in conda}
    wanted = {pin.name: pin.package for pin in pins if not brought_by_conda(pin.name, brought)}
    if wanted and not pip:
        yield f"{len(wanted)} packages are wanted from pip, it has no part for pip"
        return
    for name in sorted(wanted.keys() | pip.keys()):
        if wanted.get(name) != pip.get(name):
            yield f"{wanted.get(name, f'no {name}')} is wanted from pip, it has {pip.get(name, 'nothing of that name')}"


def _satisfies(package: Package, version: str) -> bool:
    """Whether a package fits the version of a spec; what only conda's own solver understands is taken to fit."""
    version = version.replace(" ", "")
    if version.startswith("="):
        operator = version[: 2 if version.startswith("==") else 1]
        number, _equals, build = version.removeprefix(operator).partition("=")
        if build and not fnmatchcase(package.build, build):
            return False
        version = f"=={number}" if operator == "==" or number.endswith("*") else f"=={number}.*"
    try:
        return Version(package.version) in SpecifierSet(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return True


def lacking(lock: Lock, mirror: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """The lock's files that are not in a mirror, or are others there, a line each; ``mirror`` is its manifest's."""
    for file in (*lock.conda, *lock.pip):
        if file.place not in mirror:
            yield f"{file.place} is not in it"
        elif mirror[file.place]["sha256"] != file.sha256:
            yield f"{file.place} has the SHA-256 {mirror[file.place]['sha256']} there, and {file.sha256} in the lock"
