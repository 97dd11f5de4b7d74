# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Folders by file descriptor: the ways to work in a tree that somebody else may change at any moment.

A path can be made to lead elsewhere between two looks at it; a descriptor cannot. No function here follows a link.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# Beside an entry that is being exchanged, on filesystems that need two steps for it: the other one.
ASIDE = ".aside"
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
# What filesystems without these two (NFS) and kernels without the call say.
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def opened(name: str, parent: int | None = None) -> Iterator[int]:
    """The descriptor of a folder. Raises OSError: ELOOP or ENOTDIR where it is a link or a file."""
    fd = os.open(name, FOLDER, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


class Descent:
    """Descriptors of the folders of a tree on the way down to one of them, for folders in the order of a walk.

    ``leave`` is called with each folder's path and descriptor when all below it has been visited.
    """

    def __init__(self, root: int, leave: Callable[[str, int], None] | None = None) -> None:
        self._stack: list[tuple[str, int]] = [("", os.dup(root))]
        self._leave = leave

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_details: object) -> None:
        while self._stack:
            self._up(quietly=failed is not None)

    def _up(self, *, quietly: bool = False) -> None:
        path, fd = self._stack.pop()
        try:
            if self._leave and not quietly:
                self._leave(path, fd)
        finally:
            os.close(fd)

    def parent(self, path: str) -> int:
        """The descriptor of the folder above ``path``; it has to have been visited, or to be the root."""
        above = path.rpartition("/")[0]
        while self._stack[-1][0] != above:
            self._up()
        return self._stack[-1][1]

    def down(self, path: str) -> int:
        """The descriptor of the folder ``path``, valid until the next call. Raises OSError."""
        if path:
            parent = self.parent(path)
            self._stack.append((path, os.open(path.rpartition("/")[2], FOLDER, dir_fd=parent)))
        return self._stack[-1][1]


def above(way: Descent, path: str) -> int:
    """The descriptor of the folder that ``path`` is in, valid until the next step of ``way``. Raises OSError."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        way.down("/".join(parts[:depth]))
    return way.parent(path)


def exists(env: int, path: str) -> bool:
    """Whether there is something at a path below ``env``, reached through no link."""
    try:
        with Descent(env) as way:
            os.stat(path.rpartition("/")[2], dir_fd=above(way, path), follow_symlinks=False)
    except OSError:
        return False
    return True


def walk(env: int, path: str) -> Iterator[tuple[str, int]]:
    """The folders of a tree from ``path`` on, each with a descriptor that is valid until the next one.

    Through no link, and into no other filesystem, such as one that a user has mounted. Raises OSError.
    """
    device = os.fstat(env).st_dev
    with Descent(env) as way:
        above(way, path)
        waiting = [path]
        while waiting:
            folder = waiting.pop()
            fd = way.down(folder)
            if os.fstat(fd).st_dev != device:
                continue
            with os.scandir(fd) as entries:
                below = sorted((e.name for e in entries if e.is_dir(follow_symlinks=False)), reverse=True)
            waiting += [f"{folder}/{name}" for name in below]
            yield folder, fd


def move(source: int, name: str, target: int, new_name: str) -> None:
    """Renames an entry of one folder into another, over nothing that is there. Raises OSError, EEXIST among them."""
    try:
        _renameat2(source, name, target, new_name, _RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        os.stat(name, dir_fd=source, follow_symlinks=False)
        with suppress(FileNotFoundError):
            os.stat(new_name, dir_fd=target, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_name) from error
        # Should a folder appear at this very moment, the call refuses one with something in it, and any link.
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)


def exchange(one: int, name: str, other: int, other_name: str) -> None:
    """Swaps two entries: at no moment is one of the names without one. Raises OSError.

    Where the filesystem cannot (NFS), they are renamed one after the other.
    """
    try:
        _renameat2(one, name, other, other_name, _RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        aside = f"{name}{ASIDE}"
        os.rename(other_name, aside, src_dir_fd=other, dst_dir_fd=one)
        try:
            os.rename(name, other_name, src_dir_fd=one, dst_dir_fd=other)
        except OSError:
            os.rename(aside, other_name, src_dir_fd=one, dst_dir_fd=other)
            raise
        os.rename(aside, name, src_dir_fd=one, dst_dir_fd=one)


def _renameat2(source: int, name: str, target: int, new_name: str, flags: int) -> None:
    """The system call, which Python does not have."""
    if _libc.renameat2(source, os.fsencode(name), target, os.fsencode(new_name), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), new_name)


def remove(name: str, parent: int) -> None:
    """Removes an entry of a folder, with all that is in it. Raises OSError.

    ``shutil.rmtree`` gives up where folders are deeper than Python's stack; here, what is deeper is moved up first.
    """
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):  # Linux says the one, POSIX the other
        with opened(name, parent) as top:
            waiting = _remove_files(top)
            while waiting:
                folder = waiting.pop()
                with opened(folder, top) as fd:
                    for deeper in _remove_files(fd):
                        waiting.append(secrets.token_hex(8))
                        os.rename(deeper, waiting[-1], src_dir_fd=fd, dst_dir_fd=top)
                os.rmdir(folder, dir_fd=top)
        os.rmdir(name, dir_fd=parent)


def _remove_files(fd: int) -> list[str]:
    """Removes what is in a folder but for other folders; returns their names."""
    with os.scandir(fd) as found:
        entries = [*found]
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=fd)
    return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
