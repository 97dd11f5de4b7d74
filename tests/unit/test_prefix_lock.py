# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lock that two runs on one env share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import (
    LOCK_NAME,
    PrefixLockError,
    prefix_lock,
)

HOLD = """
import subprocess, sys, time
sys.path[:0] = sys.argv[2:]
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import prefix_lock
with prefix_lock(sys.argv[1]) as fd:
    {inside}
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    (tmp_path / "conda-meta").mkdir()
    return tmp_path


def hold(prefix: Path, inside: str = "") -> subprocess.Popen[str]:
    """Another process that has the lock."""
    command = [sys.executable, "-c", HOLD.format(inside=inside), str(prefix), *sys.path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_free_again_after_use_and_after_a_failure(prefix: Path) -> None:
    with prefix_lock(prefix, 0):
        pass
    with pytest.raises(ValueError, match="inside"), prefix_lock(prefix, 0):
        raise ValueError("inside")
    with prefix_lock(prefix, 0):
        pass


def test_private_and_not_inherited(prefix: Path) -> None:
    with prefix_lock(prefix) as fd:
        assert (prefix / "conda-meta" / LOCK_NAME).stat().st_mode & 0o777 == 0o600
        assert not os.get_inheritable(fd)


def test_second_one_waits_then_names_the_holder(prefix: Path) -> None:
    process = hold(prefix)
    started = time.monotonic()
    with pytest.raises(PrefixLockError, match=f"process {process.pid} on "), prefix_lock(prefix, 0.5):
        pass
    assert 0.5 <= time.monotonic() - started < 5
    kill(process)


def test_second_one_goes_on_when_the_first_is_killed(prefix: Path) -> None:
    process = hold(prefix)
    kill(process)
    with prefix_lock(prefix, 0):
        text = (prefix / "conda-meta" / LOCK_NAME).read_text()
    assert str(os.getpid()) in text


def test_child_that_was_given_the_lock_keeps_it_when_its_parent_is_killed(prefix: Path) -> None:
    process = hold(prefix, "subprocess.Popen(['sleep', '1.5'], pass_fds=[fd], stdout=subprocess.DEVNULL)")
    kill(process)
    with pytest.raises(PrefixLockError), prefix_lock(prefix, 0):
        pass
    with prefix_lock(prefix, 10):
        pass


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to])
def test_never_writes_through_a_link(prefix: Path, tmp_path: Path, make) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    make(prefix / "conda-meta" / LOCK_NAME, precious)
    with pytest.raises(PrefixLockError), prefix_lock(prefix, 0):
        pass
    assert precious.read_text() == "keep me"


def test_never_follows_a_linked_conda_meta(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "conda-meta").symlink_to(elsewhere)
    with pytest.raises(PrefixLockError), prefix_lock(tmp_path, 0):
        pass
    assert not list(elsewhere.iterdir())


def test_fifo_in_its_place_does_not_hang(prefix: Path) -> None:
    os.mkfifo(prefix / "conda-meta" / LOCK_NAME)
    with pytest.raises(PrefixLockError), prefix_lock(prefix, 0):
        pass


def test_no_env_no_lock(tmp_path: Path) -> None:
    with pytest.raises(PrefixLockError, match="conda-meta"), prefix_lock(tmp_path, 0):
        pass
