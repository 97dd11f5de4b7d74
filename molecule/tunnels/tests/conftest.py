"""What all tests have: people, ada's training and notebooks, the program on the workstation, a table of attacks."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from lab import ADA, BIN, BUILD, ENV, FOLDER, GRACE, INSIDE, LINUS, LOGS, NOTEBOOKS, PRINTED, RUN, Person, on

CELLS = {
    "look": f"import mrcnn.model\nprint('{PRINTED} from', mrcnn.model.__file__)",
    "chatter": f"import time\nwhile True:\n    print('{PRINTED}', flush=True)\n    time.sleep(0.2)",
}


@pytest.fixture(scope="session", autouse=True)
def program() -> None:
    """The workstation's program, as a user gets it: from their environment, with scp."""
    desk = on("workstation", ADA)
    desk.check_output(f"cd && scp -q gruffalo:{ENV}/share/crophpc.maskrcnn/tunnels/maskrcnn .")
    on("workstation").check_output(f"install /home/{ADA}/maskrcnn /usr/local/bin/")


@pytest.fixture(scope="session", autouse=True)
def training() -> None:
    """Two runs with curves, and notebooks, in folders that nobody else can open."""
    twiki = on("twiki", ADA)
    twiki.check_output(f"cd && rm -rf {FOLDER} && mkdir --parents {NOTEBOOKS} && chmod 0700 {FOLDER}")
    twiki.check_output(f"cd && {BIN % ADA}/python {INSIDE}/curves.py {LOGS}/{RUN} {LOGS}/shapes")
    for name, cell in CELLS.items():
        notebook = {
            "cells": [{"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": cell}],
            "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
            "nbformat": 4,
            "nbformat_minor": 4,
        }
        twiki.check_output(f"cat >/home/{ADA}/{NOTEBOOKS}/{name}.ipynb <<'END'\n%s\nEND" % json.dumps(notebook))


@pytest.fixture
def ada() -> Iterator[Person]:
    person = Person(ADA)
    yield person
    person.leaves()


@pytest.fixture
def elsewhere() -> Iterator[Person]:
    """Ada at another computer: another account, which has her key."""
    for key in ("id_ed25519", "id_ed25519.pub"):
        on("workstation").check_output(
            f"install --owner={LINUS} --mode=0600 /home/{ADA}/.ssh/{key} /home/{LINUS}/.ssh/"
        )
    person = Person(ADA, LINUS)
    yield person
    person.leaves()


@pytest.fixture
def grace() -> Iterator[Person]:
    person = Person(GRACE)
    yield person
    person.leaves()


class Table:
    """What every attack got, of every way to serve."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, str]] = {}

    def note(self, attack: str, way: str, got: list[str]) -> None:
        self.rows.setdefault(attack, {})[way] = got[0] if got else "nothing"

    def write(self) -> None:
        ways = sorted({way for row in self.rows.values() for way in row})
        lines = [["attack", *ways], ["---"] * (len(ways) + 1)]
        lines += [[attack, *(row.get(way, "") for way in ways)] for attack, row in self.rows.items()]
        BUILD.mkdir(parents=True, exist_ok=True)
        (BUILD / "attacks.md").write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))


@pytest.fixture(scope="session")
def table() -> Iterator[Table]:
    made = Table()
    yield made
    made.write()
