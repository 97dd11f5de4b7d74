# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn tune`: the same training with several settings, and which did best."""

import argparse
import time
from pathlib import Path
from typing import Any, Dict, List

from mrcnn_workbench.verbs import positive, submit, train

DESCRIPTION = """\
Tries several settings: every combination of the values that are given, or some at random. Each trial is a run in one
folder; they are trained here one after the other, or as one Slurm array. A trial that fails is reported, and the
others go on. In the end there is a table, the best first, in the terminal and as results.csv.

WHAT and the options are as for `mrcnn train`, and are the same for all trials; NAME is any setting, one of a stage
(layers, epochs, learning_rate), or model.SETTING for mrcnn's own. Of several stages the first has the learning rate
that is tried, and the others have theirs in proportion.
"""
MORE = """\
  mrcnn tune leaves.yml --try learning_rate=0.01,0.001
  mrcnn tune dataset --layers heads --epochs 5 --try image_size=512,1024 --try augmentation=mirror,field
  mrcnn tune leaves.yml --try learning_rate=0.0001..0.1 --try momentum=0.8,0.9 --random 10
  mrcnn tune leaves.yml --try model.RPN_ANCHOR_SCALES='[8,16,32,64,128],[16,32,64,128,256]' --submit
  mrcnn tune --resume runs/tune-leaves       what is left; with --submit as jobs
  mrcnn tune --results runs/tune-leaves      the table as it is now

`mrcnn runs FOLDER` shows how the trials go on.
"""


