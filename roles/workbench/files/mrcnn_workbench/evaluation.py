# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How good a model is: what it finds in a labelled split, compared with the labels.

    OUT/evaluation.json   everything, for programs
    OUT/evaluation.csv    a line for each class
    OUT/evaluation.png    precision against recall, and average precision against IoU
    OUT/results.json      what was found, as COCO has results, with the ids of the data set

IoU, intersection over union, says how far two masks (or boxes) agree: 0 for those that do not touch, 1 for equal ones.

- AP, average precision, is COCO's, computed by pycocotools: the area under the curve of precision against recall, where
  a detection counts if it overlaps a label of its class by the IoU or more; at 0.5, at 0.75, and the mean of those from
  0.5 to 0.95 in steps of 0.05. mAP is the mean over the classes that have labels. Detections that score LEAST_SCORE or
  more count, whatever the chosen score.
- Precision and recall are those of the detections with the chosen score or more, of masks at an IoU of 0.5: the part of
  the detections that are right, and the part of the labels that are found.
- Mean IoU: in every image, those detections, the best score first, each take the label of their class that they
  overlap most and that no other has taken, however little that is, but not those they do not touch. A label's IoU is
  that of its detection, 0 if it has none. The mean is over all labels (crowds are none).
"""

import contextlib
import csv
import io
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrcnn_workbench import dataset, drawing, photographs, results, runs
from mrcnn_workbench.dataset import Record, Split
from mrcnn_workbench.drawing import COLOURS, GREY, INK, PAPER
from mrcnn_workbench.errors import BadLabelError, WorkbenchError
from mrcnn_workbench.geometry import bounds, rle_of
from mrcnn_workbench.photographs import PictureError
from mrcnn_workbench.progress import Journal, ends
from mrcnn_workbench.results import Found

REPORT, TABLE, CURVES = "evaluation.json", "evaluation.csv", "evaluation.png"
LEAST_SCORE = 0.05
MASKS, BOXES = "masks", "boxes"
KINDS = {MASKS: "segm", BOXES: "bbox"}  # pycocotools' names
IOUS = MEAN, HALF, STRICT = "0.5:0.95", "0.5", "0.75"
DRAWN = 8  # classes, those with the most labels

Number = Optional[float]  # none where there is nothing to divide by


class Curve(NamedTuple):
    """What can be drawn of a class: precision at the recalls 0, 0.01, ... 1; AP at the IoUs 0.5, 0.55, ... 0.95."""

    precision: np.ndarray  # of masks, at an IoU of 0.5
    by_iou: Dict[str, np.ndarray]  # of masks and of boxes


class Evaluation(NamedTuple):
    """The report, as it is written, and what is drawn of it by the classes' names."""

    report: Dict[str, Any]
    curves: Dict[str, Curve]


