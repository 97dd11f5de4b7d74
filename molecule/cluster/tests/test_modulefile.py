"""`module load maskrcnn`, by Environment Modules and by Lmod, which are two programs with two minds of their own."""

import pytest
import testinfra
from people import ENVS, LINUS, NODE, USERS, env, on_gruffalo
from testinfra.host import Host

MODULES = {"environment-modules": "/etc/profile.d/modules.sh", "lmod": "/etc/lmod/lmod.sh"}


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> str:
    """What a shell has to do first."""
    return f". {MODULES[request.param]} && module use /mnt/apps/system/modulefiles"


@pytest.fixture
def admin() -> Host:
    """Somebody who has no environment."""
    return testinfra.get_host("docker://admin@maskrcnn-gruffalo")


@pytest.mark.parametrize("user", [USERS[0], USERS[1], LINUS])
def test_everybody_loads_their_own_and_unloads_it(module: str, user: str) -> None:
    said = on_gruffalo(
        user,
        f"{module} && old=$PATH && module load maskrcnn && command -v python && echo $CONDA_PREFIX $CONDA_DEFAULT_ENV"
        " && module load maskrcnn && module unload maskrcnn && echo ${CONDA_PREFIX-none} ${CONDA_DEFAULT_ENV-none}"
        " && [ $PATH = $old ] && echo as before",
    )
    assert said.splitlines() == [
        f"{env(user)}/bin/python",
        f"{env(user)} maskrcnn_example",
        "none none",
        "as before",
    ]


def test_the_other_environment_is_asked_for_by_name_and_takes_the_place_of_the_first(module: str) -> None:
    user, other = USERS[0], ENVS[1]
    said = on_gruffalo(
        user,
        f"{module} && module -t avail maskrcnn 2>&1 && module load maskrcnn && module unload maskrcnn"
        f" && module load maskrcnn/{other} && command -v python && echo $CONDA_PREFIX $CONDA_DEFAULT_ENV",
    )
    assert all(f"maskrcnn/{name}" in said for name in ENVS), said
    assert said.splitlines()[-2:] == [f"{env(user, other)}/bin/python", f"{env(user, other)} {other}"]


def test_it_is_loaded_in_a_job_too(module: str) -> None:
    user = USERS[0]
    said = on_gruffalo(user, f"srun -Q -p gpu bash -c '{module} && module load maskrcnn && hostname && type -P python'")
    assert said.splitlines() == [NODE, f"{env(user)}/bin/python"]


def test_who_has_none_is_told_so(module: str, admin: Host) -> None:
    result = admin.run(f"bash -c '{module} && module load maskrcnn && echo went on'")
    assert result.failed, result
    assert "went on" not in result.stdout
    assert env("admin") in result.stderr
    assert "Traceback" not in result.stderr and "while executing" not in result.stderr


@pytest.mark.parametrize("command", ["help", "whatis", "show"])
def test_anybody_can_read_about_it(module: str, admin: Host, command: str) -> None:
    result = admin.run(f"bash -c '{module} && module {command} maskrcnn'")
    assert result.succeeded, result
    assert "Mask R-CNN" in result.stdout + result.stderr
