# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn evaluate`: how good a model is, by the labels of a data set."""

import argparse
from pathlib import Path
from typing import Any

from mrcnn_workbench.verbs import names
from mrcnn_workbench.verbs.detect import add_options

DESCRIPTION = """\
Compares what a model finds with the labels of a data set: COCO's average precision (mAP) of masks and boxes, by class
and by IoU; precision and recall at a score; and how well the masks fit.

MODEL is a run, the folder that `mrcnn train` has made; or coco. DATASET is the run's own if none is named.
"""
MORE = """\
Writes evaluation.json, evaluation.csv (a line for each class), evaluation.png (curves) and results.json (what was
found, as COCO has results) into the run's folder `evaluation`, replacing those of before, or into OUT.

  labels, found, right   in the data set; with the score or more; those that overlap a label by an IoU of 0.5
  precision, recall      right of found; right of labels
  mean IoU               how well masks fit, over all labels; 0 for those that were not found
  mask AP, AP50, AP75    average precision: the mean over the IoUs from 0.5 to 0.95; at 0.5; at 0.75
  box AP                 the same of boxes

  mrcnn evaluate runs/leaves-2
  mrcnn evaluate runs/leaves-2 --split train --out on-train
  mrcnn evaluate runs/leaves-2 other-dataset --min-score 0.9 --out on-others
"""


def add_to(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "evaluate",
        help="say how good a model is",
        description=DESCRIPTION,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("model", metavar="MODEL", help="a run, or coco")
    command.add_argument("data", metavar="DATASET", type=Path, nargs="?", help="a data set (the run's own)")
    command.add_argument("--split", choices=("val", "train"), default="val", help="which half of it (val)")
    command.add_argument("--out", metavar="OUT", type=Path, help="where to (RUN/evaluation)")
    add_options(command)
    command.add_argument("--classes", metavar="A,B,...", type=names, default=(), help="judge only these classes")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from mrcnn_workbench import dataset, evaluation, models
    from mrcnn_workbench.errors import WorkbenchError, count, relative
    from mrcnn_workbench.progress import Journal

    model = models.find(arguments.model, arguments.checkpoint)
    if model.run is None and arguments.data is None:
        raise WorkbenchError("{}: on which data set? `mrcnn evaluate --help` has examples".format(arguments.model))
    folder = arguments.data or Path(model.settings["data"])
    halves = dataset.read(folder)
    if arguments.split not in halves:
        raise WorkbenchError("{}: there is no {}; --split {} is".format(folder, arguments.split, ", ".join(halves)))
    truth = evaluation.Truth(halves[arguments.split], model.classes[1:], arguments.classes)
    out = arguments.out or (model.run.path("evaluation") if model.run else Path("evaluation"))
    min_score = model.min_score if arguments.min_score is None else arguments.min_score

    from mrcnn_workbench.inference import Detector

    detector = Detector(model, min(evaluation.LEAST_SCORE, min_score), arguments.batch, arguments.any_gpu)
    title = "{} on {}, {}".format(model.name, folder.resolve().name, arguments.split)
    journal = Journal()
    try:
        journal.say(
            "{} ({}): {}, {}; on {}".format(
                title, model.weights.name, count(len(truth.sizes), "image"), count(len(truth.labels), "label"),
                detector.device,
            )
        )  # fmt: skip
        found = evaluation.find(truth, model.classes, detector, arguments.batch, journal)
    finally:
        journal.close()
    judged = evaluation.judge(truth, found, min_score)
    judged.report.update(
        model=model.name, weights=str(model.weights), data=str(folder.resolve()), split=arguments.split
    )
    evaluation.write(out, judged, found, title)
    print("\n".join(["", *evaluation.table(judged.report), ""]))
    left_out = [name for name in model.classes[1:] if name not in truth.names.values()]
    if left_out and model.run:
        print(
            "Not judged, since {}: {}".format(
                "--classes leaves them out" if arguments.classes else "the data set does not have them",
                ", ".join(left_out),
            )
        )
    print("Scores of {:g} and more. {}/evaluation.json, .csv, .png".format(min_score, relative(out)))
    return 0
