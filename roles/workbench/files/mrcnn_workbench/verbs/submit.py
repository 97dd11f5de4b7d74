# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn submit`: a training as a Slurm job."""

import argparse
import shutil
from pathlib import Path
from typing import Any, Dict, List

from mrcnn_workbench.verbs import positive, train

DESCRIPTION = """\
Trains in a Slurm job what `mrcnn train` would train here. The run's folder is made at once, with all that can be
checked; the job goes on until the training is at its end: when its time is up it queues again and goes on after the
last whole epoch, so that a training of days fits into a partition of hours, as long as an epoch does.

WHAT is a data set or a file with settings, as for `mrcnn train`. What follows -- goes to sbatch as it is.
"""
MORE = """\
  mrcnn submit dataset
  mrcnn submit leaves.yml --gpus v100:1 --time 6:00:00
  mrcnn submit leaves.yml --gpus 0 --cpus 8                  without a GPU
  mrcnn submit leaves.yml -- --mail-type=END                 options of sbatch's
  mrcnn submit leaves.yml --dry-run                          show the script, and leave nothing
  mrcnn submit --resume runs/leaves-2                        one that was stopped; asks for the same as the last time

`scancel JOB` stops it after its step; it can be resumed. `mrcnn watch RUN` and `mrcnn runs` show how it goes on.
"""


def add_to(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "submit",
        help="train in a Slurm job",
        description=DESCRIPTION,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_options(command)
    command.add_argument("--resume", metavar="RUN", type=Path, help="go on with this run, which was stopped")
    add_options(command)
    command.add_argument("--dry-run", action="store_true", help="check everything, show the script, and leave nothing")
    command.set_defaults(run=run)


def add_options(command: argparse.ArgumentParser) -> None:
    """What is asked of Slurm; `tune` has them too."""
    asked = command.add_argument_group("what to ask Slurm for")
    asked.add_argument(
        "--gpus", metavar="TYPE:N|N", help="as many as the settings say, of a type that is of use; 0: none"
    )
    asked.add_argument("--partition", metavar="NAME", help="the site's, with GPUs and without")
    asked.add_argument(
        "--time", metavar="TIME", help="of a job, not of all the training: HOURS:MINUTES:SECONDS or DAYS-HOURS"
    )
    asked.add_argument("--mem", metavar="SIZE", help="memory, such as 16G")
    asked.add_argument("--cpus", metavar="NUMBER", type=positive, help="CPUs, which prepare the images")
    asked.add_argument("--account", metavar="NAME", help="for clusters that keep accounts")
    asked.add_argument("--any-gpu", action="store_true", help="on a GPU too that TensorFlow does not know")
    take_rest(command)


def take_rest(command: argparse.ArgumentParser) -> None:
    """What follows `--` becomes `sbatch`; argparse itself would take it for WHAT."""
    parse = command.parse_known_args

    def parse_known_args(args: Any = None, namespace: Any = None) -> Any:
        own: List[str] = list(args or [])
        place = own.index("--") if "--" in own else len(own)
        found, unknown = parse(own[:place], namespace)
        found.sbatch = own[place + 1 :]
        return found, unknown

    setattr(command, "parse_known_args", parse_known_args)  # noqa: B010 - mypy lets nobody replace a method


def asked_for(arguments: argparse.Namespace) -> Dict[str, Any]:
    from mrcnn_workbench.submission import ASKED

    return {name: getattr(arguments, name) for name in ASKED}


def set_gpus(arguments: argparse.Namespace, asked: Dict[str, Any]) -> None:
    """A training is for as many GPUs as Slurm is asked for; without any it does not matter."""
    from mrcnn_workbench import submission

    number = submission.number_of_gpus(asked)
    if number:
        arguments.more.append("gpus={}".format(number))


def run(arguments: argparse.Namespace) -> int:
    from mrcnn_workbench import slurm
    from mrcnn_workbench.errors import WorkbenchError

    if not slurm.here():
        raise WorkbenchError("there is no Slurm here (sbatch is not found); `mrcnn train` trains without it")
    if arguments.resume and train.says_more(arguments):
        raise WorkbenchError("--resume goes by the settings of the run: no others can be given with it")
    return resume(arguments) if arguments.resume else submit(arguments)


def submit(arguments: argparse.Namespace) -> int:
    """A new run."""
    from mrcnn_workbench import site, submission
    from mrcnn_workbench.errors import WorkbenchError

    asked = asked_for(arguments)
    set_gpus(arguments, asked)
    wanted, folder = train.wishes(arguments)
    if folder.exists():
        raise WorkbenchError("{0}: is there already; `mrcnn submit --resume {0}` goes on with it".format(folder))
    options = submission.options(wanted["gpus"], asked, site.read())
    from mrcnn_workbench import training  # from here on it takes seconds

    if arguments.dry_run:
        training.check(wanted, folder)
        return _show(folder, submission.script_of(folder.absolute(), options, arguments.any_gpu))
    run = training.begin(wanted, folder)
    try:
        with submission.handing_in(run.folder):
            job = submission.hand_in(run, options, asked)
    except BaseException:
        shutil.rmtree(str(run.folder), ignore_errors=True)  # else the next try would find it in its way
        raise
    return _tell(run, job)


def resume(arguments: argparse.Namespace) -> int:
    """One that was begun, or at least made, before."""
    from mrcnn_workbench import runs, settings, site, submission, watching
    from mrcnn_workbench.errors import WorkbenchError, relative

    run = runs.Run(arguments.resume)
    with submission.handing_in(run.folder):
        known, silent = watching.jobs([run])
        if silent:
            raise WorkbenchError(silent)
        one = watching.view(run, known)
        name = relative(run.folder)
        if one.status == runs.FINISHED:
            raise WorkbenchError("{0}: it has finished; to train on: mrcnn submit WHAT --start {0}".format(name))
        if one.status in (watching.QUEUED, watching.STARTING, runs.RUNNING):
            raise WorkbenchError("{0}: {1}; `mrcnn watch {0}` follows it".format(name, watching.told(one)))
        wanted = settings.load(run.path(runs.SETTINGS))
        asked = submission.remembered(run, asked_for(arguments))
        number = submission.number_of_gpus(asked)
        if number not in (0, wanted["gpus"]):
            raise WorkbenchError("--gpus {}: the run was begun for {}".format(asked["gpus"], wanted["gpus"]))
        options = submission.options(wanted["gpus"], asked, site.read())
        if arguments.dry_run:
            return _show(run.folder, submission.script_of(run.folder, options, bool(asked["any_gpu"])))
        return _tell(run, submission.hand_in(run, options, asked))


def _show(folder: Path, text: str) -> int:
    import shlex

    from mrcnn_workbench import runs

    print("# sbatch --parsable {}".format(shlex.quote(str(folder.absolute() / runs.SCRIPT))))
    print(text, end="")
    return 0


def _tell(run: Any, job: str) -> int:
    import shlex

    from mrcnn_workbench import runs
    from mrcnn_workbench.errors import relative

    name = relative(run.folder)
    print("Job {}: {}".format(job, name))
    print("To watch it:  mrcnn watch {}".format(name))
    print("              mrcnn runs")
    print("On your own computer: maskrcnn tensorboard {}".format(shlex.quote(str(run.path(runs.EVENTS)))))
    return 0
