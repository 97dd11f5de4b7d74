"""What every user of the cluster has after playbooks/site.yml, as the admin, or as a user without root."""

import pytest
from people import ENVS, EVERYBODY, LINUS, NODE, USERS, env, on_gruffalo, workstation
from testinfra.host import Host

testinfra_hosts = ["maskrcnn-twiki"]

# Opens a connection, or fails within a few seconds.
PROBE = "timeout 5 bash -c '</dev/tcp/%s/22'"


def packages(user: str) -> str:
    """What conda and pip have installed into a user's environment."""
    return on_gruffalo(user, f"cd {env(user)} && ls -d conda-meta/*.json lib/python*/site-packages/*")


@pytest.mark.parametrize("user", EVERYBODY)
def test_an_activated_environment_is_the_users_own(user: str) -> None:
    said = on_gruffalo(
        user, f"source {env(user)}/bin/activate && hostname && id -un && readlink -f $(dirname $(command -v python))"
    )
    assert said.splitlines() == ["gruffalo", user, f"{env(user)}/bin"]


@pytest.mark.parametrize("user", EVERYBODY)
def test_mask_rcnn_is_imported_from_the_users_own_clone(user: str) -> None:
    said = on_gruffalo(user, f"{env(user)}/bin/python -c 'import mrcnn; print(mrcnn.__file__)'")
    assert said == f"{env(user)}/include/Mask_RCNN/mrcnn/__init__.py"


@pytest.mark.parametrize("user", USERS)
def test_the_other_environment_is_beside_it(user: str) -> None:
    other = env(user, ENVS[1])
    said = on_gruffalo(
        user,
        f"source {other}/bin/activate && readlink -f $(dirname $(command -v python)) && stat --format=%U {other}/bin"
        f" && readlink -f {other}/include/Mask_RCNN && python --version",
    )
    *paths, version = said.splitlines()
    assert paths == [f"{other}/bin", user, f"{other}/include/Mask_RCNN"]
    assert version.startswith("Python 3.12.")


def test_a_user_alone_gets_the_same_packages() -> None:
    assert packages(LINUS) == packages(USERS[0])


def test_a_workstation_reaches_the_gpu_node_only_through_gruffalo(host: Host) -> None:
    address = host.check_output("hostname --ip-address")
    on_gruffalo(USERS[0], PROBE % address)
    assert workstation(USERS[0]).run(PROBE % address).failed
    assert workstation(USERS[0]).check_output("ssh -q -J gruffalo twiki hostname") == NODE
