# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn weights`: found where they are, fetched whole or not at all, whatever the network, the disk or others do."""

import fcntl
import hashlib
import json
import os
import re
import resource
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, Iterator

import hand_labelled as hand
import pytest
import yaml
from mrcnn_workbench import fetching, weights
from mrcnn_workbench.cli import main
from mrcnn_workbench.errors import WorkbenchError

CONTENT = bytes(range(256)) * 4096  # 1 MB
NAME = "mask_rcnn_coco.h5"
PART = ".{}.part".format(NAME)


class Server(ThreadingMixIn, HTTPServer):
    """Has the same file at every path. `cuts`: after so many bytes a connection ends; `statuses`: answered first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.ranges = CONTENT, True
        self.cuts: Any = []
        self.statuses: Any = []
        self.asked: Any = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.url = "http://127.0.0.1:{}/{}".format(self.server_address[1], NAME)
        threading.Thread(target=self.serve_forever, args=[0.02], daemon=True).start()

    def handle_error(self, *_arguments: Any) -> None:
        """A client that goes away is part of a test."""


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def log_message(self, *_arguments: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range") or ""
        server.asked.append(wanted)
        server.go_on.wait()
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        start = int(re.sub(r"\D", "", wanted) or 0) if server.ranges else 0
        size = len(server.content)
        if start >= size:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", "bytes {}-{}/{}".format(start, size - 1, size))
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        sent = server.content[start:]
        self.wfile.write(sent[: server.cuts.pop(0)] if server.cuts else sent)


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.go_on.set()
    found.shutdown()
    found.server_close()


class Place:
    """An environment at a site with a shared folder, and a user's home."""

    def __init__(self, folder: Path) -> None:
        self.home, self.shared = folder / "home", folder / "shared"
        self.home.mkdir()
        self.apps = self.home / "apps"
        self.own = self.apps / "maskrcnn" / "weights"
        self.apps.mkdir()
        self.prefix = folder / "env"
        self.settings = self.prefix / "share" / "crophpc.maskrcnn" / "workbench"
        self.settings.mkdir(parents=True)
        self.tell("site", {"weights_dirs": [str(self.shared)]})
        self.list_url("http://127.0.0.1:9/" + NAME)

    def tell(self, name: str, content: Any) -> None:
        (self.settings / (name + ".json")).write_text(json.dumps(content))

    def list_url(self, url: str, **more: Any) -> None:
        entry = {"name": NAME, "url": url, "sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}
        self.tell("weights", {"coco": dict(entry, **more)})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: Any) -> Place:
    found = Place(tmp_path)
    for name in ("APPS", "MASKRCNN_WEIGHTS", "XDG_DATA_HOME", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(found.home))
    monkeypatch.setattr(sys, "prefix", str(found.prefix))
    monkeypatch.setattr(fetching, "PAUSE", 0)
    return found


@pytest.fixture
def online(place: Place, server: Server) -> Place:
    place.list_url(server.url)
    place.shared.parent.chmod(0o755)
    return place


def put(folder: Path, content: bytes = CONTENT, name: str = NAME) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def only(folder: Path) -> Any:
    """The names of everything in a folder."""
    return sorted(path.name for path in folder.iterdir())


def fails(*arguments: Any, **options: Any) -> str:
    with pytest.raises(WorkbenchError) as error:
        fetching.fetch(*arguments, **options)
    return str(error.value)


# Where they are


def test_what_the_package_knows_is_what_the_playbook_says(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "prefix", "/nonexistent")
    assert list(weights.known()) == ["coco", "imagenet"]
    playbook = hand.ROLES.parent / "playbooks" / "vars" / "site.yml"
    assert yaml.safe_load(playbook.read_text())["_site_weights"] == weights.KNOWN


def test_the_first_folder_with_the_whole_file_wins(place: Place, monkeypatch: Any, tmp_path: Path) -> None:
    own = put(place.own)
    assert weights.find("coco") == own
    shared = put(place.shared)
    assert weights.find("coco") == shared
    monkeypatch.setenv("MASKRCNN_WEIGHTS", str(tmp_path / "mine"))
    assert weights.find("coco") == shared
    assert weights.find("coco") == shared
    mine = put(tmp_path / "mine")
    assert weights.find("coco") == mine
    put(mine.parent, b"half")
    assert weights.find("coco") == shared


def test_the_users_own_folder_is_with_their_software(place: Place, monkeypatch: Any, tmp_path: Path) -> None:
    assert weights.own() == place.own
    place.apps.rmdir()
    assert weights.own() == place.home / ".local" / "share" / "maskrcnn" / "weights"
    monkeypatch.setenv("APPS", str(tmp_path))
    assert weights.own() == tmp_path / "maskrcnn" / "weights"


