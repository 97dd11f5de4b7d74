# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Detecting in many images: by one process or by several at once, and on from where it was interrupted.

    OUT/detection.json       what is detected with, how, and in which images
    OUT/parts/K-of-N.jsonl   what the K-th of N processes has found: a line for each image, written when it is done
    OUT/pictures/            the images with what was found in them, in folders as the images are
    OUT/results.json, images.json, results.csv   everything, once every image is done; see `results`

Whoever is done looks, alone, whether all images are, and then writes the results: so it does not matter who is the
last, nor whether two are at once. Images that two have done count once. This module imports no TensorFlow.
"""

import contextlib
import fcntl
import json
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Callable, Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from mrcnn_workbench import annotated, dataset, photographs, results, runs
from mrcnn_workbench.errors import WorkbenchError, count
from mrcnn_workbench.formats import masks
from mrcnn_workbench.models import Model
from mrcnn_workbench.photographs import PictureError
from mrcnn_workbench.progress import Journal, ends
from mrcnn_workbench.results import Found

PLAN, PARTS, PICTURES, LOCK = "detection.json", "parts", "pictures", ".lock"
AHEAD = 2  # images that are read while others are in use
LINE_EVERY = 30  # seconds, between lines where they are kept
UNWRITABLE = "{}: cannot be written ({}); the same command goes on, once it can"
# Of a plan, for people.
MEANINGS = {
    "model": "the model", "weights": "the weights", "weights_size": "the weights have changed",
    "weights_time": "the weights have changed", "classes": "the model's classes", "min_score": "--min-score",
    "only": "--classes", "pictures": "--no-pictures", "folder": "the images", "images": "the images",
}  # fmt: skip

Detect = Callable[[Sequence[np.ndarray]], List[List[Found]]]
Plan = Dict[str, Any]


class Part(NamedTuple):
    """Every so-many-th image: the `number`-th, from 1 on, of `of`."""

    number: int = 1
    of: int = 1


class Outcome(NamedTuple):
    """What there is in the end: of all images, not only of those that were done now."""

    images: int
    left: int  # to other parts, or interrupted
    objects: Dict[str, int]  # by the classes' names
    empty: int  # images in which nothing was found
    turned: int
    broken: List[str]


def search(names: Sequence[str]) -> Tuple[Path, List[PurePosixPath]]:
    """The pictures that are meant, as `photographs.search` has them; masks that belong to labels are none, and neither
    is what was drawn by a detection. Raises WorkbenchError."""
    return photographs.search(names, lambda folder: folder.name == masks.FOLDER or (folder / PLAN).is_file())


def plan_of(
    model: Model, images: Tuple[Path, List[PurePosixPath]], min_score: float, only: Sequence[str], pictures: bool
) -> Plan:
    """What is to be done. `only`: the classes that count, if not all. Raises WorkbenchError."""
    unknown = [name for name in only if name not in model.classes[1:]]
    if unknown:
        raise WorkbenchError(
            "--classes {}: the model does not know {}; it knows {}".format(
                ",".join(only), ", ".join(unknown), ", ".join(model.classes[1:])
            )
        )
    seen = model.weights.stat()
    return {
        "model": model.name, "weights": str(model.weights), "weights_size": seen.st_size,
        "weights_time": round(seen.st_mtime), "classes": model.categories(), "min_score": min_score,
        "only": sorted(only), "pictures": pictures, "folder": str(images[0]), "images": list(map(str, images[1])),
    }  # fmt: skip


class Job:
    """Detecting by a plan, with a folder for what is found."""

    def __init__(self, out: Path, plan: Plan) -> None:
        self.out, self.plan = out, plan
        self.names = ["", *(category["name"] for category in plan["classes"])]
        self.pictures = _picture_names(plan["images"])

    def __call__(
        self, part: Part, detector: Callable[[], Tuple[Detect, int]], journal: Journal, force: bool = False
    ) -> Outcome:
        """Detects in the images of a part that are not done yet, and writes the results if all are done then.

        `detector` makes what detects, and says in how many images at once; it is called only if there is something to
        do. `force`: what is there of something else is replaced. Raises WorkbenchError.
        """
        with self._begun(part, force) as file:
            done = {line["image"] for line in self._lines() if "error" not in line}
            places = range(part.number - 1, len(self.plan["images"]), part.of)
            todo = [place for place in places if place + 1 not in done]
            if todo:
                others = len(places) - len(todo)
                journal.say(
                    "{} to do{}".format(count(len(todo), "image"), ", {} done before".format(others) if others else "")
                )
                self._detect(todo, detector, file, journal)
        return self._end()

    # Begin

    @contextlib.contextmanager
    def _begun(self, part: Part, force: bool) -> Iterator[BinaryIO]:
        """The file of a part, for this process alone."""
        path = self.out / PARTS / "{}-of-{}.jsonl".format(*part)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            self._agree(force)
            # Without a buffer: a line is in the file, or was not written.
            file: BinaryIO = path.open("ab+", buffering=0)
            if not _lock(file, wait=False):
                file.close()
                raise WorkbenchError("{}: somebody is detecting part {} of {} of it".format(self.out, *part))
        try:
            _mend(file)
            yield file
        finally:
            # A part that has found nothing yet does not bind anybody to its plan.
            if not path.stat().st_size:
                path.unlink()
            file.close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.out / LOCK).open("a") as lock:
            _lock(lock, wait=True)
            yield

    def _agree(self, force: bool) -> None:
        """Sees to it that everything in the folder is of one plan. Raises WorkbenchError."""
        path = self.out / PLAN
        before = dataset.read_json(path) if path.is_file() else None
        if before == self.plan:
            return
        parts, change = self._parts(), _change(before, self.plan)
        with contextlib.ExitStack() as stack:
            for other in parts:
                if not _lock(stack.enter_context(other.open("a")), wait=False):
                    raise WorkbenchError("{}: somebody is detecting there: {}".format(self.out, change))
            if before and not force and any("error" not in line for line in self._lines()):
                raise WorkbenchError(
                    "{}: has results of something else already: {}; name another folder with --out, or replace "
                    "them with --force".format(self.out, change)
                )
            for other in [*parts, *(self.out / name for name in (results.RESULTS, results.IMAGES, results.TABLE))]:
                with contextlib.suppress(FileNotFoundError):
                    other.unlink()
            for name in _picture_names((before or {}).get("images", [])):
                with contextlib.suppress(FileNotFoundError):
                    (self.out / PICTURES / name).unlink()
            runs.write_json(path, self.plan)

    # Detect

    def _detect(
        self, todo: List[int], detector: Callable[[], Tuple[Detect, int]], file: BinaryIO, journal: Journal
    ) -> None:
        """Writes a line for each of these images."""
        detect: Optional[Detect] = None
        size, done, shown, began = 1, 0, 0.0, 0.0
        batch: List[_Loaded] = []
        for number, loaded in enumerate(self._load(todo), 1):
            if loaded.wrong:
                journal.say("{}: {}; left out".format(self._path(loaded.place), loaded.wrong))
                self._note(file, loaded.place, error=loaded.wrong)
            else:
                batch.append(loaded)
            if detect is None and batch:
                detect, size = detector()
                began = time.time()
            if not batch or detect is None or (len(batch) < size and number < len(todo)):
                continue
            found = detect([one.pixels for one in batch])
            for one, objects in zip(batch, found):
                self._keep(file, one, objects)
            done += len(batch)
            batch = []
            now = time.time()
            each = (now - began) / done
            if now - shown >= (0 if journal.live else LINE_EVERY):
                shown = now
                left = ends(each * (len(todo) - number))
                journal.show("image {}/{}  {:.2f} s each  {}".format(number, len(todo), each, left))

    def _load(self, todo: Iterable[int]) -> Iterator["_Loaded"]:
        """The pixels of images; while one is in use the next are read."""
        waiting: Deque[Any] = deque()
        with ThreadPoolExecutor(1) as pool:
            for place in todo:
                waiting.append(pool.submit(_load, place, self._path(place)))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            for future in waiting:
                yield future.result()

    def _keep(self, file: BinaryIO, image: "_Loaded", objects: List[Found]) -> None:
        only = self.plan["only"]
        kept = [found for found in objects if not only or self.names[found.number] in only]
        if self.plan["pictures"]:
            name = self.plan["images"][image.place]
            annotated.draw(image.pixels, kept, self.names, name, self.out / PICTURES / self.pictures[image.place])
        self._note(
            file, image.place, width=image.pixels.shape[1], height=image.pixels.shape[0], turned=image.turned,
            objects=[[found.number, found.score, found.box, found.mask["counts"]] for found in kept],
        )  # fmt: skip

    def _note(self, file: BinaryIO, place: int, **fields: Any) -> None:
        """Writes a line. Half a line, on a full disk, is dropped the next time."""
        line = (json.dumps(dict({"image": place + 1}, **fields)) + "\n").encode()
        try:
            whole = file.write(line) == len(line)
        except OSError as error:
            raise WorkbenchError(UNWRITABLE.format(self.out, error.strerror)) from error
        if not whole:
            raise WorkbenchError(UNWRITABLE.format(self.out, "is the disk full?"))

    def _path(self, place: int) -> Path:
        return Path(self.plan["folder"], self.plan["images"][place])

    # End

    def _end(self) -> Outcome:
        """Writes the results if all images are done."""
        with self._alone():
            lines: Dict[int, Any] = {}
            for line in self._lines():
                if "error" not in lines.get(line["image"], {"error": ""}):
                    continue  # it is done, and could not be read before
                lines[line["image"]] = line
            broken = {number: line["error"] for number, line in sorted(lines.items()) if "error" in line}
            images = [self._image(line) for number, line in sorted(lines.items()) if number not in broken]
            left = len(self.plan["images"]) - len(lines)
            if not left:
                info = {name: self.plan[name] for name in ("model", "weights", "min_score", "only", "folder")}
                info["unreadable"] = [
                    {"file_name": self.plan["images"][number - 1], "error": text} for number, text in broken.items()
                ]
                try:
                    results.write(self.out, images, self.plan["classes"], info)
                except OSError as error:
                    raise WorkbenchError(UNWRITABLE.format(self.out, error.strerror)) from error
        numbers = Counter(found.number for image in images for found in image.objects)
        return Outcome(
            len(self.plan["images"]), left,
            {name: numbers[number] for number, name in enumerate(self.names) if numbers[number]},
            sum(not image.objects for image in images), sum(image.turned for image in images),
            ["{}: {}".format(self._path(number - 1), text) for number, text in broken.items()],
        )  # fmt: skip

    def _image(self, line: Any) -> results.Image:
        size = [line["height"], line["width"]]
        objects = [
            Found(number, score, box, {"size": size, "counts": runs_of_mask})
            for number, score, box, runs_of_mask in line["objects"]
        ]
        name = self.plan["images"][line["image"] - 1]
        return results.Image(line["image"], name, line["width"], line["height"], line["turned"], objects)

    def _parts(self) -> List[Path]:
        return sorted((self.out / PARTS).glob("*-of-*.jsonl"))

    def _lines(self) -> Iterator[Any]:
        """What all parts have noted until now."""
        for path in self._parts():
            with path.open(encoding="utf-8") as file:
                for line in file:
                    if line.endswith("\n"):  # else it is just being written
                        yield json.loads(line)


class _Loaded(NamedTuple):
    """An image by its place in the plan: uint8 [height, width, 3], the way up that people see; or what is wrong."""

    place: int
    pixels: np.ndarray
    turned: bool = False
    wrong: str = ""


def _load(place: int, path: Path) -> _Loaded:
    try:
        return _Loaded(place, photographs.read(path), photographs.look(path).orientation > 1)
    except PictureError as error:
        return _Loaded(place, np.zeros((0, 0, 3), np.uint8), wrong=str(error))


def _lock(file: Any, wait: bool) -> bool:
    """Whether nobody else has this file, on whatever node."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))  # Linux has it over NFS too
    except BlockingIOError:
        return False
    return True


