# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The weights that others have trained: what there is of them, and where. `fetching` brings them.

It puts a file in its place when it is whole and its sum is right. So whoever uses it looks at no more than its size,
which tells of half a copy that was made in another way.
"""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from mrcnn_workbench import site
from mrcnn_workbench.errors import WorkbenchError

FOLDER = "MASKRCNN_WEIGHTS"  # the variable that names a folder
FILE = site.FILE.with_name("weights.json")  # what the role has written of them; without it they are as here
# As in playbooks/vars/site.yml, _site_weights. Of ImageNet's only an MD5 sum was ever published.
KNOWN: Dict[str, Dict[str, Any]] = {
    "coco": {
        "name": "mask_rcnn_coco.h5",
        "url": "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5",
        "sha256": "ab8f779d74d790abe4fcf3f60ab368129df5ee866262c439c6bae5af13afaf56",
        "size": 257557808,
    },
    "imagenet": {
        "name": "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "url": "https://github.com/fchollet/deep-learning-models/releases/download/v0.2/"
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5": "a268eb855778b3df3c7506639542a6af",
        "size": 94653016,
    },
}
SUMS = ("sha256", "md5")
BIG = 1e7  # bytes: from here on, megabytes are whole ones


class Weights(NamedTuple):
    """A file with weights, and what it has to be."""

    name: str  # as settings have it
    file: str
    source: str  # an address, or on this machine a path
    size: int
    algorithm: str
    sum: str


class Folder(NamedTuple):
    """Where weights are looked for, and why there."""

    path: Path
    whose: str


class Place(NamedTuple):
    """What is in a folder of a file: nothing, the whole of it (`whole`), or what is wrong with it."""

    path: Path
    whose: str
    whole: bool
    wrong: str


def known() -> Dict[str, Weights]:
    """All that can be fetched, as this environment's site has them. Raises WorkbenchError."""
    path = Path(sys.prefix) / FILE
    listed = dict(KNOWN)
    try:
        listed.update(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError) as error:
        raise WorkbenchError("{}: cannot be read ({}); provision the environment again".format(path, error)) from error
    found = {}
    for name, entry in listed.items():
        try:
            algorithm = next(known_sum for known_sum in SUMS if known_sum in entry)
            source = "{}/{}".format(entry["mirror"], entry["name"]) if entry.get("mirror") else entry["url"]
            found[name] = Weights(name, entry["name"], source, int(entry["size"]), algorithm, entry[algorithm])
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise WorkbenchError("{}: {}: {!r} is missing or wrong".format(path, name, error)) from error
    return found


def named(name: str) -> Weights:
    """One of them. Raises WorkbenchError."""
    found = known()
    if name not in found:
        raise WorkbenchError("weights: {!r:.60} is not known; known are {}".format(name, ", ".join(found)))
    return found[name]


def folders() -> List[Folder]:
    """Where they are looked for, in this order. Raises WorkbenchError."""
    given = os.environ.get(FOLDER)
    found = [Folder(Path(given).expanduser(), FOLDER)] if given else []
    found += [Folder(Path(folder).expanduser(), "the site's") for folder in site.read().weights_dirs]
    if own() not in [folder.path for folder in found]:
        found.append(Folder(own(), "yours"))
    return found


def own() -> Path:
    """The user's own folder: with their software, where there is a place for it, since homes are small."""
    apps = Path(os.environ.get("APPS") or Path.home() / "apps")
    if not apps.is_dir():
        apps = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return apps / "maskrcnn" / "weights"


def look(weights: Weights) -> List[Place]:
    """What is there of a file, in all folders. Raises WorkbenchError."""
    return [_look(folder, weights) for folder in folders()]


def _look(folder: Folder, weights: Weights) -> Place:
    path = folder.path / weights.file
    wrong = ""
    try:
        found = path.stat()
    except FileNotFoundError:
        if folder.whose == FOLDER and not folder.path.is_dir():
            wrong = "{} names a folder that is not there".format(FOLDER)
        return Place(path, folder.whose, False, wrong)
    except OSError as error:
        return Place(path, folder.whose, False, "cannot be looked at: {}".format(error.strerror))
    if not stat.S_ISREG(found.st_mode):
        wrong = "this is no file"
    elif found.st_size < weights.size:
        wrong = "half a download: {} of {}".format(megabytes(found.st_size), megabytes(weights.size))
    elif found.st_size > weights.size:
        wrong = "another file: it has {} bytes, {} are wanted".format(found.st_size, weights.size)
    elif not os.access(str(path), os.R_OK):
        wrong = "you may not read it"
    return Place(path, folder.whose, not wrong, wrong)


def find(name: str) -> Path:
    """The file with the weights of this name, coco or imagenet. Raises WorkbenchError, with what to do."""
    weights = named(name)
    places = look(weights)
    for place in places:
        if place.whole:
            return place.path
    looked = ["  {} ({})".format(place.path, place.wrong or "not there") for place in places]
    raise WorkbenchError(
        "weights: {file} is not here. To get it ({size}):\n"
        "  mrcnn weights fetch {name}\n"
        "or, where there is no internet, with a copy of {source}:\n"
        "  mrcnn weights fetch {name} --from FILE\n"
        "Looked for:\n{looked}".format(
            file=weights.name,
            size=megabytes(weights.size),
            name=name,
            source=weights.source,
            looked="\n".join(looked),
        )
    )


def megabytes(size: int) -> str:
    return "{:.{}f} MB".format(size / 1e6, 0 if size >= BIG else 1)
