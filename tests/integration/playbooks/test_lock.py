# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""playbooks/lock.yml, and site.yml with what it has made: exactly those files, from any mirror, or nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from playbook import ROOT, Playbook, Result

SPECS_WITH_ANOTHER_CYTHON = """
    [python=3.6.15, pip=21.3.1, numpy=1.18.5, scipy=1.5.3, "pillow>=8,<9", cython=3.0, matplotlib-base=3.3.4,
     scikit-image=0.16.2, h5py=2.10.0, ipython=7.16]
"""


@dataclass(frozen=True)
class Site:
    """An inventory of its own, with its locks, for a user who has nothing yet but the engine."""

    playbook: Playbook
    inventory: Path
    engine: Path

    @property
    def lock(self) -> Path:
        return self.inventory.with_name("locks") / "tf1-cpu.lock"

    def run(self, name: str, variables: dict[str, Any] | None = None, *arguments: str) -> Result:
        given = {"conda_engine_path": str(self.engine), "maskrcnn_verify": False} | (variables or {})
        return self.playbook.run(name, given, "--inventory", str(self.inventory), *arguments)


def packages(lock: Path) -> list[dict[str, Any]]:
    """The packages of a lock, as they are written there."""
    found: list[dict[str, Any]] = yaml.safe_load(lock.read_text())["packages"]
    return found


def make_site(folder: Path, mirror: Path, engine: Path, lock: Path | None = None) -> Site:
    site = Site(Playbook(folder / "home", str(mirror)), folder / "inventory" / "hosts.yml", engine)
    site.playbook.home.mkdir()
    site.inventory.parent.mkdir()
    shutil.copy(ROOT / "inventories" / "local" / "hosts.yml", site.inventory)
    if lock:
        site.lock.parent.mkdir()
        shutil.copy(lock, site.lock)
    return site


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, mirror: Path, engine_path: Path) -> Site:
    """A site with a lock, after nothing but lock.yml."""
    site = make_site(tmp_path_factory.mktemp("locked"), mirror, engine_path)
    preview = site.run("lock", {}, "--check", "--diff")
    assert preview.returncode == 0, preview.output
    assert "+numpy 1.18.5 " in preview.output
    assert "+tensorflow 1.15.5 " in preview.output
    assert not site.lock.parent.exists()
    assert not site.playbook.apps.exists()

    result = site.run("lock")
    assert result.returncode == 0, result.output
    assert site.lock.is_file()
    assert not site.playbook.env.exists()
    return site


@pytest.fixture
def site(locked: Site, tmp_path: Path, mirror: Path) -> Site:
    """Another user and inventory with the same lock."""
    return make_site(tmp_path, mirror, locked.engine, locked.lock)


@pytest.fixture
def bare_mirror(tmp_path: Path, mirror: Path) -> Path:
    """The mirror in another place, without what a solver needs."""
    copy = tmp_path / "mirror"
    shutil.copytree(mirror, copy, copy_function=os.link, ignore=shutil.ignore_patterns("repodata*", ".*"))
    return copy


def test_a_second_run_changes_nothing(locked: Site) -> None:
    before = locked.lock.read_bytes()
    result = locked.run("lock")
    assert result.returncode == 0, result.output
    assert result.changed == 0, result.output
    assert locked.lock.read_bytes() == before


def test_the_diff_of_a_new_lock_names_packages(site: Site) -> None:
    site.lock.write_text(
        site.lock.read_text().replace("zipp-3.6.0", "zipp-3.5.0").replace("version: 3.6.0", "version: 3.5.0")
    )
    before = site.lock.read_bytes()
    result = site.run("lock", {"conda_env_specs": yaml.safe_load(SPECS_WITH_ANOTHER_CYTHON)}, "--check", "--diff")
    assert result.returncode == 0, result.output
    changes = [line.split()[:2] for line in result.output.splitlines() if re.match(r"[+-]\w", line)]
    assert changes == [["-cython", "0.29.37"], ["+cython", "3.0.7"], ["-zipp", "3.5.0"], ["+zipp", "3.6.0"]]
    assert site.lock.read_bytes() == before


def test_what_the_lock_names_is_installed_from_another_mirror_without_a_solver(site: Site, bare_mirror: Path) -> None:
    variables = {"maskrcnn_mirror": str(bare_mirror)}
    result = site.run("site", variables)
    assert result.returncode == 0, result.output
    assert str(site.lock) in result.output

    locked = packages(site.lock)
    records = [json.loads(path.read_text()) for path in (site.playbook.env / "conda-meta").glob("*.json")]
    assert {(Path(r["url"]).name, r["sha256"]) for r in records} == {
        (Path(p["conda"]).name, p["sha256"]) for p in locked if "conda" in p
    }
    assert all(record["url"].startswith((bare_mirror / "channel").as_uri()) for record in records)

    infos = (site.playbook.env / "lib" / "python3.6" / "site-packages").glob("*.dist-info")
    installed = {
        re.sub(r"[-_.]+", "-", info.stem.rpartition("-")[0]).lower(): info.stem.rpartition("-")[2] for info in infos
    }
    pip = {p["name"]: p["version"] for p in locked if "pypi" in p}
    assert len(pip) > 50
    assert pip.items() <= installed.items()
    # Everything else has come from conda.
    of_conda = {re.sub(r"[-_.]+", "-", r["name"].removesuffix("-base")) for r in records}
    assert installed.keys() - pip.keys() <= of_conda

    again = site.run("site", variables)
    assert again.returncode == 0, again.output
    assert again.changed == 0, again.output


def test_an_archive_that_is_another_is_not_installed(site: Site, bare_mirror: Path) -> None:
    archive = next((bare_mirror / "channel" / "linux-64").glob("scipy-1.5.3-*.conda"))
    content = archive.read_bytes()
    archive.unlink()  # it is a link to the mirror's own
    archive.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = site.run("site", {"maskrcnn_mirror": str(bare_mirror)})
    assert result.returncode != 0
    assert archive.name in result.failure
    assert "sha256" in result.failure
    assert not site.playbook.env.exists()


def another_sum(site: Site) -> list[str]:
    package = next(package for package in packages(site.lock) if package.get("name") == "keras")
    site.lock.write_text(site.lock.read_text().replace(package["sha256"], "f" * 64))
    return ["Keras-2.2.5", "f" * 64, package["sha256"]]


def no_pip_part(site: Site) -> list[str]:
    site.lock.write_text(re.sub(r"^ *- pypi: .*\n(  \w.*\n)*", "", site.lock.read_text(), flags=re.MULTILINE))
    return [str(site.lock), "no part for pip"]


def another_profile(site: Site) -> list[str]:
    shutil.copy(site.lock, site.lock.with_name("recipe-cpu.lock"))
    site.inventory.write_text(site.inventory.read_text() + "  vars: {maskrcnn_profiles: [recipe]}\n")
    return ["recipe-cpu.lock", "tensorflow=1.15", "imgaug"]


@pytest.mark.parametrize("spoil", [another_sum, no_pip_part, another_profile])
def test_a_lock_that_does_not_fit_is_refused_and_nothing_touched(
    site: Site, spoil: Callable[[Site], list[str]]
) -> None:
    words = spoil(site)
    result = site.run("site")
    assert result.returncode != 0
    assert all(word in result.failure for word in words), result.failure
    assert not site.playbook.apps.exists()
