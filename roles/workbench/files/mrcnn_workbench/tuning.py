# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tuning: the same training with several settings, each a run in one folder, and a table of what came of them.

    TUNE/tune.json      what is tried
    TUNE/01-.../        a trial: a run as any other
    TUNE/results.csv    the table
    TUNE/job.sh         of the Slurm array, with job-NUMBER.log of each trial

This module imports nothing slow. The libraries that search settings want what this environment does not have.
"""

import contextlib
import copy
import csv
import itertools
import json
import math
import random
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mrcnn_workbench import host, runs, settings, slurm, submission, watching
from mrcnn_workbench.errors import INTERRUPTED, WorkbenchError, count, listed
from mrcnn_workbench.runs import Run
from mrcnn_workbench.settings import Settings
from mrcnn_workbench.watching import View

PLAN, RESULTS = "tune.json", "results.csv"
EVALUATION = Path("evaluation", "evaluation.json")  # where `mrcnn evaluate` leaves it
SCORES = ("mean IoU", "mask AP", "AP50")
MOST = 1000  # trials: Slurm's arrays end there, and so does patience
LONGEST_NAME = 60
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
WHICH = """\
tune={tune}
# Each of the array has a trial, by its number.
trials=("$tune/$(printf %0{digits}d "$SLURM_ARRAY_TASK_ID")"-*/)
run=${{trials[0]%/}}"""

Values = Dict[str, Any]


class Range(NamedTuple):
    """Any number from one to another; of those that are far apart, each order of magnitude as often."""

    least: float
    most: float

    def draw(self, rng: random.Random) -> float:
        if self.least > 0:
            value = math.exp(rng.uniform(math.log(self.least), math.log(self.most)))
        else:
            value = rng.uniform(self.least, self.most)
        return float("{:.3g}".format(value))


class Trial(NamedTuple):
    """What is tried at once: the folder's name, and the values that it has of its own."""

    name: str
    values: Values


# What is tried


def tries(texts: Sequence[str]) -> Dict[str, Any]:
    """Of `NAME=V1,V2` or `NAME=LEAST..MOST`: lists of values, or ranges, by their names. Raises WorkbenchError."""
    found: Dict[str, Any] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not values.strip():
            raise WorkbenchError("--try {}: NAME=V1,V2,... is wanted".format(text))
        if name in found:
            raise WorkbenchError("--try {}: there is one for it already; one has all values".format(name))
        parsed = settings.parse("[{}]".format(values), "--try " + name)
        found[name] = _range(parsed, text) or [_number(value) for value in parsed]
    if not found:
        raise WorkbenchError("what to try? --try learning_rate=0.01,0.001 for example")
    return found


def _number(value: Any) -> Any:
    """YAML takes 1e-3 for a text."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def _range(parsed: List[Any], text: str) -> Optional[Range]:
    if len(parsed) != 1 or not isinstance(parsed[0], str) or ".." not in parsed[0]:
        return None
    least, _dots, most = parsed[0].partition("..")
    try:
        found = Range(float(least), float(most))
    except ValueError:
        return None
    if not found.least < found.most:
        raise WorkbenchError("--try {}: the first number is to be less than the second".format(text))
    return found


def combinations(tried: Dict[str, Any], number: int, seed: int) -> List[Values]:
    """All combinations of the values, or a number of them at random. Raises WorkbenchError."""
    ranges = [name for name, values in tried.items() if isinstance(values, Range)]
    if ranges and not number:
        raise WorkbenchError("--try {}: of a range some values are drawn: --random N says how many".format(ranges[0]))
    rng = random.Random(seed)  # noqa: S311 - no secrets
    if ranges:
        found = [
            {
                name: values.draw(rng) if isinstance(values, Range) else rng.choice(values)
                for name, values in tried.items()
            }
            for _each in range(number)
        ]
    else:
        size = 1
        for values in tried.values():
            size *= len(values)
        if size > MOST and not number:
            raise WorkbenchError("these are {} combinations: --random N tries some of them".format(size))
        places = sorted(rng.sample(range(size), number)) if 0 < number < size else range(size)
        grid = itertools.product(*tried.values())
        wanted = set(places)
        found = [dict(zip(tried, values)) for place, values in enumerate(grid) if place in wanted]
    if len(found) > MOST:
        raise WorkbenchError("{} trials are too many; {} is the most".format(len(found), MOST))
    return found


def trials(found: Sequence[Values]) -> List[Trial]:
    """With names that say what is tried, and sort as the trials do."""
    digits = _digits(len(found))
    return [Trial("{:0{}}-{}".format(number, digits, _slug(values)), values) for number, values in enumerate(found, 1)]


def _digits(trials: int) -> int:
    """Of a trial's number, in its name."""
    return max(2, len(str(trials)))


