# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The backbone `small`: five convolutions instead of a ResNet's hundred, for images of about 128 pixels.

It needs no weights to begin with and learns within minutes on CPUs, which makes it right for proofs, for trials of a
data set, and for learning how all of this works; not for the last few per cent.
"""

# Keras is slow to import.
# ruff: noqa: PLC0415

import math
import re
from typing import Any, Dict, List

import numpy as np

STRIDES = (4, 8, 16, 32, 64)
FILTERS = (16, 32, 64, 64, 64)
# What mrcnn's settings are with it, unless they are given: heads and anchors that fit.
MODEL: Dict[str, Any] = {
    "BACKBONE_STRIDES": STRIDES,
    "TOP_DOWN_PYRAMID_SIZE": 64,
    "FPN_CLASSIF_FC_LAYERS_SIZE": 128,
    "RPN_ANCHOR_SCALES": (32, 48, 64, 80, 96),
    "RPN_ANCHOR_RATIOS": (1,),
    "RPN_TRAIN_ANCHORS_PER_IMAGE": 32,
    "PRE_NMS_LIMIT": 300,
    "POST_NMS_ROIS_TRAINING": 64,
    "POST_NMS_ROIS_INFERENCE": 32,
    # The mask head is the slow part. Its cost goes with the number of regions and with the size of their masks.
    "TRAIN_ROIS_PER_IMAGE": 12,
    "ROI_POSITIVE_RATIO": 0.5,
    "MASK_POOL_SIZE": 7,
    "MASK_SHAPE": (14, 14),
    "GRADIENT_CLIP_NORM": 2.0,  # learning rates are high
    "LOSS_WEIGHTS": {"mrcnn_mask_loss": 2.0},  # the mask head learns last
    "MAX_GT_INSTANCES": 20,
    "DETECTION_MAX_INSTANCES": 20,
    "DETECTION_MIN_CONFIDENCE": 0.5,
}


def backbone(image: Any, stage5: bool = True, train_bn: Any = None) -> List[Any]:
    """Five convolutions, each halving the image; called as mrcnn.model.resnet_graph is."""
    import keras.layers

    stages = []
    features = keras.layers.Lambda(lambda pixels: pixels / 64.0, name="scaled")(image)
    for stage, filters in enumerate(FILTERS, 1):
        name = "c{}".format(stage)
        layer = keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu", name=name)
        features = layer(features)
        stages.append(features)
    return stages


def shapes(image_shape: Any) -> np.ndarray:
    """The height and width of every stage's features: int [5, 2]."""
    return np.array([[image_shape[0] // stride, image_shape[1] // stride] for stride in STRIDES])


def liven(keras_model: Any) -> None:
    """Scale the new weights of the pyramid and the mask head from Glorot's scheme to He's.

    Glorot's halves a signal at every ReLU. Five in a row leave the mask head so little that it takes
    hundreds of steps more to learn.
    """
    for layer in keras_model.layers:
        weights = layer.get_weights()
        if weights and re.match("fpn_|mrcnn_mask_(conv|deconv)", layer.name):
            inputs, outputs = weights[0].shape[-2:]
            layer.set_weights([weights[0] * math.sqrt(1 + outputs / inputs), *weights[1:]])
