# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A login node in a container: root, users' accounts, and a folder of this machine's filesystem."""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible

from .place import ROOT, BenchError, Job, Modules, Place

IMAGE = "crophpc-maskrcnn-node:latest"
NAME = "maskrcnn_example"
MIRROR = "/mirror"
BENCH = Path("/bench")
SYSTEM, USERS = f"{BENCH}/system", f"{BENCH}/users"
TEMPLATE = f"{SYSTEM}/maskrcnn/template/{NAME}"
# One root of collections, and Ansible itself: Debian's Python runs a module from there as an unpacked payload's.
_LIBRARY = "/library"


@dataclass(frozen=True)
class Node:
    """The running container and what Ansible needs to know of it."""

    place: Place
    inventory: Path

    @property
    def modules(self) -> Modules:
        return Modules("python3", _LIBRARY, "/root")

    def site(self, users: Sequence[str]) -> tuple[float, int]:
        """Runs site.yml for these users; returns its seconds and how many tasks changed something.

        Raises BenchError if it fails.
        """
        variables: dict[str, Any] = {
            "maskrcnn_users": list(users),
            "maskrcnn_users_dir": USERS,
            "maskrcnn_apps": SYSTEM,
            "maskrcnn_mirror": MIRROR,
            "maskrcnn_verify": False,
            "user_envs_modulefiles_dir": f"{SYSTEM}/modulefiles",
        }
        command = ["playbooks/site.yml", "--inventory", str(self.inventory), "--extra-vars", json.dumps(variables)]
        seconds, output = Place().time(playbook(*command))
        found = re.search(r"changed=(\d+)", output)
        if not found:
            raise BenchError(f"site.yml says nothing of changes:\n{output}")
        return seconds, int(found[1])


def playbook(*arguments: str) -> Job:
    """One run of ansible-playbook."""
    program = Path(sys.executable).with_name("ansible-playbook")
    return Job([program, *arguments], env={"ANSIBLE_HOME": str(ROOT / ".ansible"), "ANSIBLE_NOCOLOR": "1"})


@contextmanager
def node(folder: Path, mirror: Path, accounts: Sequence[str], *, empty: bool) -> Iterator[Node]:
    """A container with `folder` as /bench, until the block ends; with `empty`, the folder is empty then."""
    name = f"maskrcnn-bench-{os.getpid()}"
    mounts = {
        str(folder): BENCH,
        str(mirror): f"{MIRROR}:ro",
        str(ROOT): f"{_LIBRARY}/ansible_collections/crophpc/maskrcnn:ro",
        str(Path(ansible.__file__).parent): f"{_LIBRARY}/ansible:ro",
    }
    volumes = [word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}")]
    here = Place()
    here.run("docker", "run", "--detach", "--rm", "--network", "none", "--name", name, *volumes, IMAGE)
    place = Place(("docker", "exec", "--interactive", name))
    with ExitStack() as stack:
        stack.callback(here.run, "docker", "rm", "--force", name)
        if empty:  # here, because this user may not remove what root has made in there
            stack.callback(place.run, "find", BENCH, "-mindepth", "1", "-delete")
        place.run("bash", "-c", 'for user; do useradd --create-home "$user"; done', "bash", *accounts)
        place.run("mkdir", SYSTEM, USERS)
        inventory = folder / "inventory.json"
        host = {"ansible_connection": "community.docker.docker", "ansible_host": name}
        inventory.write_text(json.dumps({"maskrcnn": {"hosts": {"gruffalo": host}}}), encoding="utf-8")
        yield Node(place, inventory)
