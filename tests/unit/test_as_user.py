# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Work in a process that is a user's."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.as_user import Account, AsUserError, as_user

NOBODY = "nobody"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def somebody() -> Account:
    """Another user where this can become one, else this one."""
    return Account.named(NOBODY if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)


def test_what_the_work_returns_is_returned(somebody: Account) -> None:
    assert as_user(somebody, lambda: {"a": [1, None, "\udcff"]}) == {"a": [1, None, "\udcff"]}


@as_root
def test_the_process_is_the_user_for_good(somebody: Account) -> None:
    def work() -> Any:
        try:
            os.setresuid(0, 0, 0)
        except PermissionError:
            return [*os.getresuid(), *os.getresgid(), os.getgroups()]

    entry = pwd.getpwnam(NOBODY)
    groups = os.getgrouplist(NOBODY, entry.pw_gid)
    assert as_user(somebody, work) == [entry.pw_uid] * 3 + [entry.pw_gid] * 3 + [groups]


@as_root
def test_it_can_do_no_more_than_the_user(somebody: Account, tmp_path: Path) -> None:
    with pytest.raises(AsUserError, match=f"Permission denied: {tmp_path}"):
        as_user(somebody, lambda: os.close(os.open(tmp_path / "file", os.O_CREAT)))


def raise_it(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file", "/x"), "No such file: /x"),
        (ValueError("not that"), "not that"),
        (RecursionError(), "RecursionError"),
        (SystemExit(3), "without an answer"),
    ],
)
def test_every_failure_is_one_kind_of_error(somebody: Account, error: BaseException, words: str) -> None:
    with pytest.raises(AsUserError, match=words):
        as_user(somebody, lambda: raise_it(error))


def test_an_answer_that_is_no_plain_data_is_an_error(somebody: Account) -> None:
    with pytest.raises(AsUserError):
        as_user(somebody, lambda: {1, 2})


def test_a_process_that_is_killed_is_an_error(somebody: Account) -> None:
    with pytest.raises(AsUserError, match="without an answer"):
        as_user(somebody, lambda: os.kill(os.getpid(), 9))


def test_work_that_does_not_end_is_ended(somebody: Account, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(AsUserError, match=r"0\.2 s"):
        as_user(somebody, lambda: time.sleep(60), seconds=0.2)
    assert time.monotonic() - begun < 10


WORK = """
import multiprocessing, os, sys, time
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.as_user import die_with_parent

def work():
    if "late" in sys.argv:
        while os.getppid() == parent:
            time.sleep(0.01)
    die_with_parent()
    print("alive", flush=True)
    ready.set()
    time.sleep(0.3)
    print("still alive", flush=True)

parent = os.getpid()
ready = multiprocessing.Event()
multiprocessing.get_context("fork").Process(target=work).start()
if "late" not in sys.argv:
    ready.wait()
os.kill(parent, 9)
"""


@pytest.mark.parametrize(("when", "said"), [("later", "alive\n"), ("late", "")])
def test_it_dies_with_its_parent(when: str, said: str) -> None:
    """Also one that asks for it when the parent is dead already."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", WORK, when], capture_output=True, text=True, env=environ, check=False)
    assert (done.returncode, done.stdout) == (-9, said)
