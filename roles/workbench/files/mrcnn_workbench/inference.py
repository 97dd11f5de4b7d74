# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A model that is ready to detect. Importing this module imports TensorFlow."""

from typing import Any, Dict, List, Sequence

# The first of what imports TensorFlow, since it does so without its chatter.
from mrcnn_workbench import mask_rcnn  # isort: skip

import numpy as np
import tensorflow as tf

from mrcnn_workbench import host
from mrcnn_workbench.errors import WorkbenchError, count
from mrcnn_workbench.models import Model
from mrcnn_workbench.results import Found

SQUARE, CROP, PADDED = "square", "crop", "pad64"  # of mrcnn's IMAGE_RESIZE_MODE


class Detector:
    """Finds objects in images."""

    def __init__(self, model: Model, min_score: float, batch: int = 1, any_gpu: bool = False) -> None:
        """`min_score`: what scores less is no object; `batch`: images a step. Raises WorkbenchError."""
        self.batch = batch
        mask_rcnn.start_session(model.settings["seed"])
        self.device = _device(any_gpu)
        more: Dict[str, Any] = {"DETECTION_MIN_CONFIDENCE": min_score, "IMAGES_PER_GPU": batch}
        # Crops are for training, where they lie by chance.
        if model.settings["model"].get("IMAGE_RESIZE_MODE") == CROP:
            more["IMAGE_RESIZE_MODE"] = PADDED
        config = mask_rcnn.configuration(model.settings, model.classes, inference=True, **more)
        if batch > 1 and config.IMAGE_RESIZE_MODE != SQUARE:
            raise WorkbenchError("--batch {}: this model does not make all images of one size: 1".format(batch))
        known = mask_rcnn.classes_of(model.weights)
        if known not in (0, len(model.classes)):
            raise WorkbenchError(
                "{}: these weights are for {} and the background, the model {} has {}: {}".format(
                    model.weights, count(known - 1, "class"), model.name, len(model.classes) - 1,
                    ", ".join(model.classes[1:6]) + (", ..." if len(model.classes) > 6 else ""),  # noqa: PLR2004 - as above
                )
            )  # fmt: skip
        self._net = mask_rcnn.build("inference", config)
        mask_rcnn.load(self._net, model.weights, whole=True)

    def __call__(self, images: Sequence[np.ndarray]) -> List[List[Found]]:
        """The objects of each of up to `batch` images, uint8 [height, width, 3], those with the best scores first.

        Raises WorkbenchError if memory does not suffice.
        """
        # mrcnn takes as many as it was built for, and no fewer.
        padded = [*images, *[images[-1]] * (self.batch - len(images))]
        try:
            with mask_rcnn.quiet():
                results = self._net.detect(padded)
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            less = "--batch {}".format(self.batch // 2) if self.batch > 1 else "another node, or a GPU with more"
            raise WorkbenchError("the memory for detecting is full; what helps: {}".format(less)) from error
        return [_found(result) for result in results[: len(images)]]


def _found(result: Any) -> List[Found]:
    """What mrcnn says of an image."""
    every = []
    for (top, left, bottom, right), number, score, mask in zip(
        result["rois"], result["class_ids"], result["scores"], result["masks"]
    ):
        box = [int(left), int(top), int(right - left), int(bottom - top)]
        every.append(Found(int(number), round(float(score), 4), box, mask))
    return sorted(every, key=lambda one: -one.score)


def _device(any_gpu: bool) -> str:
    """What this runs on, for people. Raises WorkbenchError where a GPU was given that cannot be used."""
    gpus = host.gpus(host.devices())
    if not gpus and host.gpu_is_given():
        raise WorkbenchError("a GPU was asked for, and none is seen: {}".format(host.why_no_gpu()))
    unfit = host.unfit(gpus)
    if unfit and not any_gpu:
        raise WorkbenchError(unfit + "; --any-gpu tries all the same")
    return "; ".join(gpus) or count(host.cpus(), "CPU")
