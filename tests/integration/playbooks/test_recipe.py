# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The recipe to the letter: TensorFlow and Keras as conda packages, proven like the default."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playbook import Playbook


def test_the_recipe_is_solved_installed_and_proven(
    playbook: Playbook, engine_path: Path, snapshot: Callable[[Path], Any]
) -> None:
    variables = {"maskrcnn_profiles": "recipe", "conda_engine_path": str(engine_path)}
    result = playbook.run("site", variables)
    assert result.returncode == 0, result.output
    report = playbook.apps / "maskrcnn" / "report" / "maskrcnn_example"
    assert json.loads((report / "report.json").read_text())["ok"] is True
    assert (report / "detection.png").stat().st_size > 10_000
    for name in ("tensorflow-1.15", "keras-2.2.5", "imgaug-0.4"):
        assert list((playbook.env / "conda-meta").glob(f"{name}*.json")), f"{name} is no conda package"

    # A user's own proof leaves the environment as it was.
    before = snapshot(playbook.env)
    command = [playbook.env / "bin" / "maskrcnn-verify", "--steps", "0"]
    subprocess.run(command, cwd=playbook.home, check=True, capture_output=True)
    assert json.loads((playbook.home / "maskrcnn-verify" / "report.json").read_text())["ok"] is True
    assert snapshot(playbook.env) == before

    # What is not there makes the proof fail, and the next run prove again; without that import, it does not train.
    wrong = {
        "verify_prefix": str(playbook.env),
        "verify_report_dir": str(report),
        "verify_expectations": {"versions": {"keras": "==9"}, "imports": ["keras", "nowhere"]},
    }
    failed = playbook.run_role("verify", wrong)
    assert failed.returncode != 0
    assert "keras is 2.2.5" in failed.failure
    assert "nowhere" in failed.failure
    assert not (report / "proof").exists()
