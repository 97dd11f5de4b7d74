# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pip_requirements module, with a real pip. A venv with a conda-meta folder stands in for a conda env."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_errors import explain
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_prefix import parse_config
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import prefix_lock
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.site_packages import canonical_version
from ansible_collections.crophpc.maskrcnn.plugins.modules import pip_requirements
from pip_stand_in import Prefix, Repository, copy_prefix, make_wheel

ROOT = Path(__file__).resolve().parents[2]
HASH = f"--hash=sha256:{'0' * 64}"
COMMIT = "0" * 40

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "env"
    venv.create(path, with_pip=True, symlinks=True)
    (path / "conda-meta").mkdir()
    Prefix(path).pip("uninstall", "--yes", "setuptools")  # no test needs it, and each copies this folder
    return path


@pytest.fixture
def env(template: Path, tmp_path: Path) -> Prefix:
    """A venv that stands in for a conda env."""
    return copy_prefix(template, tmp_path / "env")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder for wheels, with a blank in its name."""
    path = tmp_path / "the wheels"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of this machine's pip."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def run(env: Prefix, wheels: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the module's own main(), by default on the stand-in with the folder of wheels and nothing else."""

    def run_module(requirements: str = "", *, check: bool = False, **options: Any) -> dict[str, Any]:
        defaults = {"prefix": str(env.path), "find_links": [str(wheels)], "no_index": True, "lock_timeout": 20}
        arguments = {**defaults, "requirements": requirements, **options}
        capfd.readouterr()
        with (
            patch_module_args({**arguments, "_ansible_check_mode": check, "_ansible_diff": True}),
            pytest.raises(SystemExit),
        ):
            pip_requirements.main()
        result: dict[str, Any] = json.loads(capfd.readouterr().out)
        return result

    yield run_module


def names(result: dict[str, Any], step: str) -> list[str]:
    return [package["name"] for package in result["plan"][step]]


# -- installing ------------------------------------------------------------------------------------


def test_installs_then_has_nothing_to_do(run: Run, env: Prefix, wheels: Path) -> None:
    lines = make_wheel(wheels, "apkg", "1.0") + make_wheel(wheels, "bpkg", "2.0")
    first = run(lines)
    assert first["changed"], first
    assert names(first, "installed") == ["apkg", "bpkg"]
    assert env.says("import apkg, bpkg; print(apkg.VERSION, bpkg.VERSION)") == "1.0 2.0"
    before = env.tree()
    second = run(lines)
    assert not second["changed"]
    assert env.tree() == before


def test_keeps_byte_code(run: Run, env: Prefix, wheels: Path) -> None:
    run(make_wheel(wheels, "apkg", "1.0"))
    assert list((env.site / "apkg" / "__pycache__").glob("*.pyc"))


def test_dependencies_that_are_not_in_the_list_are_not_wanted(run: Run, wheels: Path) -> None:
    line = make_wheel(wheels, "apkg", "1.0", metadata_name="apkg\nRequires-Dist: nowhere-to-be-found>=7")
    assert names(run(line), "installed") == ["apkg"]


def test_another_spelling_of_name_and_version_is_the_same(run: Run, wheels: Path) -> None:
    line = make_wheel(wheels, "A_Pkg.X", "2021.05.30")
    assert run(line.replace("A_Pkg.X==2021.05.30", "a-pkg-x==2021.5.30"))["changed"]
    assert not run(line.replace("A_Pkg.X==2021.05.30", "a-pkg-x==2021.5.30.0"))["changed"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1.0", "1.0.0", True),
        ("2021.05.30", "2021.5.30", True),
        ("1.0-rc.1", "1.0rc1", True),
        ("1.0alpha", "1.0a0", True),
        ("1.8.5.post1", "1.8.5-1", True),
        ("v1.0", "1.0", True),
        ("1.0+cpu.1", "1.0+cpu-1", True),
        ("1.0", "1.0.1", False),
        ("1.0", "1.0rc1", False),
        ("1.0", "1.0+cpu", False),
        ("10", "1", False),
        ("1.0.post1", "1.0.1", False),
    ],
)
def test_versions(one: str, other: str, same: bool) -> None:
    assert (canonical_version(one) == canonical_version(other)) is same


