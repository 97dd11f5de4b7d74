# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The formats that labels come in, a module each, and how to tell them apart: by what is in a file, not by its name.

A module has TITLE; `recognises`, whether a file's content is of its format; and `read`, which makes Labels of files and
tells the report what cannot be used (`masks`, told by its folder, has `read_folder`). Adding a format is adding a
module to FORMATS, and its name to those of `mrcnn data import`.
"""

from types import ModuleType
from typing import Dict

from mrcnn_workbench.formats import coco, cvat, labelme, masks, via, voc
from mrcnn_workbench.formats.document import Document

FORMATS: Dict[str, ModuleType] = {
    "via": via,
    "coco": coco,
    "labelme": labelme,
    "voc": voc,
    "cvat": cvat,
    "masks": masks,
}


def recognise(document: Document) -> str:
    """The name of a file's format, or nothing."""
    return next((name for name, module in FORMATS.items() if module.recognises(document.content)), "")
