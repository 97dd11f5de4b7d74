# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn data check` and `mrcnn data show`: what ruins a training is found; what is drawn is what is there."""

import json
from pathlib import Path
from typing import Any

import hand_labelled as hand
import numpy as np
import pytest
from mrcnn_workbench import dataset, geometry
from mrcnn_workbench.checking import ERROR, NOTE, WARNING, Check
from mrcnn_workbench.cli import main
from mrcnn_workbench.errors import WorkbenchError
from PIL import Image

TRAIN = ("plant1_a.png", "plant1_b.png", "plant2_a.png")
VAL = ("plant3_a.png",)


class DataSet:
    """A good data set, to be spoiled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = {}
        for half, names in (("train", TRAIN), ("val", VAL)):
            images, annotations = [], []
            for number, name in enumerate(names, 1):
                hand.picture(folder / half / name, colour=(number, len(names), 7))
                images.append(dict(hand.IMAGE, id=number, file_name=name))
                for record in hand.POLYGONS:
                    annotations.append(dict(record, id=len(annotations) + 1, image_id=number))
            info = {"group": "^plant[0-9]"}
            found = {"info": info, "images": images, "annotations": annotations, "categories": list(hand.CATEGORIES)}
            self.content[half] = json.loads(json.dumps(found))
        self.write()

    def write(self) -> None:
        for half, content in self.content.items():
            hand.write(dataset.file_of(self.folder, half), content)

    def findings(self, **options: Any) -> Any:
        """Level and text of everything that is found."""
        self.write()
        return [(finding.level, str(finding)) for finding in Check(self.folder, **options).findings]

    @property
    def train(self) -> Any:
        return self.content["train"]

    @property
    def first(self) -> Any:
        """The first label for training."""
        return self.train["annotations"][0]


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return DataSet(tmp_path / "plants")


def test_nothing_is_found_in_what_is_good(data: DataSet) -> None:
    assert data.findings() == []


BOW_TIE = [10, 10, 30, 30, 30, 10, 10, 30]
SPOILED = {
    "no outline": (lambda d: d.first.pop("segmentation"), ERROR, "no outline"),
    "empty outline": (lambda d: d.first.update(segmentation=[]), ERROR, "no outline"),
    "two points": (lambda d: d.first.update(segmentation=[[1, 2, 3, 4]]), ERROR, "3 points"),
    "a line": (lambda d: d.first.update(segmentation=[[1, 1, 2, 2, 3, 3]]), ERROR, "no area"),
    "not a number": (lambda d: d.first.update(segmentation=[[1, 1, float("nan"), 2, 3, 5]]), ERROR, "nan"),
    "outside": (lambda d: d.first.update(segmentation=[[70, 1, 90, 1, 90, 9]]), ERROR, "outside"),
    "empty mask": (lambda d: d.first.update(segmentation={"size": [40, 60], "counts": [2400]}), ERROR, "empty"),
    "other mask": (lambda d: d.first.update(segmentation={"size": [2, 2], "counts": [0, 4]}), ERROR, "2x2"),
    "over the edge": (
        lambda d: d.first.update(segmentation=[[50, 1, 80, 1, 50, 30]], bbox=[50, 1, 30, 29]),
        WARNING, "20 pixels over",
    ),
    "crossing": (
        lambda d: d.first.update(segmentation=[BOW_TIE], bbox=[10, 10, 20, 20]),
        WARNING, "crosses itself near x 20, y 20",
    ),
    "tiny": (lambda d: d.first.update(segmentation=[[1, 1, 3, 1, 3, 3]], bbox=[1, 1, 2, 2]), WARNING, "tiny: 2 pixels"),
    "box": (lambda d: d.first.update(bbox=[0, 0, 1, 1]), WARNING, "bbox"),
    "category": (lambda d: d.first.update(category_id=9), ERROR, "no category 9"),
    "image": (lambda d: d.first.update(image_id=9), ERROR, "no image 9"),
    "label ids": (lambda d: d.first.update(id=2), ERROR, "2 labels have the id 2"),
    "image ids": (lambda d: d.train["images"][0].update(id=2), ERROR, "2 images have the id 2"),
    "category ids": (lambda d: d.train["categories"][0].update(id=2), ERROR, "2 categories have the id 2"),
    "background": (lambda d: d.train["categories"][0].update(id=0), ERROR, "background"),
    "categories": (lambda d: d.train["categories"][0].update(name="bud"), ERROR, "not those of"),
    "unlabelled": (lambda d: d.train.update(annotations=d.train["annotations"][2:]), NOTE, "plant1_a.png: no labels"),
    "size": (lambda d: d.train["images"][0].update(width=61), ERROR, "it is 60x40, its labels are for 61x40"),
    "missing": (lambda d: (d.folder / "train" / TRAIN[0]).unlink(), ERROR, "missing"),
    "path": (lambda d: d.train["images"][0].update(file_name="../val/plant3_a.png"), ERROR, "not one below train"),
    "no name": (lambda d: d.train["images"][0].pop("file_name"), ERROR, "file name"),
    "no judgement": (lambda d: d.content["val"].update(images=[], annotations=[]), WARNING, "no images for val"),
    "16 bits": (
        lambda d: Image.fromarray(np.zeros((40, 60), np.uint16)).save(str(d.folder / "train" / TRAIN[0])),
        ERROR, "8-bit",
    ),
    "class": (
        lambda d: d.train.update(annotations=[a for a in d.train["annotations"] if a["category_id"] == 1]),
        ERROR, "the class leaf has no label in train",
    ),
    "judged class": (lambda d: d.content["val"]["annotations"].pop(0), WARNING, "the class leaf has no label in val"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_what_ruins_a_training_is_found(name: str, data: DataSet) -> None:
    spoil, level, words = SPOILED[name]
    spoil(data)
    found = data.findings()
    assert [(found_level, text) for found_level, text in found if found_level == level and words in text], found
    assert main(["data", "check", str(data.folder)]) == (1 if level == ERROR else 0)


def test_a_finding_names_file_and_label(data: DataSet) -> None:
    data.first.update(segmentation=[])
    assert data.findings() == [(ERROR, "train/plant1_a.png, label 1 (leaf): it has no outline")]


@pytest.mark.parametrize(("other", "words"), [("val", "half to judge by"), ("train", "half to learn from")])
def test_a_half_alone_is_missing_the_other(other: str, words: str, data: DataSet) -> None:
    del data.content[other]
    dataset.file_of(data.folder, other).unlink()
    assert words in str(data.findings())


def test_half_a_picture_is_found(data: DataSet) -> None:
    path = data.folder / "train" / TRAIN[0]
    whole = Image.fromarray((np.random.RandomState(0).rand(40, 60, 3) * 255).astype(np.uint8))
    whole.save(str(path))
    assert data.findings() == []
    path.write_bytes(path.read_bytes()[:4000])
    ((level, text),) = data.findings()
    assert level == ERROR and text.startswith("train/plant1_a.png: cannot be read")


def test_a_picture_on_its_side_is_found(data: DataSet) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = data.folder / "train" / "plant1_a.jpg"
    hand.picture(path, exif=exif.tobytes())
    data.train["images"][0]["file_name"] = path.name
    ((level, text),) = data.findings()
    assert level == ERROR and "plant1_a.jpg: EXIF" in text


def test_the_same_picture_on_both_sides_is_an_error_and_twice_on_one_a_warning(data: DataSet) -> None:
    same = (data.folder / "train" / TRAIN[0]).read_bytes()
    (data.folder / "train" / TRAIN[1]).write_bytes(same)
    assert data.findings() == [(WARNING, "train/plant1_b.png: the same picture as train/plant1_a.png")]
    (data.folder / "val" / VAL[0]).write_bytes(same)
    level, text = data.findings()[0]
    assert level == ERROR and text.startswith("val/plant3_a.png: the same picture as train/plant1_a.png")


def test_a_group_on_both_sides_is_an_error(data: DataSet) -> None:
    ((level, text),) = data.findings(group="_[a-z]")
    assert level == ERROR and text.startswith("val/plant3_a.png: of the same group (_a)")
    for half in data.content.values():
        half["info"]["group"] = "_[a-z]"
    assert len(data.findings()) == 1, "what the import was told is known"


def test_json_is_for_programs(data: DataSet, capsys: Any) -> None:
    data.first.update(segmentation=[])
    data.write()
    assert main(["data", "check", str(data.folder), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["splits"]["train"] == {"images": 3, "labels": {"flower": 3, "leaf": 3}}
    assert report["findings"] == [
        {"level": ERROR, "file": "train/plant1_a.png", "label": "label 1 (leaf)", "text": "it has no outline"}
    ]


def test_what_is_no_data_set_is_said(tmp_path: Path, capsys: Any) -> None:
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "mrcnn data import" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "gone")]) == 2
    assert "no such folder" in capsys.readouterr().err
    hand.write(dataset.file_of(tmp_path, "train"), {"images": 1})
    with pytest.raises(WorkbenchError, match=r"instances_train\.json"):
        Check(tmp_path)


def test_odd_values_are_findings_and_no_crash(data: DataSet) -> None:
    good = json.dumps(data.train)
    for kind in ("images", "annotations", "categories"):
        for key in json.loads(good)[kind][0]:
            for value in (None, -1, "x", [], {}, [[]], True, float("nan")):
                data.content["train"] = json.loads(good)
                data.train[kind][0][key] = value
                try:
                    assert isinstance(data.findings(), list)
                except WorkbenchError as error:
                    assert "instances_train.json" in str(error)


# The contact sheet


def colours(path: Path) -> Any:
    return set(map(tuple, np.asarray(Image.open(str(path)).convert("RGB")).reshape(-1, 3).tolist()))


def test_the_sheet_shows_the_labels(data: DataSet, tmp_path: Path) -> None:
    """A flower is drawn in the first colour, and only where there are flowers."""
    sheet = tmp_path / "new" / "sheet.png"
    assert main(["data", "show", str(data.folder), str(sheet)]) == 0
    orange = (0xE6, 0x9F, 0x00)
    assert orange in colours(sheet)
    legend = np.asarray(Image.open(str(sheet)).convert("RGB"))
    assert legend.shape[1] > 2000
    data.train["annotations"] = []
    data.content["val"]["annotations"] = []
    data.write()
    assert main(["data", "show", str(data.folder), str(sheet)]) == 0
    bare = (np.asarray(Image.open(str(sheet)).convert("RGB")) == orange).all(axis=-1).sum()
    assert bare < 0.5 * (legend == orange).all(axis=-1).sum(), "what is left is the legend"
    assert [path.name for path in sheet.parent.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(("most", "drawn"), [(1, 1), (2, 2), (3, 3), (9, 4)])
def test_no_more_images_are_drawn_than_asked_for(
    most: int, drawn: int, data: DataSet, tmp_path: Path, capsys: Any
) -> None:
    assert main(["data", "show", str(data.folder), str(tmp_path / "a.png"), "--count", str(most)]) == 0
    assert capsys.readouterr().out.endswith(f": {drawn} image{'s' * (drawn > 1)}\n")


def test_masks_crowds_and_odd_names_are_drawn(data: DataSet, tmp_path: Path) -> None:
    mask = np.zeros((40, 60), bool)
    mask[0:20, 0:30], mask[5:10, 5:10] = True, False
    data.train["annotations"] += [
        dict(data.first, id=100 + number, segmentation=geometry.from_mask(mask), bbox=[0, 0, 30, 20])
        for number in range(20)
    ]
    for half in data.content.values():
        half["categories"][0]["name"] = r"a $very_ \long name$ " * 20
    data.write()
    for ending in ("jpg", "pdf"):
        assert main(["data", "show", str(data.folder), str(tmp_path / f"sheet.{ending}"), "--count", "2"]) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [(["sheet.doc"], ".png"), (["sheet.png", "--split", "val"], "no images in val"), (["missing.png"], "plant1_b.png")],
)
def test_a_sheet_that_cannot_be_drawn_is_not_left_half(options: Any, words: str, data: DataSet, capsys: Any) -> None:
    if options[0] == "missing.png":
        (data.folder / "train" / TRAIN[1]).unlink()
    data.content["val"].update(images=[], annotations=[])
    data.write()
    name = str(data.folder.parent / options[0])
    assert main(["data", "show", str(data.folder), name, *options[1:]]) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in data.folder.parent.iterdir()] == ["plants"]
