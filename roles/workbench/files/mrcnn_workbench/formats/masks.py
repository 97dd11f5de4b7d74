# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Masks as PNG files, in one of three layouts. Photographs are in SOURCE or in a folder in it; black is no object.

    SOURCE/masks/PHOTOGRAPH/CLASS_1.png   a file for each object: what is not black
    SOURCE/masks/CLASS/PHOTOGRAPH.png     a file for each class: every value or colour is an object
    SOURCE/masks/PHOTOGRAPH.png           a file for each photograph: every value is a class, the line of that number in
                                          SOURCE/classes.txt, and every connected area is an object

PHOTOGRAPH is the file name without its ending.
"""

import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
from PIL import Image

from mrcnn_workbench import geometry
from mrcnn_workbench.errors import BadLabelError, Report, WorkbenchError
from mrcnn_workbench.labels import Category, Label, Labels, Options, Photo
from mrcnn_workbench.photographs import Album

TITLE = "masks (a folder `masks` with PNG files)"
FOLDER = "masks"
CLASSES = "classes.txt"
MOST_OBJECTS = 1000  # in one file; more are no objects but the shades of a smooth edge


def recognises(content: Any) -> bool:
    return False  # there is no file that says so


def read_folder(folder: Path, album: Album, options: Options, report: Report) -> Labels:
    """The masks of the photographs in an album."""
    photos = {}
    for found in album.names.values():
        for photo in found:
            if photo.stem in photos:
                text = "{}: masks are found by a photograph's name, and two are called {}"
                raise WorkbenchError(text.format(folder, photo.stem))
            photos[photo.stem] = Photo(str(photo), str(photo))
    categories = _categories(folder)
    for path in sorted((folder / FOLDER).rglob("*")):
        if path.suffix.lower() != ".png":
            continue
        where = path.relative_to(folder).as_posix()
        with report.at(where):
            _read_file(path, where, photos, categories, report)
    return Labels(list(photos.values()), categories)


def _categories(folder: Path) -> List[Category]:
    try:
        lines = (folder / CLASSES).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    return [Category(line.strip(), number) for number, line in enumerate(lines, 1) if line.strip()]


def _read_file(path: Path, where: str, photos: Dict[str, Photo], categories: List[Category], report: Report) -> None:
    above = path.parent.name
    name = above if above in photos else path.stem
    if name not in photos:
        raise BadLabelError("there is no photograph called {}".format(name))
    photo, values = photos[name], _values(path)
    size = (values.shape[1], values.shape[0])
    if photo.size not in (None, size):
        raise BadLabelError("it is {}x{}, other masks of this photograph are {}x{}".format(*size, *(photo.size or ())))
    photo.size = size
    if above in photos:
        objects = iter([(re.sub(r"[-_ .]?\d+$", "", path.stem) or path.stem, values > 0)])
    elif above != FOLDER:
        objects = ((above, mask) for _value, mask in _by_value(values))
    else:
        objects = _by_class(values, categories)
    for number, (category, mask) in enumerate(objects, 1):
        place = "{}, object {}".format(where, number)
        with report.at(place):
            photo.labels.append(Label(place, category, geometry.from_mask(mask)))


def _values(path: Path) -> np.ndarray:
    """A number for each pixel: the value in the file, or the colour as a number; 0 is black."""
    try:
        with Image.open(str(path)) as image:
            pixels = np.array(image.convert("RGB") if image.mode in ("RGBA", "LA", "CMYK") else image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadLabelError("no picture that can be read ({})".format(error)) from error
    if pixels.ndim > 2:  # noqa: PLR2004 - colours
        pixels = pixels[..., :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    numbers: np.ndarray = pixels.astype(np.int64)
    return numbers


def _by_value(values: np.ndarray) -> Iterator[Tuple[int, np.ndarray]]:
    every = [int(value) for value in np.unique(values) if value]
    if len(every) > MOST_OBJECTS:
        raise BadLabelError("it has {} colours, so it is no mask; was it saved as a JPEG once?".format(len(every)))
    for value in every:
        yield value, values == value


def _by_class(values: np.ndarray, categories: List[Category]) -> Iterator[Tuple[str, np.ndarray]]:
    """Every connected area of every class."""
    from skimage.measure import label  # noqa: PLC0415 - slow to import, and this layout alone needs it

    names = {category.id: category.name for category in categories}
    for value, mask in _by_value(values):
        if value not in names:
            raise BadLabelError("there is no line {} in {}".format(value, CLASSES))
        areas, number = label(mask, connectivity=2, return_num=True)  # type: ignore[no-untyped-call]
        if number > MOST_OBJECTS:
            raise BadLabelError(
                "{} has {} areas that do not touch, which can hardly be objects".format(names[value], number)
            )
        for area in range(1, number + 1):
            yield names[value], areas == area
