# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reading a template: what is in it, what every replica needs a copy of, and whether it can be shared at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from operator import attrgetter
from pathlib import Path

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.at_once import Part, in_processes, parts, processors
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.env_manifest import (
    BINARY,
    CACHE,
    LINK,
    META,
    NOT_SHARED,
    OWN,
    SYMLINK,
    TEXT,
    Entry,
    Folder,
    Manifest,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.folders import opened
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import Prefix

# conda appends to it, in place.
OWN_FILES = {f"{META}/history"}


_NAME = attrgetter("name")


class TemplateError(Exception):
    """The template cannot be shared; the text says why."""


def _is_of_rewritten(name: str, sources: dict[str, Entry]) -> bool:
    """Whether a file of byte code is that of a source that is rewritten.

    Python takes the one for the other by time and size alone, and it has the template's path: it is not shared.
    """
    source = sources.get(f"{name.partition('.')[0]}.py") if name.endswith(".pyc") else None
    return source is not None and source.kind == TEXT


def read_template(path: Path, own: list[str], known: Manifest | None = None, *, mend: bool) -> Manifest:
    """The manifest of a template, which is in a place that only this user can write to.

    It is ``known``, the last one, if all is as in there; files that are as in there are not read again. Everybody is to
    read all of it and nobody else to write to it; with ``mend`` modes that say otherwise are changed. Raises
    TemplateError and OSError.
    """
    if known and ((known.prefix, known.own) != (str(path), tuple(own)) or not known.folders):
        known = None
    if known and in_processes(_Reader(path, tuple(own), known, mend).finds, parts(known.folders, processors())):
        return known
    return Manifest(str(path), tuple(own), list(_Reader(path, tuple(own), known, mend).folders()))


class _Reader:
    """One reading of a template."""

    def __init__(self, path: Path, own: tuple[str, ...], known: Manifest | None, mend: bool) -> None:
        self.path = path
        self.prefix = os.fsencode(path)
        self.own = own
        self.known = known.by_path if known else {}
        self.seen: dict[str, Folder] = {}
        self.mend = mend
        self.owners = {0, os.geteuid()}
        self.fine: set[int] = set()  # modes that need no mending

    def finds(self, folders: Part) -> bool:
        """Whether these folders are as they are known; if anything is wrong with them, another reading says what."""
        self.seen = self.known
        with suppress(OSError, TemplateError, LookupError):
            return all(self.is_known(*self.folder(folder.path)) for folder in folders)
        return False

    def is_known(self, folder: Folder, below: list[str]) -> bool:
        return folder.entries == self.known[folder.path].entries and self.known.keys() >= set(below)

    def folders(self) -> Iterator[Folder]:
        waiting = [""]
        while waiting:
            folder, below = self.folder(waiting.pop())
            self.seen[folder.path] = folder
            yield folder
            waiting += reversed(below)

    def folder(self, path: str) -> tuple[Folder, list[str]]:
        """One folder, and the paths of those in it."""
        below = []
        known = self.known[path].entries if path in self.known else {}
        above, _slash, leaf = path.rpartition("/")
        sources = self.seen[above].entries if leaf == CACHE else {}
        start = f"{path}/" if path else ""
        with opened(f"{self.path}/{path}") as fd, os.scandir(fd) as found:
            status = os.fstat(fd)
            self.check(path, status)
            folder = Folder(path, status.st_mtime_ns)
            for entry in sorted(found, key=_NAME):
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    below.append(start + name)
                elif not (sources and _is_of_rewritten(name, sources)) and start + name not in NOT_SHARED:
                    folder.entries[name] = self.entry(start + name, entry.stat(follow_symlinks=False), known.get(name))
        return folder, below

    def entry(self, name: str, found: os.stat_result, known: Entry | None) -> Entry:
        if found.st_uid not in self.owners or found.st_mode not in self.fine:
            self.check(name, found)
        facts = (found.st_size, found.st_mtime_ns, found.st_ino)
        if known and known[1:4] == facts:
            return known
        if stat.S_ISLNK(found.st_mode):
            return Entry(SYMLINK, *facts, str((self.path / name).readlink()))
        if not stat.S_ISREG(found.st_mode):
            raise TemplateError(f"{self.path / name} is neither a file nor a folder; remove it")
        placeholder, mode = self.recorded.get(name, (None, ""))
        if placeholder and mode == "binary":
            return Entry(BINARY, *facts, len(placeholder))
        return Entry(self.kind(name, rewritten=bool(placeholder)), *facts)

    def kind(self, name: str, *, rewritten: bool) -> str:
        """What replicas get of a file that is no compiled one of conda's with a prefix in it."""
        if name in OWN_FILES:
            return OWN
        if any(name.startswith(f"{own}/") for own in self.own):
            # What git has stored it never changes: with those links, a clone's history takes no space.
            return LINK if "/.git/objects/" in name else OWN
        if rewritten or (name not in self.plain and not name.endswith(".pyc") and self.has_prefix(name)):
            return TEXT
        return LINK

    def check(self, name: str, found: os.stat_result) -> None:
        """Raises TemplateError for what somebody else could change while users run it; mends modes."""
        if found.st_uid not in self.owners:
            raise TemplateError(
                f"{self.path / name} belongs to user {found.st_uid}, who could change what everybody runs"
            )
        mode = stat.S_IMODE(found.st_mode)
        wanted = mode & ~0o022 | 0o444 | (0o111 if mode & 0o100 else 0)
        if mode == wanted or stat.S_ISLNK(found.st_mode):
            self.fine.add(found.st_mode)
        elif self.mend:
            (self.path / name).chmod(wanted)

    def has_prefix(self, name: str) -> bool:
        """Whether a file that no package's record describes is a text with the template's path in it.

        A compiled one, such as what pip has built, has no room for another; the template's path serves it as well.
        """
        content = (self.path / name).read_bytes()
        return self.prefix in content and b"\0" not in content

    @cached_property
    def recorded(self) -> dict[str, tuple[str | None, str]]:
        """Files that conda has linked: the placeholder of those that were rewritten, and how."""
        return {
            entry["_path"]: (entry.get("prefix_placeholder"), entry.get("file_mode", ""))
            for record in Prefix(self.path).records.values()
            for entry in record.paths
            if entry.get("path_type", "hardlink") == "hardlink"
        }

    @cached_property
    def plain(self) -> set[str]:
        """Files that are as they were in their package. pip's launchers may stand in the place of conda's."""
        return {name for name, (placeholder, _mode) in self.recorded.items() if not placeholder} - {
            name for name in self.recorded if name.startswith("bin/")
        }
