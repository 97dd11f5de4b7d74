# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What happens while a model is trained: Keras callbacks, those that settings name and those of every run."""

import contextlib
import math
import time
from typing import Any, Callable, Dict, List

# The first of what imports TensorFlow, since it does so without its chatter.
from mrcnn_workbench import mask_rcnn  # isort: skip

import keras.backend
import keras.callbacks

from mrcnn_workbench.curves import PARTS, draw
from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.progress import Journal, ends
from mrcnn_workbench.runs import Run
from mrcnn_workbench.settings import Settings

NOTE_EVERY, LINE_EVERY = 5, 30  # seconds: between notes of how far it is, and between lines where they are kept


class Stopped(Exception):
    """Somebody, or Slurm, wants the training to end; it can be resumed."""


class TrainingFailed(Exception):
    """It is of no use to go on. The text says why, and what to do."""


def named(wanted: List[Settings], learning_rate: float, first: int, validated: bool) -> List[Any]:
    """The callbacks that settings name, for a stage with this learning rate, whose first epoch is `first` (from 0 on).

    Raises WorkbenchError.
    """
    found = []
    for entry in wanted:
        ((name, arguments),) = entry.items()
        try:
            if ":" in name:
                found.append(mask_rcnn.imported(name, "callbacks")(**arguments))
            elif name in NAMED:
                found.append(NAMED[name](arguments, learning_rate, first, validated))
            else:
                raise WorkbenchError("callbacks: {} is not one of {}, or MODULE:CLASS".format(name, ", ".join(NAMED)))
        except (TypeError, ValueError, KeyError) as error:
            raise WorkbenchError("callbacks: {}: {}".format(name, error)) from error
    return found


def _early_stopping(arguments: Settings, _rate: float, _first: int, validated: bool) -> Any:
    monitor = "val_loss" if validated else "loss"
    return keras.callbacks.EarlyStopping(**dict({"monitor": monitor, "patience": 10}, **arguments))


def _reduce_learning_rate(arguments: Settings, _rate: float, _first: int, validated: bool) -> Any:
    monitor = "val_loss" if validated else "loss"
    return keras.callbacks.ReduceLROnPlateau(**dict({"monitor": monitor, "patience": 5, "factor": 0.1}, **arguments))


def _learning_rate_steps(arguments: Settings, rate: float, first: int, _validated: bool) -> Any:
    """From each of `epochs` (of the stage, the first is 1) on, times `factor`."""
    unknown = set(arguments) - {"epochs", "factor"}
    if unknown or not arguments.get("epochs"):
        raise ValueError("epochs (a list) and factor are wanted")
    epochs, factor = [int(epoch) for epoch in arguments["epochs"]], float(arguments.get("factor", 0.1))

    def schedule(epoch: int) -> float:
        return rate * factor ** sum(epoch - first + 1 >= step for step in epochs)

    return keras.callbacks.LearningRateScheduler(schedule)


NAMED: Dict[str, Callable[[Settings, float, int, bool], Any]] = {
    "early_stopping": _early_stopping,
    "reduce_learning_rate": _reduce_learning_rate,
    "learning_rate_steps": _learning_rate_steps,
}


class Recorder(keras.callbacks.Callback):
    """Keeps everything of a run: metrics, checkpoints, how far it is; says it; and sees to it that losses are numbers.

    It comes last, after callbacks that change something.
    """

    def __init__(self, run: Run, model: mask_rcnn.Model, journal: Journal, plan: Dict[str, Any]) -> None:
        """`plan`: stage (a text), epochs (of all stages), keep, and stop, a function that says why to stop, or ""."""
        super().__init__()
        self.run, self.whole_model, self.journal, self.plan = run, model, journal, plan
        self.shown = self.noted = 0.0
        self.losses: List[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch, self.began, self.losses = epoch + 1, time.time(), []

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        logs = logs or {}
        self.losses.append(float(logs["loss"]))
        if not math.isfinite(self.losses[-1]):
            parts = [name for name in PARTS if not math.isfinite(float(logs.get(name, 0)))]
            raise TrainingFailed(
                "the loss is {} in epoch {}, step {} ({}). Try a learning rate ten times smaller; "
                "`mrcnn data check` finds labels that cause it; on a GPU that TensorFlow does not know "
                "(1.15: a100, l40s) it always is".format(
                    self.losses[-1], self.epoch, batch + 1, ", ".join(parts) or "all"
                )
            )
        steps, done = self.params["steps"], batch + 1
        now = time.time()
        each = (now - self.began) / done
        left = each * (steps - done + (self.plan["epochs"] - self.epoch) * steps)
        if now - self.shown >= (0 if self.journal.live else LINE_EVERY):
            self.shown = now
            self.journal.show(
                "epoch {}/{}  step {}/{}  loss {:.3f}  {:.2f} s a step  {}".format(
                    self.epoch, self.plan["epochs"], done, steps, self.losses[-1], each, ends(left)
                )
            )
        if now - self.noted >= NOTE_EVERY:
            self.noted = now
            self.note(
                epoch=self.epoch - 1, step=done, steps=steps, loss=self.losses[-1], seconds_a_step=round(each, 3),
                ends=round(now + left),
            )  # fmt: skip
        why = self.plan["stop"]()
        if why:
            raise Stopped(why)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        values = {name: float(value) for name, value in (logs or {}).items() if name != "lr"}
        seconds = time.time() - self.began
        rate = float(keras.backend.get_value(self.model.optimizer.lr))
        rows = [row for row in self.run.metrics() if row["epoch"] < self.epoch]
        before = [row["val_loss"] for row in rows if "val_loss" in row]
        best = "val_loss" in values and (not before or values["val_loss"] < min(before))
        row = {"epoch": self.epoch, "seconds": round(seconds, 2), "learning_rate": rate}
        row.update(sorted(values.items(), key=lambda item: item[0].startswith("val_")))
        self.run.write_metrics([*rows, row])
        mask_rcnn.save(self.whole_model, self.run.checkpoint_path(self.epoch))
        left = seconds * (self.plan["epochs"] - self.epoch)
        self.note(
            epoch=self.epoch, step=0, steps=self.params["steps"], loss=values["loss"], val_loss=values.get("val_loss"),
            seconds_a_step=round(seconds / self.params["steps"], 3), ends=round(time.time() + left),
        )  # fmt: skip
        parts = [
            "epoch {}/{}".format(self.epoch, self.plan["epochs"]),
            self.plan["stage"],
            "loss {:.3f}".format(values["loss"]),
        ]
        if "val_loss" in values:
            parts.append("val_loss {:.3f}{}".format(values["val_loss"], ", the best so far" if best else ""))
        parts.append("{:.0f} s".format(seconds))
        if self.epoch < self.plan["epochs"]:
            parts.append(ends(left))
        self.journal.say("  ".join(parts))
        with contextlib.suppress(OSError):  # as in note
            draw(self.run)
        self.prune()
        why = self.plan["stop"]()
        if why and self.epoch < self.plan["epochs"]:
            raise Stopped(why)

    def note(self, **changes: Any) -> None:
        """Writes down how far it is, if that can be: it is not worth a training, as metrics and checkpoints are."""
        with contextlib.suppress(OSError):
            self.run.note(**changes)

    def prune(self) -> None:
        """Removes older checkpoints; the best one stays."""
        best = self.run.best()
        for checkpoint in self.run.checkpoints()[: -self.plan["keep"]]:
            if checkpoint != best:
                checkpoint.path.unlink()
