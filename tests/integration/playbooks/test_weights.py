# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Weights, made up and small: put where all users find them by the playbook, fetched by users, killed and resumed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from desk import FAILED
from playbook import NO_PROOF, Playbook
from web_server import Server

pytestmark = pytest.mark.usefixtures("role_alone")
CONTENT = b"weights " * 500_000  # 4 MB
NAME = "mask_rcnn_coco.h5"


def listed(url: str) -> dict[str, dict[str, Any]]:
    """As _site_weights has them."""
    return {
        "coco": {"name": NAME, "url": url, "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()},
    }


@pytest.fixture
def served(tmp_path: Path, serve: Callable[[Path], Server]) -> Server:
    """A web server that has them."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / NAME).write_bytes(CONTENT)
    return serve(tmp_path / "served")


class Role:
    """The role alone, for an environment that is there, with a folder for weights."""

    def __init__(self, playbook: Playbook, env: Path, server: Server) -> None:
        self.playbook, self.folder = playbook, playbook.home / "shared"
        self.variables: dict[str, Any] = {
            "workbench_prefix": str(env),
            "workbench_weights_dir": str(self.folder),
            "workbench_weights": listed(f"{server.url}/{NAME}"),
            "workbench_weights_fetch": ["coco"],
        }

    def __call__(self, *arguments: str, fails: bool = False, **variables: Any) -> Any:
        result = self.playbook.run_role("workbench", self.variables | variables, *arguments)
        assert (result.returncode != 0) is fails, result.output
        return result


@pytest.fixture
def role(playbook: Playbook, provisioned: Playbook, served: Server) -> Role:
    return Role(playbook, provisioned.env, served)


def mrcnn(env: Path, home: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """The command, started by a user with this home."""
    return subprocess.Popen(
        [env / "bin" / "mrcnn", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home)} | variables,
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def says(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _none = process.communicate(timeout=60)
    assert process.returncode == code, output
    return output


def test_the_role_fetches_them_once_and_mends_them(role: Role, served: Server) -> None:
    preview = role("--check")
    assert preview.changed > 0
    assert f"{NAME} would be fetched" in preview.output
    assert not role.folder.exists()
    assert not served.fetched

    role()
    there = role.folder / NAME
    assert there.read_bytes() == CONTENT
    assert (there.stat().st_mode & 0o777, role.folder.stat().st_mode & 0o777) == (0o644, 0o755)
    assert role().changed == 0
    assert role("--check").changed == 0
    assert served.fetched == [f"/{NAME}"]

    there.write_bytes(CONTENT[:1000])
    assert role("--check").changed == 1
    role()
    assert there.read_bytes() == CONTENT
    assert role().changed == 0


def test_what_is_another_file_there_fails_and_is_not_kept(role: Role, served: Server) -> None:
    (served.folder / NAME).write_bytes(CONTENT[:-1] + b"!")
    result = role(fails=True)
    assert "sha256 is" in result.failure
    assert list(role.folder.iterdir()) == []


def test_where_they_are_only_tried_a_server_that_is_gone_is_said(role: Role, served: Server) -> None:
    served.stop()
    role(workbench_weights_required=False)  # what the environment is told of them changes
    for arguments in ([], ["--check"]):
        result = role(*arguments, workbench_weights_required=False)
        assert result.changed == 0
        assert "cannot be had from here" in result.output
    assert not role.folder.exists()
    assert "refused" in role(fails=True).failure


def test_wrong_inputs_are_named(role: Role) -> None:
    assert "known are coco" in role(fails=True, workbench_weights_fetch=["leaves"]).failure
    assert "absolute" in role(fails=True, workbench_weights_dir="weights").failure


@pytest.fixture
def user(provisioned: Playbook, playbook: Playbook, served: Server, tmp_path: Path) -> Callable[..., Any]:
    """A user of an environment whose site has no weights."""
    variables = {"workbench_prefix": str(provisioned.env), "workbench_weights": listed(f"{served.url}/{NAME}")}
    result = playbook.run_role("workbench", variables)
    assert result.returncode == 0, result.output
    home = tmp_path / "ada"
    (home / "apps").mkdir(parents=True)
    return lambda *arguments, **more: mrcnn(provisioned.env, home, *arguments, **more)


def test_a_user_who_is_killed_goes_on(user: Any, served: Server, tmp_path: Path) -> None:
    own = tmp_path / "ada" / "apps" / "maskrcnn" / "weights"
    served.hold = 1_500_000
    process = user("weights", "fetch", "coco")
    assert served.held.wait(30)
    part = own / f".{NAME}.part"
    while not part.is_file() or part.stat().st_size < 1_000_000:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (own / NAME).exists()
    assert "not here" in says(user("weights"))
    have = part.stat().st_size
    served.hold = None
    said = says(user("weights", "fetch", "coco"))
    assert str(own / NAME) in said
    assert (own / NAME).read_bytes() == CONTENT
    assert served.requests[-1][2] == f"bytes={have}-"
    assert [path.name for path in own.iterdir()] == [NAME]
    assert f"{own / NAME} (yours)" in says(user("weights"))


def test_a_full_disk_leaves_nothing_half_done(user: Any, small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(3)
    assert "the disk is full" in says(user("weights", "fetch", "coco", "--to", str(disk)), FAILED)
    assert list(disk.iterdir()) == []


def test_a_mirror_gives_them_and_nothing_is_fetched_twice(provisioned: Playbook, tmp_path: Path, mirror: Path) -> None:
    """By site.yml; the addresses of those that the mirror has are not asked."""
    with_weights = tmp_path / "mirror"
    (with_weights / "weights").mkdir(parents=True)
    (with_weights / "weights" / NAME).write_bytes(CONTENT)
    for name in ("channel", "git", "wheels"):
        (with_weights / name).symlink_to(mirror / name)
    manifest = json.loads((mirror / "manifest.json").read_text())
    manifest["files"][f"weights/{NAME}"] = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    (with_weights / "manifest.json").write_text(json.dumps(manifest))

    variables = NO_PROOF | {"maskrcnn_mirror": str(with_weights), "_site_weights": listed("http://127.0.0.1:9/")}
    folder = provisioned.apps / "maskrcnn" / "weights"
    preview = provisioned.run("site", variables, "--check")
    assert preview.returncode == 0, preview.output
    assert f"{NAME} would be fetched" in preview.output
    assert not folder.exists()
    first = provisioned.run("site", variables)
    assert first.returncode == 0, first.output
    assert (folder / NAME).read_bytes() == CONTENT
    assert f"{folder / NAME} (the site's)" in says(mrcnn(provisioned.env, tmp_path, "weights"))
    assert str(folder / NAME) in says(mrcnn(provisioned.env, tmp_path, "weights", "fetch", "coco"))
    second = provisioned.run("site", variables)
    assert second.changed == 0, second.output

    none = provisioned.run("site", variables | {"maskrcnn_weights": "leaves"})
    assert none.returncode != 0
    assert "names out of coco (got leaves)" in none.failure
