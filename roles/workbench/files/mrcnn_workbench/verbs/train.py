# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn train`: a run, from a data set or from settings, or on from where it was interrupted."""

import argparse
import time
from pathlib import Path
from typing import Any, Dict, Tuple

DESCRIPTION = """\
Trains Mask R-CNN on a data set. Everything of it goes into one folder, the run: settings, checkpoints, metrics.csv,
curves.png, log.txt, and TensorBoard's events.

WHAT is a data set, made by `mrcnn data import`, or a YAML file with settings, which may say anything; `mrcnn train
--template` prints one with all of them, their defaults and what they mean.
"""
MORE = """\
Ctrl-C ends it after the step; so does Slurm when the time is up. `mrcnn train --resume RUN` goes on after the last
whole epoch, also after a crash. `mrcnn submit` does all of this in a job.

  mrcnn train dataset
  mrcnn train dataset --layers heads --epochs 10 --set image_size=512
  mrcnn train --template > leaves.yml
  mrcnn train leaves.yml --run runs/leaves-2
  mrcnn train leaves.yml --start runs/leaves-2 --set model.RPN_ANCHOR_SCALES='[16, 32, 64, 128, 256]'
  mrcnn train --resume runs/leaves-2

The exit code is 0 if it came to its end, 3 if it was stopped and can be resumed, 2 if something is wrong.
"""


def add_to(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "train",
        help="train on a data set, or go on with a training",
        description=DESCRIPTION,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(command)
    command.add_argument("--resume", metavar="RUN", type=Path, help="go on with this run; with no other option")
    command.add_argument("--template", action="store_true", help="print a file with all settings")
    command.add_argument("--any-gpu", action="store_true", help="on a GPU too that TensorFlow does not know")
    command.set_defaults(run=run)


def add_options(command: argparse.ArgumentParser, folder: str = "the run's folder (runs/WHAT-DATE-TIME)") -> None:
    """What says which training it is to be; `submit` and `tune` have them too."""
    command.add_argument("what", metavar="WHAT", type=Path, nargs="?", help="a data set, or a file with settings")
    command.add_argument("--run", dest="folder", metavar="RUN", type=Path, help=folder)
    command.add_argument("--start", metavar="WEIGHTS", help="coco, imagenet, nothing, last, a run or a file")
    command.add_argument("--layers", metavar="LAYERS", help="one stage, of heads, 5+, 4+, 3+ or all")
    command.add_argument("--epochs", metavar="NUMBER", help="of that stage")
    command.add_argument("--learning-rate", metavar="RATE", help="of that stage")
    command.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], dest="more",
        help="any other setting; NAME may be model.SETTING for mrcnn's own",
    )  # fmt: skip


def says_more(arguments: argparse.Namespace) -> bool:
    """Whether anything says which training it is to be."""
    names = ("what", "folder", "start", "layers", "epochs", "learning_rate", "more")
    return any(getattr(arguments, name) for name in names)


def wishes(arguments: argparse.Namespace) -> Tuple[Dict[str, Any], Path]:
    """All settings, checked, and the folder for the run. Raises WorkbenchError."""
    from mrcnn_workbench import settings
    from mrcnn_workbench.dataset import is_dataset
    from mrcnn_workbench.errors import WorkbenchError

    what = arguments.what
    if what is None:
        raise WorkbenchError("what to train? `mrcnn train --help` has examples")
    if is_dataset(what):
        given: Dict[str, Any] = {"data": str(what.resolve())}
    elif what.is_dir():
        raise WorkbenchError("{}: this is no data set; make one of your labels with `mrcnn data import`".format(what))
    else:
        given = settings.read(what)
    if arguments.start:
        given["start"] = _start(arguments.start)
    stage = {"layers": arguments.layers, "epochs": arguments.epochs, "learning_rate": arguments.learning_rate}
    stage = {name: settings.parse(value, "--" + name) for name, value in stage.items() if value is not None}
    if stage:
        given["stages"] = [stage]
    for text in arguments.more:
        _set(given, text)
    name = what.resolve().stem
    default = Path("runs", "{}-{}".format(name, time.strftime("%Y%m%d-%H%M%S")))
    return settings.checked(given, str(what)), arguments.folder or default


def _start(text: str) -> str:
    from mrcnn_workbench.settings import STARTS

    return text if text in STARTS else str(Path(text).expanduser().resolve())


def _set(given: Dict[str, Any], text: str) -> None:
    from mrcnn_workbench import settings
    from mrcnn_workbench.errors import WorkbenchError

    name, equals, value = text.partition("=")
    if not equals:
        raise WorkbenchError("--set {}: NAME=VALUE is wanted".format(text))
    parsed = settings.parse(value, "--set " + name)
    if name.startswith("model."):
        given["model"] = dict(given.get("model") or {}, **{name[len("model.") :]: parsed})
    else:
        given[name] = parsed


def run(arguments: argparse.Namespace) -> int:
    from mrcnn_workbench import settings
    from mrcnn_workbench.errors import WorkbenchError

    if arguments.template:
        print(settings.template(), end="")
        return 0
    if arguments.resume and says_more(arguments):
        raise WorkbenchError("--resume goes by the settings of the run: no others can be given with it")
    if arguments.resume:
        from mrcnn_workbench.runs import Run

        found = Run(arguments.resume)
        return train(found, arguments.any_gpu)
    wanted, folder = wishes(arguments)
    from mrcnn_workbench import training

    return train(training.begin(wanted, folder), arguments.any_gpu)


def train(found: Any, any_gpu: bool) -> int:
    from mrcnn_workbench import runs
    from mrcnn_workbench.errors import INTERRUPTED, relative
    from mrcnn_workbench.training import Training

    status = Training(found, any_gpu)()
    name = relative(found.folder)
    if status == runs.STOPPED:
        print("To go on: mrcnn train --resume {}".format(name))
        return INTERRUPTED
    best = found.best()
    print("The best weights are those after epoch {}: {}".format(best.epoch, relative(best.path)))
    print("Next: mrcnn evaluate {0}\n      mrcnn detect {0} PHOTOGRAPHS".format(name))
    return 0
