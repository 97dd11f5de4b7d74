# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The offline mirror builder, as far as it needs no network: tests/fixtures/mirror."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("zstandard")
pytest.importorskip("installer")
sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

import zstandard
from mirror import (
    builder,
    byte_code,
    cli,
    conda_package,
    fetch,
    interpreter,
    manifest,
    names,
    pins,
    process,
    profiles,
    python_package,
    repositories,
    wheel_package,
)
from mirror.conda_package import PLACEHOLDER, Metadata
from mirror.errors import MirrorError
from mirror.pins import Pin
from mirror.series import Series
from packaging.requirements import Requirement

DIGEST = "0123456789abcdef" * 4
OTHER = "f" * 64
PY36, PY312 = Series(3, 6), Series(3, 12)


@pytest.mark.parametrize(
    ("requirement", "spec"),
    [
        ("numpy", "numpy"),
        ("numpy>=1.16,<2.0", "numpy <2.0,>=1.16"),
        ("gast==0.2.2", "gast ==0.2.2"),
        ("six==1.*", "six 1.*"),
        ("prompt_toolkit!=3.0.0,>=2", "prompt-toolkit !=3.0.0,>=2"),
        ("networkx~=2.5", "networkx ~=2.5"),
        ("matplotlib!=3.0.0", "matplotlib-base !=3.0.0"),
        ("typing-extensions>=3.6; python_version < '3.8'", "typing_extensions >=3.6"),
        ("PyYAML", "pyyaml"),
    ],
)
def test_requirement_becomes_match_spec(requirement: str, spec: str) -> None:
    assert names.match_spec(Requirement(requirement)) == spec


@pytest.mark.parametrize(
    ("spec", "requirement"),
    [
        ("numpy=1.18.5", "numpy==1.18.5.*"),
        ("cython=0.29.*", "cython==0.29.*"),
        ("pillow>=8,<9", "pillow>=8,<9"),
        ("h5py<3", "h5py<3"),
        ("keras==2.2.5", "keras==2.2.5"),
        ("matplotlib-base=3.3.4", "matplotlib==3.3.4.*"),
        ("matplotlib", "matplotlib"),
        ("typing_extensions", "typing-extensions"),
    ],
)
def test_conda_spec_becomes_requirement(spec: str, requirement: str) -> None:
    assert names.requirement(spec) == requirement


@pytest.mark.parametrize("spec", ["numpy 1.18 py36_0", "numpy[build=py36]", ">=1"])
def test_a_conda_spec_without_a_counterpart_is_refused(spec: str) -> None:
    with pytest.raises(MirrorError, match="cannot read"):
        names.requirement(spec)


def test_depends_follow_the_markers_of_the_python() -> None:
    requires = [
        "dataclasses>=0.7; python_version < '3.7'",
        "colorama; sys_platform == 'win32'",
        "pytest; extra == 'test'",
        "opencv-python",
        "Pillow",
    ]
    assert names.depends("thing", PY36, requires, {"dataclasses", "pillow"}) == [
        "dataclasses >=0.7",
        "pillow",
        "python >=3.6,<3.7.0a0",
    ]
    assert names.depends("thing", PY312, requires, {"pillow"}) == ["pillow", "python >=3.12,<3.13.0a0"]


def test_pip_brings_setuptools_and_wheel_as_in_conda() -> None:
    assert names.depends("pip", PY36, [], set()) == [PY36.spec, "setuptools", "wheel"]


@pytest.mark.parametrize(("line", "reason"), [("scipy", "not pinned"), ("scipy[all]", "extras")])
def test_a_dependency_that_cannot_be_served_is_an_error(line: str, reason: str) -> None:
    with pytest.raises(MirrorError, match=reason):
        names.depends("thing", PY36, [line], {"numpy"})


