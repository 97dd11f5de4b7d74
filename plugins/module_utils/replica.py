# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tree of one replica: built in a folder that its user cannot enter, put in its place in one rename, taken away."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.at_once import Part, in_threads, parts
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.env_manifest import (
    BINARY,
    LINK,
    MANIFEST,
    META,
    SYMLINK,
    TEXT,
    Entry,
    Manifest,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.folders import (
    ASIDE,
    Descent,
    above,
    exists,
    opened,
    remove,
    walk,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_rewrite import rewrite_binary, rewrite_text

# Folders beside the envs: one that is being built, and one whose env has been replaced.
BUILDING = ".crophpc-new-"
REPLACED = ".crophpc-old-"
TREE = "env"  # in either
_REST = "rest"  # a tree in which there is nothing left but to remove

# What filesystems say that do not link: another one, none that links at all, too many links to one file.
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
_FICLONE = 0x40049409  # ioctl: both files share their blocks until one is changed


class NoLinksError(Exception):
    """Files of the template cannot be linked to this place."""


@dataclass
class Template:
    """A finished env, its manifest, and what of it has to be read for every replica.

    ``path`` is a folder that only this user can write to; ``manifest_file`` is the manifest as bytes.
    """

    path: Path
    manifest: Manifest
    manifest_file: bytes
    _rewritten: dict[str, bytes] = field(default_factory=dict)

    def content(self, name: str) -> bytes:
        """A file that every replica has with another path in it: read once for all of them."""
        if name not in self._rewritten:
            self._rewritten[name] = Path(self.path, name).read_bytes()
        return self._rewritten[name]


@dataclass
class Builder:
    """Builds the tree of one replica.

    ``prefix`` is where it is going to be; ``owner`` is the uid and gid to give it to, or none if this process is the
    user's. ``links`` says whether files are to be linked to the template's or copied.
    """

    template: Template
    prefix: str
    owner: tuple[int, int] | None
    links: bool
    threads: int = 1
    reflinks: bool = False

    def build(self, stage: int, old_env: int | None = None, kept: Sequence[str] = ()) -> None:
        """Builds the folder TREE in ``stage``; folders in ``kept`` come from the user's ``old_env``, all else from the
        template.

        Raises NoLinksError, PrefixTooLongError and OSError.
        """
        os.mkdir(TREE, 0o755, dir_fd=stage)
        folders = [f for f in self.template.manifest.folders if not any(_is_below(f.path, path) for path in kept)]
        several = parts(folders, self.threads)
        inside = {path for part in several for path in _ways_in(part[0].path)}
        shared = [folder.path for folder in folders if folder.path in inside]
        waiting = set(kept)

        def build_part(part: Part) -> None:
            with Descent(source) as there, Descent(target, leave) as here:
                for way in (there, here):
                    above(way, part[0].path)
                for folder in part:
                    if folder.path not in inside:
                        _make_folder(here, folder.path)
                    to = here.down(folder.path)
                    self.fill(there.down(folder.path), to, folder.path, folder.entries)
                    for path in kept:
                        if old_env is not None and folder.path == path.rpartition("/")[0]:
                            self.keep(old_env, path, to)
                            waiting.remove(path)

        def leave(path: str, fd: int) -> None:
            if path not in inside:
                self.finish(path, fd)

        with opened(str(self.template.path)) as source, opened(TREE, stage) as target:
            with Descent(target) as here:
                for path in shared[1:]:
                    _make_folder(here, path)
                    here.down(path)
            in_threads(build_part, several)
            with Descent(target, self.finish) as here:
                for path in shared:
                    here.down(path)
        if waiting:
            raise FileNotFoundError(errno.ENOENT, f"the template has no folder for {', '.join(waiting)}")

    def finish(self, path: str, fd: int) -> None:
        """What is done to a folder when all is in it."""
        if path == META:
            self.put_manifest(fd)
        self.give(fd)
        mtime = self.template.manifest.by_path[path].mtime
        os.utime(fd, ns=(mtime, mtime))

    def give(self, fd: int) -> None:
        """Gives what this process has just made, and nobody else can reach, to the user."""
        if self.owner:
            os.fchown(fd, *self.owner)

    def fill(self, source: int, target: int, path: str, entries: dict[str, Entry]) -> None:
        """Makes all files of one folder."""
        for name, entry in entries.items():
            if entry.kind == LINK and self.links:
                try:
                    os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                except OSError as error:
                    if error.errno in NO_LINKS:
                        raise NoLinksError(error.strerror) from error
                    raise
            elif entry.kind == SYMLINK:
                self.symlink(str(entry.extra), target, name)
            else:
                rewritten = entry.kind in (TEXT, BINARY)
                content = self.rewritten(f"{path}/{name}".lstrip("/"), entry) if rewritten else None
                self.write(source, target, name, content)

    def symlink(self, leads: str, target: int, name: str) -> None:
        old = self.template.manifest.prefix
        if leads == old or leads.startswith(f"{old}/"):
            leads = self.prefix + leads[len(old) :]
        os.symlink(leads, name, dir_fd=target)
        if self.owner:
            os.chown(name, *self.owner, dir_fd=target, follow_symlinks=False)

    def rewritten(self, name: str, entry: Entry) -> bytes:
        content, old = self.template.content(name), self.template.manifest.prefix
        if entry.kind == TEXT:
            return rewrite_text(content, old, self.prefix)
        return rewrite_binary(content, old, self.prefix, int(entry.extra))

    def write(self, source: int, target: int, name: str, content: bytes | None) -> None:
        """Makes a file of the user's own, with the template's mode, time and, unless another is given, content."""
        original = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            if content is None:
                self.copy(original, fd)
            else:
                _write(fd, content)
            like = os.fstat(original)
            os.fchmod(fd, stat.S_IMODE(like.st_mode) | stat.S_IWUSR)
            self.give(fd)
            os.utime(fd, ns=(like.st_atime_ns, like.st_mtime_ns))
        finally:
            os.close(fd)
            os.close(original)

    def copy(self, source: int, target: int) -> None:
        """Copies a file; where the filesystem can, both share their blocks."""
        try:
            fcntl.ioctl(target, _FICLONE, source)
            self.reflinks = True
        except OSError:
            with open(source, "rb", closefd=False) as original, open(target, "wb", closefd=False) as copy:
                shutil.copyfileobj(original, copy)

    def keep(self, old_env: int, path: str, target: int) -> None:
        """Links a folder of the user's old env into the new one, all the user's files in it.

        It is a copy of the folders only: as long as the old env is in its place, the user can go on in it.
        """
        base, _slash, leaf = path.rpartition("/")
        with Descent(old_env) as there:
            parent = above(there, path)
            if not stat.S_ISDIR(os.stat(leaf, dir_fd=parent, follow_symlinks=False).st_mode):  # a link in its place
                os.link(leaf, leaf, src_dir_fd=parent, dst_dir_fd=target, follow_symlinks=False)
                return
        with Descent(target) as here:
            for folder, source in walk(old_env, path):
                name = folder[len(base) :].lstrip("/")
                os.mkdir(name.rpartition("/")[2], 0o700, dir_fd=here.parent(name))
                to = here.down(name)
                for entry in os.scandir(source):
                    if entry.is_symlink() or entry.is_file(follow_symlinks=False):
                        os.link(entry.name, entry.name, src_dir_fd=source, dst_dir_fd=to, follow_symlinks=False)
                like = os.fstat(source)
                os.fchmod(to, stat.S_IMODE(like.st_mode))
                self.give(to)

    def put_manifest(self, meta: int) -> None:
        """The template's manifest, which in a replica says what it was made from."""
        if self.links:
            with opened(str(self.template.path / META)) as source:
                os.link(MANIFEST, MANIFEST, src_dir_fd=source, dst_dir_fd=meta, follow_symlinks=False)
        else:
            fd = os.open(MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=meta)
            _write(fd, self.template.manifest_file)
            os.close(fd)


def _make_folder(here: Descent, path: str) -> None:
    os.mkdir(path.rpartition("/")[2], 0o755, dir_fd=here.parent(path))


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _ways_in(path: str) -> list[str]:
    """The folders that a path is in, the tree's own included."""
    names = path.split("/")
    return ["/".join(names[:depth]) for depth in range(len(names))]


def _write(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


# --- the folders beside the envs ---


@dataclass
class Stage:
    """A folder beside the envs, at first for a tree that is being built.

    ``holds_old`` says that the user's env is in it, which is not to be lost. While it is open, others leave it alone.
    """

    name: str
    fd: int
    holds_old: bool = False


@contextmanager
def staged(envs: int, env_name: str) -> Iterator[Stage]:
    """A new folder that only this user can enter; removed at the end unless the user's env is in it.

    Raises OSError, also where somebody has put another folder in its place at this very moment.
    """
    stage = Stage(f"{BUILDING}{env_name}-{secrets.token_hex(4)}", -1)
    os.mkdir(stage.name, 0o700, dir_fd=envs)
    with opened(stage.name, envs) as stage.fd:
        if not _is_ours(os.fstat(stage.fd)) or not _lock(stage.fd) or any(os.scandir(stage.fd)):
            raise FileExistsError(errno.EEXIST, f"somebody has replaced {stage.name}")
        try:
            yield stage
        finally:
            if not stage.holds_old:
                remove_stage(envs, stage)


def remove_stage(envs: int, stage: Stage) -> None:
    """Removes what is in the folder, and it too if it is still the one that has its name."""
    with suppress(FileNotFoundError):
        # Should this be killed: of half a tree nobody could say what in it the user has made.
        os.rename(TREE, _REST, src_dir_fd=stage.fd, dst_dir_fd=stage.fd)
    remove(_REST, stage.fd)
    with suppress(OSError):
        if os.path.samestat(os.stat(stage.name, dir_fd=envs, follow_symlinks=False), os.fstat(stage.fd)):
            os.rmdir(stage.name, dir_fd=envs)


def mark_old(envs: int, stage: Stage, env_name: str) -> None:
    """Renames the folder before the user's env comes into it: a run that is killed from then on loses nothing.

    The name has the inode of what is in it now, which nobody has used.
    """
    name = f"{REPLACED}{env_name}-{_inode(stage.fd)}-{stage.name[-8:]}"
    os.rename(stage.name, name, src_dir_fd=envs, dst_dir_fd=envs)
    stage.name, stage.holds_old = name, True


def _is_ours(found: os.stat_result) -> bool:
    """Whether nobody else can enter or change a folder."""
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _lock(fd: int) -> bool:
    """Whether no other run is at work in a folder; as long as it is open, this one is."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # NFS locks no folders
        pass
    return True


def _inode(stage: int) -> int:
    """The inode of the tree in a stage; 0 if there is none."""
    try:
        return os.stat(TREE, dir_fd=stage, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return 0


def leftovers(envs: int, env_name: str, keep_seconds: float) -> Iterator[Stage]:
    """What a killed run has left beside the envs, and replaced envs that are old enough."""
    building = re.compile(re.escape(f"{BUILDING}{env_name}-") + "[0-9a-f]{8}")
    replaced = re.compile(re.escape(f"{REPLACED}{env_name}-") + "([0-9]+)-[0-9a-f]{8}")
    for name in sorted(entry.name for entry in os.scandir(envs)):
        old = replaced.fullmatch(name)
        if not old and not building.fullmatch(name):
            continue
        with suppress(FileNotFoundError, NotADirectoryError), opened(name, envs) as fd:
            found = os.fstat(fd)
            if not _is_ours(found) or not _lock(fd):
                continue
            if exists(fd, f"{TREE}{ASIDE}"):  # killed within an exchange: this is the user's, the other one is not
                remove(TREE, fd)
                os.rename(f"{TREE}{ASIDE}", TREE, src_dir_fd=fd, dst_dir_fd=fd)
            holds_old = old is not None and _inode(fd) != int(old[1])
            if not holds_old or time.time() - found.st_mtime >= keep_seconds:
                yield Stage(name, fd, holds_old)
