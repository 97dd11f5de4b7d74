# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Pascal VOC: an XML file for each photograph, with boxes.

A box becomes a polygon with four corners: enough for finding objects, but a mask learnt from it is a box too. VOC
counts pixels from 1, so the box 1, 1, width, height is the whole picture.
"""

from typing import Any, List
from xml.etree.ElementTree import Element

from mrcnn_workbench import geometry
from mrcnn_workbench.errors import Report
from mrcnn_workbench.formats.document import Document
from mrcnn_workbench.labels import Label, Labels, Options, Photo

TITLE = "Pascal VOC (an XML file for each photograph)"


def recognises(content: Any) -> bool:
    return isinstance(content, Element) and content.tag == "annotation"


def read(documents: List[Document], options: Options, report: Report) -> Labels:
    photos: List[Photo] = []
    boxes = 0
    for document in documents:
        with report.at(document.name):
            root = document.content
            size = geometry.size_of(root.findtext("size/width"), root.findtext("size/height"))
            photo = Photo(document.name, _text(root, "filename"), size)
            for number, thing in enumerate(root.findall("object"), 1):
                where = "{}, object {}".format(document.name, number)
                with report.at(where):
                    edges = [
                        geometry.number(_text(thing, "bndbox/" + name), name)
                        for name in ("xmin", "ymin", "xmax", "ymax")
                    ]
                    left, top, right, bottom = max(edges[0] - 1, 0), max(edges[1] - 1, 0), edges[2], edges[3]
                    outline = geometry.rectangle(left, top, right - left, bottom - top)
                    photo.labels.append(Label(where, _text(thing, "name"), outline))
                    boxes += 1
            photos.append(photo)
    if boxes:
        report.note(
            "Pascal VOC", "{} boxes became polygons with four corners: masks learnt from them are boxes".format(boxes)
        )
    return Labels(photos, [])


def _text(element: Element, path: str) -> str:
    text = element.findtext(path)
    if text is None or not text.strip():
        raise KeyError(path)
    return text.strip()
