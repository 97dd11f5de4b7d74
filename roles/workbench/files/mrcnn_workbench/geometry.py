# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Shapes as labelling tools draw them become outlines as COCO has them.

Coordinates are pixels, x to the right and y down; the picture's edge is at 0 and at its width or height.
"""

import itertools
import math
from typing import Any, Iterable, List, Optional, Sequence, Tuple

import numpy as np
from pycocotools import mask as coco_mask
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.validation import explain_validity, make_valid

from mrcnn_workbench.errors import BadLabelError
from mrcnn_workbench.labels import Outline, Rle, Size

CORNERS = 3  # of the smallest polygon
ELLIPSE_POINTS = 72
FARTHEST = 1e7  # pixels from the picture's corner; what claims to be farther away is a mistake
MOST_PIXELS = 1 << 28  # more than any photograph's; what a file claims is not believed without a limit
CLOSED_GAP = 0.1  # a line is closed if its ends are no further apart than this part of its length


def number(value: Any, name: str) -> float:
    """A coordinate. Labels hold them as numbers or as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise BadLabelError("{} is {!r}, not a number".format(name, value))
    try:
        converted = float(value)
    except (ValueError, OverflowError):
        raise BadLabelError("{} is {!r:.40}, not a number".format(name, value)) from None
    if not abs(converted) <= FARTHEST:  # nor is NaN
        raise BadLabelError("{} is {}, not a place in the picture".format(name, converted))
    return converted


def size_of(width: Any, height: Any) -> Optional[Size]:
    """The size that a file says its labels are for; none, or nothing, if it does not know."""
    if not width or not height:
        return None
    size = int(number(width, "width")), int(number(height, "height"))
    return size if all(size) else None


def points(pairs: Iterable[Sequence[Any]]) -> np.ndarray:
    """An array of x and y."""
    found = [(number(pair[0], "x"), number(pair[1], "y")) for pair in pairs]
    return np.array(found, dtype=float).reshape(-1, 2)


def polygon(corners: np.ndarray) -> Outline:
    """A polygon. Some tools repeat its first point at the end; the copy is dropped."""
    if len(corners) > 1 and (corners[0] == corners[-1]).all():
        corners = corners[:-1]
    if len(corners) < CORNERS:
        raise BadLabelError("a polygon needs {} points, this one has {}".format(CORNERS, len(corners)))
    if _flat(corners):
        raise BadLabelError("all points of the polygon lie on one line: it has no area")
    return [corners]


def polyline(corners: np.ndarray) -> Outline:
    """A line that was drawn round an object. Raises BadLabelError for one that does not come back to where it began."""
    steps = np.hypot(*np.diff(corners, axis=0).T) if len(corners) > 1 else np.zeros(1)
    gap = np.hypot(*(corners[-1] - corners[0])) if len(corners) else 0.0
    if len(corners) < CORNERS or gap > CLOSED_GAP * steps.sum():
        raise BadLabelError("a line that is not closed has no area; draw the object's outline as a polygon")
    return polygon(corners)


def rectangle(x: float, y: float, width: float, height: float) -> Outline:
    if width <= 0 or height <= 0:
        raise BadLabelError("a box {:g} wide and {:g} high has no area".format(width, height))
    return [np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])]


def ellipse(x: float, y: float, radius_x: float, radius_y: float, turn: float = 0.0) -> Outline:
    """An ellipse round a centre, turned clockwise by `turn` (radians): a polygon of the same area."""
    if radius_x <= 0 or radius_y <= 0:
        raise BadLabelError("a circle or ellipse with the radius {:g} has no area".format(min(radius_x, radius_y)))
    step = 2 * math.pi / ELLIPSE_POINTS
    larger = math.sqrt(step / math.sin(step))  # corners on the ellipse itself would cut off a little all round
    angles = np.arange(ELLIPSE_POINTS) * step
    corners = np.stack([x + larger * radius_x * np.cos(angles), y + larger * radius_y * np.sin(angles)], axis=1)
    return turned([corners], turn)


def turned(outline: List[np.ndarray], turn: float) -> Outline:
    """Polygons turned clockwise by `turn` (radians) about the middle of each."""
    matrix = np.array([(math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))])
    return [np.round((corners - corners.mean(axis=0)) @ matrix + corners.mean(axis=0), 2) for corners in outline]


