# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Slurm's programs, as far as trainings need them: to hand in jobs, to see how they are, and which GPUs are there.

This module imports nothing slow.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, FrozenSet, Iterable, List, NamedTuple

from mrcnn_workbench.errors import WorkbenchError

WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SUSPENDED", "STOPPED")
RUNNING = ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT")
# How a job has ended, in words.
ENDS = {
    "CANCELLED": "its job was cancelled",
    "TIMEOUT": "its job's time was up",
    "DEADLINE": "its job's time was up",
    "NODE_FAIL": "its job's node has failed",
    "OUT_OF_MEMORY": "its job ran out of memory; --mem asks for more",
    "PREEMPTED": "its job had to make room for another",
    "BOOT_FAIL": "its job's node did not start",
}
# Why a job waits, for those whose Slurm's word for it is not clear.
REASONS = {
    "BeginTime": "a job that was requeued waits for two minutes",
    "Dependency": "it waits for another job",
    "JobArrayTaskLimit": "no more at once of this tune",
    "JobHeldAdmin": "held by an admin",
    "JobHeldUser": "held; `scontrol release` lets it go on",
    "PartitionTimeLimit": "it asks for more time than the partition allows, and will never start",
    "PartitionNodeLimit": "it asks for more than the partition allows, and will never start",
    "Priority": "others come first",
    "Resources": "what it asks for is in use",
}
# What Slurm says no to, and what to do then.
HINTS = (
    ("timed out", "Slurm's controller does not answer; try again in a while"),
    ("unable to contact", "Slurm's controller does not answer; try again in a while"),
    ("account", "`sacctmgr show associations user=$USER format=account,partition` lists yours; --account names one"),
    (
        "node configuration",
        "no node there has as much: less --gpus, --cpus or --mem; `sinfo --format='%P %c %m %G'` lists what they have",
    ),
    ("generic resource", "`sinfo --format='%P %G'` lists the GPUs; --gpus TYPE:N asks for some, --gpus 0 for none"),
    ("partition", "`sinfo --summarize` lists the partitions; --partition names one"),
    ("mem", "--mem asks for less; `sinfo --format='%P %m %c %G'` lists what the nodes have"),
    (
        "time",
        "--time is MINUTES, HOURS:MINUTES:SECONDS or DAYS-HOURS; `sinfo --format='%P %l'` lists what may be asked",
    ),
    ("option", "what follows -- goes to sbatch as it is; `man sbatch` has its options"),
)
SECONDS = 60  # for Slurm to answer
TYPED = re.compile(r"gpu:([A-Za-z][^:,()]*)")
UNKNOWN = ""  # the type of GPUs that Slurm has no name for


class Job(NamedTuple):
    """A job that Slurm knows."""

    number: str  # 12, or 12_3 in an array
    state: str
    node: str
    reason: str  # why it waits
    start: str  # when it started or is expected to, as 2026-01-31T23:59:59; empty if nobody knows

    @property
    def waits(self) -> bool:
        return self.state in WAITING

    @property
    def runs(self) -> bool:
        return self.state in RUNNING

    @property
    def goes_on(self) -> bool:
        return self.waits or self.runs

    @property
    def why(self) -> str:
        """Why it waits, in words."""
        return REASONS.get(self.reason, self.reason)


class Nodes(NamedTuple):
    """Nodes that have the same GPUs."""

    names: str  # as Slurm lists them: n21-[1-3]
    types: FrozenSet[str]


def here() -> bool:
    return shutil.which("sbatch") is not None


def ask(*command: str) -> str:
    """What one of Slurm's programs prints. Raises WorkbenchError, with what it says and what to do."""
    path = shutil.which(command[0])
    if not path:
        raise WorkbenchError(
            "there is no Slurm here ({} is not found); without it: mrcnn train, which needs nothing of it".format(
                command[0]
            )
        )
    try:
        done = subprocess.run(
            [path, *command[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            universal_newlines=True, check=False, timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise WorkbenchError("{} does not answer; try again in a while".format(command[0])) from error
    if done.returncode:
        raise WorkbenchError(_explained(command[0], done.stderr.strip() or "exit code {}".format(done.returncode)))
    return done.stdout


def _explained(name: str, said: str) -> str:
    prefix = name + ": error: "
    lines = [line[len(prefix) :] if line.startswith(prefix) else line for line in said.splitlines()]
    text = "{} says: {}".format(name, "; ".join(lines))
    for words, hint in HINTS:
        if words in said.lower():
            return "{}\n{}".format(text, hint[0].upper() + hint[1:])
    return text


def jobs(users: Iterable[int]) -> Dict[str, Job]:
    """The jobs of users (uids) that Slurm still knows, by their numbers. Raises WorkbenchError."""
    names = ",".join(str(user) for user in sorted(set(users)))
    found = {}
    said = ask("squeue", "--noheader", "--array", "--states=all", "--user=" + names, "--format=%i|%A|%T|%N|%r|%S")
    for line in said.splitlines():
        number, own, state, node, reason, start = line.strip().split("|", 5)
        job = Job(number, state, node, "" if reason == "None" else reason, "" if start in ("N/A", "") else start)
        # Each of an array has a number of its own, too, which is what it sees itself.
        found[number] = found[own] = job
    return found


def ended(numbers: Iterable[str]) -> Dict[str, str]:
    """How jobs have ended that Slurm's controller has forgotten, as far as somebody has kept books."""
    wanted = sorted(set(numbers))
    if not wanted or not shutil.which("sacct"):
        return {}
    command = [
        "sacct",
        "--noheader",
        "--parsable2",
        "--allocations",
        "--format=JobID,State",
        "--jobs=" + ",".join(wanted),
    ]
    try:
        lines = ask(*command).splitlines()
    except WorkbenchError:
        return {}
    pairs = [line.split("|", 1) for line in lines if "|" in line]
    return {number: (state.split() or [""])[0] for number, state in pairs}  # `CANCELLED by 1000`


def hand_in(script: Path) -> str:
    """Hands in a job. Returns its number. Raises WorkbenchError."""
    answer = ask("sbatch", "--parsable", str(script))
    return answer.strip().splitlines()[-1].split(";")[0]


def gpus(partition: str) -> List[Nodes]:
    """The nodes of a partition that have GPUs. Raises WorkbenchError."""
    found = []
    for line in ask("sinfo", "--noheader", "--partition=" + partition, "--format=%N|%G").splitlines():
        names, _bar, resources = line.strip().partition("|")
        if "gpu" in resources:
            found.append(Nodes(names, frozenset(TYPED.findall(resources)) or frozenset([UNKNOWN])))
    return found
