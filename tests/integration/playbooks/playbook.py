# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs the collection's playbooks as a user does: with ansible-playbook, in a home of their own, from a mirror."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
# All of site.yml but the proof.
NO_PROOF = {"maskrcnn_verify": False}


@dataclass(frozen=True)
class Result:
    """What a playbook run said."""

    returncode: int
    output: str

    @property
    def failure(self) -> str:
        """From the first failed task on, on one line: messages are wrapped where they are long."""
        _before, mark, after = self.output.partition("[ERROR]")
        return re.sub(r"\s+", " ", mark + after)

    @property
    def changed(self) -> int:
        """How many tasks changed something."""
        found = re.search(r"changed=(\d+)", self.output)
        assert found, self.output
        return int(found[1])


@dataclass(frozen=True)
class Playbook:
    """A user's home and the mirror they use."""

    home: Path
    mirror: str
    program: str | Path = "ansible-playbook"

    @property
    def apps(self) -> Path:
        return self.home / "apps"

    @property
    def env(self) -> Path:
        return self.apps / "conda" / "envs" / "maskrcnn_example"

    def run(self, name: str, variables: dict[str, Any] | None = None, *arguments: str) -> Result:
        """Runs playbooks/NAME.yml with the local inventory."""
        process = self.start(name, variables, *arguments)
        output, _none = process.communicate()
        return Result(process.returncode, output)

    def run_role(self, role: str, inputs: dict[str, Any], *arguments: str) -> Result:
        """Runs one role by itself, which takes a tenth of site.yml's time."""
        return self.run("../tests/integration/playbooks/role", {"role": role} | inputs, *arguments)

    def start(self, name: str, variables: dict[str, Any] | None = None, *arguments: str) -> subprocess.Popen[str]:
        """The same, without waiting for its end; in a process group of its own, which can be killed as a whole."""
        extra = {"maskrcnn_mirror": self.mirror} | (variables or {})
        return subprocess.Popen(
            [self.program, f"playbooks/{name}.yml", "--extra-vars", json.dumps(extra), *arguments],
            cwd=ROOT,
            env=os.environ | {"HOME": str(self.home), "ANSIBLE_HOME": str(ROOT / ".ansible"), "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def one_requirement(mirror: str, package: str) -> str:
    """Hashed requirements with one of the mirror's packages, where all that pip adds would take too long."""
    listed = Path(mirror, "wheels", "tf1-cpu.txt").read_text()
    found = re.search(rf"^{package}==(?:.*\\\n)*.*\n", listed, flags=re.MULTILINE)
    assert found, f"{package} is not in {listed}"
    return found[0]
