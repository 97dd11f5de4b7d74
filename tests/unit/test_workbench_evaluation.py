# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn evaluate`: its numbers are those that can be worked out by hand, or that pycocotools itself gives."""

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any, List

import hand_labelled as hand
import numpy as np
import pytest
from mrcnn_workbench import dataset, evaluation, geometry, runs, settings
from mrcnn_workbench.cli import main
from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.evaluation import BOXES, HALF, MASKS, MEAN, STRICT, Truth
from mrcnn_workbench.progress import Journal
from mrcnn_workbench.results import Found
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SIDE = 100
CLASSES = ["leaf", "flower"]
CATEGORIES = [{"id": 5, "name": "leaf"}, {"id": 3, "name": "flower"}]


def box(left: int, top: int, width: int, height: int) -> Any:
    """A mask that is a box."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def label(number: int, image: int, category: int, mask: Any, **fields: Any) -> Any:
    rle = geometry.from_mask(mask)
    found = {"id": number, "image_id": image, "category_id": category, "segmentation": rle, "iscrowd": 0}
    return dict(found, bbox=geometry.bounds(rle), area=int(mask.sum()), **fields)


def result(image: int, category: int, mask: Any, score: float) -> Any:
    rle = geometry.from_mask(mask)
    bounds = [int(edge) for edge in geometry.bounds(rle)]
    return {"image_id": image, "category_id": category, "segmentation": rle, "bbox": bounds, "score": score}


class DataSet:
    """Two images of 100x100 in val."""

    def __init__(self, folder: Path, annotations: Any) -> None:
        self.folder = folder
        images = [
            {"id": number, "file_name": "{}.png".format(number), "width": SIDE, "height": SIDE} for number in (1, 2)
        ]
        for image in images:
            hand.picture(folder / "val" / str(image["file_name"]), (SIDE, SIDE))
        self.content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        hand.write(dataset.file_of(folder, "val"), self.content)

    def truth(self, known: Any = CLASSES, only: Any = ()) -> Truth:
        hand.write(dataset.file_of(self.folder, "val"), self.content)
        return Truth(dataset.read(self.folder)["val"], known, only)


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Two leaves and a flower in the first image, a leaf in the second."""
    return DataSet(
        tmp_path / "data",
        [
            label(0, 1, 5, box(0, 0, 40, 40)),
            label(1, 1, 5, box(50, 0, 40, 40)),
            label(2, 1, 3, box(0, 50, 40, 40)),
            label(3, 2, 5, box(10, 10, 40, 40)),
        ],
    )


def perfect(data: DataSet) -> List[Any]:
    """Results that are the labels."""
    names = ("image_id", "category_id", "segmentation", "bbox")
    return [dict({name: record[name] for name in names}, score=0.9) for record in data.content["annotations"]]


def test_what_is_all_right_is_all_ones(data: DataSet) -> None:
    report = evaluation.judge(data.truth(), perfect(data), 0.5).report
    assert {report["all"][name] for name in ("precision", "recall", "mean_iou")} == {1}
    assert report["all"][MASKS] == report["all"][BOXES] == {MEAN: 1, HALF: 1, STRICT: 1}
    assert report["classes"]["leaf"]["labels"] == 3, "also that with the id 0, which pycocotools overlooks"
    assert list(report["classes"]) == ["flower", "leaf"]


def test_nothing_found_is_all_zeros(data: DataSet) -> None:
    report = evaluation.judge(data.truth(), [], 0.5).report
    whole = report["all"]
    assert (whole["recall"], whole["mean_iou"], whole["precision"], whole[MASKS][MEAN]) == (0, 0, None, 0)


def test_the_numbers_are_those_worked_out_by_hand(data: DataSet) -> None:
    """Of three leaves one is found exactly, one with an IoU of 0.6, one hardly; once a flower is taken for a leaf."""
    found = [
        result(1, 5, box(0, 0, 40, 40), 0.9),  # exact
        result(1, 5, box(50, 0, 40, 24), 0.8),  # 24 of 40 rows: 0.6
        result(2, 5, box(10, 10, 40, 10), 0.7),  # 0.25
        result(1, 5, box(0, 50, 40, 40), 0.6),  # the flower
        result(2, 5, box(10, 10, 40, 40), 0.3),  # exact, but it scores too little
    ]
    judged = evaluation.judge(data.truth(), found, 0.5)
    leaf, flower = judged.report["classes"]["leaf"], judged.report["classes"]["flower"]
    assert (leaf["labels"], leaf["detections"], leaf["right"]) == (3, 4, 2)
    assert (leaf["precision"], leaf["recall"]) == (0.5, 0.6667)
    assert leaf["mean_iou"] == pytest.approx((1 + 0.6 + 0.25) / 3, abs=1e-4)
    assert (flower["detections"], flower["precision"], flower["recall"], flower["mean_iou"]) == (0, None, 0, 0)
    assert judged.report["all"]["mean_iou"] == pytest.approx((1 + 0.6 + 0.25 + 0) / 4, abs=1e-4)
    # At 0.5 the order by score is right, right, wrong, wrong, right: precision 1 up to a recall of 2/3, then 3/5.
    # Recalls are asked for at 0, 0.01, ... 1, of which 67 are up to 2/3.
    assert leaf[MASKS][HALF] == pytest.approx((67 + 34 * 0.6) / 101, abs=1e-4)


