#!/usr/bin/python
# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Installs pinned, hashed requirements into a conda env with the env's own pip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pip_requirements
short_description: Installs pinned, hashed requirements into a conda environment
version_added: 0.1.0
author:
  - crophpc.maskrcnn contributors (@crophpc)
description:
  - Brings the packages of a locked requirements file into a conda env with the env's own pip.
  - The list has to be complete. pip resolves nothing, it gets exactly the files whose hashes are in the list.
  - What a conda package brought is left to conda, whatever its version.
    Packages that somebody added and nobody pinned are never touched.
  - What is there is read from the env's files. Its Python is started only if there is something to install.
  - An installation that was interrupted is recognised and finished by the next run.
options:
  prefix:
    description:
      - The folder of the env. It has to be made before, with Python and pip, for example by
        M(crophpc.maskrcnn.conda_env).
    type: path
    required: true
  requirements:
    description:
      - The content of the requirements file.
      - Only lines of the form C(name==version --hash=sha256:...) are accepted, as C(uv pip compile --generate-hashes)
        writes them for one Python and one platform. Lines may be continued with backslashes and hold comments.
    type: str
    required: true
  git:
    description:
      - Packages to install from a git commit instead. The same names in O(requirements) are left out.
      - They are built with what is in the env, so their build needs have to be there.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the package.
        type: str
        required: true
      repo:
        description:
          - The address of the repository, with C(https://), C(http://), C(ssh://), C(git://) or C(file://), or an
            absolute path.
          - No password may be in it.
        type: str
        required: true
      commit:
        description: The full commit ID, 40 digits.
        type: str
        required: true
      subdirectory:
        description: The folder in the repository that has the package.
        type: str
  find_links:
    description:
      - Folders (absolute paths) or pages with wheels, in which to look too.
    type: list
    elements: str
    default: []
  no_index:
    description:
      - Whether to look into O(find_links) only.
      - If V(false), the index settings of the machine (C(pip.conf), C(PIP_INDEX_URL) and the like) hold.
        All its other settings are ignored, since they could change the result.
    type: bool
    default: false
  on_drift:
    description:
      - What to do with a pinned package that is there in another version, or whose files are missing or changed.
      - V(repair) installs what is pinned.
      - V(keep) leaves it as it is and warns. What an interrupted pip left half done is finished all the same.
    type: str
    choices: [repair, keep]
    default: repair
  verify_files:
    description:
      - How closely the files of the pinned packages are compared with the lists that pip keeps of them.
      - V(size) finds missing files and files of another size. V(sha256) reads all of them. V(none) compares nothing.
      - Byte code is not compared, and commands in C(bin) are only required to be there, because they carry the path
        of the env. The same holds for a file that several packages brought.
    type: str
    choices: [none, size, sha256]
    default: size
  conda_packages:
    description:
      - The names of the conda packages that the env is going to have.
      - Only check mode looks at them, and only if the env is not there yet, to tell what will be left to conda.
    type: list
    elements: str
    default: []
  lock_timeout:
    description:
      - How many seconds to wait for another run that is changing the same env.
    type: int
    default: 600
requirements:
  - In the env, Python and pip, 21.3 or newer.
  - For O(git), git on the managed machine.
notes:
  - Run it as the owner of the env. It refuses to start, as root, the Python of another user's env.
  - In check mode an env that does not exist yet, or has no Python yet, counts as empty. What conda is going to bring
    is not known then, unless O(conda_packages) says so.
attributes:
  check_mode:
    support: full
    description: Can run in check_mode and return changed status prediction without modifying target.
  diff_mode:
    support: full
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
  idempotent:
    support: full
    description: What is there as pinned is not touched, and pip is not started.
seealso:
  - module: crophpc.maskrcnn.conda_env
  - module: ansible.builtin.pip
"""

EXAMPLES = r"""
- name: Install what conda does not have
  crophpc.maskrcnn.pip_requirements:
    prefix: /mnt/apps/system/maskrcnn/envs/tf1
    requirements: "{{ lookup('ansible.builtin.file', 'profiles/tf1-gpu.txt') }}"

- name: The same without internet
  crophpc.maskrcnn.pip_requirements:
    prefix: /mnt/apps/system/maskrcnn/envs/tf1
    requirements: "{{ lookup('ansible.builtin.file', 'profiles/tf1-gpu.txt') }}"
    find_links: [/mnt/apps/system/mirror/wheels]
    no_index: true

- name: Take pycocotools from git, and leave alone what somebody upgraded
  crophpc.maskrcnn.pip_requirements:
    prefix: ~/apps/conda/envs/maskrcnn_example
    requirements: "{{ lookup('ansible.builtin.file', 'profiles/tf1-cpu.txt') }}"
    git:
      - name: pycocotools
        repo: https://github.com/philferriere/cocoapi.git
        commit: 2929bd2ef6b451054755dfd7ceb09278f935f7ad
        subdirectory: PythonAPI
    on_drift: keep
"""

RETURN = r"""
plan:
  description: What was done, or would be done in check mode.
  returned: success
  type: dict
  contains:
    installed:
      description: Packages that were not there.
      type: list
      elements: dict
      sample: [{name: keras, version: 2.2.5}]
    removed:
      description: Always empty, because nothing is ever removed.
      type: list
      elements: dict
      sample: []
    changed:
      description: Packages that were there in another version.
      type: list
      elements: dict
      sample: [{name: keras, from: 2.3.1, to: 2.2.5}]
    repaired:
      description: Packages that were installed again because they were damaged.
      type: list
      elements: dict
      sample: [{name: keras, reason: "missing: keras/models.py"}]
left_to_conda:
  description:
    - Requirements that pip left alone because a conda package brought the project.
    - RV(left_to_conda[].found) is only there if something else has replaced what conda brought.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the package.
      type: str
    version:
      description: The version that conda brought.
      type: str
    pin:
      description: The version that is in the requirements.
      type: str
    found:
      description: What is there instead.
      type: str
  sample: [{name: numpy, version: 1.18.5, pin: 1.18.5}]
kept:
  description: Packages that are not as pinned and were left so, with O(on_drift=keep).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the package.
      type: str
    pin:
      description: The version that is in the requirements.
      type: str
    found:
      description: The version that is there.
      type: str
    reason:
      description: How it differs.
      type: str
  sample: [{name: keras, pin: 2.2.5, found: 2.3.1, reason: another version}]
seconds:
  description: How long it took.
  returned: success
  type: float
  sample: 0.21
output:
  description: The last lines of what pip printed.
  returned: when pip failed
  type: list
  elements: str
  sample: ["ERROR: No matching distribution found for keras==2.2.5"]
"""

import os
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_prefix import (
    Pip,
    PipError,
    PipPrefix,
    Survey,
    Surveyor,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import (
    Wanted,
    WantedError,
    canonical_name,
    parse_find_links,
    parse_git,
    parse_requirements,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import PrefixLockError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.site_packages import PrefixError

ARGUMENTS = {
    "prefix": {"type": "path", "required": True},
    "requirements": {"type": "str", "required": True},
    "git": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "repo": {"type": "str", "required": True},
            "commit": {"type": "str", "required": True},
            "subdirectory": {"type": "str"},
        },
    },
    "find_links": {"type": "list", "elements": "str", "default": []},
    "no_index": {"type": "bool", "default": False},
    "on_drift": {"type": "str", "choices": ["repair", "keep"], "default": "repair"},
    "verify_files": {"type": "str", "choices": ["none", "size", "sha256"], "default": "size"},
    "conda_packages": {"type": "list", "elements": "str", "default": []},
    "lock_timeout": {"type": "int", "default": 600},
}


class PipRequirements:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.env = self._env()

    def run(self) -> None:
        started = time.monotonic()
        survey = self.env.preview() if self.module.check_mode else self.env.apply(self.params["lock_timeout"])
        self._warn(survey)
        result = {
            "changed": bool(survey.plan),
            "plan": survey.plan.result(),
            "left_to_conda": survey.left_to_conda,
            "kept": survey.kept,
            "seconds": round(time.monotonic() - started, 2),
        }
        if self.module._diff:
            result["diff"] = survey.plan.diff(f"pip packages in {self.env.prefix}")
        self.module.exit_json(**result)

    def _env(self) -> PipPrefix:
        """All that is wrong with the options themselves is found here, before anything is looked at."""
        prefix = Path(os.path.normpath(self.params["prefix"]))
        if not prefix.is_absolute():
            raise WantedError(f"prefix: {prefix} is not an absolute path")
        links = parse_find_links(self.params["find_links"])
        return PipPrefix(
            prefix,
            Surveyor(
                self._wanted(),
                self.params["on_drift"],
                self.params["verify_files"],
                frozenset(map(canonical_name, self.params["conda_packages"])),
            ),
            Pip(prefix, Path(self.module.tmpdir), links, self.params["no_index"]),
        )

    def _wanted(self) -> list[Wanted]:
        git = parse_git(self.params["git"])
        replaced = {pin.name for pin in git}
        return [*(pin for pin in parse_requirements(self.params["requirements"]) if pin.name not in replaced), *git]

    def _warn(self, survey: Survey) -> None:
        for entry in survey.kept:
            self.module.warn(
                "{name} is not as pinned ({reason}): {found} is there, {pin} is wanted; "
                "kept because of on_drift=keep".format(**entry)
            )
        for entry in survey.left_to_conda:
            if "found" in entry:
                self.module.warn(
                    "conda brought {name} {version}, but {found} is there: let conda_env repair it with "
                    "verify_files".format(**entry)
                )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        PipRequirements(module).run()
    except PipError as error:
        module.fail_json(msg=str(error), output=error.output)
    except (WantedError, PrefixError, PrefixLockError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{module.params['prefix']}: {error}")


if __name__ == "__main__":
    main()
