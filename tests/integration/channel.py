# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A conda channel of tiny packages, written by hand so that a test can also write wrong ones."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

# What stands in a package's file for the prefix; long, as conda-build's is.
PLACEHOLDER = "/opt/placeholder" + "_placehold" * 20


def package_json(files: dict[str, bytes]) -> dict[str, Any]:
    """A package's ``info/paths.json``."""
    paths = []
    for name, content in sorted(files.items()):
        entry: dict[str, Any] = {
            "_path": name,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_in_bytes": len(content),
        }
        if PLACEHOLDER.encode() in content:
            entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "binary" if b"\0" in content else "text"}
        paths.append(entry)
    return {"paths_version": 1, "paths": paths}


class Channel:
    """A channel on disk; every change is in its repodata at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repodata: dict[str, dict[str, Any]] = {}
        (path / "noarch").mkdir(parents=True)
        (path / "linux-64").mkdir()
        self.write()

    def add(
        self,
        name: str,
        version: str,
        *,
        depends: list[str] | None = None,
        files: dict[str, bytes] | None = None,
        timestamp: int = 1_600_000_000_000,
        noarch: str | None = None,
        index: bool = True,
    ) -> Path:
        """Adds a package; without ``files`` it has a command and a file that name its version.

        Those who add many write the repodata once, with ``index=False`` and ``write()``.
        """
        if files is None:
            files = {
                f"bin/{name}": f"#!/bin/sh\necho {name} {version}\n".encode(),
                f"share/{name}/about.txt": f"{name} {version}\n".encode(),
                f"share/{name}/prefix.txt": f"{name} lives in {PLACEHOLDER}\n".encode(),
            }
        subdir = "noarch" if noarch else "linux-64"
        about = {
            "name": name,
            "version": version,
            "build": "0",
            "build_number": 0,
            "depends": depends or [],
            "subdir": subdir,
            "timestamp": timestamp,
        }
        if noarch:
            about["noarch"] = noarch
        info = {
            "info/index.json": json.dumps(about).encode(),
            "info/paths.json": json.dumps(package_json(files)).encode(),
            "info/files": "".join(f"{file}\n" for file in sorted(files)).encode(),
        }
        archive = self.path / subdir / f"{name}-{version}-0.tar.bz2"
        with tarfile.open(archive, "w:bz2", compresslevel=1) as tar:
            for file, content in (info | files).items():
                member = tarfile.TarInfo(file)
                member.size = len(content)
                member.mode = 0o755 if file.startswith("bin/") else 0o644
                member.mtime = timestamp // 1000
                tar.addfile(member, io.BytesIO(content))
        content = archive.read_bytes()
        sums = {"sha256": hashlib.sha256(content).hexdigest(), "md5": hashlib.md5(content).hexdigest()}  # noqa: S324
        self.repodata[archive.name] = about | sums | {"size": len(content)}
        if index:
            self.write()
        return archive

    def write(self) -> None:
        """Writes the repodata, from ``self.repodata``."""
        for subdir in ("linux-64", "noarch"):
            data = {
                "info": {"subdir": subdir},
                "packages": {name: about for name, about in self.repodata.items() if about["subdir"] == subdir},
                "packages.conda": {},
                "repodata_version": 1,
            }
            (self.path / subdir / "repodata.json").write_text(json.dumps(data))
