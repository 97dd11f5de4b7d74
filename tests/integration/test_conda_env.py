# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""conda_env: what a run does, what it leaves alone, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from channel import Channel
from running import Runner, stand_in, versions
from venvs import make_venv

Snapshot = Callable[[Path], dict[str, tuple[int, int, int]]]


def names(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["name"] for entry in entries]


# --- create, and again ---


def test_creates_an_env_that_others_can_read(run: Runner) -> None:
    os.umask(0o022)
    result = run(specs=["bbb"])
    assert result["changed"]
    assert names(result["plan"]["installed"]) == ["aaa", "bbb"]
    assert result["packages"] == 2
    assert versions(run.prefix) == {"aaa": "2.0", "bbb": "1.0"}
    assert subprocess.check_output([run.prefix / "bin" / "aaa"], text=True) == "aaa 2.0\n"
    assert (run.prefix / "share/aaa/prefix.txt").read_text() == f"aaa lives in {run.prefix}\n"
    meta = run.prefix / "conda-meta"
    assert {p.stat().st_mode & 0o777 for p in [*meta.glob("*.json"), meta / "history"]} == {0o644}
    assert run.listed == [str(run.prefix)]
    assert run.info(verify_files="sha256")["status"] == "finished"


def test_second_run_uses_no_engine_and_touches_nothing(run: Runner, snapshot: Snapshot, tmp_path: Path) -> None:
    run(specs=["bbb"])
    before = snapshot(run.prefix)
    python, calls = stand_in(tmp_path, run, "records-its-calls", 'echo "$@" >>"$CALLS"')
    result = run(specs=["bbb"], engine_python=python)
    assert not result["changed"]
    assert result["solve_seconds"] == 0
    assert not calls.exists()
    after = snapshot(run.prefix)
    # Only the lock says who held it last.
    assert {path for path in before | after if before.get(path) != after.get(path)} <= {
        str(run.prefix / "conda-meta" / ".crophpc.lock")
    }


def test_second_run_needs_no_channel(run: Runner, channel: Channel) -> None:
    run(specs=["bbb"])
    channel.path.rename(channel.path.with_name("gone"))
    assert not run(specs=["bbb"])["changed"]


def test_hard_links_from_the_cache(run: Runner) -> None:
    run(specs=["aaa"])
    other = run.prefix.with_name("other")
    run(specs=["aaa"], prefix=other)
    files = [run.prefix / "share/aaa/about.txt", other / "share/aaa/about.txt"]
    assert files[0].stat().st_ino == files[1].stat().st_ino
    assert sorted(run.listed) == sorted([str(run.prefix), str(other)])


@pytest.mark.parametrize("options", [{"specs": ["bbb"]}, {"specs": ["nothere"]}], ids=["fine", "unsatisfiable"])
def test_check_mode_says_the_same_and_touches_nothing(
    run: Runner, snapshot: Snapshot, tmp_path: Path, options: dict[str, Any]
) -> None:
    before = snapshot(tmp_path)
    arguments = options | {"log": run.log, "write_lock": tmp_path / "bbb.lock"}
    if options["specs"] == ["bbb"]:
        checked = run(check=True, **arguments)
        assert checked["changed"]
        assert "bbb 1.0" in checked["diff"]["after"]
        assert checked["diff"]["before"] == ""
    else:
        assert "nothere" in run.fails(check=True, **arguments)
    after = snapshot(tmp_path)
    changed = {path for path in before | after if before.get(path) != after.get(path)}
    assert not {path for path in changed if not path.startswith(str(run.tmp))}
    if options["specs"] == ["bbb"]:
        done = run(**arguments)
        assert {k: done[k] for k in ("plan", "diff", "extra", "packages")} == {
            k: checked[k] for k in ("plan", "diff", "extra", "packages")
        }


