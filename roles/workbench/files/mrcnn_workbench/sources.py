# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where in a folder labels are, in which format, and which photographs belong to them."""

import re
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from mrcnn_workbench.errors import Report, WorkbenchError, count, listed
from mrcnn_workbench.formats import FORMATS, document, masks, recognise
from mrcnn_workbench.formats.document import Document
from mrcnn_workbench.labels import Labels, Options
from mrcnn_workbench.photographs import Album

LABEL_FOLDERS = ("annotations", "annotation", "labels", "ann", "json", "xml")
SPLIT_FOLDER = re.compile(r"(train|val)(ing|id|idation)?\d*", re.IGNORECASE)  # train, val2017, valid
SPLIT_FILE = re.compile(r"(?:^|[-_.])(train|val)(?:ing|id|idation)?\d*(?:$|[-_.])", re.IGNORECASE)
FILE_EACH = ("labelme", "voc")  # formats with a file for each photograph, whose names say nothing of a split


class Part(NamedTuple):
    """Label files of one format, and the folder with their photographs."""

    split: str  # train, val, or nothing if the source is not split
    format: str
    documents: List[Document]
    folder: Path

    def read(self, album: Album, options: Options, report: Report) -> Labels:
        module = FORMATS[self.format]
        if self.format == "masks":
            labels: Labels = module.read_folder(self.folder, album, options, report)
        else:
            labels = module.read(self.documents, options, report)
        return labels

    @property
    def without(self) -> Optional[Path]:
        """What is in the folder but no photographs."""
        return self.folder / masks.FOLDER if self.format == "masks" else None


def find(source: Path, wanted: str, images: Optional[Path], report: Report) -> List[Part]:
    """The labels in a file or a folder. Raises WorkbenchError if there are none, or if it cannot be told which."""
    if images and not images.is_dir():
        raise WorkbenchError("{}: there is no such folder".format(images))
    if source.is_file():
        only = document.read(source)
        found = recognise(only)
        if not found or wanted not in ("", found):
            raise WorkbenchError("{}: {}".format(source, _not_as_wanted(only, found, wanted)))
        return [Part("", found, [only], images or source.parent)]
    if not source.is_dir():
        raise WorkbenchError("{}: there is no such file or folder".format(source))
    parts = _in_folder(source, wanted, images, report)
    if not parts:
        kinds = "\n".join("  {:8} {}".format(name, module.TITLE) for name, module in FORMATS.items())
        what = FORMATS[wanted].TITLE if wanted else "labels"
        raise WorkbenchError("{}: there are no {} in it. What can be read:\n{}".format(source, what, kinds))
    formats: Dict[str, int] = Counter()
    for part in parts:
        formats[part.format] += max(1, len(part.documents))
    if len(formats) > 1:
        there = ", ".join("{} ({})".format(name, count(number, "file")) for name, number in formats.items())
        raise WorkbenchError("{}: labels in several formats: {}; choose one with --format".format(source, there))
    if images and "masks" in formats:
        raise WorkbenchError("--images: masks are looked for beside the photographs; give the folder with both")
    if {part.split for part in parts} == {"train", "val"}:
        return parts
    return [part._replace(split="") for part in parts]


def _in_folder(source: Path, wanted: str, images: Optional[Path], report: Report) -> List[Part]:
    parts: Dict[Tuple[str, str, Path], Part] = {}
    strangers: List[str] = []
    halves = _split_folders(source)
    bases = [("", source), *halves]
    for base_split, base in bases:
        for path in _label_files(base):
            only = document.read(path)
            name = recognise(only)
            if not name or wanted not in ("", name):
                strangers.append("{}: {}".format(path.relative_to(source), _not_as_wanted(only, name, wanted)))
                continue
            split = base_split or _split_of(path, name)
            folder = images or (base if base_split else dict(halves).get(split, source))
            part = parts.setdefault((split, name, folder), Part(split, name, [], folder))
            part.documents.append(only)
        if wanted in ("", "masks") and (base / masks.FOLDER).is_dir():
            parts[base_split, "masks", base] = Part(base_split, "masks", [], base)
    if strangers and not parts:
        raise WorkbenchError("{}: no file in it can be read:\n{}".format(source, listed(strangers)))
    for text in strangers:
        report.note(*text.split(": ", 1))
    return list(parts.values())


def _split_folders(source: Path) -> List[Tuple[str, Path]]:
    found = [(SPLIT_FOLDER.fullmatch(path.name), path) for path in sorted(source.iterdir()) if path.is_dir()]
    return [(match.group(1).lower(), path) for match, path in found if match]


def _label_files(base: Path) -> Iterator[Path]:
    folders = [base, *(path for path in sorted(base.iterdir()) if path.name.lower() in LABEL_FOLDERS and path.is_dir())]
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in document.ENDINGS and path.is_file() and not path.name.startswith("."):
                yield path


def _split_of(path: Path, name: str) -> str:
    match = SPLIT_FILE.search(path.stem) if name not in FILE_EACH else None
    return match.group(1).lower() if match else ""


def _not_as_wanted(only: Document, found: str, wanted: str) -> str:
    if found and wanted:
        return "it holds {}, not {}".format(FORMATS[found].TITLE, FORMATS[wanted].TITLE)
    if isinstance(only.content, dict) and {"config", "file", "metadata"} <= set(only.content):
        return "a project of VIA 3, which labels videos; export the regions from VIA 2"
    return "{}: labels in no known format".format(only.looks_like())
