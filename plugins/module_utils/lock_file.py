# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads a lock, a file in the pixi.lock format, as plain data: every file that an env consists of, with its SHA-256.

``read(text, name)`` needs PyYAML, which every controller has; a target need not, so playbooks read a lock there
(module ``env_lock_info``) and hand the data on. Each ``LockedFile`` has the package, the file's URL, its SHA-256 and
its place in a mirror, ``channel/linux-64/FILE`` or ``wheels/FILE``. Anything that is not pinned to one file by its
SHA-256 (sources, git commits, folders) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import canonical_name
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package

try:
    import yaml
except ImportError:
    yaml = None  # type: ignore[assignment] # read() says what is missing

FORMATS = (6, 7)
ENVIRONMENT = "default"
CONDA_FILE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)(?:\.conda|\.tar\.bz2)")
PIP_FILE = re.compile(r"[A-Za-z0-9][\w.!+-]*(?:\.whl|\.tar\.gz|\.tar\.bz2|\.zip)", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}")


class LockFileError(Exception):
    """It is no lock that can be used here; the message says why and what to do."""


@dataclass(frozen=True)
class LockedFile:
    """One package of a lock, pinned to one file; its ``url`` is an absolute path where it came from a folder."""

    package: Package
    url: str
    sha256: str
    place: str

    def result(self) -> dict[str, str]:
        """The file as a module returns it."""
        return {**self.package.result(), "url": self.url, "sha256": self.sha256, "place": self.place}


@dataclass(frozen=True)
class Lock:
    """What a lock has for one platform: conda's packages, and those that pip adds."""

    conda: list[LockedFile]
    pip: list[LockedFile]

    @property
    def requirements(self) -> str:
        """What it has for pip, as hashed requirements."""
        packages = ((file.package, file.sha256) for file in self.pip)
        return "".join(f"{package.name}=={package.version} --hash=sha256:{sha256}\n" for package, sha256 in packages)


def read(text: str, name: str, platform: str = "linux-64") -> Lock:
    """The packages of a lock's default environment; ``name`` is what messages call the lock. Raises LockFileError."""
    if yaml is None:
        raise LockFileError("PyYAML is missing for the Python that reads the lock: every controller has it")
    try:
        data = yaml.safe_load(text)
        if data["version"] not in FORMATS:
            known = " and ".join(map(str, FORMATS))
            raise LockFileError(f"{name} is a lock of format {data['version']}; known are {known}")
        records = {_key(record): record for record in data["packages"]}
        packages = data["environments"][ENVIRONMENT]["packages"]
        if platform not in packages:
            there = ", ".join(sorted(packages)) or "no platform at all"
            raise LockFileError(f"{name} is for {there}, not for {platform}")
        listed = [records[_key(entry)] for entry in packages[platform]]
        return Lock(list(_conda_files(listed, name, platform)), list(_pip_files(listed, name)))
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise LockFileError(f"{name} is not a lock in the pixi.lock format: {error!r}") from error


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    """What an environment's list names a package by: its kind and its place."""
    kind, place = next(iter(entry.items()))
    return kind, str(place)


def _conda_files(records: list[dict[str, Any]], name: str, platform: str) -> Iterator[LockedFile]:
    for record in records:
        if "conda" in record:
            path = PurePosixPath(unquote(urlsplit(record["conda"]).path))
            match = CONDA_FILE.fullmatch(path.name)
            if not match:
                raise LockFileError(f"{name}: {record['conda']} is not a conda package's file")
            subdir = record.get("subdir") or path.parent.name
            if subdir not in (platform, "noarch"):
                raise LockFileError(f"{name}: {record['conda']} is for {subdir}, not for {platform}")
            package = Package(match["name"], match["version"], match["build"])
            yield _file(record, record["conda"], package, f"channel/{subdir}/{path.name}", name)


def _pip_files(records: list[dict[str, Any]], name: str) -> Iterator[LockedFile]:
    for record in records:
        if "pypi" in record:
            url = urldefrag(record["pypi"]).url
            file = PurePosixPath(unquote(urlsplit(url).path)).name
            if not PIP_FILE.fullmatch(file):
                raise LockFileError(f"{name}: {url} is neither a wheel nor a source archive")
            yield _file(
                record, url, Package(canonical_name(record["name"]), str(record["version"])), f"wheels/{file}", name
            )


def _file(record: dict[str, Any], url: str, package: Package, place: str, name: str) -> LockedFile:
    sha256 = str(record.get("sha256", ""))
    if not SHA256.fullmatch(sha256):
        raise LockFileError(f"{name}: {url} has no SHA-256, so its bytes are not pinned")
    return LockedFile(package, url, sha256, place)
