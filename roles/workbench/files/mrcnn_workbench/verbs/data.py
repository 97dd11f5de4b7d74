# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn data`: labels become a data set, which is checked and looked at before anything is trained on it."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any, Dict, List

from mrcnn_workbench.verbs import names, positive

Arguments = argparse.Namespace

FORMATS = ("via", "coco", "labelme", "voc", "cvat", "masks")  # those of `formats`, which is slow to import

IMPORT = """\
Makes a data set of labels and the photographs that they belong to: COCO JSON and copies of the images, split into
train and val.

SOURCE is a file with labels or a folder with such files. Which format they have is seen from what is in them:

  via       VGG Image Annotator 1 and 2: JSON, project, CSV
  coco      COCO JSON
  labelme   LabelMe: a JSON file for each photograph
  voc       Pascal VOC: an XML file for each photograph (boxes become polygons with four corners)
  cvat      CVAT for images 1.1: XML
  masks     PNG files in SOURCE/masks: PHOTOGRAPH/CLASS_1.png (a file for each object), CLASS/PHOTOGRAPH.png (every
            value is an object) or PHOTOGRAPH.png (every value is a class, the line of that number in
            SOURCE/classes.txt; every connected area is an object)

A source that is split already (folders train and val, or COCO's instances_train.json and instances_val.json) stays as
it is split.
"""
IMPORT_MORE = """\
OUT is laid out as COCO is: annotations/instances_train.json and instances_val.json, images in train and val. It is
written beside its place and put there when it is complete. Photographs that the camera took upright (EXIF) are turned
as people see them. Labels that reach over the edge are clipped; single points are ignored.

  mrcnn data import photos dataset
  mrcnn data import photos/via_region_data.json dataset --class-key species --val 0.25
  mrcnn data import photos dataset --group '^plant[0-9]+'
"""
CHECK = """\
Finds what would ruin a training or make its judgement worthless: images that are missing, damaged, lying on their
side or of another size than their labels; outlines that are empty, tiny, over the edge or crossing themselves; classes
and ids that do not fit together; the same photograph, or photographs of the same group, in both train and val.

The exit code is 0 if there are no errors, 1 if there are, 2 if it could not look.
"""
SHOW = """\
Draws some of the images with their labels on one page, to be looked at before training: masks in the colour of their
class, boxes and names. OUT ends in .png, .jpg or .pdf.
"""
EXAMPLE = """\
Draws photographs of leaves and flowers whose masks are known to the pixel, with labels as VGG Image Annotator saves
them, to try everything with: OUT/photos, others that nothing is trained on in OUT/unseen, and settings for a training
that takes a minute, OUT/quick.yml.
"""


def add_to(subparsers: Any) -> None:
    data = subparsers.add_parser(
        "data",
        help="import labelled photographs, check them, look at them",
        description="Makes a data set of labelled photographs, checks it, and draws it to be looked at.",
    )
    data.set_defaults(help=data.print_help)
    actions = data.add_subparsers(title="what to do", metavar="ACTION")

    command = _command(actions, "import", "make a data set of labels in any usual format", IMPORT, IMPORT_MORE)
    command.add_argument("source", metavar="SOURCE", type=Path, help="the labels: a file or a folder")
    command.add_argument("out", metavar="OUT", type=Path, help="the data set: a new folder")
    command.add_argument("--format", choices=FORMATS, default="", help="the labels' format, if several are there")
    command.add_argument(
        "--images", metavar="FOLDER", type=Path, help="where the photographs are, if not with the labels"
    )
    command.add_argument("--class-key", metavar="NAME", help="VIA: the region attribute that holds the class")
    command.add_argument(
        "--classes",
        metavar="A,B,...",
        type=names,
        default=(),
        help="only these classes, in this order (ids 1, 2, ...)",
    )
    command.add_argument(
        "--val",
        metavar="FRACTION",
        type=float,
        help="how much goes into val: 0.2 if not split already; 1: all, to judge a model by",
    )  # fmt: skip
    command.add_argument("--seed", metavar="NUMBER", type=int, default=0, help="another seed, another split (0)")
    command.add_argument(
        "--group", metavar="REGEX", default="",
        help="photographs in whose names it finds the same, such as the plant, stay on one side",
    )  # fmt: skip
    command.add_argument("--skip-bad", action="store_true", help="leave out what cannot be used, instead of stopping")
    command.add_argument("--force", action="store_true", help="replace the data set OUT")
    command.set_defaults(run=run_import)

    command = _command(actions, "check", "find what would ruin a training", CHECK)
    command.add_argument("folder", metavar="FOLDER", type=Path, help="a data set")
    command.add_argument("--group", metavar="REGEX", help="as for import, which notes its own in the data set")
    command.add_argument("--json", action="store_true", help="print it for programs")
    command.set_defaults(run=run_check)

    command = _command(actions, "show", "draw images with their labels", SHOW)
    command.add_argument("folder", metavar="FOLDER", type=Path, help="a data set")
    command.add_argument("out", metavar="OUT", type=Path, help="the picture")
    command.add_argument("--count", metavar="NUMBER", type=positive, default=12, help="how many images (12)")
    command.add_argument("--split", choices=("train", "val"), default="", help="only from this half")
    command.add_argument("--seed", metavar="NUMBER", type=int, default=0, help="another seed, other images (0)")
    command.set_defaults(run=run_show)

    command = _command(actions, "example", "draw photographs to try everything with", EXAMPLE)
    command.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    command.add_argument("--seed", metavar="NUMBER", type=int, default=0, help="another seed, other pictures (0)")
    command.set_defaults(run=run_example)


