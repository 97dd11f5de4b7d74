# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""VGG Image Annotator, versions 1 and 2: regions as JSON or CSV, and project files.

{"leaf.jpg12345": {"filename": "leaf.jpg", "size": 12345, "regions": [
    {"shape_attributes": {"name": "polygon", "all_points_x": [...], "all_points_y": [...]},
     "region_attributes": {"class": "leaf"}}]}}

Version 1 has a dict of regions in the place of the list, a project has all that in "_via_img_metadata". What the
attribute with the class is called is up to whoever labels.
"""

import json
from collections import Counter
from typing import Any, Dict, Iterator, List, Optional, Tuple

from mrcnn_workbench import geometry
from mrcnn_workbench.errors import BadLabelError, Report, WorkbenchError
from mrcnn_workbench.formats.document import Document, Table
from mrcnn_workbench.labels import Label, Labels, Options, Outline, Photo

TITLE = "VGG Image Annotator (JSON, project or CSV; versions 1 and 2)"
PROJECT = "_via_img_metadata"
USUAL_KEYS = ("class", "label", "name", "type", "category", "object", "species")
Region = Tuple[str, Dict[str, Any], Dict[str, Any]]  # where, shape, attributes


def recognises(content: Any) -> bool:
    if isinstance(content, Table):
        return "region_shape_attributes" in content.columns
    if isinstance(content, dict) and PROJECT in content:
        return True
    entries = list(content.values()) if isinstance(content, dict) else content if isinstance(content, list) else []
    return bool(entries) and all(isinstance(entry, dict) and {"filename", "regions"} <= set(entry) for entry in entries)


def read(documents: List[Document], options: Options, report: Report) -> Labels:
    photos: List[Tuple[Photo, List[Region]]] = []
    for document in documents:
        for name, regions in _entries(document, report):
            where = "{}, {}".format(document.name, name)
            found: List[Region] = []
            for number, region in enumerate(regions, 1):
                place = "{}, region {}".format(where, number)
                with report.at(place):
                    found.append(
                        (place, _loaded(region["shape_attributes"]), _loaded(region["region_attributes"] or {}))
                    )
            photos.append((Photo(where, name), found))
    key = options.class_key or _class_key([region for _photo, regions in photos for region in regions], options)
    for photo, regions in photos:
        for where, shape, attributes in regions:
            with report.at(where):
                outline = _outline(shape)
                if outline is None:
                    report.note(where, "a point has no area: ignored")
                else:
                    category = _category(attributes, key) if key else options.classes[0]
                    photo.labels.append(Label(where, category, outline))
    return Labels([photo for photo, _regions in photos], [])


def _entries(document: Document, report: Report) -> Iterator[Tuple[str, List[Any]]]:
    """Every photograph's name and regions."""
    content = document.content
    if isinstance(content, Table):
        yield from _rows(document, content, report)
        return
    if isinstance(content, dict):
        content = content.get(PROJECT, content)
        content = content.values() if isinstance(content, dict) else content
    for number, entry in enumerate(content, 1):
        with report.at("{}, photograph {}".format(document.name, number)):
            regions = entry["regions"]
            if isinstance(regions, dict):  # version 1; its keys are numbers
                regions = [regions[key] for key in sorted(regions, key=lambda text: (len(text), text))]
            if not isinstance(regions, list):
                raise TypeError("regions are no list")
            yield entry["filename"], regions


def _rows(document: Document, table: Table, report: Report) -> Iterator[Tuple[str, List[Any]]]:
    """The same of a table with a row for each region."""
    found: Dict[str, List[Any]] = {}
    for number, row in enumerate(table, 2):
        with report.at("{}, line {}".format(document.name, number)):
            name = row["#filename"] if "#filename" in row else row["filename"]  # version 1 has the sign
            regions = found.setdefault(name, [])
            if row["region_shape_attributes"] not in ("", "{}"):  # a photograph without regions has a row too
                attributes = row["region_attributes"]
                regions.append({"shape_attributes": row["region_shape_attributes"], "region_attributes": attributes})
    yield from found.items()


def _loaded(attributes: Any) -> Dict[str, Any]:
    """Attributes, which a table holds as JSON."""
    loaded = json.loads(attributes) if isinstance(attributes, str) else attributes
    if not isinstance(loaded, dict):
        raise TypeError("attributes are {!r:.40}".format(loaded))
    return loaded


def _class_key(regions: List[Region], options: Options) -> Optional[str]:
    """What the attribute with the class is called; None if there are no attributes and there is but one class.

    Raises WorkbenchError if that cannot be told.
    """
    keys = Counter(key for _where, _shape, attributes in regions for key, value in attributes.items() if value != "")
    likely = list(keys) if len(keys) == 1 else [key for key in keys if key.lower() in USUAL_KEYS]
    if len(likely) == 1:
        return likely[0]
    if not regions or (not keys and len(options.classes) == 1):
        return None
    if not keys:
        raise WorkbenchError("the regions have no attribute with a class; call them all one with --classes NAME")
    named = ", ".join("{} (in {} of {} regions)".format(key, number, len(regions)) for key, number in keys.items())
    raise WorkbenchError("which attribute of the regions is the class? Say it with --class-key; there are " + named)


def _category(attributes: Dict[str, Any], key: str) -> str:
    value = attributes.get(key, "")
    if isinstance(value, dict):  # boxes that are ticked or not
        ticked = [name for name, on in value.items() if on]
        if len(ticked) > 1:
            raise BadLabelError("it is {} at once; an object has one class".format(" and ".join(ticked)))
        value = ticked[0] if ticked else ""
    if not str(value).strip():
        raise BadLabelError("it has no class (the attribute {!r} is empty or missing)".format(key))
    return str(value).strip()


def _outline(shape: Dict[str, Any]) -> Optional[Outline]:
    """None for a point."""
    kind = shape["name"]
    if kind == "point":
        return None
    if kind in ("polygon", "polyline"):
        across, down = shape["all_points_x"], shape["all_points_y"]
        if len(across) != len(down):
            raise BadLabelError("it has {} x for {} y".format(len(across), len(down)))
        corners = geometry.points(zip(across, down))
        return geometry.polygon(corners) if kind == "polygon" else geometry.polyline(corners)
    names = {
        "rect": ["x", "y", "width", "height"],
        "circle": ["cx", "cy", "r", "r"],
        "ellipse": ["cx", "cy", "rx", "ry"],
    }
    if kind not in names:
        raise BadLabelError("there is no way to read a shape called {!r:.40}".format(kind))
    first, second, third, fourth = (geometry.number(shape[name], name) for name in names[kind])
    if kind == "rect":
        return geometry.rectangle(first, second, third, fourth)
    return geometry.ellipse(first, second, third, fourth, geometry.number(shape.get("theta", 0), "theta"))
