#!/usr/bin/python
# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: conda_env_files_info
short_description: Tells which files in a conda environment no package has brought
version_added: 0.1.0
author:
  - crophpc.maskrcnn contributors (@crophpc)
description:
  - Compares the files of a conda environment with those that conda's records and pip's lists name. What is left is what
    people have put there, such as notebooks and weights, and would be lost with the environment.
  - Byte code, and what is in C(conda-meta) and in C(site-packages), does not count.
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
    description: The environment's folder. One that is not there has no files.
    type: path
    required: true
  ignore:
    description: Files and folders, relative to O(prefix), that are known and do not count.
    type: list
    elements: str
    default: []
seealso:
  - module: crophpc.maskrcnn.conda_env_info
"""

EXAMPLES = r"""
- name: See what would be lost with an environment
  crophpc.maskrcnn.conda_env_files_info:
    prefix: /mnt/apps/users/ada/conda/envs/plots
  register: __plots
"""

RETURN = r"""
paths:
  description: Files, and folders with nothing else in them, relative to the environment.
  returned: success
  type: list
  elements: str
  sample: [leaves.ipynb, share/weights]
"""

import os
import posixpath
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import Prefix
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.site_packages import Distribution

# The last is py-rattler's mark for programs that make backups.
NOT_COUNTED = {"conda-meta", "__pycache__", "site-packages", "CACHEDIR.TAG"}


def packaged(prefix: Path) -> set[str]:
    """The files of conda's packages and of pip's."""
    files = {file for record in Prefix(prefix).records.values() for file in record.files}
    for info in prefix.glob("lib/python3*/site-packages/*.dist-info"):
        site = info.parent.relative_to(prefix)
        files |= {posixpath.normpath(f"{site}/{row.path}") for row in Distribution(info).rows or []}
    return files


def strangers(folder: Path, prefix: Path, known: set[str]) -> tuple[list[str], bool]:
    """The paths below a folder that are not ``known``, and whether all that is in the folder is of that kind.

    A folder in which everything is a stranger's is named in place of its contents. Raises OSError.
    """
    found: list[str] = []
    alone = True
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path = str(Path(entry.path).relative_to(prefix))
        if path in known or entry.name in NOT_COUNTED or entry.name.endswith(".pyc"):
            alone = False
        elif entry.is_dir(follow_symlinks=False):
            below, all_of_it = strangers(Path(entry.path), prefix, known)
            found += [path] if all_of_it and below else below
            alone &= all_of_it
        else:
            found.append(path)
    return found, alone


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "path", "required": True},
            "ignore": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    prefix = Path(module.params["prefix"])
    try:
        known = packaged(prefix) | set(module.params["ignore"])
        paths = strangers(prefix, prefix, known)[0] if prefix.is_dir() else []
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(changed=False, paths=paths)


if __name__ == "__main__":
    main()
