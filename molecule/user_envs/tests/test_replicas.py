"""What users have, what they can do with it, and what becomes of that when the template changes or they lose it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from arena import ENV, NAME, TEMPLATE, Arena, person
from testinfra.host import Host

USERS_DIR = "/mnt/apps/users"
USERS = ("ada", "grace", "alan", "drifter", "robot")
CLONE = f"{ENV}/include/Mask_RCNN"
PIP = f"{ENV}/bin/python -m pip --quiet --disable-pip-version-check"
DECORATOR = "--no-index --find-links /mirror/wheels decorator==4.4.2"


@pytest.fixture
def converged(host: Host, inside: None) -> Arena:
    """What the role has made."""
    return Arena(host, "", USERS_DIR, TEMPLATE)


@pytest.fixture
def release(arena: Arena) -> Iterator[str]:
    """The template has a file etc/release, which says 2; a command makes another one of it, which says 3."""
    folder = f"{arena.template}/etc"
    arena.host.check_output(f"mkdir {folder} && echo 2 >{folder}/release")
    # Not written in place: it is the same file in all replicas.
    yield f"echo 3 >{folder}/new && mv {folder}/new {folder}/release"
    arena.host.check_output(f"rm -r {folder}")


# --- what the role makes ---


def test_everybody_has_all_of_it(converged: Arena) -> None:
    converged.whole(*USERS)


@pytest.mark.parametrize("user", USERS)
def test_programs_run_from_the_users_own_place(converged: Arena, user: str) -> None:
    code = (
        "import sys, sysconfig, numpy;"
        "print(sys.prefix, sysconfig.get_config_var('prefix'), sysconfig.get_path('include'))"
    )
    own = converged.env(user)
    # A path as long as the template's is the hardest case: Python knows byte code by its source's time and size.
    assert (len(own) == len(converged.template)) == (user == "drifter")
    assert converged.does(user, f'{ENV}/bin/python -c "{code}"') == f"{own} {own} {own}/include/python3.6m"
    assert converged.does(user, f"{PIP} --version").split()[3].startswith(f"{own}/")
    assert converged.does(user, f"{ENV}/bin/where --help | grep share") == f"[{own}/share]"
    found = converged.does(user, f"cd / && {own}/bin/python -c 'import mrcnn; print(mrcnn.__file__)'")
    assert found == f"{own}/include/Mask_RCNN/mrcnn/__init__.py"


def test_a_home_says_where_it_is(converged: Arena) -> None:
    for user in ("ada", "robot"):
        person(user).check_output(f"grep -xF {converged.env(user)} ~/.conda/environments.txt")
        assert person(user).check_output("readlink ~/apps") == converged.top(user)
    kernel = "~/.local/share/jupyter/kernels/maskrcnn_example/kernel.json"
    assert json.loads(person("ada").check_output(f"cat {kernel}"))["argv"][0] == f"{converged.env('ada')}/bin/python"
    assert person("robot").run(f"test -e {kernel}").failed


# --- paths ---


def test_a_path_is_refused_only_where_it_does_not_fit(arena: Arena) -> None:
    """It is longer than the template's, up to what the program was built with; first lines then name no path."""
    room = 216
    length = room - len(f"/ada/{ENV}")
    arena.host.check_output(f"mkdir {arena.users_dir}/{'x' * 90}")
    arena.users_dir += f"/{'x' * 90}/"
    arena.users_dir += "y" * (length - len(arena.users_dir))
    arena.host.check_output(f"mkdir {arena.users_dir}")
    assert arena.becomes("ada", "grace") == {"ada": "created", "grace": "failed"}
    assert arena.does("ada", f"{ENV}/bin/where --help | grep share") == f"[{arena.env('ada')}/share]"
    assert arena.does("ada", f"PATH={arena.env('ada')}/bin:$PATH pip --version").split()[3].startswith(arena.env("ada"))
    assert not arena.host.check_output(f"find {arena.top('grace')} -name '{NAME}*' -o -name '.c*'")


