# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be wrong: with a call, with a label, with a data set."""

import contextlib
import shlex
from pathlib import Path
from typing import Iterator, List, NamedTuple

SHOWN = 20  # of many lines, as many
# Exit codes: something is wrong; stopped, and can be gone on with; left by Ctrl-C. 1 is a verb's own for what it has
# found.
FAILED, INTERRUPTED, CTRL_C = 2, 3, 130


class WorkbenchError(Exception):
    """Something that people can put right. The text says what is wrong, where, and what to do."""


class BadLabelError(Exception):
    """A label that cannot be used. The text says why; who catches it knows where."""


class Problem(NamedTuple):
    """Something wrong in labels."""

    where: str
    text: str

    def __str__(self) -> str:
        return "{}: {}".format(self.where, self.text)


class Report:
    """What a reader of labels has to say: problems, each of which costs a label or a photograph, and notes."""

    def __init__(self) -> None:
        self.problems: List[Problem] = []
        self.notes: List[Problem] = []

    def problem(self, where: str, text: str) -> None:
        self.problems.append(Problem(where, text))

    def note(self, where: str, text: str) -> None:
        self.notes.append(Problem(where, text))

    @contextlib.contextmanager
    def at(self, where: str) -> Iterator[None]:
        """What goes wrong inside is a problem of this place, and no more than that."""
        try:
            yield
        except BadLabelError as error:
            self.problem(where, str(error))
        except KeyError as error:
            self.problem(where, "{} is missing".format(error))
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            self.problem(where, "not as this format has it ({})".format(error))


def listed(lines: List[str], indent: str = "  ") -> str:
    """Lines to show, not too many of them."""
    shown = [indent + line for line in lines[:SHOWN]]
    if len(lines) > SHOWN:
        shown.append("{}and {} more".format(indent, len(lines) - SHOWN))
    return "\n".join(shown)


def count(number: int, noun: str) -> str:
    """`1 label`, `2 labels`."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith("s") else "s")
    return "{} {}".format(number, noun if number == 1 else plural)


def relative(path: Path) -> str:
    """A path as people would type it: from the working folder, if it is below it, and quoted where need be."""
    with contextlib.suppress(ValueError):
        path = path.resolve().relative_to(Path.cwd())
    return shlex.quote(str(path))
