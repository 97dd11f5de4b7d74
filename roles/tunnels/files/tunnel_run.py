# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run one server: start it, say when it answers, clean up after it however it ends."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tunnel_servers import answers
from tunnel_state import NODE, TOLD, TunnelError, process, remove_folder, socket_folder

PATIENCE = 300  # seconds; a first import of TensorFlow over a network can take minutes
HEARTBEAT = 60


class Terminated(Exception):
    """Somebody, or the batch system, wants it to end."""


def terminate(number: int, _frame) -> None:
    """End in good order, once."""
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise Terminated(signal.Signals(number).name)


def die_with_parent() -> None:
    """Have the kernel end this process when the one that watches it is killed."""
    set_death_signal = 1
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


def run(store, record: dict, base: str) -> int:
    """Run the server of a record. Returns the exit code: 0 if it was told to end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, terminate)
    os.environ.pop("XDG_RUNTIME_DIR", None)  # of the machine that the job came from
    os.umask(0o077)
    folder = child = None
    before = record["state"]
    reason, code = TOLD, 0
    try:
        folder = socket_folder(record["id"], base)
        record.update(process(os.getpid()), state="starting", reason="", start="", socket=str(folder / "s"))
        # Unless it is this machine's own, started by somebody who was in a job.
        if record["step"]:
            record["step"] = os.environ["SLURM_STEP_ID"]
        elif before == "pending":
            record["job"] = os.environ["SLURM_JOB_ID"]
        store.write(record)
        child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("tunnel_servers.py")), record["id"]],
            stdin=subprocess.PIPE, start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 # there are no threads
        )  # fmt: skip
        with child.stdin:
            child.stdin.write(json.dumps(record).encode())
        wait_until_it_answers(child, record, store)
        record["state"] = "ready"
        store.write(record)
        print("{} is ready on {}".format(record["id"], NODE), flush=True)
        while child.poll() is None:
            try:
                child.wait(HEARTBEAT)
            except subprocess.TimeoutExpired:
                store.touch(record)
        raise TunnelError(how_it_ended(child.returncode))
    except Terminated:
        pass
    except (TunnelError, OSError) as error:
        reason, code = " ".join([str(error), getattr(error, "hint", "")]).strip(), 3
    finally:
        if child:
            end(child)
        if folder:
            remove_folder(folder)
        store.end(record, reason)
        print("{} has ended: {}".format(record["id"], reason), flush=True)
    return code


def wait_until_it_answers(child: subprocess.Popen, record: dict, store) -> None:
    """Return when the server answers. Raises TunnelError if it ends before, or never does."""
    give_up = time.monotonic() + PATIENCE
    while not (Path(record["socket"]).exists() and answers(record)):
        if child.poll() is not None:
            raise TunnelError(how_it_ended(child.returncode))
        if time.monotonic() > give_up:
            raise TunnelError("it did not answer within {} s".format(PATIENCE))
        store.touch(record)
        time.sleep(0.2)


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    return "it was killed with signal {}".format(-code) if code < 0 else "it ended with exit code {}".format(code)


def end(child: subprocess.Popen) -> None:
    """End a server and what it has started."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(10)  # Jupyter ends its kernels
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
