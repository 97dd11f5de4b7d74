# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A home for every test, and what takes long once for all of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import output
from playbook import NO_PROOF, ROOT, Playbook
from running import wheel

BLOCK = re.compile(r"^(<!-- not run .*-->\n)?```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def playbook(tmp_path: Path, mirror: Path) -> Playbook:
    """Playbooks run by a user whose home is empty."""
    return Playbook(tmp_path, str(mirror))


@pytest.fixture(scope="session")
def provisioned(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Playbook:
    """A user for whom site.yml has been run, all but the proof."""
    playbook = Playbook(tmp_path_factory.mktemp("provisioned"), str(mirror))
    result = playbook.run("site", NO_PROOF)
    assert result.returncode == 0, result.output
    return playbook


@pytest.fixture
def role_alone(provisioned: Playbook, tmp_path: Path) -> Iterator[None]:
    """What the role workbench tells the environment when it is run alone is forgotten in the end."""
    told = provisioned.env / "share" / "crophpc.maskrcnn" / "workbench"
    shutil.copytree(told, tmp_path / "told")
    yield
    shutil.copytree(tmp_path / "told", told, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def engine_path(provisioned: Playbook) -> Path:
    """The path of an engine that is there already."""
    return provisioned.apps / "maskrcnn" / "engine"


@pytest.fixture(scope="session")
def newer_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 99 of two packages, as somebody who upgrades would find them on PyPI."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in ("decorator", "termcolor"):
        wheel(folder, name, "99")
    return folder


@pytest.fixture(scope="session")
def commands() -> list[str]:
    """What a reader of docs/example.md types, but for what needs a cluster."""
    page = (ROOT / "docs" / "example.md").read_text(encoding="utf-8")
    blocks = [block for elsewhere, block in BLOCK.findall(page) if not elsewhere]
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture(scope="session")
def example(provisioned: Playbook, commands: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody has typed all of it, in an environment that is activated. What it has made stays as it is."""
    folder = tmp_path_factory.mktemp("somebody")
    script = "\n".join(["set -e", f"source {provisioned.env}/bin/activate", "set -x", *commands])
    assert "Traceback" not in output(["bash", "-c", script], folder)
    return folder / "example"
