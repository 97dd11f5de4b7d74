# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Labels in any format become a data set: written beside its place and put there in one step, or not at all."""

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from mrcnn_workbench import dataset, geometry
from mrcnn_workbench.errors import BadLabelError, Report, WorkbenchError, count, listed
from mrcnn_workbench.labels import Category, Label, Options, Photo, Size
from mrcnn_workbench.photographs import Album, Picture, PictureError, look, save
from mrcnn_workbench.sources import Part, find
from mrcnn_workbench.splitting import split

USUAL_FRACTION = 0.2
MADE = "made by mrcnn data import"  # what tells a data set from a folder that only looks like one


class Wishes(NamedTuple):
    """What the caller of an import may say."""

    format: str = ""
    images: Optional[Path] = None
    class_key: Optional[str] = None
    classes: Tuple[str, ...] = ()
    val: Optional[float] = None  # None keeps the source's own split
    seed: int = 0
    group: str = ""
    skip_bad: bool = False
    force: bool = False


class Entry(NamedTuple):
    """A photograph that is going to be in the data set."""

    picture: Picture
    turn: bool
    objects: List[Label]
    name: str  # below the folder of its split
    split: str

    @property
    def size(self) -> Size:
        return self.picture.upright if self.turn else self.picture.stored


class Outcome(NamedTuple):
    """What an import has done."""

    format: str
    images: Dict[str, int]  # by split
    labels: Dict[str, Dict[str, int]]  # by split and class
    left_out: int  # labels of classes that were not asked for
    report: Report


def run(source: Path, out: Path, wishes: Wishes) -> Outcome:
    """Raises WorkbenchError; then nothing is changed."""
    _check_place(source, out, wishes.force)
    report = Report()
    parts = find(source, wishes.format, wishes.images, report)
    entries, categories = _read(parts, wishes, report)
    if report.problems and not wishes.skip_bad:
        raise WorkbenchError(
            "{} in {}, so nothing was written:\n{}\n"
            "Put them right where the labels were made, or leave them out with --skip-bad.".format(
                count(len(report.problems), "problem"), source, listed(list(map(str, report.problems)))
            )
        )
    if not any(entry.objects for entry in entries):
        number = count(len(entries), "photograph")
        raise WorkbenchError("{}: {}, but no label in it that can be used".format(source, number))
    entries = _divided(entries, wishes)
    categories, left_out = _chosen(entries, categories, wishes)
    labels = _write(entries, categories, out, wishes, report)
    images = {name: sum(entry.split == name for entry in entries) for name in dataset.SPLITS}
    return Outcome(parts[0].format, images, labels, sum(left_out.values()), report)


def _check_place(source: Path, out: Path, force: bool) -> None:
    """Nothing is overwritten that was not asked for, and nothing but what an import has made."""
    inside, outside = out.resolve(), source.resolve()
    if inside == outside or (source.is_dir() and outside in inside.parents) or inside in outside.parents:
        raise WorkbenchError(
            "{}: has to be neither inside {} nor around it; choose a folder beside it".format(out, source)
        )
    if not out.is_symlink() and (not out.exists() or (out.is_dir() and not any(out.iterdir()))):
        return
    if not force:
        raise WorkbenchError("{}: is there already; choose another folder, or replace it with --force".format(out))
    if not out.is_dir() or out.is_symlink() or not dataset.is_dataset(out) or not _made_here(out):
        raise WorkbenchError("{}: mrcnn has not made it, so not even --force replaces it".format(out))


def _made_here(folder: Path) -> bool:
    return all(split.info.get("description") == MADE for split in dataset.read(folder).values())


def _read(parts: List[Part], wishes: Wishes, report: Report) -> Tuple[List[Entry], List[Category]]:
    """All photographs with their labels, and the classes in their order."""
    entries: List[Entry] = []
    categories: List[Category] = []
    seen: Dict[Path, str] = {}
    taken: Set[Tuple[str, str]] = set()
    for part in parts:
        album = Album(part.folder, part.without)
        labels = part.read(album, Options(wishes.class_key, wishes.classes), report)
        categories += labels.categories
        for photo in labels.photos:
            path, text = album.find(photo.name)
            if path is None:
                report.problem(photo.where, text)
                continue
            if text:
                report.note(photo.where, text)
            file = part.folder / str(path)
            if file in seen:
                report.problem(photo.where, "{} is labelled in {} too".format(path, seen[file]))
                continue
            seen[file] = photo.where
            with report.at(photo.where):
                picture, turn = _seen(file, photo)
                entry = Entry(picture, turn, [], _free(str(path), part.split, taken), part.split)
                entry.objects.extend(_objects(photo, entry.size, report))
                entries.append(entry)
    entries.sort(key=lambda entry: (entry.split, entry.name))
    names = {category.name for category in categories}
    others = {label.category for entry in entries for label in entry.objects} - names
    return entries, categories + [Category(name) for name in sorted(others)]


def _seen(path: Path, photo: Photo) -> Tuple[Picture, bool]:
    """A picture, and whether its labels were made on it as people see it, turned, or as its pixels lie."""
    try:
        picture = look(path)
    except PictureError as error:
        raise BadLabelError("{}: {}".format(path.name, error)) from error
    if photo.size in (None, picture.upright):
        return picture, picture.orientation != 1
    if photo.size == picture.stored:
        return picture, False
    raise BadLabelError(
        "the labels are for a picture of {}x{}, but {} is {}x{}: was it scaled or cut afterwards?".format(
            *(photo.size or ()), path.name, *picture.upright
        )
    )


