# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`mrcnn runs`: how runs are, by what they say of themselves and what Slurm says of their jobs."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm, make_run
from mrcnn_workbench import runs, watching
from mrcnn_workbench.cli import main
from mrcnn_workbench.runs import Run

TWIKI = "n21-16-256-twiki"
TRAINS = {
    "status": "running", "host": TWIKI, "job": "12", "epoch": 2, "epochs": 4, "step": 5, "steps": 20, "loss": 1.25,
}  # fmt: skip


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: Any) -> FakeSlurm:
    monkeypatch.chdir(str(tmp_path))
    return FakeSlurm(tmp_path / "fake", monkeypatch)


def seen(run: Run) -> Any:
    """Status and reason."""
    known, _silent = watching.jobs([run])
    (one,) = watching.views([run], known)
    return one.status, one.reason


CASES = {
    # What a run says, with which job; what Slurm says; how it is.
    "not handed in": ({}, "", "", ("new", "")),
    "handed in": ({}, "12", "12|12|PENDING||Priority|N/A", ("queued", "others come first")),
    "starting": ({}, "12", "12|12|RUNNING|twiki|None|N/A", ("starting", "")),
    "ended at once": ({}, "12", "12|12|FAILED|twiki|NonZeroExitCode|N/A", ("failed", "its job ended")),
    "ended at once, long ago": ({}, "12", "", ("failed", "its job ended before the training began; job.log says why")),
    "cancelled in the queue": ({}, "12", "12|12|CANCELLED||None|N/A", ("failed", "its job was cancelled")),
    "no lock seen from here": (TRAINS, "12", "12|12|RUNNING|twiki|None|N/A", ("running", "")),
    "killed": (TRAINS, "12", "12|12|OUT_OF_MEMORY|twiki|None|N/A", ("killed", "its job ran out of memory")),
    "killed, long ago": (TRAINS, "", "", ("killed", "")),
    "in a job by hand": (TRAINS, "", "12|12|RUNNING|twiki|None|N/A", ("running", "")),
    "one of an array": (dict(TRAINS, job="15"), "12_3", "12_3|15|RUNNING|twiki|None|N/A", ("running", "")),
    "requeued": (
        dict(TRAINS, status="stopped", reason="signal SIGUSR1"), "12", "12|12|PENDING||BeginTime|N/A",
        ("queued", "a job that was requeued waits for two minutes"),
    ),
    "requeued after its node failed": (TRAINS, "12", "12|12|PENDING||BeginTime|N/A", ("queued", "a job that")),
    "starting again": (dict(TRAINS, status="stopped"), "12", "12|12|RUNNING|twiki|None|N/A", ("starting", "")),
    "stopped": (dict(TRAINS, status="stopped", reason="interrupted"), "", "", ("stopped", "interrupted")),
    "stopped by scancel": (
        dict(TRAINS, status="stopped", reason="signal SIGTERM"), "12", "12|12|CANCELLED|twiki|None|N/A",
        ("stopped", "its job was cancelled"),
    ),
    "failed": (
        dict(TRAINS, status="failed", reason="the loss is nan"), "12", "12|12|FAILED|twiki|NonZeroExitCode|N/A",
        ("failed", "the loss is nan"),
    ),
    "finished, its job not yet": (
        dict(TRAINS, status="finished"), "12", "12|12|COMPLETING|twiki|None|N/A", ("finished", ""),
    ),
    "of two jobs the one that goes on": (
        dict(TRAINS, status="stopped"), "13", "12|12|TIMEOUT|twiki|None|N/A\n13|13|PENDING||Priority|N/A",
        ("queued", "others come first"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_run_is_as_it_says_and_as_slurm_says(name: str, fake: FakeSlurm) -> None:
    state, job, lines, (status, reason) = CASES[name]
    fake.jobs(*filter(None, lines.split("\n")))
    found = seen(make_run(Path("runs/first"), job, **state))
    assert found[0] == status and found[1].startswith(reason), found


def test_the_books_say_why_a_run_was_killed(fake: FakeSlurm) -> None:
    fake.says("sacct", "12|OUT_OF_MEMORY\n")
    assert seen(make_run(Path("runs/first"), "12", **TRAINS)) == (
        "killed",
        "its job ran out of memory; --mem asks for more",
    )


def test_who_holds_the_lock_runs_whatever_slurm_says(fake: FakeSlurm) -> None:
    run = make_run(Path("runs/first"), "12", **TRAINS)
    with run.lock():
        assert seen(run) == ("running", "")
        fake.fails("squeue", "no")
        assert seen(run) == ("running", "")


def test_who_looks_does_not_keep_a_training_from_beginning(tmp_path: Path) -> None:
    run = make_run(tmp_path / "first")
    with run.lock():
        assert run.locked()
    assert not run.locked()
    looks = "import fcntl, sys, time; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_SH); "
    looks += "print(flush=True); time.sleep(0.3)"
    with subprocess.Popen([sys.executable, "-c", looks, str(run.path(runs.LOCK))], stdout=subprocess.PIPE) as looker:
        assert looker.stdout and looker.stdout.readline()
        with run.lock():
            assert run.locked()


# The table


def test_all_runs_are_in_the_table_the_newest_first(fake: FakeSlurm, capsys: Any) -> None:
    ends = time.time() + 600
    first = make_run(Path("runs/first"), "12", **dict(TRAINS, ends=ends))
    first.path(runs.METRICS).write_text("epoch,loss,val_loss\n1,2.5,2\n2,1.5,1.75\n")
    second = make_run(Path("runs/tune/01-fast"), "13_1")
    make_run(Path("runs/.hidden"))
    (first.folder / "events" / "inner").mkdir(parents=True)
    (first.folder / "events" / "inner" / runs.SETTINGS).touch()
    for place, run in enumerate((second, first)):
        subprocess.check_call(["touch", "-d", "@{}".format(1000 + place), str(run.path(runs.SETTINGS))])
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 3600))
    fake.jobs(f"12|12|RUNNING|{TWIKI}|None|N/A", f"13_1|14|PENDING||Priority|{start}")
    assert main(["runs"]) == 0
    header, one, two = capsys.readouterr().out.splitlines()
    assert header.split() == ["run", "status", "epoch", "step", "loss", "best", "val_loss", "ends", "job", "node"]
    assert one.split() == [
        "first", "running", "3/4", "5/20", "1.250", "1.750", "(epoch", "2)", watching.moment(ends), "12", TWIKI,
    ]  # fmt: skip
    assert two.split()[:4] == ["tune/01-fast", "queued", "0/4", "13_1"]
    assert two.endswith("others come first, start expected {}".format(start[11:16]))
    assert len(fake.asked("squeue")) == 1, "Slurm is asked once for all"


def test_json_is_for_programs(fake: FakeSlurm, capsys: Any) -> None:
    run = make_run(Path("runs/first"), "12", **TRAINS)
    run.path(runs.METRICS).write_text("epoch,loss,val_loss\n1,2.5,2\n")
    fake.jobs(f"12|12|RUNNING|{TWIKI}|None|2026-11-25T20:00:00")
    assert main(["runs", "runs", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found == {
        "name": "first", "folder": str(run.folder), "status": "running", "reason": "", "epoch": 2, "epochs": 4,
        "step": 5, "steps": 20, "loss": 1.25, "ends": None, "best": {"epoch": 1, "val_loss": 2.0}, "job": "12",
        "node": TWIKI, "job_state": "RUNNING", "start": "2026-11-25T20:00:00",
    }  # fmt: skip


def test_one_run_can_be_listed_alone(fake: FakeSlurm, capsys: Any) -> None:
    make_run(Path("runs/first"))
    assert main(["runs", "runs/first"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["first", "new"]


def test_when_slurm_does_not_answer_the_runs_are_listed_all_the_same(fake: FakeSlurm, capsys: Any) -> None:
    make_run(Path("runs/first"), **dict(TRAINS, status="stopped"))
    fake.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    assert main(["runs"]) == 0
    said = capsys.readouterr()
    assert "stopped" in said.out and "Unable to contact" in said.err


def test_where_there_are_none_it_is_said(fake: FakeSlurm, capsys: Any) -> None:
    assert main(["runs"]) == 2
    assert "runs: there is no such folder" in capsys.readouterr().err
    Path("runs").mkdir()
    assert main(["runs"]) == 0
    assert "there are no runs" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["", "{", "[]", "null"])
def test_a_damaged_state_is_no_crash(damage: str, fake: FakeSlurm, capsys: Any) -> None:
    run = make_run(Path("runs/first"))
    for name in (runs.STATE, runs.JOB, runs.METRICS):
        run.path(name).write_text(damage)
    run.path(runs.SETTINGS).write_text("{")
    assert main(["runs"]) == 0
    assert "first  new" in capsys.readouterr().out


def test_who_only_looks_waits_for_no_large_library(fake: FakeSlurm) -> None:
    make_run(Path("runs/first"))
    code = (
        "import sys; from mrcnn_workbench.cli import main; code = main(['runs']); "
        "print(sorted({'numpy', 'tensorflow', 'matplotlib'} & set(sys.modules))); sys.exit(code)"
    )
    path = str(Path(runs.__file__).parents[1])
    said = subprocess.check_output(
        [sys.executable, "-c", "import sys; sys.path.insert(0, {!r}); {}".format(path, code)]
    )
    assert said.decode().splitlines()[-1] == "[]"
