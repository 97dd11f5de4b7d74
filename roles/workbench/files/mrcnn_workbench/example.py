# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Photographs that were never taken: leaves and flowers on soil, drawn, so that their masks are known to the pixel.

    OUT/photos/via_region_data.json   labels as VGG Image Annotator 2 saves them: polygons, the class as `species`
    OUT/photos/plant01_1.png          two pictures of each of some plants
    OUT/unseen/plant91_1.png          others, that nothing is trained on
    OUT/unseen/masks/plant91_1/leaf_1.png
    OUT/quick.yml                     settings for a training that takes a minute

They are small, 128 pixels, so that the whole way from labels to detections takes minutes on CPUs.
"""

import json
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import numpy as np
from PIL import Image

from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.geometry import points, to_mask

CLASSES = ("leaf", "flower")
SIDE = 128  # pixels
SOIL = (112, 84, 62)  # its mean colour, RGB
PLANTS, UNSEEN_PLANTS, PICTURES = 15, 4, 2
FIRST_UNSEEN = 91
QUICK = """\
# A training that takes a minute on CPUs, on small images that are made for that.
data: dataset
backbone: small
image_size: 128
steps: 20
augmentation: none
stages:
- {layers: all, epochs: 3, learning_rate: 0.02}
- {layers: all, epochs: 1, learning_rate: 0.004}  # settles what the first has stirred up
"""
CORNERS = 60  # of an outline


class Thing(NamedTuple):
    """A leaf or a flower: its class, its outline as x + iy in pixels [CORNERS], its mask, bool [SIDE, SIDE]."""

    name: str
    outline: np.ndarray
    mask: np.ndarray


class Scene(NamedTuple):
    """A picture, uint8 [SIDE, SIDE, 3], and what is on it."""

    image: np.ndarray
    things: List[Thing]


def scene(rng: Any) -> Scene:
    """A leaf and a flower on soil, from a numpy.random.RandomState.

    Each shape fills only about half of its box, so that a box is not taken for a mask.
    """
    image = SOIL + rng.normal(0, 12, (SIDE, SIDE, 1)) + rng.normal(0, 6, (SIDE, SIDE, 3))
    things: List[Thing] = []
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    for place, name in enumerate(rng.permutation(CLASSES)):
        size = SIDE * rng.uniform(0.17, 0.22)
        # One shape in each half of the image: they may touch but hardly overlap.
        centre = complex(SIDE * (0.27 + 0.46 * place + rng.uniform(-0.03, 0.03)), SIDE * rng.uniform(0.3, 0.7))
        if name == "leaf":
            tip = np.abs(np.sin(angle)) ** 0.4
            outline = size * (1.3 * np.cos(angle) + 0.58j * np.sin(angle) * tip)
            turn, colour = np.pi * rng.uniform(0.17, 0.33) * rng.choice([-1, 1]), (70, 150, 55)
        else:
            outline = size * (1 + 0.32 * np.cos(5 * angle)) * np.exp(1j * angle)
            turn, colour = rng.uniform(0, 2 * np.pi), (215, 90, 160)
        outline = centre + outline * np.exp(1j * turn)
        mask = to_mask([points(zip(outline.real, outline.imag))], (SIDE, SIDE))
        image[mask] = colour + rng.normal(0, 8, 3) + rng.normal(0, 6, (mask.sum(), 3))
        if name == "flower":
            y, x = np.mgrid[:SIDE, :SIDE]
            image[abs(x + 1j * y - centre) < 0.3 * size] = (240, 200, 60)
        # What comes later lies on top.
        things = [thing._replace(mask=thing.mask & ~mask) for thing in things]
        things.append(Thing(str(name), outline, mask))
    return Scene(image.clip(0, 255).astype(np.uint8), things)


def make(out: Path, seed: int = 0) -> Dict[str, int]:
    """Draws everything into the new folder `out`. Returns the number of pictures in each of its folders.

    Raises WorkbenchError if something is there already.
    """
    if out.exists():
        raise WorkbenchError("{}: is there already".format(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.RandomState(seed)
    with tempfile.TemporaryDirectory(prefix=".{}-".format(out.name), dir=str(out.parent)) as folder:
        part = Path(folder, "made")
        numbers = {
            "photos": _labelled(part / "photos", rng, range(1, PLANTS + 1)),
            "unseen": _masked(part / "unseen", rng, range(FIRST_UNSEEN, FIRST_UNSEEN + UNSEEN_PLANTS)),
        }
        (part / "quick.yml").write_text(QUICK, encoding="utf-8")
        part.rename(out)
    return numbers


def _scenes(folder: Path, rng: Any, plants: Any) -> Dict[str, Scene]:
    """Pictures of plants, saved; the scenes by the files' names."""
    folder.mkdir(parents=True)
    found = {}
    for plant in plants:
        for number in range(1, PICTURES + 1):
            name = "plant{:02}_{}.png".format(plant, number)
            found[name] = scene(rng)
            Image.fromarray(found[name].image).save(str(folder / name))
    return found


def _labelled(folder: Path, rng: Any, plants: Any) -> int:
    """With labels of VIA's: the outlines as polygons, as a careful person would have drawn them."""
    entries: Dict[str, Any] = {}
    scenes = _scenes(folder, rng, plants)
    for name, found in scenes.items():
        size = (folder / name).stat().st_size
        regions = [
            {
                "shape_attributes": {
                    "name": "polygon",
                    "all_points_x": [round(float(x), 1) for x in thing.outline.real.clip(0, SIDE)],
                    "all_points_y": [round(float(y), 1) for y in thing.outline.imag.clip(0, SIDE)],
                },
                "region_attributes": {"species": thing.name},
            }
            for thing in found.things
        ]
        entries[name + str(size)] = {"filename": name, "size": size, "regions": regions, "file_attributes": {}}
    (folder / "via_region_data.json").write_text(json.dumps(entries) + "\n", encoding="utf-8")
    return len(scenes)


def _masked(folder: Path, rng: Any, plants: Any) -> int:
    """With the true masks, a file for each."""
    scenes = _scenes(folder, rng, plants)
    for name, found in scenes.items():
        masks = folder / "masks" / Path(name).stem
        masks.mkdir(parents=True)
        for thing in found.things:
            Image.fromarray(thing.mask.astype(np.uint8) * 255).save(str(masks / "{}_1.png".format(thing.name)))
    return len(scenes)
