# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""LabelMe: a JSON file for each photograph."""

import base64
import io
from typing import Any, Dict, List, Optional

import numpy as np
from PIL import Image

from mrcnn_workbench import geometry
from mrcnn_workbench.errors import BadLabelError, Report
from mrcnn_workbench.formats.document import Document
from mrcnn_workbench.labels import Label, Labels, Options, Outline, Photo, Size

TITLE = "LabelMe (a JSON file for each photograph)"


def recognises(content: Any) -> bool:
    return isinstance(content, dict) and {"shapes", "imagePath"} <= set(content)


def read(documents: List[Document], options: Options, report: Report) -> Labels:
    photos: List[Photo] = []
    for document in documents:
        with report.at(document.name):
            content = document.content
            size = geometry.size_of(content.get("imageWidth"), content.get("imageHeight"))
            photo = Photo(document.name, content["imagePath"], size)
            for number, shape in enumerate(content["shapes"], 1):
                where = "{}, shape {}".format(document.name, number)
                with report.at(where):
                    _read_shape(shape, where, photo, report)
            photos.append(photo)
    return Labels(photos, [])


def _read_shape(shape: Dict[str, Any], where: str, photo: Photo, report: Report) -> None:
    outline = _outline(shape, photo.size)
    if outline is None:
        report.note(where, "a point has no area: ignored")
        return
    group = shape.get("group_id")
    photo.labels.append(Label(where, shape["label"], outline, None if group is None else str(group)))


def _outline(shape: Dict[str, Any], size: Optional[Size]) -> Optional[Outline]:
    """None for points."""
    kind, corners = shape.get("shape_type") or "polygon", geometry.points(shape["points"])
    if kind in ("point", "points"):
        return None
    if kind == "polygon":
        return geometry.polygon(corners)
    if kind in ("line", "linestrip"):
        return geometry.polyline(corners)
    if kind not in ("rectangle", "circle", "mask"):
        raise BadLabelError("there is no way to read a shape called {!r:.40}".format(kind))
    if len(corners) != 2:  # noqa: PLR2004 - as the error says
        raise BadLabelError("a {} has two points, this one has {}".format(kind, len(corners)))
    if kind == "circle":  # its middle and a point on it
        radius = float(np.hypot(*(corners[1] - corners[0])))
        return geometry.ellipse(corners[0][0], corners[0][1], radius, radius)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    if kind == "rectangle":
        return geometry.rectangle(left, top, right - left, bottom - top)
    return _placed(shape["mask"], int(left), int(top), size)


def _placed(text: str, left: int, top: int, size: Optional[Size]) -> Outline:
    """A mask that is kept as a small picture, in its place in the large one."""
    if size is None or left < 0 or top < 0:
        raise BadLabelError("where the mask belongs is not known")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text))) as image:
            part = np.array(image.convert("L")) > 0
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadLabelError("the mask is no picture ({})".format(error)) from error
    mask = geometry.blank(size)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part[: size[1] - top, : size[0] - left]
    return geometry.from_mask(mask)
