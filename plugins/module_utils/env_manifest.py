# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All that is in a template, as a manifest: what a replica is made from, and compared with later."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO, NamedTuple

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.folders import opened
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import LOCK_NAME

# What a template had when a replica was made from it; in the template and, the same file, in the replica.
MANIFEST = ".crophpc-manifest"  # not .json: every such file here is a package to conda
_FORMAT = 1
_LARGEST = 1 << 27  # bytes; that of an env with 30,000 files has 2 MB

# What a replica gets of a template's entry.
LINK = "link"  # the same file
TEXT = "text"  # a file of its own, with its own prefix
BINARY = "binary"  # the same, compiled; ``extra`` is how long the prefix may be
OWN = "own"  # a file of its own, for its user to change
SYMLINK = "symlink"  # ``extra`` is where it leads

META = "conda-meta"
CACHE = "__pycache__"
# Of this run alone, or of an earlier one.
NOT_SHARED = {f"{META}/{name}" for name in (LOCK_NAME, MANIFEST, f"{MANIFEST}.part")}


class Entry(NamedTuple):
    """A file or a symbolic link of a template."""

    kind: str
    size: int
    mtime: int  # nanoseconds
    inode: int
    extra: str | int = ""


@dataclass
class Folder:
    """A folder of a template; ``path`` is below the template, empty for itself."""

    path: str
    mtime: int
    entries: dict[str, Entry] = field(default_factory=dict)


class ManifestError(Exception):
    """The file is not a manifest."""


@dataclass(frozen=True)
class Manifest:
    """The contents of a template. ``folders`` are in the order of a walk: each after the one that it is in.

    ``own`` are folders whose files are the users' to change.
    """

    prefix: str
    own: tuple[str, ...]
    folders: list[Folder]

    @cached_property
    def key(self) -> str:
        """A hash of everything that is shared; equal keys mean that a replica has nothing new to get."""
        digest = hashlib.sha256(json.dumps([_FORMAT, self.prefix, self.own]).encode())
        for folder in self.folders:
            # Python renews byte code by itself, and git its index, whenever either likes.
            if not folder.path.endswith(CACHE):
                renewed = {"index"} if folder.path.endswith("/.git") else set()
                entries = [(name, e) for name, e in sorted(folder.entries.items()) if name not in renewed]
                digest.update(json.dumps([folder.path, entries]).encode())
        return digest.hexdigest()

    @cached_property
    def by_path(self) -> dict[str, Folder]:
        return {folder.path: folder for folder in self.folders}

    @cached_property
    def room(self) -> int:
        """How long a prefix the compiled files have room for."""
        rooms = [int(e.extra) for folder in self.folders for e in folder.entries.values() if e.kind == BINARY]
        return min(rooms, default=os.pathconf("/", "PC_PATH_MAX"))

    @cached_property
    def packages(self) -> dict[str, str]:
        """What is installed, conda's and pip's: ``name version`` to the build, or to ``pip``."""
        found = {}
        for name in self.by_path[META].entries if META in self.by_path else ():
            parts = name.removesuffix(".json").rsplit("-", 2)
            if name.endswith(".json") and len(parts) == 3:  # noqa: PLR2004 - a package's name, version and build
                found[f"{parts[0]} {parts[1]}"] = parts[2]
        for folder in self.folders:
            parent, _slash, leaf = folder.path.rpartition("/")
            if leaf.endswith(".dist-info") and parent.endswith("/site-packages"):
                name, _dash, version = leaf.removesuffix(".dist-info").rpartition("-")
                found.setdefault(f"{name.lower().replace('_', '-')} {version}", "pip")
        return found

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for folder in self.folders for entry in folder.entries.values())

    @property
    def size_with_links(self) -> int:
        """About how many bytes a replica takes in which files are links where they can be."""
        block = 4096
        files = sum(
            entry.size + block
            for folder in self.folders
            for entry in folder.entries.values()
            if entry.kind in (TEXT, BINARY, OWN)
        )
        return files + len(self.folders) * block

    def is_own(self, path: str) -> bool:
        """Whether a path is in a folder whose files are the users' to change."""
        return any(path == own or path.startswith(f"{own}/") for own in self.own)

    # --- as a file ---

    def dump(self) -> bytes:
        """Its file: the key in the first line, so that two can be compared without reading them."""
        head = {"format": _FORMAT, "key": self.key, "prefix": self.prefix, "own": self.own}
        body = [[f.path, f.mtime, [[name, *entry] for name, entry in f.entries.items()]] for f in self.folders]
        return f"{json.dumps(head)}\n{json.dumps(body, separators=(',', ':'))}\n".encode()

    @classmethod
    def load(cls, content: bytes) -> Manifest:
        """Raises ManifestError."""
        try:
            first, second = content.splitlines()
            head = json.loads(first)
            folders = [
                Folder(str(path), int(mtime), {str(name): Entry._make(entry) for name, *entry in entries})
                for path, mtime, entries in json.loads(second)
            ]
            manifest = cls(str(head["prefix"]), tuple(head["own"]), folders)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise ManifestError(str(error)) from error
        # Names are used with descriptors; none may lead out of its folder.
        names = {name for path in manifest.own for name in str(path).split("/")}
        for folder in folders:
            names.update(folder.path.split("/"), folder.entries)
        if head.get("format") != _FORMAT or names & {".", ".."} or "/" in "\0".join(names):
            raise ManifestError("not of this format")
        return manifest


def open_manifest(env: int, owner: int) -> BinaryIO | None:
    """The manifest's file in an env, if there is one that belongs to ``owner``.

    ``env`` is the descriptor of the env's folder. Raises OSError.
    """
    try:
        with opened(META, env) as meta:
            fd = os.open(MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=meta)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    stream = os.fdopen(fd, "rb")
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_uid == owner and found.st_size <= _LARGEST:
        return stream
    stream.close()
    return None
