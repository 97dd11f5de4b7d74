# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What in a data set would ruin a training, or the judgement of it."""

import hashlib
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from mrcnn_workbench import geometry, host
from mrcnn_workbench.dataset import Record, Split, outline_of, read
from mrcnn_workbench.errors import BadLabelError, count
from mrcnn_workbench.labels import Size
from mrcnn_workbench.photographs import MODES, PictureError, look
from mrcnn_workbench.splitting import group_of

ERROR, WARNING, NOTE = LEVELS = ("error", "warning", "note")
TINY = 16.0  # pixels; of fewer, nothing is left when the image is made smaller for training
EDGE = 1.0  # pixels over the edge that do no harm
NAMES_SHOWN = 5


class Finding(NamedTuple):
    level: str
    file: str
    label: str  # empty if it is not about one
    text: str

    def __str__(self) -> str:
        return "{}{}: {}".format(self.file, ", " + self.label if self.label else "", self.text)


class Check:
    """Looks at a whole data set; `findings` is what it found, in the order of levels."""

    def __init__(self, folder: Path, group: Optional[str] = None) -> None:
        """`group` is a regular expression as for `data import`, whose own it is if not given."""
        self.splits = read(folder)
        self._found: List[Finding] = []
        for split in self.splits.values():
            self._look_at_categories(split)
            self._look_at_annotations(split)
        self._look_at_pictures()
        self._compare(group)

    @property
    def findings(self) -> List[Finding]:
        return sorted(self._found, key=lambda finding: LEVELS.index(finding.level))

    @property
    def ok(self) -> bool:
        return not any(finding.level == ERROR for finding in self._found)

    def labels(self, name: str) -> Dict[str, int]:
        """How many labels a split has of every class."""
        names = {record.get("id"): str(record.get("name")) for record in self.splits[name].categories}
        found = Counter(record.get("category_id") for record in self.splits[name].annotations)
        return {class_name: found[number] for number, class_name in names.items()}

    def _add(self, level: str, file: str, text: str, label: str = "") -> None:
        self._found.append(Finding(level, file, label, text))

    def _look_at_categories(self, split: Split) -> None:
        for key in ("id", "name"):
            for value, number in Counter(str(record.get(key)) for record in split.categories).items():
                if number > 1:
                    self._add(ERROR, split.file.name, "{} categories have the {} {}".format(number, key, value))
        for record in split.categories:
            if not isinstance(record.get("id"), int) or record["id"] < 1:
                text = "the category {} has the id {}; 1 is the first, since 0 is the background's"
                self._add(ERROR, split.file.name, text.format(record.get("name"), record.get("id")))

    def _look_at_annotations(self, split: Split) -> None:
        names = {record.get("id"): record.get("name") for record in split.categories}
        images = {record.get("id"): record for record in split.images}
        for kind, records in (("images", split.images), ("labels", split.annotations)):
            for value, number in Counter(str(record.get("id")) for record in records).items():
                if number > 1:
                    self._add(ERROR, split.file.name, "{} {} have the id {}".format(number, kind, value))
        for record in split.annotations:
            image = images.get(record.get("image_id"))
            label = "label {}".format(record.get("id"))
            if image is None:
                self._add(ERROR, split.file.name, "there is no image {}".format(record.get("image_id")), label)
                continue
            file = _file(split, image)
            if record.get("category_id") not in names:
                self._add(ERROR, file, "there is no category {}".format(record.get("category_id")), label)
            else:
                label += " ({})".format(names[record["category_id"]])
            try:
                size = geometry.size_of(image["width"], image["height"]) or (0, 0)
                for level, text in _outline_findings(record, size):
                    self._add(level, file, text, label)
            except BadLabelError as error:
                self._add(ERROR, file, str(error), label)
            except (AttributeError, KeyError, IndexError, TypeError, ValueError):
                self._add(ERROR, file, "it has no outline as COCO has it", label)
        labelled = {record.get("image_id") for record in split.annotations}
        bare = [_file(split, record) for record in split.images if record.get("id") not in labelled]
        if bare:
            self._add(
                NOTE, _some(bare), "no labels; training passes over {}".format("it" if len(bare) == 1 else "them")
            )

    def _look_at_pictures(self) -> None:
        """Opens every picture, several at a time. Alike pictures in different halves would make any judgement a lie."""
        pictures = [(split, record) for split in self.splits.values() for record in split.images]
        with ThreadPoolExecutor(host.cpus()) as pool:
            results = list(pool.map(lambda pair: _picture_findings(*pair), pictures))
        alike: Dict[str, List[Tuple[str, str]]] = {}
        for (split, record), (digest, texts) in zip(pictures, results):
            file = _file(split, record)
            for text in texts:
                self._add(ERROR, file, text)
            if digest:
                alike.setdefault(digest, []).append((split.name, file))
        for same in alike.values():
            first, others = same[0], same[1:]
            for half, file in others:
                if half != first[0]:
                    self._add(
                        ERROR, file, "the same picture as {}: what was learnt by heart is tested".format(first[1])
                    )
                elif file == first[1]:
                    self._add(ERROR, file, "it is listed twice")
                else:
                    self._add(WARNING, file, "the same picture as {}".format(first[1]))

    def _compare(self, group: Optional[str]) -> None:
        """What the halves have in common, and what they should have."""
        if len(self.splits) == 1:
            only = next(iter(self.splits.values()))
            purpose = "judge by" if only.name == "train" else "learn from"
            self._add(WARNING, only.file.name, "there is no other half to {}".format(purpose))
            return
        train, val = self.splits["train"], self.splits["val"]
        for split in (train, val):
            if not split.images:
                level = ERROR if split is train else WARNING
                self._add(level, split.file.name, "there are no images for {}".format(split.name))
        if _ids(train) != _ids(val):
            self._add(ERROR, val.file.name, "its categories are not those of {}".format(train.file.name))
        learnt, judged = self.labels("train"), self.labels("val")
        for name in learnt:
            if not learnt[name] and judged.get(name):
                text = "the class {} has no label in train, so it cannot be learnt; split with another --seed"
                self._add(ERROR, val.file.name, text.format(name))
            elif not learnt[name]:
                self._add(NOTE, train.file.name, "the class {} has no label".format(name))
            elif val.images and not judged.get(name):
                self._add(
                    WARNING, val.file.name, "the class {} has no label in val, so it cannot be judged".format(name)
                )
        pattern = str(train.info.get("group") or "") if group is None else group
        groups = {group_of(str(record.get("file_name")), pattern): record for record in train.images} if pattern else {}
        for record in val.images:
            name = group_of(str(record.get("file_name")), pattern)
            if name in groups:
                text = "of the same group ({}) as {}: split again with --group"
                self._add(ERROR, _file(val, record), text.format(name, _file(train, groups[name])))