def from_mask(mask: np.ndarray) -> Rle:
    """A mask of true and false, [height, width], holes and separate parts included."""
    if not mask.any():
        raise BadLabelError("the mask is empty")
    return _as_text(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


def from_rle(rle: Any) -> Rle:
    """A run-length encoded mask from a file, its runs as a list or as COCO's text."""
    height, width = (int(number(side, "size")) for side in rle["size"])
    counts = rle["counts"]
    runs = list(_runs(counts)) if isinstance(counts, str) else [int(number(run, "counts")) for run in counts]
    # pycocotools trusts what it decodes, and writes beyond its memory.
    if not 0 < height * width <= MOST_PIXELS or min(runs, default=0) < 0 or sum(runs) != height * width:
        raise BadLabelError("the mask's runs do not add up to a picture of {}x{}".format(width, height))
    if not any(runs[1::2]):
        raise BadLabelError("the mask is empty")
    plain = {"size": [height, width], "counts": counts if isinstance(counts, str) else runs}
    return plain if isinstance(counts, str) else _as_text(coco_mask.frPyObjects(plain, height, width))


def _as_text(rle: Rle) -> Rle:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _runs(text: str) -> Iterable[int]:
    """The runs in COCO's text: digits of five bits, the lowest first; from the fourth on, the difference to the last
    but one."""
    before: List[int] = []
    value = shift = 0
    for letter in text:
        digit = ord(letter) - 48
        if not 0 <= digit < 64 or shift > 60:  # noqa: PLR2004 - six bits a digit, one of which says that more follow
            raise BadLabelError("the mask's runs hold {!r}, which is none".format(letter))
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            if digit & 16:
                value -= 1 << shift
            if len(before) > 2:  # noqa: PLR2004 - as COCO has it
                value += before[-2]
            before.append(value)
            value = shift = 0
    return before


def _flat(corners: np.ndarray) -> bool:
    """Whether all points lie on one line."""
    return bool(np.linalg.matrix_rank(corners - corners[0], tol=1e-6) < 2)  # noqa: PLR2004 - dimensions


def limits(outline: List[np.ndarray]) -> Tuple[float, float, float, float]:
    """The least and the greatest x and y: left, top, right, bottom."""
    every = np.concatenate(outline)
    return (*every.min(axis=0), *every.max(axis=0))


def over_the_edge(outline: List[np.ndarray], size: Size) -> float:
    """By how many pixels polygons reach out of a picture."""
    left, top, right, bottom = limits(outline)
    return float(max(-left, -top, right - size[0], bottom - size[1], 0))


def clip(outline: List[np.ndarray], size: Size) -> List[np.ndarray]:
    """The part of polygons that is inside the picture."""
    inside: List[np.ndarray] = []
    for corners in outline:
        shape = Polygon(corners)
        if not shape.is_valid:
            shape = make_valid(shape)
        shape = shape.intersection(box(0, 0, *size))
        parts = getattr(shape, "geoms", [shape])
        inside += [np.round(np.array(part.exterior.coords)[:-1], 2) for part in parts if isinstance(part, Polygon)
                   and part.area > 0]  # fmt: skip
    if not inside:
        raise BadLabelError("lies outside the picture, which is {}x{}".format(*size))
    return inside


def crossing(corners: np.ndarray) -> str:
    """Where a polygon crosses itself, or nothing."""
    shape = Polygon(corners)
    if shape.is_valid:
        return ""
    _reason, _bracket, place = explain_validity(shape).partition("[")
    return "near x {:.0f}, y {:.0f}".format(*map(float, place.rstrip("]").split()[:2])) if place else "somewhere"


def rle_of(outline: Outline, size: Size) -> Rle:
    """The mask of any outline, run-length encoded."""
    if isinstance(outline, dict):
        return outline
    flat = [corners.ravel().tolist() for corners in outline]
    return _as_text(coco_mask.merge(coco_mask.frPyObjects(flat, size[1], size[0])))


def to_mask(outline: Outline, size: Size) -> np.ndarray:
    """The pixels inside: bool [height, width]."""
    decoded: np.ndarray = coco_mask.decode(rle_of(outline, size))
    return decoded.astype(bool)


def area(outline: Outline, size: Size) -> float:
    """The area in pixels: of polygons exactly, of masks and of polygons that cross themselves by pixels."""
    if not isinstance(outline, dict):
        shape = MultiPolygon([Polygon(corners) for corners in outline])
        if shape.is_valid:
            return float(shape.area)
    return float(coco_mask.area(rle_of(outline, size)))


def bounds(outline: Outline) -> List[float]:
    """The box round an outline: x, y, width, height."""
    if isinstance(outline, dict):
        return [float(edge) for edge in coco_mask.toBbox(outline)]
    left, top, right, bottom = limits(outline)
    return [left, top, right - left, bottom - top]


def joined(outlines: List[Outline], size: Size) -> Outline:
    """Parts of one object as one outline."""
    if len(outlines) == 1:
        return outlines[0]
    polygons = [outline for outline in outlines if not isinstance(outline, dict)]
    if len(polygons) == len(outlines):
        return list(itertools.chain.from_iterable(polygons))
    return _as_text(coco_mask.merge([rle_of(outline, size) for outline in outlines]))


def blank(size: Size) -> np.ndarray:
    """A mask without an object in it."""
    if not 0 < size[0] * size[1] <= MOST_PIXELS:
        raise BadLabelError("the labels are for a picture of {}x{}, which is none".format(*size))
    return np.zeros((size[1], size[0]), bool)
