# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command line of the bench, and the order in which it measures.

What is compared is measured in turns, round by round, so that a machine that grows slower does so for all. Folders are
removed, and everything is written to the disk, before a clock starts.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import LOCK_NAME
from mirror.errors import MirrorError

from . import contenders, report
from .contenders import Contender, Wish
from .node import BENCH, NAME, TEMPLATE, Node, node, playbook
from .place import ROOT, BenchError, Job, Place, result, wait_until_idle
from .report import Samples, Share
from .scratch import scratch

PROFILE = "tf1"
COUNTS = (1, 10, 50)
LOOP_USERS = ("bench01", "bench02", "bench03")
MODEL = "model"
BUILD = ROOT / "build"


def parser() -> argparse.ArgumentParser:
    """What the program understands."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure how long envs take.")
    parser.add_argument("--mirror", type=Path, default=BUILD / "mirror", help="the mirror that packages come from")
    parser.add_argument("--output", type=Path, default=BUILD / "bench.json", help="the file for the figures")
    parser.add_argument("--rounds", type=int, default=5, help="how often each thing is measured")
    return parser


def main() -> int:
    """Measures and prints; the exit code is 1 where a bound is broken, 2 where something went wrong."""
    asked = parser().parse_args()
    kept = BUILD / "bench"
    kept.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGHUP):  # nothing is left behind then either
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        figures = measure(asked.mirror.resolve(), kept, asked.rounds)
    except (BenchError, MirrorError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    asked.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(report.table(figures))
    return 0 if report.holds(figures) else 1


def measure(mirror: Path, kept: Path, rounds: int) -> dict[str, object]:
    """Everything, in a folder that is gone in the end."""
    samples = Samples()
    users = [f"bench{number:02}" for number in range(1, max(COUNTS) + 1)]
    with ExitStack() as stack:
        place = os.environ.get("BENCH_DIR")
        work = stack.enter_context(scratch(kept, Path(place) if place else None))
        folder = work.folder
        login = stack.enter_context(node(folder, mirror, users, empty=not work.filesystem))
        say("the whole env, by site.yml")
        login.site([])
        wanted = contenders.wish(mirror, PROFILE, folder)
        conda_part(login, wanted, kept, rounds, samples)
        shares = replicas(login, users, rounds, samples)
        unchanged(login, users, rounds, samples)
        sizes = {
            "the conda part": Share(*totals(login.place, BENCH / MODEL)),
            "the whole env": Share(*totals(login.place, TEMPLATE)),
        }
        return report.figures(folder, samples, sizes, shares)


def conda_part(login: Node, wanted: Wish, kept: Path, rounds: int, samples: Samples) -> None:
    """Warm creates of the profile's conda part, by all contenders."""
    ours = contenders.ours(login, wanted)
    say("the conda part, and what the contenders need")
    ours.time(MODEL)
    records = (wanted.folder / MODEL / "conda-meta").glob("*.json")
    packages = [json.loads(path.read_text(encoding="utf-8"))["fn"] for path in records]
    usual = [contenders.old_conda(wanted, packages, kept), *contenders.given(wanted)]
    clean = partial(login.place.run, "rm", "-rf", BENCH / "env")
    for contender in usual:  # so that their caches are warm as well
        contender.time("env")
        clean()
    for _number in in_turn("the conda part", rounds, samples):
        for contender in (ours, contenders.copy(login, MODEL), *usual):
            seconds, output = contender.time("env")
            samples.add(contender.name, seconds)
            if contender is ours:
                told = result(output)
                samples.add("engine", told["solve_seconds"] + told["link_seconds"])
            clean()
        for contender in usual:
            seconds, _output = Place().time(loop(contender, wanted.folder / "env"))
            samples.add(f"{contender.name}, a loop", seconds / len(LOOP_USERS))
            clean()


def in_turn(what: str, rounds: int, samples: Samples) -> Iterator[int]:
    """The numbers of the rounds, each when the machine is idle, or has not been for long."""
    for number in range(rounds):
        name = f"{what}, round {number + 1} of {rounds}"
        if not wait_until_idle():
            samples.busy.append(name)
        say(name)
        yield number


def loop(contender: Contender, folder: Path) -> Job:
    """An Ansible loop over users."""
    variables = {
        "command": [str(word) for word in contender.job.command],
        "variables": dict(contender.job.env),
        "folder": str(folder),
        "users": LOOP_USERS,
    }
    return playbook("tests/bench/usual.yml", "--inventory", "localhost,", "--extra-vars", json.dumps(variables))


def replicas(login: Node, users: Sequence[str], rounds: int, samples: Samples) -> dict[int, Share]:
    """Replicas of the template for some users, and plain copies of it; returns what one user's takes.

    All of them stay: for seconds after many files were removed, ext4 is slow to make new ones.
    """
    shares = {}
    made = BENCH / "replicas"
    before = totals(login.place, TEMPLATE)
    for number in in_turn("replicas", rounds, samples):
        copy = made / f"{number}-copy"
        login.place.run("mkdir", "--parents", copy)
        samples.add("cp -al, whole", login.place.time(Job(["cp", "-al", TEMPLATE, copy]))[0])
        # The module locks the template by a file of its own, with no other name.
        login.place.run("rm", copy / NAME / "conda-meta" / LOCK_NAME)
        for count in COUNTS:
            users_dir = made / f"{number}-{count}"
            login.place.run("bash", "-c", f"mkdir {users_dir}; rm -rf /home/*/apps /home/*/.conda")
            job = login.modules.job(
                "env_replicas", template=TEMPLATE, users=users[:count], users_dir=users_dir, name=NAME, home_link="apps"
            )
            seconds, output = login.place.time(job)
            became = {(user["status"], user["how"]) for user in result(output)["users"]}
            if became != {("created", "link")}:
                raise BenchError(f"replicas are to be created by links here; this is what became of them: {became}")
            samples.add(f"replicas, {count}", seconds / count)
            after = totals(login.place, TEMPLATE, users_dir)
            shares[count] = Share(*((new - old) / count for new, old in zip(after, before, strict=True)))
    login.place.run("bash", "-c", "rm -rf /home/*/apps /home/*/.conda")
    return shares


def unchanged(login: Node, users: Sequence[str], rounds: int, samples: Samples) -> None:
    """Runs of site.yml that find everything as it should be, for one user and for all."""
    say("all users by site.yml")
    login.site(users)
    for _number in in_turn("unchanged runs", rounds, samples):
        for count in (min(COUNTS), max(COUNTS)):
            seconds, changed = login.site(users[:count])
            if changed:
                raise BenchError(f"{changed} tasks of site.yml for {count} users have changed something again")
            samples.add(f"unchanged, {count}", seconds)


def totals(place: Place, *folders: str | Path) -> tuple[int, int]:
    """The bytes on the disk and the number of files and folders; what is linked several times counts once."""
    size, count = (
        place.run("du", "--summarize", "--total", unit, *folders).splitlines()[-1].split()[0]
        for unit in ("--block-size=1", "--inodes")
    )
    return int(size), int(count)


def say(what: str) -> None:
    print(f"[bench] {what}", flush=True)


def run() -> None:
    """Runs the program and leaves at once: py-rattler can crash while the interpreter shuts down."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
