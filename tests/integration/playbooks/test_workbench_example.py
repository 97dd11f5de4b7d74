# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The worked example of docs/example.md, command by command: from VIA's labels to detections that fit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

GOOD_IOU = 0.5


def test_every_verb_is_on_the_page(commands: list[str]) -> None:
    verbs = {" ".join(command.split()[:3]) for command in commands if command.startswith("mrcnn ")}
    assert {"mrcnn data example", "mrcnn data import", "mrcnn data check", "mrcnn data show"} <= verbs
    assert {verb.split()[1] for verb in verbs} >= {"data", "train", "runs", "evaluate", "detect"}


def test_what_has_never_been_seen_is_found(example: Path) -> None:
    report = json.loads((example / "unseen-result" / "evaluation.json").read_text())
    assert report["all"]["labels"] == 16
    assert report["all"]["mean_iou"] >= GOOD_IOU, report
    for name in ("leaf", "flower"):
        assert report["classes"][name]["mean_iou"] >= GOOD_IOU, report


def test_detections_are_there_for_people_and_for_programs(example: Path) -> None:
    out = example / "detections"
    photographs = {path.name for path in (example / "unseen").glob("*.png")}
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == photographs
    assert {row["class"] for row in rows} == {"leaf", "flower"}
    assert all(0 < int(row["area"]) < 128 * 128 for row in rows)
    assert len(json.loads((out / "results.json").read_text())) == len(rows)
    assert {path.stem for path in (out / "pictures").iterdir()} == {Path(name).stem for name in photographs}


def test_pictures_are_drawn(example: Path) -> None:
    for name in ("dataset.png", "runs/first/curves.png", "runs/first/evaluation/evaluation.png"):
        assert (example / name).stat().st_size > 10000, name
