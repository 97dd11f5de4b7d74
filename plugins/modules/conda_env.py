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
    description: Whether the environment is to be there or not.
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
  write_lock:
    description: Write the solution to this file on the target, in the C(pixi.lock) format.
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
    description: Ignore packages that are newer than this day or time, in ISO 8601.
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
    type: str
    choices: [none, size, sha256]
    default: size
  on_drift:
    description:
      - What to do about packages that somebody has damaged, removed, or replaced by other versions since the last run.
        V(keep) leaves them and says so.
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
import re
import resource
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.crophpc.maskrcnn.plugins.module_utils import byte_code, registry
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.engine import Engine, EngineError, SolveOptions, Wanted
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.path_checks import (
    PathError,
    check_prefix,
    check_space,
    check_writable,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package, Plan
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import SOLUTION, Prefix, Stamp
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import PrefixLockError, prefix_lock


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
            return self.result(*self.plan())
        made = not self.prefix.is_env
        with ExitStack() as stack:
            self.prefix.meta.mkdir(parents=True, exist_ok=True)
            self.engine.lock_fd = stack.enter_context(prefix_lock(self.path, timeout=self.params["lock_timeout"]))
            self.prefix = Prefix(self.path)  # read again: another run may just have finished
            try:
                return self.bring_about()
            except (EngineError, PathError):
                if made and not Prefix(self.path).records:
                    shutil.rmtree(self.path)  # nothing was linked: leave no trace
                raise

    def check_input(self) -> None:
        """Raises PathError or EngineError for what can be seen to be wrong before anything is done."""
        check_prefix(self.path)
        check_writable(self.path)
        check_writable(self.cache)
        python = Path(self.params["engine_python"])
        if not python.is_file():
            raise EngineError("engine", f"there is no engine at {python}; the role conda_engine makes it")
        for spec in self.params["specs"] or []:
            if not re.match(r"[\w.*:/-]", spec) or spec.startswith("-"):
                raise EngineError("spec", f"{spec!r} is not a conda match spec")
        lock = self.params["lock"]
        if lock and not Path(lock).is_file():
            raise EngineError("lock", f"there is no lock {lock}")
        self.engine = Engine(
            python, self.workdir, self.cache / "pkgs", offline=self.params["offline"], platform=self.params["platform"]
        )
        if self.params["log"] and not self.module.check_mode:
            self.engine.log = Path(self.params["log"])
            self.engine.log.parent.mkdir(parents=True, exist_ok=True)

    def bring_about(self) -> dict[str, Any]:
        """Plans and carries the plan out, with the prefix locked."""
        plan, kept, wanted = self.plan()
        stamp = self.prefix.stamp()
        names = {w.package.name: f"{w.package.version} {w.package.build}" for w in wanted}
        done = Stamp(self.key, True, names, sorted(names))
        if plan or self.prefix.broken:
            self.check_space(plan, wanted)
            self.prefix.write_stamp(Stamp(self.key, False, names, sorted({*stamp.owned, *names})))
            started = time.monotonic()
            self.link(plan, kept)
            self.times["link_seconds"] = round(time.monotonic() - started, 2)
            self.check_outcome(wanted, kept)
        result = self.result(plan, kept, wanted)
        if stamp != done:
            self.prefix.write_stamp(done)
        if self.solution.exists():
            shutil.copyfile(self.solution, self.prefix.meta / SOLUTION)
        result["changed"] |= self.write_lock() | registry.add(self.path)
        return result

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
        return SolveOptions(**{name: self.params[name] for name in vars(SolveOptions([]))})

    def wanted(self) -> list[Wanted]:
        """The packages that are to be there, from the lock, from the last run's own solution, or from the solver."""
        started = time.monotonic()
        stamp = self.prefix.stamp()
        stored = self.prefix.meta / SOLUTION
        if self.params["lock"]:
            shutil.copyfile(self.params["lock"], self.solution)
        elif stamp.key == self.key and stored.is_file() and not self.params["update"]:
            shutil.copyfile(stored, self.solution)
        if self.solution.exists():
            wanted = self.engine.read_lock(self.solution)
        else:
            repodata = self.cache / "repodata"
            if self.module.check_mode and not self.params["offline"]:
                repodata = self.workdir / "repodata"
            wanted = self.engine.solve(
                self.params["specs"],
                self.options,
                self.path,
                self.solution,
                repodata_cache=repodata,
                keep_versions=not (self.params["update"] or self.prefix.broken),
            )
        self.times["solve_seconds"] = round(time.monotonic() - started, 2)
        return wanted

    def plan(self) -> tuple[Plan, dict[str, str], list[Wanted]]:
        """The plan, what is not as wanted but to be kept (name to reason), and what is wanted."""
        stamp = self.prefix.stamp()
        before = self.prefix.packages
        if stamp.finished and stamp.key == self.key and not self.params["update"] and self.untouched(stamp):
            damage = self.prefix.damage(self.params["verify_files"])
            if not damage and not self.params["write_lock"]:
                return (
                    Plan(before, before),
                    {},
                    [Wanted(p, "", None, 0) for n, p in before.items() if n in stamp.packages],
                )
        wanted = self.wanted()
        after = {w.package.name: w.package for w in wanted}
        if not self.params["prune"]:
            after |= {name: p for name, p in before.items() if name not in after and name not in stamp.owned}
        # Of an unfinished env nothing is trusted.
        unfinished = bool(stamp.key) and not stamp.finished
        verify = "size" if unfinished and self.params["verify_files"] == "none" else self.params["verify_files"]
        damage = {n: words for n, words in self.prefix.damage(verify).items() if before[n] == after.get(n)}
        plan = Plan(before, after, damage)
        kept: dict[str, str] = {}
        if self.params["on_drift"] == "keep" and stamp.finished and stamp.key == self.key:
            kept = self.keep_drift(plan)
        return plan, kept, wanted

    def untouched(self, stamp: Stamp) -> bool:
        """Whether every package is there in the version and build that the last run left."""
        have = {name: f"{p.version} {p.build}" for name, p in self.prefix.packages.items()}
        extra = have.keys() - stamp.packages.keys()
        return (
            stamp.packages.items() <= have.items() and not (extra and self.params["prune"]) and not self.prefix.broken
        )

    @staticmethod
    def keep_drift(plan: Plan) -> dict[str, str]:
        """Takes what users have done since the last run out of the plan and returns it: name to what was done."""
        kept = dict(plan.repaired)
        kept |= {b.name: f"{b} is there instead of {a}" for b, a in plan.changed}
        kept |= {p.name: "removed" for p in plan.installed}
        plan.repaired = {}
        plan.after = dict(plan.before)
        return kept

    def check_space(self, plan: Plan, wanted: list[Wanted]) -> None:
        linked = {p.name for p in plan.installed} | {after.name for _before, after in plan.changed} | {*plan.repaired}
        sizes = {w: w.size for w in wanted if w.package.name in linked}
        absent = [w for w in sizes if not (self.engine.package_cache / _folder(w.package)).is_dir()]
        check_space(self.path, self.engine.package_cache, sum(w.size for w in absent), sum(sizes.values()))

    def link(self, plan: Plan, kept: dict[str, str]) -> None:
        """Lets the engine carry out the plan and compiles what it linked."""
        for path in self.prefix.broken:
            path.unlink()
        for name in plan.repaired:
            if name in self.prefix.replaced_by_pip:
                byte_code.remove_distribution(self.prefix.replaced_by_pip[name], self.path)
        extra = plan.after.keys() - {w.package.name for w in self.engine.read_lock(self.solution)}
        self.engine.install(
            self.solution,
            self.path,
            specs=self.params["specs"] or [],
            reinstall=sorted(plan.repaired),
            ignored=sorted(extra | kept.keys()),
        )
        self.prefix = Prefix(self.path)
        self.prefix.share_records()
        byte_code.compile_packages(self.prefix)

    def check_outcome(self, wanted: list[Wanted], kept: dict[str, str]) -> None:
        """Raises EngineError if the env is not what it should be."""
        have = self.prefix.packages
        wrong = [str(w.package) for w in wanted if w.package.name not in kept and have.get(w.package.name) != w.package]
        wrong += [f"{n} ({words})" for n, words in self.prefix.damage("size").items() if n not in kept]
        if wrong:
            raise EngineError("engine", f"after linking, {self.path} still lacks: {', '.join(wrong)}; run again")

    def write_lock(self) -> bool:
        """Writes the solution where the user wants it; whether that changed the file."""
        if not self.params["write_lock"]:
            return False
        target = Path(self.params["write_lock"])
        content = (self.prefix.meta / SOLUTION).read_bytes()
        if target.is_file() and target.read_bytes() == content:
            return False
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(content)
        part.replace(target)
        return True

    def result(self, plan: Plan, kept: dict[str, str], wanted: list[Wanted]) -> dict[str, Any]:
        extra = sorted(plan.after.keys() - {w.package.name for w in wanted} - kept.keys())
        for name, words in sorted(kept.items()):
            self.module.warn(f"{self.path}: {name} is kept as it is: {words}")
        memory = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        result: dict[str, Any] = {
            "changed": bool(plan),
            "prefix": str(self.path),
            "plan": plan.result(),
            "extra": extra,
            "packages": len(plan.after),
            "peak_mb": sum(memory) // 1024,
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
        before = self.prefix.packages
        plan = Plan(before, {})
        result = {"changed": False, "prefix": str(self.path), "plan": plan.result(), "diff": plan.diff(str(self.path))}
        if self.path.is_symlink() or self.path.exists():
            check_prefix(self.path)
            if not self.prefix.is_env:
                return result | {"changed": self.remove_empty()}
            check_writable(self.path)
            result["changed"] = True
            if not self.module.check_mode:
                with prefix_lock(self.path, timeout=self.params["lock_timeout"]):
                    self.remove_tree()
        if not self.module.check_mode:
            result["changed"] |= registry.remove(self.path)
        return result

    def remove_empty(self) -> bool:
        if not self.module.check_mode:
            self.path.rmdir()
        return True

    def remove_tree(self) -> None:
        for entry in self.path.iterdir():
            if entry == self.prefix.meta:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        shutil.rmtree(self.path)


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
            "write_lock": {"type": "path"},
            "update": {"type": "bool", "default": False},
            "prune": {"type": "bool", "default": False},
            "package_cache": {"type": "path", "default": "~/.cache/crophpc"},
            "offline": {"type": "bool", "default": False},
            "exclude_newer": {"type": "str"},
            "channel_priority": {"type": "str", "choices": ["strict", "disabled"], "default": "strict"},
            "virtual_packages": {"type": "dict", "default": {}},
            "platform": {"type": "str", "default": "linux-64"},
            "verify_files": {"type": "str", "choices": ["none", "size", "sha256"], "default": "size"},
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
