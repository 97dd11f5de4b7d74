# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs the conda that conda-lock carries inside: python conda_of_today.py ARGUMENTS-OF-CONDA."""

import sys
from importlib.util import find_spec
from pathlib import Path

if __name__ == "__main__":
    found = find_spec("conda_lock")
    assert found
    assert found.origin
    sys.path.insert(0, str(Path(found.origin).parent / "_vendor"))
    from conda.cli.main import main

    sys.exit(main(*sys.argv[1:]))
