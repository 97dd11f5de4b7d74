"""What a hostile user does over and over while root works in their folder, until terminated.

    attack.py swap PLACE TARGET     PLACE is now what it was, now a link to TARGET
    attack.py stage FOLDER TARGET   folders that root makes in FOLDER go, a link to TARGET comes in their place
    attack.py kill                  processes that root has turned into this user's are killed
    attack.py peek                  they are looked into: memory, open files

Prints at last how often it has tried, and how often it has succeeded.
"""

import ctypes
import errno
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2
libc = ctypes.CDLL(None, use_errno=True)
count = {"tried": 0, "succeeded": 0}


def swap(place: Path, target: Path) -> None:
    link = place.with_name(f"{place.name}.link")
    if not link.is_symlink() and not place.is_symlink():
        link.symlink_to(target)
    count["tried"] += 1
    if libc.renameat2(AT_FDCWD, bytes(place), AT_FDCWD, bytes(link), RENAME_EXCHANGE) == 0:
        count["succeeded"] += 1
    elif ctypes.get_errno() == errno.ENOENT and link.is_symlink():
        # There is nothing yet at the place: the link can come there all the same, and give way again.
        link.rename(place)
        place.rename(link)
        count["succeeded"] += 1


def stage(folder: Path, target: Path) -> None:
    for place in folder.glob(".crophpc-new-*"):
        if not place.is_symlink():
            count["tried"] += 1
            place.rename(place.with_name(f"mine-{place.name[-8:]}"))
            place.symlink_to(target)
            count["succeeded"] += 1


def processes() -> Iterator[Path]:
    """Those of the run that are this user's."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            mine = f"\nUid:\t{os.getuid()}\t" in (path / "status").read_text()
            if mine and b"env_replicas" in (path / "cmdline").read_bytes():
                yield path


def kill() -> None:
    for process in processes():
        count["tried"] += 1
        os.kill(int(process.name), signal.SIGKILL)
        count["succeeded"] += 1


def peek() -> None:
    for process in processes():
        for look in ((process / "cwd").readlink, (process / "environ").read_bytes, (process / "maps").read_bytes):
            count["tried"] += 1
            # Of a process that is ending, the kernel lets anybody open some of these: there is nothing in them.
            with suppress(OSError):
                count["succeeded"] += bool(look())
        with suppress(OSError):
            count["succeeded"] += len([*(process / "fd").iterdir()])


def undo(place: Path, _target: Path) -> None:
    """After swaps: the link goes, and what was at the place is there again."""
    link = place.with_name(f"{place.name}.link")
    if place.is_symlink():
        place.unlink()
        link.rename(place)
    link.unlink(missing_ok=True)


over = False


def stop(*_signal: object) -> None:
    global over  # noqa: PLW0603 - a handler has no other way to tell the loop
    over = True


signal.signal(signal.SIGTERM, stop)
attack = {"swap": swap, "stage": stage, "kill": kill, "peek": peek}[sys.argv[1]]
arguments = [Path(argument) for argument in sys.argv[2:]]
while not over:
    with suppress(OSError):
        attack(*arguments)
if attack is swap:
    with suppress(OSError):
        undo(*arguments)
print(json.dumps(count))
