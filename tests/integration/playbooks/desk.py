# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs what an environment has as its users do: its programs, and the command `mrcnn` in somebody's working folder."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Exit codes of mrcnn: something of yours is broken, it cannot be done, it was interrupted.
BROKEN, FAILED, INTERRUPTED = 1, 2, 3

# An environment that other tests use too stays as it is, and nothing of the user's own gets in.
ENVIRON = os.environ | {"PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}

# Calls mrcnn again and again in one program, since most of the time goes into importing TensorFlow.
SEVERAL = """
import contextlib, io, json, sys
from mrcnn_workbench.cli import main
for arguments in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    print(json.dumps([code, said.getvalue()]), file=sys.__stdout__)
"""


def wait_until(is_so: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def output(command: Sequence[str | Path], folder: str | Path = "/", **variables: str) -> str:
    """What a program says, which has to succeed; started where nothing is imported by chance."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=ENVIRON | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@dataclass(frozen=True)
class Desk:
    """Somebody's working folder, and the environment they use."""

    env: Path
    folder: Path

    @classmethod
    def with_example(cls, env: Path, folder: Path) -> Desk:
        """With the example's photographs and settings, and a data set of leaves and flowers."""
        cls(env, folder).runs("data", "example", "example")
        desk = cls(env, folder / "example")
        desk.runs("data", "import", "photos", "dataset", "--group", "^plant[0-9]+")
        return desk

    def starts(self, *arguments: str) -> subprocess.Popen[str]:
        """mrcnn, without waiting for its end."""
        return subprocess.Popen(
            [self.env / "bin" / "mrcnn", *arguments],
            cwd=self.folder,
            env=ENVIRON,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def runs(self, *arguments: str, code: int = 0) -> str:
        """What mrcnn says, which has to end with this code."""
        process = self.starts(*arguments)
        said, _none = process.communicate()
        assert process.returncode == code, said
        assert "Traceback" not in said
        return said

    def python(self, code: str, *arguments: str, **variables: str) -> str:
        """What a program in Python prints, which has to succeed."""
        command = [self.env / "bin" / "python", "-c", code, *arguments]
        environ = ENVIRON | variables
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refuses(self, calls: Sequence[tuple[Sequence[str], str]], **variables: str) -> None:
        """Each of these calls of mrcnn cannot be done, and what it says has these words."""
        answers = self.python(SEVERAL, json.dumps([arguments for arguments, _words in calls]), **variables)
        for (arguments, words), answer in zip(calls, answers.splitlines(), strict=True):
            code, said = json.loads(answer)
            assert code == FAILED and words in said, (arguments, said)
