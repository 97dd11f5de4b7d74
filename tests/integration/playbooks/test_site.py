# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""playbooks/site.yml over the life of an env: made, left alone, damaged, upgraded, edited, killed halfway."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from desk import Desk
from playbook import NO_PROOF, Playbook, Result, one_requirement
from running import git


def python(env: Path, code: str) -> str:
    """Runs code with the env's Python, in a folder from which nothing is imported by chance."""
    return Desk(env, Path("/")).python(code).strip()


def pip(env: Path, *arguments: str) -> None:
    subprocess.run([env / "bin" / "python", "-m", "pip", "-q", *arguments], check=True, capture_output=True)


def versions(env: Path) -> dict[str, list[str]]:
    """Every version that an env's Python packages say they have, by name: two of one are a fault."""
    found: dict[str, list[str]] = {}
    for info in sorted((env / "lib" / "python3.6" / "site-packages").glob("*.dist-info")):
        name, _dash, version = info.stem.partition("-")
        found.setdefault(name.lower(), []).append(version)
    return found


def test_check_mode_shows_the_plan_and_creates_nothing(playbook: Playbook) -> None:
    result = playbook.run("site", {}, "--check", "--diff")
    assert result.returncode == 0, result.output
    assert result.changed > 0
    assert result.output.count("+numpy 1.18.5") == 1, "conda's, so it is in conda's plan alone"
    assert result.output.count("+tensorflow 1.15.5") == 1
    assert not playbook.apps.exists()
    assert not (playbook.home / ".conda").exists()


def test_a_second_run_changes_nothing(provisioned: Playbook) -> None:
    result = provisioned.run("site", NO_PROOF)
    assert result.returncode == 0, result.output
    assert result.changed == 0, result.output


def test_check_mode_after_a_run_changes_nothing(provisioned: Playbook) -> None:
    result = provisioned.run("site", NO_PROOF, "--check", "--diff")
    assert result.returncode == 0, result.output
    assert result.changed == 0, result.output


def test_mask_rcnn_is_imported_from_the_clone(provisioned: Playbook) -> None:
    where = python(provisioned.env, "import mrcnn.model; print(mrcnn.model.__file__)")
    assert where == str(provisioned.env / "include" / "Mask_RCNN" / "mrcnn" / "model.py")


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_env_can_be_activated_and_left_without_a_conda(provisioned: Playbook, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    script = f"""
        set -eu
        . {provisioned.env}/bin/activate
        command -v python
        echo "$CONDA_PREFIX"
        deactivate
        command -v python || true
        echo "${{CONDA_PREFIX:-none}}"
    """
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(provisioned.home)}
    output = subprocess.run([shell, "-c", script], env=clean, capture_output=True, text=True, check=True).stdout
    inside, prefix, *outside = output.split()
    assert inside == str(provisioned.env / "bin" / "python")
    assert prefix == str(provisioned.env)
    assert str(provisioned.env / "bin" / "python") not in outside
    assert outside[-1] == "none"


def test_what_somebody_replaced_or_deleted_is_kept_or_repaired(provisioned: Playbook, newer_wheels: Path) -> None:
    """decorator and scipy are conda's, termcolor and keras are pip's."""
    wanted = versions(provisioned.env)
    pip(provisioned.env, "install", "--no-index", "--find-links", str(newer_wheels), "decorator==99", "termcolor==99")
    assert versions(provisioned.env)["decorator"] == ["99"]

    kept = provisioned.run("site", NO_PROOF | {"maskrcnn_on_drift": "keep"})
    assert kept.returncode == 0, kept.output
    assert kept.changed == 0, kept.output
    assert versions(provisioned.env)["decorator"] == versions(provisioned.env)["termcolor"] == ["99"]

    shutil.rmtree(provisioned.env / "lib" / "python3.6" / "site-packages" / "scipy" / "stats")
    shutil.rmtree(provisioned.env / "lib" / "python3.6" / "site-packages" / "keras" / "layers")
    repaired = provisioned.run("site", NO_PROOF)
    assert repaired.returncode == 0, repaired.output
    assert "decorator: replaced by pip with 99" in repaired.output
    assert "scipy: " in repaired.output
    assert "keras: " in repaired.output
    assert versions(provisioned.env) == wanted
    python(provisioned.env, "import scipy.stats, keras.layers")
    assert provisioned.run("site", NO_PROOF).changed == 0