def test_who_lacks_them_is_told_what_to_type(place: Place, monkeypatch: Any) -> None:
    put(place.shared, CONTENT[:300000])
    monkeypatch.setenv("MASKRCNN_WEIGHTS", str(place.home / "nothing"))
    with pytest.raises(WorkbenchError) as error:
        weights.find("coco")
    text = str(error.value)
    assert "mrcnn weights fetch coco\n" in text and "mrcnn weights fetch coco --from FILE" in text
    assert "half a download: 0.3 MB of 1.0 MB" in text
    assert "MASKRCNN_WEIGHTS names a folder that is not there" in text
    assert str(place.own / NAME) + " (not there)" in text
    with pytest.raises(WorkbenchError, match="known are coco, imagenet"):
        weights.find("leaves")


def test_the_list_says_what_is_where(place: Place, capsys: Any) -> None:
    put(place.shared)
    assert main(["weights"]) == 0
    said = capsys.readouterr().out
    assert "{} (the site's)".format(place.shared / NAME) in said
    assert "not here; to get it: mrcnn weights fetch imagenet" in said
    assert "{} (yours)".format(place.own) in said
    put(place.own, CONTENT + b"more")
    assert main(["weights"]) == 1
    assert "another file" in capsys.readouterr().out


def test_a_folder_that_cannot_be_looked_at_is_said(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setenv("MASKRCNN_WEIGHTS", "/" + "a" * 300)
    with pytest.raises(WorkbenchError, match="cannot be looked at: File name too long"):
        weights.find("coco")


def test_a_damaged_list_is_said(place: Place) -> None:
    for content in ('{"coco": {"name": "a.h5"}}', "[", "[1]"):
        (place.settings / "weights.json").write_text(content)
        with pytest.raises(WorkbenchError, match=r"weights\.json"):
            weights.known()


# How they get there


def test_they_are_fetched_once(online: Place, server: Server, capsys: Any) -> None:
    assert main(["weights", "fetch", "coco"]) == 0
    found = weights.find("coco")
    assert found.read_bytes() == CONTENT
    assert found.stat().st_mode & 0o777 == 0o644
    assert only(found.parent) == [NAME]
    assert main(["weights", "fetch", "coco"]) == 0
    assert server.asked == [""]
    assert str(found) in capsys.readouterr().out


def test_they_go_where_the_site_looks_if_that_may_be_written(online: Place) -> None:
    assert fetching.fetch("coco") == online.shared / NAME


def test_what_is_at_the_site_is_not_fetched_again_unless_a_folder_is_named(
    online: Place, server: Server, tmp_path: Path
) -> None:
    put(online.shared)
    assert fetching.fetch("coco") == online.shared / NAME
    assert not server.asked
    assert fetching.fetch("coco", tmp_path / "a" / "b") == tmp_path / "a" / "b" / NAME


@pytest.mark.parametrize("spoilt", [CONTENT[:1000], CONTENT[:-1] + b"!", CONTENT + b"!"])
def test_half_a_file_or_a_spoilt_one_is_replaced(online: Place, spoilt: bytes) -> None:
    put(online.shared, spoilt)
    assert fetching.fetch("coco").read_bytes() == CONTENT


def test_a_mirror_comes_before_the_address(place: Place, tmp_path: Path) -> None:
    put(tmp_path / "mirror")
    place.list_url("http://127.0.0.1:9/", mirror=str(tmp_path / "mirror"))
    assert fetching.fetch("coco").read_bytes() == CONTENT


def test_a_file_from_another_computer_will_do(place: Place, tmp_path: Path, monkeypatch: Any) -> None:
    copy = put(tmp_path / "stick", name="download (1)")
    assert main(["weights", "fetch", "coco", "--from", str(copy)]) == 0
    assert weights.find("coco").read_bytes() == CONTENT
    put(tmp_path / "stick")
    assert fetching.fetch("coco", tmp_path / "else", str(copy.parent)) == tmp_path / "else" / NAME
    put(tmp_path / "stick", CONTENT[:5000])
    assert "it has 5000 bytes, and 1048576 are wanted" in fails("coco", tmp_path / "third", str(copy.parent))
    assert "cannot be read (No such file" in fails("coco", tmp_path / "third", str(tmp_path / "nothing"))
    assert only(tmp_path / "third") == []


def test_a_sum_by_md5_is_one_too(place: Place, tmp_path: Path) -> None:
    entry = {
        "name": "r.h5",
        "url": str(put(tmp_path)),
        "md5": "c35cc7d8d91728a0cb052831bc4ef372",
        "size": len(CONTENT),
    }
    place.tell("weights", {"imagenet": entry})
    assert fetching.fetch("imagenet").name == "r.h5"


# The network


def test_a_broken_transfer_goes_on_where_it_was(online: Place, server: Server) -> None:
    server.cuts = [300000, 300000, 10]
    assert fetching.fetch("coco").read_bytes() == CONTENT
    assert server.asked == ["", "bytes=300000-", "bytes=600000-", "bytes=600010-"]


def test_a_later_run_goes_on_too_and_begins_again_where_the_server_cannot(online: Place, server: Server) -> None:
    put(online.shared, CONTENT[:500000], PART)
    server.ranges = False
    assert fetching.fetch("coco").read_bytes() == CONTENT
    assert server.asked == ["bytes=500000-"]
    assert only(online.shared) == [NAME]


@pytest.mark.parametrize("left", [b"another file" * 10, CONTENT + b"too much", b"!" * len(CONTENT)])
def test_what_was_left_of_another_file_is_thrown_away(online: Place, left: bytes) -> None:
    put(online.shared, left, PART)
    assert fetching.fetch("coco").read_bytes() == CONTENT


def test_what_has_come_stays_when_it_is_given_up(online: Place, server: Server) -> None:
    server.cuts = [300000, 0, 0, 0]
    text = fails("coco")
    assert "0.3 MB of 1.0 MB are there; the same command goes on with it" in text
    assert (online.shared / PART).stat().st_size == 300000
    server.cuts = []
    assert fetching.fetch("coco").read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=300000-"


def test_a_busy_server_is_asked_again(online: Place, server: Server) -> None:
    server.statuses = [503, 429]
    assert fetching.fetch("coco").read_bytes() == CONTENT


def test_where_nothing_answers_it_is_said_at_once(place: Place) -> None:
    text = fails("coco")
    assert "127.0.0.1:9" in text and "refused" in text
    assert "--from" in text and "https_proxy" in text
    assert only(place.shared) == []


def test_what_is_not_there_is_said(online: Place, server: Server) -> None:
    server.statuses = [404]
    assert "the server answers 404" in fails("coco")
    assert only(online.shared) == []


def test_a_proxy_is_used_as_the_environment_says(place: Place, server: Server, monkeypatch: Any) -> None:
    place.list_url("http://weights.example.org/" + NAME)
    monkeypatch.setenv("http_proxy", server.url)
    assert fetching.fetch("coco").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"<html>log in</html>", b"!" + CONTENT[1:]])
