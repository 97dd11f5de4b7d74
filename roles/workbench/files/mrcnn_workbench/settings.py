# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a training may be told: a YAML file, in which everything has a default but the data set.

`FIELDS` is all there is to know about them: it checks what people write, and `template` makes a commented file of it.
"""

import re
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

import yaml

from mrcnn_workbench.errors import WorkbenchError

COCO, IMAGENET, NOTHING, LAST = "coco", "imagenet", "nothing", "last"
STARTS = (COCO, IMAGENET, NOTHING, LAST)
SMALL = "small"
BACKBONES = ("resnet50", "resnet101", SMALL)
# Regular expressions of layers' names, as in mrcnn.model.MaskRCNN.train, which keeps them to itself.
_HEADS = r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)"
LAYERS = {
    "heads": _HEADS,
    "5+": r"(res5.*)|(bn5.*)|" + _HEADS,
    "4+": r"(res4.*)|(bn4.*)|(res5.*)|(bn5.*)|" + _HEADS,
    "3+": r"(res3.*)|(bn3.*)|(res4.*)|(bn4.*)|(res5.*)|(bn5.*)|" + _HEADS,
    "all": ".*",
}
AUGMENTATIONS = ("none", "mirror", "field")
SIDE = 64  # pixels: an image's side is a multiple of it, since it is halved six times
IMPORTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # MODULE:NAME
NAME = re.compile(r"[A-Z][A-Z0-9_]*")  # of mrcnn's own settings
# What the fields here say already, or what would not fit together with them.
OURS = (
    "NAME", "NUM_CLASSES", "GPU_COUNT", "IMAGES_PER_GPU", "BATCH_SIZE", "IMAGE_MAX_DIM", "BACKBONE", "USE_MINI_MASK",
    "STEPS_PER_EPOCH", "VALIDATION_STEPS", "LEARNING_RATE", "LEARNING_MOMENTUM", "IMAGE_SHAPE", "IMAGE_META_SIZE",
    "COMPUTE_BACKBONE_SHAPE",
)  # fmt: skip

Settings = Dict[str, Any]


class BadSettingError(Exception):
    """A value that cannot be. The text says what is wanted."""


class Field(NamedTuple):
    """One setting: what it defaults to, the function that checks and returns a value, and what it means."""

    default: Any
    check: Callable[[Any], Any]
    text: str


def _number(least: float, most: float = float("inf"), whole: bool = True) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        number = value
        if isinstance(value, str):  # YAML takes 1e-3 for a text
            try:
                number = float(value)
            except ValueError:
                number = None
        kind = int if whole else (int, float)
        if isinstance(number, bool) or not isinstance(number, kind) or not least <= number <= most:
            end = "" if most == float("inf") else " to {:g}".format(most)
            raise BadSettingError(
                "{} from {:g}{} is wanted".format("a whole number" if whole else "a number", least, end)
            )
        return number

    return check


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadSettingError("a text is wanted")
    return value


def _side(value: Any) -> int:
    number: int = _number(SIDE)(value)
    if number % SIDE:
        raise BadSettingError(
            "a multiple of {} is wanted, such as {}".format(SIDE, max(1, round(number / SIDE)) * SIDE)
        )
    return number


def _one_of(names: Any, more: str = "") -> Callable[[Any], Any]:
    """One of some names, or the name of something that is imported."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not (value in names or (more and IMPORTED.fullmatch(value))):
            raise BadSettingError("one of {}{} is wanted".format(", ".join(names), more))
        return value

    return check


def _mini_masks(value: Any) -> Any:
    if value == "auto" or isinstance(value, bool):
        return value
    raise BadSettingError("auto, true or false is wanted")


