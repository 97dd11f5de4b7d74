# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Python environments that tests make for what is not to be in their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def make_venv(folder: Path, *install: str | Path, python: str | Path = sys.executable) -> Path:
    """An environment of this Python in a folder; `install` is what uv's `pip install` is given. Returns its Python."""
    uv = [sys.executable, "-m", "uv", "--quiet", "--system-certs"]
    made = folder / "bin" / "python"
    subprocess.run([*uv, "venv", "--clear", "--python", python, folder], check=True)
    subprocess.run([*uv, "pip", "install", "--python", made, *install], check=True)
    return made
