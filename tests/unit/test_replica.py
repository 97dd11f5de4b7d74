# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One user's replica, killed at every single step of the way, and what is found beside it."""

from __future__ import annotations

import errno
import itertools
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils import folders
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.at_once import in_processes, parts
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.folders import opened
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.replica import BUILDING, REPLACED, Template, staged
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.user_changes import differences
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.user_replica import Outcome, UserReplica, Wish
from hand_made_template import OWN, PLACEHOLDER, hand_made_template, read

# Root gives it to somebody else, and anybody to themself.
USER = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
UID = pwd.getpwnam(USER).pw_uid
# All that changes something on disk.
STEPS = ("mkdir", "link", "symlink", "rename", "unlink", "rmdir", "chown", "fchown", "fchmod", "utime", "write")
KILLED = 9


@dataclass
class Site:
    """A template, and the folders of users."""

    template: Template
    wish: Wish

    @property
    def top(self) -> Path:
        return self.wish.users_dir / USER

    @property
    def envs(self) -> Path:
        return self.top / "conda" / "envs"

    @property
    def env(self) -> Path:
        return self.envs / self.wish.name

    def run(self, *, present: bool = True, **wish: Any) -> Outcome:
        user = UserReplica(USER, replace(self.wish, **wish), {})
        return user.run(self.template if present else None)

    def write(self, path: str, content: str = "mine\n") -> None:
        """What the user writes into their replica."""
        (self.env / path).parent.mkdir(exist_ok=True)
        (self.env / path).write_text(content)
        for made in (self.env / path, (self.env / path).parent):
            os.chown(made, UID, -1)

    def renew(self) -> None:
        (self.template.path / "lib" / "new").write_text("new\n")
        self.template = read(self.template.path)

    def is_whole(self) -> None:
        """The replica is there, as its template is, and nothing is beside it."""
        with opened(str(self.env)) as env:
            assert differences(env, self.template.manifest, UID) == []
        assert os.listdir(self.envs) == [self.wish.name]

    @property
    def kept(self) -> dict[str, str]:
        """Files that were moved out of the way, and their contents."""
        found = [path for folder in self.top.glob("plots-kept-*") for path in folder.rglob("*") if path.is_file()]
        return {"/".join(path.relative_to(self.top).parts[1:]): path.read_text() for path in found}


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Not in pytest's folders, which are this user's alone."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "users").mkdir()
        wish = Wish(folder / "users", "plots", "replace", 0, frozenset(), "", check=False, threads=request.param)
        yield Site(read(hand_made_template(folder / "template")), wish)


@pytest.fixture
def small_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Its template has fewer files, and nothing is done at home, so there are not as many moments to be killed at."""
    monkeypatch.setattr(UserReplica, "at_home", lambda *_arguments, **_more: None)
    shutil.rmtree(site.template.path / "lib")
    shutil.rmtree(site.template.path / OWN / ".git")
    (site.template.path / "lib").mkdir()
    site.template = read(site.template.path)
    return site


@pytest.fixture(params=["in one step", "in two"])
def _steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a filesystem that can exchange two folders, and on one that cannot, such as NFS."""
    if request.param == "in two":

        def refuse(*_arguments: object) -> None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        monkeypatch.setattr(folders, "_renameat2", refuse)


def killed(work: Callable[[], object], step: int) -> bool:
    """Does the work in a process that is killed before a step; whether there was such a step."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == KILLED
    taken = itertools.count()
    worker = os.getpid()

    def count(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **more: object) -> object:
            if os.getpid() == worker and next(taken) == step:
                os._exit(KILLED)
            return original(*arguments, **more)

        return call

    for name in STEPS:
        setattr(os, name, count(getattr(os, name)))
    folders._renameat2 = count(folders._renameat2)  # type: ignore[assignment]
    work()
    os._exit(0)


def kills(site: Site, work: Callable[[], object]) -> Iterator[int]:
    """Kills the work once for every step that it takes; every time, the users' folders are as they were at first."""
    users, before = site.wish.users_dir, site.wish.users_dir.with_name("before")
    users.rename(before)
    for step in itertools.count():
        shutil.rmtree(users, ignore_errors=True)
        subprocess.run(["cp", "--archive", "--link", before, users], check=True)
        if not killed(work, step):
            assert step > 20
            return
        yield step


