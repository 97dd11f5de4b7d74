# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command `mrcnn` in an environment with TensorFlow 1.15: installed, mended, and all of its tests on Python 3.6."""

from __future__ import annotations

from pathlib import Path

import pytest
from desk import output
from playbook import ROOT, Playbook, Result

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def env(provisioned: Playbook) -> Path:
    return provisioned.env


def apply(playbook: Playbook, env: Path, *arguments: str) -> Result:
    """Runs the role alone."""
    result = playbook.run_role("workbench", {"workbench_prefix": str(env)}, *arguments)
    assert result.returncode == 0, result.output
    return result


def test_the_command_and_the_package_are_in_the_environment(env: Path) -> None:
    python = env / "bin" / "python"
    assert "import" in output([env / "bin" / "mrcnn", "data", "import", "--help"])
    package = Path(output([python, "-c", "import mrcnn_workbench as w; print(w.__file__)"]).strip()).parent
    assert package == env / "lib" / "python3.6" / "site-packages" / "mrcnn_workbench"
    sources, compiled = (list(package.rglob(pattern)) for pattern in ("*.py", "*.cpython-36.pyc"))
    there = {path.relative_to(package) for path in sources}
    checkout = ROOT / "roles" / "workbench" / "files" / "mrcnn_workbench"
    assert there == {path.relative_to(checkout) for path in checkout.rglob("*.py")}, "every file, in every folder"
    assert len(compiled) == len(sources)


@pytest.mark.usefixtures("role_alone")
def test_what_is_damaged_missing_or_left_over_is_put_right(env: Path, playbook: Playbook) -> None:
    apply(playbook, env)  # it is told less than by site.yml
    assert apply(playbook, env).changed == 0
    package = env / "lib" / "python3.6" / "site-packages" / "mrcnn_workbench"
    sheet = (package / "sheet.py").read_text()
    (package / "sheet.py").write_text("broken")
    (package / "verbs" / "data.py").unlink()
    (package / "verbs" / "of_old.py").touch()
    (package / "cli.py").chmod(0o600)
    assert apply(playbook, env, "--check").changed > 0
    assert (package / "sheet.py").read_text() == "broken"
    apply(playbook, env)
    assert (package / "sheet.py").read_text() == sheet
    assert (package / "verbs" / "data.py").is_file()
    assert not (package / "verbs" / "of_old.py").exists()
    assert {path.stat().st_mode & 0o777 for path in (package, package / "verbs")} == {0o755}
    assert (package / "cli.py").stat().st_mode & 0o777 == 0o644
    assert apply(playbook, env).changed == 0


def test_all_tests_of_the_package_pass_in_the_environment(env: Path, tmp_path: Path) -> None:
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps", "--require-hashes"]
    python = env / "bin" / "python"
    output([python, *pip, "--target", tmp_path / "pytest", "--requirement", HERE / "pytest36.txt"])
    tests = sorted((ROOT / "tests" / "unit").glob("test_workbench_*.py"))
    options = ["--noconftest", "-p", "no:cacheprovider", "--quiet", "--basetemp", tmp_path / "tests"]
    said = output([python, "-m", "pytest", *options, *tests], PYTHONPATH=str(tmp_path / "pytest"))
    assert " passed" in said and "skipped" not in said and "failed" not in said
