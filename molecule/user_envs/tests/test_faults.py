"""What goes wrong by itself: kills, full and read-only disks, filesystems without rights, odd users, two admins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from arena import ENV, Arena, harmless, python, unchanged

# Root on an NFS with root_squash: it can do no more than anybody.
SQUASHED = "setpriv --bounding-set -chown,-dac_override,-dac_read_search,-fowner,-linux_immutable"
READ_ONLY = "unshare --mount sh -c 'mount -o remount,ro,bind {} && exec \"$@\"' -"

# What it takes for there to be something new in the template.
RENEW = "touch {}/conda-meta/history"


def become(arena: Arena, wanted: dict[str, str], **options: object) -> None:
    """A run makes this of users."""
    result = arena.run(*wanted, **options)
    harmless({user["user"]: user["status"] for user in result["users"]} == wanted, result)


# --- kills ---


@pytest.mark.harms_naive
@pytest.mark.parametrize("victim", ["all", "parent"])
def test_the_run_after_a_kill_makes_all_whole(arena: Arena, victim: str) -> None:
    """Ten kills; replicas are to be made and to be updated in turn, and one user has edited the clone."""
    arguments = arena.arguments(("ada", "grace", "mallory"))
    found = python(
        arena.host, "kills", given={"tool": arena.tool, "arguments": arguments, "victim": victim, "kills": 10}
    )
    harmless(not found, found)


# --- disks ---


@pytest.fixture
def small(arena: Arena, request: pytest.FixtureRequest) -> Iterator[None]:
    """The users' folders are on a small filesystem, of which the parameter says how small."""
    arena.host.check_output(f"mount -t tmpfs -o mode=755,{request.param} tmpfs {arena.users_dir}")
    yield
    arena.host.check_output(f"umount {arena.users_dir}")


def resize(arena: Arena, options: str) -> None:
    arena.host.check_output(f"mount -o remount,{options} {arena.users_dir}")


@pytest.mark.harms_naive
@pytest.mark.parametrize("small", ["size=40m", "nr_inodes=3k"], indirect=True)
def test_a_full_disk_leaves_nothing_half_made(arena: Arena, small: None) -> None:
    """Bytes, which can be counted before, and inodes, which run out on the way, as those of a quota do."""
    result = arena.run("ada")
    harmless(result["users"][0]["status"] == "failed" and "space" in result["msg"], result)
    left = arena.host.check_output(f"find {arena.top('ada')} -mindepth 3")
    harmless(not left, left)
    resize(arena, "size=1g,nr_inodes=100k")
    become(arena, {"ada": "created"})
    arena.whole("ada")


@pytest.mark.harms_naive
@pytest.mark.parametrize("small", ["size=1g,nr_inodes=100k"], indirect=True, ids=[""])
def test_a_disk_that_fills_up_leaves_the_old_replica(arena: Arena, small: None) -> None:
    arena.prepare("ada")
    before = arena.snapshot(arena.env("ada"))
    resize(arena, f"nr_inodes=$(($(df --output=iused {arena.users_dir} | tail -1) + 3000))")
    arena.host.check_output(RENEW.format(arena.template))
    become(arena, {"ada": "failed"})
    unchanged(before, arena.snapshot(arena.env("ada")))
    left = arena.host.check_output(f"find {arena.top('ada')}/conda -name '.crophpc-*-*'")
    harmless(not left, left)


@pytest.mark.harms_naive
def test_a_read_only_filesystem_is_named_and_can_be_looked_at(arena: Arena) -> None:
    arena.prepare("ada")
    arena.host.check_output(RENEW.format(arena.template))
    before = arena.snapshot(arena.users_dir)
    become(arena, {"ada": "updated", "grace": "created"}, check=True, through=READ_ONLY.format("/mnt/apps"))
    result = arena.run("ada", "grace", through=READ_ONLY.format("/mnt/apps"))
    harmless("Read-only" in result["msg"] and not result["users"], result)
    unchanged(before, arena.snapshot(arena.users_dir))


@pytest.mark.harms_naive
@pytest.mark.parametrize("small", ["size=1g,nr_inodes=100k"], indirect=True, ids=[""])
def test_users_folders_that_are_read_only_fail_one_by_one(arena: Arena, small: None) -> None:
    arena.prepare("ada")
    read_only = READ_ONLY.format(arena.users_dir)
    become(arena, {"ada": "unchanged", "grace": "failed"}, through=read_only)
    become(arena, {"ada": "failed"}, state="absent", through=read_only)


