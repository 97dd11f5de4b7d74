"""The cluster's people, and what they do: sit at a workstation and work on gruffalo."""

import time
from collections.abc import Callable

import testinfra
from testinfra.host import Host

# Provisioned by the admin, all at once.
USERS = ("ada", "grace", "alan", "edsger", "barbara")
# Provisioned by himself.
LINUS = "linus"
EVERYBODY = (*USERS, LINUS)
# Where their jobs run.
NODE = "n21-16-256-twiki"

# One for each profile, that of tf1 first. Linus has but the first.
ENVS = ("maskrcnn_example", "maskrcnn_modern")


def env(user: str, name: str = ENVS[0]) -> str:
    """An environment that a user has: the same place, whoever made it."""
    return f"/mnt/apps/users/{user}/conda/envs/{name}"


def workstation(user: str) -> Host:
    """The user's own machine, which knows nothing of the cluster but gruffalo's name."""
    return testinfra.get_host(f"docker://{user}@maskrcnn-workstation")


def on_gruffalo(user: str, command: str) -> str:
    """What a command says that a user runs on gruffalo, with ssh. It must succeed."""
    output: str = workstation(user).check_output("ssh -q gruffalo %s", command)
    return output


def wait_until(is_so: Callable[[], bool], seconds: int) -> bool:
    """Ask again and again; False if it is not so in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True
