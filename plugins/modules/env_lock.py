#!/usr/bin/python
# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: env_lock
short_description: Finds out exactly which files an environment is to be made of
version_added: 0.1.0
author:
  - crophpc.maskrcnn contributors (@crophpc)
description:
  - Solves conda match specs, chooses the files for pip's hashed requirements, and returns both as a lock in the
    C(pixi.lock) format, every file with its URL and its SHA-256.
  - Neither an environment nor a file is made. To keep the lock, write RV(content) to a file.
  - The same packages in the same places give the same lock, byte for byte.
requirements:
  - a Python 3.10 or newer with py-rattler and packaging, as the role P(crophpc.maskrcnn.conda_engine#role) makes it
attributes:
  check_mode:
    support: full
    description: Gives the same lock. Repodata goes to a temporary folder.
  diff_mode:
    support: full
    description: Shows all packages of O(current) and of the new lock, conda's and pip's.
  idempotent:
    support: full
    description: RV(ignore:changed) tells whether the lock differs from O(current).
options:
  engine_python:
    description: The Python that has py-rattler.
    type: path
    required: true
  specs:
    description: The conda match specs to solve. The newest packages that they allow are taken.
    type: list
    elements: str
    required: true
  channels:
    description: Where packages come from, the most wanted first, as in M(crophpc.maskrcnn.conda_env).
    type: list
    elements: str
    default: [conda-forge]
  channel_priority:
    description: Whether a package is taken only from the first channel that has it.
    type: str
    choices: [strict, disabled]
    default: strict
  exclude_newer:
    description: Ignore packages that are newer than this day or time, as in M(crophpc.maskrcnn.conda_env).
    type: str
  virtual_packages:
    description: Virtual packages to assume, name to version, as in M(crophpc.maskrcnn.conda_env).
    type: dict
    default: {}
  platform:
    description: The conda platform to solve for.
    type: str
    default: linux-64
  package_cache:
    description: The folder for repodata, as in M(crophpc.maskrcnn.conda_env).
    type: path
    default: ~/.cache/crophpc
  offline:
    description: Ask no conda channel on the network. What is not in O(package_cache) has to be in a local channel.
    type: bool
    default: false
  requirements:
    description:
      - The content of a file of hashed requirements, as M(crophpc.maskrcnn.pip_requirements) takes it.
      - Of the files that its hashes allow, the lock gets the one that pip would choose for the Python of the
        environment on this machine. What conda brings is left out.
    type: str
    default: ""
  find_links:
    description: Folders (absolute paths) or pages with sums of their files in their links, in which to look too.
    type: list
    elements: str
    default: []
  no_index:
    description:
      - Whether to look into O(find_links) only.
      - If V(false), the index settings of the machine's pip hold.
    type: bool
    default: false
  current:
    description: The content of the lock that there is now, to compare with. Empty if there is none.
    type: str
    default: ""
seealso:
  - module: crophpc.maskrcnn.conda_env
  - module: crophpc.maskrcnn.env_lock_info
  - module: crophpc.maskrcnn.pip_requirements
"""

EXAMPLES = r"""
- name: Solve
  crophpc.maskrcnn.env_lock:
    engine_python: /mnt/apps/system/maskrcnn/engine/bin/python
    specs: [python=3.6.12, numpy=1.18.5]
    requirements: "{{ lookup('ansible.builtin.file', 'profiles/tf1-gpu.txt') }}"
    virtual_packages: {__cuda: "12.7"}
  register: __lock

- name: Keep the lock on the controller
  ansible.builtin.copy:
    content: "{{ __lock.content }}"
    dest: "{{ inventory_dir }}/locks/tf1-gpu.lock"
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
content:
  description: The lock.
  returned: success
  type: str
conda:
  description: How its conda packages differ from those of O(current), as RV(crophpc.maskrcnn.conda_env#module:plan).
  returned: success
  type: dict
  sample: {installed: [], removed: [], changed: [{name: numpy, from: 1.18.4 0, to: 1.18.5 0}], repaired: []}
pip:
  description: How its packages for pip differ from those of O(current), with the names of their files.
  returned: success
  type: dict
  sample: {installed: [{name: six, version: 1.16.0, build: six-1.16.0-py2.py3-none-any.whl}], removed: [], changed: [],
    repaired: []}
solve_seconds:
  description: Time to find out what is wanted.
  returned: success
  type: float
"""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.engine import (
    Engine,
    EngineError,
    SolveOptions,
    repodata_folder,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_index import PipIndex, PipIndexError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_prefix import PipError, machine_settings
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import (
    WantedError,
    brought_by_conda,
    canonical_name,
    parse_find_links,
    parse_requirements,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package, Plan


class EnvLock:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.workdir = Path(module.tmpdir)
        self.python = Path(self.params["engine_python"])
        self.cache = Path(self.params["package_cache"])
        self.lock = self.workdir / "pixi.lock"
        self.pins = parse_requirements(self.params["requirements"])
        self.links = parse_find_links(self.params["find_links"])

    def run(self) -> dict[str, Any]:
        self.engine = Engine(
            self.python,
            self.workdir,
            self.cache / "pkgs",
            offline=self.params["offline"],
            platform=self.params["platform"],
        )
        with closing(self.engine):
            before = self.current()
            started = time.monotonic()
            self.solve()
            after = self.packages(self.lock)
        return self.result(before, after) | {"solve_seconds": round(time.monotonic() - started, 2)}

    def current(self) -> tuple[dict[str, Package], dict[str, Package]]:
        if not self.params["current"]:
            return {}, {}
        current = self.workdir / "current.lock"
        current.write_text(self.params["current"], encoding="utf-8")
        return self.packages(current, "the current lock")

    def packages(self, lock: Path, name: str = "the new lock") -> tuple[dict[str, Package], dict[str, Package]]:
        """conda's packages and pip's, by their names."""
        conda = [wanted.package for wanted in self.engine.read_lock(lock, name)]
        pip = self.engine.read_pip(lock, name)
        return {package.name: package for package in conda}, {package.name: package for package in pip}

    def solve(self) -> None:
        wanted = self.engine.solve(
            self.params["specs"],
            SolveOptions.of(self.params),
            self.workdir / "no-env",
            self.lock,
            repodata_cache=repodata_folder(
                self.cache, self.workdir, check=self.module.check_mode, offline=self.params["offline"]
            ),
            keep_versions=False,
        )
        conda = {canonical_name(w.package.name) for w in wanted}
        pins = [pin for pin in self.pins if not brought_by_conda(pin.name, conda)]
        if pins:
            settings = {} if self.params["no_index"] else machine_settings(self.python, self.workdir)
            self.engine.add_pip(self.lock, PipIndex(self.links, self.params["no_index"], settings).find(pins))

    def result(
        self,
        before: tuple[dict[str, Package], dict[str, Package]],
        after: tuple[dict[str, Package], dict[str, Package]],
    ) -> dict[str, Any]:
        content = self.lock.read_text(encoding="utf-8")
        conda, pip = (Plan(*pair) for pair in zip(before, after, strict=True))
        changed = content != self.params["current"]
        result = {"changed": changed, "content": content, "conda": conda.result(), "pip": pip.result()}
        if changed and not conda and not pip:
            result["msg"] = "The packages stay the same; only what the lock says of them changes, such as their places."
        if self.module._diff:
            result["diff"] = [conda.diff("conda packages of the lock"), pip.diff("pip packages of the lock")]
        return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "engine_python": {"type": "path", "required": True},
            "specs": {"type": "list", "elements": "str", "required": True},
            "channels": {"type": "list", "elements": "str", "default": ["conda-forge"]},
            "channel_priority": {"type": "str", "choices": ["strict", "disabled"], "default": "strict"},
            "exclude_newer": {"type": "str"},
            "virtual_packages": {"type": "dict", "default": {}},
            "platform": {"type": "str", "default": "linux-64"},
            "package_cache": {"type": "path", "default": "~/.cache/crophpc"},
            "offline": {"type": "bool", "default": False},
            "requirements": {"type": "str", "default": ""},
            "find_links": {"type": "list", "elements": "str", "default": []},
            "no_index": {"type": "bool", "default": False},
            "current": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        result = EnvLock(module).run()
    except (EngineError, PipError, PipIndexError, WantedError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.strerror or error}: {error.filename or module.tmpdir}")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
