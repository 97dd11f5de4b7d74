# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tool that locks a profile's pip lists: everything but the resolving, which needs the network."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import parse_requirements
from ansible_collections.crophpc.maskrcnn.tools import lock_pip

ROOT = Path(__file__).resolve().parents[2]
PROFILE = {
    "python": "3.6.12",
    "conda": {"channels": ["c"], "specs": ["numpy=1.18.5", "ipython=7.16"], "gpu_specs": ["cudnn=7.6.5"]},
    "pip": {
        "requirements": ["keras==2.2.5"],
        "cpu_requirements": ["tensorflow==1.15.5"],
        "gpu_requirements": ["tensorflow-gpu==1.15.5"],
        "excluded": ["opencv-python"],
        "exclude_newer": "2023-12-31",
    },
}
HASH = f" \\\n    --hash=sha256:{'0' * 64}\n"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("pip=21.3.1", "pip==21.3.1.*"),
        ("cython=0.29", "cython==0.29.*"),
        ("cython=0.29.*", "cython==0.29.*"),
        ("numpy==1.18.5", "numpy==1.18.5"),
        ("numpy=1.18.5=py36_0", "numpy==1.18.5.*"),
        ("pillow>=8,<9", "pillow>=8,<9"),
        ("pillow >=8, <9", "pillow>=8,<9"),
        ("matplotlib-base=3.3.4", "matplotlib==3.3.4.*"),
        ("conda-forge::h5py=2.10.0", "h5py==2.10.0.*"),
        ("numpy", None),
        ("cudatoolkit=10.0", None),
    ],
)
def test_conda_spec_becomes_a_constraint(spec: str, expected: str | None) -> None:
    assert lock_pip.constraint(spec) == expected


def test_conda_spec_that_is_none() -> None:
    with pytest.raises(lock_pip.LockError):
        lock_pip.constraint("numpy (1.18)")


def lock_text(profile: dict[str, Any], *pins: str, build: str = "cpu") -> str:
    head = lock_pip.header("p", build, lock_pip.inputs(profile, build))
    return "\n".join(head) + "\n" + "".join(pin + HASH for pin in pins)


def complaints(profile: dict[str, Any], text: str) -> list[str]:
    return list(lock_pip.complaints(lock_pip.inputs(profile, "cpu"), text))


GOOD = ["keras==2.2.5", "numpy==1.18.5", "tensorflow==1.15.5"]


def test_current_file_is_current() -> None:
    assert complaints(PROFILE, lock_text(PROFILE, *GOOD)) == []


@pytest.mark.parametrize(
    "pins",
    [
        ["keras==2.2.4", "numpy==1.18.5", "tensorflow==1.15.5"],  # another version
        ["numpy==1.18.5", "tensorflow==1.15.5"],  # missing
        ["keras==2.2.5", "numpy==1.19.5", "tensorflow==1.15.5"],  # not what conda brings
        [*GOOD, "opencv-python==4.5.5.64"],  # excluded
    ],
)
def test_edited_file_is_noticed(pins: list[str]) -> None:
    assert len(complaints(PROFILE, lock_text(PROFILE, *pins))) == 1


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("conda", "specs", ["numpy=1.18"]),
        ("pip", "exclude_newer", "2024-01-01"),
        ("pip", "excluded", []),
        ("pip", "cpu_excluded", ["tensorflow"]),
        ("pip", "platform", "x86_64-manylinux_2_28"),
    ],
)
def test_changed_profile_is_noticed(section: str, key: str, value: Any) -> None:
    changed = copy.deepcopy(PROFILE)
    changed[section][key] = value
    assert complaints(changed, lock_text(PROFILE, *GOOD))


def test_order_in_the_profile_does_not_matter() -> None:
    turned = copy.deepcopy(PROFILE)
    turned["conda"]["specs"].reverse()
    assert complaints(turned, lock_text(PROFILE, *GOOD)) == []


def test_a_profile_may_name_the_platform() -> None:
    newer = copy.deepcopy(PROFILE)
    assert lock_pip.inputs(newer, "cpu").platform == "x86_64-manylinux2014"
    newer["pip"]["platform"] = "x86_64-manylinux_2_28"  # type: ignore[index]
    assert lock_pip.inputs(newer, "cpu").platform == "x86_64-manylinux_2_28"


def test_one_build_may_exclude_more() -> None:
    more = copy.deepcopy(PROFILE)
    more["pip"]["cpu_excluded"] = ["big"]  # type: ignore[index]
    excluded = {build: lock_pip.inputs(more, build).excluded for build in ("cpu", "gpu")}
    assert excluded == {"cpu": ["big", "opencv-python"], "gpu": ["opencv-python"]}


def test_builds_differ() -> None:
    gpu = lock_pip.inputs(PROFILE, "gpu")
    assert "tensorflow-gpu==1.15.5" in gpu.requirements
    assert "tensorflow==1.15.5" not in gpu.requirements
    assert complaints(PROFILE, lock_text(PROFILE, *GOOD, build="gpu"))


PYLOCK = """
[[packages]]
name = "keras"
version = "2.2.5"
sdist = { hashes = { sha256 = "cc" } }
wheels = [{ hashes = { sha256 = "bb" } }, { hashes = { sha256 = "aa" } }]

[[packages]]
name = "pycocotools"
version = "2.0.7"
sdist = { hashes = { sha256 = "dd" } }
"""


def test_source_only_where_there_is_no_wheel() -> None:
    hashes = lock_pip.usable_hashes(PYLOCK)
    assert hashes == {"keras==2.2.5": ["aa", "bb"], "pycocotools==2.0.7": ["dd"]}
    lines = "\n".join(lock_pip.with_hashes("keras==2.2.5\n    # via x\npycocotools==2.0.7\n", hashes))
    assert lines == (
        "keras==2.2.5 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via x\n"
        "pycocotools==2.0.7 \\\n    --hash=sha256:dd"
    )


def test_marker_in_uvs_answer_is_refused() -> None:
    with pytest.raises(lock_pip.LockError):
        list(lock_pip.with_hashes("keras==2.2.5 ; sys_platform == 'linux'\n", lock_pip.usable_hashes(PYLOCK)))


@pytest.mark.parametrize("path", sorted((ROOT / "playbooks" / "profiles").glob("*.txt")), ids=lambda path: path.name)
def test_committed_files_are_current_and_readable_by_the_module(path: Path) -> None:
    assert lock_pip.run([path.stem.rsplit("-", 1)[0]], checking=True) == []
    text = path.read_text()
    assert {pin.name for pin in parse_requirements(text)} == lock_pip.pins(text).keys()


def test_missing_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.yml").write_text(lock_pip.yaml.safe_dump(PROFILE))
    monkeypatch.setattr(lock_pip, "PROFILES", tmp_path)
    wrong = lock_pip.run(["p"], checking=True)
    assert ["p-cpu.txt" in wrong[0], "p-gpu.txt" in wrong[1]] == [True, True]
    (tmp_path / "p-cpu.txt").write_text(lock_text(PROFILE, *GOOD))
    gpu = [*GOOD[:2], "tensorflow-gpu==1.15.5"]
    (tmp_path / "p-gpu.txt").write_text(lock_text(PROFILE, *gpu, build="gpu"))
    assert lock_pip.run(["p"], checking=True) == []
