#!/usr/bin/python
# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: conda_env
short_description: Makes a conda environment what its specs or its lock say
version_added: 0.1.0
author:
  - crophpc.maskrcnn contributors (@crophpc)
description:
  - Creates, updates, repairs and removes one conda environment.
  - Packages are solved and linked by py-rattler; no conda is needed on the target. The result is an ordinary
    conda environment that conda, mamba and micromamba list and activate.
  - The state is read from the environment itself. One whose creation was killed, or whose files were damaged, is
    recognised and finished.
  - Packages that others have added to the environment stay, unless O(prune=true).
  - Packages are downloaded and compared with their checksums before anything in the environment is touched. A run that
    fails to create an environment leaves nothing behind but what is in O(package_cache).
requirements:
  - a Python 3.10 or newer with py-rattler, as the role P(crophpc.maskrcnn.conda_engine#role) makes it (only for
    O(state=present))
attributes:
  check_mode:
    support: full
    description: Gives the same plan as a real run and touches nothing. Repodata goes to a temporary folder.
  diff_mode:
    support: full
    description: Shows all packages before and after, and which are damaged.
  idempotent:
    support: full
    description: An environment that is as wanted is not touched, and neither solved again nor compared with the
      network, unless O(update=true).
options:
  prefix:
    description:
      - The environment's folder, absolute.
      - An existing folder must be empty or a conda environment.
    type: path
    required: true
  state:
    description:
      - Whether the environment is to be there or not.
      - A conda root is not removed while there are environments in its C(envs) folder.
    type: str
    choices: [present, absent]
    default: present
  engine_python:
    description: The Python that has py-rattler. Required for O(state=present).
    type: path
  specs:
    description: The conda match specs to solve, for example V(python=3.6.12) or V(numpy>=1.16,<1.19).
    type: list
    elements: str
  channels:
    description:
      - Where packages come from, the most wanted first, as names, URLs or absolute paths.
      - The name V(defaults) stands for Anaconda's main and r channels.
    type: list
    elements: str
    default: [conda-forge]
  lock:
    description:
      - A file on the target in the C(pixi.lock) format. Exactly its packages are installed, without a solver and
        without repodata.
      - Mutually exclusive with O(specs).
    type: path
  lock_channel:
    description:
      - The channel from which the packages of O(lock) are taken, a URL or an absolute path, instead of the places that
        the lock names. They have to be the same, byte for byte. Its repodata is not read.
    type: str
  write_lock:
    description: Write the solution to this file on the target, in the C(pixi.lock) format. Its folder must exist.
    type: path
  update:
    description:
      - Solve again and take the newest versions that the specs allow.
      - Without it, an environment that was made from the same specs stays as it is.
    type: bool
    default: false
  prune:
    description: Remove packages that are neither asked for nor needed, those included that users have added.
    type: bool
    default: false
  package_cache:
    description:
      - The folder for downloaded packages and repodata.
      - On the filesystem of O(prefix), environments share its files by hard links.
    type: path
    default: ~/.cache/crophpc
  offline:
    description: Ask the network for nothing. What is neither in O(package_cache) nor in a local channel is an error.
    type: bool
    default: false
  exclude_newer:
    description: Ignore packages that are newer than this day or time, in ISO 8601. A day counts to its end. Without a
      time zone it is UTC.
    type: str
  channel_priority:
    description: Whether a package is taken only from the first channel that has it.
    type: str
    choices: [strict, disabled]
    default: strict
  virtual_packages:
    description:
      - Virtual packages to assume, name to version, in place of what the target has. For solving on a login node
        what is to run on a GPU node, for example C(__cuda) with the version V(12.7).
      - An empty version takes the virtual package away.
    type: dict
    default: {}
  platform:
    description: The conda platform to solve for and to take from the lock.
    type: str
    default: linux-64
  verify_files:
    description:
      - How closely to look for damage in files of installed packages. V(size) finds missing files and changed sizes
        (0.1 s for 15,000 files), V(sha256) reads every file.
      - After a run that did not end, sizes are compared in any case.
    type: str
    choices: [none, size, sha256]
    default: size
  on_drift:
    description:
      - What to do about packages that somebody has damaged, removed, or replaced by other versions since the last run.
        V(keep) leaves them and says so; what O(update) or new O(specs) ask for is done all the same.
    type: str
    choices: [repair, keep]
    default: repair
  lock_timeout:
    description: How many seconds to wait for another run on the same environment.
    type: int
    default: 600
  log:
    description: The file to which the progress of solving, downloading and linking is written.
    type: path