def _slug(values: Values) -> str:
    parts = [part for name, value in values.items() for part in (name.rsplit(".", 1)[-1], shown(value))]
    plain = [re.sub(r"[^\w.+-]+", "-", part).strip("-") for part in parts]
    return "_".join("-".join(pair) for pair in zip(plain[::2], plain[1::2]))[:LONGEST_NAME]


def shown(value: Any) -> str:
    """A value in a table."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def with_values(base: Settings, values: Values) -> Settings:
    """Checked settings with other values. Raises WorkbenchError."""
    made = copy.deepcopy(base)
    for name, value in values.items():
        where = "--try {}".format(name)
        if name.startswith("model."):
            made["model"][name[len("model.") :]] = value
        elif name in settings.STAGE:
            made["stages"] = _staged(made["stages"], name, value, where)
        elif name == "gpus":
            raise WorkbenchError("{}: all trials are on as many; --gpus says how many".format(where))
        else:
            made[name] = value
    return settings.checked(made, "--try " + ", ".join("{}={}".format(*pair) for pair in values.items()))


def _staged(stages: List[Settings], name: str, value: Any, where: str) -> List[Settings]:
    """Of several stages the first gets a learning rate, and the others theirs in proportion."""
    if len(stages) == 1:
        return [dict(stages[0], **{name: value})]
    if name != "learning_rate":
        raise WorkbenchError("{}: there are {} stages; give --layers and --epochs for one".format(where, len(stages)))
    first = stages[0][name]
    if not isinstance(value, (int, float)) or not first:
        raise WorkbenchError("{}: {!r}: a number is wanted".format(where, value))
    return [dict(stage, **{name: float("{:.6g}".format(stage[name] / first * value))}) for stage in stages]


# On disk


class Tune:
    """A folder with trials."""

    def __init__(self, folder: Path) -> None:
        """Raises WorkbenchError if it is none."""
        self.folder = folder.resolve()
        try:
            self.plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
            self.trials = [Trial(entry["name"], entry["values"]) for entry in self.plan["trials"]]
        except FileNotFoundError as error:
            raise WorkbenchError("{}: nothing was tuned here, since it has no {}".format(folder, PLAN)) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WorkbenchError("{}: cannot be read ({})".format(folder / PLAN, error)) from error

    @classmethod
    def create(cls, folder: Path, made: Sequence[Tuple[Trial, Settings, List[str]]]) -> "Tune":
        """A new one, of trials, their settings and classes. Raises WorkbenchError, and then there is none."""
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            raise WorkbenchError("{0}: is there already; `mrcnn tune --resume {0}` goes on".format(folder)) from error
        try:
            for trial, wanted, classes in made:
                Run.create(folder / trial.name, settings.dump(wanted), classes)
            # The last, since it is what makes the folder one to go on with.
            entries = [{"name": trial.name, "values": trial.values} for trial, _wanted, _classes in made]
            runs.write_json(folder / PLAN, {"trials": entries})
        except BaseException:
            shutil.rmtree(str(folder), ignore_errors=True)
            raise
        return cls(folder)

    @property
    def runs(self) -> List[Run]:
        return [Run(self.folder / trial.name) for trial in self.trials]

    @property
    def names(self) -> List[str]:
        """Of what is tried."""
        return list(self.trials[0].values) if self.trials else []

    def views(self) -> Tuple[List[View], str]:
        """How the trials are; and why Slurm does not say, if it should."""
        found = self.runs
        known, silent = watching.jobs(found)
        return watching.views(found, known), silent

    def left(self) -> List[int]:
        """The places of the trials that have neither come to their end nor are at it."""
        over = (runs.FINISHED, runs.RUNNING, watching.QUEUED, watching.STARTING)
        views, silent = self.views()
        if silent:
            raise WorkbenchError(silent)
        # One that failed by itself would fail again; one whose job never came so far may not.
        return [
            place for place, one in enumerate(views) if one.status not in over and one.state["status"] != runs.FAILED
        ]


# Doing it


def in_turn(tune: Tune, any_gpu: bool, say: Callable[[str], None]) -> bool:
    """Trains what is left here, one after the other. Returns whether it came to the end; a failed one is none."""
    found = tune.runs
    left = tune.left()
    for done, place in enumerate(left, 1):
        say("Trial {} of {}: {}".format(done, len(left), found[place].name))
        code = _train(found[place], any_gpu)
        # Before the training listens, while TensorFlow is imported, a signal that is passed on ends it at once.
        if code == INTERRUPTED or -code in PASSED_ON or code - 128 in PASSED_ON:
            return False
        if code:
            say("{}: failed (exit code {}); the others go on".format(found[place].name, code))
    return True


def _train(run: Run, any_gpu: bool) -> int:
    """In a process of its own, which leaves no memory in use; and in a session, so that Ctrl-C reaches it once."""
    command = [*submission.command(), "train", "--resume", str(run.folder), *(["--any-gpu"] if any_gpu else [])]
    child = subprocess.Popen(command, start_new_session=True)
    with host.handling(PASSED_ON, lambda number, _frame: child.send_signal(number)):
        return child.wait()


def array(places: Sequence[int], most: int) -> str:
    """The option for sbatch: the trials in these places, `most` at once."""
    numbers = ",".join(str(place + 1) for place in places)
    # Slurm's own way to write it is shorter.
    if len(places) > 1 and list(places) == list(range(places[0], places[-1] + 1)):
        numbers = "{}-{}".format(places[0] + 1, places[-1] + 1)
    return "--array={}%{}".format(numbers, most)


def script(folder: Path, number: int, options: Sequence[str], any_gpu: bool) -> str:
    """The script of an array, for a folder with a number of trials."""
    which = WHICH.format(tune=shlex.quote(str(folder)), digits=_digits(number))
    lines = submission.lines(folder, "job-%a.log", options)
    return submission.script("The trials of " + folder.name, lines, which, any_gpu)


def hand_in(tune: Tune, options: Sequence[str], asked: Dict[str, Any], most: int) -> Tuple[str, int]:
    """Hands in what is left as one array. Returns its number, and how many trials it has. Raises WorkbenchError."""
    with submission.handing_in(tune.folder):
        places = tune.left()
        if not places:
            return "", 0
        found = [tune.runs[place] for place in places]
        wanted = [array(places, most), *options]
        text = script(tune.folder, len(tune.trials), wanted, bool(asked.get("any_gpu")))
        with submission.begun_anew(found):
            number = slurm.hand_in(submission.write_script(tune.folder, text))
        for place, run in zip(places, found):
            submission.note_job(run, "{}_{}".format(number, place + 1), asked)
    return number, len(places)


# What came of it


def results(tune: Tune, views: Sequence[View]) -> Tuple[List[str], List[List[str]]]:
    """A table, the best trial first: its header and its lines. Writes the same as CSV."""
    scores = [_scores(one.run) for one in views]
    names = [name for name in SCORES if any(name in found for found in scores)]
    header = ["trial", *tune.names, "status", "epochs", "best val_loss", "after epoch", "least loss", *names, "reason"]
    lines = []
    for trial, one, found in zip(tune.trials, views, scores):
        best = one.best
        losses = [line["loss"] for line in one.run.metrics() if "loss" in line]
        least = min(losses) if losses else None
        cells = [
            trial.name,
            *(shown(trial.values[name]) for name in tune.names),
            one.status,
            "{}/{}".format(*one.epochs),
            "{:.4g}".format(best["val_loss"]) if best else "",
            "{:.0f}".format(best["epoch"]) if best else "",
            "{:.4g}".format(least) if least is not None else "",
            *("{:.3f}".format(found[name]) if name in found else "" for name in names),
            one.reason.splitlines()[0] if one.reason else "",
        ]
        order = best["val_loss"] if best else math.inf, least if least is not None else math.inf
        lines.append((order, cells))
    rows = [cells for _order, cells in sorted(lines, key=lambda line: line[0])]
    with runs.whole(tune.folder / RESULTS) as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return header, rows


def _scores(run: Run) -> Dict[str, float]:
    """What `mrcnn evaluate` has found of it, if it has."""
    try:
        whole = json.loads((run.folder / EVALUATION).read_text(encoding="utf-8"))["all"]
        found = {
            "mean IoU": whole["mean_iou"],
            "mask AP": whole["masks"]["0.5:0.95"],
            "AP50": whole["masks"]["0.5"],
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, (int, float))}


def failures(views: Sequence[View]) -> str:
    """Those that failed, and why, in lines; empty if none did."""
    lines = ["{}: {}".format(one.run.name, one.reason or one.status) for one in views if one.status == runs.FAILED]
    return "{} failed:\n{}".format(count(len(lines), "trial"), listed(lines)) if lines else ""
