# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The data set on disk, as COCO's own is laid out, so that whatever reads COCO reads it:

    FOLDER/annotations/instances_train.json     FOLDER/train/*.jpg
    FOLDER/annotations/instances_val.json       FOLDER/val/*.jpg

An image's `file_name` is relative to FOLDER/train or FOLDER/val. With pycocotools:

    coco = COCO("FOLDER/annotations/instances_train.json")
"""

import json
import math
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.geometry import area, bounds, from_rle, points, to_mask
from mrcnn_workbench.labels import Outline, Size

SPLITS = ("train", "val")
LISTS = ("images", "annotations", "categories")
IDS = ("id", "image_id", "category_id")
Record = Dict[str, Any]


class Split:
    """One half of a data set: COCO's images, annotations and categories, as lists of dicts."""

    def __init__(self, folder: Path, name: str, content: Dict[str, Any]) -> None:
        self.name = name
        self.images_folder = folder / name
        self.file = file_of(folder, name)
        self.info: Record = content.get("info") or {}
        self.images: List[Record] = content["images"]
        self.annotations: List[Record] = content["annotations"]
        self.categories: List[Record] = content["categories"]

    def image_path(self, image: Record) -> Path:
        return self.images_folder / str(image["file_name"])

    def by_image(self) -> Dict[Any, List[Record]]:
        """Every image's annotations, by the image's id."""
        found: Dict[Any, List[Record]] = {image["id"]: [] for image in self.images}
        for annotation in self.annotations:
            found.setdefault(annotation["image_id"], []).append(annotation)
        return found


def file_of(folder: Path, split: str) -> Path:
    return folder / "annotations" / "instances_{}.json".format(split)


def is_dataset(folder: Path) -> bool:
    return any(file_of(folder, split).is_file() for split in SPLITS)


def read(folder: Path) -> Dict[str, Split]:
    """A data set's halves by their names. Raises WorkbenchError."""
    if not folder.is_dir():
        raise WorkbenchError("{}: there is no such folder".format(folder))
    if not is_dataset(folder):
        raise WorkbenchError(
            "{}: this is no data set, since {} is missing; make one of your labels with `mrcnn data import`".format(
                folder, file_of(Path(), "train")
            )
        )
    halves = {}
    for name in SPLITS:
        path = file_of(folder, name)
        if path.is_file():
            content = read_json(path)
            if not _is_coco(content):
                raise WorkbenchError("{}: this is no COCO JSON: {} are lists of objects".format(path, ", ".join(LISTS)))
            halves[name] = Split(folder, name, content)
    return halves


def _is_coco(content: Any) -> bool:
    """Whether it is as far in order as those who look for mistakes in it need it."""
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in LISTS):
        return False
    records = [record for key in LISTS for record in content[key]]
    return isinstance(content.get("info") or {}, dict) and all(
        isinstance(record, dict) and not any(isinstance(record.get(key), (dict, list)) for key in IDS)
        for record in records
    )


def read_json(path: Path) -> Any:
    """Raises WorkbenchError, with line and column of what is wrong."""
    try:
        # Some tools put a byte order mark in front.
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise WorkbenchError("{}: {}".format(path, error.strerror)) from error
    except UnicodeDecodeError as error:
        raise WorkbenchError(
            "{}: byte {} is no UTF-8; was it saved by an office program?".format(path, error.start)
        ) from error
    except json.JSONDecodeError as error:
        ends = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
        short = "; the file seems to be cut off" if ends else ""
        raise WorkbenchError(
            "{}, line {} column {}: this is no JSON ({}){}".format(path, error.lineno, error.colno, error.msg, short)
        ) from error
    except RecursionError as error:
        raise WorkbenchError("{}: its lists are nested too deeply for labels".format(path)) from error


def annotation(outline: Outline, size: Size, **fields: Any) -> Record:
    """An object as COCO has it."""
    segmentation: Any = outline
    if not isinstance(outline, dict):
        segmentation = [[_plain(value) for value in corners.ravel()] for corners in outline]
    box = [_plain(edge) for edge in bounds(outline)]
    return dict(fields, segmentation=segmentation, bbox=box, area=_plain(round(area(outline, size), 2)))


def outline_of(annotation: Record) -> Outline:
    """The outline of an object in COCO JSON. Raises BadLabelError, or KeyError and the like for what is no COCO."""
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, dict):
        return from_rle(segmentation)
    return [points(zip(flat[::2], flat[1::2])) for flat in segmentation]


def mask_of(annotation: Record, size: Size) -> np.ndarray:
    """An object's mask: bool [height, width]."""
    return to_mask(outline_of(annotation), size)


def write(folder: Path, name: str, content: Record) -> None:
    path = file_of(folder, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: float) -> float:
    """For JSON: whole numbers without the dot, which thousands of points are better off without."""
    return int(value) if math.floor(value) == value else float(value)
