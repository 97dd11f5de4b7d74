# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The training and the detection of verify_env.py: by the commands that users have, on pictures that they draw.

`mrcnn data example` draws them, `mrcnn data import` makes data sets of them, `mrcnn train` learns, and
`mrcnn evaluate` looks for what is on pictures that the training has never seen.
"""

# TensorFlow and what comes with it is slow to import and may be broken, which is for a check to find out.
# ruff: noqa: PLC0415

import contextlib
import io
import json
import platform
import sys
from datetime import date
from pathlib import Path

STEPS, EPOCHS = 80, 4
GOOD_IOU = 0.5
CALM_LOSS = 0.7  # the loss has fallen if it ends below this part of what it began with
PICTURES = 4  # of those that were not seen, drawn in detection.png
EXAMPLE, LEARNT, UNSEEN, RUN, FOUND = "example", "learnt", "unseen", "run", "found"  # folders


class CheckFailed(Exception):
    """What was checked is not as expected; the message says what is."""


def say(line: str) -> None:
    """A line for people, wherever stdout leads to at the moment."""
    print(line, file=sys.__stdout__, flush=True)


class _Epochs(io.TextIOBase):
    """Of what is written to it, says how far the training is, a little further in."""

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.startswith("epoch"):
                say("      " + line)
        return len(text)


def mrcnn(*arguments, aloud: bool = False) -> None:
    """Run the command in this process, where TensorFlow is imported once. Raises CheckFailed with what it says."""
    from mrcnn_workbench.cli import main

    wrong = io.StringIO()
    out = _Epochs() if aloud else sys.stdout
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(wrong):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:  # argparse's
            code = ended.code
    if code:
        raise CheckFailed("mrcnn {}: {}".format(arguments[0], wrong.getvalue().strip() or "exit code {}".format(code)))


def make_images(folder: Path, seed: int) -> str:
    """Two data sets, one to learn from and one that training never sees."""
    mrcnn("data", "example", folder / EXAMPLE, "--seed", seed)
    mrcnn("data", "import", folder / EXAMPLE / "photos", folder / LEARNT, "--group", "^plant[0-9]+")
    mrcnn("data", "import", folder / EXAMPLE / "unseen", folder / UNSEEN, "--val", 1)
    numbers = {name: len(list((folder / name).glob("*/*.png"))) for name in (LEARNT, UNSEEN)}
    return "{} to learn from, {} others".format(numbers[LEARNT], numbers[UNSEEN])


def check_mini_masks() -> str:
    """mrcnn by default trains on masks made smaller. With scikit-image 0.16.2 its PyPI release empties them."""
    from mrcnn_workbench.mask_rcnn import mini_masks_work

    if not mini_masks_work():
        raise CheckFailed("mini-masks are spoilt: train with USE_MINI_MASK = False, as `mrcnn train` does here")
    return "masks survive being made smaller"


def train(folder: Path, steps: int, seed: int, record: dict) -> str:
    """Train for `steps` pictures, rounded up to whole epochs. Notes the losses of the epochs in `record`."""
    from mrcnn_workbench.runs import Run

    settings = [
        "data={}".format(json.dumps(str(folder / LEARNT))), "seed={}".format(seed),
        "steps={}".format(-(-steps // EPOCHS)), "gpus=1",
    ]  # fmt: skip
    options = [word for setting in settings for word in ("--set", setting)]
    record["training"] = {"losses": [], "seconds_per_step": None}
    mrcnn("train", folder / EXAMPLE / "quick.yml", "--run", folder / RUN, *options, aloud=True)
    rows = Run(folder / RUN).metrics()
    record["training"].update(
        losses=[row["loss"] for row in rows],
        seconds_per_step=round(min(row["seconds"] for row in rows) / -(-steps // EPOCHS), 3),
    )
    return "{} epochs of {} steps".format(len(rows), -(-steps // EPOCHS))


def check_losses(losses: list) -> str:
    """Losses, one an epoch, have to fall."""
    text = "from {:.2f} to {:.2f} in {} epochs".format(losses[0], losses[-1], len(losses))
    if losses[-1] > CALM_LOSS * losses[0]:
        raise CheckFailed("the loss did not fall: " + text)
    return text


def detect(folder: Path, record: dict) -> str:
    """Detect in every picture that was not seen, with a new model that knows only the weights.

    Notes in `record` each detection with the object of the truth that it covers best.
    """
    from mrcnn_workbench import dataset
    from mrcnn_workbench.geometry import rle_of
    from pycocotools import mask as coco_mask

    mrcnn("evaluate", folder / RUN, folder / UNSEEN, "--out", folder / FOUND)
    report = json.loads((folder / FOUND / "evaluation.json").read_text(encoding="utf-8"))
    record["evaluation"] = report
    split = dataset.read(folder / UNSEEN)["val"]
    names = {category["id"]: category["name"] for category in split.categories}
    truth = split.by_image()
    sizes = {image["id"]: (image["width"], image["height"]) for image in split.images}
    record["detections"] = []
    for found in json.loads((folder / FOUND / "results.json").read_text(encoding="utf-8")):
        objects = truth[found["image_id"]]
        masks = [rle_of(dataset.outline_of(known), sizes[found["image_id"]]) for known in objects]
        ious = coco_mask.iou([found["segmentation"]], masks, [0] * len(masks))[0].tolist()
        best = max(range(len(ious)), key=ious.__getitem__)
        record["detections"].append({
            "image": found["image_id"], "class": names[found["category_id"]], "score": round(found["score"], 4),
            "box": found["bbox"],  # x, y, width, height in pixels
            "truth": best, "truth_class": names[objects[best]["category_id"]], "iou": round(ious[best], 4),
        })  # fmt: skip
    return "{} in {} pictures".format(len(record["detections"]), len(split.images))


def check_detections(detections: list, objects: int, classes: tuple) -> str:
    """At least one object of each class has to be found, with the right class and a mask that fits."""
    good = [d for d in detections if d["class"] == d["truth_class"] and d["iou"] >= GOOD_IOU]
    found = {(d["image"], d["truth"]) for d in good}
    text = "{} of {} objects found with a mask IoU of {} or more".format(len(found), objects, GOOD_IOU)
    missing = set(classes) - {d["class"] for d in good}
    if missing:
        raise CheckFailed("{}; no {}".format(text, ", no ".join(sorted(missing))))
    return "{}, on average {:.2f}".format(text, sum(d["iou"] for d in good) / len(good))


def check_found(folder: Path, detections: list) -> str:
    from mrcnn_workbench import dataset
    from mrcnn_workbench.example import CLASSES

    return check_detections(detections, len(dataset.read(folder / UNSEEN)["val"].annotations), CLASSES)


def draw(folder: Path, detections: list, path: Path) -> str:
    """Draw truth (left) and detection (right) of some pictures that were not seen, two in a row."""
    import keras
    import tensorflow as tf
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from mrcnn_workbench import dataset, runs

    split = dataset.read(folder / UNSEEN)["val"]
    results = json.loads((folder / FOUND / "results.json").read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in split.categories}
    truth, images = split.by_image(), split.images[:: -(-len(split.images) // PICTURES)]
    rows = -(-len(images) // 2)
    figure = Figure(figsize=(14, 3.75 * rows + 1))
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 4, squeeze=False)
    for panel in axes.flat:
        panel.axis("off")
    for number, image in enumerate(images):
        left, right = axes[number // 2, 2 * (number % 2) :][:2]
        path_of = split.image_path(image)
        _show(left, path_of, truth[image["id"]], names)
        _show(right, path_of, [found for found in results if found["image_id"] == image["id"]], names)
        entries = [entry for entry in detections if entry["image"] == image["id"]]
        entries.sort(key=lambda entry: entry["box"][0])  # from left to right, as the eye goes
        ious = ["{:.0%}".format(entry["iou"]) for entry in entries]
        left.set_title("{}: truth".format(path_of.stem), fontsize=12)
        right.set_title("detected" + (", overlap " + " and ".join(ious) if ious else ": nothing"), fontsize=12)
    figure.suptitle(
        "Mask R-CNN after a short training, on synthetic images that it had not seen\n"
        "Python {}, TensorFlow {}, Keras {}, on {}, {}".format(
            platform.python_version(), tf.__version__, keras.__version__, platform.node(), date.today()
        ),
        fontsize=13,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    with runs.replacing(path) as part:
        figure.savefig(str(part), dpi=110, format="png")
    return str(path)


def _show(panel, path: Path, objects: list, names: dict) -> None:
    """Draw a picture with objects as COCO has them, labels or results."""
    from mrcnn_workbench import dataset, drawing
    from mrcnn_workbench.annotated import colour_of
    from PIL import Image

    with Image.open(str(path)) as image:
        size = image.size
        panel.imshow(image.convert("RGB"), interpolation="bicubic", extent=(0, size[0], size[1], 0))
    scale = size[0] / 3.0  # a panel is about three inches wide
    for entry in objects:
        colour = colour_of(entry["category_id"])
        score = " {:.0%}".format(entry["score"]) if "score" in entry else ""
        drawing.draw_object(panel, dataset.outline_of(entry), size, colour)
        drawing.draw_name(
            panel, drawing.named(names[entry["category_id"]] + score, entry["bbox"], size, scale), scale, colour
        )
