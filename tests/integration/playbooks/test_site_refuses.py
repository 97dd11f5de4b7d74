# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""playbooks/site.yml with bad input: an error that names what is wrong, before anything is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playbook import Playbook

Prepare = Callable[[Path], None]

# The first is fine.
TWO = {"maskrcnn_profiles": "tf1,recipe", "maskrcnn_name": "{{ {'recipe': 'maskrcnn_second'} }}"}


def nothing(apps: Path) -> None:
    """The machine as it is."""


def a_file_at_the_prefix(apps: Path) -> None:
    (apps / "conda" / "envs").mkdir(parents=True)
    (apps / "conda" / "envs" / "maskrcnn_example").write_text("mine")


def photographs_at_the_prefix(apps: Path) -> None:
    (apps / "conda" / "envs" / "maskrcnn_example").mkdir(parents=True)
    (apps / "conda" / "envs" / "maskrcnn_example" / "leaf.jpg").write_text("mine")


def photographs_at_the_second_prefix(apps: Path) -> None:
    (apps / "conda" / "envs" / "maskrcnn_second").mkdir(parents=True)
    (apps / "conda" / "envs" / "maskrcnn_second" / "leaf.jpg").write_text("mine")


def an_env_above_the_prefix(apps: Path) -> None:
    (apps / "conda" / "envs" / "other" / "conda-meta").mkdir(parents=True)
    (apps / "conda" / "envs" / "other" / "conda-meta" / "history").touch()


def a_file_at_the_clone(apps: Path) -> None:
    apps.mkdir()
    (apps / "clone").write_text("mine")


def something_else_at_the_clone(apps: Path) -> None:
    (apps / "clone").mkdir(parents=True)
    (apps / "clone" / "notes.txt").write_text("mine")


@pytest.mark.parametrize(
    ("variables", "prepare", "words"),
    [
        ({"maskrcnn_profiles": "tf9"}, nothing, ["tf9", "recipe", "tf1"]),
        ({"maskrcnn_profiles": "tf1,tf9"}, nothing, ["tf9", "recipe", "tf1"]),
        ({"maskrcnn_profiles": "[]"}, nothing, ["maskrcnn_profiles", "tf1"]),
        ({"maskrcnn_profiles": "tf1,recipe"}, nothing, ["maskrcnn_example, maskrcnn_example", '{"recipe": "']),
        (TWO | {"maskrcnn_prefix": "{apps}/x"}, nothing, ["maskrcnn_prefix", "single"]),
        (TWO | {"maskrcnn_name": "{{ {'recipe': 'two words'} }}"}, nothing, ["two words"]),
        (TWO, photographs_at_the_second_prefix, ["maskrcnn_second", "left alone"]),
        ({"maskrcnn_name": "two words"}, nothing, ["two words"]),
        ({"maskrcnn_name": "a/b"}, nothing, ["a/b"]),
        ({"maskrcnn_name": "-rf"}, nothing, ["-rf"]),
        ({"maskrcnn_python": "three"}, nothing, ["maskrcnn_python", "three"]),
        ({"maskrcnn_pycocotools": "conda"}, nothing, ["maskrcnn_pycocotools", "conda"]),
        ({"maskrcnn_apps": "apps"}, nothing, ["maskrcnn_apps", "apps"]),
        ({"maskrcnn_apps": "/proc/apps"}, nothing, ["/proc"]),
        ({"maskrcnn_mirror": "/nowhere"}, nothing, ["/nowhere", "mirror"]),
        ({"maskrcnn_commit": "0" * 40}, nothing, ["0" * 40, "Mask_RCNN.git"]),
        ({"maskrcnn_commit": "master"}, nothing, ["mask_rcnn_commit", "master"]),
        ({"maskrcnn_repo": "/nowhere.git"}, nothing, ["/nowhere.git"]),
        ({"conda_engine_python": "/bin/false", "conda_engine_path": "{apps}/e"}, nothing, ["3.10", "/bin/false"]),
        ({}, a_file_at_the_prefix, ["maskrcnn_example", "file"]),
        ({}, photographs_at_the_prefix, ["maskrcnn_example", "left alone"]),
        ({"maskrcnn_prefix": "{apps}/conda/envs/other/lib/x"}, an_env_above_the_prefix, ["inside another", "other"]),
        ({"mask_rcnn_dest": "{apps}/clone"}, something_else_at_the_clone, ["clone", "left alone"]),
        ({"mask_rcnn_dest": "{apps}/clone"}, a_file_at_the_clone, ["clone", "left alone"]),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None,
)
def test_bad_input_is_refused_and_nothing_touched(
    playbook: Playbook,
    snapshot: Callable[[Path], Any],
    variables: dict[str, str],
    prepare: Prepare,
    words: list[str],
) -> None:
    prepare(playbook.apps)
    before = snapshot(playbook.apps)
    given = {name: value.replace("{apps}", str(playbook.apps)) for name, value in variables.items()}
    result = playbook.run("site", given)
    assert result.returncode != 0
    message = result.failure
    assert all(word in message for word in words), message
    assert snapshot(playbook.apps) == before


@pytest.mark.parametrize(
    ("specs", "words"),
    [(["numpy=99"], ["numpy"]), (["numpy 1.18"], ["numpy 1.18"])],
    ids=["unsatisfiable", "malformed"],
)
def test_bad_specs_leave_no_env(playbook: Playbook, engine_path: Path, specs: list[str], words: list[str]) -> None:
    """These need the engine, which is the only thing made before."""
    variables = {"conda_env_specs": specs, "conda_engine_path": str(engine_path)}
    result = playbook.run("site", variables)
    assert result.returncode != 0
    assert all(word in result.failure for word in words), result.failure
    assert not (playbook.apps / "conda").exists()