def test_check_mode_of_a_change_says_the_same(run: Runner, snapshot: Snapshot) -> None:
    run(specs=["bbb", "aaa=1"])
    before = snapshot(run.prefix)
    checked = run(check=True, specs=["aaa"], update=True)
    assert snapshot(run.prefix) == before
    done = run(specs=["aaa"], update=True)
    assert checked["plan"] == done["plan"]
    assert checked["diff"] == done["diff"]
    assert done["plan"]["changed"] == [{"name": "aaa", "from": "1.0 0", "to": "2.0 0"}]
    assert names(done["plan"]["removed"]) == ["bbb"]


def test_env_missing_from_conda_list_is_a_change_in_check_mode_too(run: Runner) -> None:
    run(specs=["aaa"])
    (run.home / ".conda/environments.txt").write_text("/somebody/elses/env\n")
    assert run(check=True, specs=["aaa"])["changed"]
    assert run(specs=["aaa"])["changed"]
    assert run.listed == ["/somebody/elses/env", str(run.prefix)]
    assert not run(check=True, specs=["aaa"])["changed"]


def test_home_without_room_for_conda_list_is_no_failure(run: Runner) -> None:
    (run.home / ".conda").write_text("a file where the folder would be")
    result = run(specs=["aaa"])
    assert "environments.txt" in json.dumps(result["warnings"])
    assert not run(specs=["aaa"])["changed"]


def test_runs_under_ansible(run: Runner, collections: Path) -> None:
    """As users run it: packed into one file and sent to the target."""
    arguments = run.defaults | {"specs": ["aaa"]}
    environ = run.environ | {"ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_HOME": str(run.tmp)}
    command = ["ansible", "localhost", "--one-line", "-m", "crophpc.maskrcnn.conda_env", "-a", json.dumps(arguments)]
    command[0] = str(Path(sys.executable).with_name("ansible"))
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=run.tmp, check=False)
    assert "CHANGED" in done.stdout, done.stdout + done.stderr
    assert versions(run.prefix) == {"aaa": "2.0"}


# --- change ---


def test_update_takes_the_newest_and_nothing_else_does(run: Runner, channel: Channel) -> None:
    run(specs=["bbb"])
    channel.add("aaa", "3.0")
    assert not run(specs=["bbb"])["changed"]
    result = run(specs=["bbb"], update=True)
    assert result["plan"]["changed"] == [{"name": "aaa", "from": "2.0 0", "to": "3.0 0"}]
    assert versions(run.prefix)["aaa"] == "3.0"
    assert not run(specs=["bbb"], update=True)["changed"]
    assert not run(specs=["bbb"])["changed"]


def test_changed_specs_change_only_what_they_must(run: Runner, channel: Channel) -> None:
    run(specs=["bbb"])
    channel.add("bbb", "1.1", depends=["aaa"])
    result = run(specs=["bbb", "ccc"])  # ccc needs aaa <2
    assert result["plan"]["changed"] == [{"name": "aaa", "from": "2.0 0", "to": "1.0 0"}]
    assert versions(run.prefix) == {"aaa": "1.0", "bbb": "1.0", "ccc": "1.0"}
    assert (run.prefix / "share/aaa/about.txt").read_text() == "aaa 1.0\n"
    result = run(specs=["aaa>=2"])
    assert names(result["plan"]["removed"]) == ["bbb", "ccc"]
    assert versions(run.prefix) == {"aaa": "2.0"}
    assert not (run.prefix / "share/bbb").exists()
    assert run.info(verify_files="sha256")["damaged"] == {}


def test_what_users_have_added_stays_until_pruned(run: Runner, tmp_path: Path) -> None:
    run(specs=["aaa=1"])
    add_as_a_user_would(run, "ccc", tmp_path)
    result = run(specs=["aaa=1"])
    assert not result["changed"]
    assert result["extra"] == ["ccc"]
    # Damage in it is its owner's business.
    (run.prefix / "bin/ccc").unlink()
    result = run(specs=["bbb", "aaa=1"])
    assert names(result["plan"]["installed"]) == ["bbb"]
    assert result["extra"] == ["ccc"]
    result = run(specs=["bbb", "aaa=1"], prune=True)
    assert names(result["plan"]["removed"]) == ["ccc"]
    assert versions(run.prefix) == {"aaa": "1.0", "bbb": "1.0"}


