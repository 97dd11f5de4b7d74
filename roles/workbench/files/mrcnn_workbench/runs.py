# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A run: everything of one training, in one folder.

    RUN/settings.yml      all settings, as they are used
    RUN/classes.json      the classes' names; a class's place is its id in the model, 0 is the background
    RUN/state.json        how far it is
    RUN/environment.json  versions, node, GPU
    RUN/metrics.csv       a line for each epoch
    RUN/curves.png        the same, drawn
    RUN/log.txt           what it said
    RUN/events/           TensorBoard's
    RUN/checkpoints/      mask_rcnn_EPOCH.h5: weights, each whole or not there
    RUN/job.json          of a Slurm job, with job.sh and job.log; see `submission`

This module imports nothing slow, so that what only looks at runs is quick.
"""

import contextlib
import csv
import fcntl
import io
import json
import os
import re
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, TextIO

from mrcnn_workbench.errors import WorkbenchError

SETTINGS, CLASSES, STATE, ENVIRONMENT = "settings.yml", "classes.json", "state.json", "environment.json"
METRICS, CURVES, LOG, EVENTS, CHECKPOINTS, LOCK = (
    "metrics.csv",
    "curves.png",
    "log.txt",
    "events",
    "checkpoints",
    ".lock",
)
JOB, SCRIPT, JOB_LOG, JOB_LOCK = "job.json", "job.sh", "job.log", ".job.lock"
BACKGROUND = "background"
# What a run can be. One that says it is running, but whose process is gone, was killed.
NEW, RUNNING, STOPPED, FAILED, FINISHED, KILLED = "new", "running", "stopped", "failed", "finished", "killed"
LOCK_TRIES = 10
CHECKPOINT = re.compile(r"mask_rcnn_(\d{4,})\.h5")

State = Dict[str, Any]


class Checkpoint(NamedTuple):
    """Weights after so many epochs."""

    epoch: int
    path: Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; what is there in the end takes the place of `path` in one step, and is gone if that fails.

    So nobody reads half of a file, and a full disk costs nothing that was there.
    """
    part = path.with_name(".{}.part".format(path.name))
    try:
        yield part
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def whole(path: Path) -> Iterator[TextIO]:
    """A text file to be written, which replaces the one that is there in one step, and is on the disk then."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, text: str) -> None:
    """Replaces a file in one step."""
    with whole(path) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


class Run:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        """A folder with a run. Raises WorkbenchError if it is none."""
        self.folder = folder.resolve()
        if not folder.is_dir():
            raise WorkbenchError("{}: there is no such run".format(folder))
        if not (folder / SETTINGS).is_file():
            raise WorkbenchError("{}: this is no run, since it has no {}".format(folder, SETTINGS))

    @classmethod
    def create(cls, folder: Path, settings: str, classes: List[str]) -> "Run":
        """A new one, of settings as YAML and the classes' names without the background.

        Raises WorkbenchError if something is there already.
        """
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            more = "`mrcnn train --resume {0}` goes on with it; " if (folder / SETTINGS).is_file() else ""
            raise WorkbenchError(("{0}: is there already; " + more + "--run names another").format(folder)) from error
        write_json(folder / CLASSES, [BACKGROUND, *classes])
        # The last, since it is what makes the folder a run.
        write_whole(folder / SETTINGS, settings)
        return cls(folder)

    @property
    def name(self) -> str:
        return self.folder.name

    def path(self, name: str) -> Path:
        return self.folder / name

    @property
    def classes(self) -> List[str]:
        """Names by the id that the model gives; the first is the background."""
        try:
            found = json.loads(self.path(CLASSES).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WorkbenchError("{}: cannot be read ({})".format(self.path(CLASSES), error)) from error
        return [str(name) for name in found]

    # How far it is

    def state(self) -> State:
        """What it says of itself: at least `status`; and `status` as it is, not as it was when it was killed."""
        try:
            found = json.loads(self.path(STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        state = found if isinstance(found, dict) else {}
        state.setdefault("status", NEW)
        if state["status"] == RUNNING and not self.locked():
            state["status"] = KILLED
        return state

    def note(self, **changes: Any) -> None:
        """Writes down how far it is."""
        state = self.state()
        state.update(changes, updated=round(time.time(), 1))
        write_json(self.path(STATE), state)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Nobody else trains in this run meanwhile, on whatever node. Raises WorkbenchError if somebody does."""
        with self.path(LOCK).open("a") as file:
            for left in reversed(range(LOCK_TRIES)):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Linux has it over NFS too
                    break
                except OSError as error:
                    if not left:
                        where = self.state().get("host")
                        text = "{}: somebody is training in it{}".format(self.folder, " on " + where if where else "")
                        raise WorkbenchError(text) from error
                    time.sleep(0.1)  # somebody may only have looked
            yield

    def locked(self) -> bool:
        """Whether a training runs in it."""
        try:
            with self.path(LOCK).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    # What it has learnt

    def checkpoints(self) -> List[Checkpoint]:
        """All of them, by their epochs."""
        found = []
        for path in self.path(CHECKPOINTS).glob("mask_rcnn_*.h5"):
            match = CHECKPOINT.fullmatch(path.name)
            if match and path.is_file():
                found.append(Checkpoint(int(match.group(1)), path))
        return sorted(found)

    def checkpoint_path(self, epoch: int) -> Path:
        return self.path(CHECKPOINTS) / "mask_rcnn_{:04}.h5".format(epoch)

    def best(self) -> Checkpoint:
        """The one with the least val_loss, as far as it is kept; the newest where nothing was validated.

        Raises WorkbenchError if there is none.
        """
        found = self.checkpoints()
        if not found:
            raise WorkbenchError("{}: there is no checkpoint yet; the first comes after an epoch".format(self.folder))
        losses = {row["epoch"]: row["val_loss"] for row in self.metrics() if "val_loss" in row}
        judged = [checkpoint for checkpoint in found if checkpoint.epoch in losses]
        return min(judged, key=lambda checkpoint: losses[checkpoint.epoch]) if judged else found[-1]

    def metrics(self) -> List[Dict[str, float]]:
        """A dict for each epoch, with `epoch` and what could be measured."""
        try:
            with self.path(METRICS).open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except FileNotFoundError:
            return []
        found = []
        for row in rows:
            values = {}
            for name, text in row.items():
                with contextlib.suppress(TypeError, ValueError):
                    values[str(name)] = float(text or "")
            if "epoch" in values:
                found.append(values)
        return found

    def write_metrics(self, rows: Sequence[Dict[str, float]]) -> None:
        """All rows; a column for whatever any of them has."""
        names: List[str] = []
        for row in rows:
            names += [name for name in row if name not in names]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _short(value) for name, value in row.items()})
        write_whole(self.path(METRICS), text.getvalue())


def _short(value: float) -> Any:
    return int(value) if float(value).is_integer() else "{:.6g}".format(value)


def find(root: Path) -> List[Run]:
    """All runs in a folder, the newest first."""
    found = [Run(path.parent) for path in root.glob("*/" + SETTINGS)] if root.is_dir() else []
    return sorted(found, key=lambda run: run.path(SETTINGS).stat().st_mtime, reverse=True)


def newest(root: Path, classes: List[str], but: Optional[Path] = None) -> Run:
    """The newest run in a folder that has learnt something of these classes. Raises WorkbenchError if there is none."""
    for run in find(root):
        if run.folder != but and run.checkpoints() and run.classes[1:] == classes:
            return run
    raise WorkbenchError("{}: no run here has a checkpoint for {}".format(root, ", ".join(classes)))
