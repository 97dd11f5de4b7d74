# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The package `mrcnn` as all verbs use it: configuration, data sets, models and their weights.

It works with GitHub's master and with the older release on PyPI, unchanged. Importing this module imports TensorFlow.
"""

import contextlib
import importlib
import io
import logging
import os
import random
import sys
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

from mrcnn_workbench.silence import silence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
with silence(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    importlib.import_module("mrcnn_workbench.compat")  # before all that it changes
    import keras.backend
    import tensorflow as tf
    from keras.engine import saving
    from mrcnn import model as modellib
    from mrcnn import parallel_model, utils
    from mrcnn.config import Config

import h5py
import numpy as np

from mrcnn_workbench import dataset, host, runs, settings, small
from mrcnn_workbench.errors import WorkbenchError, count, listed
from mrcnn_workbench.geometry import from_mask
from mrcnn_workbench.settings import Settings

logging.getLogger("tensorflow").setLevel(logging.ERROR)
# Of how they do what mrcnn asks for; nothing that its users could change.
warnings.filterwarnings("ignore", module="tensorflow|keras|tf_keras|mrcnn|skimage")

# The layers whose shapes depend on the number of classes.
OF_CLASSES = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]


def place() -> Path:
    """The folder of the package `mrcnn` that is used."""
    return Path(modellib.__file__).parent


def start_session(seed: int) -> None:
    """A fresh TensorFlow session on the CPUs and GPUs that we may use."""
    keras.backend.clear_session()
    random.seed(seed)
    np.random.seed(seed)  # mrcnn itself draws from the global generators
    tf.set_random_seed(seed)
    keras.backend.set_session(tf.Session(config=host.session_config()))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what mrcnn prints."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def imported(name: str, what: str) -> Any:
    """What MODULE:NAME means; modules in the working folder count. Raises WorkbenchError."""
    module, _colon, attribute = name.partition(":")
    sys.path.append(str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise WorkbenchError("{} {}: {}; is the folder with it on PYTHONPATH?".format(what, name, error)) from error
    finally:
        sys.path.pop()


def configuration(wanted: Settings, classes: Sequence[str], inference: bool = False, **more: Any) -> Any:
    """mrcnn's configuration for settings and classes (the background's among them).

    `inference`: one image a step on one device. `more` are mrcnn's own settings. Raises WorkbenchError.
    """
    values: Dict[str, Any] = {
        "NAME": "workbench",
        "NUM_CLASSES": len(classes),
        "GPU_COUNT": 1 if inference else wanted["gpus"],
        "IMAGES_PER_GPU": 1 if inference else wanted["images_per_gpu"],
        "IMAGE_MIN_DIM": wanted["image_size"] * 25 // 32,  # mrcnn's own 800 for 1024
        "IMAGE_MAX_DIM": wanted["image_size"],
        "LEARNING_MOMENTUM": wanted["momentum"],
        "USE_MINI_MASK": mini_masks_work() if wanted["mini_masks"] == "auto" else wanted["mini_masks"],
        "BACKBONE": wanted["backbone"],
    }
    given = dict(wanted["model"], **more)
    if wanted["backbone"] == settings.SMALL:
        given = dict(small.MODEL, **given)
        values["BACKBONE"] = staticmethod(small.backbone)
    elif ":" in wanted["backbone"]:
        values["BACKBONE"] = staticmethod(imported(wanted["backbone"], "backbone"))
    if not isinstance(values["BACKBONE"], str):
        values["COMPUTE_BACKBONE_SHAPE"] = staticmethod(small.shapes)
    for name, value in given.items():
        if not hasattr(Config, name) and name not in small.MODEL:
            raise WorkbenchError("model: mrcnn.config.Config has no setting {}".format(name))
        known = getattr(Config, name, None)
        if isinstance(known, np.ndarray):
            values[name] = np.array(value)
        elif isinstance(known, dict) and isinstance(value, dict):
            values[name] = dict(known, **value)
        else:
            values[name] = value
    return type("WorkbenchConfig", (Config,), values)()


def mini_masks_work() -> bool:
    """Whether this release makes masks smaller without spoiling them.

    PyPI's, with scikit-image from 0.16 on, smooths a bool mask away before it shrinks it.
    """
    masks = np.zeros((128, 128, 1), bool)
    masks[16:112, 24:104] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small_masks = utils.minimize_mask(utils.extract_bboxes(masks), masks, (28, 28))
    return bool(small_masks.mean() > 0.5)  # noqa: PLR2004 - the box is full


class BrokenImageError(Exception):
    """An image of the data set that cannot be used."""


class Images(utils.Dataset):
    """A split of a data set, as mrcnn wants it. Image ids are places in `split.images`."""

    def __init__(self, split: dataset.Split, classes: Sequence[str]) -> None:
        super().__init__()
        self.split = split
        self.broken: List[str] = []  # mrcnn would only log it and go on
        names = {record["id"]: str(record["name"]) for record in split.categories}
        for number, name in enumerate(classes[1:], 1):
            self.add_class("dataset", number, name)
        annotations = split.by_image()
        for image in split.images:
            labels = [
                (classes.index(names[record["category_id"]]), record)
                for record in annotations[image["id"]]
                if not record.get("iscrowd")
            ]
            self.add_image("dataset", image["id"], str(split.image_path(image)), record=image, labels=labels)
        self.prepare()
        # Of others mrcnn makes no batch, and would look for one for ever.
        self.labelled = [number for number in self.image_ids if self.image_info[number]["labels"]]

    def load_image(self, image_id: int) -> np.ndarray:
        """uint8 [height, width, 3]."""
        try:
            image: np.ndarray = super().load_image(image_id)
        except Exception as error:  # whatever libraries make of a damaged file
            self.broken.append("{}: {}".format(self.image_info[image_id]["path"], error))
            raise BrokenImageError(self.broken[-1]) from error
        return image

    def load_mask(self, image_id: int) -> Any:
        """Masks, bool [height, width, n], and class ids, int32 [n]."""
        info = self.image_info[image_id]
        size = info["record"]["width"], info["record"]["height"]
        if not info["labels"]:
            return np.zeros((size[1], size[0], 0), bool), np.zeros(0, np.int32)
        masks = np.stack([dataset.mask_of(record, size) for _number, record in info["labels"]], axis=-1)
        return masks, np.array([number for number, _record in info["labels"]], np.int32)


def class_names(split: dataset.Split) -> List[str]:
    """The names of a split's classes, in the order of their ids, without the background."""
    return [str(record["name"]) for record in sorted(split.categories, key=lambda record: record["id"])]


