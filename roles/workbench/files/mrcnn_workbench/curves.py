# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The curves of a run as a picture: the loss, of training and of val, and what it consists of."""

from typing import Any, Dict, List

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mrcnn_workbench import runs
from mrcnn_workbench.drawing import COLOURS, GREY, INK
from mrcnn_workbench.runs import Run

PARTS = ("rpn_class_loss", "rpn_bbox_loss", "mrcnn_class_loss", "mrcnn_bbox_loss", "mrcnn_mask_loss")
DPI = 120


def draw(run: Run) -> None:
    """Writes curves.png, whole or not at all, of what metrics.csv has; nothing where that is empty."""
    rows = run.metrics()
    if not rows:
        return
    figure = Figure(figsize=(12, 4.6))
    FigureCanvasAgg(figure)
    total, parts = figure.subplots(1, 2)
    _lines(total, rows, {"loss": "train", "val_loss": "val"})
    best = min((row for row in rows if "val_loss" in row), key=lambda row: row["val_loss"], default=None)
    if best:
        total.plot([best["epoch"]], [best["val_loss"]], "o", color=COLOURS[1], markersize=8)
        text = "{:.3f} after epoch {:.0f}".format(best["val_loss"], best["epoch"])
        total.set_title("loss; the best of val: " + text, fontsize=11, color=INK)
    else:
        total.set_title("loss", fontsize=11, color=INK)
    held = "val_" if best else ""
    _lines(parts, rows, {held + name: name[: -len("_loss")].replace("_", " ") for name in PARTS}, COLOURS[2:])
    parts.set_title("what it consists of" + (", val" if held else ""), fontsize=11, color=INK)
    figure.suptitle(run.name.replace("$", r"\$"), fontsize=14, color=INK)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    with runs.replacing(run.path(runs.CURVES)) as part:
        figure.savefig(str(part), dpi=DPI, format="png")


def _lines(axes: Any, rows: List[Dict[str, float]], names: Dict[str, str], colours: Any = COLOURS) -> None:
    for (name, label), colour in zip(names.items(), colours):
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        if points:
            axes.plot(*zip(*points), label=label, color=colour, linewidth=2, marker="." if len(points) < 30 else "")  # noqa: PLR2004
    axes.set_xlabel("epoch", color=GREY)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