def test_pins_are_read_with_their_hashes(tmp_path: Path) -> None:
    path = tmp_path / "lock.txt"
    path.write_text(
        f"# a comment\nTyping_Extensions==4.1.1 \\\n    --hash=sha256:{OTHER} \\\n    --hash=sha256:{DIGEST}\n"
        f"    # via something\nsix==1.16.0 --hash=sha256:{DIGEST}\n"
        f"zipp==3.6.0 ; python_version >= '3.8' --hash=sha256:{DIGEST}\n"
    )
    assert pins.read(path, PY36) == [
        Pin("six", "1.16.0", (DIGEST,)),
        Pin("typing-extensions", "4.1.1", (OTHER, DIGEST)),
    ]
    for series in (PY312, None):
        assert [pin.name for pin in pins.read(path, series)] == ["six", "typing-extensions", "zipp"]


@pytest.mark.parametrize("line", ["six==1.16.0", f"six>=1 --hash=sha256:{DIGEST}", f"six==1.* --hash=sha256:{DIGEST}"])
def test_what_is_not_pinned_and_hashed_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "lock.txt"
    path.write_text(f"{line}\n")
    with pytest.raises(MirrorError, match="not pinned"):
        pins.read(path)


def test_a_missing_list_says_how_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(MirrorError, match="make pins"):
        pins.read(tmp_path / "lock.txt")


def test_the_sum_of_a_wheel_built_here_is_added(tmp_path: Path) -> None:
    path = tmp_path / "lock.txt"
    wanted = [Pin("six", "1.16.0", (DIGEST,)), Pin("pycocotools", "2.0.7", (DIGEST,))]
    pins.write(path, wanted, {"pycocotools": OTHER}, "a note")
    assert pins.read(path) == [Pin("pycocotools", "2.0.7", (DIGEST, OTHER)), Pin("six", "1.16.0", (DIGEST,))]


def test_the_same_release_in_two_lists_is_one() -> None:
    first, second = Pin("six", "1.16.0", (DIGEST,)), Pin("six", "1.16.0", (OTHER,))
    assert pins.unite([[first], [second, Pin("six", "1.15.0", (OTHER,))]]) == [
        Pin("six", "1.15.0", (OTHER,)),
        Pin("six", "1.16.0", (DIGEST, OTHER)),
    ]


def test_pip_is_never_asked_for_two_releases_at_once() -> None:
    wanted = [Pin(name, version, (DIGEST,)) for name in "abcdefg" for version in ("1", "2")]
    for some in (wanted, wanted[:2], wanted[:1], []):
        chunks = fetch.chunked(some)
        assert sorted(pin for chunk in chunks for pin in chunk) == sorted(some)
        assert all(len({pin.name for pin in chunk}) == len(chunk) for chunk in chunks)


def _adopted(folder: Path, wheels: Path, series: Series, wanted: list[Pin]) -> set[str]:
    python = interpreter.Interpreter(Path(sys.executable), f"{series}.1", Path(sys.prefix))
    fetch.Fetcher(python, folder, lambda _kind, _what: None).adopt(wheels, wanted)
    return {path.name for path in folder.glob(f"{series.tag}/fetched/*")}


def test_a_wheel_of_an_earlier_run_is_only_for_the_python_it_was_made_for(tmp_path: Path) -> None:
    tags = ("cp36-cp36m", "cp312-cp312", "cp38-abi3")
    names_ = {tag: f"thing-1.0-{tag}-manylinux2014_x86_64.whl" for tag in tags} | {"any": "six-1-py2.py3-none-any.whl"}
    for name in names_.values():
        (tmp_path / name).write_text("the same bytes")
    digest = manifest.sha256(tmp_path / names_["any"])
    wanted = [Pin("thing", "1.0", (digest,)), Pin("six", "1", (digest,))]
    assert _adopted(tmp_path / "work", tmp_path, PY36, wanted) == {names_["cp36-cp36m"], names_["any"]}
    assert _adopted(tmp_path / "work", tmp_path, PY312, wanted) == set(names_.values()) - {names_["cp36-cp36m"]}
    assert _adopted(tmp_path / "other", tmp_path, PY312, [Pin("six", "1", (OTHER,))]) == set()


