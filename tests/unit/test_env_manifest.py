# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a template has, read and written down."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils import env_manifest, template_reader
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.env_manifest import (
    MANIFEST,
    META,
    Manifest,
    ManifestError,
    open_manifest,
)
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.folders import opened
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.template_reader import TemplateError, read_template
from hand_made_template import OWN, PLACEHOLDER, hand_made_template, key, read


@pytest.fixture
def template(tmp_path: Path) -> Path:
    return hand_made_template(tmp_path / "template")


def test_every_file_is_of_its_kind(template: Path) -> None:
    manifest = read(template).manifest
    kinds = {f"{f.path}/{name}": entry.kind for f in manifest.folders for name, entry in f.entries.items()}
    assert kinds == {
        "bin/place": "symlink",
        "bin/tool": "text",
        "bin/tool3": "symlink",
        "lib/tool.so": "binary",
        "lib/python3.6/tool.py": "link",
        "lib/python3.6/site-packages/README": "link",
        "lib/python3.6/place.py": "text",
        # That of place.py has the template's path in it, and Python may take it for that of another place.
        "lib/python3.6/__pycache__/tool.cpython-36.pyc": "link",
        f"{OWN}/model.py": "own",
        f"{OWN}/.git/index": "own",
        f"{OWN}/.git/objects/aa/bb": "link",
        "conda-meta/history": "own",
        "conda-meta/tool-1.0-0.json": "link",
    }
    assert manifest.room == len(PLACEHOLDER)


def test_it_is_the_same_when_written_and_read(template: Path) -> None:
    manifest = read(template).manifest
    again = Manifest.load(manifest.dump())
    assert again == manifest
    assert again.key == manifest.key


def test_its_key_says_whether_there_is_something_new(template: Path) -> None:
    first = key(template)
    (template / "lib/python3.6/__pycache__/tool.cpython-36.pyc").write_text("renewed by Python\n")
    (template / OWN / ".git" / "index").write_text("renewed by git\n")
    (template / META / MANIFEST).write_text("from the run before\n")
    assert key(template) == first
    seen = {first}
    for path in ("lib/python3.6/tool.py", f"{OWN}/model.py", "lib/new.py"):
        (template / path).write_text("new\n")
        seen.add(key(template))
    (template / "bin" / "tool3").unlink()
    seen.add(key(template))
    (template / "bin" / "tool3").symlink_to("place")
    seen.add(key(template))
    assert len(seen) == 6


@pytest.fixture(params=[1, 2, 5])
def _processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_reader, "processors", lambda: request.param)


CHANGES: dict[str, Callable[[Path], object]] = {
    "new file": lambda path: (path / "lib/new.py").write_text("new\n"),
    "new folder": lambda path: (path / "lib/new").mkdir(),
    "file gone": lambda path: (path / "lib/python3.6/tool.py").unlink(),
    "folder gone": lambda path: shutil.rmtree(path / "lib/python3.6/site-packages"),
    "other content": lambda path: (path / "lib/python3.6/tool.py").write_text("print('t001')\n"),
    "other file": lambda path: (path / "lib/python3.6/tool.py").replace(path / "lib/python3.6/place.py"),
    "other link": lambda path: ((path / "bin/tool3").unlink(), (path / "bin/tool3").symlink_to("t001")),
    "a file for a folder": lambda path: ((path / "lib/tool.so").unlink(), (path / "lib/tool.so").mkdir()),
    "no source any more": lambda path: (path / "lib/python3.6/place.py").unlink(),
    "the user's": lambda path: (path / OWN / "model.py").write_text("LAYERS = 6\n"),
    "byte code": lambda path: (path / "lib/python3.6/__pycache__/new.cpython-36.pyc").write_text("byte code\n"),
}


@pytest.mark.usefixtures("_processes")
@pytest.mark.parametrize("change", CHANGES)
def test_a_second_reading_finds_what_a_first_one_would(template: Path, change: str) -> None:
    known = read(template).manifest
    assert read_template(template, [OWN], known, mend=True) is known
    CHANGES[change](template)
    again = read_template(template, [OWN], known, mend=True)
    assert again != known
    assert again == read_template(template, [OWN], mend=True)
    assert again.key != known.key or change in ("new folder", "byte code")


