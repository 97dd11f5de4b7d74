# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hand-made conda prefixes of a few small files: the records are written by the test, no conda ever saw them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def hand_made_entry(prefix: Path, file: str, content: str, **more: Any) -> dict[str, Any]:
    """Writes one file and returns its entry in ``paths_data``."""
    path = prefix / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return {"_path": file, "path_type": "hardlink", "sha256": digest, "size_in_bytes": len(content), **more}


def hand_made_record(prefix: Path, name: str, version: str, paths: list[dict[str, Any]], **more: Any) -> Path:
    """Writes a record for files that are there, or not."""
    meta = prefix / "conda-meta"
    meta.mkdir(parents=True, exist_ok=True)
    (meta / "history").touch()
    data = {"name": name, "version": version, "build": "0", "url": "file:///c", "paths_data": {"paths": paths}, **more}
    path = meta / f"{name}-{version}-0.json"
    path.write_text(json.dumps(data))
    return path


def hand_made_env(prefix: Path) -> Path:
    """An env with one package, ``leaf``, of three files."""
    rewritten = {"prefix_placeholder": "/opt/placeholder", "file_mode": "text", "size_in_bytes": 999}
    entries = [
        hand_made_entry(prefix, "bin/leaf", "#!/bin/sh\n"),
        hand_made_entry(prefix, "share/leaf.txt", "leaf\n"),
        hand_made_entry(prefix, "share/prefix.txt", f"{prefix}\n") | rewritten,
    ]
    entries[2]["sha256_in_prefix"] = entries[2]["sha256"]
    entries[2]["sha256"] = "0" * 64
    hand_made_record(prefix, "leaf", "1.0", entries)
    return prefix
