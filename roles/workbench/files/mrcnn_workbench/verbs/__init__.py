# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The verbs of the command `mrcnn`, a module each; here is how options of several of them are read."""

import argparse
from typing import Tuple


def names(text: str) -> Tuple[str, ...]:
    """Names with commas between them."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError("{!r}: names that differ, with commas between them, are wanted".format(text))
    return found


def positive(text: str) -> int:
    """A number from 1 on."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("{!r}: a number from 1 on is wanted".format(text))
    return int(text)
