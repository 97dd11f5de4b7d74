# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn watch`: a run is followed through its jobs until it ends, and left alone."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm, make_run
from mrcnn_workbench import runs, watching
from mrcnn_workbench.cli import main
from mrcnn_workbench.progress import Journal

HERE = "from mrcnn_workbench.cli import main; sys.exit(main(sys.argv[1:]))"
TRAINS = {"status": "running", "host": "twiki", "epoch": 0, "epochs": 2, "step": 1, "steps": 20, "loss": 1.5}
RUNS, WAITS = "12|12|RUNNING|twiki|None|N/A", "12|12|PENDING||{}|N/A"


class Terminal(io.StringIO):
    """What a terminal shows."""

    def isatty(self) -> bool:
        return True


class Life:
    """A run with a job, in which one thing happens after another."""

    def __init__(self, folder: Path, fake: FakeSlurm) -> None:
        self.fake = fake
        self.run = make_run(folder / "my runs" / "first", "12")

    def is_(self, **state: Any) -> None:
        runs.write_json(self.run.path(runs.STATE), dict(TRAINS, **state))

    def logs(self, text: str) -> None:
        with self.run.path(runs.LOG).open("a") as file:
            file.write(text)

    def happens(self, *steps: Any) -> threading.Thread:
        """One after the other, each when somebody has looked at what was before."""

        def live() -> None:
            for step in steps:
                seen = len(self.fake.asked("squeue"))
                deadline = time.monotonic() + 20
                while len(self.fake.asked("squeue")) < seen + 2 and time.monotonic() < deadline:
                    time.sleep(0.02)
                step()

        thread = threading.Thread(target=live)
        thread.start()
        return thread


@pytest.fixture
def life(tmp_path: Path, monkeypatch: Any) -> Life:
    monkeypatch.setattr(watching, "FOLLOWED", 0.02)
    monkeypatch.setattr(watching, "ASKED", 0.05)
    monkeypatch.chdir(str(tmp_path))
    return Life(tmp_path, FakeSlurm(tmp_path / "fake", monkeypatch))


def test_a_run_is_followed_from_the_queue_through_a_requeue_to_its_end(life: Life, capsys: Any) -> None:
    jobs = life.fake.jobs
    jobs(WAITS.format("Resources"))
    thread = life.happens(
        lambda: jobs(RUNS),
        life.is_,
        lambda: life.logs("10:00  epoch 1/2\n10:01  half a li"),
        lambda: life.is_(status="stopped", reason="signal SIGUSR1", epoch=1),
        lambda: jobs(WAITS.format("BeginTime")),
        lambda: (life.logs("ne\n"), jobs(RUNS)),
        lambda: life.is_(epoch=1),
        lambda: life.is_(status="finished", epoch=2),
    )
    assert main(["watch", str(life.run.folder)]) == 0
    thread.join()
    assert capsys.readouterr().out.splitlines() == [
        "job 12 is queued, what it asks for is in use",
        "starting, job 12 on twiki",
        "epoch 1/2  step 1/20  loss 1.500, job 12 on twiki",
        "10:00  epoch 1/2",
        "starting after 1 of 2 epochs, job 12 on twiki",
        "job 12 is queued after 1 of 2 epochs, a job that was requeued waits for two minutes",
        "10:01  half a line",
        "starting after 1 of 2 epochs, job 12 on twiki",
        "epoch 2/2  step 1/20  loss 1.500, job 12 on twiki",
        "finished after 2 of 2 epochs",
    ]


ENDS = [
    ({"status": "finished"}, "", 0, "finished"),
    ({"status": "stopped", "reason": "interrupted"}, "", 3, "stopped: interrupted"),
    ({"status": "failed", "reason": "the loss is nan"}, RUNS, 2, "failed: the loss is nan"),
    ({}, "12|12|OUT_OF_MEMORY|twiki|None|N/A", 2, "killed: its job ran out of memory"),
    ({"status": "new"}, "12|12|CANCELLED||None|N/A", 2, "failed: its job was cancelled"),
]


@pytest.mark.parametrize("end", ENDS)
def test_the_exit_code_says_how_it_ended(end: Any, life: Life, capsys: Any) -> None:
    state, line, code, words = end
    life.is_(**state)
    life.fake.jobs(*filter(None, [line]))
    assert main(["watch", "my runs/first"]) == code
    said = capsys.readouterr().out
    assert words in said
    assert ("To go on: mrcnn submit --resume 'my runs/first'" in said) == (code != 0)


def test_what_nobody_has_begun_is_not_waited_for(life: Life, capsys: Any) -> None:
    life.run.path(runs.JOB).unlink()
    assert main(["watch", "my runs/first"]) == 2
    assert "mrcnn submit --resume 'my runs/first'" in capsys.readouterr().err


def test_what_slurm_said_before_is_asked_again_before_a_run_is_given_up(life: Life, monkeypatch: Any) -> None:
    """The training has stopped, and its job went back into the queue: it did not end."""
    monkeypatch.setattr(watching, "ASKED", 60)
    life.fake.jobs("12|12|COMPLETED|twiki|None|N/A")
    life.is_(status="stopped")
    follower = watching.Follower(life.run, Journal(None, io.StringIO()))
    follower._ask()
    life.fake.jobs(WAITS.format("BeginTime"))
    time.sleep(0.05)
    assert follower._look().status == watching.QUEUED


def test_a_silent_slurm_is_said_once(life: Life) -> None:
    life.fake.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    life.is_()
    screen = io.StringIO()
    with life.run.lock():
        thread = life.happens(lambda: None, lambda: life.is_(status="finished"))
        watching.Follower(life.run, Journal(None, screen))()
        thread.join()
    assert screen.getvalue().count("Unable to contact") == 1


def test_a_terminal_shows_how_far_it_is_in_one_line(life: Life, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    life.logs("".join("line {}\n".format(number) for number in range(9)))
    life.fake.jobs(RUNS)
    life.is_(ends=round(time.time()) + 50)
    screen = Terminal()
    thread = life.happens(lambda: None, lambda: life.is_(status="finished"))
    watching.Follower(life.run, Journal(None, screen))()
    thread.join()
    text = screen.getvalue()
    assert text.startswith("line 4\nline 5\n"), "the last lines that were there"
    progress = [part for part in text.split("\r") if part.startswith("epoch")]
    assert len(progress) > 1 and {len(line) for line in progress} == {39}
    assert "\n" not in "".join(progress)


def test_control_c_ends_the_watching_only(life: Life, tmp_path: Path) -> None:
    life.is_()
    life.fake.jobs(RUNS)
    path = str(Path(runs.__file__).parents[1])
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, {!r}); {}".format(path, HERE)]
    watch = subprocess.Popen(
        [*command, "watch", str(life.run.folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
    )
    assert watch.stdout and watch.stdout.readline().startswith(b"epoch 1/2")
    watch.send_signal(signal.SIGINT)
    _out, error = watch.communicate(timeout=20)
    assert watch.returncode == 130
    assert b"the training goes on: mrcnn watch 'my runs/first'" in error and b"Traceback" not in error
    assert json.loads(life.run.path(runs.STATE).read_text())["status"] == "running"
