# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn data import`: photographs found and turned, the split, the place, what is hostile."""

import io
import json
import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import hand_labelled as hand
import numpy as np
import pytest
from hand_labelled import photos  # noqa: F401 - a fixture
from mrcnn_workbench import dataset, importing
from mrcnn_workbench.cli import main
from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.importing import Outcome, Wishes, run
from mrcnn_workbench.splitting import split
from PIL import Image

ORIENTATION = 0x0112


def out_of(source: Path) -> Path:
    return source.parent / "dataset"


def imported(source: Path, **wishes: Any) -> Outcome:
    return run(source, out_of(source), Wishes(**wishes))


def fails(source: Path, **wishes: Any) -> str:
    """The import has to fail and to leave nothing behind."""
    before = sorted(source.parent.rglob("*"))
    with pytest.raises(WorkbenchError) as caught:
        imported(source, **wishes)
    assert sorted(source.parent.rglob("*")) == before
    return str(caught.value)


def content(source: Path, half: str = "train") -> Any:
    return json.loads(dataset.file_of(out_of(source), half).read_text())


def names(source: Path, half: str) -> Any:
    """The images of a half, all of which have to be there and nothing else."""
    listed = [image["file_name"] for image in content(source, half)["images"]]
    folder = out_of(source) / half
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == sorted(listed)
    return listed


def labelled(folder: Path, *files: str, name: str = "via.json") -> Path:
    """VIA's labels of several files, by the names that it is given."""
    entries = {}
    for file in files:
        entries.update(hand.via_entry(hand.via_shapes(), file))
    return hand.write(folder / name, entries)


# Names


@pytest.mark.parametrize(
    "written",
    ["plots/one/a.jpg", "C:\\Users\\ada\\plots\\one\\a.jpg", "/home/ada/plots/one/a.jpg", "../one/a.jpg", "one/A.JPG"],
)
def test_a_name_means_the_picture_with_the_most_folders_in_common(tmp_path: Path, written: str) -> None:
    photos = tmp_path / "photos"
    hand.picture(photos / "one" / "a.jpg", colour=(255, 0, 0))
    hand.picture(photos / "two" / "a.jpg", colour=(0, 0, 255))
    labelled(photos, written)
    imported(photos, val=0)
    assert names(photos, "train") == ["one/a.jpg"]
    assert Image.open(str(out_of(photos) / "train" / "one" / "a.jpg")).getpixel((0, 0))[0] > 200