def _mend(file: BinaryIO) -> None:
    """Drops the last line of a part that was killed while it wrote it."""
    file.seek(0)
    text = file.read()
    file.truncate(text.rfind(b"\n") + 1)


def _picture_names(images: Sequence[str]) -> List[str]:
    """Names for pictures of images: that of the image but for the ending, unless two would have the same."""
    plain = [str(PurePosixPath(name).with_suffix(".jpg")) for name in images]
    numbers = Counter(name.lower() for name in plain)
    return [new if numbers[new.lower()] == 1 else old + ".jpg" for old, new in zip(images, plain)]


def _change(before: Any, now: Plan) -> str:
    """What differs between two plans, for people."""
    found = before if isinstance(before, dict) else {}
    names = [name for name in MEANINGS if found.get(name) != now[name]]
    if "images" in names and found.get("folder") == now["folder"]:
        old, new = set(found.get("images", [])), set(now["images"])
        return "{} new and {} gone of the images".format(len(new - old), len(old - new))
    said: List[str] = []
    for name in names:
        text = MEANINGS[name]
        if name in ("model", "weights", "min_score") and name in found:
            text += ": {} before, {} now".format(found[name], now[name])
        if text not in said and not (name.startswith("weights_") and "weights" in names):
            said.append(text)
    return "; ".join(said)
