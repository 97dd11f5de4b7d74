#!/usr/bin/python
# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: offline_mirror
short_description: Makes a folder that has all that an environment is made from
version_added: 0.1.0
author:
  - crophpc.maskrcnn contributors (@crophpc)
description:
  - Fetches what a lock names, the git commits, the engine's wheels and other files into one folder, which stands in for
    the conda channels, GitHub and PyPI on machines that cannot reach them. Any web server can serve it.
  - Every file is compared with its SHA-256, those too that are there already. One that does not match is refused and
    not kept.
  - A run that was broken off is continued by the next one, within a file where its server allows that.
  - The locks of several profiles and builds can be in one mirror. Nothing that is there is removed.
  - C(manifest.json) lists all files with their sums. It is written last.
requirements:
  - a Python 3.10 or newer with py-rattler and pip, as the role P(crophpc.maskrcnn.conda_engine#role) makes it
  - PyYAML, which every controller has, and git
attributes:
  check_mode:
    support: full
    description: Says what would be fetched and how much that is. Servers are only asked for the sizes of files.
  diff_mode:
    support: full
    description: Shows the files that are fetched or written, and their sizes.
  idempotent:
    support: full
    description: What is there is read and compared. The network is asked for nothing.
options:
  path:
    description: The mirror's folder, absolute.
    type: path
    required: true
  profile:
    description: The name of the profile that the lock is for.
    type: str
    required: true
  build:
    description: The build of it that the lock is for.
    type: str
    choices: [cpu, gpu]
    required: true
  lock:
    description: The content of the lock, in the C(pixi.lock) format.
    type: str
    required: true
  source:
    description: The git repository of Mask_RCNN.
    type: dict
    required: true
    suboptions:
      repo:
        description: Its address, without a password.
        type: str
        required: true
      commit:
        description: The full commit ID, 40 digits.
        type: str
        required: true
  git:
    description: Packages that can be had from git instead of from the lock.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the package.
        type: str
        required: true
      repo:
        description: The address of its repository, without a password.
        type: str
        required: true
      commit:
        description: The full commit ID, 40 digits.
        type: str
        required: true
      subdirectory:
        description: The folder in the repository that has the package. It makes no difference here.
        type: str
  weights:
    description: Files to have in the folder C(weights).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The file's name.
        type: str
        required: true
      url:
        description: Where it is to be had.
        type: str
        required: true
      sha256:
        description: Its SHA-256.
        type: str
        required: true
      size:
        description: How many bytes it has.
        type: int
        required: true
  engine_python:
    description: The Python that has py-rattler.
    type: path
    required: true
  engine_requirements:
    description:
      - The content of the requirements file with the engine's own wheels, pinned and hashed.
      - They are looked for in O(find_links) and in the indexes that are set up for pip on this machine. Those for all
        Pythons on x86-64 Linux are fetched.
    type: str
    default: ""
  find_links:
    description: Folders (absolute paths) or pages, with sums in their links, in which to look for the engine's wheels.
    type: list
    elements: str
    default: []
  no_index:
    description: Whether to look into O(find_links) only.
    type: bool
    default: false
  log:
    description: The file to which the progress is written, a line for every file.
    type: path
seealso:
  - module: crophpc.maskrcnn.conda_env
  - module: crophpc.maskrcnn.pip_requirements
"""

EXAMPLES = r"""
- name: Make a mirror for a lock
  crophpc.maskrcnn.offline_mirror:
    path: /srv/mirror
    profile: tf1
    build: gpu
    lock: "{{ lookup('ansible.builtin.file', inventory_dir ~ '/locks/tf1-gpu.lock') }}"
    source:
      repo: https://github.com/matterport/Mask_RCNN.git
      commit: 3deaec5d902d16e1daf56b62d5971d428dc920bc
    engine_python: "{{ conda_engine_executable }}"
    log: /srv/mirror/mirror.log
"""

RETURN = r"""
path:
  description: The mirror's folder.
  returned: success
  type: str
fetched:
  description: The files that were fetched, or in check mode would be, with their sizes in bytes.
  returned: success
  type: list
  elements: dict
  sample: [{name: wheels/keras-2.2.5-py2.py3-none-any.whl, size: 336342}]
fetched_bytes:
  description: How much that is, as far as servers tell before. Git repositories do not count.
  returned: success
  type: int
files:
  description: How many files the manifest lists.
  returned: success, not in check mode
  type: int
"""

import hashlib
import json
import re
import shutil
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.crophpc.maskrcnn.plugins.module_utils import download, lock_file, mirror_folder, mirror_git
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.download import File
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.engine import Engine, EngineError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.lock_file import Lock, LockFileError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.mirror_folder import MirrorError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.mirror_git import Repository
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.path_checks import (
    PathError,
    check_writable,
    nearest_existing,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_index import PipIndex, PipIndexError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_prefix import PipError, machine_settings
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import (
    GitPin,
    Pin,
    WantedError,
    as_url,
    parse_find_links,
    parse_git,
    parse_requirements,
)

PLATFORM = "linux-64"
SOURCE = "git/Mask_RCNN.git"

FILE_NAME = re.compile(r"\w[\w.-]*", re.ASCII)

# The engine's wheels are for the Pythons of targets, whatever this machine has.
LINUX_WHEEL = re.compile(r".+-(any|manylinux\S+_x86_64)\.whl")


@dataclass
class Plan:
    """What the mirror lacks, and what is to be in it in the end."""

    files: list[File] = field(default_factory=list)
    repositories: list[Repository] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, Any] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    """Files that are not as the manifest says."""

    spoiled: list[str] = field(default_factory=list)
    """Those of them that this run does not bring."""

    size: int = 0
    changed: bool = False

    def lines(self) -> list[str]:
        """What is to be fetched and written, for people to read."""
        lines = [f"{file.name} ({_mb(file.size) if file.size else 'of unknown size'})" for file in self.files]
        lines += [f"{repository.name} with {repository.commit}" for repository in self.repositories]
        lines += sorted(self.texts)
        if self.files:
            lines.append(f"{len(self.files)} files to fetch, {_mb(self.size)}")
        return lines


class OfflineMirror:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.path = Path(self.params["path"])
        self.work = self.path / mirror_folder.WORK
        self.workdir = Path(module.tmpdir)
        self.log = self.workdir / "log"
        self.lock_fd = -1
        key = f"{self.params['profile']}-{self.params['build']}"
        self.lock_name, self.requirements_name = f"locks/{key}.lock", f"wheels/{key}.txt"

    def run(self) -> dict[str, Any]:
        """Makes the mirror what is wanted; in check mode only says how."""
        self.check_input()
        if self.module.check_mode:
            plan = self.plan()
            self.refuse_spoiled(plan)
            return self.result(plan)
        if self.params["log"]:
            self.log = Path(self.params["log"])
            self.log.parent.mkdir(parents=True, exist_ok=True)
        with mirror_folder.locked(self.path, self.refuse_to_wait) as self.lock_fd:
            plan = self.plan()
            if plan.changed:
                self.apply(plan)
            self.refuse_spoiled(plan)
            shutil.rmtree(self.work, ignore_errors=True)
            return self.result(plan) | {"files": len(mirror_folder.read(self.path)["files"])}

    def check_input(self) -> None:
        """Raises what main() knows for all that can be seen to be wrong before anything is looked at."""
        if not self.path.is_absolute():
            raise MirrorError(f"path: {self.path} is not an absolute path")
        check_writable(self.path)
        self.engine = Engine(
            Path(self.params["engine_python"]), self.workdir, self.workdir, offline=True, platform=PLATFORM
        )
        self.lock: Lock = lock_file.read(self.params["lock"], self.lock_name, PLATFORM)
        versions = [file.package.version for file in self.lock.conda if file.package.name == "python"]
        if not versions:
            raise LockFileError(f"{self.lock_name} has no Python, so no env with pip can be made from it")
        self.python = versions[0]
        for name in (self.params["profile"], *(weights["name"] for weights in self.params["weights"])):
            if not FILE_NAME.fullmatch(name):
                raise MirrorError(f"{name!r} cannot be in the name of a file: letters, digits and _ . - only")
        self.pins: list[Pin] = parse_requirements(self.params["engine_requirements"])
        self.links = parse_find_links(self.params["find_links"])
        (source,) = parse_git([{"name": "Mask_RCNN", **self.params["source"]}])
        self.git: list[GitPin] = parse_git(self.params["git"])
        self.repositories = [Repository(SOURCE, source.repo, source.commit)]
        for pin in self.git:
            stem = PurePosixPath(pin.repo).name.removesuffix(".git")
            self.repositories.append(Repository(f"git/{stem}.git", pin.repo, pin.commit))

    def refuse_to_wait(self) -> None:
        raise MirrorError(f"another run is at work on {self.path}; run this again when it has ended")

    def say(self, line: str) -> None:
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(f"{datetime.now():%H:%M:%S} {line}\n")

    # --- what there is to do ---

    def plan(self) -> Plan:
        """Compares what is there, every byte of it, with what is wanted."""
        self.say(f"comparing {self.path} with {self.lock_name}")
        before = self.manifest()
        listed, present = before["files"], mirror_folder.entries(self.path)
        damage = [n for n, how in mirror_folder.differences(listed, present).items() if n in listed]
        sums = {name: entry["sha256"] for name, entry in present.items()}
        records = self.records()
        wanted = [*self.locked_files(records), *self.weights(), *self.engine_files(listed, damage)]
        self.check_conflicts(wanted, listed)
        texts = self.texts(records)
        plan = Plan(
            files=[self.sized(file) for file in wanted if sums.get(file.name) != file.sha256],
            repositories=[r for r in self.repositories if r.commit not in self.commits(r, damage)],
            texts={n: text for n, text in texts.items() if sums.get(n) != hashlib.sha256(text.encode()).hexdigest()},
            profiles=self.profiles(before["profiles"]),
            damage=damage,
        )
        brought = {file.name for file in plan.files} | plan.texts.keys() | {mirror_folder.INDEX}
        brought |= {name for name in damage for r in plan.repositories if name.startswith(f"{r.name}/")}
        plan.spoiled = sorted(set(damage) - brought)
        plan.size = sum(file.size for file in plan.files)
        plan.changed = bool(plan.lines() or damage or plan.profiles != before["profiles"])
        return plan

    def manifest(self) -> dict[str, Any]:
        """What the last run has left; nothing where there is no mirror yet."""
        if not (self.path / mirror_folder.NAME).exists():
            return {"profiles": {}, "files": {}}
        content = mirror_folder.read(self.path)
        if not all("locks" in profile for profile in content["profiles"].values()):
            raise MirrorError(f"{self.path} is a mirror that was not made from locks; choose another folder")
        return content

    def records(self) -> list[dict[str, Any]]:
        """What repodata has to say of the packages of all locks in the mirror and of this one."""
        own = self.workdir / Path(self.lock_name).name
        own.write_text(self.params["lock"], encoding="utf-8")
        locks = {path.name: path for path in (self.path / "locks").glob("*.lock")} | {own.name: own}
        with closing(self.engine):
            return self.engine.repodata([path for _name, path in sorted(locks.items())])

    def locked_files(self, records: list[dict[str, Any]]) -> list[File]:
        sizes = {f"channel/{record['subdir']}/{record['fn']}": record.get("size") or 0 for record in records}
        locked = [*self.lock.conda, *self.lock.pip]
        return [File(f.place, as_url(f.url), f.sha256, sizes.get(f.place, 0)) for f in locked]

    def weights(self) -> list[File]:
        return [File(f"weights/{w['name']}", w["url"], w["sha256"], w["size"]) for w in self.params["weights"]]

    def engine_files(self, listed: mirror_folder.Entries, damage: list[str]) -> list[File]:
        """The engine's wheels as far as no finished run has brought them; their list has sums, but no addresses."""
        whole = {f"--hash=sha256:{entry['sha256']}" for name, entry in listed.items() if name not in damage}
        pins = [pin for pin in self.pins if not whole.intersection(pin.hashes)]
        if not pins:
            return []
        no_index = self.params["no_index"]
        settings = {} if no_index else machine_settings(Path(self.params["engine_python"]), self.workdir)
        found = PipIndex(self.links, no_index, settings).find(pins)
        return [
            File(f"wheels/{file.name}", as_url(file.url), file.sha256)
            for files in found.values()
            for file in files
            if LINUX_WHEEL.fullmatch(file.name)
        ]

    @staticmethod
    def check_conflicts(wanted: list[File], listed: mirror_folder.Entries) -> None:
        for file in wanted:
            there = listed.get(file.name, {}).get("sha256", file.sha256)
            if there != file.sha256:
                raise MirrorError(
                    f"{file.name} is in the mirror with the sha256 {there}, as another lock wants it, and this lock "
                    f"wants {file.sha256}; choose another folder"
                )

    def sized(self, file: File) -> File:
        return file if file.size else replace(file, size=download.find_size(file.url))

    def commits(self, repository: Repository, damage: list[str]) -> set[str]:
        """The commits that the mirror has of a repository; none where a file of it is damaged."""
        damaged = any(name.startswith(f"{repository.name}/") for name in damage)
        return set() if damaged else mirror_git.commits(self.path / repository.name)

    def texts(self, records: list[dict[str, Any]]) -> dict[str, str]:
        """The files that are not fetched but written: name to content."""
        pins = sorted(self.lock.requirements.splitlines(keepends=True))
        texts = {self.lock_name: self.params["lock"], self.requirements_name: "".join(pins)}
        for subdir in (PLATFORM, "noarch"):
            mine = [record for record in records if record["subdir"] == subdir]
            texts[f"channel/{subdir}/repodata.json"] = _repodata(subdir, mine)
        return texts

    def profiles(self, before: dict[str, Any]) -> dict[str, Any]:
        """The manifest's part about profiles, with this one in it."""
        profiles = deepcopy(before)
        profile = profiles.setdefault(self.params["profile"], {"git": {}, "requirements": {}, "locks": {}})
        profile["python"] = self.python
        profile["commit"] = self.repositories[0].commit
        profile["git"] |= {pin.name: pin.commit for pin in self.git}
        profile["requirements"][self.params["build"]] = self.requirements_name
        profile["locks"][self.params["build"]] = self.lock_name
        return profiles

    # --- doing it ---

    def apply(self, plan: Plan) -> None:
        self.check_space(plan)
        self.work.mkdir(exist_ok=True)
        for number, file in enumerate(plan.files, 1):
            self.say(f"fetching {file.name}, {_mb(file.size)} ({number} of {len(plan.files)})")
            part = self.part(file)
            download.fetch(file, part)
            self.put(part, file.name)
        for repository in plan.repositories:
            self.build_repository(repository, plan.damage)
        for name, text in plan.texts.items():
            mirror_folder.write_text(self.path, name, text)
        self.refuse_spoiled(plan)
        mirror_folder.write(self.path, plan.profiles)
        self.say("finished")

    def part(self, file: File) -> Path:
        """Where a file grows until it is whole; the next run finds it by its sum."""
        return self.work / f"{file.sha256}.part"

    def put(self, path: Path, name: str) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)

    def check_space(self, plan: Plan) -> None:
        parts = [part.stat().st_size for part in map(self.part, plan.files) if part.is_file()]
        need = plan.size - sum(parts)
        free = shutil.disk_usage(nearest_existing(self.path)).free
        if need > free:
            raise MirrorError(
                f"not enough space for {self.path}: {_mb(need)} are needed, {_mb(free)} are free; "
                "free some, or choose another folder"
            )

    def build_repository(self, repository: Repository, damage: list[str]) -> None:
        """Makes it anew beside the one that is there, with the commits that this one has, and swaps them."""
        self.say(f"fetching {repository.name} with {repository.commit}")
        target, fresh, old = self.path / repository.name, self.work / "fresh.git", self.work / "old.git"
        source = target if self.commits(repository, damage) else None
        mirror_git.build(repository, source, fresh, mirror_git.commits(target), self.lock_fd)
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.replace(old)
        self.put(fresh, repository.name)

    def refuse_spoiled(self, plan: Plan) -> None:
        if plan.spoiled:
            raise MirrorError(
                f"not as {self.path / mirror_folder.NAME} says, and not of this lock: {', '.join(plan.spoiled)}. "
                "Run this for the profiles that they belong to, or begin anew in another folder"
            )

    def result(self, plan: Plan) -> dict[str, Any]:
        result = {
            "changed": plan.changed,
            "path": str(self.path),
            "fetched": [{"name": file.name, "size": file.size} for file in plan.files],
            "fetched_bytes": plan.size,
        }
        if self.module._diff:
            before = [f"{name}, which is damaged" for name in plan.damage]
            after = [*plan.lines(), *([mirror_folder.NAME] if plan.changed else [])]
            result["diff"] = {
                "before_header": str(self.path),
                "after_header": str(self.path),
                "before": "".join(f"{line}\n" for line in before),
                "after": "".join(f"{line}\n" for line in after),
            }
        return result


