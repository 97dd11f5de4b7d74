# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What in an env no package has brought, in hand-made ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.modules.conda_env_files_info import packaged, strangers
from hand_made import hand_made_env


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """One conda package, and one of pip's with a command."""
    prefix = hand_made_env(tmp_path / "env")
    info = prefix / "lib" / "python3.6" / "site-packages" / "petal-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text("petal.py,,\n../../../bin/petal,,\npetal-1.0.dist-info/RECORD,,\n")
    (info.parent / "petal.py").touch()
    (prefix / "bin" / "petal").touch()
    return prefix


def found(env: Path, ignored: list[str] | None = None) -> list[str]:
    return strangers(env, env, packaged(env) | set(ignored or []))[0]


def test_packages_bring_all_that_is_there(env: Path) -> None:
    (env / "share" / "__pycache__").mkdir()
    (env / "share" / "__pycache__" / "leaf.cpython-36.pyc").touch()
    (env / "lib" / "empty").mkdir()
    assert found(env) == []


def test_what_people_have_put_there_is_named_by_its_folder_where_nothing_else_is_in_it(env: Path) -> None:
    for path in ("share/weights/a.h5", "share/weights/old/b.h5", "share/own.txt", "notes/leaves.ipynb"):
        (env / path).parent.mkdir(parents=True, exist_ok=True)
        (env / path).touch()
    assert found(env) == ["notes", "share/own.txt", "share/weights"]
    assert found(env, ["notes"]) == ["share/own.txt", "share/weights"]
    assert found(env, ["share/weights/a.h5"]) == ["notes", "share/own.txt", "share/weights/old"]


def test_a_link_to_data_is_not_followed(env: Path, tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "leaf.jpg").touch()
    (env / "photographs").symlink_to(tmp_path / "photographs")
    assert found(env) == ["photographs"]
