# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Slurm, as far as servers need it: their own jobs, and steps in other jobs of the user."""

import os
import pwd
import shlex
import shutil
import subprocess

from tunnel_state import TunnelError

WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SUSPENDED", "STOPPED")
RUNNING = ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT")
# How a job ended, in words.
ENDS = {
    "CANCELLED": "its job was cancelled",
    "TIMEOUT": "its job's time was up",
    "DEADLINE": "its job's time was up",
    "NODE_FAIL": "the job's node has failed",
    "OUT_OF_MEMORY": "its job ran out of memory",
    "PREEMPTED": "its job had to make room for another",
}


def tool(name: str) -> str:
    """The path of one of Slurm's programs. Raises TunnelError where there is none."""
    path = shutil.which(name)
    if not path:
        raise TunnelError(
            "there is no Slurm here ({} is not found)".format(name),
            "Without a job: --node NODE, or on that node --here.",
            8,
        )
    return path


def ask(*command: str, stdin: str = "") -> str:
    """What one of Slurm's programs prints. Raises TunnelError with what it says if it fails."""
    run = subprocess.run(
        [tool(command[0]), *command[1:]], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        universal_newlines=True, check=False,
    )  # fmt: skip
    if run.returncode:
        said = run.stderr.strip() or "exit code {}".format(run.returncode)
        raise TunnelError("{} says: {}".format(command[0], said), "`sinfo` lists partitions and nodes.")
    return run.stdout


def jobs() -> dict:
    """The user's jobs that Slurm still knows, by number."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    found = {}
    for line in ask("squeue", "--noheader", "--states=all", "--user", user, "--format=%i|%T|%N|%r|%S").splitlines():
        job, state, nodes, reason, start = line.strip().split("|", 4)
        found[job] = {
            "state": state, "node": nodes, "reason": "" if reason == "None" else reason,
            "start": "" if start in ("N/A", "") else start,
        }  # fmt: skip
    return found


def running(job: str) -> dict:
    """One of the user's jobs, which has to run."""
    found = jobs().get(job)
    if not found or found["state"] not in RUNNING:
        state = "is {}".format(found["state"].lower()) if found else "is not one of yours, or has ended"
        raise TunnelError("job {} {}".format(job, state), "`squeue --me` lists yours; it has to be running.", 3)
    return found


def submit(command: list, name: str, log: str, options: dict, extra: list) -> str:
    """Hand in a job that runs a command. Returns its number."""
    script = "#!/bin/sh\nunset XDG_RUNTIME_DIR\nexec {}\n".format(" ".join(map(shlex.quote, command)))
    asked = ["--{}={}".format(key, value) for key, value in options.items() if value]
    answer = ask(
        "sbatch", "--parsable", "--job-name=" + name, "--output=" + log, "--open-mode=append",
        "--nodes=1", "--ntasks=1", "--requeue", *asked, *extra, stdin=script,
    )  # fmt: skip
    return answer.strip().splitlines()[-1].split(";")[0]


def step_command(job: str) -> list:
    """What starts a command as one more step in a job, beside what runs in it."""
    return [tool("srun"), "--jobid=" + job, "--overlap", "--nodes=1", "--ntasks=1", "--input=none", "--unbuffered"]


def cancel(job: str, step: str = "") -> None:
    """End a job, or one step in it."""
    ask("scancel", *(["--signal=TERM", "{}.{}".format(job, step)] if step else [job]))
