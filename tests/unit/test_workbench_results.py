# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What was found becomes files that other programs read, and pictures to look at."""

import csv
import json
from pathlib import Path
from typing import Any

import hand_labelled as hand
import numpy as np
import pytest
from mrcnn_workbench import annotated, geometry, models, results, settings, weights
from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.results import Found
from mrcnn_workbench.runs import Run
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

NAMES = ["", "flower", "leaf"]
CATEGORIES = [{"id": 7, "name": "flower", "supercategory": ""}, {"id": 9, "name": "leaf", "supercategory": ""}]


def found(number: int, mask: Any, score: float = 0.9) -> Found:
    rle = geometry.from_mask(np.asarray(mask, bool))
    return Found(number, score, [int(edge) for edge in geometry.bounds(rle)], rle)


@pytest.fixture
def objects() -> Any:
    """A leaf and a flower, as masks that are their boxes."""
    leaf, flower = hand.masks()
    return [found(2, leaf, 0.95), found(1, flower, 0.8)]


def write(folder: Path, objects: Any) -> None:
    images = [
        results.Image(1, "a/leaf.png", hand.WIDTH, hand.HEIGHT, False, objects),
        results.Image(3, "b/bare.jpg", 40, 60, True, []),
    ]
    results.write(folder, images, CATEGORIES, {"model": "m"})


def test_pycocotools_reads_the_results(tmp_path: Path, objects: Any) -> None:
    write(tmp_path, objects)
    coco = COCO(str(tmp_path / results.IMAGES)).loadRes(str(tmp_path / results.RESULTS))
    first, second = coco.loadAnns(coco.getAnnIds())
    assert (first["image_id"], first["category_id"], first["bbox"], first["score"]) == (1, 9, [10, 5, 20, 20], 0.95)
    assert coco.loadCats(second["category_id"])[0]["name"] == "flower"
    assert coco.loadImgs(3)[0] == {"id": 3, "file_name": "b/bare.jpg", "width": 40, "height": 60, "turned": True}
    for record, mask in zip((first, second), hand.masks()):
        assert (coco_mask.decode(record["segmentation"]) == mask).all()


def test_the_table_has_a_line_for_each_object(tmp_path: Path, objects: Any) -> None:
    write(tmp_path, objects)
    with (tmp_path / results.TABLE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["class"], row["score"], row["area"]) for row in rows] == [
        ("a/leaf.png", "leaf", "0.95", "400"), ("a/leaf.png", "flower", "0.8", "200"),
    ]  # fmt: skip
    assert [rows[1][name] for name in ("x", "y", "width", "height")] == ["40", "10", "10", "20"]
    size = [int(rows[0]["image_height"]), int(rows[0]["image_width"])]
    assert (coco_mask.decode({"size": size, "counts": rows[0]["mask"]}) == hand.masks()[0]).all()


def test_nothing_found_is_an_empty_list(tmp_path: Path) -> None:
    write(tmp_path, [])
    assert json.loads((tmp_path / results.RESULTS).read_text()) == []
    assert (tmp_path / results.TABLE).read_text().splitlines() == [",".join(results.COLUMNS)]
    assert len(json.loads((tmp_path / results.IMAGES).read_text())["images"]) == 2


# Pictures


def picture(path: Path) -> Any:
    return np.asarray(Image.open(str(path)).convert("RGB")).astype(int)


def test_what_was_found_is_drawn_in_its_colour_and_where_it_is(tmp_path: Path, objects: Any) -> None:
    grey = np.full((hand.HEIGHT, hand.WIDTH, 3), 120, np.uint8)
    annotated.draw(grey, objects, NAMES, "a/leaf.png", tmp_path / "new" / "leaf.jpg")
    drawn = picture(tmp_path / "new" / "leaf.jpg")
    scale = drawn.shape[1] / hand.WIDTH
    assert drawn.shape[1] == annotated.LEAST
    red, _green, blue = drawn[int(20 * scale), int(45 * scale)]
    assert red > 140 > blue, "the flower is orange"
    red, _green, blue = drawn[int(20 * scale), int(20 * scale)]
    assert blue > 140 > red, "the leaf is blue"
    assert abs(drawn[int(35 * scale), int(55 * scale)] - 120).max() < 8, "the soil is as it was"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["leaf.jpg"]


@pytest.mark.parametrize(
    ("size", "number"), [((1, 1), 1), ((5, 700), 30), ((4000, 30), 3), ((1700, 2500), 2), ((90, 120), 130), ((9, 9), 0)]
)
def test_any_image_with_any_number_of_objects_can_be_drawn(size: Any, number: int, tmp_path: Path) -> None:
    mask = np.zeros(size, bool)
    mask[: size[0] // 2 + 1, : size[1] // 2 + 1] = True
    names = ["", "a $very_ \\long name$ " * 9, "leaf"]
    objects = [found(1 + place % 2, mask, place / 200) for place in range(number)]
    annotated.draw(np.zeros((*size, 3), np.uint8), objects, names, "x$_" * 90, tmp_path / "a.jpg")
    assert max(picture(tmp_path / "a.jpg").shape) <= 4100


# Models


def test_coco_has_eighty_classes_with_ids_of_its_own(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(weights, "find", lambda name: tmp_path / "mask_rcnn_coco.h5")
    model = models.find("coco")
    assert len(model.classes) == 81 and len(set(model.classes)) == 81
    ids = {record["name"]: record["id"] for record in model.categories()}
    # Of COCO's own annotations.
    assert [ids[name] for name in ("person", "stop sign", "cow", "potted plant", "toothbrush")] == [1, 13, 21, 64, 90]
    assert model.settings["image_size"] == 1024 and model.settings["backbone"] == "resnet101"
    assert model.min_score == models.MIN_SCORE


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """With three checkpoints, of which the second is the best."""
    wanted = settings.checked({"data": "dataset", "backbone": "small"}, "here")
    run = Run.create(tmp_path / "runs" / "a", settings.dump(wanted), ["flower", "leaf"])
    for epoch in (1, 2, 3):
        run.checkpoint_path(epoch).parent.mkdir(exist_ok=True)
        run.checkpoint_path(epoch).write_text("weights")
    run.write_metrics([{"epoch": epoch, "val_loss": abs(epoch - 2)} for epoch in (1, 2, 3)])
    return run


def test_a_run_detects_with_its_best_weights_or_those_that_are_named(run: Run) -> None:
    folder = str(run.folder)
    model = models.find(folder)
    assert (model.name, model.classes, model.weights) == ("a", ["background", "flower", "leaf"], run.checkpoint_path(2))
    assert model.min_score == 0.5, "the small model's own"
    assert models.find(folder, "3").weights == run.checkpoint_path(3)
    assert models.find(folder, "last").weights == run.checkpoint_path(3)
    assert models.find(folder, str(run.checkpoint_path(1))).weights == run.checkpoint_path(1)


@pytest.mark.parametrize(("which", "words"), [("9", "kept are 1, 2, 3"), ("gone.h5", "no such file")])
def test_weights_that_are_not_there_are_named(which: str, words: str, run: Run) -> None:
    with pytest.raises(WorkbenchError, match=words):
        models.find(str(run.folder), which)


def test_what_is_no_run_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="--checkpoint"):
        models.find(str(run.checkpoint_path(1)))
    with pytest.raises(WorkbenchError, match="no such run"):
        models.find(str(tmp_path / "gone"))
