# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hand-made templates of a few small files, and replicas of them."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.env_manifest import MANIFEST, META, Manifest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.replica import TREE, Builder, Template
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.template_reader import read_template
from hand_made import hand_made_entry, hand_made_record

OWN = "include/clone"
# What a compiled file has room for.
PLACEHOLDER = "/opt/" + "placeholder/" * 20 + "end"


def hand_made_template(prefix: Path) -> Path:
    """An env with a file of each kind: linked, rewritten as text and as a compiled one, the user's own, and a link."""
    text = {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
    binary = {"prefix_placeholder": PLACEHOLDER, "file_mode": "binary"}
    entries = [
        hand_made_entry(prefix, "bin/tool", f"#!{prefix}/bin/python\n", **text),
        hand_made_entry(prefix, "lib/tool.so", f"\1{prefix}/lib".ljust(len(PLACEHOLDER) + 10, "\0"), **binary),
        hand_made_entry(prefix, "lib/python3.6/tool.py", "print('tool')\n"),
        hand_made_entry(prefix, "lib/python3.6/site-packages/README", "packages\n"),
        hand_made_entry(prefix, "lib/python3.6/place.py", f"PLACE = '{prefix}'\n", **text),
    ]
    hand_made_record(prefix, "tool", "1.0", entries)
    for path in ("tool", "place"):
        hand_made_entry(prefix, f"lib/python3.6/__pycache__/{path}.cpython-36.pyc", "byte code\n")
    hand_made_entry(prefix, f"{OWN}/model.py", "LAYERS = 5\n")
    hand_made_entry(prefix, f"{OWN}/.git/objects/aa/bb", "an object\n")
    hand_made_entry(prefix, f"{OWN}/.git/index", "an index\n")
    (prefix / "bin" / "place").symlink_to(prefix / "lib")
    (prefix / "bin" / "tool3").symlink_to("tool")
    return prefix


def read(prefix: Path) -> Template:
    """What the module reads of a template, and writes into it."""
    manifest = read_template(prefix, [OWN], mend=True)
    part = prefix / META / f"{MANIFEST}.part"
    part.write_bytes(manifest.dump())
    part.replace(prefix / META / MANIFEST)
    return Template(prefix, manifest, manifest.dump())


def hand_made_replica(folder: Path, template: Template) -> Path:
    """A replica of this user's in ``folder``, by links."""
    folder.mkdir()
    stage = os.open(folder, os.O_RDONLY)
    Builder(template, str(folder / TREE), None, links=True).build(stage)
    os.close(stage)
    return folder / TREE


def key(prefix: Path) -> str:
    manifest: Manifest = read_template(prefix, [OWN], mend=False)
    return manifest.key
