# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes ``ansible_collections.crophpc.maskrcnn`` importable from a checkout of any name, and our modules of tests."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".ansible" / "collections"


def _link_checkout() -> None:
    """The same link as the Makefile's, for a pytest that is started without it."""
    link = COLLECTIONS / "ansible_collections" / "crophpc" / "maskrcnn"
    link.parent.mkdir(parents=True, exist_ok=True)
    # Several workers may get here at once; who comes second finds the link.
    if not link.is_symlink():
        with contextlib.suppress(FileExistsError):
            link.symlink_to("../../../..")
    if link.resolve() != ROOT:
        raise RuntimeError(f"{link} leads to {link.resolve()}, not to {ROOT}: remove it")


_link_checkout()
# `ansible_collections` is a namespace package: the ones of an installed `ansible` stay importable. What is beside the
# tests, a pytest that ansible-test starts would not find.
sys.path[:0] = [str(COLLECTIONS), str(Path(__file__).parent)]


def pytest_configure(config: pytest.Config) -> None:
    """ansible-test would run each test in a process of its own, and make every fixture anew: three times as long."""
    if config.pluginmanager.has_plugin("ansible_forked"):
        config.pluginmanager.unregister(name="ansible_forked")
