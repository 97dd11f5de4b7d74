# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A training as a Slurm job, which goes on in a next one when its time is up.

    RUN/job.json   the job's number, and what was asked for
    RUN/job.sh     what was handed in; by hand: sbatch job.sh
    RUN/job.log    what the job said

This module imports nothing slow.
"""

import contextlib
import fcntl
import json
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence

from mrcnn_workbench import runs, slurm
from mrcnn_workbench.errors import WorkbenchError
from mrcnn_workbench.runs import Run
from mrcnn_workbench.site import Site, others

BEFORE_THE_END = 120  # seconds: when a training is told that its job's time is up soon
LONGEST_SHEBANG = 127  # bytes, with kernels before 5.1
ASKED = ("gpus", "partition", "time", "mem", "cpus", "account", "any_gpu", "sbatch")
ENDED_BADLY = (runs.FAILED, runs.KILLED)
# Options of sbatch's that say which nodes; then nothing is left to choose.
OF_NODES = ("--exclude", "-x", "--nodelist", "-w")
PLAIN = re.compile(r"[\w@%+=:,./-]*")
# What TensorFlow 1.15, whose wheels know nothing newer than CUDA 10.0, does on GPUs that are newer.
OF_TF1 = {
    "a100": "it starts for half an hour, and then every loss is NaN, without an error",
    "l40s": "nothing runs on it",
    "": "it is built for older GPUs",
}
SCRIPT = """\
#!/bin/bash
# {title}: a job for Slurm. Whenever it is started again, by Slurm or with `sbatch job.sh`,
# it goes on after the last whole epoch.
{options}

{which}
mrcnn=({mrcnn})

unset XDG_RUNTIME_DIR     # a folder that only logins have
export PYTHONNOUSERSITE=1 # ~/.local is for other environments

newest() {{ ls "$run/checkpoints" 2>/dev/null | grep "^mask_rcnn_" | tail -n 1; }}
before=$(newest)

# Slurm sends USR1 when the time is up soon, and TERM when somebody cancels the job.
time_is_up= cancelled=
trap 'time_is_up=yes; kill -USR1 "$training" 2>/dev/null' USR1
trap 'cancelled=yes; kill -TERM "$training" 2>/dev/null' TERM
"${{mrcnn[@]}}" train --resume "$run"{more} &
training=$!
# A signal ends a wait, and not the training.
while kill -0 "$training" 2>/dev/null; do wait "$training"; done
wait "$training"
code=$?

# 3: it was stopped and can go on. 138: it was stopped by USR1 before it had begun.
if [[ $time_is_up && ! $cancelled && ( $code == 3 || $code == 138 ) ]]; then
    if [[ $(newest) == "$before" ]]; then
        echo "The job's time was too short for an epoch: ask for more with --time, or set fewer steps."
    else
        echo "The job's time is up; it queues again."
        scontrol requeue "$SLURM_JOB_ID"
    fi
