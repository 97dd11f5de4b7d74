# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a module is going to do to an env, package by package; the same for conda and for pip."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict


class Diff(TypedDict):
    """Ansible's before/after diff."""

    before_header: str
    after_header: str
    before: str
    after: str


@dataclass(frozen=True, order=True)
class Package:
    """One package as a plan shows it; ``build`` is conda's; for pip's, where it came from or its file, or empty."""

    name: str
    version: str
    build: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.release}"

    @property
    def release(self) -> str:
        """The package without its name."""
        return f"{self.version} {self.build}".strip()

    def result(self) -> dict[str, str]:
        """The package as a module returns it."""
        return {key: value for key, value in vars(self).items() if value}


@dataclass
class Plan:
    """The steps from the packages that are there to those that are wanted.

    ``repaired`` are packages that stay as they are but whose files in the env are missing or changed:
    package name to what is wrong, in words.
    """

    before: dict[str, Package] = field(default_factory=dict)
    after: dict[str, Package] = field(default_factory=dict)
    repaired: dict[str, str] = field(default_factory=dict)

    @property
    def installed(self) -> list[Package]:
        return sorted(p for name, p in self.after.items() if name not in self.before)

    @property
    def removed(self) -> list[Package]:
        return sorted(p for name, p in self.before.items() if name not in self.after)

    @property
    def changed(self) -> list[tuple[Package, Package]]:
        """Pairs of before and after, for packages that get another version or build."""
        common = sorted(self.before.keys() & self.after.keys())
        return [(self.before[n], self.after[n]) for n in common if self.before[n] != self.after[n]]

    def __bool__(self) -> bool:
        return bool(self.installed or self.removed or self.changed or self.repaired)

    def result(self) -> dict[str, list[dict[str, str]]]:
        """The plan as a module returns it."""
        return {
            "installed": [p.result() for p in self.installed],
            "removed": [p.result() for p in self.removed],
            "changed": [{"name": a.name, "from": a.release, "to": b.release} for a, b in self.changed],
            "repaired": [{"name": n, "reason": r} for n, r in sorted(self.repaired.items())],
        }

    def diff(self, title: str) -> Diff:
        """All packages before and after, a line each; a damaged one says so before."""

        def lines(packages: dict[str, Package], damage: dict[str, str]) -> str:
            return "".join(f"{p}  # {damage[n]}\n" if n in damage else f"{p}\n" for n, p in sorted(packages.items()))

        return {
            "before_header": f"{title} (before)",
            "after_header": f"{title} (after)",
            "before": lines(self.before, self.repaired),
            "after": lines(self.after, {}),
        }
