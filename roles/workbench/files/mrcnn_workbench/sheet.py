# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A contact sheet: some of a data set's images with their labels drawn on them, on one page."""

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle
from PIL import Image

from mrcnn_workbench import dataset, drawing, geometry, runs
from mrcnn_workbench.dataset import Record, Split
from mrcnn_workbench.drawing import COLOURS, DPI, EMPTY, GREY, INK, PAPER, shortened, text_width
from mrcnn_workbench.errors import BadLabelError, WorkbenchError, count

HALVES = {"train": "#334155", "val": "#b45309"}
ENDINGS = (".png", ".jpg", ".jpeg", ".pdf")

# In inches; text in points.
WIDTH, MARGIN, GAP, CAPTION, TITLE, LEGEND_ROW = 15.0, 0.5, 0.28, 0.36, 0.95, 0.34
MOST_COLUMNS = 4
CROWDED = 14  # objects in an image: from here on their names would hide them


class Tile(NamedTuple):
    split: Split
    image: Record
    annotations: List[Record]


def draw(folder: Path, path: Path, most: int = 12, only: str = "", seed: int = 0) -> int:
    """Draws up to `most` images of a data set, of `only` train or val if that is said. Returns how many.

    Raises WorkbenchError. The file is written whole or not at all.
    """
    if path.suffix.lower() not in ENDINGS:
        raise WorkbenchError("{}: the name has to end in one of {}".format(path, ", ".join(ENDINGS)))
    splits = dataset.read(folder)
    try:
        tiles = _choose([splits[name] for name in splits if only in ("", name)], most, seed)
        if not tiles:
            raise WorkbenchError("{}: there are no images{}".format(folder, " in " + only if only else ""))
        figure = _Page(folder.resolve().name, splits, tiles).figure
    except (BadLabelError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise WorkbenchError(
            "{}: not as COCO has it; `mrcnn data check` says more ({})".format(folder, error)
        ) from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with runs.replacing(path) as part:
            figure.savefig(str(part), dpi=DPI, format=path.suffix[1:].lower().replace("jpeg", "jpg"), facecolor=PAPER)
    except OSError as error:
        raise WorkbenchError("{}: {}".format(path, error.strerror or error)) from error
    return len(tiles)


def _choose(splits: List[Split], most: int, seed: int) -> List[Tile]:
    """Images by chance, but always the same ones: of every split as it has of all, those with labels first."""
    tiles: List[Tile] = []
    total = sum(len(split.images) for split in splits)
    for split in reversed(splits):
        annotations = split.by_image()
        images = sorted(split.images, key=lambda image: str(image["file_name"]))
        random.Random(seed).shuffle(images)  # noqa: S311 - no secret
        images.sort(key=lambda image: not annotations[image["id"]])
        left = most - len(tiles)
        # None is left out if there is room for two; the first split, train, takes what the others leave.
        share = left if split is splits[0] else min(max(1, round(most * len(images) / max(1, total))), left - 1)
        chosen = sorted(images[:share], key=lambda image: str(image["file_name"]))
        tiles[:0] = [Tile(split, image, annotations[image["id"]]) for image in chosen]
    return tiles


class _Page:
    """The page, measured in inches from its upper left corner."""

    def __init__(self, title: str, splits: Dict[str, Split], tiles: List[Tile]) -> None:
        self.names = {record["id"]: str(record["name"]) for split in splits.values() for record in split.categories}
        self.colours = {number: COLOURS[place % len(COLOURS)] for place, number in enumerate(sorted(self.names))}
        columns = min(MOST_COLUMNS, max(1, math.ceil(math.sqrt(len(tiles) * 1.3)))) if len(tiles) > 1 else 1
        rows = -(-len(tiles) // columns)
        aspects = sorted(tile.image["width"] / tile.image["height"] for tile in tiles)
        aspect = min(max(aspects[len(aspects) // 2], 0.75), 1.5)
        cell = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) / columns
        legend, legend_rows = self._legend(splits)
        top = MARGIN + TITLE + legend_rows * LEGEND_ROW + 0.15
        self.height = top + rows * (cell / aspect + CAPTION) + (rows - 1) * GAP * 0.5 + MARGIN * 0.6
        self.figure = Figure(figsize=(WIDTH, self.height), facecolor=PAPER)
        FigureCanvasAgg(self.figure)
        self._draw_title(title, splits, len(tiles))
        for x, row, number, text in legend:
            self._draw_class(x, MARGIN + TITLE + (row + 0.5) * LEGEND_ROW, number, text)
        for place, tile in enumerate(tiles):
            row, column = divmod(place, columns)
            left = MARGIN + column * (cell + GAP)
            self._draw_tile(tile, left, top + row * (cell / aspect + CAPTION + GAP * 0.5), cell, cell / aspect)

    def _text(self, x: float, y: float, text: str, **style: Any) -> Any:
        return self.figure.text(
            x / WIDTH, 1 - y / self.height, drawing.safe(text), **dict({"color": INK, "va": "center"}, **style)
        )

    def _axes(self, x: float, y: float, width: float, height: float) -> Any:
        place = (x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height)
        axes = self.figure.add_axes(place)
        axes.axis("off")
        return axes

    def _legend(self, splits: Dict[str, Split]) -> Tuple[List[Tuple[float, int, int, str]], int]:
        """Where every class is named: x, row, id and text; and the number of rows."""
        labels = Counter(record["category_id"] for split in splits.values() for record in split.annotations)
        found, x, row = [], MARGIN, 0
        for number in sorted(self.names):
            text = "{}  {}".format(self.names[number], labels[number])
            width = 0.34 + text_width(text, 12) + 0.3
            if x + width > WIDTH - MARGIN and x > MARGIN:
                x, row = MARGIN, row + 1
            found.append((x, row, number, text))
            x += width
        return found, row + 1 if found else 0

    def _draw_title(self, title: str, splits: Dict[str, Split], shown: int) -> None:
        images = sum(len(split.images) for split in splits.values())
        labels = sum(len(split.annotations) for split in splits.values())
        parts = ", ".join("{} {}".format(len(split.images), name) for name, split in splits.items())
        some = "{} of {}".format(shown, count(images, "image")) if shown < images else count(images, "image")
        self._text(MARGIN, MARGIN + 0.16, shortened(title, WIDTH - 2 * MARGIN, 24), fontsize=24, fontweight="bold")
        below = "{} ({})   ·   {}   ·   {}".format(some, parts, count(labels, "label"), count(len(self.names), "class"))
        self._text(MARGIN, MARGIN + 0.58, below, fontsize=12, color=GREY)

    def _draw_class(self, x: float, y: float, number: int, text: str) -> None:
        axes = self._axes(x, y - 0.1, 0.2, 0.2)
        axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
        axes.add_patch(Circle((0, 0), 1, facecolor=self.colours[number], edgecolor="none"))
        self._text(x + 0.3, y, text, fontsize=12, va="center_baseline")

    def _draw_tile(self, tile: Tile, x: float, y: float, width: float, height: float) -> None:
        axes = self._axes(x, y, width, height)
        size = (int(tile.image["width"]), int(tile.image["height"]))
        pixels = max(width, height) * DPI * 1.5
        axes.imshow(
            _shrunk(tile, int(pixels)), extent=(0, size[0], size[1], 0), interpolation="bilinear", aspect="auto"
        )
        # The image fills its cell if it is about as wide for its height as the others are; else it is centred.
        scale = max(size[0] / width, size[1] / height)
        spare = (width * scale - size[0]) / 2, (height * scale - size[1]) / 2
        axes.add_patch(Rectangle((-spare[0], -spare[1]), width * scale, height * scale, facecolor=EMPTY, zorder=-1))
        axes.set(xlim=(-spare[0], size[0] + spare[0]), ylim=(size[1] + spare[1], -spare[1]))
        crowded = len(tile.annotations) >= CROWDED
        largest_first = sorted(tile.annotations, key=lambda record: -float(record.get("area") or 0))
        objects = [(dataset.outline_of(record), record["category_id"]) for record in largest_first]
        for outline, number in objects:
            drawing.draw_object(axes, outline, size, self.colours[number], 0.8 if crowded else 1.0)
        for outline, number in [] if crowded else objects:
            text = shortened(self.names[number], 1.1, drawing.LETTERS)
            name = drawing.named(text, geometry.bounds(outline), size, scale)
            drawing.draw_name(axes, name, scale, self.colours[number])
        self._draw_caption(tile, x, y + height + 0.19, width)

    def _draw_caption(self, tile: Tile, x: float, y: float, width: float) -> None:
        half = tile.split.name
        chip = text_width(half, 9) + 0.16
        axes = self._axes(x, y - 0.09, chip, 0.18)
        axes.set(xlim=(0, chip), ylim=(0, 0.18))
        axes.add_patch(
            FancyBboxPatch((0.03, 0.03), chip - 0.06, 0.12, boxstyle="round,pad=0.03,rounding_size=0.06",
                           facecolor=HALVES[half], edgecolor="none")
        )  # fmt: skip
        self._text(x + chip / 2, y + 0.005, half, fontsize=9, color="white", ha="center", va="center_baseline")
        number = count(len(tile.annotations), "label")
        self._text(x + width, y + 0.005, number, fontsize=9, color=GREY, ha="right", va="center_baseline")
        room = width - chip - text_width(number, 9) - 0.3
        name = shortened(str(tile.image["file_name"]), room, 9.5)
        self._text(x + chip + 0.1, y + 0.005, name, fontsize=9.5, va="center_baseline")


def _shrunk(tile: Tile, pixels: int) -> np.ndarray:
    """An image, no larger than it is going to be seen."""
    try:
        with Image.open(str(tile.split.image_path(tile.image))) as image:
            image.draft("RGB", (pixels, pixels))
            small = image.convert("RGB")
            small.thumbnail((pixels, pixels))
            return np.asarray(small)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise WorkbenchError("{}: {}".format(tile.split.image_path(tile.image), error)) from error