# --- what users do ---


def test_a_check_says_what_a_run_would_do_and_touches_nothing(arena: Arena, release: str) -> None:
    arena.prepare("ada")
    arena.host.check_output(f"{arena.template}/bin/python -m pip install -q {DECORATOR}")
    try:
        before = arena.snapshot(arena.users_dir, arena.template, "/home/ada", "/home/grace")
        result = arena.run("ada", "grace", "drifter", check=True)
        after = arena.snapshot(arena.users_dir, arena.template, "/home/ada", "/home/grace")
        assert [user["status"] for user in result["users"]] == ["updated", "created", "created"]
        assert before == after
        diff = {entry["after_header"]: entry for entry in result["diff"]}
        update = diff["ada (updated)"]
        assert {*update["after"].splitlines()} - {*update["before"].splitlines()} == {"decorator 4.4.2 pip"}
        assert "python 3.6.15" in diff["grace, drifter (created)"]["after"]
        done = arena.run("ada", "grace", "drifter")
        assert [user["status"] for user in done["users"]] == ["updated", "created", "created"]
        assert done["diff"] == result["diff"]
    finally:
        arena.host.check_output(f"{arena.template}/bin/python -m pip uninstall -q -y decorator")


def test_what_a_user_installs_is_kept_or_replaced_as_is_wanted(arena: Arena, release: str) -> None:
    arena.prepare("ada")
    arena.does("ada", f"{PIP} install {DECORATOR}")
    arena.host.check_output(release)
    kept = arena.run("ada", on_changes="keep")["users"][0]
    assert (kept["status"], kept["added"]) == ("kept", ["added decorator 4.4.2 (pip)"])
    arena.does("ada", f"grep -q 2 {ENV}/etc/release")
    replaced = arena.run("ada", on_changes="replace")["users"][0]
    assert (replaced["status"], replaced["kept"]) == ("updated", [])
    arena.whole("ada")


def test_an_edited_clone_survives_an_update(arena: Arena, release: str) -> None:
    """Edits, a commit, and a shell that is in it."""
    arena.prepare("ada", "grace")
    git = f"git -C {CLONE} -c user.name=ada -c user.email=ada@gruffalo"
    arena.does(
        "ada", f"echo '# mine' >>{CLONE}/mrcnn/config.py && {git} commit -qam 'Mine' && echo mine >{CLONE}/notes"
    )
    commit = arena.does("ada", f"{git} rev-parse HEAD")
    arena.does(
        "ada",
        f"cd {CLONE} && setsid sh -c 'until test -e /tmp/go; do sleep 0.1; done; touch was-here' >/dev/null 2>&1 &",
    )
    arena.host.check_output(f"{release} && echo '# new' >>{arena.template}/include/Mask_RCNN/README.md")
    result = {user["user"]: user for user in arena.run("ada", "grace")["users"]}
    assert {name: user["status"] for name, user in result.items()} == {"ada": "updated", "grace": "updated"}
    assert (result["ada"]["kept"], result["grace"]["kept"]) == (["include/Mask_RCNN"], [])
    for user in ("ada", "grace"):
        arena.does(user, f"grep -q 3 {ENV}/etc/release")
    assert arena.does("grace", f"tail -1 {CLONE}/README.md") == "# new"
    assert arena.does("ada", f"{git} rev-parse HEAD && {git} status --porcelain").split() == [commit, "??", "notes"]
    arena.does("ada", f"{git} fsck --no-progress && tail -1 {CLONE}/mrcnn/config.py | grep -q mine")
    arena.does("ada", f"touch /tmp/go && until test -e {CLONE}/was-here; do sleep 0.1; done && rm /tmp/go")
    assert arena.becomes("ada", "grace") == {"ada": "unchanged", "grace": "unchanged"}
    arena.host.check_output(f"sed -i '$d' {arena.template}/include/Mask_RCNN/README.md")


