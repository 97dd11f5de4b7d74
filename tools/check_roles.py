# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fails when a role's defaults and its argument specs do not say the same.

For every role: the same inputs in both, the same default values, a comment above every default that is the
description's text, inputs named after the role, and what is in its vars with a leading underscore.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent.parent / "roles"


def comments(text: str) -> dict[str, str]:
    """The comment directly above each top-level key, joined to one line."""
    found: dict[str, str] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            lines.append(line.lstrip("# "))
        elif match := re.match(r"(\w+):", line):
            found[match[1]] = " ".join(lines)
            lines = []
        elif not line.startswith(" "):
            lines = []
    return found


def plain(description: str | list[str]) -> str:
    """A description without Ansible's markup."""
    text = " ".join([description] if isinstance(description, str) else description)
    return re.sub(r"\b[A-Z]\(([^()]*(?:\([^()]*\))?[^()]*)\)", r"\1", text)


def words(text: str) -> list[str]:
    """What is compared: words, without punctuation and quoting."""
    return re.findall(r"\w+", text.lower())


def check_role(role: Path) -> list[str]:
    """What is wrong with one role, a line each."""
    text = (role / "defaults" / "main.yml").read_text(encoding="utf-8")
    defaults: dict[str, Any] = yaml.safe_load(text) or {}
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    options: dict[str, Any] = specs["main"]["options"]
    above = comments(text)
    wrong = [f"{name} has a default but no argument spec" for name in defaults.keys() - options.keys()]
    wrong += [f"{name} has an argument spec but no default" for name in options.keys() - defaults.keys()]
    internal = role / "vars" / "main.yml"
    if internal.exists():
        names = yaml.safe_load(internal.read_text(encoding="utf-8")) or {}
        wrong += [f"{name} in its vars does not begin with _" for name in names if not name.startswith("_")]
    for name in sorted(defaults.keys() & options.keys()):
        option = options[name]
        if not name.startswith(f"{role.name}_"):
            wrong.append(f"{name} does not begin with the role's name")
        if option.get("default") != defaults[name]:
            wrong.append(f"{name} is {defaults[name]!r} in the defaults and {option.get('default')!r} in the specs")
        described = words(plain(option["description"]))
        if words(above[name])[: len(described)] != described:
            wrong.append(f"the comment above {name} and its description differ")
    return [f"roles/{role.name}: {line}" for line in sorted(wrong)]


def main() -> int:
    wrong = [line for role in sorted(ROLES.iterdir()) for line in check_role(role)]
    print("\n".join(wrong) or f"check_roles: {len(list(ROLES.iterdir()))} roles, defaults and argument specs agree")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