class Truth:
    """The labels of a split, in those classes that are judged."""

    def __init__(self, split: Split, known: Sequence[str], only: Sequence[str] = ()) -> None:
        """`known`: the model's classes; `only`: those that count, if not all. Raises WorkbenchError."""
        self.split = split
        try:
            self.names: Dict[Any, str] = {record["id"]: str(record["name"]) for record in split.categories}
            self._choose(known, only)
            self.numbers = sorted(self.names)
            self.sizes = {image["id"]: (int(image["width"]), int(image["height"])) for image in split.images}
            self.labels = [self._label(record) for record in split.annotations if record["category_id"] in self.names]
        except (BadLabelError, KeyError, TypeError, ValueError) as error:
            text = "{} is missing".format(error) if isinstance(error, KeyError) else str(error)
            raise WorkbenchError("{}: {}; `mrcnn data check` says more".format(split.file, text)) from error
        if not any(not label["iscrowd"] for label in self.labels):
            raise WorkbenchError(
                "{}: there are no labels{}".format(split.file, " of " + ", ".join(only) if only else "")
            )
        for number, label in enumerate(self.labels, 1):
            label["id"] = number  # pycocotools takes 0 for none

    def _choose(self, known: Sequence[str], only: Sequence[str]) -> None:
        """Leaves the classes that are judged."""
        absent = [name for name in only if name not in self.names.values() or name not in known]
        if absent:
            raise WorkbenchError(
                "--classes: {} not among the classes of both the model ({}) and the data set ({})".format(
                    ", ".join(absent), _some(known), _some(list(self.names.values()))
                )
            )
        self.names = {number: name for number, name in self.names.items() if not only or name in only}
        strange = [name for name in self.names.values() if name not in known]
        if strange:
            common = [name for name in self.names.values() if name in known]
            more = "; --classes {} judges only what it knows".format(",".join(common)) if common else ""
            raise WorkbenchError(
                "{}: the model has not learnt {}; it knows {}{}".format(
                    self.split.file, ", ".join(strange), _some(known), more
                )
            )

    def _label(self, record: Record) -> Record:
        size = self.sizes[record["image_id"]]
        mask = rle_of(dataset.outline_of(record), size)
        if [size[1], size[0]] != mask["size"]:
            raise BadLabelError("label {}: its mask is of another size than the image".format(record.get("id")))
        return {
            "image_id": record["image_id"], "category_id": record["category_id"], "segmentation": mask,
            "bbox": bounds(mask), "area": float(coco_mask.area(mask)), "iscrowd": int(bool(record.get("iscrowd"))),
        }  # fmt: skip

    def category_ids(self, classes: Sequence[str]) -> List[Any]:
        """The data set's ids for a model's classes, in their order; none for those that are not judged."""
        numbers: Dict[str, Any] = {name: number for number, name in self.names.items()}
        return [numbers.get(name) for name in classes]


def find(
    truth: Truth,
    classes: Sequence[str],
    detect: Callable[[List[np.ndarray]], List[List[Found]]],
    batch: int,
    journal: Journal,
) -> List[Record]:
    """What a model with these classes finds in the images of a split: COCO's results, with the ids of the data set.

    Raises WorkbenchError.
    """  # fmt: skip
    images, records, began = truth.split.images, [], time.time()
    category_ids = truth.category_ids(classes)
    for first in range(0, len(images), batch):
        some = images[first : first + batch]
        for image, objects in zip(some, detect([_read(truth, image) for image in some])):
            judged = [found for found in objects if category_ids[found.number] is not None]
            records += results.records(image["id"], judged, category_ids)
        done = first + len(some)
        if journal.live:
            left = (time.time() - began) / done * (len(images) - done)
            journal.show("image {}/{}  {}".format(done, len(images), ends(left)))
    return records


def _read(truth: Truth, image: Record) -> np.ndarray:
    path = truth.split.image_path(image)
    try:
        pixels = photographs.read(path, turn=False)  # as it was trained on
    except (PictureError, OSError) as error:
        raise WorkbenchError("{}: {}".format(path, error)) from error
    if pixels.shape[1::-1] != truth.sizes[image["id"]]:
        raise WorkbenchError(
            "{}: it is {}x{}, its labels are for {}x{}".format(path, *pixels.shape[1::-1], *truth.sizes[image["id"]])
        )
    return pixels


def judge(truth: Truth, found: List[Record], min_score: float) -> Evaluation:
    """Compares COCO's results, with the ids of the data set, with the labels."""
    compared = {kind: _compared(truth, found, name) for kind, name in KINDS.items()}
    ious = _ious(truth, found, min_score)
    rows: Dict[str, Any] = {}
    curves: Dict[str, Curve] = {}
    for place, number in enumerate(truth.numbers):
        name = truth.names[number]
        labels = [label["id"] for label in truth.labels if label["category_id"] == number and not label["iscrowd"]]
        detections, right = _at_score(compared[MASKS], number, min_score)
        row: Dict[str, Any] = {"labels": len(labels), "detections": detections, "right": right}
        row.update(_ratios(row), mean_iou=_mean([ious[label] for label in labels]))
        # By IoU, recall and class; -1 where there is no label.
        precisions = {kind: one.eval["precision"][:, :, place, 0, 0] for kind, one in compared.items()}
        row.update({kind: _averages(precision) for kind, precision in precisions.items()})
        rows[name] = row
        if labels:
            by_iou = {kind: precision.mean(axis=1) for kind, precision in precisions.items()}
            curves[name] = Curve(precisions[MASKS][0], by_iou)
    whole = {key: sum(row[key] for row in rows.values()) for key in ("labels", "detections", "right")}
    whole.update(_ratios(whole), mean_iou=_mean(list(ious.values())))
    for kind in KINDS:
        whole[kind] = {iou: _mean([row[kind][iou] for row in rows.values()]) for iou in IOUS}
    report = {"min_score": min_score, "images": len(truth.sizes), "all": whole, "classes": rows}
    return Evaluation(_rounded(report), curves)


