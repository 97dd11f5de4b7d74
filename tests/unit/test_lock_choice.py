# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the files of hashed requirements are found, and which of them a lock gets."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.engine_worker import WorkerError, best_file, with_sums
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_index import PipIndex, PipIndexError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import Pin
from ansible_collections.crophpc.maskrcnn.plugins.modules import env_lock

# Some of PyPI's page for MarkupSafe, as it is, but with other places.
PAGE = """<!DOCTYPE html>
<html>
  <head>
    <meta name="pypi:repository-version" content="1.4">
    <title>Links for markupsafe</title>
  </head>
  <body>
    <h1>Links for markupsafe</h1>
<a href="../../packages/MarkupSafe-2.0.1.tar.gz#sha256=594c67807fb16238b30c44bdf74f36c02cdf22d1c8cda91ef8a0ed8dabf5620a" data-requires-python="&gt;=3.6" >MarkupSafe-2.0.1.tar.gz</a><br />
<a href="https://host/MarkupSafe-2.0.1-cp36-cp36m-manylinux1_x86_64.whl#sha256=0446679737af14f45767963a1a9ef7620189912317d095f2d9ffa183a4d25d2b" data-requires-python="&gt;=3.6" data-dist-info-metadata="sha256=e0">MarkupSafe-2.0.1-cp36-cp36m-manylinux1_x86_64.whl</a><br />
<a href="https://host/MarkupSafe-2.0.1-cp36-cp36m-manylinux2010_x86_64.whl#sha256=fa130dd50c57d53368c9d59395cb5526eda596d3ffe36666cd81a44d56e48872" data-requires-python="&gt;=3.6" >MarkupSafe-2.0.1-cp36-cp36m-manylinux2010_x86_64.whl</a><br />
<a href="https://host/MarkupSafe-2.0.1-without-a-sum.whl">MarkupSafe-2.0.1-without-a-sum.whl</a><br />
</body>
</html>
"""  # noqa: E501
SOURCE = "594c67807fb16238b30c44bdf74f36c02cdf22d1c8cda91ef8a0ed8dabf5620a"
MANYLINUX1 = "0446679737af14f45767963a1a9ef7620189912317d095f2d9ffa183a4d25d2b"
MANYLINUX2010 = "fa130dd50c57d53368c9d59395cb5526eda596d3ffe36666cd81a44d56e48872"
PLATFORMS = ["manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_12_x86_64", "manylinux2010_x86_64",
             "manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64"]  # fmt: skip


def pin(name: str, version: str, *sums: str) -> Pin:
    return Pin(name, version, tuple(f"--hash=sha256:{digest}" for digest in sums))


@pytest.fixture
def index(tmp_path: Path) -> str:
    """The address of an index with one project."""
    page = tmp_path / "simple" / "markupsafe" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(PAGE)
    return (tmp_path / "simple").as_uri()


def test_index_page(index: str, tmp_path: Path) -> None:
    wanted = pin("markupsafe", "2.0.1", SOURCE, MANYLINUX2010)
    found = PipIndex([], False, {"index-url": index}).find([wanted])
    assert [(file.url, file.sha256) for file in found[wanted]] == [
        ("https://host/MarkupSafe-2.0.1-cp36-cp36m-manylinux2010_x86_64.whl", MANYLINUX2010),
        ((tmp_path / "packages" / "MarkupSafe-2.0.1.tar.gz").as_uri(), SOURCE),
    ]


def test_folders_come_before_indexes_and_stand_alone_where_those_are_not_wanted(index: str, tmp_path: Path) -> None:
    wheel = tmp_path / "wheels" / "MarkupSafe-2.0.1-cp36-cp36m-linux_x86_64.whl"
    wheel.parent.mkdir()
    wheel.write_text("compiled here")
    other = tmp_path / "wheels" / "MarkupSafe-2.0.1-cp36-cp36m-manylinux2010_x86_64.whl"
    other.write_text("not what PyPI has")
    own = hashlib.sha256(b"compiled here").hexdigest()
    wanted = pin("markupsafe", "2.0.1", own, MANYLINUX2010)
    settings = {"index-url": index}
    urls = {file.sha256: file.url for file in PipIndex([str(wheel.parent)], False, settings).find([wanted])[wanted]}
    assert urls[own] == str(wheel)
    assert urls[MANYLINUX2010].startswith("https://host/")
    (file,) = PipIndex([wheel.parent.as_uri()], True, settings).find([wanted])[wanted]
    assert file.url == str(wheel)
    with pytest.raises(PipIndexError, match=rf"markupsafe==2\.0\.1.*{wheel.parent}"):
        PipIndex([str(wheel.parent)], True, settings).find([pin("markupsafe", "2.0.1", SOURCE)])


