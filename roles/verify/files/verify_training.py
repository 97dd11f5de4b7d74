# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The training and the detection of verify_env.py: a real one, on synthetic images, in under a minute.

Everything is upstream's `mrcnn` package (PyPI's 0.2 or a clone of its repository) but the images and the backbone:
a ResNet that starts from nothing needs far more steps than a proof has.
"""

# TensorFlow and what comes with it is slow to import and may be broken, which is for a check to find out.
# ruff: noqa: PLC0415

import math
import platform
import random
import re
import sys
import time
from datetime import date
from pathlib import Path

from verify_host import CheckFailed, session_config

NAMES = ("background", "leaf", "flower")  # the classes; an index is a class id
COLOURS = ("#ffffff", "#56b4e9", "#e69f00")  # told apart by colour-blind people too
SIDE = 128  # pixels, of an image
SOIL = (112, 84, 62)  # its mean colour, RGB
TRAINING_IMAGES, HELD_OUT_IMAGES = 24, 4
STEPS, EPOCHS = 80, 4
LEARNING_RATE = 0.02
GOOD_IOU = 0.5
CALM_LOSS = 0.7  # the loss has fallen if it ends below this part of what it began with


def say(line: str) -> None:
    """A line for people, wherever stdout leads to at the moment."""
    print(line, file=sys.__stdout__, flush=True)


# Synthetic images


def scene(rng):
    """A leaf and a flower on soil: uint8 [SIDE, SIDE, 3]; masks, bool [SIDE, SIDE, 2]; class ids, int32 [2].

    Each shape fills only about half of its box, so that a box is not taken for a mask.
    """
    import numpy as np
    from skimage.draw import polygon

    image = SOIL + rng.normal(0, 12, (SIDE, SIDE, 1)) + rng.normal(0, 6, (SIDE, SIDE, 3))
    class_ids = rng.permutation([1, 2]).astype(np.int32)
    masks = np.zeros((SIDE, SIDE, len(class_ids)), bool)
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    for k, class_id in enumerate(class_ids):
        size = SIDE * rng.uniform(0.17, 0.22)
        # One shape in each half of the image: they may touch but hardly overlap.
        centre = complex(SIDE * (0.27 + 0.46 * k + rng.uniform(-0.03, 0.03)), SIDE * rng.uniform(0.3, 0.7))
        if NAMES[class_id] == "leaf":
            tip = np.abs(np.sin(angle)) ** 0.4
            outline = size * (1.3 * np.cos(angle) + 0.58j * np.sin(angle) * tip)
            turn, colour = np.pi * rng.uniform(0.17, 0.33) * rng.choice([-1, 1]), (70, 150, 55)
        else:
            outline = size * (1 + 0.32 * np.cos(5 * angle)) * np.exp(1j * angle)
            turn, colour = rng.uniform(0, 2 * np.pi), (215, 90, 160)
        outline = centre + outline * np.exp(1j * turn)
        masks[(*polygon(outline.imag, outline.real, masks.shape[:2]), k)] = True
        image[masks[..., k]] = colour + rng.normal(0, 8, 3) + rng.normal(0, 6, (masks[..., k].sum(), 3))
        if NAMES[class_id] == "flower":
            y, x = np.mgrid[:SIDE, :SIDE]
            image[abs(x + 1j * y - centre) < 0.3 * size] = (240, 200, 60)
    masks[..., 0] &= ~masks[..., 1]  # the second lies on top
    return image.clip(0, 255).astype(np.uint8), masks, class_ids


def dataset(count: int, rng):
    """`count` scenes as the Dataset that mrcnn wants."""
    from mrcnn import utils

    class Scenes(utils.Dataset):
        def load_image(self, image_id):
            return self.image_info[image_id]["scene"][0]

        def load_mask(self, image_id):
            return self.image_info[image_id]["scene"][1:]

    scenes = Scenes()
    for class_id, name in enumerate(NAMES[1:], 1):
        scenes.add_class("proof", class_id, name)
    for number in range(count):
        scenes.add_image("proof", number, None, scene=scene(rng))
    scenes.prepare()
    return scenes


def make_images(seed: int):
    """Two datasets, one to train on and one that training never sees."""
    import numpy as np

    rng = np.random.RandomState(seed)
    return dataset(TRAINING_IMAGES, rng), dataset(HELD_OUT_IMAGES, rng)


def mask_iou(one, other) -> float:
    """The intersection over the union of two masks of one shape, 0.0 to 1.0; 0.0 if both are empty."""
    one, other = one.astype(bool), other.astype(bool)
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0


# Mask R-CNN


def start_session(seed: int) -> None:
    """A fresh TensorFlow session on the CPUs and GPUs that we may use."""
    import keras.backend
    import numpy as np
    import tensorflow as tf

    keras.backend.clear_session()
    random.seed(seed)
    np.random.seed(seed)  # mrcnn itself draws from the global generators
    tf.set_random_seed(seed)
    keras.backend.set_session(tf.Session(config=session_config()))


def configuration():
    """A Mask R-CNN like upstream's in every part, but small: a step takes a quarter of a second on two cores."""
    import keras.layers
    import numpy as np
    from mrcnn.config import Config

    def backbone(image, stage5=True, train_bn=False):
        """Five convolutions, each halving the image. mrcnn passes the same arguments to its ResNet."""
        stages = []
        features = keras.layers.Lambda(lambda pixels: pixels / 64.0, name="scaled")(image)
        for stage, filters in enumerate([16, 32, 64, 64, 64], 1):
            layer = keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu", name="c%d" % stage)
            features = layer(features)
            stages.append(features)
        return stages

    class Proof(Config):
        NAME = "proof"
        NUM_CLASSES = len(NAMES)
        IMAGES_PER_GPU = 1
        IMAGE_MIN_DIM = IMAGE_MAX_DIM = SIDE
        MEAN_PIXEL = np.array(SOIL)
        BACKBONE = staticmethod(backbone)
        BACKBONE_STRIDES = (4, 8, 16, 32, 64)
        COMPUTE_BACKBONE_SHAPE = staticmethod(
            lambda shape: np.array([[shape[0] // n, shape[1] // n] for n in (4, 8, 16, 32, 64)])
        )
        TOP_DOWN_PYRAMID_SIZE = 64
        FPN_CLASSIF_FC_LAYERS_SIZE = 128
        RPN_ANCHOR_SCALES = (32, 48, 64, 80, 96)
        RPN_ANCHOR_RATIOS = (1,)
        RPN_TRAIN_ANCHORS_PER_IMAGE = 32
        PRE_NMS_LIMIT = 300
        POST_NMS_ROIS_TRAINING = 64
        POST_NMS_ROIS_INFERENCE = 32
        # The mask head is the slow part. Its cost goes with the number of regions and with the size of their masks.
        TRAIN_ROIS_PER_IMAGE = 12
        ROI_POSITIVE_RATIO = 0.5
        MASK_POOL_SIZE = 7
        MASK_SHAPE = (14, 14)
        GRADIENT_CLIP_NORM = 2.0  # the learning rate is high
        USE_MINI_MASK = False  # looked at by check_mini_masks
        MAX_GT_INSTANCES = DETECTION_MAX_INSTANCES = 8
        DETECTION_MIN_CONFIDENCE = 0.5

    config = Proof()
    config.LOSS_WEIGHTS = dict(config.LOSS_WEIGHTS, mrcnn_mask_loss=2.0)  # the mask head learns last
    return config


def liven(keras_model) -> None:
    """Scale the new weights of the pyramid and the mask head from Glorot's scheme to He's.

    Glorot's halves a signal at every ReLU. Five in a row leave the mask head so little that it takes
    hundreds of steps more to learn.
    """
    for layer in keras_model.layers:
        weights = layer.get_weights()
        if weights and re.match("fpn_|mrcnn_mask_(conv|deconv)", layer.name):
            inputs, outputs = weights[0].shape[-2:]
            layer.set_weights([weights[0] * math.sqrt(1 + outputs / inputs), *weights[1:]])


def train(scenes, steps: int, seed: int, folder: str, record: dict) -> Path:
    """Train for `steps` images, rounded up to whole epochs.

    Notes the losses in `record`. Returns the file with the weights, in `folder`.
    """
    import keras
    from mrcnn import model as modellib

    start_session(seed)
    model = modellib.MaskRCNN("training", configuration(), folder)
    liven(model.keras_model)
    model.set_trainable(".*", verbose=0)
    model.compile(LEARNING_RATE, model.config.LEARNING_MOMENTUM)
    record["training"] = {"losses": [], "seconds_per_step": None}
    losses = record["training"]["losses"]

    class Progress(keras.callbacks.Callback):
        """Keeps the loss of every step and says that of every epoch."""

        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.time()
            # The last epoch goes in small steps, which settles what the others have stirred up.
            keras.backend.set_value(self.model.optimizer.lr, LEARNING_RATE * (0.2 if epoch == EPOCHS - 1 else 1))

        def on_batch_end(self, batch, logs=None):
            loss = float(logs["loss"])
            losses.append(round(loss, 4) if math.isfinite(loss) else str(loss))  # JSON has no NaN
            self.model.stop_training = not math.isfinite(loss)

        def on_epoch_end(self, epoch, logs=None):
            taken = time.time() - self.started
            record["training"]["seconds_per_step"] = round(taken / per_epoch, 3)
            say("      epoch {}/{}: loss {:.2f}, {:.1f} s".format(epoch + 1, EPOCHS, logs["loss"], taken))

    per_epoch = -(-steps // EPOCHS)
    # Not model.train(): it forks as many workers as the machine has cores, and those may hang. Here nothing is forked.
    model.keras_model.fit_generator(
        modellib.data_generator(scenes, model.config, shuffle=True, batch_size=model.config.BATCH_SIZE),
        steps_per_epoch=per_epoch, epochs=EPOCHS, callbacks=[Progress()], verbose=0,
        workers=0, use_multiprocessing=False,
    )  # fmt: skip
    weights = Path(folder, "mask_rcnn_proof.h5")
    model.keras_model.save_weights(str(weights))
    return weights


def check_losses(losses: list) -> str:
    """Losses, one a step, have to be numbers and to fall."""
    if not all(isinstance(loss, float) for loss in losses):
        raise CheckFailed("the loss of step {} is {}".format(len(losses), losses[-1]))
    some = max(1, len(losses) // 10)
    first, last = sum(losses[:some]) / some, sum(losses[-some:]) / some
    text = "from {:.2f} to {:.2f} in {} steps".format(first, last, len(losses))
    if last > CALM_LOSS * first:
        raise CheckFailed("the loss did not fall: " + text)
    return text


def detect(scenes, weights: Path, seed: int, record: dict) -> list:
    """Detect in every scene with a new model that knows only the weights. Returns what mrcnn found in each.

    Notes in `record` each detection with the object of the truth that it covers best.
    """
    from mrcnn import model as modellib

    start_session(seed)
    model = modellib.MaskRCNN("inference", configuration(), str(weights.parent))
    model.load_weights(str(weights), by_name=True)
    results, record["detections"] = [], []
    for image_id in scenes.image_ids:
        (result,) = model.detect([scenes.load_image(image_id)])
        results.append(result)
        masks, class_ids = scenes.load_mask(image_id)
        for k, class_id in enumerate(result["class_ids"]):
            ious = [mask_iou(result["masks"][..., k], masks[..., n]) for n in range(len(class_ids))]
            best = max(range(len(ious)), key=ious.__getitem__)
            record["detections"].append({
                "image": int(image_id), "class": NAMES[class_id], "score": round(float(result["scores"][k]), 4),
                "box": [int(edge) for edge in result["rois"][k]],  # y1, x1, y2, x2 in pixels
                "truth": best, "truth_class": NAMES[class_ids[best]], "iou": round(ious[best], 4),
            })  # fmt: skip
    return results


def check_detections(detections: list, objects: int) -> str:
    """At least one object of each class has to be found, with the right class and a mask that fits."""
    good = [d for d in detections if d["class"] == d["truth_class"] and d["iou"] >= GOOD_IOU]
    found = {(d["image"], d["truth"]) for d in good}
    text = "{} of {} objects found with a mask IoU of {} or more".format(len(found), objects, GOOD_IOU)
    missing = set(NAMES[1:]) - {d["class"] for d in good}
    if missing:
        raise CheckFailed("{}; no {}".format(text, ", no ".join(sorted(missing))))
    return "{}, on average {:.2f}".format(text, sum(d["iou"] for d in good) / len(good))


def check_mini_masks(scenes) -> str:
    """mrcnn by default trains on masks made smaller. With scikit-image 0.16.2 its PyPI release empties them.

    (There `resize` smooths before it shrinks unless told not to, which a bool mask does not survive.)
    """
    from mrcnn import utils

    masks = scenes.load_mask(scenes.image_ids[0])[0]
    boxes = utils.extract_bboxes(masks)
    small = utils.minimize_mask(boxes, masks, (28, 28))
    back = utils.expand_mask(boxes, small, masks.shape)
    worst = min(mask_iou(masks[..., k], back[..., k]) for k in range(masks.shape[-1]))
    if worst < GOOD_IOU:
        raise CheckFailed("mini-masks are spoilt (IoU {:.2f}): train with USE_MINI_MASK = False".format(worst))
    return "IoU {:.2f} after shrinking to 28x28".format(worst)


def draw(scenes, results: list, detections: list, path: Path) -> str:
    """Draw truth (left) and detection (right) of every scene, two scenes in a row."""
    import keras
    import matplotlib.pyplot as plt
    import tensorflow as tf

    rows = -(-len(results) // 2)
    figure, axes = plt.subplots(rows, 4, figsize=(14, 3.75 * rows + 1), squeeze=False)
    for panel in axes.flat:
        panel.axis("off")
    for number, (image_id, result) in enumerate(zip(scenes.image_ids, results)):
        truth, found = axes[number // 2, 2 * (number % 2) :][:2]
        masks, class_ids = scenes.load_mask(image_id)
        show(truth, scenes.load_image(image_id), masks, class_ids, [NAMES[n] for n in class_ids])
        labels = ["{} {:.0%}".format(NAMES[n], score) for n, score in zip(result["class_ids"], result["scores"])]
        show(found, scenes.load_image(image_id), result["masks"], result["class_ids"], labels)
        entries = [entry for entry in detections if entry["image"] == image_id]
        entries.sort(key=lambda entry: entry["box"][1])  # from left to right, as the eye goes
        ious = ["{:.0%}".format(entry["iou"]) for entry in entries]
        truth.set_title("image {}: truth".format(number + 1), fontsize=12)
        found.set_title("detected" + (", overlap " + " and ".join(ious) if ious else ": nothing"), fontsize=12)
    figure.suptitle(
        "Mask R-CNN after a short training, on synthetic images that it had not seen\n"
        "Python {}, TensorFlow {}, Keras {}, on {}, {}".format(
            platform.python_version(), tf.__version__, keras.__version__, platform.node(), date.today()
        ),
        fontsize=13,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    # Whole or not at all.
    part = path.with_name("." + path.name)
    figure.savefig(str(part), dpi=110, format="png")
    part.replace(path)
    plt.close(figure)
    return str(path)


def show(panel, image, masks, class_ids, labels) -> None:
    """Draw one image with its masks, bool [height, width, n], their outlines and labels."""
    import numpy as np
    from matplotlib.colors import to_rgba

    panel.imshow(image, interpolation="bicubic")
    for k, (class_id, label) in enumerate(zip(class_ids, labels)):
        mask, colour = masks[..., k].astype(bool), COLOURS[class_id]
        if not mask.any():
            continue
        panel.imshow(mask[..., None] * np.array(to_rgba(colour, 0.4)))
        panel.contour(mask, [0.5], colors=[colour], linewidths=2)
        rows, columns = np.where(mask)
        panel.text(
            columns.mean(), max(rows.min() - 3, 8), label, color="black", fontsize=11, ha="center", va="bottom",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 2},
        )  # fmt: skip
