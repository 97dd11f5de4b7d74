# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Detecting in many images: nothing is lost, done twice or mixed, whoever is interrupted and whoever is the last.

A function stands in for the model: it takes what is bright for leaves.
"""

import argparse
import csv
import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, List

import hand_labelled as hand
import numpy as np
import pytest
from mrcnn_workbench import detection, geometry, photographs, results, settings
from mrcnn_workbench.cli import main
from mrcnn_workbench.detection import Job, Part
from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.models import Model
from mrcnn_workbench.photographs import PictureError
from mrcnn_workbench.progress import Journal
from mrcnn_workbench.results import Found
from mrcnn_workbench.verbs import detect as verb
from PIL import Image

ORIENTATION = 0x0112
NAMES = ("a/1.png", "a/2.png", "b/1.png", "b/deep/1.jpg", "b/deep/2.png")


def photo(path: Path, side: str = "", **options: Any) -> Path:
    """Dark, with a bright box in its left upper corner, 20x10 pixels; lying on its `side`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:10, :20] = 255
    image = Image.fromarray(pixels)
    if side:
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        image, options = image.transpose(Image.ROTATE_90), dict(options, exif=exif.tobytes(), quality=95)
    image.save(str(path), **options)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in NAMES:
        photo(tmp_path / "photos" / name, side="left" if name.endswith("jpg") else "")
    return tmp_path / "photos"


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = tmp_path / "weights.h5"
    path.write_text("weights")
    wanted = settings.checked({"data": "dataset"}, "here")
    return Model("m", wanted, ["background", "flower", "leaf"], [0, 1, 2], path)


class Bright:
    """Stands in for a model. Counts its images, and fails after some."""

    def __init__(self, batch: int = 1, fails_after: int = 99, error: Any = KeyboardInterrupt) -> None:
        self.batch, self.fails_after, self.error = batch, fails_after, error
        self.seen, self.made, self.largest = 0, 0, 0

    def make(self) -> Any:
        self.made += 1
        return self, self.batch

    def __call__(self, images: Any) -> List[List[Found]]:
        self.largest = max(self.largest, len(images))
        self.seen += len(images)
        if self.seen > self.fails_after:
            raise self.error
        return [self.objects(image) for image in images]

    def objects(self, image: Any) -> List[Found]:
        mask = image.min(axis=-1) > 128
        if not mask.any():
            return []
        rle = geometry.from_mask(mask)
        box = [int(edge) for edge in geometry.bounds(rle)]
        return [Found(2, 0.9, box, rle), Found(1, 0.6, box, rle)]


def job(photos: Any, model: Model, out: str = "out", **options: Any) -> Job:
    found = detection.search([str(photos)])
    wanted = dict({"min_score": 0.5, "only": [], "pictures": False}, **options)
    return Job(photos.parent / out, detection.plan_of(model, found, **wanted))


def run(one: Job, bright: Bright, part: Part = Part(), force: bool = False) -> Any:  # noqa: B008 - it does not change
    return one(part, bright.make, Journal(), force)


def rows(out: Path) -> Any:
    with (out / results.TABLE).open(newline="", encoding="utf-8") as file:
        return [(row["file"], row["class"], row["x"], row["width"]) for row in csv.DictReader(file)]


def lines(out: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in (out / detection.PARTS).iterdir())


# One process


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
def test_every_image_is_done_once_in_steps_of_any_size(batch: int, photos: Path, model: Model, tmp_path: Path) -> None:
    bright = Bright(batch)
    outcome = run(job(photos, model), bright)
    assert (outcome.images, outcome.left, outcome.objects) == (5, 0, {"flower": 5, "leaf": 5})
    assert bright.seen == 5 and bright.largest == min(batch, 5)
    assert [row[0] for row in rows(tmp_path / "out")] == [name for name in NAMES for _class in "fl"]


def test_pictures_lie_as_the_images_do(photos: Path, model: Model, tmp_path: Path) -> None:
    photo(photos / "a" / "1.tif")
    run(job(photos, model, pictures=True), Bright())
    folder = tmp_path / "out" / detection.PICTURES
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == [
        "a/1.png.jpg", "a/1.tif.jpg", "a/2.jpg", "b/1.jpg", "b/deep/1.jpg", "b/deep/2.jpg",
    ]  # fmt: skip


def test_a_photograph_on_its_side_is_turned_and_the_results_say_so(photos: Path, model: Model, tmp_path: Path) -> None:
    assert Image.open(str(photos / "b/deep/1.jpg")).size == (40, 60)
    outcome = run(job(photos, model), Bright())
    assert outcome.turned == 1
    images = json.loads((tmp_path / "out" / results.IMAGES).read_text())["images"]
    assert [(image["width"], image["height"]) for image in images] == [(60, 40)] * 5
    assert [image["turned"] for image in images] == [False, False, False, True, False]
    assert {row[2:] for row in rows(tmp_path / "out")} == {("0", "20")}, "the box is where people see it"


