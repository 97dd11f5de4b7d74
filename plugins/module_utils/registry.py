# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``~/.conda/environments.txt``, the list in which conda, mamba and micromamba look for envs outside their own root."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path


def file(home: Path | None = None) -> Path:
    """Where the list of the user with this home, or of this user, is."""
    return (home or Path.home()) / ".conda" / "environments.txt"


def update(prefix: Path, listed: bool, *, check: bool = False, home: Path | None = None) -> bool:
    """Puts the env on the list or takes it off; whether that is a change. With ``check`` nothing is written.

    Raises OSError where the list cannot be written.
    """
    path = file(home)
    content = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = content.splitlines()
    if (str(prefix) in lines) == listed or not _is_mine(path.parent.parent):
        return False
    if path.exists() and not path.is_file():  # such as a pipe, at which opening it would wait for ever
        raise FileExistsError(errno.EEXIST, "this is not a file", str(path))
    if check:
        return True
    if listed:
        # conda appends as well: no line of another run's is lost.
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{prefix}\n" if content and not content.endswith("\n") else f"{prefix}\n")
    else:
        _write(path, [line for line in lines if line != str(prefix)])
    return True


def _is_mine(home: Path) -> bool:
    """Whether the home is this user's own: root, with the home of the user who called sudo, leaves their list alone."""
    return home.stat().st_uid == os.geteuid()


def _write(path: Path, lines: list[str]) -> None:
    mode = path.stat().st_mode & 0o777
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as stream:
        stream.write("".join(f"{line}\n" for line in lines))
    Path(stream.name).chmod(mode)
    Path(stream.name).replace(path)