def _outline_findings(record: Record, size: Size) -> Iterator[Tuple[str, str]]:
    outline = outline_of(record)
    if isinstance(outline, dict):
        if outline["size"] != [size[1], size[0]]:
            raise BadLabelError(
                "its mask is for a picture of {1}x{0}, the image is {2}x{3}".format(*outline["size"], *size)
            )
    else:
        if not outline:
            raise BadLabelError("it has no outline")
        for corners in outline:
            geometry.polygon(corners)
            place = geometry.crossing(corners)
            if place:
                yield WARNING, "the polygon crosses itself " + place
        over = geometry.over_the_edge(outline, size)
        if over > EDGE:
            geometry.clip(outline, size)  # or an error that says that nothing is left of it
            yield WARNING, "it reaches {:.0f} pixels over the image's edge".format(over)
    area = geometry.area(outline, size)
    if area < TINY:
        yield WARNING, "it is tiny: {:.3g} pixels".format(area)
    box = record.get("bbox")
    if not isinstance(box, list) or not _near(box, geometry.bounds(outline)):
        yield WARNING, "its bbox is not the box round its outline"


def _picture_findings(split: Split, record: Record) -> Tuple[str, List[str]]:
    """A sum that only pictures with the same bytes share, and what is wrong with one."""
    name = record.get("file_name")
    if not isinstance(name, str) or not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return "", ["the file name is {!r:.60}, not one below {}".format(name, split.images_folder.name)]
    path = split.image_path(record)
    if not path.is_file():
        return "", ["the file is missing"]
    texts = []
    try:
        picture = look(path, whole=True)
    except PictureError as error:
        return "", [str(error)]
    written = (record.get("width"), record.get("height"))
    if picture.orientation != 1:
        texts.append("EXIF says to turn it, which training does not do: import it again")
    if written != picture.stored:
        texts.append("it is {}x{}, its labels are for {}x{}".format(*picture.stored, *written))
    if picture.mode not in MODES:
        texts.append(
            "its pixels are of the kind {}, which is read wrongly: convert it to 8-bit RGB".format(picture.mode)
        )
    return hashlib.sha256(path.read_bytes()).hexdigest(), texts


def _file(split: Split, image: Record) -> str:
    return "{}/{}".format(split.name, image.get("file_name"))


def _ids(split: Split) -> Dict[str, Any]:
    return {str(record.get("name")): record.get("id") for record in split.categories}


def _some(names: List[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (" and {}".format(count(more, "other")) if more > 0 else "")


def _near(one: List[Any], other: List[float]) -> bool:
    return len(one) == len(other) and all(
        isinstance(a, (int, float)) and math.isclose(a, b, abs_tol=1.5) for a, b in zip(one, other)
    )
