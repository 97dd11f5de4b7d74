# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One picture with two objects, labelled by hand in every format that `mrcnn data import` reads.

It runs on Python 3.6 too, where the tests of the workbench have to pass as well.
"""

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROLES = Path(__file__).resolve().parents[2] / "roles"
# Behind an installed one, which is then what is tested.
sys.path.append(str(ROLES / "workbench" / "files"))

WIDTH, HEIGHT = 60, 40
NAME = "leaf.png"
# A leaf, a triangle; and a flower, a box.
LEAF = [(10, 5), (30, 5), (20, 25)]
FLOWER = (40, 10, 10, 20)  # x, y, width, height

CATEGORIES = [{"id": 1, "name": "flower", "supercategory": ""}, {"id": 2, "name": "leaf", "supercategory": ""}]
IMAGE = {"id": 1, "file_name": NAME, "width": WIDTH, "height": HEIGHT}


def annotation(number: int, category: int, segmentation: Any, box: Any, area: float) -> Any:
    fields = {"id": number, "image_id": 1, "category_id": category, "iscrowd": 0}
    return dict(fields, segmentation=segmentation, bbox=box, area=area)


FLOWER_COCO = annotation(2, 1, [[40, 10, 50, 10, 50, 30, 40, 30]], [40, 10, 10, 20], 200)
POLYGONS = [annotation(1, 2, [[10, 5, 30, 5, 20, 25]], [10, 5, 20, 20], 200), FLOWER_COCO]
BOXES = [annotation(1, 2, [[10, 5, 30, 5, 30, 25, 10, 25]], [10, 5, 20, 20], 400), FLOWER_COCO]
# As masks, both are boxes. Runs go down the columns: 10 columns and 5 rows, then 20 columns of 20 rows.
LEAF_RUNS = [405, *[20, 20] * 19, 20, 1215]
FLOWER_RUNS = [1610, *[20, 20] * 9, 20, 410]


def coco(annotations: Any) -> Any:
    return {"images": [IMAGE], "annotations": annotations, "categories": CATEGORIES}


def picture(path: Path, size: Any = (WIDTH, HEIGHT), colour: Any = (90, 140, 60), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(str(path), **options)
    return path


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def region(shape: Any, name: str) -> Any:
    return {"shape_attributes": shape, "region_attributes": {"class": name}}


def via_shapes(closed: bool = False) -> Any:
    corners = [*LEAF, LEAF[0]] if closed else LEAF
    leaf = {"name": "polygon", "all_points_x": [x for x, _y in corners], "all_points_y": [y for _x, y in corners]}
    return [region(leaf, "leaf"), region(dict(zip(("x", "y", "width", "height"), FLOWER), name="rect"), "flower")]


def via_entry(regions: Any, name: str = NAME) -> Any:
    return {name + "123": {"filename": name, "size": 123, "regions": regions, "file_attributes": {}}}


def via_1(folder: Path) -> None:
    regions = {str(number): found for number, found in enumerate(via_shapes(closed=True))}
    write(folder / "via_region_data.json", via_entry(regions))


def via_2(folder: Path) -> None:
    write(folder / "via.json", via_entry(via_shapes()))


def via_list(folder: Path) -> None:
    write(folder / "via.json", list(via_entry(via_shapes()).values()))


def via_project(folder: Path) -> None:
    write(
        folder / "via.json", {"_via_settings": {}, "_via_img_metadata": via_entry(via_shapes()), "_via_attributes": {}}
    )


def via_csv(folder: Path) -> None:
    columns = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    rows = []
    for number, found in enumerate(via_shapes()):
        shape, attributes = ('"' + json.dumps(found[key]).replace('"', '""') + '"' for key in found)
        rows.append('{},123,"{{}}",2,{},{},{}'.format(NAME, number, shape, attributes))
    write(folder / "via.csv", "\n".join([columns, *rows]) + "\n")


def coco_json(folder: Path) -> None:
    write(folder / "annotations" / "labels.json", coco(POLYGONS))


def labelme(folder: Path) -> None:
    x, y, width, height = FLOWER
    shapes = [
        {"label": "leaf", "points": LEAF, "group_id": None, "shape_type": "polygon", "flags": {}},
        {"label": "flower", "points": [[x + width, y + height], [x, y]], "group_id": None, "shape_type": "rectangle"},
    ]
    content = {"version": "4.5.6", "shapes": shapes, "imagePath": "..\\photos\\" + NAME, "imageData": None}
    write(folder / "leaf.json", dict(content, imageHeight=HEIGHT, imageWidth=WIDTH))


def voc(folder: Path) -> None:
    boxes = [("leaf", (11, 6, 30, 25)), ("flower", (41, 11, 50, 30))]
    edges = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
    objects = [
        "<object><name>{}</name><bndbox>{}</bndbox></object>".format(name, edges.format(*box)) for name, box in boxes
    ]
    size = "<size><width>{}</width><height>{}</height><depth>3</depth></size>".format(WIDTH, HEIGHT)
    text = "<annotation><filename>{}</filename>{}{}</annotation>".format(NAME, size, "".join(objects))
    write(folder / "Annotations" / "leaf.xml", text)


def cvat(folder: Path) -> None:
    points = ";".join("{}.00,{}.00".format(*corner) for corner in LEAF)
    write(
        folder / "annotations.xml",
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task><labels>'
        "<label><name>flower</name></label><label><name>leaf</name></label></labels></task></meta>"
        '<image id="0" name="{}" width="60" height="40">'
        '<polygon label="leaf" occluded="0" points="{}" z_order="0"></polygon>'
        '<box label="flower" xtl="40.0" ytl="10.0" xbr="50.0" ybr="30.0"/>'
        "</image></annotations>".format(NAME, points),
    )


def masks() -> Any:
    """The leaf's and the flower's."""
    both = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    both[0, 5:25, 10:30] = 1
    both[1, 10:30, 40:50] = 1
    return both


def save_mask(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(str(path))


def masks_each(folder: Path) -> None:
    leaf, flower = masks()
    save_mask(folder / "masks" / "leaf" / "leaf_1.png", leaf * 255)
    save_mask(folder / "masks" / "leaf" / "flower_1.png", flower * 255)


def masks_class_folders(folder: Path) -> None:
    leaf, flower = masks()
    save_mask(folder / "masks" / "leaves" / NAME, leaf * 7)
    save_mask(folder / "masks" / "flower" / NAME, flower * 1)


def masks_values(folder: Path) -> None:
    leaf, flower = masks()
    write(folder / "classes.txt", "flower\nleaf\n")
    save_mask(folder / "masks" / NAME, leaf * 2 + flower)


def png_base64(values: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with the picture, yet without labels."""
    picture(tmp_path / "photos" / NAME)
    return tmp_path / "photos"