def test_a_detection_takes_one_label_and_a_label_one_detection(data: DataSet) -> None:
    """The better score chooses first, what it overlaps most; crowds and other classes are not taken."""
    data.content["annotations"].append(label(9, 2, 5, box(60, 60, 30, 30), iscrowd=1))
    found = [
        result(1, 5, box(0, 0, 50, 40), 0.9),  # 40 of 50 columns of the first: 0.8
        result(1, 5, box(0, 0, 40, 40), 0.8),  # the first is taken, and it does not touch the second
        result(2, 5, box(60, 60, 30, 30), 0.8),  # the crowd
        result(2, 3, box(10, 10, 40, 40), 0.8),  # another class
    ]
    report = evaluation.judge(data.truth(), found, 0.5).report
    assert report["classes"]["leaf"]["mean_iou"] == pytest.approx(0.8 / 3, abs=1e-4)
    assert report["classes"]["leaf"]["labels"] == 3
    assert report["classes"]["leaf"]["detections"] == 2, "that on the crowd neither helps nor hurts"


def test_average_precisions_are_those_of_pycocotools(data: DataSet, tmp_path: Path) -> None:
    rng = np.random.RandomState(3)
    for record in data.content["annotations"]:
        record["id"] += 1
    found = [
        result(
            a["image_id"], a["category_id"], box(*np.array(a["bbox"], int) + rng.randint(0, 7, 4)), rng.uniform(0.1, 1)
        )
        for a in data.content["annotations"] * 3
    ]
    report = evaluation.judge(data.truth(), found, 0.5).report
    for kind, name in evaluation.KINDS.items():
        with contextlib.redirect_stdout(io.StringIO()):
            known = COCO(str(dataset.file_of(data.folder, "val")))
            theirs = COCOeval(known, known.loadRes(json.loads(json.dumps(found))), name)
            theirs.evaluate()
            theirs.accumulate()
            theirs.summarize()
        ours = report["all"][kind]
        assert [ours[MEAN], ours[HALF], ours[STRICT]] == pytest.approx(list(theirs.stats[:3]), abs=1e-4)


def test_more_than_a_hundred_objects_in_an_image_count(tmp_path: Path) -> None:
    places = [(x, y) for x in range(0, 96, 8) for y in range(0, 96, 8)]
    data = DataSet(tmp_path / "data", [label(n, 1, 5, box(*place, 6, 6)) for n, place in enumerate(places)])
    report = evaluation.judge(data.truth(), perfect(data), 0.5).report
    assert report["classes"]["leaf"]["labels"] == 144 and report["classes"]["leaf"][MASKS][MEAN] == 1
    assert report["classes"]["flower"][MASKS][MEAN] is None, "where there are no labels there is no average"
    assert report["all"][MASKS][MEAN] == 1


# What is judged


