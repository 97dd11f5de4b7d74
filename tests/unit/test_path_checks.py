# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which folders may become an env."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.path_checks import (
    PathError,
    check_prefix,
    check_root,
    check_space,
    check_writable,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import Prefix
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import LOCK_NAME
from hand_made import hand_made_env

NOBODY = 65534


@pytest.fixture
def another_user() -> Iterator[None]:
    """The test goes on as a user who is nobody in particular."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


@pytest.mark.parametrize("name", ["new", "deep/down/new", "empty", "env"])
def test_may_be_an_env(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    hand_made_env(tmp_path / "env")
    check_prefix(tmp_path / name)
    check_writable(tmp_path / name)


def test_another_run_may_begin_the_env_while_we_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has just made the folders, and makes its lock in them between our two questions."""
    (tmp_path / "conda-meta").mkdir()
    before = Prefix.is_env.fget  # type: ignore[attr-defined]

    def is_env(prefix: Prefix) -> bool:
        answer: bool = before(prefix)
        (prefix.meta / LOCK_NAME).touch()
        return answer

    monkeypatch.setattr(Prefix, "is_env", property(is_env))
    check_prefix(tmp_path)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("envs/plots", "absolute"),
        ("/tmp/../etc", "absolute"),
        ("/x/my envs/plots", "space"),
        ("/x/a:b", "character"),
        ("/x/$USER", "character"),
        ("/x/it's", "character"),
        ("/x/new\nline", "character"),
        ("/x/-p", "dash"),
    ],
)
def test_never_an_env(path: str, word: str) -> None:
    with pytest.raises(PathError, match=word) as caught:
        check_prefix(Path(path))
    assert path in str(caught.value)


def test_file(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("precious")
    with pytest.raises(PathError, match="file"):
        check_prefix(tmp_path / "plots")


@pytest.mark.parametrize("to", ["elsewhere", "nowhere", "env"])
def test_link(tmp_path: Path, to: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    hand_made_env(tmp_path / "env")
    (tmp_path / "plots").symlink_to(to)
    with pytest.raises(PathError, match="link"):
        check_prefix(tmp_path / "plots")


@pytest.mark.parametrize("content", ["photo.jpg", ".hidden", "conda-meta/notes.txt", "sub/photo.jpg"])
def test_folder_with_something_else_in_it(tmp_path: Path, content: str) -> None:
    file = tmp_path / "photos" / content
    file.parent.mkdir(parents=True)
    file.write_text("precious")
    with pytest.raises(PathError, match="left alone"):
        check_prefix(tmp_path / "photos")


def test_first_step_of_a_killed_run_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "plots" / "conda-meta").mkdir(parents=True)
    check_prefix(tmp_path / "plots")


def test_inside_another_env(tmp_path: Path) -> None:
    root = hand_made_env(tmp_path / "conda")
    check_prefix(root / "envs" / "plots")
    for name in ("plots", "lib/plots", "share/envs/plots"):
        with pytest.raises(PathError, match=str(root)):
            check_prefix(root / name)
    plots = hand_made_env(root / "envs" / "plots")
    with pytest.raises(PathError, match=str(plots)):
        check_prefix(plots / "inner")


def test_root_of_other_envs(tmp_path: Path) -> None:
    root = hand_made_env(tmp_path / "conda")
    check_root(root)
    (root / "envs").mkdir()
    check_root(root)
    (root / "envs" / "plots").mkdir()
    with pytest.raises(PathError, match="envs"):
        check_root(root)


def test_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PathError, match="not a folder"):
        check_writable(tmp_path / "file" / "plots")


@pytest.mark.usefixtures("another_user")
@pytest.mark.parametrize("path", ["/etc/plots", "/etc/deep/plots", "/etc"])
def test_folder_that_this_user_cannot_write(path: str) -> None:
    with pytest.raises(PathError, match=f"/etc is not writable for user {NOBODY}"):
        check_writable(Path(path))


@pytest.mark.parametrize("name", ["plots", "deep/down"])
def test_folder_that_this_user_cannot_look_into(tmp_path: Path, name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    parents = [folder for folder in secret.parents if folder.stat().st_mode & 0o1 == 0]
    for folder in parents:
        folder.chmod(folder.stat().st_mode | 0o1)
    os.seteuid(NOBODY)
    try:
        for check in (check_prefix, check_writable):
            with pytest.raises(PathError, match="secret"):
                check(secret / name)
    finally:
        os.seteuid(0)
        for folder in parents:
            folder.chmod(folder.stat().st_mode & ~0o1)


@pytest.mark.skipif(os.geteuid() != 0, reason="it is about root")
def test_root_does_not_work_where_others_can_write(tmp_path: Path) -> None:
    home = tmp_path / "ada"
    (home / "apps").mkdir(parents=True)
    os.chown(home, NOBODY, NOBODY)
    for path in (home, home / "plots", home / "apps" / "plots"):
        with pytest.raises(PathError, match=str(home)):
            check_writable(path)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(PathError, match=str(shared)):
        check_writable(shared / "plots")
    shared.chmod(0o1777)
    check_writable(shared / "plots")


def test_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(_folder: Any) -> Any:
        return SimpleNamespace(free=100_000_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    prefix, cache = tmp_path / "envs" / "plots", tmp_path / "cache"
    check_space(prefix, cache, 0, 10**12)  # all of it is in the cache already, and hard links take nothing
    check_space(prefix, cache, 10_000_000, 10_000_000)
    with pytest.raises(PathError, match="space") as caught:
        check_space(prefix, cache, 50_000_000, 0)
    assert str(cache) in str(caught.value)
    assert "100 MB" in str(caught.value)
