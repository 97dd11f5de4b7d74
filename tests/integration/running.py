# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of the modules run, and run against."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

MODULES = "ansible_collections.crophpc.maskrcnn.plugins.modules"

Result = dict[str, Any]


class Runner:
    """Runs a module as Ansible does, but without Ansible's own start-up: arguments on standard input.

    ``prefix``, ``cache`` and ``home`` are folders of the test; keyword arguments are the module's options.
    """

    def __init__(self, folder: Path, collections: Path, engine: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.prefix = folder / "envs" / "plots"
        self.log = folder / "engine.log"
        self.environ = os.environ | {"HOME": str(self.home), "PYTHONPATH": str(collections), "LC_ALL": "C.UTF-8"}
        self.tmp = folder / "ansible-tmp"
        self.tmp.mkdir()
        self.defaults: dict[str, Any] = {
            "prefix": str(self.prefix),
            "engine_python": str(engine),
            "package_cache": str(folder / "cache"),
        }

    @property
    def cache(self) -> Path:
        return Path(self.defaults["package_cache"])

    @property
    def listed(self) -> list[str]:
        """The envs that conda finds."""
        file = self.home / ".conda" / "environments.txt"
        return file.read_text().splitlines() if file.is_file() else []

    def start(self, *, check: bool = False, module: str = "conda_env", **options: Any) -> subprocess.Popen[str]:
        """Starts the module in a process group of its own."""
        others = {} if module == "offline_mirror" else {"prefix": self.defaults["prefix"]}
        defaults = self.defaults if module == "conda_env" else others
        arguments = {k: str(v) if isinstance(v, Path) else v for k, v in (defaults | options).items()}
        arguments |= {"_ansible_check_mode": check, "_ansible_remote_tmp": str(self.tmp)}
        process = subprocess.Popen(
            [sys.executable, "-m", f"{MODULES}.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environ,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        process.stdin.close()
        process.stdin = None
        return process

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> Result:
        """Waits for a module and returns what it returns, failed or not."""
        output, errors = process.communicate(timeout=120)
        lines = [line for line in output.splitlines() if line.startswith("{")]
        assert lines, f"the module gave no result:\n{output}{errors}"
        result: Result = json.loads(lines[-1])
        return result

    def __call__(self, *, check: bool = False, **options: Any) -> Result:
        """Runs the module, which has to succeed."""
        result = self.finish(self.start(check=check, **options))
        assert not result.get("failed"), result["msg"]
        return result

    def fails(self, *, check: bool = False, **options: Any) -> str:
        """Runs the module, which has to fail, with a message and no traceback; returns the message."""
        result = self.finish(self.start(check=check, **options))
        assert result.get("failed"), f"it should have failed: {result}"
        message: str = result["msg"]
        assert "Traceback" not in message
        assert "exception" not in result
        return message

    def info(self, **options: Any) -> Result:
        return self(module="conda_env_info", **options)


def versions(prefix: Path) -> dict[str, str]:
    """What conda would list."""
    found = [json.loads(path.read_text()) for path in (prefix / "conda-meta").glob("*.json")]
    return {record["name"]: record["version"] for record in found}


def git(folder: Path, *arguments: str) -> str:
    """What git says, run by somebody with a name; it has to succeed."""
    command = ["git", "-C", str(folder), "-c", "user.name=ada", "-c", "user.email=ada@localhost", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def wheel(folder: Path, name: str, version: str) -> Path:
    """A made-up release of a one-module project, as a wheel."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for file, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{file},sha256={digest},{len(content)}\n")
    files[f"{info}/RECORD"] = "".join(rows) + f"{info}/RECORD,,\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return path


def stand_in(folder: Path, run: Runner, name: str, commands: str) -> tuple[Path, Path]:
    """A stand-in for the engine's Python: a shell script around the real one ($REAL).

    Returns it and the file $CALLS, for those that record what they are asked.
    """
    calls = folder / f"{name}.calls"
    script = folder / f"stand-in-engine-that-{name}"
    script.write_text(f"#!/bin/bash\nREAL={run.defaults['engine_python']}\nCALLS={calls}\n{commands}\n")
    script.chmod(0o755)
    return script, calls
