#!/usr/bin/python
# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: env_lock_info
short_description: Reads a lock, and tells whether it is one for what is asked for
version_added: 0.1.0
author:
  - crophpc.maskrcnn contributors (@crophpc)
description:
  - Reads a lock, a file in the C(pixi.lock) format, without an engine. It is meant for the controller, where locks are.
  - Fails if the lock is not for the given specs and requirements, if a mirror lacks one of its files, or if it does not
    pin each package to one file by its SHA-256.
requirements:
  - PyYAML and packaging, which every controller has
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
  path:
    description: The lock.
    type: path
    required: true
  platform:
    description: The conda platform for which it is read.
    type: str
    default: linux-64
  specs:
    description:
      - Conda match specs that the lock's packages have to satisfy. Of each the name is compared, and the version where
        it is not one that only conda understands.
    type: list
    elements: str
    default: []
  requirements:
    description:
      - The content of the file of hashed requirements that the lock's part for pip has to be made from. Names and
        versions are compared. What conda brings may be missing.
      - Without it, that part can be anything.
    type: str
  mirror_files:
    description:
      - The files of a mirror with their sums, as the C(files) of its manifest. All of the lock's have to be among them.
      - Without it, no mirror is thought of.
    type: dict
seealso:
  - module: crophpc.maskrcnn.env_lock
  - module: crophpc.maskrcnn.conda_env
"""

EXAMPLES = r"""
- name: Read a lock, if it is for Python 3.6
  crophpc.maskrcnn.env_lock_info:
    path: "{{ inventory_dir }}/locks/tf1-gpu.lock"
    specs: [python=3.6]
  delegate_to: localhost
  register: __lock

- name: Install what it has for pip
  crophpc.maskrcnn.pip_requirements:
    prefix: /mnt/apps/system/maskrcnn/envs/tf1
    requirements: "{{ __lock.requirements }}"
"""

RETURN = r"""
conda:
  description: The conda packages, each with the URL or path of its file, its SHA-256, and its place in a mirror.
  returned: success
  type: list
  elements: dict
  sample:
    - name: pip
      version: 21.3.1
      build: pyhd8ed1ab_0
      url: https://conda.anaconda.org/conda-forge/noarch/pip-21.3.1-pyhd8ed1ab_0.conda
      sha256: e4fe2384b7fe7a7d9b2d0f1f1ee6ca1ef6e0dd9e9fd8b0e2b6cf3ee6ad2d5f1b
      place: channel/noarch/pip-21.3.1-pyhd8ed1ab_0.conda
pip:
  description: The packages for pip, in the same way.
  returned: success
  type: list
  elements: dict
requirements:
  description: The packages for pip as hashed requirements, for M(crophpc.maskrcnn.pip_requirements).
  returned: success
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.crophpc.maskrcnn.plugins.module_utils import lock_file
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.lock_file import Lock, LockFileError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.lock_fit import complaints, lacking
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import WantedError, parse_requirements

SHOWN = 5


def read(params: dict[str, Any]) -> Lock:
    """The lock, if it is one for what is asked for. Raises LockFileError and WantedError."""
    path = params["path"]
    lock = lock_file.read(Path(path).read_text(encoding="utf-8"), path, params["platform"])
    pins = None if params["requirements"] is None else parse_requirements(params["requirements"])
    if wrong := [*complaints(lock, params["specs"], pins)]:
        raise LockFileError(
            f"{path} is not a lock for what is asked for: {_some(wrong)}. Make a new one, or take the one that was "
            "made for this profile and build"
        )
    if params["mirror_files"] is not None and (wrong := [*lacking(lock, params["mirror_files"])]):
        raise LockFileError(f"the mirror is not one for {path}: {_some(wrong)}. Make it for this lock")
    return lock


def _some(lines: list[str]) -> str:
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "; ".join([*lines[:SHOWN], *more])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "platform": {"type": "str", "default": "linux-64"},
            "specs": {"type": "list", "elements": "str", "default": []},
            "requirements": {"type": "str"},
            "mirror_files": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    try:
        lock = read(module.params)
    except (LockFileError, WantedError) as error:
        module.fail_json(msg=str(error))
    except (OSError, UnicodeDecodeError) as error:
        module.fail_json(msg=f"the lock {module.params['path']} cannot be read: {error}")
    else:
        module.exit_json(
            changed=False,
            conda=[file.result() for file in lock.conda],
            pip=[file.result() for file in lock.pip],
            requirements=lock.requirements,
        )


if __name__ == "__main__":
    main()
