# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Downloads by their sums, from a real web server that breaks off, lies, or cannot go on in the middle of a file."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from ansible_collections.crophpc.maskrcnn.plugins.module_utils import download
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.download import File, fetch, find_size
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.mirror_folder import MirrorError
from web_server import Server

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0)


@pytest.fixture(params=["goes on", "begins anew"])
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """One that goes on in the middle of a file, and one that always sends all of it."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "thing.conda").write_bytes(CONTENT)
    server = Server(folder, ranges=request.param == "goes on")
    yield server
    server.stop()


def wanted(server: Server, digest: str = DIGEST) -> File:
    return File("channel/thing.conda", f"{server.url}/thing.conda", digest)


def test_a_file_is_fetched_and_its_size_found_before(server: Server, tmp_path: Path) -> None:
    assert find_size(wanted(server).url) == len(CONTENT)
    fetch(wanted(server), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_what_is_whole_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(CONTENT)
    fetch(wanted(server), tmp_path / "part")
    assert server.requests == []


def test_a_broken_transfer_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.faults["/thing.conda"] = ["1000", "500"]
    fetch(wanted(server), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    second = 1500 if server.ranges else 500
    assert [asked for _method, _path, asked in server.requests] == ["", "bytes=1000-", f"bytes={second}-"]


def test_what_an_earlier_run_left_is_made_use_of(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(CONTENT[:3000])
    fetch(wanted(server), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert server.requests == [("GET", "/thing.conda", "bytes=3000-")]


@pytest.mark.parametrize("left", [b"of another file", CONTENT + b"more", b"x" * len(CONTENT)])
def test_a_wrong_beginning_is_thrown_away(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "part").write_bytes(left)
    fetch(wanted(server), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"!", b""])
def test_another_file_is_refused_and_not_kept(server: Server, tmp_path: Path, content: bytes) -> None:
    (server.folder / "thing.conda").write_bytes(content)
    with pytest.raises(MirrorError) as refused:
        fetch(wanted(server), tmp_path / "part")
    for word in ("channel/thing.conda", server.url, DIGEST, hashlib.sha256(content).hexdigest()):
        assert word in str(refused.value)
    assert not (tmp_path / "part").exists()
    assert len(server.requests) == 1


def test_a_server_that_is_busy_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.faults["/thing.conda"] = [503, 429]
    fetch(wanted(server), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_server_that_stays_broken_is_given_up_and_the_part_kept(server: Server, tmp_path: Path) -> None:
    server.faults["/thing.conda"] = ["1000", 503, 503]
    with pytest.raises(MirrorError, match=r"channel/thing.conda .*503.*run again"):
        fetch(wanted(server), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT[:1000]


def test_a_file_that_is_not_there_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    (server.folder / "thing.conda").unlink()
    with pytest.raises(MirrorError, match=r"channel/thing.conda.*404"):
        fetch(wanted(server), tmp_path / "part")
    assert len(server.requests) == 1
    assert find_size(wanted(server).url) == 0


def test_no_password_is_shown(tmp_path: Path) -> None:
    """The port of a server that has just gone away."""
    (tmp_path / "web").mkdir()
    server = Server(tmp_path / "web")
    server.stop()
    url = server.url.replace("//", "//ada:secret@")
    for ask in (lambda: find_size(url), lambda: fetch(File("x", url, DIGEST), tmp_path / "part")):
        with pytest.raises(MirrorError) as refused:
            ask()
        assert "secret" not in str(refused.value)
        assert "127.0.0.1" in str(refused.value)


def test_files_of_this_machine_are_fetched_too(tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(CONTENT)
    url = (tmp_path / "a file").as_uri()
    assert find_size(url) == len(CONTENT)
    (tmp_path / "part").write_bytes(CONTENT[:10])
    fetch(File("x", url, DIGEST), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
