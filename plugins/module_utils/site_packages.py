# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What pip and conda have put into an env, read from its files; the env's Python is not started."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution as Metadata
from pathlib import Path
from typing import Literal, NamedTuple

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import (
    canonical_name,
    git_package,
    without_password,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package

VerifyFiles = Literal["none", "size", "sha256"]

INFO = re.compile(r"(?P<stem>[^/]+)\.(?:dist|egg)-info")
INFO_IN_RECORD = re.compile(rf"site-packages/{INFO.pattern}(?:/|$)")
# The characters with which pip fills up the name of what it moved aside.
PIP_FILLING = "-~.=%0123456789"


class PrefixError(Exception):
    """The env cannot be used; the message says why and what to do."""


class CondaOwned(NamedTuple):
    """A Python project that a conda package brought."""

    version: str
    folder: str


class Row(NamedTuple):
    """A line of a RECORD."""

    path: str
    digest: str
    size: str


@dataclass(frozen=True)
class Distribution:
    """One .dist-info or .egg-info in site-packages."""

    info: Path

    @property
    def name(self) -> str:
        return split_stem(self.info.stem)[0]

    @cached_property
    def version(self) -> str:
        """Empty if there is no metadata to read it from."""
        try:
            return Metadata.at(self.info).metadata["Version"] or ""
        except (OSError, TypeError, KeyError):
            return ""

    @cached_property
    def rows(self) -> list[Row] | None:
        """The lines of RECORD; None if there is none: pip writes it last."""
        try:
            with (self.info / "RECORD").open(encoding="utf-8", newline="") as lines:
                return [Row(*line[:3]) for line in csv.reader(lines) if len(line) >= len(Row._fields)]
        except (OSError, UnicodeDecodeError, csv.Error):
            return None

    def had(self, entry: str) -> bool:
        """Whether an entry of site-packages looks like one of its own that pip has moved aside."""
        return any(_is_moved_aside(entry, top) for top in {row.path.partition("/")[0] for row in self.rows or []})

    @property
    def whole(self) -> bool:
        """Whether pip (or whoever it was) finished it; an egg-info never has a RECORD."""
        return bool(self.version) and (self.info.suffix == ".egg-info" or bool(self.rows))

    @property
    def package(self) -> Package:
        """How it is shown and compared: an install from git by its commit, one from a folder by that."""
        origin = self._direct_url()
        url, vcs = str(origin.get("url", "")), origin.get("vcs_info")
        if isinstance(vcs, dict):
            return git_package(self.name, url, str(vcs.get("commit_id", "")), str(origin.get("subdirectory", "")))
        if "dir_info" in origin:
            return Package(self.name, self.version, f"from {without_password(url)}")
        return Package(self.name, self.version)

    def _direct_url(self) -> dict[str, object]:
        try:
            found = json.loads((self.info / "direct_url.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


class SitePackages:
    """An env's site-packages folder, with what belongs to conda in it."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.folder = find_site_packages(prefix)
        self._entries = sorted(path.name for path in self.folder.iterdir())

    @cached_property
    def conda(self) -> dict[str, CondaOwned]:
        """The projects that conda packages brought, by name, from the records in conda-meta."""
        found = {}
        for path in sorted((self.prefix / "conda-meta").glob("*.json")):
            for stem, folder in _infos_in(path):
                name, version = split_stem(stem)
                found[name] = CondaOwned(version, folder)
        return found

    @cached_property
    def distributions(self) -> dict[str, list[Distribution]]:
        """Everything that says it is installed, by project: more than one is a fault."""
        found: dict[str, list[Distribution]] = {}
        for entry in self._entries:
            if INFO.fullmatch(entry) and not entry.startswith("~"):
                distribution = Distribution(self.folder / entry)
                found.setdefault(distribution.name, []).append(distribution)
        return found

    @cached_property
    def leftovers(self) -> dict[str, list[Path]]:
        """What an interrupted pip had moved aside (``~umpy``), by project."""
        aside = [entry for entry in self._entries if entry.startswith("~")]
        infos = {entry: Distribution(self.folder / entry) for entry in aside if INFO.fullmatch(entry)}
        names = {entry: canonical_name(_metadata_name(distribution)) for entry, distribution in infos.items()}
        found: dict[str, list[Path]] = {}
        for entry in aside:
            here = {d.name for group in self.distributions.values() for d in group if d.had(entry)}
            moved = {names[info] for info, d in infos.items() if d.had(entry)}
            owners = {names[entry]} if entry in infos else moved or here
            # Without a name in it, what could be of two projects is nobody's.
            if len(owners) == 1:
                found.setdefault(owners.pop(), []).append(self.folder / entry)
        return found

    @cached_property
    def _claims(self) -> Counter[str]:
        """How many projects say that a file is theirs."""
        every = (d for group in self.distributions.values() for d in group)
        return Counter(row.path for distribution in every for row in distribution.rows or [])

    def faults(self, distribution: Distribution, verify: VerifyFiles) -> str:
        """What is wrong with its files, in words; empty if nothing is."""
        if verify == "none" or not distribution.rows:
            return ""
        missing, changed = [], []
        for row in distribution.rows:
            state = self._state(row, verify)
            if state == "missing":
                missing.append(row.path)
            elif state == "changed":
                changed.append(row.path)
        return ", ".join(filter(None, [_count("missing", missing), _count("changed", changed)]))

    def _state(self, row: Row, verify: VerifyFiles) -> Literal["fine", "missing", "changed"]:
        path = self._checked_path(row.path)
        if path is None:
            return "fine"
        try:
            size = os.stat(path).st_size  # noqa: PTH116 - many thousand times: as plain as can be
        except OSError:
            return "missing"
        # A command in bin/ carries the path of the env; a file of two projects is as the last one left it.
        if path.startswith(f"{self.prefix}/bin/") or self._claims[row.path] > 1:
            return "fine"
        if row.size.isdigit() and int(row.size) != size:
            return "changed"
        return "fine" if verify == "size" or _digest_fits(path, row.digest) else "changed"

    def _checked_path(self, path: str) -> str | None:
        """The file's place, None for what is not checked: byte code, RECORD itself, anything outside of the env."""
        if path.endswith((".pyc", ".pyo", ".dist-info/RECORD")) or "__pycache__/" in path:
            return None
        if not path.startswith(("/", "../")) and "/../" not in path:
            return f"{self.folder}/{path}"
        place = os.path.normpath(f"{self.folder}/{path}" if not path.startswith("/") else path)
        return place if place.startswith(f"{self.prefix}/") else None

    def remove(self, paths: list[Path]) -> None:
        """Takes away what an interrupted pip left in this folder."""
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def find_site_packages(prefix: Path) -> Path:
    """The site-packages of the env's Python; an upgraded Python leaves its predecessor's folder behind."""
    found = [p for p in prefix.glob("lib/python3.*/site-packages") if re.fullmatch(r"python3\.\d+", p.parent.name)]
    if len(found) > 1:
        found = [p for p in found if (prefix / "bin" / p.parent.name).exists()]
    if len(found) != 1 or not (prefix / "bin" / "python").exists():
        raise PrefixError(f"{prefix} has no Python of its own: let conda_env install python and pip into it first")
    return found[0]


def split_stem(stem: str) -> tuple[str, str]:
    """Name and version from ``Name-1.0`` or ``Name-1.0-py3.6``."""
    name, rest = stem.partition("-")[::2]
    return canonical_name(name), rest.partition("-")[0]


def canonical_version(version: str) -> tuple[str | int, ...]:
    """Equal for two spellings of one version: 1.0 and 1.0.0, 2021.05.30 and 2021.5.30, 1.0-rc.1 and 1.0rc1."""
    spelt = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc", "rev": "post", "r": "post"}
    public, local = version.strip().lower().removeprefix("v").partition("+")[::2]
    public = re.sub(r"-(\d+)$", r".post\1", public)
    words = re.findall(r"\d+|[a-z]+|!", public)
    parts: list[str | int] = [int(word) if word.isdigit() else spelt.get(word, word) for word in words]
    release = next((i for i, part in enumerate(parts) if part != "!" and isinstance(part, str)), len(parts))
    end = release
    while end and parts[end - 1] == 0:
        end -= 1
    # A letter without a number means number 0.
    rest = parts[release:] if not parts or isinstance(parts[-1], int) else [*parts[release:], 0]
    return (*parts[:end], *rest, "+", *re.split(r"[-_.]", local))


def _infos_in(record: Path) -> Iterator[tuple[str, str]]:
    """Stem and name of each .dist-info and .egg-info among the files of a conda package."""
    try:
        files = json.loads(record.read_bytes()).get("files", [])
    except (OSError, ValueError, AttributeError) as error:
        raise PrefixError(f"{record} cannot be read ({error}): let conda_env repair the env first") from error
    for stem, name in {(m["stem"], m[0]) for m in map(INFO_IN_RECORD.search, files) if m}:
        yield stem, name.removeprefix("site-packages/").rstrip("/")


def _metadata_name(distribution: Distribution) -> str:
    try:
        return Metadata.at(distribution.info).metadata["Name"] or ""
    except (OSError, TypeError, KeyError):
        return ""


def _is_moved_aside(entry: str, original: str) -> bool:
    """Whether pip would have moved ``original`` to ``entry``: as long, another beginning."""
    return len(entry) == len(original) and original.endswith(entry.lstrip(PIP_FILLING))


def _digest_fits(path: str, recorded: str) -> bool:
    """Whether a file's content is what RECORD says (``sha256=`` and unpadded base64)."""
    algorithm, wanted = recorded.partition("=")[::2]
    if not wanted or algorithm not in hashlib.algorithms_available:
        return True
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, algorithm).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == wanted


def _count(what: str, paths: list[str]) -> str:
    if not paths:
        return ""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{what}: {min(paths)}{more}"
