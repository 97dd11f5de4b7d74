# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Without what libraries say on their own account."""

import contextlib
import io
import os
from typing import Iterator

STDERR = 2


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing is written to stderr, not even by what is no Python: TensorFlow 2 greets everybody with four lines.

    Exceptions are not affected.
    """
    kept = os.dup(STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, STDERR)
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
        os.close(nowhere)
