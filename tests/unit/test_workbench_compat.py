# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The compatibility module says no to versions of TensorFlow that nobody has tried mrcnn with.

A stand-in for TensorFlow is enough for that, and only for that: what the module does is tested in the environments.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "roles" / "workbench" / "files"
LINE = "from mrcnn_workbench import compat"


def stand_in(folder: Path, name: str, version: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("__version__ = {!r}\n".format(version))


def run(folder: Path, *command: str) -> Any:
    """A Python that finds these stand-ins before anything else."""
    path = os.pathsep.join([str(folder), str(PACKAGE)])
    return subprocess.run(
        [sys.executable, *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False, timeout=60,
        env=dict(os.environ, PYTHONPATH=path), cwd=str(folder),
    )  # fmt: skip


@pytest.mark.parametrize("version", ["1.14.0", "1.16.0", "2.1.0", "2.20.1", "2.22.0", "2.210.0", "3.0.0"])
def test_another_tensorflow_is_refused(tmp_path: Path, version: str) -> None:
    stand_in(tmp_path, "tensorflow", version)
    done = run(tmp_path, "-c", LINE)
    assert done.returncode != 0
    last = done.stdout.splitlines()[-1]
    assert "TensorFlow {}".format(version) in last
    assert "1.15.*" in last
    assert "2.21.*" in last


def test_another_keras_is_refused(tmp_path: Path) -> None:
    stand_in(tmp_path, "tensorflow", "2.21.0")
    stand_in(tmp_path, "tf_keras", "2.20.1")
    done = run(tmp_path, "-c", LINE)
    assert done.returncode != 0
    assert "tf-keras 2.20.1" in done.stdout


def test_a_missing_keras_is_named(tmp_path: Path) -> None:
    stand_in(tmp_path, "tensorflow", "2.21.0")
    (tmp_path / "tf_keras.py").write_text("raise ImportError('No module named tf_keras')\n")
    done = run(tmp_path, "-c", LINE)
    assert done.returncode != 0
    assert "tf-keras is missing" in done.stdout


def test_with_tensorflow_1_15_nothing_changes(tmp_path: Path) -> None:
    stand_in(tmp_path, "tensorflow", "1.15.5")
    done = run(tmp_path, "-c", LINE + "; import tensorflow; print(tensorflow.__file__)")
    assert done.stdout.strip() == str(tmp_path / "tensorflow" / "__init__.py")


def test_the_doctor_says_so_too(tmp_path: Path) -> None:
    stand_in(tmp_path, "tensorflow", "2.20.1")
    done = run(tmp_path, "-m", "mrcnn_workbench", "doctor")
    assert "TensorFlow 2.20.1" in done.stdout
    assert "Traceback" not in done.stdout
