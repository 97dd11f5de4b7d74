# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Stand-ins for the pip tests: a venv that passes for a conda env, small wheels, a git repository."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# A build backend inside the package itself: builds a wheel with nothing but the standard library.
BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "gitpkg-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("gitpkg.py", open("gitpkg.py").read())
        wheel.writestr("gitpkg-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: gitpkg\\nVersion: 1.0\\n")
        wheel.writestr("gitpkg-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n")
        wheel.writestr("gitpkg-1.0.dist-info/RECORD", "gitpkg.py,,\\n")
    return name
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@dataclass(frozen=True)
class Prefix:
    """A venv with a conda-meta folder: pip works in it, and what is recorded there passes for conda's."""

    path: Path

    @property
    def site(self) -> Path:
        return next(self.path.glob("lib/python3.*/site-packages"))

    def pip(self, *arguments: str) -> None:
        """What a user does by hand."""
        command = [str(self.path / "bin" / "python"), "-I", "-m", "pip", "--isolated", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def says(self, code: str) -> str:
        """What the env's Python prints."""
        command = [str(self.path / "bin" / "python"), "-I", "-c", code]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def give_to_conda(self, name: str, version: str) -> None:
        """From now on, what is installed there is in the record of a conda package."""
        info = f"{name}-{version}.dist-info"
        files = [path for path in self.site.rglob("*") if info in path.parts or path.is_relative_to(self.site / name)]
        record = {"name": name, "version": version, "files": [str(p.relative_to(self.path)) for p in files]}
        (self.path / "conda-meta" / f"{name}-{version}-0.json").write_text(json.dumps(record))

    def tree(self) -> dict[str, tuple[int, int]]:
        """Inode and size of every file: equal if nothing was touched."""
        found = {path: path.lstat() for path in self.path.rglob("*") if "__pycache__" not in path.parts}
        return {str(path): (info.st_ino, info.st_size) for path, info in found.items()}


def copy_prefix(template: Path, path: Path) -> Prefix:
    # Linked: nothing writes into a file that pip has put there, neither pip nor a test.
    shutil.copytree(template, path, symlinks=True, copy_function=os.link)
    return Prefix(path)


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, str] | None = None,
    *,
    metadata_name: str = "",
    wrong_size: bool = False,
) -> str:
    """Writes a wheel; returns its line for a requirements file."""
    info = f"{name}-{version}.dist-info"
    content = {
        **(files if files is not None else {f"{name}/__init__.py": f"VERSION = {version!r}\n"}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {metadata_name or name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(_record_line(path, text, wrong_size) for path, text in content.items())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in content.items():
            wheel.writestr(member, text)
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def _record_line(path: str, text: str, wrong_size: bool) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    return f"{path},sha256={digest},{len(text.encode()) + wrong_size}\n"


@dataclass(frozen=True)
class Repository:
    """A git repository whose folder ``sub`` is the package ``gitpkg``."""

    path: Path

    def commit(self, text: str) -> str:
        """A new commit; its id."""
        package = self.path / "sub"
        package.mkdir(parents=True, exist_ok=True)
        for name, content in {"backend.py": BACKEND, "pyproject.toml": PYPROJECT, "gitpkg.py": text}.items():
            (package / name).write_text(content)
        self._git("init", "--quiet")
        self._git("add", ".")
        self._git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message", "c")
        return self._git("rev-parse", "HEAD")

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, check=True, capture_output=True, text=True)
        return done.stdout.strip()
