# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where commands run, and how long they take there."""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODULES = "ansible_collections.crophpc.maskrcnn.plugins.modules"

# The time is taken on the inside: getting there is no part of it.
_TIMED = 'TIMEFORMAT=%3R; time "$@"'
_TAIL = 30
# On a machine with other users: how idle it is to be before a clock starts, over how long, and how long to wait for it.
_IDLE, _LOOK_SECONDS, _WAIT_SECONDS = 0.9, 0.5, 30


class BenchError(Exception):
    """The bench cannot go on; the message says why."""


@dataclass(frozen=True)
class Job:
    """A command, what it is given on standard input, and what is added to its environment."""

    command: Sequence[str | Path]
    given: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """This machine, or a container: there a command line begins with ``enter``."""

    enter: tuple[str, ...] = ()

    def time(self, job: Job) -> tuple[float, str]:
        """Runs a job when earlier ones are on the disk; returns its seconds and what it printed.

        Raises BenchError if it fails.
        """
        settings = [f"{name}={value}" for name, value in job.env.items()]
        words = ["env", *settings, "bash", "-c", _TIMED, "bash", *map(str, job.command)]
        subprocess.run(["sync"], check=True)
        done = subprocess.run(
            [*self.enter, *words], input=job.given, capture_output=True, text=True, check=False, cwd=ROOT
        )
        *errors, seconds = done.stderr.splitlines()
        if done.returncode:
            tail = "\n".join([*done.stdout.splitlines(), *errors][-_TAIL:])
            raise BenchError(f"this failed: {' '.join(map(str, job.command))}\n{tail}")
        return float(seconds), done.stdout

    def run(self, *command: str | Path) -> str:
        """Runs a command and returns what it printed. Raises BenchError if it fails."""
        return self.time(Job(command))[1]


def wait_until_idle() -> bool:
    """Waits until nobody else uses much of the processors, or for some time; whether that has come."""
    for _look in range(int(_WAIT_SECONDS / _LOOK_SECONDS)):
        idle, total = _processor_time()
        time.sleep(_LOOK_SECONDS)
        idle_now, total_now = _processor_time()
        if idle_now - idle >= _IDLE * (total_now - total):
            return True
    return False


def _processor_time() -> tuple[int, int]:
    """Of all processors since the machine has started: idle or waiting for a disk, and in all."""
    times = [int(word) for word in Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
    return times[3] + times[4], sum(times)


@dataclass(frozen=True)
class Modules:
    """The collection's modules at a place, run as Ansible does, without its way there."""

    python: str | Path
    path: str | Path
    home: str | Path

    def job(self, name: str, /, **options: Any) -> Job:
        arguments = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
        arguments["_ansible_remote_tmp"] = str(self.home)
        return Job(
            [self.python, "-m", f"{MODULES}.{name}"],
            json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            {"PYTHONPATH": str(self.path), "HOME": str(self.home), "LC_ALL": "C.UTF-8"},
        )


def result(output: str) -> dict[str, Any]:
    """What a module returned."""
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found
