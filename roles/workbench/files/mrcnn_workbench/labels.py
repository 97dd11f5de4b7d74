# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What readers of labels make of a file, whatever its format: photographs with the objects in them."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np

# An object's outline: polygons, arrays of x and y, or a run-length encoded mask as pycocotools has it.
Rle = Dict[str, Any]
Outline = Union[List[np.ndarray], Rle]
Size = Tuple[int, int]  # width, height


class Label(NamedTuple):
    """One object, or a part of one."""

    where: str
    category: str
    outline: Outline
    group: Optional[str] = None  # labels of a photograph that share it and the category are one object
    crowd: bool = False


class Photo:
    """A photograph as the labels have it: by the name that they give it."""

    def __init__(self, where: str, name: str, size: Optional[Size] = None) -> None:
        self.where = where
        self.name = name
        self.size = size  # for which the labels were made, where they say so
        self.labels: List[Label] = []


class Category(NamedTuple):
    """A class, with the id that the source gives it or none."""

    name: str
    id: Optional[int] = None
    supercategory: str = ""


class Labels(NamedTuple):
    """What is in the label files of one format."""

    photos: List[Photo]
    categories: List[Category]  # those that are declared, in that order; others come behind


class Options(NamedTuple):
    """What a reader may be told."""

    class_key: Optional[str] = None
    classes: Tuple[str, ...] = ()
