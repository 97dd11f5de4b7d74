# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The recipe to the letter: TensorFlow and Keras as conda packages, proven like the default."""

from __future__ import annotations

import json
from pathlib import Path

from playbook import Playbook


def test_the_recipe_is_solved_installed_and_proven(playbook: Playbook, engine: Path) -> None:
    variables = {"maskrcnn_profile": "recipe", "conda_engine_path": str(engine)}
    result = playbook.run("site", variables)
    assert result.returncode == 0, result.output
    report = playbook.apps / "maskrcnn" / "report" / "maskrcnn_example"
    assert json.loads((report / "report.json").read_text())["ok"] is True
    assert (report / "detection.png").stat().st_size > 10_000
    for name in ("tensorflow-1.15", "keras-2.2.5", "imgaug-0.4"):
        assert list((playbook.env / "conda-meta").glob(f"{name}*.json")), f"{name} is no conda package"

    # A version that is not there makes the proof fail, and the next run prove again.
    wrong = {"verify_expectations": {"versions": {"keras": "==9"}, "imports": ["keras"]}}
    failed = playbook.run("site", variables | wrong)
    assert failed.returncode != 0
    assert "keras is 2.2.5" in failed.failure
    assert not (report / "proof").exists()
