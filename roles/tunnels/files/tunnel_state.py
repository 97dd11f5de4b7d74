# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is known of each server, in one file each, and the folders that nobody but the user gets into.

A file is JSON, is written whole, and holds the server's secret as long as the server lives. A record that has ended is
kept for a week, for its log.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
import time
from pathlib import Path

STATES = Path(".local", "state", "crophpc-maskrcnn")  # below the user's home, which all nodes share
ID = re.compile(r"(tb|nb)-[a-z0-9]{4}")
KINDS = {"tensorboard": "tb", "jupyter": "nb"}
LIVE = ("pending", "starting", "ready", "silent")
TOLD = "it was told to end"  # why most servers end
SILENT_AFTER = 180  # seconds without a heartbeat
FORGET_AFTER = 7 * 24 * 3600
# The kernel takes 107 bytes; the OpenSSH of some systems takes fewer. In the same folder, Jupyter's kernels have
# sockets whose names are up to 60 bytes longer than the server's own.
LONGEST_FOLDER = 46
NODE = socket.gethostname().split(".")[0]


class TunnelError(Exception):
    """What is wrong, for the user; `hint` says what to do about it and `code` is the exit code."""

    def __init__(self, text: str, hint: str = "", code: int = 1):
        super().__init__(text)
        self.hint, self.code = hint, code


def own_folder(path: Path) -> int:
    """Open a folder, made if need be, as one of the user's own that nobody else gets into. Returns a descriptor."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(0o700)
        descriptor = os.open(str(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        what = "is a link" if path.is_symlink() else "cannot be used: {}".format(error.strerror)
        raise TunnelError(
            "{} {}".format(path, what), "It has to be a folder of your own; move away what is there."
        ) from error
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        os.close(descriptor)
        raise TunnelError("{} belongs to another user".format(path), "Ask them, or an admin, to move it away.")
    if status.st_mode & 0o077:
        os.fchmod(descriptor, 0o700)
    return descriptor


def boot() -> str:
    """Which start of this machine this is; process numbers mean nothing after another."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def started(pid: int) -> str:
    """When a process started, in the kernel's own unit, or "" if there is none: numbers are used again."""
    try:
        text = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()  # a program's name may have anything in it
    return "" if fields[0] == "Z" else fields[19]


def process(pid: int) -> dict:
    """What a record says of its process."""
    return {"node": NODE, "pid": pid, "ticks": started(pid), "boot": boot()}


def runs_here(record: dict) -> bool:
    """Whether the process of a record runs on this very machine."""
    return record["node"] == NODE and record["boot"] == boot() and started(record["pid"]) == record["ticks"] != ""