def test_another_file_is_refused_and_not_kept(online: Place, server: Server, content: bytes) -> None:
    server.content = content
    assert "this is not mask_rcnn_coco.h5" in fails("coco")
    assert only(online.shared) == []


def test_no_password_is_asked_for_in_an_address(place: Place) -> None:
    assert "secret" not in fails("coco", None, "https://ada:secret@example.org/" + NAME)


# The disk, and others


def test_two_at_once_fetch_it_once(online: Place, server: Server) -> None:
    server.go_on.clear()
    found = []
    both = [threading.Thread(target=lambda: found.append(fetching.fetch("coco"))) for _number in range(2)]
    for thread in both:
        thread.start()
    time.sleep(0.3)
    server.go_on.set()
    for thread in both:
        thread.join()
    assert found == [online.shared / NAME] * 2
    assert server.asked == [""]
    assert only(online.shared) == [NAME]


def test_a_full_disk_leaves_nothing(online: Place, server: Server) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500000, before[1]))  # as a quota, it says so only when it is reached
    try:
        text = fails("coco")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the disk is full, or your quota" in text and "--to" in text
    assert only(online.shared) == []


def test_a_disk_that_is_known_to_be_too_small_is_not_tried(online: Place, server: Server, monkeypatch: Any) -> None:
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 1000000}))
    assert "1.0 MB are wanted, 1.0 MB are free" in fails("coco")
    assert not server.asked
    assert only(online.shared) == []


def test_no_link_and_no_pipe_is_written_to(online: Place, tmp_path: Path) -> None:
    """As somebody who may write to the folder would put it there."""
    victim = put(tmp_path / "victim", b"precious")
    part = online.shared / PART
    for plant in (
        lambda: part.symlink_to(victim),
        lambda: os.link(str(victim), str(part)),
        lambda: os.mkfifo(str(part)),
    ):
        online.shared.mkdir(exist_ok=True)
        plant()
        assert "have it removed, or name another folder" in fails("coco")
        assert victim.read_bytes() == b"precious"
        part.unlink()
    part.mkdir()
    assert "have it removed" in fails("coco")


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(online: Place, tmp_path: Path) -> None:
    victim = put(tmp_path / "victim", b"precious")
    online.shared.mkdir()
    (online.shared / NAME).symlink_to(victim)
    assert not fetching.fetch("coco").is_symlink()
    assert victim.read_bytes() == b"precious"


def test_half_a_download_of_somebody_elses_is_left_to_them(online: Place, monkeypatch: Any) -> None:
    put(online.shared, b"theirs", PART)
    monkeypatch.setattr(fetching.os, "geteuid", lambda: os.getuid() + 1)
    assert "is fetching it, or has left half of it: wait" in fails("coco")
    assert (online.shared / PART).read_bytes() == b"theirs"


def test_a_folder_that_is_none_or_may_not_be_written_is_said(online: Place, tmp_path: Path) -> None:
    assert "this is no folder; --to names another" in fails("coco", put(tmp_path))
    assert "cannot be written" in fails("coco", Path("/proc/nothing"))


def test_who_was_interrupted_can_go_on(online: Place, server: Server, monkeypatch: Any) -> None:
    def interrupted(part: Any, *_arguments: Any) -> None:
        part.write(CONTENT[:1000])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "_transfer", interrupted)
        assert main(["weights", "fetch", "coco"]) == 130
    with (online.shared / PART).open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is not held any more
    assert main(["weights", "fetch", "coco"]) == 0
    assert server.asked == ["bytes=1000-"]