def add_as_a_user_would(run: Runner, spec: str, folder: Path) -> None:
    """Installs a package behind the module's back: the stamp does not know of it."""
    scratch = folder / "scratch-env"
    run(specs=[spec], prefix=scratch)
    record = next((scratch / "conda-meta").glob(f"{spec}-*.json"))
    shutil.copy(record, run.prefix / "conda-meta")
    for file in json.loads(record.read_text())["files"]:
        (run.prefix / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scratch / file, run.prefix / file)


def test_env_made_by_other_means_is_taken_over(run: Runner) -> None:
    run(specs=["bbb"])
    for name in (".crophpc-stamp", ".crophpc-pixi.lock", ".crophpc.lock"):
        (run.prefix / "conda-meta" / name).unlink()
    assert run.info()["status"] == "foreign"
    result = run(specs=["ccc"])
    assert result["extra"] == ["bbb"]
    assert versions(run.prefix) == {"aaa": "1.0", "bbb": "1.0", "ccc": "1.0"}


# --- locks ---


def test_lock_gives_identical_packages(run: Runner, channel: Channel, tmp_path: Path) -> None:
    lock = tmp_path / "bbb.lock"
    assert run(specs=["bbb"], write_lock=lock)["changed"]
    assert not run(specs=["bbb"], write_lock=lock)["changed"]
    channel.add("aaa", "3.0")
    other = run.prefix.with_name("other")
    copy = tmp_path / "copy.lock"
    run(lock=lock, write_lock=copy, prefix=other)
    assert records(other) == records(run.prefix)
    assert copy.read_bytes() == lock.read_bytes()
    channel.path.rename(tmp_path / "gone")
    assert not run(lock=lock, prefix=other)["changed"]
    lock.unlink()
    assert run(check=True, specs=["bbb"], write_lock=lock)["changed"]
    assert not lock.exists()
    assert run(specs=["bbb"], write_lock=lock)["changed"]
    assert lock.read_bytes() == copy.read_bytes()


def records(prefix: Path) -> list[tuple[str, str]]:
    found = [json.loads(path.read_text()) for path in (prefix / "conda-meta").glob("*.json")]
    return sorted((record["fn"], record["sha256"]) for record in found)


def test_lock_for_another_platform(run: Runner, tmp_path: Path) -> None:
    lock = tmp_path / "bbb.lock"
    run(specs=["bbb"], write_lock=lock)
    text = lock.read_text().replace("linux-64", "osx-arm64")
    lock.write_text(text)
    message = run.fails(lock=lock, prefix=run.prefix.with_name("other"))
    assert "osx-arm64" in message
    assert "linux-64" in message
    assert str(lock) in message


@pytest.mark.parametrize("content", ["", "just words\n", "[1, 2", "version: 99\n"])
def test_not_a_lock(run: Runner, tmp_path: Path, content: str) -> None:
    lock = tmp_path / "wrong.lock"
    lock.write_text(content)
    message = run.fails(lock=lock)
    assert str(lock) in message
    assert not run.prefix.exists()


def test_lock_missing_and_lock_target_missing(run: Runner, tmp_path: Path) -> None:
    assert "nowhere.lock" in run.fails(lock=tmp_path / "nowhere.lock")
    message = run.fails(specs=["aaa"], write_lock=tmp_path / "no-folder" / "a.lock")
    assert "no-folder" in message
    assert not run.prefix.exists(), "it is to be found out before anything is linked"


# --- what cannot be solved or fetched ---


def test_unsatisfiable_names_both_sides(run: Runner) -> None:
    message = run.fails(specs=["ccc", "aaa>=2"])
    assert "ccc" in message
    assert "aaa>=2" in message
    assert "aaa <2" in message
    assert not run.prefix.parent.exists()


def test_unknown_package(run: Runner) -> None:
    assert "nothere" in run.fails(specs=["nothere"])


