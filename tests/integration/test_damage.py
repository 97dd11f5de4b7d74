# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Damage, drift, and runs that were killed or ran out of space: what the next run makes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from channel import Channel
from running import Runner, stand_in, versions, wheel

ROOT = Path(__file__).resolve().parents[2]

Damage = Callable[[Path], Any]


def overwrite(content: str) -> Damage:
    """Writes into the file itself, as a careless editor does: what is hard-linked to it changes as well."""

    def write(path: Path) -> None:
        with path.open("r+") as stream:
            stream.truncate()
            stream.write(content)

    return write


# --- damaged files ---


@pytest.mark.parametrize(
    ("file", "damage", "verify"),
    [
        ("share/aaa/about.txt", Path.unlink, "size"),
        ("share/aaa/about.txt", overwrite(""), "size"),
        ("share/aaa/about.txt", overwrite("AAA 2.0\n"), "sha256"),
        ("share/aaa/prefix.txt", overwrite("aaa lives"), "size"),
        ("bin/aaa", lambda path: (path.unlink(), path.symlink_to("/bin/true")), "size"),
        ("share/aaa/about.txt", lambda path: (path.unlink(), path.mkdir()), "size"),
    ],
    ids=["missing", "truncated", "changed", "rewritten for the prefix", "a link", "a folder"],
)
def test_repaired_in_the_env_and_in_the_cache(run: Runner, file: str, damage: Damage, verify: str) -> None:
    run(specs=["bbb"])
    damage(run.prefix / file)
    if verify == "sha256":
        assert not run(specs=["bbb"])["changed"], "its size is as before"
    assert list(run.info(verify_files=verify)["damaged"]) == ["aaa"]
    options = {"specs": ["bbb"], "verify_files": verify}
    checked = run(check=True, **options)
    result = run(**options)
    assert result["changed"]
    assert checked["plan"] == result["plan"]
    [repaired] = result["plan"]["repaired"]
    assert repaired["name"] == "aaa"
    assert file in repaired["reason"]
    assert file in result["diff"]["before"]
    assert run.info(verify_files="sha256")["damaged"] == {}
    assert not run(**options)["changed"]
    # The cache is whole again too: another env gets good files.
    other = run.prefix.with_name("other")
    run(specs=["bbb"], prefix=other)
    assert run.info(prefix=other, verify_files="sha256")["damaged"] == {}


@pytest.mark.parametrize(("content", "verify"), [("", "size"), ("AAA 2.0\n", "sha256")])
def test_cache_that_was_damaged_gives_whole_envs(run: Runner, content: str, verify: str) -> None:
    run(specs=["aaa"])
    overwrite(content)(run.cache / "pkgs/aaa-2.0-0/share/aaa/about.txt")
    other = run.prefix.with_name("other")
    run(specs=["aaa"], prefix=other, verify_files=verify)
    assert (other / "share/aaa/about.txt").read_text() == "aaa 2.0\n"


def test_damage_without_a_way_to_mend_it_is_left_as_it_is(run: Runner, channel: Channel, tmp_path: Path) -> None:
    run(specs=["bbb"])
    overwrite("")(run.prefix / "share/aaa/about.txt")  # and in the cache
    channel.path.rename(tmp_path / "gone")
    assert "aaa-2.0-0" in run.fails(specs=["bbb"])
    assert (run.prefix / "bin/aaa").is_file()
    assert versions(run.prefix) == {"aaa": "2.0", "bbb": "1.0"}


def test_record_that_was_cut_off(run: Runner, channel: Channel) -> None:
    run(specs=["bbb"])
    channel.add("bbb", "1.1", depends=["aaa"])
    record = run.prefix / "conda-meta/aaa-2.0-0.json"
    record.write_bytes(record.read_bytes()[:100])
    assert "aaa-2.0-0.json" in json.dumps(run.info()["damaged"])
    result = run(specs=["bbb"])
    assert result["changed"]
    assert versions(run.prefix) == {"aaa": "2.0", "bbb": "1.0"}
    # New specs and a broken record at once: no reason to change other versions.
    record.write_text("[]")
    run(specs=["bbb", "aaa"])
    assert versions(run.prefix) == {"aaa": "2.0", "bbb": "1.0"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1, "packages": []}', "\xff"])
