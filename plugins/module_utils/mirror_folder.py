# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A mirror's folder: its manifest, the page that lists its wheels, its lock.

The mirror of the tests is made with this too (tests/fixtures/mirror), so only the standard library is used.
"""

from __future__ import annotations

import fcntl
import hashlib
import html
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

NAME = "manifest.json"
FORMAT = 1

# What a mirror consists of; what else lies in its folder is nobody's business.
FOLDERS = ("channel", "git", "locks", "weights", "wheels")

# What is not finished; nothing in it outlives the run that ends well.
WORK = ".work"

# Where pip finds the wheels on a web server, of which not every one lists a folder's files.
INDEX = "wheels/index.html"

Entries: TypeAlias = "dict[str, dict[str, Any]]"


class MirrorError(Exception):
    """The mirror cannot be made or read; the message says why and what to do."""


def sha256(path: Path) -> str:
    """The SHA-256 sum of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files(mirror: Path) -> Iterator[str]:
    """The files of a mirror, by their names below it, in order."""
    for top in FOLDERS:
        found = [Path(folder, name) for folder, _folders, names in os.walk(mirror / top) for name in names]
        yield from sorted(path.relative_to(mirror).as_posix() for path in found)


def entries(mirror: Path) -> Entries:
    """What a manifest says of the files that now lie in the mirror; reads every byte."""
    names = list(files(mirror))
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(_entry, [mirror / name for name in names]), strict=True))


def _entry(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "size": path.stat().st_size}


def write(mirror: Path, profiles: dict[str, Any], **more: str) -> None:
    """Writes the page of the wheels and the manifest of what now lies in the mirror, each whole or not at all."""
    listed = entries(mirror)
    write_text(mirror, INDEX, _index(listed))
    listed[INDEX] = _entry(mirror / INDEX)
    content = {"format": FORMAT, **more, "profiles": profiles, "files": dict(sorted(listed.items()))}
    write_text(mirror, NAME, json.dumps(content, indent=1) + "\n")


def read(mirror: Path) -> dict[str, Any]:
    """The manifest of a mirror.

    Raises MirrorError if there is none that can be read.
    """
    try:
        content: dict[str, Any] = json.loads((mirror / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MirrorError(f"{mirror} has no readable {NAME}: {error}") from error
    if content.get("format") != FORMAT:
        raise MirrorError(f"{mirror / NAME} has format {content.get('format')}; this program knows {FORMAT}")
    return content


def differences(listed: Entries, present: Entries) -> dict[str, str]:
    """The files that are not as a manifest lists them, in order, and how they differ."""
    wrong = dict.fromkeys(present.keys() - listed.keys(), "is not in the manifest")
    wrong |= dict.fromkeys(listed.keys() - present.keys(), "is missing")
    wrong |= {name: "has changed" for name in listed.keys() & present.keys() if listed[name] != present[name]}
    return dict(sorted(wrong.items()))


def _index(listed: Entries) -> str:
    """A page with links to the wheels, and their sums, for pip's ``--find-links``."""
    wheels = [(Path(name).name, entry) for name, entry in listed.items() if name.startswith("wheels/")]
    links = "".join(
        f'<a href="{html.escape(quote(name))}#sha256={entry["sha256"]}">{html.escape(name)}</a><br>\n'
        for name, entry in wheels
        if not name.endswith((".html", ".txt"))
    )
    return f"<!DOCTYPE html>\n<html><head><title>Wheels</title></head><body>\n{links}</body></html>\n"


def write_text(mirror: Path, name: str, text: str) -> None:
    """Writes a file of the mirror, whole or not at all."""
    fresh = mirror / WORK / "text"
    for folder in (fresh.parent, (mirror / name).parent):
        folder.mkdir(parents=True, exist_ok=True)
    fresh.write_text(text, encoding="utf-8")
    fresh.rename(mirror / name)


@contextmanager
def locked(mirror: Path, busy: Callable[[], None]) -> Iterator[int]:
    """Holds the folder for one run at a time; ``busy`` is called before another run is waited for, and may raise.

    Programs that inherit the yielded descriptor hold it too: what a killed run left behind is not overtaken.
    """
    mirror.mkdir(parents=True, exist_ok=True)
    with (mirror / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream.fileno()
