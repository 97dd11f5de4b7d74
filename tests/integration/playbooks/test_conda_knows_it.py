# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A real conda, which had no part in it, lists the env and activates it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from playbook import Playbook
from venvs import make_venv

HERE = Path(__file__).resolve().parent
Conda = Callable[..., str]


@pytest.fixture(scope="module")
def conda(provisioned: Playbook, tmp_path_factory: pytest.TempPathFactory) -> Conda:
    """Runs conda in the home of the user who has the env; returns what it prints."""
    python = make_venv(tmp_path_factory.mktemp("conda"), "--require-hashes", "--requirement", HERE / "conda.txt")

    # For root, conda reads the lists of all accounts' homes, and not that of HOME as for anybody else.
    nobody = ["unshare", "--user"] if os.geteuid() == 0 else []

    def run(*arguments: str) -> str:
        command = [*nobody, python, HERE / "conda_of_today.py", *arguments]
        environment = os.environ | {"HOME": str(provisioned.home)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    return run


def test_it_is_in_the_list_of_envs(conda: Conda, provisioned: Playbook) -> None:
    assert str(provisioned.env) in conda("env", "list").split()


def test_its_packages_are_listed_condas_and_pips(conda: Conda, provisioned: Playbook) -> None:
    found = {line.split()[0]: line.split() for line in conda("list", "--prefix", str(provisioned.env)).splitlines()}
    assert found["numpy"][1] == "1.18.5"
    assert found["numpy"][3].endswith("/channel")
    assert found["tensorflow"][1] == "1.15.5"
    assert found["tensorflow"][3] == "pypi"


def test_it_is_activated(conda: Conda, provisioned: Playbook) -> None:
    script = conda("shell.posix", "activate", str(provisioned.env)) + "\ncommand -v python; echo $CONDA_PREFIX"
    # The last lines run a conda of this process' own, which is no part of activation.
    output = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False).stdout.split()
    assert output[-2:] == [str(provisioned.env / "bin" / "python"), str(provisioned.env)]