@pytest.mark.parametrize("spec", ["aaa 1 2 3 4", "aaa[", "--yes", "", "aaa>=>1", "-n", "aaa @ file:///x"])
def test_malformed_spec(run: Runner, spec: str) -> None:
    message = run.fails(specs=[spec])
    assert spec in message
    assert "spec" in message
    assert not run.prefix.exists()


def test_no_specs_at_all(run: Runner) -> None:
    assert "specs" in run.fails(specs=[])
    assert "specs" in run.fails()


def test_unknown_local_channel(run: Runner, tmp_path: Path) -> None:
    message = run.fails(specs=["aaa"], channels=[str(tmp_path / "no-channel")])
    assert str(tmp_path / "no-channel") in message
    assert "mirror" in message


@pytest.mark.parametrize("name", ["./channel", "~/channel", "conda forge", ""])
def test_channel_that_is_neither_name_nor_url_nor_path(run: Runner, name: str) -> None:
    assert repr(name) in run.fails(specs=["aaa"], channels=[name])


def test_unknown_platform(run: Runner) -> None:
    assert "linux-65" in run.fails(specs=["aaa"], platform="linux-65")


def test_folder_that_is_no_channel(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in run.fails(specs=["aaa"], channels=[str(tmp_path / "empty")])


def test_unreachable_channel(run: Runner) -> None:
    message = run.fails(specs=["aaa"], channels=["http://127.0.0.1:9/conda-forge"])
    assert "http://127.0.0.1:9/conda-forge" in message
    assert "mirror" in message


def test_offline(run: Runner, channel: Channel, serve: Callable[[Path], Any], tmp_path: Path) -> None:
    server = serve(channel.path)
    options = {"specs": ["bbb"], "channels": [server.url]}
    message = run.fails(**options, offline=True)
    assert server.url in message
    assert "offline" in message
    lock = tmp_path / "bbb.lock"
    run(**options, write_lock=lock)
    server.stop()
    assert not run(**options, offline=True)["changed"]
    # A new env from what the cache has: repodata and packages, or a lock and packages.
    assert run(**options, offline=True, prefix=run.prefix.with_name("second"))["changed"]
    assert run(lock=lock, offline=True, prefix=run.prefix.with_name("third"))["changed"]
    assert run.info(prefix=run.prefix.with_name("third"), verify_files="sha256")["damaged"] == {}
    shutil.rmtree(run.cache / "pkgs")
    message = run.fails(lock=lock, offline=True, prefix=run.prefix.with_name("fourth"))
    assert "bbb-1.0-0" in message
    assert "offline" in message
    assert not run.prefix.with_name("fourth").exists()


def test_package_that_is_gone_from_the_channel(run: Runner, channel: Channel) -> None:
    (channel.path / "linux-64" / "aaa-2.0-0.tar.bz2").unlink()
    message = run.fails(specs=["bbb"])
    assert "aaa-2.0-0" in message
    assert not run.prefix.exists()


@pytest.mark.parametrize(
    ("spoil", "way"), [("a changed byte", "folder"), ("another archive", "folder"), ("another archive", "http")]
)
def test_package_that_is_not_what_repodata_says(
    run: Runner, channel: Channel, serve: Callable[[Path], Any], spoil: str, way: str
) -> None:
    options = {"channels": [serve(channel.path).url if way == "http" else str(channel.path)]}
    run(specs=["aaa=1"], **options)
    archive = channel.path / "linux-64" / "aaa-2.0-0.tar.bz2"
    if spoil == "a changed byte":
        content = bytearray(archive.read_bytes())
        content[len(content) // 2] ^= 1
        archive.write_bytes(content)
    else:
        repodata = dict(channel.repodata)
        channel.add("aaa", "2.0", files={"bin/aaa": b"#!/bin/sh\necho something else\n"})
        channel.repodata = repodata
        channel.write()
    message = run.fails(specs=["bbb", "aaa=2"], **options)
    assert "aaa-2.0-0" in message
    assert versions(run.prefix)["aaa"] == "1.0"
    assert run.info(verify_files="sha256")["damaged"] == {}
    assert run.info()["status"] == "finished", "nothing was touched"
    if way == "folder":  # a download is tried again and again
        other = run.prefix.with_name("other")
        assert "aaa-2.0-0" in run.fails(specs=["bbb"], prefix=other, **options)
        assert not other.exists()


def test_virtual_packages(run: Runner) -> None:
    message = run.fails(specs=["old-glibc"])
    assert "__glibc >=99" in message
    assert f"__glibc={os.confstr('CS_GNU_LIBC_VERSION').split()[1]}" in message
    assert "__cuda" in run.fails(specs=["gpu"], virtual_packages={"__cuda": ""})
    assert run(specs=["gpu"], virtual_packages={"__cuda": "12.7"}, check=True)["changed"]
    assert run(specs=["gpu"], virtual_packages={"__cuda": 12.7}, check=True)["changed"]
    assert run(specs=["aaa"], virtual_packages={"__glibc": None}, check=True)["changed"]
    assert "__cuda" in run.fails(specs=["gpu"], virtual_packages={"__cuda": "twelve !"})


def test_exclude_newer(run: Runner, channel: Channel) -> None:
    day = 1_609_459_200_000  # 2021-01-01T00:00Z
    channel.add("aaa", "3.0", timestamp=day + 12 * 3600_000)
    assert versions_of(run(specs=["aaa"], exclude_newer="2020-12-31", check=True)) == {"aaa": "2.0"}
    assert versions_of(run(specs=["aaa"], exclude_newer="2021-01-01T01:00:00Z", check=True)) == {"aaa": "2.0"}
    # A day includes itself.
    assert versions_of(run(specs=["aaa"], exclude_newer="2021-01-01", check=True)) == {"aaa": "3.0"}
    assert "exclude_newer" in run.fails(specs=["aaa"], exclude_newer="last tuesday")


def versions_of(result: dict[str, Any]) -> dict[str, str]:
    return {package["name"]: package["version"] for package in result["plan"]["installed"]}


def test_channel_priority(run: Runner, channel: Channel, tmp_path: Path) -> None:
    other = Channel(tmp_path / "other-channel")
    other.add("aaa", "9.0")
    options: dict[str, Any] = {"specs": ["aaa"], "channels": [str(channel.path), str(other.path)], "check": True}
    assert versions_of(run(**options)) == {"aaa": "2.0"}
    assert versions_of(run(**options, channel_priority="disabled")) == {"aaa": "9.0"}


def test_same_package_name_in_two_channels(run: Runner, tmp_path: Path) -> None:
    """The cache does not give one channel's package for the other's."""
    other = Channel(tmp_path / "other-channel")
    other.add("aaa", "2.0", files={"share/aaa/about.txt": b"rebuilt\n"})
    run(specs=["aaa"])
    prefix = run.prefix.with_name("other")
    run(specs=["aaa"], channels=[str(other.path)], prefix=prefix)
    assert (prefix / "share/aaa/about.txt").read_text() == "rebuilt\n"
    assert (run.prefix / "share/aaa/about.txt").read_text() == "aaa 2.0\n"


# --- the engine ---


def test_oldest_python_that_the_engine_may_have(run: Runner, mirror: Path, tmp_path: Path) -> None:
    uv = [sys.executable, "-m", "uv", "--quiet", "--no-python-downloads"]
    found = subprocess.run([*uv, "python", "find", "3.10"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("there is no Python 3.10 here")
    options = ["--no-index", "--find-links", mirror / "wheels", "py-rattler", "typing-extensions"]
    python = make_venv(tmp_path / "engine310", *options, python=found.stdout.strip())
    assert run(specs=["bbb"], engine_python=python, exclude_newer="2023-01-01T00:00:00Z")["changed"]


def test_engine_that_crashes_after_its_answer_is_harmless(run: Runner, tmp_path: Path) -> None:
    python, _calls = stand_in(tmp_path, run, "crashes-at-exit", '"$REAL" "$@"; kill -SEGV $$')
    assert run(specs=["aaa"], engine_python=python)["changed"]
    assert versions(run.prefix) == {"aaa": "2.0"}


def test_engine_that_crashes_before_its_answer_is_an_error(run: Runner, tmp_path: Path) -> None:
    python, _calls = stand_in(tmp_path, run, "crashes-at-once", "kill -SEGV $$")
    message = run.fails(specs=["aaa"], engine_python=python)
    assert "SIGSEGV" in message
    assert not run.prefix.parent.exists()


def test_engine_missing_or_without_rattler(run: Runner, tmp_path: Path) -> None:
    assert "no-engine" in run.fails(specs=["aaa"], engine_python=tmp_path / "no-engine")
    assert "/etc/passwd" in run.fails(specs=["aaa"], engine_python="/etc/passwd")
    assert "/bin/true" in run.fails(specs=["aaa"], engine_python="/bin/true")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    message = run.fails(specs=["aaa"], engine_python=tmp_path / "bare/bin/python")
    assert "py-rattler" in message
    assert "conda_engine" in message


# --- absent ---


def test_absent_removes_and_then_has_nothing_to_do(run: Runner, snapshot: Snapshot) -> None:
    run(specs=["bbb"])
    before = snapshot(run.prefix)
    checked = run(check=True, state="absent")
    assert checked["changed"]
    assert snapshot(run.prefix) == before
    result = run(state="absent")
    assert result["changed"]
    assert result["plan"] == checked["plan"]
    assert names(result["plan"]["removed"]) == ["aaa", "bbb"]
    assert not run.prefix.exists()
    assert run.listed == []
    assert not run(state="absent")["changed"]


def test_absent_needs_no_engine(run: Runner) -> None:
    run(specs=["aaa"])
    assert run(state="absent", engine_python="/nowhere/python")["changed"]
    assert not run.prefix.exists()


def test_absent_takes_a_vanished_env_off_the_list(run: Runner) -> None:
    run(specs=["aaa"])
    shutil.rmtree(run.prefix)
    assert run(check=True, state="absent")["changed"]
    assert run(state="absent")["changed"]
    assert run.listed == []
    assert not run(check=True, state="absent")["changed"]


def test_absent_refuses_what_is_no_env(run: Runner) -> None:
    run.prefix.mkdir(parents=True)
    photo = run.prefix / "photo.jpg"
    photo.write_text("precious")
    assert str(run.prefix) in run.fails(state="absent")
    assert photo.read_text() == "precious"


def test_absent_refuses_a_conda_root_that_has_envs(run: Runner) -> None:
    run(specs=["aaa"])
    (run.prefix / "envs" / "thesis").mkdir(parents=True)
    assert "envs" in run.fails(state="absent")
    assert (run.prefix / "bin/aaa").is_file()


def test_absent_never_follows_links(run: Runner, tmp_path: Path) -> None:
    elsewhere = tmp_path / "photos"
    elsewhere.mkdir()
    (elsewhere / "leaf.jpg").write_text("precious")
    run(specs=["aaa"])
    (run.prefix / "photos").symlink_to(elsewhere)
    link = run.prefix.with_name("link")
    link.symlink_to(run.prefix)
    assert "link" in run.fails(state="absent", prefix=link)
    run(state="absent")
    assert (elsewhere / "leaf.jpg").read_text() == "precious"


def test_killed_absent_can_be_finished(run: Runner) -> None:
    run(specs=["aaa"])
    # What is left when all but the last steps were done, in the order of removal.
    shutil.rmtree(run.prefix / "bin")
    for path in (run.prefix / "conda-meta").iterdir():
        if path.name != ".crophpc.lock":
            path.unlink()
    assert run(state="absent")["changed"]
    assert not run.prefix.exists()
    (run.prefix / "conda-meta").mkdir(parents=True)
    assert run(state="absent")["changed"]
    assert not run.prefix.exists()