seealso:
  - module: crophpc.maskrcnn.conda_env_info
  - module: crophpc.maskrcnn.pip_requirements
"""

EXAMPLES = r"""
- name: Create an environment from specs
  crophpc.maskrcnn.conda_env:
    prefix: /mnt/apps/users/ada/conda/envs/plots
    engine_python: /mnt/apps/system/maskrcnn/engine/bin/python
    specs: [python=3.12, matplotlib-base]

- name: Install exactly what a lock says
  crophpc.maskrcnn.conda_env:
    prefix: /mnt/apps/users/ada/conda/envs/plots
    engine_python: /mnt/apps/system/maskrcnn/engine/bin/python
    lock: /mnt/apps/system/maskrcnn/plots.lock

- name: Solve on a login node for a node with a GPU, without touching anything
  crophpc.maskrcnn.conda_env:
    prefix: /mnt/apps/users/ada/conda/envs/torch
    engine_python: /mnt/apps/system/maskrcnn/engine/bin/python
    specs: [python=3.12, pytorch-gpu]
    virtual_packages: {__cuda: "12.7"}
  check_mode: true
  diff: true

- name: Remove it
  crophpc.maskrcnn.conda_env:
    prefix: /mnt/apps/users/ada/conda/envs/plots
    state: absent
"""

RETURN = r"""
plan:
  description: What was done, or in check mode would be done.
  returned: success
  type: dict
  contains:
    installed:
      description: Packages that were not there.
      type: list
      elements: dict
      sample: [{name: numpy, version: 1.18.5, build: py36h7314795_0}]
    removed:
      description: Packages that are no longer wanted.
      type: list
      elements: dict
    changed:
      description: Packages that get another version or build.
      type: list
      elements: dict
      sample: [{name: numpy, from: 1.18.4 0, to: 1.18.5 0}]
    repaired:
      description: Packages whose files were missing or changed, and how.
      type: list
      elements: dict
      sample: [{name: numpy, reason: "3 files missing, e.g. bin/f2py"}]
kept:
  description: Packages that are not as wanted and were left so, with the reason.
  returned: when O(on_drift=keep) and there are any
  type: list
  elements: dict
extra:
  description: Names of packages that others have added.
  returned: O(state=present)
  type: list
  elements: str
prefix:
  description: The environment's folder.
  returned: success
  type: str
packages:
  description: How many conda packages the environment has in the end.
  returned: O(state=present)
  type: int
solve_seconds:
  description: Time to find out what is wanted. 0 where the environment's own record of it was enough.
  returned: O(state=present)
  type: float
link_seconds:
  description: Time to download, link and compile.
  returned: O(state=present)
  type: float
peak_mb:
  description: The largest memory of the module and of the engine's processes, in MB.
  returned: O(state=present)
  type: int
log:
  description: The file with the progress.
  returned: when O(log) is given
  type: str
