# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A script as users of Mask_RCNN write them, with one line more. It checks what is easily lost on TensorFlow 2."""

from mrcnn_workbench import compat  # noqa: F401 - the line

import keras  # isort: skip
import numpy as np  # isort: skip
import tensorflow as tf  # isort: skip
from mrcnn import utils  # isort: skip
from mrcnn.config import Config  # isort: skip
from mrcnn.model import MaskRCNN  # isort: skip

SIZE = 64


class LeafConfig(Config):
    NAME = "leaf"
    NUM_CLASSES = 1 + 1
    BACKBONE = "resnet50"
    IMAGES_PER_GPU = 1
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = SIZE
    RPN_ANCHOR_SCALES = (8, 16, 24, 32, 48)
    TRAIN_ROIS_PER_IMAGE = 8
    STEPS_PER_EPOCH = 2
    VALIDATION_STEPS = 1


class Leaves(utils.Dataset):
    def load(self, count: int) -> None:
        self.add_class("leaves", 1, "leaf")
        for number in range(count):
            self.add_image("leaves", number, None)
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        image[10 + image_id : 40, 15:50] = 200
        return image

    def load_mask(self, image_id: int) -> "tuple[np.ndarray, np.ndarray]":
        mask = np.zeros((SIZE, SIZE, 1), bool)
        mask[10 + image_id : 40, 15:50] = True
        return mask, np.array([1], np.int32)


leaves = Leaves()
leaves.load(4)
model = MaskRCNN("training", LeafConfig(), "logs")
model.train(leaves, leaves, learning_rate=0.001, epochs=1, layers="heads")
before = [keras.backend.get_value(model.keras_model.get_layer(name).weights[0]) for name in ("conv1", "rpn_model")]
model.train(leaves, leaves, learning_rate=0.0001, epochs=2, layers="4+")
after = [keras.backend.get_value(model.keras_model.get_layer(name).weights[0]) for name in ("conv1", "rpn_model")]
assert len(model.keras_model.losses) == 6, "five losses and the weights', once"
assert (before[0] == after[0]).all(), "conv1 is not among the layers 4+"
assert (before[1] != after[1]).any(), "the heads are"
weights = model.find_last()
assert weights.endswith("_0002.h5"), weights

keras.backend.clear_session()
detecting = MaskRCNN("inference", LeafConfig(), "logs")
detecting.load_weights(weights, by_name=True)
(found,) = detecting.detect([leaves.load_image(0)])
assert found["masks"].shape[:2] == (SIZE, SIZE)

if tf.__version__.startswith("2."):
    # Clipped by the norm of all gradients together, as Keras 2.2 does.
    assert keras.optimizers.SGD(lr=1.0, clipnorm=1.0).global_clipnorm == 1.0
print("trained twice, found", len(found["rois"]))
