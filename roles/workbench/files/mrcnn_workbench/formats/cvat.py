# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""CVAT for images 1.1: one XML file. Its other format, for video, has tracks in the place of images."""

import math
from typing import Any, List, Optional
from xml.etree.ElementTree import Element

import numpy as np

from mrcnn_workbench import geometry
from mrcnn_workbench.errors import BadLabelError, Report, WorkbenchError
from mrcnn_workbench.formats.document import Document
from mrcnn_workbench.labels import Category, Label, Labels, Options, Outline, Photo, Size

TITLE = "CVAT for images 1.1 (XML)"
SHAPES = ("polygon", "polyline", "box", "ellipse", "mask", "points", "cuboid", "skeleton")


def recognises(content: Any) -> bool:
    return isinstance(content, Element) and content.tag == "annotations"


def read(documents: List[Document], options: Options, report: Report) -> Labels:
    photos: List[Photo] = []
    categories: List[Category] = []
    for document in documents:
        root = document.content
        if root.find("track") is not None:
            raise WorkbenchError(
                "{}: this is CVAT's format for video; export the task as 'CVAT for images 1.1'".format(document.path)
            )
        categories += [Category(name.text or "") for name in root.findall("meta//labels/label/name")]
        for image in root.findall("image"):
            with report.at("{}, image {}".format(document.name, image.get("id"))):
                name = image.attrib["name"]
                where = "{}, {}".format(document.name, name)
                photo = Photo(where, name, geometry.size_of(image.get("width"), image.get("height")))
                shapes = [element for element in image if element.tag in SHAPES]
                for number, shape in enumerate(shapes, 1):
                    place = "{}, shape {} ({})".format(where, number, shape.tag)
                    with report.at(place):
                        _read_shape(shape, place, photo, report)
                photos.append(photo)
    return Labels(photos, categories)


def _read_shape(shape: Element, where: str, photo: Photo, report: Report) -> None:
    if shape.tag == "points":
        report.note(where, "points have no area: ignored")
        return
    group = shape.get("group_id", "0")
    photo.labels.append(
        Label(where, shape.attrib["label"], _outline(shape, photo.size), None if group == "0" else group)
    )


def _outline(shape: Element, size: Optional[Size]) -> Outline:
    def value(name: str) -> float:
        return geometry.number(shape.attrib[name], name)

    turn = math.radians(geometry.number(shape.get("rotation", "0"), "rotation"))
    if shape.tag in ("polygon", "polyline"):
        corners = geometry.points(pair.split(",") for pair in shape.attrib["points"].split(";"))
        return geometry.polygon(corners) if shape.tag == "polygon" else geometry.polyline(corners)
    if shape.tag == "box":
        left, top = value("xtl"), value("ytl")
        outline = geometry.rectangle(left, top, value("xbr") - left, value("ybr") - top)
        return geometry.turned(outline, turn) if turn and not isinstance(outline, dict) else outline
    if shape.tag == "ellipse":
        return geometry.ellipse(value("cx"), value("cy"), value("rx"), value("ry"), turn)
    if shape.tag == "mask":
        return _mask(shape, size)
    raise BadLabelError("a {} is no outline".format(shape.tag))


def _mask(shape: Element, size: Optional[Size]) -> Outline:
    """Runs of pixels in a box, row by row, that are outside and inside in turn."""
    left, top, width, height = (int(shape.attrib[name]) for name in ("left", "top", "width", "height"))
    runs = [int(run) for run in shape.attrib["rle"].split(",")]
    if size is None or left < 0 or top < 0 or left + width > size[0] or top + height > size[1]:
        raise BadLabelError("the mask reaches over the picture's edge")
    if min(runs) < 0 or sum(runs) != width * height:
        raise BadLabelError("the mask's runs do not add up to {}x{}".format(width, height))
    mask = geometry.blank(size)
    inside = np.arange(len(runs)) % 2 == 1
    mask[top : top + height, left : left + width] = np.repeat(inside, runs).reshape(height, width)
    return geometry.from_mask(mask)
