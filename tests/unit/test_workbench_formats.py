# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn data import`: what it makes of each format is what was written by hand for the same picture."""

import json
import math
from pathlib import Path
from typing import Any

import hand_labelled as hand
import numpy as np
import pytest
from hand_labelled import photos  # noqa: F401 - a fixture
from mrcnn_workbench import dataset, geometry
from mrcnn_workbench.errors import BadLabelError, WorkbenchError
from mrcnn_workbench.importing import Outcome, Wishes, run
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

ALL_IN_TRAIN = Wishes(val=0)


def imported(source: Path, wishes: Any = ALL_IN_TRAIN) -> Any:
    """The data set's COCO JSON for training, but for `info`."""
    out = source.parent / "dataset"
    run(source, out, wishes._replace(force=out.exists()))
    content = json.loads(dataset.file_of(out, "train").read_text())
    del content["info"]
    return content


def via_labels(source: Path, *shapes: Any, wishes: Any = ALL_IN_TRAIN) -> Outcome:
    hand.write(source / "via.json", hand.via_entry([hand.region(shape, "leaf") for shape in shapes]))
    return run(source, source.parent / "dataset", wishes)


def annotations(source: Path) -> Any:
    return json.loads(dataset.file_of(source.parent / "dataset", "train").read_text())["annotations"]


def problem(source: Path, *shapes: Any) -> str:
    """What is said of a shape that cannot be used."""
    with pytest.raises(WorkbenchError) as caught:
        via_labels(source, *shapes)
    return str(caught.value)


WRITERS = {
    hand.via_1: hand.POLYGONS,
    hand.via_2: hand.POLYGONS,
    hand.via_list: hand.POLYGONS,
    hand.via_project: hand.POLYGONS,
    hand.via_csv: hand.POLYGONS,
    hand.coco_json: hand.POLYGONS,
    hand.labelme: hand.POLYGONS,
    hand.voc: hand.BOXES,
    hand.cvat: hand.POLYGONS,
}


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_every_format_gives_what_was_written_by_hand(writer: Any, photos: Path) -> None:
    writer(photos)
    assert imported(photos) == hand.coco(WRITERS[writer])


@pytest.mark.parametrize("writer", [hand.masks_each, hand.masks_values], ids=lambda writer: writer.__name__)
def test_masks_are_kept_to_the_pixel(writer: Any, photos: Path) -> None:
    writer(photos)
    content = imported(photos)
    names = {record["id"]: record["name"] for record in content["categories"]}
    for record in content["annotations"]:
        leaf = names[record["category_id"]] == "leaf"
        runs = {"size": [40, 60], "counts": hand.LEAF_RUNS if leaf else hand.FLOWER_RUNS}
        by_hand = coco_mask.frPyObjects(runs, 40, 60)
        assert record["segmentation"] == {"size": [40, 60], "counts": by_hand["counts"].decode()}
        assert (record["bbox"], record["area"]) == (([10, 5, 20, 20], 400) if leaf else ([40, 10, 10, 20], 200))
    assert sorted(names.values()) == ["flower", "leaf"]


def test_a_folder_of_masks_may_be_a_class(photos: Path) -> None:
    hand.masks_class_folders(photos)
    values = np.zeros((40, 60), np.uint8)
    values[0:4, 0:4], values[4:8, 0:4] = 3, 9  # they touch
    hand.save_mask(photos / "masks" / "seed" / hand.NAME, values)
    content = imported(photos)
    assert [record["name"] for record in content["categories"]] == ["flower", "leaves", "seed"]
    assert sorted(record["area"] for record in content["annotations"]) == [16, 16, 200, 400]


@pytest.mark.parametrize("writer", [*WRITERS, hand.masks_each], ids=lambda writer: writer.__name__)
def test_pycocotools_reads_it_and_a_round_trip_loses_nothing(writer: Any, photos: Path) -> None:
    writer(photos)
    first = imported(photos)
    out = photos.parent / "dataset"
    coco = COCO(str(dataset.file_of(out, "train")))
    areas = [coco.annToMask(record).sum() for record in coco.loadAnns(coco.getAnnIds())]
    assert areas == pytest.approx([record["area"] for record in first["annotations"]], rel=0.1)
    again = photos.parent / "again"
    run(out, again, Wishes())
    content = json.loads(dataset.file_of(again, "train").read_text())
    assert {key: content[key] for key in first} == first
    for record in first["annotations"]:
        assert dataset.mask_of(record, (60, 40)).sum() == coco.annToMask(record).sum()


def test_the_format_can_be_forced_where_there_are_two(photos: Path) -> None:
    hand.voc(photos)
    hand.labelme(photos)
    with pytest.raises(WorkbenchError, match="--format"):
        run(photos, photos.parent / "dataset", ALL_IN_TRAIN)
    assert imported(photos, ALL_IN_TRAIN._replace(format="labelme"))["annotations"] == hand.POLYGONS
    assert imported(photos, ALL_IN_TRAIN._replace(format="voc"))["annotations"] == hand.BOXES


# Shapes


