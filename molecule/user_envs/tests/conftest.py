"""Every test has folders of users of its own; attacks and faults are also made against the naive tool."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from arena import CHECKOUT, INSIDE, MODULE, NAIVE, TEMPLATE, Arena, Harm
from testinfra.host import Host

NAIVE_TEMPLATE = "/mnt/apps/naive/maskrcnn_example"
numbers = count()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of attacks and faults run twice: unharmed by the module, and harmed by the naive tool."""
    if metafunc.definition.get_closest_marker("harms_naive"):
        harmed = pytest.mark.xfail(raises=Harm, strict=True, reason="the naive tool is to fail")
        tools = [pytest.param(MODULE, id="module"), pytest.param(NAIVE, id="naive", marks=harmed)]
        metafunc.parametrize("arena", tools, indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "harms_naive: an attack or a fault that the naive tool has to fail at")


@pytest.fixture(scope="module")
def inside(host: Host) -> Iterator[None]:
    """The scripts, where every user can read them; the naive tool's template, which it is going to give away."""
    host.check_output(
        f"rm -rf {INSIDE} /mnt/apps/naive /root/before && cp -r {CHECKOUT}/molecule/user_envs/inside {INSIDE} "
        f"&& mkdir /mnt/apps/naive && cp -a {TEMPLATE} {NAIVE_TEMPLATE} "
        f"&& grep -rlI {TEMPLATE} {NAIVE_TEMPLATE} | xargs sed -i s:{TEMPLATE}:{NAIVE_TEMPLATE}:g "
        "&& mkdir /root/before && cp -a /etc /home /root/before"
    )
    yield
    host.check_output("rm -rf /mnt/apps/naive /root/before")


@pytest.fixture
def arena(host: Host, inside: None, request: pytest.FixtureRequest) -> Iterator[Arena]:
    """Users' folders, all of them empty."""
    tool = getattr(request, "param", MODULE)
    users_dir = f"/mnt/apps/arena-{next(numbers)}"
    host.check_output(f"mkdir {users_dir}")
    yield Arena(host, tool, users_dir, TEMPLATE if tool == MODULE else NAIVE_TEMPLATE)
    host.check_output(f"rm -rf {users_dir}")
    if tool == NAIVE:
        # Docker holds some files of /etc in their places.
        host.check_output(
            f"chown -R root: {NAIVE_TEMPLATE}; rm -rf /home/*;"
            " cd /etc && find . | while read f; do test -e /root/before/etc/$f || rm -rf $f; done;"
            " cp -a /root/before/etc /root/before/home /"
        )


@pytest.fixture
def elsewhere(arena: Arena) -> Iterator[None]:
    """The users' folders are on another filesystem than the template."""
    users_dir, arena.users_dir = arena.users_dir, f"/opt/arena-{next(numbers)}"
    arena.host.check_output(f"mkdir {arena.users_dir}")
    yield
    arena.host.check_output(f"rm -rf {arena.users_dir}")
    arena.users_dir = users_dir