"""

import hashlib
import json
import os
import re
import resource
import shutil
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.crophpc.maskrcnn.plugins.module_utils import byte_code, registry
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.engine import (
    Engine,
    EngineError,
    SolveOptions,
    Wanted,
    repodata_folder,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.path_checks import (
    PathError,
    check_prefix,
    check_root,
    check_space,
    check_writable,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package, Plan
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import SOLUTION, VERIFY, Prefix, Stamp
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import (
    LOCK_NAME,
    PrefixLockError,
    prefix_lock,
)


class CondaEnv:
    """One run of the module on one prefix."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.path = Path(self.params["prefix"])
        self.prefix = Prefix(self.path)
        self.cache = Path(self.params["package_cache"])
        self.workdir = Path(module.tmpdir)
        self.solution = self.workdir / "pixi.lock"
        self.times = {"solve_seconds": 0.0, "link_seconds": 0.0}

    # --- state: present ---

    def present(self) -> dict[str, Any]:
        """Makes the env what is wanted; in check mode only says how."""
        self.check_input()
        if self.module.check_mode:
            with closing(self.engine):
                plan, kept, wanted = self.plan()
            result = self.result(plan, kept, wanted)
            result["changed"] |= self.write_lock() | self.list_env(True)
            return result
        new_folders = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        with ExitStack() as stack:
            empty = self.lock(stack)
            self.prefix = Prefix(self.path)  # read again: another run may just have finished
            made = empty and not self.prefix.stamp().key
            try:
                with closing(self.engine):  # it has the lock as well
                    result = self.bring_about()
            except (EngineError, PathError, OSError):
                if made:  # leave no trace; what was downloaded is in the cache
                    with suppress(OSError):
                        self.remove_contents()
                        for folder in new_folders:
                            folder.rmdir()
                raise
        return result | {"peak_mb": _peak_mb()}

    def check_input(self) -> None:
        """Raises PathError or EngineError for what can be seen to be wrong before anything is done."""
        check_prefix(self.path)
        for folder in (self.path, self.cache):
            check_writable(folder)
        if self.params["specs"] is not None and not self.params["specs"]:
            raise EngineError("spec", "specs is an empty list; to remove an env, say state: absent")
        for spec in self.params["specs"] or []:
            if not re.match(r"[\w.*:/]", spec):
                raise EngineError("spec", f"{spec!r} in specs is not a conda match spec")
        lock = self.params["lock"]
        if lock and not Path(lock).is_file():
            raise EngineError("lock", f"there is no lock {lock}")
        if self.params["write_lock"]:
            target = Path(self.params["write_lock"])
            if not target.parent.is_dir() or target.is_dir():
                raise EngineError("input", f"write_lock {target} is not a file in a folder that exists")
            check_writable(target.parent)
        self.engine = Engine(
            Path(self.params["engine_python"]),
            self.workdir,
            self.cache / "pkgs",
            offline=self.params["offline"],
            platform=self.params["platform"],
        )
        if self.params["log"]:
            log = Path(self.params["log"])
            check_writable(log.parent)
            if not self.module.check_mode:
                self.engine.log = log
                log.parent.mkdir(parents=True, exist_ok=True)

    def lock(self, stack: ExitStack) -> bool:
        """Locks the prefix until ``stack`` ends; whether there was no env in it before."""
        while True:
            made = not self.prefix.is_env
            self.prefix.meta.mkdir(parents=True, exist_ok=True)
            fd = stack.enter_context(prefix_lock(self.path, timeout=self.params["lock_timeout"]))
            # Whoever had it before may have removed the whole prefix, and with it the file that was waited for.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), (self.prefix.meta / LOCK_NAME).stat()):
                    self.engine.lock_fd = fd
                    return made

    def bring_about(self) -> dict[str, Any]:
        """Plans and carries the plan out, with the prefix locked."""
        plan, kept, wanted = self.plan()
        stamp = self.prefix.stamp()
        names = {w.package.name: w.package.release for w in wanted}
        done = Stamp(self.key, True, names, sorted(names))
        result = self.result(plan, kept, wanted)
        if self.has_work(plan):
            started = time.monotonic()
            self.check_space(plan, wanted)
            self.fetch(plan)
            self.record(Stamp(self.key, False, names, sorted({*stamp.owned, *names})))
            self.check_outcome(wanted, kept, self.link(plan, kept, wanted))
            self.times["link_seconds"] = round(time.monotonic() - started, 2)
        self.record(done)
        result["changed"] |= self.write_lock() | self.list_env(True)
        return result | self.times

    def has_work(self, plan: Plan) -> bool:
        """Whether anything is to be linked, or a run that was killed after it had linked all is to be finished."""
        return bool(plan or self.prefix.broken or _unfinished(self.prefix.stamp()))

    @property
    def key(self) -> str:
        """A hash of everything that decides which packages are wanted."""
        if self.params["lock"]:
            wanted: Any = hashlib.sha256(Path(self.params["lock"]).read_bytes()).hexdigest()
        else:
            wanted = [sorted(self.params["specs"]), vars(self.options)]
        return hashlib.sha256(json.dumps([wanted, self.params["platform"]], sort_keys=True).encode()).hexdigest()

    @property
    def options(self) -> SolveOptions:
        return SolveOptions.of(self.params)

    def wanted(self) -> list[Wanted]:
        """The packages that are to be there, from the lock, from the last run's own solution, or from the solver."""
        started = time.monotonic()
        stored = self.prefix.meta / SOLUTION
        if self.params["lock"]:
            shutil.copyfile(self.params["lock"], self.solution)
        elif self.prefix.stamp().key == self.key and stored.is_file() and not self.params["update"]:
            shutil.copyfile(stored, self.solution)
        if self.solution.exists():
            channel = self.params["lock_channel"] if self.params["lock"] else None
            wanted = self.engine.read_lock(self.solution, self.params["lock"] or stored, channel)
        else:
            wanted = self.engine.solve(
                self.params["specs"],
                self.options,
                self.path,
                self.solution,
                repodata_cache=repodata_folder(
                    self.cache, self.workdir, check=self.module.check_mode, offline=self.params["offline"]
                ),
                keep_versions=not self.params["update"],
            )
        self.times["solve_seconds"] = round(time.monotonic() - started, 2)
        return wanted

    def plan(self) -> tuple[Plan, dict[str, str], list[Wanted]]:
        """The plan, what is not as wanted but to be kept (name to reason), and what is wanted."""
        stamp = self.prefix.stamp()
        before = self.prefix.packages
        if self.untouched(stamp):
            return Plan(before, before), {}, [Wanted(p, 0) for n, p in before.items() if n in stamp.packages]
        wanted = self.wanted()
        wanted_packages = {w.package.name: w.package for w in wanted}
        after = dict(wanted_packages)
        if not self.params["prune"]:
            after |= {name: p for name, p in before.items() if name not in after and name not in stamp.owned}
        # Of an unfinished env nothing is trusted.
        verify = self.params["verify_files"]
        if _unfinished(stamp) and verify == "none":
            verify = "size"
        damage = {n: words for n, words in self.prefix.damage(verify).items() if before[n] == wanted_packages.get(n)}
        plan = Plan(before, after, damage)
        kept: dict[str, str] = {}
        if self.params["on_drift"] == "keep" and stamp.finished:
            kept = self.keep_drift(plan, stamp)
        return plan, kept, wanted

    def untouched(self, stamp: Stamp) -> bool:
        """Whether everything is as the last run, which was asked for the same, has left it."""
        if not stamp.finished or stamp.key != self.key or self.params["update"] or self.prefix.broken:
            return False
        have = {name: p.release for name, p in self.prefix.packages.items()}
        extra = have.keys() - stamp.packages.keys()
        if not stamp.packages.items() <= have.items() or (extra and self.params["prune"]):
            return False
        if self.params["write_lock"] and not (self.prefix.meta / SOLUTION).is_file():
            return False
        # What is wrong with packages that users have added is theirs to mend.
        return not self.prefix.damage(self.params["verify_files"]).keys() & stamp.packages.keys()

    def keep_drift(self, plan: Plan, stamp: Stamp) -> dict[str, str]:
        """Takes what users have done since the last run out of the plan and returns it: name to what was done."""
        kept = dict(plan.repaired)
        if stamp.key == self.key:
            # Drift is a difference from what the last run left. Where the wish itself differs, it is an update.
            same = {n for n, p in plan.after.items() if stamp.packages.get(n) == p.release}
            kept |= {b.name: f"{b} is there instead of {a}" for b, a in plan.changed if b.name in same}
            kept |= {p.name: "removed" for p in plan.installed if p.name in same}
        plan.repaired = {}
        left = {name: package for name, package in plan.before.items() if name in kept}
        plan.after = {name: package for name, package in plan.after.items() if name not in kept} | left
        return kept

    def check_space(self, plan: Plan, wanted: list[Wanted]) -> None:
        linked = [w for w in wanted if w.package.name in _linked(plan)]
        absent = [w for w in linked if not (self.engine.package_cache / _folder(w.package)).is_dir()]
        check_space(self.path, self.engine.package_cache, sum(w.size for w in absent), sum(w.size for w in linked))

    def fetch(self, plan: Plan) -> None:
        """Downloads what an env with packages in it is to get, before any of those are touched."""
        if self.prefix.records and _linked(plan):
            scratch = self.cache / f"fetch-{hashlib.sha256(bytes(self.path)).hexdigest()[:16]}"
            self.engine.fetch(
                self.solution, self.path, scratch, names=sorted(_linked(plan)), verify=bool(plan.repaired)
            )

    def link(self, plan: Plan, kept: dict[str, str], wanted: list[Wanted]) -> dict[str, str]:
        """Lets the engine carry out the plan and compiles what it linked; returns what is wrong nevertheless."""
        for path in self.prefix.broken:
            path.unlink()
        for package in (*plan.removed, *(before for before, _after in plan.changed)):
            self.clear(package.name)
        for name in plan.repaired:
            self.clear(name)
            for file in self.prefix.records[name].files:
                with suppress(OSError):  # an empty folder in a file's place; of others the engine says that it cannot
                    (self.path / file).rmdir()
        extra = plan.after.keys() - {w.package.name for w in wanted}
        self.install(sorted(_linked(plan)), sorted(plan.repaired), sorted(extra | kept.keys()))
        # A package cache that was damaged itself gives damaged files; a second time it is looked at more closely.
        damage = self.damage(wanted, kept)
        if damage:
            self.install(sorted(damage), sorted(damage), sorted(extra | kept.keys()))
            damage = self.damage(wanted, kept)
        self.prefix.share_records()
        byte_code.compile_packages(self.prefix)
        return damage

    def clear(self, name: str) -> None:
        """Removes what no record of conda's lists: byte code, and what pip has put in the package's place."""
        byte_code.remove_compiled(self.prefix.records[name], self.prefix)
        if name in self.prefix.replaced_by_pip:
            byte_code.remove_distribution(self.prefix.replaced_by_pip[name], self.path)

    def install(self, names: list[str], reinstall: list[str], ignored: list[str]) -> None:
        self.engine.install(
            self.solution,
            self.path,
            specs=self.params["specs"] or [],
            names=names,
            reinstall=reinstall,
            ignored=ignored,
        )
        self.prefix = Prefix(self.path)

    def damage(self, wanted: list[Wanted], kept: dict[str, str]) -> dict[str, str]:
        """What is wrong with the files of wanted packages, at least by their size."""
        names = {w.package.name for w in wanted} - kept.keys()
        damage = self.prefix.damage("sha256" if self.params["verify_files"] == "sha256" else "size")
        return {name: words for name, words in damage.items() if name in names}

    def check_outcome(self, wanted: list[Wanted], kept: dict[str, str], damage: dict[str, str]) -> None:
        """Raises EngineError if the env is not what it should be."""
        have = self.prefix.packages
        wrong = [str(w.package) for w in wanted if w.package.name not in kept and have.get(w.package.name) != w.package]
        wrong += [f"{name} ({words})" for name, words in damage.items()]
        if wrong:
            raise EngineError("engine", f"after linking, {self.path} still lacks: {', '.join(wrong)}; run again")

    def record(self, stamp: Stamp) -> None:
        """Writes the stamp and the solution that it is about; it never stands beside the solution of another one."""
        stored = self.prefix.meta / SOLUTION
        new = self.solution.read_bytes() if self.solution.exists() else None
        same = new is None or (stored.is_file() and stored.read_bytes() == new)
        if not same:
            stored.unlink(missing_ok=True)
        if self.prefix.stamp() != stamp:
            self.prefix.write_stamp(stamp)
        if not same:
            _write(stored, new or b"")

    def write_lock(self) -> bool:
        """Writes the solution where the user wants it; whether that is a change. In check mode nothing is written."""
        if not self.params["write_lock"]:
            return False
        target = Path(self.params["write_lock"])
        solution = self.solution if self.solution.exists() else self.prefix.meta / SOLUTION
        content = solution.read_bytes()
        if target.is_file() and target.read_bytes() == content:
            return False
        if not self.module.check_mode:
            _write(target, content)
        return True

    def list_env(self, listed: bool) -> bool:
        """Puts the env on the list that conda reads, or takes it off; whether that is a change. No reason to fail."""
        try:
            return registry.update(self.path, listed, check=self.module.check_mode)
        except OSError as error:
            self.module.warn(
                f"{registry.file()} cannot be changed ({error.strerror}): `conda env list` is not up to date"
            )
            return False

    def result(self, plan: Plan, kept: dict[str, str], wanted: list[Wanted]) -> dict[str, Any]:
        extra = sorted(plan.after.keys() - {w.package.name for w in wanted} - kept.keys())
        for name, words in sorted(kept.items()):
            self.module.warn(f"{self.path}: {name} is kept as it is: {words}")
        result: dict[str, Any] = {
            "changed": self.has_work(plan),
            "prefix": str(self.path),
            "plan": plan.result(),
            "extra": extra,
            "packages": len(plan.after),
            "peak_mb": _peak_mb(),
            "diff": plan.diff(str(self.path)),
            **self.times,
        }
        if kept:
            result["kept"] = [{"name": name, "reason": words} for name, words in sorted(kept.items())]
        if self.params["log"]:
            result["log"] = self.params["log"]
        return result

    # --- state: absent ---

    def absent(self) -> dict[str, Any]:
        """Removes the env; what marks it as one goes last, so that a killed removal can be finished."""
        plan = Plan(self.prefix.packages, {})
        changed = False
        if self.path.is_symlink() or self.path.exists():
            check_prefix(self.path)
            check_root(self.path)
            check_writable(self.path)
            changed = True
            if not self.module.check_mode:
                self.remove()
        changed |= self.list_env(False)
        return {"changed": changed, "prefix": str(self.path), "plan": plan.result(), "diff": plan.diff(str(self.path))}

    def remove(self) -> None:
        """Removes the prefix, with it locked if there is an env in it."""
        if self.prefix.is_env:
            with prefix_lock(self.path, timeout=self.params["lock_timeout"]), suppress(FileNotFoundError):
                # A removal that is killed is to be taken for an env that was half made, not for a whole one.
                stamp = self.prefix.stamp()
                stamp.key, stamp.finished = stamp.key or "removed", False
                with suppress(OSError):  # the disk may be full
                    self.prefix.write_stamp(stamp)
                self.remove_contents()
        else:
            with suppress(FileNotFoundError):
                self.prefix.meta.rmdir()
        with suppress(FileNotFoundError):
            self.path.rmdir()

    def remove_contents(self) -> None:
        """Empties the prefix, the locked file last of all files."""
        last = self.prefix.meta / LOCK_NAME
        for folder, spared in ((self.path, self.prefix.meta), (self.prefix.meta, last)):
            for entry in folder.iterdir():
                if entry == spared:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        last.unlink(missing_ok=True)
        with suppress(OSError):  # another run may have begun anew at this very moment
            self.prefix.meta.rmdir()


