# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Brings weights to where they are looked for: once, whole, and nothing but what they have to be.

A file grows beside its place, goes on where it was broken off, and is put there in one rename. Its folder may be one
that others write to.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import stat
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Optional
from urllib.error import HTTPError
from urllib.parse import urlsplit

from mrcnn_workbench import weights
from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.progress import Journal, ends
from mrcnn_workbench.weights import Weights, megabytes

ATTEMPTS = 3  # without a byte more
PAUSE = 1  # second
TIMEOUT = 30
BLOCK = 1 << 18
SHOW_EVERY, LINE_EVERY = 0.2, 10  # seconds: on a terminal, and elsewhere
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE, TOO_MANY_REQUESTS, SERVER_ERROR = 206, 416, 429, 500
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ADDRESS = re.compile(r"https?://", re.IGNORECASE)


class BrokenError(Exception):
    """The connection ended too early, or the server cannot just now; another attempt may do better."""


class UnreachableError(BrokenError):
    """There was no answer at all."""


def fetch(name: str, to: Optional[Path] = None, source: str = "", journal: Optional[Journal] = None) -> Path:
    """Sees to it that a file is in a folder: `to`, or the first of those where it is looked for that may be written.

    `source` is an address, a file, or a folder with it, instead of where it is always to be had. Without `to`, a file
    that is right is good wherever it is found. Raises WorkbenchError; what has come is gone on with the next time.
    """
    wanted, journal = weights.named(name), journal or Journal()
    with contextlib.closing(journal):
        found = None if to else _found(wanted)
        if not found:
            folder = to or _writable()
            try:
                found = _fetch(wanted, folder, source or wanted.source, journal)
            except OSError as error:
                raise _unwritable(folder, wanted, error) from error
        journal.say("{}: {}".format(name, found))
    return found


def _found(wanted: Weights) -> Optional[Path]:
    """Where it is already. Raises WorkbenchError if it is not right there, and not ours to replace."""
    for place in weights.look(wanted):
        if place.whole and _is_right(place.path, wanted):
            return place.path
        if place.whole and not os.access(str(place.path.parent), os.W_OK):
            raise WorkbenchError(
                "{}: it is spoilt, since its {} is wrong, and not yours to replace; tell who has put it there. Until "
                "then:\n  mrcnn weights fetch {} --to FOLDER; export {}=FOLDER".format(
                    place.path, wanted.algorithm, wanted.name, weights.FOLDER
                )
            )
    return None


def _writable() -> Path:
    """The first folder that may be written, or made."""
    for folder in weights.folders():
        with contextlib.suppress(OSError):  # of what may not be looked at
            there = folder.path
            while not there.exists():
                there = there.parent
            if os.access(str(there), os.W_OK | os.X_OK):
                return folder.path
    return weights.own()


def _is_right(path: Path, wanted: Weights) -> bool:
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size == wanted.size and _sum(file, wanted.algorithm) == wanted.sum
    except OSError:
        return False


def _sum(file: Any, algorithm: str) -> str:
    found = hashlib.new(algorithm)
    file.seek(0)
    for block in iter(lambda: file.read(BLOCK), b""):
        found.update(block)
    return found.hexdigest()


def _unwritable(folder: Path, wanted: Weights, error: OSError) -> WorkbenchError:
    if error.errno in FULL:
        free = megabytes(shutil.disk_usage(str(folder)).free)
        text = "the disk is full, or your quota: {} are wanted, {} are free. Nothing of it is kept".format(
            megabytes(wanted.size), free
        )
    elif isinstance(error, FileExistsError):
        text = "this is no folder"
    else:
        text = "cannot be written ({})".format(error.strerror)
    return WorkbenchError("{}: {}; --to names another folder".format(folder, text))


