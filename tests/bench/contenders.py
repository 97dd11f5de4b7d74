# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What makes the conda part of a profile's env: the module, `cp -al` of one that is there, and the usual programs.

All use the same packages, from a package cache of their own on the same filesystem.
"""

import asyncio
import bz2
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from conda_package_handling.api import transmute
from mirror import fetch, interpreter, manifest, profiles
from mirror.process import call
from mirror.series import Series
from rattler.index import index_fs

from .node import BENCH, MIRROR, SYSTEM, Node
from .place import Job, Place

HERE = Path(__file__).resolve().parent
OLD_CONDA = "4.3.16"


@dataclass(frozen=True)
class Contender:
    """One way to make the env, and where: in `folder`, as that is called at the place.

    The job wants the env's folder as its last word, or for TARGET in what it is given.
    """

    name: str
    place: Place
    folder: Path
    job: Job

    def time(self, name: str) -> tuple[float, str]:
        """Makes the env of this name in the folder; returns the seconds and what was printed."""
        target = str(self.folder / name)
        if self.job.given:
            return self.place.time(replace(self.job, given=self.job.given.replace("TARGET", target)))
        return self.place.time(replace(self.job, command=[*self.job.command, target]))


@dataclass(frozen=True)
class Wish:
    """The specs of a profile's conda part, the channel that has the packages, and the folder to work in."""

    specs: tuple[str, ...]
    channel: Path
    folder: Path

    def usual(self, name: str, command: Sequence[str | Path], variables: Mapping[str, str]) -> Contender:
        """A program of this machine, with a home of its own."""
        return Contender(name, Place(), self.folder, Job(command, env={"HOME": str(self.home(name)), **variables}))

    def home(self, name: str) -> Path:
        folder = self.folder / "homes" / name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def wish(mirror: Path, profile: str, folder: Path) -> Wish:
    """What the profile asks for, as far as the mirror has it."""
    python = manifest.read(mirror)["profiles"][profile]["python"]
    specs = profiles.load(profile, profiles.FOLDER, ("cpu",)).specs
    return Wish((f"python={python}", *specs), mirror / "channel", folder)


def ours(login: Node, wanted: Wish) -> Contender:
    """The module conda_env, on a login node that has the engine and the packages."""
    job = login.modules.job(
        "conda_env",
        prefix="TARGET",
        engine_python=f"{SYSTEM}/maskrcnn/engine/bin/python",
        specs=list(wanted.specs),
        channels=[f"{MIRROR}/channel"],
        package_cache=f"{SYSTEM}/maskrcnn/cache",
    )
    return Contender("conda_env", login.place, BENCH, job)


def copy(login: Node, name: str) -> Contender:
    """A plain copy of the env of this name, with which all are compared."""
    return Contender("cp -al", login.place, BENCH, Job(["cp", "-al", BENCH / name]))


def old_conda(wanted: Wish, packages: Sequence[str], kept: Path) -> Contender:
    """The conda of the written recipe, which knows older archives only; what takes long to make is kept in a folder."""
    python = kept / f"conda-{OLD_CONDA}" / "bin" / "python"
    requirements = HERE / "conda-4.3.txt"
    if not (python.parent / "conda").exists():
        python36 = Series(3, 6)
        call([interpreter.find(python36).executable, "-m", "venv", "--clear", python.parents[1]])
        for file in (fetch.build_file(python36), requirements):
            call([python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--require-hashes", "-r", file])
    channel = old_channel(wanted.channel, packages, kept)
    name = f"conda {OLD_CONDA}"
    settings = {"channels": [channel.as_uri()], "default_channels": [], "pkgs_dirs": [str(wanted.folder / "pkgs-old")]}
    (wanted.home(name) / ".condarc").write_text(json.dumps(settings), encoding="utf-8")
    # Its program refuses to run where pip has installed it.
    return wanted.usual(name, [python, "-m", "conda", "create", "--yes", "--quiet", *wanted.specs, "--prefix"], {})


def old_channel(channel: Path, packages: Sequence[str], kept: Path) -> Path:
    """A channel with these packages of another one, as archives of the older format."""
    made = kept / f"channel-{manifest.digest_of([], sorted(packages))[:12]}"
    if (made / "noarch" / "repodata.json.bz2").exists():
        return made
    for subdir in ("linux-64", "noarch"):
        (made / subdir).mkdir(parents=True, exist_ok=True)
    archives = [str(channel / "linux-64" / package) for package in packages]
    with ThreadPoolExecutor() as pool:  # compressing leaves Python's lock to others
        list(pool.map(partial(transmute, out_ext=".tar.bz2", out_folder=str(made / "linux-64")), archives))
    asyncio.run(index_fs(made, write_zst=False, write_shards=False, force=True))
    for subdir in ("linux-64", "noarch"):
        index = made / subdir / "repodata.json"
        index.with_name(f"{index.name}.bz2").write_bytes(bz2.compress(index.read_bytes()))
    return made


def given(wanted: Wish) -> list[Contender]:
    """The programs that BENCH_CONDA and BENCH_MICROMAMBA name."""
    channel = ["--override-channels", "--channel", wanted.channel.as_uri()]
    options = ["create", "--yes", "--quiet", *channel, *wanted.specs, "--prefix"]
    found = []
    if conda := os.environ.get("BENCH_CONDA"):
        variables = {"CONDA_PKGS_DIRS": str(wanted.folder / "pkgs-new")}
        found.append(wanted.usual(version("conda", conda), [conda, *options], variables))
    if micromamba := os.environ.get("BENCH_MICROMAMBA"):
        variables = {"MAMBA_ROOT_PREFIX": str(wanted.folder / "mamba")}
        found.append(wanted.usual(version("micromamba", micromamba), [micromamba, "--no-rc", *options], variables))
    return found


def version(name: str, program: str) -> str:
    return f"{name} {call([program, '--version']).split()[-1]}"
