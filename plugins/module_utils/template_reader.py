# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reading a template: what is in it, what every replica needs a copy of, and whether it can be shared at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

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
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import Prefix

# conda appends to it, in place.
OWN_FILES = {f"{META}/history"}


class TemplateError(Exception):
    """The template cannot be shared; the text says why."""


def _source(name: str) -> str:
    """The source of a file with byte code; Python takes the one for the other by time and size alone.

    Where a source is rewritten, its byte code is not shared: it has the template's path.
    """
    if not name.endswith(".pyc"):
        return ""
    folder, _slash, leaf = name.rpartition("/")
    if not folder.endswith(CACHE):
        return ""
    return f"{folder.removesuffix(CACHE)}{leaf.split('.')[0]}.py"


def read_template(path: Path, own: list[str], known: Manifest | None = None, *, mend: bool) -> Manifest:
    """The manifest of a template, which is in a place that only this user can write to.

    Files that are as in ``known``, the last one, are not read again. Everybody is to read all of it and nobody else to
    write to it; with ``mend`` modes that say otherwise are changed. Raises TemplateError and OSError.
    """
    same = known and (known.prefix, known.own) == (str(path), tuple(own))
    reader = _Reader(path, tuple(own), {f.path: f.entries for f in known.folders} if known and same else {}, mend)
    return Manifest(str(path), tuple(own), list(reader.folders()))


class _Reader:
    """One reading of a template."""

    def __init__(self, path: Path, own: tuple[str, ...], known: dict[str, dict[str, Entry]], mend: bool) -> None:
        self.path = path
        self.prefix = os.fsencode(path)
        self.own = own
        self.known = known
        self.mend = mend
        self.rewritten: set[str] = set()

    def folders(self, path: str = "") -> Iterator[Folder]:
        here = f"{self.path}/{path}" if path else str(self.path)
        with os.scandir(here) as found:
            entries = sorted(found, key=lambda e: e.name)
        status = Path(here).stat()
        self.check(here, status)
        folder = Folder(path, status.st_mtime_ns)
        known = self.known.get(path, {})
        below = []
        for entry in entries:
            name = f"{path}/{entry.name}" if path else entry.name
            if entry.is_dir(follow_symlinks=False):
                below.append(name)
            elif name not in NOT_SHARED and _source(name) not in self.rewritten:
                folder.entries[entry.name] = self.entry(name, entry, known.get(entry.name))
                if folder.entries[entry.name].kind == TEXT:
                    self.rewritten.add(name)
        yield folder
        for name in below:
            yield from self.folders(name)

    def entry(self, name: str, entry: os.DirEntry[str], known: Entry | None) -> Entry:
        found = entry.stat(follow_symlinks=False)
        self.check(entry.path, found)
        facts = (found.st_size, found.st_mtime_ns, found.st_ino)
        if known and known[1:4] == facts:
            return known
        if stat.S_ISLNK(found.st_mode):
            return Entry(SYMLINK, *facts, str(Path(entry.path).readlink()))
        if not stat.S_ISREG(found.st_mode):
            raise TemplateError(f"{entry.path} is neither a file nor a folder; remove it")
        placeholder, mode = self.recorded.get(name, (None, ""))
        if placeholder and mode == "binary":
            return Entry(BINARY, *facts, len(placeholder))
        return Entry(self.kind(name, entry.path, rewritten=bool(placeholder)), *facts)

    def kind(self, name: str, path: str, *, rewritten: bool) -> str:
        """What replicas get of a file that is no compiled one of conda's with a prefix in it."""
        if name in OWN_FILES:
            return OWN
        if any(name.startswith(f"{own}/") for own in self.own):
            # What git has stored it never changes: with those links, a clone's history takes no space.
            return LINK if "/.git/objects/" in name else OWN
        if rewritten or (name not in self.plain and not name.endswith(".pyc") and self.has_prefix(path)):
            return TEXT
        return LINK

    def check(self, path: str, found: os.stat_result) -> None:
        """Raises TemplateError for what somebody else could change while users run it; mends modes."""
        if found.st_uid not in (0, os.geteuid()):
            raise TemplateError(f"{path} belongs to user {found.st_uid}, who could change what everybody runs")
        mode = stat.S_IMODE(found.st_mode)
        wanted = mode & ~0o022 | 0o444 | (0o111 if mode & 0o100 else 0)
        if self.mend and mode != wanted and not stat.S_ISLNK(found.st_mode):
            Path(path).chmod(wanted)

    def has_prefix(self, path: str) -> bool:
        """Whether a file that no package's record describes is a text with the template's path in it.

        A compiled one, such as what pip has built, has no room for another; the template's path serves it as well.
        """
        content = Path(path).read_bytes()
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
