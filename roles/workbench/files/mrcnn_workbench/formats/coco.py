# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""COCO: images, annotations and categories in one JSON file."""

from typing import Any, Dict, List

from mrcnn_workbench import geometry
from mrcnn_workbench.dataset import outline_of
from mrcnn_workbench.errors import BadLabelError, Report
from mrcnn_workbench.formats.document import Document
from mrcnn_workbench.labels import Category, Label, Labels, Options, Outline, Photo

TITLE = "COCO JSON"


def recognises(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    )


def read(documents: List[Document], options: Options, report: Report) -> Labels:
    photos: List[Photo] = []
    categories: List[Category] = []
    for document in documents:
        names: Dict[Any, str] = {}
        for place, record in enumerate(document.content["categories"], 1):
            with report.at("{}, category {}".format(document.name, place)):
                category = _category(record)
                names[category.id] = category.name
                categories.append(category)
        by_id: Dict[Any, Photo] = {}
        for place, record in enumerate(document.content["images"], 1):
            with report.at("{}, image {}".format(document.name, place)):
                if record["id"] in by_id:
                    raise BadLabelError("another image has the id {} too".format(record["id"]))
                name, size = record["file_name"], geometry.size_of(record.get("width"), record.get("height"))
                by_id[record["id"]] = Photo("{}, {}".format(document.name, name), name, size)
        for place, record in enumerate(document.content["annotations"], 1):
            with report.at("{}, annotation {} in the list".format(document.name, place)):
                if record["image_id"] not in by_id:
                    raise BadLabelError("there is no image {}".format(record["image_id"]))
                _read_annotation(record, by_id[record["image_id"]], names, report)
        photos += by_id.values()
    return Labels(photos, categories)


def _read_annotation(record: Dict[str, Any], photo: Photo, names: Dict[Any, str], report: Report) -> None:
    where = "{}, annotation {}".format(photo.where, record.get("id"))
    with report.at(where):
        if record["category_id"] not in names:
            raise BadLabelError("there is no category {}".format(record["category_id"]))
        outline = _outline(record, where, report)
        crowd = bool(record.get("iscrowd"))
        photo.labels.append(Label(where, names[record["category_id"]], outline, crowd=crowd))


def _category(record: Dict[str, Any]) -> Category:
    if not isinstance(record["id"], int) or not isinstance(record["name"], str):
        raise BadLabelError("a category has a number as its id, and a name")
    return Category(record["name"], record["id"], str(record.get("supercategory") or ""))


def _outline(record: Dict[str, Any], where: str, report: Report) -> Outline:
    if not record.get("segmentation"):
        report.note(where, "it has no outline, its box is taken")
        return geometry.rectangle(*(geometry.number(edge, "bbox") for edge in record["bbox"]))
    outline = outline_of(record)
    if not isinstance(outline, dict):
        for corners in outline:
            geometry.polygon(corners)  # or an error that says what is wrong; the polygon itself stays as it is
    return outline