def test_only_some_classes(photos: Path, model: Model, tmp_path: Path) -> None:
    outcome = run(job(photos, model, only=["leaf"]), Bright())
    assert outcome.objects == {"leaf": 5} and outcome.empty == 0
    assert [row[1] for row in rows(tmp_path / "out")] == ["leaf"] * 5
    with pytest.raises(WorkbenchError, match="does not know root; it knows flower, leaf"):
        job(photos, model, only=["leaf", "root"])


def test_what_cannot_be_read_is_named_and_tried_again_next_time(
    photos: Path, model: Model, tmp_path: Path, capsys: Any
) -> None:
    (photos / "a" / "2.png").write_bytes((photos / "a" / "2.png").read_bytes()[:70])
    (photos / "b" / "deep" / "2.png").write_bytes(b"")
    for batch in (1, 2):
        outcome = run(job(photos, model, out="out{}".format(batch)), Bright(batch))
        assert len(outcome.broken) == 2 and "2.png: the file is empty" in outcome.broken[1]
        assert outcome.left == 0 and outcome.objects["leaf"] == 3
        assert "2.png: cannot be read" in capsys.readouterr().out
    images = json.loads((tmp_path / "out1" / results.IMAGES).read_text())
    assert [entry["file_name"] for entry in images["info"]["unreadable"]] == ["a/2.png", "b/deep/2.png"]
    photo(photos / "a" / "2.png")
    bright = Bright()
    outcome = run(job(photos, model, out="out1"), bright)
    assert len(outcome.broken) == 1 and bright.seen == 1 and outcome.objects["leaf"] == 4


def test_images_without_objects_are_no_mistake(tmp_path: Path, model: Model) -> None:
    hand.picture(tmp_path / "photos" / "dark.png", colour=(0, 0, 0))
    outcome = run(job(tmp_path / "photos", model, pictures=True), Bright())
    assert (outcome.empty, outcome.objects, outcome.broken) == (1, {}, [])
    assert json.loads((tmp_path / "out" / results.RESULTS).read_text()) == []


# Interrupted


