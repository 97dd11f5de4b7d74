# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Models to detect with: a run and one of its checkpoints, or COCO's classes and the weights that others have trained.

This module imports nothing slow.
"""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from mrcnn_workbench import runs, settings, small, weights
from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.runs import Run
from mrcnn_workbench.settings import Settings

LAST = "last"
MIN_SCORE = 0.7  # mrcnn's own DETECTION_MIN_CONFIDENCE

# COCO's 80 classes, in the order of the model's outputs from 1 on, and the ids between 1 and 90 that it does not use.
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
COCO_LACKS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


class Model(NamedTuple):
    """What it takes to detect with one, and to say with which it was done."""

    name: str  # for people
    settings: Settings
    classes: List[str]  # by the id that the model gives; the first is the background
    category_ids: List[int]  # the ids that results have instead, in the same order
    weights: Path
    run: Optional[Run] = None

    @property
    def min_score(self) -> float:
        """The score from which on it takes something for an object, unless it is told otherwise."""
        own = small.MODEL if self.settings["backbone"] == settings.SMALL else {}
        found = dict(own, **self.settings["model"]).get("DETECTION_MIN_CONFIDENCE", MIN_SCORE)
        return float(found)

    def categories(self) -> List[Dict[str, Any]]:
        """The classes as COCO has them, without the background."""
        pairs = zip(self.category_ids[1:], self.classes[1:])
        return [{"id": number, "name": name, "supercategory": ""} for number, name in pairs]


def find(name: str, checkpoint: str = "") -> Model:
    """A run's, with its best weights unless a checkpoint is named: an epoch, `last` or a file; or `coco`.

    Raises WorkbenchError.
    """
    if name == settings.COCO:
        numbers = [number for number in range(1, 91) if number not in COCO_LACKS]
        wanted = settings.checked({"data": settings.COCO}, settings.COCO)
        path = _file(checkpoint) if checkpoint else weights.find(settings.COCO)
        return Model(name, wanted, [runs.BACKGROUND, *COCO], [0, *numbers], path)
    folder = Path(name)
    if folder.is_file():
        raise WorkbenchError("{}: a run is wanted; the weights to take are named by --checkpoint".format(name))
    run = Run(folder)
    path = _checkpoint(run, checkpoint)
    wanted = settings.load(run.path(runs.SETTINGS))
    return Model(run.name, wanted, run.classes, list(range(len(run.classes))), path, run)


def _checkpoint(run: Run, wanted: str) -> Path:
    found = run.checkpoints()
    if not wanted or (wanted == LAST and not found):
        return run.best().path
    if wanted == LAST:
        return found[-1].path
    if wanted.isdigit():
        for checkpoint in found:
            if checkpoint.epoch == int(wanted):
                return checkpoint.path
        epochs = ", ".join(str(checkpoint.epoch) for checkpoint in found) or "none"
        raise WorkbenchError("{}: there is no checkpoint of epoch {}; kept are {}".format(run.folder, wanted, epochs))
    return _file(wanted)


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise WorkbenchError("--checkpoint {}: there is no such file; an epoch, last or a file is wanted".format(name))
    return path.resolve()
