# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn runs`: all trainings, and how they are."""

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Lists the runs in a folder and below it, the newest first: how far each is, the least loss that it has had on images
that it does not learn from (best val_loss), and its job.

  new        made, not begun          starting   its job has begun, the training not yet
  queued     its job waits            running    it trains
  stopped    it can be resumed        failed     it ended with an error
  finished   at its end               killed     it was ended from outside; it can be resumed
"""


def add_to(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "runs",
        help="list trainings and how they are",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", default=Path("runs"), help="where (runs)")
    command.add_argument("--json", action="store_true", help="print it for programs")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import json
    import sys

    from mrcnn_workbench import watching

    found = watching.everywhere(arguments.folder)
    known, silent = watching.jobs(found)
    views = watching.views(found, known)
    if silent:
        print("mrcnn: " + silent, file=sys.stderr)
    if arguments.json:
        print(json.dumps([watching.record(one) for one in views], indent=2, ensure_ascii=False))
    elif views:
        print(watching.table(watching.COLUMNS, [watching.row(one, arguments.folder) for one in views]))
    else:
        print("{}: there are no runs; `mrcnn train` and `mrcnn submit` make them".format(arguments.folder))
    return 0
