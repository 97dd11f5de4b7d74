# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module offline_mirror, with a web server for the internet: made, broken off, spoiled, filled with two locks.

And what the mirror of the tests has for profiles of different Pythons.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.crophpc.maskrcnn.plugins.module_utils import mirror_folder
from channel import Channel
from running import Result, Runner, git, versions
from web_server import Server

ROOT = Path(__file__).resolve().parents[2]
BIG = 3_000_000
KILLS = 8


class Internet:
    """Channels, wheels, a repository and weights on a web server, and the locks that name them."""

    def __init__(self, folder: Path) -> None:
        self.channel = Channel(folder / "channel")
        for name in ("python", "aaa", "bbb"):
            self.channel.add(name, "3.6.15", depends=["aaa"] if name == "bbb" else [])
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        for name in ("keras", "big"):
            size = BIG if name == "big" else 100
            (self.wheels / f"{name}-2.2.5-py3-none-any.whl").write_bytes(hashlib.shake_256(name.encode()).digest(size))
        (folder / "weights.h5").write_bytes(b"weights")
        work = folder / "work"
        work.mkdir()
        git(work, "init", "--quiet", "--initial-branch=master")
        self.commits = [self._commit(work, text) for text in ("one", "two", "three")]
        git(folder, "clone", "--quiet", "--bare", str(work), "Mask_RCNN.git")
        git(folder / "Mask_RCNN.git", "update-server-info")
        self.server = Server(folder)

    @staticmethod
    def _commit(work: Path, text: str) -> str:
        (work / "README.md").write_text(text)
        git(work, "add", ".")
        git(work, "commit", "--quiet", "--message", text)
        return git(work, "rev-parse", "HEAD")

    def lock(self, conda: tuple[str, ...] = ("python", "aaa"), pip: tuple[str, ...] = ("keras", "big")) -> str:
        """A lock with some of the packages; as JSON, which is YAML too."""
        packages: list[dict[str, Any]] = []
        for file, about in self.channel.repodata.items():
            if about["name"] in conda:
                kept = {key: about[key] for key in ("sha256", "md5", "size", "depends", "timestamp")}
                packages.append({"conda": f"{self.server.url}/channel/linux-64/{file}", **kept})
        for wheel in sorted(self.wheels.iterdir(), reverse=True):  # the big one last
            name, version, *_tags = wheel.name.split("-")
            if name in pip:
                digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
                about = {"name": name, "version": version, "sha256": digest}
                packages.append({"pypi": f"{self.server.url}/wheels/{wheel.name}", **about})
        names = [dict([next(iter(package.items()))]) for package in packages]
        channels = [{"url": f"{self.server.url}/channel"}]
        environment = {"channels": channels, "packages": {"linux-64": names}}
        return json.dumps({"version": 6, "environments": {"default": environment}, "packages": packages})

    @property
    def source(self) -> dict[str, str]:
        return {"repo": f"{self.server.url}/Mask_RCNN.git", "commit": self.commits[-1]}

    @property
    def weights(self) -> dict[str, Any]:
        digest = hashlib.sha256(b"weights").hexdigest()
        return {"name": "coco.h5", "url": f"{self.server.url}/weights.h5", "sha256": digest, "size": 7}


@dataclass
class Mirror:
    """A mirror's folder, and the module that makes it."""

    runner: Runner
    path: Path
    options: dict[str, Any] = field(default_factory=dict)

    def given(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"module": "offline_mirror", "path": self.path} | self.options | options

    def start(self) -> subprocess.Popen[str]:
        return self.runner.start(**self.given({}))

    def make(self, *, check: bool = False, **options: Any) -> Result:
        """Makes the mirror; whole and without litter is what it then has to be."""
        result = self.runner(check=check, **self.given(options))
        if not check:
            listed = mirror_folder.read(self.path)["files"]
            assert mirror_folder.differences(listed, mirror_folder.entries(self.path)) == {}
            assert {p.name for p in self.path.iterdir()} <= {*mirror_folder.FOLDERS, mirror_folder.NAME, ".lock"}
        return result

    def fails(self, **options: Any) -> str:
        return self.runner.fails(**self.given(options))


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    (tmp_path / "internet").mkdir()
    internet = Internet(tmp_path / "internet")
    yield internet
    internet.server.stop()