def test_settings_that_change_the_result_are_ignored(
    run: Run, env: Prefix, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = make_wheel(wheels, "apkg", "1.0")
    config = tmp_path / "pip.conf"
    config.write_text(f"[install]\ntarget = {tmp_path}/elsewhere\n[global]\nno-index = true\nfind-links = {HASH}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_NO_COMPILE", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert names(run(line), "installed") == ["apkg"]
    assert (env.site / "apkg" / "__pycache__").exists()
    assert not (tmp_path / "elsewhere").exists()


def test_index_settings_of_the_machine_hold(
    run: Run, tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = make_wheel(tmp_path / "site", "apkg", "1.0")
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nno-index = true\nfind-links =\n    {tmp_path}/none\n    {tmp_path}/site\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    assert names(run(line, no_index=False, find_links=[]), "installed") == ["apkg"]


def test_the_environment_comes_before_the_section_and_that_before_the_rest() -> None:
    text = "global.index-url='https://a'\ninstall.index-url='https://b'\nglobal.proxy='p'\ndownload.proxy='q'\n"
    assert parse_config(text) == {"index-url": "https://b", "proxy": "p"}
    assert parse_config(text + ":env:.index-url='https://c'\n")["index-url"] == "https://c"
    assert parse_config("global.find-links='\\n/a\\n/b'\n") == {"find-links": "/a /b"}


# -- what belongs to others ------------------------------------------------------------------------


def test_left_to_conda_whatever_its_version(run: Run, env: Prefix, wheels: Path) -> None:
    make_wheel(wheels, "apkg", "1.0")
    env.pip("install", "--no-index", "--find-links", str(wheels), "apkg==1.0")
    env.give_to_conda("apkg", "1.0")
    result = run(make_wheel(wheels, "apkg", "2.0") + make_wheel(wheels, "bpkg", "1.0"))
    assert names(result, "installed") == ["bpkg"]
    assert result["left_to_conda"] == [{"name": "apkg", "version": "1.0", "pin": "2.0"}]
    assert env.says("import apkg; print(apkg.VERSION)") == "1.0"


def test_condas_package_that_a_user_replaced_is_still_condas_but_said(run: Run, env: Prefix, wheels: Path) -> None:
    make_wheel(wheels, "apkg", "1.0")
    make_wheel(wheels, "apkg", "2.0")
    env.pip("install", "--no-index", "--find-links", str(wheels), "apkg==1.0")
    env.give_to_conda("apkg", "1.0")
    env.pip("install", "--no-index", "--find-links", str(wheels), "apkg==2.0")
    result = run(make_wheel(wheels, "apkg", "1.0"))
    assert not result["changed"]
    assert result["left_to_conda"][0]["found"] == "2.0"
    assert "apkg" in str(result["warnings"])


def test_egg_info_of_conda_is_condas(run: Run, env: Prefix, wheels: Path) -> None:
    (env.site / "apkg-1.0-py3.11.egg-info").write_text("Metadata-Version: 1.0\nName: apkg\nVersion: 1.0\n")
    record = {"files": [str((env.site / "apkg-1.0-py3.11.egg-info").relative_to(env.path))]}
    (env.path / "conda-meta" / "apkg.json").write_text(json.dumps(record))
    result = run(make_wheel(wheels, "apkg", "2.0"))
    assert result["left_to_conda"] == [{"name": "apkg", "version": "1.0", "pin": "2.0"}]


def test_what_the_user_added_is_not_touched(run: Run, env: Prefix, wheels: Path) -> None:
    make_wheel(wheels, "own", "1.0")
    env.pip("install", "--no-index", "--find-links", str(wheels), "own")
    (env.site / "own" / "__init__.py").write_text("VERSION = 'my own'\n")
    result = run(make_wheel(wheels, "apkg", "1.0"))
    assert names(result, "installed") == ["apkg"]
    assert "own" not in result["diff"]["before"]
    assert env.says("import own; print(own.VERSION)") == "my own"


def test_file_of_two_packages_is_no_damage(run: Run, env: Prefix, wheels: Path) -> None:
    line = make_wheel(wheels, "apkg", "1.0", {"shared/__init__.py": "A = 1\n"})
    make_wheel(wheels, "own", "1.0", {"shared/__init__.py": "OWN = 'longer'\n"})
    run(line)
    env.pip("install", "--no-index", "--find-links", str(wheels), "own")
    assert not run(line)["changed"]
    (env.site / "shared" / "__init__.py").unlink()
    assert names(run(line), "repaired") == ["apkg"]


# -- drift and damage ------------------------------------------------------------------------------


@pytest.fixture
def upgraded(run: Run, env: Prefix, wheels: Path) -> str:
    """The requirements, where a user has upgraded one package since."""
    lines = make_wheel(wheels, "apkg", "1.0") + make_wheel(wheels, "bpkg", "1.0")
    run(lines)
    make_wheel(wheels, "apkg", "2.0")
    env.pip("install", "--no-index", "--find-links", str(wheels), "apkg==2.0")
    return lines


def test_another_version_is_put_back(run: Run, env: Prefix, upgraded: str) -> None:
    result = run(upgraded)
    assert result["plan"]["changed"] == [{"name": "apkg", "from": "2.0", "to": "1.0"}]
    assert names(result, "installed") == names(result, "repaired") == []
    assert env.says("import apkg; print(apkg.VERSION)") == "1.0"
    assert not run(upgraded)["changed"]


def test_another_version_is_kept_on_request(run: Run, env: Prefix, upgraded: str) -> None:
    result = run(upgraded, on_drift="keep")
    assert not result["changed"]
    assert [(e["name"], e["found"], e["pin"]) for e in result["kept"]] == [("apkg", "2.0", "1.0")]
    assert "apkg" in str(result["warnings"])
    assert env.says("import apkg; print(apkg.VERSION)") == "2.0"


def test_missing_one_is_installed_even_if_drift_is_kept(run: Run, env: Prefix, upgraded: str) -> None:
    env.pip("uninstall", "--yes", "bpkg")
    assert names(run(upgraded, on_drift="keep"), "installed") == ["bpkg"]


@pytest.mark.parametrize("verify", ["size", "sha256"])
def test_missing_and_changed_files_are_repaired(run: Run, env: Prefix, wheels: Path, verify: str) -> None:
    lines = make_wheel(wheels, "apkg", "1.0") + make_wheel(wheels, "bpkg", "1.0") + make_wheel(wheels, "cpkg", "1.0")
    run(lines)
    untouched = (env.site / "cpkg" / "__init__.py").stat().st_ino
    (env.site / "apkg" / "__init__.py").unlink()
    (env.site / "bpkg" / "__init__.py").write_text("VERSION = 'edited, and longer'\n")
    kept = run(lines, on_drift="keep", verify_files=verify)
    assert not kept["changed"]
    assert [entry["name"] for entry in kept["kept"]] == ["apkg", "bpkg"]
    assert names(run(lines, verify_files=verify), "repaired") == ["apkg", "bpkg"]
    assert env.says("import apkg, bpkg; print(apkg.VERSION, bpkg.VERSION)") == "1.0 1.0"
    assert (env.site / "cpkg" / "__init__.py").stat().st_ino == untouched
    assert not run(lines, verify_files=verify)["changed"]


def test_how_closely_files_are_compared(run: Run, env: Prefix, wheels: Path) -> None:
    line = make_wheel(wheels, "apkg", "1.0")
    run(line)
    (env.site / "apkg" / "__init__.py").write_text("VERSION = '9.9'\n")  # as long as before
    assert not run(line, verify_files="size")["changed"]
    assert run(line, verify_files="sha256", check=True)["changed"]
    (env.site / "apkg" / "__init__.py").unlink()
    assert not run(line, verify_files="none")["changed"]


def test_byte_code_and_moved_commands_are_no_damage(run: Run, env: Prefix, wheels: Path) -> None:
    entry_points = {"apkg-1.0.dist-info/entry_points.txt": "[console_scripts]\nacmd = apkg:main\n"}
    line = make_wheel(wheels, "apkg", "1.0", {"apkg/__init__.py": "def main(): pass\n", **entry_points})
    run(line)
    shutil.rmtree(env.site / "apkg" / "__pycache__")
    command = env.path / "bin" / "acmd"
    command.write_text(command.read_text().replace(str(env.path), "/another/and/longer/place/altogether"))
    assert not run(line)["changed"]
    command.unlink()
    assert names(run(line), "repaired") == ["apkg"]
    assert command.exists()


def test_file_list_that_leads_out_of_the_env_is_not_followed(run: Run, env: Prefix, wheels: Path) -> None:
    line = make_wheel(wheels, "apkg", "1.0")
    run(line)
    with (env.site / "apkg-1.0.dist-info" / "RECORD").open("a") as record:
        record.write("/no/such/file,,1\n../../../../../../../no/such/file,,1\n")
    assert not run(line)["changed"]


# -- a pip that was interrupted --------------------------------------------------------------------


def test_half_an_installation_is_finished_even_if_drift_is_kept(run: Run, env: Prefix, wheels: Path) -> None:
    line = make_wheel(wheels, "apkg", "1.0")
    run(line)
    (env.site / "apkg-1.0.dist-info" / "RECORD").unlink()
    assert names(run(line, on_drift="keep"), "repaired") == ["apkg"]
    assert not run(line)["changed"]


def test_metadata_that_was_never_written(run: Run, env: Prefix, wheels: Path) -> None:
    line = make_wheel(wheels, "apkg", "1.0")
    (env.site / "apkg-1.0.dist-info").mkdir()
    assert names(run(line), "repaired") == ["apkg"]
    assert env.says("import apkg; print(apkg.VERSION)") == "1.0"


def test_two_of_one_project_become_one(run: Run, env: Prefix, wheels: Path, tmp_path: Path) -> None:
    line = make_wheel(wheels, "apkg", "1.0")
    old_files = {"apkg/__init__.py": "VERSION = '0.9'\n", "apkg/gone.py": ""}
    make_wheel(wheels, "apkg", "0.9", old_files)
    env.pip("install", "--no-index", "--find-links", str(wheels), "apkg==0.9")
    shutil.copytree(env.site / "apkg-0.9.dist-info", tmp_path / "aside")
    run(line)
    shutil.copytree(tmp_path / "aside", env.site / "apkg-0.9.dist-info")
    (env.site / "apkg" / "gone.py").touch()
    assert names(run(line), "repaired") == ["apkg"]
    assert [path.name for path in env.site.glob("apkg-*")] == ["apkg-1.0.dist-info"]
    assert not (env.site / "apkg" / "gone.py").exists()
    assert env.says("import apkg; print(apkg.VERSION)") == "1.0"


def test_what_pip_had_moved_aside_is_cleared_away(run: Run, env: Prefix, wheels: Path) -> None:
    lines = make_wheel(wheels, "apkg", "1.0") + make_wheel(wheels, "bpkg", "1.0")
    run(lines)
    shutil.copytree(env.site / "apkg", env.site / "~pkg")
    shutil.copytree(env.site / "apkg-1.0.dist-info", env.site / "~-kg-1.0.dist-info")
    (env.site / "~ther").mkdir()  # of a package that is not ours
    assert names(run(lines), "repaired") == ["apkg"]
    assert [path.name for path in env.site.glob("~*")] == ["~ther"]
    assert not run(lines)["changed"]


def test_moved_aside_folder_that_could_be_of_two_projects_stays(run: Run, env: Prefix, wheels: Path) -> None:
    lines = make_wheel(wheels, "apkg", "1.0")
    run(lines + make_wheel(wheels, "bpkg", "1.0"))
    (env.site / "~pkg").mkdir()
    assert not run(lines)["changed"]
    env.pip("uninstall", "--yes", "bpkg")
    assert names(run(lines), "repaired") == ["apkg"]
    assert not (env.site / "~pkg").exists()


MANY = {f"apkg/m{i}.py": f"X = {i}\n" for i in range(600)}
APPLY = """
import os, sys
from ansible.module_utils.testing import patch_module_args
from ansible_collections.crophpc.maskrcnn.plugins.modules import pip_requirements
with patch_module_args({"prefix": sys.argv[1], "requirements": sys.argv[2], "find_links": [sys.argv[3]],
                        "no_index": True}):
    pip_requirements.main()
"""


def start_and_wait_for_files(env: Prefix, wheels: Path, line: str, pattern: str) -> subprocess.Popen[bytes]:
    """The module in a process group of its own, as soon as pip has begun to write (or to move aside)."""
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", APPLY, str(env.path), line, str(wheels)]
    process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(env.site.glob(pattern)):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    return process


@pytest.mark.parametrize("upgrade", [False, True], ids=["first installation", "upgrade"])
def test_killed_halfway_and_finished_by_the_next_run(run: Run, env: Prefix, wheels: Path, upgrade: bool) -> None:
    line = make_wheel(wheels, "apkg", "1.0", {"apkg/__init__.py": "VERSION = '1.0'\n", **MANY})
    if upgrade:
        make_wheel(wheels, "apkg", "0.9", {"apkg/__init__.py": "VERSION = '0.9'\n", **MANY})
        env.pip("install", "--no-index", "--find-links", str(wheels), "apkg==0.9")
    process = start_and_wait_for_files(env, wheels, line, "~*" if upgrade else "apkg/m5.py")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    result = run(line)
    assert result["changed"], result
    assert env.says("import apkg, apkg.m599; print(apkg.VERSION)") == "1.0"
    assert sorted(path.name for path in env.site.glob("[~a]*pkg*")) == ["apkg", "apkg-1.0.dist-info"]
    assert not run(line, verify_files="sha256")["changed"]


def test_pip_whose_module_was_killed_is_waited_for(run: Run, env: Prefix, wheels: Path) -> None:
    line = make_wheel(wheels, "apkg", "1.0", {"apkg/__init__.py": "VERSION = '1.0'\n", **MANY})
    process = start_and_wait_for_files(env, wheels, line, "apkg/m5.py")
    os.kill(process.pid, signal.SIGKILL)  # pip itself goes on
    process.wait()
    run(line)
    assert not run(line, verify_files="sha256")["changed"]


def test_another_run_is_waited_for_and_named(run: Run, env: Prefix, wheels: Path) -> None:
    line = make_wheel(wheels, "apkg", "1.0")
    with prefix_lock(env.path):
        result = run(line, lock_timeout=0)
        assert result["failed"]
        assert str(os.getpid()) in result["msg"]
        assert run(line, check=True)["changed"]  # looking needs no lock
    assert not list(env.site.glob("apkg*"))


# -- check mode ------------------------------------------------------------------------------------


def test_check_mode_tells_exactly_and_touches_nothing(run: Run, env: Prefix, wheels: Path, upgraded: str) -> None:
    (env.site / "bpkg" / "__init__.py").unlink()
    lines = upgraded + make_wheel(wheels, "cpkg", "1.0")
    before = env.tree()
    promised = run(lines, check=True)
    assert env.tree() == before
    done = run(lines)
    assert promised["plan"] == done["plan"]
    assert promised["diff"] == done["diff"]
    assert [names(done, step) for step in ("installed", "changed", "repaired")] == [["cpkg"], ["apkg"], ["bpkg"]]


@pytest.mark.parametrize("state", ["none", "empty", "half made"])
def test_check_mode_before_there_is_an_env(run: Run, wheels: Path, tmp_path: Path, state: str) -> None:
    prefix = tmp_path / "later"
    if state != "none":
        prefix.mkdir()
    if state == "half made":
        (prefix / "conda-meta").mkdir()
    line = make_wheel(wheels, "apkg", "1.0")
    assert names(run(line, prefix=str(prefix), check=True), "installed") == ["apkg"]
    assert run(line, prefix=str(prefix))["failed"]


def test_folder_that_is_no_env_is_refused(run: Run, wheels: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "photos"
    prefix.mkdir()
    (prefix / "plant.jpg").touch()
    line = make_wheel(wheels, "apkg", "1.0")
    assert run(line, prefix=str(prefix), check=True)["failed"]
    assert run(line, prefix=str(prefix))["failed"]


def test_env_without_pip(run: Run, env: Prefix, wheels: Path) -> None:
    shutil.rmtree(env.site / "pip")
    result = run(make_wheel(wheels, "apkg", "1.0"))
    assert result["failed"]
    assert "no pip" in result["msg"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could be led astray")
def test_root_does_not_run_another_users_python(run: Run, env: Prefix, wheels: Path) -> None:
    os.chown(env.path / "bin", 12345, 12345)
    assert run(make_wheel(wheels, "apkg", "1.0"))["failed"]
    assert not list(env.site.glob("apkg*"))


# -- git -------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


def git_entry(repository: Repository, commit: str, **more: str) -> list[dict[str, str]]:
    entry = {"name": "gitpkg", "repo": str(repository.path), "commit": commit, "subdirectory": "sub"}
    return [{**entry, **more}]


def test_git_commit_instead_of_the_pin(run: Run, env: Prefix, repository: Repository) -> None:
    first, second = repository.commit("A = 1\n"), repository.commit("A = 2\n")
    lines = f"gitpkg==7.0 {HASH}\n"
    assert names(run(lines, git=git_entry(repository, first)), "installed") == ["gitpkg"]
    assert env.says("import gitpkg; print(gitpkg.A)") == "1"
    assert not run(lines, git=git_entry(repository, first))["changed"]
    kept = run(lines, git=git_entry(repository, second), on_drift="keep")
    assert not kept["changed"]
    assert first[:12] in kept["kept"][0]["found"]
    assert names(run(lines, git=git_entry(repository, second)), "changed") == ["gitpkg"]
    assert env.says("import gitpkg; print(gitpkg.A)") == "2"


def test_between_git_and_index_although_the_version_is_the_same(
    run: Run, env: Prefix, wheels: Path, repository: Repository
) -> None:
    git = git_entry(repository, repository.commit("A = 'git'\n"))
    line = make_wheel(wheels, "gitpkg", "1.0", {"gitpkg.py": "A = 'index'\n"})
    run(line)
    assert names(run(line, git=git), "changed") == ["gitpkg"]
    assert env.says("import gitpkg; print(gitpkg.A)") == "git"
    assert names(run(line), "changed") == ["gitpkg"]
    assert env.says("import gitpkg; print(gitpkg.A)") == "index"


def test_damage_in_a_package_from_git(run: Run, env: Prefix, repository: Repository) -> None:
    git = git_entry(repository, repository.commit("A = 1\n"))
    run(git=git)
    (env.site / "gitpkg.py").unlink()
    assert names(run(git=git), "repaired") == ["gitpkg"]
    assert env.says("import gitpkg; print(gitpkg.A)") == "1"


def test_commit_that_is_not_there(run: Run, repository: Repository) -> None:
    repository.commit("A = 1\n")
    result = run(git=git_entry(repository, "1" * 40))
    assert result["failed"]
    assert "not in the repository" in result["msg"]


def test_repository_that_is_not_there(run: Run, repository: Repository) -> None:
    commit = repository.commit("A = 1\n")
    result = run(git=git_entry(repository, commit, repo=f"{repository.path}-not"))
    assert result["failed"]
    assert "does not exist" in result["msg"]


def test_folder_that_is_not_in_the_repository(run: Run, repository: Repository) -> None:
    result = run(git=git_entry(repository, repository.commit("A = 1\n"), subdirectory="nosuch"))
    assert result["failed"]
    assert "subdirectory" in result["msg"]


# -- failures --------------------------------------------------------------------------------------


def test_hash_mismatch_names_the_file(run: Run, env: Prefix, wheels: Path) -> None:
    line = make_wheel(wheels, "apkg", "1.0")
    make_wheel(wheels, "apkg", "1.0", {"apkg/__init__.py": "EVIL = True\n"})
    result = run(line)
    assert result["failed"]
    assert "hash mismatch" in result["msg"]
    assert "apkg-1.0-py3-none-any.whl" in result["msg"]
    assert result["output"]
    assert not list(env.site.glob("apkg*"))


def test_no_such_wheel_names_what_and_where(run: Run, wheels: Path) -> None:
    result = run(f"apkg==1.0 {HASH}\n")
    assert result["failed"]
    assert "apkg==1.0" in result["msg"]
    assert str(wheels) in result["msg"]


def test_wheel_that_is_not_what_it_says_is_no_success(run: Run, wheels: Path) -> None:
    line = make_wheel(wheels, "apkg", "1.0", wrong_size=True)
    result = run(line)
    assert result["failed"]
    assert "apkg" in result["msg"]


@pytest.mark.parametrize(
    ("output", "word"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "full"),
        ("OSError: [Errno 122] Disk quota exceeded: '/home/u/x'", "quota"),
        ("  fatal: reference is not a tree: 1234567", "1234567"),
        ("fatal: remote error: upload-pack: not our ref 1234567", "1234567"),
        ("ModuleNotFoundError: No module named 'numpy'", "numpy"),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", "mirror"),
        ("ERROR: Cannot find command 'git' - do you have 'git' installed and in your PATH?", "git is not"),
        ("fatal: detected dubious ownership in repository at '/m/git/x'", "/m/git/x"),
        ("ERROR: [Errno 13] Permission denied: '/env/lib/x'", "/env/lib/x"),
        ("something unheard of", "status 2"),
    ],
)
def test_failures_are_explained(output: str, word: str) -> None:
    assert word in explain(f"Collecting x\n{output}\n", 2, "")


def test_missing_compiler_is_told_from_one_that_fails(tmp_path: Path) -> None:
    # Word for word what Python 3.6 prints in both cases.
    output = "error: command 'gcc' failed with exit status 1\n"
    assert "there is no gcc" in explain(output, 1, "", str(tmp_path))
    (tmp_path / "gcc").touch(mode=0o755)
    assert "there is no gcc" not in explain(output, 1, "", str(tmp_path))


def test_killed_by_the_kernel() -> None:
    assert "memory" in explain("", -9, "")


# -- validation ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "requirements",
    [
        "apkg",
        "apkg==1.0",
        f"apkg>=1.0 {HASH}",
        f"apkg==1.* {HASH}",
        f"apkg[extra]==1.0 {HASH}",
        f"apkg==1.0 ; python_version > '3' {HASH}",
        f"apkg @ file:///x {HASH}",
        f"apkg==1.0 {HASH} --global-option=x",
        "apkg==1.0 --hash=md5:00",
        f"apkg==1.0 {HASH}0",
        f"-r other.txt {HASH}",
        "--index-url https://elsewhere.example",
        f"-e . {HASH}",
        f"apkg==1.0 {HASH}\nA-Pkg==1.0 {HASH}\na.pkg==1.0 {HASH}",
        f"--apkg==1.0 {HASH}",
        "apkg==1.0 \\",
    ],
)
def test_malformed_requirements_are_refused_before_anything(run: Run, tmp_path: Path, requirements: str) -> None:
    # Not even the prefix is looked at.
    result = run(requirements, prefix=str(tmp_path / "none"))
    assert result["failed"]
    assert "requirements, line" in result["msg"]


def test_form_that_uv_writes(run: Run, wheels: Path) -> None:
    line = make_wheel(wheels, "apkg", "1.0").replace(" --hash", " \\\n    --hash")
    text = f"# header\n\n{line.strip()} \\\n    {HASH}\n    # via\n    #   bpkg\n"
    assert names(run(text, check=True), "installed") == ["apkg"]


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "-x"},
        {"name": "x y"},
        {"commit": "2929bd2"},
        {"commit": "main"},
        {"commit": "A" * 40},
        {"repo": "-oProxyCommand=x"},
        {"repo": "ssh://-oProxyCommand=x/y"},
        {"repo": "git@host.example:x.git"},
        {"repo": "relative/path"},
        {"repo": "ext::sh -c x"},
        {"repo": "https://user:secret@host.example/x.git"},
        {"repo": "https://host.example/x.git#egg=y"},
        {"subdirectory": "../x"},
        {"subdirectory": "/x"},
        {"subdirectory": "x&egg=y"},
    ],
)
def test_malformed_git_entries_are_refused(run: Run, entry: dict[str, str]) -> None:
    good = {"name": "gitpkg", "repo": "https://host.example/x.git", "commit": COMMIT}
    assert run(git=[good], check=True)["changed"]
    result = run(git=[{**good, **entry}])
    assert result["failed"]
    assert result["msg"].startswith("git: ")
    assert "secret" not in result["msg"]


