# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is said: to people, or in the lines that the program on their workstation reads.

A shell may print anything when it starts, so what is meant for the program stands between two marks.
"""

import json
import re
import sys
import time

from tunnel_state import NODE

BEGIN, END, ITEM = "@maskrcnn-serve 1", "@end", "@item"
PUBLIC = ("id", "kind", "state", "reason", "node", "job", "step", "directory", "since", "start", "socket")
NAMES = {"tensorboard": "TensorBoard", "jupyter": "Jupyter"}


def one_line(value) -> str:
    """Without what would end a line, move a cursor or change a colour."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", str(value))


def public(record: dict) -> dict:
    """What may be shown of a record: all but its secret."""
    return dict(
        {key: record[key] for key in PUBLIC}, logdirs=[{"name": name, "path": path} for name, path in record["logdirs"]]
    )


def in_words(record: dict) -> str:
    """A record for people, in one line."""
    where = " on {}".format(record["node"]) if record["node"] else ""
    if record["job"]:
        where += " (job {})".format(record["job"])
    what = record["directory"] or ", ".join("=".join(part for part in pair if part) for pair in record["logdirs"])
    state = record["state"] + (": " + record["reason"] if record["reason"] else "")
    if record["start"]:
        state += ", expected to start at " + record["start"]
    return "{}  {}{}, since {}: {}\n         {}".format(
        record["id"], NAMES[record["kind"]], where, time.strftime("%d %b %H:%M", time.localtime(record["since"])),
        state, one_line(what),
    )  # fmt: skip


class Porcelain:
    """For the program on the workstation."""

    def __init__(self):
        print("\n" + BEGIN)  # a shell's last words may not have ended their line
        self.line("host", NODE)

    def line(self, key: str, value) -> None:
        print("{}\t{}".format(key, one_line(value)), flush=True)

    def server(self, record: dict) -> None:
        for key in (*PUBLIC, "secret"):
            self.line(key, record[key])
        for name, path in record["logdirs"]:
            self.line("logdir", "{}={}".format(name, path) if name else path)

    def servers(self, records: list) -> None:
        for record in records:
            print(ITEM)
            for key in PUBLIC:
                self.line(key, record[key])
            for line in in_words(record).split("\n"):
                self.line("text", line)
        self.line("json", as_json(records, None))

    def note(self, text: str) -> None:
        self.line("note", text)

    def hint(self, text: str) -> None:
        pass

    def error(self, text: str, hint: str) -> None:
        self.line("error", text)
        if hint:
            self.line("hint", hint)

    def end(self, code: int) -> None:
        print(END, code, flush=True)


class Words:
    """For people who are logged in on the cluster."""

    def server(self, record: dict) -> None:
        print(in_words(record))

    def servers(self, records: list) -> None:
        print("\n".join(map(in_words, records)) or "No servers of yours.")

    def line(self, key: str, value) -> None:
        print("{:<14} {}".format(key, one_line(value)), flush=True)

    def hint(self, text: str) -> None:
        print(text)

    def note(self, text: str) -> None:
        print("maskrcnn-serve:", one_line(text), file=sys.stderr)

    def error(self, text: str, hint: str) -> None:
        print("maskrcnn-serve: {}".format(text), file=sys.stderr)
        if hint:
            print("    " + hint, file=sys.stderr)

    def end(self, code: int) -> None:
        pass


def as_json(records: list, indent) -> str:
    """Records for programs."""
    return json.dumps([public(record) for record in records], indent=indent)