def add_to(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "tune",
        help="try several settings, and see which do best",
        description=DESCRIPTION,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_options(command, "the folder for all trials (runs/tune-WHAT-DATE-TIME)")
    command.add_argument(
        "--try", metavar="NAME=V1,V2", action="append", default=[], dest="tried",
        help="values to try; with --random also NAME=LEAST..MOST; more than once: every combination",
    )  # fmt: skip
    command.add_argument("--random", metavar="N", type=positive, default=0, help="only so many, at random")
    command.add_argument("--seed", metavar="NUMBER", type=int, default=0, help="another seed, other ones (0)")
    command.add_argument("--resume", metavar="FOLDER", type=Path, help="go on with what is left of a tune")
    command.add_argument("--results", metavar="FOLDER", type=Path, help="the table of a tune, and results.csv")
    command.add_argument("--dry-run", action="store_true", help="check everything, show it, and leave nothing")
    command.add_argument("--submit", action="store_true", help="as a Slurm array")
    command.add_argument("--at-once", metavar="N", type=positive, default=4, help="so many jobs at once (4)")
    submit.add_options(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from mrcnn_workbench import slurm, submission, tuning
    from mrcnn_workbench.errors import WorkbenchError

    if arguments.results:
        return show(tuning.Tune(arguments.results))
    if arguments.submit and not slurm.here():
        raise WorkbenchError("there is no Slurm here (sbatch is not found); without --submit it is done here, in turn")
    if not arguments.submit and _asks(arguments):
        raise WorkbenchError("{} is of use with --submit only".format(_asks(arguments)[0]))
    if arguments.resume:
        if train.says_more(arguments) or arguments.tried:
            raise WorkbenchError("--resume goes by the settings of the trials: no others can be given with it")
        tune = tuning.Tune(arguments.resume)
        if not arguments.submit:
            return in_turn(tune, arguments)
        asked = submit.asked_for(arguments)
        return hand_in(tune, _gpus(tune), submission.remembered(tune.runs[0], asked), arguments)
    return begin(arguments)


def _asks(arguments: argparse.Namespace) -> List[str]:
    """Options that ask Slurm for something."""
    names = [name for name, value in submit.asked_for(arguments).items() if value and name != "any_gpu"]
    return ["--" if name == "sbatch" else "--" + name for name in names]


def _gpus(tune: Any) -> int:
    """For how many all trials are."""
    from mrcnn_workbench import runs, settings

    return int(settings.load(tune.runs[0].path(runs.SETTINGS))["gpus"])


def begin(arguments: argparse.Namespace) -> int:
    """New trials."""
    from mrcnn_workbench import settings, site, submission, tuning
    from mrcnn_workbench.errors import WorkbenchError, count, relative

    asked = submit.asked_for(arguments)
    submit.set_gpus(arguments, asked)
    base, folder = train.wishes(arguments)
    folder = arguments.folder or folder.with_name(
        "tune-{}-{}".format(arguments.what.resolve().stem, time.strftime("%Y%m%d-%H%M%S"))
    )
    found = tuning.trials(tuning.combinations(tuning.tries(arguments.tried), arguments.random, arguments.seed))
    wanted = [tuning.with_values(base, trial.values) for trial in found]
    if any(one["start"] == settings.LAST for one in wanted):
        raise WorkbenchError("start: last: the trials would begin with each other; name the run to start from")
    if folder.exists():
        raise WorkbenchError(
            "{0}: is there already; `mrcnn tune --resume {0}` goes on with it".format(relative(folder))
        )
    options = submission.options(base["gpus"], asked, site.read()) if arguments.submit else []
    from mrcnn_workbench import training  # from here on it takes seconds

    made = [(trial, one, training.check(one, folder.absolute() / trial.name)) for trial, one in zip(found, wanted)]
    print("{}: {}".format(relative(folder), count(len(found), "trial")))
    if arguments.dry_run:
        print("\n".join("  " + trial.name for trial in found))
        if arguments.submit:
            options = [tuning.array(range(len(found)), arguments.at_once), *options]
            print(tuning.script(folder.absolute(), len(found), options, arguments.any_gpu), end="")
        return 0
    tune = tuning.Tune.create(folder, made)
    if not arguments.submit:
        return in_turn(tune, arguments)
    import shutil

    try:
        return hand_in(tune, base["gpus"], asked, arguments)
    except WorkbenchError:
        shutil.rmtree(str(tune.folder), ignore_errors=True)  # else the next try would find it in its way
        raise


def in_turn(tune: Any, arguments: argparse.Namespace) -> int:
    from mrcnn_workbench import tuning
    from mrcnn_workbench.errors import INTERRUPTED, relative

    if arguments.dry_run:
        left = tune.left()
        print("\n".join(tune.trials[place].name for place in left) if left else "nothing is left to do")
        return 0
    if not tuning.in_turn(tune, arguments.any_gpu, lambda line: print("\n" + line, flush=True)):
        print("To go on: mrcnn tune --resume {}".format(relative(tune.folder)))
        return INTERRUPTED
    print()
    return show(tune)


def hand_in(tune: Any, gpus: int, asked: Dict[str, Any], arguments: argparse.Namespace) -> int:
    from mrcnn_workbench import site, submission, tuning
    from mrcnn_workbench.errors import count, relative

    options = submission.options(gpus, asked, site.read())
    if arguments.dry_run:
        places = tune.left()
        if places:
            options = [tuning.array(places, arguments.at_once), *options]
            print(tuning.script(tune.folder, len(tune.trials), options, bool(asked.get("any_gpu"))), end="")
        return 0
    job, number = tuning.hand_in(tune, options, asked, arguments.at_once)
    if not job:
        print("Nothing is left to do.")
        return show(tune)
    name = relative(tune.folder)
    print("Job {}: {}".format(job, count(number, "trial")))
    print("How they go on:  mrcnn runs {}".format(name))
    print("In the end:      mrcnn tune --results {}".format(name))
    return 0


def show(tune: Any) -> int:
    from mrcnn_workbench import tuning, watching
    from mrcnn_workbench.errors import relative

    views, _silent = tune.views()
    header, rows = tuning.results(tune, views)
    print(watching.table(header[:-1], [cells[:-1] for cells in rows]))
    failed = tuning.failures(views)
    if failed:
        print("\n" + failed)
    print("\nThe same: {}".format(relative(tune.folder / tuning.RESULTS)))
    return 0
