# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``~/.conda/environments.txt``, the list in which conda, mamba and micromamba look for envs outside their own root."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def file() -> Path:
    """Where this user's list is."""
    return Path.home() / ".conda" / "environments.txt"


def update(prefix: Path, listed: bool, *, check: bool = False) -> bool:
    """Puts the env on the list or takes it off; whether that is a change. With ``check`` nothing is written.

    Raises OSError where the list cannot be written.
    """
    lines = _lines()
    if (str(prefix) in lines) == listed or not _mine():
        return False
    if check:
        return True
    if listed:
        # conda appends as well: no line of another run's is lost.
        file().parent.mkdir(exist_ok=True)
        with file().open("a", encoding="utf-8") as stream:
            stream.write(f"{prefix}\n" if _ends_in_newline() else f"\n{prefix}\n")
    else:
        _write([line for line in lines if line != str(prefix)])
    return True


def _mine() -> bool:
    """Whether the home is this user's own: root, with the home of the user who called sudo, leaves their list alone."""
    return Path.home().stat().st_uid == os.geteuid()


def _lines() -> list[str]:
    return file().read_text(encoding="utf-8").splitlines() if file().is_file() else []


def _ends_in_newline() -> bool:
    return not file().is_file() or file().read_bytes()[-1:] in (b"", b"\n")


def _write(lines: list[str]) -> None:
    mode = file().stat().st_mode & 0o777
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file().parent, delete=False) as stream:
        stream.write("".join(f"{line}\n" for line in lines))
    Path(stream.name).chmod(mode)
    Path(stream.name).replace(file())
