"""The proof, as a Slurm job of every user on the GPU node, which has two GPUs; one user's other environment too."""

import json

import pytest
from people import ENVS, EVERYBODY, NODE, USERS, env, on_gruffalo, wait_until, workstation

GPUS = 2
SECONDS_TO_START = 30
SECONDS_FOR_ALL = 600

# Whose, in which environment.
PROOFS = (*((user, ENVS[0]) for user in EVERYBODY), (USERS[0], ENVS[1]))

Jobs = dict[tuple[str, str], str]


def states() -> list[str]:
    """The states of all jobs that have not ended, such as RUNNING, with the reason if a job waits."""
    return on_gruffalo(EVERYBODY[0], "squeue --noheader --sort=i --format='%T %r'").splitlines()


@pytest.fixture(scope="module")
def jobs() -> Jobs:
    """The numbers of the jobs, all of them submitted at once."""
    return {
        (user, name): on_gruffalo(
            user,
            f"rm -rf {name} && sbatch --parsable --partition=gpu --gpus=1 --output={name}.log"
            f" --wrap '{env(user, name)}/bin/maskrcnn-verify --output $HOME/{name}'",
        )
        for user, name in PROOFS
    }


def test_the_third_job_for_two_gpus_waits(jobs: Jobs) -> None:
    wanted = ["RUNNING None"] * GPUS + ["PENDING Resources"]
    assert wait_until(lambda: states()[: len(wanted)] == wanted, SECONDS_TO_START), states()


def test_three_of_two_gpus_are_refused() -> None:
    desk = workstation(EVERYBODY[0])
    ask = "ssh -q gruffalo sbatch --test-only --partition=gpu --gpus=%s --wrap hostname"
    assert desk.run(ask, str(GPUS)).succeeded
    assert desk.run(ask, str(GPUS + 1)).failed


@pytest.mark.parametrize(("user", "name"), PROOFS)
def test_the_proof_passes_as_a_job(jobs: Jobs, user: str, name: str) -> None:
    job = jobs[user, name]
    ended = wait_until(lambda: on_gruffalo(user, f"squeue --noheader --job={job} || true") == "", SECONDS_FOR_ALL)
    log = on_gruffalo(user, f"cat {name}.log")
    assert ended, log
    report = json.loads(on_gruffalo(user, f"cat {name}/report.json"))
    assert report["ok"] is True, log
    assert report["host"] == NODE
    assert on_gruffalo(user, f"readlink -f {report['prefix']}") == env(user, name)
    assert on_gruffalo(user, f"stat --format=%U {name}/report.json {name}/detection.png") == f"{user}\n{user}"