def _fetch(wanted: Weights, folder: Path, source: str, journal: Journal) -> Path:
    """Brings it into the folder, unless it is there. Raises WorkbenchError, and OSError of the disk's."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / wanted.file
    with _part(target, journal) as part:
        if _is_right(target, wanted):
            part.remove()
        else:
            _fill(part, wanted, source, journal)
            part.put(target)
    return target


class Part:
    """A file that grows."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.file = os.fdopen(fd, "rb+", buffering=0)

    @property
    def size(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def write(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            view = view[self.file.write(view) :]

    def cut(self, size: int) -> None:
        """Goes on after so many bytes."""
        self.file.truncate(size)
        self.file.seek(size)

    def put(self, target: Path) -> None:
        os.fsync(self.file.fileno())
        os.fchmod(self.file.fileno(), 0o644)
        self.path.replace(target)

    def remove(self) -> None:
        self.path.unlink()

    def lock(self, journal: Journal) -> bool:
        """Waits until it is ours alone; whether it is still there then."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            journal.say("another process is fetching it; waiting for that")
            fcntl.flock(self.file, fcntl.LOCK_EX)
        try:
            return os.path.samestat(os.fstat(self.file.fileno()), self.path.lstat())
        except FileNotFoundError:
            return False


@contextlib.contextmanager
def _part(target: Path, journal: Journal) -> Iterator[Part]:
    """The file that grows beside its place, with what an earlier run has left in it. One process at a time has it.

    It stays if something goes wrong, but not on a full disk. Raises OSError and WorkbenchError.
    """
    path = target.with_name(".{}.part".format(target.name))
    while True:
        part = Part(path, _open(path))
        with part.file:
            if not part.lock(journal):
                continue  # whoever had it has finished
            try:
                yield part
            except BaseException as error:
                if part.size == 0 or (isinstance(error, OSError) and error.errno in FULL):
                    part.remove()
                raise
            return


def _open(path: Path) -> int:
    """The descriptor of a file of ours, new or old: through no link, and not of a pipe, which would let us wait."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(str(path), flags | os.O_CREAT | os.O_EXCL, 0o600)
        with contextlib.suppress(FileNotFoundError):
            found = path.lstat()
            if _is_ours(found):
                fd = os.open(str(path), flags)
                if _is_ours(os.fstat(fd)):
                    return fd
                os.close(fd)
            raise _not_ours(path, found)


def _is_ours(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1 and found.st_uid == os.geteuid()


def _not_ours(path: Path, found: os.stat_result) -> WorkbenchError:
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        text = "{} is fetching it, or has left half of it: wait".format(owner)
    else:
        text = "{} has put something there that is not half a download: have it removed".format(owner)
    return WorkbenchError("{}: {}, or name another folder with --to".format(path, text))


# Where it comes from


class Stream(NamedTuple):
    """What is sent: a file to read, the byte with which it begins, and how many they are, if that is known."""

    file: Any
    start: int
    length: Optional[int]


def _fill(part: Part, wanted: Weights, source: str, journal: Journal) -> None:
    """Brings all of it, in as many attempts as it takes. Raises WorkbenchError, and OSError of the disk's."""
    failures, most, first = 0, part.size, True
    while True:
        continued = part.size > 0
        if part.size != wanted.size:
            try:
                continued = _transfer(part, wanted, source, journal)
            except BrokenError as error:
                failures = 1 if part.size > most else failures + 1
                if failures == ATTEMPTS or (first and isinstance(error, UnreachableError)):
                    raise _given_up(wanted, source, error, part.size) from error
                most, first = max(most, part.size), False
                journal.say("{}; trying again".format(error))
                time.sleep(PAUSE * failures)
                continue
        found = _sum(part.file, wanted.algorithm)
        if found == wanted.sum:
            return
        part.cut(0)
        # What an earlier run has left may have been of another file; only a whole transfer tells.
        if not continued:
            raise WorkbenchError(
                "{}: this is not {}: its {} is {}, and {} is wanted. Nothing of it is kept".format(
                    source, wanted.file, wanted.algorithm, found, wanted.sum
                )
            )


def _given_up(wanted: Weights, source: str, error: BrokenError, size: int) -> WorkbenchError:
    if size:
        text = "{} of {} are there; the same command goes on with it".format(megabytes(size), megabytes(wanted.size))
    else:
        text = (
            "where there is no internet, bring the file from another computer, and give it with --from. If there is a "
            "proxy, the variable https_proxy has to name it"
        )
    return WorkbenchError("{}: {}\n{}".format(source, error, text))


def _transfer(part: Part, wanted: Weights, source: str, journal: Journal) -> bool:
    """Brings what is not there yet; whether that was added to what was there.

    Raises WorkbenchError, BrokenError, and OSError of the disk's.
    """
    if part.size > wanted.size:
        part.cut(0)
    room = shutil.disk_usage(str(part.path.parent)).free
    if wanted.size - part.size > room:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with contextlib.ExitStack() as stack:
        stream = _address(source, part.size) if ADDRESS.match(source) else _file(source, wanted, part.size)
        stack.callback(stream.file.close)
        if stream.length not in (None, wanted.size - stream.start):
            raise WorkbenchError(
                "{}: this is not {}: it has {} bytes, and {} are wanted".format(
                    source, wanted.file, stream.start + (stream.length or 0), wanted.size
                )
            )
        part.cut(stream.start)
        began = shown = time.monotonic()
        for block in _blocks(stream.file, wanted.size - stream.start):
            part.write(block)
            now, size = time.monotonic(), part.size
            if now - shown >= (SHOW_EVERY if journal.live else LINE_EVERY):
                rate, shown = (size - stream.start) / (now - began), now
                left = ends((wanted.size - size) / rate)
                of = "{:.0f} of {}".format(size / 1e6, megabytes(wanted.size))
                journal.show("{}: {}  {}/s  {}".format(wanted.name, of, megabytes(int(rate)), left))
    if part.size < wanted.size:
        raise BrokenError("the connection ended after {} of {}".format(megabytes(part.size), megabytes(wanted.size)))
    return stream.start > 0


def _blocks(file: Any, most: int) -> Iterator[bytes]:
    """What is read, but no more than that. Raises BrokenError."""
    while most > 0:
        try:
            block = file.read(min(BLOCK, most))
        except (OSError, HTTPException) as error:
            raise BrokenError("the connection failed ({})".format(error)) from error
        if not block:
            return
        most -= len(block)
        yield block


def _file(source: str, wanted: Weights, have: int) -> Stream:
    """A file, or the one of that name in a folder. Raises WorkbenchError."""
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / wanted.file
    try:
        file = path.open("rb")
        size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise WorkbenchError("{}: cannot be read ({})".format(path, error.strerror)) from error
    file.seek(have)
    return Stream(file, have, size - have)


def _address(url: str, have: int) -> Stream:
    """What a server sends, from a byte on, if it can. Raises BrokenError and WorkbenchError."""
    if "@" in urlsplit(url).netloc:
        raise WorkbenchError("an address without a user name in it is wanted")
    request = urllib.request.Request(url, headers={"User-Agent": "crophpc.maskrcnn"})  # noqa: S310 - http, as matched
    if have:
        request.add_header("Range", "bytes={}-".format(have))
    try:
        response = urllib.request.build_opener().open(request, timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == RANGE_NOT_SATISFIABLE and have:
            return _address(url, 0)
        if error.code >= SERVER_ERROR or error.code == TOO_MANY_REQUESTS:
            raise BrokenError("the server answers {} {}".format(error.code, error.reason)) from error
        raise WorkbenchError("{}: the server answers {} {}".format(url, error.code, error.reason)) from error
    except (OSError, HTTPException, ValueError) as error:
        raise UnreachableError("no answer ({})".format(getattr(error, "reason", "") or error)) from error
    length = response.headers.get("Content-Length") or ""
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range") or "")
    start = int(found.group(1)) if response.getcode() == PARTIAL_CONTENT and found else 0
    if start not in (0, have):
        response.close()
        return _address(url, 0)
    return Stream(response, start, int(length) if length.isdigit() else None)