@pytest.fixture
def new(run: Runner, tmp_path: Path, internet: Internet) -> Mirror:
    """A mirror that is yet to be made for a lock of two conda packages and two wheels."""
    options = {
        "profile": "tf1",
        "build": "cpu",
        "lock": internet.lock(),
        "source": internet.source,
        "engine_python": run.defaults["engine_python"],
    }
    return Mirror(run, tmp_path / "mirror", options)


def test_a_mirror_is_all_that_is_needed(
    new: Mirror, internet: Internet, run: Runner, serve: Callable[[Path], Server], tmp_path: Path
) -> None:
    result = new.make(weights=[internet.weights])
    assert result["changed"]
    internet.server.stop()

    profile = mirror_folder.read(new.path)["profiles"]["tf1"]
    assert profile["python"] == "3.6.15"
    assert (new.path / "weights" / "coco.h5").read_bytes() == b"weights"
    assert "keras==2.2.5 --hash=sha256:" in (new.path / profile["requirements"]["cpu"]).read_text()
    assert (new.path / profile["locks"]["cpu"]).read_text() == internet.lock()
    served = serve(new.path)
    assert "big-2.2.5-py3-none-any.whl" in (new.path / "wheels" / "index.html").read_text()
    for place in (str(new.path), served.url):
        prefix = tmp_path / f"env{len(place)}"
        run(prefix=prefix, channels=[f"{place}/channel"], specs=["python", "aaa"])
        assert versions(prefix) == {"python": "3.6.15", "aaa": "3.6.15"}
        clone = tmp_path / f"clone{len(place)}"
        git(tmp_path, "clone", "--quiet", f"{place}/git/Mask_RCNN.git", str(clone))
        assert git(clone, "rev-parse", "HEAD") == profile["commit"] == internet.commits[-1]


def test_a_second_run_asks_for_nothing_and_changes_nothing(
    new: Mirror, internet: Internet, snapshot: Callable[[Path], Any]
) -> None:
    new.make()
    before = snapshot(new.path)
    internet.server.requests.clear()
    assert not new.make()["changed"]
    assert not new.make(check=True)["changed"]
    assert internet.server.requests == []
    assert snapshot(new.path) == before


def test_check_mode_tells_what_would_be_fetched_and_touches_nothing(new: Mirror, internet: Internet) -> None:
    result = new.make(check=True, _ansible_diff=True)
    assert result["changed"]
    assert not new.path.exists()
    assert internet.server.fetched == []
    names = {file["name"] for file in result["fetched"]}
    assert {"channel/linux-64/aaa-3.6.15-0.tar.bz2", "wheels/big-2.2.5-py3-none-any.whl"} <= names
    assert all(name in result["diff"]["after"] for name in names)
    sizes = [about["size"] for about in internet.channel.repodata.values() if about["name"] != "bbb"]
    assert result["fetched_bytes"] == sum(sizes) + BIG + 100
    assert new.make()["fetched"] == result["fetched"]


def test_a_run_killed_in_the_middle_of_a_file_goes_on_there(new: Mirror, internet: Internet) -> None:
    def there() -> int:
        return sum(part.stat().st_size for part in (new.path / mirror_folder.WORK).glob("*.part"))

    internet.server.hold = 1_000_000
    process = new.start()
    assert internet.server.held.wait(60)
    deadline = time.monotonic() + 60
    while there() < internet.server.hold * 0.9:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    expected = f"bytes={there()}-"
    assert not (new.path / mirror_folder.NAME).exists()

    internet.server.hold = None
    internet.server.requests.clear()
    new.make()
    wheel = "/wheels/big-2.2.5-py3-none-any.whl"
    assert [asked for method, path, asked in internet.server.requests if (method, path) == ("GET", wheel)] == [expected]
    assert not [path for path in internet.server.fetched if path.endswith((".bz2", "keras-2.2.5-py3-none-any.whl"))]


