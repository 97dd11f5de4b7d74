# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How far something is: lines for a terminal and for a log, and when it is going to be over."""

import contextlib
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Optional, TextIO

DAY = 86400  # seconds


class Journal:
    """What something that takes long says: on the terminal, and in its log, if it has one."""

    def __init__(self, log: Optional[Path] = None, terminal: Optional[TextIO] = None) -> None:
        self.terminal = terminal or sys.stdout
        self.live = self.terminal.isatty()
        self.file = log.open("a", encoding="utf-8") if log else None
        self._width = 0

    def say(self, line: str) -> None:
        """A line that stays."""
        self._clear()
        print(line, file=self.terminal, flush=True)
        # What cannot be written here is missed less than the training would be.
        if self.file:
            with contextlib.suppress(OSError):
                self.file.write("{:%Y-%m-%d %H:%M:%S}  {}\n".format(datetime.now(), line))
                self.file.flush()

    def show(self, line: str) -> None:
        """A line that the next one replaces, on a terminal; elsewhere one more line."""
        if not self.live:
            print(line, file=self.terminal, flush=True)
            return
        print("\r" + line.ljust(self._width), end="", file=self.terminal, flush=True)
        self._width = len(line)

    def close(self) -> None:
        self._clear()
        if self.file:
            with contextlib.suppress(OSError):
                self.file.close()

    def _clear(self) -> None:
        if self._width:
            print("\r" + " " * self._width, end="\r", file=self.terminal)
            self._width = 0


def ends(seconds: float) -> str:
    """When something will be over that takes so long."""
    end = datetime.now() + timedelta(seconds=seconds)
    form = "%H:%M" if seconds < DAY else "%a %d %b %H:%M"
    return "ends {} (in {})".format(end.strftime(form), duration(seconds))


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 2:  # noqa: PLR2004 - before that, seconds
        return "{:.0f} s".format(seconds)
    if hours < 1:
        return "{} min".format(minutes)
    if seconds < DAY:
        return "{} h {:02} min".format(hours, minutes % 60)
    return "{} d {} h".format(hours // 24, hours % 24)