def _compared(truth: Truth, found: List[Record], kind: str) -> Any:
    """What pycocotools makes of it."""
    known, seen = COCO(), COCO()
    images = [{"id": number, "width": size[0], "height": size[1]} for number, size in truth.sizes.items()]
    shared = {"images": images, "categories": [{"id": number} for number in truth.numbers]}
    known.dataset = dict(shared, annotations=truth.labels)
    seen.dataset = dict(
        shared,
        annotations=[
            dict(record, id=number, iscrowd=0, area=float(coco_mask.area(record["segmentation"])))
            for number, record in enumerate(found, 1)
        ],
    )
    with contextlib.redirect_stdout(io.StringIO()):
        known.createIndex()
        seen.createIndex()
        judge_of = COCOeval(known, seen, kind)
        judge_of.params.areaRng, judge_of.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge_of.params.maxDets = [max(1, len(found))]  # all of them
        judge_of.evaluate()
        judge_of.accumulate()
    return judge_of


def _at_score(compared: Any, number: Any, min_score: float) -> Tuple[int, int]:
    """How many detections of a class have the score, and how many of those are right at an IoU of 0.5."""
    detections = right = 0
    for image in compared.evalImgs:
        if image is not None and image["category_id"] == number:
            counts = (np.array(image["dtScores"]) >= min_score) & ~image["dtIgnore"][0].astype(bool)
            detections += int(counts.sum())
            right += int((counts & (image["dtMatches"][0] > 0)).sum())
    return detections, right


def _ious(truth: Truth, found: List[Record], min_score: float) -> Dict[int, float]:
    """The IoU of every label with the detection that takes it, 0 without one, by the label's id."""
    ious = {label["id"]: 0.0 for label in truth.labels if not label["iscrowd"]}
    groups: Dict[Any, Tuple[List[Record], List[Record]]] = {}
    for record in [*truth.labels, *sorted(found, key=lambda record: -float(record["score"]))]:
        pair = groups.setdefault((record["image_id"], record["category_id"]), ([], []))
        if record.get("id") in ious:
            pair[0].append(record)
        elif record.get("score", -1) >= min_score:
            pair[1].append(record)
    for labels, detections in groups.values():
        if not labels or not detections:
            continue
        masks = [[record["segmentation"] for record in records] for records in (detections, labels)]
        overlaps = coco_mask.iou(*masks, [0] * len(labels))
        for row in overlaps:
            best = int(row.argmax())
            if row[best] > 0:
                ious[labels[best]["id"]] = float(row[best])
                overlaps[:, best] = 0
    return ious


def _averages(precision: np.ndarray) -> Dict[str, Number]:
    """The average precisions of a class, of its precision by IoU and recall."""
    if (precision < 0).any():
        return dict.fromkeys(IOUS)
    return {MEAN: float(precision.mean()), HALF: float(precision[0].mean()), STRICT: float(precision[5].mean())}


def _ratios(row: Dict[str, Any]) -> Dict[str, Number]:
    return {
        "precision": row["right"] / row["detections"] if row["detections"] else None,
        "recall": row["right"] / row["labels"] if row["labels"] else None,
    }


def _mean(values: Sequence[Number]) -> Number:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:DRAWN]) + (", ..." if len(names) > DRAWN else "")


# What is written


