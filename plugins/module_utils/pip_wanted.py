# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What pip shall bring into an env: hashed pins and git commits, read strictly.

Only the form that the lock tool writes is accepted, so nothing more than the standard library is needed
to understand it: no options, no extras, no markers, no ranges.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
PIN = re.compile(rf"(?P<name>{NAME.pattern})==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
SUBDIRECTORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
GIT_SCHEMES = ("https", "http", "ssh", "git", "file")
FIND_LINKS_SCHEMES = ("https", "http", "file")


class WantedError(ValueError):
    """What was asked for is malformed; the message says where."""


def canonical_name(name: str) -> str:
    """A project's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def brought_by_conda(name: str, conda_packages: Container[str]) -> bool:
    """Whether a project is going to come from conda, by the names of its packages there, spelt as on PyPI."""
    # conda-forge calls some projects NAME-base, and only that is what they need.
    return name in conda_packages or f"{name}-base" in conda_packages


@dataclass(frozen=True)
class Pin:
    """One release from an index or a folder of wheels."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def package(self) -> Package:
        return Package(self.name, self.version)

    @property
    def line(self) -> str:
        """The line for pip."""
        return " ".join([f"{self.name}=={self.version}", *self.hashes])


@dataclass(frozen=True)
class GitPin:
    """One commit of a git repository."""

    name: str
    repo: str
    commit: str
    subdirectory: str

    @property
    def package(self) -> Package:
        return git_package(self.name, self.repo, self.commit, self.subdirectory)

    @property
    def line(self) -> str:
        fragment = f"#subdirectory={self.subdirectory}" if self.subdirectory else ""
        return f"git+{self.repo}@{self.commit}{fragment}"


Wanted: TypeAlias = "Pin | GitPin"


def git_package(name: str, repo: str, commit: str, subdirectory: str) -> Package:
    """How a commit is shown and compared."""
    place = f"{without_password(repo).rstrip('/')}#{subdirectory}".rstrip("#")
    return Package(name, commit[:12], f"from {place}")


def without_password(url: str) -> str:
    """The address without who asks for it: pip may keep or drop that part."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


def parse_requirements(text: str) -> list[Pin]:
    """The pins of a hashed requirements file."""
    pins: dict[str, Pin] = {}
    for number, line in _logical_lines(text):
        pin = _parse_pin(number, line)
        if pin.name in pins:
            raise WantedError(f"requirements, line {number}: {pin.name} is there twice")
        pins[pin.name] = pin
    return list(pins.values())


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines joined over their trailing backslashes, without comments; each with the number of its first line."""
    start, parts = 0, list[str]()
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        start = start if parts else number
        parts.append(line.removesuffix("\\").strip())
        if line.endswith("\\"):
            continue
        if joined := " ".join(part for part in parts if part):
            yield start, joined
        parts = []
    if parts:
        raise WantedError(f"requirements, line {start}: ends in a backslash, but nothing follows")


def _parse_pin(number: int, line: str) -> Pin:
    where = f"requirements, line {number}"
    first, *rest = line.split()
    if first.startswith("-"):
        raise WantedError(f"{where}: {first}: options are not accepted here, nor is -r or -e")
    match = PIN.fullmatch(first)
    if ";" in line:
        raise WantedError(f"{where}: {first}: markers are not accepted; lock for one Python and platform")
    if not match:
        raise WantedError(f"{where}: {first!r} is not of the form name==version")
    if not rest:
        raise WantedError(f"{where}: {first} has no --hash=sha256:...")
    for word in rest:
        if not HASH.fullmatch(word):
            raise WantedError(f"{where}: {first}: {word!r} is not a --hash=sha256:... of 64 digits")
    return Pin(canonical_name(match["name"]), match["version"], tuple(rest))


def parse_git(entries: Iterable[dict[str, str | None]]) -> list[GitPin]:
    """The git commits of the module's ``git`` option."""
    pins: dict[str, GitPin] = {}
    for entry in entries:
        pin = _parse_git_entry({key: value or "" for key, value in entry.items()})
        if pin.name in pins:
            raise WantedError(f"git: {pin.name} is there twice")
        pins[pin.name] = pin
    return list(pins.values())


def _parse_git_entry(entry: dict[str, str]) -> GitPin:
    name, commit, subdirectory = entry["name"], entry["commit"], entry.get("subdirectory", "")
    if not NAME.fullmatch(name):
        raise WantedError(f"git: {name!r} is not a package name")
    if not COMMIT.fullmatch(commit):
        raise WantedError(f"git: {name}: commit must be the full 40 digits, not {commit!r}: a tag or branch can move")
    if subdirectory and not SUBDIRECTORY.fullmatch(subdirectory):
        raise WantedError(f"git: {name}: {subdirectory!r} is not a folder inside the repository")
    return GitPin(canonical_name(name), _git_url(name, entry["repo"]), commit, subdirectory)


def _git_url(name: str, repo: str) -> str:
    """The repository's address in the form that pip takes."""
    url = f"file://{repo}" if repo.startswith("/") else repo
    parts = urlsplit(url)
    if re.search(r"[\s#?]", url) or parts.scheme not in GIT_SCHEMES or not parts.path.strip("/"):
        schemes = ", ".join(f"{scheme}://" for scheme in GIT_SCHEMES)
        raise WantedError(f"git: {name}: repo must be an absolute path or start with one of {schemes}, not {repo!r}")
    # ssh takes a host that starts with a dash for an option.
    if (parts.hostname or "").startswith("-") or (parts.username or "").startswith("-"):
        raise WantedError(f"git: {name}: {repo!r} is not a repository's address")
    if parts.password:
        raise WantedError(
            f"git: {name}: no password in repo: everybody on the machine could see it. "
            "Let git's credential helper or ~/.netrc bring it."
        )
    return url


def as_url(place: str) -> str:
    """A place's URL; files and folders may be named by their paths."""
    return Path(place).as_uri() if place.startswith("/") else place


def parse_find_links(places: Iterable[str]) -> list[str]:
    """Folders and pages with wheels, as URLs or absolute paths."""
    found = []
    for place in places:
        is_url = urlsplit(place).scheme in FIND_LINKS_SCHEMES and not re.search(r"\s", place)
        if not (is_url or place.startswith("/")):
            raise WantedError(f"find_links: {place!r} is neither an absolute path nor a https, http or file URL")
        found.append(place)
    return found
