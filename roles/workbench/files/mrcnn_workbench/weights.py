# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The weights that others have trained: where they are."""

from pathlib import Path

from mrcnn_workbench.errors import WorkbenchError


def find(name: str) -> Path:
    """The file with the weights of this name, coco or imagenet. Raises WorkbenchError, with what to do."""
    raise WorkbenchError("weights: {} is not here".format(name))
