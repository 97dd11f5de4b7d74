# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""playbooks/remove.yml for a user alone: what was made for them goes, what somebody made stays, nothing by mistake."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playbook import ROOT, Playbook
from running import git

NAME = "maskrcnn_example"
CONFIRMED = {"maskrcnn_confirm": NAME}

Snapshot = Callable[[Path], Any]


@pytest.fixture
def copied(playbook: Playbook, provisioned: Playbook) -> Playbook:
    """What site.yml has made, to be removed. It is found by where it is, not by what is written in it."""
    subprocess.run(["cp", "-a", f"{provisioned.home}/.", playbook.home], check=True)
    conda_list = playbook.home / ".conda" / "environments.txt"
    conda_list.write_text(f"/another/env\n{playbook.env}\n")
    return playbook


@pytest.fixture
def with_clone(playbook: Playbook, provisioned: Playbook) -> Playbook:
    """An env of ours that is hardly more than a clone."""
    for path in ("conda-meta/history", "conda-meta/.crophpc-stamp", "include/Mask_RCNN"):
        target = playbook.env / path
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", provisioned.env / path, target], check=True)
    return playbook


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"maskrcnn_confirm": "maskrcnn"},
        CONFIRMED | {"maskrcnn_name": "other"},
        {"maskrcnn_confirm": "..", "maskrcnn_name": ".."},
        CONFIRMED | {"maskrcnn_apps": "apps"},
        CONFIRMED | {"maskrcnn_remove_users": "ada"},
        CONFIRMED | {"maskrcnn_remove_users": []},
        CONFIRMED | {"maskrcnn_users": ["ada"], "maskrcnn_remove_users": ""},
    ],
)
def test_what_is_not_said_rightly_removes_nothing(
    with_clone: Playbook, snapshot: Snapshot, variables: dict[str, Any]
) -> None:
    for shared in ("engine", "cache"):
        (with_clone.apps / "maskrcnn" / shared).mkdir(parents=True)
    before = snapshot(with_clone.apps)
    result = with_clone.run("remove", variables)
    assert result.returncode != 0
    assert result.failure
    assert snapshot(with_clone.apps) == before