def test_two_pythons_may_share_a_wheel_but_not_the_name_of_two(tmp_path: Path) -> None:
    made = builder.Builder(tmp_path / "mirror", [], {})
    (tmp_path / "mirror/wheels").mkdir()
    wheels = {series: tmp_path / series.tag / "six-1-py3-none-any.whl" for series in (PY36, PY312)}
    for wheel in wheels.values():
        wheel.parent.mkdir()
        wheel.write_text("the same")
        assert made._take({Pin("six", "1", (DIGEST,)): wheel}) == {tmp_path / "mirror/wheels" / wheel.name}
    wheels[PY312].write_text("compiled by the other")
    with pytest.raises(MirrorError, match="compiled here for two Pythons"):
        made._take({Pin("six", "1", (DIGEST,)): wheels[PY312]})


def _installed(prefix: Path, series: Series) -> interpreter.Interpreter:
    """A folder as that Python's `make install` leaves it, as far as its names go."""
    (prefix / f"lib/python{series}/site-packages").mkdir(parents=True)
    (prefix / f"lib/python{series}/os.py").touch()
    (prefix / "bin").mkdir()
    for name in (f"python{series}", f"python{series.abi}-config", f"pydoc{series}"):
        (prefix / "bin" / name).write_text("#!/bin/sh\n")
    (prefix / f"include/python{series.abi}").mkdir(parents=True)
    (prefix / f"include/python{series.abi}/Python.h").touch()
    return interpreter.Interpreter(prefix / f"bin/python{series}", f"{series}.1", prefix)


@pytest.mark.parametrize("series", [PY36, PY312], ids=str)
def test_a_python_has_the_programs_that_conda_gives_it(tmp_path: Path, series: Series) -> None:
    python_package.stage(_installed(tmp_path / "opt/python", series), tmp_path / "tree")
    found = {path.name: path for path in (tmp_path / "tree/bin").iterdir()}
    wanted = {"python", "python3", f"python{series}", "python3-config", f"python{series}-config", "pydoc", "pydoc3"}
    assert wanted <= found.keys()
    assert all(path.exists() for path in found.values())  # no link to nothing
    assert (tmp_path / f"tree/include/python{series.abi}/Python.h").is_file()
    assert not (tmp_path / f"tree/lib/python{series}/site-packages").exists()


def test_what_the_builds_of_a_profile_exclude_differs(tmp_path: Path) -> None:
    pip = {"excluded": ["one"], "cpu_excluded": ["two"], "exclude_newer": "2026-01-01", "platform": "x86_64-linux"}
    profile = {"python": "3.12.11", "conda": {"specs": ["numpy"]}, "pip": pip}
    (tmp_path / "p.yml").write_text(json.dumps(profile))
    lock = "".join(f"{name}==1 --hash=sha256:{DIGEST}\n" for name in ("one", "two", "three"))
    for build in ("cpu", "gpu"):
        (tmp_path / f"p-{build}.txt").write_text(lock)
    loaded = profiles.load("p", tmp_path, ("cpu", "gpu"))
    assert (loaded.series, loaded.platform) == (PY312, "x86_64-linux")
    assert [pin.name for pin in loaded.pip_pins("cpu")] == ["three"]
    assert [pin.name for pin in loaded.pip_pins("gpu")] == ["three", "two"]


@pytest.mark.parametrize("name", ["tf1", "recipe", "modern"])
def test_the_committed_pins_fit_the_profiles(name: str) -> None:
    profile = profiles.load(name, profiles.FOLDER, ("cpu",))
    pinned = {pin.name: pin.version for pin in profile.conda_pins()}
    for spec in profile.specs:
        wanted = Requirement(names.requirement(spec))
        assert wanted.specifier.contains(pinned[wanted.name]), spec