def test_killed_while_it_is_made(small_site: Site) -> None:
    for _step in kills(small_site, small_site.run):
        assert small_site.run().status in ("created", "unchanged")
        small_site.is_whole()
        assert small_site.kept == {}


@pytest.mark.parametrize("site", [3], indirect=True)  # each moment takes its time
@pytest.mark.usefixtures("_steps")
@pytest.mark.parametrize("edited", [True, False])
def test_killed_while_it_is_updated(small_site: Site, edited: bool) -> None:
    """What the user has made is where it was, or beside ``conda``; nothing else is there."""
    site = small_site
    site.run()
    site.write("weights/best.h5")
    if edited:
        site.write(f"{OWN}/model.py")
    site.renew()
    for _step in kills(site, site.run):
        outcome = site.run()
        assert outcome.status in ("created", "updated", "unchanged"), outcome.reason
        site.is_whole()
        clone = (site.env / OWN / "model.py").read_text()
        # Where there is no moment at which both are in place, the old one may have gone.
        assert (clone == "mine\n") == edited or site.kept.get(f"{OWN}/model.py") == "mine\n"
        assert site.kept["weights/best.h5"] == "mine\n"
        assert {*site.kept.values()} == {"mine\n"}


@pytest.mark.parametrize("site", [3], indirect=True)  # each moment takes its time
def test_killed_while_it_is_taken(small_site: Site) -> None:
    small_site.run()
    small_site.write("weights/best.h5")
    for _step in kills(small_site, lambda: small_site.run(present=False)):
        assert small_site.run(present=False).status in ("removed", "absent")
        assert os.listdir(small_site.envs) == []
        assert small_site.kept == {"weights/best.h5": "mine\n"}


# --- what is beside it ---


def test_what_is_being_built_is_no_litter_to_another_run(site: Site) -> None:
    site.run()
    with opened(str(site.envs)) as envs, staged(envs, site.wish.name) as stage:
        assert site.run().status == "unchanged"
        assert (site.envs / stage.name).is_dir()
    assert os.listdir(site.envs) == [site.wish.name]


@pytest.mark.parametrize("other", ["plots-2", "plots-12345678", "plots2", "p"])
def test_what_is_another_environments_is_left_alone(site: Site, other: str) -> None:
    site.run()
    for name in (f"{BUILDING}{other}-01234567", f"{REPLACED}{other}-1-01234567"):
        (site.envs / name).mkdir(mode=0o700)
    site.run()
    assert len(os.listdir(site.envs)) == 3
    site.run(name=other)
    assert sorted(os.listdir(site.envs)) == sorted([site.wish.name, other])


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_what_somebody_else_has_made_is_left_alone(site: Site, mode: int) -> None:
    """With a name like that, but not this process' alone."""
    site.run()
    folder = site.envs / f"{BUILDING}plots-01234567"
    folder.mkdir()
    folder.chmod(mode)
    if mode == 0o700:
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(folder, UID, -1)
    site.run()
    assert folder.is_dir()


def test_what_was_replaced_stays_for_its_time(site: Site) -> None:
    site.run()
    site.renew()
    assert site.run(keep_seconds=1000).status == "updated"
    (old,) = site.envs.glob(f"{REPLACED}*")
    assert (old / "env" / "bin" / "tool").read_text() == f"#!{site.env}/bin/python\n"
    assert site.run(keep_seconds=1000).changed is False
    os.utime(old, (0, 0))
    assert site.run(keep_seconds=1000).changed is True
    site.is_whole()
    assert site.kept == {}


def test_a_link_that_was_there_at_the_last_moment_is_kept(site: Site) -> None:
    """A run was killed when it had taken it for the environment."""
    site.run()
    (site.envs / f"{REPLACED}plots-1-01234567").mkdir(mode=0o700)
    (site.envs / f"{REPLACED}plots-1-01234567" / "env").symlink_to("/etc")
    outcome = site.run()
    assert outcome.status == "unchanged"
    assert [os.readlink(path) for path in outcome.kept] == ["/etc"]
    assert os.listdir(site.envs) == [site.wish.name]


# --- the tree ---


