# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules run for real: processes of their own, a real engine, real packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from channel import Channel
from running import Runner
from venvs import make_venv
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[2]
# The checkout as the collection, and what all tests share.
sys.path[:0] = [str(ROOT / ".ansible" / "collections"), str(ROOT / "tests" / "fixtures")]

from web_server import Server  # noqa: E402

# Files in which no test needs what another one has made: each of their tests goes to whichever worker has time.
APART = {"test_conda_env.py", "test_damage.py", "test_recipe.py", "test_site.py", "test_workbench_train.py"}
# Files that share a training.
TOGETHER = {"test_workbench_detect.py", "test_workbench_example.py"}


class Scheduler(LoadScopeScheduling):
    """Keeps the tests of every other file together, for what takes long to make and is made once in a worker.

    (--dist loadgroup is for this too, but xdist 3.8 renames tests for it in a way that pytest 9.2 does not see.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        name = Path(file).name
        if name in TOGETHER:
            return "a training"
        return nodeid if name in APART else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    return Scheduler(config, log)


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
    requirements = ROOT / "roles" / "conda_engine" / "files" / "requirements.txt"
    options = ["--require-hashes", "--no-index", "--find-links", mirror / "wheels", "--requirement", requirements]
    return make_venv(tmp_path_factory.mktemp("engine"), *options)


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
        found = [folder, *folder.rglob("*")] if folder.exists() else []
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
