"""A training as a user's Slurm job: stopped at its time limit, requeued, and at its end after all of its epochs."""

import json
import shlex
from typing import Any

import pytest
from people import NODE, USERS, env, on_gruffalo, wait_until, workstation

USER = USERS[0]
FOLDER = "my leaves"
EPOCHS = 6
SECONDS = 180

Numbers = dict[str, str]


def line(command: str) -> str:
    """What a user types in that folder."""
    return f"cd {shlex.quote(FOLDER)} && PATH={env(USER)}/bin:$PATH && {command}"


def says(command: str) -> str:
    return on_gruffalo(USER, line(command))


def seen(run: str) -> dict[str, Any]:
    """A run, as `mrcnn runs` has it."""
    (found,) = json.loads(says(f"mrcnn runs --json runs/{run}"))
    return dict(found)


def is_done(run: str, status: str) -> bool:
    return wait_until(lambda: seen(run)["status"] == status, SECONDS)


@pytest.fixture(scope="module")
def jobs() -> Numbers:
    """The numbers of jobs, all of them handed in at once: a training, one that wants a GPU, several settings."""
    on_gruffalo(USER, f"rm -rf {shlex.quote(FOLDER)} && {env(USER)}/bin/mrcnn data example {shlex.quote(FOLDER)}")
    says("mrcnn data import photos dataset --group '^plant[0-9]+'")
    asked = {
        "first": f"submit quick.yml --run runs/first --layers all --epochs {EPOCHS} --set steps=10 --gpus 0 --cpus 2",
        "wants": "submit quick.yml --run runs/wants --gpus rtx_8000:1 --cpus 1",
        "tune": "tune quick.yml --run runs/tune --try learning_rate=0.02,0.01 --layers all --epochs 1 --set steps=4"
        " --submit --gpus 0 --cpus 1",
    }
    said = {name: says(f"mrcnn {command} --mem 2500M") for name, command in asked.items()}
    watch = line("mrcnn watch runs/first; echo ends with $?")
    on_gruffalo(USER, f"({watch}) >watched 2>&1 </dev/null &")
    return {name: text.split("Job ")[1].split(":")[0] for name, text in said.items()}


def test_a_gpu_on_which_it_computes_nothing_is_refused(jobs: Numbers) -> None:
    refused = workstation(USER).run("ssh -q gruffalo %s", line("mrcnn submit quick.yml --gpus a100:1"))
    assert refused.rc == 2
    assert "TensorFlow, 1.15, does not work there" in refused.stderr and "NaN" in refused.stderr
    assert "It works on v100 and rtx8000" in refused.stderr


def test_a_training_goes_on_after_its_time_limit_and_after_a_requeue(jobs: Numbers) -> None:
    job = jobs["first"]
    twice = workstation(USER).run("ssh -q gruffalo %s", line("mrcnn submit --resume runs/first"))
    assert twice.rc == 2 and f"job {job}" in twice.stderr
    # What Slurm sends to the job's script two minutes before its time is up; and what an admin does.
    for done, interrupt in ((1, f"scancel --batch --signal=USR1 {job}"), (2, f"scontrol requeue {job}")):
        assert wait_until(lambda: seen("first")["epoch"] >= done, SECONDS), seen("first")  # noqa: B023 - called at once
        says(interrupt)
        assert wait_until(lambda: seen("first")["status"] == "queued", SECONDS), says("cat runs/first/job.log")
        assert seen("first")["job_state"] == "PENDING"
        # Slurm would wait for two minutes.
        says(f"scontrol update jobid={job} starttime=now")
        assert wait_until(lambda: seen("first")["status"] == "running", SECONDS), says("cat runs/first/job.log")
    log = says("cat runs/first/job.log")
    assert is_done("first", "finished"), says("cat runs/first/job.log")
    assert "The job's time is up; it queues again." in log

    found = seen("first")
    assert (found["epoch"], found["job"], found["node"]) == (EPOCHS, job, NODE)
    rows = says("cut -d, -f1 runs/first/metrics.csv").split()
    assert rows == ["epoch", *(str(epoch) for epoch in range(1, EPOCHS + 1))]
    assert says("cat runs/first/log.txt").count("going on after epoch") == 2
    assert says(f"scontrol show job {job} | grep --only-matching Restarts=.").strip() == "Restarts=2"
    assert f"mask_rcnn_{EPOCHS:04}.h5" in says("ls runs/first/checkpoints")


def test_who_watches_sees_it_wait_go_on_and_end(jobs: Numbers) -> None:
    assert is_done("first", "finished")
    assert wait_until(lambda: "ends with" in on_gruffalo(USER, "cat watched"), 30)
    watched = on_gruffalo(USER, "cat watched")
    assert watched.count(f"job {jobs['first']} is queued after") >= 1, watched
    assert f"job {jobs['first']} on {NODE}" in watched
    assert f"finished after {EPOCHS} of {EPOCHS} epochs" in watched
    assert watched.endswith("ends with 0")


def test_a_gpu_that_tensorflow_does_not_see_is_said(jobs: Numbers) -> None:
    """The GPU is a stand-in: Slurm gives it, and the training does not do without."""
    assert is_done("wants", "failed"), seen("wants")
    assert "gpus: 1 wanted, 0 seen" in seen("wants")["reason"]
    assert "#SBATCH --gpus=rtx8000:1" in says("cat runs/wants/job.sh")
    assert workstation(USER).run("ssh -q gruffalo %s", line("mrcnn watch runs/wants")).rc == 2


def test_several_settings_are_tried_as_an_array(jobs: Numbers) -> None:
    for number, trial in enumerate(("01-learning_rate-0.02", "02-learning_rate-0.01"), 1):
        assert is_done(f"tune/{trial}", "finished"), says(f"cat runs/tune/job-{number}.log")
        assert seen(f"tune/{trial}")["job"] == f"{jobs['tune']}_{number}"
    table = says("mrcnn tune --results runs/tune").splitlines()
    assert {row.split()[0] for row in table[1:3]} == {"01-learning_rate-0.02", "02-learning_rate-0.01"}
    assert says("wc --lines <runs/tune/results.csv").strip() == "3"
    assert "Nothing is left to do." in says("mrcnn tune --resume runs/tune --submit")


def test_all_runs_are_listed(jobs: Numbers) -> None:
    listed = {row.split()[0]: row.split()[1] for row in says("mrcnn runs").splitlines()[1:]}
    assert listed == {
        "first": "finished",
        "wants": "failed",
        "tune/01-learning_rate-0.02": "finished",
        "tune/02-learning_rate-0.01": "finished",
    }
