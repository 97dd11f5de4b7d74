# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""site.yml by other releases of ansible-core that meta/runtime.yml allows than the one that runs all other tests.

The oldest and the newest, or those that MASKRCNN_CORES names (`2.16 2.17 2.18 2.20 2.21`).
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from mirror import interpreter
from mirror.series import Series
from playbook import NO_PROOF, Playbook
from venvs import make_venv

REQUIREMENTS = Path(__file__).resolve().parent / "cores"
CORES = os.environ.get("MASKRCNN_CORES", "2.16 2.21").split()
# The newest of them want this one, and the oldest still run on it.
PYTHON = Series(3, 12)


@pytest.fixture(scope="module", params=CORES)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ansible-playbook of that ansible-core."""
    options = ["--compile-bytecode", "--require-hashes", "--requirement", REQUIREMENTS / f"{request.param}.txt"]
    python = make_venv(tmp_path_factory.mktemp("core"), *options, python=interpreter.find(PYTHON).executable)
    return python.with_name("ansible-playbook")


def test_check_mode_says_what_it_would_do_without_a_warning(program: Path, playbook: Playbook) -> None:
    result = replace(playbook, program=program).run("site", NO_PROOF, "--check")
    assert result.returncode == 0, result.output
    assert result.changed > 0
    # Ansible's own about a home in which it has never been is no more than that.
    warnings = [line for line in result.output.splitlines() if "WARNING" in line and "remote_tmp" not in line]
    assert not warnings and "DEPRECATED" not in result.output
    assert not playbook.apps.exists()


def test_nothing_is_to_be_done_after_a_run_by_another(program: Path, provisioned: Playbook) -> None:
    result = replace(provisioned, program=program).run("site", NO_PROOF)
    assert result.returncode == 0, result.output
    assert result.changed == 0, result.output
