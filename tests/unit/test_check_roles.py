# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""tools/check_roles.py finds every way in which a role's defaults and argument specs can drift apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.crophpc.maskrcnn.tools import check_roles

DEFAULTS = """---
# How tall the plant is: small or big.
plant_size: small

# Its `leaves`.
plant_leaves: []
"""
SPECS = """---
argument_specs:
  main:
    short_description: Plants
    options:
      plant_size:
        description: "How tall the plant is: V(small) or V(big)."
        type: str
        default: small
      plant_leaves:
        description: Its C(leaves).
        type: list
        elements: str
        default: []
"""


def role(folder: Path, defaults: str, specs: str) -> Path:
    path = folder / "plant"
    for name, text in (("defaults/main.yml", defaults), ("meta/argument_specs.yml", specs)):
        (path / name).parent.mkdir(parents=True)
        (path / name).write_text(text)
    return path


def test_a_role_in_which_both_agree_is_fine(tmp_path: Path) -> None:
    assert check_roles.check_role(role(tmp_path, DEFAULTS, SPECS)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("plant_size: small", "plant_size: big"),
        ("plant_leaves: []", "plant_roots: []"),
        ("# How tall the plant is", "# How broad the plant is"),
        ("# Its `leaves`.\n", ""),
        ("plant_leaves", "leaves"),
    ],
    ids=["another default", "another name", "another comment", "no comment", "no role in the name"],
)
def test_a_change_in_the_defaults_alone_is_found(tmp_path: Path, old: str, new: str) -> None:
    assert old in DEFAULTS
    assert check_roles.check_role(role(tmp_path, DEFAULTS.replace(old, new), SPECS))


@pytest.mark.parametrize(
    ("old", "new"),
    [("default: small", "default: big"), ("How tall", "How broad"), ("plant_leaves:", "plant_roots:")],
    ids=["another default", "another description", "another name"],
)
def test_a_change_in_the_specs_alone_is_found(tmp_path: Path, old: str, new: str) -> None:
    assert old in SPECS
    assert check_roles.check_role(role(tmp_path, DEFAULTS, SPECS.replace(old, new)))


@pytest.mark.parametrize(("name", "wrong"), [("_plant_roots", 0), ("plant_roots", 1)])
def test_a_var_without_a_leading_underscore_is_found(tmp_path: Path, name: str, wrong: int) -> None:
    path = role(tmp_path, DEFAULTS, SPECS)
    (path / "vars").mkdir()
    (path / "vars" / "main.yml").write_text(f"---\n{name}: []\n")
    assert len(check_roles.check_role(path)) == wrong


def test_the_projects_own_roles_are_all_looked_at() -> None:
    assert {path.name for path in check_roles.ROLES.iterdir()} >= {"conda_engine", "conda_env", "mask_rcnn", "verify"}
