# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A home for every test, and what takes long once for all of them."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playbook import Playbook


@pytest.fixture(scope="session")
def mirror() -> str:
    """The folder of a built mirror."""
    return os.environ["MASKRCNN_MIRROR"]


@pytest.fixture
def playbook(tmp_path: Path, mirror: str) -> Playbook:
    """Playbooks run by a user whose home is empty."""
    return Playbook(tmp_path, mirror)


@pytest.fixture(scope="session")
def provisioned(tmp_path_factory: pytest.TempPathFactory, mirror: str) -> Playbook:
    """A user for whom site.yml has been run, all but the proof."""
    playbook = Playbook(tmp_path_factory.mktemp("provisioned"), mirror)
    result = playbook.run("site", {"maskrcnn_verify": False})
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
def engine(provisioned: Playbook) -> Path:
    """The path of an engine that is there already."""
    return provisioned.apps / "maskrcnn" / "engine"


@pytest.fixture(scope="session")
def newer_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 99 of two packages, as somebody who upgrades would find them on PyPI."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in ("decorator", "termcolor"):
        info = f"{name}-99.dist-info"
        with zipfile.ZipFile(folder / f"{name}-99-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", "version = 99\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 99\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return folder
