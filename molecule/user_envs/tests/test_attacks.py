"""What ordinary users do to get at others through root's work: mallory attacks, grace is her neighbour."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from arena import ENV, NAME, Arena, Result, Snapshot, harmless, person, unchanged

WHISPER = "what-grace-has-told-nobody"
PLACES = ["conda", "conda/envs", ENV]


@dataclass
class Victims:
    """All that is not an attacker's, as it was before."""

    arena: Arena
    before: Snapshot

    @classmethod
    def of(cls, arena: Arena) -> Victims:
        """Grace has a replica, and things that are hers alone."""
        arena.prepare("grace")
        for folder in ("conda", "conda/envs", ENV, f"{ENV}/conda-meta"):
            arena.does("grace", f"echo {WHISPER} >{folder}/{WHISPER} && chmod 600 {folder}/{WHISPER}")
        return cls(arena, cls.look(arena))

    @staticmethod
    def look(arena: Arena) -> Snapshot:
        return arena.snapshot("/etc", arena.top("grace"), "/home/grace")

    def unharmed(self, *results: Result) -> None:
        """Nothing of theirs was written, given away, or read."""
        unchanged(self.before, self.look(self.arena))
        said = [user for result in results for user in result["users"] if user["user"] != "grace"]
        harmless(WHISPER not in json.dumps(said), said)
        others = f"$(ls -d {self.arena.users_dir}/* | grep -v grace)"
        found = self.arena.host.run(f"find {others} -name {WHISPER}; grep -rl {WHISPER} {others}").stdout
        harmless(not found, found)


def failed(result: Result, *users: str) -> None:
    """These, and only these."""
    statuses = {user["user"]: user["status"] for user in result["users"]}
    harmless({user for user, status in statuses.items() if status == "failed"} == {*users}, result["users"])


@pytest.mark.harms_naive
@pytest.mark.parametrize("before", [True, False], ids=["at first", "later"])
@pytest.mark.parametrize("place", PLACES)
def test_a_link_is_not_followed(arena: Arena, place: str, before: bool) -> None:
    """Mallory's leads to her neighbour's, alan's to /etc; they come before the first run or after it."""
    victims = Victims.of(arena)
    if before:
        arena.folders("mallory", "alan")
    else:
        arena.prepare("mallory", "alan")
    for user, target in (("mallory", f"{arena.top('grace')}/{place}"), ("alan", "/etc")):
        arena.does(user, f"mkdir -p $(dirname {place}); mv {place} mine; ln -s {target} {place}")
    result = arena.run("mallory", "grace", "alan")
    failed(result, "mallory", "alan")
    victims.unharmed(result)
    result = arena.run("mallory", "alan", state="absent")
    failed(result, "mallory", "alan")
    victims.unharmed(result)


@pytest.mark.harms_naive
@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize("place", ["include/Mask_RCNN", "lib"])
def test_a_link_inside_is_kept_and_not_followed(arena: Arena, place: str, state: str) -> None:
    victims = Victims.of(arena)
    arena.prepare("mallory")
    link = f"{arena.env('grace')}/{place}"
    arena.does("mallory", f"rm -r {ENV}/{place} && ln -s {link} {ENV}/{place} && touch {ENV}/mine")
    result = arena.run("mallory", state=state, on_changes="replace")
    failed(result)
    victims.unharmed(result)
    found = arena.host.check_output(f"find {arena.top('mallory')} -lname {link}")
    # Her own folder stays where it is, all else is moved out of the way.
    kept = place == "include/Mask_RCNN" and state == "present"
    harmless(found.endswith(place) and (found == f"{arena.env('mallory')}/{place}") == kept, found)


@pytest.mark.harms_naive
@pytest.mark.parametrize(
    ("place", "state", "target"),
    [
        ("conda", "present", "/etc"),
        ("conda/envs", "present", "neighbour"),
        (ENV, "present", "neighbour"),
        (ENV, "absent", "neighbour"),
    ],
)
def test_a_link_that_comes_and_goes_is_not_followed(arena: Arena, place: str, state: str, target: str) -> None:
    victims = Victims.of(arena)
    arena.prepare("mallory")
    leads_to = f"{arena.top('grace')}/{place}" if target == "neighbour" else target
    for _again in range(2):
        arena.does("mallory", f"touch {ENV}/mine")  # a reason to replace it
        with arena.attacked("mallory", "swap", f"{arena.top('mallory')}/{place}", leads_to) as swap:
            result = arena.run("mallory", state=state, on_changes="replace")
        assert swap["succeeded"] > 100, swap
        victims.unharmed(result)
        failed(arena.run("mallory", on_changes="replace"))
        arena.whole("mallory")


@pytest.mark.harms_naive
def test_a_link_in_the_place_of_what_root_is_making_is_not_followed(arena: Arena) -> None:
    victims = Victims.of(arena)
    for target in ("/etc", arena.env("grace")):
        arena.prepare("mallory")
        arena.does("mallory", f"rm -rf {ENV}")
        with arena.attacked("mallory", "stage", f"{arena.top('mallory')}/conda/envs", target) as swap:
            result = arena.run("mallory")
        assert swap["succeeded"], swap
        victims.unharmed(result)
        arena.does("mallory", "find conda/envs -maxdepth 1 -type l -delete")


