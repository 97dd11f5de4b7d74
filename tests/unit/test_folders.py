# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Folders by descriptor: no link leads anywhere, and nothing is lost on the way."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils import folders
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.folders import (
    ASIDE,
    Descent,
    above,
    exchange,
    exists,
    move,
    opened,
    remove,
    walk,
)

DEEP = 1500  # Python's own stack has 1000


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    """A folder with some in it, and a link among them that leads out of it."""
    (tmp_path / "outside" / "lib").mkdir(parents=True)
    (tmp_path / "outside" / "secret").touch()
    (tmp_path / "top" / "lib" / "deep").mkdir(parents=True)
    (tmp_path / "top" / "lib" / "file").touch()
    (tmp_path / "top" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "top" / "lib" / "link").symlink_to(tmp_path / "outside" / "lib")
    with opened(str(tmp_path / "top")) as fd:
        yield fd


@pytest.fixture(params=["in one step", "in two"])
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On a filesystem that can rename as Linux does, and on one that cannot, such as NFS."""
    if request.param == "in two":

        def refuse(*_arguments: object) -> None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        monkeypatch.setattr(folders, "_renameat2", refuse)
    return str(request.param)


def test_a_walk_follows_no_link(top: int) -> None:
    assert [path for path, _fd in walk(top, "lib")] == ["lib", "lib/deep"]
    for path in ("link", "link/lib", "lib/link", "lib/file"):
        with pytest.raises(OSError, match=r"Not a directory|symbolic"):
            list(walk(top, path))
    assert exists(top, "lib/file")
    assert exists(top, "link")
    assert not exists(top, "link/secret")
    assert not exists(top, "nothing/at/all")


def test_a_descent_follows_no_link_and_leaves_each_folder_once(top: int) -> None:
    left: list[str] = []
    with Descent(top, lambda path, _fd: left.append(path)) as way:
        way.down("lib")
        way.down("lib/deep")
        with pytest.raises(OSError, match=r"Not a directory|symbolic"):
            way.down("link")
        assert os.path.samestat(os.fstat(above(way, "lib/deep/x")), os.stat("lib/deep", dir_fd=top))
    assert left == ["lib/deep", "lib", "lib/deep", "lib", ""]


def test_a_move_is_over_nothing(top: int, steps: str) -> None:
    os.mkdir("empty", dir_fd=top)
    for target in ("link", "empty"):
        with pytest.raises(FileExistsError):
            move(top, "lib", top, target)
        with pytest.raises(FileNotFoundError):
            move(top, "nothing", top, target)
    move(top, "lib", top, "new")
    assert sorted(os.listdir(top)) == ["empty", "link", "new"]


def test_an_exchange_leaves_both(top: int, steps: str) -> None:
    """And no more, whichever of them is a link."""
    with opened("lib", top) as lib:
        exchange(top, "link", lib, "deep")
        assert os.readlink("deep", dir_fd=lib).endswith("outside")
        assert sorted(os.listdir(top)) == ["lib", "link"]
        assert stat.S_ISDIR(os.stat("link", dir_fd=top, follow_symlinks=False).st_mode)
        assert sorted(os.listdir(lib)) == ["deep", "file", "link"]


def test_an_exchange_that_fails_changes_nothing(top: int, steps: str) -> None:
    with opened("lib", top) as lib:
        for one, other in (("link", "nothing"), ("nothing", "deep")):
            with pytest.raises(FileNotFoundError):
                exchange(top, one, lib, other)
        assert sorted(os.listdir(top)) == ["lib", "link"]
        assert sorted(os.listdir(lib)) == ["deep", "file", "link"]
        assert not exists(top, f"link{ASIDE}")


def test_removing_follows_no_link(top: int, tmp_path: Path) -> None:
    remove("link", top)
    remove("lib", top)
    remove("nothing", top)
    assert os.listdir(top) == []
    assert (tmp_path / "outside" / "secret").exists()
    assert (tmp_path / "outside" / "lib").exists()


def test_any_depth_can_be_removed(top: int) -> None:
    with opened("lib", top) as fd:
        folder = os.dup(fd)
    for _ in range(DEEP):
        os.mkdir("a", dir_fd=folder)
        os.close(os.open("file", os.O_CREAT, dir_fd=folder))
        below = os.open("a", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    remove("lib", top)
    assert os.listdir(top) == ["link"]
