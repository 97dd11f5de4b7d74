# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why pip failed and what to do, from what it printed."""

from __future__ import annotations

import re
import shutil

LINES_SHOWN = 15

# The first that matches explains; `{...}` are its groups, {searched} is where pip looked for packages.
CAUSES: list[tuple[str, str]] = [
    (
        r"No space left on device|Disk quota exceeded",
        "the disk (or the user's quota) is full; make room and run this again: it goes on where it stopped",
    ),
    (
        r"DO NOT MATCH THE HASHES[\s\S]*?\n\s+(?P<what>\S+(?: from \S+)?)[\s\S]*?Expected[^\n]*",
        "hash mismatch: {what} is not the file that was locked. If a mirror or the cache holds a damaged or changed "
        "file, replace it there; lock anew only if you trust the new file",
    ),
    (
        r"(?:No matching distribution found for|Could not find a version that satisfies the requirement) (?P<what>\S+)",
        "there is no file for {what} that fits the env's Python; searched: {searched}",
    ),
    (
        r"(?:reference is not a tree: |not our ref |unable to read tree \(?|remote did not send all necessary objects"
        r"|pathspec ')(?P<what>[0-9a-f]*)",
        "the commit {what} is not in the repository",
    ),
    (
        r"detected dubious ownership in repository at '(?P<what>[^']+)'",
        "git does not read {what}, which belongs to another user: give it to this user or add it to git's "
        "safe.directory",
    ),
    (
        r"Cannot find command 'git'|No such file or directory: 'git'",
        "git is not installed on this machine",
    ),
    (
        r"(?:fatal: repository '|Repository not found|does not appear to be a git repository)(?P<what>[^'\n]*)",
        "the git repository {what} does not exist or may not be read",
    ),
    (
        r"subdirectory|neither 'setup.py' nor 'pyproject.toml' found",
        "the repository has no Python package in that folder: check subdirectory",
    ),
    (
        r"ModuleNotFoundError: No module named '(?P<what>[^']+)'",
        "a package has to be built, and its build needs {what}, which must be in the env before: "
        "let conda bring it",
    ),
    (
        r"(?P<what>NewConnectionError|Temporary failure in name resolution|Could not resolve host|"
        r"Network is unreachable|Connection refused|Read timed out|ConnectTimeoutError|ProxyError)",
        "the network cannot be reached ({what}); where there is none, use find_links and no_index with a mirror",
    ),
    (
        r"(?:Permission denied|Read-only file system)(?P<what>[^\n]*)",
        "a file cannot be written{what}: run this as the env's owner",
    ),
]  # fmt: skip


# Older versions of Python print the same for a compiler that is missing and for one that failed.
COMMAND_FAILED = re.compile(r"(?:unable to execute|error: command) '([^']+)'")


def explain(output: str, status: int, searched: str, path: str | None = None) -> str:
    """One sentence on what went wrong; ``searched``: for packages, ``path``: for commands."""
    if status < 0:
        return f"pip was killed (signal {-status}; out of memory?); run this again: it goes on where it stopped"
    missing = [name for name in COMMAND_FAILED.findall(output) if not shutil.which(name, path=path)]
    if missing:
        return (
            f"pip: a package has to be compiled, but there is no {missing[0]}: install it on this machine "
            "(Debian: build-essential) or let find_links bring a finished wheel"
        )
    for pattern, sentence in CAUSES:
        if match := re.search(pattern, output):
            words = {key: (value or "").strip() for key, value in match.groupdict().items()}
            return "pip: " + sentence.format_map({"what": "", "searched": searched, **words})
    return f"pip failed with status {status}"


def relevant(output: str) -> list[str]:
    """pip's own last lines, from its first ERROR on if that is among them."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    errors = [i for i, line in enumerate(lines) if line.lstrip().startswith("ERROR:")]
    start = max(errors[0] if errors else 0, len(lines) - 2 * LINES_SHOWN)
    shown = lines[start:]
    return shown if len(shown) <= LINES_SHOWN else [*shown[:5], "...", *shown[5 - LINES_SHOWN :]]
