#!/usr/bin/python
# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: env_replicas
short_description: Gives each of many users a conda environment of their own, made from one template
version_added: 0.1.0
author:
  - crophpc.maskrcnn contributors (@crophpc)
description:
  - Makes, updates and removes replicas of one finished environment, all users in one call.
  - In a replica, folders belong to the user and files are hard links to the template's, which only root can change. The
    user can install, upgrade and remove packages in it; to the other users nothing happens. Files with the
    environment's path in them are files of its own, with its own path.
  - Where files cannot be linked, because it is another filesystem, one without hard links, or one on which root has no
    rights (NFS with root_squash), they are copied by a process that is the user. Where the filesystem can share their
    blocks, it does.
  - A replica is built in a folder that its user cannot enter, and put in its place in one rename. Nothing below a
    user's folder is reached through a link.
  - What fails for one user does not stop the others. The module fails in the end if any has failed.
attributes:
  check_mode:
    support: full
    description: Compares what is there with the template as it stands.
  diff_mode:
    support: full
    description: Shows every user's packages before and after, users with the same ones together.
  idempotent:
    support: full
    description: A replica that was made from what the template is now is left alone.
options:
  template:
    description:
      - The environment to make replicas of, in a place that only the user who runs the module can write to.
      - Everybody is given the right to read it.
      - Required for O(state=present). For O(state=absent) it keeps other runs with the same template waiting.
    type: path
  users:
    description: The users' names. One that is given twice counts once.
    type: list
    elements: str
    required: true
  users_dir:
    description: The folder with one folder for each user; one that is missing is made.
    type: path
    default: /mnt/apps/users
  name:
    description: The environment's name. Its folder is C(conda/envs) and this, below the user's folder.
    type: str
    required: true
  own:
    description: Folders in the environment whose files are the user's to change. Once they have, an update leaves such
      a folder as it is.
    type: list
    elements: str
    default: [include/Mask_RCNN]
  state:
    description:
      - Whether the users are to have it or not.
      - Files that a user has made in it, such as weights, or a changed folder of O(own), are never removed but moved to
        a folder beside C(conda).
    type: str
    choices: [present, absent]
    default: present
  on_changes:
    description: What to do about a replica in which its user has installed, changed or removed something, V(keep) it as
      it is or V(replace) it. Files in O(own) do not count.
    type: str
    choices: [keep, replace]
    default: keep
  keep_old_days:
    description:
      - For how many days to keep, hidden, what an update has replaced. Programs that run from it go on then, also on
        other nodes of an NFS, where files that are removed are lost to whoever has them open.
      - What is older is removed by the next run.
    type: float
    default: 15
  kernel_users:
    description: Those of O(users) who get a Jupyter kernel spec for it in their home.
    type: list
    elements: str
    default: []
  home_link:
    description: The name of a link to the user's folder, made in the user's home where nothing has that name. Empty for
      none.
    type: str
    default: apps
  template_will_change:
    description: For a true plan in check mode, whether the template is going to be changed; users then get an update.
      Without check mode it means nothing.
    type: bool
    default: false
  lock_timeout:
    description: How many seconds to wait for another run on the same template.
    type: int
    default: 600
seealso:
  - module: crophpc.maskrcnn.conda_env
"""

EXAMPLES = r"""
- name: Give two users the environment
  crophpc.maskrcnn.env_replicas:
    template: /mnt/apps/system/maskrcnn/template/maskrcnn_example
    users: [ada, grace]
    name: maskrcnn_example

- name: Take it from one of them
  crophpc.maskrcnn.env_replicas:
    users: [ada]
    name: maskrcnn_example
    state: absent
"""

RETURN = r"""
users:
  description: What became of each user's replica.
  returned: always
  type: list
  elements: dict
  contains:
    user:
      description: The user's name.
      type: str
    prefix:
      description: The replica's folder.
      type: str
    status:
      description: One of C(created), C(updated), C(unchanged), C(kept) (the user has changed it), C(removed),
        C(absent), C(failed).
      type: str
    how:
      description: How files were made, one of C(link), C(reflink), C(copy). Empty where none were.
      type: str
    reason:
      description: Why it failed or was kept.
      type: str
    added:
      description: What the user has installed, changed or removed in it.
      type: list
      elements: str
    kept:
      description: What the user has made and where it is now, or the folders of O(own) that were left as they are.
      type: list
      elements: str
    notes:
      description: What else could not be done.
      type: list
      elements: str