def test_stamp_that_cannot_be_read(run: Runner, content: str) -> None:
    run(specs=["bbb"])
    (run.prefix / "conda-meta/.crophpc-stamp").write_text(content, encoding="latin-1")
    (run.prefix / "bin/aaa").unlink()
    assert run.info()["status"] == "unfinished"
    run(specs=["bbb"], verify_files="none")
    assert (run.prefix / "bin/aaa").is_file(), "of an unfinished env nothing is trusted"
    assert not run(specs=["bbb"])["changed"]


# --- drift ---


def test_keep_leaves_damage_and_says_so(run: Runner) -> None:
    run(specs=["bbb"])
    overwrite("")(run.prefix / "share/aaa/about.txt")
    result = run(specs=["bbb"], on_drift="keep")
    assert not result["changed"]
    assert [entry["name"] for entry in result["kept"]] == ["aaa"]
    assert "aaa" in json.dumps(result["warnings"])
    assert (run.prefix / "share/aaa/about.txt").read_text() == ""
    # It is kept as well when other things change.
    result = run(specs=["bbb", "aaa", "gpu"], virtual_packages={"__cuda": "12"}, on_drift="keep")
    assert [p["name"] for p in result["plan"]["installed"]] == ["gpu"]
    assert (run.prefix / "share/aaa/about.txt").read_text() == ""
    assert run(specs=["bbb"])["plan"]["repaired"][0]["name"] == "aaa"
    assert (run.prefix / "share/aaa/about.txt").read_text() == "aaa 2.0\n"


def test_keep_leaves_replaced_and_removed_packages(run: Runner, tmp_path: Path) -> None:
    run(specs=["bbb"])
    replace_as_a_user_would(run, "aaa=1", tmp_path)
    result = run(specs=["bbb"], on_drift="keep")
    assert not result["changed"]
    assert "1.0" in result["kept"][0]["reason"]
    assert "2.0" in result["kept"][0]["reason"]
    assert versions(run.prefix)["aaa"] == "1.0"
    assert run(specs=["bbb"])["plan"]["changed"] == [{"name": "aaa", "from": "1.0 0", "to": "2.0 0"}]
    (run.prefix / "conda-meta/bbb-1.0-0.json").unlink()
    assert run(specs=["bbb"], on_drift="keep")["kept"] == [{"name": "bbb", "reason": "removed"}]
    assert [p["name"] for p in run(specs=["bbb"])["plan"]["installed"]] == ["bbb"]


def replace_as_a_user_would(run: Runner, spec: str, folder: Path) -> None:
    """Another version in place of the env's own, behind the module's back, as conda or mamba install would do it."""
    stamp = run.prefix / "conda-meta/.crophpc-stamp"
    solution = run.prefix / "conda-meta/.crophpc-pixi.lock"
    saved = stamp.read_bytes(), solution.read_bytes()
    run(specs=["bbb", spec])
    stamp.write_bytes(saved[0])
    solution.write_bytes(saved[1])


def test_keep_does_not_stand_in_the_way_of_an_update(run: Runner, channel: Channel) -> None:
    run(specs=["bbb"])
    channel.add("aaa", "3.0")
    result = run(specs=["bbb"], on_drift="keep", update=True)
    assert result["plan"]["changed"] == [{"name": "aaa", "from": "2.0 0", "to": "3.0 0"}]
    assert "kept" not in result


# --- Python packages ---

PYTHON = "python=3.6"
COMPILE = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2])"


def python_package(channel: Channel, name: str, version: str, *, info: str = "dist-info") -> None:
    """A conda package of a one-module Python project and a package folder, all files with one and the same time."""
    site = "lib/python3.6/site-packages"
    metadata = {"dist-info": f"{name}-{version}.dist-info/METADATA", "egg-info": f"{name}-{version}-py3.6.egg-info"}
    files = {
        f"{site}/{name}.py": f"VERSION = {version!r}\n".encode(),
        f"{site}/{name}_parts/__init__.py": b"",
        f"{site}/{metadata[info]}": f"Metadata-Version: 1.0\nName: {name}\nVersion: {version}\n".encode(),
    }
    channel.add(name, version, depends=["python 3.6.*"], files=files)


