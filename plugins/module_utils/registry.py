# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``~/.conda/environments.txt``, the list in which conda, mamba and micromamba look for envs outside their own root."""

from __future__ import annotations

from pathlib import Path


def _file() -> Path:
    return Path.home() / ".conda" / "environments.txt"


def add(prefix: Path) -> bool:
    """Lists the env; whether that changed anything."""
    lines = _lines()
    if str(prefix) in lines:
        return False
    _file().parent.mkdir(exist_ok=True)
    _write([*lines, str(prefix)])
    return True


def remove(prefix: Path) -> bool:
    """Takes the env off the list; whether that changed anything."""
    lines = _lines()
    if str(prefix) not in lines:
        return False
    _write([line for line in lines if line != str(prefix)])
    return True


def _lines() -> list[str]:
    return _file().read_text(encoding="utf-8").splitlines() if _file().is_file() else []


def _write(lines: list[str]) -> None:
    part = _file().with_suffix(".part")
    part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    part.replace(_file())