@pytest.mark.harms_naive
def test_where_root_has_no_rights_users_get_copies_of_their_own(arena: Arena) -> None:
    """Made, left alone, updated and removed by processes that are the users."""
    arena.folders("ada", "grace")
    wanted = {"ada": "created", "grace": "created", "alan": "failed"}  # whose folder root cannot give him
    become(arena, wanted, through=SQUASHED)
    arena.whole("ada", "grace")
    shared = arena.host.check_output(f"find {arena.env('ada')} ! -user ada")
    harmless(not shared, shared)
    arena.does("ada", f"echo mine >{ENV}/include/Mask_RCNN/mine && mkdir {ENV}/weights && touch {ENV}/weights/mine")
    become(arena, {"ada": "kept", "grace": "unchanged"}, through=SQUASHED)
    arena.host.check_output(RENEW.format(arena.template))
    become(arena, {"ada": "updated", "grace": "updated"}, through=SQUASHED, on_changes="replace")
    arena.does("ada", f"test -e {ENV}/include/Mask_RCNN/mine -a -e *-kept-*/weights/mine")
    arena.whole("grace")
    become(arena, {"ada": "removed", "grace": "removed"}, through=SQUASHED, state="absent")
    arena.does("ada", "test -e *-kept-*/include/Mask_RCNN/mine")
    become(arena, {"alan": "created"})  # once it has rights, what it could not give away is no obstacle


# --- users ---


@pytest.mark.harms_naive
@pytest.mark.parametrize("odd", ["nobody-knows-her", "drifter", "robot", "root", "../grace"])
def test_an_odd_user_stops_nobody_elses_run(arena: Arena, odd: str) -> None:
    """Who is not there, has no home, has a shell of /bin/false, is root, has a name that is a path."""
    gets_one = odd in ("drifter", "robot")
    become(arena, {"ada": "created", odd: "created" if gets_one else "failed", "grace": "created"})
    arena.whole("ada", "grace", *([odd] if gets_one else []))
    others = arena.host.check_output(f"ls {arena.users_dir}").split()
    harmless({*others} == {"ada", "grace", *([odd] if gets_one else [])}, others)


@pytest.mark.harms_naive
def test_nobody_gets_nothing(arena: Arena) -> None:
    become(arena, {})


@pytest.mark.harms_naive
def test_a_user_who_is_named_twice_gets_one(arena: Arena) -> None:
    result = arena.run("ada", "grace", "ada")
    harmless([user["status"] for user in result["users"]] == ["created", "created"], result)
    arena.whole("ada", "grace")


@pytest.mark.harms_naive
def test_who_has_gone_loses_only_what_was_made_for_them(arena: Arena) -> None:
    arena.prepare("ada")
    arena.does("ada", f"mkdir {ENV}/weights && touch {ENV}/weights/mine")
    arena.host.check_output(
        f"mv {arena.top('ada')} {arena.top('gone')} && chown -Rh --from=ada 5555:5555 {arena.top('gone')}"
    )
    become(arena, {"gone": "removed"}, state="absent")
    harmless(arena.host.run(f"test -e {arena.top('gone')}/*-kept-*/weights/mine").succeeded, "lost")


# --- two at once ---


@pytest.mark.harms_naive
def test_two_admins_at_once_do_not_meet(arena: Arena) -> None:
    both = {"users": ("ada", "grace", "mallory")}
    results = arena.run_twice_at_once({**both}, {**both})
    statuses = sorted([user["status"] for user in result["users"]] for result in results)
    harmless(statuses == [["created"] * 3, ["unchanged"] * 3], results)
    arena.whole(*both["users"])


@pytest.mark.parametrize("first", ["present", "absent"])
def test_one_who_gives_and_one_who_takes_leave_nothing_half_done(arena: Arena, first: str) -> None:
    """Who comes second may fail. What there is afterwards is whole, or not there."""
    users = ("ada", "grace", "mallory")
    for _again in range(3):
        arena.prepare(*users)
        arena.host.check_output(RENEW.format(arena.template))
        arena.run_twice_at_once({"users": users, "state": first}, {"users": users, "state": "absent"})
        for user in users:
            if arena.host.file(arena.env(user)).exists:
                arena.whole(user)
    arena.prepare(*users)
    arena.whole(*users)


def test_replicas_of_two_templates_are_two_affairs(arena: Arena) -> None:
    """One name begins with the other; what one run is building is no litter to the other."""
    users = ("ada", "grace", "mallory")
    other = f"{arena.users_dir}-other"
    arena.host.check_output(f"cp -a {arena.template} {other}")
    try:
        for _again in range(3):
            longer = {"users": users, "template": other, "name": "maskrcnn_example-2"}
            for result in arena.run_twice_at_once({"users": users}, longer):
                harmless({user["status"] for user in result["users"]} == {"created"}, result)
            arena.prepare(*users, state="absent")
            arena.prepare(*users, state="absent", name="maskrcnn_example-2")
    finally:
        arena.host.check_output(f"rm -rf {other}")