def _linked(plan: Plan) -> set[str]:
    """The names of all packages that are to be linked."""
    return {p.name for p in plan.installed} | {after.name for _before, after in plan.changed} | {*plan.repaired}


def _unfinished(stamp: Stamp) -> bool:
    return bool(stamp.key) and not stamp.finished


def _write(path: Path, content: bytes) -> None:
    """Writes a file in one rename."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def _peak_mb() -> int:
    """The largest memory of this process and of any of its children so far, in MB."""
    return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024


def _folder(package: Package) -> str:
    """The name of a package's folder in the package cache."""
    return f"{package.name}-{package.version}-{package.build}"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "engine_python": {"type": "path"},
            "specs": {"type": "list", "elements": "str"},
            "channels": {"type": "list", "elements": "str", "default": ["conda-forge"]},
            "lock": {"type": "path"},
            "lock_channel": {"type": "str"},
            "write_lock": {"type": "path"},
            "update": {"type": "bool", "default": False},
            "prune": {"type": "bool", "default": False},
            "package_cache": {"type": "path", "default": "~/.cache/crophpc"},
            "offline": {"type": "bool", "default": False},
            "exclude_newer": {"type": "str"},
            "channel_priority": {"type": "str", "choices": ["strict", "disabled"], "default": "strict"},
            "virtual_packages": {"type": "dict", "default": {}},
            "platform": {"type": "str", "default": "linux-64"},
            "verify_files": {"type": "str", "choices": list(VERIFY), "default": "size"},
            "on_drift": {"type": "str", "choices": ["repair", "keep"], "default": "repair"},
            "lock_timeout": {"type": "int", "default": 600},
            "log": {"type": "path"},
        },
        supports_check_mode=True,
        mutually_exclusive=[("specs", "lock")],
        required_if=[("state", "present", ["engine_python"]), ("state", "present", ["specs", "lock"], True)],
    )
    env = CondaEnv(module)
    try:
        result = env.absent() if module.params["state"] == "absent" else env.present()
    except (EngineError, PathError, PrefixLockError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.strerror or error}: {error.filename or env.path}")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