@pytest.mark.harms_naive
def test_no_user_can_change_what_another_one_runs(arena: Arena) -> None:
    """Nor through what they have themselves: it is the same files."""
    arena.prepare("mallory", "grace")
    for attacker, victim in (("mallory", "grace"), ("grace", "mallory")):
        before = arena.snapshot(arena.top(victim))
        for env in (arena.env(attacker), arena.env(victim), arena.template):
            person(attacker).run(
                f"cd {env} && for f in bin/python3.6 lib/python3.6/os.py conda-meta/*.json"
                " conda-meta/.crophpc-manifest;"
                " do chmod u+w $f; echo '# mine' >>$f; cp /bin/true $f; truncate -s 0 $f; touch $f; done;"
                " mkdir lib/mine include/Mask_RCNN/mine"
            )
        unchanged(before, arena.snapshot(arena.top(victim)))


def test_a_neighbour_notices_nothing_of_what_pip_does(arena: Arena) -> None:
    """pip takes files away and writes others; it changes none."""
    arena.prepare("mallory", "grace")
    before = arena.snapshot(arena.top("grace"), arena.template)
    python = f"{ENV}/bin/python"
    arena.does("mallory", f"{python} -m pip install -q --no-index --find-links /mirror/wheels numpy==1.19.5")
    arena.does("mallory", f"{python} -m compileall -q -f {ENV}/lib/python3.6/json")
    arena.does("mallory", f"echo mine >>{ENV}/conda-meta/history")
    unchanged(before, arena.snapshot(arena.top("grace"), arena.template))


@pytest.mark.harms_naive
@pytest.mark.parametrize("target", ["/home/grace/.profile", "/home/mallory/pipe"])
def test_what_is_in_the_place_of_condas_list_is_not_written(arena: Arena, target: str) -> None:
    """A link to another's file, and a pipe that nobody reads."""
    victims = Victims.of(arena)
    mallory = person("mallory")
    mallory.check_output(
        f"cd && mkdir -p .conda && rm -f pipe && mkfifo pipe && ln -sfn {target} .conda/environments.txt"
    )
    result = arena.run("mallory", "grace", seconds=10)
    victims.unharmed(result)
    failed(result)
    harmless(bool(result["users"][0]["notes"]), result)


@pytest.mark.harms_naive
def test_folders_without_end_stop_nobodys_run(arena: Arena) -> None:
    arena.prepare("mallory", "grace")
    arena.does(
        "mallory",
        f"""python3 -c '
import os
os.chdir("{ENV}")
for _ in range(3000):
    os.mkdir("a")
    os.chdir("a")'
""",
    )
    failed(arena.run("mallory", "grace", on_changes="replace"))
    arena.whole("mallory", "grace")


@pytest.mark.parametrize("state", ["present", "absent"])
def test_names_and_pipes_that_break_programs_stop_nobodys_run(arena: Arena, state: str) -> None:
    """Names that are no text, records of packages that are pipes with somebody at the other end."""
    arena.prepare("mallory", "grace")
    arena.does(
        "mallory",
        f"cd {ENV} && mkdir mine && touch \"$(printf 'mine/\\377')\" \"$(printf 'mine/two\\nlines')\""
        " && mkdir lib/python3.6/site-packages/pipe-1.0.dist-info"
        " && for p in mine/pipe conda-meta/pipe-1.0-0.json lib/python3.6/site-packages/pipe-1.0.dist-info/RECORD; do"
        " mkfifo $p; setsid sleep 20 <>$p >/dev/null 2>&1 & done; sleep 0.2",
    )
    failed(arena.run("mallory", "grace", state=state, on_changes="replace"))
    arena.does("mallory", f"test -p {NAME}-kept-*/mine/pipe -a -e {NAME}-kept-*/mine/*lines")


@pytest.mark.parametrize("own", ["../../../../grace", "lib/../../../../../grace/conda"])
def test_a_manifest_of_the_users_own_is_believed_by_nobody_else(arena: Arena, own: str) -> None:
    victims = Victims.of(arena)
    arena.prepare("mallory")
    head = {"format": 1, "key": "", "prefix": arena.env("mallory"), "own": [own]}
    manifest = f"{json.dumps(head)}\n{json.dumps([['', 1, []], ['lib', 1, []]])}"
    arena.does("mallory", f"cd {ENV}/conda-meta && rm .crophpc-manifest && echo '{manifest}' >.crophpc-manifest")
    for state in ("present", "absent"):
        victims.unharmed(arena.run("mallory", state=state, on_changes="replace"))


@pytest.mark.parametrize("attack", ["kill", "peek"])
def test_a_process_that_becomes_the_user_gives_nothing_away(arena: Arena, elsewhere: None, attack: str) -> None:
    """It has files of root's open."""
    arena.folders("mallory")
    with arena.attacked("mallory", attack) as attacked:
        result = arena.run("mallory", "grace")
    assert attacked["tried"], "the attack came too late"
    if attack == "peek":
        assert not attacked["succeeded"]
        failed(result)
    else:
        failed(result, "mallory")
        failed(arena.run("mallory", "grace"))
    arena.whole("mallory", "grace")