def test_circles_and_ellipses_have_their_area(photos: Path) -> None:
    circle = {"name": "circle", "cx": 20, "cy": 20, "r": 10}
    ellipse = {"name": "ellipse", "cx": 30, "cy": 20, "rx": 15, "ry": 5}
    via_labels(photos, circle, ellipse, dict(ellipse, theta=math.pi / 2))
    round_one, flat, turned = annotations(photos)
    assert round_one["area"] == pytest.approx(math.pi * 100, rel=1e-3)
    assert round_one["bbox"] == pytest.approx([10, 10, 20, 20], abs=0.1)
    assert flat["bbox"] == pytest.approx([15, 15, 30, 10], abs=0.1)
    assert turned["bbox"] == pytest.approx([25, 5, 10, 30], abs=0.1)


def test_an_ellipse_turns_clockwise_as_people_see_it() -> None:
    (corners,) = geometry.ellipse(0, 0, 10, 1, math.pi / 4)
    farthest = corners[np.hypot(*corners.T).argmax()]
    assert farthest[0] * farthest[1] > 0, "down on the right, since y goes down"


def test_a_line_that_comes_back_is_a_polygon_and_another_is_named(photos: Path) -> None:
    closed = {"name": "polyline", "all_points_x": [10, 30, 20, 11], "all_points_y": [5, 5, 25, 6]}
    message = problem(photos, closed, dict(closed, all_points_y=[5, 5, 25, 39]))
    assert "via.json, leaf.png, region 2" in message and "not closed" in message
    via_labels(photos, closed)
    assert annotations(photos)[0]["area"] > 150


def test_a_point_is_ignored_and_said(photos: Path) -> None:
    outcome = via_labels(photos, {"name": "point", "cx": 1, "cy": 2}, hand.via_shapes()[0]["shape_attributes"])
    assert len(annotations(photos)) == 1
    assert [note.where for note in outcome.report.notes] == ["via.json, leaf.png, region 1"]


def test_what_reaches_over_the_edge_is_clipped_and_said(photos: Path) -> None:
    outcome = via_labels(photos, {"name": "polygon", "all_points_x": [50, 80, 50], "all_points_y": [0, 15, 30]})
    (record,) = annotations(photos)
    assert record["bbox"] == [50, 0, 10, 30]
    assert record["area"] == pytest.approx(450 - 200)
    assert "clipped" in outcome.report.notes[0].text


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"name": "rect", "x": 70, "y": 5, "width": 5, "height": 5}, "outside"),
        ({"name": "rect", "x": 7, "y": 5, "width": 0, "height": 5}, "no area"),
        ({"name": "rect", "x": 7, "y": 5, "height": 5}, "'width' is missing"),
        ({"name": "rect", "x": 7, "y": "far", "width": 5, "height": 5}, "'far'"),
        ({"name": "circle", "cx": 5, "cy": 5, "r": -1}, "no area"),
        ({"name": "circle", "cx": 5, "cy": float("nan"), "r": 1}, "nan"),
        ({"name": "circle", "cx": 5, "cy": 1e999, "r": 1}, "inf"),
        ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "3 points"),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "3 x for 2 y"),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2, 3]}, "on one line"),
        ({"name": "polygon", "all_points_x": 7, "all_points_y": 8}, "not as this format has it"),
        ({"name": "spiral"}, "spiral"),
    ],
)
def test_a_shape_that_cannot_be_used_is_named_with_the_reason(shape: Any, words: str, photos: Path) -> None:
    message = problem(photos, shape)
    assert "via.json, leaf.png, region 1: " in message
    assert words in message
    assert [path.name for path in photos.parent.iterdir()] == ["photos"], "nothing is left"


def test_what_is_bad_can_be_left_out(photos: Path) -> None:
    good, bad = hand.via_shapes()[0]["shape_attributes"], {"name": "spiral"}
    outcome = via_labels(photos, bad, good, wishes=ALL_IN_TRAIN._replace(skip_bad=True))
    assert len(annotations(photos)) == 1
    assert [str(problem) for problem in outcome.report.problems] == [
        "via.json, leaf.png, region 1: there is no way to read a shape called 'spiral'"
    ]


# What is peculiar to a format


def test_via_names_the_class_as_it_likes(photos: Path) -> None:
    regions = [dict(region, region_attributes={"organ": region["region_attributes"]["class"], "age": "3"})
               for region in hand.via_shapes()]  # fmt: skip
    hand.write(photos / "via.json", hand.via_entry(regions))
    with pytest.raises(WorkbenchError, match="--class-key") as caught:
        imported(photos)
    assert "organ (in 2 of 2 regions)" in str(caught.value)
    assert imported(photos, ALL_IN_TRAIN._replace(class_key="organ")) == hand.coco(hand.POLYGONS)


def test_via_without_attributes_needs_the_one_name(photos: Path) -> None:
    hand.write(photos / "via.json", hand.via_entry([dict(hand.via_shapes()[0], region_attributes={})]))
    with pytest.raises(WorkbenchError, match="--classes"):
        imported(photos)
    content = imported(photos, ALL_IN_TRAIN._replace(classes=("balloon",)))
    assert [record["name"] for record in content["categories"]] == ["balloon"]