def _mirror(folder: Path) -> Path:
    for name in ("channel/linux-64/x.conda", "wheels/y.whl", "git/z.git/HEAD", "notes/n.txt"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(name)
    manifest.write(folder, {"tf1": {"python": "3.6.15"}}, inputs="inputs")
    return folder


def test_the_manifest_lists_every_file_of_the_mirror(tmp_path: Path) -> None:
    content = manifest.read(_mirror(tmp_path))
    assert content["format"] == 1
    assert content["profiles"] == {"tf1": {"python": "3.6.15"}}
    assert list(content["files"]) == [
        "channel/linux-64/x.conda",
        "git/z.git/HEAD",
        "wheels/index.html",
        "wheels/y.whl",
    ]
    assert content["files"]["wheels/y.whl"]["size"] == len("wheels/y.whl")
    assert manifest.mismatches(tmp_path) == []


def test_check_names_what_was_changed_removed_and_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _mirror(tmp_path)
    assert cli.main(["--check", "--output", str(tmp_path)]) == 0
    (tmp_path / "wheels/y.whl").write_text("wheels/z.whl")
    (tmp_path / "git/z.git/HEAD").unlink()
    (tmp_path / "channel/more").touch()
    assert cli.main(["--check", "--output", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    for line in ("channel/more: is not in the manifest", "git/z.git/HEAD: is missing", "wheels/y.whl: has changed"):
        assert line in said


def test_a_mirror_is_current_until_inputs_or_files_change(tmp_path: Path) -> None:
    assert not manifest.is_current(tmp_path, "inputs")
    _mirror(tmp_path)
    assert manifest.is_current(tmp_path, "inputs")
    assert not manifest.is_current(tmp_path, "other inputs")
    (tmp_path / "wheels/y.whl").write_text("longer than it was")
    assert not manifest.is_current(tmp_path, "inputs")


def test_what_a_mirror_serves_already_stays_in_it(tmp_path: Path) -> None:
    assert cli.served(tmp_path, tmp_path) == set()
    manifest.write(tmp_path, {"tf1": {}, "given-up": {}})
    (tmp_path / "tf1.yml").touch()
    assert cli.served(tmp_path, tmp_path) == {"tf1"}


def _python(path: Path, kind: str = "CPython", version: str = "3.6.15", prefix: str = "/opt/pythons/3.6") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{json.dumps([kind, version, 'x86_64', prefix])}'\n")
    path.chmod(0o755)
    return path


def test_without_a_python_the_error_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(PY36.env_var, raising=False)
    monkeypatch.setenv("PYENV_ROOT", f"{tmp_path}/.pyenv")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["--output", str(tmp_path / "mirror")]) == 2
    said = capsys.readouterr().err
    for words in ("--python", "MASKRCNN_PYTHON36", f"{tmp_path}/.pyenv", "PATH", "pyenv install"):
        assert words in said
    assert not (tmp_path / "mirror").exists()


def test_pyenvs_newest_python_is_found(tmp_path: Path) -> None:
    for version in ("3.6.9", "3.6.15", "3.6.2"):
        _python(tmp_path / f"versions/{version}/bin/python3.6", version=version)
    assert interpreter.find(PY36, {"PYENV_ROOT": str(tmp_path), "PATH": ""}).version == "3.6.15"


def test_pyenv_is_found_in_the_accounts_home_where_home_is_another(tmp_path: Path) -> None:
    _python(tmp_path / "account" / ".pyenv" / "versions" / "3.6.15" / "bin" / "python3.6")
    env = {"HOME": str(tmp_path / "empty"), "PATH": ""}
    assert interpreter.find(PY36, env, account_home=tmp_path / "account").version == "3.6.15"


def test_a_python_that_was_asked_for_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [_python(tmp_path / "a", version="3.6.1"), _python(tmp_path / "b", version="3.12.2")]
    monkeypatch.setenv("MASKRCNN_PYTHON36", str(_python(tmp_path / "c", version="3.6.2")))
    monkeypatch.setenv("MASKRCNN_PYTHON312", str(_python(tmp_path / "d", version="3.12.3")))

    def versions(asked: list[Path]) -> dict[Series, str]:
        return {series: python.version for series, python in interpreter.choose({PY36, PY312}, asked).items()}

    assert versions(asked) == {PY36: "3.6.1", PY312: "3.12.2"}
    assert versions(asked[1:]) == {PY36: "3.6.2", PY312: "3.12.2"}
    assert versions([]) == {PY36: "3.6.2", PY312: "3.12.3"}


def test_a_python_that_no_profile_needs_is_refused(tmp_path: Path) -> None:
    asked = _python(tmp_path / "python", version="3.7.1")
    with pytest.raises(MirrorError, match=r"is CPython 3\.7; the profiles are for 3\.6"):
        interpreter.choose({PY36}, [asked])
    with pytest.raises(MirrorError, match=r"is CPython 3\.7\.1; a 3\.6 is needed"):
        interpreter.find(PY36, {"MASKRCNN_PYTHON36": str(asked)})


@pytest.mark.parametrize(
    ("kind", "version", "prefix"),
    [("PyPy", "3.6.9", "/opt/a/b"), ("CPython", "3.6.9", "/usr")],
)
def test_a_python_that_does_not_do_is_refused(tmp_path: Path, kind: str, version: str, prefix: str) -> None:
    with pytest.raises(MirrorError):
        interpreter.inspect(_python(tmp_path / "python", kind, version, prefix))


def test_the_compiled_in_prefix_keeps_its_length_and_end() -> None:
    for prefix in ("/home/someone/.pyenv/versions/3.6.15", "/opt/py/3.6.15"):
        nowhere = python_package._nowhere(Path(prefix))
        assert len(nowhere) == len(prefix)
        assert nowhere.endswith(b"/3.6.15")
        assert prefix.encode() not in nowhere


def _members(package: Path, part: str) -> dict[str, tarfile.TarInfo | bytes]:
    with zipfile.ZipFile(package) as archive:
        name = next(name for name in archive.namelist() if name.startswith(f"{part}-"))
        data = zstandard.ZstdDecompressor().stream_reader(archive.read(name)).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name: tar.extractfile(m).read() if m.isfile() else m for m in tar}  # type: ignore[union-attr]


def test_a_conda_package_records_placeholders_and_links(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/tool").write_text(f"#!{PLACEHOLDER}/bin/python\n")
    (tree / "bin/tool").chmod(0o755)
    (tree / "bin/other").symlink_to("tool")
    (tree / ".hidden").write_text("plain")
    conda_package.assemble(Metadata("thing", "1.0", "py36h1234567_0", ["python"]), tree, tmp_path / "x.conda")
    info = _members(tmp_path / "x.conda", "info")
    paths = {entry["_path"]: entry for entry in json.loads(info["info/paths.json"])["paths"]}  # type: ignore[arg-type]
    assert paths["bin/tool"]["prefix_placeholder"] == PLACEHOLDER
    assert paths["bin/tool"]["file_mode"] == "text"
    assert paths["bin/other"]["path_type"] == "softlink"
    assert "prefix_placeholder" not in paths[".hidden"]
    index = json.loads(info["info/index.json"])  # type: ignore[arg-type]
    assert (index["name"], index["build_number"], index["depends"]) == ("thing", 0, ["python"])
    assert set(_members(tmp_path / "x.conda", "pkg")) == set(paths)


def test_the_same_folder_gives_the_same_package(tmp_path: Path) -> None:
    for name, names_ in (("a", "xy"), ("b", "yx")):
        (tmp_path / name).mkdir()
        for file in names_:
            (tmp_path / name / file).write_text(file)
        os.utime(tmp_path / name / "x", (1, len(names_[0])))
        conda_package.assemble(Metadata("thing", "1.0", "0_0", []), tmp_path / name, tmp_path / f"{name}.conda")
    assert (tmp_path / "a.conda").read_bytes() == (tmp_path / "b.conda").read_bytes()


def _modules(tree: Path) -> Path:
    """A package of three modules, one of them not for this Python, one to be rewritten when it is installed."""
    library = tree / "lib/python3.6/site-packages"
    library.mkdir(parents=True)
    (library / "plain.py").write_text("KNOWN = 'a' in {'a', 'b', 'c'}\n")
    (library / "other.py").write_text("print 'an older Python'\n")
    (library / "placed.py").write_text(f"PREFIX = {PLACEHOLDER!r}\n")
    return library / "__pycache__"


def test_byte_code_is_that_of_the_installed_files(tmp_path: Path) -> None:
    python = interpreter.Interpreter(Path(sys.executable), "3.6.15", Path(sys.prefix))
    made = [_modules(tmp_path / name) for name in ("a", "some/where/else")]
    for tree in (tmp_path / "a", tmp_path / "some/where/else"):
        byte_code.add(python, tree)
    [compiled] = made[0].iterdir()
    assert compiled.name.startswith("plain.")
    assert [path.read_bytes() for path in made[1].iterdir()] == [compiled.read_bytes()]
    # The time and the size of the source, as they will be once the package is installed.
    source = made[0].parent / "plain.py"
    words = struct.unpack("<LL", compiled.read_bytes()[8:16])
    assert words == (conda_package.TIMESTAMP, source.stat().st_size)


def _wheel(path: Path) -> Path:
    files = {
        "thing.py": "def main(): pass\n",
        "thing-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\nRequires-Dist: six (>=1)\n",
        "thing-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "thing-1.0.dist-info/entry_points.txt": "[console_scripts]\nthing = thing:main\npip3.9 = thing:main\n",
    }
    files["thing-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in [*files, "thing-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize(("series", "tag"), [(PY36, "py36h"), (PY312, "py312h")], ids=str)
def test_a_wheel_becomes_what_conda_would_have_installed(tmp_path: Path, series: Series, tag: str) -> None:
    wheel, package = _wheel(tmp_path / "thing-1.0-py3-none-any.whl"), tmp_path / "thing.conda"
    plain = wheel_package.metadata(Pin("thing", "1.0", (DIGEST,)), series, "recipe")
    staged = wheel_package.stage(plain, series, wheel, {"six"}, tmp_path / "tree")
    conda_package.assemble(staged, tmp_path / "tree", package)
    content = _members(package, "pkg")
    site = f"lib/python{series}/site-packages"
    assert content[f"{site}/thing-1.0.dist-info/INSTALLER"] == b"conda\n"
    assert content["bin/thing"].startswith(f"#!{PLACEHOLDER}/bin/python\n".encode())  # type: ignore[union-attr]
    assert "bin/pip3.9" not in content
    record = content[f"{site}/thing-1.0.dist-info/RECORD"].decode()  # type: ignore[union-attr]
    assert "../../../bin/thing,,\n" in record
    assert "pip3.9" not in record
    index = json.loads(_members(package, "info")["info/index.json"])  # type: ignore[arg-type]
    assert index["depends"] == [series.spec, "six >=1"]
    assert index["build"].startswith(tag)


def test_another_recipe_or_another_wheel_gives_another_package_name() -> None:
    stems = {
        wheel_package.metadata(Pin("six", "1", (digest,)), series, recipe).stem
        for digest in (DIGEST, OTHER)
        for recipe in ("old", "new")
        for series in (PY36, PY312)
    }
    assert len(stems) == 8


def test_a_repository_always_has_the_same_commits(tmp_path: Path) -> None:
    archive = tmp_path / "mrcnn-0.2.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("README.md", "setup.py", "PKG-INFO", "mrcnn/__init__.py", "mrcnn.egg-info/top_level.txt"):
            member = tarfile.TarInfo(f"mrcnn-0.2/{name}")
            member.size, member.mode = len(name), 0o666
            tar.addfile(member, io.BytesIO(name.encode()))
    heads = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        bare = repositories.build(repositories.MASK_RCNN, archive, "made for a test\n", tmp_path / folder)
        heads.add(repositories.head(bare))
        assert repositories.description(bare) == "made for a test\n"
        assert (bare / "refs/heads/master").is_file()  # so that a copy without empty folders is one still
    assert len(heads) == 1
    listing = process.call(["git", "--git-dir", bare, "ls-tree", "-r", "--name-only", "HEAD"]).split()
    assert listing == [".gitignore", "README.md", "mrcnn/__init__.py", "setup.py"]
