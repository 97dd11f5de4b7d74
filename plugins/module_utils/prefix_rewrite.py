# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An env's path inside its files: exchanged for another one, as conda does it when it links a package."""

from __future__ import annotations

import re

# Of a longer first line, kernels before 5.1 cut the end off.
LONGEST_SHEBANG = 127


class PrefixTooLongError(Exception):
    """A compiled file has no room for the path."""


def rewrite_text(content: bytes, old: str, new: str) -> bytes:
    """A text file with another prefix; a first line that gets too long leaves it to PATH to find the program."""
    content = content.replace(old.encode(), new.encode())
    if content.startswith(b"#!"):
        first, newline, rest = content.partition(b"\n")
        if len(first) > LONGEST_SHEBANG:
            program, _space, options = first[2:].strip().partition(b" ")
            first = b"#!/usr/bin/env " + program.rpartition(b"/")[2] + (b" " + options if options else b"")
            content = first + newline + rest
    return content


def rewrite_binary(content: bytes, old: str, new: str, room: int) -> bytes:
    """A compiled file with another prefix, of the same size.

    ``room`` is the length of the prefix that it was built with. Strings in it end with a zero byte; where ``old`` was
    put in the place of that longer one, as many zeros follow as it is shorter, and those are all that may be used.
    Raises PrefixTooLongError.
    """
    if len(new) > room:
        raise PrefixTooLongError(f"{new} has {len(new)} characters; the env's compiled files have room for {room}")
    growth = len(new) - len(old)

    def replaced(match: re.Match[bytes]) -> bytes:
        text = match[1]
        change = growth * text.count(old.encode())
        zeros = len(match[2])
        if change >= zeros > 0 or (change > 0 and not zeros):
            raise PrefixTooLongError(f"{new} does not fit into a compiled file where {old} stands")
        return text.replace(old.encode(), new.encode()) + b"\0" * (zeros - change if zeros else -change)

    return re.sub(b"(" + re.escape(old.encode()) + rb"[^\0]*)(\0*)", replaced, content)
