# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Work on a tree in several parts at the same time."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from itertools import accumulate

from ansible_collections.crophpc.maskrcnn.plugins.module_utils.as_user import die_with_parent
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.env_manifest import Folder

Part = Sequence[Folder]

_MOST = 4
_FILES_A_FOLDER = 5  # to make one takes as long as to link that many files


def processors() -> int:
    """How many to use: of those that this process may, no more than are of help."""
    return min(_MOST, len(os.sched_getaffinity(0)))


def parts(folders: Part, number: int) -> list[Part]:
    """Runs of folders, up to ``number``, with about as much to do in each of them."""
    work = [len(folder.entries) + _FILES_A_FOLDER for folder in folders]
    total = sum(work)
    found: list[list[Folder]] = [[] for _part in range(number)]
    for folder, done in zip(folders, accumulate(work), strict=True):
        found[(done - 1) * number // total].append(folder)
    return [part for part in found if part]


def in_threads(work: Callable[[Part], None], parts: Sequence[Part]) -> None:
    """Does it for every part: for work that is mostly the kernel's. Raises what one has raised, when all have ended."""
    first, *others = parts
    if not others:
        work(first)
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - slow, for where it is needed

    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(work, parts))


def in_processes(question: Callable[[Part], bool], parts: Sequence[Part]) -> bool:
    """Whether the answer is yes for every part: for work that is mostly Python's. An error in a process is a no."""
    first, *others = parts
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_answer, args=(question, part)) for part in others]
    for process in processes:
        process.start()
    yes = question(first)
    for process in processes:
        process.join()
    return yes and all(process.exitcode == 0 for process in processes)


def _answer(question: Callable[[Part], bool], part: Part) -> None:
    die_with_parent()
    raise SystemExit(0 if question(part) else 1)
