# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The engine that solves and links conda packages, behind a few calls.

They solve, read locks and add pip's files to them, fetch, install. A solution is always passed on as a lock file, so
there is one way to install.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.crophpc.maskrcnn.plugins.module_utils import engine_worker
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package

if TYPE_CHECKING:  # what reads an index takes 0.1 s to import
    from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_index import IndexFile
    from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import Pin

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

    @classmethod
    def of(cls, params: dict[str, Any]) -> SolveOptions:
        """The options of these names among a module's."""
        options = {name: params[name] for name in vars(cls([]))}
        # 12.7 without quotes is a number in YAML.
        options["virtual_packages"] = {
            name: "" if version is None else str(version) for name, version in options["virtual_packages"].items()
        }
        return cls(**options)


def repodata_folder(cache: Path, workdir: Path, *, check: bool, offline: bool) -> Path:
    """Where repodata goes: in check mode to a temporary folder, unless only the cache has it."""
    return (workdir if check and not offline else cache) / "repodata"


class Engine:
    """py-rattler, run in a process of its own with ``python``, the Python of the engine's venv.

    The first call starts the process, ``close`` ends it. ``workdir`` holds its program; ``lock_fd`` is the descriptor
    of the prefix' lock, which it inherits: a process that outlives a killed module goes on holding the lock until it
    has ended. Raises EngineError where ``python`` is no program.
    """

    def __init__(self, python: Path, workdir: Path, package_cache: Path, *, offline: bool, platform: str) -> None:
        if not (python.is_file() and os.access(python, os.X_OK)):
            raise EngineError("missing", f"there is no engine at {python}")
        self.python = python
        self.workdir = workdir
        self.package_cache = package_cache
        self.offline = offline
        self.platform = platform
        self.log = workdir / "engine.log"
        self.lock_fd: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> str:
        """Ends the process, if there is one; returns how it ended, in words. The next call starts another."""
        if not self._process:
            return ""
        self._answers.close()
        self._socket.close()
        status = self._process.wait()
        self._process = None
        errors = (self._folder / "errors").read_text(encoding="utf-8", errors="replace")
        shutil.rmtree(self._folder)
        return _ended(self.python, status, errors)

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

    def read_lock(self, lock: Path, name: Path | str, channel: str | None = None) -> list[Wanted]:
        """What a lock asks for on this platform; ``name`` is what messages call it. Raises EngineError.

        With ``channel`` the lock is written anew, to have all packages from there.
        """
        return self._wanted(self._call("read_lock", lock=str(lock), name=str(name), channel=channel))

    def read_pip(self, lock: Path, name: Path | str) -> list[Package]:
        """What a lock has for pip. Raises EngineError."""
        packages = self._call("read_pip", lock=str(lock), name=str(name))["packages"]
        return [Package(package["name"], package["version"], package["file"]) for package in packages]

    def add_pip(self, lock: Path, files: dict[Pin, list[IndexFile]]) -> None:
        """Adds to a lock, of each pin's files, the one that pip would choose for the lock's Python on this machine.

        Raises EngineError.
        """
        pins = [
            {"name": pin.name, "version": pin.version, "files": [vars(file) for file in found]}
            for pin, found in files.items()
        ]
        self._call("add_pip", lock=str(lock), pins=pins)

    def repodata(self, locks: list[Path]) -> list[dict[str, Any]]:
        """The repodata records of all packages of some locks, each with its ``fn`` and ``url``. Raises EngineError."""
        records: list[dict[str, Any]] = self._call("repodata", locks=[str(lock) for lock in locks])["records"]
        return records

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
        return [Wanted(Package(p["name"], p["version"], p["build"]), p["size"]) for p in answer["packages"]]

    def _call(self, command: str, **request: Any) -> dict[str, Any]:
        request |= {"command": command, "log": str(self.log), "offline": self.offline, "platform": self.platform}
        if not self._process:
            self._start()
        answer = ""
        with suppress(ConnectionError):
            self._socket.sendall(f"{json.dumps(request)}\n".encode())
            answer = self._answers.readline()
        # The answer decides, not the exit status: a crash after it was written is harmless.
        if not answer.endswith("\n"):
            raise EngineError("engine", self.close())
        result: dict[str, Any] = json.loads(answer)
        if "error" in result:
            raise EngineError(**result["error"])
        return result

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=self.workdir))
        worker = self._folder / "engine_worker.py"
        worker.write_text(inspect.getsource(engine_worker), encoding="utf-8")
        self._socket, other_end = socket.socketpair()
        self._answers = self._socket.makefile(encoding="utf-8")
        with other_end, (self._folder / "errors").open("wb") as errors:
            self._process = subprocess.Popen(
                [str(self.python), "-I", str(worker)],
                stdin=other_end.fileno(),
                stdout=other_end.fileno(),
                stderr=errors,
                pass_fds=[] if self.lock_fd is None else [self.lock_fd],
            )


def _ended(python: Path, status: int, errors: str) -> str:
    """How an engine ended that gave no answer, in words."""
    tail = "\n".join(errors.strip().splitlines()[-5:])
    if status >= 0:
        return f"the engine {python} ended with status {status} and gave no answer.\n{tail}"
    name = signal.Signals(-status).name
    memory = " (as the kernel does when memory is short)" if name == "SIGKILL" else ""
    return f"the engine {python} was ended by {name}{memory} and gave no answer; run again.\n{tail}"