def test_pycocotools_comes_from_git_or_from_pypi(provisioned: Playbook) -> None:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    site = provisioned.env / "lib" / "python3.6" / "site-packages"
    from_git = provisioned.run("site", NO_PROOF | {"maskrcnn_pycocotools": "git"})
    assert from_git.returncode == 0, from_git.output
    assert "cocoapi.git" in next(site.glob("pycocotools-*.dist-info/direct_url.json")).read_text()
    python(provisioned.env, "import pycocotools.mask")
    assert provisioned.run("site", NO_PROOF | {"maskrcnn_pycocotools": "git"}).changed == 0

    from_pypi = provisioned.run("site", NO_PROOF)
    assert from_pypi.returncode == 0, from_pypi.output
    assert not list(site.glob("pycocotools-*.dist-info/direct_url.json"))


def test_edits_in_the_clone_are_never_lost(provisioned: Playbook) -> None:
    clone = provisioned.env / "include" / "Mask_RCNN"
    wanted = git(clone, "rev-parse", "HEAD")
    other = git(clone, "rev-parse", "HEAD~1")
    config = clone / "mrcnn" / "config.py"
    config.write_text(config.read_text() + "\nMY_OWN = 1\n")

    def alone(commit: str, **inputs: str) -> Result:
        """The role without site.yml, whose other parts this is not about."""
        repo = f"{provisioned.mirror}/git/Mask_RCNN.git"
        always = {"mask_rcnn_prefix": str(provisioned.env), "mask_rcnn_repo": repo, "mask_rcnn_commit": commit}
        return provisioned.run_role("mask_rcnn", always | inputs)

    same_commit = provisioned.run("site", NO_PROOF)
    assert same_commit.returncode == 0, same_commit.output
    assert same_commit.changed == 0
    assert python(provisioned.env, "import mrcnn.config; print(mrcnn.config.MY_OWN)") == "1"

    another = provisioned.run("site", NO_PROOF | {"maskrcnn_commit": other})
    assert another.returncode != 0
    assert "mrcnn/config.py" in another.failure
    assert "mask_rcnn_on_edits" in another.failure
    kept = alone(other, mask_rcnn_on_edits="keep", mask_rcnn_repo="/gone/since/nothing/is/fetched.git")
    assert kept.returncode == 0, kept.output
    assert git(clone, "rev-parse", "HEAD") == wanted
    assert "MY_OWN" in config.read_text()

    git(clone, "commit", "--quiet", "--all", "--message", "mine")
    assert "mine" in alone(other).failure

    git(clone, "reset", "--quiet", "--hard", wanted)
    moved = provisioned.run("site", NO_PROOF | {"maskrcnn_commit": other})
    assert moved.returncode == 0, moved.output
    assert git(clone, "rev-parse", "HEAD") == other

    # An empty folder in its place is as good as none.
    shutil.rmtree(clone)
    clone.mkdir()
    assert alone(wanted).returncode == 0
    assert git(clone, "rev-parse", "HEAD") == wanted


def test_what_users_have_in_their_homes_is_not_the_environments(provisioned: Playbook) -> None:
    own = provisioned.home / ".local" / "lib" / "python3.6" / "site-packages" / "mrcnn" / "__init__.py"
    own.parent.mkdir(parents=True)
    own.touch()
    second = provisioned.run("site", NO_PROOF)
    shutil.rmtree(provisioned.home / ".local")
    assert second.returncode == 0, second.output
    assert second.changed == 0, second.output


def test_a_playbook_killed_in_the_middle_of_linking_is_finished_by_the_next(
    playbook: Playbook, engine_path: Path
) -> None:
    # What pip adds comes long after linking; one package of it is as good as all.
    one = {"pip_extras_requirements_content": one_requirement(playbook.mirror, "decorator")}
    variables = NO_PROOF | one | {"conda_engine_path": str(engine_path)}
    process = playbook.start("site", variables)
    records = playbook.env / "conda-meta"
    deadline = time.monotonic() + 120
    while len(list(records.glob("*.json"))) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Ansible runs modules in sessions of their own, which the kill does not reach; this user's, and nobody else's.
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"HOME={playbook.home}\0".encode() in environ.read_bytes():
                os.kill(int(environ.parent.name), signal.SIGKILL)

    result = playbook.run("site", variables)
    assert result.returncode == 0, result.output
    assert python(playbook.env, "import scipy, skimage, h5py, mrcnn.config; print('whole')") == "whole"
    assert playbook.run("site", variables).changed == 0
