"""The people of the cluster, their terminals, their browser, and the program `maskrcnn` in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import testinfra
from testinfra.host import Host

# Linus is ada at another computer.
ADA, GRACE, LINUS = "ada", "grace", "linus"
# As a user types it on the cluster, and in full.
ENV = "apps/conda/envs/maskrcnn_example"
BIN = f"/home/%s/{ENV}/bin"
NODE = "n21-16-256-twiki"
# What tests leave for people: pictures and tables.
BUILD = Path(__file__).parents[3] / "build/tunnels"
INSIDE = "/usr/local/lib/tunnels"
# What ada has there. Nobody else knows these words.
FOLDER, RUN, PRINTED = "hushed", "whispered", "murmured"
LOGS, NOTEBOOKS = f"{FOLDER}/logs", f"{FOLDER}/notebooks"
BROWSER = f"python3 {INSIDE}/browse.py"
URL = re.compile(r"http://127\.0\.0\.1:(\d+)/\S*")
CONTROL_C = "\x03"
# As the program exits.
USAGE, ENDED, UNREACHABLE, WAITS, CODE_WANTED, NOT_ALLOWED, MISSING = range(2, 9)

Seen = dict[str, Any]
Server = dict[str, Any]


def container(machine: str) -> str:
    return f"maskrcnn-tunnels-{machine}"


def on(machine: str, user: str = "root") -> Host:
    """A machine, as somebody who sits at it."""
    return testinfra.get_host(f"docker://{user}@{container(machine)}")


def wait_until(is_so: Callable[[], object], seconds: float = 30) -> bool:
    """Ask again and again; False if it is not so in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True


class Terminal:
    """A program in a terminal of its own, on the workstation."""

    def __init__(self, user: str, command: str, **env: str) -> None:
        settings = [f"--env={name}={value}" for name, value in env.items()]
        window = ["docker", "exec", "--interactive", f"--user={user}", f"--workdir=/home/{user}", *settings]
        window += [container("workstation"), "sh", "-c", 'echo $$ && exec script -qefc "$1" /dev/null', "window"]
        self.process = subprocess.Popen(
            [*window, command],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdin and self.process.stdout
        self.keys, self.screen = self.process.stdin, self.process.stdout
        self.window = self.screen.readline().decode().strip()
        self.said = ""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        while more := os.read(self.screen.fileno(), 65536):
            self.said += more.decode(errors="replace")

    def shows(self, pattern: str | re.Pattern[str], seconds: float = 60) -> re.Match[str]:
        """Wait for a text; the last one of its kind."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            over = self.process.poll() is not None
            if over:
                self.reader.join()
            found[:] = re.finditer(pattern, self.said)
            return bool(found) or over

        wait_until(look, seconds)
        assert found, f"no {pattern} in {seconds} s:\n{self.said}"
        return found[-1]

    def press(self, keys: str) -> None:
        self.keys.write(keys.encode())

    def ends(self, seconds: float = 30) -> int:
        """Wait for the program's end; its exit status."""
        assert wait_until(lambda: self.process.poll() is not None, seconds), (
            f"still there after {seconds} s:\n{self.said}"
        )
        self.reader.join()
        return self.process.returncode

    def close(self) -> None:
        """As when the window is closed: the terminal is gone, and who lives in it is told so."""
        if self.process.poll() is None:
            on("workstation").run(f"kill -KILL {self.window}")
        self.process.wait()
        self.keys.close()


class Person:
    """A user of the cluster, at the workstation, or as somebody else there who has the same key."""

    def __init__(self, name: str, account: str | None = None) -> None:
        self.name, self.account = name, account or name
        self.desk = on("workstation", self.account)
        self.env = {} if self.account == name else {"MASKRCNN_USER": name}
        self.terminals: list[Terminal] = []

    def opens(self, command: str, **env: str) -> Terminal:
        """A program that goes on."""
        self.terminals.append(Terminal(self.account, command, **self.env | env))
        return self.terminals[-1]

    def watches(self, command: str, **env: str) -> Watch:
        return Watch(self, self.opens(f"exec maskrcnn {command}", **env))

    def runs(self, command: str, **env: str) -> tuple[int, str]:
        """A program in a terminal that comes to its end; what it said."""
        terminal = self.opens(command, **env)
        return terminal.ends(120), terminal.said

    def does(self, command: str) -> str:
        """Without a terminal; it must succeed, this is what was on its standard output."""
        settings = " ".join(f"{name}={value}" for name, value in self.env.items())
        said: str = self.desk.check_output(f"cd && {settings} {command}")
        return said

    def sees(self, kind: str, name: str, url: str) -> Seen:
        """Open a page in a browser."""
        result = self.desk.run(f"rm -f ~/seen/{name}.*; {BROWSER} {kind} {name} '{url}'")
        return self.seen(name, 0, str(result))

    def seen(self, name: str, seconds: float = 90, why: str = "") -> Seen:
        """What was to be seen in a browser; its picture comes to this machine."""
        file = f"/home/{self.account}/seen/{name}"
        there = wait_until(lambda: on("workstation").file(f"{file}.json").exists, seconds)
        BUILD.mkdir(parents=True, exist_ok=True)
        copy = ["docker", "cp", "--quiet", f"{container('workstation')}:{file}.png", str(BUILD)]
        subprocess.run(copy, check=False)
        assert there, why
        found: Seen = json.loads(on("workstation").check_output(f"cat {file}.json"))
        return found

    def servers(self) -> list[Server]:
        """Those that live, once there is a connection."""
        found: list[Server] = json.loads(self.does("maskrcnn list --json"))
        return found

    def codes(self) -> int:
        """How often gruffalo has asked for one."""
        return int(on("gruffalo").run(f"grep --count --line-regexp {self.name} /var/log/one-time-codes").stdout)

    def closes(self) -> None:
        """Close all windows."""
        for terminal in self.terminals:
            terminal.close()
        self.terminals.clear()

    def leaves(self) -> None:
        """Nothing goes on, and no program remembers anything."""
        on("gruffalo").check_output(f"scancel --user={self.name}")
        self.closes()
        for machine, user in (("gruffalo", self.name), ("twiki", self.name), ("workstation", self.account)):
            on(machine).run(
                f"ps -u {user} -o pid= | xargs --no-run-if-empty kill -KILL; find /tmp -user {user} -delete"
            )
        for machine, user in (("gruffalo", self.name), ("workstation", self.account)):
            on(machine).check_output(f"cd /home/{user} && rm -rf .cache .ipython .jupyter .local seen *.log")


class Watch:
    """A server in front of somebody."""

    def __init__(self, person: Person, terminal: Terminal) -> None:
        self.person, self.terminal = person, terminal
        found = terminal.shows(URL, 90)
        self.url, self.port = found[0], int(found[1])

    def answers(self) -> bool:
        asked = self.person.desk.run(f"curl --silent --fail --max-time 5 --output /dev/null {self.url}")
        return bool(asked.succeeded)


def traces(user: str) -> dict[str, list[str]]:
    """What a user has on the machines outside their home: processes, and files in folders that all share."""
    look = f"ps -u {user} -o args= --sort pid; find /tmp /var/tmp /dev/shm /run/screen -user {user} -printf '%p %y\\n'"
    # One folder stays, empty: nobody else is to have its name.
    kept = f"/tmp/maskrcnn-{on('twiki').user(user).uid} d"
    return {
        machine: [line for line in on(machine).check_output(look).splitlines() if line != kept]
        for machine in ("gruffalo", "twiki", "workstation")
    }
