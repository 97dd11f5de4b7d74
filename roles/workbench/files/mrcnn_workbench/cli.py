# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command `mrcnn`: finds the verb and runs it, and says what goes wrong in a line or two.

A verb is a module in `verbs` with `add_to(subparsers)`, which describes it and sets `run`, a function that takes the
parsed arguments and returns the exit code. Verbs import what is slow only when they run.
"""

import argparse
import os
import sys
import warnings
from typing import List, Optional

from mrcnn_workbench.errors import CTRL_C, FAILED, WorkbenchError
from mrcnn_workbench.verbs import data, detect, doctor, evaluate, runs, submit, train, tune, watch, weights

VERBS = (data, train, detect, evaluate, submit, runs, watch, tune, weights, doctor)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="mrcnn",
        description="From photographs to detections with Mask R-CNN.",
        epilog="`mrcnn VERB --help` says more of a verb.",
    )
    subparsers = top.add_subparsers(title="verbs", metavar="VERB")
    for verb in VERBS:
        verb.add_to(subparsers)
    return top


def main(arguments: Optional[List[str]] = None) -> int:
    # Libraries warn of photographs with unusual metadata and of letters that a font lacks, without saying where.
    warnings.filterwarnings("ignore", module="PIL|matplotlib")
    top = parser()
    parsed = top.parse_args(arguments)
    if "run" not in parsed:
        parsed.help() if "help" in parsed else top.print_help()
        return FAILED
    try:
        code: int = parsed.run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:  # what we write to, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (WorkbenchError, ImportError, OSError) as error:
        print("mrcnn: {}".format(explained(error)), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nmrcnn: stopped", file=sys.stderr)
        return CTRL_C
    return code


def explained(error: Exception) -> str:
    """What went wrong, for people."""
    if isinstance(error, ImportError):
        return "this environment lacks a library ({}): {}".format(error, sys.prefix)
    if isinstance(error, OSError) and error.filename:
        return "{}: {}".format(error.filename, error.strerror)
    return str(error)
