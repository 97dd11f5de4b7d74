# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every layer of a model makes of an image: `layers.py WEIGHTS_DIR OUT_DIR`, in an environment.

For each backbone. Weights that are not in WEIGHTS_DIR, BACKBONE.h5, are made, from the seed 1. The arrays in
OUT_DIR/BACKBONE.npz have the names of the layers.
"""

import sys
from pathlib import Path

from mrcnn_workbench import mask_rcnn, settings, small  # isort: skip - before keras

import keras.backend
import numpy as np

SIZE = 128
# Features, the pyramid, where objects may be, and what the heads make of that.
LAYERS = {
    "resnet50": ("res2c_out", "res3d_out", "res4f_out", "res5c_out", "fpn_p2", "fpn_p5", "rpn_class", "rpn_bbox"),
    settings.SMALL: (
        "c1", "c5", "fpn_p2", "fpn_p5", "rpn_class", "rpn_bbox", "ROI", "mrcnn_class", "mrcnn_bbox",
        "mrcnn_detection", "mrcnn_mask",
    ),
}  # fmt: skip


def image() -> np.ndarray:
    """A picture with something on it: uint8 [SIZE, SIZE, 3]."""
    picture = np.random.RandomState(0).randint(0, 60, (SIZE, SIZE, 3)).astype(np.uint8)
    picture[30:90, 20:70] = (60, 160, 60)
    picture[70:110, 80:115] = (200, 60, 160)
    return picture


def look(backbone: str, weights: Path, out: Path) -> None:
    mask_rcnn.start_session(1)  # another one, without the models of before
    wanted = settings.checked({"data": "none", "backbone": backbone, "image_size": SIZE}, "layers")
    config = mask_rcnn.configuration(wanted, ["background", "leaf", "flower"], inference=True)
    model = mask_rcnn.build("inference", config)
    if not weights.exists():
        if backbone == settings.SMALL:
            small.liven(model.keras_model)
        mask_rcnn.save(model, weights)
    mask_rcnn.load(model, weights, whole=True)
    net = model.keras_model
    names = LAYERS[backbone]
    outputs = [net.get_layer(name).get_output_at(-1) for name in names]
    molded, metas, _windows = model.mold_inputs([image()])
    anchors = model.get_anchors(molded[0].shape)[np.newaxis]
    found = keras.backend.function(net.inputs, outputs)([molded, metas, anchors])
    np.savez(str(out), **{name: found[place] for place, name in enumerate(names)})


if __name__ == "__main__":
    for name in LAYERS:
        look(name, Path(sys.argv[1], f"{name}.h5"), Path(sys.argv[2], f"{name}.npz"))
