# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What users have done in their replicas."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.env_manifest import Manifest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.folders import opened
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.user_changes import (
    MOST_NAMED,
    SAVED,
    Difference,
    changed_own,
    describe,
    differences,
    made_by_user,
    save,
)
from hand_made_template import OWN, hand_made_replica, hand_made_template, read

SITE = "lib/python3.6/site-packages"


@dataclass
class Replica:
    """A replica of this user's, and the questions about it."""

    path: Path
    fd: int
    manifest: Manifest

    @property
    def differences(self) -> list[Difference]:
        return differences(self.fd, self.manifest, os.geteuid())

    @property
    def own(self) -> list[str]:
        return changed_own(self.fd, self.manifest)

    @property
    def made(self) -> list[str]:
        return sorted(made_by_user(self.fd, self.manifest, os.geteuid()))

    def write(self, path: str, content: str = "mine\n") -> None:
        """As programs do that take care: the old file goes, a new one comes."""
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(content)


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    template = read(hand_made_template(tmp_path / "template"))
    path = hand_made_replica(tmp_path / "ada", template)
    with opened(str(path)) as fd:
        yield Replica(path, fd, template.manifest)


def test_a_new_one_has_no_changes(replica: Replica) -> None:
    assert (replica.differences, replica.own, replica.made) == ([], [], [])


def link_away(replica: Replica) -> None:
    (replica.path / "bin").rename(replica.path.parent / "bin")
    (replica.path / "bin").symlink_to("../bin")


CHANGES: dict[str, tuple[Callable[[Replica], object], list[Difference]]] = {
    "file added": (lambda r: r.write("weights/best.h5"), [Difference("weights", "added")]),
    "link added": (lambda r: (r.path / "lib" / "x").symlink_to("/etc"), [Difference("lib/x", "added")]),
    "file replaced": (lambda r: r.write("lib/python3.6/tool.py"), [Difference("lib/python3.6/tool.py", "changed")]),
    "file removed": (
        lambda r: (r.path / "lib/python3.6/tool.py").unlink(),
        [Difference("lib/python3.6/tool.py", "removed")],
    ),
    "text changed": (lambda r: (r.path / "bin/tool").write_text("mine\n"), [Difference("bin/tool", "changed")]),
    "text removed": (lambda r: (r.path / "bin/tool").unlink(), [Difference("bin/tool", "removed")]),
    "link removed": (lambda r: (r.path / "bin/tool3").unlink(), [Difference("bin/tool3", "removed")]),
    "link replaced": (lambda r: r.write("bin/tool3"), [Difference("bin/tool3", "changed")]),
    "folder replaced": (link_away, [Difference("bin", "added"), Difference("bin", "removed")]),
    "byte code": (lambda r: r.write("lib/python3.6/__pycache__/new.cpython-36.pyc"), []),
    "history": (lambda r: (r.path / "conda-meta/history").write_text("==> today <==\n"), []),
    "own": (lambda r: r.write(f"{OWN}/model.py"), []),
}


