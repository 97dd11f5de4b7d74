# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The state of a prefix, read from hand-made ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.byte_code import remove_compiled, remove_distribution
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import STAMP, VERIFY, Prefix, Stamp
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import LOCK_NAME
from ansible_collections.crophpc.maskrcnn.plugins.modules.conda_env_info import info
from hand_made import hand_made_entry, hand_made_env, hand_made_record


@pytest.fixture
def env(tmp_path: Path) -> Path:
    return hand_made_env(tmp_path / "env")


def test_reads_packages(env: Path) -> None:
    assert Prefix(env).packages == {"leaf": Package("leaf", "1.0", "0")}
    assert Prefix(env).broken == []
    assert Prefix(env).is_env


def test_nothing_there(tmp_path: Path) -> None:
    prefix = Prefix(tmp_path / "nothing")
    assert not prefix.is_env
    assert prefix.packages == {}
    assert prefix.stamp() == Stamp()
    assert prefix.site_packages is None
    assert info(tmp_path / "nothing", "sha256")["status"] == "absent"


LEAF = '{"name": "x", "version": "1", "build": "0"'


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"name": "leaf", "ver',
        "[]",
        "null",
        "3",
        "{}",
        LEAF + "}",
        LEAF + ', "files": [], "paths_data": {"paths": [{"sha256": "0"}]}}',
        LEAF + ', "files": [], "paths_data": null}',
        "\xff\xfe",
    ],
)
def test_record_that_is_none_is_broken_and_not_fatal(env: Path, content: str) -> None:
    record = env / "conda-meta" / "torn-1.0-0.json"
    record.write_text(content, encoding="latin-1")
    prefix = Prefix(env)
    assert prefix.broken == [record]
    assert list(prefix.packages) == ["leaf"]
    assert "torn-1.0-0.json" in info(env, "none")["damaged"]


def test_record_of_an_old_conda(env: Path) -> None:
    hand_made_record(env, "old", "1", [], files=["share/leaf.txt", "share/gone.txt"])
    assert Prefix(env).damage("sha256") == {"old": "1 file missing, e.g. share/gone.txt"}


def test_package_without_files(env: Path) -> None:
    hand_made_record(env, "meta", "1", [], files=[])
    assert Prefix(env).damage("sha256") == {}


def unlink(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_text("")


def same_size(path: Path) -> None:
    path.write_text(path.read_text().upper())


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("file", "damage", "seen", "word"),
    [
        ("bin/leaf", unlink, ("size", "sha256"), "missing"),
        ("bin/leaf", truncate, ("size", "sha256"), "changed"),
        ("share/leaf.txt", same_size, ("sha256",), "changed"),
        ("share/prefix.txt", truncate, ("size", "sha256"), "changed"),
        ("share/prefix.txt", same_size, ("size", "sha256"), "changed"),
        ("bin/leaf", link, ("size", "sha256"), "changed"),
        ("bin/leaf", folder, ("size", "sha256"), "changed"),
    ],
)
def test_damage(env: Path, file: str, damage: Callable[[Path], None], seen: tuple[str, ...], word: str) -> None:
    assert Prefix(env).damage("sha256") == {}
    damage(env / file)
    found = {verify: Prefix(env).damage(verify) for verify in VERIFY}
    words = {"leaf": f"1 file {word}, e.g. {file}"}
    assert found == {verify: words if verify in seen else {} for verify in VERIFY}


def test_folder_turned_into_a_file_hides_what_was_in_it(env: Path) -> None:
    (env / "bin/leaf").unlink()
    (env / "bin").rmdir()
    (env / "bin").write_text("")
    assert "missing" in Prefix(env).damage("size")["leaf"]


def test_links_of_a_package(env: Path) -> None:
    (env / "lib").mkdir()
    (env / "lib/libleaf.so").symlink_to("libleaf.so.1")  # to nowhere, as in packages whose library is another one's
    hand_made_record(env, "libleaf", "1", [{"_path": "lib/libleaf.so", "path_type": "softlink", "sha256": "0"}])
    assert Prefix(env).damage("sha256") == {}
    (env / "lib/libleaf.so").unlink()
    (env / "lib/libleaf.so").write_text("")
    assert "changed" in Prefix(env).damage("size")["libleaf"]


def test_byte_code_is_not_looked_at(env: Path) -> None:
    entries = [{"_path": "lib/__pycache__/leaf.cpython-36.pyc", "path_type": "pyc_file", "size_in_bytes": 3}]
    entries += [{"_path": "lib/old.pyc", "path_type": "hardlink", "size_in_bytes": 3}]
    hand_made_record(env, "code", "1", entries)
    assert Prefix(env).damage("sha256") == {}


def test_binary_rewritten_by_conda_has_the_size_of_before(env: Path) -> None:
    entry = hand_made_entry(env, "bin/tool", "rewritten") | {"prefix_placeholder": "/opt/p", "file_mode": "binary"}
    entry |= {"size_in_bytes": 1, "sha256": "0" * 64}
    hand_made_record(env, "tool", "1", [entry])
    assert Prefix(env).damage("sha256") == {}


# --- stamps ---


def test_stamp_comes_back(env: Path) -> None:
    stamp = Stamp("key", True, {"leaf": "1.0 0"}, ["leaf"])
    Prefix(env).write_stamp(stamp)
    assert Prefix(env).stamp() == stamp
    assert info(env, "none")["status"] == "finished"
    assert not list((env / "conda-meta").glob("*.part"))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"other": 1}', '{"key": 1}', '{"packages": []}', "\xff"])
