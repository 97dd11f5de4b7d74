# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The list in which conda looks for envs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils import registry

PLOTS = Path("/apps/envs/plots")


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".conda" / "environments.txt"


def test_added_once_and_removed_once(listing: Path) -> None:
    assert registry.update(PLOTS, True)
    assert not registry.update(PLOTS, True)
    assert listing.read_text() == "/apps/envs/plots\n"
    assert registry.update(PLOTS, False)
    assert not registry.update(PLOTS, False)
    assert listing.read_text() == ""


def test_check_writes_nothing(listing: Path) -> None:
    assert registry.update(PLOTS, True, check=True)
    assert not listing.parent.exists()
    registry.update(PLOTS, True)
    assert registry.update(PLOTS, False, check=True)
    assert listing.read_text() == "/apps/envs/plots\n"
    assert not registry.update(PLOTS, True, check=True)


@pytest.mark.parametrize("end", ["", "\n"])
def test_others_lines_stay(listing: Path, end: str) -> None:
    listing.parent.mkdir()
    listing.write_text(f"/somebody/elses/env\n/apps/envs/plots2{end}")
    listing.chmod(0o640)
    registry.update(PLOTS, True)
    assert listing.read_text() == "/somebody/elses/env\n/apps/envs/plots2\n/apps/envs/plots\n"
    registry.update(PLOTS, False)
    assert listing.read_text() == "/somebody/elses/env\n/apps/envs/plots2\n"
    assert listing.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in listing.parent.iterdir()] == ["environments.txt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_home_is_left_alone(listing: Path, tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    assert not registry.update(PLOTS, True)
    assert not listing.parent.exists()


def test_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    with pytest.raises(OSError, match="nowhere"):
        registry.update(PLOTS, True)
