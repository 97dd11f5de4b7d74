"""Where the tests run the module, without Ansible's own start-up, and see what it has done to whom."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import testinfra
from testinfra.host import Host

CONTAINER = "maskrcnn-users"
CHECKOUT = "/root/collections/ansible_collections/crophpc/maskrcnn"
INSIDE = "/opt/inside"
TEMPLATE = "/mnt/apps/system/maskrcnn/template/maskrcnn_example"
NAME = "maskrcnn_example"
ENV = f"conda/envs/{NAME}"

MODULE = (
    f"PYTHONPATH=$(echo {CHECKOUT}/.venv/lib/python3*/site-packages):/root/collections "
    "PYTHONPYCACHEPREFIX=/root/pycache python3 -m ansible_collections.crophpc.maskrcnn.plugins.modules.env_replicas"
)
NAIVE = f"python3 {INSIDE}/naive.py"

Result = dict[str, Any]
Snapshot = dict[str, list[Any]]


class Harm(AssertionError):
    """Somebody has come to harm; what the naive tool's runs have to end with."""


def person(name: str) -> Host:
    """The container as one of its users."""
    return testinfra.get_host(f"docker://{name}@{CONTAINER}")


def python(host: Host, script: str, *arguments: str, given: object = None) -> Any:
    """What a script of ours says inside, which is JSON, as is what it is given."""
    command = shlex.join(["python3", f"{INSIDE}/{script}.py", *arguments])
    return json.loads(host.check_output(f"printf %s {shlex.quote(json.dumps(given))} | {command}"))


class Arena:
    """Folders of users, for one test, and the tool that fills them: the module or the naive one."""

    def __init__(self, host: Host, tool: str, users_dir: str, template: str) -> None:
        self.host = host
        self.tool = tool
        self.users_dir = users_dir
        self.template = template

    def top(self, user: str) -> str:
        return f"{self.users_dir}/{user}"

    def env(self, user: str) -> str:
        return f"{self.users_dir}/{user}/{ENV}"

    # --- running the tool ---

    def arguments(self, users: tuple[str, ...], **options: Any) -> dict[str, Any]:
        """A run's options, and what Ansible adds to them."""
        given = {"template": self.template, "users_dir": self.users_dir, "name": NAME, "keep_old_days": 0}
        return given | {"users": users, "_ansible_remote_tmp": "/root"} | options

    def command(self, *users: str, through: str = "", seconds: int = 30, check: bool = False, **options: Any) -> str:
        """The command line of a run; ``through`` is a command that runs it."""
        arguments = self.arguments(users, _ansible_check_mode=check, **options)
        given = shlex.quote(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        return f"printf %s {given} | timeout --kill-after 1 {seconds} {through} env {self.tool}"

    def run(self, *users: str, **options: Any) -> Result:
        """Runs the tool, which has to say what became of everybody."""
        done = self.host.run(self.command(*users, **options))
        return answer(done.stdout, done.stderr)

    def run_twice_at_once(self, one: dict[str, Any], other: dict[str, Any]) -> list[Result]:
        """Two runs with options of their own, begun together."""
        commands = [self.command(*options.pop("users"), **options) for options in (one, other)]
        done = self.host.run(
            f"({commands[0]}) >/tmp/one & ({commands[1]}) >/tmp/other; wait; cat /tmp/one; echo; cat /tmp/other"
        )
        return [answer(line, done.stderr) for line in done.stdout.splitlines() if line]

    def prepare(self, *users: str, **options: Any) -> Result:
        """Runs the tool where it has to succeed, whichever it is."""
        try:
            result = self.run(*users, **options)
        except Harm as error:
            raise RuntimeError(f"no attack yet: {error}") from error
        assert not result.get("failed"), result
        return result

    def becomes(self, *users: str, **options: Any) -> dict[str, str]:
        """What a run makes of users, in a word each."""
        return {user["user"]: user["status"] for user in self.run(*users, **options)["users"]}

    # --- people ---

    def folders(self, *users: str) -> None:
        """Makes the users' folders, as a site does that does not leave it to the tool."""
        for user in users:
            self.host.check_output(f"install -d -o {user} -g {user} {self.top(user)}")

    def does(self, user: str, command: str) -> str:
        """What a command says that a user runs in their folder. It must succeed."""
        output: str = person(user).check_output(f"cd {self.top(user)} && {command}")
        return output

    @contextmanager
    def attacked(self, user: str, attack: str, *arguments: str) -> Iterator[dict[str, int]]:
        """While an attack of inside/attack.py goes on; yields the counts of it, there at the end."""
        log = f"/home/{user}/{attack}.log"
        attacker = person(user)
        command = shlex.join(["python3", f"{INSIDE}/attack.py", attack, *arguments])
        process = attacker.check_output(f"setsid {command} </dev/null >{log} 2>&1 & echo $!")
        counts: dict[str, int] = {}
        try:
            yield counts
        finally:
            self.host.check_output(f"kill {process}; while kill -0 {process} 2>&-; do sleep 0.02; done")
            counts |= json.loads(self.host.check_output(f"cat {log}"))

    # --- looking ---

    def snapshot(self, *paths: str) -> Snapshot:
        return python(self.host, "snapshot", *paths)

    def whole(self, *users: str) -> None:
        """Users' replicas are as the template, and there is nothing else."""
        found = python(self.host, "whole", self.template, NAME, *(self.top(user) for user in users))
        harmless(not found, found[:10])


def answer(output: str, errors: str) -> Result:
    """What the tool has said, if it has, and not in despair."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    harmless(bool(lines), f"no answer: {output}{errors}")
    result: Result = json.loads(lines[-1])
    harmless("Traceback" not in output + errors and "users" in result, output + errors)
    return result


def harmless(so: bool, otherwise: object) -> None:
    """Raises Harm unless it is so."""
    if not so:
        raise Harm(otherwise)


def unchanged(before: Snapshot, after: Snapshot) -> None:
    """Raises Harm, with some of it, where two snapshots differ."""
    differing = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
    harmless(not differing, [f"{path}: {before.get(path)} -> {after.get(path)}" for path in sorted(differing)[:10]])
