# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the files of hashed requirements are to be had: in package indexes, on pages and in folders, as pip looks.

Files are known by their sums alone: nothing is downloaded, and what a page names without a sum is of no use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, unquote, urldefrag, urljoin, urlsplit

from ansible.module_utils.urls import open_url
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.mirror_folder import sha256
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import (
    Pin,
    canonical_name,
    without_password,
)

PYPI = "https://pypi.org/simple"
TIMEOUT = 60
AT_ONCE = 8
NOT_FOUND = 404


class PipIndexError(Exception):
    """A file cannot be found; the message says which, and where was looked."""


@dataclass(frozen=True)
class IndexFile:
    """A wheel or source archive; ``url`` is an absolute path for one in a folder."""

    name: str
    url: str
    sha256: str

    def fits(self, pin: Pin) -> bool:
        return f"--hash=sha256:{self.sha256}" in pin.hashes


@dataclass(frozen=True)
class PipIndex:
    """Folders and pages (``find_links``) and, unless ``no_index``, the indexes that the machine's pip knows."""

    find_links: list[str]
    no_index: bool
    settings: Mapping[str, str] = field(default_factory=dict)
    """The machine's settings for pip, as ``pip config list`` names them."""

    def find(self, pins: list[Pin]) -> dict[Pin, list[IndexFile]]:
        """The files of each pin that its hashes allow. Raises PipIndexError where there is none."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = dict(zip(pins, pool.map(self._files, pins), strict=True))
        missing = [f"{pin.name}=={pin.version}" for pin, files in found.items() if not files]
        if missing:
            places = ", ".join(without_password(place) for place in (*self._links, *self._indexes)) or "nowhere"
            raise PipIndexError(
                f"there is no file with one of the pinned SHA-256 sums for {', '.join(missing)}; searched: {places}"
            )
        return found

    def _files(self, pin: Pin) -> list[IndexFile]:
        found = {file.sha256: file for files in self._places(pin) for file in reversed(files) if file.fits(pin)}
        return sorted(found.values(), key=lambda file: file.name)

    def _places(self, pin: Pin) -> Iterator[list[IndexFile]]:
        """What each place has for a project, the least wanted first: a mirror's file rather than the index'."""
        for index in reversed(self._indexes):
            yield self._read(f"{index.rstrip('/')}/{pin.name}/")
        for place in reversed(self._links):
            folder = _path(place)
            yield _folder_files(folder, pin.name) if folder and folder.is_dir() else self._read(place)

    @cached_property
    def _links(self) -> list[str]:
        return [*self.find_links, *([] if self.no_index else self.settings.get("find-links", "").split())]

    @cached_property
    def _indexes(self) -> list[str]:
        if self.no_index or "no-index" in self.settings:
            return []
        return [self.settings.get("index-url", PYPI), *self.settings.get("extra-index-url", "").split()]

    @cached_property
    def _read(self) -> Callable[[str], list[IndexFile]]:
        """Reads a page, each only once."""
        return cache(self._page)

    def _page(self, url: str) -> list[IndexFile]:
        page = _Page()
        page.feed(self._text(url))
        return [file for href in page.links if (file := _linked_file(urljoin(page.base or url, href)))]

    def _text(self, url: str) -> str:
        """A page's content; empty where there is none of that name, as an index has no page for every project."""
        path = _path(url)
        try:
            if path:
                page = path / "index.html" if path.is_dir() else path
                return page.read_text(encoding="utf-8") if page.exists() else ""
            with open_url(url, timeout=TIMEOUT, http_agent="crophpc.maskrcnn", **self._options(url)) as response:
                return str(response.read().decode())
        except HTTPError as error:
            if error.code == NOT_FOUND:
                return ""
            raise PipIndexError(f"{without_password(url)} answers {error.code} {error.reason}") from error
        except OSError as error:
            raise PipIndexError(f"cannot read {without_password(url)}: {getattr(error, 'reason', error)}") from error

    def _options(self, url: str) -> dict[str, Any]:
        trusted = self.settings.get("trusted-host", "").split()
        return {
            "headers": {"Accept": "text/html"},
            "ca_path": self.settings.get("cert"),
            "client_cert": self.settings.get("client-cert"),
            "validate_certs": not {urlsplit(url).hostname, urlsplit(url).netloc} & {*trusted},
        }


class _Page(HTMLParser):
    """The links of a page, and what they are relative to if not to the page itself."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href") or ""
        if tag == "a" and href:
            self.links.append(href)
        elif tag == "base":
            self.base = self.base or href


def _linked_file(link: str) -> IndexFile | None:
    url, fragment = urldefrag(link)
    sha256 = parse_qs(fragment).get("sha256", [""])[0]
    return IndexFile(unquote(urlsplit(url).path.rpartition("/")[2]), url, sha256) if sha256 else None


def _path(place: str) -> Path | None:
    """Where a place is on this machine; None where it is elsewhere."""
    if place.startswith("/"):
        return Path(place)
    return Path(unquote(urlsplit(place).path)) if place.startswith("file:") else None


def _folder_files(folder: Path, project: str) -> list[IndexFile]:
    """A project's files in a folder, and those of projects whose names begin with its own."""
    names = [path for path in sorted(folder.iterdir()) if canonical_name(path.name).startswith(f"{project}-")]
    return [IndexFile(path.name, str(path), _sha256(path)) for path in names if path.is_file()]


_sha256 = cache(sha256)
