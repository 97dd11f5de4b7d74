# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How runs are: what they say of themselves, and what Slurm says of their jobs.

This module imports nothing slow.
"""

import contextlib
import os
import platform
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mrcnn_workbench import runs, slurm, submission
from mrcnn_workbench.errors import WorkbenchError, relative
from mrcnn_workbench.progress import DAY, Journal, ends
from mrcnn_workbench.runs import Run, State

QUEUED, STARTING = "queued", "starting"  # besides those of `runs`
DEEPEST = 4  # folders between a folder and a run in it
FOLLOWED = 1.0  # seconds: how often a run is looked at
ASKED = 10.0  # and Slurm, about its job
LINE_EVERY = 30.0  # where lines stay
EARLIER = 5  # lines of the log to begin with


class View(NamedTuple):
    """A run as it is."""

    run: Run
    state: State  # what it says of itself
    status: str
    reason: str
    number: str  # its job's; empty without one
    job: Optional[slurm.Job]  # as Slurm knows it

    @property
    def node(self) -> str:
        """Where it runs, or has run."""
        if self.job and self.job.runs:
            return self.job.node
        return "" if self.status == QUEUED else str(self.state.get("host") or "")

    @property
    def epochs(self) -> Tuple[int, int]:
        """How many are done, and how many there are to be."""
        return int(self.state.get("epoch") or 0), int(self.state.get("epochs") or 0) or _planned(self.run)

    @property
    def best(self) -> Optional[Dict[str, float]]:
        """The row of metrics with the least val_loss."""
        rows = [row for row in self.run.metrics() if "val_loss" in row]
        return min(rows, key=lambda row: row["val_loss"], default=None)


def _planned(run: Run) -> int:
    from mrcnn_workbench import settings  # noqa: PLC0415 - YAML is not needed for those that have begun

    try:
        return settings.epochs(settings.load(run.path(runs.SETTINGS)))
    except WorkbenchError:
        return 0


def everywhere(root: Path) -> List[Run]:
    """All runs in a folder and below it, the newest first. Raises WorkbenchError if there is no such folder."""
    if not root.is_dir():
        raise WorkbenchError("{}: there is no such folder; `mrcnn runs FOLDER` looks elsewhere".format(root))
    found: List[Run] = []
    for folder, below, files in os.walk(str(root)):
        if runs.SETTINGS in files:
            found.append(Run(Path(folder)))
            below.clear()  # nothing of a run's is a run
        elif len(Path(folder).relative_to(root).parts) >= DEEPEST:
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith("."))
    return sorted(found, key=lambda run: run.path(runs.SETTINGS).stat().st_mtime, reverse=True)


def jobs(found: Sequence[Run]) -> Tuple[Dict[str, slurm.Job], str]:
    """The jobs of those whose runs these are, asked for at once; and why there are none, if Slurm does not answer."""
    if not found or not slurm.here():
        return {}, ""
    try:
        return slurm.jobs(run.folder.stat().st_uid for run in found), ""
    except WorkbenchError as error:
        return {}, str(error)


def views(found: Sequence[Run], known: Dict[str, slurm.Job]) -> List[View]:
    """How runs are, with the jobs that Slurm knows."""
    made = [view(run, known) for run in found]
    gone = [one.number for one in made if one.number and not one.job and one.status in (runs.NEW, runs.KILLED)]
    books = slurm.ended(gone) if gone else {}
    return [_with_end(one, books.get(one.number, "")) for one in made]


def view(run: Run, known: Dict[str, slurm.Job]) -> View:
    """How a run is, with the jobs that Slurm knows."""
    state = run.state()
    numbers = [str(number) for number in (submission.job_of(run).get("job"), state.get("job")) if number]
    there = [known[number] for number in numbers if number in known]
    job = next((one for one in there if one.goes_on), there[0] if there else None)
    number = job.number if job else (numbers or [""])[0]
    status, reason = _status(state, numbers, job)
    return View(run, state, status, reason, number, job)


def _status(state: State, numbers: Sequence[str], job: Optional[slurm.Job]) -> Tuple[str, str]:
    status, reason = state["status"], str(state.get("reason") or "")
    if status == runs.FINISHED:
        return status, ""
    if job and job.waits:
        return QUEUED, job.why
    if job and job.runs and status in (runs.NEW, runs.STOPPED, runs.KILLED):
        # Where locks are not seen from another node, Slurm knows better.
        elsewhere = status == runs.KILLED and state.get("host") not in (None, platform.node())
        return (runs.RUNNING if elsewhere else STARTING), ""
    if job and not job.goes_on and status in (runs.NEW, runs.KILLED, runs.STOPPED):
        return _after(status, job.state, reason)
    if status == runs.NEW and numbers and slurm.here():
        return _after(status, "", reason)
    return status, reason


def _after(status: str, end: str, reason: str) -> Tuple[str, str]:
    """Of a run whose job has ended somehow, before the training did."""
    words = slurm.ENDS.get(end, "")
    if status == runs.NEW:
        return runs.FAILED, words or "its job ended before the training began; {} says why".format(runs.JOB_LOG)
    return status, words or reason


def _with_end(one: View, end: str) -> View:
    words = slurm.ENDS.get(end, "")
    return one._replace(reason=words) if words else one


# In words


def moment(seconds: float) -> str:
    """A time, as a clock has it, and the day if it is not within a day."""
    form = "%H:%M" if abs(seconds - time.time()) < DAY else "%a %d %b %H:%M"
    return datetime.fromtimestamp(seconds).strftime(form)


def _start(job: slurm.Job) -> str:
    with contextlib.suppress(ValueError):
        return moment(datetime.strptime(job.start, "%Y-%m-%dT%H:%M:%S").timestamp())
    return ""


def told(one: View) -> str:
    """How a run is, in a line."""
    where = ", job {} on {}".format(one.number, one.node) if one.number and one.node else ""
    done, planned = one.epochs
    after = " after {} of {} epochs".format(done, planned) if done else ""
    if one.status == QUEUED and one.job:
        parts = ["job {} is queued{}".format(one.number, after), one.reason]
        start = _start(one.job)
        parts.append("start expected {}".format(start) if start else "")
        return ", ".join(part for part in parts if part)
    if one.status == STARTING:
        ending = one.job is not None and one.job.state == "COMPLETING"
        return "{}{}{}".format("ending" if ending else "starting", after, where)
    if one.status == runs.RUNNING:
        return _progress(one) + where
    if one.status == runs.FINISHED:
        best = one.best
        text = "; the best is epoch {:.0f}, val_loss {:.3f}".format(best["epoch"], best["val_loss"]) if best else ""
        return "finished{}{}".format(after, text)
    return "{}{}{}".format(one.status, after, ": " + one.reason if one.reason else "")


def _progress(one: View) -> str:
    done, planned = one.epochs
    state = one.state
    step = int(state.get("step") or 0)
    if not done and not step:
        return "running, no step is done yet"
    parts = ["epoch {}/{}".format(min(done + 1, planned), planned)]
    parts.append("step {}/{}".format(step, state.get("steps", "?")))
    if isinstance(state.get("loss"), (int, float)):
        parts.append("loss {:.3f}".format(state["loss"]))
    end = _end(state)
    if end:
        parts.append(ends(end - time.time()))
    return "  ".join(parts)


def _end(state: State) -> float:
    """When it is expected to end; 0 if nobody knows, or that was before it was interrupted."""
    end = state.get("ends")
    return float(end) if isinstance(end, (int, float)) and end > time.time() else 0.0


COLUMNS = ("run", "status", "epoch", "step", "loss", "best val_loss", "ends", "job", "node", "")


def row(one: View, root: Path) -> List[str]:
    """A run's line in a table, with COLUMNS."""
    state, best = one.state, one.best
    done, planned = one.epochs
    active = one.status == runs.RUNNING
    loss = state.get("loss")
    end = ""
    if active and _end(state):
        end = moment(_end(state))
    why = one.reason
    if one.status == QUEUED and one.job and _start(one.job):
        why = "{}start expected {}".format(why + ", " if why else "", _start(one.job))
    return [
        _name(one.run, root),
        one.status,
        "{}/{}".format(min(done + 1, planned) if active else done, planned),
        "{}/{}".format(state.get("step", 0), state["steps"]) if active and state.get("steps") else "",
        "{:.3f}".format(loss) if isinstance(loss, (int, float)) else "",
        "{:.3f} (epoch {:.0f})".format(best["val_loss"], best["epoch"]) if best else "",
        end,
        one.number,
        one.node,
        why.splitlines()[0] if why else "",
    ]