def test_a_name_that_means_two_pictures_is_refused(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    hand.picture(photos / "one" / "a.jpg")
    hand.picture(photos / "two" / "a.jpg")
    labelled(photos, "a.jpg")
    message = fails(photos)
    assert "one/a.jpg" in message and "two/a.jpg" in message


def test_upper_and_lower_case_differ_only_where_they_have_to(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    hand.picture(photos / "a.jpg")
    hand.picture(photos / "A.JPG", colour=(1, 2, 3))
    labelled(photos, "a.jpg", "A.JPG")
    imported(photos, val=0)
    # On a disk that takes both for one, neither is lost.
    assert {name.lower() for name in names(photos, "train")} == {"a.jpg", "a-2.jpg"}
    labelled(photos, "A.jpg")
    shutil.rmtree(str(out_of(photos)))
    assert "2 files" in fails(photos)


def test_a_missing_picture_is_named_and_a_similar_one_proposed(photos: Path) -> None:
    labelled(photos, "leaf.jpg", "gone.jpg", hand.NAME)
    message = fails(photos)
    assert "leaf.jpg: there is no such picture" in message and "is it leaf.png?" in message
    assert "via.json, gone.jpg: there is no such picture" in message
    assert len(imported(photos, val=0, skip_bad=True).report.problems) == 2
    assert names(photos, "train") == [hand.NAME]


def test_photographs_may_lie_elsewhere(photos: Path) -> None:
    labels = photos.parent / "labels"
    labelled(labels, hand.NAME)
    assert hand.NAME in fails(labels)
    imported(labels, val=0, images=photos)
    assert names(labels, "train") == [hand.NAME]


def test_a_photograph_that_is_labelled_twice_is_named(photos: Path) -> None:
    labelled(photos, hand.NAME)
    labelled(photos, hand.NAME, name="again.json")
    message = fails(photos)
    assert "again.json, leaf.png" in message and "via.json, leaf.png" in message


def test_photographs_without_any_label_are_no_data_set(photos: Path) -> None:
    hand.write(photos / "via.json", hand.via_entry([]))
    assert "1 photograph, but no label" in fails(photos)


def test_labels_for_another_size_are_refused(photos: Path) -> None:
    hand.picture(photos / hand.NAME, size=(30, 20))
    hand.labelme(photos)
    message = fails(photos)
    assert "60x40" in message and "30x20" in message and "leaf.json" in message


def test_a_damaged_picture_is_named(photos: Path) -> None:
    labelled(photos, hand.NAME, "empty.jpg", "text.jpg")
    hand.write(photos / "text.jpg", "not a picture")
    hand.write(photos / "empty.jpg", "")
    message = fails(photos)
    assert "empty.jpg: the file is empty" in message and "text.jpg: no picture" in message


# Turned pictures


def sideways(path: Path, orientation: int = 6) -> None:
    """A picture 40 wide and 60 high as people see it, its upper half red, that lies on its side in the file."""
    upright = np.zeros((60, 40, 3), np.uint8)
    upright[:30, :, 0], upright[30:, :, 2] = 255, 255
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    turn = {6: Image.ROTATE_90, 8: Image.ROTATE_270, 3: Image.ROTATE_180}[orientation]
    Image.fromarray(upright).transpose(turn).save(str(path), exif=exif.tobytes(), quality=95)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_picture_is_turned_as_people_see_it(tmp_path: Path, orientation: int) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    sideways(photos / "leaf.jpg", orientation)
    hand.write(photos / "via.json", hand.via_entry(hand.via_shapes()[:1], "leaf.jpg"))
    outcome = imported(photos, val=0)
    image = Image.open(str(out_of(photos) / "train" / "leaf.jpg"))
    assert image.size == (40, 60)
    assert image.getpixel((5, 5))[0] > 200 and image.getpixel((5, 55))[2] > 200
    assert ORIENTATION not in image.getexif()
    assert (content(photos)["images"][0]["width"], content(photos)["images"][0]["height"]) == (40, 60)
    assert "leaf.jpg: " in "\n".join(map(str, outcome.report.notes))


def test_a_picture_whose_labels_are_for_it_as_it_lies_is_not_turned(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    sideways(photos / hand.NAME.replace("png", "jpg"))
    hand.labelme(photos)  # for 60x40, as the pixels lie
    text = (photos / "leaf.json").read_text().replace("leaf.png", "leaf.jpg")
    (photos / "leaf.json").write_text(text)
    imported(photos, val=0)
    image = Image.open(str(out_of(photos) / "train" / "leaf.jpg"))
    assert image.size == (60, 40)
    assert ORIENTATION not in image.getexif()
    assert content(photos)["annotations"][0]["segmentation"] == hand.POLYGONS[0]["segmentation"]


def test_other_pictures_are_copied_to_the_byte(photos: Path) -> None:
    labelled(photos, hand.NAME)
    imported(photos, val=0)
    assert (out_of(photos) / "train" / hand.NAME).read_bytes() == (photos / hand.NAME).read_bytes()


# The split


def many(folder: Path, plants: int = 5, each: int = 4) -> Path:
    for plant in range(plants):
        for number in range(each):
            hand.picture(folder / f"plant{plant}_{number}.png", colour=(plant, number, 9))
    labelled(folder, *(path.name for path in folder.glob("*.png")))
    return folder


def test_the_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    photos = many(tmp_path / "photos")
    imported(photos)
    first = names(photos, "val")
    assert len(first) == 4 and len(names(photos, "train")) == 16
    imported(photos, force=True)
    assert names(photos, "val") == first
    imported(photos, seed=1, force=True)
    assert names(photos, "val") != first


def test_a_group_stays_together(tmp_path: Path) -> None:
    photos = many(tmp_path / "photos")
    for seed in range(5):
        imported(photos, group="^plant([0-9])", val=0.4, seed=seed, force=True)
        halves = [{name[:6] for name in names(photos, half)} for half in dataset.SPLITS]
        assert not halves[0] & halves[1]
        assert len(halves[1]) == 2


def test_neither_half_is_empty_and_added_photographs_hardly_move_others() -> None:
    for number in range(2, 12):
        for fraction in (0.01, 0.2, 0.99):
            assert set(split([str(n) for n in range(number)], fraction, 0, "").values()) == {"train", "val"}
    assert set(split(["a", "b"], 0, 0, "").values()) == {"train"}
    assert set(split(["a", "b"], 1, 0, "").values()) == {"val"}


def test_photographs_only_to_judge_by(tmp_path: Path) -> None:
    source = many(tmp_path / "photos")
    outcome = imported(source, val=1)
    assert outcome.images["val"] > 0 and list(outcome.labels) == ["val"]
    assert list(dataset.read(out_of(source))) == ["val"]
    assert split(["a"], 0.5, 0, "") == {"a": "train"}
    before = split([f"{n}.jpg" for n in range(100)], 0.2, 0, "")
    after = split([f"{n}.jpg" for n in range(110)], 0.2, 0, "")
    assert sum(before[name] != after[name] for name in before) <= 5


@pytest.mark.parametrize(
    ("wishes", "words"),
    [({"group": "("}, "regular expression"), ({"group": "plant"}, "one group"), ({"val": 1.1}, "--val"),
     ({"val": -0.1}, "--val"), ({"classes": ("root",)}, "there are flower, leaf"), ({"format": "coco"}, "not COCO")],
)  # fmt: skip
def test_wishes_that_cannot_be_met(tmp_path: Path, wishes: Any, words: str) -> None:
    assert words in fails(many(tmp_path / "photos"), **wishes)


def test_a_source_that_is_split_stays_so_unless_another_split_is_asked_for(tmp_path: Path) -> None:
    photos = tmp_path / "balloon"
    for half, number in (("train", 3), ("val", 2)):
        for n in range(number):
            hand.picture(photos / half / f"{n}.png", colour=(n, number, 0))
        labelled(photos / half, *(f"{n}.png" for n in range(number)), name="via_region_data.json")
    imported(photos)
    assert names(photos, "train") == ["0.png", "1.png", "2.png"]
    assert names(photos, "val") == ["0.png", "1.png"]
    imported(photos, val=0.4, force=True)
    assert len(names(photos, "train")) == 3 and len(names(photos, "val")) == 2
    pictures = list(out_of(photos).rglob("*.png"))
    assert len({path.read_bytes() for path in pictures}) == len(pictures) == 5, "none has taken the place of another"


def test_cocos_own_layout_is_split_by_the_files_names(tmp_path: Path) -> None:
    source = tmp_path / "coco"
    for half in ("train2017", "val2017"):
        hand.picture(source / half / hand.NAME, colour=(len(half), 0, 0))
        hand.write(source / "annotations" / f"instances_{half}.json", hand.coco(hand.POLYGONS))
    imported(source)
    for half in dataset.SPLITS:
        assert names(source, half) == [hand.NAME]
        copied = out_of(source) / half / hand.NAME
        assert copied.read_bytes() == (source / f"{half}2017" / hand.NAME).read_bytes()


def test_classes_are_kept_in_the_order_that_is_asked_for(photos: Path) -> None:
    labelled(photos, hand.NAME)
    outcome = imported(photos, val=0, classes=("leaf",))
    assert outcome.left_out == 1
    assert content(photos)["categories"] == [{"id": 1, "name": "leaf", "supercategory": ""}]
    assert [record["category_id"] for record in content(photos)["annotations"]] == [1]


# The place


def test_what_is_there_is_not_replaced_unasked(photos: Path) -> None:
    labelled(photos, hand.NAME)
    imported(photos, val=0)
    assert "--force" in fails(photos)
    (out_of(photos) / "mine.txt").touch()
    imported(photos, val=0, force=True)
    assert not (out_of(photos) / "mine.txt").exists()


def test_what_is_no_data_set_of_ours_is_never_replaced(photos: Path, tmp_path_factory: Any) -> None:
    labelled(photos, hand.NAME)
    home = out_of(photos)
    hand.write(home / "thesis.tex", "all of it")
    assert "not even --force" in fails(photos, force=True)
    hand.write(dataset.file_of(home, "train"), hand.coco([]))
    assert "not even --force" in fails(photos, force=True), "it looks like one, but somebody else has made it"
    shutil.rmtree(str(home))
    home.symlink_to(tmp_path_factory.mktemp("elsewhere"))
    assert "not even --force" in fails(photos, force=True)


@pytest.mark.parametrize("out", ["photos", "photos/dataset", "."])
def test_the_data_set_is_neither_in_the_source_nor_round_it(photos: Path, out: str) -> None:
    labelled(photos, hand.NAME)
    hand.write(dataset.file_of(photos.parent, "train"), "{}")
    hand.write(dataset.file_of(photos, "train"), "{}")
    with pytest.raises(WorkbenchError, match="beside"):
        run(photos, photos.parent / out, Wishes(force=True, format="via"))
    assert (photos / hand.NAME).is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_import_that_breaks_off_leaves_what_was_there(
    photos: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled(photos, hand.NAME)
    imported(photos, val=0)
    before = {path: path.stat().st_mtime_ns for path in photos.parent.rglob("*")}

    def broken(*_arguments: Any) -> None:
        raise error

    monkeypatch.setattr(importing.dataset, "write", broken)
    with pytest.raises((KeyboardInterrupt, WorkbenchError)):
        imported(photos, val=0, force=True)
    assert {path: path.stat().st_mtime_ns for path in photos.parent.rglob("*")} == before


# Hostile and broken files


def test_nothing_outside_the_folder_is_read_or_written(photos: Path) -> None:
    secret = hand.picture(photos.parent / "secret.png")
    coco = hand.coco([hand.FLOWER_COCO])
    for name in ("../secret.png", str(secret), "../../../../etc/secret.png"):
        hand.write(photos / "labels.json", dict(coco, images=[dict(hand.IMAGE, file_name=name)]))
        assert "there is no such picture" in fails(photos)
    hand.write(photos / "labels.json", dict(coco, images=[dict(hand.IMAGE, file_name="../../photos/leaf.png")]))
    imported(photos, val=0)
    assert names(photos, "train") == ["leaf.png"]


def test_xml_with_entities_is_refused(photos: Path) -> None:
    bomb = "<!DOCTYPE a [" + "<!ENTITY a 'aaaaaaaaaa'>" + "".join(
        f"<!ENTITY {new} '{'&' + old + ';' * 1}{('&' + old + ';') * 9}'>" for old, new in zip("abcdefgh", "bcdefghi")
    )  # fmt: skip
    for inside in (bomb, "<!DOCTYPE a [<!ENTITY i SYSTEM 'file:///etc/passwd'>"):
        hand.write(photos / "a.xml", inside + "]><annotation><filename>&i;</filename></annotation>")
        assert "entities" in fails(photos)


def test_broken_files_are_named_with_the_place(photos: Path) -> None:
    hand.via_2(photos)
    text = json.dumps(json.loads((photos / "via.json").read_text()), indent=1)
    (photos / "via.json").write_text(text[: len(text) // 2])
    message = fails(photos)
    assert "via.json, line " in message and "cut off" in message
    (photos / "via.json").write_text(text.replace("regions", 'regi"ons'))
    message = fails(photos)
    assert "line 5 column" in message and "cut off" not in message
    (photos / "via.json").write_text("[" * 100000)
    assert "via.json" in fails(photos)
    (photos / "via.json").write_bytes(b'{"a": "\xff"}')
    assert "UTF-8" in fails(photos)
    (photos / "via.json").rename(photos / "via.xml")
    hand.write(photos / "via.xml", "<annotation>\n<filename>x</annotation>")
    assert "line 2" in fails(photos)
    hand.write(photos / "via.xml", "")
    assert "empty" in fails(photos)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("labels.json", '{"config": {}, "file": {}, "metadata": {}}', "VIA 3"),
        ("labels.json", '[{"image_id": 1, "bbox": [], "score": 1}]', "no known format"),
        ("labels.csv", "a;b;c\n1;2;3\n", "columns a, b, c"),
        ("labels.xml", "<svg/>", "<svg>"),
        ("labels.xml", '<annotations><track id="0"/></annotations>', "video"),
        ("labels.json", "PK\3\4", "zip"),
    ],
)
def test_a_file_of_another_kind_is_told_by_what_it_looks_like(photos: Path, name: str, text: str, words: str) -> None:
    hand.write(photos / name, text)
    assert words in fails(photos)
    with pytest.raises(WorkbenchError) as caught:
        run(photos / name, out_of(photos), Wishes())
    assert words in str(caught.value)


def test_a_picture_that_claims_to_be_huge_is_not_opened(photos: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    file.seek(8)
    file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)))
    file.write(chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))
    (photos / hand.NAME).write_bytes(file.getvalue())
    labelled(photos, hand.NAME)
    assert "leaf.png: cannot be read" in fails(photos)


def test_odd_values_are_problems_and_no_crash(photos: Path) -> None:
    """Every value of good files, exchanged for others: an import works or says what is wrong."""
    odd: Any = [None, -1, 1e308, "x", [], {}, [[]], True, float("inf")]
    for writer in (hand.via_2, hand.coco_json, hand.labelme):
        writer(photos)
        (path,) = [file for file in photos.rglob("*.json") if file.name != "classes.txt"]
        good = path.read_text()
        for place in range(len(_places(json.loads(good)))):
            for value in odd:
                changed = json.loads(good)
                container, key = _places(changed)[place]
                container[key] = value
                path.write_text(json.dumps(changed))
                try:
                    imported(photos, val=0, force=True)
                except WorkbenchError as error:
                    assert str(error)
        path.unlink()


def _places(value: Any) -> Any:
    """Every place in JSON: what holds a value, and its key there."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    found = [(value, key) for key in keys]
    return found + [place for key in keys for place in _places(value[key])]


# The command


def test_the_command_says_what_it_made_and_what_it_noticed(photos: Path, capsys: Any) -> None:
    regions = [*hand.via_shapes(), hand.region({"name": "point", "cx": 1, "cy": 1}, "leaf")]
    hand.write(photos / "via.json", hand.via_entry(regions))
    assert main(["data", "import", str(photos), str(out_of(photos)), "--val", "0"]) == 0
    said = capsys.readouterr().out
    assert "1 image, flower 1, leaf 1" in said and "region 3" in said and "mrcnn data check" in said
    assert main(["data", "import", str(photos), str(out_of(photos))]) == 2
    assert capsys.readouterr().err.startswith("mrcnn: ")
    assert main(["data", "import", str(photos / "nowhere"), str(out_of(photos) / "x")]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["data"], ["data", "import", "--help"], ["data", "check", "--help"]])
def test_help(arguments: Any, capsys: Any) -> None:
    if "--help" in arguments:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    else:
        assert main(arguments) == 2
    assert "usage: mrcnn" in capsys.readouterr().out


def test_others_may_read_it_as_any_folder(tmp_path: Path) -> None:
    source = many(tmp_path / "photos")
    imported(source)
    mask = os.umask(0)
    os.umask(mask)
    assert oct(out_of(source).stat().st_mode & 0o777) == oct(0o777 & ~mask)
