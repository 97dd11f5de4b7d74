# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What users have done in their replicas: what it is, in words, and what of it is never removed."""

from __future__ import annotations

import csv
import errno
import json
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.env_manifest import (
    BINARY,
    CACHE,
    LINK,
    META,
    NOT_SHARED,
    SYMLINK,
    TEXT,
    Folder,
    Manifest,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.folders import Descent, above, exists, move, walk

SAVED = "kept"  # in a stage
MOST_NAMED = 20  # changes that are named one by one
_LARGEST = 1 << 26  # bytes of a package's list of files


class Difference(NamedTuple):
    """Something that a user has done in a replica: ``added``, ``changed`` or ``removed`` it."""

    path: str
    what: str


def differences(env: int, manifest: Manifest, user: int) -> list[Difference]:
    """What a user has changed in a replica, the manifest's own folders left out.

    A folder whose time is as it was has had nothing added to or taken from it, and of the files in it only those that
    are the user's (``user`` is their uid) can have been changed. ``env`` is a descriptor. Raises OSError.
    """
    found: list[Difference] = []
    gone: list[str] = []
    folders = [f for f in manifest.folders if not f.path.endswith(CACHE) and not manifest.is_own(f.path)]
    with Descent(env) as descent:
        for folder in folders:
            if gone and folder.path.startswith(f"{gone[-1]}/"):
                continue
            try:
                fd = descent.down(folder.path)
            except OSError:  # not there, or no folder any more
                found.append(Difference(folder.path, "removed"))
                gone.append(folder.path)
                continue
            touched = os.fstat(fd).st_mtime_ns != folder.mtime
            found += _changed_files(fd, folder)
            if touched:
                found += _changed_names(fd, folder, manifest, user)
    return found


def _changed_files(fd: int, folder: Folder) -> Iterator[Difference]:
    """Rewritten files, which are the user's own, that have been changed or removed."""
    for name, entry in folder.entries.items():
        if entry.kind in (TEXT, BINARY):
            path = f"{folder.path}/{name}".lstrip("/")
            try:
                now = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                yield Difference(path, "removed")
            else:
                if now.st_mtime_ns != entry.mtime or not stat.S_ISREG(now.st_mode):
                    yield Difference(path, "changed")


def _changed_names(fd: int, folder: Folder, manifest: Manifest, user: int) -> Iterator[Difference]:
    """What has been added to a folder, taken from it, or put in the place of something."""
    here = {entry.name: entry for entry in os.scandir(fd)}
    for name in sorted(here.keys() - folder.entries.keys()):
        path = f"{folder.path}/{name}".lstrip("/")
        of_template = path in manifest.by_path and (here[name].is_dir(follow_symlinks=False) or manifest.is_own(path))
        if not of_template and path not in NOT_SHARED and name != CACHE:
            yield Difference(path, "added")
    for name, entry in folder.entries.items():
        path = f"{folder.path}/{name}".lstrip("/")
        if entry.kind in (LINK, SYMLINK) and name not in here:
            yield Difference(path, "removed")
        elif entry.kind == LINK:
            now = os.stat(name, dir_fd=fd, follow_symlinks=False)
            copied = now.st_uid == user and (now.st_size, now.st_mtime_ns) == (entry.size, entry.mtime)
            if now.st_ino != entry.inode and not copied:
                yield Difference(path, "changed")
        elif entry.kind == SYMLINK and not here[name].is_symlink():
            yield Difference(path, "changed")


def _own_folder_changed(env: int, path: str, manifest: Manifest) -> bool:
    """Whether a user has changed anything in one of their own folders of a replica and not removed it whole.

    Raises OSError.
    """
    if not exists(env, path):
        return False
    try:
        return _tree_changed(env, path, manifest)
    except NotADirectoryError:  # a link of theirs is in its place, say
        return True


def _tree_changed(env: int, path: str, manifest: Manifest) -> bool:
    wanted = {f.path: f for f in manifest.folders if f.path == path or f.path.startswith(f"{path}/")}
    for folder, fd in walk(env, path):
        if folder.endswith(CACHE):
            continue
        if folder not in wanted:
            return True
        entries = wanted.pop(folder).entries
        for entry in os.scandir(fd):
            if entry.is_dir(follow_symlinks=False) or (folder.endswith("/.git") and entry.name == "index"):
                continue
            known = entries.get(entry.name)
            now = entry.stat(follow_symlinks=False)
            if not known or (known.kind != SYMLINK and (now.st_size, now.st_mtime_ns) != (known.size, known.mtime)):
                return True
        if entries.keys() - {entry.name for entry in os.scandir(fd)}:
            return True
    return any(not folder.endswith(CACHE) for folder in wanted)


def changed_own(env: int, manifest: Manifest) -> list[str]:
    """Those of the user's own folders in which the user has changed something. Raises OSError."""
    return [path for path in manifest.own if _own_folder_changed(env, path, manifest)]


def describe(found: list[Difference]) -> list[str]:
    """Changes in words: packages, where that is what they are, else files."""
    packages, files = [], []
    for path, what in found:
        folder, _slash, leaf = path.rpartition("/")
        if folder == META and leaf.endswith(".json"):
            packages.append(f"{what} {' '.join(leaf.removesuffix('.json').rsplit('-', 2)[:2])} (conda)")
        elif folder.endswith("/site-packages") and leaf.endswith(".dist-info"):
            packages.append(f"{what} {leaf.removesuffix('.dist-info').replace('-', ' ')} (pip)")
        else:
            files.append((path, f"{what} {path}"))
    words = sorted(packages) + [w for path, w in files if not packages or "/site-packages/" not in path]
    more = len(words) - MOST_NAMED
    return words[:MOST_NAMED] + ([f"and {more} more"] if more > 0 else [])


def made_by_user(env: int, manifest: Manifest, user: int) -> list[str]:
    """Paths below a replica whose contents are the user's work: not part of any package, and not to be lost.

    ``env`` is a descriptor, ``user`` the user's uid. Raises OSError.
    """
    made = changed_own(env, manifest)
    found = differences(env, manifest, user)
    packaged = _packaged(env, found)
    for path, what in found:
        if what == "removed" or "/site-packages/" in path or path.startswith(f"{META}/"):
            continue
        if not _all_in(env, path, packaged):
            made.append(path)
    return made


def _all_in(env: int, path: str, packaged: set[str]) -> bool:
    """Whether a file, or every file in a folder, is part of a package."""
    if path in packaged:
        return True
    try:
        return all(
            f"{folder}/{entry.name}" in packaged
            for folder, fd in walk(env, path)
            for entry in os.scandir(fd)
            if not entry.is_dir(follow_symlinks=False)
        )
    except OSError:  # no folder, or one that is deeper than can be looked into
        return False


def _packaged(env: int, found: list[Difference]) -> set[str]:
    """The files of packages that the user has installed."""
    files: set[str] = set()
    for path, what in found:
        if what != "added":
            continue
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError, csv.Error):
            if path.startswith(f"{META}/") and path.endswith(".json"):
                files |= {str(file) for file in json.loads(_read(env, path))["files"]}
            elif path.endswith(".dist-info"):
                site = path.rpartition("/")[0]
                rows = csv.reader(_read(env, f"{path}/RECORD").splitlines())
                files |= {posixpath.normpath(f"{site}/{row[0]}") for row in rows if row}
    return files


