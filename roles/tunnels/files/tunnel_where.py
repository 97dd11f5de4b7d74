# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where servers run: start them here, in a job or in a step of one; see how they are; end them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import tunnel_slurm as slurm
from tunnel_state import (
    LIVE,
    NODE,
    SILENT_AFTER,
    TOLD,
    TunnelError,
    process,
    remove_folder,
    runs_here,
)

STOPS_WITHIN = 40  # seconds; after half a minute, Slurm kills what does not end
NEW_STEP = "new"  # until the step knows its number


def command(*arguments: str) -> list:
    """This program, as a command."""
    return [str(Path(sys.prefix, "bin", "maskrcnn-serve")), *arguments]


def start_here(store, record: dict) -> None:
    """Start a server on this machine that outlives whoever is logged in."""
    detach(store, record, command("run", record["id"]))


def start_step(store, record: dict, job: str) -> None:
    """Start a server in one of the user's running jobs."""
    record.update(job=job, step=NEW_STEP)
    detach(store, record, slurm.step_command(job) + command("run", record["id"]))


def start_job(store, record: dict, options: dict, extra: list) -> None:
    """Start a server in a job of its own."""
    log = str(store.log(record["id"]))
    record.update(state="pending")
    # Before the job may begin, which then writes the record.
    store.write(record)
    try:
        job = slurm.submit(command("run", record["id"]), "maskrcnn-" + record["kind"], log, options, extra)
    except TunnelError as error:
        store.end(record, str(error))
        raise
    # It may have begun by now, and has then written what is true.
    latest = store.read(record["id"])
    if latest["state"] == "pending":
        store.write(dict(latest, job=job))


def detach(store, record: dict, arguments: list) -> None:
    """Run a command in a session of its own, its output in the server's log."""
    log = store.open_log(record["id"])
    store.write(record)
    child = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
    )
    os.close(log)
    if not record["job"]:
        latest = store.read(record["id"])
        if not latest["pid"]:
            store.write(dict(latest, **process(child.pid)))
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(1)
        if store.read(record["id"])["state"] != "ended":
            store.end(record, "it could not be started")


def refresh(store, records: list) -> list:
    """The records as things are now. What is found to have ended is noted as such."""
    jobs, silence = {}, ""
    if any(record["job"] for record in records):
        try:
            jobs = slurm.jobs()
        except TunnelError as error:
            silence = str(error)
    for record in records:
        before = dict(record)
        if record["job"] and not silence:
            by_job(record, jobs.get(record["job"], {"state": "", "node": "", "reason": "", "start": ""}))
        elif record["job"] and record["state"] == "pending":
            record["reason"] = silence
        if record["state"] == before["state"] and record["state"] in ("starting", "ready"):
            by_process(record)
        if record["state"] == "ended" and before["state"] != "ended":
            if record["node"] == NODE and before["socket"]:
                remove_folder(Path(before["socket"]).parent)
            store.end(record, record["reason"])
    return records


def by_job(record: dict, job: dict) -> None:
    """What the state of its job says of a server."""
    if job["state"] in slurm.WAITING:
        # A server that has ended, too: its job is going to be started again.
        record.update(state="pending", node="", socket="", reason=job["reason"], start=job["start"])
    elif job["state"] in slurm.RUNNING:
        again = (record["state"], record["reason"], record["step"]) == ("ended", TOLD, "") and job["state"] == "RUNNING"
        if record["state"] == "pending" or again:
            record.update(state="starting", node=job["node"], reason="", start="")
    elif record["state"] in LIVE:
        record.update(state="ended", reason=slurm.ENDS.get(job["state"], "its job has ended"))


def by_process(record: dict) -> None:
    """What its process, or the lack of a sign of it, says of a server."""
    if record["node"] == NODE and record["pid"] and not runs_here(record):
        record.update(state="ended", reason="its process is gone")
    elif time.time() - record["seen"] > SILENT_AFTER:
        minutes = (time.time() - record["seen"]) // 60
        record.update(state="silent", reason="{} has not been heard of for {:.0f} min".format(record["node"], minutes))


def clean(store, folder: Path) -> None:
    """Remove what is in the user's folder for sockets on this machine and belongs to no living server."""
    live = {Path(record["socket"]).parent for record in store.all() if record["state"] in LIVE}
    for path in folder.iterdir():
        if path not in live:
            remove_folder(path)


def stop(store, record: dict) -> None:
    """End a server, wherever it runs but on another node without a job."""
    if record["step"] == NEW_STEP:
        raise TunnelError("{} is just being started".format(record["id"]), "Try again in a moment.")
    if record["job"]:
        slurm.cancel(record["job"], record["step"])
    elif runs_here(record):
        os.kill(record["pid"], signal.SIGTERM)
    give_up = time.monotonic() + STOPS_WITHIN
    while time.monotonic() < give_up and (record["job"] or runs_here(record)):
        record = store.read(record["id"])
        if record["state"] == "ended" or (record["job"] and refresh(store, [record])[0]["state"] == "ended"):
            return
        time.sleep(0.5 if record["job"] else 0.1)
    record = store.read(record["id"])
    if record["state"] != "ended":
        store.end(record, TOLD)