@pytest.mark.parametrize("batch", [1, 2])
def test_it_goes_on_where_it_was_interrupted(batch: int, photos: Path, model: Model, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(job(photos, model), Bright(batch, fails_after=2))
    assert lines(tmp_path / "out") == 2 and not (tmp_path / "out" / results.RESULTS).exists()
    bright = Bright(batch)
    assert run(job(photos, model), bright).left == 0
    assert bright.seen == 3 and lines(tmp_path / "out") == 5
    bright = Bright()
    assert run(job(photos, model), bright).objects["leaf"] == 5
    assert bright.made == 0, "nothing is left to do"


def test_a_line_that_was_cut_off_is_written_anew(photos: Path, model: Model, tmp_path: Path) -> None:
    run(job(photos, model), Bright())
    whole = rows(tmp_path / "out")
    path = tmp_path / "out" / detection.PARTS / "1-of-1.jsonl"
    text = path.read_text()
    for cut in (1, 30, len(text.splitlines()[-1])):
        path.write_text(text[:-cut])
        bright = Bright()
        run(job(photos, model), bright)
        assert bright.seen == 1 and rows(tmp_path / "out") == whole
        assert len(list(map(json.loads, path.read_text().splitlines()))) == 5


def test_a_model_that_cannot_be_had_leaves_no_trace_that_binds(photos: Path, model: Model) -> None:
    (photos / "a" / "1.png").write_bytes(b"")

    def no_model() -> Any:
        raise WorkbenchError("no weights")

    with pytest.raises(WorkbenchError, match="no weights"):
        job(photos, model)(Part(), no_model, Journal())
    assert run(job(photos, model, min_score=0.9), Bright()).left == 0


def test_on_a_full_disk_it_stops_and_goes_on_later(photos: Path, model: Model, tmp_path: Path) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            return len(data) // 2

    run(job(photos, model), Bright(), Part(1, 2))
    one = job(photos, model)
    with pytest.raises(WorkbenchError, match="is the disk full"):
        one._note(Full(), 0, error="x")  # type: ignore[arg-type]
    (tmp_path / "out" / results.TABLE).mkdir()
    with pytest.raises(WorkbenchError, match="cannot be written"):
        run(one, Bright())
    (tmp_path / "out" / results.TABLE).rmdir()
    bright = Bright()
    run(one, bright)
    assert bright.seen == 0 and len(rows(tmp_path / "out")) == 10


# Not mixed


CHANGES = {
    "score": ({"min_score": 0.9}, "--min-score: 0.5 before, 0.9 now"),
    "classes": ({"only": ["leaf"]}, "--classes"),
    "pictures": ({"pictures": True}, "--no-pictures"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_results_of_other_options_are_not_mixed(name: str, photos: Path, model: Model, tmp_path: Path) -> None:
    options, words = CHANGES[name]
    with pytest.raises(KeyboardInterrupt):
        run(job(photos, model), Bright(fails_after=2))
    other = job(photos, model, **options)
    with pytest.raises(WorkbenchError, match=words):
        run(other, Bright())
    bright = Bright()
    outcome = run(other, bright, force=True)
    assert outcome.left == 0 and bright.seen == 5, "nothing of before is kept"
    assert lines(tmp_path / "out") == 5


def test_other_weights_and_other_images_are_not_mixed(photos: Path, model: Model, tmp_path: Path) -> None:
    run(job(photos, model, pictures=True), Bright())
    model.weights.write_text("other weights")
    with pytest.raises(WorkbenchError, match="the weights have changed; "):
        run(job(photos, model, pictures=True), Bright())
    model.weights.write_text("weights")
    os.utime(str(model.weights), (1, 1))
    with pytest.raises(WorkbenchError, match="the weights have changed; "):
        run(job(photos, model, pictures=True), Bright())
    run(job(photos, model, pictures=True), Bright(), force=True)
    photo(photos / "c.png")
    (photos / "a" / "1.png").unlink()
    with pytest.raises(WorkbenchError, match="1 new and 1 gone of the images"):
        run(job(photos, model, pictures=True), Bright())
    run(job(photos, model, pictures=True), Bright(), force=True)
    pictures = tmp_path / "out" / detection.PICTURES
    assert (pictures / "c.jpg").exists() and not (pictures / "a" / "1.jpg").exists()


def test_force_removes_nothing_that_is_not_its_own(photos: Path, model: Model, tmp_path: Path) -> None:
    run(job(photos, model, pictures=True), Bright())
    own = tmp_path / "out" / "notes.txt"
    own.write_text("mine")
    run(job(photos, model, min_score=0.7), Bright(), force=True)
    assert own.read_text() == "mine"
    assert not list((tmp_path / "out").rglob("*.jpg"))


# Parts


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_whoever_is_the_last_writes_the_results(order: Any, photos: Path, model: Model, tmp_path: Path) -> None:
    left, seen = [], 0
    for number in order:
        assert not (tmp_path / "out" / results.RESULTS).exists()
        bright = Bright()
        left.append(run(job(photos, model), bright, Part(number, 3)).left)
        seen += bright.seen
    assert left[-1] == 0 and left[0] > left[1] > 0 and seen == 5
    run(job(photos, model, out="alone"), Bright())
    for name in (results.RESULTS, results.TABLE, results.IMAGES):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "alone" / name).read_text()


def test_the_rest_of_a_part_that_failed_is_done_without_parts(photos: Path, model: Model, tmp_path: Path) -> None:
    assert run(job(photos, model), Bright(), Part(1, 2)).left == 2
    with pytest.raises(KeyboardInterrupt):
        run(job(photos, model), Bright(fails_after=1), Part(2, 2))
    bright = Bright()
    assert run(job(photos, model), bright).left == 0 and bright.seen == 1
    assert len(rows(tmp_path / "out")) == 10


def test_more_parts_than_images(photos: Path, model: Model) -> None:
    assert run(job(photos, model), Bright(), Part(7, 8)).left == 5


def test_parts_at_once_finish_at_once_and_the_results_are_whole(photos: Path, model: Model, tmp_path: Path) -> None:
    for number in range(20):
        photo(photos / "more" / "{}.png".format(number))
    outcomes: List[Any] = []
    threads = [
        threading.Thread(target=lambda part=part: outcomes.append(run(job(photos, model), Bright(), part)))
        for part in [*(Part(number, 4) for number in range(1, 5)), Part()]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 5 and min(outcome.left for outcome in outcomes) == 0
    assert len(rows(tmp_path / "out")) == 50, "images that two have done count once"


def test_a_part_is_not_done_by_two_at_once(photos: Path, model: Model, tmp_path: Path) -> None:
    run(job(photos, model), Bright(), Part(1, 2))
    with (tmp_path / "out" / detection.PARTS / "1-of-2.jsonl").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(WorkbenchError, match="somebody is detecting part 1 of 2"):
            run(job(photos, model), Bright(), Part(1, 2))
        with pytest.raises(WorkbenchError, match="somebody is detecting there"):
            run(job(photos, model, min_score=0.9), Bright(), force=True)
        run(job(photos, model), Bright(), Part(2, 2))


def test_a_process_that_is_killed_holds_nothing(photos: Path, model: Model, tmp_path: Path) -> None:
    run(job(photos, model), Bright(), Part(1, 2))
    path = tmp_path / "out" / detection.PARTS / "1-of-2.jsonl"
    code = "import fcntl, os, sys; fcntl.flock(open(sys.argv[1], 'a'), fcntl.LOCK_EX); os.kill(os.getpid(), 9)"
    subprocess.call([sys.executable, "-c", code, str(path)])
    assert run(job(photos, model), Bright(), Part(1, 2)).left == 2


# Images


def test_files_folders_and_patterns_mean_images(photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    for folder in ("masks", ".hidden", "b/masks"):
        photo(photos / folder / "no.png")
    (photos / "a" / "notes.txt").write_text("no picture")
    names = list(map(str, detection.search([str(photos)])[1]))
    assert names == list(NAMES)
    monkeypatch.chdir(str(tmp_path))
    root, found = detection.search(["photos/a/1.png", "photos/*/1.png", "photos/b/deep"])
    assert (root, list(map(str, found))) == (photos, ["a/1.png", "b/1.png", "b/deep/1.jpg", "b/deep/2.png"])
    root, found = detection.search(["photos/a/2.png"])
    assert (root, list(map(str, found))) == (photos / "a", ["2.png"])
    assert len(detection.search(["photos/**/1.*"])[1]) == 3
    assert list(map(str, detection.search(["photos/masks"])[1])) == ["no.png"], "where they are named, they are meant"


@pytest.mark.parametrize("name", ["gone", "gone/*.jpg", "empty", "photos/a/*.txt"])
def test_what_means_no_image_is_named(name: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (photos / "a" / "notes.txt").write_text("no picture")
    with pytest.raises(WorkbenchError, match=name.replace("*", r"\*")):
        detection.search([str(photos), str(tmp_path / name)])


def test_what_was_drawn_is_not_detected_in(photos: Path, model: Model) -> None:
    one = job(photos, model, pictures=True)
    one.out = photos / "found"
    run(one, Bright())
    assert len(detection.search([str(photos)])[1]) == 5


MODES = {"L": 3, "RGBA": 4, "P": 1, "1": 1}


@pytest.mark.parametrize("mode", MODES)
def test_grey_palettes_and_transparency_are_read_as_colours(mode: str, tmp_path: Path) -> None:
    with Image.open(str(photo(tmp_path / "photo.png"))) as image:
        image.convert(mode).save(str(tmp_path / "other.png"))
    pixels = photographs.read(tmp_path / "other.png")
    assert pixels.dtype == np.uint8
    assert (pixels == photographs.read(tmp_path / "photo.png")).all()


def test_what_would_be_read_wrongly_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(str(tmp_path / "deep.png"))
    photo(tmp_path / "photo.png")
    Image.open(str(tmp_path / "photo.png")).convert("CMYK").save(str(tmp_path / "print.jpg"))
    for name, words in (("deep.png", "8-bit"), ("print.jpg", "CMYK"), ("gone.png", "No such file")):
        with pytest.raises(PictureError, match=words):
            photographs.read(tmp_path / name)


# The command


def test_a_part_by_the_job_array(monkeypatch: Any) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no job of an array"):
        verb._part("slurm")
    for name, value in (("ID", 14), ("MIN", 10), ("STEP", 2), ("COUNT", 4)):
        monkeypatch.setenv("SLURM_ARRAY_TASK_" + name, str(value))
    assert verb._part("slurm") == (3, 4)
    assert verb._part("2/3") == (2, 3)
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(argparse.ArgumentTypeError, match="K/N"):
            verb._part(wrong)


WRONG = {
    "no model": (["gone", "photos"], "no such run"),
    "no run": (["photos", "photos"], "this is no run"),
    "score": (["m", "photos", "--min-score", "2"], "from 0 to 1"),
    "batch": (["m", "photos", "--batch", "0"], "from 1 on"),
    "classes": (["m", "photos", "--classes", "leaf,leaf"], "names that differ"),
    "no images": (["m"], "IMAGES"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_call_that_cannot_be_is_said(name: str, photos: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    arguments, words = WRONG[name]
    monkeypatch.chdir(str(tmp_path))
    try:
        code = main(["detect", *arguments])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2 and words in capsys.readouterr().err
