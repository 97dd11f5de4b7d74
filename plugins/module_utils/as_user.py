# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What root does in a user's folders, done by a process that is that user."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import pwd
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LARGEST_ANSWER = 1 << 26  # bytes
_PR_SET_PDEATHSIG = 1


class AsUserError(Exception):
    """What the user's process was to do has failed; the text says why."""


@dataclass(frozen=True)
class Account:
    """Somebody who may be acted as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: Path | None

    @classmethod
    def named(cls, name: str) -> Account:
        """The account with this name. Raises KeyError."""
        found = pwd.getpwnam(name)
        return cls(found.pw_uid, found.pw_gid, tuple(os.getgrouplist(name, found.pw_gid)), Path(found.pw_dir))


def die_with_parent() -> None:
    """Has the kernel end this process when its parent is killed: it would go on, and hold the parent's locks."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent and os.getppid() != parent.pid:  # it was killed before that
        os.kill(os.getpid(), signal.SIGKILL)


def as_user(account: Account, work: Callable[[], Any], *, seconds: float = 60) -> Any:
    """Runs ``work`` in a child process with the account's rights alone; returns what it returns, which is plain data.

    The child has the open descriptors of this process. After ``seconds`` it is killed: in folders of their own, users
    can make a read or a write last for ever. Raises AsUserError for all of that, and for every error inside.
    """
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=_child, args=(account, work, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise AsUserError(f"not done within {seconds:g} s")
        # Not pickled: what a user's process says is not to run as root.
        answer = json.loads(receiver.recv_bytes(LARGEST_ANSWER))
    except (EOFError, OSError, ValueError) as error:
        raise AsUserError("the process ended without an answer") from error
    finally:
        process.kill()
        process.join()
        receiver.close()
    if "error" in answer:
        raise AsUserError(answer["error"])
    return answer["value"]


def os_error_words(error: OSError) -> str:
    """What went wrong, and with which file if one is known."""
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")


def _child(account: Account, work: Callable[[], Any], sender: Connection) -> None:
    try:
        if os.geteuid() == 0:
            os.setgroups(account.groups)
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
        die_with_parent()
        answer = {"value": work()}
    except OSError as error:
        answer = {"error": os_error_words(error)}
    except Exception as error:  # whatever it is, the parent has to hear of it
        answer = {"error": str(error) or type(error).__name__}
    sender.send_bytes(json.dumps(answer).encode())