def _command(actions: Any, name: str, summary: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = actions.add_parser(
        name, help=summary, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return command


def run_import(arguments: Arguments) -> int:
    from mrcnn_workbench.errors import count, listed
    from mrcnn_workbench.importing import Wishes, run

    wishes = Wishes(**{name: getattr(arguments, name) for name in Wishes._fields})
    outcome = run(arguments.source, arguments.out, wishes)
    for title, entries in (("Left out", outcome.report.problems), ("Notes", outcome.report.notes)):
        if entries:
            print("{}:\n{}\n".format(title, listed(list(map(str, entries)))))
    if outcome.left_out:
        print("{} of other classes left out.\n".format(count(outcome.left_out, "label")))
    print("{} ({}):".format(arguments.out, outcome.format))
    for half, labels in outcome.labels.items():
        print("  {:5}  {}, {}".format(half, count(outcome.images[half], "image"), _numbers(labels)))
    out, sheet = shlex.quote(str(arguments.out)), shlex.quote(arguments.out.name + ".png")
    print("\nNext: mrcnn data check {0}\n      mrcnn data show {0} {1}".format(out, sheet))
    return 0


def run_check(arguments: Arguments) -> int:
    from mrcnn_workbench.checking import ERROR, LEVELS, Check
    from mrcnn_workbench.errors import count, listed

    check = Check(arguments.folder, arguments.group)
    halves: Dict[str, Dict[str, Any]] = {
        name: {"images": len(split.images), "labels": check.labels(name)} for name, split in check.splits.items()
    }
    numbers = {level: sum(finding.level == level for finding in check.findings) for level in LEVELS}
    if arguments.json:
        findings: List[Dict[str, str]] = [dict(finding._asdict()) for finding in check.findings]
        print(json.dumps({"ok": check.ok, "splits": halves, "findings": findings}, indent=2, ensure_ascii=False))
        return int(not check.ok)
    for name, half in halves.items():
        print("{:5}  {}, {}".format(name, count(half["images"], "image"), _numbers(half["labels"])))
    for level in LEVELS:
        lines = [str(finding) for finding in check.findings if finding.level == level]
        if lines:
            print("\n{}:\n{}".format(level.capitalize() + "s", listed(lines)))
    print("\n" + ", ".join(count(number, level) for level, number in numbers.items()) + ".")
    if numbers[ERROR]:
        print("Training on it would go wrong or prove nothing.")
    return int(not check.ok)


def run_show(arguments: Arguments) -> int:
    from mrcnn_workbench.errors import count
    from mrcnn_workbench.sheet import draw

    number = draw(arguments.folder, arguments.out, arguments.count, arguments.split, arguments.seed)
    print("{}: {}".format(arguments.out, count(number, "image")))
    return 0


def run_example(arguments: Arguments) -> int:
    from mrcnn_workbench.errors import count
    from mrcnn_workbench.example import make

    for name, number in make(arguments.out, arguments.seed).items():
        print("{}: {}".format(arguments.out / name, count(number, "image")))
    print(
        "\nNext: cd {}\n      mrcnn data import photos dataset --group '^plant[0-9]+'".format(
            shlex.quote(str(arguments.out))
        )
    )
    return 0


def _numbers(labels: Dict[str, int]) -> str:
    """`leaf 25, flower 15`."""
    return ", ".join("{} {}".format(name, number) for name, number in labels.items()) or "no labels"
