# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gets files by their SHA-256 sums: goes on where a run was broken off, keeps nothing that is not as it should be."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from ansible.module_utils.urls import open_url
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.mirror_folder import MirrorError, sha256
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import without_password

ATTEMPTS = 3
PAUSE = 1  # second
BLOCK = 1 << 16
TIMEOUT = 60
TOO_MANY_REQUESTS = 429
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416
SERVER_ERROR = 500


@dataclass(frozen=True)
class File:
    """A file that is wanted: its name below the mirror, where it is to be had, and what it has to be."""

    name: str
    url: str
    sha256: str
    size: int = 0  # 0: not known

    @property
    def place(self) -> str:
        """Where it comes from, for people to read."""
        return without_password(self.url)


class BrokenError(Exception):
    """The connection failed or ended too early; another attempt may do better."""


def find_size(url: str) -> int:
    """How many bytes a URL has; 0 where the server does not say.

    Raises MirrorError where it cannot be asked.
    """
    try:
        with _open(url, method="HEAD") as response:
            return int(response.headers.get("Content-Length") or 0)
    except HTTPError:  # some servers know no HEAD; what is really wrong is said when the file is fetched
        return 0
    except BrokenError as error:
        raise MirrorError(f"cannot reach {without_password(url)}: {error}") from error


def fetch(file: File, part: Path) -> None:
    """Brings the file to ``part``, where what a broken run left of it is made use of.

    Raises MirrorError if it cannot be had, or is not what it has to be; then it does not stay there.
    """
    for attempt in range(1, ATTEMPTS + 1):
        if part.is_file() and sha256(part) == file.sha256:
            return
        try:
            continued = _transfer(file.url, part)
        except HTTPError as error:
            raise MirrorError(f"cannot get {file.name}: {file.place} answers {error.code} {error.reason}") from error
        except BrokenError as error:
            if attempt == ATTEMPTS:
                raise MirrorError(
                    f"cannot get {file.name} from {file.place}: {error}; run again, it goes on where this one stopped"
                ) from error
            time.sleep(PAUSE * attempt)
            continue
        digest = sha256(part)
        if digest == file.sha256:
            return
        part.unlink()
        # What a broken run left may have been of another file; only a whole transfer tells.
        if not continued:
            raise MirrorError(
                f"{file.name} is refused: {file.place} has the sha256 {digest}, and {file.sha256} is wanted. Nothing "
                "of it is kept. If a proxy spoils files, run again; if the file was replaced there, make a new lock"
            )
    raise MirrorError(f"cannot get {file.name}: {file.place} gives something else in every attempt")


def _transfer(url: str, part: Path) -> bool:
    """Loads what is not there yet; whether that was added to what was there. Raises HTTPError and BrokenError."""
    have = part.stat().st_size if part.is_file() else 0
    try:
        response = _open(url, headers={"Range": f"bytes={have}-"} if have else {})
    except HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE or not have:
            raise
        part.unlink()  # more is there than the file has
        return _transfer(url, part)
    with response:
        continued = bool(have) and _continues_at(response, have)
        expected = int(response.headers.get("Content-Length") or 0)
        loaded = 0
        with part.open("ab" if continued else "wb") as stream:
            while block := _guarded(response.read, BLOCK):
                stream.write(block)
                loaded += len(block)
    if loaded < expected:
        raise BrokenError(f"the connection ended after {loaded} of {expected} bytes")
    return continued


def _continues_at(response: Any, have: int) -> bool:
    """Whether the server sends the rest that was asked for, and not all of the file or another part of it."""
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range") or "")
    return response.status == PARTIAL_CONTENT and found is not None and int(found[1]) == have


def _open(url: str, **options: Any) -> Any:
    """A response as it is sent, not decompressed. Raises HTTPError for what is not there, else BrokenError."""

    def ask() -> Any:
        return open_url(url, timeout=TIMEOUT, http_agent="crophpc.maskrcnn", decompress=False, **options)

    try:
        return _guarded(ask)
    except HTTPError as error:
        if error.code >= SERVER_ERROR or error.code == TOO_MANY_REQUESTS:
            raise BrokenError(f"the server answers {error.code} {error.reason}") from error
        raise


def _guarded(call: Callable[..., Any], *arguments: Any) -> Any:
    """Calls what uses the network. Raises BrokenError for its faults, so that those of the disk stay apart."""
    try:
        return call(*arguments)
    except HTTPError:
        raise
    except (OSError, HTTPException) as error:
        raise BrokenError(str(getattr(error, "reason", "") or error)) from error
