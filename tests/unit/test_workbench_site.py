# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an environment was told of the place where it is."""

from pathlib import Path

import hand_labelled  # noqa: F401 - finds the package
import pytest
from mrcnn_workbench import site
from mrcnn_workbench.errors import WorkbenchError


def write(prefix: Path, text: str) -> None:
    path = prefix / site.FILE
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_without_a_file_it_is_the_default_profile(tmp_path: Path) -> None:
    found = site.read(tmp_path)
    assert found == site.Site()
    assert found.profile == "tf1" and found.gpu_types == ("v100", "rtx8000")


def test_what_the_file_leaves_out_is_the_default_and_what_is_unknown_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, '{"profile": "modern", "gpu_types": [], "mem": null, "of_tomorrow": 1}')
    assert site.read(tmp_path) == site.Site(profile="modern", gpu_types=())


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    write(tmp_path, "{")
    with pytest.raises(WorkbenchError, match=r"site\.json: cannot be read"):
        site.read(tmp_path)