def _repodata(subdir: str, records: list[dict[str, Any]]) -> str:
    """The index of one folder of the channel, as the channels of the locks had it: what was put right in their
    repodata after a package was built is not in the package itself.
    """
    index: dict[str, Any] = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}, "repodata_version": 1}
    for record in records:
        section = "packages.conda" if record["fn"].endswith(".conda") else "packages"
        about = {key: value for key, value in record.items() if key not in ("fn", "url", "channel")}
        index[section][record["fn"]] = about
    return json.dumps(index, indent=1, sort_keys=True) + "\n"


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"  # noqa: PLR2004 - units


def main() -> None:
    repository = {"repo": {"type": "str", "required": True}, "commit": {"type": "str", "required": True}}
    name = {"name": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "profile": {"type": "str", "required": True},
            "build": {"type": "str", "choices": ["cpu", "gpu"], "required": True},
            "lock": {"type": "str", "required": True},
            "source": {"type": "dict", "required": True, "options": repository},
            "git": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {**name, **repository, "subdirectory": {"type": "str"}},
            },
            "weights": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    **name,
                    "url": {"type": "str", "required": True},
                    "sha256": {"type": "str", "required": True},
                    "size": {"type": "int", "required": True},
                },
            },
            "engine_python": {"type": "path", "required": True},
            "engine_requirements": {"type": "str", "default": ""},
            "find_links": {"type": "list", "elements": "str", "default": []},
            "no_index": {"type": "bool", "default": False},
            "log": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        result = OfflineMirror(module).run()
    except (MirrorError, LockFileError, EngineError, PipError, PipIndexError, WantedError, PathError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.strerror or error}: {error.filename or module.params['path']}")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
