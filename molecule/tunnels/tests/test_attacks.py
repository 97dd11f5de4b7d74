"""A neighbour on the same node, who gets at servers started as the recipe says, and at nothing of the helpers'."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from conftest import FOLDER, PRINTED, RUN, Table
from lab import ADA, BIN, GRACE, INSIDE, Person, browse, on, wait_until

LOGS = f"{FOLDER}/logs"
NOTEBOOKS = f"{FOLDER}/notebooks"
KINDS = ("tensorboard", "jupyter")
ATTACKS = ("listeners", "page", "kernel", "files", "processes")
# Plain servers fall to these, each of which shows that an attack works.
FALLS = {
    "tensorboard": {"listeners", "page", "processes"},
    "jupyter": {"listeners", "kernel", "files", "processes"},
}

Got = dict[str, list[str]]


def attack(*words: str) -> Got:
    """All that grace gets on either machine."""
    got: Got = {name: [] for name in ATTACKS}
    for machine in ("twiki", "gruffalo"):
        said = on(machine, GRACE).check_output(f"python3 {INSIDE}/attack.py {ADA} {' '.join(words)}")
        for name, evidence in json.loads(said).items():
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
    board = victim.opens(
        "ssh -tt -L 12345:localhost:12345 -J gruffalo twiki"
        f" {BIN % ADA}/tensorboard --port 12345 --logdir /home/{ADA}/{LOGS}"
    )
    board.shows("TensorBoard 1.15")
    got = {"tensorboard": attack(FOLDER, RUN)}
    board.close()
    victim.does(
        f"ssh -q gruffalo 'sbatch --parsable --output=notebook.log --wrap"
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
    browse(victim.desk, "notebook", f"http://127.0.0.1:8888/notebooks/chatter.ipynb?token={token}", "recipe-notebook")
    got["jupyter"] = attack(FOLDER, PRINTED, token)
    victim.leaves()
    return got


@pytest.fixture(scope="module")
def helpers(victim: Person) -> dict[str, Got]:
    """The same with the helpers."""
    board = victim.watches(f"tensorboard --node twiki --no-browser {LOGS}")
    got = {"tensorboard": attack(FOLDER, RUN, secret(board.url))}
    notebook = victim.watches(f"jupyter --no-browser {NOTEBOOKS}")
    browse(victim.desk, "notebook", notebook.url.replace("/?", "/notebooks/chatter.ipynb?"), "chatter")
    got["jupyter"] = attack(FOLDER, PRINTED, secret(notebook.url))
    victim.leaves()
    return got


def secret(url: str) -> str:
    return re.findall(r"[0-9A-Za-z_-]+", url)[-1]


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
