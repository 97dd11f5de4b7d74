# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The state of a conda prefix, read from its files: packages, damage, and the stamp of the last finished run."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import canonical_name
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.plan import Package
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_lock import LOCK_NAME

# What was wanted and whether that was reached; "finished" is written last, so a half-built env is recognised.
STAMP = ".crophpc-stamp"  # not .json: every such file here is a package to conda
# The solution that the env was made from: a repair needs no second one.
SOLUTION = ".crophpc-pixi.lock"

VERIFY = ("none", "size", "sha256")


@dataclass(frozen=True)
class Record:
    """One ``conda-meta/NAME-VERSION-BUILD.json``."""

    package: Package
    paths: tuple[dict[str, Any], ...]

    @property
    def files(self) -> list[str]:
        return [entry["_path"] for entry in self.paths]

    def damage(self, prefix: Path, verify: str) -> str:
        """What is wrong with this package's files, in words; empty where nothing is.

        ``verify`` is one of VERIFY: how closely to look.
        """
        if verify == "none":
            return ""
        missing = changed = 0
        example = ""
        for entry in self.paths:
            problem = _file_problem(prefix, entry, verify)
            if problem:
                example = example or entry["_path"]
                missing += problem == "missing"
                changed += problem == "changed"
        counts = [
            f"{count} file{'s' * (count > 1)} {word}"
            for count, word in ((missing, "missing"), (changed, "changed"))
            if count
        ]
        return f"{' and '.join(counts)}, e.g. {example}" if counts else ""


def _record(data: dict[str, Any]) -> Record:
    """A record from its JSON; older ones have ``files`` alone. Raises LookupError or TypeError if it is not one."""
    paths = data.get("paths_data", {}).get("paths") or [{"_path": file} for file in data["files"]]
    return Record(
        Package(data["name"], data["version"], data["build"]),
        tuple({**entry, "_path": str(entry["_path"])} for entry in paths),
    )


def _file_problem(prefix: Path, entry: dict[str, Any], verify: str) -> str:
    """``missing``, ``changed`` or nothing, for one entry of a record's ``paths_data``."""
    if entry.get("path_type") in ("pyc_file", "directory") or entry["_path"].endswith(".pyc"):
        return ""  # byte code is Python's own to renew
    path = f"{prefix}/{entry['_path']}"  # not a Path: there are thousands
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    wanted_type = stat.S_IFLNK if entry.get("path_type") == "softlink" else stat.S_IFREG
    if stat.S_IFMT(found.st_mode) != wanted_type or (
        stat.S_ISREG(found.st_mode) and _differs(path, found, entry, verify)
    ):
        return "changed"
    return ""


def _differs(path: str, found: os.stat_result, entry: dict[str, Any], verify: str) -> bool:
    """Whether a file has another size or content than its entry says."""
    # Of a file that was rewritten, the size and ``sha256`` may be those before, depending on who linked it.
    rewritten = bool(entry.get("prefix_placeholder"))
    size = entry.get("size_in_bytes")
    if size is not None and not rewritten and found.st_size != size:
        return True
    digest: str | None = entry.get("sha256_in_prefix") or (None if rewritten else entry.get("sha256"))
    # Such text files are few and small: reading them stands in for the look at their size.
    if not digest or (verify != "sha256" and not (rewritten and entry.get("file_mode") == "text")):
        return False
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() != digest


@dataclass
class Stamp:
    """What a run wanted of the env.

    ``key`` is a hash of all that decides the packages; ``packages`` maps their names to ``version build``;
    ``owned`` names every package that a run has put here or was about to.
    """

    key: str = ""
    finished: bool = False
    packages: dict[str, str] = field(default_factory=dict)
    owned: list[str] = field(default_factory=list)


