# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn watch`: how one training goes on, until it ends."""

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Follows a run: while its job waits, while it trains, while the job is queued again, until the training ends. Ctrl-C
ends the watching, never the training.

The exit code is 0 if the training has finished, 3 if it was stopped and can be resumed, 2 if it failed or was killed.
"""


def add_to(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "watch",
        help="follow a training in the terminal",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("folder", metavar="RUN", type=Path, help="the run's folder")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import contextlib
    import sys

    from mrcnn_workbench import runs, watching
    from mrcnn_workbench.errors import CTRL_C, FAILED, INTERRUPTED, relative
    from mrcnn_workbench.progress import Journal

    found = runs.Run(arguments.folder)
    name = relative(found.folder)
    try:
        with contextlib.closing(Journal()) as journal:
            one = watching.Follower(found, journal)()
    except KeyboardInterrupt:
        print("mrcnn: no longer watched; the training goes on: mrcnn watch {}".format(name), file=sys.stderr)
        return CTRL_C
    print(watching.told(one))
    if one.status == runs.FINISHED:
        return 0
    again = "mrcnn submit --resume" if one.number else "mrcnn train --resume"
    print("To go on: {} {}".format(again, name))
    return INTERRUPTED if one.status == runs.STOPPED else FAILED
