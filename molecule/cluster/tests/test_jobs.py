"""The proof, as a Slurm job of every user on the GPU node, which has two GPUs."""

import json

import pytest
from people import EVERYBODY, env, on_gruffalo, wait_until, workstation

GPUS = 2
SECONDS_TO_START = 30
SECONDS_FOR_ALL = 600

Jobs = dict[str, str]


def states() -> list[str]:
    """The states of all jobs that have not ended, such as RUNNING, with the reason if a job waits."""
    return on_gruffalo(EVERYBODY[0], "squeue --noheader --sort=i --format='%T %r'").splitlines()


@pytest.fixture(scope="module")
def jobs() -> Jobs:
    """A user's job, all of them submitted at once."""
    return {
        user: on_gruffalo(
            user,
            "rm -rf report && sbatch --parsable --partition=gpu --gpus=1 --output=job.log"
            f" --wrap '{env(user)}/bin/maskrcnn-verify --output $HOME/report'",
        )
        for user in EVERYBODY
    }


def test_the_third_job_for_two_gpus_waits(jobs: Jobs) -> None:
    wanted = ["RUNNING None"] * GPUS + ["PENDING Resources"]
    assert wait_until(lambda: states()[: len(wanted)] == wanted, SECONDS_TO_START), states()


def test_three_of_two_gpus_are_refused() -> None:
    desk = workstation(EVERYBODY[0])
    ask = "ssh -q gruffalo sbatch --test-only --partition=gpu --gpus=%s --wrap hostname"
    assert desk.run(ask, str(GPUS)).succeeded
    assert desk.run(ask, str(GPUS + 1)).failed


@pytest.mark.parametrize("user", EVERYBODY)
def test_the_proof_passes_as_a_job(jobs: Jobs, user: str) -> None:
    ended = wait_until(
        lambda: on_gruffalo(user, f"squeue --noheader --job={jobs[user]} || true") == "", SECONDS_FOR_ALL
    )
    log = on_gruffalo(user, "cat job.log")
    assert ended, log
    report = json.loads(on_gruffalo(user, "cat report/report.json"))
    assert report["ok"] is True, log
    assert report["host"] == "n21-16-256-twiki"
    assert on_gruffalo(user, f"readlink -f {report['prefix']}") == env(user)
    assert on_gruffalo(user, "stat --format=%U report/report.json report/detection.png") == f"{user}\n{user}"