def test_stamp_that_cannot_be_read_is_of_an_unfinished_run(env: Path, content: str) -> None:
    (env / "conda-meta" / STAMP).write_text(content, encoding="latin-1")
    stamp = Prefix(env).stamp()
    assert stamp.key
    assert not stamp.finished
    assert info(env, "none")["status"] == "unfinished"


def test_status_of_envs_made_by_others_and_of_begun_ones(env: Path, tmp_path: Path) -> None:
    assert info(env, "none")["status"] == "foreign"
    begun = tmp_path / "begun"
    (begun / "conda-meta").mkdir(parents=True)
    assert Prefix(begun).is_empty
    assert info(begun, "none")["status"] == "absent"
    (begun / "conda-meta" / LOCK_NAME).touch()
    assert info(begun, "none")["status"] == "unfinished"


def test_records_for_others_to_read(env: Path) -> None:
    record = env / "conda-meta" / "leaf-1.0-0.json"
    record.chmod(0o600)
    umask = os.umask(0o027)
    try:
        Prefix(env).share_records()
    finally:
        os.umask(umask)
    assert record.stat().st_mode & 0o777 == 0o640


# --- Python ---

SITE = "lib/python3.6/site-packages"


def hand_made_python_env(path: Path, info_file: str) -> Path:
    """An env with records of Python and of the project ``Leaf.Two``, of which there are a module and metadata."""
    hand_made_record(path, "python", "3.6.15", [hand_made_entry(path, "bin/python3.6", "")])
    entries = [hand_made_entry(path, f"{SITE}/{file}", "x = 1\n") for file in ("leaf.py", info_file)]
    hand_made_record(path, "leaf-two", "1.0", entries)
    return path


@pytest.mark.parametrize(
    "info_file",
    ["Leaf.Two-1.0.dist-info/METADATA", "leaf_two-1.0-py3.6.egg-info/PKG-INFO", "Leaf.Two-1.0-py3.6.egg-info"],
)
def test_replaced_by_pip(tmp_path: Path, info_file: str) -> None:
    env = hand_made_python_env(tmp_path / "env", info_file)
    prefix = Prefix(env)
    assert prefix.site_packages == env / SITE
    assert prefix.damage("size") == {}
    replacement = env / SITE / "leaf_two-2.0.dist-info"
    replacement.mkdir()
    (env / SITE / "unrelated-1.0.dist-info").mkdir()
    assert Prefix(env).replaced_by_pip == {"leaf-two": replacement}
    assert "2.0" in Prefix(env).damage("size")["leaf-two"]
    assert Prefix(env).damage("none") == {}
    (env / f"{SITE}/leaf.py").unlink()
    assert "missing" in Prefix(env).damage("size")["leaf-two"]


@pytest.mark.parametrize(
    "vendored",
    ["vendor/stem-1.0.dist-info/METADATA", "vendor/stem-1.0-py3.6.egg-info", "vendor/stem.egg-info/PKG-INFO"],
)
def test_what_a_package_has_vendored_is_not_the_package(tmp_path: Path, vendored: str) -> None:
    env = hand_made_python_env(tmp_path / "env", vendored)
    (env / SITE / "stem-2.0.dist-info").mkdir()
    assert Prefix(env).replaced_by_pip == {}
    assert Prefix(env).damage("size") == {}


def test_removes_what_pip_put_there_and_nothing_outside(tmp_path: Path) -> None:
    env = hand_made_python_env(tmp_path / "env", "leaf_two-1.0.dist-info/METADATA")
    precious = tmp_path / "precious.py"
    precious.write_text("")
    site = env / SITE
    replacement = site / "leaf_two-2.0.dist-info"
    replacement.mkdir()
    (site / "__pycache__").mkdir()
    (site / "__pycache__/leaf.cpython-36.pyc").touch()
    (env / "bin/leaf").touch()
    rows = ["leaf.py,,", "../../../bin/leaf,,", "../../../../precious.py,,", f"{precious},,", "gone.py,,"]
    (replacement / "RECORD").write_text("\n".join(rows))
    remove_distribution(replacement, env)
    assert precious.exists()
    assert not replacement.exists()
    assert not (site / "leaf.py").exists()
    assert not (site / "__pycache__").exists()
    assert not (env / "bin/leaf").exists()
    assert (site / "leaf_two-1.0.dist-info/METADATA").exists()


def test_removes_byte_code_of_one_package(tmp_path: Path) -> None:
    env = hand_made_python_env(tmp_path / "env", "leaf_two-1.0.dist-info/METADATA")
    cache = env / SITE / "__pycache__"
    cache.mkdir()
    for name in ("leaf.cpython-36.pyc", "other.cpython-36.pyc"):
        (cache / name).touch()
    prefix = Prefix(env)
    remove_compiled(prefix.records["leaf-two"], prefix)
    assert [path.name for path in cache.iterdir()] == ["other.cpython-36.pyc"]


# --- conda_env_info ---


def test_info_says_all(env: Path) -> None:
    (env / "bin/leaf").unlink()
    found: dict[str, Any] = info(env, "size")
    assert found["exists"]
    assert found["problem"] == ""
    assert found["packages"] == {"leaf": {"name": "leaf", "version": "1.0", "build": "0"}}
    assert list(found["damaged"]) == ["leaf"]
    assert found["python"] == found["site_packages"] == found["key"] == ""
    json.dumps(found)


def test_info_names_the_problem(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/leaf.jpg").touch()
    assert str(tmp_path / "photos") in info(tmp_path / "photos", "none")["problem"]
