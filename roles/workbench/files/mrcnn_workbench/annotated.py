# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An image with what was found in it: masks with outlines, boxes, classes and scores, and a line below that sums up."""

from collections import Counter
from pathlib import Path
from typing import Any, List, Sequence, Tuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image

from mrcnn_workbench import drawing, runs
from mrcnn_workbench.drawing import COLOURS, DPI, GREY, INK, PAPER, Name, shortened, text_width
from mrcnn_workbench.errors import WorkbenchError, count
from mrcnn_workbench.geometry import bounds
from mrcnn_workbench.labels import Size
from mrcnn_workbench.results import Found

LEAST, MOST, NARROWEST = 1100, 1600, 320  # pixels of the longer side, and of the shorter
STRIP, MARGIN = 0.44, 0.16  # inches: the line below and what is left free beside it
LETTERS = 10.5  # points, in the line below
# How large names are by the number of objects up to which they are so, and how strong the lines; beyond, no names.
CROWDS = ((12, 9.5, 1.2), (40, 8.0, 1.0), (120, 6.0, 0.8))
QUALITY = 90
BICUBIC = 3  # of Pillow's, which moved its name


def colour_of(number: int) -> str:
    """A class's, by its number in the model."""
    return COLOURS[(number - 1) % len(COLOURS)]


def draw(image: np.ndarray, objects: Sequence[Found], names: Sequence[str], title: str, path: Path) -> None:
    """Draws objects on an image, uint8 [height, width, 3], as JPEG, whole or not at all. `names` are the classes'.

    Raises WorkbenchError.
    """
    size = (image.shape[1], image.shape[0])
    scale = _scale(size)
    wide, high = size[0] * scale / DPI, size[1] * scale / DPI
    figure = Figure(figsize=(wide, high + STRIP), dpi=DPI, facecolor=PAPER)
    canvas: Any = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, STRIP / (high + STRIP), 1, high / (high + STRIP)))
    axes.axis("off")
    axes.imshow(_scaled(image, scale), extent=(0, size[0], size[1], 0), interpolation="bilinear", aspect="auto")
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    _draw_objects(axes, objects, names, size)
    _draw_strip(figure, objects, names, title)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with runs.replacing(path) as part:
            Image.fromarray(np.ascontiguousarray(pixels)).save(str(part), format="JPEG", quality=QUALITY, subsampling=0)
    except OSError as error:
        raise WorkbenchError("{}: {}".format(path, error.strerror or error)) from error


def _scale(size: Size) -> float:
    """Pixels of the picture for one of the image."""
    scale = min(max(LEAST, *size), MOST) / max(size)
    return scale * min(max(1.0, NARROWEST / (min(size) * scale)), 2.5)


def _scaled(image: np.ndarray, scale: float) -> np.ndarray:
    """A large image as large as it is going to be seen; Matplotlib would leave out pixels instead."""
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(Image.fromarray(image).resize(size, BICUBIC, reducing_gap=3.0))


def _draw_objects(axes: Any, objects: Sequence[Found], names: Sequence[str], size: Size) -> None:
    most, letters, weight = next((crowd for crowd in CROWDS if len(objects) <= crowd[0]), CROWDS[-1])
    scale = size[0] / axes.figure.get_size_inches()[0]  # pixels of the image to an inch
    largest_first = sorted(objects, key=lambda found: -found.area)
    for found in largest_first:
        drawing.draw_object(axes, found.mask, size, colour_of(found.number), weight)
    if len(objects) > most:
        return
    placed: List[Name] = []
    for found in sorted(objects, key=lambda found: -found.score):
        text = "{} {:.2f}".format(shortened(names[found.number], 1.6, letters), found.score)
        placed.append(_free(text, bounds(found.mask), size, (scale, letters), placed))
    for found, name in reversed(list(zip(sorted(objects, key=lambda found: -found.score), placed))):
        drawing.draw_name(axes, name, scale, colour_of(found.number))


def _free(text: str, box: Any, size: Size, scales: Tuple[float, float], placed: Sequence[Name]) -> Name:
    """A name by a box where it hides the least of other names: above, in the box, below, or to the right."""
    first = drawing.named(text, box, size, *scales)
    left, top, width, height = box
    gap = 0.02 * scales[0]
    places = [
        (first.left, first.top), (left + gap, top + gap), (left + width - first.width, top - first.height),
        (left, top + height), (left + width - first.width, top + height), (left + gap, top + height - first.height),
        (left + width + gap, top), (left + (width - first.width) / 2, top + (height - first.height) / 2),
    ]  # fmt: skip
    names = [
        first._replace(left=max(0, min(x, size[0] - first.width)), top=max(0, min(y, size[1] - first.height)))
        for x, y in places
    ]
    return min(names, key=lambda name: sum(_common(name, other) for other in placed))  # the first of the best


def _common(one: Name, other: Name) -> float:
    """The area that two names have in common."""
    wide = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    high = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    return max(wide, 0) * max(high, 0)


def _draw_strip(figure: Any, objects: Sequence[Found], names: Sequence[str], title: str) -> None:
    """The line below: the file's name to the left; the classes and how many of each to the right."""
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, STRIP / high))
    axes.axis("off")
    axes.set(xlim=(0, wide), ylim=(0, STRIP))
    y, style = STRIP / 2, {"fontsize": LETTERS, "va": "center_baseline"}
    numbers = Counter(found.number for found in objects)
    texts = [(number, "{}  {}".format(names[number], numbers[number])) for number in sorted(numbers)]
    widths = [0.24 + text_width(text, LETTERS) for _number, text in texts]
    room = wide - 2 * MARGIN
    if not texts or sum(widths) + 0.3 * len(widths) > 0.7 * room:
        text = (
            "{} of {}".format(count(len(objects), "object"), count(len(numbers), "class")) if texts else "nothing found"
        )
        axes.text(wide - MARGIN, y, text, color=GREY, ha="right", **style)
        used = text_width(text, LETTERS)
    else:
        x = wide - MARGIN - sum(widths) - 0.3 * (len(widths) - 1)
        used = wide - MARGIN - x
        for (number, text), width in zip(texts, widths):
            axes.add_patch(Circle((x + 0.08, y), 0.075, facecolor=colour_of(number), edgecolor="none"))
            axes.text(x + 0.24, y, drawing.safe(text), color=INK, **style)
            x += width + 0.3
    name = shortened(title, max(room - used - 0.4, 0.5), LETTERS)
    axes.text(MARGIN, y, drawing.safe(name), color=INK, **style)