def test_a_program_that_runs_goes_on_during_an_update(arena: Arena, release: str) -> None:
    """With libraries that it has loaded, and others that it is yet to load. What was replaced goes when it is old."""
    arena.prepare("ada")
    code = (
        "import os, time, numpy\n"
        "while not os.path.exists('/tmp/go'): time.sleep(0.1)\n"
        "import sqlite3, numpy.fft, lzma\n"
        "print(numpy.linalg.inv(numpy.eye(100)).sum(), numpy.fft.fft(numpy.ones(4))[0].real)"
    )
    arena.does("ada", f'setsid {ENV}/bin/python -c "{code}" >/tmp/went-on 2>&1 & sleep 0.5')
    arena.host.check_output(release)
    assert arena.becomes("ada", keep_old_days=15) == {"ada": "updated"}
    old = arena.host.check_output(f"ls -d {arena.top('ada')}/conda/envs/.crophpc-old-*")
    assert arena.host.check_output(f"stat -c '%U %a' {old}") == "root 700"
    arena.does("ada", "touch /tmp/go && until test -s /tmp/went-on; do sleep 0.1; done && rm /tmp/go")
    assert arena.host.check_output("cat /tmp/went-on && rm /tmp/went-on") == "100.0 4.0"
    assert arena.becomes("ada", keep_old_days=15) == {"ada": "unchanged"}
    arena.host.check_output(f"test -d {old} && touch -d '16 days ago' {old}")
    assert arena.becomes("ada", keep_old_days=15) == {"ada": "unchanged"}
    arena.whole("ada")


def test_what_conda_writes_is_no_change(arena: Arena) -> None:
    """Its history, and byte code."""
    arena.prepare("ada")
    arena.does("ada", f"echo '==> today <==' >>{ENV}/conda-meta/history && rm {ENV}/lib/python3.6/json/__pycache__/*")
    arena.does("ada", f"{ENV}/bin/python -c 'import json.tool, xml.dom.pulldom'")
    assert arena.becomes("ada") == {"ada": "unchanged"}


def test_an_environment_that_a_user_has_made_is_left_alone(arena: Arena) -> None:
    arena.folders("ada")
    arena.does("ada", f"mkdir -p {ENV}/conda-meta && touch {ENV}/conda-meta/history")
    before = arena.snapshot(arena.users_dir)
    for options in ({}, {"on_changes": "replace"}, {"state": "absent"}):
        assert arena.becomes("ada", **options) == {"ada": "kept"}
    assert arena.snapshot(arena.users_dir) == before


def test_who_loses_it_keeps_what_they_have_made(arena: Arena) -> None:
    arena.prepare("ada", "grace", kernel_users=["ada"])
    arena.does(
        "ada",
        f"mkdir {ENV}/weights && echo mine | tee {ENV}/weights/best.h5 >{CLONE}/notes && {PIP} install {DECORATOR}",
    )
    before = arena.snapshot(arena.top("grace"))
    planned = arena.run("ada", state="absent", check=True)["users"][0]
    assert (planned["status"], sorted(planned["kept"])) == ("removed", ["include/Mask_RCNN", "weights"])
    removed = arena.run("ada", state="absent")["users"][0]
    assert removed["status"] == "removed"
    assert arena.does("ada", f"cd {NAME}-kept-* && cat weights/best.h5 include/Mask_RCNN/notes").split() == [
        "mine",
        "mine",
    ]
    assert arena.does("ada", "ls -A . conda/envs").split() == [
        ".:",
        "conda",
        removed["kept"][0].split("/")[5],
        "conda/envs:",
    ]
    assert (
        arena.env("ada")
        not in person("ada").run("cat ~/.conda/environments.txt ~/.local/share/jupyter/kernels/*/*").stdout
    )
    assert arena.becomes("ada", state="absent") == {"ada": "absent"}
    assert arena.snapshot(arena.top("grace")) == before
