# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lets the folder be run: `python tests/bench`."""

import sys
from pathlib import Path

# The folder itself comes first on the path when it is run; its parent makes it a package.
TESTS = Path(__file__).resolve().parent.parent
sys.path[:1] = [str(TESTS), str(TESTS / "fixtures"), str(TESTS.parent / ".ansible" / "collections")]

from bench.cli import run  # noqa: E402

if __name__ == "__main__":
    run()