@pytest.mark.usefixtures("_processes")
def test_a_second_reading_finds_what_others_could_change(template: Path) -> None:
    known = read(template).manifest
    for path in ("lib/tool.so", OWN, "conda-meta/history"):
        (template / path).chmod(0o777)
    assert read_template(template, [OWN], known, mend=True) is known
    assert [(template / path).stat().st_mode & 0o777 for path in ("lib/tool.so", OWN)] == [0o755] * 2
    os.mkfifo(template / "lib" / "pipe")
    with pytest.raises(TemplateError, match="pipe"):
        read_template(template, [OWN], known, mend=True)
    (template / "lib" / "pipe").unlink()
    if os.geteuid() == 0:
        os.chown(template / OWN / "model.py", 65534, -1)
        with pytest.raises(TemplateError, match=r"model\.py"):
            read_template(template, [OWN], known, mend=True)


def test_its_packages_are_condas_and_pips(template: Path) -> None:
    (template / "lib/python3.6/site-packages/Py_Tool-2.0.dist-info").mkdir(parents=True)
    (template / META / "state.json").write_text("{}")  # no package's
    assert read(template).manifest.packages == {"tool 1.0": "0", "py-tool 2.0": "pip"}


def test_what_others_could_change_is_mended_or_refused(template: Path) -> None:
    (template / "lib" / "tool.so").chmod(0o777)
    (template / "bin" / "tool").chmod(0o700)
    (template / "lib").chmod(0o700)
    read_template(template, [OWN], mend=False)
    assert (template / "lib").stat().st_mode & 0o777 == 0o700
    read_template(template, [OWN], mend=True)
    assert [(template / path).stat().st_mode & 0o777 for path in ("lib/tool.so", "bin/tool", "lib")] == [0o755] * 3
    os.mkfifo(template / "lib" / "pipe")
    with pytest.raises(TemplateError, match="pipe"):
        read_template(template, [OWN], mend=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_template_with_files_of_somebody_else_is_refused(template: Path) -> None:
    os.chown(template / "lib" / "tool.so", 65534, -1)
    with pytest.raises(TemplateError, match=r"tool\.so"):
        read_template(template, [OWN], mend=True)


def hostile(head: object, body: object) -> bytes:
    return f"{json.dumps(head)}\n{json.dumps(body)}\n".encode()


HEAD = {"format": 1, "key": "k", "prefix": "/p", "own": []}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"\xff\xfe\n[]\n",
        b"{}\n[]\n",
        b"[]\n[]\n",
        b'"text"\n[]\n',
        b"[" * 100_000 + b"\n[]\n",
        json.dumps(HEAD).encode() + b"\n" + b"[" * 100_000 + b"\n",
        hostile({**HEAD, "format": 2}, []),
        hostile({**HEAD, "own": 5}, []),
        hostile({**HEAD, "own": ["../../grace"]}, []),
        hostile({**HEAD, "own": ["lib/../../grace"]}, []),
        hostile(HEAD, [["..", 1, []]]),
        hostile(HEAD, [["lib/../../grace", 1, []]]),
        hostile(HEAD, [["lib", 1, [["../x", "link", 1, 1, 1, ""]]]]),
        hostile(HEAD, [["lib", 1, [["..", "link", 1, 1, 1, ""]]]]),
        hostile(HEAD, [["lib", "never", []]]),
        hostile(HEAD, [["lib", 1, [["x"]]]]),
        hostile(HEAD, [["lib", 1, [[]]]]),
        hostile(HEAD, 5),
        hostile(HEAD, [5]),
    ],
)
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(ManifestError):
        Manifest.load(content)


def test_only_a_file_of_the_right_owner_is_read(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(template)
    file = template / META / MANIFEST
    with opened(str(template)) as env:
        stream = open_manifest(env, os.geteuid())
        assert stream is not None
        stream.close()
        assert open_manifest(env, os.geteuid() + 1) is None
        monkeypatch.setattr(env_manifest, "_LARGEST", 10)
        assert open_manifest(env, os.geteuid()) is None
        monkeypatch.undo()
        file.rename(template / "elsewhere")
        assert open_manifest(env, os.geteuid()) is None
        file.symlink_to("../elsewhere")
        assert open_manifest(env, os.geteuid()) is None
        file.unlink()
        os.mkfifo(file)
        assert open_manifest(env, os.geteuid()) is None
        file.unlink()
        (template / META).rename(template / "other")
        (template / META).symlink_to("other")
        (template / "elsewhere").rename(template / "other" / MANIFEST)
        assert open_manifest(env, os.geteuid()) is None
