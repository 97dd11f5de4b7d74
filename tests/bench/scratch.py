# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the bench works: a filesystem of its own, which is gone in a moment with the million files in it.

To remove them one by one would take longer than to measure.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .place import BenchError, Place

GB = 1 << 30
# The file has holes where nothing was written; a replica has 5,000 inodes, and there are several hundred.
SIZE, BYTES_AN_INODE = 48 * GB, 8192


@dataclass(frozen=True)
class Scratch:
    """An empty folder; what is in a filesystem of its own need not be removed."""

    folder: Path
    filesystem: bool


@contextmanager
def scratch(kept: Path, place: Path | None) -> Iterator[Scratch]:
    """A folder, until the block ends: in ``place``, if that is given, on whatever filesystem that is.

    Else, where this user may mount (root, with loop devices), one of an image in ``kept``; a plain folder in there
    otherwise.
    """
    with ExitStack() as stack:
        if place is None and _is_mounted(kept, folder := _folder(stack, None)):
            # Lazily: what an interrupted run has started may still be at work in it.
            stack.callback(Place().run, "umount", "--lazy", folder)
            yield Scratch(folder, True)
        else:
            yield Scratch(_folder(stack, place or kept), False)


def _folder(stack: ExitStack, place: Path | None) -> Path:
    """A new one, until ``stack`` ends."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=place)))


def _is_mounted(kept: Path, folder: Path) -> bool:
    """Mounts a new filesystem there, where nobody who searches the checkout gets into it; whether that could be done.

    The image has lost its name by then: it is gone as soon as nobody uses it, however this run ends.
    """
    if os.geteuid() != 0:
        return False
    with tempfile.NamedTemporaryFile(prefix="image-", dir=kept) as image, suppress(BenchError):
        os.truncate(image.name, SIZE)
        # Nothing is left for the kernel to do later, while a clock runs.
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        Place().run("mkfs.ext4", "-q", "-F", "-i", str(BYTES_AN_INODE), "-m", "0", "-E", lazy, image.name)
        Place().run("mount", "-o", "loop", image.name, folder)
        return True
    return False
