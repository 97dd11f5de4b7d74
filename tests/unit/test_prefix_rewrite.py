# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An env's path in its files."""

from __future__ import annotations

import pytest
from ansible_collections.crophpc.maskrcnn.plugins.module_utils.prefix_rewrite import (
    LONGEST_SHEBANG,
    PrefixTooLongError,
    rewrite_binary,
    rewrite_text,
)

OLD = "/apps/template/plots"
PLACEHOLDER = "/opt/placeholder" + "_placehold" * 20
# As long, longer, shorter, as long as can be.
PLACES = ["/home/adalove1/plots", "/home/adalovelace/conda/envs/plots", "/p", "/" + "x" * (len(PLACEHOLDER) - 1)]
# Strings in a compiled file: alone, several in one, at its end, beside others, with zeros that belong to nobody.
STRINGS = [
    b"\x7fELF@/lib\0rest",
    b"@\0@\0@\0",
    b"@/bin:@/lib:/usr/lib\0\1@\0\0\0\0\0\2",
    b"path=@\0",
    b"nothing\0\0\0here",
]


def linked(content: bytes, prefix: str) -> bytes:
    """What conda makes of a package's file: every string with the placeholder, here @, stays as long as it was."""
    strings = content.split(b"\0")
    sizes = [len(string.replace(b"@", PLACEHOLDER.encode())) for string in strings]
    return b"\0".join(s.replace(b"@", prefix.encode()).ljust(n, b"\0") for s, n in zip(strings, sizes, strict=True))


@pytest.mark.parametrize("content", STRINGS)
@pytest.mark.parametrize("new", PLACES)
def test_a_compiled_file_is_as_if_linked_there(content: bytes, new: str) -> None:
    assert rewrite_binary(linked(content, OLD), OLD, new, len(PLACEHOLDER)) == linked(content, new)


def test_a_path_with_no_room_is_refused() -> None:
    """Be it longer than the placeholder was, or the file's string one that was never longer."""
    with pytest.raises(PrefixTooLongError):
        rewrite_binary(linked(b"@\0", OLD), OLD, PLACEHOLDER + "x", len(PLACEHOLDER))
    for never_longer in (f"{OLD}\0next\0", OLD, f"{OLD}:{OLD}\0\0\0next"):
        with pytest.raises(PrefixTooLongError):
            rewrite_binary(never_longer.encode(), OLD, OLD + "xx", len(PLACEHOLDER))


def test_a_string_keeps_a_zero_at_its_end() -> None:
    assert rewrite_binary(f"{OLD}\0\0next".encode(), OLD, f"{OLD}x", 255) == f"{OLD}x\0next".encode()
    with pytest.raises(PrefixTooLongError):
        rewrite_binary(f"{OLD}\0\0next".encode(), OLD, f"{OLD}xx", 255)


@pytest.mark.parametrize("new", PLACES)
def test_a_text_has_the_new_path_everywhere(new: str) -> None:
    content = f"prefix={OLD}\nlib={OLD}/lib:{OLD}/lib64\n".encode() + b"\xff\r\n"
    assert rewrite_text(content, OLD, new) == content.replace(OLD.encode(), new.encode())


@pytest.mark.parametrize(
    ("first", "wanted"),
    [
        ("#!{}/bin/python", "#!/usr/bin/env python"),
        ("#!{}/bin/python -E -s", "#!/usr/bin/env python -E -s"),
        ("#! {}/bin/sh", "#!/usr/bin/env sh"),
    ],
)
def test_a_first_line_that_is_too_long_leaves_it_to_path(first: str, wanted: str) -> None:
    rest = f"\nimport {OLD}\n"
    fits = "/" + "x" * (LONGEST_SHEBANG - len(first.format("")) - 1)
    content = (first.format(OLD) + rest).encode()
    assert rewrite_text(content, OLD, fits) == (first + rest).format(fits).replace(OLD, fits).encode()
    assert rewrite_text(content, OLD, fits + "x") == (wanted + rest.replace(OLD, fits + "x")).encode()
