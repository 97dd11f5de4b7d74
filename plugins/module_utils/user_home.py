# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a user's home says about an env: conda's list of envs, the Jupyter kernel spec, the link to their software.

All of this runs as the user (``as_user``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.crophpc.maskrcnn.plugins.module_utils import registry


@dataclass(frozen=True)
class Home:
    """The home of a user who has, or had, the env ``prefix``; with ``check`` nothing is written."""

    path: Path
    prefix: Path
    check: bool

    def present(self, *, kernel: bool, link: str, apps: Path) -> dict[str, Any]:
        """Lists the env; where wanted, makes the kernel spec, and the link to the user's folder for software.

        Returns ``changed`` and ``notes``.
        """
        if not self.path.is_dir():
            return {"changed": False, "notes": [f"there is no home {self.path}: conda will not list the env by itself"]}
        steps = [lambda: registry.update(self.prefix, True, check=self.check, home=self.path)]
        if kernel:
            steps.append(self.write_kernel)
        if link:
            steps.append(lambda: self.make_link(self.path / link, apps))
        return _done(steps)

    def absent(self) -> dict[str, Any]:
        """Takes the env off the list and removes its kernel spec. Returns ``changed`` and ``notes``."""
        if not self.path.is_dir():
            return {"changed": False, "notes": []}
        return _done(
            [lambda: registry.update(self.prefix, False, check=self.check, home=self.path), self.remove_kernel]
        )

    @property
    def kernel(self) -> Path:
        return self.path / ".local" / "share" / "jupyter" / "kernels" / self.prefix.name / "kernel.json"

    def write_kernel(self) -> bool:
        python = str(self.prefix / "bin" / "python")
        spec = {
            "argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": self.prefix.name,
            "language": "python",
        }
        content = json.dumps(spec, indent=1) + "\n"
        if self.kernel.is_file() and self.kernel.read_text(encoding="utf-8") == content:
            return False
        if not self.check:
            self.kernel.parent.mkdir(parents=True, exist_ok=True)
            part = self.kernel.with_name(".kernel.json.part")
            part.write_text(content, encoding="utf-8")
            part.replace(self.kernel)
        return True

    def remove_kernel(self) -> bool:
        """Removes the kernel spec if it is this env's."""
        if not self.kernel.is_file() or f'"{self.prefix}/' not in self.kernel.read_text(encoding="utf-8"):
            return False
        if not self.check:
            self.kernel.unlink()
            if not any(self.kernel.parent.iterdir()):
                self.kernel.parent.rmdir()
        return True

    def make_link(self, link: Path, apps: Path) -> bool:
        """Makes the link where there is nothing; whatever is there is the user's."""
        if link.is_symlink() or link.exists():
            return False
        if not self.check:
            link.symlink_to(apps)
        return True


def _done(steps: list[Any]) -> dict[str, Any]:
    """Takes all steps, whether one fails or not."""
    changed, notes = False, []
    for step in steps:
        try:
            changed |= step()
        except (OSError, ValueError) as error:
            notes.append(str(error))
    return {"changed": changed, "notes": notes}
