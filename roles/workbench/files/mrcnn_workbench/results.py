# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What was found, as files that other programs read:

    OUT/results.json    COCO's results: image_id, category_id, bbox, score, segmentation (RLE)
    OUT/images.json     COCO's images and categories, which say what those ids mean
    OUT/results.csv     the same for spreadsheets, R and pandas: a line for each object

With pycocotools: COCO("OUT/images.json").loadRes("OUT/results.json")
"""

import csv
import json
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence

from pycocotools import mask as coco_mask

from mrcnn_workbench import runs
from mrcnn_workbench.labels import Rle

RESULTS, IMAGES, TABLE = "results.json", "images.json", "results.csv"
COLUMNS = (
    "file", "class", "score", "x", "y", "width", "height", "area", "mask", "image_width", "image_height",
)  # fmt: skip

Record = Dict[str, Any]


class Found(NamedTuple):
    """An object that a model has found: its class as the model counts them, score, box (x, y, width, height), mask."""

    number: int
    score: float
    box: List[int]
    mask: Rle

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(coco_mask.area(self.mask))


class Image(NamedTuple):
    """What was found in an image."""

    id: int
    file: str
    width: int
    height: int
    turned: bool  # whether it lay on its side in the file, so that everything here is for the turned image
    objects: List[Found]


def records(image_id: Any, objects: Iterable[Found], category_ids: Sequence[Any]) -> List[Record]:
    """Objects of an image as COCO has results; `category_ids` are those of the model's classes, in their order."""
    return [
        {
            "image_id": image_id, "category_id": category_ids[found.number], "bbox": found.box, "score": found.score,
            "segmentation": found.mask,
        }
        for found in objects
    ]  # fmt: skip


def write(folder: Path, images: Sequence[Image], categories: Sequence[Record], info: Record) -> None:
    """Writes the three files, each whole or not at all. `categories` are the model's, from its class 1 on."""
    numbers = [0, *(category["id"] for category in categories)]
    names = ["", *(category["name"] for category in categories)]
    described = [
        {
            "id": image.id, "file_name": image.file, "width": image.width, "height": image.height,
            "turned": image.turned,
        }
        for image in images
    ]  # fmt: skip
    runs.write_json(
        folder / IMAGES, {"info": info, "images": described, "annotations": [], "categories": list(categories)}
    )
    write_records(
        folder / RESULTS, (record for image in images for record in records(image.id, image.objects, numbers))
    )
    with runs.whole(folder / TABLE) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for image in images:
            for found in image.objects:
                row = [image.file, names[found.number], found.score, *found.box, found.area, found.mask["counts"]]
                writer.writerow([*row, image.width, image.height])


def write_records(path: Path, every: Iterable[Record]) -> None:
    """COCO's results, a line for each, however many they are."""
    with runs.whole(path) as file:
        separator = "[\n"
        for record in every:
            file.write(separator + json.dumps(record))
            separator = ",\n"
        file.write("[]\n" if separator == "[\n" else "\n]\n")
