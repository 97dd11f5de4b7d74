#!/usr/bin/python
# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: conda_env_info
short_description: Tells what is in a conda environment, and whether it is whole
version_added: 0.1.0
author:
  - crophpc.maskrcnn contributors (@crophpc)
description:
  - Reads a conda environment's files. It starts neither its Python nor a conda, and needs no engine.
  - Of a prefix that is not there yet it tells whether one could be made there.
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: N/A
    description: It changes nothing.
  idempotent:
    support: full
    description: It changes nothing.
options:
  prefix:
    description: The environment's folder.
    type: path
    required: true
  verify_files:
    description: How closely to look for damage, as in M(crophpc.maskrcnn.conda_env).
    type: str
    choices: [none, size, sha256]
    default: none
seealso:
  - module: crophpc.maskrcnn.conda_env
"""

EXAMPLES = r"""
- name: Look at an environment, every file of it
  crophpc.maskrcnn.conda_env_info:
    prefix: /mnt/apps/users/ada/conda/envs/maskrcnn_example
    verify_files: sha256
  register: __env

- name: Say what is wrong with it
  ansible.builtin.debug:
    var: __env.damaged
"""

RETURN = r"""
exists:
  description: Whether the prefix is a conda environment, be it only begun.
  returned: always
  type: bool
problem:
  description: Why the prefix can be neither made nor changed by this user, and what to do. Empty where it can.
  returned: always
  type: str
status:
  description:
    - V(absent), V(finished), V(unfinished) when a run of M(crophpc.maskrcnn.conda_env) did not end, or V(foreign)
      when the environment was made by other means.
  returned: always
  type: str
key:
  description: A hash of what the last run was asked for. Empty for foreign environments.
  returned: always
  type: str
packages:
  description: The conda packages by name.
  returned: always
  type: dict
  sample: {numpy: {name: numpy, version: 1.18.5, build: py36h7314795_0}}
damaged:
  description: Packages whose files are missing or changed, with what is wrong.
  returned: always
  type: dict
  sample: {numpy: "3 files missing, e.g. bin/f2py"}
python:
  description: The version of the environment's Python. Empty where it has none.
  returned: always
  type: str
site_packages:
  description: The folder of the environment's Python packages. Empty where it has no Python.
  returned: always
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.path_checks import (
    PathError,
    check_prefix,
    check_writable,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import VERIFY, Prefix


def problem(path: Path) -> str:
    """Why the path cannot become or stay an env of this user's; empty where it can."""
    try:
        check_prefix(path)
        check_writable(path)
    except PathError as error:
        return str(error)
    return ""


def info(path: Path, verify: str) -> dict[str, Any]:
    """What RETURN describes."""
    prefix = Prefix(path)
    stamp = prefix.stamp()
    damaged = prefix.damage(verify) | {file.name: "its record cannot be read" for file in prefix.broken}
    if not prefix.is_env:
        status = "absent"
    elif not stamp.key:
        status = "foreign" if (prefix.meta / "history").is_file() else "unfinished"
    else:
        status = "finished" if stamp.finished else "unfinished"
    python = prefix.packages.get("python")
    return {
        "exists": prefix.is_env,
        "problem": problem(path),
        "status": status,
        "key": stamp.key,
        "packages": {name: package.result() for name, package in prefix.packages.items()},
        "damaged": damaged,
        "python": python.version if python else "",
        "site_packages": str(prefix.site_packages or ""),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "path", "required": True},
            "verify_files": {"type": "str", "choices": list(VERIFY), "default": "none"},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **info(Path(module.params["prefix"]), module.params["verify_files"]))


if __name__ == "__main__":
    main()