def test_via_checkboxes_are_a_class_if_one_is_ticked(photos: Path) -> None:
    shape = hand.via_shapes()[0]
    hand.write(
        photos / "via.json", hand.via_entry([dict(shape, region_attributes={"type": {"leaf": True, "bud": False}})])
    )
    assert imported(photos)["categories"][0]["name"] == "leaf"
    hand.write(
        photos / "via.json", hand.via_entry([dict(shape, region_attributes={"type": {"leaf": True, "bud": True}})])
    )
    with pytest.raises(WorkbenchError, match="leaf and bud at once"):
        imported(photos)


def test_parts_with_one_group_are_one_object(photos: Path) -> None:
    hand.labelme(photos)
    content = json.loads((photos / "leaf.json").read_text())
    for shape in content["shapes"]:
        shape.update(label="leaf", group_id=4)
    hand.write(photos / "leaf.json", content)
    (record,) = imported(photos)["annotations"]
    assert len(record["segmentation"]) == 2
    assert (record["area"], record["bbox"]) == (400, [10, 5, 40, 25])


def test_labelme_masks_and_circles(photos: Path) -> None:
    hand.labelme(photos)
    content = json.loads((photos / "leaf.json").read_text())
    mask = {"label": "leaf", "shape_type": "mask", "points": [[10, 5], [29, 24]]}
    mask["mask"] = hand.png_base64(np.ones((20, 20)))
    circle = {"label": "leaf", "shape_type": "circle", "points": [[20, 20], [26, 28]]}
    hand.write(photos / "leaf.json", dict(content, shapes=[mask, circle]))
    box, ring = imported(photos)["annotations"]
    assert (box["area"], box["bbox"]) == (400, [10, 5, 20, 20])
    assert ring["area"] == pytest.approx(math.pi * 100, rel=1e-3)


def test_cvat_masks_ellipses_and_turned_boxes(photos: Path) -> None:
    shapes = (
        '<mask label="leaf" rle="1,2,1,4" left="10" top="5" width="4" height="2"/>'
        '<ellipse label="leaf" cx="30" cy="20" rx="15" ry="5" rotation="90"/>'
        '<box label="leaf" xtl="20" ytl="15" xbr="40" ybr="25" rotation="90"/>'
    )
    hand.cvat(photos)
    text = (photos / "annotations.xml").read_text()
    (photos / "annotations.xml").write_text(text[: text.index("<polygon")] + shapes + text[text.index("</image>") :])
    mask, ellipse, box = imported(photos)["annotations"]
    assert np.argwhere(dataset.mask_of(mask, (60, 40))).tolist() == [
        [5, 11],
        [5, 12],
        [6, 10],
        [6, 11],
        [6, 12],
        [6, 13],
    ]
    assert ellipse["bbox"] == pytest.approx([25, 5, 10, 30], abs=0.1)
    assert box["bbox"] == [25, 10, 10, 20]


def test_coco_runs_and_crowds_stay(photos: Path) -> None:
    crowd = dict(hand.annotation(1, 2, {"size": [40, 60], "counts": hand.LEAF_RUNS}, [10, 5, 20, 20], 400), iscrowd=1)
    box_only = dict(hand.FLOWER_COCO, segmentation=[])
    hand.write(photos / "labels.json", hand.coco([crowd, box_only]))
    first, second = imported(photos)["annotations"]
    assert first["iscrowd"] == 1 and first["area"] == 400
    assert second == hand.FLOWER_COCO


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [40, 60], "counts": [0, 10**9]},
        {"size": [40, 60], "counts": [2500, -100]},
        {"size": [10**6, 10**6], "counts": [0, 10**12]},
        {"size": [40, 60], "counts": "ooooooooooooooooooooo1"},
        {"size": [40, 60], "counts": "\x00\x01"},
        {"size": [40, 60], "counts": [2400]},
    ],
)
def test_runs_that_would_write_beyond_the_picture_are_refused(rle: Any, photos: Path) -> None:
    hand.write(photos / "labels.json", hand.coco([dict(hand.FLOWER_COCO, segmentation=rle)]))
    with pytest.raises(WorkbenchError, match="annotation 2"):
        imported(photos)


def test_runs_are_read_as_pycocotools_writes_them() -> None:
    masks = np.random.RandomState(0).rand(20, 30, 40) > np.linspace(0.05, 0.95, 20)[:, None, None]
    for mask in masks:
        rle = geometry.from_mask(mask)
        assert geometry.from_rle(rle) == rle
    with pytest.raises(BadLabelError):
        geometry.from_mask(masks[0] & False)


def test_a_size_that_no_picture_has_costs_no_memory(photos: Path) -> None:
    hand.cvat(photos)
    text = (photos / "annotations.xml").read_text().replace('width="60" height="40"', 'width="999999" height="999999"')
    mask = '<mask label="leaf" rle="0,4" left="0" top="0" width="2" height="2"/>'
    (photos / "annotations.xml").write_text(text.replace("</image>", mask + "</image>"))
    with pytest.raises(WorkbenchError, match="999999x999999"):
        imported(photos)