def _names(value: Any) -> List[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise BadSettingError("a list of names is wanted")
    return value


STAGE = {
    "layers": Field("heads", _one_of(LAYERS), "heads, or the backbone from a stage on (5+, 4+, 3+), or all"),
    "epochs": Field(20, _number(1), "how many"),
    "learning_rate": Field(0.001, _number(0, 1, whole=False), "of this stage"),
}


def _stages(value: Any) -> List[Settings]:
    if not isinstance(value, list) or not value:
        raise BadSettingError("a list of stages is wanted, each with {}".format(", ".join(STAGE)))
    found = []
    for number, stage in enumerate(value, 1):
        if not isinstance(stage, dict):
            raise BadSettingError("stage {}: {} are wanted".format(number, ", ".join(STAGE)))
        try:
            found.append(_checked(stage, STAGE))
        except BadSettingError as error:
            raise BadSettingError("stage {}: {}".format(number, error)) from error
    return found


def _callbacks(value: Any) -> List[Settings]:
    """Each is a name, or a name with its arguments: `early_stopping` or `{early_stopping: {patience: 5}}`."""
    if not isinstance(value, list):
        raise BadSettingError("a list of callbacks is wanted")
    found = []
    for entry in value:
        pair = {entry: {}} if isinstance(entry, str) else entry
        if not isinstance(pair, dict) or len(pair) != 1 or not isinstance(next(iter(pair.values())) or {}, dict):
            raise BadSettingError("{!r:.60}: a name, or a name and its arguments, is wanted".format(entry))
        ((name, arguments),) = pair.items()
        if not isinstance(name, str):
            raise BadSettingError("{!r:.60}: a name is wanted".format(name))
        found.append({name: arguments or {}})
    return found


def _model(value: Any) -> Settings:
    if not isinstance(value, dict):
        raise BadSettingError("names and values are wanted, such as RPN_ANCHOR_SCALES: [16, 32, 64, 128, 256]")
    for name in value:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise BadSettingError("{!r:.60} is no name of a setting of mrcnn's; they are in capitals".format(name))
        if name in OURS:
            raise BadSettingError("{} follows from the other settings here".format(name))
    return value


REQUIRED = object()
FIELDS = {
    "data": Field(REQUIRED, _text, "The data set, made by `mrcnn data import`; relative to this file."),
    "start": Field(
        COCO, _text,
        "The weights to begin with: coco, imagenet (the backbone only), nothing, last (the newest run beside this one\n"
        "with the same classes), a run, or a file. From COCO or other classes, what depends on them is learnt anew.",
    ),
    "exclude": Field([], _names, "Layers that begin anew although the weights have them."),
    "stages": Field(
        [
            {"layers": "heads", "epochs": 20, "learning_rate": 0.001},
            {"layers": "all", "epochs": 20, "learning_rate": 0.0001},
        ],
        _stages,
        "What is trained, in this order. Layers: heads; the backbone from a stage on, too (5+, 4+, 3+); or all.",
    ),
    "steps": Field(0, _number(0), "Steps of an epoch. 0: as many as it takes to see every image once."),
    "validation_steps": Field(0, _number(0), "The same for val, at the end of each epoch."),
    "images_per_gpu": Field(1, _number(1), "Images of a step. More need more memory: 1 or 2 of 1024 pixels fit 12 GB."),
    "gpus": Field(1, _number(1), "GPUs for one training. Without any it runs on CPUs."),
    "image_size": Field(
        1024, _side, "Images are scaled to fit a square of so many pixels. Less is faster and needs less memory."
    ),
    "backbone": Field(
        "resnet101", _one_of(BACKBONES, " or MODULE:FUNCTION"),
        "resnet101 as COCO's weights have it; resnet50 is smaller; small is for images of 128 pixels and learns from\n"
        "nothing within minutes, on CPUs too; MODULE:FUNCTION is yours, called as mrcnn.model.resnet_graph is.",
    ),
    "mini_masks": Field(
        "auto", _mini_masks,
        "Whether masks are made smaller to save memory. auto: yes, where this release of mrcnn does not spoil them.",
    ),
    "augmentation": Field(
        "mirror", _one_of(AUGMENTATIONS, " or MODULE:FUNCTION"),
        "How images are varied: none; mirror (left to right); field (both ways, turned, lighter, darker), for what is\n"
        "seen from above; or MODULE:FUNCTION that returns an augmenter of imgaug's.",
    ),
    "momentum": Field(0.9, _number(0, 1, whole=False), "Of the gradient descent."),
    "callbacks": Field(
        [], _callbacks,
        "What else happens at the end of epochs: early_stopping (patience, min_delta, monitor) ends a stage,\n"
        "reduce_learning_rate (patience, factor, min_lr, monitor), learning_rate_steps (epochs, factor), or\n"
        "MODULE:CLASS, a Keras callback. With arguments: - early_stopping: {patience: 5}",
    ),
    "keep": Field(3, _number(1), "How many of the newest checkpoints are kept, besides that with the least val_loss."),
    "seed": Field(0, _number(0, 2**32 - 1), "Another seed, another order of images and other new weights."),
    "model": Field({}, _model, "Any other setting of mrcnn.config.Config, such as RPN_ANCHOR_SCALES."),
}  # fmt: skip


def _checked(given: Settings, fields: Dict[str, Field]) -> Settings:
    """All values, checked, with defaults for what is not given. Raises BadSettingError."""
    for name in given:
        if name not in fields:
            raise BadSettingError("{!r:.60} is not known; known are {}".format(name, ", ".join(fields)))
    found = {}
    for name, field in fields.items():
        if name not in given and field.default is REQUIRED:
            raise BadSettingError("{} is missing".format(name))
        try:
            found[name] = field.check(given.get(name, field.default))
        except BadSettingError as error:
            raise BadSettingError("{}: {!r:.60}: {}".format(name, given.get(name), error)) from error
    return found


def checked(given: Settings, where: str) -> Settings:
    """All settings. Raises WorkbenchError, which begins with where they are written."""
    if given.get("backbone") == SMALL:
        given = dict({"start": NOTHING}, **given)  # nobody has weights for it
    try:
        return _checked(given, FIELDS)
    except BadSettingError as error:
        raise WorkbenchError("{}: {}".format(where, error)) from error


def parse(text: str, where: str) -> Any:
    """YAML. Raises WorkbenchError, with the line of what is wrong."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = ", line {} column {}".format(mark.line + 1, mark.column + 1) if mark else ""
        raise WorkbenchError(
            "{}{}: this is no YAML ({})".format(where, place, getattr(error, "problem", error))
        ) from error


def read(path: Path) -> Settings:
    """What a file sets, with paths made absolute; not checked yet. Raises WorkbenchError."""
    try:
        found = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbenchError("{}: {}".format(path, getattr(error, "strerror", "it is no text"))) from error
    if not isinstance(found, dict):
        raise WorkbenchError("{}: settings are wanted; `mrcnn train --template` prints all of them".format(path))
    for name in ("data", "start"):
        value = found.get(name)
        if isinstance(value, str) and not (name == "start" and value in STARTS):
            found[name] = str(path.resolve().parent / Path(value).expanduser())
    return found


def load(path: Path) -> Settings:
    """All settings, as a file has them. Raises WorkbenchError."""
    return checked(read(path), str(path))


def dump(settings: Settings) -> str:
    """Settings as YAML, in the order of FIELDS."""
    return str(yaml.safe_dump({name: settings[name] for name in FIELDS}, sort_keys=False, default_flow_style=None))


def template() -> str:
    """A file with all settings, their defaults and what they mean."""
    lines = ["# Settings for `mrcnn train`. What is left out is as it is here."]
    for name, field in FIELDS.items():
        lines += ["", *("# " + line for line in field.text.splitlines())]
        value = "dataset" if field.default is REQUIRED else field.default
        flow = None if isinstance(value, list) else False
        lines.append(str(yaml.safe_dump({name: value}, default_flow_style=flow, sort_keys=False)).rstrip())
    return "\n".join(lines) + "\n"


def epochs(settings: Settings) -> int:
    """Of all stages."""
    return sum(stage["epochs"] for stage in settings["stages"])
