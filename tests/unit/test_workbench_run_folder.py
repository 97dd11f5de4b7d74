# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A run's folder: what is written whole, what is found of it later, and who may train in it."""

import errno
import io
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hand_labelled as hand
import pytest
from mrcnn_workbench import cli, curves, progress, runs
from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.runs import Run

CLASSES = ["leaf", "flower"]
PACKAGE = Path(runs.__file__).resolve().parents[1]
# Says that it trains, and goes on until it is killed.
TRAINS = """
import sys, time
from pathlib import Path
from mrcnn_workbench.runs import RUNNING, Run
run = Run(Path(sys.argv[1]))
with run.lock():
    run.note(status=RUNNING, host="n21")
    print("trains", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "first", "data: leaves\n", CLASSES)


def checkpoint(run: Run, *epochs: int) -> None:
    for epoch in epochs:
        hand.write(run.checkpoint_path(epoch), "weights")


def measured(run: Run, **losses: float) -> None:
    run.write_metrics([{"epoch": int(name[1:]), "loss": 1, "val_loss": loss} for name, loss in losses.items()])


def test_a_new_run(run: Run) -> None:
    assert run.classes == ["background", *CLASSES]
    assert run.state()["status"] == runs.NEW
    assert run.checkpoints() == [] and run.metrics() == []
    with pytest.raises(WorkbenchError, match="no checkpoint yet"):
        run.best()


def test_what_is_there_is_not_written_over(run: Run, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="train --resume"):
        Run.create(run.folder, "data: other\n", ["stem"])
    assert run.classes[1:] == CLASSES
    with pytest.raises(WorkbenchError, match="is there already"):
        Run.create(tmp_path, "data: other\n", ["stem"])


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    for folder, said in ((tmp_path / "nowhere", "no such run"), (tmp_path, "no settings.yml")):
        with pytest.raises(WorkbenchError, match=said):
            Run(folder)


def test_the_best_is_that_with_the_least_val_loss_that_is_kept(run: Run) -> None:
    checkpoint(run, 2, 3, 4)
    assert run.best().epoch == 4, "nothing was validated"
    measured(run, e1=0.1, e2=0.7, e3=0.5, e4=0.6)
    assert run.best().epoch == 3


def test_what_only_looks_like_a_checkpoint_is_none(run: Run) -> None:
    checkpoint(run, 1)
    for name in (".mask_rcnn_0002.h5.part", "mask_rcnn_leaf_0003.h5", "mask_rcnn_0004.h5.txt"):
        hand.write(run.path(runs.CHECKPOINTS) / name, "half")
    (run.path(runs.CHECKPOINTS) / "mask_rcnn_0005.h5").mkdir()
    assert [found.epoch for found in run.checkpoints()] == [1]


def test_metrics_with_other_columns_later(run: Run) -> None:
    run.write_metrics([{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.25, "val_loss": 3.0000001}])
    assert run.metrics() == [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.25, "val_loss": 3.0}]
    run.path(runs.METRICS).write_text("epoch,loss\n1,2.5\n2,")
    assert run.metrics() == [{"epoch": 1, "loss": 2.5}, {"epoch": 2}], "half a line has no loss"


def test_one_training_at_a_time_and_what_became_of_it(run: Run) -> None:
    environ = dict(os.environ, PYTHONPATH=str(PACKAGE))
    with subprocess.Popen(
        [sys.executable, "-c", TRAINS, str(run.folder)], stdout=subprocess.PIPE, env=environ
    ) as other:
        assert other.stdout and other.stdout.readline() == b"trains\n"
        assert run.state()["status"] == runs.RUNNING
        with pytest.raises(WorkbenchError, match="somebody is training in it on n21"), run.lock():
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert run.state()["status"] == runs.KILLED
    with run.lock():
        run.note(status=runs.RUNNING)
        assert run.state()["status"] == runs.RUNNING, "looking does not unlock it"
        run.note(epoch=1)
        with pytest.raises(WorkbenchError, match="somebody"), Run(run.folder).lock():
            pass


def test_a_state_that_cannot_be_read_is_a_new_one(run: Run) -> None:
    for text in ("", "[]", '{"status": '):
        run.path(runs.STATE).write_text(text)
        assert run.state()["status"] == runs.NEW


WRITERS = {
    runs.STATE: lambda run: runs.write_whole(run.path(runs.STATE), "x" * 20000),
    runs.CURVES: curves.draw,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_costs_nothing_that_was_there(name: str, run: Run) -> None:
    run.write_metrics([{"epoch": 1, "loss": 2}])
    path = hand.write(run.path(name), "before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            WRITERS[name](run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert path.read_text() == "before"
    assert not list(run.folder.glob(f".{name}*"))


def test_an_error_without_a_file_is_said_as_it_is() -> None:
    assert "None" not in cli.explained(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def test_runs_are_found_the_newest_first(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    (root / "no run").mkdir()
    for age, (name, classes) in enumerate([("second", CLASSES), ("stems", ["stem"])]):
        made = Run.create(root / name, "data: leaves\n", classes)
        os.utime(str(made.path(runs.SETTINGS)), (time.time() + age, time.time() + 10 + age))
    assert [found.name for found in runs.find(root)] == ["stems", "second", "first"]
    assert runs.find(tmp_path / "nowhere") == []
    with pytest.raises(WorkbenchError, match="leaf, flower"):
        runs.newest(root, CLASSES)
    checkpoint(run, 1)
    assert runs.newest(root, CLASSES).name == "first"
    with pytest.raises(WorkbenchError, match="leaf, flower"):
        runs.newest(root, CLASSES, but=run.folder)


# How far it is


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_on_a_terminal_and_in_a_log(tmp_path: Path) -> None:
    log, terminal = tmp_path / "log.txt", Terminal()
    journal = progress.Journal(log, terminal)
    journal.show("step 1 of many")
    journal.show("step 2")
    journal.say("epoch 1")
    journal.close()
    assert terminal.getvalue() == "\rstep 1 of many\rstep 2        \r      \repoch 1\n"
    [line] = log.read_text().splitlines()
    assert line.endswith("  epoch 1")


def test_lines_elsewhere() -> None:
    said = io.StringIO()
    journal = progress.Journal(None, said)
    journal.show("step 1")
    journal.say("epoch 1")
    assert said.getvalue() == "step 1\nepoch 1\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (3599, "59 min"), (3600, "1 h 00 min"), (86399, "23 h 59 min"),
     (86400 * 2 + 3600 * 4, "2 d 4 h")],
)  # fmt: skip
def test_how_long_it_takes(seconds: Any, text: str) -> None:
    assert progress.duration(seconds) == text
    assert progress.ends(seconds).endswith("(in {})".format(text))