def test_every_file_is_what_it_is_to_be(site: Site) -> None:
    site.run()
    old = site.template.path
    assert (site.env / "bin/tool").read_text() == f"#!{site.env}/bin/python\n"
    compiled = (site.env / "lib/tool.so").read_bytes()
    assert compiled == f"\1{site.env}/lib".encode().ljust(len(PLACEHOLDER) + 10, b"\0")
    assert os.readlink(site.env / "bin/place") == f"{site.env}/lib"
    assert os.readlink(site.env / "bin/tool3") == "tool"
    owners = {path: (site.env / path).lstat().st_uid for path in ("bin", "bin/tool", "bin/place", f"{OWN}/model.py")}
    assert {*owners.values()} == {UID}
    for path in ("lib/python3.6/tool.py", f"{OWN}/.git/objects/aa/bb"):
        assert (site.env / path).samefile(old / path) == (os.geteuid() == 0)
    assert not (site.env / OWN / "model.py").samefile(old / OWN / "model.py")


def test_it_is_the_same_however_many_threads_make_it(site: Site) -> None:
    def facts(threads: int) -> dict[str, tuple[int, ...]]:
        site.run(present=False)
        assert site.run(threads=threads).status == "created"
        site.is_whole()
        found = {}
        for path in [site.env, *site.env.rglob("*")]:
            status = path.lstat()
            # Rewritten files and folders are new ones every time.
            inode = status.st_ino if status.st_nlink > 1 and path.is_file() else 0
            found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, inode)
        return {path: known for path, known in found.items() if not Path(path).is_symlink()}

    one = facts(1)
    assert [facts(threads) == one for threads in range(2, 12)] == [True] * 10


@pytest.mark.parametrize("name", ["model.py", "tool", "place.py"])
def test_what_goes_wrong_in_one_thread_goes_wrong(site: Site, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Wherever in the tree it is; nothing of the rest is left."""
    original = os.open

    def refuse(path: Any, *arguments: Any, **more: Any) -> int:
        if path == name and arguments[0] & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, *arguments, **more)

    monkeypatch.setattr(os, "open", refuse)
    outcome = site.run()
    assert (outcome.status, outcome.reason) == ("failed", os.strerror(errno.ENOSPC))
    assert os.listdir(site.envs) == []


def test_parts_have_every_folder_once(site: Site) -> None:
    folders = site.template.manifest.folders
    for number in range(1, 20):
        found = parts(folders, number)
        assert [folder for part in found for folder in part] == folders
        assert len(found) <= number
        assert all(found)


def test_a_process_that_fails_has_not_said_yes(site: Site) -> None:
    """Nor one that is killed."""
    several = parts(site.template.manifest.folders, 3)
    here = os.getpid()
    assert in_processes(lambda _part: True, several)
    for answer in (lambda: False, lambda: 1 / 0 > 1, lambda: os.kill(os.getpid(), signal.SIGKILL) is None):
        for which in several[1:]:
            assert not in_processes(lambda part, a=answer, w=which: part is not w or a(), several)  # type: ignore[misc]
    assert not in_processes(lambda _part: os.getpid() != here, several)


def test_where_nothing_can_be_linked_it_is_copied(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that is the user; another run finds it as it is."""

    def refuse(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    outcome = site.run()
    assert (outcome.status, outcome.how in ("copy", "reflink")) == ("created", True), outcome
    assert {path.lstat().st_uid for path in [site.env, *site.env.rglob("*")]} == {UID}
    site.is_whole()
    assert site.run().status == "unchanged"


def test_a_link_in_the_place_of_the_users_own_folder_stays(site: Site, tmp_path: Path) -> None:
    """They may have the clone elsewhere."""
    site.run()
    (site.env / OWN).rename(tmp_path / "mine")
    (site.env / OWN).symlink_to(tmp_path / "mine")
    site.renew()
    assert site.run(on_changes="keep").status == "updated"
    assert os.readlink(site.env / OWN) == str(tmp_path / "mine")
    assert (tmp_path / "mine" / "model.py").exists()


def test_a_folder_that_a_killed_run_has_not_given_to_the_user_is_theirs(site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives folders away")
    site.top.mkdir()
    assert site.run().status == "created"
    assert site.top.stat().st_uid == UID
    shutil.rmtree(site.top)
    site.top.mkdir()
    (site.top / "conda").mkdir()  # somebody is at work here
    assert site.run().status == "failed"
