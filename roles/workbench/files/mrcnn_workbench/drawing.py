# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How objects are drawn on images, by `sheet` and by `annotated`: colours, masks with outlines, names."""

import functools
from typing import Any, List, NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outlined
from matplotlib.patheffects import Stroke, withStroke
from matplotlib.textpath import TextPath
from skimage import measure

from mrcnn_workbench import geometry
from mrcnn_workbench.labels import Outline, Rle, Size

# Told apart by colour-blind people too (Okabe and Ito), but for the last few.
COLOURS = (
    "#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#d55e00", "#f0e442", "#0072b2",
    "#9467bd", "#8c564b", "#17becf", "#bcbd22", "#7f7f7f",
)  # fmt: skip
INK, GREY, PAPER, EMPTY = "#1f2430", "#6b7280", "#ffffff", "#f1f3f5"
DPI = 140
FILL = 0.38  # how much of a mask's colour lies over the image
COARSE = 500  # pixels of an image of which each can be seen: there outlines are rounded off
FINE = 1500  # pixels across an image: more cannot be seen of a mask
DARK = 0.45  # brightness up to which white can be read better than black
LETTERS = 8.5  # points: the size of names


class Name(NamedTuple):
    """A name and where it goes, in pixels of the image: its left upper corner, width and height."""

    text: str
    letters: float  # points
    left: float
    top: float
    width: float
    height: float


def draw_object(axes: Any, outline: Outline, size: Size, colour: str, weight: float = 1.0) -> None:
    """A mask's colour, its outline and its box, on axes in pixels of an image of this size."""
    rings = _rings(outline, size) if isinstance(outline, dict) else outline
    path = Outlined.make_compound_path(*(Outlined(np.concatenate([ring, ring[:1]]), closed=True) for ring in rings))
    halo = [Stroke(linewidth=3.2 * weight, foreground="white", alpha=0.75), withStroke(linewidth=0)]
    axes.add_patch(PathPatch(path, facecolor=(*to_rgb(colour), FILL), edgecolor="none"))
    axes.add_patch(
        PathPatch(
            path, facecolor="none", edgecolor=colour, linewidth=1.8 * weight, joinstyle="round", path_effects=halo
        )
    )
    draw_box(axes, geometry.bounds(outline), weight)


def draw_box(axes: Any, box: Any, weight: float = 1.0) -> None:
    """A dashed box: x, y, width, height."""
    left, top, width, height = box
    axes.add_patch(
        Rectangle((left, top), width, height, fill=False, edgecolor="white", linewidth=0.9 * weight,
                  linestyle=(0, (3, 2)), alpha=0.9)
    )  # fmt: skip


def _rings(mask: Rle, size: Size) -> List[np.ndarray]:
    """The lines round a mask and, the other way, round its holes: x and y, for each."""
    left, top, width, height = map(int, geometry.bounds(mask))
    step = 1 + max(size) // FINE
    pixels = geometry.to_mask(mask, size)[top : top + height : step, left : left + width : step]
    # Some pixels more all round: a mask that ends at the edge has an outline there too.
    part = np.pad(pixels, 2, mode="constant").astype(float)
    if max(size) < COARSE:
        for axis in (0, 1):
            part = 0.5 * part + 0.25 * (np.roll(part, 1, axis) + np.roll(part, -1, axis))
    library: Any = measure  # has no types
    rings = library.find_contours(part, min(0.5, 0.8 * part.max()))
    return [(ring[:, ::-1] - 1.5) * step + (left, top) for ring in rings]


def named(text: str, box: Any, size: Size, scale: float, letters: float = LETTERS) -> Name:
    """A name above its box, or in it where there is no room above.

    `scale`: pixels of the image to an inch; `letters`: their size in points.
    """
    high = 0.22 * scale * letters / LETTERS
    wide = (text_width(text, letters) + 0.15) * scale
    left, top = box[:2]
    return Name(text, letters, max(min(left, size[0] - wide), 0), top - high if top > high else max(top, 0), wide, high)


def draw_name(axes: Any, name: Name, scale: float, colour: str) -> None:
    """A name on a chip of its class's colour."""
    axes.text(
        name.left + 0.06 * scale, name.top + 0.5 * name.height, safe(name.text), fontsize=name.letters,
        color=ink_on(colour), ha="left", va="center_baseline", clip_on=True,
        bbox={"boxstyle": "round,pad=0.25,rounding_size=0.3", "facecolor": colour, "edgecolor": "white",
              "linewidth": 0.6, "alpha": 0.95},
    )  # fmt: skip


def safe(text: str) -> str:
    """Text as Matplotlib takes it for nothing else: a dollar sign begins a formula."""
    return text.replace("$", r"\$")


def ink_on(colour: str) -> str:
    """What can be read on a colour."""
    red, green, blue = to_rgb(colour)
    return INK if 0.3 * red + 0.59 * green + 0.11 * blue > DARK else PAPER


@functools.lru_cache(maxsize=None)
def text_width(text: str, size: float) -> float:
    """How wide text is, in inches, to a hair: the points that its curves are drawn towards count as theirs."""
    return float(TextPath((0, 0), safe(text), size=size).vertices[:, 0].max()) / 72 if text.strip() else 0.0


@functools.lru_cache(maxsize=None)
def shortened(text: str, room: float, size: float) -> str:
    """Text that fits, its middle left out if it has to be."""
    most = int(room / text_width("i", size))  # of the narrowest letters; measuring a whole novel would take its time
    if len(text) <= most and text_width(text, size) <= room:
        return text
    for keep in range(min(len(text), most), 4, -1):
        shorter = text[: keep // 2] + "…" + text[len(text) - keep // 2 :]
        if text_width(shorter, size) <= room:
            return shorter
    return text[:2] + "…"