def test_runs_killed_at_any_moment_are_finished_by_the_next(new: Mirror, internet: Internet) -> None:
    started = time.monotonic()
    new.make()
    whole, seconds = mirror_folder.read(new.path), time.monotonic() - started
    new.path = new.path.with_name("killed")
    for number in range(1, KILLS + 1):
        process = new.start()
        time.sleep(seconds * number / KILLS)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    new.make()
    again = mirror_folder.read(new.path)
    assert again["profiles"] == whole["profiles"]
    assert {n: e for n, e in again["files"].items() if "/pack/" not in n and "objects/info" not in n} == {
        n: e for n, e in whole["files"].items() if "/pack/" not in n and "objects/info" not in n
    }


def test_a_file_that_does_not_match_is_refused_and_the_rest_made_use_of(new: Mirror, internet: Internet) -> None:
    archive = internet.channel.path / "linux-64" / "python-3.6.15-0.tar.bz2"
    right = archive.read_bytes()
    archive.write_bytes(right[:-1] + b"!")
    message = new.fails()
    for word in (archive.name, internet.channel.repodata[archive.name]["sha256"], "refused"):
        assert word in message
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in message
    assert not list(new.path.rglob("*python-3.6.15*"))
    assert not list(new.path.rglob("*.part"))

    archive.write_bytes(right)
    new.make()


def test_a_file_that_was_spoiled_in_the_mirror_is_fetched_again(new: Mirror, internet: Internet) -> None:
    new.make()
    wheel = new.path / "wheels" / "keras-2.2.5-py3-none-any.whl"
    spoiled = [wheel, new.path / "locks" / "tf1-cpu.lock", new.path / "channel" / "noarch" / "repodata.json"]
    spoiled += [new.path / "wheels" / "index.html", *(new.path / "git" / "Mask_RCNN.git").rglob("*.pack")]
    whole = {path: path.read_bytes() for path in spoiled[:-1]}
    for path in spoiled:
        path.chmod(0o644)
        path.write_bytes(b"spoiled")
    result = new.make()
    assert [file["name"] for file in result["fetched"]] == ["wheels/keras-2.2.5-py3-none-any.whl"]
    assert {path: path.read_bytes() for path in whole} == whole
    git(new.path / "git" / "Mask_RCNN.git", "fsck", "--strict")
    assert not new.make()["changed"]


def test_several_locks_share_a_mirror(new: Mirror, internet: Internet, run: Runner, tmp_path: Path) -> None:
    new.make()
    internet.server.requests.clear()
    other = {
        "lock": internet.lock(("python", "aaa", "bbb"), ()),
        "source": internet.source | {"commit": internet.commits[0]},
    }
    new.make(profile="modern", build="gpu", **other)
    assert [path for path in internet.server.fetched if "/channel/" in path] == [
        "/channel/linux-64/bbb-3.6.15-0.tar.bz2"
    ]

    profiles = mirror_folder.read(new.path)["profiles"]
    assert {name: profile["commit"] for name, profile in profiles.items()} == {
        "tf1": internet.commits[-1],
        "modern": internet.commits[0],
    }
    assert not new.make()["changed"]
    for commit in (internet.commits[-1], internet.commits[0]):
        clone = tmp_path / commit
        git(tmp_path, "clone", "--quiet", "--no-local", str(new.path / "git" / "Mask_RCNN.git"), str(clone))
        git(clone, "checkout", "--quiet", commit)
    run(channels=[str(new.path / "channel")], specs=["bbb"])

    # What is another's is not this lock's to mend, and not to be listed as if it were right.
    archive = new.path / "channel" / "linux-64" / "bbb-3.6.15-0.tar.bz2"
    archive.write_bytes(b"spoiled")
    assert f"channel/linux-64/{archive.name}" in new.fails()
    assert new.make(profile="modern", build="gpu", **other)["changed"]
    assert not new.make()["changed"]


