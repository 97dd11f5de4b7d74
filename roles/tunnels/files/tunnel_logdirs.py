# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The log folders that somebody names: their names and paths, or which ones they may have meant."""

import difflib
import os
import re
import sys
from pathlib import Path

from tunnel_state import TunnelError

NAMED = re.compile(r"([A-Za-z0-9_.-]+)=(.+)", re.DOTALL)
EVENTS = "events.out.tfevents."
FOLDERS_TO_LOOK_AT = 2000


def folders(arguments: list) -> list:
    """[name, path] of each folder named on a command line. Raises TunnelError if one is not there."""
    found = []
    for argument in arguments:
        named = NAMED.fullmatch(argument)
        name, text = named.groups() if named and not Path(argument).exists() else ("", argument)
        path = Path(text).expanduser()
        path = Path(os.path.normpath(str(Path.cwd() / path)))
        if not path.is_dir():
            raise TunnelError("there is no log folder {}".format(path), hint(path), 2)
        found.append([name, str(path)])
    if len(found) > 1:
        name_them(found)
    return found


def name_them(found: list) -> None:
    """Give each of several folders a name of its own."""
    given = [name for name, _path in found if name]
    twice = sorted({name for name in given if given.count(name) > 1} | {name for name in given if name in (".", "..")})
    if twice:
        raise TunnelError("the name {} does not tell folders apart".format(twice[0]), "Give each another name.", 2)
    for pair in found:
        base, number = pair[0] or Path(pair[1]).name or "logs", 1
        while not pair[0]:
            name = base if number == 1 else "{}-{}".format(base, number)
            number += 1
            if name not in given:
                pair[0] = name
                given.append(name)


def with_events(top: Path) -> list:
    """The folders below one, and itself, that TensorBoard can show something of. Looks at a limited number."""
    found = []
    for count, (folder, subfolders, files) in enumerate(os.walk(str(top))):
        if count == FOLDERS_TO_LOOK_AT:
            break
        if any(name.startswith(EVENTS) for name in files):
            found.append(folder)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if len(Path(folder).relative_to(top).parts) == 3:  # noqa: PLR2004 - deep enough
            del subfolders[:]
    return found


def hint(path: Path) -> str:
    """Which folders may have been meant."""
    above = path
    while not above.is_dir():
        above = above.parent
    # Not every folder of the machine.
    places = [above] if len(above.parts) > 2 else []  # noqa: PLR2004 - below /home
    places += [Path.home() / "logs", Path(sys.prefix) / "include" / "Mask_RCNN" / "logs"]
    runs = [folder for place in places if place.is_dir() for folder in with_events(place)]
    parents = [str(Path(folder).parent) for folder in runs]
    there = sorted(set(runs + [parent for parent in parents if parents.count(parent) > 1]))
    close = difflib.get_close_matches(str(path), there, n=3, cutoff=0.4) or there[:3]
    return "Logs are in: " + ", ".join(close) if close else "No training has left its logs near there yet."
