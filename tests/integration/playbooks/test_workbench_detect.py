# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn detect` and `mrcnn evaluate` in an environment with TensorFlow 1.15: a real model, and what can go wrong."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from desk import BROKEN, INTERRUPTED, Desk, wait_until
from playbook import Playbook


@pytest.fixture(scope="module")
def desk(provisioned: Playbook, example: Path) -> Desk:
    """With a run that has learnt enough to find something, the example's."""
    return Desk(provisioned.env, example)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def lines(out: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in out.glob("parts/*.jsonl"))


def test_killed_interrupted_and_in_parts_it_is_the_same_in_the_end(desk: Desk) -> None:
    said = desk.runs("detect", "runs/first", "photos", "--out", "whole", "--batch", "4")
    assert "30 images to do" in said and " CPU" in said
    out = desk.folder / "killed"
    command = ["detect", "runs/first", "photos", "--out", "killed"]
    process = desk.starts(*command)
    wait_until(lambda: lines(out) > 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = lines(out)
    process = desk.starts(*command)
    wait_until(lambda: lines(out) > before + 2)
    process.send_signal(signal.SIGINT)
    said, _none = process.communicate()
    assert process.returncode == INTERRUPTED and "the same command goes on" in said
    assert not (out / "results.csv").exists()
    parts = [desk.starts(*command, "--part", f"{number}/2") for number in (1, 2)]
    for part in parts:
        said, _none = part.communicate()
        assert part.returncode == 0, said
    assert lines(out) == 30
    # One image or four at once: the same but for the last digits.
    for one, other in zip(rows(out), rows(desk.folder / "whole"), strict=True):
        assert (one["file"], one["class"]) == (other["file"], other["class"])
        assert abs(int(one["area"]) - int(other["area"])) < 30
    assert len(list((out / "pictures").iterdir())) == 30


def test_the_results_are_read_by_pycocotools(desk: Desk) -> None:
    desk.runs("detect", "runs/first", "photos", "--out", "whole", "--batch", "4")
    code = (
        "from pycocotools.coco import COCO; c = COCO('whole/images.json'); r = c.loadRes('whole/results.json'); "
        "print(len(r.anns), sum(int(r.annToMask(a).sum()) for a in r.anns.values()))"
    )
    found = rows(desk.folder / "whole")
    assert desk.python(code).split()[-2:] == [str(len(found)), str(sum(int(row["area"]) for row in found))]


def test_evaluation(desk: Desk) -> None:
    said = desk.runs("evaluate", "runs/first", "--batch", "3", "--out", "evaluated")
    report = json.loads((desk.folder / "evaluated/evaluation.json").read_text())
    assert report["images"] == 6 and report["all"]["labels"] == 12 and set(report["classes"]) == {"flower", "leaf"}
    assert report["all"]["masks"]["0.5"] > 0.3 and report["all"]["mean_iou"] > 0.3
    assert "mean IoU" in said and "flower" in said


def test_what_cannot_be_is_said(desk: Desk) -> None:
    weights = sorted((desk.folder / "runs/first/checkpoints").iterdir())[-1]
    half = desk.folder / "half.h5"
    shutil.copy(weights, half)
    os.truncate(half, half.stat().st_size // 2)
    for name, classes in (
        ("three", ["background", "flower", "leaf", "root"]),
        ("other", ["background", "bud", "leaf"]),
    ):
        shutil.copytree(desk.folder / "runs/first", desk.folder / "runs" / name)
        (desk.folder / "runs" / name / "classes.json").write_text(json.dumps(classes))
    shutil.copytree(desk.folder / "runs/first", desk.folder / "runs/uneven")
    settings = desk.folder / "runs/uneven/settings.yml"
    settings.write_text(settings.read_text().replace("model: {", "model: {IMAGE_RESIZE_MODE: pad64, ", 1))
    unlabelled = desk.folder / "unlabelled"
    shutil.copytree(desk.folder / "dataset", unlabelled)
    labels = unlabelled / "annotations/instances_val.json"
    labels.write_text(json.dumps(json.loads(labels.read_text()) | {"annotations": []}))
    wrong = [
        (["detect", "runs/first", "photos", "--checkpoint", "half.h5"], "were they downloaded to the end?"),
        (["detect", "runs/three", "photos"], "these weights are for 2 classes and the background"),
        (["detect", "runs/uneven", "photos", "--batch", "2"], "--batch 2"),
        (["detect", "runs/first", "photos", "--classes", "root"], "does not know root; it knows flower, leaf"),
        (["evaluate", "runs/other"], "has not learnt flower; it knows bud, leaf"),
        (["evaluate", "runs/first", "unlabelled"], "there are no labels"),
        (["evaluate", "runs/first", "photos"], "this is no data set"),
    ]
    desk.refuses(wrong)
    desk.refuses([(["evaluate", "runs/first"], "a GPU was asked for")], CUDA_VISIBLE_DEVICES="0")


def test_any_photograph_and_any_score(desk: Desk) -> None:
    """What a model makes of next to nothing, and a file that is half there."""
    odd = desk.folder / "odd"
    odd.mkdir()
    code = (
        "from PIL import Image; Image.new('L', (1, 1)).save('odd/dot.png'); "
        "Image.new('RGB', (900, 7)).save('odd/line.png')"
    )
    desk.python(code)
    whole = (desk.folder / "photos" / "plant01_1.png").read_bytes()
    (odd / "half.png").write_bytes(whole[: len(whole) // 2])
    said = desk.runs("detect", "runs/first", "odd", "unseen/*.png", "--min-score", "0", "--out", "all", code=BROKEN)
    assert "half.png: cannot be read" in said
    for row in rows(desk.folder / "all"):
        assert int(row["x"]) >= 0 and int(row["x"]) + int(row["width"]) <= int(row["image_width"]), row
        assert 0 < int(row["area"]) <= int(row["width"]) * int(row["height"]), row