def test_a_name_that_two_locks_want_differently_is_refused(new: Mirror, internet: Internet) -> None:
    new.make()
    (internet.wheels / "keras-2.2.5-py3-none-any.whl").write_bytes(b"compiled elsewhere")
    message = new.fails(profile="other", lock=internet.lock())
    assert "wheels/keras-2.2.5-py3-none-any.whl" in message
    assert not new.make()["changed"]


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_fetched(
    new: Mirror, internet: Internet, small_disk: Callable[[int], Path]
) -> None:
    new.path = small_disk(2) / "mirror"
    assert "not enough space" in new.fails()
    assert internet.server.fetched == []


def test_two_runs_do_not_work_on_one_mirror(new: Mirror) -> None:
    def busy() -> None:
        raise AssertionError

    with mirror_folder.locked(new.path, busy):
        assert "another run" in new.fails()
    new.make()


def test_what_was_not_made_from_locks_is_left_alone(new: Mirror, snapshot: Callable[[Path], Any]) -> None:
    (new.path / "channel").mkdir(parents=True)
    (new.path / ".lock").touch()
    mirror_folder.write(new.path, {"tf1": {"python": "3.6.15"}})
    before = snapshot(new.path / "channel")
    assert "another folder" in new.fails()
    assert snapshot(new.path / "channel") == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "mirror"}, "absolute"),
        ({"lock": "no: lock"}, "locks/tf1-cpu.lock"),
        ({"source": {"repo": "https://ada:secret@host/x.git", "commit": "0" * 40}}, "password"),
        ({"source": {"repo": "https://host/x.git", "commit": "master"}}, "40 digits"),
        ({"weights": [{"name": "../x", "url": "u", "sha256": "0" * 64, "size": 1}]}, "../x"),
        ({"engine_requirements": "py-rattler"}, "py-rattler"),
        ({"engine_python": "/no/engine"}, "conda_engine"),
    ],
)
def test_bad_input_is_refused_and_nothing_touched(new: Mirror, options: dict[str, Any], words: str) -> None:
    assert words in new.fails(**options)
    assert not new.path.exists()


def test_a_commit_that_is_nowhere_is_named(new: Mirror, internet: Internet) -> None:
    message = new.fails(source=internet.source | {"commit": "0" * 40})
    assert "0" * 40 in message
    assert internet.server.url in message


# --- the mirror of the tests ---


@pytest.mark.parametrize(("name", "tag"), [("tf1", "py36"), ("modern", "py312")])
def test_a_mirror_serves_profiles_of_different_pythons(run_mirror: Runner, mirror: Path, name: str, tag: str) -> None:
    """Each gets the packages made for its Python and no other's, and they work together."""
    profile = yaml.safe_load((ROOT / "playbooks" / "profiles" / f"{name}.yml").read_text())
    python = mirror_folder.read(mirror)["profiles"][name]["python"]
    specs = [f"python={python}", *profile["conda"]["specs"]]
    run = run_mirror
    installed = run(specs=specs)["plan"]["installed"]
    builds = {package["name"]: package["build"] for package in installed}
    assert len(builds) >= 30
    builds.pop("python")
    assert {package: build for package, build in builds.items() if not build.startswith(f"{tag}h")} == {}

    code = "import numpy, scipy.ndimage, PIL.Image, h5py, skimage.measure, matplotlib.pyplot, IPython, Cython"
    subprocess.run([run.prefix / "bin" / "python", "-c", code], check=True, capture_output=True)
    pip = [run.prefix / "bin" / "python", "-m", "pip", "check"]
    assert subprocess.run(pip, capture_output=True, text=True, check=False).returncode == 0
    assert not run(specs=specs)["changed"]
