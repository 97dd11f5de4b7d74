# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A terminal that stays when its user leaves, by name: screen or tmux, whichever is there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tunnel_state import TunnelError, own_folder

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,40}")
# What a command has said stays to be read, and a shell to go on in.
AND_THEN_A_SHELL = '"$@"; echo "[it has ended with exit code $?]"; exec "${SHELL:-/bin/sh}"'


def sessions() -> dict:
    """The program of each of the user's sessions on this machine, by name."""
    found = {}
    if shutil.which("tmux"):
        for name in said(["tmux", "list-sessions", "-F", "#{session_name}"]).splitlines():
            found[name] = "tmux"
    if shutil.which("screen"):
        for name in re.findall(r"^\s+\d+\.(\S+)\s", said(["screen", "-ls"]), re.MULTILINE):
            found[name] = "screen"
    return found


def said(command: list) -> str:
    """What a program prints, whatever its exit code: screen's says how many sessions there are."""
    run = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True, check=False
    )
    return run.stdout


def prepare() -> None:
    """Let screen work where /run/screen is not what it wants, and in terminals that this machine does not know."""
    if shutil.which("tput") and not said(["tput", "longname"]):
        os.environ["TERM"] = "xterm"
    if "SCREENDIR" not in os.environ and not os.access("/run/screen", os.W_OK):
        folder = Path.home() / ".screen"
        os.close(own_folder(folder))
        os.environ["SCREENDIR"] = str(folder)


def screen(name: str, command: list, detach: bool, say) -> int:
    """Start a session with a command, or without one a shell, or attach to the one of that name."""
    if not NAME.fullmatch(name):
        raise TunnelError("{!r} is no name for a session".format(name), "Letters, digits, - and _ are possible.", 2)
    prepare()
    there = sessions()
    program = there.get(name) or next(filter(shutil.which, ("screen", "tmux")), None)
    if not program:
        raise TunnelError("there is neither screen nor tmux on this machine", "Ask an admin for one of them.", 8)
    if name in there:
        say("{} is there already; going back to it".format(name))
    else:
        if len(command) == 1:  # as with ssh, it may be more than a word
            command = ["/bin/sh", "-c", *command]
        run = ["/bin/sh", "-c", AND_THEN_A_SHELL, "sh", *command] if command else [os.environ.get("SHELL", "/bin/sh")]
        new = {
            "screen": ["screen", "-d", "-m", "-S", name],
            # Its arguments would be parsed as shell code if it were but one.
            "tmux": ["tmux", "new-session", "-d", "-s", name, "--"],
        }[program]
        subprocess.run(new + run, check=True)
    keys = "Ctrl-a d" if program == "screen" else "Ctrl-b d"
    if detach or not sys.stdin.isatty():
        say("{0} runs in {1}; to go back to it: screen {0}".format(name, program))
        return 0
    say("to leave it running: {}".format(keys))
    attach = ["screen", "-x", name] if program == "screen" else ["tmux", "attach-session", "-t", "=" + name]
    sys.stdout.flush()
    os.execvp(attach[0], attach)  # noqa: S606 - no shell is wanted
