# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn weights`: which are there, and how to get the others."""

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Says which of the weights that others have trained are here, and where. They are looked for in the folder that the
variable MASKRCNN_WEIGHTS names, then in those of the site, then in your own: $APPS/maskrcnn/weights or
~/apps/maskrcnn/weights, or ~/.local/share/maskrcnn/weights where there is no folder for software.

The exit code is 0, or 1 if something is wrong with a file or a folder.
"""
FETCH = """\
Brings weights to one of the folders where they are looked for, the first that you may write to, unless they are in one
of them already. What was broken off is gone on with, if the server can. The file is put in its place when it is whole
and its sum is right. A proxy is used as the variable https_proxy says.
"""
FETCH_MORE = """\
  mrcnn weights fetch coco
  mrcnn weights fetch coco --from ~/mask_rcnn_coco.h5          brought from another computer
  mrcnn weights fetch coco --to /mnt/shared/projects/leaves    for others, too: export MASKRCNN_WEIGHTS=...
"""


def add_to(subparsers: Any) -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    weights = subparsers.add_parser(
        "weights",
        help="see which weights to begin a training with are here, and fetch others",
        description=DESCRIPTION,
        formatter_class=formatter,
    )
    weights.set_defaults(run=run_list)
    actions = weights.add_subparsers(title="what to do", metavar="ACTION")
    command = actions.add_parser(
        "fetch",
        help="bring weights to where they are looked for",
        description=FETCH,
        epilog=FETCH_MORE,
        formatter_class=formatter,
    )
    command.add_argument("name", metavar="NAME", help="coco, or imagenet (the backbone of ResNet-50 only)")
    command.add_argument("--to", metavar="FOLDER", type=Path, help="this folder, whatever is in the others")
    command.add_argument("--from", metavar="FILE|URL", default="", dest="source", help="a copy, or another address")
    command.set_defaults(run=run_fetch)


def run_list(_arguments: argparse.Namespace) -> int:
    from mrcnn_workbench import weights

    folders = weights.folders()
    spoilt = False
    for wanted in weights.known().values():
        places = weights.look(wanted)
        text = "not here; to get it: mrcnn weights fetch " + wanted.name
        for place in [place for place in places if place.whole][:1]:
            text = "{} ({})".format(place.path, place.whose)
        print("{:10} {:>7}  {}".format(wanted.name, weights.megabytes(wanted.size), text))
        for place in places:
            if place.wrong:
                print("{:10} {:7}  {}: {}".format("", "", place.path, place.wrong))
                spoilt = True
    print("\nLooked for in, the first comes first:")
    for folder in folders:
        print("  {} ({})".format(folder.path, folder.whose))
    return int(spoilt)


def run_fetch(arguments: argparse.Namespace) -> int:
    from mrcnn_workbench.fetching import fetch

    fetch(arguments.name, arguments.to, arguments.source)
    return 0
