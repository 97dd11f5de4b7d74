# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How Sphinx makes the site of docs/*.md and of what antsibull-docs writes about the modules and roles: `make docs`.

The pages are plain Markdown, for readers on GitHub too. What the site needs besides is added here, as pages are read:
links to files of the repository become addresses, and the lists of links on index.md become the menu. A link to a file,
page or heading that is not there fails the build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from docutils import nodes
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

# This file is read as build/docs/source/conf.py.
ROOT = Path(__file__).resolve().parents[3]
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
GITHUB = GALAXY["repository"]
ANSIBLE = "https://docs.ansible.com/projects/ansible/devel"

project = f"{GALAXY['namespace']}.{GALAXY['name']}"
author = ", ".join(GALAXY["authors"])
project_copyright = author
version = release = GALAXY["version"]

extensions = ["myst_parser", "sphinx_antsibull_ext"]
exclude_patterns = ["reference/environment_variables.rst"]  # no module goes by any
nitpicky = True

# Headings down to this level can be linked to, by the names that GitHub gives them.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"{GALAXY['name']} {version}"
html_copy_source = False
html_use_index = False
html_show_sphinx = False
pygments_style = "ansible"
pygments_dark_style = "monokai"

TO_FILE = re.compile(r"(?<=\]\()\.\./([^)#\s]+)(?:#([^)\s]+))?(?=\))")
TO_PAGE = re.compile(r"\]\(([\w-]+)\.md\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# What furo has at its sides already.
TABLE_OF_CONTENTS = re.compile(r"^\.\. (?:contents|toctree)::\n(?: +.*\n|\n(?= ))*", re.MULTILINE)

log = logging.getLogger(__name__)


def anchors(page: str) -> set[str]:
    """The names by which GitHub lets the headings of a page be linked to."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(page)}


def with_addresses(page: str, name: str) -> str:
    """The page with an address for each link to a file of the repository. Warns, and so fails, where there is none."""

    def address(link: re.Match[str]) -> str:
        path = ROOT / link[1]
        if not path.exists():
            log.warning("there is no %s to link to", link[1], location=name)
        elif link[2] and link[2] not in anchors(path.read_text(encoding="utf-8")):
            log.warning("there is no heading #%s in %s", link[2], link[1], location=name)
        kind = "tree" if path.is_dir() else "blob"
        return f"{GITHUB}/{kind}/main/{link[1]}" + (f"#{link[2]}" if link[2] else "")

    return TO_FILE.sub(address, page)


def menu(index: str, reference: Path) -> str:
    """The menu: the pages that each section of index.md links to, then the reference."""
    found = []
    for section in index.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        found.append((title, list(dict.fromkeys(TO_PAGE.findall(text)))))
    found.append(("Reference", ["All of it <reference/index>"]))
    for kind in ("role", "module"):
        names = sorted(path.stem.removesuffix(f"_{kind}") for path in reference.glob(f"*_{kind}.rst"))
        found[-1][1].extend(f"{kind} {name} <reference/{name}_{kind}>" for name in names)
    trees = [[":hidden:", f":caption: {title}", "", *entries] for title, entries in found if entries]
    return "".join("\n\n```{toctree}\n" + "\n".join(lines) + "\n```\n" for lines in trees)


def read(app: Sphinx, name: str, content: list[str]) -> None:
    """What a page is to Sphinx."""
    if name.startswith("reference/"):
        content[0] = TABLE_OF_CONTENTS.sub("", content[0])
    else:
        content[0] = with_addresses(content[0], name)
    if name == "index":
        content[0] += menu(content[0], Path(app.srcdir) / "reference")


def in_ansibles_own(
    app: Sphinx, env: BuildEnvironment, wanted: pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """Where Ansible's own documentation says what the reference refers to. The build asks no server for it."""
    label = wanted["reftarget"]
    if module := re.fullmatch(r"ansible_collections\.ansible\.builtin\.(\w+_module)", label):
        page = f"collections/ansible/builtin/{module[1]}"
    elif label == "common_return_values":
        page = f"reference_appendices/{label}"
    else:
        return None
    return nodes.reference("", "", text, refuri=f"{ANSIBLE}/{page}.html", internal=False)


def setup(app: Sphinx) -> None:
    app.connect("source-read", read)
    app.connect("missing-reference", in_ansibles_own)