@pytest.mark.parametrize(("change", "found"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_found(replica: Replica, change: Callable[[Replica], object], found: list[Difference]) -> None:
    change(replica)
    assert sorted(replica.differences) == found


def test_times_of_files_that_came_as_copies_tell_nothing(replica: Replica) -> None:
    """Where nothing can be linked, all are other files than the template's."""
    for file in ("lib/python3.6/tool.py", "conda-meta/tool-1.0-0.json"):
        old = (replica.path / file).stat()
        replica.write(file, (replica.path / file).read_text())
        os.utime(replica.path / file, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert replica.differences == []


OWN_CHANGES: dict[str, tuple[Callable[[Replica], object], bool]] = {
    "edit": (lambda r: (r.path / OWN / "model.py").write_text("LAYERS = 6\n"), True),
    "new file": (lambda r: r.write(f"{OWN}/notes"), True),
    "new folder": (lambda r: r.write(f"{OWN}/logs/1/events"), True),
    "commit": (lambda r: r.write(f"{OWN}/.git/objects/cc/dd"), True),
    "removed file": (lambda r: (r.path / OWN / "model.py").unlink(), True),
    "renamed folder": (lambda r: (r.path / OWN / ".git").rename(r.path / OWN / "git"), True),
    "a link instead": (lambda r: ((r.path / OWN).rename(r.path / "x"), (r.path / OWN).symlink_to("../x")), True),
    "a pipe instead": (lambda r: ((r.path / OWN).rename(r.path / "x"), os.mkfifo(r.path / OWN)), True),
    "removed": (lambda r: (r.path / OWN).rename(r.path / "x"), False),
    "git status": (lambda r: r.write(f"{OWN}/.git/index"), False),
    "byte code": (lambda r: r.write(f"{OWN}/__pycache__/model.cpython-36.pyc"), False),
}


@pytest.mark.parametrize(("change", "counts"), OWN_CHANGES.values(), ids=OWN_CHANGES.keys())
def test_what_counts_in_the_users_own_folder(
    replica: Replica, change: Callable[[Replica], object], counts: bool
) -> None:
    change(replica)
    assert replica.own == [OWN] * counts


def test_what_a_user_has_made_is_not_what_packages_have_brought(replica: Replica) -> None:
    replica.write("weights/best.h5")
    replica.write("notes.txt")
    replica.write(f"{OWN}/notes")
    replica.write("bin/pipped")
    replica.write("bin/mine")
    replica.write("share/conda/data")
    replica.write("share/mixed/data")
    replica.write("share/mixed/mine")
    replica.write("conda-meta/new-1.0-0.json", json.dumps({"files": ["share/conda/data", "share/mixed/data"]}))
    replica.write(f"{SITE}/pipped.py")
    replica.write(f"{SITE}/pipped-2.0.dist-info/RECORD", "pipped.py,,\n../../../bin/pipped,,\n")
    assert replica.made == ["bin/mine", OWN, "notes.txt", "share", "weights"]
    assert describe(replica.differences)[:2] == ["added new 1.0 (conda)", "added pipped 2.0 (pip)"]


def test_a_link_in_the_place_of_a_folder_is_something_made(replica: Replica) -> None:
    link_away(replica)
    assert replica.made == ["bin"]


def test_records_that_are_none_are_no_packages(replica: Replica, tmp_path: Path) -> None:
    """They may be anything that a user can make."""
    replica.write("weights")
    for number, content in enumerate(["", "5", "[1]", '{"files": 5}', '{"files": null}', "[" * 100_000, "\0"]):
        replica.write(f"conda-meta/n-1.0-{number}.json", content)
        replica.write(f"{SITE}/n-{number}.dist-info/RECORD", content + '"\n,,\n\n')
    (tmp_path / "secret.json").write_text('{"files": ["weights"]}')
    (replica.path / "conda-meta" / "link-1.0-0.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(replica.path / "conda-meta" / "pipe-1.0-0.json")
    with_a_writer = os.open(replica.path / "conda-meta" / "pipe-1.0-0.json", os.O_RDWR)
    assert replica.made == ["weights"]
    os.close(with_a_writer)


def test_many_changes_are_counted(replica: Replica) -> None:
    for number in range(MOST_NAMED + 5):
        replica.write(f"file-{number:02}")
    assert describe(replica.differences)[-2:] == [f"added file-{MOST_NAMED - 1}", "and 5 more"]


def test_what_is_saved_is_moved_as_it_is(replica: Replica, tmp_path: Path) -> None:
    replica.write("weights/best.h5")
    replica.write("lib/deep/er/mine")
    (replica.path / "lib" / "link").symlink_to("/etc")
    paths = ["weights", "lib/deep/er/mine", "lib/link", "gone", "lib/gone/too"]
    with opened(str(tmp_path / "ada")) as stage:
        assert save(replica.fd, stage, paths, None) == ["weights", "lib/deep/er/mine", "lib/link"]
        saved = tmp_path / "ada" / SAVED
        assert (saved / "weights/best.h5").read_text() == (saved / "lib/deep/er/mine").read_text() == "mine\n"
        assert os.readlink(saved / "lib/link") == "/etc"
        assert not (replica.path / "weights").exists()
        # A run that goes on where another one was killed.
        replica.write("lib/more")
        assert save(replica.fd, stage, ["lib/more"], None) == ["lib/more"]
        assert sorted(os.listdir(saved / "lib")) == ["deep", "link", "more"]


def test_nothing_saved_leaves_no_folder(replica: Replica, tmp_path: Path) -> None:
    with opened(str(tmp_path / "ada")) as stage:
        assert save(replica.fd, stage, ["gone"], None) == []
    assert os.listdir(tmp_path / "ada") == [replica.path.name]
