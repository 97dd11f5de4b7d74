# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks of a prefix' path and of disk space, all before anything is touched."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix import Prefix

# conda writes the prefix into first lines of scripts and into PATH, which bear none of these.
UNSAFE = re.compile(r"[\s:;\"'$`\\*?]")


class PathError(Exception):
    """The path cannot hold an env; the text says why and what to do."""


def nearest_existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(p for p in (path, *path.parents) if p.exists())


def check_prefix(path: Path) -> None:
    """Raises PathError unless the path may hold, or already is, an env of its own."""
    try:
        _check_prefix(path)
    except OSError as error:
        raise PathError(f"prefix {path} cannot be looked at: {error.filename}: {error.strerror}") from error


def _check_prefix(path: Path) -> None:
    if not path.is_absolute() or ".." in path.parts:
        raise PathError(f"prefix {path} is not an absolute path")
    if UNSAFE.search(str(path)):
        raise PathError(f"prefix {path} has a space or another character that a conda env cannot bear in its path")
    if path.name.startswith("-"):
        raise PathError(f"prefix {path} begins with a dash, which every command would take for an option")
    if path.is_symlink():
        raise PathError(f"prefix {path} is a symbolic link; name the folder that it points to")
    if path.exists() and not path.is_dir():
        raise PathError(f"prefix {path} is a file; choose another prefix, or move the file away")
    # In this order: another run may be turning an empty folder into an env while we look.
    if path.is_dir() and not Prefix(path).is_empty and not Prefix(path).is_env:
        raise PathError(
            f"prefix {path} is a folder with files in it but no conda env; it is left alone. "
            "Choose another prefix, or move the files away"
        )
    for parent in path.parents:
        if (parent / "conda-meta" / "history").is_file() and path.relative_to(parent).parts[0] != "envs":
            raise PathError(f"prefix {path} is inside another conda env, {parent}; choose a prefix outside of it")


def check_root(path: Path) -> None:
    """Raises PathError if other envs are below this one: to remove it would remove them."""
    envs = path / "envs"
    if envs.is_dir() and any(envs.iterdir()):
        raise PathError(f"prefix {path} is a conda root: other environments are in {envs}; remove those first")


def check_writable(path: Path) -> None:
    """Raises PathError unless this user may create or change the folder ``path``."""
    try:
        _check_writable(path)
    except OSError as error:
        raise PathError(f"{path} cannot be looked at: {error.filename}: {error.strerror}") from error


def _check_writable(path: Path) -> None:
    target = nearest_existing(path)
    if not target.is_dir():
        raise PathError(f"{target} is not a folder, so {path} cannot be made in it")
    if not os.access(target, os.W_OK | os.X_OK, effective_ids=True):
        raise PathError(
            f"{target} is not writable for user {os.geteuid()}, so {path} cannot be made; choose another folder"
        )
    if os.geteuid() == 0:
        check_roots_way(path)


def check_roots_way(path: Path) -> None:
    """Raises PathError for a path on which another user could put a link between root's check and root's write."""
    for folder in [path, *path.parents]:
        try:
            found = folder.stat()
        except FileNotFoundError:
            continue
        shared = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
        if found.st_uid != 0 or shared:
            raise PathError(
                f"{folder} is under another user's control, and root does not work there; "
                "run as that user (become_user), or choose a folder that only root can write"
            )


def check_space(prefix: Path, cache: Path, download: int, link: int) -> None:
    """Raises PathError if the packages are unlikely to fit.

    ``download`` and ``link`` are bytes of package archives, to fetch into the cache and to link into the env. Unpacked
    they take about five times as much; on one filesystem the env is hard links and takes nothing more.
    """
    unpacked = 5
    needs = [(cache, download * (1 + unpacked))]
    device = [nearest_existing(p).stat().st_dev for p in (prefix, cache)]
    if device[0] != device[1]:
        needs.append((prefix, link * unpacked))
    for folder, need in needs:
        free = shutil.disk_usage(nearest_existing(folder)).free
        if need > free:
            raise PathError(
                f"not enough space for {folder}: about {need / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free; "
                "free some, or choose another folder"
            )