def _name(run: Run, root: Path) -> str:
    with contextlib.suppress(ValueError):
        name = str(run.folder.relative_to(root.resolve()))
        return run.name if name == "." else name
    return str(run.folder)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under each other; those with nothing in them are left out."""
    kept = [place for place in range(len(header)) if any(cells[place] for cells in rows)]
    lines = [[cells[place] for place in kept] for cells in (header, *rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(kept))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def record(one: View) -> Dict[str, Any]:
    """A run for programs."""
    best = one.best
    done, planned = one.epochs
    return {
        "name": one.run.name, "folder": str(one.run.folder), "status": one.status, "reason": one.reason,
        "epoch": done, "epochs": planned, "step": one.state.get("step", 0), "steps": one.state.get("steps"),
        "loss": one.state.get("loss"), "ends": one.state.get("ends") if one.status == runs.RUNNING else None,
        "best": {"epoch": int(best["epoch"]), "val_loss": best["val_loss"]} if best else None,
        "job": one.number or None, "node": one.node or None,
        "job_state": one.job.state if one.job else None, "start": (one.job.start if one.job else "") or None,
    }  # fmt: skip


# One run, as it goes on


class Follower:
    """Tells how a run goes on until it ends, through all the jobs that it takes."""

    def __init__(self, run: Run, journal: Journal) -> None:
        self.run, self.journal = run, journal
        self.known: Dict[str, slurm.Job] = {}
        self.asked = self.shown = 0.0
        self.last: Tuple[str, str] = ("", "")
        self.silent = ""
        self.log = Log(run.path(runs.LOG))

    def __call__(self) -> View:
        """Returns how it ended. Raises WorkbenchError if nobody is at it."""
        self._ask()
        while True:
            one = self._look()
            for line in self.log.more():
                self.journal.say(line)
            if one.status not in (QUEUED, STARTING, runs.RUNNING):
                return one
            self._tell(one)
            time.sleep(FOLLOWED)

    def _look(self) -> View:
        if time.time() - self.asked >= ASKED:
            self._ask()
        one = view(self.run, self.known)
        if one.status not in (QUEUED, runs.RUNNING) and time.time() - self.asked >= FOLLOWED:
            # It ends, or goes over into another job: what Slurm said some seconds ago is old.
            self._ask()
            one = view(self.run, self.known)
        if one.status in (runs.NEW, runs.KILLED) and not one.job:
            (one,) = views([self.run], self.known)
        if one.status == runs.NEW:
            name = relative(self.run.folder)
            raise WorkbenchError(
                "{0}: nobody has begun this training: mrcnn submit --resume {0}, or mrcnn train --resume {0}".format(
                    name
                )
            )
        return one

    def _ask(self) -> None:
        self.known, silent = jobs([self.run])
        self.asked = time.time()
        if silent and silent != self.silent:
            self.journal.say(silent)
        self.silent = silent

    def _tell(self, one: View) -> None:
        line, now = told(one), time.time()
        if self.journal.live:
            self.journal.show(line[: shutil.get_terminal_size().columns - 1])
        elif (one.status, one.reason) != self.last or (one.status == runs.RUNNING and now - self.shown >= LINE_EVERY):
            self.journal.say(line)
            self.shown = now
        self.last = one.status, one.reason


class Log:
    """The lines of a log as they come, and the last of those that are there already."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, 0
        lines = self._read()
        self.first: List[str] = lines[-EARLIER:]

    def more(self) -> List[str]:
        lines = self.first + self._read()
        self.first = []
        return lines

    def _read(self) -> List[str]:
        try:
            with self.path.open("rb") as file:
                file.seek(self.place)
                found = file.read()
        except FileNotFoundError:
            return []
        end = found.rfind(b"\n") + 1  # half a line waits for the rest
        self.place += end
        return found[:end].decode("utf-8", "replace").splitlines()
