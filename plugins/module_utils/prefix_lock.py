# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One at a time: what changes an env holds its lock while it does."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK_NAME = ".crophpc.lock"
POLL_SECONDS = 0.2
HOLDER_BYTES = 300


class PrefixLockError(Exception):
    """The lock could not be had; the message says why and what to do."""


@contextmanager
def prefix_lock(prefix: str | Path, timeout: float = 600) -> Iterator[int]:
    """Holds the lock of an env whose ``conda-meta`` folder exists; yields its file descriptor.

    The lock ends with the last process that has the descriptor open. A child inherits it only if it is
    named in ``pass_fds``: do so for a child that changes the env, and it stays locked until that child
    has ended too, even if this process is killed.
    """
    path = Path(prefix, "conda-meta", LOCK_NAME)
    fd = _open(path)
    try:
        _wait(fd, path, timeout)
        _write_holder(fd)
        yield fd
        # Only on the way out of a finished block; after a kill the old holder's line is read by nobody,
        # because the lock itself is free.
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    """The lock file, made if need be; never through a link that the env's owner may have put there."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            fd = os.open(path.name, flags, 0o600, dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise PrefixLockError(f"cannot lock the env: {path}: {error.strerror}") from error
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        os.close(fd)
        raise PrefixLockError(f"cannot lock the env: {path} is not a file of its own; remove it")
    return fd


def _wait(fd: int, path: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not _try(fd, path):
        if time.monotonic() >= deadline:
            raise PrefixLockError(
                f"{path.parent.parent} is being changed by {_holder(fd)}; "
                f"it did not finish within {timeout:g} s. Run this again when it has."
            )
        time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def _try(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise PrefixLockError(f"cannot lock the env: {path}: {error.strerror}") from error
    return True


def _write_holder(fd: int) -> None:
    # For the others' message alone: on a full disk the lock holds all the same, and removing an env needs it.
    with suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _holder(fd: int) -> str:
    text = os.pread(fd, HOLDER_BYTES, 0).decode("utf-8", "replace")
    return "".join(c for c in text if c.isprintable()) or "another run"