def write(folder: Path, evaluation: Evaluation, found: Iterable[Record], title: str) -> None:
    """Writes all files, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    results.write_records(folder / results.RESULTS, found)
    with runs.whole(folder / TABLE) as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ["labels", "detections", "right", "precision", "recall", "mean_iou"]
        writer.writerow(["class", *columns, *("{}_ap_{}".format(kind, iou) for kind in KINDS for iou in IOUS)])
        for name, row in evaluation.report["classes"].items():
            averages = [row[kind][iou] for kind in KINDS for iou in IOUS]
            writer.writerow([name, *(row[column] for column in columns), *averages])
    draw(evaluation, folder / CURVES, title)
    runs.write_json(folder / REPORT, evaluation.report)


def table(report: Dict[str, Any]) -> List[str]:
    """The report as lines for a terminal."""
    head = ["class", "labels", "found", "right", "precision", "recall", "mean IoU", "mask AP", "AP50", "AP75", "box AP"]
    rows = [head]
    for name, row in [*report["classes"].items(), ("all", report["all"])]:
        averages = [row[MASKS][MEAN], row[MASKS][HALF], row[MASKS][STRICT], row[BOXES][MEAN]]
        numbers = [row["precision"], row["recall"], row["mean_iou"], *averages]
        shown = ["-" if number is None else "{:.2f}".format(number) for number in numbers]
        rows.append([name, *(str(row[key]) for key in ("labels", "detections", "right")), *shown])
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]))
    lines.insert(1, "-" * len(lines[0]))
    if len(rows) > 3:  # noqa: PLR2004 - more than one class
        lines.insert(len(lines) - 1, lines[1])
    return lines


def draw(evaluation: Evaluation, path: Path, title: str) -> None:
    """Precision against recall, and AP against IoU, as PNG: of the classes with the most labels, and of all."""
    classes = evaluation.report["classes"]
    names = sorted(evaluation.curves, key=lambda name: -classes[name]["labels"])[:DRAWN]
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(classes)}
    figure = Figure(figsize=(12, 5.2))
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    ious = np.linspace(0.5, 0.95, 10)
    for name in names:
        curve, row, style = evaluation.curves[name], classes[name], {"color": colours[name], "linewidth": 2}
        text = drawing.shortened("{}  {:.2f}".format(name, row[MASKS][HALF]), 2.2, 10)
        left.plot(np.linspace(0, 1, curve.precision.size), curve.precision, label=drawing.safe(text), **style)
        if row["precision"] is not None:
            left.plot(
                [row["recall"]], [row["precision"]], "o", color=colours[name], markersize=9,
                markeredgecolor=PAPER, zorder=3, clip_on=False,
            )  # fmt: skip
        text = drawing.shortened("{}  {:.2f}".format(name, row[MASKS][MEAN]), 2.2, 10)
        right.plot(ious, curve.by_iou[MASKS], label=drawing.safe(text), marker=".", **style)
    every = list(evaluation.curves.values())
    whole = evaluation.report["all"]
    for kind, line in ((MASKS, "-"), (BOXES, "--")):
        mean = np.mean([curve.by_iou[kind] for curve in every], axis=0)
        text = "all, {}  {:.2f}".format(kind, whole[kind][MEAN])
        right.plot(ious, mean, line, color=INK, linewidth=1.4, label=text)
    left.set_title("precision and recall of masks at an IoU of 0.5, and their AP", fontsize=11, color=INK)
    right.set_title("average precision of masks by the IoU that is wanted, and its mean", fontsize=11, color=INK)
    score = evaluation.report["min_score"]
    for axes, x, y in (
        (left, "recall (dots: those with a score of {:g} and more)".format(score), "precision"),
        (right, "IoU", "AP"),
    ):
        axes.set_xlabel(x, color=GREY)
        axes.set_ylabel(y, color=GREY)
        axes.set_ylim(-0.02, 1.05)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, loc="lower left", fontsize=10)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    left.set_xlim(-0.02, 1.05)
    figure.suptitle(drawing.safe(title), fontsize=14, color=INK)
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    with runs.replacing(path) as part:
        figure.savefig(str(part), dpi=120, format="png", facecolor=PAPER)