def test_machines_own_settings(index: str, tmp_path: Path) -> None:
    wanted = pin("markupsafe", "2.0.1", MANYLINUX1)
    nowhere = tmp_path.as_uri()
    assert PipIndex([], False, {"index-url": nowhere, "extra-index-url": index}).find([wanted])
    assert PipIndex([], False, {"no-index": "true", "find-links": f"{index}/markupsafe/index.html"}).find([wanted])
    with pytest.raises(PipIndexError, match="nowhere"):
        PipIndex([], False, {"no-index": "true", "index-url": index}).find([wanted])


def test_servers_that_do_not_answer() -> None:
    with pytest.raises(PipIndexError, match=r"cannot read http://127\.0\.0\.1:9/markupsafe/"):
        PipIndex([], False, {"index-url": "http://ada:secret@127.0.0.1:9"}).find([pin("markupsafe", "2.0.1", SOURCE)])


@pytest.mark.parametrize(
    ("python", "names", "chosen"),
    [
        # What pip 21.3.1 took of these on CPython 3.6, by their places in the list.
        ("3.6.12", ["MarkupSafe-2.0.1-cp36-cp36m-manylinux1_x86_64.whl",
                    "MarkupSafe-2.0.1-cp36-cp36m-manylinux2010_x86_64.whl",
                    "MarkupSafe-2.0.1-cp36-cp36m-manylinux_2_5_x86_64.manylinux1_x86_64"
                    ".manylinux_2_12_x86_64.manylinux2010_x86_64.whl"], 2),
        ("3.6.12", ["protobuf-3.19.6-py2.py3-none-any.whl",
                    "protobuf-3.19.6-cp36-cp36m-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"], 1),
        ("3.6.12", ["tornado-6.1-cp36-cp36m-manylinux1_x86_64.whl",
                    "tornado-6.1-cp36-cp36m-manylinux2010_x86_64.whl"], 1),
        ("3.6.12", ["opencv_python_headless-4.5.5.64-cp36-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                    "opencv-python-headless-4.5.5.64.tar.gz"], 0),
        ("3.6.12", ["pycocotools-2.0.7-cp39-cp39-manylinux_2_17_x86_64.whl", "pycocotools-2.0.7.tar.gz"], 1),
        ("3.6.15", ["pycocotools-2.0.7.tar.gz", "pycocotools-2.0.7-cp36-cp36m-linux_x86_64.whl"], 1),
        ("3.10.4", ["foo-1.0-cp310-cp310-manylinux2014_x86_64.whl", "foo-1.0-cp310-abi3-manylinux2014_x86_64.whl"], 0),
    ],
)  # fmt: skip
def test_file_that_pip_would_choose(python: str, names: list[str], chosen: int) -> None:
    for order in (names, names[::-1]):
        files = [{"name": name, "url": name, "sha256": ""} for name in order]
        assert best_file({"name": "x", "version": "1", "files": files}, python, PLATFORMS)["name"] == names[chosen]


def test_no_file_that_fits() -> None:
    names = ["grpcio-1.48.2-cp37-cp37m-manylinux2014_x86_64.whl", "grpcio-1.48.2-cp36-cp36m-win_amd64.whl"]
    files = [{"name": name, "url": name, "sha256": ""} for name in names]
    with pytest.raises(WorkerError, match=rf"(?s)grpcio==1\.48\.2.*{names[0]}.*3\.6"):
        best_file({"name": "grpcio", "version": "1.48.2", "files": files}, "3.6.12", PLATFORMS)


def test_sums_in_a_lock() -> None:
    text = "packages:\n- conda: /c/a-1-0.conda\n  name: a\n- pypi: /w/b.whl\n  name: b\n  version: '1'\n"
    assert with_sums(text, {"/w/b.whl": SOURCE}) == f"{text}  sha256: {SOURCE}\n"
    with pytest.raises(WorkerError, match="1 files"):
        with_sums("packages: []\n", {"/w/b.whl": SOURCE})


def test_a_full_disk_is_told_of_with_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """To write to an open file that is known by its descriptor alone gives an error that names none."""

    def full(_run: env_lock.EnvLock) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(env_lock.EnvLock, "run", full)
    options = {"engine_python": "/no/engine", "specs": ["python"], "_ansible_remote_tmp": str(tmp_path)}
    with patch_module_args(options), pytest.raises(SystemExit):
        env_lock.main()
    assert json.loads(capfd.readouterr().out)["msg"].startswith(f"No space left on device: {tmp_path}/")