def batches(images: Any, config: Any, augmentation: Any = None) -> Iterator[Any]:
    """mrcnn's own generator: batches for ever, each image in turn, in another order every time."""
    found: Iterator[Any] = modellib.data_generator(
        images, config, shuffle=True, augmentation=augmentation, batch_size=config.BATCH_SIZE
    )
    return found


class Model(modellib.MaskRCNN):
    """Upstream's, but for the folder of logs that it makes for itself wherever it goes."""

    def set_log_dir(self, model_path: Any = None) -> None:
        self.epoch, self.log_dir = 0, None


class Detecting(Model):
    """Upstream's for inference, whose masks are packed one after another.

    A hundred masks of a large photograph do not fit into memory at once; and what a model makes of its objects that has
    not learnt much may lie anywhere.
    """

    def unmold_detections(
        self, detections: Any, mrcnn_mask: Any, original_image_shape: Any, image_shape: Any, window: Any
    ) -> Any:
        """As upstream's, but for the masks, which become a list of COCO's run-length encoded ones."""
        least, most = utils.norm_boxes(window, image_shape[:2]).reshape(2, 2)
        good = np.isfinite(detections).all(axis=1) & (detections[:, 4] >= 1) & (detections[:, 5] > 0)
        found: List[Any] = []
        for place in np.flatnonzero(good):
            one = detections[place : place + 1].copy()
            one[:, :4] = one[:, :4].reshape(2, 2).clip(least, most).ravel()
            boxes, class_ids, scores, masks = super().unmold_detections(
                one, mrcnn_mask[place : place + 1], original_image_shape, image_shape, window
            )
            if len(boxes) and masks.any():
                found.append((boxes[0], class_ids[0], scores[0], from_mask(masks[..., 0])))
        return tuple(list(column) for column in zip(*found)) if found else ([], [], [], [])