class Store:
    """The records of one user."""

    def __init__(self):
        self.path = Path.home() / STATES
        self.folder = own_folder(self.path)

    def log(self, name: str) -> Path:
        """A server's log."""
        return self.path / (name + ".log")

    def open_log(self, name: str) -> int:
        """A descriptor that appends to a server's log."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        return os.open(name + ".log", flags, 0o600, dir_fd=self.folder)

    def last_lines(self, name: str, count: int) -> list:
        """The end of a server's log."""
        try:
            descriptor = os.open(name + ".log", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self.folder)
        except OSError:
            return []
        with open(descriptor, encoding="utf-8", errors="replace") as file:
            file.seek(max(0, os.fstat(descriptor).st_size - 200 * count))
            return file.read().splitlines()[-count:] if count else []

    def new(self, kind: str, **facts) -> dict:
        """A record that did not exist before."""
        self.forget()
        alphabet = "abcdefghjkmnpqrstuvwxyz23456789"  # none that look alike
        while True:
            name = "{}-{}".format(KINDS[kind], "".join(secrets.choice(alphabet) for _position in range(4)))
            if not self.log(name).exists() and not (self.path / (name + ".json")).exists():
                break
        record = dict(
            {"id": name, "kind": kind, "state": "starting", "reason": "", "node": "", "job": "", "step": "", "pid": 0,
             "ticks": "", "boot": "", "socket": "", "logdirs": [], "directory": "", "gpus": "", "start": ""},
            since=int(time.time()), secret=secrets.token_hex(16), **facts
        )  # fmt: skip
        os.close(self.open_log(name))
        self.write(record)
        return record

    def write(self, record: dict) -> None:
        """Write a record, whole or not at all."""
        part = ".{}.{}.{}".format(record["id"], NODE, os.getpid())
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part, dir_fd=self.folder)
        with open(os.open(part, flags, 0o600, dir_fd=self.folder), "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1, sort_keys=True)
        os.replace(part, record["id"] + ".json", src_dir_fd=self.folder, dst_dir_fd=self.folder)

    def end(self, record: dict, reason: str) -> None:
        """Note that a server is no more. Its secret is forgotten, unless its job may be started again."""
        record.update(state="ended", reason=reason, socket="", start="")
        if not record["job"] or record["step"]:
            record["secret"] = ""
        self.write(record)

    def touch(self, record: dict) -> None:
        """The heartbeat."""
        try:
            os.utime(record["id"] + ".json", dir_fd=self.folder, follow_symlinks=False)
        except OSError:
            self.write(record)

    def read(self, name: str) -> dict:
        """A record. Raises TunnelError if there is none, or none that can be trusted."""
        if not ID.fullmatch(name):
            raise TunnelError("{} is no server's ID".format(name), "IDs look like tb-k7xq; `list` shows yours.", 2)
        try:
            descriptor = os.open(name + ".json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self.folder)
        except FileNotFoundError:
            raise TunnelError("there is no server {}".format(name), "`list` shows those that there are.", 2) from None
        except OSError as error:
            raise TunnelError("{}: {}".format(self.path / (name + ".json"), error.strerror), "Move it away.") from error
        with open(descriptor, encoding="utf-8") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise TunnelError(
                    "{} is not a file of yours that only you can read".format(self.path / (name + ".json")),
                    "Somebody may have changed it; move it away.",
                )
            try:
                record = json.load(file)
                record["seen"] = status.st_mtime
                if (record["id"], record["state"] in (*LIVE, "ended")) != (name, True):
                    raise ValueError(record["id"])
            except (ValueError, KeyError, TypeError) as error:
                raise TunnelError(
                    "{} cannot be read: {}".format(self.path / (name + ".json"), error), "Remove it."
                ) from error
        return record

    def all(self) -> list:
        """All records that can be read, the oldest first."""
        found = []
        for name in os.listdir(self.folder):
            with contextlib.suppress(TunnelError):
                if name.endswith(".json") and ID.fullmatch(name[:-5]):
                    found.append(self.read(name[:-5]))
        return sorted(found, key=lambda record: record["since"])

    def forget(self) -> None:
        """Remove what ended long ago."""
        for record in self.all():
            if record["state"] == "ended" and time.time() - record["seen"] > FORGET_AFTER:
                for ending in (".json", ".log"):
                    with contextlib.suppress(OSError):
                        os.unlink(record["id"] + ending, dir_fd=self.folder)


# The folder with the socket


def sockets_folder(base: str) -> Path:
    """The user's own folder for sockets on this machine, made if need be.

    It stays when the last server has gone: were its name free, somebody else could take it and answer in the server's
    place whoever still has a connection to the socket in it. Where somebody has taken the name, another is made.
    """
    try:
        status = os.stat(base)
    except OSError as error:
        raise TunnelError(
            "{}: {}".format(base, error.strerror), "Set MASKRCNN_SOCKET_DIR to a folder on {}.".format(NODE)
        ) from error
    if status.st_uid not in (0, os.geteuid()) or (status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX):
        raise TunnelError(
            "in {}, others could put something else in your sockets' place".format(base),
            "Set MASKRCNN_SOCKET_DIR to a folder such as /tmp, or one of your own.",
        )
    name = "maskrcnn-{}".format(os.geteuid())
    longest = len(os.fsencode(os.path.join(base, name + "-12345678", "tb-1234")))
    if longest > LONGEST_FOLDER:
        raise TunnelError(
            "sockets in {} would have paths that are too long ({} bytes for their folder, {} are possible)".format(
                base, longest, LONGEST_FOLDER
            ),
            "Set MASKRCNN_SOCKET_DIR to a folder with a shorter path, such as /tmp.",
        )
    path = Path(base, name)
    try:
        os.close(own_folder(path))
    except TunnelError:
        path = Path(tempfile.mkdtemp(prefix=name + "-", dir=base))
    return path


def socket_folder(name: str, base: str) -> Path:
    """A new folder for one server's socket."""
    path = sockets_folder(base) / name
    if path.is_symlink() or path.exists():  # of this server, before its job was started again
        remove_folder(path)
    path.mkdir(0o700)
    return path


def remove_folder(path: Path) -> None:
    """Remove one server's folder, if it is the user's own."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_symlink() or path.lstat().st_uid != os.geteuid():
            raise TunnelError("{} is not yours".format(path), "Ask an admin to remove it.")
        shutil.rmtree(str(path), ignore_errors=True)
