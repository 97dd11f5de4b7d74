# Copyright: crophpc.maskrcnn contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What all tests go by: Ctrl-C ends a program, wherever the tests were started.

A shell that starts something in the background has it ignore Ctrl-C, and what that starts would ignore it as well.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