def _set_early(model: Any, name: str, value: Any) -> None:
    """Set an attribute before Keras has made it a model: upstream's for several GPUs does, and Keras forbids it."""
    if name == "inner_model":
        model.__dict__[name] = value
    else:
        super(parallel_model.ParallelModel, model).__setattr__(name, value)


parallel_model.ParallelModel.__setattr__ = _set_early


def build(mode: str, config: Any) -> Model:
    """A model with new weights; `mode` is training or inference. Raises WorkbenchError."""
    with quiet():
        return (Detecting if mode == "inference" else Model)(mode, config, "")


def _inner(model: Model) -> Any:
    """The Keras model with the weights, inside the one that spreads over GPUs."""
    return getattr(model.keras_model, "inner_model", model.keras_model)


def save(model: Model, path: Path) -> None:
    """Writes the weights whole or not at all; a checkpoint that is there already stays until then."""
    # Not by HDF5 itself to the disk: when that is full, it crashes the interpreter later on.
    content = io.BytesIO()
    with h5py.File(content, "w") as weights:
        saving.save_weights_to_hdf5_group(weights, _inner(model).layers)
    try:
        path.parent.mkdir(exist_ok=True)
        with runs.replacing(path) as part, part.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WorkbenchError("{}: cannot be written ({})".format(path, error.strerror)) from error


def load(model: Model, path: Path, exclude: Sequence[str] = (), whole: bool = False) -> None:
    """Loads weights into the layers of the same names, but for those to exclude.

    `whole`: every layer that has weights has to be in the file. Raises WorkbenchError, with what to exclude.
    """
    found = _contents(path)
    layers = {layer.name: [tuple(array.shape) for array in layer.get_weights()] for layer in _inner(model).layers}
    wanted = {name: shapes for name, shapes in layers.items() if shapes and name not in exclude}
    other = sorted(name for name in wanted if name in found and found[name] != wanted[name])
    if other:
        raise WorkbenchError(
            "{}: these weights are for a model with other layers:\n{}\nTo learn those anew: exclude: [{}]".format(
                path,
                listed(["{}: {} there, {} here".format(name, found[name], wanted[name]) for name in other]),
                ", ".join(other),
            )
        )
    missing = sorted(name for name in wanted if name not in found)
    if len(missing) == len(wanted) or (whole and missing):
        raise WorkbenchError(
            "{}: these weights are of another model; they have nothing for {} of its {}, such as {}".format(
                path, len(missing), count(len(wanted), "layer"), ", ".join(missing[:3])
            )
        )
    with quiet():
        model.load_weights(str(path), by_name=True, exclude=list(exclude) or None)


def classes_of(path: Path) -> int:
    """For how many classes weights are, the background among them; 0 if they do not say. Raises WorkbenchError."""
    shapes = _contents(path).get(OF_CLASSES[0])
    return int(shapes[-1][0]) if shapes else 0


def _contents(path: Path) -> Dict[str, Any]:
    """The shapes of the arrays of all layers in a file with weights. Raises WorkbenchError."""
    try:
        with h5py.File(str(path), "r") as file:
            group = file["model_weights"] if "layer_names" not in file.attrs and "model_weights" in file else file
            return _shapes(group)
    except (OSError, KeyError, RuntimeError) as error:
        raise WorkbenchError(
            "{}: these are no weights, or not all of them ({}); were they downloaded to the end?".format(path, error)
        ) from error


def _shapes(group: Any) -> Dict[str, Any]:
    """The shapes of the arrays of all layers in a file of Keras', those inside models too."""
    found: Dict[str, Any] = {}
    for name in group.attrs["layer_names"]:
        layer = group[name]
        names = [_text(weight) for weight in layer.attrs["weight_names"]]
        found[_text(name)] = [tuple(layer[weight].shape) for weight in names]
    return found


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
