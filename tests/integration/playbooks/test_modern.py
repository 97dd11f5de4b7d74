# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The same Mask_RCNN on TensorFlow 2, beside the one on TensorFlow 1.15: proven, and of the same opinion."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from desk import Desk, output
from playbook import Playbook

HERE = Path(__file__).parent
# By which the outputs of a layer may differ, as a share of the largest of them. Seen: 2e-5 after a softmax over random
# weights, 3e-6 elsewhere.
TOLERANCE = 1e-4
GOOD_IOU = 0.5
MODERN = {"maskrcnn_profiles": "modern", "maskrcnn_name": "maskrcnn_modern"}


@pytest.fixture(scope="module")
def modern(provisioned: Playbook) -> Iterator[Path]:
    """An environment beside the user's first one, proven; removed in the end."""
    result = provisioned.run("site", MODERN)
    assert result.returncode == 0, result.output
    yield provisioned.env.with_name("maskrcnn_modern")
    removed = provisioned.run("remove", MODERN | {"maskrcnn_confirm": "maskrcnn_modern"})
    assert removed.returncode == 0, removed.output


def test_the_proof_is_as_good(modern: Path, provisioned: Playbook) -> None:
    report = json.loads((provisioned.apps / "maskrcnn" / "report" / modern.name / "report.json").read_text())
    assert report["ok"]
    assert {"found", "mini_masks", "imports"} <= {check["name"] for check in report["checks"] if check["ok"]}
    assert report["versions"]["tensorflow"].startswith("2.21.")


def test_a_second_run_changes_nothing(modern: Path, provisioned: Playbook) -> None:
    result = provisioned.run("site", MODERN)
    assert result.returncode == 0, result.output
    assert result.changed == 0, result.output
    first = Desk(provisioned.env, Path("/")).python("import tensorflow; print(tensorflow.__version__)")
    assert first.strip() == "1.15.5"


@pytest.mark.parametrize("made_in", ["tf1", "modern"])
def test_the_same_weights_give_the_same_outputs(
    modern: Path, provisioned: Playbook, tmp_path: Path, made_in: str
) -> None:
    envs = {"tf1": provisioned.env, "modern": modern}
    for name in sorted(envs, key=lambda name: name != made_in):  # who makes the weights comes first
        (tmp_path / name).mkdir()
        output([envs[name] / "bin" / "python", HERE / "layers.py", tmp_path, tmp_path / name])
    for backbone in ("resnet50", "small"):
        found = {name: np.load(tmp_path / name / f"{backbone}.npz") for name in envs}
        for layer in found["tf1"].files:
            old, new = found["tf1"][layer].astype(float), found["modern"][layer].astype(float)
            assert np.abs(old - new).max() <= TOLERANCE * max(np.abs(old).max(), 1), (backbone, layer)


def test_a_model_of_one_detects_the_same_in_the_other(modern: Path, provisioned: Playbook, tmp_path: Path) -> None:
    """A training in each, and what both environments find with it on pictures that it has not seen."""
    new = Desk.with_example(modern, tmp_path)
    old = Desk(provisioned.env, new.folder)
    new.runs("data", "import", "unseen", "unseen-set", "--val", "1")
    for one, other in ((new, old), (old, new)):
        run = f"runs/{one.env.name}"
        one.runs("train", "quick.yml", "--run", run)
        results = []
        for desk in (one, other):
            out = desk.folder / f"{one.env.name}-by-{desk.env.name}"
            desk.runs("detect", run, "unseen", "--out", str(out), "--no-pictures")
            results.append(json.loads((out / "results.json").read_text()))
        for own, others in zip(*results, strict=True):
            assert (own["image_id"], own["category_id"]) == (others["image_id"], others["category_id"])
            assert abs(own["score"] - others["score"]) <= TOLERANCE
            assert max(abs(a - b) for a, b in zip(own["bbox"], others["bbox"], strict=True)) <= 1
        one.runs("evaluate", run, "unseen-set", "--out", f"result-{one.env.name}")
        report = json.loads((one.folder / f"result-{one.env.name}" / "evaluation.json").read_text())
        assert report["all"]["mean_iou"] >= GOOD_IOU, report


def test_a_script_of_ones_own_needs_one_line(modern: Path, tmp_path: Path) -> None:
    """Upstream's own way to train, with nothing of the command's."""
    said = output([modern / "bin" / "python", HERE / "upstreams_way.py"], tmp_path)
    assert "trained twice" in said, said


def test_another_tensorflow_is_refused(modern: Path) -> None:
    code = "import tensorflow; tensorflow.__version__ = '2.22.0'; from mrcnn_workbench import compat"
    done = subprocess.run([modern / "bin" / "python", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "TensorFlow 2.22.0 is installed, and mrcnn was tested with" in done.stderr