fi
exit "$code"
"""


class Gpus(NamedTuple):
    """How many GPUs, and of which type; empty: any that is of use."""

    type: str
    number: int

    def __str__(self) -> str:
        return "{}:{}".format(self.type, self.number) if self.type else str(self.number)


def gpus(text: str) -> Gpus:
    """What `--gpus` means: N, TYPE or TYPE:N. Raises WorkbenchError."""
    match = re.fullmatch(r"(?:([A-Za-z][\w.-]*)(?::|$))?(\d+)?", text)
    if not match or not text or text.endswith(":"):
        raise WorkbenchError("--gpus {}: TYPE:N or N is wanted, such as v100:1".format(text))
    return Gpus(match.group(1) or "", int(match.group(2) or 1))


def same(one: str, other: str) -> bool:
    """Whether two names mean the same type of GPU: some write rtx_8000."""
    return re.sub("[_-]", "", one.lower()) == re.sub("[_-]", "", other.lower())


def among(name: str, types: Sequence[str]) -> str:
    """The name as it is spelt among types; empty if it is none of them."""
    return next((known for known in types if same(name, known)), "")


def choose(wanted: Gpus, partition: str, nodes: Sequence[slurm.Nodes], site: Site, free: bool = True) -> List[str]:
    """The options for sbatch that give GPUs on which this environment computes.

    `nodes`: those of the partition with GPUs. `free`: nobody has said which nodes. Raises WorkbenchError if there are
    none of use.
    """
    there = sorted({name for group in nodes for name in group.types if name != slurm.UNKNOWN})
    if wanted.type:
        _refuse_unfit(wanted.type, site)
        spelt = among(wanted.type, there)
        if not spelt and there:
            raise WorkbenchError(
                "--gpus {}: partition {} has no such GPUs, but {}".format(wanted, partition, ", ".join(there))
            )
        spelt = spelt or among(wanted.type, site.gpu_types) or wanted.type
        return ["--gpus={}".format(wanted._replace(type=spelt))]
    fit = [name for name in there if among(name, site.gpu_types)]
    if not site.gpu_types or len(fit) == len(there):
        return ["--gpus={}".format(wanted)]
    if not fit:
        raise WorkbenchError(
            "partition {}: its GPUs are {}, and {}\n{}--any-gpu tries all the same".format(
                partition, ", ".join(there), _works_on(site), _instead(there)
            )
        )
    bad = [group for group in nodes if any(name in there and name not in fit for name in group.types)]
    mixed = any(name in fit for group in bad for name in group.types)
    if not free:  # the training itself refuses what does not fit
        return ["--gpus={}".format(wanted)]
    if len(fit) == 1 or mixed:
        return ["--gpus={}".format(wanted._replace(type=fit[0]))]
    return ["--gpus={}".format(wanted), "--exclude=" + ",".join(group.names for group in bad)]


def _refuse_unfit(name: str, site: Site) -> None:
    if site.gpu_types and not among(name, site.gpu_types):
        raise WorkbenchError(
            "--gpus {}: {}\n{}--any-gpu tries all the same".format(
                name, _works_on(site, among(name, list(OF_TF1))), _instead([name])
            )
        )


def _instead(types: Sequence[str]) -> str:
    """A line with an environment beside this one that works on GPUs of one of these types; empty if there is none."""
    for prefix, other in others():
        if any(not other.gpu_types or among(name, other.gpu_types) for name in types):
            return "The environment {} (profile {}) does: {}/bin/mrcnn submit ...\n".format(
                prefix.name, other.profile, prefix
            )
    return ""


def _works_on(site: Site, name: str = "") -> str:
    types = " and ".join(site.gpu_types)
    if site.profile in ("tf1", "recipe"):
        why = OF_TF1.get(name, OF_TF1[""])
        return "this environment's TensorFlow, 1.15, does not work there: {}. It works on {}".format(why, types)
    return "this environment (profile {}) works on {}".format(site.profile, types)


def options(run_gpus: int, asked: Dict[str, Any], site: Site) -> List[str]:
    """What sbatch is asked for, of what people have asked for and the site's defaults. Raises WorkbenchError."""
    wanted = gpus(asked["gpus"]) if asked.get("gpus") else Gpus("", run_gpus)
    partition = asked.get("partition") or (site.gpu_partition if wanted.number else site.partition)
    more = [str(option) for option in asked.get("sbatch") or []]
    named = {
        "partition": partition, "nodes": 1, "ntasks": 1, "cpus-per-task": asked.get("cpus") or site.cpus,
        "mem": asked.get("mem") or site.mem, "time": asked.get("time") or site.time, "account": asked.get("account"),
    }  # fmt: skip
    found = ["--{}={}".format(name, value) for name, value in named.items() if value]
    if wanted.number and asked.get("any_gpu"):
        found.append("--gpus={}".format(wanted))
    elif wanted.number:
        if wanted.type:  # without asking Slurm
            _refuse_unfit(wanted.type, site)
        nodes = slurm.gpus(partition)
        free = not any(option.startswith(OF_NODES) for option in more)
        found += choose(wanted, partition, nodes, site, free)
    return [*found, *more]


def number_of_gpus(asked: Dict[str, Any]) -> int:
    """For how many GPUs the settings should be; 0 if nobody said, or none are wanted, when it does not matter."""
    return gpus(asked["gpus"]).number if asked.get("gpus") else 0