def _read(env: int, path: str) -> str:
    """A file of the user's, which may be anything. Raises OSError."""
    with Descent(env) as way:
        fd = os.open(path.rpartition("/")[2], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=above(way, path))
        with os.fdopen(fd, "rb") as stream:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise FileNotFoundError(errno.ENOENT, "no file", path)
            return stream.read(_LARGEST).decode("utf-8", "replace")


def save(env: int, stage: int, paths: list[str], owner: tuple[int, int] | None) -> list[str]:
    """Moves what a user has made out of an env into the folder SAVED of ``stage``; returns what there was of it.

    ``paths`` are below ``env``; ``owner`` is the uid and gid of the user, or none if this process is theirs.
    Raises OSError.
    """
    saved = []
    with suppress(FileExistsError):  # a killed run has begun with it
        os.mkdir(SAVED, 0o755, dir_fd=stage)
    with Descent(stage) as here:
        folders = {SAVED}
        for path in paths:
            parts = [SAVED, *path.split("/")]
            with suppress(FileNotFoundError, NotADirectoryError), Descent(env) as there:
                source = above(there, path)
                os.stat(parts[-1], dir_fd=source, follow_symlinks=False)
                for depth in range(2, len(parts)):
                    folder = "/".join(parts[:depth])
                    target = above(here, folder)
                    with suppress(FileExistsError):
                        os.mkdir(parts[depth - 1], 0o755, dir_fd=target)
                    folders.add(folder)
                move(source, parts[-1], above(here, "/".join(parts)), parts[-1])
                saved.append(path)
        if owner:
            for folder in folders:
                above(here, folder)
                os.fchown(here.down(folder), *owner)
    with suppress(OSError):  # only where nothing is in it
        os.rmdir(SAVED, dir_fd=stage)
    return saved