seconds:
  description: How long all replicas took together.
  returned: always
  type: float
"""

import gc
import multiprocessing
import os
import re
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.as_user import die_with_parent
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.at_once import processors
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.env_manifest import MANIFEST, Manifest, ManifestError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.path_checks import (
    PathError,
    check_prefix,
    check_roots_way,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import Prefix
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import PrefixLockError, prefix_lock
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.replica import Template
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.template_reader import TemplateError, read_template
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.user_replica import Outcome, UserReplica, Wish

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
SECONDS_A_DAY = 86400


class EnvReplicas:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.manifests: dict[tuple[int, int], Manifest] = {}

    def run(self) -> dict[str, Any]:
        """All users' replicas. Raises PathError, TemplateError, PrefixLockError, OSError before any is touched."""
        started = time.monotonic()
        self.check_input()
        os.umask(0o022)  # replicas are to be used by programs of others, such as Slurm's
        with ExitStack() as stack:
            template = None
            if self.params["state"] == "present":
                template = self.template(stack)
            elif self.params["template"] and not self.module.check_mode:
                self.lock(Prefix(Path(self.params["template"])), stack)
            outcomes = self.all_users(template)
        return self.result(outcomes) | {"seconds": round(time.monotonic() - started, 3)}

    def all_users(self, template: Template | None) -> list[Outcome]:
        """What became of every user, several at a time: on an NFS most of the time is waiting."""
        users = [*dict.fromkeys(self.params["users"])]
        wish = self.wish()
        workers = min(len(users), max(4, len(os.sched_getaffinity(0))))
        if workers < 2:  # noqa: PLR2004 - one needs no company
            wish = replace(wish, threads=processors())
            return [UserReplica(user, wish, self.manifests).run(template) for user in users]
        from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415 - slow, and a single user needs none

        # What is passed to the first call of a forked process is not copied; the template is large.
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(workers, fork, _begin, (wish, self.manifests, template)) as pool:
            return [*pool.map(_one_user, users)]

    def wish(self) -> Wish:
        return Wish(
            users_dir=Path(self.params["users_dir"]),
            name=self.params["name"],
            on_changes=self.params["on_changes"],
            keep_seconds=self.params["keep_old_days"] * SECONDS_A_DAY,
            kernel_users=frozenset(self.params["kernel_users"]),
            home_link=self.params["home_link"],
            check=self.module.check_mode,
            update=self.params["template_will_change"] and self.module.check_mode,
        )

    def check_input(self) -> None:
        if not NAME.fullmatch(self.params["name"]):
            raise PathError(f"name {self.params['name']} is no name for a conda environment")
        users_dir = Path(self.params["users_dir"])
        if not users_dir.is_absolute() or not users_dir.is_dir():
            raise PathError(f"users_dir {users_dir} is not a folder; make it, owned by root, or correct the path")
        if os.geteuid() == 0:
            check_roots_way(users_dir)
            check_roots_way(users_dir.resolve())
        for folder in self.params["own"]:
            if not folder or folder.startswith("/") or {"", ".", ".."} & set(folder.split("/")):
                raise PathError(f"own: {folder!r} is not a path below the environment")
        if self.params["home_link"] in (".", "..") or "/" in self.params["home_link"]:
            raise PathError(f"home_link {self.params['home_link']} is not a name in a home")
        strangers = set(self.params["kernel_users"]) - set(self.params["users"])
        if strangers:
            raise PathError(f"kernel_users: {', '.join(sorted(strangers))} not among users")

    def template(self, stack: ExitStack) -> Template:
        """The template, locked until ``stack`` ends; in check mode an empty one where there is none yet."""
        path = Path(self.params["template"])
        check_prefix(path)
        prefix = Prefix(path)
        check = self.module.check_mode
        if check and not prefix.is_env:
            return Template(path, Manifest(str(path), tuple(self.params["own"]), []), b"")
        if os.geteuid() == 0:
            check_roots_way(path)
        if not check:
            if not prefix.is_env:
                raise TemplateError(f"there is no environment in {path}; make it with conda_env")
            self.lock(prefix, stack)
        if not prefix.stamp().finished and not check:
            raise TemplateError(f"the environment in {path} is not finished; make it with conda_env first")
        return Template(path, *self.manifest(prefix))

    def lock(self, prefix: Prefix, stack: ExitStack) -> None:
        """Locks a template until ``stack`` ends: one run at a time gives and takes its replicas."""
        if prefix.is_env:
            stack.enter_context(prefix_lock(prefix.path, timeout=self.params["lock_timeout"]))

    def manifest(self, prefix: Prefix) -> tuple[Manifest, bytes]:
        """What is in the template now, and the file that says so, written anew where it said something else."""
        file = prefix.meta / MANIFEST
        known, content = None, b""
        with suppress(FileNotFoundError, ManifestError):
            content = file.read_bytes()
            known = Manifest.load(content)
        manifest = read_template(prefix.path, self.params["own"], known, mend=not self.module.check_mode)
        if manifest is not known:
            content = manifest.dump()
            if not self.module.check_mode:
                part = file.with_name(f"{MANIFEST}.part")
                part.write_bytes(content)
                part.chmod(0o644)
                part.replace(file)
        with suppress(FileNotFoundError):
            status = file.stat()
            if manifest is known or not self.module.check_mode:
                self.manifests[status.st_dev, status.st_ino] = manifest
        return manifest, content

    def result(self, outcomes: list[Outcome]) -> dict[str, Any]:
        users = []
        for outcome in outcomes:
            shown = dict(vars(outcome))
            for internal in ("before", "after", "changed"):
                del shown[internal]
            users.append(shown)
        failed = [outcome for outcome in outcomes if outcome.status == "failed"]
        result: dict[str, Any] = {
            "changed": any(outcome.changed for outcome in outcomes),
            "users": users,
            "diff": [_diff(group) for group in _groups(outcomes)],
        }
        if failed:
            result["failed"] = True
            result["msg"] = "; ".join(f"{outcome.user}: {outcome.reason}" for outcome in failed)
        return result


