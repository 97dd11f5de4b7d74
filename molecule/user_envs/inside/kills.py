"""Kills runs, each at another moment of its length, and looks at what the next one makes of what is left.

Options come as JSON on standard input: tool (its command), arguments (its own), victim (parent or all: of the run's
processes, who is killed), kills (how many). Prints what was wrong, as JSON; stops at the first kill that has led to it.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from whole import problems, tree

given = json.load(sys.stdin)
options = given["arguments"]
template, name = Path(options["template"]), options["name"]
folders = [Path(options["users_dir"], user) for user in options["users"]]
arguments = Path("/root/kills.json")
arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": options}))
edited = Path("conda", "envs", name, "include", "Mask_RCNN", "edited.py")


def start() -> subprocess.Popen[str]:
    """The tool itself is the process: the shell gives way to it."""
    command = ["sh", "-c", f"exec env {given['tool']} <{arguments}"]
    return subprocess.Popen(command, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def change(number: int) -> None:
    """Something to do for a run: replicas are to be made by every other one, and else to be updated."""
    if number % 2:
        (template / "conda-meta" / "history").touch()
        (folders[0] / edited).write_text(f"{number}\n")
    else:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def wrong(number: int) -> list[str]:
    """What is not as it should be after a whole run."""
    output, errors = start().communicate(timeout=60)
    said = [line for line in output.splitlines() if line.startswith("{")]
    if not said or json.loads(said[-1]).get("failed"):
        return [output + errors]
    if number % 2 and (folders[0] / edited).read_text() != f"{number}\n":
        return ["an edit is lost"]
    (folders[0] / edited).unlink(missing_ok=True)
    files = tree(template)
    moved = [f"left: {path}" for folder in folders for path in folder.glob(f"{name}-kept-*")]
    return moved + [problem for folder in folders for problem in problems(template, files, folder, name)]


lengths = []
for number in range(2):
    change(number)
    begun = time.monotonic()
    start().communicate(timeout=60)
    lengths.append(time.monotonic() - begun)

found: list[str] = []
for number in range(given["kills"]):
    change(number)
    process = start()
    # The first part of a run is Python's own.
    moment = 0.2 + 0.8 * (number + random.random()) / given["kills"]  # noqa: S311 - any moment will do
    time.sleep(lengths[number % 2] * moment)
    (os.killpg if given["victim"] == "all" else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    found = wrong(number)
    if found:
        found.insert(0, f"after kill {number} at {moment:.2f} of a run")
        break
print(json.dumps(found))
