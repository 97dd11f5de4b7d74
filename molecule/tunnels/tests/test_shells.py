"""Login shells there and shells here, and what else a user's terminal is for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import ADA, CONTROL_C, FOLDER, LOGS, Person, Watch, on

PROGRAM = "/usr/local/bin/maskrcnn"
# Who has which login shell: see prepare.yml. Each of them runs the program with another shell, too.
SHELLS = {"alan": "dash", "edsger": "bash --posix", "barbara": "busybox sh"}


@pytest.fixture(params=SHELLS)
def somebody(request: pytest.FixtureRequest) -> Iterator[Person]:
    """With a training like ada's."""
    name = request.param
    on("gruffalo").check_output(
        f"mkdir -p /home/{name}/{FOLDER} && cp -r /home/{ADA}/{LOGS} /home/{name}/{FOLDER}/"
        f" && chown -R {name}: /home/{name}/{FOLDER}"
    )
    person = Person(name)
    yield person
    person.leaves()


def test_whatever_shells_people_have(somebody: Person) -> None:
    shell = SHELLS[somebody.name]
    runs = f"{shell} {PROGRAM}"
    terminal = somebody.opens(f"exec {runs} tensorboard --no-browser first={LOGS}/shapes 'second=~/{LOGS}/shapes'")
    watch = Watch(somebody, terminal)
    assert watch.answers()
    terminal.press(CONTROL_C)
    assert terminal.ends() == 0, terminal.said
    [server] = somebody.servers()
    assert len(server["logdirs"]) == 2
    for command in (f"logs {server['id']}", f"stop {server['id']}", "doctor", "logout"):
        status, said = somebody.runs(f"{runs} {command}")
        assert status == 0, said


def test_a_command_in_a_terminal_that_stays(ada: Person) -> None:
    screen = ada.opens("exec maskrcnn screen training 'echo begun; sleep 600'", TERM="xterm")
    screen.shows("begun")
    # Away, as screen has it, and tmux.
    listed = ada.opens("exec maskrcnn screen --list")
    listed.shows("training")
    ada.closes()
    again = ada.opens("exec maskrcnn screen training", TERM="xterm")
    again.shows("begun")


def test_entries_for_ssh(ada: Person) -> None:
    ada.desk.check_output("cp ~/.ssh/config ~/before 2>/dev/null; maskrcnn ssh-config --install </dev/null")
    try:
        says = ada.desk.check_output("ssh -G twiki")
        assert "proxyjump gruffalo" in says
        assert "controlpath" in says
    finally:
        ada.desk.check_output("rm -f ~/.ssh/config && mv ~/before ~/.ssh/config 2>/dev/null; true")
