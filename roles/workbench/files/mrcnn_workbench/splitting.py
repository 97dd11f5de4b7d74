# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which photographs to learn from, and which to keep for the judgement."""

import hashlib
import re
from typing import Dict, List

from mrcnn_workbench.errors import WorkbenchError, count


def group_of(name: str, pattern: str) -> str:
    """What a photograph belongs to: what a regular expression finds in its name, or its first group if it has one.

    A photograph in which it finds nothing belongs to no other.
    """
    match = compiled(pattern).search(name) if pattern else None
    if not match:
        return name
    return (match.group(1) or "") if match.re.groups else match.group()


def compiled(pattern: str) -> "re.Pattern[str]":
    """Raises WorkbenchError."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise WorkbenchError("--group {}: this is no regular expression ({})".format(pattern, error)) from error


def split(names: List[str], fraction: float, seed: int, pattern: str) -> Dict[str, str]:
    """`train` or `val` for every photograph.

    Groups are put in an order that depends on the seed and their own names only: photographs that are added later
    hardly move those that were there. Neither half is left empty if there are two groups and the fraction is between
    0 and 1.
    """
    if not 0 <= fraction <= 1:
        raise WorkbenchError("--val {:g}: a fraction from 0 to 1 is wanted, such as 0.2".format(fraction))
    groups: Dict[str, List[str]] = {}
    for name in names:
        groups.setdefault(group_of(name, pattern), []).append(name)
    order = sorted(groups, key=lambda group: hashlib.sha256("{} {}".format(seed, group).encode()).digest())
    if pattern and len(order) == 1 and len(names) > 1:
        raise WorkbenchError("--group {}: all {} are one group".format(pattern, count(len(names), "photograph")))
    if fraction == 1:
        return dict.fromkeys(names, "val")
    wanted = fraction * len(names)
    found = dict.fromkeys(names, "train")
    kept = 0
    for group in order[:-1]:
        # The group that comes nearest to the fraction is the last.
        if fraction == 0 or (kept and kept + len(groups[group]) / 2 > wanted):
            break
        found.update(dict.fromkeys(groups[group], "val"))
        kept += len(groups[group])
    return found
