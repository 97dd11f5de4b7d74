# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The engine that solves and links conda packages, behind four calls: solve, read a lock, fetch and install it.

A solution is always passed on as a lock file, so there is one way to install.
"""

from __future__ import annotations

import inspect
import json
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.crophpc.maskrcnn.plugins.module_utils import engine_worker
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package

HINTS = {
    "spec": "Write specs as name, name=1.2 (any 1.2.x), name==1.2.3 (exactly) or 'name >=1,<2'.",
    "unsatisfiable": "Loosen one of the specs named above, or add a channel that has the missing package.",
    "channel": "Check the channel's name and this machine's way to it; where there is none, name a mirror's channel "
    "(a folder or URL) in channels.",
    "package": "If the channel was changed since its repodata was written, index it anew; if a proxy or a disk spoils "
    "files, run again; if a package is no longer there, set update, or make a new lock.",
    "offline": "Run once without offline, or point channels at a mirror.",
    "lock": "Make it with write_lock, or with pixi, on a machine of this platform.",
    "missing": "The role conda_engine makes the engine; name the Python of its venv in engine_python.",
    "space": "Free some, or choose a prefix and a package_cache on another filesystem; then run again.",
    "input": "",
    "engine": "",
}


class EngineError(Exception):
    """The engine could not do what it was asked; the text says what and what to do.

    ``kind`` is a key of HINTS.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{message}\n{HINTS[kind]}".strip())


@dataclass(frozen=True)
class Wanted:
    """A package that a solution or a lock asks for."""

    package: Package
    url: str
    sha256: str | None
    size: int  # bytes to download


@dataclass(frozen=True)
class SolveOptions:
    """What decides a solution besides the specs.

    ``virtual_packages`` maps a name such as ``__cuda`` to a version, or to nothing to take it away.
    """

    channels: list[str]
    channel_priority: str = "strict"
    exclude_newer: str | None = None
    virtual_packages: dict[str, str] = field(default_factory=dict)


class Engine:
    """py-rattler, run in processes of its own with ``python``, the Python of the engine's venv.

    ``workdir`` holds requests and answers; ``lock_fd`` is the descriptor of the prefix' lock, which every process
    inherits: a process that outlives a killed module goes on holding the lock until it has ended.
    """

    def __init__(self, python: Path, workdir: Path, package_cache: Path, *, offline: bool, platform: str) -> None:
        self.python = python
        self.workdir = workdir
        self.package_cache = package_cache
        self.offline = offline
        self.platform = platform
        self.log = workdir / "engine.log"
        self.lock_fd: int | None = None

    def solve(
        self,
        specs: list[str],
        options: SolveOptions,
        prefix: Path,
        lock: Path,
        *,
        repodata_cache: Path,
        keep_versions: bool,
    ) -> list[Wanted]:
        """Solves and writes the solution to ``lock``; with ``keep_versions`` what is installed is preferred.

        Raises EngineError.
        """
        answer = self._call(
            "solve",
            specs=specs,
            prefix=str(prefix),
            lock=str(lock),
            keep_versions=keep_versions,
            repodata_cache=str(repodata_cache),
            **vars(options),
        )
        return self._wanted(answer)

    def read_lock(self, lock: Path, name: Path) -> list[Wanted]:
        """What a lock asks for on this platform; ``name`` is what messages call it. Raises EngineError."""
        return self._wanted(self._call("read_lock", lock=str(lock), name=str(name)))

    def fetch(self, lock: Path, prefix: Path, scratch: Path, *, names: list[str], verify: bool) -> None:
        """Brings packages of a lock into the package cache, whole, without touching the prefix. Raises EngineError.

        ``scratch`` is a folder to be made and removed beside the cache; with ``verify`` every cached file is read.
        """
        self._call(
            "fetch",
            lock=str(lock),
            prefix=str(prefix),
            scratch=str(scratch),
            names=names,
            verify=verify,
            package_cache=str(self.package_cache),
        )

    def install(
        self, lock: Path, prefix: Path, *, specs: list[str], names: list[str], reinstall: list[str], ignored: list[str]
    ) -> None:
        """Makes the prefix what the lock says, for which ``names`` have to be linked. Raises EngineError."""
        self._call(
            "install",
            lock=str(lock),
            prefix=str(prefix),
            specs=specs,
            names=names,
            reinstall=reinstall,
            ignored=ignored,
            package_cache=str(self.package_cache),
        )

    @staticmethod
    def _wanted(answer: dict[str, Any]) -> list[Wanted]:
        return [
            Wanted(Package(p["name"], p["version"], p["build"]), p["url"], p["sha256"], p["size"])
            for p in answer["packages"]
        ]

    def _call(self, command: str, **request: Any) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=self.workdir) as folder:
            worker = Path(folder, "engine_worker.py")
            worker.write_text(inspect.getsource(engine_worker), encoding="utf-8")
            answer = Path(folder, "answer.json")
            request |= {
                "command": command,
                "answer": str(answer),
                "log": str(self.log),
                "offline": self.offline,
                "platform": self.platform,
            }
            process = subprocess.run(
                [str(self.python), "-I", str(worker)],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                check=False,
                pass_fds=[] if self.lock_fd is None else [self.lock_fd],
            )
            # The answer decides, not the exit status: a crash after it was written is harmless.
            if not answer.exists():
                raise EngineError("engine", _died(self.python, process.returncode, process.stderr))
            result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        if "error" in result:
            raise EngineError(**result["error"])
        return result


def _died(python: Path, status: int, errors: str) -> str:
    """How an engine ended that gave no answer, in words."""
    tail = "\n".join(errors.strip().splitlines()[-5:])
    if status >= 0:
        return f"the engine {python} ended with status {status} and gave no answer.\n{tail}"
    name = signal.Signals(-status).name
    memory = " (as the kernel does when memory is short)" if name == "SIGKILL" else ""
    return f"the engine {python} was ended by {name}{memory} and gave no answer; run again.\n{tail}"
