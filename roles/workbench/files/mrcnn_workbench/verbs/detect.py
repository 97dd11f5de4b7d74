# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn detect`: objects in photographs, as pictures to look at and as files for other programs."""

import argparse
import os
import re
from pathlib import Path
from typing import Any, Tuple

from mrcnn_workbench.verbs import names, positive

DESCRIPTION = """\
Finds objects in photographs. Writes, into the folder OUT:

  pictures/       every photograph with masks, classes and scores drawn on it
  results.csv     a line for each object: file, class, score, box, area in pixels, mask
  results.json    the same as COCO has results; images.json says which images and classes its ids mean

MODEL is a run, the folder that `mrcnn train` has made; or coco, the 80 classes of everyday things that COCO's weights
know. IMAGES are files, folders (to their depth) and patterns.
"""
MORE = """\
Photographs that the camera took upright are turned as people see them. A photograph that cannot be read is named and
left out. The same command again goes on where it was interrupted.

  mrcnn detect runs/leaves-2 photographs
  mrcnn detect runs/leaves-2 'field/2026-*/*.jpg' --out found --min-score 0.9
  mrcnn detect runs/leaves-2 photographs --classes leaf --no-pictures
  mrcnn detect coco photographs

Many photographs, in a Slurm job array; whichever job is the last writes the results:

  sbatch --array=1-8 --gpus=1 --wrap 'mrcnn detect runs/leaves-2 photographs --out found --part slurm'

The exit code is 0 if all was done, 1 if photographs could not be read, 3 if it was stopped and can go on, 2 if
something is wrong.
"""
BROKEN = 1
SLURM = "slurm"


def add_to(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "detect",
        help="find objects in photographs",
        description=DESCRIPTION,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("model", metavar="MODEL", help="a run, or coco")
    command.add_argument("images", metavar="IMAGES", nargs="+", help="files, folders, patterns")
    command.add_argument("--out", metavar="OUT", type=Path, help="where to (detections/MODEL-IMAGES)")
    add_options(command)
    command.add_argument("--classes", metavar="A,B,...", type=names, default=(), help="only objects of these classes")
    command.add_argument("--no-pictures", dest="pictures", action="store_false", help="draw none")
    command.add_argument(
        "--part",
        metavar="K/N",
        type=_part,
        help="only every N-th photograph, from the K-th on; slurm: by the job array",
    )
    command.add_argument("--force", action="store_true", help="replace what another detection has left in OUT")
    command.set_defaults(run=run)


def add_options(command: argparse.ArgumentParser) -> None:
    """How a model is used; `evaluate` has them too."""
    command.add_argument("--checkpoint", metavar="WHICH", default="", help="an epoch, last, or a file (the best)")
    command.add_argument(
        "--min-score", metavar="SCORE", type=_score, help="what scores less is left out (the model's own)"
    )
    command.add_argument("--batch", metavar="NUMBER", type=positive, default=1, help="photographs at once (1)")
    command.add_argument("--any-gpu", action="store_true", help="on a GPU too that TensorFlow does not know")


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = -1
    if not 0 <= score <= 1:
        raise argparse.ArgumentTypeError("{!r}: a number from 0 to 1 is wanted".format(text))
    return score


def _part(text: str) -> Tuple[int, int]:
    """Which part of how many."""
    if text == SLURM:
        try:
            task, first, step, tasks = (
                int(os.environ["SLURM_ARRAY_TASK_" + name]) for name in ("ID", "MIN", "STEP", "COUNT")
            )
        except (KeyError, ValueError):
            raise argparse.ArgumentTypeError("slurm: this is no job of an array (sbatch --array=1-8)") from None
        number = (task - first) // max(step, 1) + 1
        text = "{}/{}".format(number, tasks)
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match.group(1)) <= int(match.group(2)):
        raise argparse.ArgumentTypeError("{!r}: K/N is wanted, such as 1/8, the first of eight".format(text))
    return int(match.group(1)), int(match.group(2))


def run(arguments: argparse.Namespace) -> int:
    from mrcnn_workbench import detection, models
    from mrcnn_workbench.errors import INTERRUPTED, relative
    from mrcnn_workbench.progress import Journal

    model = models.find(arguments.model, arguments.checkpoint)
    images = detection.search(arguments.images)
    min_score = model.min_score if arguments.min_score is None else arguments.min_score
    plan = detection.plan_of(model, images, min_score, arguments.classes, arguments.pictures)
    first = Path(arguments.images[0])
    out = arguments.out or Path("detections", "{}-{}".format(model.name, _plain(first)))
    journal = Journal()

    def detector() -> Any:
        from mrcnn_workbench.inference import Detector

        found = Detector(model, min_score, arguments.batch, arguments.any_gpu)
        journal.say("{}: score {:g} and more; on {}".format(relative(model.weights), min_score, found.device))
        return found, arguments.batch

    part = detection.Part(*(arguments.part or ()))
    try:
        outcome = detection.Job(out, plan)(part, detector, journal, arguments.force)
    except KeyboardInterrupt:
        journal.say("stopped; the same command goes on with it")
        return INTERRUPTED
    finally:
        journal.close()
    _tell(outcome, relative(out), arguments.pictures)
    return BROKEN if outcome.broken else 0


def _plain(path: Path) -> str:
    """What to call the results of images by their first name, which may be a pattern."""
    while re.search(r"[*?\[]", path.name):
        path = path.parent
    return path.resolve().stem


def _tell(outcome: Any, out: str, pictures: bool) -> None:
    from mrcnn_workbench.errors import count, listed

    done = outcome.images - outcome.left
    objects = ", ".join("{} {}".format(name, number) for name, number in outcome.objects.items()) or "nothing"
    print("{}: {}".format(count(done - len(outcome.broken), "image"), objects))
    if outcome.empty and outcome.objects:
        print("Nothing was found in {} of them.".format(outcome.empty))
    if outcome.turned:
        print("{} on the side in the file; here as people see it.".format(count(outcome.turned, "photograph") + " lay"))
    if outcome.broken:
        print("{} could not be read:\n{}".format(count(len(outcome.broken), "file"), listed(outcome.broken)))
    if outcome.left:
        print(
            "{} left to other parts; the last of them writes the results. The same command without --part does "
            "what is left.".format(count(outcome.left, "image"))
        )
        return
    print("{0}/results.csv, results.json{1}".format(out, ", pictures" if pictures else ""))
