# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The bare git repositories of a mirror, which every protocol can serve, a web server that knows nothing of git too."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.mirror_folder import MirrorError
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.pip_wanted import without_password


@dataclass(frozen=True)
class Repository:
    """A commit that the mirror is to have, and the folder in it for its repository."""

    name: str
    url: str
    commit: str


def commits(bare: Path) -> set[str]:
    """The commits that the repository was given."""
    return {path.read_text(encoding="ascii").strip() for path in (bare / "refs" / "heads").glob("pinned-*")}


def build(repository: Repository, old: Path | None, fresh: Path, more: set[str], lock: int) -> None:
    """Makes the repository in ``fresh`` with its commit, and ``more`` that the one it is to replace has.

    Every commit gets a branch: of others, a server need not give anything away. ``old`` is where to look first.
    Raises MirrorError.
    """
    shutil.rmtree(fresh, ignore_errors=True)
    # A branch of HEAD's makes it a repository that can be cloned without a warning.
    start = ["init", "--quiet", "--bare", "--template=", f"--initial-branch={_branch(repository.commit)}"]
    _git([*start, str(fresh)], repository, lock)
    known = commits(old) if old else set()
    for commit in sorted({repository.commit, *more}):
        source = str(old) if commit in known else repository.url
        refspec = f"{commit}:refs/heads/{_branch(commit)}"
        _git(["-C", str(fresh), "fetch", "--quiet", "--no-tags", "--", source, refspec], repository, lock)
    # With the lists by which a web server that knows nothing of git can be asked.
    _git(["-C", str(fresh), "-c", "repack.updateServerInfo=true", "repack", "-a", "-d", "-q"], repository, lock)
    (fresh / "FETCH_HEAD").unlink(missing_ok=True)


def _branch(commit: str) -> str:
    return f"pinned-{commit[:12]}"


def _git(arguments: list[str], repository: Repository, lock: int) -> None:
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
    command = ["git", *arguments]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            # The mirror stays locked as long as git works on it, even if this process is killed.
            pass_fds=[lock],
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MirrorError("git is not installed on this machine, and it is needed for the mirror") from error
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.startswith(("fatal", "error"))] or [done.stderr]
        raise MirrorError(
            f"cannot get commit {repository.commit} of {without_password(repository.url)}: {words[0].strip()}"
        )