def at_a_terminal(command: list[str], environ: dict[str, str], question: str, answer: str) -> tuple[int, str]:
    """Runs a command as somebody does who waits for its question and types: its exit code, and what they see."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execvpe(command[0], command, environ)  # noqa: S606 - subprocess gives no terminal
    output, deadline = "", time.monotonic() + 120
    with contextlib.suppress(OSError):  # it has ended
        while time.monotonic() < deadline:
            # What is typed ahead gets lost: the question is followed by silence.
            if select.select([terminal], [], [], 2)[0]:
                output += os.read(terminal, 4096).decode(errors="replace")
            elif question in output:
                os.write(terminal, f"{answer}\r".encode())
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output


@pytest.mark.parametrize(("typed", "succeeds"), [(NAME, True), ("maskrcnn", False)])
def test_the_name_is_asked_for(with_clone: Playbook, typed: str, succeeds: bool) -> None:
    environ = os.environ | {"HOME": str(with_clone.home), "ANSIBLE_HOME": str(ROOT / ".ansible")}
    code, output = at_a_terminal(["ansible-playbook", "playbooks/remove.yml"], environ, f"name, {NAME}", typed)
    assert (code == 0) is succeeds, output
    assert with_clone.env.exists() is not succeeds


def test_check_mode_names_all_that_would_go_and_touches_nothing(provisioned: Playbook, snapshot: Snapshot) -> None:
    before = snapshot(provisioned.apps)
    result = provisioned.run("remove", {}, "--check", "--diff")
    assert result.returncode == 0, result.output
    assert result.changed > 0
    for path in ("conda/envs/maskrcnn_example", "maskrcnn/engine", "maskrcnn/cache"):
        assert str(provisioned.apps / path) in result.output
    assert "-numpy 1.18.5" in result.output
    assert snapshot(provisioned.apps) == before


def test_an_environment_of_conda_is_not_ours_to_remove(playbook: Playbook, snapshot: Snapshot) -> None:
    (playbook.env / "conda-meta").mkdir(parents=True)
    (playbook.env / "conda-meta" / "history").touch()
    before = snapshot(playbook.apps)
    result = playbook.run("remove", CONFIRMED)
    assert result.returncode != 0
    assert str(playbook.env) in result.failure
    assert snapshot(playbook.apps) == before


def test_all_goes_but_what_others_need_and_what_somebody_made(copied: Playbook) -> None:
    other = copied.env.with_name("other")
    subprocess.run(["cp", "-a", copied.env, other], check=True)
    (copied.apps / "photographs").mkdir()

    # Of an environment in which nobody has done anything, nothing is left; what the other one needs is.
    first = copied.run("remove", {"maskrcnn_name": "other", "maskrcnn_confirm": "other"})
    assert first.returncode == 0, first.output
    assert not other.exists()
    assert not list(copied.apps.glob("other-kept-*"))
    assert (copied.apps / "maskrcnn" / "cache").is_dir()
    engine = [copied.apps / "maskrcnn" / "engine" / "bin" / "python", "-c", "import rattler"]
    assert subprocess.run(engine, check=False).returncode == 0

    clone = copied.env / "include" / "Mask_RCNN"
    config = clone / "mrcnn" / "config.py"
    config.write_text(config.read_text() + "\nMY_OWN = 1\n")
    git(clone, "commit", "--quiet", "--all", "--message", "mine")
    weights = clone / "logs" / "leaves" / "mask_rcnn_leaves_0001.h5"  # a file that upstream has git ignore
    weights.parent.mkdir(parents=True)
    weights.write_text("many hours of work")
    (copied.env / "share" / "leaves").mkdir()
    (copied.env / "share" / "leaves" / "notes.ipynb").write_text("{}")

    last = copied.run("remove", CONFIRMED)
    assert last.returncode == 0, last.output
    (kept,) = copied.apps.glob(f"{NAME}-kept-*")
    assert sorted(copied.apps.iterdir()) == sorted([kept, copied.apps / "photographs"])
    assert str(kept) in last.output
    assert (kept / weights.relative_to(copied.env)).read_text() == "many hours of work"
    assert git(kept / "include" / "Mask_RCNN", "log", "-1", "--format=%s") == "mine"
    assert "MY_OWN" in (kept / config.relative_to(copied.env)).read_text()
    assert [str(p.relative_to(kept)) for p in (kept / "share").rglob("*")] == [
        "share/leaves",
        "share/leaves/notes.ipynb",
    ]
    assert (copied.home / ".conda" / "environments.txt").read_text() == "/another/env\n"

    again = copied.run("remove", CONFIRMED)
    assert again.returncode == 0, again.output
    assert again.changed == 0, again.output


@pytest.mark.parametrize("made", ["mrcnn/config.py", "mask_rcnn_coco.h5", "own.py"])
def test_one_file_of_somebodys_is_enough(with_clone: Playbook, made: str) -> None:
    """An edit that was not committed, a file that git is told to ignore, and one that it does not know."""
    (with_clone.env / "include" / "Mask_RCNN" / made).write_text(made)
    result = with_clone.run("remove", CONFIRMED)
    assert result.returncode == 0, result.output
    (kept,) = with_clone.apps.iterdir()
    assert (kept / "include" / "Mask_RCNN" / made).read_text() == made


def test_a_clone_that_nobody_has_touched_goes(with_clone: Playbook) -> None:
    assert with_clone.run("remove", CONFIRMED).returncode == 0
    assert not list(with_clone.apps.iterdir())


def test_a_clone_that_git_does_not_understand_is_kept(with_clone: Playbook) -> None:
    (with_clone.env / "include" / "Mask_RCNN" / ".git" / "HEAD").unlink()
    assert with_clone.run("remove", CONFIRMED).returncode == 0
    (kept,) = with_clone.apps.iterdir()
    assert (kept / "include" / "Mask_RCNN" / "mrcnn" / "model.py").is_file()


def test_a_modulefile_goes_with_what_is_about_it_alone(playbook: Playbook) -> None:
    folder = playbook.home / "modulefiles" / "maskrcnn"

    def role(tasks: str, name: str) -> None:
        variables = {"tasks": tasks, "user_envs_name": name, "user_envs_modulefiles_dir": str(folder.parent)}
        result = playbook.run("../tests/integration/playbooks/modulefile", variables)
        assert result.returncode == 0, result.output

    role("modulefile", "first")
    role("modulefile", "second")
    assert sorted(path.name for path in folder.iterdir()) == [".version", "first", "second"]
    assert "first" in (folder / ".version").read_text()
    role("remove_modulefile", "first")
    assert [path.name for path in folder.iterdir()] == ["second"]
    (folder / "an-admins-own").touch()
    role("remove_modulefile", "second")
    assert [path.name for path in folder.iterdir()] == ["an-admins-own"]
    (folder / "an-admins-own").unlink()
    role("remove_modulefile", "second")
    assert list(folder.parent.iterdir()) == []


def test_weights_go_if_site_yml_has_put_them_there_and_nobody_else_needs_them(with_clone: Playbook) -> None:
    name = "mask_rcnn_coco.h5"
    folder = with_clone.apps / "maskrcnn" / "weights"
    folder.mkdir(parents=True)
    (folder / "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5").write_text("fetched by the user")
    before = [folder / name, folder / f".{name}.provisioned"]
    for path in before:
        path.touch()
    other = with_clone.env.with_name("other")
    subprocess.run(["cp", "-a", with_clone.env, other], check=True)
    first = with_clone.run("remove", {"maskrcnn_name": "other", "maskrcnn_confirm": "other"})
    assert first.returncode == 0, first.output
    assert all(path.exists() for path in before)

    last = with_clone.run("remove", CONFIRMED)
    assert last.returncode == 0, last.output
    assert str(folder / name) in last.output
    assert [path.name for path in folder.iterdir()] == ["resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"]