@pytest.fixture
def run_python(run_mirror: Runner, channel: Channel) -> Runner:
    """The module with CPython from the mirror and packages from the tiny channel."""
    run_mirror.defaults["channels"].append(str(channel.path))
    return run_mirror


def python_says(run: Runner, code: str) -> str:
    done = subprocess.run([run.prefix / "bin/python", "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def byte_code_of(run: Runner, *modules: str) -> list[str]:
    return sorted(p.name for m in modules for p in run.prefix.glob(f"lib/python3.6/site-packages/**/{m}.*.pyc"))


def test_byte_code_follows_the_packages(run_python: Runner, channel: Channel) -> None:
    run = run_python
    python_package(channel, "leaf", "1.0")
    run(specs=[PYTHON, "leaf"])
    assert byte_code_of(run, "leaf") == ["leaf.cpython-36.pyc"]
    assert python_says(run, "import leaf; print(leaf.VERSION)") == "1.0"
    # The new file has the time and the size of the old one: Python would take the old byte code for it.
    python_package(channel, "leaf", "2.0")
    run(specs=[PYTHON, "leaf"], update=True)
    assert python_says(run, "import leaf; print(leaf.VERSION)") == "2.0"
    assert byte_code_of(run, "leaf") == ["leaf.cpython-36.pyc"]
    run(specs=[PYTHON])
    assert byte_code_of(run, "leaf") == []
    assert "No module" in python_says(run, "import leaf_parts")
    assert not list(run.prefix.glob("lib/python3.6/site-packages/leaf*"))


def test_byte_code_that_packages_bring(run_python: Runner, channel: Channel, tmp_path: Path) -> None:
    """As conda-build puts it in; another version's has the same time and the same size."""
    run = run_python
    run(specs=[PYTHON])
    site = "lib/python3.6/site-packages"
    for version in ("1.0", "2.0"):
        source, compiled = tmp_path / "leaf.py", tmp_path / "leaf.pyc"
        source.write_text(f"VERSION = {version!r}\n")
        os.utime(source, (1_600_000_000, 1_600_000_000))
        subprocess.run([run.prefix / "bin/python", "-c", COMPILE, source, compiled], check=True)
        files = {"leaf.py": source, "__pycache__/leaf.cpython-36.pyc": compiled}
        content = {f"{site}/{name}": path.read_bytes() for name, path in files.items()}
        channel.add("leaf", version, depends=["python"], files=content)
    linked = run.prefix / site / "__pycache__/leaf.cpython-36.pyc"
    for version in ("1.0", "2.0"):
        run(specs=[PYTHON, f"leaf={version}"])
        assert python_says(run, "import leaf; print(leaf.VERSION)") == version
        assert linked.samefile(run.cache / f"pkgs/leaf-{version}-0/{site}/__pycache__/leaf.cpython-36.pyc")
    # What a user has removed is made again, at the latest with the next change.
    linked.unlink()
    run(specs=[PYTHON, "leaf=2", "aaa"])
    assert linked.is_file()
    run(specs=[PYTHON])
    assert not list(run.prefix.glob(f"{site}/**/leaf*"))


@pytest.mark.parametrize("info", ["dist-info", "egg-info"])
def test_package_replaced_by_pip(run_python: Runner, channel: Channel, tmp_path: Path, info: str) -> None:
    run = run_python
    python_package(channel, "leaf", "1.0", info=info)
    specs = [PYTHON, "pip", "leaf"]
    run(specs=specs)
    pip_install = [run.prefix / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    pip_install += ["--no-index", "--no-deps", "--ignore-installed", wheel(tmp_path, "leaf", "99.0")]
    subprocess.run(pip_install, check=True, env=run.environ)
    result = run(specs=specs, on_drift="keep")
    assert not result["changed"]
    [kept] = result["kept"]
    assert kept["name"] == "leaf"
    assert "pip" in kept["reason"]
    assert "99.0" in kept["reason"]
    assert python_says(run, "import leaf; print(leaf.VERSION)") == "99.0"
    result = run(specs=specs)
    assert [p["name"] for p in result["plan"]["repaired"]] == ["leaf"]
    assert infos(run) == [f"leaf-1.0.{info}" if info == "dist-info" else "leaf-1.0-py3.6.egg-info"]
    assert python_says(run, "import leaf; print(leaf.VERSION)") == "1.0"
    assert not run(specs=specs)["changed"]
    # Replaced by pip and then updated: nothing of pip's is left either, not even of an installation that lost its list.
    subprocess.run(pip_install, check=True, env=run.environ)
    (run.prefix / "lib/python3.6/site-packages/leaf-99.0.dist-info/RECORD").unlink()
    python_package(channel, "leaf", "2.0", info=info)
    run(specs=specs, update=True)
    assert [name.split("-")[1][:3] for name in infos(run)] == ["2.0"]
    assert python_says(run, "import leaf; print(leaf.VERSION)") == "2.0"


def infos(run: Runner) -> list[str]:
    return sorted(path.name for path in run.prefix.glob("lib/python3.6/site-packages/leaf-*-info"))


def test_upgraded_with_pip_over_the_real_thing(run_mirror: Runner, tmp_path: Path) -> None:
    run = run_mirror
    specs = [PYTHON, "pip", "decorator"]
    run(specs=specs)
    command = [run.prefix / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    wheel(tmp_path, "decorator", "99.0")
    subprocess.run([*command, "--no-index", "--find-links", tmp_path, "--upgrade", "decorator"], check=True)
    [repaired] = run(specs=specs)["plan"]["repaired"]
    assert repaired["name"] == "decorator"
    assert len(list(run.prefix.glob("lib/python3.6/site-packages/decorator-*.dist-info"))) == 1
    assert run.info(verify_files="sha256")["damaged"] == {}
    assert subprocess.run([run.prefix / "bin/python", "-m", "pip", "check"], check=False).returncode == 0


def test_noarch_python_package_is_added_to_an_env(run_python: Runner, channel: Channel) -> None:
    """It is linked for the Python that is there, which is on none of the lists of what is to be fetched."""
    run = run_python
    run(specs=[PYTHON])
    files = {"site-packages/pure.py": b"VERSION = '1'\n"}
    channel.add("pure", "1.0", depends=["python"], files=files, noarch="python")
    assert [p["name"] for p in run(specs=[PYTHON, "pure"])["plan"]["installed"]] == ["pure"]
    assert python_says(run, "import pure; print(pure.VERSION)") == "1"
    assert byte_code_of(run, "pure") == ["pure.cpython-36.pyc"]
    assert not run(specs=[PYTHON, "pure"])["changed"]


# --- killed ---


@pytest.fixture
def many(channel: Channel) -> list[str]:
    """Specs of packages with so many files that a run can be killed while it links them."""
    for number in range(30):
        files = {f"share/many{number}/{n}.txt": f"{number} {n}\n".encode() for n in range(150)}
        channel.add(f"many{number}", "1.0", files=files, index=False)
    channel.write()
    return [f"many{number}" for number in range(30)]


def kill_when(process: subprocess.Popen[str], ready: Callable[[], bool], *, group: bool) -> bool:
    """Kills the module, or the module and its engine, at a moment; whether it was still running then."""
    deadline = time.monotonic() + 60
    while not ready() and process.poll() is None:
        assert time.monotonic() < deadline
    alive = process.poll() is None
    if alive:
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.communicate()
    return alive


def records(run: Runner) -> int:
    return len(list((run.prefix / "conda-meta").glob("*.json")))


@pytest.mark.parametrize("at", [0, 1, 12, 29], ids=lambda at: f"{at} records")
def test_killed_while_linking(run: Runner, many: list[str], at: int) -> None:
    process = run.start(specs=many)
    ready = (run.prefix / "conda-meta").is_dir if at == 0 else lambda: records(run) >= at
    assert kill_when(process, ready, group=True)
    assert run.info()["status"] in ("unfinished", "absent")
    result = run(specs=many)
    assert result["changed"]
    assert set(versions(run.prefix)) == set(many)
    assert run.info(verify_files="sha256")["damaged"] == {}
    assert run.info()["status"] == "finished"
    assert not run(specs=many)["changed"]


def test_killed_while_changing(run: Runner, many: list[str], channel: Channel) -> None:
    """The next run goes where the killed one was going, not back."""
    run(specs=many)
    for number in range(30):
        files = {f"share/many{number}/{n}.txt": f"{number} {n} new\n".encode() for n in range(0, 300, 2)}
        channel.add(f"many{number}", "2.0", files=files, index=False)
    channel.write()
    specs = [f"{name}=2" for name in many]
    changing = run.prefix / "conda-meta/many7-2.0-0.json"
    assert kill_when(run.start(specs=specs), changing.is_file, group=True)
    assert run.info()["status"] == "unfinished"
    run(specs=specs)
    assert set(versions(run.prefix).values()) == {"2.0"}
    assert run.info(verify_files="sha256")["damaged"] == {}
    assert not (run.prefix / "share/many7/1.txt").exists(), "a file of the old version alone"
    assert not list(run.cache.glob("fetch-*"))


def test_killed_after_linking_the_rest_is_done(run_python: Runner, channel: Channel) -> None:
    """The engine outlives the module, keeps the prefix locked, and leaves records for its owner alone."""
    run = run_python
    python_package(channel, "leaf", "1.0")
    os.umask(0o022)
    process = run.start(specs=[PYTHON, "leaf"])
    assert kill_when(process, lambda: records(run) > 0, group=False)
    result = run(specs=[PYTHON, "leaf"])
    assert result["changed"]
    assert run.info(verify_files="sha256")["damaged"] == {}
    assert byte_code_of(run, "leaf") == ["leaf.cpython-36.pyc"]
    assert {p.stat().st_mode & 0o777 for p in (run.prefix / "conda-meta").glob("*.json")} == {0o644}
    assert not run(specs=[PYTHON, "leaf"])["changed"]


def test_killed_and_then_asked_for_something_else(run: Runner, many: list[str]) -> None:
    assert kill_when(run.start(specs=many), lambda: records(run) >= 5, group=True)
    result = run(specs=["aaa"])
    assert versions(run.prefix) == {"aaa": "2.0"}
    assert result["extra"] == []
    assert run.info(verify_files="sha256")["damaged"] == {}


def test_killed_removal_and_then_wanted_after_all(run: Runner, many: list[str]) -> None:
    gone = run.prefix / "share/many3"

    def killed() -> bool:
        run(specs=many)
        return kill_when(run.start(state="absent"), lambda: not gone.exists(), group=True)

    assert any(killed() for _attempt in range(3)), "the removal was too quick to be killed"
    run(specs=many, verify_files="none")
    assert run.info(verify_files="sha256")["damaged"] == {}
    assert run(state="absent")["changed"]
    assert not run.prefix.exists()


# --- two at once ---


def slow(folder: Path, run: Runner) -> Path:
    """An engine that takes its time to link, to be overtaken by nobody."""
    return stand_in(folder, run, "is-slow", 'sleep 2\nexec "$REAL" "$@"')[0]


def test_two_at_once(run: Runner, tmp_path: Path) -> None:
    processes = [run.start(specs=["bbb"], engine_python=slow(tmp_path, run)) for _ in range(2)]
    results = [run.finish(process) for process in processes]
    assert not any(result.get("failed") for result in results), results
    assert sorted(result["changed"] for result in results) == [False, True]
    assert versions(run.prefix) == {"aaa": "2.0", "bbb": "1.0"}
    assert run.listed == [str(run.prefix)]


def test_two_envs_at_once(run: Runner) -> None:
    """They share a package cache and the list of envs."""
    prefixes = [run.prefix.with_name(f"plots{number}") for number in range(3)]
    processes = [run.start(specs=["bbb"], prefix=prefix) for prefix in prefixes]
    results = [run.finish(process) for process in processes]
    assert not any(result.get("failed") for result in results), results
    assert sorted(run.listed) == [str(prefix) for prefix in prefixes]


def test_second_one_begins_anew_when_the_first_has_failed(run: Runner, tmp_path: Path) -> None:
    """The first removes what it began, and with it the lock that the second waits for."""
    first = run.start(specs=["nothere"], engine_python=slow(tmp_path, run))
    wait_for(run.prefix / "conda-meta/.crophpc.lock")
    second = run.start(specs=["bbb"])
    assert run.finish(first)["failed"]
    assert run.finish(second)["changed"]
    assert versions(run.prefix) == {"aaa": "2.0", "bbb": "1.0"}
    assert run.info()["status"] == "finished"


def test_two_removals_at_once(run: Runner) -> None:
    run(specs=["bbb"])
    processes = [run.start(state="absent") for _ in range(3)]
    results = [run.finish(process) for process in processes]
    assert not any(result.get("failed") for result in results), results
    assert not run.prefix.exists()


def test_second_one_gives_up_and_names_the_first(run: Runner, tmp_path: Path) -> None:
    first = run.start(specs=["bbb"], engine_python=slow(tmp_path, run))
    wait_for(run.prefix / "conda-meta/.crophpc.lock")
    message = run.fails(specs=["bbb"], lock_timeout=1)
    assert str(run.prefix) in message
    assert f"process {first.pid}" in message
    assert f"process {first.pid}" in run.fails(state="absent", lock_timeout=0)
    assert run.finish(first)["changed"]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.is_file() or not path.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- no space ---


def test_too_little_space_is_seen_before_linking(
    run: Runner, channel: Channel, small_disk: Callable[[int], Path]
) -> None:
    channel.add("big", "1.0", files={"share/big": os.urandom(3_000_000)})
    disk = small_disk(8)
    message = run.fails(specs=["big"], prefix=disk / "env")
    assert "space" in message
    assert str(disk) in message
    assert not (disk / "env").exists()
    message = run.fails(specs=["big"], package_cache=disk / "cache")
    assert str(disk) in message
    assert not run.prefix.exists()


@pytest.mark.parametrize("full", ["prefix", "package_cache"])
def test_disk_that_fills_up_while_linking(
    run: Runner, channel: Channel, small_disk: Callable[[int], Path], full: str
) -> None:
    disk = small_disk(10)
    run.defaults[full] = str(disk / "here")
    if full == "prefix":
        run.prefix = disk / "here"
    # Zeros: a small package to download, too much to link.
    channel.add("zeros", "1.0", files={f"share/zeros{n}": bytes(1_000_000 + n) for n in range(20)})
    assert "space" in run.fails(specs=["zeros"])
    assert not run.prefix.exists()
    run(specs=["aaa"])
    message = run.fails(specs=["aaa", "zeros"])
    assert "space" in message
    assert versions(run.prefix).get("aaa") == "2.0"
    assert run.info(verify_files="sha256")["damaged"] == {}
    subprocess.run(["mount", "-o", "remount,size=60m", disk], check=True)
    assert run(specs=["aaa", "zeros"])["changed"]
    assert versions(run.prefix) == {"aaa": "2.0", "zeros": "1.0"}
    assert run.info(verify_files="sha256")["damaged"] == {}


def test_full_disk_is_no_reason_not_to_remove(run: Runner, small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(2)
    run.prefix = disk / "env"
    run.defaults["prefix"] = str(run.prefix)
    run(specs=["aaa"])
    with pytest.raises(OSError, match="space"), (disk / "filler").open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    assert run(state="absent")["changed"]
    assert not run.prefix.exists()


# --- the real thing ---


def test_conda_part_of_tf1(run_mirror: Runner) -> None:
    profile = yaml.safe_load((ROOT / "playbooks/profiles/tf1.yml").read_text())
    specs = [PYTHON, *profile["conda"]["specs"]]
    run = run_mirror
    # Killed on the way, as it happens at the end of a login node's patience.
    assert kill_when(run.start(specs=specs), lambda: records(run) >= 10, group=True)
    result = run(specs=specs)
    assert result["packages"] >= 30
    assert result["peak_mb"] < 300
    assert run.info(verify_files="sha256")["damaged"] == {}
    assert python_says(run, "import numpy, scipy, skimage, h5py; print(numpy.__version__)") == "1.18.5"
    again = run(specs=specs)
    assert not again["changed"]
    assert again["solve_seconds"] == 0
