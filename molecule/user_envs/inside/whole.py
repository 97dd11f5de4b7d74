"""Prints what is wrong with users' replicas, as JSON: they are to have what the template has, and nothing else.

    whole.py TEMPLATE NAME FOLDER...

FOLDER is a user's. The module's own notes are not asked.
"""

import json
import os
import stat
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

# A template's alone.
IGNORED = {"conda-meta/.crophpc.lock", "conda-meta/.crophpc-manifest"}


def tree(top: Path) -> dict[str, os.stat_result]:
    """Everything below a folder by its path from there, but for byte code, which is Python's own to renew."""
    paths = [Path(folder, name) for folder, *names in os.walk(top) for name in chain(*names)]
    named = {str(path.relative_to(top)): path for path in paths if "__pycache__" not in path.parts}
    return {name: path.lstat() for name, path in named.items() if name not in IGNORED}


def problems(template: Path, files: dict[str, os.stat_result], folder: Path, name: str) -> Iterator[str]:
    env = folder / "conda" / "envs" / name
    yield from (f"left: {path}" for path in env.parent.glob(".crophpc-*"))
    yield from (f"not the user's: {path}" for path in (env, env.parent) if path.lstat().st_uid != folder.stat().st_uid)
    mine = tree(env)
    yield from (f"missing: {env / path}" for path in files.keys() - mine.keys())
    yield from (f"too many: {env / path}" for path in mine.keys() - files.keys())
    for path in files.keys() & mine.keys():
        now, then = mine[path], files[path]
        shared = os.path.samestat(now, then)
        if stat.S_IFMT(now.st_mode) != stat.S_IFMT(then.st_mode):
            yield f"of another kind: {env / path}"
        elif (now.st_uid == folder.stat().st_uid) == shared:
            yield f"given to the wrong one: {env / path}"
        elif stat.S_ISREG(now.st_mode) and not shared:
            # A compiled program has zeros in the place of what is missing in a shorter path.
            content, wanted = ((top / path).read_bytes().replace(b"\0", b"") for top in (env, template))
            if content != wanted and content.replace(bytes(env), bytes(template)) != wanted:
                yield f"not as in the template: {env / path}"


if __name__ == "__main__":
    template = Path(sys.argv[1])
    files = tree(template)
    print(json.dumps([p for folder in sys.argv[3:] for p in problems(template, files, Path(folder), sys.argv[2])]))