SPOILED = {
    "no labels": (lambda c: c.update(annotations=[]), {}, "there are no labels"),
    "crowds alone": (lambda c: [a.update(iscrowd=1) for a in c["annotations"]], {}, "there are no labels"),
    "class": (
        lambda c: c["categories"].append({"id": 8, "name": "root"}), {}, "has not learnt root; it knows leaf, flower",
    ),
    "other mask": (
        lambda c: c["annotations"][0].update(segmentation={"size": [2, 2], "counts": [0, 4]}), {}, "another size",
    ),
    "no outline": (lambda c: c["annotations"][0].pop("segmentation"), {}, "mrcnn data check"),
    "image": (lambda c: c["annotations"][0].update(image_id=77), {}, "mrcnn data check"),
    "chosen": (lambda _c: None, {"only": ["leaf", "root"]}, "--classes: root not among"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_what_cannot_be_judged_is_said(name: str, data: DataSet) -> None:
    what, options, words = SPOILED[name]
    data.content["categories"] = [dict(record) for record in CATEGORIES]
    what(data.content)
    with pytest.raises(WorkbenchError, match=words):
        data.truth(**options)


def test_some_classes_only(data: DataSet) -> None:
    report = evaluation.judge(data.truth(["flower", "leaf", "bud"], ["flower"]), perfect(data)[:3], 0.5).report
    assert list(report["classes"]) == ["flower"] and report["all"]["labels"] == 1
    assert report["all"]["detections"] == 1, "leaves are not looked at"


def test_polygons_are_judged_as_masks(data: DataSet) -> None:
    found = perfect(data)
    data.content["annotations"][0]["segmentation"] = [[0, 0, 40, 0, 40, 40, 0, 40]]
    assert evaluation.judge(data.truth(), found, 0.5).report["all"]["mean_iou"] == 1


# Images


def test_what_is_found_has_the_ids_of_the_data_set(data: DataSet) -> None:
    rle = geometry.from_mask(box(0, 0, 40, 40))
    steps: List[int] = []

    def detect(images: Any) -> Any:
        steps.append(len(images))
        return [[Found(number, 0.9, [0, 0, 40, 40], rle) for number in (1, 2, 3)] for _image in images]

    classes = ["background", "bud", "flower", "leaf"]
    found = evaluation.find(data.truth(classes[1:]), classes, detect, 2, Journal())
    assert [(record["image_id"], record["category_id"]) for record in found] == [(1, 3), (1, 5), (2, 3), (2, 5)]
    assert steps == [2]


def test_images_that_cannot_be_judged_are_named(data: DataSet) -> None:
    Image.new("RGB", (50, 100)).save(str(data.folder / "val" / "2.png"))
    with pytest.raises(WorkbenchError, match=r"2\.png: it is 50x100, its labels are for 100x100"):
        evaluation.find(data.truth(), ["background", *CLASSES], lambda images: [[] for _image in images], 1, Journal())
    (data.folder / "val" / "2.png").unlink()
    with pytest.raises(WorkbenchError, match=r"2\.png: "):
        evaluation.find(data.truth(), ["background", *CLASSES], lambda images: [[] for _image in images], 1, Journal())


# What is written


def test_everything_is_written(data: DataSet, tmp_path: Path) -> None:
    judged = evaluation.judge(data.truth(), perfect(data)[:2], 0.5)
    evaluation.write(tmp_path / "new" / "out", judged, perfect(data)[:2], "a $title$")
    out = tmp_path / "new" / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "evaluation.csv", "evaluation.json", "evaluation.png", "results.json",
    ]  # fmt: skip
    with (out / evaluation.TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["labels"], row["recall"]) for row in rows] == [
        ("flower", "1", "0.0"),
        ("leaf", "3", "0.6667"),
    ]
    assert rows[0]["precision"] == "" and float(rows[1]["masks_ap_0.5"]) > 0.6
    assert json.loads((out / evaluation.REPORT).read_text())["all"]["right"] == 2
    assert len(json.loads((out / "results.json").read_text())) == 2
    with Image.open(str(out / evaluation.CURVES)) as image:
        assert image.size[0] > 1000
        assert len(np.unique(np.asarray(image.convert("L")))) > 50


def test_the_table_is_for_people(data: DataSet) -> None:
    lines = evaluation.table(evaluation.judge(data.truth(), perfect(data), 0.5).report)
    assert lines[0].split()[:4] == ["class", "labels", "found", "right"]
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].split() == ["all", "4", "4", "4", *["1.00"] * 7]


# The command


@pytest.fixture
def run(data: DataSet, tmp_path: Path) -> runs.Run:
    """A run with weights that are none."""
    wanted = settings.checked({"data": str(data.folder), "backbone": "small"}, "here")
    found = runs.Run.create(tmp_path / "run", settings.dump(wanted), ["flower", "leaf"])
    found.checkpoint_path(1).parent.mkdir()
    found.checkpoint_path(1).write_text("no weights")
    return found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["RUN", "--split", "train"], "there is no train; --split val is"),
        (["RUN", "gone"], "no such folder"),
        (["RUN", "--classes", "root"], "root not among"),
        (["RUN", "--checkpoint", "7"], "kept are 1"),
    ],
)
def test_a_call_that_cannot_be_is_said(arguments: Any, words: str, run: runs.Run, capsys: Any) -> None:
    arguments = [str(run.folder) if argument == "RUN" else argument for argument in arguments]
    assert main(["evaluate", *arguments]) == 2
    assert words in capsys.readouterr().err
