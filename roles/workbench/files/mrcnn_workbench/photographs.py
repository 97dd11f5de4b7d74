# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Photographs: finding them by the names that labels give, and turning them the way up that people see.

A camera held upright writes the picture lying on its side, and a note (EXIF) to turn it. Browsers, and so VIA, CVAT and
LabelMe, turn it; what trains does not. So `save` turns the pixels and drops the note.
"""

import glob
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.labels import Size

ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
ORIENTATION = 0x0112  # EXIF's number for the note
SIDEWAYS = 5  # from this orientation on, height and width change places
MODES = ("L", "RGB", "RGBA", "P", "1")  # what skimage reads as Mask R-CNN expects it

Skip = Callable[[Path], bool]  # whether a folder is left out


class PictureError(Exception):
    """A file that cannot be read as a picture. The text says why."""


class Picture(NamedTuple):
    """What a picture's first bytes say."""

    path: Path
    stored: Size  # as the pixels lie in the file
    orientation: int
    mode: str

    @property
    def upright(self) -> Size:
        """The size as people see it."""
        return self.stored[::-1] if self.orientation >= SIDEWAYS else self.stored


def look(path: Path, whole: bool = False) -> Picture:
    """Reads a picture's first bytes, or `whole` to find out whether it is. Raises PictureError."""
    try:
        # Pillow refuses a picture that claims to be larger than any photograph.
        with Image.open(str(path)) as image:
            found = Picture(path, image.size, image.getexif().get(ORIENTATION, 1), image.mode)
            if whole:
                image.load()
    except UnidentifiedImageError:
        size = path.stat().st_size
        raise PictureError("no picture in a known format" if size else "the file is empty") from None
    except Exception as error:  # a damaged file makes Pillow raise anything
        raise PictureError("cannot be read ({})".format(error)) from error
    return found if found.orientation in range(1, 9) else found._replace(orientation=1)


def save(picture: Picture, turn: bool, path: Path) -> None:
    """Writes a picture without a note to turn it; with its pixels turned, or as they lie. Raises PictureError."""
    try:
        if picture.orientation == 1:
            shutil.copyfile(str(picture.path), str(path))
            return
        with Image.open(str(picture.path)) as image:
            kind, options = image.format, {"icc_profile": image.info.get("icc_profile")}
            if isinstance(image, JpegImagePlugin.JpegImageFile):
                # As finely as before: with the tables of the file itself.
                kind = "JPEG"
                options.update(qtables=image.quantization, subsampling=JpegImagePlugin.get_sampling(image))
            upright = ImageOps.exif_transpose(image) if turn else image.copy()
            upright.info.pop("exif", None)
            upright.save(str(path), format=kind, **options)
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureError("cannot be copied ({})".format(error)) from error


def read(path: Path, turn: bool = True) -> np.ndarray:
    """The pixels, uint8 [height, width, 3], as people see them or, without `turn`, as they lie in the file.

    Raises PictureError, also for what Mask R-CNN would not read as it was meant: more than 8 bits, CMYK.
    """
    try:
        picture = look(path)
        if picture.mode not in MODES:
            raise PictureError("its pixels are of the kind {}; convert it to 8-bit RGB".format(picture.mode))
        with Image.open(str(path)) as image:
            upright = ImageOps.exif_transpose(image) if turn and picture.orientation > 1 else image
            return np.asarray(upright.convert("RGB"))
    except PictureError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise anything
        raise PictureError("cannot be read ({})".format(getattr(error, "strerror", None) or error)) from error


def search(names: Sequence[str], skip: Skip = lambda _folder: False) -> Tuple[Path, List[PurePosixPath]]:
    """All pictures that files, folders and patterns mean: the folder with all of them, and their names below it.

    Folders are searched to their depth, but for hidden ones and those to skip. Raises WorkbenchError for what means no
    picture.
    """
    found: List[Path] = []
    roots: List[str] = []
    for name in names:
        matches = [name] if os.path.lexists(name) else sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - it may be absolute
        if not matches:
            raise WorkbenchError("{}: there is no such file or folder".format(name))
        before = len(found)
        for match in map(os.path.abspath, matches):
            path = Path(match)
            if path.is_dir():
                roots.append(match)
                found += _below(path, skip)
            elif matches == [name] or _is_named_like_one(match):
                roots.append(str(path.parent))
                found.append(path)
        if len(found) == before:
            raise WorkbenchError("{}: there is no picture ({})".format(name, ", ".join(ENDINGS)))
    root = Path(os.path.commonpath(roots))
    return root, [PurePosixPath(path.relative_to(root).as_posix()) for path in sorted(set(found))]


def _below(folder: Path, skip: Skip) -> Iterator[Path]:
    """The pictures in a folder and in those in it."""
    for place, folders, files in os.walk(str(folder)):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not skip(Path(place, name)))
        yield from (Path(place, name) for name in sorted(files) if _is_named_like_one(name))


def _is_named_like_one(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and not os.path.basename(name).startswith(".")  # noqa: PTH119 - a string, as names are here


class Album:
    """The pictures below a folder, found by the names in labels.

    Labels name files as they lay where the labelling was done: with folders, absolute, from Windows. So a name means
    the one picture here that has the same last part; if there are several, the one with the most folders in common.
    Nothing outside the folder is ever looked at.
    """

    def __init__(self, folder: Path, without: Optional[Path] = None) -> None:
        self.folder = folder
        self.names: Dict[str, List[PurePosixPath]] = {}
        for path in _below(folder, lambda other: other == without):
            self.names.setdefault(path.name.lower(), []).append(PurePosixPath(path.relative_to(folder).as_posix()))

    def find(self, name: Any) -> Tuple[Optional[PurePosixPath], str]:
        """The picture of that name, below the folder, and what to say about it: why there is none, or a note."""
        if not isinstance(name, str):
            return None, "the file name is {!r:.40}".format(name)
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if not parts:
            return None, "the file name is empty"
        found = self.names.get(parts[-1].lower(), [])
        same = [path for path in found if path.name == parts[-1]] or found
        most = max((_in_common(path, parts) for path in same), default=0)
        best = [path for path in same if _in_common(path, parts) == most]
        if len(best) > 1:
            return None, "the name is that of {} files below {}: {}".format(
                len(best), self.folder, ", ".join(map(str, best[:3]))
            )
        if not best:
            return None, "there is no such picture below {}{}".format(self.folder, self._hint(parts[-1]))
        return best[0], "" if best[0].name == parts[-1] else "taken to be {}".format(best[0])

    def _hint(self, name: str) -> str:
        stem = PurePosixPath(name).stem.lower()
        similar = [path for paths in self.names.values() for path in paths if path.stem.lower() == stem]
        return "; is it {}?".format(similar[0]) if similar else ""


def _in_common(path: PurePosixPath, parts: List[str]) -> int:
    """How many parts of two paths are the same, from the end on, upper and lower case alike."""
    number = 0
    for one, other in zip(reversed(path.parts), reversed(parts)):
        if one.lower() != other.lower():
            break
        number += 1
    return number