def command() -> List[str]:
    """What starts `mrcnn` of this environment, by its absolute path."""
    program = Path(sys.prefix) / "bin" / "mrcnn"
    interpreter = "{}/bin/python".format(sys.prefix)
    # The first line of a program cannot name every interpreter.
    if program.is_file() and " " not in interpreter and len(os.fsencode(interpreter)) < LONGEST_SHEBANG:
        return [str(program)]
    return [sys.executable, "-m", "mrcnn_workbench"]


def script(title: str, lines: Sequence[str], which: str, any_gpu: bool = False) -> str:
    """A job's script. `lines`: the options for sbatch; `which`: shell code that sets `run`."""
    return SCRIPT.format(
        title=title,
        options="\n".join("#SBATCH " + line for line in lines),
        which=which,
        mrcnn=" ".join(map(shlex.quote, command())),
        more=" --any-gpu" if any_gpu else "",
    )


def lines(folder: Path, log: str, wanted: Sequence[str]) -> List[str]:
    """The options for sbatch as its scripts have them; `log` is a file in the folder, with Slurm's %a or without."""
    output = "{}/{}".format(str(folder).replace("%", "%%"), log)
    always = [
        "--job-name=" + folder.name, "--output=" + output, "--open-mode=append", "--requeue",
        "--signal=B:USR1@{}".format(BEFORE_THE_END),
    ]  # fmt: skip
    return [_quoted(option) for option in (*always, *wanted)]


def _quoted(option: str) -> str:
    """As sbatch reads it in a script."""
    if "\n" in option:
        raise WorkbenchError("{!r}: Slurm's scripts cannot have a line break there".format(option))
    if PLAIN.fullmatch(option):
        return option
    return '"{}"'.format(option.replace("\\", "\\\\").replace('"', '\\"'))


def script_of(folder: Path, wanted: Sequence[str], any_gpu: bool) -> str:
    """The script of the job of one run."""
    which = "run={}".format(shlex.quote(str(folder)))
    return script(folder.name, lines(folder, runs.JOB_LOG, wanted), which, any_gpu)


# What is known of a run's job


def job_of(run: Run) -> Dict[str, Any]:
    """What was handed in for it: `job`, the number, and `asked`; empty if nothing was."""
    try:
        found = json.loads(run.path(runs.JOB).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note_job(run: Run, number: str, asked: Dict[str, Any]) -> None:
    kept = {name: asked[name] for name in ASKED if asked.get(name)}
    runs.write_json(run.path(runs.JOB), {"job": number, "asked": kept, "submitted": round(time.time())})


@contextlib.contextmanager
def begun_anew(found: Sequence[Run]) -> Iterator[None]:
    """What ended badly is over: these are going to be tried again, unless handing them in fails."""
    before = [(run, state) for run, state in ((run, run.state()) for run in found) if state["status"] in ENDED_BADLY]
    for run, _state in before:
        run.note(status=runs.STOPPED, reason="")
    try:
        yield
    except BaseException:
        for run, state in before:
            runs.write_json(run.path(runs.STATE), state)
        raise


@contextlib.contextmanager
def handing_in(folder: Path) -> Iterator[None]:
    """Nobody else hands in the same meanwhile. Raises WorkbenchError."""
    with (folder / runs.JOB_LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WorkbenchError("{}: somebody is handing it in at this moment".format(folder)) from error
        yield


def hand_in(run: Run, wanted: Sequence[str], asked: Dict[str, Any]) -> str:
    """Makes the script of a run's job and hands it in. Returns the job's number. Raises WorkbenchError."""
    with begun_anew([run]):
        number = slurm.hand_in(write_script(run.folder, script_of(run.folder, wanted, bool(asked.get("any_gpu")))))
    note_job(run, number, asked)
    return number


def write_script(folder: Path, text: str) -> Path:
    path = folder / runs.SCRIPT
    runs.write_whole(path, text)
    path.chmod(0o755)
    return path


def remembered(run: Run, asked: Dict[str, Any]) -> Dict[str, Any]:
    """What to ask for now: what people say, and for the rest what they said the last time."""
    before: Dict[str, Any] = job_of(run).get("asked") or {}
    return {name: asked.get(name) or before.get(name) for name in ASKED}