@pytest.mark.parametrize("place", ["wheels", "-x", "ftp://h/x", "https://h/x --pre", "file:///x\n--pre"])
def test_malformed_find_links_are_refused(run: Run, place: str) -> None:
    result = run(find_links=[place])
    assert result["failed"]
    assert "find_links" in result["msg"]


def test_same_git_name_twice(run: Run) -> None:
    entries = [{"name": name, "repo": "/x", "commit": COMMIT} for name in ("a-b", "A_B")]
    assert run(git=entries)["failed"]


# -- from end to end -------------------------------------------------------------------------------


def test_from_end_to_end_through_ansible(env: Prefix, wheels: Path) -> None:
    arguments = {
        "prefix": str(env.path),
        "requirements": make_wheel(wheels, "apkg", "1.0"),
        "find_links": [str(wheels)],
        "no_index": True,
    }
    ansible = str(Path(sys.executable).with_name("ansible"))
    command = [
        ansible, "localhost", "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}",
        "-m", "crophpc.maskrcnn.pip_requirements", "-a", json.dumps(arguments),
    ]  # fmt: skip
    environment = {**os.environ, "ANSIBLE_HOME": str(ROOT / ".ansible")}
    for state in ("CHANGED", "SUCCESS"):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"localhost | {state} =>" in done.stdout
    assert env.says("import apkg; print(apkg.VERSION)") == "1.0"


def test_ninety_packages_are_looked_at_in_half_a_second(run: Run, env: Prefix, tmp_path: Path) -> None:
    lines = ""
    for number in range(90):
        files = {f"pkg{number}/m{i}.py": f"X = {i}\n" for i in range(100)}
        lines += make_wheel(tmp_path / "many", f"pkg{number}", "1.0", files)
    for wheel in (tmp_path / "many").iterdir():
        zipfile.ZipFile(wheel).extractall(env.site)
    results = [run(lines, check=True) for dummy in range(3)]
    assert not results[0]["changed"]
    assert min(result["seconds"] for result in results) < 0.5  # the best: others may be using the machine
