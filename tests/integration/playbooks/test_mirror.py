# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""playbooks/mirror.yml: from the internet, for which the test mirror on a web server stands, to envs without it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from playbook import NO_PROOF, Playbook
from web_server import Server


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, mirror: Path, engine_path: Path) -> Playbook:
    """A user with a mirror made by mirror.yml for a lock made by lock.yml; what it was made from is gone."""
    folder = tmp_path_factory.mktemp("made")
    internet = Server(mirror)
    playbook = Playbook(folder / "home", "")
    playbook.home.mkdir()
    commit = json.loads((mirror / "manifest.json").read_text())["profiles"]["tf1"]["commit"]
    variables: dict[str, Any] = {
        "maskrcnn_lock": str(folder / "tf1-cpu.lock"),
        "conda_engine_path": str(engine_path),
    }
    lock = playbook.run("lock", variables | {"maskrcnn_mirror": internet.url})
    assert lock.returncode == 0, lock.output

    variables |= {
        # The inventory's, for the hosts; not where a mirror comes from.
        "maskrcnn_mirror": "/mnt/nowhere",
        "maskrcnn_mirror_dest": f"{folder}/mirror/",
        "maskrcnn_mirror_weights": False,
        "maskrcnn_python": "3.6.15",
        "maskrcnn_repo": f"{internet.url}/git/Mask_RCNN.git",
        "maskrcnn_commit": commit,
        "conda_engine_find_links": [f"{internet.url}/wheels/index.html"],
        "conda_engine_no_index": True,
    }
    preview = playbook.run("mirror", variables, "--check", "--diff")
    assert preview.returncode == 0, preview.output
    assert preview.changed == 1
    assert "+channel/linux-64/numpy-1.18.5-" in preview.output
    assert not (folder / "mirror").exists()

    first = playbook.run("mirror", variables)
    assert first.returncode == 0, first.output
    internet.stop()
    second = playbook.run("mirror", variables)
    assert second.returncode == 0, second.output
    assert second.changed == 0
    return replace(playbook, mirror=str(folder / "mirror"))


@pytest.fixture
def user(made: Playbook, tmp_path: Path) -> Playbook:
    """Another user, who has nothing yet."""
    return Playbook(tmp_path, made.mirror)


def test_the_folder_and_the_lock_are_all_that_site_needs(user: Playbook) -> None:
    """The engine is made from it too."""
    lock = Path(user.mirror, "locks", "tf1-cpu.lock")
    result = user.run("site", NO_PROOF | {"maskrcnn_lock": str(lock)})
    assert result.returncode == 0, result.output
    packages = yaml.safe_load(lock.read_text())["packages"]
    records = [json.loads(path.read_text()) for path in (user.env / "conda-meta").glob("*.json")]
    assert {record["sha256"] for record in records} == {p["sha256"] for p in packages if "conda" in p}
    assert (user.env / "include" / "Mask_RCNN" / "mrcnn" / "model.py").is_file()


def test_a_web_server_that_has_it_is_all_that_site_needs(
    user: Playbook, engine_path: Path, serve: Callable[[Path], Server]
) -> None:
    server = serve(Path(user.mirror))
    variables = NO_PROOF | {"maskrcnn_mirror": f"{server.url}/", "conda_engine_path": str(engine_path)}
    result = user.run("site", variables)
    assert result.returncode == 0, result.output
    assert (user.env / "include" / "Mask_RCNN" / "mrcnn" / "model.py").is_file()
    assert user.run("site", variables).changed == 0


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("http://127.0.0.1:9", ["http://127.0.0.1:9", "refused"]),
        ("http://mirror.example.org", ["https"]),
        ("https://ada:secret@mirror.example.org", ["user name"]),
    ],
)
def test_a_mirror_that_cannot_be_used_is_named_before_anything_is_touched(
    playbook: Playbook, place: str, words: list[str]
) -> None:
    result = playbook.run("site", {"maskrcnn_mirror": place})
    assert result.returncode != 0
    assert all(word in result.failure for word in words), result.failure
    assert "secret" not in result.output
    assert not playbook.apps.exists()


def test_a_mirror_that_is_half_copied_is_refused(user: Playbook, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "wheels").mkdir(parents=True)
    shutil.copy(Path(user.mirror, "manifest.json"), copy)
    (copy / "wheels" / "tf1-cpu.txt").write_text("")
    result = user.run("site", {"maskrcnn_mirror": str(copy)})
    assert result.returncode != 0
    assert "wheels/tf1-cpu.txt" in result.failure
    assert not user.apps.exists()


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"maskrcnn_mirror_dest": "mirror", "maskrcnn_lock": "{lock}"}, "absolute"),
        ({"maskrcnn_mirror_dest": "{home}/mirror"}, "playbooks/lock.yml"),
    ],
)
def test_mirror_without_a_folder_or_a_lock_is_refused(
    made: Playbook, tmp_path: Path, variables: dict[str, str], word: str
) -> None:
    lock = str(Path(made.mirror, "locks", "tf1-cpu.lock"))
    given = {name: value.format(lock=lock, home=tmp_path) for name, value in variables.items()}
    result = Playbook(tmp_path, "").run("mirror", {"maskrcnn_python": "3.6.15"} | given)
    assert result.returncode != 0
    assert word in result.failure
    assert not (tmp_path / "mirror").exists()
