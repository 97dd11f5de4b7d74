# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules run for real: processes of their own, a real engine, real packages."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from channel import Channel

ROOT = Path(__file__).resolve().parents[2]
MODULES = "ansible_collections.crophpc.maskrcnn.plugins.modules"

Result = dict[str, Any]


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The offline mirror, as `make mirror` builds it."""
    path = Path(os.environ.get("MASKRCNN_MIRROR", ROOT / "build" / "mirror"))
    assert (path / "manifest.json").is_file(), f"there is no mirror at {path}: run `make mirror`"
    return path


@pytest.fixture(scope="session")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which this checkout is the collection, whatever the checkout's own name."""
    folder = tmp_path_factory.mktemp("collections")
    (folder / "ansible_collections" / "crophpc").mkdir(parents=True)
    (folder / "ansible_collections" / "crophpc" / "maskrcnn").symlink_to(ROOT)
    return folder


@pytest.fixture(scope="session")
def engine(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an engine as the role conda_engine makes it."""
    venv = tmp_path_factory.mktemp("engine")
    python = venv / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    requirements = ROOT / "roles" / "conda_engine" / "files" / "requirements.txt"
    subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, venv], check=True)
    subprocess.run(
        [*uv, "pip", "install", "--python", python, "--require-hashes", "--no-index"]
        + ["--find-links", mirror / "wheels", "--requirement", requirements],
        check=True,
    )
    return python


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
        defaults = self.defaults if module == "conda_env" else {"prefix": self.defaults["prefix"]}
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


@pytest.fixture
def run(tmp_path: Path, collections: Path, engine: Path, channel: Channel) -> Runner:
    """The module with the tiny channel and a package cache of the test's own."""
    runner = Runner(tmp_path, collections, engine)
    runner.defaults["channels"] = [str(channel.path)]
    return runner


@pytest.fixture(scope="session")
def mirror_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package cache for the mirror's packages; unpacking CPython for every test would take too long."""
    return tmp_path_factory.mktemp("mirror-cache")


@pytest.fixture
def run_mirror(tmp_path: Path, collections: Path, engine: Path, mirror: Path, mirror_cache: Path) -> Runner:
    """The module with the mirror's real packages."""
    runner = Runner(tmp_path, collections, engine)
    runner.defaults |= {"channels": [str(mirror / "channel")], "package_cache": str(mirror_cache)}
    return runner


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    """A channel of tiny packages: files of a few bytes, dependencies like real ones."""
    channel = Channel(tmp_path / "channel")
    channel.add("aaa", "1.0")
    channel.add("aaa", "2.0")
    channel.add("bbb", "1.0", depends=["aaa"])
    channel.add("ccc", "1.0", depends=["aaa <2"])
    channel.add("old-glibc", "1.0", depends=["__glibc >=99"])
    channel.add("gpu", "1.0", depends=["__cuda >=12"])
    return channel


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, tuple[int, int, int]]]:
    """Everything below a folder and the folder itself, to see that nothing was touched."""

    def take(folder: Path) -> dict[str, tuple[int, int, int]]:
        found = [folder, *folder.rglob("*")]
        return {str(p): (s.st_mtime_ns, s.st_ino, s.st_size) for p in found for s in [p.lstat()]}

    return take


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """Makes small filesystems: ``small_disk(megabytes)`` returns the folder of a new one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small filesystem")
    mounted: list[Path] = []

    def make(megabytes: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no filesystem can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


class Server:
    """A channel over HTTP, on this machine."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(QuietHandler, directory=str(folder))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server gives it
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Server]]:
    """Serves a folder over HTTP: ``serve(folder).url``."""
    servers: list[Server] = []

    def start(folder: Path) -> Server:
        servers.append(Server(folder))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def versions(prefix: Path) -> dict[str, str]:
    """What conda would list."""
    found = [json.loads(path.read_text()) for path in (prefix / "conda-meta").glob("*.json")]
    return {record["name"]: record["version"] for record in found}


def stand_in(folder: Path, run: Runner, name: str, commands: str) -> tuple[Path, Path]:
    """A stand-in for the engine's Python: a shell script around the real one ($REAL).

    Returns it and the file $CALLS, for those that record what they are asked.
    """
    calls = folder / f"{name}.calls"
    script = folder / f"stand-in-engine-that-{name}"
    script.write_text(f"#!/bin/bash\nREAL={run.defaults['engine_python']}\nCALLS={calls}\n{commands}\n")
    script.chmod(0o755)
    return script, calls