def _free(name: str, half: str, taken: Set[Tuple[str, str]]) -> str:
    """A name that no photograph of that half has yet; upper and lower case are the same on some disks."""
    path, number = Path(name), 1
    while (half, name.lower()) in taken:
        number += 1
        name = str(path.with_name("{}-{}{}".format(path.stem, number, path.suffix)))
    taken.add((half, name.lower()))
    return name


def _divided(entries: List[Entry], wishes: Wishes) -> List[Entry]:
    if wishes.val is None and all(entry.split for entry in entries):
        return entries
    taken: Set[Tuple[str, str]] = set()
    named = [entry._replace(name=_free(entry.name, "", taken)) for entry in entries]
    fraction = USUAL_FRACTION if wishes.val is None else wishes.val
    halves = split([entry.name for entry in named], fraction, wishes.seed, wishes.group)
    return [entry._replace(split=halves[entry.name]) for entry in named]


def _chosen(entries: List[Entry], declared: List[Category], wishes: Wishes) -> Tuple[List[Category], Dict[str, int]]:
    """The classes, with ids, and how many labels there are of those that were not asked for."""
    used = Counter(label.category for entry in entries for label in entry.objects)
    if wishes.classes:
        unknown = [name for name in wishes.classes if name not in used]
        if unknown:
            raise WorkbenchError(
                "--classes: there are no labels of {}; there are {}".format(", ".join(unknown), ", ".join(sorted(used)))
            )
        categories = [Category(name, number) for number, name in enumerate(wishes.classes, 1)]
        return categories, {name: number for name, number in used.items() if name not in wishes.classes}
    # The same class may be declared in several files.
    unique = list({category.name: category for category in reversed(declared)}.values())[::-1]
    ids = [category.id for category in unique]
    # The source's own numbers are kept if they are without doubt; 0 is the background's.
    if len(set(ids)) == len(ids) and all(number and number > 0 for number in ids):
        return unique, {}
    return [category._replace(id=number) for number, category in enumerate(unique, 1)], {}


def _objects(photo: Photo, size: Size, report: Report) -> List[Label]:
    """A photograph's objects, inside its edges, the parts of one object put together."""
    parts: Dict[object, List[Label]] = {}
    for number, label in enumerate(photo.labels):
        outline = label.outline
        with report.at(label.where):
            if not isinstance(label.category, str) or not label.category.strip():
                raise BadLabelError("its class is {!r:.40}".format(label.category))
            if isinstance(outline, dict):
                if tuple(outline["size"]) != size[::-1]:
                    raise BadLabelError("the mask is for a picture of {1}x{0}".format(*outline["size"]))
            elif geometry.over_the_edge(outline, size):
                outline = geometry.clip(outline, size)
                report.note(label.where, "reached over the picture's edge: clipped")
            key = number if label.group is None else (label.category, label.group)
            parts.setdefault(key, []).append(label._replace(outline=outline))
    return [
        labels[0]._replace(outline=geometry.joined([label.outline for label in labels], size))
        for labels in parts.values()
    ]


def _write(
    entries: List[Entry], categories: List[Category], out: Path, wishes: Wishes, report: Report
) -> Dict[str, Dict[str, int]]:
    """Puts the data set in its place. Returns the numbers of labels, by split and class."""
    stage = out.parent / ".{}.{}".format(out.name, os.getpid())
    counts = {}
    try:
        stage.mkdir(parents=True)
        for half in dataset.SPLITS:
            chosen = [entry for entry in entries if entry.split == half]
            if half == "train" and not chosen:
                continue  # it is only to judge by
            (stage / half).mkdir()
            _save_pictures(chosen, stage / half, report)
            content = _coco(chosen, categories, wishes)
            dataset.write(stage, half, content)
            found = Counter(record["category_id"] for record in content["annotations"])
            counts[half] = {category.name: found[category.id] for category in categories}
        _put(stage, out)
    except OSError as error:
        raise WorkbenchError("{}: {}".format(error.filename or out, error.strerror or error)) from error
    finally:
        shutil.rmtree(str(stage), ignore_errors=True)
    return counts


def _save_pictures(entries: List[Entry], folder: Path, report: Report) -> None:
    for entry in entries:
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save(entry.picture, entry.turn, path)
        except PictureError as error:
            raise WorkbenchError("{}: {}".format(entry.picture.path, error)) from error
        if entry.picture.orientation != 1:
            how = "turned, as people see it" if entry.turn else "left as it lies, since its labels are for that"
            report.note(entry.name, "the camera was not held level (EXIF): {}".format(how))


def _coco(entries: List[Entry], categories: List[Category], wishes: Wishes) -> dataset.Record:
    ids = {category.name: category.id for category in categories}
    images: List[dataset.Record] = []
    annotations: List[dataset.Record] = []
    for entry in entries:
        width, height = entry.size
        images.append({"id": len(images) + 1, "file_name": entry.name, "width": width, "height": height})
        for label in entry.objects:
            if label.category not in ids:
                continue
            annotations.append(
                dataset.annotation(
                    label.outline, entry.size, id=len(annotations) + 1, image_id=len(images),
                    category_id=ids[label.category], iscrowd=int(label.crowd),
                )
            )  # fmt: skip
    return {
        "info": {"description": MADE, "group": wishes.group},
        "images": images,
        "annotations": annotations,
        "categories": [dict(category._asdict()) for category in categories],
    }


def _put(stage: Path, out: Path) -> None:
    """In one step where nothing was; else what was there is gone only when the new one is in place."""
    old = stage.with_name(stage.name + ".old")
    if out.exists():
        out.rename(old)
    try:
        stage.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(str(old), ignore_errors=True)