_shared: tuple[Wish, dict[tuple[int, int], Manifest], Template | None]


def _begin(*shared: Any) -> None:
    """In a worker: takes what is the same for all users."""
    global _shared  # noqa: PLW0603 - there is no other place in a worker of a pool
    die_with_parent()
    _shared = shared


def _one_user(user: str) -> Outcome:
    wish, manifests, template = _shared
    return UserReplica(user, wish, manifests).run(template)


def _groups(outcomes: list[Outcome]) -> list[list[Outcome]]:
    """Users to whom the same happens, together."""
    groups: dict[tuple[Any, ...], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.status in ("created", "updated", "removed"):
            key = (outcome.status, tuple(sorted(outcome.before.items())), tuple(sorted(outcome.after.items())))
            groups.setdefault(key, []).append(outcome)
    return list(groups.values())


def _diff(group: list[Outcome]) -> dict[str, str]:
    names = ", ".join(outcome.user for outcome in group)
    header = f"{names} ({group[0].status})"
    return {
        "before_header": header,
        "after_header": header,
        "before": "".join(f"{name} {build}\n" for name, build in sorted(group[0].before.items())),
        "after": "".join(f"{name} {build}\n" for name, build in sorted(group[0].after.items())),
    }


def main() -> None:
    # A manifest is some 30,000 small objects that live to the end: looking for garbage takes a tenth of the time.
    gc.disable()
    module = AnsibleModule(
        argument_spec={
            "template": {"type": "path"},
            "users": {"type": "list", "elements": "str", "required": True},
            "users_dir": {"type": "path", "default": "/mnt/apps/users"},
            "name": {"type": "str", "required": True},
            "own": {"type": "list", "elements": "str", "default": ["include/Mask_RCNN"]},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "on_changes": {"type": "str", "choices": ["keep", "replace"], "default": "keep"},
            "keep_old_days": {"type": "float", "default": 15},
            "kernel_users": {"type": "list", "elements": "str", "default": []},
            "home_link": {"type": "str", "default": "apps"},
            "template_will_change": {"type": "bool", "default": False},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
        required_if=[("state", "present", ["template"])],
    )
    try:
        result = EnvReplicas(module).run()
    except (PathError, TemplateError, PrefixLockError) as error:
        module.fail_json(msg=str(error), users=[])
    except OSError as error:
        module.fail_json(msg=f"{error.strerror or error}: {error.filename or module.params['template']}", users=[])
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
