"""A neighbour on the same node, who gets at servers started as the recipe says, and at nothing of the helpers'."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from conftest import Table
from lab import ADA, BIN, FOLDER, GRACE, INSIDE, LOGS, NOTEBOOKS, PRINTED, RUN, Person, on, wait_until

KINDS = ("tensorboard", "jupyter")
ATTACKS = ("listeners", "page", "kernel", "files", "processes")
# Plain servers fall to these, each of which shows that an attack works.
FALLS = {
    "tensorboard": {"listeners", "page", "files", "processes"},
    "jupyter": {"listeners", "kernel", "files", "processes"},
}
# What the recipe has one type, in two lines.
RECIPE = (
    f"ssh -tt -L 12345:localhost:12345 -J gruffalo twiki"
    f" {BIN % ADA}/tensorboard --port 12345 --logdir /home/{ADA}/{LOGS}"
)
OPEN_SOCKET = "/tmp/open"
SOCKET_SERVER = f"""
import http.server, os, socketserver
os.umask(0)
class Server(socketserver.UnixStreamServer):
    def get_request(self): return self.socket.accept()[0], ("ada", 0)
Server("{OPEN_SOCKET}", http.server.SimpleHTTPRequestHandler).serve_forever()
"""
FORGED = "this-is-graces-page"

Got = dict[str, list[str]]


def attack(*words: str) -> Got:
    """All that grace gets on any machine."""
    got: Got = {name: [] for name in ATTACKS}
    for machine in ("twiki", "gruffalo", "workstation"):
        # On the workstation it is ada who types the folder's name, and ssh that listens, for whoever knows the secret.
        here = machine == "workstation"
        known = " ".join(word for word in words if not (here and word == FOLDER))
        said = on(machine, GRACE).check_output(f"python3 {INSIDE}/attack.py {ADA} {known}")
        for name, evidence in json.loads(said).items():
            if here and name == "listeners":
                continue
            got[name] += [f"{machine}: {line}" for line in evidence]
    return got


@pytest.fixture(scope="module")
def victim() -> Iterator[Person]:
    person = Person(ADA)
    yield person
    person.leaves()


@pytest.fixture(scope="module")
def recipe(victim: Person) -> dict[str, Got]:
    """Both servers as people start them, and what an attack gets."""
    board = victim.opens(RECIPE)
    board.shows("TensorBoard 1.15")
    got = {"tensorboard": attack(FOLDER, RUN)}
    board.close()
    victim.does(
        f"ssh -q gruffalo 'rm -f notebook.log; sbatch --output=notebook.log --wrap"
        f' "{BIN % ADA}/jupyter notebook --no-browser --port 8888 --notebook-dir={NOTEBOOKS}"\''
    )
    token = ""

    def has_token() -> bool:
        nonlocal token
        found = re.search("token=([0-9a-f]+)", on("gruffalo").run(f"cat /home/{ADA}/notebook.log").stdout)
        token = found[1] if found else ""
        return bool(found)

    assert wait_until(has_token, 60)
    victim.opens("ssh -N -L 8888:localhost:8888 -J gruffalo twiki")
    assert wait_until(lambda: victim.desk.run("curl --silent http://localhost:8888/api").succeeded)
    victim.sees("notebook", "recipe-chatter", f"http://127.0.0.1:8888/notebooks/chatter.ipynb?token={token}")
    got["jupyter"] = attack(FOLDER, PRINTED, token)
    victim.leaves()
    return got


@pytest.fixture(scope="module")
def helpers(victim: Person) -> dict[str, Got]:
    """The same with the helpers."""
    board = victim.watches(f"tensorboard --node twiki --no-browser {LOGS}")
    got = {"tensorboard": attack(FOLDER, RUN, secret(board.url))}
    notebook = victim.watches(f"jupyter --no-browser {NOTEBOOKS}")
    victim.sees("notebook", "chatter", notebook.url.replace("/?", "/notebooks/chatter.ipynb?"))
    got["jupyter"] = attack(FOLDER, PRINTED, secret(notebook.url))
    victim.leaves()
    return got


def secret(url: str) -> str:
    """What has to be known for the page, its address's last word."""
    words: list[str] = re.findall(r"[0-9A-Za-z_-]+", url)
    return words[-1]


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_neighbour_gets_at_what_the_recipe_serves(recipe: dict[str, Got], table: Table, kind: str, name: str) -> None:
    got = recipe[kind][name]
    table.note(name, f"recipe, {kind}", got)
    assert bool(got) is (name in FALLS[kind]), got


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_neighbour_gets_nothing_of_the_helpers(helpers: dict[str, Got], table: Table, kind: str, name: str) -> None:
    got = helpers[kind][name]
    table.note(name, f"helpers, {kind}", got)
    assert not got


def test_a_neighbour_takes_the_recipes_port(ada: Person, grace: Person, table: Table) -> None:
    """Who is first at a port has the page; ada sees grace's, and may type into it."""
    serve = f"cd && mkdir -p trap && echo {FORGED} >trap/index.html && exec python3 -m http.server -d trap 12345"
    on("twiki", GRACE).check_output(f"nohup sh -c '{serve}' >/dev/null 2>&1 &")
    ada.opens(f"exec {RECIPE}")
    got: list[str] = []

    def sees() -> bool:
        got[:] = re.findall(FORGED, ada.desk.run("curl --silent http://localhost:12345").stdout)
        return bool(got)

    assert wait_until(sees)
    table.note("forged page", "recipe, tensorboard", [f"ada's browser shows: {got[0]}"])


@pytest.mark.parametrize(
    "bait", ["mkdir -m 0777 {}", "mkdir -p -m 0777 ~/trap && ln -s ~/trap {}"], ids=["folder", "link"]
)
def test_a_neighbour_takes_the_name_of_the_helpers_folder(ada: Person, grace: Person, table: Table, bait: str) -> None:
    name = f"/tmp/maskrcnn-{on('twiki').user(ADA).uid}"
    there = on("twiki", GRACE)
    there.check_output(bait.format(name))
    shown = {"tensorboard": LOGS, "jupyter": NOTEBOOKS}
    watches = [ada.watches(f"{kind} --node twiki --no-browser {shown[kind]}") for kind in KINDS]
    assert all(watch.answers() for watch in watches)
    put = there.check_output(f"find {name}/ -user {ADA}").splitlines()
    got = put + attack(FOLDER, RUN, *(secret(watch.url) for watch in watches))["page"]
    for kind in KINDS:
        table.note("forged page", f"helpers, {kind}", got)
    assert not got


def test_the_attacks_find_a_socket_that_is_open(ada: Person) -> None:
    """The recipe makes none; were the helpers to, it would be seen."""
    on("twiki", ADA).check_output(f"cd ~/{LOGS} && nohup python3 -c '{SOCKET_SERVER}' >/dev/null 2>&1 &")

    def found() -> bool:
        return any(OPEN_SOCKET in line for line in attack(RUN)["page"])

    assert wait_until(found)