class Prefix:
    """A folder that is, or is to become, a conda env."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta = path / "conda-meta"

    @property
    def is_env(self) -> bool:
        """Whether it is a conda env, be it only begun or not quite removed."""
        return (self.meta / "history").is_file() or (self.meta / LOCK_NAME).is_file()

    @property
    def is_empty(self) -> bool:
        """Whether it is a folder with nothing in it, or with no more than a killed run's first or last step leaves."""
        contents = [*self.path.iterdir()]
        return not contents or (contents == [self.meta] and self.meta.is_dir() and not any(self.meta.iterdir()))

    @property
    def records(self) -> dict[str, Record]:
        """The installed packages by name."""
        return self._read[0]

    @property
    def broken(self) -> list[Path]:
        """Records that cannot be read: a run was killed, or the disk was full, while they were written."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[dict[str, Record], list[Path]]:
        found: dict[str, Record] = {}
        broken: list[Path] = []
        for path in sorted(self.meta.glob("[!.]*.json")):
            try:
                record = _record(json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, LookupError, TypeError, AttributeError, OSError):
                broken.append(path)
            else:
                found[record.package.name] = record
        return found, broken

    @property
    def packages(self) -> dict[str, Package]:
        return {name: record.package for name, record in self.records.items()}

    def stamp(self) -> Stamp:
        """What the last run wanted, and whether it finished; an empty one for envs that were made by other means.

        One that cannot be read is that of an unfinished run, which of all stamps promises least.
        """
        try:
            stamp = Stamp(**json.loads((self.meta / STAMP).read_text(encoding="utf-8")))
            typed = isinstance(stamp.key, str) and isinstance(stamp.packages, dict) and isinstance(stamp.owned, list)
            return stamp if typed else Stamp("unreadable")
        except FileNotFoundError:
            return Stamp()
        except (OSError, ValueError, TypeError):
            return Stamp("unreadable")

    def write_stamp(self, stamp: Stamp) -> None:
        part = self.meta / f"{STAMP}.part"
        part.write_text(json.dumps(vars(stamp), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(self.meta / STAMP)

    def share_records(self) -> None:
        """Lets others read the records, as far as the umask allows; py-rattler writes them for their owner alone."""
        umask = os.umask(0)
        os.umask(umask)
        for path in self.meta.glob("*.json"):
            path.chmod(0o666 & ~umask)

    def damage(self, verify: str) -> dict[str, str]:
        """What is wrong, by name of the package."""
        wrong = {name: record.damage(self.path, verify) for name, record in self.records.items()}
        if verify != "none":
            for name, folder in self.replaced_by_pip.items():
                version = folder.name.removesuffix(".dist-info").partition("-")[2]
                wrong[name] = f"replaced by pip with {version}" + (f", {wrong[name]}" if wrong[name] else "")
        return {name: words for name, words in wrong.items() if words}

    @cached_property
    def replaced_by_pip(self) -> dict[str, Path]:
        """conda packages over which pip has installed another version: the package's name to pip's dist-info folder."""
        owner: dict[str, str] = {}  # normalised name of the Python project: name of the conda package
        folders: set[str] = set()  # dist-info folders that belong to conda
        for name, record in self.records.items():
            for folder in _dist_infos(record):
                folders.add(folder)
                owner[canonical_name(folder.rpartition("/")[2].partition("-")[0])] = name
        found: dict[str, Path] = {}
        for path in self.site_packages.glob("*.dist-info") if self.site_packages else []:
            project = canonical_name(path.name.partition("-")[0])
            if project in owner and str(path.relative_to(self.path)) not in folders:
                found[owner[project]] = path
        return found

    @property
    def site_packages(self) -> Path | None:
        """The ``site-packages`` of the env's Python, if it has one."""
        python = self.records.get("python")
        if not python:
            return None
        minor = ".".join(python.package.version.split(".")[:2])
        return self.path / "lib" / f"python{minor}" / "site-packages"

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"


def _dist_infos(record: Record) -> Iterator[str]:
    """The folders with a Python project's metadata in them; many packages for Python 3.6 have egg-info.

    Not of the projects that a package has vendored: they are not where Python looks for what is installed.
    """
    for file in record.files:
        folder, _slash, leaf = file.rpartition("/")
        if (leaf, folder[folder.rfind(".") :]) in (("METADATA", ".dist-info"), ("PKG-INFO", ".egg-info")):
            info = folder
        elif leaf.endswith(".egg-info"):
            info = file
        else:
            continue
        if info.rpartition("/")[0].endswith("site-packages"):
            yield info
